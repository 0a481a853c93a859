"""What a run's curves say: the best validation, places on an axis, speed and updates.  numpy only.

Everything is computed from `Curves`, so a run that is going on, one that is finished and one of another machine are
read alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from analysis.curves import Curves, Floats, Steps, TrainCurve
    from analysis.thinning import Values

Axis = Literal["step", "epoch", "time"]
AXES: tuple[Axis, ...] = get_args(Axis)

_PAUSE_SECONDS = 5.0
_PAUSE_RECORDS = 3
_PAUSE_SAVINGS = 3
"""Time that no record accounts for is a pause where it is longer than all of these: so many seconds, what so many
records take, and so many times what usually passes behind a validation, when checkpoints are written."""
_UNSURE_SECONDS = 60.0
_UNSURE_RECORDS = 10
"""The same where a record does not say how long its steps took, or too few checkpoints tell how long one takes."""
_FEW_SAVINGS = 3


# --- the best ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Best:
    """The validation with the highest top-1, the first of equals: the one that ``checkpoints/best.pt`` is of.

    `index` is its place among the validations, `epoch` counts from 0 (None where the record does not say), `loss` and
    `topk` may be NaN.
    """

    index: int
    step: int
    epoch: int | None
    top1: float
    topk: float
    k: int
    loss: float


def best(curves: Curves) -> Best | None:
    """The best validation; None before the first."""
    val = curves.val
    known = np.isfinite(val.top1)
    if not known.any():
        return None
    at = int(np.argmax(np.where(known, val.top1, -np.inf)))
    epoch = float(val.epoch[at])
    return Best(
        index=at,
        step=int(val.step[at]),
        epoch=int(epoch) if math.isfinite(epoch) else None,
        top1=float(val.top1[at]),
        topk=float(val.topk[at]),
        k=val.k,
        loss=float(val.loss[at]),
    )


# --- axes -------------------------------------------------------------------------------------------------------------


def places(curves: Curves, axis: Axis, steps_per_epoch: float | None = None) -> Callable[[Values], Floats] | None:
    """What turns steps into places on the axis: themselves, epochs or hours; None where the records do not tell.

    Epochs are counted from 0.0 at the start to 1.0 at the end of the first, from the steps at which the records change
    epoch, so that a run that went on with another batch size is placed rightly.  The epoch that is not finished is as
    long as the one before, or `steps_per_epoch`; without that there is no axis of epochs before the first is finished.

    Hours are those of training and validating: **pauses are left out**, so that a run resumed the next morning has no
    night in its curves (`pauses` says where they were).
    """
    match axis:
        case "step":
            return lambda steps: np.asarray(steps, np.float64)
        case "epoch":
            knots, values = _epoch_knots(curves, steps_per_epoch)
        case "time":
            knots, values = _clock(curves)[:2]
    if len(knots) < 2:
        return None
    return lambda steps: np.interp(np.asarray(steps, np.float64), knots, values)


def _epoch_knots(curves: Curves, steps_per_epoch: float | None) -> tuple[Floats, Floats]:
    """Steps at which whole epochs end, from (0, 0), and how many have ended there; last, a place far ahead."""
    step, epoch = _epochs_of_steps(curves)
    ends = np.flatnonzero((np.diff(epoch) > 0) & (np.diff(step) > 0) & (step[:-1] > 0))
    knots, values = np.append(0.0, step[ends]), np.append(0.0, epoch[ends] + 1)
    if len(knots) > 1:
        length = steps_per_epoch or (knots[-1] - knots[-2]) / (values[-1] - values[-2])
    elif steps_per_epoch:
        length = steps_per_epoch
    else:
        return knots[:0], values[:0]
    # Many epochs on, so that every step has its place.
    return np.append(knots, knots[-1] + 1e6 * length), np.append(values, values[-1] + 1e6)


def _epochs_of_steps(curves: Curves) -> tuple[Floats, Floats]:
    """Steps of which the epoch is known, increasing, and the epoch of each."""
    step = np.concatenate([curves.train.step, curves.val.step]).astype(np.float64)
    epoch = np.concatenate([curves.train.epoch, curves.val.epoch])
    known = np.isfinite(epoch)
    step, epoch = step[known], epoch[known]
    order = np.argsort(step, kind="stable")
    return step[order], np.maximum.accumulate(epoch[order]) if order.size else epoch


def _clock(curves: Curves) -> tuple[Floats, Floats, Floats]:
    """Steps, the hours of work that had passed at each, and the hours of pause before each."""
    train, val = curves.train, curves.val
    with np.errstate(divide="ignore", invalid="ignore"):
        own = train.pictures / train.images_per_second
    step = np.concatenate([train.step, val.step]).astype(np.float64)
    time = np.concatenate([train.time, val.time])
    took = np.concatenate([own, val.seconds])
    validates = np.repeat([False, True], [len(train.step), len(val.step)])
    order = np.argsort(step, kind="stable")  # a validation comes behind the step that it is of
    order = order[np.isfinite(time[order])]
    step, time, took, validates = step[order], time[order], took[order], validates[order]
    if not step.size:
        return step, time, took
    passed = np.maximum(np.diff(time), 0.0)  # a clock that was set back is not time won
    pause = _unexplained(passed, took[1:], validates)
    hours = np.append(0.0, np.cumsum(passed - pause)) / 3600
    return step, hours, np.append(0.0, pause) / 3600


def _unexplained(passed: Floats, took: Floats, validates: NDArray[np.bool_]) -> Floats:
    """How much of the seconds that passed before each record but the first was a pause.

    A record accounts for the seconds that its own steps, or its validation, `took`.  What is left is a pause where it
    is far longer than what lies between two records of this run as a rule; `validates` tells, of all records, which
    are validations.
    """
    usual = float(np.median(passed)) if passed.size else 0.0
    told = np.isfinite(took) & (took >= 0)
    # A validation that does not say how long it took is one nevertheless: nothing else lies between a step and it.
    idle = passed - np.where(told, took, np.where(validates[1:], passed, usual))
    savings = idle[validates[:-1]]  # checkpoints are written then; so are those written by the minute
    saving = float(np.quantile(savings, 0.5, method="lower")) if savings.size else 0.0
    limit = max(_PAUSE_SECONDS, _PAUSE_RECORDS * usual)
    most = _PAUSE_SAVINGS * saving
    limit = max(limit, most if len(savings) >= _FEW_SAVINGS else min(most, _UNSURE_SECONDS))
    pause: Floats = np.where(idle > np.where(told, limit, max(_UNSURE_SECONDS, _UNSURE_RECORDS * usual)), idle, 0.0)
    return pause


@dataclass(frozen=True, slots=True)
class Pause:
    """The run stood still for so long before the record of this step."""

    step: int
    hours: float


def pauses(curves: Curves) -> list[Pause]:
    """Where the run was stopped and resumed, or its machine slept: what an axis of hours leaves out.

    A pause is time between two records that the later one does not account for by its own speed or, a validation, by
    the seconds it took, and that is far longer than what this run lets pass otherwise, as for writing a checkpoint.  So
    a stop of a few seconds counts, and a slow step or a long validation does not.
    """
    step, _, pause = _clock(curves)
    return [Pause(int(step[at]), float(pause[at])) for at in np.flatnonzero(pause)]


# --- derived figures --------------------------------------------------------------------------------------------------


def _seconds(train: TrainCurve) -> Floats:
    """How long the steps of each record took: pictures over pictures a second; records without pictures count alike."""
    pictures = train.pictures if np.isfinite(train.pictures).all() else np.ones(len(train.step))
    with np.errstate(divide="ignore", invalid="ignore"):
        seconds: Floats = pictures / train.images_per_second
    return seconds


def _latest(train: TrainCurve, seconds: float | None) -> slice:
    """The records of the last `seconds` before the last record, at least one; all with None."""
    if seconds is None or not np.isfinite(train.time).any():
        return slice(None)
    # From the back, so that a clock set back years ago does not matter.
    old = np.flatnonzero(train.time <= train.time[np.isfinite(train.time)][-1] - seconds)
    return slice(min(int(old[-1]) + 1, len(train.step) - 1) if old.size else 0, None)


def speed(curves: Curves, seconds: float | None = 60.0) -> float | None:
    """Training pictures a second over the last `seconds` (None: the whole run), validations left out; None if unknown.

    All pictures over all seconds, which is less than the mean of the records' speeds where these differ.
    """
    part = _latest(curves.train, seconds)
    rates, took = curves.train.images_per_second[part], _seconds(curves.train)[part]
    known = np.isfinite(took) & (took > 0)
    return float((rates * took)[known].sum() / took[known].sum()) if known.any() else None


def waited_share(curves: Curves, seconds: float | None = 60.0) -> float | None:
    """The share of the training's time, over the last `seconds` (None: the whole run), that went by without pictures.

    Near 0 the processor or the GPU is the limit; far above it, reading and decoding pictures is.
    """
    part = _latest(curves.train, seconds)
    waited, took = curves.train.waited_share[part], _seconds(curves.train)[part]
    known = np.isfinite(took) & (took > 0) & np.isfinite(waited)
    return float((waited * took)[known].sum() / took[known].sum()) if known.any() else None


def epoch_seconds(curves: Curves) -> tuple[Floats, Floats]:
    """Every epoch finished, and the seconds it took: training, its validation and saving; pauses left out.

    An epoch is from the last record of the one before to its own last.  The first has nothing before it: it begins
    with its first record, whose own steps (and the compiling before them) are not counted.
    """
    step, hours, _ = _clock(curves)
    known, epoch = _epochs_of_steps(curves)
    if not step.size or not known.size:
        return np.empty(0), np.empty(0)
    ends = np.flatnonzero(np.diff(epoch) > 0)
    lengths = np.diff(known[ends], prepend=0.0)
    if ends.size and known[-1] - known[ends[-1]] >= lengths[-1]:  # nothing follows the last epoch of a finished run
        ends = np.append(ends, len(known) - 1)
    at = hours[np.searchsorted(step, known[ends], side="right") - 1]
    return epoch[ends], np.diff(at, prepend=hours[0]) * 3600


def relative_updates(curves: Curves) -> dict[str, tuple[Steps, Floats]]:
    """For each weight its steps and how far one step moves it, as a share of its size: ε·‖g‖ / ‖w‖.

    ε is the learning rate of the last record up to that step.  An approximation of SGD's step that leaves momentum out
    (which in the long run makes steps up to 1/(1 − μ) times as long), weight decay too; AdamW does not move by ε·g at
    all.  About 1/1000 is a rule of thumb (A. Karpathy, CS231n, "Ratio of weights:updates").  NaN where a part is not
    known or the weight is all 0.
    """
    train, found = curves.train, {}
    for name, weight in curves.weights.items():
        gradient = curves.gradients.get(name)
        if gradient is None:
            continue
        steps, of_weight, of_gradient = np.intersect1d(weight.step, gradient.step, return_indices=True)
        at = np.searchsorted(train.step, steps, side="right") - 1
        rates = np.where(at >= 0, train.learning_rate[at], np.nan) if len(train.step) else np.full(len(steps), np.nan)
        norms = weight.norm[of_weight]
        ratios = np.full(len(steps), np.nan)
        np.divide(rates * gradient.norm[of_gradient], norms, out=ratios, where=norms > 0)
        found[name] = (steps, ratios)
    return found
