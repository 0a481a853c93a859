"""A network drawn to scale as volumes: one SVG, every stage in it a button.  No Streamlit, no torch.

Heights and depths are feature-map pixels, widths are numbers of maps, vectors have a scale of their own; the legend
says how much each is.  The towers are rows in their own colours; dashed lines are what crosses between the GPUs.
Colours are the page's CSS variables, with the light theme's values as defaults.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from alexnet.spec import (
    LRN,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    ReLU,
    SameMapNorm,
    Softmax,
    Tanh,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alexnet.spec import Layer, Shape, Stage
    from analysis.costs import CostTable

_WIDTH = 1160  # of the drawing, in its own units; one unit is a CSS pixel at full size
_MARGIN = 14
_GAP = 22
_LABEL_ROOM = 70  # least distance between volumes that carry a size, so that the sizes do not touch
_INPUT_HEIGHT = 236  # of the input's square
_VECTOR_LENGTH = 230  # of the longest vector
_VECTOR_WIDTH = 9
_DEPTH = (0.32, 0.20)  # how a pixel of depth goes right and up
_CAPTION = 12  # height of a line of text
_PILL = 17

STYLE = """
.arch text { font: 12px var(--st-font, system-ui, sans-serif); fill: var(--st-text-color, #1f2328); }
.arch .name { font-weight: 600; }
.arch .size { font-size: 11px; fill-opacity: .75; }
.arch .legend { fill-opacity: .75; }
.arch .t0 { --c: var(--st-gray-color, #6b7280); }
.arch .t1 { --c: var(--st-blue-color, #2563a8); }
.arch .t2 { --c: var(--st-orange-color, #c2571a); }
.arch .back { fill: var(--st-background-color, #fff); }
.arch .front { fill: var(--c); fill-opacity: .62; }
.arch .side { fill: var(--c); fill-opacity: .30; }
.arch .top { fill: var(--c); fill-opacity: .16; }
.arch .edge { fill: none; stroke: var(--c); stroke-width: 1; stroke-linejoin: round; }
.arch .patch { fill: var(--st-background-color, #fff); fill-opacity: .55; stroke: var(--c); stroke-width: .8; }
.arch .flow { fill: none; stroke: var(--c); stroke-width: .9; stroke-opacity: .65; }
.arch .crossing { stroke-dasharray: 5 3; stroke-width: 1.5; stroke-opacity: 1; }
.arch .pill rect { fill: var(--st-secondary-background-color, #f4f5f7); stroke: var(--st-border-color, #d9dde3); }
.arch .pill text { font-size: 10px; text-anchor: middle; }
.arch .mark { fill: var(--st-primary-color, #2563a8); fill-opacity: 0; }
.arch .stage { cursor: pointer; outline: none; }
.arch .stage:hover .mark { fill-opacity: .07; }
.arch .stage.selected .mark { fill-opacity: .13; }
.arch .stage:focus-visible .mark { stroke: var(--st-primary-color, #2563a8); stroke-width: 2; }
.arch .pill.selected rect, .arch .pill:hover rect { stroke: var(--st-primary-color, #2563a8); stroke-width: 1.6; }
.arch .pill:focus-visible rect { stroke: var(--st-primary-color, #2563a8); stroke-width: 2.4; }
.arch .mid { text-anchor: middle; }
"""


@dataclass(slots=True)
class _Volume:
    """What one stage puts out, with the stages after it that keep its shape; `stage` is None for the input."""

    name: str
    shape: Shape
    towers: int
    stage: Stage | None
    pills: list[Stage] = field(default_factory=list)
    x: float = 0.0

    @property
    def is_vector(self) -> bool:
        return len(self.shape) == 1


@dataclass(frozen=True, slots=True)
class _Scale:
    """Units of the drawing for one pixel of a map, one map, one value of a vector."""

    pixel: float
    channel: float
    value: float


def architecture_svg(table: CostTable, selected: str | None = None) -> str:
    """The drawing as SVG text.  `selected` is the stage to mark; class names follow the stages' names."""
    volumes = _volumes(table)
    scale = _scale(volumes)
    rows = max(volume.towers for volume in volumes)
    row_height = max(_extent(volume, scale) for volume in volumes if volume.towers == rows) + 2 * _CAPTION
    alone = max((_extent(volume, scale) for volume in volumes if volume.towers < rows), default=0.0) + 2 * _CAPTION
    height = max(row_height * rows, alone)
    centres = [(_MARGIN + height * (2 * row + 1) / (2 * rows)) for row in range(rows)]
    middle = _MARGIN + height / 2
    captions = _MARGIN + height + 6
    bottom = captions + _CAPTION * 2 + max(len(volume.pills) for volume in volumes) * _PILL + 8
    width = _place(volumes, scale)

    draw = _Drawing(table, scale, centres, middle, selected)
    parts = [
        *draw.marks(volumes, bottom),
        *(line for before, after in pairwise(volumes) for line in draw.flow(before, after)),
        *(text for index, volume in enumerate(volumes) for text in draw.volume(volumes, index)),
        *(
            text
            for index, volume in enumerate(volumes)
            for text in draw.caption(volume, captions, _crowded(volumes), index)
        ),
        *_legend(scale, rows, table.network.gpus, bottom + 14),
    ]
    total = bottom + 14 + _CAPTION * 2
    network = table.network
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="arch" viewBox="0 0 {width:.0f} {total:.0f}" '
        f'width="{width:.0f}" height="{total:.0f}" role="group" '
        f'aria-label="{escape(network.name)}, drawn to scale; every stage is a button">'
        f"<style>{STYLE}</style>{''.join(parts)}</svg>"
    )


def _volumes(table: CostTable) -> list[_Volume]:
    network = table.network
    volumes = [_Volume("input", network.input_shape, 1, None)]
    for cost in table.rows:
        stage = cost.stage
        if isinstance(stage.layer, Conv | MaxPool | AdaptiveAvgPool | Linear):
            volumes.append(_Volume(stage.name, stage.out_shape, stage.towers, stage))
        else:
            volumes[-1].pills.append(stage)
    return volumes


def _scale(volumes: list[_Volume]) -> _Scale:
    pixel = _INPUT_HEIGHT / max(max(volume.shape[1:]) for volume in volumes if not volume.is_vector)
    crowded = _crowded(volumes)
    longest = max((volume.shape[0] for volume in volumes if volume.is_vector), default=1)
    maps = sum(volume.shape[0] / volume.towers for volume in volumes if not volume.is_vector)
    room = _WIDTH - 2 * _MARGIN - sum(_advance(volume, pixel, crowded) for volume in volumes)
    return _Scale(pixel, min(max(room / maps, 0.015), 0.55), _VECTOR_LENGTH / longest)


def _advance(volume: _Volume, pixel: float, crowded: bool) -> float:
    """Room to the right of a volume's front: its depth, part of which the next may cover, and a gap."""
    if volume.is_vector:
        return _VECTOR_WIDTH + 2.2 * _GAP
    depth = _DEPTH[0] * volume.shape[2] * pixel
    return depth * 0.62 + _GAP * 0.7 if crowded else depth + _GAP


def _thickness(volume: _Volume, scale: _Scale) -> float:
    return _VECTOR_WIDTH if volume.is_vector else max(volume.shape[0] / volume.towers * scale.channel, 1.5)


def _place(volumes: list[_Volume], scale: _Scale) -> float:
    """Give every volume its x; returns the drawing's width."""
    x, crowded = float(_MARGIN), _crowded(volumes)
    for volume in volumes:
        volume.x = x + (_GAP if volume.is_vector else 0)
        step = _advance(volume, scale.pixel, crowded) + (0 if volume.is_vector else _thickness(volume, scale))
        x += step if crowded or volume.is_vector else max(step, _LABEL_ROOM)
    last = volumes[-1]
    reach = last.x + _thickness(last, scale) + (0 if last.is_vector else _DEPTH[0] * last.shape[2] * scale.pixel)
    return max(reach + _MARGIN + 26, 420.0)


def _extent(volume: _Volume, scale: _Scale) -> float:
    """Height of one of a volume's boxes."""
    if volume.is_vector:
        return max(volume.shape[0] / volume.towers * scale.value, 3.0)
    return (volume.shape[1] + _DEPTH[1] * volume.shape[2]) * scale.pixel


def _crowded(volumes: list[_Volume]) -> bool:
    return len(volumes) > 16


@dataclass(frozen=True, slots=True)
class _Drawing:
    table: CostTable
    scale: _Scale
    centres: list[float]
    middle: float
    selected: str | None

    def rows(self, volume: _Volume) -> list[tuple[int, float]]:
        """Colour number and vertical centre of each of a volume's boxes."""
        if volume.towers > 1:
            return [(tower + 1, y) for tower, y in enumerate(self.centres)]
        return [(0 if len(self.centres) > 1 or volume.stage is None else 1, self.middle)]

    def half_height(self, volume: _Volume) -> float:
        if volume.is_vector:
            return max(volume.shape[0] / volume.towers * self.scale.value, 3.0) / 2
        return volume.shape[1] * self.scale.pixel / 2

    def depth(self, volume: _Volume) -> tuple[float, float]:
        if volume.is_vector:
            return 0.0, 0.0
        pixels = volume.shape[2] * self.scale.pixel
        return _DEPTH[0] * pixels, _DEPTH[1] * pixels

    def face(self, volume: _Volume, centre: float) -> tuple[float, float]:
        """Centre of the right side of a box: the last map, where the next layer's window lies."""
        dx, dy = self.depth(volume)
        return volume.x + _thickness(volume, self.scale) + dx / 2, self.base(volume, centre) - dy / 2

    def base(self, volume: _Volume, centre: float) -> float:
        """Vertical centre of a box's front, so that front and depth together stand in the row's middle."""
        return centre + self.depth(volume)[1] / 2

    # Volumes are marked and drawn in separate layers: marks lie behind everything and catch the pointer.

    def marks(self, volumes: list[_Volume], bottom: float) -> Iterator[str]:
        for volume, following in zip(volumes, [*volumes[1:], None], strict=True):
            if volume.stage is None:
                continue
            left = volume.x - 6
            right = (following.x - 6) if following else volume.x + max(_thickness(volume, self.scale), 34)
            yield (
                f"{self.open(volume.stage)}"
                f'<rect class="mark" x="{left:.1f}" y="4" width="{max(right - left, 8):.1f}" '
                f'height="{bottom - 6:.1f}" rx="5"/></g>'
            )

    def open(self, stage: Stage, extra: str = "") -> str:
        cost = self.table.row(stage.name)
        what = f"{stage.name}, {stage.layer.kind}, output {times(stage.out_shape)}"
        if cost.params:
            what += f", {cost.params:,} parameters, {cost.macs:,} MACs"
        chosen = stage.name == self.selected
        return (
            f'<g class="stage{" selected" if chosen else ""}{extra}" data-item="{escape(stage.name)}" role="button" '
            f'tabindex="0" aria-pressed="{str(chosen).lower()}" aria-label="{escape(what)}">'
            f"<title>{escape(what)}</title>"
        )

    def volume(self, volumes: list[_Volume], index: int) -> Iterator[str]:
        volume = volumes[index]
        previous = volumes[index - 1] if index else None
        yield '<g pointer-events="none">'
        for tower, centre in self.rows(volume):
            yield from self.box(volume, tower, self.base(volume, centre))
            following = volumes[index + 1] if index + 1 < len(volumes) else None
            if following and following.stage and isinstance(following.stage.layer, Conv | MaxPool):
                yield self.patch(volume, tower, centre, following.stage.layer.kernel)
            if self.is_labelled(previous, volume, following):
                yield self.size_label(volume, centre, below=tower > 1)
        yield "</g>"

    @staticmethod
    def is_labelled(previous: _Volume | None, volume: _Volume, following: _Volume | None) -> bool:
        """A size stands where it changes; a pooling's, which soon changes again, only if the next keeps it whole."""
        if previous is None:
            return True
        if isinstance(volume.stage and volume.stage.layer, MaxPool) and following and not following.is_vector:
            return following.shape[1:] != volume.shape[1:] or following.shape == volume.shape
        return previous.shape != volume.shape or previous.towers != volume.towers

    def box(self, volume: _Volume, tower: int, y: float) -> Iterator[str]:
        x, thick, half = volume.x, _thickness(volume, self.scale), self.half_height(volume)
        dx, dy = self.depth(volume)
        front = [(x, y - half), (x + thick, y - half), (x + thick, y + half), (x, y + half)]
        side = [
            (x + thick, y - half),
            (x + thick + dx, y - half - dy),
            (x + thick + dx, y + half - dy),
            (x + thick, y + half),
        ]
        top = [(x, y - half), (x + dx, y - half - dy), (x + thick + dx, y - half - dy), (x + thick, y - half)]
        yield f'<g class="t{tower}">'
        for face, points in (("side", side), ("top", top), ("front", front)) if dx else (("front", front),):
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
            yield f'<polygon class="back" points="{path}"/><polygon class="{face}" points="{path}"/>'
            yield f'<polygon class="edge" points="{path}"/>'
        yield "</g>"

    def patch(self, volume: _Volume, tower: int, centre: float, kernel: int) -> str:
        """The next layer's window, to scale, on the last map."""
        x, y = self.face(volume, centre)
        side = kernel * self.scale.pixel
        dx, dy, half = _DEPTH[0] * side / 2, _DEPTH[1] * side / 2, side / 2
        corners = ((-dx, dy - half), (dx, -dy - half), (dx, -dy + half), (-dx, dy + half))
        points = " ".join(f"{x + cx:.1f},{y + cy:.1f}" for cx, cy in corners)
        return f'<g class="t{tower}"><polygon class="patch" points="{points}"/></g>'

    def size_label(self, volume: _Volume, centre: float, *, below: bool) -> str:
        dx, dy = self.depth(volume)
        shape = (volume.shape[0] // volume.towers, *volume.shape[1:])
        words = f"{shape[0]:,}" if volume.is_vector else f"{shape[1]}×{shape[2]}×{shape[0]}"
        base, half = self.base(volume, centre), self.half_height(volume)
        y = base + half + _CAPTION if below else base - half - dy - 5
        x = volume.x + (_thickness(volume, self.scale) + dx) / 2
        if volume.stage is None:
            return f'<text class="size" x="{_MARGIN}" y="{y:.1f}">{words}</text>'
        return f'<text class="size mid" x="{x:.1f}" y="{y:.1f}">{words}</text>'

    def flow(self, before: _Volume, after: _Volume) -> Iterator[str]:
        """Lines from each box of a volume to the boxes of the next that read it; dashed where they change GPU."""
        assert after.stage is not None
        layer = after.stage.layer
        reads_all = isinstance(layer, Linear) or (isinstance(layer, Conv) and layer.groups == 1)
        split = before.towers > 1 or after.towers > 1
        yield '<g pointer-events="none">'
        for from_tower, from_y in self.rows(before):
            for to_tower, to_y in self.rows(after):
                same = from_tower == to_tower or not (before.towers > 1 and after.towers > 1)
                if not same and not reads_all:
                    continue
                # The image is on both GPUs from the start; merging onto one GPU moves the second tower's share.
                crosses = split and before.stage is not None and (not same or (after.towers == 1 and from_tower > 1))
                yield self.beam(before, from_tower, from_y, after, to_y, layer, crosses)
        yield "</g>"

    def beam(
        self, before: _Volume, tower: int, from_y: float, after: _Volume, to_y: float, layer: Layer, crosses: bool
    ) -> str:
        x, y = self.face(before, from_y)
        target = self.base(after, to_y)
        css = f'class="flow{" crossing" if crosses else ""}"'
        if isinstance(layer, Linear):
            if before.is_vector:
                x = before.x + _VECTOR_WIDTH
            spread = self.half_height(before) * (0.9 if before.is_vector else 0.6)
            ends = self.half_height(after) * 0.9
            lines = ((y - spread, target - ends), (y + spread, target + ends))
        else:
            half = layer.kernel * self.scale.pixel / 2 if isinstance(layer, Conv) and not crosses else 0.0
            lines = ((y - half, target), (y + half, target))
        paths = "".join(f"M{x:.1f} {start:.1f}L{after.x:.1f} {end:.1f}" for start, end in lines)
        return f'<g class="t{tower}"><path {css} d="{paths}"/></g>'

    def caption(self, volume: _Volume, y: float, crowded: bool, index: int) -> Iterator[str]:
        """Name under the drawing, and a button for every stage that keeps the shape."""
        x = volume.x + max(_thickness(volume, self.scale) / 2, 4)
        if volume.stage is None:
            x = max(x, _MARGIN + 14)
        level = y + _CAPTION + (_CAPTION if crowded and index % 2 else 0)
        yield f'<text class="name mid" pointer-events="none" x="{x:.1f}" y="{level:.1f}">{escape(volume.name)}</text>'
        for number, stage in enumerate(volume.pills):
            label = _pill_label(stage.layer)
            width, top = 7.4 * len(label) + 8, y + 2 * _CAPTION + 4 + number * _PILL
            yield (
                f"{self.open(stage, ' pill')}"
                f'<rect x="{x - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_PILL - 3}" rx="6"/>'
                f'<text x="{x:.1f}" y="{top + 10.5:.1f}">{label}</text></g>'
            )


def _pill_label(layer: Layer) -> str:
    match layer:
        case ReLU():
            return "ReLU"
        case Tanh():
            return "tanh"
        case LRN():
            return "LRN"
        case SameMapNorm():
            return "map"
        case Dropout():
            return "drop"
        case Flatten():
            return "flat"
        case Softmax():
            return "soft"
    raise TypeError(f"no label for {layer!r}")


def _legend(scale: _Scale, rows: int, gpus: int, y: float) -> Iterator[str]:
    """What the lengths and colours mean."""
    words = (
        f"To scale: height and depth in pixels of a map, width 1 unit = {1 / scale.channel:.3g} maps, "
        f"vectors 1 unit = {1 / scale.value:.3g} values. Small squares: the next layer's window. "
        "Sizes are height × width × maps" + (" of one tower." if rows > 1 else ".")
    )
    x = _MARGIN
    if rows > 1:
        for tower in (1, 2):
            label = f"tower {tower} (GPU {tower})" if gpus > 1 else f"group {tower}"
            yield f'<g class="t{tower}"><rect class="front" x="{x}" y="{y - 9:.1f}" width="11" height="11" rx="2"/></g>'
            yield f'<text class="legend" x="{x + 16}" y="{y:.1f}">{label}</text>'
            x += 118
        crossing = "crosses between the GPUs; grey: on one GPU" if gpus > 1 else "crosses between the groups"
        yield f'<g class="t0"><path class="flow crossing" d="M{x} {y - 4:.1f}h26"/></g>'
        yield f'<text class="legend" x="{x + 32}" y="{y:.1f}">{crossing}</text>'
        y += _CAPTION + 4
    yield f'<text class="legend" x="{_MARGIN}" y="{y:.1f}">{words}</text>'
