"""What pages know of the runs in the runs folder, and in which words they say it.  Reading only.

A run belongs to its folder: nothing here is remembered that the folder does not say, so that a reload, a second tab or
a restarted server see the same.
"""

from __future__ import annotations

import contextlib
import gc
import math
import re
import shutil
import socket
import sys
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet import launch
from alexnet.about import About, about
from alexnet.config import ConfigError, TrainConfig
from alexnet.course import all_steps
from alexnet.errors import UserError
from alexnet.runs import RUNS, RunDirectory, RunError, explained
from alexnet.words import rough_time, size_text, value_text
from analysis import learning
from analysis.formats import number_text
from analysis.history import History

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.runs import Condition
    from alexnet.spec import Network
    from analysis.curves import Curves

ALIVE: frozenset[Condition] = frozenset({"waiting", "starting", "running", "silent"})
"""Conditions in which a run has a process, and changes by itself."""
REFRESH_SECONDS = 2.0
"""Between two looks at a run that lives; the training writes its status as often."""
CALM_SECONDS = 10.0
"""Between two drawings of its curves, where it trains on this machine's CPU and has done so for a minute.

Drawing takes the server 0.1 s of a core and a browser beside it 0.5 s, and two threads that wait for each other lose
that twice: every 2 s it would cost a training on two cores a quarter of its speed.
"""
_LIVELY_SECONDS = 60.0
_LAST_MOMENT = 253_402_300_800.0
"""The year 10000, in seconds since 1970: clocks cannot say what is beyond it."""
_FULL_BYTES = 16 << 20
"""A disk with less room than this is full for a training."""

BADGES: dict[Condition, tuple[str, str]] = {
    "waiting": ("blue", ":material/hourglass_empty:"),
    "starting": ("blue", ":material/rocket_launch:"),
    "running": ("green", ":material/play_arrow:"),
    "silent": ("orange", ":material/hearing_disabled:"),
    "gone": ("red", ":material/power_off:"),
    "stopped": ("gray", ":material/stop:"),
    "finished": ("gray", ":material/check:"),
    "failed": ("red", ":material/error:"),
}
"""Colour and sign of each condition; the word stands beside it, so that nobody needs the colour."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as its folder says it is now.

    `record` is what config.json holds, empty before the run has begun; `config` the recipe in it, or what was asked
    for; `trouble` says why there is none.  Where status.json cannot be read, `damage` says why, and `status` is as much
    of it as the metrics tell.
    """

    directory: RunDirectory
    about: About
    condition: Condition
    status: dict[str, Any]
    record: dict[str, Any]
    config: TrainConfig | None
    trouble: str
    damage: str = ""

    @property
    def id(self) -> str:
        return self.directory.path.name

    @property
    def name(self) -> str:
        """What people call it: the name given to it, or its folder's."""
        return self.about.name or self.id

    @property
    def alive(self) -> bool:
        return self.condition in ALIVE

    @property
    def begun(self) -> bool:
        """Whether it came as far as having a config.json."""
        return bool(self.record) or self.directory.config_path.is_file()

    @property
    def classes(self) -> list[str]:
        """Names of the classes, where config.json says them."""
        names = self.record.get("data", {}).get("classes", []) if isinstance(self.record.get("data"), dict) else []
        return [str(name) for name in names] if isinstance(names, list) else []

    @property
    def steps_per_epoch(self) -> int | None:
        """Whole batches in a pass over the training pictures."""
        return _steps_per_epoch(self.record, self.config)

    def network(self) -> Network | None:
        """The network that it trains, with its classes."""
        with contextlib.suppress(UserError):
            return self.config.described_network(len(self.classes) or None) if self.config is not None else None
        return None

    def number(self, key: str) -> float | None:
        """A number of status.json; None where it is absent or something else."""
        value = self.status.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def names() -> list[str]:
    """Folders of the runs here, the one that began last first; those of which that is not known come behind."""
    return [run.path.name for run in sorted(launch.siblings(RUNS), key=_beginning, reverse=True)]


def created(record: dict[str, Any]) -> float | None:
    """When the run with this config.json began, in seconds since 1970."""
    began = record.get("created")
    if not isinstance(began, int | float) or isinstance(began, bool) or not 0 <= began < _LAST_MOMENT:
        return None
    return float(began)


def _beginning(run: RunDirectory) -> tuple[float, str]:
    """What runs are ordered by: when each began or, before that, was asked for; its folder's name where that ties."""
    path, began = run.config_path, None
    try:
        began = _created(str(path.resolve()), path.stat().st_mtime_ns)
    except OSError:
        if (asked := launch.request(run)) is not None:
            began = created({"created": asked.asked})
    return began or 0.0, run.path.name


