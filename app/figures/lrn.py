"""Response normalisation in pictures: maps, one pixel's channels, shares, gain, orders.  No Streamlit, no torch.

Maps are (H, W) arrays and are drawn with row 0 on top; a channel's bar has its tower's colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.lrn import BorderRow, Order, Profile, Suppression
    from app.theme import Palette

    Values = NDArray[Any]

_BAR = {"thickness": 9, "outlinewidth": 0, "nticks": 5, "tickfont": {"size": 11}, "xpad": 4}
_SHORT = {"y": 1, "yanchor": "top", "lenmode": "pixels", "len": 190}
_LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container", "x": 0}


def _scale(values: Sequence[Values]) -> dict[str, Any]:
    """One colour scale for several maps: from zero up, or with zero in the middle where values are negative, too."""
    finite = [one[np.isfinite(one)] for one in values]
    low = min((float(one.min()) for one in finite if one.size), default=0.0)
    high = max((float(one.max()) for one in finite if one.size), default=0.0)
    if low < 0:
        reach = max(-low, high)
        return {"colorscale": "RdBu_r", "cmin": -reach, "cmax": reach}
    return {"colorscale": "Viridis", "cmin": 0.0, "cmax": high or 1.0}


class _Panel(NamedTuple):
    """One map in a grid of maps; `colours` is the number of its colour scale."""

    title: str
    values: Values
    colours: int
    hover: str
    row: int = 0
    column: int = 0


def _grid(panels: Sequence[_Panel], rows: int, columns: int, gap: tuple[float, float]) -> go.Figure:
    """Maps beside and below one another, with square pixels, the first row on top, and one zoom for all.

    Written as one dictionary: building it call by call takes Plotly a tenth of a second, which a slider has to wait.
    """
    wide, high = ((1 - space * (count - 1)) / count for space, count in zip(gap, (columns, rows), strict=True))
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"annotations": []}
    bare = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False, "constrain": "domain"}
    for number, panel in enumerate(panels, start=1):
        name = "" if number == 1 else str(number)
        left, top = panel.column * (wide + gap[0]), 1 - panel.row * (high + gap[1])
        height, width = panel.values.shape
        data.append(
            {
                "type": "heatmap",
                "z": panel.values,
                "coloraxis": "coloraxis" if panel.colours == 1 else f"coloraxis{panel.colours}",
                "name": panel.title,
                "hovertemplate": f"row %{{y}}, column %{{x}}<br>{panel.hover}<extra></extra>",
                "xaxis": f"x{name}",
                "yaxis": f"y{name}",
            }
        )
        share = {} if number == 1 else {"matches": "x"}
        layout[f"xaxis{name}"] = {
            **bare, **share, "domain": [left, min(left + wide, 1)], "anchor": f"y{name}", "range": [-0.5, width - 0.5],
        }  # fmt: skip
        share = {} if number == 1 else {"matches": "y"}
        layout[f"yaxis{name}"] = {
            **bare, **share, "domain": [max(top - high, 0), top], "anchor": f"x{name}", "range": [height - 0.5, -0.5],
            "scaleanchor": f"x{name}", "constraintoward": "top",
        }  # fmt: skip
        layout["annotations"].append(
            {
                "text": panel.title, "x": left + wide / 2, "y": top, "xref": "paper", "yref": "paper",
                "xanchor": "center", "yanchor": "bottom", "showarrow": False, "font": {"size": 12},
            }
        )  # fmt: skip
    return go.Figure({"data": data, "layout": layout})


def _tower_colours(channels: int, towers: int, palette: Palette) -> list[str]:
    if towers == 1:
        return [palette.series[3]] * channels
    colours = (palette.tower1, palette.tower2)
    return [colours[min(channel * towers // channels, 1)] for channel in range(channels)]


def _borders(figure: go.Figure, channels: int, towers: int, palette: Palette) -> None:
    for tower in range(1, towers):
        figure.add_vline(x=channels // towers * tower - 0.5, line={"dash": "dash", "width": 1.5, "color": palette.text})


def _marked(figure: go.Figure, channel: int, palette: Palette) -> None:
    figure.add_vline(x=channel, line={"width": 1, "color": palette.text}, opacity=0.5)


def profile_figure(profile: Profile, channel: int, towers: int, palette: Palette) -> go.Figure:
    """All channels at one pixel: pale bars before, full ones after; the chosen channel's window is shaded."""
    count = len(profile.before)
    colours = _tower_colours(count, towers, palette)
    figure = go.Figure()
    channels = list(range(count))
    for name, values, opacity in (("before", profile.before, 0.3), ("after", profile.after, 1.0)):
        figure.add_bar(
            x=channels,
            y=values,
            name=name,
            marker={"color": colours, "opacity": opacity, "line": {"width": 0}},
            hovertemplate=f"channel %{{x}} {name}: %{{y:.4g}}<extra></extra>",
        )
    window = [neighbour.channel for neighbour in profile.neighbours(channel)]
    figure.add_vrect(
        x0=window[0] - 0.5, x1=window[-1] + 0.5, fillcolor=palette.text, opacity=0.1, line_width=0, layer="below"
    )
    figure.add_annotation(
        x=channel, y=1.0, yref="paper", yanchor="bottom", showarrow=False, text=f"channel {channel} and its window"
    )
    _borders(figure, count, towers, palette)
    figure.update_layout(
        barmode="overlay",
        bargap=0.12,
        height=300,
        margin={"l": 10, "r": 10, "t": 44, "b": 40},
        showlegend=False,
        xaxis_title="channel; pale before, full after",
        yaxis_title="value",
    )
    figure.update_xaxes(range=[-0.8, count - 0.2], showgrid=False)
    figure.update_yaxes(gridcolor=palette.grid, zerolinecolor=palette.grid)
    readable(figure, palette)
    return figure


