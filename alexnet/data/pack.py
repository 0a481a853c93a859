"""Packs: every picture decoded and resized once, in one file of raw pixels a split that is memory-mapped ever after.

    OUT/pack.json      what is in it, and checksums; written last, so a folder without it is no pack
        train.pixels   (N, side, side, 3) uint8 RGB, nothing else
        train.labels   (N,) int64, little-endian
        train.names    N names in UTF-8, a zero byte after each
        val.…          the same
        packing.jsonl  only while packing: a line for each finished chunk

Packing may be killed at any instant.  A chunk's pixels are on the disk before its line is written; who packs again
goes on after the last chunk whose checksum is right, and ends with the same bytes as one who was never interrupted.
Nothing in these files depends on the time, the machine or the number of workers.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from zlib import crc32

import numpy as np

from alexnet.data.images import UnreadableImageError, square
from alexnet.data.sources import DataError, Splits
from alexnet.runs import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from io import FileIO
    from pathlib import Path

    from alexnet.data.images import Pixels
    from alexnet.data.sources import Labels, Source

INDEX = "pack.json"
JOURNAL = "packing.jsonl"
KIND = "alexnet pack"
VERSION = 1
SPLITS: tuple[Literal["train", "val"], ...] = ("train", "val")

CHUNK = 256
"""Pictures written, synchronised and recorded together: 50 MB at side 256, a second's work that a kill can cost."""
TASK = 16
"""Pictures a worker decodes at a time, a divisor of CHUNK: enough to make sending cheap, few enough to share out."""
MAX_SIDE = 4_096
SUSPICIOUS = 32
"""So many pictures of a chunk, all unreadable, are no accident: the disk that holds them is gone."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a split is: `done` of `total` pictures, `skipped` of them unreadable; `note` is for the user to read."""

    split: str
    done: int
    total: int
    skipped: int
    note: str = ""


class PackSource:
    """One split of a pack; what is sent to a worker process is the folder's name, and each maps the file for itself."""

    def __init__(self, folder: Path, split: str, count: int, side: int, classes: tuple[str, ...]) -> None:
        self.folder, self.split, self.count, self.side, self.classes = folder, split, count, side, classes

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in {"pixels", "labels", "_names"}}

    @cached_property
    def pixels(self) -> Pixels:
        """All pictures, (N, side, side, 3) uint8 RGB, read from disk where they are looked at; not writable."""
        shape = (self.count, self.side, self.side, 3)
        return np.memmap(self.folder / f"{self.split}.pixels", np.uint8, "r", shape=shape)

    @cached_property
    def labels(self) -> Labels:
        return np.fromfile(self.folder / f"{self.split}.labels", "<i8").astype(np.int64)

    @cached_property
    def _names(self) -> list[bytes]:
        return (self.folder / f"{self.split}.names").read_bytes().split(b"\0")

    def name(self, index: int) -> str:
        return self._names[range(self.count)[index]].decode("utf-8")

    def read(self, index: int, at_least: int | None = None) -> Pixels:  # noqa: ARG002  there is one size
        return np.array(self.pixels[range(self.count)[index]])


# --- reading ---------------------------------------------------------------------------------------------------------


def is_pack(folder: Path) -> bool:
    """Whether to read this folder with `open_pack`: a pack, or one begun."""
    return (folder / INDEX).exists() or (folder / JOURNAL).exists()


