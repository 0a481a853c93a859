"""Colours that mean something, in both themes.  `.streamlit/config.toml` has the same tower colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True, slots=True)
class Palette:
    """Hex colours of one theme: the towers, the kinds of layer, text and grid."""

    tower1: str
    tower2: str
    convolution: str
    connected: str
    text: str
    grid: str
    series: tuple[str, ...]


LIGHT = Palette(
    tower1="#2563a8",
    tower2="#c2571a",
    convolution="#4f8f6b",
    connected="#8a63a8",
    text="#1f2328",
    grid="#e4e7eb",
    series=("#4f8f6b", "#8a63a8", "#a8892b", "#5b6b7b", "#b24a6a", "#3f8f96", "#7a5c3e", "#6f8f2f"),
)
DARK = Palette(
    tower1="#6aa8e8",
    tower2="#f0955a",
    convolution="#7fc09a",
    connected="#b795d4",
    text="#e6e8eb",
    grid="#2b323b",
    series=("#7fc09a", "#b795d4", "#d4b65a", "#95a5b5", "#de84a0", "#6fc3ca", "#c09a76", "#a9c765"),
)


def palette(kind: str | None) -> Palette:
    """The palette of Streamlit's theme type, ``light`` or ``dark``; light where it is not known yet."""
    return DARK if kind == "dark" else LIGHT


def readable(figure: go.Figure, palette: Palette, size: int = 12) -> None:
    """Axes and titles in the page's text colour: Streamlit's own grey is too pale on white for small print."""
    font = {"size": size, "color": palette.text}
    figure.update_xaxes(tickfont=font, title_font=font)
    figure.update_yaxes(tickfont=font, title_font=font)
    figure.update_annotations(font={"color": palette.text})
    figure.update_layout(legend_font=font)
