"""A training rehearsed: its data opened, its sizes checked, a few of its steps timed.  Leaves nothing behind."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from alexnet import checkpoints, probes
from alexnet.checks import enlarged, probe_crops, size_problems
from alexnet.course import TEST_BATCH, all_steps, steps_between_validations
from alexnet.data.loading import AHEAD, LoaderError, TrainingBatches, batches
from alexnet.data.pack import PackSource
from alexnet.data.preprocessing import Augmentation, Geometry, Preprocessing
from alexnet.data.sources import class_counts, open_data
from alexnet.data.statistics import small_sample, statistics_of, training_sample
from alexnet.errors import UserError
from alexnet.evaluate import evaluate
from alexnet.events import Events
from alexnet.launch import siblings
from alexnet.machine import available_bytes, chosen, does_not_fit, ran_out_of_memory
from alexnet.plan import Plan, Speed, disk_needed, memory_needed, rates, room, size_text, sources, time_text
from alexnet.runs import RUNS, explained
from alexnet.trainer import NotFiniteError, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from alexnet.config import TrainConfig
    from alexnet.data.images import Pixels
    from alexnet.data.loading import Batch
    from alexnet.data.preprocessing import Statistics
    from alexnet.data.sources import Source, Splits
    from alexnet.machine import Machine
    from alexnet.spec import Network

STEPS = 20
"""Steps that are timed, if nobody asks for another number; fewer where they take long, but no fewer than three."""
_LONG = 15.0  # seconds: enough for one kind of measurement
_SAMPLE = 100  # pictures that statistics are tried on
_KEPT = 4  # batches that are kept in memory, to time the network alone
_CLEAR = 0.1  # share of a step spent waiting from which on reading is said to be what holds a training up
_UNSTEADY = 1.5  # times longer than the shortest that the longest step may take on a quiet machine
_UNEVEN = 3.0  # times more pictures in the largest class than in the smallest that are worth a note


class Doing(NamedTuple):
    """What goes on: `done` of `total` of it."""

    what: str
    done: int
    total: int


def measured(config: TrainConfig, *, steps: int | None = None, runs: Path = RUNS) -> Generator[Doing, None, Plan]:
    """Says what it does while it does it, and returns the plan with everything that was found, problems too.

    `steps` are timed, after a warm-up; `runs` is the folder under which the run would lie, for its disk and for other
    trainings that run there.  Closing the generator ends it at once; nothing is left on the disk either way.
    """
    return (yield from _Rehearsal(config, steps, runs).plan())


def rehearsed(
    config: TrainConfig,
    *,
    steps: int | None = None,
    runs: Path = RUNS,
    seen: Callable[[Doing], None] = lambda _doing: None,
) -> Plan:
    """`measured` to its end; `seen` is told what goes on."""
    going = measured(config, steps=steps, runs=runs)
    with contextlib.closing(going):
        while True:
            try:
                seen(next(going))
            except StopIteration as end:
                plan: Plan = end.value
                return plan


class _Rehearsal:
    def __init__(self, config: TrainConfig, steps: int | None, runs: Path) -> None:
        self._config, self._steps, self._runs = config, steps, runs
        self._found = Plan(config=config.as_json(), sources=sources(config))
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._unreadable: dict[str, None] = {}

    def plan(self) -> Generator[Doing, None, Plan]:
        place = self._place()
        self._beside()
        yield Doing("opening the data", 0, 1)
        begun = time.perf_counter()
        splits = self._opened()
        if splits is None:
            return self._closed()
        network = self._config.described_network(len(splits.train.classes))
        self._sized(len(splits.train), len(splits.train.classes), place)
        opened = time.perf_counter() - begun
        yield Doing("choosing kernels", 0, 1)
        begun = time.perf_counter()
        machine = self._chosen(network, splits.train)
        if machine is None or self._problems:
            return self._closed()
        compiling = time.perf_counter() - begun
        timed = _Timed(self._config, splits, network, machine, place, self._steps, self._unreadable)
        with self._explained(network, machine, place):
            speed = yield from timed.speed(self._found, opened, compiling)
            self._know(speed=speed)
            self._note(_slowed(speed, splits))
            self._note(_unsteady(speed))
        return self._closed()

    def _know(self, **values: Any) -> None:
        self._found = replace(self._found, **values)

    def _note(self, text: str | None) -> None:
        if text is not None:
            self._notes.append(text)

    def _beside(self) -> None:
        """Other trainings under the same folder."""
        running = tuple(run.path.name for run in siblings(self._runs) if run.condition() in {"running", "silent"})
        self._know(running=running)
        if running:
            verb = "training runs" if len(running) == 1 else "trainings run"
            self._note(
                f"{len(running)} other {verb} here now ({', '.join(running)}): the times below are what is left beside"
            )

    def _opened(self) -> Splits | None:
        config = self._config
        try:
            splits = open_data(config.data, val_fraction=config.val_fraction, seed=config.seed)
        except UserError as error:
            self._problems.append(str(error))
            return None
        self._notes += splits.warnings
        self._know(data=splits.description, train=_counted(splits.train), val=_counted(splits.val))
        self._note(_uneven(self._found.train))
        return splits

    def _sized(self, pictures: int, classes: int, place: Path) -> None:
        """What follows from the number of pictures: lengths and the room on the disk."""
        config, free = self._config, self._found.disk_free
        per_epoch = pictures // config.batch
        if not per_epoch:
            return  # `size_problems` says so
        steps, every = all_steps(config, per_epoch), steps_between_validations(config, per_epoch)
        validations = -(-steps // every)
        disk = disk_needed(config, classes, per_epoch)
        self._know(
            steps=steps,
            steps_per_epoch=per_epoch,
            validations=validations,
            checkpoints=1 + validations,
            probes=len(probes.schedule(steps, config.probes)),
            schedule=rates(config, per_epoch).explanation,
            disk=disk,
        )
        if left := pictures % config.batch:
            self._note(
                f"{pictures:,} pictures are no whole number of batches: each epoch leaves out {left}, others each time"
            )
        if config.schedule == "plateau":
            self._note("the plateau may end the training before its last epoch: times are those of all epochs")
        if config.warmup_epochs * per_epoch >= steps:
            self._note("the warm-up takes the whole training, so the learning rate never reaches its own value")
        if free is not None and disk.total > free:
            self._problems.append(
                f"the disk of {place} has {size_text(free)} free, and this run may need {size_text(disk.total)}: make "
                "room, keep fewer checkpoints with --keep-every 0, or take fewer snapshots with --probes"
            )

    def _chosen(self, network: Network, train: Source) -> Machine | None:
        config, pictures = self._config, len(train)
        try:
            machine = chosen(config, network, in_memory=hasattr(train, "pixels"))
        except UserError as error:
            self._problems.append(str(error))
            if config.batch > pictures:  # wrong on any machine
                anywhere = chosen(replace(config, device="cpu", fused_lrn="off"), network, in_memory=True)
                self._problems += map(str, size_problems(config, pictures, network, anywhere, 1))
            return None
        self._know(
            machine=machine.report(),
            memory=memory_needed(config, len(train.classes)),
            memory_free=available_bytes(machine.device),
        )
        if machine.lrn_kernels.report.startswith("plain torch:"):
            self._note(f"local response normalisation runs as {machine.lrn_kernels.report}: several times slower")
        self._note(enlarged(train, Geometry.of(config, network)))
        self._problems += map(str, size_problems(config, pictures, network, machine, 1))
        return machine

    @contextlib.contextmanager
    def _explained(self, network: Network, machine: Machine, place: Path) -> Iterator[None]:
        """Makes a problem of what would end the training, too."""
        try:
            yield
        except NotFiniteError as error:
            self._problems.append(
                f"{error}: start with a smaller --learning-rate, with a warm-up, or with --precision float32"
            )
        except OSError as error:
            self._problems.append(f"cannot use {error.filename or place}: {explained(error)}")
        except (UserError, LoaderError, ValueError) as error:
            self._problems.append(str(error))
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
            free = available_bytes(machine.device)
            self._problems.append(does_not_fit(network, machine, self._config.batch, 1, free))

    def _closed(self) -> Plan:
        if self._unreadable:
            first = next(iter(self._unreadable))
            text = f"{len(self._unreadable)} of the pictures looked at cannot be read, the first: {first}"
            if self._config.on_unreadable == "stop":
                self._problems.append(f"{text}; mend them, or leave them out with --on-unreadable skip")
            else:
                self._note(f"{text}; such pictures are skipped and counted")
        return replace(
            self._found,
            problems=tuple(dict.fromkeys(self._problems)),
            notes=tuple(dict.fromkeys(self._notes)),
            unreadable=tuple(self._unreadable),
        )

    def _place(self) -> Path:
        """The part that is there already of the path under which the run would lie."""
        found = room(self._runs)
        if found.obstacle:
            self._problems.append(f"cannot write a run to {self._runs}: {found.obstacle}; start from another folder")
        self._know(disk_free=found.free)
        return found.place


@dataclass(slots=True)
class _Timed:
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
            config,
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
        waited, steps = yield from self._trained(trainer, dataset)
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
            bottleneck=_bottleneck(share, per_second, config.batch / _mean(alone)),
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

    def _trained(self, trainer: Trainer, dataset: TrainingBatches) -> Generator[Doing, None, tuple[float, list[float]]]:
        """Steps as in the training, reading along: seconds waited in all, and of each step.

        The first are left out: the reader had a start, and its queue is fuller than it may stay.
        """
        count, waited, seconds = self._count(STEPS), 0.0, list[float]()
        early = AHEAD + 1
        reader = batches(
            dataset, dataset.places(0, early + count), workers=self.machine.workers, pin=self.machine.on_cuda
        )
        with contextlib.closing(reader) as incoming:
            begun = time.perf_counter()
            for number, step in enumerate(trainer.train(incoming)):
                self.unreadable |= dict.fromkeys(step.unreadable)
                if number >= early:
                    waited += step.waited
                    seconds.append(step.seconds)
                yield Doing("timing steps", len(seconds), count)
                if self.wanted is None and len(seconds) >= 3 and time.perf_counter() - begun > 2 * _LONG:
                    break
        return waited, seconds

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


# --- words -----------------------------------------------------------------------------------------------------------


def _counted(source: Source) -> dict[str, int]:
    return dict(zip(source.classes, class_counts(source), strict=True))


def _uneven(counts: dict[str, int]) -> str | None:
    largest, smallest = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[largest] < _UNEVEN * counts[smallest]:
        return None
    return (
        f"the classes are uneven: {counts[largest]:,} pictures of {largest} and {counts[smallest]:,} of {smallest}; "
        "a network can be right often by naming the large ones, so look at the accuracy of each class"
    )


def _bottleneck(waited: float, per_second: float, alone: float) -> str:
    if waited >= _CLEAR:
        return f"reading holds it up: {waited:.0%} of each step is waiting for pictures"
    lost = 1 - per_second / alone
    if lost >= _CLEAR:
        return f"the network sets the pace; reading beside it takes {lost:.0%} of its speed"
    return "the network sets the pace"


def _slowed(speed: Speed, splits: Splits) -> str | None:
    if speed.waited_share < _CLEAR:
        return None
    pack = "" if isinstance(splits.train, PackSource) else "; a pack (python -m alexnet pack) is read at memory speed"
    return f"{speed.bottleneck}{pack}, and more --workers may help where there are cores"


def _unsteady(speed: Speed) -> str | None:
    if speed.step_most < _UNSTEADY * speed.step_least:
        return None
    return (
        f"steps took from {time_text(speed.step_least)} to {time_text(speed.step_most)}: something else computes here, "
        "so the times are as uncertain"
    )


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
