"""Layers that torch does not have: response normalisation in every convention, and convolution that rounds up."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

if TYPE_CHECKING:
    from alexnet import spec


def _window_sum(values: Tensor, size: int, axes: tuple[int, ...]) -> Tensor:
    """Sum over `size` neighbours, centred, along each of `axes`; outside are zeros."""
    for axis in axes:
        half = min(size // 2, values.shape[axis] - 1)
        total = values.clone()
        for distance in range(1, half + 1):
            rest = values.shape[axis] - distance
            total.narrow(axis, distance, rest).add_(values.narrow(axis, 0, rest))
            total.narrow(axis, 0, rest).add_(values.narrow(axis, distance, rest))
        values = total
    return values


def _padded_window_sum(values: Tensor, size: int, axes: tuple[int, ...]) -> Tensor:
    """`_window_sum` in a form that a compiler fuses: one expression, nothing written in place."""
    for axis in axes:
        half, length = min(size // 2, values.shape[axis] - 1), values.shape[axis]
        padded = functional.pad(values, [0, 0] * (values.dim() - 1 - axis) + [half, half])
        values = padded.narrow(axis, 0, length)
        for shift in range(1, 2 * half + 1):
            values = values + padded.narrow(axis, shift, length)
    return values


def _negative_power(scale: Tensor, beta: float) -> Tensor:
    if beta == 0.75:  # s^−¾ = s^−½ · s^−¼: two square roots are several times faster than a power
        root = scale.rsqrt()
        return root * root.sqrt()
    if beta == 0.5:
        return scale.rsqrt()
    return scale.pow(-beta)


class Formula(NamedTuple):
    """What a response normalisation computes: b = a·s^−β with s = k + α·Σa² over `size` neighbours along `axes`."""

    size: int
    axes: tuple[int, ...]
    alpha: float
    beta: float
    k: float


def _forward(a: Tensor, formula: Formula, window_sum: _WindowSum) -> tuple[Tensor, Tensor]:
    """b and s.  Squares and their sum are taken in float32 also where `a` is bfloat16: α·Σa² is small beside k."""
    size, axes, alpha, beta, k = formula
    wide = _wide(a)
    scale = k + alpha * window_sum(wide.square(), size, axes)
    return (wide * _negative_power(scale, beta)).to(a.dtype), scale


def _backward(gradient: Tensor, a: Tensor, scale: Tensor, formula: Formula, window_sum: _WindowSum) -> Tensor:
    """∂L/∂a = g·s^−β − 2αβ·a·Σ(g·a·s^−(β+1)), with g = ∂L/∂b and the same symmetric window as forward."""
    size, axes, alpha, beta, _ = formula
    wide, given = _wide(a), _wide(gradient)
    gain = _negative_power(scale, beta)
    inhibition = window_sum(given * wide * gain / scale, size, axes)
    return (given * gain - (2 * alpha * beta) * wide * inhibition).to(a.dtype)


def _wide(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


_WindowSum = Callable[[Tensor, int, tuple[int, ...]], Tensor]


class Kernels(NamedTuple):
    """One way to run the two formulas.  `report` says which, for people."""

    forward: Callable[[Tensor, Formula], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor, Formula], Tensor]
    report: str


def _plain_forward(a: Tensor, formula: Formula) -> tuple[Tensor, Tensor]:
    return _forward(a, formula, _window_sum)


def _plain_backward(gradient: Tensor, a: Tensor, scale: Tensor, formula: Formula) -> Tensor:
    return _backward(gradient, a, scale, formula, _window_sum)


PLAIN = Kernels(_plain_forward, _plain_backward, "plain torch")


def _fusible_forward(a: Tensor, formula: Formula) -> tuple[Tensor, Tensor]:
    return _forward(a, formula, _padded_window_sum)


def _fusible_backward(gradient: Tensor, a: Tensor, scale: Tensor, formula: Formula) -> Tensor:
    return _backward(gradient, a, scale, formula, _padded_window_sum)


WITHIN = Kernels(_fusible_forward, _fusible_backward, "fused with the whole network by torch.compile")
"""For a network that is compiled as a whole: its compiler sees the formulas and fuses them with what stands beside."""


class NoCompilerError(RuntimeError):
    """torch.compile cannot make a kernel for this device here; the message says why."""


@cache
def fused_kernels(device_type: str) -> Kernels:
    """Each formula as one kernel, made by torch.compile: C++ on the CPU, Triton on CUDA.

    Tried on a small tensor here, so that whatever is missing shows now and not in the middle of a training.

    Raises:
        NoCompilerError: no compiler, or it cannot make these kernels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own modules
        compiled_forward = torch.compile(_fusible_forward)
        compiled_backward = torch.compile(_fusible_backward)
        try:
            trial, formula = torch.ones(8, 1, 16, device=device_type), Formula(5, (2,), 1e-4, 0.75, 2.0)
            _, scale = compiled_forward(trial, formula)
            compiled_backward(trial, trial, scale, formula)
        except Exception as error:  # a compiler fails in many ways, and each means the same here
            raise NoCompilerError(_first_line(error)) from error

    def forward(a: Tensor, formula: Formula) -> tuple[Tensor, Tensor]:
        b, scale = compiled_forward(_any_length(a), formula)
        return b, scale

    def backward(gradient: Tensor, a: Tensor, scale: Tensor, formula: Formula) -> Tensor:
        result: Tensor = compiled_backward(_any_length(gradient), _any_length(a), _any_length(scale), formula)
        return result

    how = "C++" if device_type == "cpu" else "Triton"
    return Kernels(forward, backward, f"fused by torch.compile ({how})")


