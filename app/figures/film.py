"""The film of a training: what its player is given, and figures of numbers over time.  No Streamlit, no torch.

Time is the number of steps.  Probes lie densely at first, where kernels change fastest, so its axis can be logarithmic;
step 0 then stands at ½.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from analysis.film_numbers import HEADINGS, MEASURES, strongest
from analysis.sheets import Group, Sheet, map_tiles
from app.figures.sheets import WIDTH, sheet_svg
from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from alexnet.spec import LRN
    from analysis.film import Moment, Reel, Screen
    from analysis.film_numbers import Change, Measure, Summary
    from app.theme import Palette

    Values = NDArray[Any]

_LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container", "x": 0}
_HALF = 0.5  # where a logarithmic axis of steps shows step 0


# --- the player ------------------------------------------------------------------------------------------------------


def film_block(name: str, reel: Reel) -> bytes:
    """A reel as the player's element reads it: length of the head, the head in JSON, the tiles' bytes.

    `name` is the film's; the head's digest changes with any of it.
    """
    head = json.dumps({"film": name, "steps": reel.steps, "digest": f"{name} {reel.digest}"}).encode()
    return struct.pack("<I", len(head)) + head + reel.content


def film_groups(screen: Screen) -> list[dict[str, Any]]:
    """Where each tower lies in a picture of the film, and its kernels within it: (kernel, left, top)."""
    sheet = screen.sheet
    found = []
    for group, (left, top) in zip(sheet.groups, sheet.corners(), strict=True):
        alone = Sheet((group,), sheet.columns, sheet.tile, sheet.gap)
        width, height = alone.size
        found.append(
            {
                "label": group.label,
                "tower": group.tower,
                "left": left,
                "top": top,
                "width": width,
                "height": height,
                "columns": sheet.columns,
                "places": [[place.item, place.left, place.top] for place in alone.places()],
            }
        )
    return found


# --- over time -------------------------------------------------------------------------------------------------------


def _time(figure: go.Figure, steps: Sequence[int], *, logarithmic: bool) -> list[float]:
    """Sets the axes of steps up; returns where each step stands."""
    figure.update_xaxes(type="log" if logarithmic else "linear", title_text="step", zeroline=False)
    if logarithmic:
        last = max([*steps, 1])
        ticks = [10**power for power in range(len(str(last)))]
        figure.update_xaxes(tickvals=[_HALF, *ticks], ticktext=["0", *(f"{tick:,}" for tick in ticks)])
    return [max(step, _HALF) if logarithmic else step for step in steps]


def _finished(figure: go.Figure, palette: Palette, height: int, revision: str) -> go.Figure:
    """The look that all have; `revision` keeps what the reader zoomed into while a run adds to the figure."""
    figure.update_layout(
        height=height, margin={"l": 10, "r": 10, "t": 40, "b": 40}, legend=_LEGEND, uirevision=revision,
        hovermode="x unified",
    )  # fmt: skip
    figure.update_xaxes(gridcolor=palette.grid)
    figure.update_yaxes(gridcolor=palette.grid, zerolinecolor=palette.grid)
    readable(figure, palette)
    return figure


def _inks(towers: int, palette: Palette) -> Sequence[str]:
    return (palette.tower1, palette.tower2) if towers == 2 else palette.series


def share_figure(summaries: Sequence[Summary], palette: Palette, *, logarithmic: bool = False) -> go.Figure:
    """The share of activity that each LRN suppresses, in percent, over time."""
    figure = go.Figure()
    at = _time(figure, [one.step for one in summaries], logarithmic=logarithmic)
    names = sorted({name for one in summaries for name in one.suppressed})
    for name, ink in zip(names, _cycled(palette.series, len(names)), strict=True):
        shares = [one.suppressed[name].overall if name in one.suppressed else None for one in summaries]
        figure.add_scatter(
            x=at,
            y=[None if share is None else 100 * share for share in shares],
            name=name,
            mode="lines+markers",
            line={"color": ink, "width": 2},
            marker={"size": 4},
            customdata=[one.step for one in summaries],
            hovertemplate="step %{customdata:,}: %{y:.3g} %",
        )
    figure.update_layout(yaxis_title="suppressed, %", showlegend=True)
    figure.update_yaxes(rangemode="tozero")
    return _finished(figure, palette, 300, f"film_share {logarithmic}")


def _cycled(inks: Sequence[str], count: int) -> list[str]:
    return [inks[index % len(inks)] for index in range(count)]


def channels_figure(summaries: Sequence[Summary], norm: str, towers: int, palette: Palette) -> go.Figure:
    """The suppressed share of every channel of an LRN (downwards) at every moment (to the right), in percent.

    Moments stand evenly, whatever steps lie between them, so that the first ones are seen as well.
    """
    known = [one for one in summaries if norm in one.suppressed]
    figure = go.Figure()
    if known:
        shares = np.stack([100 * one.suppressed[norm].channels for one in known], axis=1)
        places = list(range(len(known)))
        figure.add_heatmap(
            z=shares,
            x=places,
            colorscale="Viridis",
            zmin=min(0.0, float(np.nanmin(shares))) if np.isfinite(shares).any() else 0.0,
            colorbar={"thickness": 9, "outlinewidth": 0, "title": "%", "nticks": 6},
            customdata=np.broadcast_to([one.step for one in known], shares.shape),
            hovertemplate="channel %{y}, step %{customdata:,}<br>%{z:.3g} % suppressed<extra></extra>",
        )
        ticks = sorted({round(place) for place in np.linspace(0, len(known) - 1, min(8, len(known)))})
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{known[tick].step:,}" for tick in ticks])
        count = len(shares)
        for border in range(count // towers, count if towers > 1 else 0, count // towers):
            figure.add_hline(y=border - 0.5, line={"color": "#ffffff", "width": 1.5, "dash": "dot"})  # on viridis
    figure.update_yaxes(autorange="reversed", title="channel", showgrid=False)
    figure.update_xaxes(title="step", showgrid=False)
    _finished(figure, palette, 420, f"film_channels_{norm}")
    figure.update_layout(hovermode="closest")
    return figure


def order_figure(
    summaries: Sequence[Summary],
    changes: Sequence[Change],
    names: Sequence[str],
    palette: Palette,
    *,
    logarithmic: bool = False,
    measures: Sequence[Measure] = MEASURES,
) -> go.Figure:
    """Order emerging from noise: a small chart for each of the measures, a line for each tower."""
    columns = 2 if len(measures) > 1 else 1
    rows = -(-len(measures) // columns)
    figure = make_subplots(
        rows=rows, cols=columns, shared_xaxes="all", subplot_titles=[HEADINGS[measure] for measure in measures],
        horizontal_spacing=0.09, vertical_spacing=0.13 if rows > 1 else 0,
    )  # fmt: skip
    at = _time(figure, [one.step for one in summaries], logarithmic=logarithmic)
    later = [max(one.step, _HALF) for one in changes]
    for place, measure in enumerate(measures):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for tower, (name, ink) in enumerate(zip(names, _cycled(_inks(len(names), palette), len(names)), strict=True)):
            if measure == "change":
                x, y = later, [one.per_step[tower] for one in changes]
                steps = [one.step for one in changes]
            else:
                x, y = at, [one.order[measure][tower] if one.towers else None for one in summaries]
                steps = [one.step for one in summaries]
            percent = measure in {"compact", "change"}
            figure.add_scatter(
                x=x,
                y=[None if value is None else 100 * value if percent else value for value in y],
                name=name,
                mode="lines",
                line={"color": ink, "width": 2},
                legendgroup=name,
                showlegend=place == 0 and len(names) > 1,
                customdata=steps,
                hovertemplate="step %{customdata:,}: %{y:.3g}" + " %" * percent,
                **where,
            )
        figure.update_yaxes(
            type="log" if measure == "change" else "linear",
            rangemode="normal" if measure == "change" else "tozero",
            exponentformat="power",
            ticksuffix=" %" if measure in {"compact", "change"} else "",
            **where,
        )
    # Only the lowest chart of each column says what its axis is; in an uneven grid that is not in the last row.
    for place in range(len(measures)):
        lowest = place + columns >= len(measures)
        figure.update_xaxes(
            title_text="step" if lowest else "",
            showticklabels=lowest,
            row=place // columns + 1,
            col=place % columns + 1,
        )
    _finished(figure, palette, 70 + 210 * rows, f"film_order {logarithmic}")
    figure.update_layout(margin={"t": 66}, hovermode="closest")
    return figure


def probability_figure(
    summaries: Sequence[Summary],
    chosen: Sequence[int],
    classes: Sequence[str],
    palette: Palette,
    *,
    logarithmic: bool = False,
) -> go.Figure:
    """What the network takes the probe picture for, in percent; its true class, where known, is a thicker line."""
    known = [one for one in summaries if one.probabilities is not None and len(one.probabilities) == len(classes)]
    figure = go.Figure()
    at = _time(figure, [one.step for one in known], logarithmic=logarithmic)
    for place, (index, ink) in enumerate(zip(chosen, _cycled(palette.series, len(chosen)), strict=True)):
        own = bool(known) and known[-1].label == index
        figure.add_scatter(
            x=at,
            y=[100 * float(one.probabilities[index]) for one in known if one.probabilities is not None],
            name=f"{classes[index]} (true)" if own else classes[index],
            mode="lines",
            line={"color": ink, "width": 4 if own else 2, "dash": "solid" if place < len(palette.series) else "dot"},
            customdata=[one.step for one in known],
            hovertemplate="step %{customdata:,}: %{y:.3g} %",
        )
    figure.update_layout(yaxis_title="probability, %", showlegend=True)
    figure.update_yaxes(range=[0, 100.5])
    return _finished(figure, palette, 320, f"film_probabilities {logarithmic}")


# --- the probe picture's maps ----------------------------------------------------------------------------------------


def before_after_svg(
    moment: Moment, norm: str, layer: LRN, *, count: int = 16, width: int = WIDTH, channels: Sequence[int] | None = None
) -> str:
    """Maps of the probe picture before an LRN and behind it, at one moment: the channels that answer most, or these.

    What comes out is divided by k^−β, and each channel has one scale for both, so that a darker map is a suppressed
    one.  A probe without maps from before shows those behind alone.  Tiles are ``data-item`` 0, 1, …: the channels
    before, then behind.
    """
    shown = tuple(channels) if channels is not None else strongest(moment, norm, count)
    rest = layer.k**-layer.beta if layer.k else 1.0
    after = np.asarray(moment.maps[norm], np.float32)[list(shown)] / rest
    before = np.asarray(moment.before[norm], np.float32)[list(shown)] if norm in moment.before else None
    both = after[None] if before is None else np.stack([before, after])
    both = np.nan_to_num(both, nan=0.0, posinf=0.0, neginf=0.0)
    # Side by side in one map each: so the two share a scale.
    sides, kinds, rows, columns = both.shape
    tiles = map_tiles(both.transpose(1, 2, 0, 3).reshape(kinds, rows, sides * columns))
    separate = tiles.reshape(kinds, rows, sides, columns, 3).transpose(2, 0, 1, 3, 4).reshape(-1, rows, columns, 3)
    names = ("behind, over k^−β",) if before is None else ("before", "behind, over k^−β")
    groups = tuple(
        Group(f"{norm}: {name}", tuple(range(side * kinds, (side + 1) * kinds))) for side, name in enumerate(names)
    )
    labels = [f"channel {channel} {name}" for name in names for channel in shown]
    sheet = Sheet(groups, 16, (rows, columns), gap=2)
    title = f"Maps of the probe picture around {norm} at step {moment.step:,}"
    return sheet_svg(separate, sheet, labels, title=title, width=width)
