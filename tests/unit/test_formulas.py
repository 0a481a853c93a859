from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction
from math import ceil, floor
from typing import TYPE_CHECKING

import pytest

from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Flatten, Linear, MaxPool, ReLU, SameMapNorm, Softmax, Tanh
from alexnet.zoo import NETWORKS, network_from
from analysis import formulas
from analysis.conventions import CONVENTIONS
from analysis.costs import cost_table
from analysis.receptive import ReceptiveField, receptive_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Layer, Network, Stage
    from analysis.costs import Cost

REFERENCES = [
    *NETWORKS,
    "alexnet-2012@224",
    "alexnet-2012@129x97",
    "alexnet-one-tower@110x231",
    "alexnet-2012-source@129x98",
    "caffenet@75x122",
    "alexnet-owt@130x97",
    "alexnet-owt@64",
    "alexnet-half@101x79",
    "alexnet-slim@199x210",
    "vgg-a-lrn@45x77",
    "vgg-d@33x65",
]

# --- a small calculator -----------------------------------------------------------------------------------------------

_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_CALLS = {"floor": floor, "ceil": ceil}
_SYMBOLS = str.maketrans({"·": "*", "−": "-", "⌊": " floor(", "⌋": ")", "⌈": " ceil(", "⌉": ")"})


def evaluated(text: str) -> Fraction:
    """The value of an expression as the formulas write it: ``⌊(224 − 11)/4⌋ + 1``, exactly."""
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", text).translate(_SYMBOLS).strip()
    return _value(ast.parse(plain, mode="eval").body)


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() as number):
            return Fraction(number)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return Fraction(_CALLS[name](_value(argument)))
    raise AssertionError(f"not arithmetic: {ast.dump(node)}")


def test_the_calculator() -> None:
    assert evaluated("⌊(224 − 11)/4⌋ + 1") == 54
    assert evaluated("⌈(224 − 11 + 2·0)/4⌉ + 1 − 1") == 55 - 1
    assert evaluated("(11·11·3 + 1)·96") == 34_944
    assert evaluated("2·105,415,200 + 290,400") == 211_120_800
    assert evaluated("7/3") == Fraction(7, 3)


# --- every formula ----------------------------------------------------------------------------------------------------


def check(formula: str | None, cell: int | Fraction, where: object) -> None:
    """Left and right side are the cell; only an empty cell may do without a formula."""
    if formula is None:
        assert not cell, where
        return
    left, equals, right = formula.rpartition(" = ")
    assert equals, where
    assert evaluated(left) == evaluated(right) == cell, (where, formula)
    assert re.fullmatch(r"\d+|\d{1,3}(,\d{3})+", right), (where, formula)


def check_costs(network: Network, batch: int) -> None:
    for cost in cost_table(network, batch).rows:
        where = network.name, cost.name
        check(formulas.params(cost), cost.params, where)
        check(formulas.macs(cost, batch), cost.macs, where)
        check(formulas.flops(cost, batch), cost.flops, where)
        check(formulas.activation_bytes(cost, batch), cost.activation_bytes, where)
        check(formulas.param_bytes(cost), cost.param_bytes, where)
        check(formulas.backward_macs(cost), cost.backward_macs, where)
        check(formulas.crossing_bytes(cost, network.towers, batch), cost.crossing_bytes, where)
        if len(cost.stage.out_shape) == 3:  # a vector's neurons are its length, without a formula
            check(formulas.neurons(cost), cost.neurons, where)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("reference", REFERENCES)
def test_formulas_of_costs(reference: str, batch: int) -> None:
    check_costs(network_from(reference), batch)


@pytest.mark.parametrize("reference", REFERENCES)
def test_formulas_of_sizes(reference: str) -> None:
    network = network_from(reference)
    for stage in network.stages():
        check_size(stage, network.name)
        check(formulas.flattened(stage), stage.out_shape[0] if isinstance(stage.layer, Flatten) else 0, stage.name)


