"""One kernel at large with its spectrum and its response, and all kernels by what they look for.  No torch."""

from __future__ import annotations

from math import cos, radians, sin
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.kernels import COLOUR, frequencies
from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from analysis.kernels import KernelMeasures
    from app.theme import Palette

    Values = NDArray[Any]

_PANEL = 236  # height of a row of panels in pixels
_TICKS = [-0.5, 0, 0.5]  # the finest waves that pixels can hold, and none
_BAR = {"thickness": 8, "len": 0.9, "outlinewidth": 0, "tickfont": {"size": 10}, "nticks": 4, "xpad": 2}


def kernel_figure(
    tile: NDArray[np.uint8], weights: Values, power: Values, response: Values | None, palette: Palette
) -> go.Figure:
    """A kernel as it is drawn, its power spectrum, and its response on a picture where there is one.

    `tile` is (h, w, 3) bytes and `weights` the (C, h, w) numbers behind it, `power` a centred spectrum, `response` the
    convolution's map (H, W) before ReLU.
    """
    rows = 1 if response is None else 2
    what = "weights" if len(weights) == 3 else "strongest pattern"
    figure = make_subplots(
        rows=rows,
        cols=2,
        specs=[[{}, {}], [{"colspan": 2}, None]][:rows],
        horizontal_spacing=0.16,
        vertical_spacing=0.11,
        subplot_titles=(what, "spectrum, cycles/pixel", "response, before ReLU")[: rows + 1],
        row_heights=[0.36, 0.64][:rows],
    )
    figure.add_trace(_picture(tile, weights), row=1, col=1)
    axis = frequencies(len(power))
    share = power / power.sum() if power.sum() else power
    figure.add_heatmap(
        z=share,
        x=axis,
        y=axis,
        colorscale="Greys_r",
        showscale=False,
        hovertemplate="%{x:.3f} across, %{y:.3f} down<br>%{z:.2%} of the energy<extra></extra>",
        row=1,
        col=2,
    )
    if response is not None:
        reach = float(np.abs(response).max()) or 1.0
        figure.add_heatmap(
            z=response,
            zmin=-reach,
            zmax=reach,
            colorscale="RdBu_r",
            colorbar=_BAR | {"len": 0.55, "y": 0, "yanchor": "bottom"},
            hovertemplate="row %{y}, column %{x}<br>%{z:.4g}<extra></extra>",
            row=2,
            col=1,
        )
    figure.update_yaxes(autorange="reversed", scaleanchor="x", row=1, col=1)
    figure.update_yaxes(
        range=[0.5, -0.5], scaleanchor="x2", constrain="domain", constraintoward="top", tickvals=_TICKS, row=1, col=2
    )
    figure.update_xaxes(constrain="domain", tickvals=_TICKS, range=[-0.5, 0.5], row=1, col=2)
    for place in ((1, 1), (2, 1))[:rows]:
        figure.update_xaxes(
            showticklabels=False, ticks="", constrain="domain", showgrid=False, row=place[0], col=place[1]
        )
        figure.update_yaxes(
            showticklabels=False,
            ticks="",
            constrain="domain",
            constraintoward="top",
            showgrid=False,
            row=place[0],
            col=place[1],
        )
    if rows == 2:
        figure.update_yaxes(autorange="reversed", scaleanchor="x3", row=2, col=1)
    figure.update_layout(
        height=(_PANEL if rows == 1 else round(1.95 * _PANEL)),
        margin={"l": 8, "r": 8, "t": 28, "b": 12},
    )
    readable(figure, palette, size=11)
    figure.update_annotations(font_size=12)
    return figure


def _picture(tile: NDArray[np.uint8], weights: Values) -> go.Image:
    """The tile with the true weights under the pointer."""
    if len(weights) == 3:
        hover = "row %{y}, column %{x}<br>red %{customdata[0]:.5f}<br>green %{customdata[1]:.5f}"
        hover += "<br>blue %{customdata[2]:.5f}<extra></extra>"
        return go.Image(z=tile, customdata=weights.transpose(1, 2, 0), hovertemplate=hover)
    return go.Image(z=tile, hovertemplate="row %{y}, column %{x}<extra></extra>")


