"""What is known of a training before it starts, from its recipe alone.  Standard library only.

What only the data and the machine can tell is in `alexnet.rehearsal`.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from alexnet.config import ConfigError, TrainConfig, option
from alexnet.course import MAP_SIDE, RECORDS, TEST_BATCH, all_steps, steps_between_validations
from alexnet.memory import BYTES_PER_VALUE, parameters, training_memory
from alexnet.presets import PRESETS, configured
from alexnet.spec import LRN, Conv
from alexnet.words import rough_time, size_text
from alexnet.zoo import UnknownNetworkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from alexnet.spec import Network

_FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}
_TYPES = get_type_hints(TrainConfig)
COLOURS = 3
_WORDS = {"yes": True, "true": True, "on": True, "1": True, "no": False, "false": False, "off": False, "0": False}

# --- what people type ------------------------------------------------------------------------------------------------


def problems(values: Mapping[str, Any]) -> tuple[TrainConfig | None, dict[str, str]]:
    """The config that a form means, and everything that is wrong with it: one sentence for each field.

    Values are those of `TrainConfig`, or the texts that people type for them; an empty one is the preset's, or the
    default.  Where something is wrong there is no config.  The rules are `TrainConfig`'s own: what it objects to is
    noted and taken out until it objects to nothing more, so a field is held against others only where it is right by
    itself.  What belongs to no field has the key "".
    """
    found: dict[str, str] = {}
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name not in _FIELDS:
            found[""] = f"no training has a value called {name!r}; there are {', '.join(_FIELDS)}"
        elif value is not None and not (isinstance(value, str) and not value.strip()):
            try:
                given[name] = _typed(name, value)
            except ConfigError as error:
                found[name] = str(error)
    preset, data = given.pop("preset", "paper-2012"), given.pop("data", "")
    if preset not in {known.name for known in PRESETS}:
        found["preset"], preset = _objection(str(preset), "x", {})[1], "paper-2012"
    config = None
    while config is None:
        try:
            config = configured(preset, data, **given)
        except (ConfigError, UnknownNetworkError):
            name, sentence = _objection(preset, data, given)
            if name in found:  # it is wrong also without what was typed there
                break
            found[name] = sentence
            if not name:
                break
            if name == "data":
                data = "x"
            elif given.pop(name, None) is None:  # the preset's own value, beside another that was typed
                given[name] = _FIELDS[name].default
    return (None if found else config), found


def _objection(preset: str, data: str, given: dict[str, Any]) -> tuple[str, str]:
    """The field that cannot be, and why."""
    try:
        configured(preset, data, **given)
    except (ConfigError, UnknownNetworkError) as error:
        text = str(error)
        # As on the command line, a sentence about an option begins with it.
        if (begins := re.match(r"--([a-z0-9-]+)", text)) and (name := begins[1].replace("-", "_")) in _FIELDS:
            return name, text
        if not data:
            return "data", text
        return _blamed(preset, data, given), text
    raise AssertionError("asked only where there is an objection")


def _blamed(preset: str, data: str, given: dict[str, Any]) -> str:
    """Of the fields that make the network, the one without which there is one; "" where none was given."""
    typed = [name for name in ("hidden", "network") if name in given]
    for name in typed:
        try:
            configured(preset, data, **{other: value for other, value in given.items() if other != name})
        except (ConfigError, UnknownNetworkError):
            continue
        return name
    return typed[-1] if typed else ""


def _typed(name: str, value: Any) -> Any:
    """What was typed as the value it means; what is no text goes to `TrainConfig` as it is.

    Raises:
        ConfigError: a text that is no number, or neither yes nor no.
    """
    kinds = set(get_args(_TYPES[name]) or (_TYPES[name],))
    if isinstance(value, float) and int in kinds and value.is_integer():
        return int(value)  # number fields of pages give 64.0
    if not isinstance(value, str):
        return value
    text = value.strip()
    if bool in kinds:
        if text.lower() not in _WORDS:
            raise ConfigError(f"{option(name)} must be yes or no, got {_short(text)}")
        return _WORDS[text.lower()]
    if not kinds & {int, float}:
        return text
    wanted = "a whole number" if int in kinds else "a number"
    plain = text.replace("−", "-")
    if not plain.isascii():  # Python reads the digits of every script, and whoever looks at the run may not
        raise ConfigError(f"{option(name)} must be {wanted}, got {_short(text)}")
    if "," in plain:
        hint = f"a decimal sign is a point, as in {plain.replace(',', '.')}" if plain.count(",") == 1 else "leave out"
        if int in kinds or plain.count(",") > 1:
            hint = f"write {plain.replace(',', '')}, without commas"
        raise ConfigError(f"{option(name)} must be {wanted}, got {_short(text)}: {hint}")
    try:
        number = float(plain) if int not in kinds else _whole(plain)
    except (ValueError, OverflowError):
        raise ConfigError(f"{option(name)} must be {wanted}, got {_short(text)}") from None
    return number


def _whole(text: str) -> int:
    """Raises ValueError where the text is no whole number; 1e3 is one."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer() or abs(number) >= 2**53:
            raise ValueError(text) from None
        return int(number)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


