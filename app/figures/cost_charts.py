"""Where the parameters, the work and the memory are: three bar charts over the stages.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plotly.subplots import make_subplots

from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import plotly.graph_objects as go

    from analysis.costs import CostTable
    from app.theme import Palette

_ROW = 19  # pixels for one stage
_MEBI = 2**20


def cost_charts(table: CostTable, palette: Palette) -> go.Figure:
    """Parameters, MACs forward and backward, and bytes kept while training, stage by stage from the top down."""
    rows = [row for row in table.rows if row.params or row.macs or row.kept_bytes]
    names = [row.name for row in rows]
    images = "one image" if table.batch == 1 else f"{table.batch:,} images"
    figure = make_subplots(
        cols=3,
        shared_yaxes=True,
        horizontal_spacing=0.025,
        subplot_titles=(
            "Parameters",
            f"MACs, {images}",
            "Memory to train, MiB",
        ),
    )
    work = palette.series
    _bars(figure, 1, names, [row.params for row in rows], "parameters", work[1], legend=False)
    _bars(figure, 2, names, [row.macs for row in rows], "forward", work[3])
    _bars(figure, 2, names, [row.weight_gradient_macs for row in rows], "backward, weights", work[2])
    _bars(figure, 2, names, [row.input_gradient_macs for row in rows], "backward, input", work[4])
    weights = [3 * row.param_bytes / _MEBI for row in rows]
    _bars(figure, 3, names, weights, "weights, gradients and momentum", work[1], unit="MiB")
    _bars(figure, 3, names, [row.kept_bytes / _MEBI for row in rows], "activations kept", work[5], unit="MiB")
    figure.update_layout(
        barmode="stack",
        height=138 + _ROW * len(rows),
        margin={"l": 10, "r": 10, "t": 92, "b": 24},
        legend={"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container", "x": 0, "traceorder": "normal"},
        bargap=0.25,
        hoverlabel={"namelength": -1},
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(gridcolor=palette.grid, nticks=5)
    readable(figure, palette, size=11)
    return figure


def _bars(
    figure: go.Figure,
    column: int,
    names: Sequence[str],
    values: Sequence[float],
    label: str,
    colour: str,
    *,
    unit: str = "",
    legend: bool = True,
) -> None:
    number = "%{x:,.2f} MiB" if unit else "%{x:,}"
    figure.add_bar(
        x=values,
        y=names,
        name=label,
        orientation="h",
        marker_color=colour,
        marker_line_width=0,
        showlegend=legend,
        hovertemplate=f"<b>%{{y}}</b> {label}: {number}<extra></extra>",
        row=1,
        col=column,
    )