def suppression_figure(
    rows: Sequence[Suppression], overall: float | None, channel: int, towers: int, palette: Palette
) -> go.Figure:
    """The suppressed share of each channel in percent, in the channels' order, and the mean over all as a line."""
    figure = go.Figure()
    figure.add_bar(
        x=[row.channel for row in rows],
        y=[None if row.suppressed is None else 100 * row.suppressed for row in rows],
        marker={"color": _tower_colours(len(rows), towers, palette), "line": {"width": 0}},
        hovertemplate="channel %{x}: %{y:.1f} % suppressed<extra></extra>",
    )
    if overall is not None:
        figure.add_hline(
            y=100 * overall, line={"dash": "dot", "width": 1.5, "color": palette.text},
            annotation_text=f"all {100 * overall:.1f} %", annotation_position="top right",
        )  # fmt: skip
    _borders(figure, len(rows), towers, palette)
    _marked(figure, channel, palette)
    figure.update_layout(
        bargap=0.12, height=300, margin={"l": 10, "r": 10, "t": 20, "b": 40},
        xaxis_title="channel", yaxis_title="suppressed, %", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(range=[-0.8, len(rows) - 0.2], showgrid=False)
    figure.update_yaxes(gridcolor=palette.grid, zerolinecolor=palette.grid)
    readable(figure, palette)
    return figure


def gain_figure(
    own: Values, gains: dict[str, Values], marks: dict[str, float | None], value: float, palette: Palette
) -> go.Figure:
    """What a value is multiplied by, and what comes out, against the value itself; a curve for each of `gains`.

    `marks` holds the value with the largest output of each curve, None where there is none; `value` is the pixel's.
    """
    figure = make_subplots(cols=2, horizontal_spacing=0.09, subplot_titles=("ratio", "output"))
    styles = ({"width": 3, "color": palette.series[4]}, {"width": 2, "color": palette.series[3], "dash": "dash"})
    for (name, curve), style in zip(gains.items(), styles, strict=False):
        for column, shown in ((1, curve), (2, own * curve)):
            figure.add_scatter(
                x=own,
                y=shown,
                name=name,
                mode="lines",
                line=style,
                legendgroup=name,
                showlegend=column == 1,
                hovertemplate=f"{name}: %{{x:.4g}} → %{{y:.4g}}<extra></extra>",
                row=1,
                col=column,
            )
        top = marks.get(name)
        if top is not None and own[0] <= top <= own[-1]:
            figure.add_scatter(
                x=[top],
                y=[float(np.interp(top, own, own * curve))],
                mode="markers",
                marker={"size": 9, "color": style["color"], "symbol": "diamond"},
                showlegend=False,
                hovertemplate=f"{name}: largest output, at %{{x:.4g}}<extra></extra>",
                row=1,
                col=2,
            )
    figure.add_vline(x=value, line={"width": 1, "dash": "dot", "color": palette.text})
    figure.update_layout(height=330, margin={"l": 10, "r": 10, "t": 66, "b": 40}, legend=_LEGEND)
    figure.update_xaxes(title_text="a, the channel's own value", gridcolor=palette.grid, zeroline=False)
    figure.update_yaxes(gridcolor=palette.grid, rangemode="tozero")
    readable(figure, palette)
    return figure


def orders_figure(orders: Sequence[Order], channel: int, palette: Palette) -> go.Figure:
    """One channel's pooled map in each order, in one colour scale, and below what it has more than the first."""
    maps = [order.maps[channel] for order in orders]
    differences = [one - maps[0] for one in maps[1:]]
    panels = [
        *(
            _Panel(order.name, one, 1, "%{z:.4g}", 0, at)
            for at, (order, one) in enumerate(zip(orders, maps, strict=True))
        ),
        *(_Panel("difference", one, 2, "%{z:+.4g}", 1, at) for at, one in enumerate(differences, start=1)),
    ]
    figure = _grid(panels, 2, len(orders), (0.02, 0.09))
    reach = max((float(np.abs(one).max()) for one in differences), default=0.0) or 1.0
    figure.update_layout(
        coloraxis=_scale(maps) | {"colorbar": _BAR | _SHORT | {"title": "value"}},
        coloraxis2={
            "colorscale": "RdBu_r", "cmin": -reach, "cmax": reach,
            "colorbar": _BAR | _SHORT | {"y": 0.455, "title": "difference"},
        },
        height=560,
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
    )  # fmt: skip
    figure.update_annotations(font={"color": palette.text})
    return figure


def border_figure(rows: Sequence[BorderRow], towers: int, palette: Palette) -> go.Figure:
    """How much each channel changes, in percent, when windows cross the towers' borders."""
    figure = go.Figure()
    figure.add_bar(
        x=[row.channel for row in rows],
        y=[100 * row.difference for row in rows],
        marker={"color": _tower_colours(len(rows), towers, palette), "line": {"width": 0}},
        hovertemplate="channel %{x}: %{y:.2f} %<extra></extra>",
    )
    _borders(figure, len(rows), towers, palette)
    figure.update_layout(
        bargap=0.12, height=260, margin={"l": 10, "r": 10, "t": 16, "b": 40},
        xaxis_title="channel", yaxis_title="difference, %", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(range=[-0.8, len(rows) - 0.2], showgrid=False)
    figure.update_yaxes(gridcolor=palette.grid, zerolinecolor=palette.grid)
    readable(figure, palette)
    return figure
