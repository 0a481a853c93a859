"""The run directory: what a training writes and everybody may read.  Standard library only.

``config.json`` is written once.  ``metrics.jsonl`` grows by whole lines.  ``status.json`` and everything in
``checkpoints/`` is written aside, fsynced and renamed, so that a reader never sees half of one, and a power cut leaves
the old one or the new one.  ``probes/`` holds small snapshots, ``log.txt`` what the process printed, ``events.*`` is
TensorBoard's.  An empty file ``stop`` asks the training to stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

State = Literal["starting", "running", "stopped", "finished", "failed"]

STALE_SECONDS = 30.0
"""A heartbeat older than this, in a run that says it is running, means that its process is gone or stuck."""

FORMAT = 1

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
        if run.path.exists() and not run.path.is_dir():
            raise RunError(f"cannot write a run to {path}: it is a file; name a new folder")
        if run.config_path.exists():
            raise RunError(f"{path} already holds a run: resume it with --resume {path}, or name another folder")
        if run.path.is_dir() and any(run.path.iterdir()):
            raise RunError(f"{path} is not empty and holds no run: name a new folder, so that nothing is overwritten")
        try:
            for folder in (run.path, run.last.parent, run.probes_path):
                folder.mkdir(parents=True, exist_ok=True)
            replace_atomically(run.config_path, _json_bytes(config, indent=2))
            run.lock()
        except OSError as error:
            run.discard()
            raise RunError(f"cannot write a run to {path}: {explained(error)}; name another folder") from None
        except BaseException:
            run.discard()
            raise
        return run

    def discard(self) -> None:
        """Takes a run away that has not begun: nothing is lost, and the same command can be given again."""
        self.release()
        if self.last.exists() or self.metrics_path.exists():
            return
        with contextlib.suppress(OSError):
            files = (self.config_path, self.log_path, self.status_path, self.probe_picture_path)
            for path in (*files, *self.path.glob("events.*")):
                path.unlink(missing_ok=True)
            for folder in (self.last.parent, self.probes_path, self.path):
                folder.rmdir()

    @classmethod
    def open(cls, path: Path | str) -> RunDirectory:
        """The run in this folder, for reading, or for writing after `lock`.

        Raises:
            RunError: there is none.
        """
        run = cls(path)
        if run.path.is_file():
            raise RunError(f"{path} is a file: name the run's folder, the one with config.json in it")
        if not run.path.is_dir():
            raise RunError(f"there is no folder {path}, so no run to open")
        if not run.config_path.is_file():
            raise RunError(f"{path} holds no run: it has no config.json")
        return run

    def lock(self) -> None:
        """Makes this process the only one that writes here, until it ends, however it ends.

        Raises:
            RunError: another process is training in this folder.
        """
        import fcntl  # noqa: PLC0415 - not on Windows, where runs can still be read

        descriptor = os.open(self.config_path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
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
        descriptor = os.open(self.config_path, os.O_RDONLY)
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
        with contextlib.suppress(OSError, ValueError):
            values = json.loads(self.status_path.read_text(encoding="utf-8"))
            if isinstance(values, dict):
                return values
        return {}

    def write_status(self, status: dict[str, Any]) -> None:
        """Replaces the status; not fsynced, since after a power cut no process is alive to have one."""
        replace_atomically(self.status_path, _json_bytes(status), durable=False)

    def is_stale(self, now: float | None = None) -> bool:
        """Whether the run says it is running and has not said so for too long."""
        status = self.status()
        heartbeat = status.get("heartbeat")
        if status.get("state") not in {"starting", "running"} or not isinstance(heartbeat, int | float):
            return False
        return (time.time() if now is None else now) - heartbeat > STALE_SECONDS

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


def replace_atomically(path: Path, content: bytes | Callable[[BinaryIO], None], *, durable: bool = True) -> None:
    """Writes beside `path`, then renames: at every instant `path` is the old file or the new one, whole.

    `content` is the bytes or what writes them.  `durable` also forces them to the disk before the rename, so that a
    power cut cannot leave a name without its content.

    Raises:
        OSError: the disk is full, or the like; `path` is as it was.
    """
    aside = beside(path)
    try:
        with aside.open("wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
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
