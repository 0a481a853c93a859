"""The convolution layers of Caffe's AlexNet and real photographs, for tests that need a network which has learnt."""

from __future__ import annotations

import io
import tarfile
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.checkpoints import Checkpoint
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.zoo import network_from
from tests.training import imagenette

if TYPE_CHECKING:
    from torch import Tensor

SIDE = 227


def bvlc_folder() -> Path:
    """The folder of .npy files that some tests need; without it they skip, saying why."""
    folder = imagenette().parent / "bvlc-alexnet-conv"
    if not folder.exists():
        pytest.skip(f"no real weights: {folder.name} is neither in ../shared/data nor in $ALEXNET_TEST_DATA")
    return folder


@cache
def original(name: str) -> Tensor:
    """An array as it is published: conv1 looks at blue, green, red; the mean image is (3, 227, 227) in RGB."""
    return torch.from_numpy(np.load(bvlc_folder() / f"{name}.npy"))


@cache
def bvlc_checkpoint() -> Checkpoint:
    """Made by hand, without anything that opens foreign files."""
    weights = {
        f"conv{layer}.{kind}": original(f"conv{layer}_{kind}") for layer in range(1, 6) for kind in ("weight", "bias")
    }
    weights["conv1.weight"] = weights["conv1.weight"].flip(1)
    preprocessing = Preprocessing(Geometry(SIDE, SIDE, SIDE), original("mean_rgb_227"), torch.ones(3, 1, 1))
    return Checkpoint(network_from("bvlc-alexnet"), (), preprocessing, weights, {}, {})


def photographs(split: str, per_class: int) -> dict[str, list[np.ndarray]]:
    """The first pictures of each class by their names, as (h, w, 3) bytes, read with pillow alone."""
    with tarfile.open(imagenette()) as tar:
        named = defaultdict(list)
        for member in tar.getmembers():
            parts = Path(member.name).parts
            if member.isfile() and parts[-3] == split:
                named[parts[-2]].append(member)
        chosen = {
            wnid: sorted(members, key=lambda member: member.name)[:per_class] for wnid, members in sorted(named.items())
        }
        return {wnid: [_decoded(tar, member) for member in members] for wnid, members in chosen.items()}


def _decoded(tar: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    file = tar.extractfile(member)
    assert file is not None
    return np.array(Image.open(io.BytesIO(file.read())).convert("RGB"))
