"""What each part gives: its cost in error, seed by seed, and the curves behind it.  No Streamlit, no torch."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Literal, get_args

import plotly.graph_objects as go

from alexnet.ablation import BASELINE, VARIANTS
from analysis.ablation import PUBLISHED, REACHES, differences, effect
from analysis.ablation_tables import interval_text, points
from analysis.formats import number_text, percent
from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.ablation import Ablation, Effect, Outcome, Variant
    from app.theme import Palette

    Trace = dict[str, Any]

Measure = Literal["validation", "training"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

_LEGEND = {"orientation": "h", "y": 1.0, "yanchor": "top", "yref": "container", "x": 0}
_DASHES = ("solid", "dash", "dot", "dashdot")
_INKS = (3, 4, 1, 0)  # of the palette's series: far apart in both themes
_ABOVE, _BELOW = -0.24, 0.26  # of a row's line: where its seeds stand, and what was published
_FEW = 8  # points of a curve up to which they are marked


# --- the cost ---------------------------------------------------------------------------------------------------------


def cost_figure(found: Ablation, palette: Palette) -> go.Figure:
    """How many points more of top-1 error each change makes: a dot a seed, mean with its interval, what was published.

    A change that shares no seed with the baseline has no row; without any the figure says so.
    """
    rows = [(one.name, cost) for one in found.variants if one.name != BASELINE and (cost := effect(found, one.name))]
    traces = [_seeds(found, rows, palette), _means(rows, palette), *_published(rows, palette)]
    layout: dict[str, Any] = {
        "height": 130 + 92 * max(len(rows), 1),
        "margin": {"l": 10, "r": 16, "t": 62, "b": 44},
        "legend": _LEGEND,
        "hovermode": "closest",
        "xaxis": {
            "title": {"text": "top-1 error above the baseline's, points"},
            "showgrid": True,
            "gridcolor": palette.grid,
            "zeroline": True,
            "zerolinecolor": palette.text,
            "zerolinewidth": 1.5,
            "rangemode": "tozero",
            "nticks": 9,
        },
        "yaxis": {
            "tickvals": list(range(len(rows))),
            "ticktext": [_heading(name, cost) for name, cost in rows],
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        },
    }
    if not rows:
        traces, words = [], "no seed was trained with and without a part"
        layout["annotations"] = [
            {"text": words, "x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False}
        ]
        for axis in ("xaxis", "yaxis"):
            layout[axis]["visible"] = False
    figure = go.Figure({"data": traces, "layout": layout})
    readable(figure, palette)
    return figure


def _heading(name: str, cost: Effect) -> str:
    half = "one seed" if cost.half is None else f"± {100 * cost.half:.2f}"
    return f"{PUBLISHED[name].title.replace(' (', '<br>(')}<br><b>{points(cost.mean)}</b> {half}"


def _seeds(found: Ablation, rows: Sequence[tuple[str, Effect]], palette: Palette) -> Trace:
    each = [(at, seed, apart) for at, (name, _) in enumerate(rows) for seed, apart in differences(found, name).items()]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "a seed",
        "x": [100 * apart for _, _, apart in each],
        "y": [at + _ABOVE for at, _, _ in each],
        "marker": {"symbol": "circle-open", "size": 9, "color": palette.series[3], "line": {"width": 2}},
        "customdata": [[seed, points(apart)] for _, seed, apart in each],
        "hovertemplate": "seed %{customdata[0]}: %{customdata[1]} points<extra></extra>",
    }


def _means(rows: Sequence[tuple[str, Effect]], palette: Palette) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "mean, 95 % interval",
        "x": [100 * cost.mean for _, cost in rows],
        "y": list(range(len(rows))),
        "error_x": {
            "array": [100 * (cost.half or 0.0) for _, cost in rows],
            "color": palette.text,
            "thickness": 2,
            "width": 7,
        },
        "marker": {"symbol": "square", "size": 11, "color": palette.text},
        "customdata": [
            [points(cost.mean), interval_text(cost) or "one seed: nothing is known of the spread"] for _, cost in rows
        ],
        "hovertemplate": "mean %{customdata[0]} points<br>%{customdata[1]}<extra></extra>",
    }


def _published(rows: Sequence[tuple[str, Effect]], palette: Palette) -> list[Trace]:
    """The paper's figures, where it printed one; the legend names every source."""
    each = [(at, share, PUBLISHED[name].source) for at, (name, _) in enumerate(rows) if (share := PUBLISHED[name].top1)]
    if not each:
        return []
    papers: dict[str, list[str]] = {}
    for _, _, source in each:
        paper, _, section = source.partition(", ")
        papers.setdefault(paper, []).append(section)
    sources = "; ".join(f"{paper}, {' and '.join(sections)}" for paper, sections in papers.items())
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": f"published: {sources}",
            "x": [100 * share for _, share, _ in each],
            "y": [at + _BELOW for at, _, _ in each],
            "marker": {
                "symbol": "diamond",
                "size": 13,
                "color": palette.series[2],
                "line": {"width": 1, "color": palette.text},
            },
            "customdata": [[points(share), source] for _, share, source in each],
            "hovertemplate": "published: %{customdata[0]} points, on ILSVRC-2012<br>%{customdata[1]}<extra></extra>",
        }
    ]  # fmt: skip


