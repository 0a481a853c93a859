"""The head of a run's page: how far it is, what it says, what is wrong, and the numbers that are asked for first.

In a run that lives it is drawn again every two seconds.  What stands in it keeps its place meanwhile, also where a
number is not known yet, so that nobody clicks on what has just moved.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

import streamlit as st

from alexnet.config import TrainConfig, option
from alexnet.runs import RUNS, RunError
from alexnet.words import rough_time, size_text
from analysis import learning
from analysis.formats import Column, Table, percent
from app import exports, running
from app.state import literal

if TYPE_CHECKING:
    from pathlib import Path

    from alexnet.launch import Request
    from app.running import Run

_UNKNOWN = "—"
_LOG_CHARACTERS = 20_000


def head(run: Run, pace: float | None) -> None:
    """What `run` is now; the whole page is drawn anew where it became something else."""
    try:
        now = running.look(run.id)
    except RunError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    if (now.condition, now.begun, running.pace(now)) != (run.condition, run.begun, pace):
        st.rerun()
    stopping = running.stopping(now)
    colour, icon = running.BADGES["stopped" if stopping else now.condition]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge("stopping …" if stopping else now.condition, icon=icon, color=colour)  # type: ignore[arg-type]
        if text := running.progress_text(now):
            st.markdown(text)
    step, steps = now.number("step"), now.number("steps")
    if step is not None and steps and now.condition != "finished":
        st.progress(min(step / steps, 1.0))
    if now.trouble:
        st.error(literal(running.trouble_sentence(now)), icon=":material/error:")
    if now.damage and now.condition != "gone":
        st.warning(literal(f"{now.damage}: how far it is is taken from metrics.jsonl."), icon=":material/error:")
    words = running.sentence(now)
    if words and now.condition != "finished":
        kind = {"gone": st.error, "failed": st.error, "silent": st.warning}
        kind.get(now.condition, st.info)(literal(words))
    for warning in running.warnings(now):
        st.warning(literal(warning), icon=":material/visibility:")
    with contextlib.suppress(OSError):  # the views say what cannot be read
        _figures(now)


def _figures(run: Run) -> None:
    """The numbers that are asked for first, while it lives and after."""
    if not run.begun:
        return
    found = running.curves(run)
    train, top = found.train, learning.best(found)
    if not (run.alive or len(train.step) or top is not None):
        return
    with st.container(horizontal=True, gap="small", key="in_short"):
        st.metric(
            "Loss", f"{train.loss[-1]:.3f}" if len(train.step) else _UNKNOWN, width=75,
            help="Of the latest record, cross-entropy in nats",
        )  # fmt: skip
        epoch = "" if top is None or top.epoch is None else f" (epoch {top.epoch + 1})"
        st.metric(
            f"Best top-1{epoch}", percent(top.top1) if top is not None else _UNKNOWN, width=175,
            help=f"At step {top.step:,}" if top is not None else "Of the validations",
        )  # fmt: skip
        latest = percent(float(found.val.top1[-1])) if len(found.val.step) else _UNKNOWN
        st.metric("Latest top-1", latest, width=95)
        if not run.alive:
            return
        runs = run.condition == "running"
        speed, waited = (learning.speed(found), learning.waited_share(found)) if runs else (None, None)
        st.metric(
            "Images/s", _UNKNOWN if speed is None else f"{speed:,.0f}", width=100,
            help="Over the last minute of training; the view Speed says what this machine would allow",
        )  # fmt: skip
        st.metric(
            "Waiting for pictures", _UNKNOWN if waited is None else percent(waited), width=165,
            help="Share of the last minute in which the network had nothing to do. Above a tenth, a pack "
            "(python -m alexnet pack) or more reading processes (--workers) make the training faster.",
        )  # fmt: skip
        memory = run.number("memory")
        st.metric(
            "Memory", size_text(int(memory)) if memory else _UNKNOWN, width=115,
            help="What the process holds on its device",
        )  # fmt: skip
        left = run.number("seconds_left") if runs else None
        st.metric("Time left", _UNKNOWN if left is None else rough_time(left), width=100)


# --- a branch before its first step ----------------------------------------------------------------------------------


def asked_for(run: Run, asked: Request, origin: Path) -> None:
    """Where a branch that has not begun goes on, what it changes, and what its process said so far."""
    parent = _parent(origin)
    name = parent.name if parent is not None else str(origin.parent.parent)
    label = origin.stem
    with contextlib.suppress(OSError):  # the other run may have trained on since
        if parent is not None and origin.samefile(run.directory.start):
            label = running.checkpoint_label(parent, origin.stem)
    st.markdown(
        literal(
            f"It {'goes on' if run.alive else 'was to go on'} from checkpoint {label} of {name}, as it was when this "
            f"run was asked for, with {'these values changed:' if asked.values else 'nothing changed.'}"
        )
    )
    if asked.values:
        exports.show_table(_changes(asked, parent), "changes", f"{run.id}-changes", widths={"about": 600})
    for path in (run.directory.log_path, run.directory.errors_path):
        with contextlib.suppress(OSError):
            if text := path.read_text(encoding="utf-8", errors="replace")[-_LOG_CHARACTERS:]:
                st.caption(path.name)
                st.code(text, language=None, height=200)


def _parent(origin: Path) -> Run | None:
    """The run here that this checkpoint is of, if it is there."""
    folder = origin.parent.parent
    if folder.parent != RUNS.resolve():
        return None
    try:
        return running.look(folder.name)
    except RunError:
        return None


def _changes(asked: Request, parent: Run | None) -> Table:
    columns = (
        Column("option", "Option"), Column("value", "Value"), Column("before", "Instead of"), Column("about", "What"),
    )  # fmt: skip
    about = {field.name: str(field.metadata.get("about", "")) for field in dataclasses.fields(TrainConfig)}
    before = parent.config if parent is not None else None
    rows = tuple(
        (option(name), running.cell(value), running.cell(getattr(before, name, None)), about.get(name, ""))
        for name, value in asked.values.items()
    )
    return Table("Changes", columns, rows)