@lru_cache(maxsize=4096)
def _created(config: str, _version: int) -> float | None:
    try:
        return created(RunDirectory(Path(config).parent).config())
    except RunError:
        return None


def look(name: str) -> Run:
    """The run in the folder of this name.

    Raises:
        RunError: there is none, or no longer.
    """
    directory = RunDirectory(RUNS / name)
    asked = launch.request(directory)
    record: dict[str, Any] = {}
    config, trouble = None, ""
    try:
        if directory.config_path.is_file():
            record = directory.config()
            config = TrainConfig.from_json(record.get("config", {}))
        elif asked is None:
            directory.check()
        elif asked.origin is None:
            config = TrainConfig.from_json(asked.values)
    except (RunError, ConfigError, TypeError) as error:
        if not directory.path.is_dir():
            raise RunError(f"there is no run {name} here any more") from None
        path = str(directory.config_path)
        trouble = str(error) if path in str(error) else f"{path}: {error}"
    status, damage = directory.status_and_trouble()
    condition = directory.condition(status=status)  # at once: a run that ends in between would be taken for killed
    if directory.config_path.is_file() and (damage or not {"step", "steps"} <= status.keys()):
        status = _from_metrics(directory, record, config) | ({} if damage else status)
    return Run(directory, about(directory.path), condition, status, record, config, trouble, damage)


def _from_metrics(directory: RunDirectory, record: dict[str, Any], config: TrainConfig | None) -> dict[str, Any]:
    """How far a run is, as status.json would say it."""
    try:
        found = _history(str(directory.metrics_path.resolve())).update()
    except OSError:
        return {}
    status: dict[str, Any] = {"step": found.step}
    if config is not None and (per_epoch := _steps_per_epoch(record, config)) is not None:
        status |= {"steps": all_steps(config, per_epoch), "epochs": config.epochs}
    if (top := learning.best(found)) is not None:
        status["best"] = {"step": top.step, "top1": top.top1}
    return status


