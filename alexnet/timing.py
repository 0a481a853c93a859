"""A few steps of a training, timed, and one of everything that comes between them."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from alexnet import checkpoints, probes
from alexnet.checks import probe_crops
from alexnet.course import TEST_BATCH
from alexnet.data.loading import AHEAD, TrainingBatches, batches
from alexnet.data.preprocessing import Augmentation, Geometry, Preprocessing
from alexnet.data.statistics import small_sample, statistics_of, training_sample
from alexnet.evaluate import evaluate
from alexnet.events import Events
from alexnet.plan import Speed
from alexnet.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from alexnet.config import TrainConfig
    from alexnet.data.images import Pixels
    from alexnet.data.loading import Batch
    from alexnet.data.preprocessing import Statistics
    from alexnet.data.sources import Source, Splits
    from alexnet.machine import Machine
    from alexnet.plan import Plan
    from alexnet.spec import Network

STEPS = 20
"""Steps that are timed, if nobody asks for another number; fewer where they take long, but no fewer than three."""
CLEAR = 0.1
"""Share of a step, or of the cores, from which on something is said to take it."""
_LONG = 15.0  # seconds: enough for one kind of measurement
_SAMPLE = 100  # pictures that statistics are tried on
_KEPT = 4  # batches that are kept in memory, to time the network alone
_SHORT = 0.5  # seconds: the system counts work in hundredths, so that less says nothing


class Doing(NamedTuple):
    """What goes on: `done` of `total` of it."""

    what: str
    done: int
    total: int


@dataclass(slots=True)
class Timed:
    """A few steps of the training itself, and one of everything that comes between them."""

    config: TrainConfig
    splits: Splits
    network: Network
    machine: Machine
    place: Path
    wanted: int | None
    unreadable: dict[str, None]

    def speed(self, plan: Plan, opened: float, compiling: float) -> Generator[Doing, None, Speed]:
        config, machine, train = self.config, self.machine, self.splits.train
        geometry = Geometry.of(config, self.network)
        statistics, gathering = yield from self._statistics(geometry)
        preprocessing = Preprocessing.trained_with(config, statistics, geometry)
        dataset = TrainingBatches(train, geometry, Augmentation.of(config), config.seed, config.batch)
        kept, reading = yield from self._read(dataset)

        yield Doing("building the network", 0, 1)
        before = _start_of_peak(machine)
        begun = time.perf_counter()
        trainer = Trainer(
            # More steps may be timed than the training has, and behind its end a cosine has no rate to train with.
            replace(config, schedule="constant"),
            self.network,
            machine,
            preprocessing,
            statistics,
            steps_per_epoch=dataset.steps_per_epoch,
            share=dataset.share,
        )
        building = time.perf_counter() - begun
        again = itertools.cycle(kept)
        yield Doing("warming up", 0, 2)
        warming = [step.seconds for step in trainer.train(itertools.islice(again, 2))]
        alone = yield from self._stepped(trainer, again, "timing the network alone", self._count(8))
        waited, steps, others = yield from self._trained(trainer, dataset)
        step = _mean(steps)
        compiling += max(0.0, warming[0] - _mean(alone))

        validation = yield from self._validated(trainer, preprocessing)
        crops = probe_crops(self.splits.val, geometry)[0] if config.probes else None
        yield Doing("timing what is written", 0, 1)
        with tempfile.TemporaryDirectory(prefix=".plan-", dir=self.place) as folder:
            saving, size = self._saved(trainer, preprocessing, Path(folder))
            probing = 0.0 if crops is None else self._probed(trainer, preprocessing, crops, Path(folder))
            looking = self._looked(trainer, Path(folder)) if config.layers_every else 0.0
        layers = plan.steps // config.layers_every if config.layers_every else 0
        start = opened + compiling + building + gathering * len(training_sample(len(train)))
        between = plan.validations * (validation + saving) + saving
        trained = plan.steps * step + between + plan.probes * probing + layers * looking
        trained += saving * self._by_the_clock(plan, trained)
        share = waited / sum(steps)
        per_second = config.batch / step
        return Speed(
            steps_timed=len(steps),
            images_per_second=per_second,
            network_alone=config.batch / _mean(alone),
            reading_alone=config.batch / reading,
            waited_share=share,
            bottleneck=_bottleneck(share, per_second, config.batch / _mean(alone), others),
            compile_seconds=compiling,
            start_seconds=start,
            step_seconds=step,
            step_least=min(steps),
            step_most=max(steps),
            validation_seconds=validation,
            checkpoint_seconds=saving,
            checkpoint_bytes=size,
            probe_seconds=probing,
            layers_seconds=looking,
            epoch_seconds=trained / (plan.steps / plan.steps_per_epoch),
            total_seconds=start + trained,
            peak_bytes=_peak(machine, before),
            others_share=others,
        )

    def _by_the_clock(self, plan: Plan, seconds: float) -> int:
        """Checkpoints beside those after the validations, of a training that takes so long."""
        if not self.config.checkpoint_minutes:
            return plan.steps - plan.validations
        return plan.validations * int(seconds / plan.validations / (60 * self.config.checkpoint_minutes))

    def _count(self, usual: int) -> int:
        return usual if self.wanted is None else self.wanted

    def _statistics(self, geometry: Geometry) -> Generator[Doing, None, tuple[Statistics, float]]:
        """Of a sample; and the seconds that one picture takes."""
        train = self.splits.train
        yield Doing("mean and colours", 0, 1)
        begun = time.perf_counter()
        sample = small_sample(len(train), _SAMPLE)
        found = statistics_of(train, sample, geometry.side, unreadable=self._cannot_be_read)
        return found, (time.perf_counter() - begun) / len(sample)

    def _cannot_be_read(self, error: Exception) -> None:
        self.unreadable.setdefault(str(error))

    def _read(self, dataset: TrainingBatches) -> Generator[Doing, None, tuple[list[Batch], float]]:
        """A few batches to keep, and the seconds that one takes the reader when nothing else runs.

        Worker processes are taken to share the work evenly, as far as there are cores.
        """
        kept: list[Batch] = []
        begun = time.perf_counter()
        for place in itertools.islice(dataset.places(0, _KEPT), _KEPT):
            yield Doing("reading pictures", len(kept), _KEPT)
            batch = dataset[place]
            self.unreadable |= dict.fromkeys(batch.unreadable)
            kept.append(batch)
            if time.perf_counter() - begun > _LONG:
                break
        seconds = (time.perf_counter() - begun) / len(kept)
        return [batch.pinned() if self.machine.on_cuda else batch for batch in kept], seconds / max(
            1, self.machine.workers
        )

    def _stepped(
        self, trainer: Trainer, incoming: Iterator[Batch], what: str, count: int
    ) -> Generator[Doing, None, list[float]]:
        begun, seconds = time.perf_counter(), []
        for step in trainer.train(itertools.islice(incoming, count)):
            seconds.append(step.seconds)
            yield Doing(what, len(seconds), count)
            if self.wanted is None and len(seconds) >= 3 and time.perf_counter() - begun > _LONG:
                break
        return seconds

    def _trained(
        self, trainer: Trainer, dataset: TrainingBatches
    ) -> Generator[Doing, None, tuple[float, list[float], float | None]]:
        """Steps as in the training, reading along: seconds waited in all, of each step, and what others took.

        The first are left out: the reader had a start, and its queue is fuller than it may stay.
        """
        count, waited, seconds = self._count(STEPS), 0.0, list[float]()
        early, before = AHEAD + 1, Worked.so_far()
        reader = batches(
            dataset, dataset.places(0, early + count), workers=self.machine.workers, pin=self.machine.on_cuda
        )
        with contextlib.closing(reader) as incoming:
            begun = time.perf_counter()
            for number, step in enumerate(trainer.train(incoming)):
                self.unreadable |= dict.fromkeys(step.unreadable)
                if number == early - 1:
                    before = Worked.so_far()
                if number >= early:
                    waited += step.waited
                    seconds.append(step.seconds)
                yield Doing("timing steps", len(seconds), count)
                if self.wanted is None and len(seconds) >= 3 and time.perf_counter() - begun > 2 * _LONG:
                    break
            others = others_share(before, Worked.so_far())  # while the processes that read are there to be asked
        return waited, seconds, others

    def _validated(self, trainer: Trainer, preprocessing: Preprocessing) -> Generator[Doing, None, float]:
        """Seconds of a whole validation, from one batch to warm up and three to time."""
        val = self.splits.val

        def looked_at(pictures: int) -> float:
            begun = time.perf_counter()
            with contextlib.suppress(ValueError):  # none of these few could be read: others may
                found = evaluate(
                    trainer.scores,
                    _First(val, pictures),
                    preprocessing,
                    device=self.machine.device,
                    batch=TEST_BATCH,
                    workers=self.machine.workers,
                )
                self.unreadable |= dict.fromkeys(found.unreadable)
            return time.perf_counter() - begun

        yield Doing("timing a validation", 0, 2)
        one = min(TEST_BATCH, len(val))
        seconds, pictures = looked_at(one), one
        yield Doing("timing a validation", 1, 2)
        if len(val) > one and seconds < _LONG:
            pictures = min(4 * TEST_BATCH, len(val))
            seconds = looked_at(pictures)
        return seconds / pictures * len(val)

    def _saved(self, trainer: Trainer, preprocessing: Preprocessing, folder: Path) -> tuple[float, int]:
        path = folder / "last.pt"
        begun = time.perf_counter()
        checkpoints.save(
            path,
            checkpoints.Checkpoint(
                network=self.network,
                classes=tuple(self.splits.train.classes),
                preprocessing=preprocessing,
                weights=trainer.weights(),
                config=self.config.as_json(),
                results={},
                training=trainer.state() | {"statistics": trainer.statistics.as_data()},
            ),
        )
        return time.perf_counter() - begun, path.stat().st_size

    def _probed(self, trainer: Trainer, preprocessing: Preprocessing, crops: NDArray[np.uint8], folder: Path) -> float:
        top, left = preprocessing.geometry.centre
        probe = probes.Probe(self.network, preprocessing.inputs(torch.from_numpy(crops), top, left))
        begun = time.perf_counter()
        probes.save(folder / "probe.npz", probe.taken(trainer.weights()))
        return time.perf_counter() - begun

    def _looked(self, trainer: Trainer, folder: Path) -> float:
        """Seconds for the statistics of every weight and gradient, TensorBoard's too."""
        events = Events(folder, 0)
        with contextlib.closing(events):
            begun = time.perf_counter()
            weights, gradients = trainer.weights(), trainer.gradients()
            events.layers(trainer.step, weights, gradients)
            for tensor in (*weights.values(), *gradients.values()):
                probes.moments(tensor)
            return time.perf_counter() - begun


