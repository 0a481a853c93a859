"""How often each size of value occurs.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from app.theme import readable

if TYPE_CHECKING:
    from analysis.activations import Histogram
    from app.theme import Palette


def map_histogram(found: Histogram, title: str, palette: Palette) -> go.Figure:
    """Bars over the size of the values; their number on a logarithmic scale, since after ReLU most are 0."""
    middles, widths = (found.edges[:-1] + found.edges[1:]) / 2, np.diff(found.edges)
    figure = go.Figure(
        go.Bar(
            x=middles,
            y=found.counts,
            width=widths,
            marker_color=palette.convolution,
            marker_line_width=0,
            customdata=np.stack([found.edges[:-1], found.edges[1:]], axis=1),
            hovertemplate="%{y:,} values from %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
        )
    )
    figure.update_layout(height=170, margin={"l": 8, "r": 8, "t": 8, "b": 36}, bargap=0)
    figure.update_xaxes(title=f"value in {title}", gridcolor=palette.grid, nticks=6)
    figure.update_yaxes(title="places", type="log", gridcolor=palette.grid, dtick=1)
    readable(figure, palette, size=11)
    return figure
