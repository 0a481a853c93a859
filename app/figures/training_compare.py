"""One measure of several runs in one chart.  No Streamlit, no torch."""

from __future__ import annotations

import math
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from analysis.thinning import smoothed
from app.figures.chart import Chart, View, star
from app.figures.scene import Scene, when
from app.figures.training import DASHES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import plotly.graph_objects as go

    from analysis.curves import Curves
    from analysis.learning import Best
    from app.figures.chart import Trace
    from app.theme import Palette

Compared = Literal["val_top1", "val_topk", "val_loss", "train_top1", "train_loss", "learning_rate", "images_per_second"]
COMPARED: tuple[Compared, ...] = get_args(Compared)

_TITLES: dict[Compared, str] = {
    "val_top1": "validation top-1, %",
    "val_topk": "validation top-k, %",
    "val_loss": "validation loss, nats",
    "train_top1": "training top-1, %",
    "train_loss": "training loss, nats",
    "learning_rate": "learning rate",
    "images_per_second": "images/s",
}
_OF_VALIDATIONS = ("val_top1", "val_topk", "val_loss")
_DEFAULT = View()


def compare_figure(
    runs: Mapping[str, Curves],
    measure: Compared,
    palette: Palette,
    view: View = _DEFAULT,
    *,
    steps_per_epoch: Mapping[str, float] | None = None,
    parted: Mapping[str, int] | None = None,
) -> go.Figure:
    """The same measure of several runs, by the names under which they are shown; a star at the best validation of each.

    Eight runs differ in colour, and in dashes, too, for those who see colours alike; a ninth repeats the first colour
    with another dash.  What is measured in training is smooth over a faint band with every extreme.  `steps_per_epoch`
    is each run's; a run that has no place on the axis yet is named and not drawn.  `parted` are the steps up to which
    runs have the past of another one that is drawn: their lines begin there.
    """
    smooth = ", smoothed" if view.half_life > 0 and measure not in _OF_VALIDATIONS else ""
    chart = Chart(palette, view, _TITLES[measure] + smooth)
    for number, (name, curves) in enumerate(runs.items()):
        own = view if name not in (parted or {}) else replace(view, span=((parted or {})[name], math.inf))
        scene = Scene(curves, replace(own, steps_per_epoch=(steps_per_epoch or {}).get(name)), palette)
        colour = palette.series[number % len(palette.series)]
        dash = DASHES[(number + number // len(palette.series)) % len(DASHES)]
        if scene.axis != view.axis:
            words = {"name": f"{name} (no place on this axis yet)", "line": {"color": colour, "dash": dash}}
            chart.add([{"type": "scatter", "mode": "lines", "x": [None], "y": [None]} | words])
            continue
        if own.span is not None:
            chart.vertical(float(scene.x([int(own.span[0])])[0]), color=colour)
        if measure in _OF_VALIDATIONS:
            chart.add(_of_validations(scene, measure, name, colour, dash))
        else:
            chart.add(_of_steps(scene, measure, name, colour, dash))
    return chart.figure()


def _of_validations(scene: Scene, measure: Compared, name: str, colour: str, dash: str) -> list[Trace]:
    val = scene.curves.val
    values = {"val_top1": 100 * val.top1, "val_topk": 100 * val.topk, "val_loss": val.loss}[measure]
    number = ".4g" if measure == "val_loss" else ".1f"
    line = scene.val_trace(values, name=escape(name), colour=colour, number=number, dash=dash)
    if scene.best is None:
        return [line]
    return [line | {"legendgroup": name}, _star(scene, scene.best, float(values[scene.best.index]), name, colour)]


def _of_steps(scene: Scene, measure: Compared, name: str, colour: str, dash: str) -> list[Trace]:
    train = scene.curves.train
    values = {
        "train_top1": 100 * train.top1,
        "train_loss": train.loss,
        "learning_rate": train.learning_rate,
        "images_per_second": train.images_per_second,
    }[measure]
    traces = scene.train_traces(
        train.step, values, name=escape(name), colour=colour, dash=dash, opacity=0.1, plain=True
    )
    at = 0 if scene.best is None else int(np.searchsorted(train.step, scene.best.step, side="right"))
    if scene.best and at:
        line = smoothed(train.step[:at], values[:at], scene.view.half_life)
        traces.append(_star(scene, scene.best, float(line[-1]), name, colour))
    return traces


def _star(scene: Scene, found: Best, y: float, name: str, colour: str) -> Trace:
    return scene.star_at(found, y) | {
        "name": f"{name}, best",
        "legendgroup": name,
        "showlegend": False,
        "marker": star(colour, scene.palette),
        "hovertemplate": f"{name}, best: {100 * found.top1:.1f} % top-1, {when(found)}<extra></extra>",
    }
