"""The documented recipe on real photographs.  Its full run takes over half an hour; these are its first minutes."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alexnet.runs import RunDirectory
from tests.training import ROOT, imagenette, train

if TYPE_CHECKING:
    from pathlib import Path


def smoothness(kernels: np.ndarray) -> float:
    """Median over kernels of squared neighbour differences by energy: noise 3.6, trained AlexNets below 1."""
    values = kernels.astype(float)
    differences = sum((np.diff(values, axis=axis) ** 2).sum((1, 2, 3)) for axis in (2, 3))
    return float(np.median(differences / (values**2).sum((1, 2, 3))))


@pytest.mark.slow
def test_quick_learns_imagenette_from_a_pack_and_its_kernels_leave_noise(tmp_path: Path) -> None:
    with tarfile.open(imagenette()) as tar:
        tar.extractall(tmp_path / "pictures", filter="data")
    pack = [
        sys.executable,
        "-m",
        "alexnet",
        "pack",
        str(tmp_path / "pictures"),
        str(tmp_path / "pack"),
        "--side",
        "148",
    ]
    assert subprocess.run(pack, cwd=ROOT, check=False).returncode == 0
    done = train(tmp_path / "pack", "--preset", "quick", "--epochs", 6, "--run-dir", tmp_path / "run", timeout=1800)
    assert done.returncode == 0, done.stderr
    run = RunDirectory.open(tmp_path / "run")
    assert run.config()["data"]["train"] == 9_469
    assert run.status()["best"]["pictures"] == 3_925
    assert run.status()["best"]["top1"] > 0.5  # chance: 0.1; the full recipe: 0.80
    with np.load(run.probe_path(0)) as first, np.load(run.probe_path(run.status()["step"])) as last:
        assert smoothness(first["kernels"]) > 3.4
        assert smoothness(last["kernels"]) < 2