@dataclass(frozen=True, eq=False)
class _First:
    """The first pictures of a source."""

    source: Source
    count: int

    @property
    def classes(self) -> tuple[str, ...]:
        return self.source.classes

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.source.labels[: self.count]

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return self.source.name(index)

    def read(self, index: int, at_least: int | None = None) -> Pixels:
        return self.source.read(index, at_least)


# --- what holds it up ------------------------------------------------------------------------------------------------


class Worked(NamedTuple):
    """Seconds of work up to a moment: of all cores together, and of this process with those that read for it."""

    at: float
    machine: float
    own: float

    @classmethod
    def so_far(cls) -> Worked | None:
        """Up to now; None where the system does not say it (Linux does)."""
        try:
            counted = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:9]
            user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, counted)
            ticks = os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError):
            return None
        machine = (user + nice + system + irq + softirq + stolen) / ticks
        readers = (str(child.pid) for child in multiprocessing.active_children())
        return cls(time.perf_counter(), machine, sum(_ticks(name) for name in ("self", *readers)) / ticks)


def _ticks(process: str) -> int:
    """Work of a process so far, 0 of one that has ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # Behind the name, which may hold spaces; user and system time are the 14th and 15th value of all.
        values = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(values[11]) + int(values[12])
    return 0


def others_share(before: Worked | None, after: Worked | None) -> float | None:
    """The part of all cores' time in between that other programs took, 0 to 1; None where it cannot be told."""
    if before is None or after is None or after.at - before.at < _SHORT:
        return None
    others = (after.machine - before.machine) - (after.own - before.own)
    return min(1.0, max(0.0, others / ((os.cpu_count() or 1) * (after.at - before.at))))