def fourier_scatter(kernels: Sequence[KernelMeasures], names: Sequence[str], palette: Palette) -> go.Figure:
    """Left: each kernel at the direction and frequency of its wave.  Right: how colourful each tower's kernels are.

    The plane shows both ends of every wave; kernels without a direction are missing from it.
    """
    colourful = any(kernel.colourfulness is not None for kernel in kernels)
    figure = make_subplots(
        cols=2 if colourful else 1,
        column_widths=[0.46, 0.54] if colourful else None,
        horizontal_spacing=0.12,
        subplot_titles=("Waves the kernels look for, cycles/pixel", *["Colourfulness"][: int(colourful)]),
    )
    inks = (palette.tower1, palette.tower2) if len(names) == 2 else (palette.convolution,)
    for tower, (name, ink) in enumerate(zip(names, inks, strict=False)):
        mine = [kernel for kernel in kernels if kernel.tower == tower]
        directed = [k for k in mine if k.orientation is not None and k.frequency is not None]
        ends = [_wave(k.orientation or 0.0, k.frequency or 0.0) for k in directed]
        figure.add_scatter(
            x=[x for x, _ in ends] + [-x for x, _ in ends],
            y=[y for _, y in ends] + [-y for _, y in ends],
            mode="markers",
            name=name,
            marker={"color": ink, "size": 8, "opacity": 0.75, "line": {"width": 0}},
            customdata=[[k.index, k.orientation, k.frequency] for k in directed] * 2,
            hovertemplate="kernel %{customdata[0]}<br>stripes at %{customdata[1]:.0f}°"
            "<br>%{customdata[2]:.3f} cycles/pixel<extra>" + name + "</extra>",
            row=1,
            col=1,
        )
        if colourful:
            known = [k for k in mine if k.colourfulness is not None]
            figure.add_scatter(
                x=[k.colourfulness for k in known],
                # Kernels beside one another in the layer lie a little apart, so that equal ones can be told.
                y=[len(names) - 1 - tower + (position % 12 - 5.5) / 18 for position in range(len(known))],
                mode="markers",
                name=name,
                showlegend=False,
                marker={"color": ink, "size": 8, "opacity": 0.75},
                customdata=[k.index for k in known],
                hovertemplate="kernel %{customdata}: %{x:.2f}<extra>" + name + "</extra>",
                row=1,
                col=2,
            )
    limit = 1.08 * max([k.frequency or 0.0 for k in kernels] + [0.1])
    figure.update_xaxes(range=[-limit, limit], zerolinecolor=palette.grid, gridcolor=palette.grid, row=1, col=1)
    figure.update_xaxes(constrain="domain", row=1, col=1)
    figure.update_yaxes(
        range=[-limit, limit],
        scaleanchor="x",
        constrain="domain",
        zerolinecolor=palette.grid,
        gridcolor=palette.grid,
        row=1,
        col=1,
    )
    if colourful:
        figure.update_xaxes(
            range=[-0.03, 1.03], gridcolor=palette.grid, title="share of energy off the grey axis", row=1, col=2
        )
        figure.update_yaxes(
            tickvals=list(range(len(names))),
            ticktext=list(reversed(names)),
            range=[-0.6, len(names) - 0.4],
            showgrid=False,
            zeroline=False,
            row=1,
            col=2,
        )
        figure.add_vline(x=COLOUR, line={"color": palette.text, "width": 1, "dash": "dot"}, row=1, col=2)
    figure.update_layout(
        height=360,
        margin={"l": 10, "r": 10, "t": 56, "b": 40},
        legend={"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container", "x": 0},
        showlegend=len(names) > 1,
    )
    readable(figure, palette, size=11)
    return figure


def _wave(orientation: float, frequency: float) -> tuple[float, float]:
    """Where a wave lies in the Fourier plane, up as on paper: its stripes are perpendicular to it."""
    angle = radians(orientation - 90)
    return frequency * cos(angle), frequency * sin(angle)
