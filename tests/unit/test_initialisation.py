from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from alexnet.build import build
from alexnet.initialisation import initialise
from alexnet.zoo import network_named

if TYPE_CHECKING:
    from alexnet.spec import Network

ALEXNET = network_named("alexnet-2012").adapted(input_shape=(3, 67, 67), hidden=512, classes=50)


def initialised(network: Network, how: str, seed: int = 0) -> dict[str, torch.Tensor]:
    model = build(network)
    initialise(model, network, how, seed)  # type: ignore[arg-type]
    return dict(model.state_dict())


def deviations(weights: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value.std()) for name, value in weights.items() if name.endswith("weight")}


def test_the_papers_weights() -> None:
    weights = initialised(ALEXNET, "paper")
    for deviation in deviations(weights).values():
        assert deviation == pytest.approx(0.01, rel=0.02)
    ones = {name.removesuffix(".bias") for name, value in weights.items() if name.endswith("bias") and value.all()}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert all(set(value.tolist()) <= {0.0, 1.0} for name, value in weights.items() if name.endswith("bias"))
    assert all(abs(float(value.mean())) < 0.001 for name, value in weights.items() if name.endswith("weight"))


def test_the_released_sources_weights() -> None:
    found = deviations(initialised(ALEXNET, "source"))
    assert {name for name, value in found.items() if value == pytest.approx(0.03, rel=0.02)} == {
        f"conv{n}.weight" for n in (3, 4, 5)
    }
    assert found["conv1.weight"] == pytest.approx(0.01, rel=0.02)


def test_hes_weights_count_what_one_output_sees() -> None:
    found = deviations(initialised(ALEXNET, "he"))
    assert found["conv1.weight"] == pytest.approx(math.sqrt(2 / (3 * 11 * 11)), rel=0.02)
    assert found["conv2.weight"] == pytest.approx(math.sqrt(2 / (48 * 5 * 5)), rel=0.02)  # one tower's maps
    assert found["conv3.weight"] == pytest.approx(math.sqrt(2 / (256 * 3 * 3)), rel=0.02)  # both towers' maps
    assert found["fc7.weight"] == pytest.approx(math.sqrt(2 / 512), rel=0.02)


def test_he_behind_conv1_keeps_the_papers_first_kernels() -> None:
    mixed, he = (deviations(initialised(ALEXNET, how)) for how in ("he-behind-conv1", "he"))
    assert mixed["conv1.weight"] == pytest.approx(0.01, rel=0.02)
    assert {name: mixed[name] for name in mixed if name != "conv1.weight"} == pytest.approx(
        {name: he[name] for name in he if name != "conv1.weight"}, rel=0.02
    )


def test_torchs_own_weights_have_torchs_distribution() -> None:
    ours = initialised(ALEXNET, "torch")
    torch.manual_seed(0)
    theirs = build(ALEXNET).state_dict()
    for name, value in theirs.items():
        if value.numel() > 1000:
            assert float(ours[name].std()) == pytest.approx(float(value.std()), rel=0.03)
            assert float(ours[name].abs().max()) == pytest.approx(float(value.abs().max()), rel=0.01)


def test_the_seed_alone_decides() -> None:
    torch.manual_seed(1)
    first = initialised(ALEXNET, "paper", seed=5)
    torch.manual_seed(2)
    again, other = initialised(ALEXNET, "paper", seed=5), initialised(ALEXNET, "paper", seed=6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_where_the_source_says_nothing_that_is_said() -> None:
    with pytest.raises(ValueError, match="states no initial weights for conv1: use --initialisation he"):
        initialised(network_named("alexnet-owt").adapted(input_shape=(3, 64, 64), hidden=8), "paper")
