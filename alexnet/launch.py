"""Trainings as processes of their own: started by somebody else, waiting for their turn, asked to end.

Standard library only.  Whoever starts a training, a page for one, only writes what it asks for into a new folder and
lets the process go: the process belongs to that folder, not to who started it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet.config import TrainConfig, option
from alexnet.errors import UserError
from alexnet.presets import preset_named
from alexnet.runs import RunDirectory, explained, link, new_path, replace_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOOK_SECONDS = 1.0
"""How often a training that waits looks whether it is its turn."""
_ROOT = Path(__file__).resolve().parent.parent
_QUEUE = ".queue"


class LaunchError(UserError):
    """A training cannot be started or ended as asked; the message says why and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What somebody asked of a run, as its folder keeps it.

    `values` are those of the config; of a branch, which starts from the checkpoint `origin`, only those it changes, and
    its folder holds that checkpoint as it was then (`taken`).  `waits` is whether it starts only when no other training
    runs beside it; `asked` when, in seconds since 1970.
    """

    values: dict[str, Any]
    origin: str | None = None
    waits: bool = False
    asked: float = 0.0


# --- starting ---------------------------------------------------------------------------------------------------------


def start(root: Path, config: TrainConfig, *, waits: bool = False) -> RunDirectory:
    """Asks for a new run under `root` and starts its process.

    Raises:
        LaunchError: no folder can be made there.
    """
    return _asked(root, folder_name(config), Request(config.as_json(), None, waits, time.time()))


def start_branch(root: Path, origin: Path, changes: dict[str, Any], *, waits: bool = False) -> RunDirectory:
    """Asks for a new run under `root` that goes on from a checkpoint with some values changed, and starts its process.

    The checkpoint is the one that is there now, also where the branch waits and the other run trains on meanwhile.

    Raises:
        LaunchError: no folder can be made there, there is no such checkpoint, or a value cannot be taken back to none.
    """
    name = f"branch-of-{branch_stem(origin)}"
    checkpoint = (RunDirectory(origin).last if origin.is_dir() else origin).resolve()
    if not checkpoint.is_file():
        raise LaunchError(f"there is no checkpoint {checkpoint}, so no branch can start from it: choose another one")
    return _asked(root, name, Request(changes, str(checkpoint), waits, time.time()))


def _asked(root: Path, name: str, asked: Request) -> RunDirectory:
    command(asked)  # raises before anything is written
    path = new_path(root, name)
    run = RunDirectory(path)
    ours = False
    try:
        path.mkdir(parents=True)
        ours = True  # another tab may have asked in the same second: its folder is not to be taken away
        if asked.origin is not None:
            run.start.parent.mkdir()
            link(Path(asked.origin), run.start)
        replace_atomically(run.request_path, json.dumps(dataclasses.asdict(asked), indent=2).encode())
    except OSError as error:
        if ours:
            shutil.rmtree(path, ignore_errors=True)
        raise LaunchError(f"no run can be begun in {root}: {explained(error)}") from None
    start_again(run)
    return run


def taken(run: RunDirectory, origin: Path) -> Path | None:
    """The checkpoint `origin` as it was when this run was asked for as a branch of it; None where nobody took it."""
    asked = request(run)
    return run.start if asked is not None and asked.origin == str(origin) and run.start.is_file() else None


def start_again(run: RunDirectory, *, waits: bool | None = None) -> None:
    """Starts the process of a run that has none: one that was asked for begins, any other goes on.

    `waits` is as the run was asked for, if not given.

    Raises:
        LaunchError: its process lives, or it cannot be read.
    """
    if run.is_locked():
        raise LaunchError(f"{run.path.name} has a process already: it is {run.condition()}")
    asked = request(run)
    waits = asked.waits if waits is None and asked is not None else bool(waits)
    if run.config_path.is_file():
        arguments = ["--resume", str(run.path)]
    elif asked is None:
        raise LaunchError(f"{run.path} holds neither a run nor what a run was asked for: begin a new one")
    else:
        arguments = [*command(asked), "--run-dir", str(run.path)]
    status = {"state": "waiting" if waits else "starting", "heartbeat": time.time(), "host": socket.gethostname()}
    try:
        run.clear_stop()
        run.write_status(run.status() | status | {"pid": None, "message": "", "warnings": []})
        _spawn([*arguments, *["--queue"] * waits], run)
    except OSError as error:
        raise LaunchError(f"{run.path.name} cannot be started: {explained(error)}") from None


def command(asked: Request) -> list[str]:
    """The arguments of `python -m alexnet train` that ask for the same; values of the preset are left out.

    Raises:
        LaunchError: a value cannot be said there.
    """
    if asked.origin is not None:
        data = asked.values.get("data")
        return [*([data] if data else []), "--branch", asked.origin, *_options(asked.values, {})]
    config = TrainConfig.from_json(asked.values)
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    defaults |= preset_named(config.preset).changes
    return [config.data, "--preset", config.preset, *_options(config.as_json(), defaults)]


def _options(values: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    words = []
    for name, value in values.items():
        if name in {"data", "preset"} or (name in defaults and value == defaults[name]):
            continue
        if isinstance(value, bool):
            words.append(option(name if value else f"no_{name}"))
        elif value is None:
            raise LaunchError(f"{option(name)} has a value already that cannot be taken back to none: give a number")
        else:
            words += [option(name), repr(value) if isinstance(value, float) else str(value)]
    return words


def request(run: RunDirectory) -> Request | None:
    """What was asked of this run, where a page asked for it and the file is whole."""
    try:
        values = json.loads(run.request_path.read_text(encoding="utf-8"))
        return Request(**values)
    except (OSError, ValueError, TypeError):
        return None


def folder_name(config: TrainConfig) -> str:
    """What a new run's folder is called, behind the time."""
    return f"{config.preset}-{config.network.replace('@', '-').replace(':', '-')}"


