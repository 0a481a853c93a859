from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING

import pytest
import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from alexnet.build import module
from alexnet.spec import LRN, Conv, Linear, Softmax
from alexnet.zoo import NETWORKS, network_from
from analysis.conventions import CONVENTIONS, UnknownConventionError, convention_named, torch_backward_flops
from analysis.costs import cost_table
from analysis.measured import stock_module

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Layer, Network, Shape, Stage
    from analysis.conventions import Convention
    from analysis.costs import Cost, CostTable

# Networks that cover every kind of layer; VGG is small enough to run when its input is.
REFERENCES = [
    "alexnet-2012",
    "alexnet-one-tower@99",
    "caffenet",
    "alexnet-owt",
    "alexnet-owt@130x97",
    "alexnet-2012-source",
    "alexnet-2012-source@101x90",
    "alexnet-half",
    "vgg-a-lrn@64",
    "alexnet-2012@67:no-overlap:tanh",
]
TRACING = pytest.mark.filterwarnings("ignore:`torch.jit.trace`:DeprecationWarning")
DISTUTILS = pytest.mark.filterwarnings("ignore:distutils Version classes:DeprecationWarning:thop")


@lru_cache(maxsize=1)
def real_module(reference: str) -> nn.Sequential:
    """The network in torch's own layers, with real weights; eval, so that dropout is none."""
    return stock_module(network_from(reference)).eval()


def meta_module(network: Network) -> nn.Sequential:
    with torch.device("meta"):
        return stock_module(network)


def figures(name: str, table: CostTable) -> dict[str, int]:
    """What the convention says of every stage that the module has, and of the whole network."""
    convention = CONVENTIONS[name]
    stages = {r.name: convention.macs(r, table.batch) for r in table.rows if not isinstance(r.layer, Softmax)}
    return {**stages, "total": convention.total_macs(table)}


# --- AlexNet's totals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "macs"),
    [
        ("ours", 724_406_816),
        ("fvcore", 724_406_816),
        ("torchinfo", 725_066_088),
        ("ptflops", 729_346_320),
        ("ptflops-aten", 725_066_088),
        ("torch", 1_448_813_632),
        ("netscope", 726_791_936),
    ],
)
def test_totals_of_alexnet(convention: str, macs: int) -> None:
    table = cost_table(NETWORKS["alexnet-2012"])
    params = 60_965_228 if convention == "netscope" else 60_965_224
    assert convention_named(convention).total_macs(table) == macs
    assert convention_named(convention).total_params(table) == params


def test_every_convention_is_tested_here() -> None:
    assert set(CONVENTIONS) == {"ours", "fvcore", "torchinfo", "ptflops", "ptflops-aten", "torch", "netscope"}


def test_conv1_of_alexnet_with_and_without_bias_adds() -> None:
    conv1 = cost_table(NETWORKS["alexnet-2012"]).row("conv1")
    assert CONVENTIONS["ours"].macs(conv1) == 105_415_200
    assert CONVENTIONS["torchinfo"].macs(conv1) == 105_705_600


# --- against the tools themselves -------------------------------------------------------------------------------------


