"""What preprocessing and augmentation do to a few pictures: a row for each, from the file to the network's input.

No Streamlit, no torch.  Squares and crops are drawn to one scale, so that a crop looks as much smaller as it is.
"""

from __future__ import annotations

import io
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from alexnet.data.imagenet import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from alexnet.data.preview import Example, Preview

    Bytes = NDArray[np.uint8]

WIDTH = 1160  # in the drawing's own units; one unit is a CSS pixel at full size
_HEAD, _NAME, _GAP = 26, 24, 8
_SHARP = 1.5  # pixels of an embedded picture for each unit: more would be seen by nobody and cost megabytes
_JPEG = 92
_LONGEST = 110  # letters of a name that fit into a line

STYLE = """
.preview text { font: 13px var(--st-font, system-ui, sans-serif); fill: var(--st-text-color, #1f2328); }
.preview .head { font-weight: 600; }
.preview .room { fill: none; stroke: var(--st-border-color, #d9dde3); stroke-width: 1; }
"""


class _Tile(NamedTuple):
    """A picture in a cell: (h, w, 3) bytes, what a pointer over it is told, its longer side as a part of the cell."""

    pixels: Bytes
    about: str
    share: float = 1.0


def preview_svg(preview: Preview, *, title: str, width: int = WIDTH) -> str:
    """The sheet as SVG text."""
    variants = len(preview.examples[0].draws)
    columns = ["original", "square", *(f"epoch {number}" for number in range(1, variants + 1))]
    columns += ["validation", "input"]
    cell = (width - _GAP * (len(columns) - 1)) / len(columns)
    tall = _NAME + cell + _GAP
    height = _HEAD + tall * len(preview.examples) + _NAME
    parts = [
        f'<text class="head" x="{number * (cell + _GAP):.1f}" y="16">{escape(heading)}</text>'
        for number, heading in enumerate(columns)
    ]
    for number, example in enumerate(preview.examples):
        top = _HEAD + number * tall
        parts.append(f'<text x="0" y="{top + 15:.1f}">{escape(_heading(example))}</text>')
        parts += _drawn(_tiles(example, preview), top + _NAME, cell)
    parts.append(f'<text x="0" y="{height - 8:.1f}">{escape(_legend(preview))}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="preview" viewBox="0 0 {width} {height:.0f}" width="{width}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title)}"><style>{STYLE}</style>{"".join(parts)}</svg>'
    )


def _legend(preview: Preview) -> str:
    return (
        f"input: what the network receives of the validation’s crop; black is {_signed(preview.low)}, white "
        f"{_signed(preview.high)}, with mean and colours of {preview.sampled:,} of {preview.pictures:,} pictures"
    )


def _signed(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _heading(example: Example) -> str:
    height, width = example.original_size
    name = example.name if len(example.name) <= _LONGEST else f"…{example.name[-_LONGEST:]}"
    return f"{readable(example.label)} · {name}, {width}×{height} pixels"


def _tiles(example: Example, preview: Preview) -> Iterator[_Tile]:
    geometry = preview.geometry
    size = f"{geometry.width}×{geometry.height}"
    share = max(geometry.height, geometry.width) / geometry.side
    yield _Tile(example.original, "as the file has it")
    yield _Tile(example.square, f"the central square, scaled to {geometry.side}×{geometry.side}")
    for draw in example.draws:
        mirrored = ", mirrored" if draw.mirrored else ""
        red, green, blue = (f"{value:+.1f}".replace("-", "−") for value in draw.shift)
        yield _Tile(
            draw.pixels,
            f"in epoch {draw.epoch + 1}: {size} from row {draw.top}, column {draw.left} at a short side of {draw.side}"
            f"{mirrored}; colour noise: red {red}, green {green}, blue {blue}",
            share,
        )
    yield _Tile(example.validation, f"what a validation sees: the central {size}", share)
    yield _Tile(
        example.received,
        f"what the network receives of it: black is {_signed(preview.low)}, white {_signed(preview.high)}",
        share,
    )


def _drawn(tiles: Iterable[_Tile], upper: float, cell: float) -> Iterator[str]:
    for number, tile in enumerate(tiles):
        rows, columns = tile.pixels.shape[:2]
        unit = tile.share * cell / max(rows, columns)
        high, wide = rows * unit, columns * unit
        left = number * (cell + _GAP)
        yield f'<rect class="room" x="{left:.1f}" y="{upper:.1f}" width="{cell:.1f}" height="{cell:.1f}"/>'
        yield (
            f'<image x="{left + (cell - wide) / 2:.1f}" y="{upper + (cell - high) / 2:.1f}" width="{wide:.1f}" '
            f'height="{high:.1f}" preserveAspectRatio="none" href="{_address(tile.pixels, max(high, wide))}">'
            f"<title>{escape(tile.about)}</title></image>"
        )


def _address(pixels: Bytes, units: float) -> str:
    """A picture as an address that holds all of it, reduced to what can be seen: a fifth of a PNG's size."""
    image, side = Image.fromarray(np.ascontiguousarray(pixels)), round(units * _SHARP)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG, subsampling=0)
    return f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode('ascii')}"
