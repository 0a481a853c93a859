"""What one output value of each stage can see of the input.  From the spec alone, no torch."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from alexnet.spec import AdaptiveAvgPool, Conv, Flatten, Linear, MaxPool, SameMapNorm

if TYPE_CHECKING:
    from alexnet.spec import Layer, Network, Shape


class ReceptiveField(NamedTuple):
    """The square of input pixels that one output value depends on, ignoring the input's edges.  `seen` is exact.

    `size` pixels wide; neighbouring outputs look `stride` pixels apart; the first output's square starts at pixel
    `offset` (negative: it begins in the padding).  `whole` marks a stage whose every value sees the whole image.
    """

    size: int
    stride: Fraction
    offset: int
    whole: bool = False


IMAGE = ReceptiveField(1, Fraction(1), 0)
"""What a pixel of the image itself sees."""


def receptive_fields(network: Network) -> tuple[ReceptiveField, ...]:
    """The receptive field of every stage, in order.

    A layer with window F, stride S and padding P on top of a field (r, j, o) sees r + (F − 1)·j pixels, moves S·j
    and starts at o − P·j.  After a fully connected layer everything is seen.
    """
    field, fields = IMAGE, []
    for stage in network.stages():
        field = _next(field, stage.layer, stage.in_shape)
        fields.append(field)
    return tuple(fields)


def _next(field: ReceptiveField, layer: Layer, in_shape: Shape) -> ReceptiveField:
    match layer:
        case Conv(kernel=kernel, stride=stride, padding=padding):
            return _slide(field, kernel, Fraction(stride), padding)
        case MaxPool(kernel=kernel, stride=stride):
            return _slide(field, kernel, Fraction(stride), 0)
        case SameMapNorm(size=size):
            return _slide(field, size, Fraction(1), size // 2)
        case AdaptiveAvgPool(side=side):
            # Windows that do not divide the maps differ in size and distance: the widest, and the mean distance.
            size = max(in_shape[1:])
            widest = max(end - start for start, end in (layer.window(i, size) for i in range(side)))
            return _slide(field, widest, Fraction(size, side), 0)
        case Flatten():
            return field
        case Linear():
            return field._replace(whole=True)
        case _:
            return field


def _slide(field: ReceptiveField, kernel: int, stride: Fraction, padding: int) -> ReceptiveField:
    return ReceptiveField(
        size=field.size + ceil((kernel - 1) * field.stride),
        stride=field.stride * stride,
        offset=field.offset - ceil(padding * field.stride),
        whole=field.whole,
    )


def seen(network: Network, name: str, index: int, axis: int = 0) -> tuple[int, int]:
    """First and last row (`axis` 0) or column (1) of the input that output `index` of a stage depends on.

    Both count padding, so that the first may be negative and the last beyond the image.

    Raises:
        KeyError: the network has no stage of this name.
    """
    stages = network.stages()
    names = [stage.name for stage in stages]
    if name not in names:
        raise KeyError(name)
    first = last = index
    everything = False
    for stage in reversed(stages[: names.index(name) + 1]):
        match stage.layer:
            case Conv(kernel=kernel, stride=stride, padding=padding):
                first, last = first * stride - padding, last * stride - padding + kernel - 1
            case MaxPool(kernel=kernel, stride=stride):
                first, last = first * stride, last * stride + kernel - 1
            case SameMapNorm(size=size):
                first, last = first - size // 2, last + size // 2
            case AdaptiveAvgPool():
                length = stage.in_shape[1 + axis]
                first, last = stage.layer.window(first, length)[0], stage.layer.window(last, length)[1] - 1
            case Linear():
                everything = True  # every value of the vector below, so every place of the maps that it was
            case Flatten():
                _, rows, columns = stage.in_shape
                place = divmod(index % (rows * columns), columns)[axis]
                first, last = (0, (rows, columns)[axis] - 1) if everything else (place, place)
    return first, last
