"""A training rehearsed: its data opened, its sizes checked, a few of its steps timed.  Leaves nothing behind."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alexnet import probes
from alexnet.checks import enlarged, size_problems
from alexnet.course import all_steps, steps_between_validations
from alexnet.data.loading import LoaderError
from alexnet.data.pack import PackSource
from alexnet.data.preprocessing import Geometry
from alexnet.data.sources import class_counts, open_data
from alexnet.errors import UserError
from alexnet.launch import siblings
from alexnet.machine import available_bytes, chosen, does_not_fit, ran_out_of_memory
from alexnet.plan import Plan, disk_needed, memory_needed, room, sources
from alexnet.runs import RUNS, explained
from alexnet.schedules import rates
from alexnet.timing import CLEAR, Doing, Timed
from alexnet.trainer import NotFiniteError
from alexnet.words import rough_time, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from alexnet.config import TrainConfig
    from alexnet.data.sources import Source, Splits
    from alexnet.machine import Machine
    from alexnet.plan import Speed
    from alexnet.spec import Network

__all__ = ["Doing", "measured", "rehearsed"]

_UNSTEADY = 1.5  # times longer than the shortest that the longest step may take on a quiet machine
_UNEVEN = 3.0  # times more pictures in the largest class than in the smallest that are worth a note


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
        timed = Timed(self._config, splits, network, machine, place, self._steps, self._unreadable)
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


def _slowed(speed: Speed, splits: Splits) -> str | None:
    if speed.waited_share < CLEAR:
        return None
    pack = "" if isinstance(splits.train, PackSource) else "; a pack (python -m alexnet pack) is read at memory speed"
    return f"{speed.bottleneck}{pack}, and more --workers may help where there are cores"


def _unsteady(speed: Speed) -> str | None:
    if speed.step_most < _UNSTEADY * speed.step_least:
        return None
    why = ": something else computes here" if speed.others_share is None or speed.others_share >= CLEAR else ""
    return (
        f"steps took from {rough_time(speed.step_least)} to {rough_time(speed.step_most)}{why}, so the times are as "
        "uncertain"
    )
