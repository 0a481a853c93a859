"""Independent witnesses: torch itself, fvcore, torchinfo and FlopCounterMode, asked about the same network.

Each witness counts a module built from the spec; what it says is held against our closed formulas, stage by stage,
in the witness's own convention.  Nothing here is used to compute a cost.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from alexnet import layers
from alexnet.build import build
from alexnet.spec import Conv, Linear, Softmax, times
from analysis.conventions import CONVENTIONS
from analysis.costs import cost_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alexnet.spec import Network
    from analysis.costs import Cost, CostTable

FVCORE_LIMIT_BYTES = 4 * 2**30
"""fvcore traces real tensors; a network with more weights than this is not shown to it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One number said by us and by a witness; `stage` is ``total`` for the whole network."""

    witness: str
    quantity: str
    stage: str
    ours: int | str
    theirs: int | str

    @property
    def agrees(self) -> bool:
        return self.ours == self.theirs


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything the witnesses said about one network; `skipped` names witnesses not asked, with the reason."""

    network: str
    checks: tuple[Check, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def agrees(self) -> bool:
        return all(check.agrees for check in self.checks)

    @property
    def mismatches(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.agrees)

    def as_json(self) -> dict[str, Any]:
        """Plain types; a summary per witness and quantity, and every mismatch in full."""
        summary: dict[tuple[str, str], dict[str, Any]] = {}
        for check in self.checks:
            entry = summary.setdefault(
                (check.witness, check.quantity),
                {"witness": check.witness, "quantity": check.quantity, "compared": 0, "agree": 0},
            )
            entry["compared"] += 1
            entry["agree"] += check.agrees
            if check.stage == "total":
                entry |= {"ours": check.ours, "theirs": check.theirs}
        return {
            "network": self.network,
            "agrees": self.agrees,
            "witnesses": list(summary.values()),
            "mismatches": [
                {"witness": c.witness, "quantity": c.quantity, "stage": c.stage, "ours": c.ours, "theirs": c.theirs}
                for c in self.mismatches
            ],
            "skipped": [{"witness": witness, "reason": reason} for witness, reason in self.skipped],
        }


def verify(network: Network) -> Verdict:
    """Hold our table of this network against every witness."""
    table = cost_table(network)
    checks = [*_torch_shapes(table), *_torchinfo(table), *_flop_counter(table)]
    skipped = []
    weights = table.total("param_bytes")
    if weights <= FVCORE_LIMIT_BYTES:
        checks += _fvcore(table)
    else:
        skipped.append(
            ("fvcore", f"it runs the network, and {weights / 2**30:.1f} GiB of weights is too much for that")
        )
    return Verdict(network.name, tuple(checks), tuple(skipped))


# --- the module that is shown to the witnesses -----------------------------------------------------------------------


class _Stock(nn.Sequential):
    """The network in torch's own layers; a class of its own, as torchinfo's caches go by class name."""


def stock_module(network: Network) -> nn.Sequential:
    """The network as a port would write it, from torch's own layers, since tools know a layer by its class.

    nn.LocalResponseNorm stands for LRN in every convention (it knows no groups); a convolution that rounds up gets
    an nn.ZeroPad2d before it; the same-map norm, which torch does not have, becomes nn.Identity.
    """
    return _Stock(
        OrderedDict(
            (name, _stock(child, stage.in_shape))
            for (name, child), stage in zip(build(network).named_children(), network.stages(), strict=False)
        )
    )


def _stock(module: nn.Module, in_shape: tuple[int, ...]) -> nn.Module:
    match module:
        case layers.LocalResponseNorm(layer=layer):
            alpha = layer.alpha_per_square * layer.size  # torch divides α by the number of channels
            return nn.LocalResponseNorm(layer.size, alpha, layer.beta, layer.k)
        case layers.SameMapResponseNorm():
            return nn.Identity()
        case layers.CeilConv2d():
            plain = nn.Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]  # torch types it as a tuple of any length
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                groups=module.groups,
            )
            bottom, right = module.missing(in_shape[1:])
            return nn.Sequential(nn.ZeroPad2d((0, right, 0, bottom)), plain)
    return module


# --- the witnesses ---------------------------------------------------------------------------------------------------


