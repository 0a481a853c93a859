from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from alexnet import spec
from alexnet.build import build
from alexnet.spec import LRN, Conv, SameMapNorm
from alexnet.zoo import NETWORKS, network_from
from analysis import costs, measured
from analysis.__main__ import main
from analysis.measured import Check, Verdict, stock_module, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Network, Stage
    from analysis.costs import Cost

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.trace`:DeprecationWarning")

WITNESSES = {
    ("torch", "output shape"),
    ("torch", "parameters"),
    ("torchinfo", "parameters"),
    ("torchinfo", "mult-adds"),
    ("FlopCounterMode", "forward FLOPs"),
    ("FlopCounterMode", "backward FLOPs"),
    ("fvcore", "flops"),
}


@pytest.mark.parametrize(
    "reference",
    [
        "alexnet-2012",
        "alexnet-slim",
        "alexnet-2012-source",
        "alexnet-owt",
        "alexnet-owt@130x97",
        "caffenet",
        "alexnet-2012@67:no-overlap:tanh",
        "vgg-a@32",
        "vgg-a-lrn@33x47",
        "vgg-c@32",
        *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name.startswith("vgg")),
    ],
)
def test_every_witness_agrees_at_every_stage(reference: str) -> None:
    network = network_from(reference)
    verdict = verify(network)
    assert verdict.mismatches == ()
    assert (verdict.network, verdict.agrees, verdict.skipped) == (reference, True, ())
    by_witness = {(check.witness, check.quantity): set() for check in verdict.checks}
    for check in verdict.checks:
        by_witness[check.witness, check.quantity].add(check.stage)
    assert set(by_witness) == WITNESSES
    # Every witness spoke about every stage but the softmax, which the loss has, and about the total.
    stages = {name for name, layer in network.layers if not isinstance(layer, spec.Softmax)}
    for witness, seen in by_witness.items():
        assert seen >= stages, witness
        assert seen - stages <= {"total"}, witness


def test_the_witnesses_themselves_said_what_is_known_of_alexnet() -> None:
    theirs = {(c.witness, c.quantity): c.theirs for c in verify(NETWORKS["alexnet-2012"]).checks if c.stage == "total"}
    assert theirs == {
        ("torch", "parameters"): 60_965_224,
        ("torchinfo", "parameters"): 60_965_224,
        ("torchinfo", "mult-adds"): 725_066_088,
        ("FlopCounterMode", "forward FLOPs"): 1_448_813_632,
        ("FlopCounterMode", "backward FLOPs"): 2 * (2 * 724_406_816 - 105_415_200),
        ("fvcore", "flops"): 724_406_816,
    }


# --- wrong numbers are caught -----------------------------------------------------------------------------------------

SMALL = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)
SMALL_ARGUMENTS = ["verify", "alexnet-2012@67", "--classes", "3", "--hidden", "8"]


def falsify(monkeypatch: pytest.MonkeyPatch, at: str, weights: int = 0, biases: int = 0, macs: int = 0) -> None:
    """Make the cost rule for weights, biases and MACs wrong by this much at one stage."""
    true_rule = costs.weights_biases_macs

    def wrong(stage: Stage) -> tuple[int, int, int]:
        w, b, m = true_rule(stage)
        return (w + weights, b + biases, m + macs) if stage.name == at else (w, b, m)

    monkeypatch.setattr(costs, "weights_biases_macs", wrong)


def test_the_small_network_agrees_while_nothing_is_wrong() -> None:
    assert verify(SMALL).agrees


@pytest.mark.parametrize(
    ("stage", "error", "witnesses"),
    [
        (
            "conv2",
            {"macs": 1},
            {
                ("torchinfo", "mult-adds"),
                ("fvcore", "flops"),
                ("FlopCounterMode", "forward FLOPs"),
                ("FlopCounterMode", "backward FLOPs"),
            },
        ),
        (
            "fc7",
            {"weights": 1, "macs": 1},
            {
                ("torch", "parameters"),
                ("torchinfo", "parameters"),
                ("torchinfo", "mult-adds"),
                ("fvcore", "flops"),
                ("FlopCounterMode", "forward FLOPs"),
                ("FlopCounterMode", "backward FLOPs"),
            },
        ),
        ("conv4", {"biases": -1}, {("torch", "parameters"), ("torchinfo", "parameters")}),
    ],
)
def test_a_wrong_number_is_a_mismatch_at_its_stage_and_in_the_total(
    stage: str, error: dict[str, int], witnesses: set[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    falsify(monkeypatch, stage, **error)
    verdict = verify(SMALL)
    assert not verdict.agrees
    assert {check.stage for check in verdict.mismatches} == {stage, "total"}
    assert {(check.witness, check.quantity) for check in verdict.mismatches if check.stage == stage} == witnesses


def test_a_forgotten_input_gradient_is_a_mismatch_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    true_cost = costs._cost

    def wrong(stage: Stage, *rest: object) -> Cost:
        cost = true_cost(stage, *rest)
        return cost._replace(input_gradient_macs=0) if stage.name == "conv3" else cost

    monkeypatch.setattr(costs, "_cost", wrong)
    (at_stage,) = (check for check in verify(SMALL).mismatches if check.stage == "conv3")
    # 3×3 maps: 9 · 884,736 products in each half, two operations each; the witness counts both halves.
    assert (at_stage.quantity, at_stage.theirs, at_stage.ours) == ("backward FLOPs", 4 * 9 * 884_736, 2 * 9 * 884_736)


@pytest.mark.parametrize(("error", "status", "word"), [({}, 0, "agree"), ({"macs": 5}, 1, "MISMATCH")])
def test_the_command_exits_1_on_a_mismatch_and_names_the_stage(
    error: dict[str, int],
    status: int,
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    falsify(monkeypatch, "conv5", **error)
    assert main(SMALL_ARGUMENTS) == status
    out, err = capsys.readouterr()
    assert out.startswith(f"{word}  ".ljust(10) + "alexnet-2012@67, input 3×67×67")
    assert ("MISMATCH at conv5: " in out, "MISMATCH at total: " in out) == (status == 1, status == 1)
    assert err == ""


def test_the_commands_json_lists_every_mismatch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    falsify(monkeypatch, "conv5", biases=1)
    assert main([*SMALL_ARGUMENTS, "--format", "json"]) == 1
    (value,) = json.loads(capsys.readouterr().out)
    assert (value["network"], value["agrees"]) == ("alexnet-2012@67", False)
    of_stage = [entry for entry in value["mismatches"] if entry["stage"] == "conv5" and entry["witness"] == "torch"]
    assert of_stage == [
        {"witness": "torch", "quantity": "parameters", "stage": "conv5", "ours": 442_625, "theirs": 442_624}
    ]
    (torch_parameters,) = (
        entry for entry in value["witnesses"] if (entry["witness"], entry["quantity"]) == ("torch", "parameters")
    )
    # 22 stages and the total; conv5 and the total disagree.
    assert (torch_parameters["compared"], torch_parameters["agree"]) == (23 + 1, 22)


# --- what is not asked is said ----------------------------------------------------------------------------------------


def test_a_network_too_large_for_fvcore_is_reported_as_skipped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(measured, "FVCORE_LIMIT_BYTES", 60_965_224 * 4 - 1)
    verdict = verify(NETWORKS["alexnet-2012"])
    assert verdict.agrees
    assert "fvcore" not in {check.witness for check in verdict.checks}
    # 243,860,896 bytes are 0.23 GiB.
    reason = "it runs the network, and 0.2 GiB of weights is too much for that"
    assert verdict.skipped == (("fvcore", reason),)
    assert verdict.as_json()["skipped"] == [{"witness": "fvcore", "reason": reason}]
    assert main(["verify", "alexnet-2012"]) == 0
    assert f"fvcore           not asked: {reason}" in capsys.readouterr().out


def test_a_network_just_within_the_limit_is_shown_to_fvcore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "FVCORE_LIMIT_BYTES", costs.cost_table(SMALL).total("param_bytes"))
    verdict = verify(SMALL)
    assert verdict.skipped == ()
    assert "fvcore" in {check.witness for check in verdict.checks}


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_verdict_agrees_only_where_every_check_does() -> None:
    good, bad = Check("w", "q", "conv1", 5, 5), Check("w", "q", "total", 5, 6)
    assert Verdict("n", (good, good)).agrees
    verdict = Verdict("n", (good, bad), (("v", "too large"),))
    assert not verdict.agrees
    assert verdict.mismatches == (bad,)
    assert verdict.as_json() == {
        "network": "n",
        "agrees": False,
        "witnesses": [{"witness": "w", "quantity": "q", "compared": 2, "agree": 1, "ours": 5, "theirs": 6}],
        "mismatches": [{"witness": "w", "quantity": "q", "stage": "total", "ours": 5, "theirs": 6}],
        "skipped": [{"witness": "v", "reason": "too large"}],
    }


# --- the module that the witnesses are shown --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    ["alexnet-2012@99", "alexnet-one-tower@99", "alexnet-2012-source@101x90", "caffenet@75", "vgg-a-lrn@32"],
)
def test_the_stock_module_computes_what_ours_does(reference: str) -> None:
    # What torch's own layers cannot say is left out: groups in LRN and the same-map norm.
    network = network_from(reference).adapted(hidden=16, classes=5).without(SameMapNorm)
    whole = ((name, replace(layer, groups=1) if isinstance(layer, LRN) else layer) for name, layer in network.layers)
    network = replace(network, layers=tuple(whole))
    ours, stock = build(network).eval(), stock_module(network).eval()
    with torch.no_grad():
        for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
            theirs.copy_(mine)
    image = 100 * torch.randn(2, *network.input_shape)  # as large as pixels, so that α matters
    torch.testing.assert_close(ours(image), stock(image))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_stock_module_has_only_torchs_own_layers(name: str) -> None:
    with torch.device("meta"):
        model = stock_module(NETWORKS[name])
    assert {type(child).__module__.partition(".")[0] for child in model.children()} == {"torch"}
    assert [child for child, _ in model.named_children()] == [s for s, _ in NETWORKS[name].layers][:-1]


def test_witnesses_leave_the_callers_settings_alone(network_of: Callable[..., Network]) -> None:
    logger = logging.getLogger("fvcore")
    logger.setLevel(logging.INFO)
    grad = torch.is_grad_enabled()
    verify(network_of((3, 8, 8), Conv(4, 3)))
    assert (logger.level, torch.is_grad_enabled()) == (logging.INFO, grad)
    logger.setLevel(logging.NOTSET)
