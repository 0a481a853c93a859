"""What one output value of each stage can see of the input.  From the spec alone, no torch."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from alexnet.spec import AdaptiveAvgPool, Conv, Flatten, Linear, MaxPool, SameMapNorm

if TYPE_CHECKING:
    from alexnet.spec import Layer, Network, Shape


class ReceptiveField(NamedTuple):
    """The square of input pixels that one output value depends on, ignoring the input's edges.

    `size` pixels wide; neighbouring outputs look `stride` pixels apart; the first output's square starts at pixel
    `offset` (negative: it begins in the padding).  `whole` marks a stage whose every value sees the whole image.
    """

    size: int
    stride: Fraction
    offset: int
    whole: bool = False

    def span(self, index: int) -> tuple[int, int]:
        """First and last input pixel that output `index` along an axis sees, padding included."""
        start = self.offset + int(index * self.stride)
        return start, start + self.size - 1


def receptive_fields(network: Network) -> tuple[ReceptiveField, ...]:
    """The receptive field of every stage, in order.

    A layer with window F, stride S and padding P on top of a field (r, j, o) sees r + (F − 1)·j pixels, moves S·j
    and starts at o − P·j.  After a fully connected layer everything is seen.
    """
    field, fields = ReceptiveField(1, Fraction(1), 0), []
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
