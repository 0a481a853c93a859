"""Runs that go elsewhere as one file, and come in from there.  Standard library only.

The file is an ordinary zip archive: ``manifest.json`` first, which names every file with its size and SHA-256, then the
files of the run directory under their own names.  Whoever reads it may have it from anybody, so that nothing in it is
believed: only the files that a run has are taken, each as large as was said and with its checksum, and none is opened.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from alexnet.about import CARRIED, unknown_files
from alexnet.archive import ALIVE, FORMAT, KIND, MANIFEST, PIECE, Archive, called, name_problem, settled, status_bytes
from alexnet.runs import RunDirectory, RunError, beside, explained, link, sync_folder, written_aside
from alexnet.words import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import BinaryIO

Checkpoints = Literal["all", "last and best", "best", "none"]
CHECKPOINTS: tuple[Checkpoints, ...] = get_args(Checkpoints)

_REPLACED = frozenset({"checkpoints/last.pt", "checkpoints/best.pt", "metrics.jsonl", "log.txt", "errors.txt"})
"""What a training may replace or add to while it is read."""
_ERRORS_BYTES = 1 << 20
"""The end of what a process wrote to stderr is enough: one warning, repeated for days, fills a disk."""

_FIRST_TIME, _LAST_TIME = 315_619_200.0, 4_354_732_800.0
"""Zip knows no dates outside of 1980 to 2107."""

_RESERVE_BYTES = 100 << 20
"""An import leaves so much of the disk free."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a run is on its way: `done` of `total` bytes, now at `file`; in the end `path` is what came out."""

    done: int
    total: int
    file: str
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Contents:
    """What an export would hold: files, bytes before packing, and what it leaves out since no run has it."""

    files: int
    size: int
    unknown: tuple[str, ...]


@dataclass(slots=True)
class _Part:
    """A file on its way into an archive: `size` bytes from `start` on, as they were when the export began."""

    name: str
    path: Path
    size: int
    start: int = 0
    content: bytes | None = None
    held: BinaryIO | None = None
    sha256: str = ""
    link: str | None = None
    changed_at: float = 0.0

    def pieces(self) -> Generator[bytes]:
        if self.content is not None:
            yield self.content
            return
        with contextlib.ExitStack() as stack:
            file = self.held or stack.enter_context(self.path.open("rb"))
            file.seek(self.start)
            left = self.size
            while left:
                piece = file.read(min(left, PIECE))
                if not piece:
                    raise FileNotFoundError(2, "it became shorter", str(self.path))
                left -= len(piece)
                yield piece


# --- out --------------------------------------------------------------------------------------------------------------


def contents(run: Path, *, checkpoints: Checkpoints = "last and best", tensorboard: bool = True) -> Contents:
    """What an export of this run would hold now.

    Raises:
        RunError: there is no run.
    """
    with contextlib.ExitStack() as stack:
        parts = _snapshot(RunDirectory.open(run), checkpoints, tensorboard, stack)
    return Contents(len(parts), sum(part.size for part in parts if part.link is None), unknown_files(run))


def export(
    run: Path,
    out: Path | BinaryIO,
    *,
    checkpoints: Checkpoints = "last and best",
    tensorboard: bool = True,
    overwrite: bool = False,
    seen: Callable[[Moved], None] | None = None,
) -> None:
    """Writes a run, also one that is training, into one file; `seen` is told how far it is.

    Raises:
        RunError: there is no run, it changed too much meanwhile, or the file cannot be written; there is none then.
    """
    _driven(exporting(run, out, checkpoints=checkpoints, tensorboard=tensorboard, overwrite=overwrite), seen)


