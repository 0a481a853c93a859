"""Networks side by side: totals by kind of layer, and one measure stage by stage.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from alexnet.spec import Conv
from analysis.tables import distinct_names, merged_order
from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.costs import Cost, CostTable
    from app.theme import Palette

_LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container", "x": 0}


def _is_conv(cost: Cost) -> bool:
    return isinstance(cost.layer, Conv)


def totals_chart(tables: Sequence[CostTable], palette: Palette) -> go.Figure:
    """Parameters and MACs of each network, split into convolutions and fully connected layers."""
    names = distinct_names([table.network for table in tables])
    figure = make_subplots(
        cols=2, shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=("Parameters", "MACs, one image")
    )
    for label, colour, is_conv in (
        ("convolutions", palette.convolution, True),
        ("fully connected", palette.connected, False),
    ):
        for column, measure in ((1, "params"), (2, "macs")):
            values = [
                sum(getattr(row, measure) for row in table.rows if row.weights and _is_conv(row) == is_conv)
                for table in tables
            ]
            figure.add_bar(
                x=values,
                y=names,
                name=label,
                orientation="h",
                marker_color=colour,
                showlegend=column == 1,
                legendgroup=label,
                hovertemplate=f"<b>%{{y}}</b> {label}: %{{x:,}}<extra></extra>",
                row=1,
                col=column,
            )
    figure.update_layout(
        barmode="stack",
        height=132 + 30 * len(names),
        margin={"l": 10, "r": 10, "t": 70, "b": 24},
        legend=_LEGEND,
        bargap=0.3,
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(gridcolor=palette.grid, nticks=6)
    readable(figure, palette)
    return figure


def stages_chart(tables: Sequence[CostTable], measure: Literal["params", "macs"], palette: Palette) -> go.Figure:
    """One measure, stage by stage, a bar for each network."""
    names = distinct_names([table.network for table in tables])
    order = merged_order([[row.name for row in table.rows] for table in tables])
    figure = go.Figure()
    colours = palette.series  # the towers' colours are the towers' alone
    counted = [{row.name: getattr(row, measure) for row in table.rows if getattr(row, measure)} for table in tables]
    for index, (name, values) in enumerate(zip(names, counted, strict=True)):
        stages = [stage for stage in order if stage in values]
        figure.add_bar(
            x=stages,
            y=[values[stage] for stage in stages],
            name=name,
            marker_color=colours[index % len(colours)],
            hovertemplate=f"<b>%{{x}}</b> {name}: %{{y:,}}<extra></extra>",
        )
    weighty = [stage for stage in order if any(stage in values for values in counted)]
    figure.update_layout(
        barmode="group",
        height=330,
        margin={"l": 10, "r": 10, "t": 40, "b": 24},
        legend=_LEGEND,
        bargap=0.22,
        yaxis_title={"params": "parameters", "macs": "MACs, one image"}[measure],
    )
    figure.update_xaxes(categoryorder="array", categoryarray=weighty)
    figure.update_yaxes(gridcolor=palette.grid)
    readable(figure, palette)
    return figure
