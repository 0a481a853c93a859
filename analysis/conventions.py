"""How other tools count the same network, as values: each is our MACs plus named terms, with the reason for each.

The terms are exact, stage by stage; the tests hold them against the tools themselves.  No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from typing import TYPE_CHECKING

from alexnet.spec import LRN, AdaptiveAvgPool, Conv, MaxPool, ReLU

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.costs import Cost, CostTable


@dataclass(frozen=True, slots=True)
class Term:
    """Something a tool counts that a MAC with a weight is not.

    `images` gives the count of one image, `formula` the same with the numbers put in.
    """

    what: str
    why: str
    images: Callable[[Cost], int]
    formula: Callable[[Cost], str]


@dataclass(frozen=True, slots=True)
class Convention:
    """A way of counting: our MACs plus `terms`, our parameters plus `param_terms`.

    `unit` is what the tool calls the number, `reason` why it differs from ours, `source` where that can be read.
    """

    name: str
    tool: str
    unit: str
    reason: str
    source: str
    terms: tuple[Term, ...] = ()
    param_terms: tuple[Term, ...] = ()

    def macs(self, cost: Cost, batch: int = 1) -> int:
        """What this tool would print for the stage, for the batch that `cost` was counted for."""
        return cost.macs + batch * sum(term.images(cost) for term in self.terms)

    def params(self, cost: Cost) -> int:
        """The parameters this tool would print for the stage."""
        return cost.params + sum(term.images(cost) for term in self.param_terms)

    def total_macs(self, table: CostTable) -> int:
        """The tool's figure for the whole network and batch."""
        return sum(self.macs(row, table.batch) for row in table.rows)

    def total_params(self, table: CostTable) -> int:
        """The tool's parameters for the whole network."""
        return sum(self.params(row) for row in table.rows)

    def differences(self, cost: Cost) -> list[tuple[Term, int]]:
        """The terms that change this stage's figure for one image, with how much."""
        return [(term, count) for term in self.terms if (count := term.images(cost))]


# --- formulas with numbers put in -----------------------------------------------------------------------------------


def product(*factors: int) -> str:
    """``55·55·96 = 290,400``; a single factor stands alone."""
    if len(factors) == 1:
        return f"{factors[0]:,}"
    return f"{'·'.join(map(str, factors))} = {prod(factors):,}"


def _outputs(cost: Cost) -> str:
    return product(*_spatial_first(cost.stage.out_shape))


def _spatial_first(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[1:], shape[0])


def _values(cost: Cost) -> int:
    return prod(cost.stage.out_shape)


# --- terms -----------------------------------------------------------------------------------------------------------

BIAS_ADD = Term(
    what="bias adds",
    why="one more for every output, because adding the bias is counted as a multiply–accumulate",
    images=lambda cost: _values(cost) if cost.biases else 0,
    formula=_outputs,
)

_SECOND_OPERATION = Term(
    what="the addition in each MAC",
    why="multiplication and addition are counted as two operations",
    images=lambda cost: prod(cost.stage.out_shape[1:]) * cost.weights,
    formula=lambda cost: product(*_spatial_first((cost.weights, *cost.stage.out_shape[1:]))),
)

_RELU_TWICE = Term(
    what="ReLU, twice",
    why="one for every output of ReLU, counted once by the hook on nn.ReLU and once more inside, at F.relu",
    images=lambda cost: 2 * _values(cost) if isinstance(cost.layer, ReLU) else 0,
    formula=lambda cost: product(2, *_spatial_first(cost.stage.out_shape)),
)

_POOL_TWICE = Term(
    what="pooling, twice",
    why="one for every input of a pooling, counted once by the hook on the module and once more inside its function",
    images=lambda cost: 2 * prod(cost.stage.in_shape) if isinstance(cost.layer, MaxPool | AdaptiveAvgPool) else 0,
    formula=lambda cost: product(2, *_spatial_first(cost.stage.in_shape)),
)


def _lrn_pieces(cost: Cost) -> int:
    if not isinstance(cost.layer, LRN):
        return 0
    channels, height, width = cost.stage.out_shape
    return (4 * channels + cost.layer.size - 1) * height * width


def _lrn_pieces_formula(cost: Cost) -> str:
    assert isinstance(cost.layer, LRN)
    channels, height, width = cost.stage.out_shape
    return f"(3·{channels} + {channels} + {cost.layer.size} − 1)·{height}·{width} = {_lrn_pieces(cost):,}"


_LRN_PIECES = Term(
    what="the pieces of nn.LocalResponseNorm",
    why=(
        "LRN itself is unknown to it, but it counts the functions torch builds LRN from: multiply, multiply and add "
        "once per value, and a 3-D average pooling over the channels padded by n − 1"
    ),
    images=_lrn_pieces,
    formula=_lrn_pieces_formula,
)


