"""What is known of a training before it starts: every problem, its length, its learning rate, memory and disk."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from alexnet.about import About
from alexnet.config import ANEW, TrainConfig, option
from alexnet.course import RATE, TEST_BATCH, all_steps, steps_between_validations, validations_after
from alexnet.errors import UserError
from alexnet.plan import disk_needed, kept_checkpoints, memory_needed, room
from alexnet.runs import RUNS
from alexnet.schedules import Stalled, rates
from alexnet.words import size_text
from analysis.formats import Column, Table
from app import components, exports, queries, start_form
from app.figures.training import schedule_figure
from app.start_form import FIELDS, Origin, told
from app.state import literal

if TYPE_CHECKING:
    from alexnet.plan import DiskNeeded, MemoryNeeded
    from alexnet.schedules import Rates
    from app.start_data import Opened
    from app.start_form import Form


@dataclass(slots=True)
class Outlook:
    """What is known of a training; numbers only where the recipe is whole and its data is open.

    `problems` has sentences by field, "" for those of none; with any, the training cannot start.  Nor can it while
    `waiting` names what is still to come.  A branch that goes on has its steps after `start`, of which validations,
    snapshots and kept checkpoints are counted.
    """

    problems: dict[str, str] = field(default_factory=dict)
    waiting: str = ""
    notes: list[str] = field(default_factory=list)
    per_epoch: int = 0
    start: int = 0
    steps: int = 0
    validations: int = 0
    snapshots: int = 0
    kept: int = 0
    rates: Rates | None = None
    memory: MemoryNeeded | None = None
    memory_free: int | None = None
    disk: DiskNeeded | None = None
    disk_free: int | None = None

    @property
    def ready(self) -> bool:
        """Whether the training can start."""
        return not self.problems and not self.waiting

    def add(self, sentence: str) -> None:
        """Notes a problem under the option with which the sentence begins."""
        begins = re.match(r"--([a-z0-9-]+)", sentence)
        name = begins[1].replace("-", "_") if begins else ""
        if (name := name if name in FIELDS else "") not in self.problems:
            self.problems[name] = sentence
        elif sentence not in self.problems[name]:
            self.problems[name] += f"; {sentence}"


# --- a branch's origin -----------------------------------------------------------------------------------------------


def origin(path: str) -> Origin:
    """The checkpoint that a branch starts from.

    Raises:
        UserError: it is gone, damaged, or has no recipe.
    """
    return _origin(path, queries.stamp(Path(path)))


@st.cache_resource(max_entries=8, show_spinner="Reading the checkpoint …")
def _origin(path: str, stamp: str) -> Origin:  # noqa: ARG001
    from alexnet import checkpoints  # noqa: PLC0415 - torch

    place = Path(path)
    checkpoint = checkpoints.load(place)
    training = checkpoint.training or {}
    return Origin(
        place,
        place.parent.parent.name,
        TrainConfig.from_json(checkpoint.config),
        int((training or checkpoint.results).get("step", 0)),
        checkpoint.classes,
        training.get("pictures"),
        checkpoint.training is not None,
        training.get("plateau"),
    )


# --- everything together ---------------------------------------------------------------------------------------------


def outlook(form: Form, found: Opened) -> Outlook:
    """Everything that can be known without computing a step."""
    result = Outlook(problems=dict(form.problems))
    if found.trouble:
        result.problems["data"] = found.trouble
    try:
        About(start_form.typed("name"), start_form.typed("note"))
    except UserError as error:
        result.problems["about"] = str(error)
    _place(result)
    _machine(form, found, result)
    if not form.named:
        result.waiting = "the path of the data is still to be typed, under Data"
    elif found.splits is None and not found.trouble:
        result.waiting = "the data is still being looked through"
    if found.splits is None:
        return result
    train, stalled = found.splits.train, None
    if form.origin is not None:
        result.start, stalled = _branch(form, form.origin, tuple(train.classes), len(train), result)
    per_epoch = len(train) // form.shown.batch
    if form.config is None or not per_epoch:
        return result
    from alexnet.probes import schedule  # noqa: PLC0415 - torch, which `_machine` has loaded

    config, classes = form.config, len(train.classes)
    result.per_epoch, result.steps = per_epoch, all_steps(config, per_epoch)
    every = steps_between_validations(config, per_epoch)
    result.validations = validations_after(config, per_epoch, result.start)
    result.snapshots = sum(not result.start or step > result.start for step in schedule(result.steps, config.probes))
    before = result.start // every // config.keep_every if config.keep_every else 0
    result.kept = max(0, kept_checkpoints(config, result.steps, every) - before)
    result.rates = rates(config, per_epoch, start=result.start, stalled=stalled)
    result.memory = memory_needed(config, classes)
    disk = disk_needed(config, classes, per_epoch)  # curves and film are taken along, kept checkpoints are not
    result.disk = dataclasses.replace(disk, checkpoints=disk.checkpoints - before * disk.checkpoint)
    if result.disk_free is not None and result.disk.total > result.disk_free:
        result.add(
            f"the disk has {size_text(result.disk_free)} free, and this run may need {size_text(result.disk.total)}: "
            f"make room, keep fewer checkpoints ({option('keep_every')} 0), or take fewer snapshots "
            f"({option('probes')})"
        )
    return result


def _place(result: Outlook) -> None:
    """Whether a run can be written, and how much room there is."""
    found = room(RUNS)
    if found.obstacle:
        result.add(f"no run can be written to {RUNS}: {found.obstacle}; start the page from another folder")
    result.disk_free = found.free


def _machine(form: Form, found: Opened, result: Outlook) -> None:
    """What the device says: whether there is such a one, and whether the batch fits into its memory."""
    import torch  # noqa: PLC0415 - which pages that only count do without

    from alexnet import layers, machine  # noqa: PLC0415
    from alexnet.checks import enlarged, size_problems  # noqa: PLC0415

    config, network = form.shown, form.shown.described_network(found.classes)
    try:
        devices = machine.named_devices(config.device, network)
    except (UserError, ValueError, RuntimeError) as error:
        result.add(str(error) if str(error).startswith("--") else f"{option('device')}: {error}")
        return
    result.memory_free = machine.available_bytes(devices[0])
    if result.memory_free is not None:
        result.memory_free *= len(set(devices))
    if found.splits is None:
        return
    # Only what the sizes depend on; which kernels are fastest is found out by measuring.
    precision = torch.float16 if config.precision == "float16" else torch.float32
    stand_in = machine.Machine(devices, precision, False, layers.PLAIN, False, False, 0, 1)
    for problem in size_problems(config, len(found.splits.train), network, stand_in, 1):
        result.add(str(problem))
    from alexnet.data.preprocessing import Geometry  # noqa: PLC0415

    if (note := enlarged(found.splits.train, Geometry.of(config, network))) is not None:
        result.notes.append(note)


def _branch(
    form: Form, come_from: Origin, classes: tuple[str, ...], pictures: int, result: Outlook
) -> tuple[int, Stalled | None]:
    """What a branch must have in common with the run it comes from; the step it goes on after, and its plateau."""
    if come_from.classes != classes:
        result.problems["data"] = (
            f"{come_from.name} tells {len(come_from.classes)} classes apart, {come_from.classes[0]} first, and this "
            f"data has {len(classes)}, {classes[0]} first: a branch keeps its classes; start a new run for others"
        )
    changed = form.branch_changes().keys()
    anew = sorted(ANEW & changed)
    other = come_from.pictures not in {None, pictures}
    if anew or other or not come_from.goes_on:
        reason = (
            f"{' and '.join(map(option, anew))} changed"
            if anew
            else "the pictures are others"
            if other
            else "the checkpoint holds nothing else"
        )
        result.notes.append(
            f"{reason}, so the branch starts at step 0 with the weights alone: momentum, step and the order of the "
            "pictures would mean something else"
        )
        return 0, None
    result.notes.append(
        f"it goes on after step {come_from.step:,} with momentum and the order of the pictures; curves and film of "
        f"{come_from.run} up to there are taken along"
    )
    config, per_epoch, plateau = form.shown, pictures // form.shown.batch, come_from.plateau or {}
    keeps = config.schedule == "plateau" and bool(plateau) and changed.isdisjoint(RATE)
    if per_epoch and come_from.step >= (end := all_steps(config, per_epoch)):
        name = "epochs" if end == config.epochs * per_epoch else "max_steps"
        result.add(
            f"{option(name)} {getattr(config, name):,} ends at step {end:,}, and {come_from.name} is at step "
            f"{come_from.step:,}: there is nothing left to train; give more {option(name)}"
        )
    elif keeps and plateau["finished"]:
        result.add(
            f"{option('drops')} {config.drops} are used up in {come_from.name}, where validation had stalled again: "
            f"there is nothing left to train; give more {option('drops')}, or another {option('schedule')}"
        )
    if not keeps:
        return come_from.step, None
    judged = math.isfinite(plateau["best_error"])
    return come_from.step, Stalled(plateau["rate"], plateau["drops_left"], plateau["stalled_for"] if judged else -1)


# --- on the page -----------------------------------------------------------------------------------------------------


def show(result: Outlook, form: Form) -> None:
    """Problems first, then what the training will take."""
    if result.problems:
        lines = "\n".join(f"* {told(sentence)}" for sentence in dict.fromkeys(result.problems.values()))
        count = len(result.problems)
        st.error(
            f"**{count} {'things stand' if count > 1 else 'thing stands'} in the way:**\n{lines}",
            icon=":material/error:",
        )
    if result.waiting:
        st.info(f"{told(result.waiting)}.", icon=":material/hourglass_empty:")
    if result.ready:
        st.success("Nothing stands in the way.", icon=":material/check:")
    for note in result.notes:
        st.info(f"{told(note)}.", icon=":material/info:")
    if result.rates is None or form.config is None or result.memory is None or result.disk is None:
        st.caption("Length, learning rate, memory and disk are worked out as soon as recipe and data go together.")
        return
    config, left = form.config, max(0, result.steps - result.start)
    begins = f", from step {result.start + 1:,} to step {result.steps:,}" if result.start else ""
    with st.container(horizontal=True, gap="medium", key="start_length"):
        st.metric(
            "Steps left" if result.start else "Steps", f"{left:,}", width=130,
            help=f"Of {config.batch:,} pictures each{begins}",
        )  # fmt: skip
        st.metric("Steps an epoch", f"{result.per_epoch:,}", width=130)
        st.metric("Epochs left" if result.start else "Epochs", f"{left / result.per_epoch:,.4g}", width=130)
        st.metric("Validations", f"{result.validations:,}", width=130, help="Looks at pictures it does not learn from")
        st.metric(
            "Snapshots", f"{result.snapshots:,}", width=130,
            help="Of the first kernels and of the maps of one picture, for the film",
        )  # fmt: skip
    _needs(result, config)
    if len(result.rates.steps):
        title = "The learning rate, as it will be"
        if result.start:
            title += f" from step {result.start + 1:,} on"
        steps, shown = np.asarray(result.rates.steps), np.asarray(result.rates.rates)
        with st.container(key="start_schedule"):
            components.chart(
                schedule_figure(steps, shown, components.palette(), steps_per_epoch=result.per_epoch),
                key="start_schedule_chart", alt=title,
            )  # fmt: skip
        begins = f"The branch begins with step {result.start + 1:,}. " if result.start else ""
        st.caption(f"{begins}{literal(result.rates.explanation)}")
        components.save_figure("start_schedule", title, "learning-rate")


def _needs(result: Outlook, config: TrainConfig) -> None:
    """Memory and disk by kind, each against what is free."""
    memory, disk = result.memory, result.disk
    assert memory is not None
    assert disk is not None
    averages = "both averages of AdamW" if config.optimiser == "adamw" else "momentum"
    kept = f"{result.kept:,} kept, " if result.kept else ""
    parts = {
        "memory": {
            "weights": memory.weights,
            "gradients": memory.gradients,
            averages: memory.momentum,
            f"activations of a step, {config.batch:,} pictures": memory.activations,
            f"or, if more, those of a validation, {TEST_BATCH} pictures": memory.validation,
        },
        "disk": {
            f"checkpoints: last, best, {kept}one being written": disk.checkpoints,
            "snapshots for the film": disk.probes,
            "curves": disk.metrics,
            "TensorBoard": disk.events,
        },
    }
    with st.container(horizontal=True, gap="large"):
        for what, needed, free, about in (
            ("memory", memory.total, result.memory_free, "On the device, at least: workspaces and torch come on top."),
            ("disk", disk.total, result.disk_free, "At most, at the end of the run."),
        ):
            with st.container(width=420):
                beside = f" of {size_text(free)} free" if free is not None else ""
                st.progress(
                    min(needed / free, 1.0) if free else 0.0, f"**{what.capitalize()} {size_text(needed)}**{beside}"
                )
                lines = "\n".join(f"* {text}: {size_text(size)}" for text, size in parts[what].items())
                st.caption(f"{about}\n{lines}")
    columns = (Column("of", "Of"), Column("kind", "Kind"), Column("bytes", "Bytes"))
    rows = tuple((what, kind, size) for what, kinds in parts.items() for kind, size in kinds.items())
    exports.save_table(Table("What the training takes", columns, rows), "needs", "save_start_needs")
