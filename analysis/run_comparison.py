"""Several trainings side by side: what was set differently, what came out, and whether that is more than chance.

Everything here works on plain values: what config.json, status.json and metrics.jsonl hold.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alexnet.config import TrainConfig
from alexnet.words import value_text
from analysis.formats import Column, Table, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from analysis.curves import Curves
    from analysis.formats import Value

ROUGH = 5
"""Fewer pictures than this right, or wrong, and the normal approximation of a share is rough."""
_NOT_GIVEN = "not given"
_EVER = 2**62
"""A step that no run reaches."""


@dataclass(frozen=True, slots=True)
class Validation:
    """What one look at the validation pictures found; shares are fractions of one."""

    step: int
    epoch: int | None
    top1: float
    loss: float | None
    pictures: int


@dataclass(frozen=True, slots=True)
class Run:
    """One training: `record` is what config.json holds, the rest what its metrics and status say.

    `found` are its validations, of which `best` and `last` are two.  `seconds` were spent in steps and validations, so
    that a night in which the run was stopped does not count; `images_per_second` is the median over the records of its
    steps.
    """

    name: str
    record: Mapping[str, Any]
    state: str = ""
    step: int | None = None
    steps: int | None = None
    best: Validation | None = None
    last: Validation | None = None
    validations: int = 0
    loss: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    found: tuple[Validation, ...] = ()

    def behind(self, step: int) -> Run:
        """The same training with only its validations behind this step."""
        found = tuple(one for one in self.found if one.step > step)
        return dataclasses.replace(
            self, found=found, best=_best(found), last=found[-1] if found else None, validations=len(found)
        )


def run_of(
    name: str,
    record: Mapping[str, Any],
    metrics: Iterable[Mapping[str, Any]],
    status: Mapping[str, Any],
    state: str = "",
) -> Run:
    """A run from what its directory holds; records that are damaged are left out.  `state`, if given, is the truth."""
    speeds: list[float] = []
    validations: list[Validation] = []
    batch = _whole(_object(record, "config").get("batch")) or 0
    seconds, step, loss = 0.0, None, None
    for one in metrics:
        at = _whole(one.get("step"))
        if at is None:
            continue
        if one.get("kind") == "train":
            # The first runs did not write how many pictures a record stands for.
            pictures = _whole(one.get("pictures")) or (at - (step or 0)) * batch
            speed, step, loss = _number(one.get("images_per_second")), at, _number(one.get("loss"))
            if speed and speed > 0 and pictures > 0:
                speeds.append(speed)
                seconds += pictures / speed
        elif one.get("kind") == "val" and (found := _validation(at, one)) is not None:
            validations.append(found)
            seconds += _number(one.get("seconds")) or 0.0
    return Run(
        name,
        record,
        state=state or str(status.get("state", "")),
        step=step if step is not None else _whole(status.get("step")),
        steps=_whole(status.get("steps")),
        best=_best(validations),
        last=validations[-1] if validations else None,
        validations=len(validations),
        loss=loss,
        seconds=seconds or None,
        images_per_second=statistics.median(speeds) if speeds else None,
        found=tuple(validations),
    )


def run_of_curves(
    name: str,
    record: Mapping[str, Any],
    curves: Curves,
    pictures: Mapping[int, int],
    status: Mapping[str, Any],
    state: str = "",
) -> Run:
    """`run_of` from what a shared reader has read already; `pictures` are the `validation_pictures` by step.

    A step that was written twice counts once, as it does in the curves.
    """
    import numpy as np  # noqa: PLC0415 - who has curves has numpy; everything else here does without

    train, val = curves.train, curves.val
    batch = _whole(_object(record, "config").get("batch")) or 0
    # The first runs did not write how many pictures a record stands for.
    whole_batches = np.diff(train.step, prepend=0) * batch
    counted = np.where(np.isfinite(train.pictures), train.pictures, whole_batches)
    known = np.isfinite(train.images_per_second) & (train.images_per_second > 0) & (counted > 0)
    speeds = train.images_per_second[known]
    found = [
        Validation(step, _finite_whole(epoch), top1, _number(loss), pictures[step])
        for step, epoch, top1, loss in zip(
            *(one.tolist() for one in (val.step, val.epoch, val.top1, val.loss)), strict=True
        )
        if 0 <= top1 <= 1 and step in pictures
    ]
    took = val.seconds[np.isin(val.step, [one.step for one in found]) & np.isfinite(val.seconds)]
    seconds = float((counted[known] / speeds).sum() + took.sum())
    return Run(
        name,
        record,
        state=state or str(status.get("state", "")),
        step=int(train.step[-1]) if len(train.step) else _whole(status.get("step")),
        steps=_whole(status.get("steps")),
        best=_best(found),
        last=found[-1] if found else None,
        validations=len(found),
        loss=_number(float(train.loss[-1])) if len(train.step) else None,
        seconds=seconds or None,
        images_per_second=float(np.median(speeds)) if speeds.size else None,
        found=tuple(found),
    )


def _best(found: Sequence[Validation]) -> Validation | None:
    """The first of equals, as the trainer has it."""
    return max(found, key=lambda one: one.top1, default=None)


def validation_pictures(metrics: Path) -> dict[int, int]:
    """How many pictures each validation in a ``metrics.jsonl`` looked at, by its step; other lines are passed over.

    Raises:
        OSError: the file is there and cannot be read.
    """
    found: dict[int, int] = {}
    try:
        with metrics.open("rb") as file:
            for line in file:
                if b'"val"' in line and line.endswith(b"\n"):
                    found |= _pictures(line)
    except FileNotFoundError:
        pass
    return found


def _pictures(line: bytes) -> dict[int, int]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(record, dict) or record.get("kind") != "val":
        return {}
    step, pictures = _whole(record.get("step")), _whole(record.get("pictures"))
    return {step: pictures} if step is not None and pictures is not None else {}


# --- tables -----------------------------------------------------------------------------------------------------------


def config_table(runs: Sequence[Run], *, everything: bool = False) -> Table:
    """The values of the recipe in which runs differ, or all of them, with what each value means."""
    fields = {field.name: (field.metadata["about"], field.default) for field in dataclasses.fields(TrainConfig)}
    configs = [_object(run.record, "config") for run in runs]
    extra = sorted({name for config in configs for name in config} - fields.keys())
    rows = []
    for name in (*fields, *extra):
        about, default = fields.get(name, ("a value that this version does not know", None))
        # A config from before a field was there means its default.
        values = [_value(config.get(name, None if default is dataclasses.MISSING else default)) for config in configs]
        if everything or len(set(values)) > 1:
            rows.append((name.replace("_", " "), *values, about))
    title = "Every value of the recipe" if everything else "Values of the recipe that differ"
    return Table(title, (Column("value", "value"), *_run_columns(runs), Column("about", "what it is")), tuple(rows))


def surroundings_table(runs: Sequence[Run], *, everything: bool = False) -> Table:
    """Data, machine and versions, where they differ or all of them."""
    found = [_surroundings(run.record) for run in runs]
    names = sorted(dict.fromkeys(name for one in found for name in one), key=_group)
    rows = [(name, *(one.get(name) for one in found)) for name in names]
    kept = tuple(row for row in rows if everything or len(set(row[1:])) > 1)
    title = "Data, machine and versions" + ("" if everything else " that differ")
    return Table(title, (Column("what", "what"), *_run_columns(runs)), kept)


def results_table(runs: Sequence[Run]) -> Table:
    """What came out, one run a row."""
    columns = (
        Column("run", "run"),
        Column("state", "state"),
        Column("best_top1", "best top-1", percent=True),
        Column("best_step", "at step"),
        Column("best_epoch", "in epoch"),
        Column("last_top1", "last top-1", percent=True),
        Column("last_loss", "last validation loss"),
        Column("train_loss", "last training loss"),
        Column("pictures", "validation pictures"),
        Column("step", "steps taken"),
        Column("steps", "of"),
        Column("minutes", "trained for, minutes"),
        Column("images_per_second", "images/s (median)"),
    )
    return Table("Results", columns, tuple(_result(run) for run in runs))


def _result(run: Run) -> tuple[Value, ...]:
    best, last = run.best, run.last
    return (
        run.name,
        run.state,
        best.top1 if best else None,
        best.step if best else None,
        best.epoch + 1 if best and best.epoch is not None else None,
        last.top1 if last else None,
        rounded(last.loss if last else None, 4),
        rounded(run.loss, 4),
        best.pictures if best else None,
        run.step,
        run.steps,
        rounded(None if run.seconds is None else run.seconds / 60, 2),
        rounded(run.images_per_second, 1),
    )


# --- where runs come from ---------------------------------------------------------------------------------------------


def descent(name: str, records: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Where a run comes from, a sentence for each step back; `records` are the config.json of all runs by name.

    An empty record is of a config that cannot be read.
    """
    lines: list[str] = []
    here: str | None = name
    seen: set[str] = set()
    while here is not None:
        if here in seen:
            lines.append(f"{here} is said to come from itself, which cannot be.")
            break
        seen.add(here)
        if here not in records:
            lines.append(f"{here} is not here, so nothing is known of what came before.")
            break
        if not records[here]:
            lines.append(f"Nothing is known of where {here} comes from: its config cannot be read.")
            break
        branch = _object(records[here], "branch")
        if not branch:
            lines.append(f"{here} began from new weights.")
            break
        parent = branch.get("run") if isinstance(branch.get("run"), str) else None
        lines.append(_branch_sentence(here, parent, branch))
        here = parent
    return tuple(lines)