def branch_stem(checkpoint: Path) -> str:
    """The name of the run that a checkpoint, or the folder of a run, belongs to, without its time."""
    name = (checkpoint if checkpoint.is_dir() else checkpoint.resolve().parent.parent).name
    return re.sub(r"^(\d{8}-\d{6}-)?(branch-of-)?", "", name)


def _spawn(arguments: Sequence[str], run: RunDirectory) -> None:
    """Starts a training whose life has nothing to do with this process's."""
    with run.errors_path.open("ab") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own program; the values are checked by its own parser
            [sys.executable, "-m", "alexnet", "train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # log.txt has it
            stderr=errors,
            start_new_session=True,  # Ctrl-C at the server is not meant for it
            env=environment(),
        )
    _children.append(process)


def environment() -> dict[str, str]:
    """In which `python -m alexnet` is found from any folder."""
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


_children: list[subprocess.Popen[bytes]] = []


def reap() -> None:
    """Lets the system forget processes of ours that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


# --- in the process itself --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def claimed(path: Path, *, waits: bool) -> Iterator[RunDirectory | None]:
    """The run's folder, taken by this process from its first moment on, where it was asked for or waits for its turn.

    A training that ends before it has begun says in its status why.  Elsewhere gives None: the session takes a folder
    when it knows that it can begin.

    Raises:
        RunError: another process has it.
    """
    run = RunDirectory(path)
    if not waits and not run.request_path.exists():
        yield None
        return
    if not path.is_dir():
        path.mkdir(parents=True)
    run.lock()
    own = {"pid": os.getpid(), "host": socket.gethostname(), "message": "", "warnings": []}
    run.write_status(run.status() | own | {"state": "waiting" if waits else "starting", "heartbeat": time.time()})
    try:
        if waits:
            wait_for_turn(run)
        yield run
    except BaseException as error:
        if run.request_path.exists() or run.config_path.exists():
            _say_why(run, error)
        else:  # nobody asked for this folder but the command, which has said why
            run.discard()
        raise
    finally:
        run.release()


def _say_why(run: RunDirectory, error: BaseException) -> None:
    """The status of a training that ended outside `Session.run`, which speaks for itself."""
    if run.status().get("state") not in {"waiting", "starting"}:
        return
    stopped = isinstance(error, KeyboardInterrupt)
    message = (
        "stopped before it began"
        if stopped
        else str(error)
        if isinstance(error, UserError)
        else explained(error)
        if isinstance(error, OSError)
        else f"ended by an error in the program: {type(error).__name__}: {error}"
    )
    with contextlib.suppress(OSError):
        run.write_status(run.status() | {"state": "stopped" if stopped else "failed", "message": message})


def wait_for_turn(run: RunDirectory) -> None:
    """Waits until no other training runs beside this one, and none that was asked for earlier waits.

    Raises:
        KeyboardInterrupt: the run was asked to stop meanwhile.
    """
    asked = request(run)
    turn = asked.asked if asked is not None else time.time()
    status = run.status() | {"asked": turn}
    beat = 0.0
    while True:
        with _alone(run.path.parent):
            others = [other.path.name for other in ahead(run, turn)]
            if not others:
                run.write_status(status | {"state": "starting", "heartbeat": time.time(), "message": ""})
                return
        if run.stop_requested():
            run.clear_stop()
            raise KeyboardInterrupt
        if time.time() - beat > 2 * LOOK_SECONDS:
            beat = time.time()
            run.write_status(status | {"heartbeat": beat, "message": f"waits for {', '.join(others)}"})
        time.sleep(LOOK_SECONDS)


def ahead(run: RunDirectory, turn: float) -> list[RunDirectory]:
    """The runs that `run`, asked for at `turn` in seconds since 1970, lets go first."""
    found = []
    for other in siblings(run.path.parent):
        if other.path == run.path or not other.is_locked():
            continue
        waits = other.status().get("state") == "waiting"
        asked = other.status().get("asked", 0.0)
        if not waits or (asked, other.path.name) < (turn, run.path.name):
            found.append(other)
    return found


def siblings(root: Path) -> list[RunDirectory]:
    """Every run under `root`, also those that have only been asked for; the latest first."""
    try:
        folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []
    runs = [RunDirectory(path) for path in sorted(folders, reverse=True)]
    return [run for run in runs if run.config_path.is_file() or run.request_path.is_file()]


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One waiting process at a time looks and says that it starts: two would both see that nobody runs."""
    import fcntl  # noqa: PLC0415 - not on Windows

    with (root / _QUEUE).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- ending -----------------------------------------------------------------------------------------------------------


def stop(run: RunDirectory) -> None:
    """Asks the training to stop after the step at hand; before its first step, to end.

    Raises:
        LaunchError: it does not run, or the request cannot be written.
    """
    if (condition := run.condition()) not in {"waiting", "starting", "running", "silent"}:
        raise LaunchError(f"{run.path.name} does not run: it is {condition}")
    try:
        run.request_stop()
    except OSError as error:
        raise LaunchError(f"{run.path.name} cannot be asked to stop: {explained(error)}") from None


def end(run: RunDirectory, *, at_once: bool = False) -> None:
    """Ends the process by a signal, for one that does not answer; `at_once` leaves it no time to save.

    Raises:
        LaunchError: there is no such process on this machine.
    """
    status = run.status()
    pid = status.get("pid")
    ours = run.is_locked() and status.get("host") == socket.gethostname()
    if not ours or not isinstance(pid, int) or not _trains(pid):
        raise LaunchError(f"{run.path.name} has no process on this machine that could be ended")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL if at_once else signal.SIGTERM)


def _trains(pid: int) -> bool:
    """Whether this process is a training: a damaged status must not end another program."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc").is_dir()  # no such process, or a system that does not say
    return b"alexnet" in b" ".join(words) and b"train" in words