# --- where values come from ------------------------------------------------------------------------------------------

_MACHINES = frozenset(
    {"device", "precision", "channels_last", "fused_lrn", "fused_optimiser", "compile", "workers", "threads"}
)
_NETWORKS = frozenset({"hidden", "dropout"})
_PAPER = re.compile(r"\((paper(?:, section [\d.]+)?)")


def sources(config: TrainConfig) -> dict[str, str]:
    """Where each value comes from: ``paper, section 5``, ``preset quick``, ``yours``, ``chosen by the machine``.

    A value that is neither the preset's nor the default is yours; so is a default where the preset has another.
    """
    changes = next((preset.changes for preset in PRESETS if preset.name == config.preset), {})
    return {name: _source(name, getattr(config, name), changes, config.preset) for name in _FIELDS}


def _source(name: str, value: Any, changes: dict[str, Any], preset: str) -> str:
    field = _FIELDS[name]
    if name in {"data", "preset"}:
        return "yours"
    if name in changes and value == changes[name]:
        return f"preset {preset}"
    if name in changes or value != field.default:
        return "yours"
    if name in _MACHINES and value in {None, "auto"}:
        return "chosen by the machine"
    if name in _NETWORKS:
        return "the network's own"
    paper = _PAPER.search(field.metadata["about"])
    return paper[1] if paper else "default"


# --- where a run would lie ------------------------------------------------------------------------------------------


class Room(NamedTuple):
    """The folder that is there already of a path to runs: free bytes, if known, and why none can be written, or ""."""

    place: Path
    free: int | None
    obstacle: str


def room(runs: Path) -> Room:
    """Whether a run can be written under this folder, which need not be there yet."""
    path = runs.absolute()
    place = next((folder for folder in (path, *path.parents) if folder.exists()), path)
    obstacle = ""
    if not place.is_dir():
        obstacle = f"{place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        obstacle = f"no right to write to {place}"
    try:
        free = shutil.disk_usage(place).free
    except OSError:
        free = None
    return Room(place, free, obstacle)


# --- memory and disk -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MemoryNeeded:
    """Bytes on the device, in float32: `activations` of one step, `validation` of one batch of a validation.

    A training has the one or the other, so `total` counts the larger.
    """

    weights: int
    gradients: int
    momentum: int
    activations: int
    validation: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.momentum + max(self.activations, self.validation)


def memory_needed(config: TrainConfig, classes: int) -> MemoryNeeded:
    """Memory of a training by kind: at least so much, without workspaces and the framework.

    With P parameters, weights and gradients take 4P bytes each, and the optimiser 4P (momentum), 8P (AdamW: two
    averages) or nothing (momentum 0).  Activations are `memory.training_memory`'s for the whole batch.  A validation
    keeps only the input and output of one stage at a time: 4·64·(largest sum of both), and its 64 squares as bytes.
    Snapshots are taken on the CPU and need less than a validation.
    """
    network = config.described_network(classes)
    needed = training_memory(network, config.batch)
    largest = max(prod(stage.in_shape) + prod(stage.out_shape) for stage in network.stages())
    squares = COLOURS * config.short_side() ** 2
    return MemoryNeeded(
        needed.weights,
        needed.gradients,
        needed.weights * _moments(config),
        needed.activations,
        TEST_BATCH * (largest * BYTES_PER_VALUE + squares),
    )


def _moments(config: TrainConfig) -> int:
    """Numbers that the optimiser remembers of each weight."""
    if config.optimiser == "adamw":
        return 2
    return 1 if config.momentum else 0


