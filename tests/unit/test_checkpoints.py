from __future__ import annotations

import dataclasses
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch

from alexnet import checkpoints
from alexnet.build import build
from alexnet.checkpoints import Checkpoint, CheckpointError
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.runs import link
from alexnet.serial import DamagedNetworkError, network_as_data, network_from_data
from alexnet.zoo import NETWORKS, network_from

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)


def checkpoint(**changes: Any) -> Checkpoint:
    torch.manual_seed(0)
    made = Checkpoint(
        network=NETWORK,
        classes=("ape", "bee", "cat"),
        preprocessing=Preprocessing(Geometry(76, 67, 67), torch.rand(3, 76, 76), torch.ones(3, 1, 1)),
        weights=build(NETWORK).state_dict(),
        config={"data": "somewhere"},
        results={"top1": 0.5},
        training={"step": 7, "optimiser": {"momentum_buffer": {"conv1.weight": torch.rand(96, 3, 11, 11)}}},
    )
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_survives_as_plain_data(name: str) -> None:
    network = network_from(name)
    assert network_from_data(json.loads(json.dumps(network_as_data(network)))) == network


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("layers"),
        lambda data: data["layers"][0][1].update(kind="transformer"),
        lambda data: data["layers"][0][1].update(kernel=-1),
        lambda data: data["layers"][0][1].update(colour="blue"),
        lambda data: data.update(layers=7),
        lambda data: data.update(input_shape=[3, 5, 5]),
        lambda data: data.update(extra=1),
    ],
)
def test_a_damaged_network_is_refused(damage: Any) -> None:
    data = network_as_data(NETWORK)
    damage(data)
    with pytest.raises(DamagedNetworkError, match="damaged"):
        network_from_data(data)


def test_a_network_that_is_no_network() -> None:
    for data in (None, 3, [], "x"):
        with pytest.raises(DamagedNetworkError):
            network_from_data(data)


def test_a_checkpoint_comes_back_whole(tmp_path: Path) -> None:
    saved = checkpoint()
    checkpoints.save(tmp_path / "x.pt", saved)
    loaded = checkpoints.load(tmp_path / "x.pt")
    assert loaded.network == NETWORK
    assert loaded.classes == saved.classes
    assert loaded.preprocessing.geometry == saved.preprocessing.geometry
    assert torch.equal(loaded.preprocessing.mean, saved.preprocessing.mean)
    assert loaded.weights.keys() == saved.weights.keys()
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    assert (loaded.config, loaded.results) == (saved.config, saved.results)
    assert loaded.training is not None
    assert loaded.training["step"] == 7