def _any_length(values: Tensor) -> Tensor:
    """The same values, marked so that one kernel serves every length of the first axis, and only of that one.

    With all axes free the kernels are a third slower; with none, each last batch of an epoch compiles anew.  Detached,
    since the gradient is ours to compute and the compiler would otherwise compile once more for values that need one.
    """
    values = values.detach()
    torch._dynamo.maybe_mark_dynamic(values, 0)  # noqa: SLF001 - torch documents it under this name
    for axis in range(1, values.dim()):
        torch._dynamo.mark_static(values, axis)  # noqa: SLF001
    return values


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def choose_kernels(device_type: str, wanted: Literal["auto", "fused", "plain"] = "auto") -> Kernels:
    """Fused kernels where a compiler is there, else plain ones whose `report` says why.

    Raises:
        NoCompilerError: `wanted` is "fused" and cannot be had.
    """
    if wanted == "plain":
        return PLAIN
    try:
        return fused_kernels(device_type)
    except NoCompilerError as error:
        if wanted == "fused":
            raise
        return PLAIN._replace(report=f"plain torch: torch.compile has no compiler here ({error})")


class _ResponseNorm(torch.autograd.Function):
    """b = a·s^−β, keeping only a and s for a backward in closed form."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, formula: Formula, kernels: Kernels) -> Tensor:
        b, scale = kernels.forward(a, formula)
        ctx.save_for_backward(a, scale)
        ctx.formula, ctx.kernels = formula, kernels
        return b

    @staticmethod
    @once_differentiable  # s is kept as a number: differentiating this again would miss how s depends on a
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        a, scale = ctx.saved_tensors
        return ctx.kernels.backward(gradients[0], a, scale, ctx.formula), None, None


class _ResponseNormModule(nn.Module):
    """What both normalisations share: the kernels that run them, plain until `use_kernels` says otherwise."""

    kernels: Kernels = PLAIN


def use_kernels(model: nn.Module, kernels: Kernels) -> int:
    """Have every response normalisation inside `model` run by these; how many there are."""
    found = [module for module in model.modules() if isinstance(module, _ResponseNormModule)]
    for module in found:
        module.kernels = kernels
    return len(found)


class LocalResponseNorm(_ResponseNormModule):
    """b = a / (k + α·Σa²)^β over neighbouring channels (paper, section 3.3), in whatever convention the spec states.

    Takes and returns (N, C, H, W), contiguous or channels last.  With `groups` = 2 no window crosses from one tower
    to the other.  With k = 0, n ≥ 2N − 1 (each window then holds all N channels of its group), α = 1 summed and
    β = ½ the result is a / ‖a‖₂, L2 normalisation over the channels; with n = N, as it is often told, only the middle
    channel's window holds them all.
    """

    def __init__(self, layer: spec.LRN) -> None:
        super().__init__()
        self.layer = layer
        self._formula = Formula(layer.size, (2,), layer.alpha_per_square, layer.beta, layer.k)

    def forward(self, a: Tensor) -> Tensor:
        groups = self.layer.groups
        if a.is_contiguous(memory_format=torch.channels_last):
            # (pixels, groups, channels): the same memory, with the windows along the last axis
            pixels = a.permute(0, 2, 3, 1)
            rows = pixels.reshape(-1, groups, a.shape[1] // groups)
            normalised = _ResponseNorm.apply(rows, self._formula, self.kernels)
            result: Tensor = normalised.reshape(pixels.shape).permute(0, 3, 1, 2)
            return result
        blocks = a.unflatten(1, (groups, -1)).flatten(3)  # (N, groups, channels, pixels)
        result = _ResponseNorm.apply(blocks.contiguous(), self._formula, self.kernels)
        return result.reshape(a.shape)

    def extra_repr(self) -> str:
        return repr(self.layer)


class SameMapResponseNorm(_ResponseNormModule):
    """b = a / (k + α/size²·Σa²)^β over a square neighbourhood inside each map; (N, C, H, W) in and out."""

    def __init__(self, layer: spec.SameMapNorm) -> None:
        super().__init__()
        self.layer = layer
        self._formula = Formula(layer.size, (2, 3), layer.alpha / layer.size**2, layer.beta, layer.k)

    def forward(self, a: Tensor) -> Tensor:
        result: Tensor = _ResponseNorm.apply(a, self._formula, self.kernels)
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
