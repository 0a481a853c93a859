"""What is known of a run: its curves by step, as plain arrays.  numpy only; `analysis.history` reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Steps = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainCurve:
    """What was written of the steps, one entry a record, steps increasing; NaN where a record says nothing.

    A record is of one step or, in long runs, the mean of several, of which `step` is the last.  `epoch` counts from 0,
    `loss` is in nats, `top1` and `waited_share` (of the time, for pictures) are shares of one, `time` is in seconds
    since 1970.
    """

    step: Steps
    epoch: Floats
    loss: Floats
    top1: Floats
    learning_rate: Floats
    images_per_second: Floats
    waited_share: Floats
    pictures: Floats
    time: Floats


@dataclass(frozen=True, slots=True)
class ValCurve:
    """The validations, steps increasing; NaN where a record says nothing.

    `topk` is the share with the right class among the first `k`; `per_class` (validations, classes) is each class's
    share of right answers, NaN for a class without pictures; `seconds` is how long the validation took.
    """

    step: Steps
    epoch: Floats
    loss: Floats
    top1: Floats
    topk: Floats
    k: int
    per_class: Floats
    seconds: Floats
    time: Floats


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean, standard deviation and Euclidean norm of all values of one tensor, at `step`."""

    step: Steps
    mean: Floats
    std: Floats
    norm: Floats


@dataclass(frozen=True, slots=True)
class Unreadable:
    """The latest word on pictures that could not be read: how many so far, and which (the first thousand)."""

    step: int
    count: int
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """Everything read so far, which no later reading changes; the arrays cannot be written to.

    `weights` and `gradients` are by the names of the weights (``conv1.weight``), in the network's order.  `damaged`
    counts lines that hold no record; `damaged_lines` are the numbers of the first of them, counted from 1.
    """

    train: TrainCurve
    val: ValCurve
    weights: Mapping[str, Moments]
    gradients: Mapping[str, Moments]
    unreadable: Unreadable | None
    damaged: int
    damaged_lines: tuple[int, ...] = ()

    @property
    def step(self) -> int:
        """The last step of which anything is known; 0 before the first."""
        return max(int(steps[-1]) if steps.size else 0 for steps in (self.train.step, self.val.step))

    @property
    def classes(self) -> int | None:
        """How many classes the validations tell apart; None before the first."""
        return self.val.per_class.shape[1] or None
