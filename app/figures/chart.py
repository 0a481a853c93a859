"""The frame of a training's charts: legend above, one hover for all curves, axes, words and lines.  No Streamlit.

Written down as one dictionary: building it call by call takes Plotly 40 ms, which a page that is redrawn every few
seconds would take from the training beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

if TYPE_CHECKING:
    from collections.abc import Iterable

    from analysis.learning import Axis
    from analysis.thinning import Values
    from app.theme import Palette

    Trace = dict[str, Any]

HEIGHT = 340
_SIZE = 12
_TITLES = {"step": "step", "epoch": "epochs", "time": "hours of training, pauses left out"}
_HEADS = {"step": "step %{x:,.0f}", "epoch": "%{x:.2f} epochs", "time": "%{x:.3f} hours"}


@dataclass(frozen=True, slots=True)
class View:
    """How curves are looked at: along which axis, how smooth (half-life in steps, 0: not at all), with y logarithmic.

    `span` shows the steps from one to another, both included.  `steps_per_epoch` gives a run an axis of epochs before
    its first epoch has ended.
    """

    axis: Axis = "step"
    half_life: float = 0.0
    log: bool = False
    span: tuple[float, float] | None = None
    steps_per_epoch: float | None = None


class Chart:
    """Traces, lines and words, and what makes one figure of them.

    The figure's `uirevision` is always the same, so that a redraw keeps the reader's zoom; another axis or scale is
    another picture, whose range begins anew.
    """

    def __init__(self, palette: Palette, view: View, title: str, *, height: int = HEIGHT) -> None:
        """`title` is that of y, with its unit."""
        self.palette, self.view, self._title, self._height = palette, view, title, height
        self._traces: list[Trace] = []
        self._shapes: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, traces: Iterable[Trace]) -> None:
        self._traces += traces

    def say(self, text: str, **place: Any) -> None:
        """Words on the plot, at a place in it from 0 to 1 or, with `xref` or `yref`, on an axis."""
        where = {"xref": "paper", "yref": "paper", "showarrow": False, "font": self._font()}
        self._annotations.append({"text": text} | where | place)

    def vertical(self, x: float, **line: Any) -> None:
        """A thin line through the whole height; dotted unless `line` says otherwise."""
        look = {"width": 1, "dash": "dot", "color": self.palette.text} | line
        self._shapes.append({"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain", "line": look})

    def horizontal(self, y: float, **named: Any) -> None:
        """A dotted line across."""
        look = {"width": 1.3, "dash": "dot", "color": self.palette.text}
        self._shapes.append(
            {"type": "line", "y0": y, "y1": y, "x0": 0, "x1": 1, "xref": "x domain", "line": look} | named
        )

    def level(self, y: float, text: str) -> None:
        """A dotted line across, with its name on it where curves seldom are: before the middle."""
        self.horizontal(y)
        # Lines are placed by value on every axis, words on a logarithmic one by its logarithm.
        self.say(text, x=0.4, y=math.log10(y) if self.view.log else y, yref="y", yanchor="bottom")

    def reaches(self, y: float) -> bool:
        """Whether something drawn is as high."""
        return any((values >= y).any() for values in self._finite())

    @property
    def is_empty(self) -> bool:
        """Whether there is no point at all."""
        return not any(len(trace["x"]) for trace in self._traces)

    def figure(
        self, *, xaxis: dict[str, Any] | None = None, yaxis: dict[str, Any] | None = None, **layout: Any
    ) -> go.Figure:
        """The figure, with these things otherwise; where there is nothing to draw it says so."""
        axes = self._xaxis() | (xaxis or {}), self._yaxis() | (yaxis or {})
        if self.is_empty:
            self.say("nothing recorded here yet", x=0.5, y=0.5)
            axes = axes[0] | {"showticklabels": False}, axes[1] | {"showticklabels": False}
            layout["showlegend"] = False
        return go.Figure(
            {
                "data": self._traces,
                "layout": {
                    "height": self._height,
                    "margin": {"l": 10, "r": 16, "t": 30, "b": 44},
                    "legend": {
                        "orientation": "h", "x": 0, "xanchor": "left", "y": 1.03, "yanchor": "bottom",
                        "traceorder": "normal", "font": self._font(),
                    },
                    "hovermode": "x unified",
                    "hoverlabel": {"namelength": -1},
                    "uirevision": "training",
                    "xaxis": axes[0],
                    "yaxis": axes[1],
                    "shapes": self._shapes,
                    "annotations": self._annotations,
                }
                | layout,
            }
        )  # fmt: skip

    def _font(self) -> dict[str, Any]:
        return {"size": _SIZE, "color": self.palette.text}

    def _xaxis(self) -> dict[str, Any]:
        return {
            "title": {"text": _TITLES[self.view.axis], "font": self._font()},
            "tickfont": self._font(),
            "unifiedhovertitle": {"text": _HEADS[self.view.axis]},
            "tickformat": "," if self.view.axis == "step" else "",
            "gridcolor": self.palette.grid,
            "zeroline": False,
            "uirevision": f"{self.view.axis} {self.view.span}",
        }

    def _yaxis(self) -> dict[str, Any]:
        scale = "log" if self.view.log else "linear"
        axis = {
            "title": {"text": self._title, "font": self._font()},
            "tickfont": self._font(),
            "type": scale,
            "uirevision": scale,
            "gridcolor": self.palette.grid,
            "zeroline": False,
            "automargin": True,
        }
        if self.view.log:
            decades = self._decades()
            # Over more than one decade Plotly puts a tick at every digit, one over the other, unless asked for few.
            axis |= {"nticks": 6 if decades < 1 or decades > 3 else 3, "tickformat": ".0e" if decades > 3 else "~g"}
        return axis

    def _finite(self) -> list[Values]:
        values = [np.asarray(trace["y"], np.float64) for trace in self._traces]
        return [one[np.isfinite(one)] for one in values]

    def _decades(self) -> float:
        """How many powers of ten the curves span."""
        values = np.concatenate([np.empty(0), *self._finite()])
        positive = values[values > 0]
        return math.log10(positive.max() / positive.min()) if positive.size else 0.0


def star(colour: str, palette: Palette) -> dict[str, Any]:
    """The marker of a best validation."""
    return {"symbol": "star", "size": 14, "color": colour, "line": {"width": 1, "color": palette.text}}


def drops_far(values: Values) -> bool:
    """Whether a rate drops in steps to less than a tenth, as when it is divided by 10: a linear axis would hide those.

    One that glides down to nothing, like a cosine, is best seen on a linear axis, where its shape is.
    """
    known = values[np.isfinite(values) & (values > 0)]
    if not known.size or float(known.max()) < 10 * float(known[int(np.argmax(known)) :].min()):
        return False
    changes = np.diff(known[int(np.argmax(known)) :])
    return int(np.count_nonzero(changes)) <= _MOST_DROPS


_MOST_DROPS = 20


def faint(colour: str, opacity: float) -> str:
    """A hex colour as seen through."""
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
