"""Layers that torch does not have: response normalisation in every convention, and convolution that rounds up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet import spec


def channel_window_sum(values: Tensor, size: int, groups: int = 1) -> Tensor:
    """Sum over `size` neighbouring channels, centred, ending at the border of each of `groups` blocks.

    `values` is (N, C, H, W) with C divisible by `groups`; the result has its shape.
    """
    blocks = values.unflatten(1, (groups, -1))
    total: Tensor = blocks.clone()
    for distance in range(1, min(size // 2, blocks.shape[2] - 1) + 1):
        total[:, :, distance:] += blocks[:, :, :-distance]
        total[:, :, :-distance] += blocks[:, :, distance:]
    return total.flatten(1, 2)


def map_window_sum(values: Tensor, size: int) -> Tensor:
    """Sum over a centred `size` × `size` neighbourhood inside each map, ending at the map's edges.

    `values` is (N, C, H, W); the result has its shape.
    """
    return functional.avg_pool2d(values, size, stride=1, padding=size // 2, divisor_override=1)


class _ResponseNorm(torch.autograd.Function):
    """b = a·s^−β with s = k + α·Σa²; backward in closed form, keeping only a and s.

    ∂L/∂a = g·s^−β − 2αβ·a·Σ(g·a·s^−(β+1)), with g = ∂L/∂b and the same symmetric window for both sums.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, window_sum: Callable[[Tensor], Tensor], alpha: float, beta: float, k: float
    ) -> Tensor:
        scale = window_sum(a.square()).mul_(alpha).add_(k)
        ctx.save_for_backward(a, scale)
        ctx.window_sum, ctx.alpha, ctx.beta = window_sum, alpha, beta
        return a * _negative_power(scale, beta)

    @staticmethod
    @once_differentiable  # s is kept as a number: differentiating this again would miss how s depends on a
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = gradients
        a, scale = ctx.saved_tensors
        gain = _negative_power(scale, ctx.beta)
        inhibition = ctx.window_sum(gradient * a * gain / scale)
        return gradient * gain - (2 * ctx.alpha * ctx.beta) * a * inhibition, None, None, None, None


def _negative_power(scale: Tensor, beta: float) -> Tensor:
    if beta == 0.75:  # s^−¾ = s^−½ · s^−¼: two square roots are several times faster than a power
        root = scale.rsqrt()
        return root * root.sqrt()
    return scale.pow(-beta)


class LocalResponseNorm(nn.Module):
    """b = a / (k + α·Σa²)^β over neighbouring channels (paper, section 3.3), in whatever convention the spec states.

    Takes and returns (N, C, H, W).  With `groups` = 2 no window crosses from one tower to the other.
    """

    def __init__(self, layer: spec.LRN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, a: Tensor) -> Tensor:
        layer = self.layer
        result: Tensor = _ResponseNorm.apply(
            a,
            lambda squares: channel_window_sum(squares, layer.size, layer.groups),
            layer.alpha_per_square,
            layer.beta,
            layer.k,
        )
        return result

    def extra_repr(self) -> str:
        return repr(self.layer)


class SameMapResponseNorm(nn.Module):
    """b = a / (k + α/size²·Σa²)^β over a square neighbourhood inside each map; (N, C, H, W) in and out."""

    def __init__(self, layer: spec.SameMapNorm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, a: Tensor) -> Tensor:
        layer = self.layer
        result: Tensor = _ResponseNorm.apply(
            a,
            lambda squares: map_window_sum(squares, layer.size),
            layer.alpha / layer.size**2,
            layer.beta,
            layer.k,
        )
        return result

    def extra_repr(self) -> str:
        return repr(self.layer)


class CeilConv2d(nn.Conv2d):
    """Convolution whose number of positions is rounded up: the bottom and right get the zeros the last window lacks."""

    def missing(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Rows and columns that the last windows lack on an input of this height and width."""
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])  # all are square
        height, width = size
        return (kernel - height - 2 * padding) % stride, (kernel - width - 2 * padding) % stride

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name for the argument
        bottom, right = self.missing(tuple(input.shape[2:]))
        return super().forward(functional.pad(input, (0, right, 0, bottom)) if right or bottom else input)