def open_pack(folder: Path) -> Splits:
    """The two splits of a pack.  Sizes are checked, which takes no time; `verify_pack` looks at every byte.

    Raises:
        DataError: packing did not end, or a file is missing, cut off or damaged.
    """
    index = _read_index(folder)
    sources = {}
    for split in SPLITS:
        entry, path = index.data["splits"][split], folder / f"{split}.labels"
        count, side = index.counts[split], index.side
        for kind, size in (("pixels", count * side * side * 3), ("labels", 8 * count), ("names", entry["names"][0])):
            _check_size(folder / f"{split}.{kind}", size)
        if crc32(path.read_bytes()) != entry["labels"][1]:  # small, and a wrong label is never noticed later
            raise _damaged(path, "its checksum is wrong")
        sources[split] = PackSource(folder.resolve(), split, count, side, index.classes)
    skipped = [entry for split in SPLITS for entry in index.data["splits"][split]["skipped"]]
    first = f"{skipped[0][0]}: {skipped[0][1]}" if skipped else ""
    return Splits(
        sources["train"],
        sources["val"],
        index.data["source"]["name"],
        f"A pack of {index.side}×{index.side} pictures, {index.counts['train']:,} to train and "
        f"{index.counts['val']:,} to validate, {len(index.classes):,} classes, made from "
        f"{index.data['source']['description']}",
        (
            *index.data["source"]["warnings"],
            *([f"{len(skipped):,} unreadable pictures are not in the pack; the first is {first}"] if skipped else []),
        ),
    )


def verify_pack(folder: Path) -> None:
    """Reads the whole pack and compares every checksum.

    Raises:
        DataError: a file is damaged; named are the file and, of pixels, the pictures.
    """
    open_pack(folder)
    index = _read_index(folder)
    for split in SPLITS:
        entry, path = index.data["splits"][split], folder / f"{split}.names"
        if crc32(path.read_bytes()) != entry["names"][1]:
            raise _damaged(path, "its checksum is wrong")
        path, first = folder / f"{split}.pixels", 0
        with path.open("rb") as file:
            for kept, checksum in entry["chunks"]:
                if crc32(file.read(kept * index.side**2 * 3)) != checksum:
                    raise _damaged(path, f"the checksum of pictures {first:,} to {first + kept - 1:,} is wrong")
                first += kept


class _Index(NamedTuple):
    """A checked pack.json."""

    data: dict[str, Any]
    side: int
    classes: tuple[str, ...]
    counts: dict[str, int]


def _read_index(folder: Path) -> _Index:
    path = folder / INDEX
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        begun = "a pack that was not finished: pack the same data into it again, and it goes on where it stopped"
        what = begun if (folder / JOURNAL).exists() else f"no pack: it has no {INDEX}"
        raise DataError(f"{str(folder)!r} is {what}") from error
    except OSError as error:
        raise DataError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:  # no JSON, or no text
        raise _damaged(path, "it is no JSON") from error
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise DataError(f"{str(path)!r} was not written by this program: name another folder")
    if data.get("version") != VERSION:
        raise DataError(f"{str(path)!r} has format {data.get('version')!r}, this program reads {VERSION}: pack again")
    if data.pop("checksum", None) != _index_checksum(data):
        raise _damaged(path, "its checksum is wrong")
    # The checksum is right, so the rest is what `_finish` wrote.
    counts: dict[str, int] = {split: sum(kept for kept, _ in data["splits"][split]["chunks"]) for split in SPLITS}
    return _Index(data, data["side"], tuple(data["classes"]), counts)


def _index_checksum(data: dict[str, Any]) -> str:
    return sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _check_size(path: Path, expected: int) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise _damaged(path, f"it cannot be opened ({error.strerror})") from error
    if size != expected:
        raise _damaged(path, f"it has {size:,} bytes instead of {expected:,}")


def _damaged(path: Path, problem: str) -> DataError:
    return DataError(f"{str(path)!r} is damaged, {problem}: remove the folder and pack again")


# --- writing ---------------------------------------------------------------------------------------------------------