def _bottleneck(waited: float, per_second: float, alone: float, others: float | None) -> str:
    busy = others is not None and others >= CLEAR
    beside = f"; other programs took about {others:.0%} of the cores meanwhile" if busy else ""
    if waited >= CLEAR:
        return f"reading holds it up: {waited:.0%} of each step is waiting for pictures{beside}"
    lost = 1 - per_second / alone
    if lost >= CLEAR and not busy:  # else nobody knows which of the two took it
        return f"the network sets the pace; reading beside it takes {lost:.0%} of its speed"
    return f"the network sets the pace{beside}"


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / len(seconds)


# --- memory ----------------------------------------------------------------------------------------------------------


def _start_of_peak(machine: Machine) -> int | None:
    """Forgets how much memory was used before; what is in use now."""
    if machine.on_cuda:
        for device in set(machine.devices):
            torch.cuda.reset_peak_memory_stats(device)
        return 0
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew (Linux)
        return _of_status("VmRSS")
    return None


def _peak(machine: Machine, before: int | None) -> int | None:
    """Bytes at the peak since then, over all devices."""
    if machine.on_cuda:
        return sum(torch.cuda.max_memory_allocated(device) for device in set(machine.devices))
    peak = _of_status("VmHWM")
    return None if before is None or peak is None else max(0, peak - before)


def _of_status(name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
    return None