# --- the curves -------------------------------------------------------------------------------------------------------


def curves_figure(found: Ablation, measure: Measure, palette: Palette, *, late: bool = False) -> go.Figure:
    """Validation or training error over epochs: a thin line a seed, and each variant's mean as a thick one.

    The training error has the line of 25 % that the paper's figure 1 asks for.  `late` shows the second half of the
    longest run's epochs alone.
    """
    order = list(VARIANTS)
    traces: list[Trace] = []
    for one in found.variants:
        number = order.index(one.name)
        ink = palette.series[_INKS[number]]
        traces += [_thin(one, run, measure, ink) for run in one.runs]
        traces.append(_thick(one, measure, ink, _DASHES[number]))
    layout: dict[str, Any] = {
        "height": 400,
        "margin": {"l": 10, "r": 16, "t": 44, "b": 44},
        "legend": _LEGEND,
        "hovermode": "closest",
        "xaxis": {"title": {"text": "epochs"}, "gridcolor": palette.grid, "zeroline": False, "rangemode": "tozero"},
        "yaxis": {
            "title": {"text": f"top-1 error in {measure}, %"},
            "gridcolor": palette.grid,
            "zeroline": False,
            "automargin": True,
        },
    }
    if late:
        middle = found.epochs / 2
        low, high = _reach(found, measure, middle)
        layout["xaxis"] |= {"range": [middle, found.epochs]}
        layout["yaxis"] |= {"range": [low, high]}
    if measure == "training":
        level, line = 100 * REACHES, {"width": 1.5, "dash": "dash", "color": palette.text}
        layout["yaxis"] |= {} if late else {"rangemode": "tozero"}
        layout["shapes"] = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level, "line": line}]
        layout["annotations"] = [
            {
                "text": f"{percent(REACHES, 0)}, as in figure 1", "xref": "paper", "x": 1, "y": level,
                "xanchor": "right", "yanchor": "bottom", "showarrow": False,
            }
        ]  # fmt: skip
    figure = go.Figure({"data": traces, "layout": layout})
    readable(figure, palette)
    return figure


def _reach(found: Ablation, measure: Measure, start: float) -> tuple[float, float]:
    """From which to which error anything is from these epochs on, and a little more."""
    values = [
        value
        for run in found.runs
        for epoch, value in zip(run.epochs, _errors(run, measure), strict=True)
        if value is not None and epoch >= start
    ]
    low, high = min(values, default=0.0), max(values, default=100.0)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)


def _errors(run: Outcome, measure: Measure) -> list[float | None]:
    shares = run.top1 if measure == "validation" else run.train_top1
    return [None if share is None else 100 * (1 - share) for share in shares]


def _thin(one: Variant, run: Outcome, measure: Measure, ink: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{one.name}, seed {run.seed}",
        "legendgroup": one.name,
        "showlegend": False,
        "x": list(run.epochs),
        "y": _errors(run, measure),
        "line": {"color": ink, "width": 1},
        "opacity": 0.55,
        "hovertemplate": f"{one.name}, seed {run.seed}<br>%{{x:.3~g}} epochs: %{{y:.2f}} %<extra></extra>",
    }


def _thick(one: Variant, measure: Measure, ink: str, dash: str) -> Trace:
    """The mean over all seeds, at the epochs where every one of them was measured."""
    each = [dict(zip(run.epochs, _errors(run, measure), strict=True)) for run in one.runs]
    x, y = [], []
    for epoch in each[0]:
        values = [value for errors in each if (value := errors.get(epoch)) is not None]
        if len(values) == len(each):
            x.append(epoch)
            y.append(statistics.fmean(values))
    seeds = f"{len(each)} seeds" if len(each) > 1 else "1 seed"
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(x) <= _FEW else "lines",
        "name": f"{one.name} ({seeds})",
        "legendgroup": one.name,
        "x": x,
        "y": y,
        "line": {"color": ink, "width": 3, "dash": dash},
        "hovertemplate": f"{one.name}, mean of {seeds}<br>%{{x:.3~g}} epochs: %{{y:.2f}} %<extra></extra>",
    }


def curves_words(found: Ablation, measure: Measure) -> str:
    """What is drawn, for those who cannot see it: where each variant's mean ends."""
    lasts = {
        one.name: [value for run in one.runs if (value := _errors(run, measure)[-1]) is not None]
        for one in found.variants
    }
    ends = [f"{name} at {number_text(statistics.fmean(last), 3)} %" for name, last in lasts.items() if last]
    return f"Top-1 error in {measure} over the epochs, ending: {', '.join(ends) or 'nowhere'}"