def write_pack(
    splits: Splits,
    out: Path,
    *,
    side: int = 256,
    workers: int | None = None,
    on_unreadable: Literal["skip", "stop"] = "skip",
) -> Iterator[Progress]:
    """Packs both splits into the folder `out`, as it is iterated over; yields after every `CHUNK` pictures.

    Each picture becomes `images.square(picture, side)`; large JPEGs are decoded at reduced size (`images.decode`).
    `workers` is the number of processes that decode, by default as many as there are processors; 0 decodes here.
    Unreadable pictures are left out and named in the pack, or with "stop" the first one ends the packing.

    Packing that was interrupted, by Ctrl-C, a kill or the power, goes on after the last whole chunk.  Packing again
    what is packed does nothing and says so.  Whether it is the same data is decided by the names and classes of all
    pictures, not by looking into them.

    Raises:
        DataError: `out` holds something else or is in use, the disk is too small, a worker process was killed, or
            so many pictures are unreadable that something else must be wrong.
        UnreadableImageError: a picture is unreadable and `on_unreadable` is "stop".
    """
    if not 1 <= side <= MAX_SIDE:
        raise DataError(f"the side of a pack must be from 1 to {MAX_SIDE:,} pixels, got {side:,}")
    if workers is not None and workers < 0:
        raise DataError(f"the number of workers must be 0 or more, got {workers}")
    job = _Job(splits, out, side, _fingerprint(splits), on_unreadable == "stop")
    if not is_pack(out):
        job.check_place()
        job.check_space(0)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {str(out)!r}: {error.strerror}") from error
    with _locked(out):
        if (out / INDEX).exists():
            yield from job.already_there()
            return
        done = job.recover()
        yield from job.pack(done, _processors() if workers is None else workers)


class _Chunk(NamedTuple):
    """A line of the journal: a finished chunk of a split."""

    split: str
    number: int
    """Its pictures are those of the source from `number`·CHUNK on."""
    kept: int
    checksum: int
    skipped: list[list[Any]]
    """[position, name, problem] of each picture left out."""


