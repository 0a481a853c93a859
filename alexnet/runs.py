"""The run directory: what a training writes and everybody may read.  Standard library only.

``config.json`` is written once.  ``metrics.jsonl`` grows by whole lines.  ``status.json`` and everything in
``checkpoints/`` is written aside, fsynced and renamed, so that a reader never sees half of one, and a power cut leaves
the old one or the new one.  ``probes/`` holds small snapshots, ``log.txt`` what the process printed, ``events.*`` is
TensorBoard's.  An empty file ``stop`` asks the training to stop.

Where a page asked for the run there are also ``request.json``, what it asked for, and ``errors.txt``, what the process
wrote to stderr.  A run that waits for its turn, or that could not start, has no config.json yet.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import time
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

State = Literal["waiting", "starting", "running", "stopped", "finished", "failed"]
"""What a training says of itself in status.json; `waiting` for its turn behind others."""
Condition = Literal["waiting", "starting", "running", "silent", "gone", "stopped", "finished", "failed"]
"""What is true of it: it may have no time to say so (`silent`), or have been killed (`gone`)."""

STALE_SECONDS = 30.0
"""A heartbeat older than this, in a run that says it is running, means that its process is gone or stuck."""

PREPARE_SECONDS = 600.0
"""A training that has not begun yet is given so long without a word: it may read a million names first."""

START_SECONDS = 20.0
"""A process that was started is given so long to take its folder."""

FORMAT = 1

_ASKED = frozenset({"about.json", "errors.txt", "request.json", "status.json", "log.txt"})
"""What may be in a folder before its run begins, where a page asked for it."""
_LOCK_TRIES, _LOCK_SECONDS = 5, 0.05

RUNS = Path("runs")
"""Where runs are, seen from where the program was started."""


class RunError(UserError):
    """A run directory cannot be used as asked; the message names it, the reason and the remedy."""


class RunDirectory:
    """One run's folder.  Reading never changes it; only the process that holds the lock writes."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock: int | None = None

    # --- names -------------------------------------------------------------------------------------------------------

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def status_path(self) -> Path:
        return self.path / "status.json"

    @property
    def log_path(self) -> Path:
        return self.path / "log.txt"

    @property
    def stop_path(self) -> Path:
        return self.path / "stop"

    @property
    def probes_path(self) -> Path:
        return self.path / "probes"

    @property
    def last(self) -> Path:
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        return self.path / "checkpoints" / "best.pt"

    @property
    def start(self) -> Path:
        """What a branch began from."""
        return self.path / "checkpoints" / "start.pt"

    def kept(self, step: int) -> Path:
        """A checkpoint that stays when later ones come."""
        return self.path / "checkpoints" / f"step-{step:09d}.pt"

    def checkpoints(self) -> dict[str, Path]:
        """Every checkpoint there is by its name, the latest first: last, best, step-…, start."""
        names = ["last", "best", *sorted((path.stem for path in self.last.parent.glob("step-*.pt")), reverse=True)]
        found = {name: self.last.with_name(f"{name}.pt") for name in [*names, "start"]}
        return {name: path for name, path in found.items() if path.is_file()}

    def checkpoints_to_see(self) -> list[str]:
        """Their names in the order in which people want to look inside: the best first."""
        return sorted(self.checkpoints(), key=lambda name: (name != "best", name != "last"))

    @property
    def request_path(self) -> Path:
        return self.path / "request.json"

    @property
    def errors_path(self) -> Path:
        return self.path / "errors.txt"

    @property
    def probe_picture_path(self) -> Path:
        return self.probes_path / "picture.png"

    def probe_path(self, step: int) -> Path:
        return self.probes_path / f"step-{step:09d}.npz"

    # --- beginning ---------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, path: Path | str, config: dict[str, Any]) -> RunDirectory:
        """A new run with this config, locked for this process.

        Raises:
            RunError: there is something else already, or no place to write.
        """
        run = cls(path)
        run.begin(config)
        return run

    def begin(self, config: dict[str, Any]) -> None:
        """Makes this folder a run with this config, locked for this process; what a page put there stays.

        Raises:
            RunError: there is something else already, or no place to write.
        """
        path = self.path
        if path.exists() and not path.is_dir():
            raise RunError(f"cannot write a run to {path}: it is a file; name a new folder")
        if self.config_path.exists():
            raise RunError(f"{path} already holds a run: resume it with --resume {path}, or name another folder")
        if path.is_dir() and self._lock is None and any(entry.name not in _ASKED for entry in path.iterdir()):
            raise RunError(f"{path} is not empty and holds no run: name a new folder, so that nothing is overwritten")
        try:
            for folder in (path, self.last.parent, self.probes_path):
                folder.mkdir(parents=True, exist_ok=True)
            self.lock()
            replace_atomically(self.config_path, _json_bytes(config, indent=2))
        except OSError as error:
            self.discard()
            raise RunError(f"cannot write a run to {path}: {explained(error)}; name another folder") from None
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Takes a run away that has not begun: nothing is lost, and the same command can be given again.

        The folder itself stays where a page asked for the run, with the checkpoint that was taken for a branch, and
        says what became of it.
        """
        asked = self.request_path.exists()
        if not asked:
            self.release()
        if self.last.exists() or self.metrics_path.exists():
            return
        with contextlib.suppress(OSError):
            files = (self.config_path, self.probe_picture_path, *self.path.glob("events.*"))
            for path in (*files, *(() if asked else (self.start, self.log_path, self.status_path))):
                path.unlink(missing_ok=True)
        for folder in (self.probes_path, self.last.parent, *(() if asked else (self.path,))):
            with contextlib.suppress(OSError):  # that of a checkpoint stays; others may not be there yet
                folder.rmdir()

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """The run in this folder, for reading, or for writing after `lock`.

        Raises:
            RunError: there is none.
        """
        run = cls(path)
        run.check()
        return run

    def check(self) -> None:
        """Raises RunError where this folder holds no run."""
        if self.path.is_file():
            raise RunError(f"{self.path} is a file: name the run's folder, the one with config.json in it")
        if not self.path.is_dir():
            raise RunError(f"there is no folder {self.path}, so no run to open")
        if not self.config_path.is_file():
            raise RunError(f"{self.path} holds no run: it has no config.json")

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._lock is not None

    def lock(self) -> None:
        """Makes this process the only one that writes here, until it ends, however it ends.

        Raises:
            RunError: another process is training in this folder.
        """
        import fcntl  # noqa: PLC0415 - not on Windows, where runs can still be read

        if self._lock is not None:
            return
        descriptor = os.open(self.path, os.O_RDONLY)
        for patience in reversed(range(_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if patience:  # whoever only asks whether it is locked holds it for a moment
                    time.sleep(_LOCK_SECONDS)
                    continue
                os.close(descriptor)
                pid = self.status().get("pid", "unknown")
                raise RunError(
                    f"{self.path} is in use by another process (pid {pid}): stop that one first, "
                    f"by creating the file {self.stop_path}, or name another folder"
                ) from None
        self._lock = descriptor
        for folder in (self.last.parent, self.probes_path):
            folder.mkdir(exist_ok=True)
        for left_over in self.path.rglob(".*.part"):  # of a process that was killed while it wrote
            left_over.unlink(missing_ok=True)

    def is_locked(self) -> bool:
        """Whether some process, this one or another, is training here; asked of the system, not of a file."""
        import fcntl  # noqa: PLC0415

        if self._lock is not None:
            return True
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def release(self) -> None:
        """Lets others write here."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- config and status -------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Raises RunError where config.json is damaged."""
        try:
            values = json.loads(self.config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.config_path} cannot be read: {error}") from None
        if not isinstance(values, dict):
            raise RunError(f"{self.config_path} is not a config: it holds {type(values).__name__}, not an object")
        return values

    def status(self) -> dict[str, Any]:
        """What the process last said of itself; empty where it said nothing yet or the file is damaged."""
        return self.status_and_trouble()[0]

    def status_trouble(self) -> str:
        """Why status.json says nothing although it is there; empty where it says something."""
        return self.status_and_trouble()[1]

    def status_and_trouble(self) -> tuple[dict[str, Any], str]:
        """`status` and `status_trouble` of one and the same file, which may be replaced between two reads."""
        try:
            values = json.loads(self.status_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, ""
        except OSError as error:
            return {}, f"{self.status_path} cannot be read: {explained(error)}"
        except ValueError:
            return {}, f"{self.status_path} is damaged"
        values = values if isinstance(values, dict) else {}
        named = values.get("state") in typing.get_args(State)
        return values, "" if named else f"{self.status_path} is damaged: it names no state"

    def write_status(self, status: dict[str, Any]) -> None:
        """Replaces the status; not fsynced, since after a power cut no process is alive to have one."""
        replace_atomically(self.status_path, _json_bytes(status), durable=False)

    def condition(self, now: float | None = None, *, status: dict[str, Any] | None = None) -> Condition:
        """What is true of the training, whatever its status claims: the system is asked whether its process lives.

        `status` is what `status` has just said, where the caller has it already.
        """
        status, now = self.status() if status is None else status, time.time() if now is None else now
        said, beat = str(status.get("state")), status.get("heartbeat")
        age = now - beat if isinstance(beat, int | float) else None
        alive = said in {"waiting", "starting", "running"}
        if self.is_locked():
            if not alive:  # it goes on with a run that had ended, and has not said so yet
                return "starting"
            # Reading a large folder or compiling kernels takes longer than a step, and says nothing meanwhile.
            patience = PREPARE_SECONDS if said == "starting" else STALE_SECONDS
            return "silent" if age is None or age > patience else typing.cast("Condition", said)
        if not alive:
            return typing.cast("Condition", said) if said in {"stopped", "finished", "failed"} else "gone"
        if status.get("host", socket.gethostname()) != socket.gethostname():  # locks are not seen from elsewhere
            return "silent" if age is None or age > STALE_SECONDS else typing.cast("Condition", said)
        just_started = status.get("pid") is None and age is not None and age < START_SECONDS
        return "starting" if just_started else "gone"

    # --- stopping ----------------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        self.stop_path.touch()

    def stop_requested(self) -> bool:
        return self.stop_path.exists()

    def clear_stop(self) -> None:
        self.stop_path.unlink(missing_ok=True)

    # --- metrics -----------------------------------------------------------------------------------------------------

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Adds one whole line.  The system keeps it when this process is killed."""
        line = _json_bytes(record)
        with self.metrics_path.open("ab", buffering=0) as file:
            file.write(line)

    def metrics(self) -> list[dict[str, Any]]:
        """Every whole record so far; a half-written last line is left for next time, damaged lines are left out."""
        return list(self._records(self._metrics_bytes()))

    def forget_after(self, step: int) -> None:
        """Drops records of steps that a resumed training takes again, so that each step is there once."""
        kept = b"".join(
            _json_bytes(record)
            for record in self._records(self._metrics_bytes())
            if isinstance(record.get("step"), int) and record["step"] <= step
        )
        replace_atomically(self.metrics_path, kept)
        for probe in self.probes_path.glob("step-*.npz"):
            number = probe.stem.removeprefix("step-")
            if number.isdecimal() and int(number) > step:
                probe.unlink()

    def inherit(self, parent: RunDirectory, step: int) -> None:
        """Takes the records and snapshots of another run up to a step, so that curves and film are whole.

        Raises:
            OSError: the disk is full, or the like.
        """
        kept = (
            _json_bytes(record)
            for record in self._records(parent._metrics_bytes())
            if isinstance(record.get("step"), int) and record["step"] <= step
        )
        replace_atomically(self.metrics_path, b"".join(kept))
        for probe in parent.probes_path.glob("step-*.npz"):
            number = probe.stem.removeprefix("step-")
            if number.isdecimal() and int(number) <= step:
                link(probe, self.probes_path / probe.name)

    def _metrics_bytes(self) -> bytes:
        try:
            return self.metrics_path.read_bytes()
        except FileNotFoundError:
            return b""

    @staticmethod
    def _records(text: bytes) -> Iterator[dict[str, Any]]:
        whole, _, _ = text.rpartition(b"\n")
        for line in whole.splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    yield record


def new_path(root: Path, name: str) -> Path:
    """A folder under `root` that does not exist yet: the time, the name, and a number where that is taken."""
    base = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    path, number = root / base, 2
    while path.exists():
        path, number = root / f"{base}-{number}", number + 1
    return path


def link(existing: Path, path: Path) -> None:
    """Gives a whole file a second name without writing it again; a copy where the disk has no hard links.

    Files of a run are only ever replaced, never written into, so that the two names stay apart.
    """
    aside = beside(path)
    aside.unlink(missing_ok=True)
    try:
        aside.hardlink_to(existing)
    except OSError:
        shutil.copyfile(existing, aside)
    aside.replace(path)


def replace_atomically(path: Path, content: bytes | Callable[[BinaryIO], None], *, durable: bool = True) -> None:
    """Writes beside `path`, then renames: at every instant `path` is the old file or the new one, whole.

    `content` is the bytes or what writes them.  `durable` also forces them to the disk before the rename, so that a
    power cut cannot leave a name without its content.

    Raises:
        OSError: the disk is full, or the like; `path` is as it was.
    """
    with written_aside(path, beside(path), durable=durable) as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


@contextlib.contextmanager
def written_aside(path: Path, aside: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write at `aside`, which is renamed to `path` when it is whole, and taken away where it never is."""
    try:
        with aside.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def beside(path: Path) -> Path:
    """Where this process writes what will be renamed to `path`; `RunDirectory.lock` clears away what a kill left."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def sync_folder(folder: Path) -> None:
    """Forces the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explained(error: OSError) -> str:
    """What the system said, for people; on a full disk also what to do."""
    import errno  # noqa: PLC0415

    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk is full: make room first"
    return error.strerror or str(error)


def _json_bytes(values: dict[str, Any], indent: int | None = None) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=indent, allow_nan=False) + "\n").encode()
