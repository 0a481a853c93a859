"""Long curves as charts can show them: fewer points that keep every extreme, and a smooth line over them.  numpy only.

`x` never decreases (steps, epochs or hours); `y` may hold NaN and infinities, which cannot be drawn: they are left out
and counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Values = NDArray[Any]

BUCKETS = 400
"""Of a curve over the width of a page: more could not be told apart on a screen."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The points of a curve that make its picture; `index` says which they are, `left_out` how many were not finite."""

    x: Values
    y: Floats
    index: NDArray[np.int64]
    left_out: int


@dataclass(frozen=True, slots=True)
class Band:
    """The range of a curve: the least and the largest value of each bucket, at the `x` of the record in its middle.

    `index` says which record that is, `count` how many the bucket holds, and `left_out` how many were not finite.
    """

    x: Values
    low: Floats
    high: Floats
    index: NDArray[np.int64]
    count: NDArray[np.int64]
    left_out: int


def envelope(x: Values, y: Values, buckets: int = BUCKETS, span: tuple[float, float] | None = None) -> Envelope:
    """The first, least, largest and last point of each of `buckets` equal parts of the axis, in the order of `x`.

    At most 4·`buckets` points; drawn `buckets` pixels wide they make the picture of all ("M4", Jugel et al. 2014).
    The first and the last point and the extremes of the whole are always among them.  `span` takes only the points
    from one x to another, both included.

    Raises:
        ValueError: fewer than one bucket, or `x` and `y` of different lengths.
    """
    index, starts, left_out = _buckets(x, y, buckets, span)
    values = np.asarray(y, np.float64)[index]
    if not values.size:
        return Envelope(np.asarray(x)[index], values, index, left_out)
    ends = np.append(starts[1:], len(values)) - 1
    extremes = [_first_equal(values, starts, pick.reduceat(values, starts)) for pick in (np.minimum, np.maximum)]
    kept = np.unique(np.concatenate([starts, ends, *extremes]))
    return Envelope(np.asarray(x)[index[kept]], values[kept], index[kept], left_out)


def band(x: Values, y: Values, buckets: int = BUCKETS, span: tuple[float, float] | None = None) -> Band:
    """The least and the largest of each of `buckets` equal parts of the axis that holds a point; else as `envelope`."""
    index, starts, left_out = _buckets(x, y, buckets, span)
    values = np.asarray(y, np.float64)[index]
    if not values.size:
        return Band(np.asarray(x)[index], values, values, index, index, left_out)
    counts = np.diff(np.append(starts, len(values)))
    middle = index[starts + (counts - 1) // 2]
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return Band(np.asarray(x)[middle], low, high, middle, counts, left_out)


def _buckets(
    x: Values, y: Values, buckets: int, span: tuple[float, float] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Which points can be drawn; where among them each bucket that is not empty begins; how many cannot be."""
    if buckets < 1:
        raise ValueError(f"a curve needs at least 1 bucket, got {buckets}")
    if len(x) != len(y):
        raise ValueError(f"{len(x)} places and {len(y)} values: a curve has as many of the one as of the other")
    places = np.asarray(x, np.float64)
    inside = np.ones(len(places), bool) if span is None else ~((places < span[0]) | (places > span[1]))
    finite = np.isfinite(places) & np.isfinite(np.asarray(y, np.float64))
    index = np.flatnonzero(inside & finite)
    if not index.size:
        return index, index, int(inside.sum())
    places = places[index]
    width = places[-1] - places[0]
    number = (
        np.minimum((places - places[0]) / width * buckets, buckets - 1).astype(np.int64) if width > 0 else places * 0
    )
    starts = np.flatnonzero(np.append(True, np.diff(number) > 0))
    return index, starts, int(inside.sum()) - len(index)


def _first_equal(values: Floats, starts: NDArray[np.int64], wanted: Floats) -> NDArray[np.int64]:
    """Where each bucket first holds the value wanted of it."""
    counts = np.diff(np.append(starts, len(values)))
    hits = np.flatnonzero(values == np.repeat(wanted, counts))
    return hits[np.searchsorted(hits, starts)]


def smoothed(steps: Values, y: Values, half_life: float) -> Floats:
    """An exponential moving average: what lies `half_life` steps back counts half.  A half-life of 0 changes nothing.

    At record i, over the records j ≤ i with a finite value,

        m_i = Σ_j w_j·2^(−(s_i − s_j)/h)·y_j  /  Σ_j w_j·2^(−(s_i − s_j)/h),      w_j = 1 − 2^(−n_j/h),

    where s is the step, h the half-life, and n_j how many steps record j stands for: those since the record before, but
    after a gap (more than both neighbours stand for) no more than the larger neighbour.  So the average over a run that
    writes the mean of every 5 steps is that over one that writes each.  Dividing by the sum of the weights corrects the
    bias of the beginning: m_0 = y_0.  NaN before the first finite value, and where all that is finite is so far back
    that its weight is 0.

    Raises:
        ValueError: a half-life below 0, or `steps` and `y` of different lengths.
    """
    if not half_life >= 0:
        raise ValueError(f"a half-life is a number of steps from 0, got {half_life}")
    if len(steps) != len(y):
        raise ValueError(f"{len(steps)} steps and {len(y)} values: a curve has as many of the one as of the other")
    values = np.asarray(y, np.float64)
    finite = np.isfinite(values)
    if half_life == 0 or not values.size:
        return np.where(finite, values, np.nan)
    since = np.append(np.inf, np.diff(np.asarray(steps, np.float64)))
    weights = np.where(finite, -np.expm1(-np.log(2) * _stands_for(since) / half_life), 0.0)
    # One line of numerators, one of denominators.  Each pass adds to the sum over the last `reach` records that over
    # the `reach` before them, faded by the time between: 17 passes for 100,000 records instead of a loop over them.
    sums = np.stack([weights * np.where(finite, values, 0.0), weights])
    fade = np.exp2(-since / half_life)
    reach = 1
    while reach < len(values):
        sums[:, reach:] += fade[reach:] * sums[:, :-reach]
        fade[reach:] *= fade[:-reach]
        reach *= 2
    means = np.full(len(values), np.nan)
    np.divide(sums[0], sums[1], out=means, where=sums[1] > 0)
    return means


def _stands_for(since: Floats) -> Floats:
    """How many steps each record stands for, from how many lie between it and the one before (first: infinity)."""
    if len(since) == 1:
        return np.ones(1)
    before, after = np.append(0.0, since[:-1]), np.append(since[1:], 0.0)
    if len(since) > 2:
        before[1] = 0.0  # what the first record stands for is not known, and so nothing to measure the second by
    stands: Floats = np.minimum(since, np.maximum(before, after))
    return stands
