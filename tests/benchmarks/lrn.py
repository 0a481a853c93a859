"""Local response normalisation, forward and backward, against torch's, on conv1's maps of 32 pictures.

    python -m tests.benchmarks.lrn

Ours is the fused kernel and the plain one, torch's `F.local_response_norm` with α·n, so that both compute the paper's
formula over all 96 channels.  Target: fused at least 4 times as fast on two CPU cores, 5 on a GPU.  One JSON line.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from alexnet import spec
from alexnet.layers import LocalResponseNorm, choose_kernels, use_kernels
from tests.benchmarks.timing import device, machine, medians

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (32, 96, 55, 55)
REPEATS = 15


def _task(norm: Callable[[torch.Tensor], torch.Tensor], order: torch.memory_format) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(SHAPE, generator=generator).relu().to(device()).contiguous(memory_format=order).requires_grad_()
    gradient = torch.randn(SHAPE, generator=generator).to(device()).contiguous(memory_format=order)

    def run() -> None:
        a.grad = None
        norm(a).backward(gradient)

    return run


def _ours(wanted: str) -> LocalResponseNorm:
    norm = LocalResponseNorm(spec.LRN())
    use_kernels(norm, choose_kernels(device().type, wanted))  # type: ignore[arg-type]
    return norm


def _torchs(a: torch.Tensor) -> torch.Tensor:
    return functional.local_response_norm(a, 5, alpha=5e-4, beta=0.75, k=2.0)


def main() -> None:
    """Measure and print."""
    orders = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}
    tasks: dict[str, Callable[[], object]] = {}
    for label, order in orders.items():
        tasks |= {
            f"fused, {label}": _task(_ours("fused"), order),
            f"plain, {label}": _task(_ours("plain"), order),
            f"torch, {label}": _task(_torchs, order),
        }
    size = 1
    for axis in SHAPE:
        size *= axis
    source, target = torch.rand(size, device=device()), torch.empty(size, device=device())
    # Fused must read a and write b and s, then read a, s and ∂L/∂b and write ∂L/∂a: seven passes over the maps.
    tasks["seven passes of memory"] = lambda: [target.copy_(source) for _ in range(4)]
    found = medians(tasks, REPEATS)
    bound = found["seven passes of memory"] * 7 / 8  # a copy is two passes
    torchs = min(found[f"torch, {label}"] for label in orders)
    print(
        json.dumps(
            {
                "milliseconds": {name: round(value * 1e3, 2) for name, value in found.items()},
                "times_faster_than_torchs_best": {
                    name: round(torchs / found[name], 2) for name in found if name.startswith(("fused", "plain"))
                },
                "share_of_memory_bandwidth": {
                    name: round(bound / found[name], 2) for name in found if name.startswith("fused")
                },
                "shape": SHAPE,
                "repeats": REPEATS,
                **machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