def _branch_sentence(name: str, parent: str | None, branch: Mapping[str, Any]) -> str:
    checkpoint, step = branch.get("checkpoint"), _whole(branch.get("step"))
    at = f" (step {step:,})" if step is not None else ""
    which = f"the checkpoint “{checkpoint}”{at}" if isinstance(checkpoint, str) else f"a checkpoint{at}"
    source = f"{which} of {parent}" if parent is not None else f"{which} that belongs to no run"
    how = "took the weights of" if branch.get("mode") == "weights" else "goes on from"
    changed = [
        f"{field.replace('_', ' ')} {_value(pair[0])} → {_value(pair[1])}"
        for field, pair in _object(branch, "changed").items()
        if isinstance(pair, list) and len(pair) == 2
    ]
    return f"{name} {how} {source}, with {', '.join(changed) if changed else 'nothing changed'}."


# --- what two runs have in common -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shared:
    """What a branch took over from its parent, or two branches from theirs: everything up to `step` is one training.

    `validations` are counted up to there, that step's own among them.  Step 0: nothing is shared.
    """

    step: int = 0
    validations: int = 0


def may_share(first: str, second: str, records: Mapping[str, Mapping[str, Any]]) -> int:
    """Up to which step two runs have the same past by what the config.json of both and of their parents say; else 0.

    `records` are those of all runs by the names that ``branch`` calls them; a parent that is gone still has its name.
    """
    one, other = (_past(name, records) for name in (first, second))
    # Of each common ancestor they have what both of them, or their parents, went on from.
    return max((min(one[name], other[name]) for name in one.keys() & other.keys()), default=0)


