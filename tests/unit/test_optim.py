from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from alexnet.optim import SGD2012, Plateau, cosine_rate, warmed_up

RATES = [0.1, 0.1, 0.01, 0.01, 0.02, 0.001]


def gradients(steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(5, dtype=torch.double, generator=generator) for _ in range(steps)]


def stepped(optimiser: torch.optim.Optimizer, weight: nn.Parameter, rates: list[float]) -> torch.Tensor:
    for rate, gradient in zip(rates, gradients(len(rates)), strict=True):
        optimiser.param_groups[0]["lr"] = rate
        weight.grad = gradient.clone()
        optimiser.step()
    return weight.detach()


def start() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 5, dtype=torch.double))


def by_the_papers_rule(rates: list[float], momentum: float, decay: float) -> torch.Tensor:
    """v ← μ·v − λ·ε·w − ε·g;  w ← w + v, as section 5 prints it."""
    w, v = start().detach().clone(), torch.zeros(5, dtype=torch.double)
    for rate, gradient in zip(rates, gradients(len(rates)), strict=True):
        v = momentum * v - decay * rate * w - rate * gradient
        w = w + v
    return w


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rates", [RATES, [0.1] * 6, [0.001, 1.0, 0.5]], ids=str)
def test_the_rule_is_the_papers_also_when_the_rate_changes(rates: list[float], fused: bool) -> None:
    weight = start()
    optimiser = SGD2012([weight], lr=rates[0], momentum=0.9, weight_decay=0.0005, fused=fused)
    torch.testing.assert_close(stepped(optimiser, weight, rates), by_the_papers_rule(rates, 0.9, 0.0005))


def test_it_is_torchs_sgd_while_the_rate_stays_and_not_when_it_changes() -> None:
    def torchs(rates: list[float]) -> torch.Tensor:
        weight = start()
        return stepped(torch.optim.SGD([weight], lr=rates[0], momentum=0.9, weight_decay=0.0005), weight, rates)

    torch.testing.assert_close(torchs([0.1] * 6), by_the_papers_rule([0.1] * 6, 0.9, 0.0005))
    assert (torchs(RATES) - by_the_papers_rule(RATES, 0.9, 0.0005)).abs().max() > 0.05


def test_after_a_drop_by_ten_the_next_step_still_coasts_on_nine_tenths_of_the_last() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.double))
    optimiser = SGD2012([weight], lr=1.0, momentum=0.9, weight_decay=0.0)
    moved = []
    for rate, gradient in ((1.0, 1.0), (0.1, 0.0), (0.1, 0.0)):
        before = float(weight.detach())
        optimiser.param_groups[0]["lr"] = rate
        weight.grad = torch.full_like(weight, gradient)
        optimiser.step()
        moved.append(float(weight.detach()) - before)
    assert moved == pytest.approx([-1.0, -0.9, -0.81])


def test_a_rate_of_zero_is_refused() -> None:
    weight = start()
    optimiser = SGD2012([weight], lr=0.1, momentum=0.9, weight_decay=0.0)
    with pytest.raises(ValueError, match="above 0, got 0"):
        stepped(optimiser, weight, [0.1, 0.0])


def test_the_plateau_drops_three_times_and_then_ends() -> None:
    plateau = Plateau(rate=0.01, patience=2, drops_left=3)
    drops = [epoch for epoch in range(20) if not plateau.finished and plateau.validated(0.5)]
    # The first epoch improves on nothing; then every second stall is a drop; the stall after the third ends it.
    assert drops == [2, 4, 6]
    assert plateau.rate == pytest.approx(1e-5)
    assert plateau.finished


def test_improvement_starts_the_plateaus_patience_anew() -> None:
    plateau = Plateau(rate=1.0, patience=3, drops_left=1)
    errors = [0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.8]
    assert [plateau.validated(error) for error in errors] == [False] * 6 + [True]
    assert plateau.best_error == 0.8


def test_a_plateau_goes_on_from_its_data() -> None:
    first = Plateau(rate=1.0, patience=2, drops_left=2)
    for error in (0.5, 0.6):
        first.validated(error)
    second = Plateau(**first.as_data())
    assert second.validated(0.7)
    assert first.validated(0.7)
    assert first == second


def test_the_cosine_goes_from_the_peak_through_half_to_almost_nothing() -> None:
    rates = [cosine_rate(0.2, step, 1000) for step in range(1000)]
    assert rates[0] == 0.2
    assert rates[500] == pytest.approx(0.1)
    assert rates[250] == pytest.approx(0.1 * (1 + math.sqrt(0.5)))
    assert 0 < rates[-1] < 1e-5
    assert rates == sorted(rates, reverse=True)


def test_the_warm_up_rises_in_equal_steps_and_never_starts_at_zero() -> None:
    assert [warmed_up(1.0, step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert warmed_up(1.0, 0, 0) == 1.0
