"""How far each tool's figure is from ours, and through which term.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import plotly.graph_objects as go

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.conventions import Convention
    from analysis.costs import CostTable
    from app.theme import Palette


class TermTotal(NamedTuple):
    """What one term adds to a tool's figure for a whole network and batch."""

    convention: str
    what: str
    added: int


def term_totals(table: CostTable, conventions: Sequence[Convention]) -> list[TermTotal]:
    """Every term that makes a difference for this network, in the order of the conventions."""
    return [
        TermTotal(convention.name, term.what, added)
        for convention in conventions
        for term in convention.terms
        if (added := table.batch * sum(term.images(row) for row in table.rows))
    ]


def disagreement_chart(terms: Sequence[TermTotal], palette: Palette) -> go.Figure:
    """A bar for every term, on a logarithmic scale, since torch's factor of two dwarfs the rest."""
    figure = go.Figure(
        go.Bar(
            x=[term.added for term in terms],
            y=[f"{term.convention}: {term.what}" for term in terms],
            orientation="h",
            text=[f"+{term.added:,}" for term in terms],
            textposition="auto",
            marker_color=palette.tower1,
            hovertemplate="%{y}: +%{x:,}<extra></extra>",
        )
    )
    if not terms:
        figure.add_annotation(text="Nothing: every tool prints the same number.", showarrow=False)
    figure.update_layout(
        height=90 + 30 * max(len(terms), 2),
        margin={"l": 10, "r": 10, "t": 12, "b": 40},
        xaxis={"type": "log", "title": "added to our count (logarithmic)", "gridcolor": palette.grid, "dtick": 1},
        yaxis={"autorange": "reversed"},
        bargap=0.3,
    )
    return figure
