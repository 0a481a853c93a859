"""A run's ``metrics.jsonl``, read as it grows: numpy arrays by step.  numpy and orjson; no torch.

The reader assumes of the writer what `alexnet.runs` promises: whole lines are appended, and who takes records away
replaces the file.  It never writes and never asks the training for anything.
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from os import fstat
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from analysis.curves import Curves, Moments, TrainCurve, Unreadable, ValCurve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import stat_result
    from typing import BinaryIO

    from numpy.typing import NDArray

    from analysis.curves import Floats, Steps

    Record = dict[str, Any]

_CHUNK = 1 << 20
"""Bytes read at a time: only so many are ever held as records, and records as dictionaries are ten times the size."""
_SEEN = 256
"""So many bytes before the place read up to are compared, to notice a file that took the place of another."""
_LAST_STEP = 2**53
"""Steps above it are damage: as floats, on an axis, they could not be told apart."""
_NAMED = 100
"""So many damaged lines are remembered by their numbers; of more, the count alone."""
_SAID = 10

_TRAIN = ("epoch", "loss", "top1", "learning_rate", "images_per_second", "waited_share", "pictures", "time")
_TOP = re.compile(r"top[0-9]{1,6}")
_MOMENTS = ("mean", "std", "norm")


class History:
    """The records of one run, shared by everyone who looks at it; safe to use from several threads.

    Where a step was written twice (by a process that was killed, and by the one that went on) the later record stands.
    """

    def __init__(self, path: Path | str) -> None:
        """`path` is of ``metrics.jsonl``, which need not be there yet."""
        self._path = Path(path)
        self._lock = threading.Lock()
        self._start_anew()

    @property
    def curves(self) -> Curves:
        """What the last `update` found."""
        return self._curves

    @property
    def damaged(self) -> int:
        """How many whole lines hold no record that can be understood."""
        return self._curves.damaged

    def update(self) -> Curves:
        """Reads what is new and returns everything: the same object as before where nothing is.

        Only whole lines are taken; a half-written last one waits.  A file that became shorter, or another one (after
        `RunDirectory.forget_after`), is read from its beginning; a file that is not there holds nothing.

        Raises:
            OSError: the file is there and cannot be read.
        """
        with self._lock:
            try:
                if _identity(self._path.stat()) == self._seen:
                    return self._curves
                with self._path.open("rb") as file:
                    self._read(file)
            except (FileNotFoundError, NotADirectoryError):
                if self._seen is not None:
                    self._start_anew()
            return self._curves

    def _start_anew(self) -> None:
        self._seen: tuple[int, ...] | None = None
        self._offset, self._before = 0, b""
        self._rows = _Rows()
        self._curves = self._rows.curves()

    def _read(self, file: BinaryIO) -> None:
        seen = _identity(fstat(file.fileno()))
        if self._seen is not None and not self._goes_on(file, seen):
            self._start_anew()
        file.seek(self._offset)
        news, pending = False, b""
        while block := file.read(_CHUNK):
            whole, newline, pending = (pending + block).rpartition(b"\n")
            if newline:
                news = True
                self._rows.take(whole.split(b"\n"))
                self._offset += len(whole) + 1
                self._before = (self._before + whole + newline)[-_SEEN:]
        # Only now: if anything above fails, the next call looks again.  What was appended meanwhile was read, too; the
        # next call then finds a size that is not this one, looks, and finds nothing.
        self._seen = seen
        if news:
            self._curves = self._rows.curves()

    def _goes_on(self, file: BinaryIO, seen: tuple[int, ...]) -> bool:
        """Whether this is the file read before, with or without more lines.

        The inode alone does not tell: a file system gives it again to the next new file.
        """
        if self._seen is None or seen[:2] != self._seen[:2]:
            return False
        file.seek(self._offset - len(self._before))
        return file.read(len(self._before)) == self._before


def _identity(found: stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def which_lines(curves: Curves) -> str:
    """Which lines of metrics.jsonl are damaged, in a sentence; empty where none is."""
    numbers = [f"{number:,}" for number in curves.damaged_lines[:_SAID]]
    if not numbers:
        return ""
    if curves.damaged == 1:
        return f"It is line {numbers[0]}."
    if (more := curves.damaged - len(numbers)) > 0:
        return f"They are lines {', '.join(numbers)} and {more:,} more."
    return f"They are lines {', '.join(numbers[:-1])} and {numbers[-1]}."


class _Columns:
    """Rows of numbers by step, in arrays that grow by doubling; what was given out is never written to again."""

    def __init__(self, width: int) -> None:
        self._steps: Steps = np.empty(0, np.int64)
        self._values: Floats = np.empty((width, 0))
        self._count = 0

    def extend(self, steps: Steps, values: Floats) -> None:
        """`values` is (width, len(steps)).  Steps may come in any order and again; the last one of equals stands."""
        old, count = self._count, self._count + len(steps)
        if (old and steps[0] <= self._steps[old - 1]) or (np.diff(steps) <= 0).any():
            steps = np.concatenate([self._steps[:old], steps])
            order = np.argsort(steps, kind="stable")
            order = order[np.append(np.diff(steps[order]) > 0, True)]
            self._values = np.concatenate([self._values[:, :old], values], axis=1)[:, order]
            self._steps, self._count = steps[order], len(order)
            return
        if count > len(self._steps):
            room = max(2 * old, count)
            grown, wider = np.empty(room, np.int64), np.empty((len(self._values), room))
            grown[:old], wider[:, :old] = self._steps[:old], self._values[:, :old]
            self._steps, self._values = grown, wider
        self._steps[old:count], self._values[:, old:count] = steps, values
        self._count = count

    def given(self) -> tuple[Steps, list[Floats]]:
        """The steps, and the columns in order."""
        return _fixed(self._steps[: self._count]), [_fixed(column) for column in self._values[:, : self._count]]


@dataclass(slots=True)
class _Rows:
    """The records taken so far; `History` alone changes it, under its lock."""

    train: _Columns = field(default_factory=lambda: _Columns(len(_TRAIN)))
    validations: dict[int, Record] = field(default_factory=dict)
    layers: dict[str, dict[str, _Columns]] = field(default_factory=lambda: {"weights": {}, "gradients": {}})
    unreadable: Unreadable | None = None
    lines: int = 0
    damaged: int = 0
    damaged_lines: list[int] = field(default_factory=list)

    def take(self, lines: Sequence[bytes]) -> None:
        """Adds whole lines.  Kinds not known here are for others; blank lines are nothing."""
        by_kind: defaultdict[Any, list[Record]] = defaultdict(list)
        for number, line in enumerate(lines, self.lines + 1):
            record = _record(line)
            if record is not None:
                by_kind[record["kind"]].append(record)
            elif line.strip():
                self.damaged += 1
                if self.damaged <= _NAMED:
                    self.damaged_lines.append(number)
        self.lines += len(lines)
        if by_kind["train"]:
            self.train.extend(_steps(by_kind["train"]), _numbers(by_kind["train"], _TRAIN))
        self.validations.update((record["step"], record) for record in by_kind["val"])
        self._take_layers(by_kind["layers"])
        for record in by_kind["unreadable"]:
            self._take_unreadable(record)

    def _take_layers(self, records: Sequence[Record]) -> None:
        for kind, series in self.layers.items():
            found: defaultdict[str, list[Record]] = defaultdict(list)
            for record in records:
                tensors = record.get(kind)
                for name, moments in tensors.items() if isinstance(tensors, dict) else ():
                    if isinstance(moments, dict):
                        found[name].append(moments | {"step": record["step"]})
            for name, rows in found.items():
                series.setdefault(name, _Columns(len(_MOMENTS))).extend(_steps(rows), _numbers(rows, _MOMENTS))

    def _take_unreadable(self, record: Record) -> None:
        self.unreadable = Unreadable(record["step"], record["count"], tuple(map(str, record["pictures"])))

    def curves(self) -> Curves:
        steps, columns = self.train.given()
        weights, gradients = (
            MappingProxyType({name: _moments(one) for name, one in self.layers[kind].items()})
            for kind in ("weights", "gradients")
        )
        return Curves(
            TrainCurve(steps, *columns), self._val_curve(), weights, gradients, self.unreadable, self.damaged,
            tuple(self.damaged_lines),
        )  # fmt: skip

    def _val_curve(self) -> ValCurve:
        rows = [self.validations[step] for step in sorted(self.validations)]
        names = [_top_name(row) for row in rows]
        latest = next((name for name in reversed(names) if name), "top5")
        shown = [row | {"topk": row.get(name)} for row, name in zip(rows, names, strict=True)]
        wanted = ("epoch", "loss", "top1", "topk", "seconds", "time")
        epoch, loss, top1, topk, seconds, time = map(_fixed, _numbers(shown, wanted))
        return ValCurve(_fixed(_steps(rows)), epoch, loss, top1, topk, int(latest[3:]), _per_class(rows), seconds, time)


def _record(line: bytes) -> Record | None:
    """A line's record, or None where there is none with a kind, a step and what its kind cannot do without."""
    try:
        record = orjson.loads(line)
    except ValueError:
        try:
            record = json.loads(line)  # which knows NaN and Infinity, as other writers have them
        except (ValueError, RecursionError):
            return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    step = record.get("step")
    return record if type(step) is int and 0 <= step < _LAST_STEP and _says_something(record) else None