def check_size(stage: Stage, where: str) -> None:
    lines = formulas.output_size(stage)
    if not isinstance(stage.layer, Conv | MaxPool):
        assert lines == [], (where, stage.name)
        return
    # One line for two equal axes.
    axes = dict.fromkeys(zip(stage.in_shape[1:], stage.out_shape[1:], strict=True))
    for line, (before, after) in zip(lines, axes, strict=True):
        check(line, after, (where, stage.name))
        assert f"({before} − {stage.layer.kernel}" in line, (where, stage.name)


@pytest.mark.parametrize("reference", REFERENCES)
def test_formulas_of_receptive_fields(reference: str) -> None:
    network = network_from(reference)
    before, compared = ReceptiveField(1, Fraction(1), 0), 0
    for stage, after in zip(network.stages(), receptive_fields(network), strict=True):
        formula = formulas.receptive_field(stage, before, after)
        if isinstance(stage.layer, Conv | MaxPool | SameMapNorm):
            check(formula, after.size, (reference, stage.name))
            compared += 1
        else:
            assert formula is None, (reference, stage.name)
        before = after
    assert compared >= 8


@pytest.mark.parametrize("reference", REFERENCES)
def test_formulas_of_what_other_tools_add(reference: str) -> None:
    for cost in cost_table(network_from(reference)).rows:
        for convention in CONVENTIONS.values():
            for term in (*convention.terms, *convention.param_terms):
                if count := term.images(cost):
                    left, _, right = term.formula(cost).rpartition(" = ")
                    assert evaluated(right) == evaluated(left or right) == count, (cost.name, convention.name)