def _past(name: str, records: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Every run whose records this one holds, itself among them, and up to which step."""
    found, reach = {name: _EVER}, _EVER
    while branch := _object(records.get(name, {}), "branch"):
        parent, step = branch.get("run"), _whole(branch.get("step"))
        if branch.get("mode") != "continue" or not isinstance(parent, str) or step is None or parent in found:
            break
        name, reach = parent, min(reach, step)
        found[name] = reach
    return found


def shared(first: Curves, second: Curves, step: int) -> Shared:
    """How far, up to `step`, the records of two runs are the same ones: equal values, written at the same time."""
    import numpy as np  # noqa: PLC0415 - who has curves has numpy

    def alike(*columns: tuple[Any, Any]) -> int:
        """How many records agree from the first on."""
        count = min(len(columns[0][0]), len(columns[0][1]))
        equal = np.ones(count, bool)
        for one, other in columns:
            equal &= (one[:count] == other[:count]) | (np.isnan(one[:count]) & np.isnan(other[:count]))
        return count if equal.all() else int(np.argmin(equal))

    one, other = first.train, second.train
    same = one.step[: alike((one.step, other.step), (one.loss, other.loss), (one.time, other.time))]
    same = same[same <= step]
    if not same.size:
        return Shared()
    mine, theirs = first.val, second.val
    count = alike((mine.step, theirs.step), (mine.top1, theirs.top1), (mine.time, theirs.time))
    reach = int(same[-1])
    if count < min(len(mine.step), len(theirs.step)):  # a validation that differs is of weights that do
        reach = min(reach, int(min(mine.step[count], theirs.step[count])) - 1)
    return Shared(reach, int(np.count_nonzero(mine.step[:count] <= reach)))


def shared_sentence(first: str, second: str, common: Shared) -> str:
    """What two runs have in common, in words."""
    if not common.validations:
        found = "without a validation"
    else:
        found = f"with {common.validations} validation{'s' * (common.validations != 1)}"
    return (
        f"Up to step {common.step:,} {first} and {second} are one training, {found}: what was recorded there counts "
        "once, and they are weighed against each other by what came after."
    )


# --- chance -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of two runs is better, in words.

    `difference` is the first's best top-1 less the second's and `margin` two standard errors of it, as fractions of
    one; both are None where the runs cannot be compared.  `decided` is whether the difference is more than the margin.
    """

    text: str
    difference: float | None = None
    margin: float | None = None
    decided: bool = False


def two_standard_errors(first: float, second: float, first_pictures: int, second_pictures: int) -> float:
    """Two standard errors of the difference between two shares of right answers, as a fraction of one.

    2·√(p₁(1−p₁)/n₁ + p₂(1−p₂)/n₂): each share is binomial, and the variances of independent shares add up.  A
    difference beyond it comes about by chance in fewer than 5 of 100 comparisons of equals.
    """
    return 2 * math.sqrt(first * (1 - first) / first_pictures + second * (1 - second) / second_pictures)


def verdict(first: Run, second: Run, common: Shared | None = None) -> Verdict:
    """Whether one run's best top-1 is better than the other's by more than chance makes.

    Of runs that have something in `common` only what came behind it is compared: the past that both have cannot be
    better than itself.
    """
    if common is not None and common.step:
        words = shared_sentence(first.name, second.name, common)
        first, second = first.behind(common.step), second.behind(common.step)
        for run in (first, second):
            if run.best is None:
                return Verdict(f"{words} {run.name} has not been validated since, so there is nothing to compare.")
        found = verdict(first, second)
        return dataclasses.replace(found, text=f"{words} {found.text}")
    for run in (first, second):
        if run.best is None or not run.best.pictures:
            return Verdict(f"{run.name} has not been validated yet, so there is nothing to compare.")
    if (reason := _not_comparable(first, second)) is not None:
        return Verdict(f"{first.name} and {second.name} cannot be compared by their top-1: {reason}.")
    assert first.best is not None
    assert second.best is not None
    one, other, pictures = first.best, second.best, first.best.pictures
    difference = one.top1 - other.top1
    margin = two_standard_errors(one.top1, other.top1, one.pictures, other.pictures)
    decided = abs(difference) > margin
    better, worse = (first, second) if difference >= 0 else (second, first)
    points = f"{_points(abs(difference))} of top-1 on {pictures:,} validation pictures"
    if decided:
        text = f"{better.name} is better than {worse.name} by {points}: more than chance makes"
    elif difference:
        text = f"{better.name} is ahead of {worse.name} by {points}, which chance alone can make"
    else:
        text = f"{first.name} and {second.name} have the same top-1 on {pictures:,} validation pictures"
    text += f" (two standard errors of the difference are {_points(margin)})."
    return Verdict(" ".join([text, *_reservations(first, second)]), difference, margin, decided)


def method() -> str:
    """How a verdict comes about, for who wants to check it."""
    return (
        "Each top-1 is a share p of n validation pictures. Two standard errors of the difference of two such shares "
        "are 2·√(p₁(1−p₁)/n₁ + p₂(1−p₂)/n₂), as for independent binomial shares; among equals, chance alone exceeds "
        "them in fewer than 5 of 100 comparisons. Where both runs saw the same pictures, their mistakes overlap, and "
        "counting only the pictures on which they disagree (McNemar’s test) would tell smaller differences apart. "
        "Another seed moves the result of the same recipe too, which one run each cannot show."
    )


def _not_comparable(first: Run, second: Run) -> str | None:
    """Why two shares are not of the same kind of pictures; None where they are."""
    assert first.best is not None
    assert second.best is not None
    one, other = _object(first.record, "data"), _object(second.record, "data")
    if one.get("classes") != other.get("classes"):
        counts = [len(data["classes"]) if isinstance(data.get("classes"), list) else "unknown" for data in (one, other)]
        same = f"both have {counts[0]}, but not the same" if counts[0] == counts[1] else f"{counts[0]} and {counts[1]}"
        return f"they tell different classes apart ({same})"
    if one.get("name") != other.get("name"):
        return f"they were validated on different data ({one.get('name')} and {other.get('name')})"
    if first.best.pictures != second.best.pictures:
        return (
            f"their validation pictures are not the same ({first.best.pictures:,} and {second.best.pictures:,} of "
            f"{one.get('name')})"
        )
    return None


def _reservations(first: Run, second: Run) -> list[str]:
    """What a careful reader would want to know beside the numbers."""
    assert first.best is not None
    assert second.best is not None
    notes = []
    configs = [_object(run.record, "config") for run in (first, second)]
    if any(configs[0].get(name) != configs[1].get(name) for name in ("seed", "val_fraction")):
        notes.append(
            "Seed or validation share differ, so that they may have been validated on different pictures of the same "
            "data, unless it came split."
        )
    else:
        notes.append("Both saw the same pictures; a paired test would be tighter.")
    if first.validations != second.validations:
        notes.append(
            f"Each is the best of its validations, {first.validations} and {second.validations}: more tries favour "
            "the one that had more."
        )
    shares = (first.best.top1, second.best.top1)
    if any(min(share, 1 - share) * first.best.pictures < ROUGH for share in shares):
        notes.append(f"Fewer than {ROUGH} pictures are right, or wrong, in one of them: the formula is rough there.")
    return notes


def _points(share: float) -> str:
    """A difference of shares in percentage points, with one digit more where it is small."""
    points = 100 * share
    digits = 1 if points >= 0.95 or not points else 2
    text = f"{points:.{digits}f}"
    return f"{text} {'point' if text in {'1.0', '1'} else 'points'}"


# --- small things -----------------------------------------------------------------------------------------------------


def _run_columns(runs: Sequence[Run]) -> tuple[Column, ...]:
    """A column a run, with keys that differ also where names do not."""
    columns: list[Column] = []
    for run in runs:
        taken = {column.key for column in columns}
        key, number = run.name, 2
        while key in taken or key in {"value", "about", "what"}:
            key, number = f"{run.name} ({number})", number + 1
        columns.append(Column(key, key))
    return tuple(columns)


def _surroundings(record: Mapping[str, Any]) -> dict[str, Value]:
    data, machine, versions = (_object(record, name) for name in ("data", "machine", "versions"))
    classes = data.get("classes")
    found: dict[str, Value] = {
        "data": _value(data.get("name")),
        "training pictures": _whole(data.get("train")),
        "validation pictures": _whole(data.get("val")),
        "classes": len(classes) if isinstance(classes, list) else None,
        "processes": _whole(record.get("processes")),
    }
    found |= {f"machine: {name}": _value(value) for name, value in machine.items()}
    return found | {f"version of {name}": _value(value) for name, value in versions.items()}


def _group(name: str) -> int:
    """Data first, then the machine, then versions."""
    return 2 if name.startswith("version of ") else int(name.startswith("machine: "))


def _validation(step: int, record: Mapping[str, Any]) -> Validation | None:
    top1, pictures = _number(record.get("top1")), _whole(record.get("pictures"))
    if top1 is None or not 0 <= top1 <= 1 or pictures is None:
        return None
    return Validation(step, _whole(record.get("epoch")), top1, _number(record.get("loss")), pictures)


def _object(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _value(value: object) -> str:
    """A value of a config in a cell: texts, so that a column may hold numbers and words."""
    return value_text(value, _NOT_GIVEN)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _finite_whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None
