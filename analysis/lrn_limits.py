"""What the normalisation becomes at the ends of its settings, each claim held against real activations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from alexnet.spec import LRN
from analysis.lrn import (
    PAPER,
    alpha_text,
    normalise,
    normalised,
    settings_text,
    suppressed_overall,
    three_axes,
    window_energy,
    windows,
)

if TYPE_CHECKING:
    from torch import Tensor


class Limit(NamedTuple):
    """A claim about the formula, held against the activations.

    `deviation` is ‖output − what is claimed‖ / ‖what is claimed‖ and the claim `holds` where that is below `TOLERANCE`.
    `expected` is whether algebra says that it must: some claims are told and wrong.
    """

    claim: str
    settings: str
    deviation: float
    holds: bool
    expected: bool
    remark: str


TOLERANCE = 1e-5
"""Relative; float32 keeps seven digits, and a sum over some hundred squares loses one."""


def limit_cases(a: Tensor, layer: LRN) -> tuple[Limit, ...]:
    """What the formula becomes at the ends of its settings, checked on these activations, with the settings' groups."""
    values = three_axes(a)
    return tuple(case for make in (_ends, _l2, _saturation, _conventions) for case in make(values, layer))


def _limit(claim: str, layer: LRN, output: Tensor, claimed: Tensor, remark: str, *, expected: bool = True) -> Limit:
    norm, off = float(claimed.double().norm()), float((output.double() - claimed.double()).norm())
    deviation = off / norm if norm else float(off > 0)
    return Limit(claim, settings_text(layer), deviation, deviation <= TOLERANCE, expected, remark)


def _quotient(a: Tensor, denominator: Tensor) -> Tensor:
    """a / denominator, and 0 where that is 0."""
    return torch.where(denominator > 0, a / denominator, torch.zeros(()))


def _ends(a: Tensor, layer: LRN) -> tuple[Limit, ...]:
    silent, alone = replace(layer, alpha=0.0), replace(layer, size=1)
    divisive = replace(layer, beta=1.0)
    k, alpha = layer.k or 1.0, layer.alpha_per_square
    constant = k**-layer.beta
    energy = window_energy(a, layer)
    own = layer.k + alone.alpha_per_square * a.square()
    return (
        _limit(
            "α = 0: every value times the same k^−β",
            replace(silent, k=k),
            normalised(a, replace(silent, k=k)),
            a * constant,
            f"all that is left is the constant k^−β = {constant:.4g}: nobody inhibits anybody",
        ),
        _limit(
            "n = 1: every channel by itself",
            alone,
            normalised(a, alone),
            _quotient(a, own.pow(layer.beta)),
            "no neighbours: a channel is held back by its own square only",
        ),
        _limit(
            f"β = 1: plain division by k + {'α/n' if layer.average else 'α'}·Σa²",
            divisive,
            normalised(a, divisive),
            _quotient(a, layer.k + alpha * energy),
            "the divisive normalisation of neuroscience; a lone strong value comes out weaker the stronger it is",
        ),
    )


def _l2(a: Tensor, layer: LRN) -> tuple[Limit, ...]:
    block = len(a) // layer.groups
    norms = a.unflatten(0, (layer.groups, block)).norm(dim=1, keepdim=True)
    unit = _quotient(a.unflatten(0, (layer.groups, block)), norms).view_as(a)
    whole = LRN(2 * block - 1, 1.0, 0.5, 0.0, groups=layer.groups)
    told = replace(whole, size=block + (block % 2 == 0))
    as_told = normalised(a, told)
    holders = windows(len(a), told).sum(1) == block
    off, norm = (as_told - unit).flatten(1).norm(dim=1), unit.flatten(1).norm(dim=1)
    equal = (off <= TOLERANCE * norm).numpy()
    many = f"N = {block} channels" + " of each tower" * (layer.groups > 1)
    middle = ", ".join(str(c) for c in np.flatnonzero(holders))
    return (
        _limit(
            "k = 0, α = 1, β = ½, n = 2N − 1: a / ‖a‖₂",
            whole,
            normalised(a, whole),
            unit,
            f"L2 normalisation over the {many}: every window holds them all",
        ),
        _limit(
            "the same with n = N, as it is often told",
            told,
            as_told,
            unit,
            f"true of {int((equal & holders).sum())} channels only ({middle}), whose windows hold all N; "
            f"{int((~equal).sum())} others miss some",
            expected=bool(holders.all()),
        ),
    )


def _saturation(a: Tensor, layer: LRN) -> tuple[Limit, ...]:
    energy = window_energy(a, layer)
    # So large that k is lost beside α·Σa² in the quietest window, too.
    quietest = float(energy[energy > 0].min()) if bool((energy > 0).any()) else 1.0
    alpha = 1e8 * max(layer.k, 1.0) / quietest
    cases = []
    for beta in dict.fromkeys((0.5, layer.beta)):
        strong = LRN(layer.size, alpha, beta, layer.k, groups=layer.groups)
        factor = 2 ** (1 - 2 * beta)
        claim = "output independent of contrast" if beta == 0.5 else f"doubled input, output times {factor:.3g}"
        cases.append(
            _limit(
                f"α very large, β = {beta:g}: {claim}",
                strong,
                normalised(2 * a, strong),
                factor * normalised(a, strong),
                f"k is lost beside α·Σa², and b(s·a) = s^(1 − 2β)·b(a): 2^(1 − 2·{beta:g}) = {factor:.3g}",
            )
        )
    paper = replace(PAPER, groups=layer.groups)
    doubled, once = normalised(2 * a, paper), normalised(a, paper)
    ratio = float(doubled.norm() / once.norm()) if float(once.norm()) else 1.0
    return (
        *cases,
        _limit(
            "the paper's settings do the same",
            paper,
            doubled,
            once,
            f"far from it: doubling the input multiplies the output by {ratio:.3g} here (2 without inhibition)",
            expected=not bool(a.any()),
        ),
    )


def _conventions(a: Tensor, layer: LRN) -> tuple[Limit, ...]:
    summed = replace(layer, alpha=layer.alpha_per_square, average=False)
    averaged = replace(summed, alpha=summed.alpha * layer.size, average=True)
    blocks = a.unflatten(0, (layer.groups, -1))
    torchs = functional.local_response_norm(blocks, layer.size, averaged.alpha, layer.beta, layer.k)
    paper = replace(PAPER, groups=layer.groups)
    right = normalised(a, paper)
    notes, port = replace(paper, alpha=10e-4), replace(paper, average=True)

    def share(settings: LRN) -> str:
        overall = suppressed_overall(normalise(a, settings))
        return "nothing" if overall is None else f"{100 * overall:.2g} %"

    same = not bool(a.any())
    return (
        _limit(
            "α divided by n with n times the α is α summed",
            averaged,
            torchs.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).view_as(a),
            normalised(a, summed),
            f"torch's LRN with α = {alpha_text(averaged.alpha)} is the paper's formula with {alpha_text(summed.alpha)}",
        ),
        _limit(
            "a port's α = 1e-4 in torch is the paper's",
            port,
            normalised(a, port),
            right,
            f"torch divides by n, so it is five times weaker: {share(port)} suppressed here instead of {share(paper)}",
            expected=same,
        ),
        _limit(
            "α = 10e-4, as lecture notes print it, is the paper's",
            notes,
            normalised(a, notes),
            right,
            f"ten times the paper's 1e-4: {share(notes)} suppressed here instead of {share(paper)}",
            expected=same,
        ),
    )
