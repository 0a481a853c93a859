"""A feature map at large beside the picture it came from, as SVG: every value in it can be picked.

No Streamlit, no torch.  Values and pictures are embedded as PNGs of one pixel each, enlarged without smoothing; what is
drawn over them is vector.  Colours are the page's CSS variables.
"""

from __future__ import annotations

import io
from base64 import b64encode
from html import escape
from math import isqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from analysis.formats import number_text
from analysis.sheets import colour_table, scale_ends

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
    colour, low, high = _coloured(values, colours)
    height, width = _fitted(values.shape)
    tall, wide = _fitted(picture.shape[:2])
    top = _LINE + height + _LINE + 8
    whole = (_SIDE + _BAR, top + tall + 6)
    parts = [
        f'<text class="head" x="0" y="15">{escape(title)}</text>',
        _image(colour, 0, _LINE, width, height),
        _area("map", 0, _LINE, width, height, values.shape, title),
        *_scale(_SIDE + 10, _LINE, height, low, high, colours),
        f'<text class="head" x="0" y="{top - 9}">what it sees</text>',
        _image(picture, 0, top, wide, tall, smooth=True),
    ]
    if overlay > 0:
        parts.append(_image(colour, 0, top, wide, tall, opacity=overlay, smooth=True))
    if frame is not None:
        parts.extend(_framed(frame, top, wide / picture.shape[1], tall / picture.shape[0]))
    return drawn(whole, title, parts)


class Panel(NamedTuple):
    """A map among several: `name` is its area's, `ends` the values at both ends of its colours."""

    name: str
    heading: str
    values: Values
    ends: tuple[float, float]
    colours: Colours = "viridis"


def maps_svg(panels: Sequence[Panel], *, title: str) -> str:
    """Maps side by side, each with its colour scale and as an area of its own; one cell is marked in all."""
    parts, left, tall = [], 0.0, 0.0
    for panel in panels:
        picture, low, high = _coloured(panel.values, panel.colours, panel.ends)
        height, width = _fitted(panel.values.shape)
        parts += [
            f'<text class="head" x="{left:.1f}" y="15">{escape(panel.heading)}</text>',
            _image(picture, left, _LINE, width, height),
            _area(panel.name, left, _LINE, width, height, panel.values.shape, panel.heading),
            *_scale(left + width + 10, _LINE, height, low, high, panel.colours),
        ]
        left, tall = left + width + _BAR, max(tall, height)
    return drawn((left, _LINE + tall + 4), title, parts)


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


def _coloured(values: Values, colours: Colours, ends: tuple[float, float] | None = None) -> tuple[Bytes, float, float]:
    """The map as a picture, and the values at both ends of its colours; what is no number is mid-grey."""
    known = np.isfinite(values)
    least, greatest = ends or (float(values[known].min()), float(values[known].max()))
    low, high = (float(end) for end in scale_ends(np.array(least), np.array(greatest), colours))
    share = np.clip((np.where(known, values, low) - low) / (high - low if high > low else 1), 0, 1)
    picture = colour_table(colours)[np.rint(255 * share).astype(np.uint8)]
    picture[~known] = 128
    return picture, low, high


def _image(
    pixels: Bytes, left: float, top: float, width: float, height: float, *, opacity: float = 1.0, smooth: bool = False
) -> str:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    data = b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<image{" class=" + chr(34) + "smooth" + chr(34) if smooth else ""} x="{left:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" opacity="{opacity:.2f}" preserveAspectRatio="none" '
        f'href="data:image/png;base64,{data}"/>'
    )


def _area(name: str, left: float, top: float, width: float, height: float, shape: tuple[int, ...], label: str) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return (
        f'<rect class="mark2" data-mark="{name}"/><rect class="mark" data-mark="{name}"/>'
        f'<rect data-area="{name}" data-rows="{shape[0]}" data-columns="{shape[1]}" {place} tabindex="0" '
        f'role="slider" aria-label="{escape(label)}: arrow keys pick a value"/>'
    )


def _scale(left: float, top: float, height: float, low: float, high: float, colours: Colours) -> list[str]:
    bar = _image(colour_table(colours)[::-1, None], left, top, 12, height, smooth=True)
    return [
        bar,
        f'<text x="{left + 17:.1f}" y="{top + 11:.1f}">{number_text(high, 3)}</text>',
        f'<text x="{left + 17:.1f}" y="{top + height:.1f}">{number_text(low, 3)}</text>',
    ]


def _framed(frame: Frame, top: float, right: float, down: float) -> list[str]:
    place = (
        f'x="{frame.left * right:.1f}" y="{top + frame.top * down:.1f}" '
        f'width="{(frame.right - frame.left) * right:.1f}" height="{(frame.bottom - frame.top) * down:.1f}"'
    )
    dash = ' stroke-dasharray="6 4"' if frame.dashed else ""
    return [f'<rect class="mark2" {place}/>', f'<rect class="mark" {place}{dash}/>']