def _steps_per_epoch(record: dict[str, Any], config: TrainConfig | None) -> int | None:
    data = record.get("data")
    pictures = data.get("train") if isinstance(data, dict) else None
    return max(1, pictures // config.batch) if config is not None and isinstance(pictures, int) else None


def called(folder: str) -> str:
    """What people call the run in this folder."""
    return about(RUNS / folder).name or folder


def labels(folders: Sequence[str]) -> dict[str, str]:
    """What a list of choices says of each run: its name and condition, and its folder where two would read alike.

    Streamlit tells options apart by what they say.
    """
    said = {}
    for folder in folders:
        try:
            run = look(folder)
        except RunError:
            said[folder] = folder
        else:
            said[folder] = f"{run.name} · {run.condition}"
    counts = Counter(said.values())
    return {folder: text if counts[text] == 1 else f"{text} · {folder}" for folder, text in said.items()}


def everything(*, archived: bool) -> list[Run]:
    """Every run here, the one that began last first; those put away only where asked for."""
    launch.reap()
    found = []
    for name in names():
        with contextlib.suppress(RunError):  # deleted in this very moment
            run = look(name)
            if archived or not run.about.archived or run.alive:
                found.append(run)
    return found


@st.cache_resource(max_entries=24, show_spinner=False)
def _history(path: str) -> History:
    return History(path)


def curves(run: Run) -> Curves:
    """Everything that metrics.jsonl says so far; one reader for all sessions, and only what is new is read."""
    return _history(str(run.directory.metrics_path.resolve())).update()


def best_top1(run: Run) -> float | None:
    """The best validation's share of right answers; what a branch took over of another run's history counts as its own.

    It goes on from there with the same weights and momentum, and its curves show these validations too.
    """
    best, branch = run.status.get("best"), run.record.get("branch")
    own = best.get("top1") if isinstance(best, dict) else None
    found = [own] if isinstance(own, int | float) and math.isfinite(own) else []
    if isinstance(branch, dict) and branch.get("mode") == "continue" and isinstance(branch.get("step"), int):
        with contextlib.suppress(OSError):
            path = run.directory.metrics_path
            found += _taken_over(str(path.resolve()), path.stat().st_ino, branch["step"])
    return max(found, default=None)


@lru_cache(maxsize=1024)
def _taken_over(path: str, _inode: int, step: int) -> tuple[float, ...]:
    """The best top-1 up to a step, if there is one; these records stay as they are while the run adds to its file."""
    val = History(path).update().val
    top1 = [float(value) for at, value in zip(val.step, val.top1, strict=True) if at <= step and math.isfinite(value)]
    return (max(top1),) if top1 else ()


# --- checkpoints -----------------------------------------------------------------------------------------------------


def checkpoint_label(run: Run, name: str) -> str:
    """A checkpoint in a list: its name, and its step where that is known without reading it."""
    kind, _, digits = name.partition("-")
    if kind == "step":
        return f"step {int(digits):,}"
    best, branch = run.status.get("best"), run.record.get("branch")
    step: object = None
    if name == "last" and not run.damage:
        step = run.number("saved") or (run.number("step") if run.condition in {"stopped", "finished"} else None)
    elif name == "best" and not run.damage and isinstance(best, dict):
        step = best.get("step")
    elif name == "start" and isinstance(branch, dict):
        step = branch.get("step")
    return f"{name} · step {step:,.0f}" if isinstance(step, int | float) and math.isfinite(step) else name


def last_trouble(run: Run) -> str:
    """Why this run cannot go on from its last checkpoint, as far as that shows without reading all of it."""
    last = run.directory.last
    if run.alive or not run.begun:
        return ""
    try:
        if not last.is_file():
            behind = run.directory.metrics_path.is_file() and run.directory.metrics_path.stat().st_size > 0
            lost = run.directory.best.is_file() or (behind and not run.directory.start.is_file())
            return f"{last} is gone" if lost else ""
        if not zipfile.is_zipfile(last):
            return f"{last} is damaged or cut off"
        said, beat = str(run.status.get("message")), run.number("heartbeat")
        refused = run.condition == "failed" and "checkpoints/last.pt" in said and not said.startswith("cannot ")
        if refused and (beat is None or last.stat().st_mtime < beat):  # and nobody has replaced it since
            return f"{last} cannot be used"
    except OSError as error:
        return f"{last} cannot be read: {explained(error)}"
    return ""


def others_alive(name: str = "") -> list[str]:
    """The runs that train or wait here, beside this one."""
    return [run.name for run in everything(archived=True) if run.alive and run.id != name]


def pace(run: Run) -> float | None:
    """Seconds between two drawings of what changes while a run lives; None for one that does not."""
    if not run.alive:
        return None
    machine, started = run.status.get("machine"), run.number("started")
    here = run.status.get("host") == socket.gethostname()
    on_the_processor = here and isinstance(machine, dict) and str(machine.get("device", "cpu")).startswith("cpu")
    settled = started is not None and time.time() - started > _LIVELY_SECONDS
    return CALM_SECONDS if on_the_processor and settled else REFRESH_SECONDS


def spare_the_collector() -> None:
    """Sets aside what the modules hold, so that redrawing does not search it for garbage each time.

    Streamlit collects garbage after every run of a page or of a part of it.  Modules make more than 100,000 objects,
    which takes 65 ms of a core for every redraw of every session, 20 times what the head of a run takes to draw.
    """
    _set_aside(len(sys.modules) // 200)


@lru_cache(maxsize=64)
def _set_aside(_modules: int) -> None:
    gc.collect()
    gc.freeze()


# --- words -----------------------------------------------------------------------------------------------------------

_ON_THE_PAGE = (
    (r"; it goes on with --resume .+$", "; it goes on with Resume."),
    (
        r"; where these pictures lie here, it goes on with: python -m alexnet train .+$",
        ": put these pictures there and press Resume, or branch from a checkpoint and say where they are.",
    ),
    (r"\bgo on with --resume .+$", "press Resume"),
    (r"; copy .+ over it to go on from the best validation$", ""),
    (r": put it back, or copy .+, or start a new run$", ": put it back"),
)


def cell(value: object) -> str:
    """A value of a recipe in a table."""
    return value_text(value, "—", number_text)


def page_words(message: str) -> str:
    """A message of the command line in the words of a page, which has a button where the other has an option."""
    for pattern, words in _ON_THE_PAGE:
        message = re.sub(pattern, words, message)
    return message


_STOPPING: dict[Condition, str] = {
    "waiting": "It is asked to leave the queue, and does so within seconds.",
    "starting": "It is asked to stop, and does so as soon as it has read its data and built its network.",
    "running": "It is asked to stop, and does so after the step at hand; everything is kept.",
}


def stopping(run: Run) -> bool:
    """Whether it was asked to stop and its process, which answers, has not done so yet."""
    return run.condition in _STOPPING and run.directory.stop_requested()


def sentence(run: Run) -> str:
    """What the run does now, and what can be done, for its reader; Markdown-free."""
    message = page_words(str(run.status.get("message") or ""))
    step = run.number("step")
    if stopping(run):
        return _STOPPING[run.condition]
    match run.condition:
        case "waiting":
            ahead = [called(other.path.name) for other in launch.ahead(run.directory, _turn(run))]
            return (
                f"It waits for {', '.join(ahead) or 'its turn'}, and {'goes on' if run.begun else 'begins'} by itself."
            )
        case "starting":
            return "It reads its data and builds the network; the first steps follow in a few seconds."
        case "running":
            return ""
        case "silent":
            age = time.time() - (run.number("heartbeat") or 0.0)
            return (
                f"Its process lives and has said nothing for {rough_time(age)} (usually every {REFRESH_SECONDS:.0f} "
                "s): the machine is suspended, out of memory, or a disk does not answer. Wait, or end it; its last "
                "checkpoint stays."
            )
        case "gone":
            return _unknown_end(run) if run.damage else _gone(run, step)
        case "stopped":
            return (message[:1].upper() + message[1:] + "." if message else "It was stopped as asked.") + (
                " It can go on from there." if run.begun else " It can be started again."
            )
        case "failed":
            return f"It ended with an error: {message or _last_words(run)}.{_instead(run, message)}"
        case "finished":
            return "It is finished."


def _turn(run: Run) -> float:
    """When it was put into the queue, in seconds since 1970."""
    asked = launch.request(run.directory)
    return run.number("asked") or (asked.asked if asked is not None else time.time())


def _instead(run: Run, said: str = "") -> str:
    """What to do where it cannot go on from its last checkpoint; empty where it can.  `said` may name the reason."""
    trouble = last_trouble(run)
    if not trouble:
        return ""
    others = [name for name in run.directory.checkpoints() if name != "last"]
    way = "branch from another checkpoint" if others else "start a new run like it"
    reason = "" if "last.pt" in said else f" {trouble}."
    return f"{reason} It cannot be resumed: {way}, or put a whole file there."


def _unknown_end(run: Run) -> str:
    """Of a run without a process whose status.json says nothing."""
    way = _instead(run) or " Resume it: it goes on from its last checkpoint and writes the file anew."
    return (
        f"No process trains it, and what the last one said of its end is lost: {run.damage}. How far it came is taken "
        f"from metrics.jsonl.{way}"
    )


def _gone(run: Run, step: float | None) -> str:
    full = _room(run.directory.path)
    reason = (
        f"the disk is full ({size_text(full)} free)"
        if full is not None and full < _FULL_BYTES
        else "it was killed, the machine was restarted, or memory ran out"
    )
    words = _last_words(run)
    at = f" after step {step:,.0f}" if step else ""
    lost = _instead(run) or (
        " Resume it: it goes on from its last checkpoint and ends with the same weights as if nothing had happened."
        if run.begun and run.directory.checkpoints()
        else " It has no checkpoint yet: start it again."
    )
    return f"Its process has ended{at} without a word: {reason}.{f' Its last words: {words}.' if words else ''}{lost}"


def _last_words(run: Run) -> str:
    """The last line that the process wrote to stderr."""
    with contextlib.suppress(OSError):
        with run.directory.errors_path.open("rb") as file:
            file.seek(max(0, run.directory.errors_path.stat().st_size - 2_000))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:400] if lines else ""
    return ""


def _room(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(path).free
    return None


def warnings(run: Run) -> list[str]:
    """What the watchdog says while the run lives, with what to do."""
    if not run.alive:
        return []
    said = run.status.get("warnings")
    found = [str(text) for text in said] if isinstance(said, list) else []
    room = _room(run.directory.path)
    if room is not None and room < _FULL_BYTES:
        found.append(f"the disk has {size_text(room)} left: make room, or the next checkpoint cannot be written")
    return [text[:1].upper() + text[1:] for text in found]


def trouble_sentence(run: Run) -> str:
    """What it means that the recipe cannot be read."""
    way = ": branch from one of them to go on" if run.directory.checkpoints() else ""
    return (
        f"Its config cannot be used: {run.trouble}. So it cannot be resumed; its curves and its film can be seen, and "
        f"checkpoints hold the recipe too{way}."
    )


def progress_text(run: Run) -> str:
    """How far it is: ``step 1,200 of 8,880, epoch 9 of 60, about 12 min left``."""
    step, steps = run.number("step"), run.number("steps")
    if step is None or steps is None:
        return ""
    parts = [f"step {step:,.0f} of {steps:,.0f}"]
    epochs, per_epoch = run.number("epochs"), run.steps_per_epoch
    if epochs and per_epoch:
        parts.append(f"epoch {min(int(step // per_epoch) + 1, int(epochs))} of {epochs:.0f}")
    left = run.number("seconds_left")
    if run.condition == "running" and left is not None:
        parts.append(f"about {rough_time(left)} left")
    return ", ".join(parts)
