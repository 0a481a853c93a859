"""Whole training, from a pack and from JPEG files, against computing alone.

    python -m tests.benchmarks.reading FOLDER [BATCH]

FOLDER has ``train/`` and ``val/`` with JPEG files; a pack of it is made beside nothing else, in a temporary folder.
Computing alone is the same trainer on one batch that lies ready.  The three take turns.  Targets: at least 95 % of
computing alone from the pack, at least 80 % from the files.  One JSON line.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet.data.loading import AHEAD, TrainingBatches, batches
from alexnet.data.pack import write_pack
from alexnet.data.preprocessing import Augmentation, Geometry
from alexnet.data.sources import open_data
from tests.benchmarks.step import our_trainer, ready_batch
from tests.benchmarks.timing import device, machine

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from alexnet.data.loading import Batch
    from alexnet.data.sources import Source
    from alexnet.trainer import Trainer

REPEATS = 3
STEPS = 10
SETTLE = AHEAD + 2
"""Steps before the clock starts, in which whatever lay ready is used up."""


def _reader(source: Source, trainer: Trainer, batch: int) -> Generator[Batch]:
    dataset = TrainingBatches(source, Geometry(256, 227, 227), Augmentation(), 0, batch)
    return batches(
        dataset, dataset.places(0, SETTLE + STEPS), workers=trainer.machine.workers, pin=device().type == "cuda"
    )


def _seconds(trainer: Trainer, incoming: Iterable[Batch]) -> float:
    """Time of `STEPS` steps, reading going on all the while as in a long training."""
    steps = trainer.train(incoming)
    for _ in itertools.islice(steps, SETTLE):
        pass
    start = time.perf_counter()
    for _ in steps:
        pass
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    folder, batch = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 128
    trainer, ready = our_trainer(batch), ready_batch(batch, 10)
    splits = open_data(folder)
    with tempfile.TemporaryDirectory() as temporary:
        for _ in write_pack(splits, Path(temporary) / "pack", side=256):
            pass
        sources = {"pack": open_data(str(Path(temporary) / "pack")).train, "files": splits.train}
        seconds: dict[str, list[float]] = {"computing alone": [], "pack": [], "files": []}
        for _ in range(REPEATS):
            seconds["computing alone"].append(_seconds(trainer, [ready] * (SETTLE + STEPS)))
            for name, source in sources.items():
                seconds[name].append(_seconds(trainer, _reader(source, trainer, batch)))
    found = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        json.dumps(
            {
                "images_per_second": {name: round(batch * STEPS / value, 1) for name, value in found.items()},
                "share_of_computing_alone": {
                    name: round(found["computing alone"] / found[name], 3) for name in sources
                },
                "batch": batch,
                "steps": STEPS,
                "repeats": REPEATS,
                "ours": trainer.machine.report(),
                **machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
