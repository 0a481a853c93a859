"""Many small pictures in one: kernels or feature maps, split by tower.  numpy and pillow.

A tile is (height, width, 3) uint8.  A `Sheet` says where tiles lie; `composed` puts them there, and `labelled` makes a
figure for print of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args
from unicodedata import combining, normalize

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    Tiles = NDArray[np.uint8]
    Values = NDArray[Any]

Scaling = Literal["kernel", "global"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
Channels = Literal["rgb", "red", "green", "blue", "pattern"]
CHANNELS: tuple[Channels, ...] = get_args(Channels)
MapScaling = Literal["map", "global"]
MAP_SCALINGS: tuple[MapScaling, ...] = get_args(MapScaling)
Colours = Literal["viridis", "grey", "diverging"]
COLOURS: tuple[Colours, ...] = get_args(Colours)

TOWER_INK = ("#4b5563", "#2563a8", "#c2571a")
"""Colours of headings in print: without a tower, the first, the second; the pages' light theme has the same."""

_PAPER, _INK, _FAINT = "#ffffff", "#1f2328", "#6b7280"
_LONGEST_SIDE = 16_000  # pixels of a printed figure; many viewers refuse more

# 16 evenly spaced colours of matplotlib's viridis (Smith and van der Walt, CC0): brightness grows evenly along it, and
# it stays readable in grey and to colour-blind eyes.  Mixed in between, at most 7 of 255 off the original.
_VIRIDIS = (
    *("440154", "481a6c", "472f7d", "414487", "39568c", "31688e", "2a788e", "23888e"),
    *("1f988b", "22a884", "35b779", "54c568", "7ad151", "a5db36", "d2e21b", "fde725"),
)
_DIVERGING = ("2166ac", "92c5de", "f7f7f7", "f4a582", "b2182b")  # ColorBrewer's RdBu from blue: zero is nearly white
_GREY = ("000000", "ffffff")


# --- values to colours -----------------------------------------------------------------------------------------------


def kernel_tiles(weights: Values, scaling: Scaling = "kernel", channels: Channels | int = "rgb") -> Tiles:
    """Kernels (K, C, h, w) as pictures (K, h, w, 3).

    A weight of zero is mid-grey (128) everywhere, and the largest magnitude, of the kernel or of all, is 127 away from
    it, so that kernels can be compared; kernels are not stretched between their least and greatest weight.

    ``rgb`` shows 3 input channels as they are: red weights in red.  One channel, by colour or by number, is a grey
    picture in which positive is light.  ``pattern`` is the one spatial pattern that explains most of a kernel of any
    number of channels (its first singular vector), positive where the kernel's channels together are.
    For the kernels of one output map, one per input channel, give ``weights[k][:, None]`` and channel 0.

    Raises:
        UserError: the kernels have no such channel, or the scaling is not known.
    """
    values = _shown(np.asarray(weights, np.float64), channels)
    if scaling not in SCALINGS:
        raise UserError(f"kernels are scaled by {' or '.join(SCALINGS)}, not by {scaling!r}")
    largest = np.abs(values).max(axis=(1, 2, 3), keepdims=True)
    if scaling == "global":
        largest = np.broadcast_to(largest.max(), largest.shape)
    level = 128 + 127 * values / np.where(largest > 0, largest, 1.0)
    return np.repeat(np.rint(level).astype(np.uint8), 3 // values.shape[3], axis=3)


def _shown(values: Values, channels: Channels | int) -> Values:
    """(K, C, h, w) -> (K, h, w, 3) in colour or (K, h, w, 1)."""
    count, depth, height, width = values.shape
    match channels:
        case "pattern":
            _, strengths, patterns = np.linalg.svd(values.reshape(count, depth, height * width), full_matrices=False)
            first = patterns[:, 0] * strengths[:, :1]
            agreeing = np.einsum("kcp,kp->k", values.reshape(count, depth, -1), first)
            signed = np.where(agreeing < 0, -1.0, 1.0)[:, None] * first
            return np.asarray(signed.reshape(count, height, width, 1))
        case "rgb" | "red" | "green" | "blue":
            if depth != 3:
                raise UserError(f"these kernels look at {depth} maps, not at red, green and blue: show their 'pattern'")
            if channels == "rgb":
                return values.transpose(0, 2, 3, 1)
            return values[:, ("red", "green", "blue").index(channels), :, :, None]
        case int() if 0 <= channels < depth:
            return values[:, channels, :, :, None]
    raise UserError(
        f"these kernels have no channel {channels!r}: there are 0 to {depth - 1}, and {', '.join(CHANNELS)}"
    )


def map_tiles(maps: Values, scaling: MapScaling = "map", colours: Colours = "viridis") -> Tiles:
    """Feature maps (C, H, W) as pictures (C, H, W, 3).

    ``viridis`` and ``grey`` go from the least to the greatest value, of each map or of all, where values that are never
    negative (after ReLU) start at zero; ``diverging`` has zero in its middle.  A map without any difference, which then
    has no scale, is shown at the scale's lower end (or middle).

    Raises:
        UserError: the scaling or the colours are not known.
    """
    if scaling not in MAP_SCALINGS:
        raise UserError(f"maps are scaled by {' or '.join(MAP_SCALINGS)}, not by {scaling!r}")
    if colours not in COLOURS:
        raise UserError(f"maps are shown in {', '.join(COLOURS)}, not in {colours!r}")
    values = np.asarray(maps, np.float32)
    axes = (1, 2) if scaling == "map" else None
    low, high = scale_ends(values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True), colours)
    return coloured(values, low, high, colours)


