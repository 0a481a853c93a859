"""How weights change: the update rule of 2012, and learning rates over time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from alexnet.course import cosine_rate, warmed_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor
    from torch.nn import Parameter

__all__ = ["SGD2012", "Plateau", "cosine_rate", "warmed_up"]


class SGD2012(torch.optim.SGD):
    """v ← μ·v − λ·ε·w − ε·g;  w ← w + v  (paper, section 5, with μ = 0.9 and λ = 0.0005).

    torch's SGD keeps b ← μ·b + g + λ·w and steps by −ε·b.  With v = −ε·b the two are one rule as long as ε stays;
    when ε changes, v here remembers steps as they were taken, while −ε·b rescales the past to the new rate: after a
    drop by 10, torch's next step is at once a tenth, and the rule of 2012 still coasts on nine tenths of its last.
    So this is torch's SGD (and its fused kernel) with b multiplied by ε_old/ε_new whenever ε changes.

    Raises:
        ValueError: a rate of 0, for which no b gives back v.
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        weight_decay: float,
        fused: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
        for group in self.param_groups:
            group["stepped_with"] = lr

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        for group in self.param_groups:
            rate, before = group["lr"], group["stepped_with"]
            if rate <= 0:
                raise ValueError(f"the rule of 2012 needs a learning rate above 0, got {rate}")
            if rate != before:
                buffers = [self.state[p]["momentum_buffer"] for p in group["params"] if self._has_momentum(p)]
                if buffers:
                    torch._foreach_mul_(buffers, before / rate)
                group["stepped_with"] = rate
        result: float | None = super().step(closure)
        return result

    def _has_momentum(self, parameter: Tensor) -> bool:
        return self.state.get(parameter, {}).get("momentum_buffer") is not None


@dataclass(slots=True)
class Plateau:
    """Divides the learning rate by 10 when the validation error stops improving (paper, section 5: three times).

    The paper did it by hand; here a stall is `patience` validations without a lower error.  The stall after the last
    drop ends the training.
    """

    rate: float
    patience: int
    drops_left: int
    best_error: float = math.inf
    stalled_for: int = 0
    finished: bool = False

    def validated(self, error: float) -> bool:
        """Takes the error rate of one validation; whether the learning rate dropped."""
        if error < self.best_error:
            self.best_error, self.stalled_for = error, 0
            return False
        self.stalled_for += 1
        if self.stalled_for < self.patience:
            return False
        self.stalled_for = 0
        if self.drops_left == 0:
            self.finished = True
            return False
        self.drops_left -= 1
        self.rate /= 10
        return True

    def as_data(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}