def _torch_shapes(table: CostTable) -> Iterator[Check]:
    """Shapes and parameters of the very module that `build` gives, stage by stage, on the meta device."""
    with torch.device("meta"):
        model, value = build(table.network).eval(), torch.empty(1, *table.network.input_shape)
    for cost, (name, module) in zip(table.rows, model.named_children(), strict=False):
        value = module(value)
        assert name == cost.name
        yield Check("torch", "output shape", name, times(cost.stage.out_shape), times(tuple(value.shape[1:])))
        yield Check("torch", "parameters", name, cost.params, _numel(module))
    yield Check("torch", "parameters", "total", table.total("params"), _numel(model))


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _torchinfo(table: CostTable) -> Iterator[Check]:
    """torchinfo's parameters and mult-adds."""
    with torch.device("meta"):
        model = stock_module(table.network)
    summary = torchinfo.summary(
        model, input_size=(1, *table.network.input_shape), device="meta", verbose=0, cache_forward_pass=False
    )
    params: Counter[str] = Counter()
    macs: Counter[str] = Counter()
    names = {id(module): name for name, child in model.named_children() for module in child.modules()}
    for info in summary.summary_list:
        if info.is_leaf_layer:
            params[names[id(info.module)]] += info.num_params
            macs[names[id(info.module)]] += info.macs
    yield from _compare("torchinfo", "parameters", table, lambda cost: cost.params, params, summary.total_params)
    yield from _compare("torchinfo", "mult-adds", table, CONVENTIONS["torchinfo"].macs, macs, summary.total_mult_adds)


def _fvcore(table: CostTable) -> Iterator[Check]:
    """fvcore's flops.  It traces, and its tracing needs real tensors."""
    model = stock_module(table.network).eval()
    with _quiet("fvcore"), torch.no_grad():
        analysis = FlopCountAnalysis(model, torch.zeros(1, *table.network.input_shape))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_module = analysis.by_module()
    yield from _compare("fvcore", "flops", table, CONVENTIONS["fvcore"].macs, by_module, analysis.total())


def _flop_counter(table: CostTable) -> Iterator[Check]:
    """torch's own counter, forward and backward.

    Backward it is shown every group of a convolution as a convolution of its own: for grouped ones its formula for
    the weight gradient forgets the groups (pytorch PR 183405).
    """
    with torch.device("meta"):
        model, image = stock_module(table.network), torch.empty(1, *table.network.input_shape)
        with FlopCounterMode(display=False) as forward:
            model(image)
        yield from _compare(
            "FlopCounterMode",
            "forward FLOPs",
            table,
            CONVENTIONS["torch"].macs,
            _by_child(model, forward),
            forward.get_total_flops(),
        )
        yield from _compare(
            "FlopCounterMode",
            "backward FLOPs",
            table,
            lambda cost: 2 * cost.backward_macs,
            _backward_by_stage(table),
            None,
        )


def _by_child(model: nn.Module, counter: FlopCounterMode) -> dict[str, int]:
    """Counts of the model's children; FlopCounterMode's keys are ``_Stock.conv1`` and, deeper, ``_Stock.conv1.1``."""
    counts = counter.get_flop_counts()
    prefix = type(model).__name__
    return {name: sum(counts.get(f"{prefix}.{name}", {}).values()) for name, _ in model.named_children()}


def _backward_by_stage(table: CostTable) -> dict[str, int]:
    """Backward FLOPs of every layer with weights; the first of them is given an image, which needs no gradient."""
    weighted = [cost for cost in table.rows if isinstance(cost.layer, Conv | Linear)]
    return {cost.name: _backward_flops(cost, trains_input=i > 0) for i, cost in enumerate(weighted)}


def _backward_flops(cost: Cost, *, trains_input: bool) -> int:
    """What FlopCounterMode counts for the backward pass of one stage, its groups taken apart."""
    layer = cost.layer
    groups = layer.groups if isinstance(layer, Conv) else 1
    flops = 0
    for _ in range(groups):
        values = torch.empty(1, cost.stage.in_shape[0] // groups, *cost.stage.in_shape[1:])
        values.requires_grad_(trains_input)
        one = _one_group(cost, groups)
        with FlopCounterMode(display=False) as counter:
            output: Tensor = one(values)
            before = counter.get_total_flops()
            output.sum().backward()
            flops += counter.get_total_flops() - before
    return flops


def _one_group(cost: Cost, groups: int) -> nn.Module:
    layer, channels = cost.layer, cost.stage.in_shape[0] // groups
    if isinstance(layer, Conv):
        conv = layers.CeilConv2d if layer.rounding == "ceil" else nn.Conv2d
        return conv(channels, layer.out_channels // groups, layer.kernel, layer.stride, layer.padding)
    return nn.Linear(channels, cost.stage.out_shape[0])


def _compare(
    witness: str,
    quantity: str,
    table: CostTable,
    ours: Callable[[Cost], int],
    theirs: dict[str, int] | Counter[str],
    total: int | None,
) -> Iterator[Check]:
    """Every stage but the softmax, which the module leaves out, and the total, by default their stages' sum."""
    rows = [cost for cost in table.rows if not isinstance(cost.layer, Softmax)]
    for cost in rows:
        yield Check(witness, quantity, cost.name, ours(cost), int(theirs.get(cost.name, 0)))
    their_total = sum(theirs.values()) if total is None else total
    yield Check(witness, quantity, "total", sum(map(ours, rows)), int(their_total))


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """fvcore logs a line for every operator that it leaves out; which those are is what conventions.py is about."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
