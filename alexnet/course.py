"""How a training goes on: its steps, validations, records and learning rate over time.  Standard library only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet.config import TrainConfig

TEST_BATCH = 64
"""Pictures that a validation looks at at a time."""

RECORDS = 20_000
"""A run writes at most about so many records of its steps; where it has more, each is the mean of several."""

MAP_SIDE = 32
"""Largest side of a map in a snapshot: 96 maps of conv1 then take 100 kB."""

RATE = frozenset({"learning_rate", "schedule", "patience", "drops"})
"""Fields with which a branch that changes one of them begins its learning rate anew, without the drops so far."""


def all_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps of the whole training, where no plateau ends it before."""
    steps = config.epochs * steps_per_epoch
    return steps if config.max_steps is None else min(steps, config.max_steps)


def steps_between_validations(config: TrainConfig, steps_per_epoch: int) -> int:
    """A validation comes after every so many steps, and after the last."""
    return max(1, round(config.validate_every * steps_per_epoch))


def validations_after(config: TrainConfig, steps_per_epoch: int, start: int) -> int:
    """How many validations a training has after step `start`."""
    steps, every = all_steps(config, steps_per_epoch), steps_between_validations(config, steps_per_epoch)
    return -(-steps // every) - start // every if start < steps else 0


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


def highest_rate(
    config: TrainConfig, *, steps: int, steps_per_epoch: int, start: int = 0, plateau_rate: float | None = None
) -> tuple[int, float]:
    """The step, counted from 1, with the highest learning rate after step `start`, and that rate.

    With a warm-up a cosine has its peak before the warm-up's end, the earlier the longer the warm-up: the product of a
    line that rises and a cosine that falls rises up to one place and falls from there, so that halving finds it.
    """

    def rate(step: int) -> float:
        return scheduled_rate(config, step, steps=steps, steps_per_epoch=steps_per_epoch, plateau_rate=plateau_rate)

    first, last = start, max(start, min(steps, math.ceil(config.warmup_epochs * steps_per_epoch)) - 1)
    while first < last:
        middle = (first + last + 1) // 2
        if rate(middle) > rate(middle - 1):
            first = middle
        else:
            last = middle - 1
    return first + 1, rate(first)