def coloured(values: Values, low: Values | float, high: Values | float, colours: Colours) -> Tiles:
    """Values of any shape as colours, (…, 3): the scale reaches from `low` to `high`, and its ends go on beyond."""
    share = np.clip((values - low) / np.where(np.greater(high, low), np.subtract(high, low), 1), 0, 1)
    return colour_table(colours)[np.rint(255 * share).astype(np.uint8)]


def scale_ends(least: Values, greatest: Values, colours: Colours) -> tuple[Values, Values]:
    """The values at both ends of the colours, for values that reach from `least` to `greatest`."""
    if colours == "diverging":
        reach = np.maximum(np.abs(least), np.abs(greatest))
        reach = np.where(reach > 0, reach, 1)
        return -reach, reach
    return np.minimum(least, 0) if np.all(least >= 0) else least, greatest


def colour_table(colours: Colours) -> Tiles:
    """The 256 colours of a scale, (256, 3), least value first."""
    stops = {"viridis": _VIRIDIS, "grey": _GREY, "diverging": _DIVERGING}[colours]
    known = np.array([list(bytes.fromhex(stop)) for stop in stops], np.float64)
    places, at = np.linspace(0, 255, len(known)), np.arange(256)
    return np.stack([np.rint(np.interp(at, places, known[:, i])) for i in range(3)], axis=1).astype(np.uint8)


# --- layout ----------------------------------------------------------------------------------------------------------


class Group(NamedTuple):
    """Tiles that belong together, in the order in which they are shown.  `tower` counts from 1; 0 has no tower."""

    label: str
    items: tuple[int, ...]
    tower: int = 0


class Place(NamedTuple):
    """Where a tile lies: its row and column in the whole sheet, and its upper left corner in pixels."""

    item: int
    group: int
    row: int
    column: int
    left: int
    top: int