def _says_something(record: Record) -> bool:
    match record["kind"]:
        case "layers":
            return isinstance(record.get("weights"), dict) or isinstance(record.get("gradients"), dict)
        case "unreadable":
            return isinstance(record.get("count"), int) and isinstance(record.get("pictures"), list)
    return True


def _steps(records: Sequence[Record]) -> Steps:
    return np.array([record["step"] for record in records], np.int64)


def _numbers(records: Sequence[Record], names: Sequence[str]) -> Floats:
    """(names, records), NaN for what is missing or no number."""
    values = np.empty((len(names), len(records)))
    for row, name in zip(values, names, strict=True):
        column = [record.get(name) for record in records]
        plain = set(map(type, column)) <= {float, NoneType}
        row[:] = column if plain else [_number(value) for value in column]
    return values


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.nan


def _moments(columns: _Columns) -> Moments:
    steps, values = columns.given()
    return Moments(steps, *values)


def _top_name(record: Record) -> str:
    """What the record calls the share of right answers among the first few: ``top5``; empty where it has none."""
    return next((key for key in record if _TOP.fullmatch(key) and key != "top1"), "")


def _per_class(records: Sequence[Record]) -> Floats:
    """(validations, classes), where classes are as many as in the latest record that has any."""
    rows = [found if isinstance(found := record.get("per_class"), list) else [] for record in records]
    classes = next((len(row) for row in reversed(rows) if row), 0)
    values = np.full((len(rows), classes), np.nan)
    for shares, row in zip(values, rows, strict=True):
        if len(row) == classes:
            shares[:] = [_number(share) for share in row]
    return _fixed(values)


def _fixed(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers, not to be written to."""
    view = values.view()
    view.flags.writeable = False
    return view
