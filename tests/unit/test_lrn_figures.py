from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
import pytest
import torch

from alexnet.spec import LRN, MaxPool
from analysis import lrn, lrn_cost, lrn_limits, lrn_tables
from analysis.formats import write
from app.figures import lrn as figures
from app.theme import DARK, LIGHT

LAYER = LRN(size=3, alpha=0.1, groups=2)
CHANNELS, HEIGHT, WIDTH = 8, 5, 7


def maps(*, signed: bool = False) -> torch.Tensor:
    values = 3 * torch.randn(CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(2))
    return values if signed else values.relu()


def heatmaps(figure: go.Figure) -> list[go.Heatmap]:
    return [trace for trace in figure.data if isinstance(trace, go.Heatmap)]


def bars(figure: go.Figure) -> list[go.Bar]:
    return [trace for trace in figure.data if isinstance(trace, go.Bar)]


def test_the_profile_has_both_bars_its_window_and_the_border() -> None:
    profile = lrn.profile(maps(), LAYER, 1, 2)
    figure = figures.profile_figure(profile, 4, 2, LIGHT)
    before, after = bars(figure)
    assert tuple(before.y) == tuple(profile.before)
    assert tuple(after.y) == tuple(profile.after)
    assert list(after.marker.color) == [LIGHT.tower1] * 4 + [LIGHT.tower2] * 4
    window, border = figure.layout.shapes
    # Channel 4 is the first of the second tower: its window of 3 is cut off there.
    assert (window.x0, window.x1) == (3.5, 5.5)
    assert border.x0 == border.x1 == 3.5


def test_one_tower_has_neither_border_nor_towers_colours() -> None:
    figure = figures.profile_figure(lrn.profile(maps(), LRN(), 1, 2), 4, 1, DARK)
    assert len(figure.layout.shapes) == 1
    assert not {DARK.tower1, DARK.tower2} & set(bars(figure)[0].marker.color)


def test_suppressed_shares_are_percent_in_the_channels_order() -> None:
    a = maps()
    a[5] = 0
    result = lrn.normalise(a, LAYER)
    rows, overall = lrn.suppression(result), lrn.suppressed_overall(result)
    (bar,) = bars(figures.suppression_figure(rows, overall, 2, 2, LIGHT))
    assert list(bar.x) == list(range(CHANNELS))
    expected = 100 * lrn.suppressed_shares(result)
    assert bar.y[5] is None
    np.testing.assert_allclose([y for y in bar.y if y is not None], expected[~np.isnan(expected)])


def test_the_gain_curves_and_their_output() -> None:
    own = np.linspace(0, 400, 401)
    curve = lrn.gain(own, 0.0, lrn.PAPER)
    figure = figures.gain_figure(own, {"paper": curve}, {"paper": lrn.peak(0.0, lrn.PAPER)}, 50.0, LIGHT)
    ratio, output, top = figure.data
    np.testing.assert_array_equal(ratio.y, curve)
    np.testing.assert_array_equal(output.y, own * curve)
    assert (top.x[0], top.y[0]) == (pytest.approx(200), pytest.approx(np.max(output.y)))


def test_orders_are_drawn_above_their_differences() -> None:
    found = lrn.orders(maps(signed=True), LAYER, MaxPool(3, 2))
    figure = figures.orders_figure(found[:3], 1, LIGHT)
    drawn = heatmaps(figure)
    first, *others = [order.maps[1] for order in found[:3]]
    for trace, expected in zip(drawn, [first, *others, *(one - first for one in others)], strict=True):
        np.testing.assert_array_equal(trace.z, expected)
    titles = [annotation.text for annotation in figure.layout.annotations]
    assert titles == [*(order.name for order in found[:3]), "difference", "difference"]
    assert figure.layout.coloraxis2.cmin == -figure.layout.coloraxis2.cmax


def test_the_border_is_drawn_in_percent() -> None:
    rows = lrn.border(maps(), LAYER)
    (bar,) = bars(figures.border_figure(rows, 2, LIGHT))
    assert list(bar.y) == [100 * row.difference for row in rows]
    assert [channel for channel, y in zip(bar.x, bar.y, strict=True) if y] == [3, 4]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_denominator_of_the_table_adds_up() -> None:
    profile = lrn.profile(maps(), LAYER, 1, 2)
    table = lrn_tables.neighbours_table(profile, 4)
    weighted = [float(row[3] or 0) for row in table.rows]
    assert table.totals is not None
    assert sum(weighted) == pytest.approx(float(table.totals[3] or 0), rel=1e-3)
    assert sum(float(row[4] or 0) for row in table.rows) == pytest.approx(100, abs=0.01)
    assert [row[0] for row in table.rows] == ["k", "channel 4 (itself)", "channel 5"]


def test_the_border_table_holds_the_channels_at_the_border_and_two_beside() -> None:
    rows = lrn.border(torch.rand(96, 2, 2), LRN())
    assert [row[0] for row in lrn_tables.border_table(rows, 5).rows] == list(range(44, 52))


def test_every_table_can_be_written_in_every_format() -> None:
    a, layer = maps(), LAYER
    result = lrn.normalise(a, layer)
    tables = [
        lrn_tables.suppression_table(lrn.suppression(result), 2),
        lrn_tables.neighbours_table(lrn.profile(a, layer, 0, 0), 0),
        lrn_tables.orders_table(lrn.orders(maps(signed=True), layer, MaxPool(2, 2))),
        lrn_tables.border_table(lrn.border(a, layer), 3),
        lrn_tables.limits_table(lrn_limits.limit_cases(a, layer)),
        lrn_tables.timings_table([lrn_cost.Timing("LRN", 0.002, 0.004, 0.001, 0.003, 5)]),
        lrn_tables.verdicts_table(),
    ]
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.columns) for row in table.rows)
        for fmt in ("csv", "json", "markdown", "latex"):
            assert write(table, fmt)
    assert tables[5].rows[0] == ("LRN", 2.0, 1.0, 4.0, 3.0, 5)
    assert [row[0] for row in tables[0].rows] == list(range(CHANNELS))
    assert [row[1] for row in tables[0].rows] == [1] * 4 + [2] * 4
