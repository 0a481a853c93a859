"""How a training goes on: its steps, its validations and its learning rate over time.  Standard library only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet.config import TrainConfig

TEST_BATCH = 64
"""Pictures that a validation looks at at a time."""


def all_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps of the whole training, where no plateau ends it before."""
    steps = config.epochs * steps_per_epoch
    return steps if config.max_steps is None else min(steps, config.max_steps)


def steps_between_validations(config: TrainConfig, steps_per_epoch: int) -> int:
    """A validation comes after every so many steps, and after the last."""
    return max(1, round(config.validate_every * steps_per_epoch))


def cosine_rate(peak: float, step: int, steps: int) -> float:
    """From `peak` at step 0 down half a cosine, to a little above 0 at the last of `steps`."""
    return peak * 0.5 * (1 + math.cos(math.pi * step / steps))


def warmed_up(rate: float, step: int, warmup_steps: float) -> float:
    """`rate`, rising in equal steps over the first `warmup_steps`."""
    return rate * min(1.0, (step + 1) / warmup_steps) if warmup_steps > 0 else rate


def scheduled_rate(
    config: TrainConfig, step: int, *, steps: int, steps_per_epoch: int, plateau_rate: float | None = None
) -> float:
    """The learning rate of the step after `step` of `steps`.

    `plateau_rate` is where the drops have brought a plateau so far; the rate at the start if not given.
    """
    match config.schedule:
        case "plateau":
            rate = config.learning_rate if plateau_rate is None else plateau_rate
        case "constant":
            rate = config.learning_rate
        case "cosine":
            rate = cosine_rate(config.learning_rate, step, steps)
    return warmed_up(rate, step, config.warmup_epochs * steps_per_epoch)
