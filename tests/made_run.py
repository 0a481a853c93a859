"""A finished run written by hand in milliseconds: what the trainer would have left, with numbers that tests know."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet.config import TrainConfig
from alexnet.runs import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

PER_EPOCH = 10
CLASSES = ("class0", "class1", "class2")
SUPPRESSED = 4e-4
"""The share that norm1 suppresses in every channel at every moment."""


def made_run(
    path: Path, *, steps: int = 40, moments: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 40), **about: Any
) -> RunDirectory:
    """A run of alexnet-2012@67 on three classes, a validation after each epoch of ten steps; `about` goes on top."""
    run = RunDirectory(path)
    run.probes_path.mkdir(parents=True)
    config = TrainConfig(data="pictures", network="alexnet-2012@67", hidden=32, batch=8, epochs=steps // PER_EPOCH)
    record = {
        "format": 1,
        "config": config.as_json(),
        "machine": {"device": "cpu"},
        "data": {"name": "pictures", "classes": list(CLASSES), "train": 8 * PER_EPOCH, "val": 100},
        "versions": {},
        "processes": 1,
    }
    run.config_path.write_text(json.dumps(record | about))
    write_records(run, range(1, steps + 1), {step: step / 100 for step in range(PER_EPOCH, steps + 1, PER_EPOCH)})
    run.write_status(
        {"state": "finished", "step": steps, "steps": steps, "epochs": steps // PER_EPOCH, "heartbeat": time.time()}
    )
    for step in moments:
        write_moment(run, step)
    return run


def write_records(run: RunDirectory, steps: range, top1: dict[int, float], start: float = 1e9) -> None:
    """Records of a second each, a validation at each step of `top1`, and the layers' norms at the last."""
    for step in steps:
        common = {"step": step, "epoch": (step - 1) // PER_EPOCH, "loss": 3 / step, "time": start + step}
        run.append_metrics(
            common
            | {"kind": "train", "top1": 0.5, "pictures": 8, "learning_rate": 1e-3, "images_per_second": 8.0}
            | {"waited_share": 0.0}
        )
        if step in top1:
            run.append_metrics(
                common
                | {"kind": "val", "top1": top1[step], "top2": 0.9, "pictures": 100, "per_class": [0.5, 0.25, 1.0]}
                | {"seconds": 0.0}
            )
    norm = {"mean": 0.0, "std": 1.0, "norm": 2.0}
    weak = {"mean": 0.0, "std": 1.0, "norm": 0.5}
    run.append_metrics(
        {"kind": "layers", "step": steps[-1], "weights": {"conv1.weight": norm}, "gradients": {"conv1.weight": weak}}
    )


def write_moment(run: RunDirectory, step: int) -> None:
    """A probe as `alexnet.probes` has them, with small maps."""
    random = np.random.default_rng(step)
    maps = random.random((96, 8, 8)).astype(np.float16)
    ones = np.ones(96, np.float32)
    arrays = {
        "kernels": random.normal(size=(96, 3, 11, 11)).astype(np.float16),
        "map/conv1": maps,
        "map/norm1": maps,
        "before/norm1": maps,
        "lrn/norm1": np.stack([ones, ones * np.float32((1 - SUPPRESSED) * 2**-0.75)]),
        "probabilities": np.array([0.2, 0.3, 0.5], np.float32),
        "label": np.array(2, np.int64),
    }
    np.savez(run.probe_path(step), **arrays)  # type: ignore[arg-type]
