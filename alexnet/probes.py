"""Small snapshots of a training for its film: conv1's kernels, what LRN does, and one picture's maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from alexnet import spec
from alexnet.build import module
from alexnet.runs import replace_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.spec import Network, Stage

PICTURES = 16
"""Validation pictures over which LRN's input and output are averaged; the first is the probe image."""
MAP_SIDE = 32
"""Largest side of a stored map: 96 maps of conv1 then take 100 kB."""


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

    def __init__(self, network: Network, inputs: Tensor) -> None:
        """`inputs` are (N, 3, H, W) as the network takes them; the first is the probe image."""
        self._inputs = inputs
        stages = network.stages()
        maps = [index for index, stage in enumerate(stages) if len(stage.out_shape) == 3]
        norms = [index for index in maps if isinstance(stages[index].layer, spec.LRN)]
        convolutions = [stage.name for stage in stages if isinstance(stage.layer, spec.Conv)]
        self._first = convolutions[0] if convolutions else None
        # To the last norm, or to the first convolution where there is none: what lies beyond is not in the film.
        self._stages: tuple[Stage, ...] = stages[: (norms or maps[:1] or [-1])[-1] + 1]

    @torch.no_grad()
    def taken(self, weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.generic]]:
        """Arrays by name.

        ``kernels`` (K, C, h, w) float16 of the first convolution; ``map/NAME`` (C, ≤32, ≤32) float16 for that
        convolution and each LRN, of the probe image; ``lrn/NAME`` (2, C) float32 for each LRN: root mean square of each
        channel before and after, over all pictures.
        """
        taken: dict[str, NDArray[np.generic]] = {}
        if self._first is not None:
            taken["kernels"] = weights[f"{self._first}.weight"].float().cpu().half().numpy()
        values = self._inputs
        for stage in self._stages:
            layer = module(stage).eval()
            if isinstance(stage.layer, spec.Conv):
                layer.load_state_dict(
                    {kind: weights[f"{stage.name}.{kind}"].float().cpu() for kind in ("weight", "bias")}
                )
            before, values = values, layer(values)
            if isinstance(stage.layer, spec.LRN):
                taken[f"lrn/{stage.name}"] = torch.stack([_strengths(before), _strengths(values)]).numpy()
            if stage.name == self._first or isinstance(stage.layer, spec.LRN):
                taken[f"map/{stage.name}"] = _reduced(values[0]).half().numpy()
        return taken


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
