"""A training's curves: loss, accuracy, learning rate, speed, classes and layers.  No Streamlit, no torch.

Every figure takes what has been read of a run, in whatever state that is, and a `View`; a run without records gives a
figure that says so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from analysis.learning import relative_updates
from analysis.learning_tables import class_names
from analysis.thinning import envelope
from app.figures.chart import Chart, View, drops_far, faint
from app.figures.scene import Scene, when

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go

    from analysis.curves import Curves, Floats, Steps
    from analysis.thinning import Values
    from app.theme import Palette

Measure = Literal["gradients", "weights", "updates"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
Part = Literal["weight", "bias"]

DASHES = ("solid", "dash", "dot", "dashdot")
_LOW = 260  # pixels, of charts with one curve
_MOST_VALIDATIONS = 400
_DEFAULT = View()


def loss_figure(curves: Curves, palette: Palette, view: View = _DEFAULT, *, classes: int | None = None) -> go.Figure:
    """Training and validation loss, the best validation marked, and the loss of knowing nothing, ln(classes).

    `classes` is taken from the validations where it is not given.  Of a span of steps, chance is drawn only where the
    curves get there: a line far above would press them flat.
    """
    scene, train = Scene(curves, view, palette), curves.train
    chart = scene.chart("loss, nats")
    chart.add(scene.train_traces(train.step, train.loss, name="train", colour=palette.series[3]))
    chart.add([scene.val_trace(curves.val.loss, name="validation", colour=palette.series[4])])
    scene.mark_best(chart, None if scene.best is None else scene.best.loss)
    classes = classes or curves.classes or 1
    chance = math.log(classes)
    if chance > 0 and (view.span is None or chart.reaches(chance)):
        chart.level(chance, f"chance, ln({classes}) = {chance:.3f}")
    scene.say_left_out(chart)
    return chart.figure()


def accuracy_figure(
    curves: Curves, palette: Palette, view: View = _DEFAULT, *, classes: int | None = None
) -> go.Figure:
    """Right answers in percent: in training, and at validations the first and among the first few.

    Never logarithmic.  `classes` is taken from the validations where it is not given.
    """
    scene, train, val = Scene(curves, replace(view, log=False), palette), curves.train, curves.val
    chart = scene.chart("right answers, %")
    chart.add(
        scene.train_traces(train.step, 100 * train.top1, name="train top-1", colour=palette.series[3], number=".1f")
    )
    for values, name, colour, dash in (
        (val.top1, "validation top-1", palette.series[4], "solid"),
        (val.topk, f"validation top-{val.k}", palette.series[5], "dot"),
    ):
        chart.add([scene.val_trace(100 * values, name=name, colour=colour, number=".1f", dash=dash)])
    scene.mark_best(chart, None if scene.best is None else 100 * scene.best.top1)
    classes = classes or curves.classes or 1
    if classes > 1:
        chart.level(100 / classes, f"chance, 1/{classes} = {100 / classes:.3g} %")
    scene.say_left_out(chart)
    return chart.figure(yaxis={"rangemode": "tozero"})


def rate_figure(curves: Curves, palette: Palette, view: View = _DEFAULT) -> go.Figure:
    """The learning rate as it was; on a logarithmic scale where it was divided by ten or more."""
    steps, rates = curves.train.step, curves.train.learning_rate
    log = drops_far(rates)
    scene = Scene(curves, replace(view, half_life=0.0, log=log), palette)
    chart = scene.chart("learning rate", height=_LOW)
    drawable = np.where(rates > 0, rates, np.nan) if log else rates
    chart.add(scene.train_traces(steps, drawable, name="learning rate", colour=palette.series[1]))
    return chart.figure(showlegend=False)


def speed_figure(curves: Curves, palette: Palette, view: View = _DEFAULT, *, limit: float | None = None) -> go.Figure:
    """Training pictures a second, validations left out; `limit` is what the machine was measured to reach.

    The hover also says which share of the time the training waited for pictures.
    """
    scene, train = Scene(curves, replace(view, log=False), palette), curves.train
    chart = scene.chart("images/s", height=_LOW)

    def waited(record: int) -> str:
        share = float(train.waited_share[record])
        return "" if math.isnan(share) else f", {100 * share:.1f} % waiting for pictures"

    chart.add(
        scene.train_traces(
            train.step, train.images_per_second, name="images/s", colour=palette.series[0], number=".0f", also=waited
        )
    )
    if limit is not None and limit > 0:
        chart.horizontal(limit, name=f"measured limit: {limit:,.0f} images/s", showlegend=True)
    scene.say_left_out(chart)
    return chart.figure(yaxis={"rangemode": "tozero"})


# --- classes ----------------------------------------------------------------------------------------------------------


def classes_figure(
    curves: Curves, palette: Palette, view: View = _DEFAULT, *, names: Sequence[str] | None = None
) -> go.Figure:
    """Each class's share of right answers, a row each, a column for every validation; the best is marked.

    A class without pictures is left blank.  Of very many validations evenly spread ones are drawn, the best and the
    first and last among them.
    """
    scene, val = Scene(curves, replace(view, log=False), palette), curves.val
    labels = class_names(curves, names)
    chart = scene.chart("", height=min(110 + max(18 * len(labels), 60), 900))
    at = np.flatnonzero(scene.shown(val.step)) if labels else np.empty(0, np.int64)
    if len(at) > _MOST_VALIDATIONS:
        spread = at[np.linspace(0, len(at) - 1, _MOST_VALIDATIONS).astype(int)]
        at = np.union1d(spread, at[at == scene.best.index] if scene.best else at[:0])
    chart.add(
        [
            {
                "type": "heatmap",
                "x": scene.x(val.step[at]),
                "y": labels,
                "z": 100 * val.per_class[at].T,
                "text": [[f"step {step:,}" for step in val.step[at].tolist()]] * len(labels),
                "colorscale": "Viridis",
                "zmin": 0,
                "zmax": 100,
                "colorbar": {
                    "thickness": 9, "outlinewidth": 0, "nticks": 5, "xpad": 4, "ticksuffix": " %",
                    "tickfont": {"color": palette.text},
                },
                "hovertemplate": "<b>%{y}</b>, %{text}: %{z:.1f} %<extra></extra>",
            }
        ]
    )  # fmt: skip
    if scene.best and scene.best.index in at:
        place = float(scene.x([scene.best.step])[0])
        chart.vertical(place)
        chart.say(f"★ best, {when(scene.best)}", x=place, xref="x", xanchor="auto", y=1, yanchor="bottom")
    return chart.figure(
        xaxis={"showgrid": False},
        yaxis={"type": "category", "autorange": "reversed", "showgrid": False, "uirevision": "classes"},
        hovermode="closest",
    )


# --- layers -----------------------------------------------------------------------------------------------------------

_MEASURE_TITLES: dict[Measure, str] = {
    "gradients": "gradient, ‖g‖",
    "weights": "weights, ‖w‖",
    "updates": "relative update, ε·‖g‖ / ‖w‖",
}


def layers_figure(
    curves: Curves, palette: Palette, view: View = _DEFAULT, *, measure: Measure = "gradients", part: Part = "weight"
) -> go.Figure:
    """The norm of each layer's gradient or weights, or how far a step moves them; always logarithmic.

    A colour for each layer, the same in all three measures; `part` takes the weights or the biases.
    """
    scene = Scene(curves, replace(view, half_life=0.0, log=True), palette)
    chart = scene.chart(_MEASURE_TITLES[measure] if part == "weight" else f"{_MEASURE_TITLES[measure]} of biases")
    names = [name for name in curves.weights if name.rpartition(".")[2] == part]
    found = _measured(curves, measure)
    for number, name in enumerate(names):
        steps, values = found.get(name, (np.empty(0, np.int64), np.empty(0)))
        label = name.rpartition(".")[0]
        drawn = envelope(steps, np.where(values > 0, values, np.nan), span=view.span)
        scene.left_out += drawn.left_out
        look = {
            "width": 1.8,
            "color": palette.series[number % len(palette.series)],
            "dash": DASHES[number // len(palette.series) % len(DASHES)],
        }
        chart.add(
            [
                {
                    "type": "scatter",
                    "x": scene.x(drawn.x),
                    "y": drawn.y,
                    "name": label,
                    "mode": "lines" if len(drawn.x) > 1 else "markers",
                    "line": look,
                    "hovertemplate": f"{label} %{{y:.3g}}<extra></extra>",
                }
            ]
        )
    scene.say_left_out(chart)
    return chart.figure()


def _measured(curves: Curves, measure: Measure) -> Mapping[str, tuple[Steps, Floats]]:
    if measure == "updates":
        return relative_updates(curves)
    source = curves.gradients if measure == "gradients" else curves.weights
    return {name: (found.step, found.norm) for name, found in source.items()}


# --- a schedule -------------------------------------------------------------------------------------------------------


def schedule_figure(steps: Values, rates: Values, palette: Palette, *, steps_per_epoch: float) -> go.Figure:
    """The learning rate that a recipe will have, over epochs; logarithmic where it is divided by ten or more.

    Raises:
        ValueError: `steps_per_epoch` is not above 0.
    """
    if not steps_per_epoch > 0:
        raise ValueError(f"an epoch has at least one step, got {steps_per_epoch}")
    rates = np.asarray(rates, np.float64)
    log = drops_far(rates)
    drawn = envelope(steps, np.where(rates > 0, rates, np.nan) if log else rates)
    chart = Chart(palette, View("epoch", log=log), "learning rate", height=_LOW)
    chart.add(
        [
            {
                "type": "scatter",
                "x": np.asarray(drawn.x, np.float64) / steps_per_epoch,
                "y": drawn.y,
                "mode": "lines",
                "line": {"width": 2, "color": palette.series[1]},
                "fill": "none" if log else "tozeroy",
                "fillcolor": faint(palette.series[1], 0.15),
                "customdata": drawn.x,
                "hovertemplate": "%{y:.3g} at step %{customdata:,}<extra></extra>",
            }
        ]
    )
    return chart.figure(yaxis={} if log else {"rangemode": "tozero"}, showlegend=False)
