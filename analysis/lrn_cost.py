"""What a normalisation costs and what it brought: operations, time on this machine, and the published errors."""

from __future__ import annotations

import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from alexnet.build import module
from alexnet.spec import Stage
from analysis.costs import cost_table
from analysis.lrn import imagined_name, with_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from alexnet.spec import LRN, Network
    from analysis.lrn import Place


class CountedCost(NamedTuple):
    """Operations of a normalisation for one image (as `analysis.costs` counts them), beside its convolution's."""

    flops: int
    share: float
    convolution_flops: int
    values: int


def counted_cost(network: Network, place: Place, layer: LRN) -> CountedCost:
    """Elementary operations of this normalisation at this place, and their share of the whole network's."""
    table = cost_table(with_settings(network, place, layer))
    row = table.row(imagined_name(place) if place.imagined else place.name)
    channels, height, width = place.shape
    convolution = table.row(place.convolution).flops
    return CountedCost(row.flops, row.flops / table.total("flops"), convolution, channels * height * width)


class Timing(NamedTuple):
    """Seconds for one image, forward and forward with backward: medians, and the fastest of `runs`.

    The fastest is what other work on the machine disturbs least.
    """

    what: str
    forward: float
    both: float
    fastest_forward: float
    fastest_both: float
    runs: int


def measured_cost(network: Network, place: Place, layer: LRN, *, seconds: float = 0.6) -> tuple[Timing, ...]:
    """What this machine's CPU takes for one image: the convolution, this LRN, and torch's own with the same settings.

    Weights and inputs are random: time does not depend on them.  torch's LRN works across all channels whatever the
    groups.  All six measurements take turns for `seconds`, so that what else the machine does disturbs them alike;
    each runs at least five times, after a first run that is thrown away.
    """
    stages = {stage.name: stage for stage in network.stages()}
    conv = stages[place.convolution]
    norm = Stage("norm", layer, place.shape, place.shape, place.towers)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, *conv.in_shape, generator=generator)
    maps = torch.rand(1, *place.shape, generator=generator)
    alpha = layer.alpha_per_square * layer.size

    def torchs(values: Tensor) -> Tensor:
        return functional.local_response_norm(values, layer.size, alpha, layer.beta, layer.k)

    learns = conv is not next(iter(stages.values()))  # nobody asks for the image's gradient
    candidates = (
        (f"{place.convolution}, the convolution before it", module(conv), image.requires_grad_(learns)),
        ("LRN, this project's in plain torch", module(norm), maps.clone().requires_grad_()),
        ("LRN, torch.nn.functional.local_response_norm", torchs, maps.clone().requires_grad_()),
    )
    steps = [
        step for _, run, values in candidates for step in (partial(_forward, run, values), partial(_both, run, values))
    ]
    times = _in_turns(steps, seconds)
    return tuple(
        Timing(what, median(one), median(two), min(one), min(two), len(one))
        for (what, _, _), one, two in zip(candidates, times[::2], times[1::2], strict=True)
    )


@torch.no_grad()
def _forward(run: Callable[[Tensor], Tensor], values: Tensor) -> None:
    run(values)


def _both(run: Callable[[Tensor], Tensor], values: Tensor) -> None:
    out = run(values)
    out.backward(torch.ones_like(out))


def _in_turns(steps: Sequence[Callable[[], None]], seconds: float) -> list[list[float]]:
    for step in steps:
        step()
    found: list[list[float]] = [[] for _ in steps]
    end = time.perf_counter() + seconds
    while len(found[0]) < 5 or time.perf_counter() < end:
        for step, durations in zip(steps, found, strict=True):
            start = time.perf_counter()
            step()
            durations.append(time.perf_counter() - start)
    return found


# --- published --------------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What a paper measured: errors in percent without and with LRN (None where only the change is printed)."""

    network: str
    data: str
    measure: str
    without: float | None
    with_lrn: float | None
    change: float
    source: str


_KRIZHEVSKY = "Krizhevsky, Sutskever and Hinton, NIPS 2012, section 3.3"
_SIMONYAN = "Simonyan and Zisserman, ICLR 2015, table 3"
VERDICTS = (
    Verdict("AlexNet", "ImageNet", "top-1 error", None, None, -1.4, _KRIZHEVSKY),
    Verdict("AlexNet", "ImageNet", "top-5 error", None, None, -1.2, _KRIZHEVSKY),
    Verdict("a four-layer CNN", "CIFAR-10", "test error", 13.0, 11.0, -2.0, _KRIZHEVSKY),
    Verdict("VGG A against A-LRN", "ImageNet", "top-1 error", 29.6, 29.7, 0.1, _SIMONYAN),
    Verdict("VGG A against A-LRN", "ImageNet", "top-5 error", 10.4, 10.5, 0.1, _SIMONYAN),
)
"""Changes in percentage points; negative is better with LRN."""