@dataclass(frozen=True)
class _Job:
    splits: Splits
    out: Path
    side: int
    fingerprint: str
    stops: bool

    @property
    def picture_bytes(self) -> int:
        return 3 * self.side**2

    def source(self, split: str) -> Source:
        return self.splits.train if split == "train" else self.splits.val

    def pixels(self, split: str) -> Path:
        return self.out / f"{split}.pixels"

    def header(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "version": VERSION,
            "name": self.splits.name,
            "side": self.side,
            "chunk": CHUNK,
            "fingerprint": self.fingerprint,
        }

    # Before packing.

    def check_place(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"{str(self.out)!r} is a file: name a folder for the pack")
        # A kill within the first millisecond leaves the journal without its name.
        if self.out.is_dir() and any(path.name != f"{JOURNAL}.new" for path in self.out.iterdir()):
            raise DataError(f"{str(self.out)!r} is not empty and no pack: name a new or an empty folder")

    def check_space(self, already: int) -> None:
        place = next(folder for folder in (self.out.absolute(), *self.out.absolute().parents) if folder.exists())
        free = shutil.disk_usage(place).free
        pictures = len(self.splits.train) + len(self.splits.val)
        needed = pictures * (self.picture_bytes + 128) - already  # 128: its name, its label, its part of the index
        if needed > free:
            raise DataError(
                f"packing {pictures:,} pictures needs {_size(needed)} in {str(self.out)!r}, "
                f"where {_size(free)} are free: make room, choose another disk or a smaller side than {self.side}"
            )

    def check_same(self, header: dict[str, Any], what: str) -> None:
        """Refuses to touch what was made of other data, or in another way."""
        if header["side"] != self.side:
            raise DataError(
                f"{str(self.out)!r} holds {what} with side {header['side']}, not {self.side}: name another folder"
            )
        if header["fingerprint"] != self.fingerprint:
            raise DataError(f"{str(self.out)!r} holds {what} of other data ({header['name']}): name another folder")

    def already_there(self) -> Iterator[Progress]:
        index = _read_index(self.out)
        self.check_same({"side": index.side, **index.data["source"]}, "a pack")
        open_pack(self.out)
        (self.out / JOURNAL).unlink(missing_ok=True)  # a kill just before the end leaves it behind
        for split in SPLITS:
            total = len(self.source(split))
            skipped = len(index.data["splits"][split]["skipped"])
            yield Progress(split, total, total, skipped, f"{self.splits.name} is packed already; nothing to do")

    # Taking up what an interrupted packing left.

    def recover(self) -> dict[str, list[_Chunk]]:
        """The finished chunks of each split.  Everything after them is cut off, from the pixels and the journal."""
        path = self.out / JOURNAL
        if not path.exists():
            with self.room():
                _write_new(path, _line(self.header()))
        lines = path.read_bytes().splitlines(keepends=True)
        header, chunks = _journal(lines)
        if header is None or (header["kind"], header["version"], header["chunk"]) != (KIND, VERSION, CHUNK):
            raise DataError(f"{str(path)!r} is damaged or of another version: remove the folder and pack again")
        self.check_same(header, "the beginnings of a pack")
        chunks = self.intact(chunks)
        with path.open("r+b") as journal:
            journal.truncate(sum(map(len, lines[: 1 + len(chunks)])))
            os.fsync(journal.fileno())
        done: dict[str, list[_Chunk]] = {split: [c for c in chunks if c.split == split] for split in SPLITS}
        for split in SPLITS:
            with self.pixels(split).open("ab") as file:
                file.truncate(self.picture_bytes * sum(chunk.kept for chunk in done[split]))
        sync_folder(self.out)
        return done

    def intact(self, chunks: list[_Chunk]) -> list[_Chunk]:
        """The longest beginning after which both files of pixels are as long as they must be and end as they must.

        Only the last chunk of each is read again: those before it were on the disk before it was begun.
        """
        while chunks:
            wrong = [split for split in SPLITS if not self.ends_well(split, [c for c in chunks if c.split == split])]
            if not wrong:
                break
            last = max(i for i, chunk in enumerate(chunks) if chunk.split == wrong[0])
            chunks = chunks[:last]
        return chunks

    def ends_well(self, split: str, chunks: list[_Chunk]) -> bool:
        if not chunks:
            return True
        try:
            with self.pixels(split).open("rb") as file:
                file.seek(self.picture_bytes * sum(chunk.kept for chunk in chunks[:-1]))
                data = file.read(self.picture_bytes * chunks[-1].kept)
        except FileNotFoundError:
            return False
        return len(data) == self.picture_bytes * chunks[-1].kept and crc32(data) == chunks[-1].checksum

    # Packing.

    def pack(self, done: dict[str, list[_Chunk]], workers: int) -> Iterator[Progress]:
        assert CHUNK % TASK == 0  # no task lies in two chunks
        self.check_space(sum(self.picture_bytes * chunk.kept for chunks in done.values() for chunk in chunks))
        for split in SPLITS:
            for chunk in done[split]:
                self.judge(chunk)
        with (
            (self.out / JOURNAL).open("ab", buffering=0) as journal,
            _decoders(self.splits, self.side, workers) as decoded,
        ):
            for split in SPLITS:
                chunks, total = done[split], len(self.source(split))
                skipped = sum(len(chunk.skipped) for chunk in chunks)
                first = min(len(chunks) * CHUNK, total)
                if first:
                    yield Progress(split, first, total, skipped, f"going on after {first:,} of {total:,} pictures")
                tasks = [(split, start, min(start + TASK, total)) for start in range(first, total, TASK)]
                parts = decoded(tasks)
                with self.pixels(split).open("ab", buffering=0) as pixels:
                    for start in range(first, total, CHUNK):
                        size = min(CHUNK, total - start)
                        chunk, data = self.gathered(split, start // CHUNK, islice(parts, -(-size // TASK)))
                        self.judge(chunk)
                        # This order makes a kill harmless: what the journal says is on the disk already.
                        with self.room():
                            _append(pixels, data)
                            _append(journal, _line(chunk._asdict()))
                        chunks.append(chunk)
                        skipped += len(chunk.skipped)
                        yield Progress(split, start + size, total, skipped)
        with self.room():
            self.finish(done)

    def gathered(self, split: str, number: int, parts: Iterable[_Decoded]) -> tuple[_Chunk, bytes]:
        pixels, skipped = zip(*parts, strict=True)
        data = b"".join(pixels)
        lost = [[position, name, problem] for part in skipped for position, name, problem in part]
        return _Chunk(split, number, len(data) // self.picture_bytes, crc32(data), lost), data

    def judge(self, chunk: _Chunk) -> None:
        if not chunk.skipped:
            return
        _, name, problem = chunk.skipped[0]
        if self.stops:
            raise UnreadableImageError(name, problem)
        if not chunk.kept and len(chunk.skipped) >= SUSPICIOUS:
            raise DataError(
                f"of {len(chunk.skipped):,} pictures in a row none could be read, from {name} ({problem}) on: "
                "is the disk with the data still there? Then pack again, and it goes on where it stopped"
            )

    def finish(self, done: dict[str, list[_Chunk]]) -> None:
        """Labels and names of what was packed, and last of all the index, which makes the folder a pack."""
        entries = {}
        for split in SPLITS:
            source = self.source(split)
            lost = {position for chunk in done[split] for position, _, _ in chunk.skipped}
            kept = np.array([i for i in range(len(source)) if i not in lost], np.int64)
            if not len(kept):
                _, name, problem = done[split][0].skipped[0]
                raise DataError(f"no picture of {split} could be read, from {name} ({problem}) on: name other data")
            labels = source.labels[kept].astype("<i8").tobytes()
            names = b"".join(_utf8(source.name(i)) + b"\0" for i in kept.tolist())
            _write_new(self.out / f"{split}.labels", labels)
            _write_new(self.out / f"{split}.names", names)
            entries[split] = {
                "chunks": [[chunk.kept, chunk.checksum] for chunk in done[split]],
                "labels": [len(labels), crc32(labels)],
                "names": [len(names), crc32(names)],
                "skipped": [[name, problem] for chunk in done[split] for _, name, problem in chunk.skipped],
            }
        index: dict[str, Any] = {
            "kind": KIND,
            "version": VERSION,
            "side": self.side,
            "classes": list(self.splits.train.classes),
            "source": {
                "name": self.splits.name,
                "description": self.splits.description,
                "warnings": list(self.splits.warnings),
                "fingerprint": self.fingerprint,
            },
            "splits": entries,
        }
        index["checksum"] = _index_checksum(index)
        _write_new(self.out / INDEX, (json.dumps(index, indent=1) + "\n").encode())
        (self.out / JOURNAL).unlink()

    @contextmanager
    def room(self) -> Iterator[None]:
        """Says how many bytes are missing when the disk is full."""
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            written = sum(self.pixels(split).stat().st_size for split in SPLITS if self.pixels(split).exists())
            pictures = len(self.splits.train) + len(self.splits.val)
            needed = max(pictures * (self.picture_bytes + 128) - written, 0)
            raise DataError(
                f"no room left in {str(self.out)!r} ({error.strerror}): {_size(needed)} more are needed; "
                "make room and pack again, and it goes on where it stopped"
            ) from error


def _fingerprint(splits: Splits) -> str:
    """Tells data apart: classes, labels and names of all pictures, in order."""
    if splits.train.classes != splits.val.classes:
        raise DataError("training and validation have different classes: give both the same")
    digest = sha256(json.dumps(splits.train.classes).encode())
    for source in (splits.train, splits.val):
        if not len(source):
            raise DataError("a pack needs pictures to train and to validate; one of them has none")
        digest.update(np.ascontiguousarray(source.labels, "<i8").tobytes())
        for i in range(len(source)):
            digest.update(_utf8(source.name(i)) + b"\0")
    return digest.hexdigest()


def _journal(lines: list[bytes]) -> tuple[dict[str, Any] | None, list[_Chunk]]:
    """The header and the chunks up to the first line that is not whole: what follows a kill is no error."""
    header: dict[str, Any] | None = None
    chunks: list[_Chunk] = []
    for line in lines:
        try:
            entry = json.loads(line)
            if not line.endswith(b"\n") or entry.pop("crc") != _line_checksum(entry):
                break
            if header is None:
                header = entry
            else:
                chunks.append(_Chunk(**entry))
        except (ValueError, AttributeError, KeyError, TypeError):
            break
    return header, chunks


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps({**entry, "crc": _line_checksum(entry)}).encode() + b"\n"


def _line_checksum(entry: dict[str, Any]) -> int:
    return crc32(json.dumps(entry, sort_keys=True).encode())


# --- decoding in many processes --------------------------------------------------------------------------------------

_Task = tuple[str, int, int]
_Decoded = tuple[bytes, list[tuple[int, str, str]]]

_worker_job: tuple[Splits, int] | None = None
"""In a worker process: what it decodes.  Sent once, when the process starts, and not with every task."""


def _decoded(splits: Splits, side: int, task: _Task) -> _Decoded:
    """The squares of pictures `start` to `stop` of a split, and position, name and problem of the unreadable ones."""
    split, start, stop = task
    source = splits.train if split == "train" else splits.val
    squares, skipped = [], []
    for i in range(start, stop):
        try:
            squares.append(square(source.read(i, at_least=side), side).tobytes())
        except UnreadableImageError as error:
            skipped.append((i, error.name, error.problem))
    return b"".join(squares), skipped


def _start_worker(splits: Splits, side: int) -> None:
    global _worker_job  # noqa: PLW0603  a pool passes things to its processes in no other way
    _worker_job = (splits, side)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker waits for tasks for ever, even if nobody is left to send one: the packing process may be killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(task: _Task) -> _Decoded:
    assert _worker_job is not None
    return _decoded(*_worker_job, task)


@contextmanager
def _decoders(splits: Splits, side: int, workers: int) -> Iterator[Callable[[Iterable[_Task]], Iterator[_Decoded]]]:
    """A function from tasks to what they give, in order."""
    if not workers:
        yield lambda tasks: _read(_decoded(splits, side, task) for task in tasks)
        return
    # Not forked: the caller may have threads, whose locks a forked child would find locked for ever.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker, (splits, side))
    try:
        yield lambda tasks: _read(_in_order(pool, iter(tasks), 4 * workers))
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes pictures was killed, perhaps since memory ran out: "
            f"pack again with fewer than {workers} workers, and it goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, tasks: Iterator[_Task], ahead: int) -> Iterator[_Decoded]:
    """Results in the order of the tasks, never more than `ahead` of them in memory."""
    waiting: deque[Future[_Decoded]] = deque()
    with _interrupts_held():
        waiting.extend(pool.submit(_work, task) for task in islice(tasks, ahead))
    while waiting:
        yield waiting.popleft().result()
        with _interrupts_held():
            waiting.extend(pool.submit(_work, task) for task in islice(tasks, 1))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal, but only the one that packs shall act on it, and end the others.

    Submitting a task may start a process, which takes over what is held back at that moment, for its whole life.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read(results: Iterator[_Decoded]) -> Iterator[_Decoded]:
    try:
        yield from results
    except OSError as error:  # not a picture's fault, which is an UnreadableImageError
        raise DataError(
            f"reading the pictures failed ({error.strerror or error}): pack again, and it goes on where it stopped"
        ) from error


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Only one process packs into a folder.  The lock is on the folder itself, and ends with the process."""
    import fcntl  # noqa: PLC0415  Windows has none, and can read packs without

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if isinstance(error, BlockingIOError):
            raise DataError(f"another process is packing into {str(folder)!r}: wait for it or end it") from error
        raise DataError(f"cannot lock {str(folder)!r} ({error.strerror}): pack onto a local disk") from error
    try:
        yield
    finally:
        os.close(handle)


def _append(file: FileIO, data: bytes) -> None:
    """Written to the end and synchronised.  `file` has no buffer, which on a full disk would fail again when closed."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]
    os.fsync(file.fileno())


def _write_new(path: Path, data: bytes) -> None:
    """Written aside, synchronised and renamed: the file is there whole or not at all."""
    aside = path.with_name(path.name + ".new")
    with aside.open("wb", buffering=0) as file:
        _append(file, data)
    aside.replace(path)
    sync_folder(path.parent)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _size(count: int) -> str:
    """Bytes as disks are sold: ``252.4 GB``."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
