"""A feature map at large beside the picture it came from, as SVG: every value in it can be picked.

No Streamlit, no torch.  Values and pictures are embedded as PNGs of one pixel each, enlarged without smoothing; what is
drawn over them is vector.  Colours are the page's CSS variables.
"""

from __future__ import annotations

from html import escape
from math import isqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from analysis.formats import number_text
from analysis.sheets import colour_table, coloured, scale_ends
from app.figures.sheets import png_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from analysis.sheets import Colours

    Values = NDArray[Any]
    Bytes = NDArray[np.uint8]

_SIDE = 380  # of a panel's longer side, in the drawing's units; one unit is a CSS pixel at full size
_BAR = 64  # room for the colour scale
_LINE = 24  # room for a line of text
_COARSE = 32  # pixels; what is smaller is enlarged without smoothing, so that it looks as coarse as it is

STYLE = """
.panels text { font: 13px var(--st-font, system-ui, sans-serif); fill: var(--st-text-color, #1f2328); }
.panels .head { font-weight: 600; }
.panels image { image-rendering: pixelated; }
.panels .smooth { image-rendering: auto; }
.panels [data-area] { fill: transparent; cursor: crosshair; outline: none; }
.panels [data-area]:focus-visible { stroke: var(--st-primary-color, #2563a8); stroke-width: 3; }
.panels .mark { fill: none; stroke: #fff; stroke-width: 2; pointer-events: none; paint-order: stroke; }
.panels .mark2 { fill: none; stroke: #000; stroke-width: 4; stroke-opacity: .55; pointer-events: none; }
"""


class Frame(NamedTuple):
    """A rectangle on the picture, in its pixels: what the value picked sees.  `dashed` marks one that is cut off."""

    top: int
    left: int
    bottom: int
    right: int
    dashed: bool = False