@dataclass(frozen=True, slots=True)
class DiskNeeded:
    """Bytes of a whole run: `checkpoint` is one, `checkpoints` all of them at the moment when they take most."""

    checkpoint: int
    checkpoints: int
    probes: int
    metrics: int
    events: int

    @property
    def total(self) -> int:
        return self.checkpoints + self.probes + self.metrics + self.events


_OVERHEAD = 500  # bytes in a checkpoint beside each tensor's values: name, shape, alignment
_PACKED = 0.75
"""What compression leaves of a snapshot: 0.71 of a trained network's, measured; noise at the start packs worse."""
_TRAIN_RECORD, _LAYER_VALUES, _VALIDATION, _PER_CLASS = 240, 115, 260, 22
"""Bytes of metrics.jsonl, measured: a record of steps; one tensor's mean, deviation and norm; a validation; a class."""
_SCALARS, _HISTOGRAM = 260, 8_600
"""Bytes of TensorBoard's events, measured: what one record of steps becomes; the histogram of one tensor."""


def disk_needed(config: TrainConfig, classes: int, steps_per_epoch: int) -> DiskNeeded:
    """What a run directory grows to, at most; within some tenths, since compression and numbers' lengths vary.

    A checkpoint holds 4 bytes for each weight and each number that the optimiser remembers, the mean image
    (4·3·side²), and some 500 bytes a tensor.  `last` and `best` are two, one more lies beside them while it is
    written, and ``--keep-every`` adds its own.  A snapshot holds 2 bytes for each weight of the first convolution and
    each value of the maps before and after LRN, reduced to at most 32×32, 8 for each normalised channel and 4 for each
    class, compressed to about three quarters; there are at most one more than ``--probes``.  Metrics and events are
    records times their measured size.
    """
    network = config.described_network(classes)
    steps = all_steps(config, steps_per_epoch)
    every = steps_between_validations(config, steps_per_epoch)
    tensors = 2 * sum(parameters(stage)[0] > 0 for stage in network.stages())
    weights = sum(map(sum, map(parameters, network.stages()))) * BYTES_PER_VALUE
    moments = _moments(config)
    mean_image = COLOURS * config.short_side() ** 2 * BYTES_PER_VALUE
    checkpoint = weights * (1 + moments) + mean_image + _OVERHEAD * tensors * (1 + moments) + classes * 20
    records = steps // max(1, steps // RECORDS) + -(-steps // every)
    layers = steps // config.layers_every if config.layers_every else 0
    return DiskNeeded(
        checkpoint,
        checkpoint * (3 + kept_checkpoints(config, steps, every)),
        round(probe_bytes(network, classes) * _PACKED * min(config.probes + 1, steps + 1)) if config.probes else 0,
        records * _TRAIN_RECORD
        + -(-steps // every) * (_VALIDATION + _PER_CLASS * classes)
        + layers * 2 * tensors * _LAYER_VALUES,
        records * _SCALARS + layers * 2 * tensors * _HISTOGRAM,
    )


def kept_checkpoints(config: TrainConfig, steps: int, every: int) -> int:
    """How many checkpoints stay beside the last and the best, with a validation after `every` steps."""
    if not config.keep_every:
        return 0
    whole = steps // every
    return whole // config.keep_every + (steps % every > 0 and whole % config.keep_every == 0)


def probe_bytes(network: Network, classes: int) -> int:
    """Bytes of the arrays in one snapshot, before compression."""
    size, first = 4 * classes, True
    for stage in network.stages():
        is_norm = isinstance(stage.layer, LRN)
        if isinstance(stage.layer, Conv) and first:
            size += 2 * parameters(stage)[0]
        if is_norm or (isinstance(stage.layer, Conv) and first):
            channels, height, width = stage.out_shape
            values = channels * min(height, MAP_SIDE) * min(width, MAP_SIDE)
            size += (4 * values + 8 * channels) if is_norm else 2 * values
        first = first and not isinstance(stage.layer, Conv)
    return size


# --- everything together ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Speed:
    """What a few measured steps say.  Seconds are of one such thing each, pictures a second of the whole machine.

    `network_alone` is the limit that the network sets, with the pictures in memory already; `reading_alone` what the
    reader could give if nothing else ran; `waited_share` the part of a step that goes by waiting for pictures.
    `step_seconds` is the mean; `step_least` and `step_most` say how far the timed steps lay apart.
    `compile_seconds` is spent once before the first step and is less the second time on one machine.
    `peak_bytes` is what memory grew by (CPU), or what was allocated at most (CUDA).  `others_share` is the part of all
    cores' time that other programs took meanwhile, where the system says it.
    """

    steps_timed: int
    images_per_second: float
    network_alone: float
    reading_alone: float
    waited_share: float
    bottleneck: str
    compile_seconds: float
    start_seconds: float
    step_seconds: float
    step_least: float
    step_most: float
    validation_seconds: float
    checkpoint_seconds: float
    checkpoint_bytes: int
    probe_seconds: float
    layers_seconds: float
    epoch_seconds: float
    total_seconds: float
    peak_bytes: int | None
    others_share: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is known before the start.

    With `problems` the training cannot start as it is; `notes` are what its owner should know.  What could not be found
    out because of a problem is None, 0 or empty.  `train` and `val` are pictures by class.
    """

    config: dict[str, Any]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    data: str = ""
    train: dict[str, int] = dataclasses.field(default_factory=dict)
    val: dict[str, int] = dataclasses.field(default_factory=dict)
    machine: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: int = 0
    steps_per_epoch: int = 0
    validations: int = 0
    checkpoints: int = 0
    probes: int = 0
    schedule: str = ""
    memory: MemoryNeeded | None = None
    memory_free: int | None = None
    disk: DiskNeeded | None = None
    disk_free: int | None = None
    running: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    speed: Speed | None = None

    def as_data(self) -> dict[str, Any]:
        """Plain types for JSON, with the totals of memory and disk."""
        data = dataclasses.asdict(self)
        for name in ("memory", "disk"):
            needed = getattr(self, name)
            if needed is not None:
                data[name]["total"] = needed.total
        return data


def report(plan: Plan) -> str:
    """A plan for people to read."""
    return "\n".join(_lines(plan))


def _lines(plan: Plan) -> Iterator[str]:
    yield plan.data or f"{plan.config['data']}: not opened"
    if plan.train:
        yield (
            f"pictures     {sum(plan.train.values()):,} to train, {sum(plan.val.values()):,} to validate, "
            f"{len(plan.train):,} classes of {min(plan.train.values()):,} to {max(plan.train.values()):,}"
        )
    if plan.steps:
        yield (
            f"length       {plan.steps:,} steps, {plan.steps_per_epoch:,} an epoch; {plan.validations:,} validations, "
            f"{plan.probes:,} snapshots"
        )
        yield f"rate         {plan.schedule}"
    if plan.machine:
        yield f"machine      {'; '.join(f'{what}: {which}' for what, which in plan.machine.items())}"
    if (memory := plan.memory) is not None:
        free = f"; {size_text(plan.memory_free)} free" if plan.memory_free is not None else ""
        yield (
            f"memory       about {size_text(memory.total)} (weights, gradients and momentum "
            f"{size_text(memory.weights + memory.gradients + memory.momentum)}, activations "
            f"{size_text(memory.activations)}){free}"
        )
    if (disk := plan.disk) is not None:
        free = f"; {size_text(plan.disk_free)} free" if plan.disk_free is not None else ""
        yield (
            f"disk         at most {size_text(disk.total)} (a checkpoint {size_text(disk.checkpoint)}, snapshots "
            f"{size_text(disk.probes)}, records {size_text(disk.metrics + disk.events)}){free}"
        )
    if (speed := plan.speed) is not None:
        peak = f", {size_text(speed.peak_bytes)} of memory measured" if speed.peak_bytes is not None else ""
        yield (
            f"speed        {speed.images_per_second:,.0f} images/s over {speed.steps_timed} steps{peak}; the network "
            f"alone {speed.network_alone:,.0f}, reading alone {speed.reading_alone:,.0f}: {speed.bottleneck}"
        )
        yield (
            f"time         {rough_time(speed.total_seconds)} in all, {rough_time(speed.epoch_seconds)} an epoch; "
            f"a validation {rough_time(speed.validation_seconds)}, "
            f"a checkpoint {rough_time(speed.checkpoint_seconds)}, a snapshot {rough_time(speed.probe_seconds)}; "
            f"{rough_time(speed.start_seconds)} before the first step, {rough_time(speed.compile_seconds)} of it for "
            "compiling"
        )
    yield from (f"note         {note}" for note in plan.notes)
    if not plan.problems:
        yield "it can start"
