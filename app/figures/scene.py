"""One run's curves as traces: bands, smooth lines, validations, the best of them.  No Streamlit, no torch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.learning import best, pauses, places
from analysis.thinning import BUCKETS, band, envelope, smoothed
from app.figures.chart import HEIGHT, Chart, faint, star

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from analysis.curves import Curves, Floats
    from analysis.learning import Axis, Best
    from analysis.thinning import Band, Values
    from app.figures.chart import Trace, View
    from app.theme import Palette

_PAUSES = 40
"""So many pauses are drawn; more would be a fence."""


class Scene:
    """One run seen in one way: where its steps are on the axis, and the traces of its curves."""

    def __init__(self, curves: Curves, view: View, palette: Palette) -> None:
        """Where the records do not tell epochs or hours yet, the axis is that of steps."""
        self._places = places(curves, view.axis, view.steps_per_epoch)
        self.axis: Axis = "step" if self._places is None else view.axis
        self.curves, self.view, self.palette = curves, replace(view, axis=self.axis), palette
        self.best = best(curves)
        self.left_out = 0
        """Records so far that could not be drawn."""

    def x(self, steps: Values | Sequence[int]) -> Floats:
        """Places of steps on the axis."""
        plain = np.asarray(steps, np.float64)
        return plain if self._places is None else self._places(plain)

    def shown(self, steps: Values | Sequence[int]) -> Values:
        """Which of the steps are in the view's span."""
        low, high = self.view.span or (-math.inf, math.inf)
        return (np.asarray(steps) >= low) & (np.asarray(steps) <= high)

    def chart(self, title: str, *, height: int = HEIGHT) -> Chart:
        """An empty chart for this scene; `title` is that of y.  On an axis of hours it has a line at each pause."""
        chart = Chart(self.palette, self.view, title, height=height)
        if self.axis == "time":
            shown = [pause.step for pause in pauses(self.curves)[-_PAUSES:] if self.shown([pause.step])[0]]
            for place in self.x(shown).tolist():
                chart.vertical(place, dash="solid", color=self.palette.grid, width=1.5)
        return chart

    def say_left_out(self, chart: Chart) -> None:
        """Says on the chart how many records could not be drawn, where there are any."""
        if self.left_out and not chart.is_empty:
            records = "1 record has" if self.left_out == 1 else f"{self.left_out:,} records have"
            chart.say(f"{records} no finite value here", x=1, y=0, xanchor="right", yanchor="bottom")

    # --- traces ------------------------------------------------------------------------------------------------------

    def train_traces(
        self,
        steps: Values,
        y: Values,
        *,
        name: str,
        colour: str,
        number: str = ".4g",
        also: Callable[[int], str] = lambda _record: "",
        dash: str = "solid",
        opacity: float = 0.22,
        plain: bool = False,
    ) -> list[Trace]:
        """A band from the least to the largest value of each few pixels, and the smooth line over it.

        So smoothing takes nothing away: every extreme of the records is an edge of the band.  Without smoothing the
        line itself has every extreme.  `number` is how the hover prints values, what `also` gives for a
        record is added to it.  A `plain` legend has the name alone.
        """
        smooth = self.view.half_life > 0
        span, line = band(steps, y, BUCKETS, self.view.span), smoothed(steps, y, self.view.half_life)
        drawn = envelope(steps, line, BUCKETS, self.view.span)
        self.left_out += span.left_out
        x = self.x(span.x)
        edge = {
            "type": "scatter", "x": x, "mode": "lines", "legendgroup": name,
            "line": {"width": 1, "color": faint(colour, 2 * opacity)},
        }  # fmt: skip
        low = {"y": span.low, "name": f"{name}, low", "showlegend": False, "hoverinfo": "skip"}
        high = {
            "y": span.high,
            "name": f"{name}, range",
            "fill": "tonexty",
            "fillcolor": faint(colour, opacity),
            "showlegend": smooth and not plain,
            "text": self._read_out(span, steps, line, number, also),
            "hovertemplate": f"{name} %{{text}}<extra></extra>",
        }
        over = {
            "type": "scatter",
            "x": self.x(drawn.x),
            "y": drawn.y,
            "name": f"{name}, smoothed" if smooth and not plain else name,
            "mode": "lines",
            "line": {"width": 2 if smooth else 1.3, "color": colour, "dash": dash},
            "legendgroup": name,
            "hoverinfo": "skip",
        }
        return [edge | low, edge | high, over]

    def _read_out(self, found: Band, steps: Values, line: Floats, number: str, also: Callable[[int], str]) -> list[str]:
        """What the hover says of each bucket: the line in its middle, and its range."""
        values, lows, highs = (one.tolist() for one in (line[found.index], found.low, found.high))
        places = self._steps_of(steps[found.index])
        return [
            f"{value:{number}}{'' if low == high else f' (from {low:{number}} to {high:{number}})'}{place}{also(at)}"
            for value, low, high, place, at in zip(values, lows, highs, places, found.index.tolist(), strict=True)
        ]

    def _steps_of(self, steps: Values) -> list[str]:
        """What a hover adds to each place: the step, where the axis is another."""
        return [""] * len(steps) if self.axis == "step" else [f", step {step:,}" for step in steps.tolist()]

    def val_trace(self, y: Floats, *, name: str, colour: str, number: str = ".4g", dash: str = "solid") -> Trace:
        """The validations as points on a line; those that are not finite leave a gap."""
        val = self.curves.val
        at = np.flatnonzero(self.shown(val.step))
        epochs = ["" if math.isnan(epoch) else f" after epoch {epoch + 1:.0f}" for epoch in val.epoch[at].tolist()]
        return {
            "type": "scatter",
            "x": self.x(val.step[at]),
            "y": np.where(np.isfinite(y[at]), y[at], np.nan),
            "name": name,
            "mode": "lines+markers",
            "line": {"width": 1.8, "color": colour, "dash": dash},
            "marker": {"size": 5 if len(at) <= 150 else 3, "color": colour},
            "text": [epoch + step for epoch, step in zip(epochs, self._steps_of(val.step[at]), strict=True)],
            "hovertemplate": f"{name} %{{y:{number}}}%{{text}}<extra></extra>",
        }

    # --- the best ----------------------------------------------------------------------------------------------------

    def mark_best(self, chart: Chart, y: float | None) -> None:
        """A line at the best validation through the whole height, and a star at `y` where that can be drawn.

        What it is stands in the legend, where no zoom can lose it.
        """
        found = self.best
        if found is None:
            return
        drawn = self.star_at(found, y)
        words = {"name": f"best: {100 * found.top1:.1f} % top-1, {when(found)}", "hoverinfo": "skip"}
        chart.add([drawn | {"marker": star(self.palette.series[2], self.palette)} | words])
        if self.shown([found.step])[0]:
            chart.vertical(float(self.x([found.step])[0]))

    def star_at(self, found: Best, y: float | None) -> Trace:
        """A star where the best validation is, at `y`; without a place where it cannot be drawn or is not in view."""
        drawn = bool(self.shown([found.step])[0]) and y is not None and math.isfinite(y)
        if not drawn or (self.view.log and y is not None and y <= 0):
            # Plotly leaves a trace without points out of the legend.
            place: dict[str, Any] = {"x": [None], "y": [None]}
        else:
            place = {"x": self.x([found.step]), "y": [y]}
        return place | {"type": "scatter", "mode": "markers", "cliponaxis": False}


def when(found: Best) -> str:
    """A validation's place in its run; epochs are counted from 1."""
    return f"step {found.step:,}" if found.epoch is None else f"epoch {found.epoch + 1}"
