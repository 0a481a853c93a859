from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from alexnet import probes
from alexnet.build import build
from alexnet.checkpoints import untrained
from alexnet.inference import Viewer
from alexnet.probes import Probe, schedule
from alexnet.spec import Flatten, Linear, Network, Softmax
from alexnet.zoo import network_from

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("steps", "count"), [(1, 1), (1, 10), (7, 100), (100, 10), (8_820, 100), (10**7, 200), (5, 1)])
def test_the_film_begins_at_0_ends_at_the_end_and_has_about_as_many_pictures_as_asked(steps: int, count: int) -> None:
    moments = sorted(schedule(steps, count))
    assert moments[0] == 0
    assert moments[-1] == steps
    assert all(0 <= moment <= steps for moment in moments)
    assert len(moments) <= count + 3
    if steps > 100 * count:
        assert len(moments) >= 0.7 * count


def test_the_film_is_dense_at_first_and_never_has_a_large_hole() -> None:
    moments = sorted(schedule(10_000, 100))
    assert sum(moment < 1_000 for moment in moments) > 30
    assert max(np.diff(moments)) <= 10_000 / 50


def test_no_probes_asked_for_none_taken() -> None:
    assert schedule(1000, 0) == frozenset()


def test_a_probe_is_what_the_network_computes() -> None:
    network = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)
    torch.manual_seed(0)
    model = build(network).eval()
    inputs = torch.randn(4, 3, 67, 67) * 50
    taken = Probe(network, inputs).taken(model.state_dict())
    norms = {f"{what}/{name}" for what in ("before", "map", "lrn") for name in ("norm1", "norm2")}
    assert set(taken) == {"kernels", "map/conv1", "probabilities"} | norms
    np.testing.assert_array_equal(taken["kernels"], model.conv1.weight.detach().half().numpy())  # type: ignore[union-attr, operator]
    with torch.no_grad():
        relu = model[:2](inputs)
        norm = model[:3](inputs)
    np.testing.assert_allclose(
        taken["lrn/norm1"],
        torch.stack([relu.square().mean((0, 2, 3)).sqrt(), norm.square().mean((0, 2, 3)).sqrt()]),
        rtol=1e-4,
    )
    first = norm[0]
    expected = functional.adaptive_avg_pool2d(first, (min(32, first.shape[1]), min(32, first.shape[2])))
    np.testing.assert_allclose(taken["map/norm1"].astype(np.float32), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["alexnet-2012@67", "caffenet@67", "alexnet-2012-source@67", "vgg-a@32"])
def test_maps_and_probabilities_are_those_of_whoever_looks_through_the_same_weights(name: str) -> None:
    network = network_from(name).adapted(classes=5, hidden=16)
    checkpoint = untrained(network, seed=2)
    inputs = torch.randn(3, *network.input_shape, generator=torch.Generator().manual_seed(1)) * 50
    taken = Probe(network, inputs).taken(checkpoint.weights)
    outputs = {stage.name: output[0] for stage, output in Viewer(checkpoint, torch.device("cpu")).walk(inputs[:1])}
    names = [stage.name for stage in network.stages()]
    probabilities = taken["probabilities"]
    assert (probabilities.shape, probabilities.dtype) == ((5,), np.float32)
    np.testing.assert_allclose(probabilities, outputs[names[-1]], rtol=1e-4, atol=1e-6)
    norms = [key.removeprefix("lrn/") for key in taken if key.startswith("lrn/")]
    assert {f"before/{norm}" for norm in norms} == {key for key in taken if key.startswith("before/")}
    assert bool(norms) == (name != "vgg-a@32")
    for norm in norms:
        before = outputs[names[names.index(norm) - 1]]
        expected = functional.adaptive_avg_pool2d(before, (min(32, before.shape[1]), min(32, before.shape[2])))
        np.testing.assert_allclose(taken[f"before/{norm}"].astype(np.float32), expected, rtol=2e-3, atol=2e-3)


def test_a_probe_takes_no_random_numbers_from_the_training_and_leaves_its_weights() -> None:
    network = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)
    weights = dict(untrained(network, seed=2).weights)
    copies = {name: tensor.clone() for name, tensor in weights.items()}
    probe = Probe(network, torch.randn(2, 3, 67, 67), label=2)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = probe.taken(weights), probe.taken(weights)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])  # dropout is off
    assert all(torch.equal(copies[name], tensor) for name, tensor in weights.items())


def test_weights_of_another_precision_are_looked_through_in_float32() -> None:
    network = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)
    halved = {name: tensor.bfloat16() for name, tensor in untrained(network, seed=2).weights.items()}
    probe = Probe(network, torch.randn(2, 3, 67, 67))
    expected = probe.taken({name: tensor.float() for name, tensor in halved.items()})
    for name, array in probe.taken(halved).items():
        np.testing.assert_array_equal(array, expected[name])


def test_a_network_without_convolutions_has_probabilities_alone() -> None:
    network = Network(
        "flat", "Flat", (3, 4, 4), (("flatten", Flatten()), ("fc", Linear(3)), ("prob", Softmax())), "made up", ""
    )
    weights = build(network).state_dict()
    inputs = torch.randn(2, 3, 4, 4)
    taken = Probe(network, inputs).taken(weights)
    assert set(taken) == {"probabilities"}
    assert set(Probe(network, inputs, label=2).taken(weights)) == {"probabilities", "label"}
    scores = np.exp(weights["fc.weight"].numpy() @ inputs[0].flatten().numpy() + weights["fc.bias"].numpy())
    np.testing.assert_allclose(taken["probabilities"], scores / scores.sum(), rtol=1e-5)


def test_a_network_without_lrn_has_kernels_and_maps_of_its_first_convolution() -> None:
    network = network_from("vgg-a@32").adapted(classes=3, hidden=8)
    model = build(network)
    taken = Probe(network, torch.randn(2, 3, 32, 32)).taken(model.state_dict())
    assert set(taken) == {"kernels", "map/conv1_1", "probabilities"}


def test_a_snapshot_is_small_and_comes_back(tmp_path: Path) -> None:
    network = network_from("alexnet-2012@131").adapted(classes=10, hidden=512)
    model = build(network)
    taken = Probe(network, torch.randn(2, 3, 131, 131)).taken(model.state_dict())
    probes.save(tmp_path / "x.npz", taken)
    assert (tmp_path / "x.npz").stat().st_size < 600_000
    with np.load(tmp_path / "x.npz") as loaded:
        for name, value in taken.items():
            np.testing.assert_array_equal(loaded[name], value)


def test_moments_of_a_tensor() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert probes.moments(values) == pytest.approx({"mean": 3.0, "std": 3.5**0.5, "norm": 50**0.5})