@dataclass(frozen=True, slots=True)
class Sheet:
    """Groups of equal tiles in rows of `columns`, below one another or `beside` one another.

    All lengths are pixels of a tile shown at its own size: `tile` is height and width, `gap` lies between tiles and
    `group_gap` between groups; `heading` is left free above each group.
    """

    groups: tuple[Group, ...]
    columns: int
    tile: tuple[int, int]
    gap: int = 1
    group_gap: int = 4
    heading: int = 0
    beside: bool = False

    def __post_init__(self) -> None:
        if self.columns < 1:
            raise UserError(f"a sheet has one column or more, not {self.columns}")

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of each group."""
        return tuple(-(-len(group.items) // self.columns) for group in self.groups)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        width, heights = self._width, [self._height(rows) for rows in self.rows]
        gaps = self.group_gap * max(len(self.groups) - 1, 0)
        if self.beside:
            return width * len(self.groups) + gaps, max(heights, default=0)
        return width, sum(heights) + gaps

    def corners(self) -> tuple[tuple[int, int], ...]:
        """Left and top of each group, its heading included."""
        if self.beside:
            return tuple((index * (self._width + self.group_gap), 0) for index in range(len(self.groups)))
        tops = np.cumsum([0, *(self._height(rows) + self.group_gap for rows in self.rows)])
        return tuple((0, int(top)) for top in tops[: len(self.groups)])

    def places(self) -> tuple[Place, ...]:
        """Where every tile lies, group after group."""
        found = []
        down, right = self.tile[0] + self.gap, self.tile[1] + self.gap
        above = 0
        for number, (group, (left, top), rows) in enumerate(zip(self.groups, self.corners(), self.rows, strict=True)):
            aside = number * self.columns if self.beside else 0
            for index, item in enumerate(group.items):
                row, column = divmod(index, self.columns)
                found.append(
                    Place(
                        item=item,
                        group=number,
                        row=row if self.beside else above + row,
                        column=aside + column,
                        left=left + column * right,
                        top=top + self.heading + row * down,
                    )
                )
            above += rows
        return tuple(found)

    @property
    def _width(self) -> int:
        fullest = max((len(group.items) for group in self.groups), default=0)
        columns = min(self.columns, fullest) if not self.beside else self.columns
        return max(columns * (self.tile[1] + self.gap) - self.gap, 0)

    def _height(self, rows: int) -> int:
        return self.heading + max(rows * (self.tile[0] + self.gap) - self.gap, 0)


def tower_blocks(count: int, towers: int) -> tuple[range, ...]:
    """The numbers of each tower's tiles, in order."""
    width = count // towers
    return tuple(range(first, first + width) for first in range(0, width * towers, width))