@TRACING
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reference", REFERENCES)
def test_fvcore(reference: str, batch: int) -> None:
    network = network_from(reference)
    analysis = FlopCountAnalysis(real_module(reference), torch.zeros(batch, *network.input_shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    said = analysis.by_module()
    expected = figures("fvcore", cost_table(network, batch))
    assert {name: said[name] for name in expected if name != "total"} | {"total": analysis.total()} == expected


@DISTUTILS
@pytest.mark.parametrize("reference", [reference for reference in REFERENCES if "owt" not in reference])
def test_thop_counts_as_fvcore_does(reference: str) -> None:
    import thop

    network = network_from(reference)
    image = torch.empty(1, *network.input_shape, device="meta")
    total, params, said = thop.profile(meta_module(network), (image,), verbose=False, ret_layer_info=True)
    table = cost_table(network)
    assert {name: entry[0] for name, entry in said.items()} | {"total": total} == figures("fvcore", table)
    assert params == CONVENTIONS["fvcore"].total_params(table)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reference", REFERENCES)
def test_torchinfo(reference: str, batch: int) -> None:
    network = network_from(reference)
    model = meta_module(network)
    summary = torchinfo.summary(
        model, input_size=(batch, *network.input_shape), device="meta", verbose=0, cache_forward_pass=False
    )
    parts = {id(part): name for name, child in model.named_children() for part in child.modules()}
    said = dict.fromkeys(parts.values(), 0) | {"total": summary.total_mult_adds}
    for info in summary.summary_list:
        if info.is_leaf_layer:
            said[parts[id(info.module)]] += info.macs
    table = cost_table(network, batch)
    assert said == figures("torchinfo", table)
    assert summary.total_params == CONVENTIONS["torchinfo"].total_params(table)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("reference", REFERENCES)
def test_flop_counter_mode(reference: str, batch: int) -> None:
    network = network_from(reference)
    model, value = meta_module(network), torch.empty(batch, *network.input_shape, device="meta")
    said = {}
    for name, child in model.named_children():
        with FlopCounterMode(display=False) as counter:
            value = child(value)
        said[name] = counter.get_total_flops()
    said["total"] = sum(said.values())
    assert said == figures("torch", cost_table(network, batch))


@pytest.mark.parametrize("reference", REFERENCES)
def test_flop_counter_mode_backward(reference: str) -> None:
    network, said, weights_before = network_from(reference), {}, False
    for stage in network.stages():
        with torch.device("meta"):
            values = torch.empty(1, *stage.in_shape, requires_grad=weights_before)
            one = module(stage)
        if isinstance(stage.layer, Conv | Linear):
            output = one(values)
            with FlopCounterMode(display=False) as counter:
                output.sum().backward()
            said[stage.name], weights_before = counter.get_total_flops(), True
    table = cost_table(network)
    assert {row.name: torch_backward_flops(row) for row in table.rows if row.weights} == said


@pytest.mark.parametrize(
    ("backend", "convention"), [("pytorch", "ptflops"), ("aten", "ptflops-aten")], ids=["pytorch", "aten"]
)
@pytest.mark.parametrize("reference", REFERENCES)
def test_ptflops(reference: str, backend: str, convention: str) -> None:
    from ptflops import get_model_complexity_info

    def count(part: nn.Module, in_shape: Shape) -> tuple[int, int]:
        macs, params = get_model_complexity_info(
            part, in_shape, as_strings=False, print_per_layer_stat=False, backend=backend
        )
        return macs, params

    network = network_from(reference)
    model, stages = real_module(reference), network.stages()
    said = {
        name: count(nn.Sequential(child), stage.in_shape)[0]
        for (name, child), stage in zip(model.named_children(), stages, strict=False)
    }
    table = cost_table(network)
    total, params = count(model, network.input_shape)
    assert said | {"total": total} == figures(convention, table)
    assert params == CONVENTIONS[convention].total_params(table)


def netscope(stage: Stage) -> tuple[int, int]:
    """MACCs and parameters by netscope's rules; it calls a map's sides wOut and hOut, its channels chOut."""
    layer, channels_in = stage.layer, stage.in_shape[0]
    match layer:
        case Conv():
            channels_out, h_out, w_out = stage.out_shape
            kernel_w = kernel_h = layer.kernel
            macc = kernel_w * kernel_h * w_out * h_out * channels_in * channels_out // layer.groups
            params = kernel_w * kernel_h * channels_in * channels_out // layer.groups + channels_out
            return macc, params
        case Linear():
            w_in, h_in = 1, 1  # flattened
            macc = w_in * h_in * channels_in * layer.out_features
            return macc, macc + layer.out_features
        case LRN():
            channels, h_in, w_in = stage.in_shape
            return w_in * h_in * channels * layer.size, 2
    return 0, 0


@pytest.mark.parametrize("reference", REFERENCES)
def test_netscope_by_its_formulas(reference: str) -> None:
    table, convention = cost_table(network_from(reference)), CONVENTIONS["netscope"]
    said = {row.name: netscope(row.stage) for row in table.rows}
    assert {row.name: (convention.macs(row), convention.params(row)) for row in table.rows} == said
    assert convention.total_macs(table) == sum(macc for macc, _ in said.values())
    assert convention.total_params(table) == sum(params for _, params in said.values())


@pytest.mark.parametrize(
    ("in_shape", "layer"),
    [
        ((8, 5, 6), Conv(4, 3, stride=2, padding=1, groups=4)),
        ((6, 9, 9), Conv(6, 3, groups=6)),
        ((4, 7, 7), LRN(3)),
        ((2, 7, 7), LRN(9)),
    ],
    ids=str,
)
def test_ptflops_on_layers_that_no_named_network_has(
    in_shape: Shape, layer: Layer, network_of: Callable[..., Network]
) -> None:
    from ptflops import get_model_complexity_info

    network = network_of(in_shape, layer)
    macs, _ = get_model_complexity_info(
        stock_module(network), in_shape, as_strings=False, print_per_layer_stat=False, backend="pytorch"
    )
    assert CONVENTIONS["ptflops"].total_macs(cost_table(network)) == macs


# --- terms ------------------------------------------------------------------------------------------------------------


def right_side(formula: str) -> int:
    return int(formula.rpartition(" = ")[2].replace(",", ""))


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_formulas_of_terms_end_in_their_counts(convention: Convention) -> None:
    compared = 0
    for name in NETWORKS:
        for cost in cost_table(network_from(name)).rows:
            for term in (*convention.terms, *convention.param_terms):
                if term.images(cost):
                    assert right_side(term.formula(cost)) == term.images(cost), (name, cost.name, term.what)
                    compared += 1
    assert compared > 0 or not (convention.terms or convention.param_terms)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_differences_explain_the_whole_difference(convention: Convention) -> None:
    for cost in cost_table(NETWORKS["alexnet-2012"]).rows:
        differences = convention.differences(cost)
        assert cost.macs + sum(count for _, count in differences) == convention.macs(cost)
        assert all(count for _, count in differences)


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
def test_a_convention_says_which_tool_what_unit_why_and_where(convention: Convention) -> None:
    texts = [convention.tool, convention.unit, convention.reason, convention.source]
    assert all(texts)
    assert all(term.what and term.why for term in (*convention.terms, *convention.param_terms))


def test_terms_of_alexnets_first_norm_under_ptflops_and_netscope() -> None:
    norm1 = cost_table(NETWORKS["alexnet-2012"]).row("norm1")
    assert [count for _, count in CONVENTIONS["ptflops"].differences(norm1)] == [(4 * 96 + 4) * 55 * 55]
    assert [count for _, count in CONVENTIONS["netscope"].differences(norm1)] == [5 * prod((96, 55, 55))]
    assert CONVENTIONS["fvcore"].differences(norm1) == []


# --- names ------------------------------------------------------------------------------------------------------------


def test_names_of_conventions_in_any_case() -> None:
    assert convention_named(" NetScope ").name == "netscope"


@pytest.mark.parametrize(("wrong", "nearest"), [("fcore", "fvcore"), ("ptflop", "ptflops"), ("pytorch", "torch")])
def test_an_unknown_convention_suggests_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(
        UnknownConventionError,
        match=rf"no convention named '{wrong}'; did you mean {nearest}\? Known: ours, fvcore, .*netscope$",
    ):
        convention_named(wrong)


def test_a_convention_like_no_other_gets_the_list() -> None:
    with pytest.raises(UnknownConventionError, match=r"no convention named 'zzz'; Known: ours, "):
        convention_named("zzz")


@pytest.mark.parametrize(
    ("reference", "groups"), [("alexnet-2012", [1, 2, 1, 2, 2]), ("alexnet-one-tower@99", [1, 1, 1, 1, 1])]
)
def test_torch_counts_the_weight_gradient_of_a_grouped_convolution_once_a_group(
    reference: str, groups: list[int]
) -> None:
    def convolutions(table: CostTable) -> list[Cost]:
        return [row for row in table.rows if isinstance(row.layer, Conv)]

    rows = convolutions(cost_table(network_from(reference)))
    excess = [torch_backward_flops(row) - 2 * row.backward_macs for row in rows]
    assert excess == [2 * row.macs * (group - 1) for row, group in zip(rows, groups, strict=True)]
