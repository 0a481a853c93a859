"""A sheet of kernels or feature maps for the page: one picture in an SVG, and every tile in it a button.

No Streamlit, no torch.  The picture is embedded as a PNG in which a pixel is one weight or one value; the SVG enlarges
it without smoothing.  Colours are the page's CSS variables, with the light theme's values as defaults.
"""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import replace
from html import escape
from math import ceil
from typing import TYPE_CHECKING

from analysis.sheets import composed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from PIL import Image

    from analysis.sheets import Place, Sheet, Tiles

WIDTH = 1160  # of a drawing as wide as the page, in its own units; one unit is a CSS pixel at full size
_LARGEST_TILE = 132  # units; a few small tiles are not blown up beyond it
_HEADING = 34  # units above each group, and between two beside one another
_MARGIN = 3  # so that the outline of a tile at the edge is whole

STYLE = """
.sheet text { font: 600 20px var(--st-font, system-ui, sans-serif); }
.sheet .t0 { fill: var(--st-text-color, #1f2328); }
.sheet .t1 { fill: var(--st-blue-color, #2563a8); }
.sheet .t2 { fill: var(--st-orange-color, #c2571a); }
.sheet image { image-rendering: pixelated; }
.sheet .tile { fill: transparent; cursor: pointer; outline: none; }
.sheet .tile { stroke: var(--st-border-color, #d9dde3); stroke-width: .6; }
.sheet .tile:hover { stroke: var(--st-text-color, #1f2328); stroke-width: 1.5; }
.sheet .tile.selected { stroke: var(--st-primary-color, #2563a8); stroke-width: 3; }
.sheet .tile:focus-visible { stroke: var(--st-text-color, #1f2328); stroke-width: 3; }
"""


def sheet_svg(
    tiles: Tiles,
    sheet: Sheet,
    labels: Mapping[int, str] | Sequence[str],
    *,
    title: str,
    selected: int | None = None,
    width: int = WIDTH,
) -> str:
    """The sheet as SVG text; `labels` says of every item what a pointer over it, or a screen reader, is told.

    `width` is the drawing's in its own units: a narrower one has larger letters for its size.

    Each tile is an element with `data-item`, and with `data-row` and `data-column` in the whole sheet, for arrow keys.
    """
    # Groups without a name need no room for it.
    heading = ceil(_HEADING / _scale(sheet, width)) if any(group.label for group in sheet.groups) else 0
    spaced = replace(
        sheet, heading=heading, group_gap=max(sheet.group_gap, heading) if sheet.beside else sheet.group_gap
    )
    scale = _scale(spaced, width)
    wide, height = (side * scale for side in spaced.size)
    places = spaced.places()
    shown = {place.item for place in places}
    # One tile can be reached with Tab, and the others from it with the arrow keys.
    entry = selected if selected in shown else next((place.item for place in places), None)
    buttons = (
        _button(place, spaced, scale, labels[place.item], chosen=place.item == selected, entry=place.item == entry)
        for place in places
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="sheet" viewBox="0 0 {width} {height + 2 * _MARGIN:.1f}" '
        f'width="{width}" height="{height + 2 * _MARGIN:.1f}" role="group" aria-label="{escape(title)}">'
        f"<style>{STYLE}</style>"
        f'<g transform="translate({_MARGIN} {_MARGIN})">{"".join(_headings(spaced, scale))}'
        f'<image width="{wide:.2f}" height="{height:.2f}" preserveAspectRatio="none" '
        f'href="{png_address(composed(tiles, spaced)) if places else ""}"/>'
        f"{''.join(buttons)}</g></svg>"
    )


def _scale(sheet: Sheet, width: int) -> float:
    """Units for one pixel of a tile."""
    return min((width - 2 * _MARGIN) / max(sheet.size[0], 1), _LARGEST_TILE / max(*sheet.tile, 1))


def _headings(sheet: Sheet, scale: float) -> Iterator[str]:
    for group, (left, top) in zip(sheet.groups, sheet.corners(), strict=True):
        baseline = (top + sheet.heading) * scale - 9
        tower = group.tower if group.tower in {1, 2} else 0
        yield f'<text class="t{tower}" x="{left * scale:.1f}" y="{baseline:.1f}">{escape(group.label)}</text>'


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def png_address(picture: Image.Image) -> str:
    """A picture as an address that holds all of it."""
    return f"data:image/png;base64,{b64encode(png(picture)).decode('ascii')}"


def _button(place: Place, sheet: Sheet, scale: float, label: str, *, chosen: bool, entry: bool) -> str:
    height, width = sheet.tile
    text = escape(label)
    return (
        f'<rect class="tile{" selected" * chosen}" data-item="{place.item}" data-row="{place.row}" '
        f'data-column="{place.column}" x="{place.left * scale:.2f}" y="{place.top * scale:.2f}" '
        f'width="{width * scale:.2f}" height="{height * scale:.2f}" role="button" tabindex="{0 if entry else -1}" '
        f'aria-pressed="{str(chosen).lower()}" aria-label="{text}"><title>{text}</title></rect>'
    )