_LRN_SUM = Term(
    what="the squares in LRN",
    why="summing n squares is counted as n MACs for every value, also at the border where fewer neighbours exist",
    images=lambda cost: cost.layer.size * _values(cost) if isinstance(cost.layer, LRN) else 0,
    formula=lambda cost: product(
        cost.layer.size if isinstance(cost.layer, LRN) else 0, *_spatial_first(cost.stage.out_shape)
    ),
)

_LRN_PARAMETERS = Term(
    what="α and β of LRN",
    why="each LRN is given two parameters, although α and β are constants that nobody learns",
    images=lambda cost: 2 if isinstance(cost.layer, LRN) else 0,
    formula=lambda _cost: "2",
)

_ADAPTIVE_INPUTS = Term(
    what="adaptive average pooling",
    why="one for every input of nn.AdaptiveAvgPool2d, the only pooling it has a rule for",
    images=lambda cost: prod(cost.stage.in_shape) if isinstance(cost.layer, AdaptiveAvgPool) else 0,
    formula=lambda cost: product(*_spatial_first(cost.stage.in_shape)),
)

# --- conventions -----------------------------------------------------------------------------------------------------

OURS = Convention(
    name="ours",
    tool="this laboratory",
    unit="MACs",
    reason=(
        "One multiplication with a weight and the addition that goes with it. Biases are not multiplied, so they do "
        "not count."
    ),
    source="Paper-style counting: 55·55·96 outputs × 11·11·3 weights for conv1",
)

CONVENTIONS: dict[str, Convention] = {
    convention.name: convention
    for convention in (
        OURS,
        Convention(
            name="fvcore",
            tool="fvcore FlopCountAnalysis (and thop)",
            unit="“flops”, which are MACs",
            reason=(
                "The same count under another name: its documentation calls one multiply–add a flop. LRN, ReLU and max "
                "pooling are left out as unsupported; only adaptive average pooling is added where there is one."
            ),
            source="fvcore/nn/jit_handles.py; fvcore#69",
            terms=(_ADAPTIVE_INPUTS,),
        ),
        Convention(
            name="torchinfo",
            tool="torchinfo summary",
            unit="“mult-adds”",
            reason="Multiplies every parameter, biases included, by the number of positions it is used at.",
            source="torchinfo/layer_info.py, calculate_macs",
            terms=(BIAS_ADD,),
        ),
        Convention(
            name="ptflops",
            tool="ptflops, its default backend (pytorch)",
            unit="“MACs”",
            reason=(
                "Counts bias adds, and hooks both modules and the functions inside them, so ReLU and pooling are "
                "counted twice; LRN appears through the functions that torch's nn.LocalResponseNorm is made of."
            ),
            source="ptflops/pytorch_ops.py, pytorch_engine.py",
            terms=(BIAS_ADD, _RELU_TWICE, _POOL_TWICE, _LRN_PIECES),
        ),
        Convention(
            name="ptflops-aten",
            tool="ptflops, backend aten",
            unit="“MACs”",
            reason="Counts at the level of torch's operators: convolutions and matrix products, bias adds included.",
            source="ptflops/aten_ops.py",
            terms=(BIAS_ADD,),
        ),
        Convention(
            name="torch",
            tool="torch.utils.flop_counter.FlopCounterMode",
            unit="FLOPs",
            reason="Two operations per MAC; no biases, and nothing for layers without weights.",
            source="torch/utils/flop_counter.py",
            terms=(_SECOND_OPERATION,),
        ),
        Convention(
            name="netscope",
            tool="netscope CNN Analyzer",
            unit="“MACC”",
            reason=(
                "Ours, plus n MACs per value of LRN; it also gives each LRN two parameters. By its source at the "
                "revision of July 2018; a later revision counts convolutions as n multiplications and n − 1 additions."
            ),
            source="dgschwend/netscope, src/analyzer.coffee",
            terms=(_LRN_SUM,),
            param_terms=(_LRN_PARAMETERS,),
        ),
    )
}


class UnknownConventionError(ValueError):
    """No convention has this name; the message suggests the nearest."""


def convention_named(name: str) -> Convention:
    """The convention of this name.

    Raises:
        UnknownConventionError: no such convention; the message names the nearest and lists all.
    """
    key = name.strip().lower()
    if key in CONVENTIONS:
        return CONVENTIONS[key]
    near = get_close_matches(key, CONVENTIONS, n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]}? " if near else ""
    raise UnknownConventionError(f"there is no convention named {name!r}; {suggestion}Known: {', '.join(CONVENTIONS)}")


def torch_backward_flops(cost: Cost) -> int:
    """What FlopCounterMode of torch 2.13 counts for the backward pass of this stage.

    Two per MAC, but for a grouped convolution's weight gradient it forgets to divide by the groups (pytorch PR
    183405), so that half is `groups` times too large.
    """
    groups = cost.layer.groups if isinstance(cost.layer, Conv) else 1
    return 2 * (cost.weight_gradient_macs * groups + cost.input_gradient_macs)
