"""The first page's own figure: how a training went, in one small picture.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from analysis.learning import places
from analysis.thinning import envelope, smoothed
from app.theme import readable

if TYPE_CHECKING:
    from analysis.curves import Curves
    from app.theme import Palette

_POINTS = 200


def learning_figure(curves: Curves, classes: int, palette: Palette) -> go.Figure:
    """Right answers on validation photographs, in percent with the level of guessing, above the training's loss.

    Both over epochs, or over steps where the records do not tell epochs.  The loss is smoothed over a hundred steps.
    """
    where, unit = places(curves, "epoch"), "epochs"
    if where is None:
        where, unit = (lambda steps: np.asarray(steps, np.float64)), "steps"
    val, train = curves.val, curves.train
    line = smoothed(train.step, train.loss, 100)
    drawn = envelope(train.step, line, _POINTS)
    tick = {"size": 12, "color": palette.text}
    axis = {"gridcolor": palette.grid, "zeroline": False, "tickfont": tick, "nticks": 4}
    figure = go.Figure(
        {
            "data": [
                {
                    "type": "scatter", "x": where(val.step), "y": 100 * val.top1, "mode": "lines", "name": "right",
                    "line": {"color": palette.series[4], "width": 2.5}, "yaxis": "y2",
                    "hovertemplate": "%{y:.1f} % right<extra></extra>",
                },
                {
                    "type": "scatter", "x": where(drawn.x), "y": drawn.y, "mode": "lines", "name": "loss",
                    "line": {"color": palette.series[3], "width": 2.5},
                    "hovertemplate": "loss %{y:.2f}<extra></extra>",
                },
            ],
            "layout": {
                "height": 300,
                "margin": {"l": 8, "r": 8, "t": 24, "b": 40},
                "showlegend": False,
                "hovermode": "x",
                "xaxis": axis | {"title": {"text": unit, "font": tick, "standoff": 6}, "anchor": "y"},
                "yaxis": axis | {"domain": [0, 0.36], "automargin": True},
                "yaxis2": axis | {"domain": [0.54, 1], "automargin": True, "rangemode": "tozero"},
                "shapes": [
                    {
                        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y2", "y0": 100 / classes,
                        "y1": 100 / classes, "line": {"width": 1.3, "dash": "dot", "color": palette.text},
                    }
                ],
                "annotations": [
                    _said("right answers on new photographs, %", 1),
                    _said("loss in training: how far off it is", 0.36),
                    {
                        "text": "guessing", "x": 1, "y": 100 / classes, "xref": "paper", "yref": "y2",
                        "xanchor": "right", "yanchor": "bottom", "showarrow": False,
                    },
                ],
            },
        }
    )  # fmt: skip
    readable(figure, palette)
    return figure


def _said(text: str, y: float) -> dict[str, object]:
    return {
        "text": text, "x": 0, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom",
        "showarrow": False,
    }  # fmt: skip