def tower_groups(orders: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[Group, ...]:
    """A group for each tower: its tiles in order, and its name.  One tower alone has no tower's colour."""
    lone = len(orders) == 1
    pairs = enumerate(zip(orders, names, strict=True), start=1)
    return tuple(Group(name, tuple(items), 0 if lone else tower) for tower, (items, name) in pairs)


# --- pictures --------------------------------------------------------------------------------------------------------


def composed(tiles: Tiles, sheet: Sheet, scale: int = 1, background: str | None = None) -> Image.Image:
    """The tiles in their places, each pixel `scale` pixels wide; without `background` what lies between is clear.

    Raises:
        ValueError: the tiles are not the sheet's size, or the scale is no whole number from 1.
    """
    if tiles.shape[1:] != (*sheet.tile, 3):
        raise ValueError(f"tiles of {tiles.shape[1:]} do not fit a sheet for {(*sheet.tile, 3)}")
    if scale < 1:
        raise ValueError(f"the scale is a whole number from 1, got {scale}")
    width, height = sheet.size
    canvas = np.zeros((height, width, 4), np.uint8)
    for place in sheet.places():
        at = slice(place.top, place.top + sheet.tile[0]), slice(place.left, place.left + sheet.tile[1])
        canvas[(*at, slice(3))], canvas[(*at, 3)] = tiles[place.item], 255
    picture = Image.fromarray(canvas).resize((width * scale, height * scale), Image.Resampling.NEAREST)
    if background is None:
        return picture
    paper = Image.new("RGB", picture.size, background)
    paper.paste(picture, mask=picture.getchannel("A"))
    return paper


def labelled(
    tiles: Tiles, sheet: Sheet, title: str, caption: str = "", *, scale: int | None = None, numbers: bool = True
) -> Image.Image:
    """A figure for print: title, the groups under their names in the towers' colours, numbers, and a caption.

    Without `scale` tiles are enlarged until the figure is some 1,600 pixels wide.  Each tile's number stands under it
    where there is room.

    Raises:
        UserError: the figure would be larger than most programs open.
    """
    title, caption = _printable(title), _printable(caption)
    width = sheet.size[0]
    scale = scale or max(round(1600 / max(width, 1)), 1)
    unit = max(round(width * scale / 80), 15)  # letters grow with the figure
    small = max(min(round(unit * 0.62), sheet.tile[1] * scale // 3), 8)
    numbers = numbers and sheet.tile[1] * scale >= 26
    # All in pixels of the result: the tiles are composed enlarged already, so that gaps can hold letters.
    tile = (sheet.tile[0] * scale, sheet.tile[1] * scale)
    printed = Sheet(
        groups=sheet.groups,
        columns=sheet.columns,
        tile=(tile[0] + (round(small * 1.35) if numbers else 0), tile[1]),
        gap=max(sheet.gap * scale, 2),
        group_gap=2 * unit if sheet.beside else round(unit * 0.7),
        heading=round(unit * 1.7),
        beside=sheet.beside,
    )
    margin = unit
    lines = _lines(caption, _font(round(unit * 0.85)), printed.size[0])
    top = margin + round(unit * 2.1)
    size = (
        printed.size[0] + 2 * margin,
        top + printed.size[1] + (round(unit * 0.7) + len(lines) * round(unit * 1.25) if lines else 0) + margin,
    )
    if max(size) > _LONGEST_SIDE:
        raise UserError(
            f"a figure of {size[0]:,}×{size[1]:,} pixels would be too large: fewer tiles, or a smaller scale"
        )
    paper = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(paper)
    draw.text((margin, margin), title, _INK, _font(round(unit * 1.25)))
    for group, (left, down) in zip(sheet.groups, printed.corners(), strict=True):
        ink = TOWER_INK[group.tower] if group.tower < len(TOWER_INK) else TOWER_INK[0]
        draw.text((margin + left, top + down), _printable(group.label), ink, _font(unit))
    for place in printed.places():
        picture = Image.fromarray(tiles[place.item]).resize(tile[::-1], Image.Resampling.NEAREST)
        left, down = margin + place.left, top + place.top
        paper.paste(picture, (left, down))
        if numbers:
            draw.text((left + tile[1] / 2, down + tile[0] + 2), str(place.item), _FAINT, _font(small), anchor="ma")
    below = top + printed.size[1] + round(unit * 0.7)
    for number, line in enumerate(lines):
        draw.text((margin, below + number * round(unit * 1.25)), line, _INK, _font(round(unit * 0.85)))
    return paper


_SPELT = str.maketrans(
    {"×": "x", "−": "-", "–": "-", "—": "-", "→": "to", "²": "^2", "α": "alpha", "β": "beta", "σ": "sigma"}
)


def _printable(text: str) -> str:
    """The text in letters that pillow's own font has: others lose their accents, are spelt out, or become ``?``."""
    font = _font(16)
    unknown = bytes(font.getmask("\uffff"))

    def drawn(letter: str) -> str:
        if bytes(font.getmask(letter)) != unknown:
            return letter
        plain = "".join(part for part in normalize("NFKD", letter) if not combining(part))
        return plain if plain.isascii() and plain.isprintable() else "?"

    return "".join(map(drawn, text.translate(_SPELT)))


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # pillow's wheels have FreeType; without it letters cannot grow
    return font


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """The text in lines that are no wider."""
    if not text:
        return []
    letters = max(int(len(text) * width / max(font.getlength(text), 1)), 10)
    while letters > 10 and any(font.getlength(line) > width for line in wrap(text, letters)):
        letters -= 1
    return wrap(text, letters)
