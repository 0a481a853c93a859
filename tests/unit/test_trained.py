"""The trained network in the box."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from alexnet.data.imagenet import readable
from alexnet.data.sources import open_data
from alexnet.foreign import open_checkpoint
from alexnet.inference import evaluate_checkpoint
from analysis.kernels import layer_kernels
from tests.training import imagenette

BOX = Path(__file__).resolve().parents[2] / "alexnet" / "trained" / "imagenette.safetensors"


def test_it_is_the_two_towers_with_every_weight_and_fits_into_the_box() -> None:
    checkpoint = open_checkpoint(BOX)
    assert BOX.stat().st_size < 20e6
    assert (checkpoint.network.name, checkpoint.network.hidden, checkpoint.network.towers) == (
        "alexnet-2012@131",
        512,
        2,
    )
    assert checkpoint.weights["conv1.weight"].shape == (96, 3, 11, 11)
    assert checkpoint.missing == ()
    assert readable(checkpoint.classes[0]) == "tench"
    assert "/" not in checkpoint.config["data"]


def test_its_kernels_are_no_noise() -> None:
    towers = layer_kernels(open_checkpoint(BOX)).towers
    assert sum(tower.compact for tower in towers) > 40  # noise: 0
    assert max(tower.smoothness or 9 for tower in towers) < 0.7  # noise: 3.6


def test_it_knows_imagenette(tmp_path: Path) -> None:
    with tarfile.open(imagenette()) as tar:
        members = [member for member in tar if member.name.endswith(".JPEG") and "val/" in member.name]
        few = [members[i] for i in np.linspace(0, len(members) - 1, 300).astype(int)]
        tar.extractall(tmp_path, members=few, filter="data")
    (folder,) = tmp_path.rglob("val")
    assert len(open_data(str(folder)).val.classes) == 10
    found = evaluate_checkpoint(BOX, str(folder), everything=True)
    assert found.pictures == 300
    assert found.top1 > 0.74  # 0.805 on all 3,925; 300 of them stray by 0.023
