"""The results of the LRN laboratory as tables.  Shares are printed in percent, values in the network's own scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.formats import Column, Table
from analysis.lrn_cost import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.spec import LRN
    from analysis.lrn import BorderRow, Order, Profile, Suppression
    from analysis.lrn_cost import Timing
    from analysis.lrn_limits import Limit


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 3)


def _significant(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")


def denominator(layer: LRN) -> str:
    """What a value is divided by, before the power, as the settings have it."""
    return f"k + α/{layer.size}·Σa²" if layer.average else "k + α·Σa²"


def suppression_table(rows: Sequence[Suppression], towers: int) -> Table:
    """Every channel: how active, how much suppressed, and by whom."""
    columns = (
        Column("channel", "channel"),
        Column("tower", "tower"),
        Column("mean", "mean |a|"),
        Column("suppressed", "suppressed, %"),
        Column("own", "of it by itself, %"),
        Column("strongest", "strongest neighbour"),
        Column("strongest_share", "of it by this one, %"),
    )
    return Table(
        "Suppressed activity",
        columns,
        tuple(
            (
                row.channel,
                row.channel * towers // len(rows) + 1,
                _significant(row.mean),
                _percent(row.suppressed),
                _percent(row.own),
                row.strongest,
                _percent(row.strongest_share),
            )
            for row in rows
        ),
    )


def neighbours_table(profile: Profile, channel: int) -> Table:
    """The denominator of one value, term by term: k and α·a² of every channel in the window."""
    columns = (
        Column("term", "term"),
        Column("value", "a"),
        Column("square", "a²"),
        Column("weighted", "in the denominator"),
        Column("share", "share of it, %"),
    )
    k, scale = profile.layer.k, float(profile.scale[channel])
    constant = ("k", None, None, k, _percent(k / scale) if scale else None)
    terms = (
        (
            f"channel {one.channel}{' (itself)' * (one.channel == channel)}",
            _significant(one.value),
            _significant(one.square),
            _significant(one.weighted),
            _percent(one.share),
        )
        for one in profile.neighbours(channel)
    )
    return Table(
        f"{denominator(profile.layer)} of channel {channel} at row {profile.row}, column {profile.column}",
        columns,
        (constant, *terms),
        (denominator(profile.layer), None, None, _significant(scale), 100.0 if scale else None),
    )


def orders_table(orders: Sequence[Order]) -> Table:
    """Each order against the first."""
    columns = (
        Column("order", "order"),
        Column("source", "used by"),
        Column("relative", "difference, % of the first"),
        Column("correlation", "correlation with the first"),
        Column("largest", "largest difference"),
        Column("normalised", "values normalised"),
    )
    return Table(
        "Orders of ReLU, LRN and pooling",
        columns,
        tuple(
            (
                order.name,
                order.source,
                _percent(order.relative),
                None if order.correlation is None else round(order.correlation, 5),
                _significant(order.largest),
                order.normalised,
            )
            for order in orders
        ),
    )


def border_table(rows: Sequence[BorderRow], size: int) -> Table:
    """The channels whose windows reach across a border, and two more on either side of them."""
    near = {other for row in rows if row.foreign for other in range(row.channel - 2, row.channel + 3)}
    columns = (
        Column("channel", "channel"),
        Column("tower", "tower"),
        Column("foreign", "foreign neighbours"),
        Column("inside", "mean, inside its tower"),
        Column("across", "mean, across"),
        Column("difference", "difference, %"),
    )
    return Table(
        f"Windows of {size} channels at the border",
        columns,
        tuple(
            (
                row.channel,
                row.tower + 1,
                row.foreign,
                _significant(row.inside),
                _significant(row.across),
                _percent(row.difference),
            )
            for row in rows
            if row.channel in near
        ),
    )


def limits_table(cases: Sequence[Limit]) -> Table:
    """Every claim, what it was tried with, how far off it is, and why."""
    columns = (
        Column("holds", "holds"),
        Column("claim", "claim"),
        Column("deviation", "relative deviation"),
        Column("settings", "tried with"),
        Column("remark", "because"),
    )
    return Table(
        "Limit cases",
        columns,
        tuple(("✓" if c.holds else "✗", c.claim, f"{c.deviation:.2g}", c.settings, c.remark) for c in cases),
    )


def timings_table(timings: Sequence[Timing]) -> Table:
    """Median times of one image in milliseconds."""
    columns = (
        Column("what", "what"),
        Column("forward_ms", "forward, ms (median)"),
        Column("fastest_forward_ms", "fastest"),
        Column("both_ms", "with backward, ms (median)"),
        Column("fastest_both_ms", "fastest"),
        Column("runs", "runs"),
    )
    return Table(
        "Time for one image on this machine's CPU",
        columns,
        tuple((t.what, *(round(1e3 * seconds, 3) for seconds in _times(t)), t.runs) for t in timings),
    )


def _times(timing: Timing) -> tuple[float, float, float, float]:
    return timing.forward, timing.fastest_forward, timing.both, timing.fastest_both


def verdicts_table() -> Table:
    """What papers measured with and without LRN."""
    columns = (
        Column("network", "network"),
        Column("data", "data"),
        Column("measure", "measure"),
        Column("without", "without, %"),
        Column("with", "with LRN, %"),
        Column("change", "change, points"),
        Column("source", "source"),
    )
    rows = tuple((v.network, v.data, v.measure, v.without, v.with_lrn, v.change, v.source) for v in VERDICTS)
    return Table("Published verdicts on LRN", columns, rows)