def as_map(values: Values) -> Values:
    """(C,) values laid out as a map, row by row, as square as its length allows; maps stay as they are.

    Places that are left over in the last row are NaN.
    """
    if values.ndim == 2:
        return values
    columns = next((c for c in range(isqrt(len(values)), 0, -1) if len(values) % c == 0), 1)
    columns = max(columns, len(values) // columns)
    if columns > 4 * isqrt(len(values)):  # a prime, or nearly: a square with a gap is easier to read than a line
        columns = isqrt(len(values) - 1) + 1
    rows = -(-len(values) // columns)
    padded = np.full(rows * columns, np.nan, np.float32)
    padded[: len(values)] = values
    return padded.reshape(rows, columns)


def map_svg(
    values: Values,
    picture: Bytes,
    *,
    title: str,
    colours: Colours = "viridis",
    frame: Frame | None = None,
    overlay: float = 0.0,
) -> str:
    """A map (H, W) with its colour scale above the picture (h, w, 3), on which the frame and, as far as asked, the
    map itself is laid.  The map is an area named ``map`` for the cells' component.
    """
    known = values[np.isfinite(values)]
    panel = Panel("map", title, values, (float(known.min()), float(known.max())), colours)
    height, _ = _fitted(values.shape)
    tall, wide = _fitted(picture.shape[:2])
    top = _LINE + height + _LINE + 8
    whole = (_SIDE + _BAR, top + tall + 6)
    parts = [
        *_drawn(panel, 0),
        f'<text class="head" x="0" y="{top - 9}">what it sees</text>',
        _image(picture, 0, top, wide, tall, smooth=True),
    ]
    if overlay > 0:
        parts.append(_image(_coloured(panel), 0, top, wide, tall, opacity=overlay, smooth=True))
    if frame is not None:
        parts.extend(_framed(frame, top, wide / picture.shape[1], tall / picture.shape[0]))
    return drawn(whole, title, parts)


class Panel(NamedTuple):
    """A map among several: `name` is its area's, `ends` the values at both ends of its colours.

    Colours begin at 0 where all values lie above it; `exact` ones do not, and begin and end where `ends` says.
    """

    name: str
    heading: str
    values: Values
    ends: tuple[float, float]
    colours: Colours = "viridis"
    exact: bool = False


def maps_svg(panels: Sequence[Panel], *, title: str) -> str:
    """Maps side by side, each with its colour scale and as an area of its own; one cell is marked in all."""
    parts: list[str] = []
    left, tall = 0.0, 0.0
    for panel in panels:
        height, width = _fitted(panel.values.shape)
        parts += _drawn(panel, left)
        left, tall = left + width + _BAR, max(tall, height)
    return drawn((left, _LINE + tall + 4), title, parts)


def _drawn(panel: Panel, left: float) -> list[str]:
    """A panel with its heading and its colour scale at the right."""
    height, width = _fitted(panel.values.shape)
    return [
        f'<text class="head" x="{left:.1f}" y="15">{escape(panel.heading)}</text>',
        _image(_coloured(panel), left, _LINE, width, height),
        _area(panel.name, left, _LINE, width, height, panel.values.shape, panel.heading),
        *_scale(panel, left + width + 10, height),
    ]


def pictures_svg(pictures: Sequence[tuple[str, Bytes]], *, title: str) -> str:
    """Pictures (h, w, 3) with headings, side by side."""
    parts, left, tall = [], 0.0, 0.0
    for heading, pixels in pictures:
        height, width = _fitted(pixels.shape[:2])
        parts.append(f'<text class="head" x="{left:.1f}" y="15">{escape(heading)}</text>')
        parts.append(_image(pixels, left, _LINE, width, height, smooth=min(pixels.shape[:2]) > _COARSE))
        left, tall = left + width + 12, max(tall, height)
    return drawn((max(left - 12, 1), _LINE + tall + 2), title, parts)


def drawn(size: tuple[float, float], title: str, parts: Sequence[str]) -> str:
    """An SVG of this width and height in the style of these panels."""
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="panels" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="group" aria-label="{escape(title)}">'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def _fitted(shape: tuple[int, ...]) -> tuple[float, float]:
    """Height and width of a panel for so many rows and columns."""
    rows, columns = shape
    unit = _SIDE / max(rows, columns)
    return rows * unit, columns * unit


def _ends(panel: Panel) -> tuple[Values, Values]:
    """The values at both ends of a panel's colours."""
    least, greatest = map(np.array, panel.ends)
    return (least, greatest) if panel.exact else scale_ends(least, greatest, panel.colours)


def _coloured(panel: Panel) -> Bytes:
    """The map as a picture; what is no number is mid-grey."""
    known = np.isfinite(panel.values)
    picture = coloured(np.where(known, panel.values, 0), *_ends(panel), panel.colours)
    picture[~known] = 128
    return picture


def _image(
    pixels: Bytes, left: float, top: float, width: float, height: float, *, opacity: float = 1.0, smooth: bool = False
) -> str:
    kind = ' class="smooth"' if smooth else ""
    return (
        f'<image{kind} x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'opacity="{opacity:.2f}" preserveAspectRatio="none" '
        f'href="{png_address(Image.fromarray(np.ascontiguousarray(pixels)))}"/>'
    )


def _area(name: str, left: float, top: float, width: float, height: float, shape: tuple[int, ...], label: str) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return (
        f'<rect class="mark2" data-mark="{name}"/><rect class="mark" data-mark="{name}"/>'
        f'<rect data-area="{name}" data-rows="{shape[0]}" data-columns="{shape[1]}" {place} tabindex="0" '
        f'role="slider" aria-label="{escape(label)}: arrow keys pick a value"/>'
    )


def _scale(panel: Panel, left: float, height: float) -> list[str]:
    low, high = (number_text(float(end), 3) for end in _ends(panel))
    return [
        _image(colour_table(panel.colours)[::-1, None], left, _LINE, 12, height, smooth=True),
        f'<text x="{left + 17:.1f}" y="{_LINE + 11:.1f}">{high}</text>',
        f'<text x="{left + 17:.1f}" y="{_LINE + height:.1f}">{low}</text>',
    ]


def _framed(frame: Frame, top: float, right: float, down: float) -> list[str]:
    place = (
        f'x="{frame.left * right:.1f}" y="{top + frame.top * down:.1f}" '
        f'width="{(frame.right - frame.left) * right:.1f}" height="{(frame.bottom - frame.top) * down:.1f}"'
    )
    dash = ' stroke-dasharray="6 4"' if frame.dashed else ""
    return [f'<rect class="mark2" {place}/>', f'<rect class="mark" {place}{dash}/>']
