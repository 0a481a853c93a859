from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.thinning import band, envelope, smoothed

MANY = 100_000

curves = st.lists(
    st.tuples(
        st.integers(0, 50),
        st.one_of(st.floats(-1e6, 1e6), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0])),
    ),
    max_size=80,
).map(lambda pairs: (np.cumsum([step for step, _ in pairs], dtype=np.int64), np.array([y for _, y in pairs], float)))


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(2, 0.1, MANY)


# --- envelope and band ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 1, 49_999, 50_000, MANY - 2, MANY - 1])
@pytest.mark.parametrize("spike", [900.0, -900.0])
def test_a_spike_of_one_record_among_many_is_kept(at: int, spike: float) -> None:
    x, y = np.arange(1, MANY + 1), noise()
    y[at] = spike
    found, ends = envelope(x, y, 300), band(x, y, 300)
    assert len(found.x) <= 4 * 300
    assert (at + 1, spike) in set(zip(found.x.tolist(), found.y.tolist(), strict=True))
    assert spike in (ends.low.min(), ends.high.max())


@settings(max_examples=300, deadline=None)
@given(curves, st.integers(1, 30))
def test_the_envelope_against_a_search_through_every_bucket(curve: tuple[np.ndarray, np.ndarray], buckets: int) -> None:
    x, y = curve
    found, ends = envelope(x, y, buckets), band(x, y, buckets)
    points = [(int(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
    assert found.left_out == ends.left_out == len(x) - len(points)
    kept = list(zip(found.x.tolist(), found.y.tolist(), strict=True))
    assert len(kept) <= 4 * buckets
    assert [(int(x[at]), float(y[at])) for at in found.index] == kept
    assert found.index.tolist() == sorted(set(found.index.tolist()))
    if not points:
        assert not kept
        assert not len(ends.x)
        return
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    first, width = points[0][0], points[-1][0] - points[0][0]
    groups: dict[int, list[tuple[int, float]]] = {}
    for point in points:
        number = min(int((point[0] - first) / width * buckets), buckets - 1) if width else 0
        groups.setdefault(number, []).append(point)
    ordered = [groups[number] for number in sorted(groups)]
    assert ends.low.tolist() == [min(value for _, value in group) for group in ordered]
    assert ends.high.tolist() == [max(value for _, value in group) for group in ordered]
    assert ends.count.tolist() == [len(group) for group in ordered]
    for group in ordered:
        values = [value for _, value in group]
        for wanted in (group[0], group[-1]):
            assert wanted in kept
        for extreme in (min(values), max(values)):
            assert any(place == a and value == extreme for a, value in group for place, _ in kept)
    for place in ends.x:
        assert place in x


def test_a_curve_that_fits_is_kept_whole() -> None:
    x, y = np.arange(10), np.array([3.0, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    found = envelope(x, y, 10)
    assert found.y.tolist() == y.tolist()
    ends = band(x, y, 10)
    assert ends.low.tolist() == ends.high.tolist() == y.tolist()


def test_a_constant_curve_and_one_at_a_single_step() -> None:
    flat = envelope(np.arange(MANY), np.full(MANY, 7.0), 100)
    assert (flat.x[0], flat.x[-1], set(flat.y.tolist())) == (0, MANY - 1, {7.0})
    assert len(flat.x) <= 200
    once = envelope(np.full(5, 3), np.array([1.0, 9, -2, 4, 5]), 100)
    assert once.y.tolist() == [1.0, 9.0, -2.0, 5.0]


def test_a_span_takes_the_points_in_it_and_their_extremes() -> None:
    x, y = np.arange(1, MANY + 1), noise()
    y[[10, 40_000, 99_000]] = 50.0, 20.0, -50.0
    y[30_500] = np.nan
    found, ends = envelope(x, y, 200, (30_000, 60_000)), band(x, y, 200, (30_000, 60_000))
    assert (found.x[0], found.x[-1]) == (30_000, 60_000)
    inside = y[29_999:60_000]
    assert (found.y.min(), found.y.max()) == (np.nanmin(inside), 20.0)
    assert (ends.low.min(), ends.high.max(), ends.left_out) == (np.nanmin(inside), 20.0, 1)
    assert not len(envelope(x, y, 200, (MANY + 1, MANY + 9)).x)


def test_only_what_is_finite_is_drawn() -> None:
    y = np.array([np.nan, np.inf, 2.0, -np.inf, 1.0, np.nan])
    found = envelope(np.arange(6), y)
    assert (found.x.tolist(), found.y.tolist(), found.left_out) == ([2, 4], [2.0, 1.0], 4)
    nothing = band(np.arange(2), np.array([np.nan, np.inf]))
    assert (len(nothing.x), nothing.left_out) == (0, 2)
    # A place that is not known cannot be drawn either.
    assert envelope(np.array([0.0, np.nan, 2.0]), np.array([1.0, 5.0, 2.0])).y.tolist() == [1.0, 2.0]


def test_what_makes_no_curve_is_said() -> None:
    with pytest.raises(ValueError, match="at least 1 bucket, got 0"):
        envelope(np.arange(2), np.arange(2), 0)
    with pytest.raises(ValueError, match="3 places and 2 values"):
        band(np.arange(3), np.arange(2))
    with pytest.raises(ValueError, match="3 steps and 2 values"):
        smoothed(np.arange(3), np.arange(2), 1)
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match="a half-life is a number of steps from 0"):
            smoothed(np.arange(3), np.arange(3), bad)


# --- smoothing --------------------------------------------------------------------------------------------------------


def by_the_formula(steps: list[int], y: list[float], half_life: float) -> list[float]:
    """The docstring's sums, term by term."""
    since = [float("inf"), *(b - a for a, b in pairwise(steps))]
    stands = []
    for j, own in enumerate(since):
        neighbours = [since[other] for other in (j - 1, j + 1) if 0 < other < len(since)]
        stands.append(min(own, max(neighbours)) if neighbours else (own if j else 1.0))
    means = []
    for i in range(len(steps)):
        top = bottom = 0.0
        for j in range(i + 1):
            if np.isfinite(y[j]):
                weight = (1 - 2 ** (-stands[j] / half_life)) * 2 ** (-(steps[i] - steps[j]) / half_life)
                top, bottom = top + weight * y[j], bottom + weight
        means.append(top / bottom if bottom else np.nan)
    return means


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.one_of(st.floats(-5, 5), st.just(np.nan))), max_size=40),
    st.floats(0.5, 200),
)
def test_smoothing_is_the_formula(pairs: list[tuple[int, float]], half_life: float) -> None:
    steps, y = np.cumsum([step for step, _ in pairs], dtype=np.int64), [value for _, value in pairs]
    expected = by_the_formula(steps.tolist(), y, half_life)
    np.testing.assert_allclose(smoothed(steps, np.array(y), half_life), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("half_life", [1.0, 25.0, 3000.0])
def test_smoothing_many_records_is_the_loop_everyone_knows(half_life: float) -> None:
    y = noise(1)
    decay, top, bottom, expected = 2 ** (-1 / half_life), 0.0, 0.0, []
    for value in y.tolist():
        top, bottom = decay * top + (1 - decay) * value, decay * bottom + (1 - decay)
        expected.append(top / bottom)
    np.testing.assert_allclose(smoothed(np.arange(1, MANY + 1), y, half_life), expected, rtol=1e-9)


def test_a_half_life_back_counts_half() -> None:
    """A step from 0 to 1: after one half-life the average is half way, after two three quarters."""
    y = np.where(np.arange(20_000) < 10_000, 0.0, 1.0)
    line = smoothed(np.arange(20_000), y, 100)
    assert line[[9_999, 10_099, 10_199]] == pytest.approx([0, 0.5, 0.75], abs=1e-9)


def test_records_of_several_steps_are_smoothed_as_these_steps_would_be() -> None:
    means = np.random.default_rng(3).normal(size=400)
    every = smoothed(np.arange(1, 2001), np.repeat(means, 5), 37)
    fifth = smoothed(np.arange(5, 2001, 5), means, 37)
    np.testing.assert_allclose(fifth, every[4::5], rtol=1e-9)


def test_one_record_behind_a_gap_counts_as_one() -> None:
    steps = np.concatenate([np.arange(1, 101), np.arange(5001, 5101)])
    y = np.concatenate([np.zeros(100), [100.0], np.zeros(99)])
    # If the record stood for the 4,900 steps before it, half of it would still be there after the half-life of 50.
    assert smoothed(steps, y, 50)[150] < 2


def test_smoothing_passes_over_what_is_not_finite() -> None:
    line = smoothed(np.arange(1, 7), np.array([np.nan, 4.0, np.inf, np.nan, 4.0, -np.inf]), 3)
    assert np.isnan(line[0])
    np.testing.assert_allclose(line[1:], 4.0)
    assert np.isnan(smoothed(np.arange(3), np.full(3, np.nan), 5)).all()
    np.testing.assert_array_equal(smoothed(np.arange(3), np.array([1.0, np.inf, 3.0]), 0), [1, np.nan, 3])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_smoothing_almost_nothing(count: int) -> None:
    y = np.array([2.0, 4.0])[:count]
    line = smoothed(np.array([5, 6])[:count], y, 1)
    # Two records of a step each: (0.5·2·½ + ½·4) / (½·½ + ½) = 10/3.
    assert line.tolist() == pytest.approx([2.0, 10 / 3][:count])


def test_the_smooth_line_stays_in_the_range_of_the_records() -> None:
    y = noise(5)
    y[70_000] = 1e3
    line = smoothed(np.arange(MANY), y, 200)
    assert y.min() <= line.min()
    assert line.max() <= y.max()


@pytest.mark.benchmark
def test_a_hundred_thousand_records_are_thinned_while_nobody_notices() -> None:
    x, y = np.arange(MANY), noise()
    begun = time.perf_counter()
    smoothed(x, y, 100)
    envelope(x, y)
    band(x, y)
    assert time.perf_counter() - begun < 0.1
