"""Small trainings for tests: a folder of pictures that a tiny AlexNet can tell apart in seconds."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from alexnet.plan import problems

if TYPE_CHECKING:
    from alexnet.config import TrainConfig

ROOT = Path(__file__).parents[1]
SIDE = 80

TINY = {
    "network": "alexnet-2012@67",
    "hidden": "32",
    "side": "76",
    "batch": "8",
    "optimiser": "sgd-2012",
    "initialisation": "he-behind-conv1",
    "mean": "channel",
    "learning-rate": "0.02",
    "fused-lrn": "off",  # compiling takes longer than the training
    "precision": "float32",
    "threads": "1",
    "layers-every": "5",
    "probes": "6",
}


def imagenette() -> Path:
    """The archive of real photographs that some tests need; without it they skip, saying why."""
    folder = Path(os.environ.get("ALEXNET_TEST_DATA") or ROOT.parent / "shared" / "data")
    archive = folder / "imagenette2-224.tar"
    if not archive.exists():
        pytest.skip(f"no photographs: {archive.name} is neither in ../shared/data nor in $ALEXNET_TEST_DATA")
    return archive


def folder_of_pictures(root: Path, *, classes: int = 3, per_class: int = 16, val: int = 4) -> Path:
    """``train/`` and ``val/`` with a folder per class; classes differ in colour and direction of stripes."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    for split, count in (("train", per_class), ("val", val)):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                angle = np.pi * label / classes + random.normal(0, 0.1)
                wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) / 3 + random.uniform(0, 6))
                colour = np.roll([90, 20, -60], label)
                pixels = 128 + wave[..., None] * colour + random.normal(0, 20, (SIDE, SIDE, 3))
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")
    return root


def options(**changes: object) -> list[str]:
    """Options of `python -m alexnet train` for a tiny network, with some changed."""
    chosen = TINY | {name.replace("_", "-"): str(value) for name, value in changes.items()}
    return ["--unit-variance", *(part for name, value in chosen.items() for part in (f"--{name}", value))]


def tiny(data: object = "x", **changes: Any) -> TrainConfig:
    """The config of such a training, with some values changed as a form would."""
    texts = {name.replace("-", "_"): value for name, value in TINY.items()}
    config, wrong = problems({"data": str(data), **texts, "unit_variance": "yes", **changes})
    assert wrong == {}
    assert config is not None
    return config


def train(*arguments: object, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m alexnet train` run to its end."""
    return command("train", *arguments, timeout=timeout, **environment)


def command(*arguments: object, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m alexnet` run to its end, in a process that has torch already: to load it takes longer than most runs.

    Tests that send signals, or look at the system's list of processes, start their own.
    """
    words = [str(word) for word in arguments]
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("out", "err")]
        process = _SERVER.Process(target=_run, args=(words, {**os.environ, **environment}, *outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        out, err = (path.read_text(encoding="utf-8") for path in outputs)
        return subprocess.CompletedProcess(words, process.exitcode, out, err)


_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["tests.training", "alexnet.session", "alexnet.evaluate", "alexnet.events", "torch._dynamo"],
)


def _run(words: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    """In the new process: what the interpreter would do for ``python -m alexnet``."""
    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = ["python -m alexnet", *words]
    runpy.run_module("alexnet", run_name="__main__", alter_sys=True)
