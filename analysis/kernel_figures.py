"""A first layer's kernels in four figures, beside those of BVLC AlexNet and of random weights.  numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.formats import Column, Table, rounded
from analysis.kernels import random_colourfulness, tower_measures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.formats import Value
    from analysis.kernels import KernelMeasures, LayerKernels

SIDE = 11
"""The figures compare kernels of this side alone: compactness and smoothness depend on how many pixels there are."""


@dataclass(frozen=True, slots=True)
class KernelFigures:
    """`compact` of `kernels` have their energy near one frequency; `smoothness` is the median over all kernels.

    `colourfulness` is each tower's mean, in the towers' order; None where kernels do not look at colours.
    """

    kernels: int
    compact: int
    smoothness: float | None
    colourfulness: tuple[float | None, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain types."""
        return {
            "kernels": self.kernels,
            "compact": self.compact,
            "smoothness": self.smoothness,
            "colourfulness": list(self.colourfulness),
        }


BVLC = KernelFigures(96, 80, 0.6602, (0.7662, 0.1497))
"""conv1 of BVLC's AlexNet, measured here on the published weights (``bvlc-alexnet-conv``), as a test does again."""


def kernel_figures(kernels: Sequence[KernelMeasures]) -> KernelFigures:
    """The figures of measured kernels."""
    towers = tower_measures(kernels)
    smoothness = [kernel.smoothness for kernel in kernels if kernel.smoothness is not None]
    return KernelFigures(
        kernels=len(kernels),
        compact=sum(tower.compact for tower in towers),
        smoothness=float(np.median(smoothness)) if smoothness else None,
        colourfulness=tuple(tower.colourfulness for tower in towers),
    )


def random_figures(kernels: int = 96, towers: int = 2, side: int = SIDE) -> KernelFigures:
    """What to expect of independent normal weights on three channels.

    No kernel of 11×11 is compact; squared differences have twice a weight's variance, and there are 2·n·(n − 1) of them
    for n² weights, which makes 4·(n − 1)/n; two of the three axes of colour are off grey.
    """
    colour = random_colourfulness(side * side).mean
    return KernelFigures(kernels, 0, 4 * (side - 1) / side, (colour,) * towers)


def comparison_table(found: LayerKernels, name: str = "these weights") -> Table | None:
    """These kernels, BVLC's and random ones; None for kernels that are not 11×11 on red, green and blue."""
    if found.weights.shape[1:] != (3, SIDE, SIDE):
        return None
    figures = kernel_figures(found.kernels)
    columns = (
        Column("weights", "weights"),
        Column("kernels", "kernels"),
        Column("compact", "compact"),
        Column("smoothness", "smoothness, median"),
        Column("colourfulness", "colourfulness, more colourful tower"),
        Column("colourfulness_other", "other tower"),
    )
    rows = (
        (name, *_row(figures)),
        ("BVLC AlexNet", *_row(BVLC)),
        ("random, expected", *_row(random_figures(figures.kernels, len(figures.colourfulness)))),
    )
    return Table(f"Kernels of {found.layer}, compared", columns, rows)


def _row(figures: KernelFigures) -> tuple[Value, ...]:
    colours = sorted((share for share in figures.colourfulness if share is not None), reverse=True)
    first, other = (*colours, None, None)[:2]
    shown = [rounded(value, 3) for value in (figures.smoothness, first, other)]
    return figures.kernels, figures.compact, *shown
