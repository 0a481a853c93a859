"""A full training step of alexnet-2012 (227 pixels) against the plain port of it.

    python -m tests.benchmarks.step [BATCH]

Ours: `Trainer` as `python -m alexnet train` chooses it, from bytes to new weights, augmentation included.  The plain
port, as most ports are written: float32, contiguous, `nn.LocalResponseNorm`, torch's SGD, inputs ready made.  Both
have the two groups.  Target: at least 3.5 times as fast on two CPU cores, 4 on a GPU.  One JSON line.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alexnet.config import TrainConfig
from alexnet.data.loading import Batch, Share
from alexnet.data.preprocessing import Geometry, Preprocessing, StatisticsGatherer
from alexnet.machine import chosen
from alexnet.trainer import Trainer
from alexnet.zoo import network_named
from tests.benchmarks.timing import device, machine, medians

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5


def plain_port() -> nn.Module:
    """AlexNet as most ports write it, with the paper's two groups."""

    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    return nn.Sequential(
        *(nn.Conv2d(3, 96, 11, stride=4), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(inplace=True), norm(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2), nn.Flatten()),
        *(nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, 1000)),
    ).to(device())


def plain_step(batch: int) -> Callable[[], None]:
    """One step of the plain port on a batch that lies ready on the device."""
    model = plain_port()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    images = torch.randn(batch, 3, 227, 227, device=device())
    labels = torch.randint(0, 1000, (batch,), device=device())

    def step() -> None:
        optimiser.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimiser.step()

    return step


def our_trainer(batch: int, **changes: object) -> Trainer:
    """The trainer that the command line would make for ImageNet."""
    config = TrainConfig(data="ready", batch=batch, **changes)  # type: ignore[arg-type]
    network, geometry = network_named("alexnet-2012"), Geometry(256, 227, 227)
    gatherer = StatisticsGatherer(256)
    for picture in np.random.default_rng(0).integers(0, 256, (4, 256, 256, 3), np.uint8):
        gatherer.add(picture)
    statistics = gatherer.result()
    preprocessing = Preprocessing.of(statistics, geometry, mean_image=True, unit_variance=False)
    machine_ = chosen(config, network, in_memory=True)
    return Trainer(config, network, machine_, preprocessing, statistics, steps_per_epoch=10_000, share=Share())


def ready_batch(batch: int, classes: int = 1000) -> Batch:
    """Random bytes as the loader would hand them over."""
    random = np.random.default_rng(1)
    made = Batch(
        torch.from_numpy(random.integers(0, 256, (batch, 227, 227, 3), np.uint8)),
        torch.from_numpy(random.integers(0, classes, batch)),
        torch.from_numpy(random.integers(0, 30, batch)),
        torch.from_numpy(random.integers(0, 30, batch)),
        torch.from_numpy(random.integers(0, 2, batch).astype(np.bool_)),
        torch.from_numpy(random.normal(0, 0.1, (batch, 3)).astype(np.float32)),
        (),
    )
    return made.pinned() if device().type == "cuda" else made


def our_step(batch: int) -> tuple[Callable[[], None], dict[str, str]]:
    """One of our steps, and what was chosen for it."""
    trainer, ready = our_trainer(batch), ready_batch(batch)

    def step() -> None:
        for _ in trainer.train([ready]):
            pass

    return step, trainer.machine.report()


def main() -> None:
    """Measure and print."""
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    ours, report = our_step(batch)
    found = medians({"ours": ours, "plain port": plain_step(batch)}, REPEATS, warm_up=2)
    print(
        json.dumps(
            {
                "images_per_second": {name: round(batch / seconds, 1) for name, seconds in found.items()},
                "times_faster": round(found["plain port"] / found["ours"], 2),
                "batch": batch,
                "repeats": REPEATS,
                "ours": report,
                **machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
