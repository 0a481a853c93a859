"""The most probable classes as bars.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from app.theme import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.activations import ClassProbability
    from app.theme import Palette

_ROW = 26  # pixels for one class
_LONGEST = 40  # letters of a name that fit beside its bar


def class_bars(classes: Sequence[ClassProbability], palette: Palette) -> go.Figure:
    """Probabilities from the greatest down, each with its figure at the bar's end."""
    names = [one.name if len(one.name) <= _LONGEST else one.name[: _LONGEST - 1] + "…" for one in classes]
    figure = go.Figure(
        go.Bar(
            x=[one.probability for one in classes],
            y=list(range(len(classes))),  # two classes may have one name
            orientation="h",
            marker_color=palette.connected,
            text=[f"{one.probability:.1%}" for one in classes],
            textposition="outside",
            cliponaxis=False,
            customdata=[[one.name, one.number] for one in classes],
            hovertemplate="%{customdata[0]} (class %{customdata[1]}): %{x:.3%}<extra></extra>",
        )
    )
    figure.update_layout(height=_ROW * len(classes) + 12, margin={"l": 8, "r": 48, "t": 4, "b": 4}, bargap=0.3)
    figure.update_xaxes(range=[0, 1.05], visible=False)
    figure.update_yaxes(autorange="reversed", ticks="", tickvals=list(range(len(classes))), ticktext=names)
    readable(figure, palette)
    return figure