def exporting(
    run: Path,
    out: Path | BinaryIO,
    *,
    checkpoints: Checkpoints = "last and best",
    tensorboard: bool = True,
    overwrite: bool = False,
) -> Generator[Moved]:
    """`export`, a megabyte at a time; closed before its end it leaves nothing at `out`, where that is a path.

    A training that goes on meanwhile is not disturbed and does not disturb: checkpoints are opened once, and what is
    appended to is cut where it ended when the export began.
    """
    directory = RunDirectory.open(run)
    if isinstance(out, Path):
        _check_place(directory, out, overwrite)
    with contextlib.ExitStack() as stack:
        parts = _snapshot(directory, checkpoints, tensorboard, stack)
        stored = [part for part in parts if part.link is None]
        done, total = 0, 2 * sum(part.size for part in stored)
        try:
            for part in stored:
                digest = hashlib.sha256()
                for piece in part.pieces():
                    digest.update(piece)
                    done += len(piece)
                    yield Moved(done, total, part.name)
                part.sha256 = digest.hexdigest()
        except OSError as error:
            raise _unreadable(directory, error) from None
        digests = {part.name: part.sha256 for part in stored}
        for part in parts:
            part.sha256 = digests[part.link or part.name]
        manifest = _manifest(directory, parts, checkpoints)
        try:
            with _new_file(out) as file, zipfile.ZipFile(file, "w") as archive:
                for part in (manifest, *stored):
                    with contextlib.closing(_add(archive, part, directory)) as sizes:
                        for size in sizes:
                            done += size if part is not manifest else 0
                            yield Moved(done, total, part.name)
        except OSError as error:
            raise RunError(f"cannot write {called(out)}: {explained(error)}; or name another place") from None
    yield Moved(total, total, "", out if isinstance(out, Path) else None)


