"""How far each tool's figure is from ours, and through which term.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import plotly.graph_objects as go

from app.theme import readable

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
    """A point for every term, on a logarithmic scale, since torch's factor of two dwarfs the rest."""
    figure = go.Figure(
        go.Scatter(
            x=[term.added for term in terms],
            y=[f"{term.convention}: {term.what}" for term in terms],
            mode="markers+text",
            text=[f"+{term.added:,}" for term in terms],
            textposition=["middle left" if term.added > 10**8 else "middle right" for term in terms],
            textfont={"color": palette.text},
            marker={"color": palette.series[5], "size": 11},
            cliponaxis=False,
            hovertemplate="%{y}: +%{x:,}<extra></extra>",
        )
    )
    if not terms:
        figure.add_annotation(text="Nothing: every tool prints the same number.", showarrow=False)
    figure.update_layout(
        height=90 + 30 * max(len(terms), 2),
        margin={"l": 10, "r": 10, "t": 12, "b": 40},
        xaxis={"type": "log", "title": "added to our count (logarithmic)", "gridcolor": palette.grid, "dtick": 1},
        yaxis={"autorange": "reversed", "gridcolor": palette.grid},
    )
    readable(figure, palette)
    return figure