def test_a_second_name_is_the_same_checkpoint_and_stays_when_the_first_changes(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "last.pt", checkpoint())
    link(tmp_path / "last.pt", tmp_path / "best.pt")
    checkpoints.save(tmp_path / "last.pt", checkpoint(results={"top1": 0.1}))
    link(tmp_path / "last.pt", tmp_path / "other.pt")
    assert checkpoints.load(tmp_path / "best.pt").results == {"top1": 0.5}
    assert checkpoints.load(tmp_path / "other.pt").results == {"top1": 0.1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt", "other.pt"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/never-made-by-a-checkpoint", "w"))  # noqa: S108


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a checkpoint that can be read"),
        (b"not a checkpoint", "is not a checkpoint that can be read"),
        (pickle.dumps(Bomb()), "is not a checkpoint that can be read"),
        (pickle.dumps({"format": "x"}), "is not a checkpoint"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoints.load(path)
    assert "\n" not in str(caught.value)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    from pathlib import Path

    torch.save({"format": checkpoints.FORMAT, "network": Bomb()}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError):
        checkpoints.load(tmp_path / "x.pt")
    assert not Path("/tmp/never-made-by-a-checkpoint").exists()  # noqa: S108


def test_any_beginning_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    checkpoints.save(path, checkpoint())
    whole = path.read_bytes()
    for length in (1, 4, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoints.load(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoints.load(tmp_path / "nowhere.pt")


def changed(path: Path, **values: Any) -> None:
    content = torch.load(path, weights_only=True)
    torch.save(content | values, path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "other"}, "lacks format"),
        ({"classes": 5}, "is damaged"),
        ({"preprocessing": {}}, "it lacks"),
        ({"network": {}}, "is damaged"),
        (
            {"weights": {"conv1.weight": torch.zeros(1)}},
            r"conv1.weight is \(1,\), not \(96, 3, 11, 11\); conv1.bias is",
        ),
        ({"weights": {}}, "conv1.weight is missing"),
    ],
)
def test_a_checkpoint_with_something_wrong_names_it(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = tmp_path / "x.pt"
    checkpoints.save(path, checkpoint())
    changed(path, **values)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.load(path)


# --- safetensors, and weights that are not whole ---------------------------------------------------------------------


def test_a_safetensors_checkpoint_comes_back_whole_but_for_the_training(tmp_path: Path) -> None:
    saved = checkpoint(origin="a place", notes=("one", "two"))
    checkpoints.save(tmp_path / "x.safetensors", saved)
    loaded = checkpoints.load(tmp_path / "x.safetensors")
    assert (loaded.network, loaded.classes, loaded.config) == (saved.network, saved.classes, saved.config)
    assert (loaded.results, loaded.origin, loaded.notes) == (saved.results, saved.origin, saved.notes)
    assert loaded.preprocessing.geometry == saved.preprocessing.geometry
    assert torch.equal(loaded.preprocessing.mean, saved.preprocessing.mean)
    assert all(torch.equal(loaded.weights[name], saved.weights[name]) for name in saved.weights)
    assert loaded.weights.keys() == saved.weights.keys()
    assert loaded.training is None


def test_a_safetensors_checkpoint_is_one_for_everybody(tmp_path: Path) -> None:
    saved = checkpoint()
    checkpoints.save(tmp_path / "x.safetensors", saved)
    tensors = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert torch.equal(tensors["fc8.weight"], saved.weights["fc8.weight"])


def test_weights_stored_as_float16_come_back_as_float32(tmp_path: Path) -> None:
    saved = checkpoint()
    checkpoints.save(tmp_path / "x.safetensors", saved)
    checkpoints.save(tmp_path / "half.safetensors", saved, half=True)
    loaded = checkpoints.load(tmp_path / "half.safetensors")
    assert {tensor.dtype for tensor in loaded.weights.values()} == {torch.float32}
    assert torch.equal(loaded.weights["conv1.weight"], saved.weights["conv1.weight"].half().float())
    assert torch.equal(loaded.preprocessing.mean, saved.preprocessing.mean)
    weights = sum(tensor.numel() for tensor in saved.weights.values())
    whole, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("x", "half"))
    assert abs((whole - half) - 2 * weights) < 64  # the header's numbers are shorter by a few digits
    with pytest.raises(ValueError, match=r"only \.safetensors files are stored as float16"):
        checkpoints.save(tmp_path / "x.pt", saved, half=True)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_weights_without_a_training_may_be_partial_in_whole_stages(tmp_path: Path, name: str) -> None:
    weights = {key: tensor for key, tensor in checkpoint().weights.items() if key.startswith("conv")}
    checkpoints.save(tmp_path / name, checkpoint(weights=weights, training=None))
    loaded = checkpoints.load(tmp_path / name)
    assert loaded.missing == ("fc6", "fc7", "fc8")
    assert loaded.reachable[-1].name == "flatten"
    del weights["conv3.bias"]
    checkpoints.save(tmp_path / name, checkpoint(weights=weights, training=None))
    with pytest.raises(CheckpointError, match=r"do not fit alexnet-2012@67: conv3.bias is missing$"):
        checkpoints.load(tmp_path / name)
    checkpoints.save(tmp_path / name, checkpoint(weights={}, training=None))
    with pytest.raises(CheckpointError, match=r"conv1\.weight is missing"):
        checkpoints.load(tmp_path / name)


def test_a_training_does_not_go_on_from_partial_weights(tmp_path: Path) -> None:
    weights = {key: tensor for key, tensor in checkpoint().weights.items() if key.startswith("conv")}
    checkpoints.save(tmp_path / "x.pt", checkpoint(weights=weights))
    with pytest.raises(CheckpointError, match=r"fc6\.weight is missing"):
        checkpoints.load(tmp_path / "x.pt")


def test_a_foreign_safetensors_file_is_said(tmp_path: Path) -> None:
    safetensors.torch.save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="lacks format"):
        checkpoints.load(tmp_path / "x.safetensors")