def _check_place(run: RunDirectory, out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise RunError(f"{out} is a folder: name a new file in it, like {out / (run.path.resolve().name + '.zip')}")
    if out.exists() and not overwrite:
        raise RunError(f"{out} exists: name another file, or say that it may be written over (--force)")
    if not out.parent.is_dir():
        raise RunError(f"there is no folder {out.parent} to write {out.name} in: make it first, or name another")
    if out.resolve().is_relative_to(run.path.resolve()):
        raise RunError(f"{out} would lie in the run itself: name a place outside of {run.path}")


def _snapshot(
    run: RunDirectory, checkpoints: Checkpoints, tensorboard: bool, stack: contextlib.ExitStack
) -> list[_Part]:
    """The files as they are now, by name.  `stack` holds those open that a training may replace."""
    names = _chosen(run, checkpoints)
    parts, seen = [], dict[tuple[int, int], str]()
    try:
        # The last checkpoint before all else: records and snapshots may be later than it, as after a kill, and then
        # the steps in between are taken again.  Were they earlier, a resumed run would have a hole.
        for name in sorted(names, key=lambda name: (name != "checkpoints/last.pt", name != "checkpoints/best.pt")):
            part, about = _part(run, name, stack)
            part.link = seen.get((about.st_dev, about.st_ino))
            seen.setdefault((about.st_dev, about.st_ino), name)
            parts.append(part)
        for path in _files(run.path):
            name = path.relative_to(run.path).as_posix()
            if not CARRIED.fullmatch(name) or name.startswith("checkpoints/"):
                continue
            if not tensorboard and name.startswith("events."):
                continue
            part, _ = _part(run, name, stack)
            if name in {"metrics.jsonl", "log.txt"} and part.held:
                part.size = _whole_lines(part.held, part.size)
            elif name == "errors.txt":
                part.start = max(0, part.size - _ERRORS_BYTES)
                part.size -= part.start
            elif name in {"config.json", "about.json"}:
                part.content = path.read_bytes()
            if name != "status.json":
                parts.append(part)
    except OSError as error:
        raise _unreadable(run, error) from None
    if (status := _exported_status(run)) is not None:
        parts.append(
            _Part("status.json", run.status_path, len(status), content=status, changed_at=time.time()),
        )
    for part in parts:
        part.size = len(part.content) if part.content is not None else part.size
    return sorted(parts, key=lambda part: part.name)


def _part(run: RunDirectory, name: str, stack: contextlib.ExitStack) -> tuple[_Part, os.stat_result]:
    path = run.path / name
    held = stack.enter_context(path.open("rb")) if name in _REPLACED else None
    about = os.fstat(held.fileno()) if held else path.stat()
    return _Part(name, path, about.st_size, held=held, changed_at=about.st_mtime), about


def _chosen(run: RunDirectory, checkpoints: Checkpoints) -> list[str]:
    there = [f"checkpoints/{path.name}" for path in _files(run.last.parent)]
    known = [name for name in there if CARRIED.fullmatch(name)]
    match checkpoints:
        case "all":
            return known
        case "last and best":  # a branch that has no checkpoint of its own yet starts from what it was given
            wanted = {"last", "best"} if run.last.is_file() else {"best", "start"}
        case "best":
            wanted = {"best"}
        case "none":
            wanted = set()
        case _:
            raise RunError(f"checkpoints can be {', '.join(CHECKPOINTS)}, not {checkpoints!r}")
    return [name for name in known if Path(name).stem in wanted]


def _files(folder: Path) -> list[Path]:
    """Every file below, those that links lead to among them; folders of a run have no links to folders."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _whole_lines(file: BinaryIO, size: int) -> int:
    """Bytes up to the end of the last whole line among the first `size`."""
    end = size
    while end:
        start = max(0, end - PIECE)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _exported_status(run: RunDirectory) -> bytes | None:
    """What status.json says elsewhere: no process of this machine is there."""
    status = run.status()
    condition = run.condition(status=status)
    if not status and condition == "gone":
        return None
    step = status.get("step")
    at = f", at step {step:,}" if isinstance(step, int) else ""
    if condition in ALIVE | {"silent"}:
        status = {**status, "state": "running"}
        message = f"exported while it was running{at}"
    else:
        message = f"its process had ended without a word when it was exported{at}"
    return status_bytes(settled(status, message))


def _manifest(run: RunDirectory, parts: Iterable[_Part], checkpoints: Checkpoints) -> _Part:
    config = run.config()
    values = {
        "kind": KIND,
        "format": FORMAT,
        "name": run.path.resolve().name,
        "created": time.time(),
        "checkpoints": checkpoints,
        "versions": config.get("versions", {}),
        "files": [
            {"name": part.name, "size": part.size, "sha256": part.sha256}
            | ({"link": part.link} if part.link is not None else {})
            for part in parts
        ],
    }
    content = (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode()
    return _Part(MANIFEST, run.path, len(content), content=content, changed_at=time.time())


def _add(archive: zipfile.ZipFile, part: _Part, run: RunDirectory) -> Generator[int]:
    """Writes a file into the archive; the sizes of its pieces as they are written."""
    info = zipfile.ZipInfo(part.name, time.localtime(min(max(part.changed_at, _FIRST_TIME), _LAST_TIME))[:6])
    packs = part.name.endswith((".json", ".jsonl", ".txt")) or part.name.startswith("events.")
    info.compress_type = zipfile.ZIP_DEFLATED if packs else zipfile.ZIP_STORED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = part.size  # decides on ZIP64
    digest = hashlib.sha256()
    pieces = part.pieces()
    with contextlib.closing(pieces), archive.open(info, "w") as member:
        while True:
            try:
                piece = next(pieces, b"")
            except OSError as error:
                raise _unreadable(run, error) from None
            if not piece:
                break
            digest.update(piece)
            member.write(piece)
            yield len(piece)
    if part.sha256 and digest.hexdigest() != part.sha256:
        raise RunError(f"{part.path} changed while it was exported: export {run.path} again")


def _unreadable(run: RunDirectory, error: OSError) -> RunError:
    name = error.filename or run.path
    if isinstance(error, FileNotFoundError):  # a run that was resumed takes snapshots away that it will take again
        return RunError(f"{name} went away while {run.path} was exported: export it again")
    return RunError(f"{name} cannot be read: {explained(error)}")


@contextlib.contextmanager
def _new_file(out: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file written beside `out` and renamed when it is whole; `out` itself where it is an open file."""
    if not isinstance(out, Path):
        yield out
        return
    with written_aside(out, beside(out.with_name(f"{out.name}.{threading.get_ident()}"))) as file:
        yield file


# --- in ---------------------------------------------------------------------------------------------------------------


def import_run(
    file: Path | BinaryIO, root: Path, name: str | None = None, *, seen: Callable[[Moved], None] | None = None
) -> Path:
    """Takes in a run that `export` wrote; its new folder under `root`, which no other run has had.

    `name` is the folder's; if not given, the name that the run had, with a number where that is taken.

    Raises:
        ArchiveError: the file is not such a run, or harmful; nothing is left of it then.
        RunError: `root` or `name` cannot be used.
    """
    path = _driven(importing(file, root, name), seen)
    assert path is not None
    return path


def importing(file: Path | BinaryIO, root: Path, name: str | None = None) -> Generator[Moved]:
    """`import_run`, a megabyte at a time; closed before its end it leaves nothing."""
    if name is not None and (problem := name_problem(name)):
        raise RunError(f"{name!r} cannot be a run's folder: {problem}; give another name")
    if name is not None and (root / name).exists():
        raise RunError(f"{root / name} exists, and nothing is written over: give another name")
    with contextlib.ExitStack() as stack:
        checked = Archive(file, stack)
        aside = stack.enter_context(_aside(root))
        free = shutil.disk_usage(aside).free
        total = sum(entry.size for entry in checked.stored)
        if total + _RESERVE_BYTES > free:
            raise RunError(
                f"{checked.name} holds {size_text(total)} and {root} has {size_text(free)} free, of which "
                f"{size_text(_RESERVE_BYTES)} stay free: make room, or import elsewhere"
            )
        folder = aside / "run"
        try:
            for part in (folder, folder / "checkpoints", folder / "probes"):
                part.mkdir()
        except OSError as error:
            raise RunError(f"cannot write to {root}: {explained(error)}") from None
        done = 0
        for entry in checked.stored:
            with contextlib.closing(checked.copied(entry, folder / entry.name)) as sizes:
                for size in sizes:
                    done += size
                    yield Moved(done, total, entry.name)
        try:
            for entry in checked.links:
                link(folder / str(entry.link), folder / entry.name)
            if checked.status is not None:
                (folder / "status.json").write_bytes(status_bytes(checked.status))
            for part in (folder / "checkpoints", folder / "probes", folder):
                sync_folder(part)
            path = _moved_in(folder, root, name, checked.wanted_name)
        except OSError as error:
            raise RunError(f"cannot write to {root}: {explained(error)}") from None
    yield Moved(total, total, "", path)


@contextlib.contextmanager
def _aside(root: Path) -> Iterator[Path]:
    """A hidden folder in `root`, locked while it is in use and gone after; those of killed imports go with it."""
    import fcntl  # noqa: PLC0415 - not on Windows

    made = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left_over in root.glob(".importing-*"):
            with contextlib.suppress(OSError):
                descriptor = os.open(left_over, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(left_over)
                finally:
                    os.close(descriptor)
        while True:
            aside = Path(tempfile.mkdtemp(prefix=".importing-", dir=root))
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(aside, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if aside.exists():  # else another import took it for a left-over, before it was locked
                    break
                os.close(descriptor)
    except OSError as error:
        raise RunError(f"cannot write to {root}: {explained(error)}; import elsewhere") from None
    done = False
    try:
        yield aside
        done = True
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(descriptor)
        if made and not done:
            with contextlib.suppress(OSError):
                root.rmdir()


def _moved_in(folder: Path, root: Path, name: str | None, wanted: str) -> Path:
    """Renames the finished folder to a name that nothing has."""
    number = 1
    while True:
        path = root / (name or (wanted if number == 1 else f"{wanted}-{number}"))
        if not path.exists() and not path.is_symlink():
            try:
                folder.rename(path)
            except OSError as error:
                if error.errno not in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:  # taken in this moment
                    raise
            else:
                sync_folder(root)
                return path
        if name is not None:
            raise RunError(f"{path} exists, and nothing is written over: give another name")
        number += 1


def origin(run: Path) -> str:
    """What an imported run was trained on, and how it goes on here, in a sentence.

    Raises:
        RunError: there is no run, or its config cannot be read.
    """
    directory = RunDirectory.open(run)
    config = directory.config()
    values = config.get("config")
    data = values.get("data") if isinstance(values, dict) else None
    if not isinstance(data, str):
        raise RunError(f"{directory.config_path} does not say what the run was trained on")
    if not directory.last.is_file() and not directory.start.is_file():
        return f"It was trained on {data!r}; without its last checkpoint it can be looked at, and does not go on."
    from alexnet.data.sources import BUILT_IN  # noqa: PLC0415 - numpy, which moving runs does without

    if data == BUILT_IN or _exists(data):
        return f"It was trained on {data!r}, which is here too; it goes on with --resume {run}"
    return (
        f"It was trained on {data!r}{_pictures(config.get('data'))}, which is not here; where these pictures lie here, "
        f"it goes on with: python -m alexnet train DATA --resume {run}"
    )


def _pictures(data: object) -> str:
    """What config.json says of the pictures, by which they may be found under another name."""
    values = data if isinstance(data, dict) else {}
    name, train, val = (values.get(key) for key in ("name", "train", "val"))
    if not isinstance(name, str) or not isinstance(train, int) or not isinstance(val, int):
        return ""
    return f" ({name!r}: {train:,} pictures for training, {val:,} for validation)"


# --- small things -----------------------------------------------------------------------------------------------------


def _driven(steps: Generator[Moved], seen: Callable[[Moved], None] | None) -> Path | None:
    path = None
    with contextlib.closing(steps):
        for step in steps:
            path = step.path
            if seen is not None:
                seen(step)
    return path


def _exists(path: str) -> bool:
    try:
        Path(path).stat()
    except (OSError, ValueError):
        return False
    return True
