"""The learning rate of a training before it starts: a curve, and a sentence that says what it does.  No torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from alexnet.course import all_steps, highest_rate, scheduled_rate, validations_after

if TYPE_CHECKING:
    from alexnet.config import TrainConfig

_POINTS = 500
"""A curve is drawn through about so many steps."""
_SAME = 0.005  # rates closer than that read the same


class Rates(NamedTuple):
    """The learning rate over a training: `steps` from 1, as its records count them, and the rate of each.

    `explanation` says what the curve cannot: where a plateau's drops lie, nobody knows before.
    """

    steps: tuple[int, ...]
    rates: tuple[float, ...]
    explanation: str


class Stalled(NamedTuple):
    """How far a plateau has come: its rate, drops left, and for how many validations it has stalled.

    Before the first validation that is −1, since the first has nothing to be compared with and counts as better.
    """

    rate: float
    drops_left: int
    stalled_for: int


def rates(config: TrainConfig, steps_per_epoch: int, *, start: int = 0, stalled: Stalled | None = None) -> Rates:
    """The learning rate as the trainer will follow it: at each step, or at some 500 and the last of the warm-up.

    A training that goes on after step `start` has only the steps that are left; `stalled` is where its plateau is, if
    it keeps that.
    """
    steps = all_steps(config, steps_per_epoch)
    if not steps:
        return Rates((), (), "There are fewer training pictures than one step takes.")
    if start >= steps:
        return Rates((), (), f"No step is left after step {start:,}.")
    warm = math.ceil(config.warmup_epochs * steps_per_epoch)
    plateau_rate = None if stalled is None else stalled.rate
    peak, highest = highest_rate(
        config, steps=steps, steps_per_epoch=steps_per_epoch, start=start, plateau_rate=plateau_rate
    )
    shown = {*range(start, steps, max(1, (steps - start) // _POINTS)), steps - 1, peak - 1}
    shown |= {warm - 1, warm} & set(range(start, steps)) if warm else set()
    places = tuple(sorted(shown))
    drawn = tuple(
        scheduled_rate(config, step, steps=steps, steps_per_epoch=steps_per_epoch, plateau_rate=plateau_rate)
        for step in places
    )
    words = _course(config, (start + 1, drawn[0]), (peak, highest), (steps, drawn[-1]))
    if config.schedule == "plateau":
        words += _drops(config, validations_after(config, steps_per_epoch, start), stalled)
    if not start and config.warmup_epochs and not math.isclose(highest, config.learning_rate, rel_tol=_SAME):
        why = "the training ends before the warm-up" if warm > steps else "the cosine falls while it warms up"
        words += f" It never reaches the {_rate(config.learning_rate)} of the recipe, since {why}."
    return Rates(tuple(step + 1 for step in places), drawn, words)


def _rate(rate: float) -> str:
    return f"{rate:.3g}"


def _course(config: TrainConfig, first: tuple[int, float], peak: tuple[int, float], last: tuple[int, float]) -> str:
    """The way from the first step to the last by the highest rate, each a step and its rate."""
    if first[0] == last[0]:
        return f"There is one step, with {_rate(first[1])}."
    at_last = f"step {last[0]:,}, the last"
    if rises := peak[0] > first[0]:
        begins = f"It rises from {_rate(first[1])} at step {first[0]:,} to {_rate(peak[1])} at "
        if peak[0] == last[0]:
            return f"{begins}{at_last}."
        begins += f"step {peak[0]:,}, then"
    else:
        begins = "It"
    if config.schedule == "cosine":
        falls = "falls" if rises else f"falls from {_rate(first[1])} at step {first[0]:,}"
        return f"{begins} {falls} along a cosine to {_rate(last[1])} at {at_last}."
    return f"{begins} stays at {_rate(last[1])} until {at_last}."


def _drops(config: TrainConfig, validations: int, stalled: Stalled | None) -> str:
    """What a plateau may still do, with so many validations to come."""
    stall = f"{config.patience} validation{'s' * (config.patience != 1)} without a lower error"
    rate, drops, stalled_for = stalled or Stalled(config.learning_rate, config.drops, -1)
    stalls = (validations + stalled_for) // config.patience
    if stalls < 1:
        few = f"{validations:,} validation{'s are' if validations != 1 else ' is'} too few"
        return f" It is divided by 10 after {stall}, for which {few} here."
    dropped = [_rate(rate / 10**drop) for drop in range(1, min(drops, stalls) + 1)]
    if not dropped:
        return f" After {stall} the run ends."
    ends = "; the next such stall ends the run" if stalls > drops else ""
    return (
        f" After {stall} it is divided by 10, to {', then '.join(dropped)}{ends}. When that happens the validations "
        "decide, so no drop is drawn."
    )