@pytest.mark.parametrize(
    ("in_shape", "layer"),
    [
        ((2, 9, 11), Conv(4, 3, stride=2, padding=1, groups=2)),
        ((2, 9, 12), Conv(4, 3, stride=4, rounding="ceil")),
        ((2, 3, 4), Conv(4, 5, stride=3, rounding="ceil")),
        ((2, 9, 12), MaxPool(2, 3, "ceil")),
        ((2, 7, 4), MaxPool(1, 3, "ceil")),
        ((2, 8, 5), MaxPool(1, 3, "ceil")),
        ((2, 2, 2), MaxPool(3, 2, "ceil")),
        ((2, 9, 12), AdaptiveAvgPool(5)),
        ((9, 3, 3), LRN(5, groups=3)),
        ((2, 5, 4), SameMapNorm(7, 1e-3, 0.75)),
        ((2, 5, 4), ReLU()),
        ((2, 5, 4), Tanh()),
        ((1,), Linear(1)),
        ((1,), Softmax()),
        ((20_000,), Linear(10)),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_formulas_of_layers_that_no_named_network_has(
    in_shape: tuple[int, ...], layer: Layer, batch: int, network_of: Callable[..., Network]
) -> None:
    network = network_of(in_shape, layer)
    check_costs(network, batch)
    for stage in network.stages():
        check_size(stage, network.name)


@pytest.mark.parametrize(("towers", "size"), [(2, 3), (3, 3), (2, 15), (3, 11)])
def test_formulas_of_traffic(towers: int, size: int, network_of: Callable[..., Network]) -> None:
    layers = Conv(12, 1), LRN(size), Conv(6, 1), Flatten(), Linear(6), Linear(2)
    network = network_of((3, 4, 5), *layers, towers=towers, merged_at="l6")
    check_costs(network, 7)
    assert [bool(row.crossing_bytes) for row in cost_table(network).rows] == [False, True, True, False, True, True]


def test_the_formula_of_a_field_after_average_pooling_is_true_arithmetic(network_of: Callable[..., Network]) -> None:
    network = network_of((1, 7, 7), AdaptiveAvgPool(3), Conv(1, 3))
    before, after = receptive_fields(network)
    check(formulas.receptive_field(network.stages()[1], before, after), after.size, "conv")


# --- as they are read -------------------------------------------------------------------------------------------------


def row(name: str, batch: int = 1, reference: str = "alexnet-2012") -> Cost:
    return cost_table(network_from(reference), batch).row(name)


def test_how_formulas_read() -> None:
    assert formulas.params(row("conv1")) == "(11·11·3 + 1)·96 = 34,944"
    assert formulas.params(row("conv2")) == "(5·5·96/2 + 1)·256 = 307,456"
    assert formulas.params(row("fc6")) == "(9216 + 1)·4096 = 37,752,832"
    assert formulas.macs(row("conv1")) == "55·55·96 · 11·11·3 = 105,415,200"
    assert formulas.flops(row("conv1")) == "2·105,415,200 + 290,400 = 211,120,800"
    assert formulas.flops(row("relu1")) == "55·55·96 = 290,400"
    assert formulas.flops(row("norm1")) == "2·(5·48 − 2·3)·55·55 + 4·290,400 = 2,577,300"
    assert formulas.flops(row("pool1")) == "27·27·96 · (3·3 − 1) = 559,872"
    assert formulas.flops(row("drop6")) is None
    assert formulas.flops(row("prob")) == "5·1000 − 2 = 4,998"
    assert formulas.neurons(row("conv1")) == "55·55·96 = 290,400"
    assert formulas.neurons(row("fc6")) is None
    assert formulas.activation_bytes(row("conv1")) == "55·55·96 · 4 = 1,161,600"
    assert formulas.param_bytes(row("conv1")) == "34,944 · 4 = 139,776"
    assert formulas.backward_macs(row("conv1")) == "105,415,200 + 0 = 105,415,200"
    assert formulas.crossing_bytes(row("conv3"), 2) == "13·13·256/2 · 1 · 2 · 4 = 173,056"
    assert formulas.crossing_bytes(row("fc8"), 2) == "4096/2 · 1 · 4 = 8,192"
    assert formulas.crossing_bytes(row("norm1", reference="caffenet"), 2) == "1·2·2·27·27 · 4 = 11,664"
    assert formulas.output_size(row("conv1").stage) == ["(227 − 11)/4 + 1 = 55"]
    assert formulas.output_size(row("conv1", reference="alexnet-2012@224").stage) == ["⌊(224 − 11)/4⌋ + 1 = 54"]
    assert formulas.output_size(row("conv1", reference="alexnet-2012-source").stage) == ["⌈(224 − 11)/4⌉ + 1 = 55"]
    assert formulas.output_size(row("relu1").stage) == []
    assert formulas.flattened(row("flatten").stage) == "6·6·256 = 9,216"


def test_formulas_of_a_batch_begin_with_the_batch() -> None:
    for formula in (
        formulas.macs(row("conv1", 7), 7),
        formulas.flops(row("relu1", 7), 7),
        formulas.activation_bytes(row("conv1", 7), 7),
        formulas.crossing_bytes(row("conv3", 7), 2, 7),
    ):
        assert formula is not None
        assert formula.startswith("7·")


def test_a_wrong_cell_would_be_caught() -> None:
    conv1 = row("conv1")
    with pytest.raises(AssertionError):
        check(formulas.macs(conv1), conv1.macs + 1, "conv1")
    with pytest.raises(AssertionError):
        check(formulas.params(conv1._replace(weights=conv1.weights + 1)), conv1.params + 1, "conv1")
    channels, height, width = conv1.stage.out_shape
    with pytest.raises(AssertionError):
        check_size(conv1.stage._replace(out_shape=(channels, height + 1, width + 1)), "conv1")


@pytest.mark.parametrize("name", NETWORKS)
def test_what_backward_keeps_is_true_arithmetic(name: str) -> None:
    for cost in cost_table(NETWORKS[name]).rows:
        formula = formulas.kept_bytes(cost)
        assert (formula is None) == (cost.kept_bytes == 0), cost.name
        if formula:
            check(formula, cost.kept_bytes, cost.name)
