"""Small snapshots of a training for its film: conv1's kernels, what LRN does, one picture's maps and probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from alexnet import spec
from alexnet.build import module
from alexnet.course import MAP_SIDE
from alexnet.runs import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.spec import Network, Stage

PICTURES = 16
"""Validation pictures over which LRN's input and output are averaged; the first is the probe image."""


def schedule(steps: int, count: int) -> frozenset[int]:
    """Steps at which to take a probe: about `count` of them, dense at first, where kernels change fastest.

    Half lie evenly over the run and half in geometric progression from step 1; 0 and the last step are among them.
    """
    if count == 0:
        return frozenset()
    half = max(count // 2, 1)
    even = {round(steps * index / half) for index in range(half + 1)}
    growing = {round(steps ** (index / half)) for index in range(half)} if steps > 1 else set()
    return frozenset(even | growing | {0, steps})


class Probe:
    """Takes snapshots on the CPU from weights alone, so that it does not disturb whatever trains them."""

    def __init__(self, network: Network, inputs: Tensor, label: int | None = None) -> None:
        """`inputs` are (N, 3, H, W) as the network takes them; the first is the probe image, of class `label`."""
        self._inputs, self._label = inputs, label
        stages = network.stages()
        maps = [index for index, stage in enumerate(stages) if len(stage.out_shape) == 3]
        norms = [index for index in maps if isinstance(stages[index].layer, spec.LRN)]
        convolutions = [stage.name for stage in stages if isinstance(stage.layer, spec.Conv)]
        self._first = convolutions[0] if convolutions else None
        # To the last norm, or to the first convolution where there is none: beyond it only the probe image goes, to
        # its probabilities.
        shared = (norms or maps[:1] or [-1])[-1] + 1
        self._stages: tuple[Stage, ...] = stages[:shared]
        self._rest: tuple[Stage, ...] = tuple(s for s in stages[shared:] if not isinstance(s.layer, spec.Softmax))

    @torch.no_grad()
    def taken(self, weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
        """Arrays by name.

        ``kernels`` (K, C, h, w) float16 of the first convolution; ``map/NAME`` (C, ≤32, ≤32) float16 for that
        convolution and each LRN, of the probe image, and ``before/NAME`` for what the LRN was given; ``lrn/NAME``
        (2, C) float32 for each LRN: root mean square of each channel before and after, over all pictures;
        ``probabilities`` (classes,) float32 of the probe image, and ``label`` () int64, its class, where it is known.
        """
        taken: dict[str, NDArray[np.generic]] = {}
        if self._first is not None:
            taken["kernels"] = weights[f"{self._first}.weight"].float().cpu().half().numpy()
        values = self._inputs
        for stage in self._stages:
            before, values = values, _through(stage, weights, values)
            if isinstance(stage.layer, spec.LRN):
                taken[f"lrn/{stage.name}"] = torch.stack([_strengths(before), _strengths(values)]).numpy()
                taken[f"before/{stage.name}"] = _reduced(before[0]).half().numpy()
            if stage.name == self._first or isinstance(stage.layer, spec.LRN):
                taken[f"map/{stage.name}"] = _reduced(values[0]).half().numpy()
        values = values[:1]
        for stage in self._rest:
            values = _through(stage, weights, values)
        if values.dim() == 2:
            taken["probabilities"] = values[0].softmax(0).numpy()
        if self._label is not None:
            taken["label"] = np.array(self._label, np.int64)
        return taken


def _through(stage: Stage, weights: Mapping[str, Tensor], values: Tensor) -> Tensor:
    """What a stage makes of (N, …) values, in float32, without dropout."""
    with torch.device("meta"):  # no memory, and no random numbers, for a start that is replaced at once
        layer = module(stage).eval()
    own = {name: weights[f"{stage.name}.{name}"].float().cpu() for name in layer.state_dict()}
    layer.load_state_dict(own, assign=True)
    result: Tensor = layer(values)
    return result


def save(path: Path, taken: Mapping[str, NDArray[np.generic]]) -> None:
    """Writes a snapshot as ``.npz``, aside and renamed."""
    replace_atomically(path, lambda file: np.savez_compressed(file, **taken), durable=False)  # type: ignore[arg-type]


def moments(tensor: Tensor) -> dict[str, float]:
    """Mean, standard deviation and Euclidean norm of all values."""
    values = tensor.detach().float()
    return {"mean": float(values.mean()), "std": float(values.std(correction=0)), "norm": float(values.norm())}


def _strengths(values: Tensor) -> Tensor:
    """(N, C, H, W) -> (C,) root mean square."""
    return values.square().mean(dim=(0, 2, 3)).sqrt()


def _reduced(maps: Tensor) -> Tensor:
    """(C, H, W) -> (C, ≤MAP_SIDE, ≤MAP_SIDE) by averaging."""
    height, width = (min(size, MAP_SIDE) for size in maps.shape[1:])
    return functional.adaptive_avg_pool2d(maps, (height, width))
