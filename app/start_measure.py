"""A few steps of a training, measured beside the server before it starts: `python -m alexnet plan`.

It is a process of its own, so that a page never waits for it; one runs at a time, since two would measure each other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import streamlit as st

from alexnet import launch
from alexnet.errors import UserError
from alexnet.words import rough_time, size_text
from analysis.formats import percent
from app.start_form import told
from app.state import literal

if TYPE_CHECKING:
    from app.start_form import Form

_LIMIT_SECONDS = 900
_PATIENCE_SECONDS = 5.0
"""A measurement that was asked to end cleans up after itself; after so long it is ended by force."""

_one_at_a_time = threading.Lock()
_running: list[Measurement] = []


@dataclass(slots=True)
class Measurement:
    """A measurement that waits, runs or is done; `plan` is its JSON, `trouble` a sentence where there is none.

    `subject` names what is measured: the options, and the state of the data.
    """

    subject: tuple[str, ...]
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    out: IO[bytes] | None = None
    errors: IO[bytes] | None = None
    started: float = 0.0
    finished: float = 0.0
    asked_to_end: float = 0.0
    doing: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] | None = None
    trouble: str | None = None

    @property
    def done(self) -> bool:
        return self.plan is not None or self.trouble is not None

    def poll(self) -> None:
        """Starts it if nothing else is measured, or looks how far it is."""
        with _one_at_a_time:
            if self.done:
                return
            if self.process is not None:
                self.collect()
                return
            for other in tuple(_running):
                other.collect()
            if not _running:
                self.start()

    def start(self) -> None:
        """Starts the process; what it says goes into a file, so that nobody need read along."""
        self.out, self.errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed by `collect`
        self.process = subprocess.Popen(  # noqa: S603 - our own program, with arguments that its config has checked
            [sys.executable, "-m", "alexnet", "plan", *self.arguments, "--json", "--progress"],
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=self.errors,
            env=launch.environment(),
        )
        self.started = time.time()
        _running.append(self)

    def collect(self) -> None:
        """Reads what it has said so far; takes the answer of one that has ended, and ends one that takes too long."""
        assert self.process is not None
        ended = self.process.poll() is not None
        if not ended:
            if time.time() - self.started > _LIMIT_SECONDS:
                self.end()
            if self.asked_to_end and time.time() - self.asked_to_end > _PATIENCE_SECONDS:
                self.process.kill()
        for line in self._lines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if "what" in said:
                self.doing = said
            elif "problems" in said and ended:
                self.plan = said
        if ended:
            self._close()

    def _lines(self) -> list[bytes]:
        assert self.out is not None
        # The position belongs to the process that writes: read without moving it.
        size = os.fstat(self.out.fileno()).st_size
        return os.pread(self.out.fileno(), size, 0).rpartition(b"\n")[0].splitlines()

    def _close(self) -> None:
        assert self.process is not None
        assert self.out is not None
        assert self.errors is not None
        self.finished = time.time()
        if self.plan is None:
            size = os.fstat(self.errors.fileno()).st_size
            words = os.pread(self.errors.fileno(), size, 0).decode("utf-8", "replace").strip().splitlines()
            last = words[-1][:400] if words else f"exit status {self.process.returncode}"
            self.trouble = "cancelled" if self.asked_to_end else f"nothing could be measured: {last}"
        self.out.close()
        self.errors.close()
        _running.remove(self)

    def end(self) -> None:
        """Asks the process to end."""
        if self.process is not None and self.process.poll() is None and not self.asked_to_end:
            self.process.terminate()
            self.asked_to_end = time.time()

    def cancel(self) -> None:
        """Ends it, whether it runs or waits."""
        with _one_at_a_time:
            if self.process is None:
                self.trouble = "cancelled"
            else:
                self.end()


# --- on the page -----------------------------------------------------------------------------------------------------


def current(form: Form, stamp: str) -> Measurement | None:
    """The measurement of just these values, if there is one; one of other values is ended and forgotten."""
    measured: Measurement | None = st.session_state.get("start_measured")
    if measured is None:
        return None
    subject = None if form.config is None else _subject(form, stamp)
    if subject is None or measured.subject != subject:
        measured.cancel()
        del st.session_state.start_measured
        return None
    measured.poll()
    return measured


def _subject(form: Form, stamp: str) -> tuple[str, ...] | None:
    try:
        return (stamp, *_arguments(form))
    except UserError:
        return None


def _arguments(form: Form) -> list[str]:
    assert form.config is not None
    return launch.command(launch.Request(form.config.as_json()))


def problems(measured: Measurement | None) -> list[str]:
    """What would end the training, by the measurement."""
    return list(measured.plan.get("problems", [])) if measured is not None and measured.plan is not None else []


def show(form: Form, stamp: str, measured: Measurement | None, *, measurable: bool, begun: int = 0) -> None:
    """The button, how far it is, and what was found; `begun` steps of a branch are done already."""
    if measured is not None and not measured.done:
        st.fragment(_progress, run_every=0.5)(measured)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        asked = st.button(
            "Measure again" if measured else "Measure", icon=":material/speed:", key="start_measure",
            disabled=not measurable,
            help="Opens the data, trains a few steps beside this page and leaves nothing behind: half a minute or so.",
        )  # fmt: skip
        if measured is None:
            st.caption(
                "How long it takes, what holds it up and how much memory it needs: from a few measured steps."
                if measurable
                else "Speed and time can be measured when nothing stands in the way."
            )
        else:
            age = rough_time(max(1.0, time.time() - measured.finished))
            st.caption(f"Measured {age} ago, with just these values.")
    if asked and measurable:
        _begin(form, stamp)
    if measured is None:
        return
    if measured.trouble:
        (st.info if measured.trouble == "cancelled" else st.error)(f"{told(measured.trouble)}.")
        return
    assert measured.plan is not None
    _result(measured.plan, begun)


def _begin(form: Form, stamp: str) -> None:
    try:
        arguments = tuple(_arguments(form))
    except UserError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    st.session_state.start_measured = Measurement((stamp, *arguments), arguments)
    st.rerun()


def _progress(measured: Measurement) -> None:
    measured.poll()
    if measured.done:
        st.rerun()
    doing = measured.doing
    if measured.asked_to_end:
        words, share = "cancelling …", 0.0
    elif measured.process is None:
        words, share = "another measurement runs: this one begins after it", 0.0
    else:
        done, total = doing.get("done", 0), doing.get("total", 0)
        count = f", {done} of {total}" if total and total > 1 else ""
        words = f"{doing.get('what', 'starting')}{count} · {rough_time(max(1.0, time.time() - measured.started))}"
        share = min(done / total, 1.0) if total else 0.0
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(width=520):
            st.progress(share, literal(words[:1].upper() + words[1:]))
        st.button(
            "Cancel", icon=":material/close:", key="start_measure_cancel", on_click=measured.cancel,
            disabled=bool(measured.asked_to_end),
        )  # fmt: skip


def seconds_left(plan: dict[str, Any], begun: int) -> float:
    """From the start of a training that has `begun` of the plan's steps behind it; all in between is spread evenly."""
    before, whole = plan["speed"]["start_seconds"], plan["speed"]["total_seconds"]
    share: float = max(0, plan["steps"] - begun) / plan["steps"] if begun else 1.0
    return float(before + share * (whole - before))


def _result(plan: dict[str, Any], begun: int) -> None:
    speed = plan.get("speed")
    if speed:
        with st.container(horizontal=True, gap="medium", key="start_speed"):
            steps = f"Of the steps from {begun + 1:,} to {plan['steps']:,}: every" if begun else "Every"
            st.metric(
                "Time in all" if not begun else "Time for the branch", rough_time(seconds_left(plan, begun)), width=150,
                help=f"{steps} step, validation, checkpoint and snapshot, with what comes before the first step",
            )  # fmt: skip
            st.metric("An epoch", rough_time(speed["epoch_seconds"]), width=100)
            st.metric("Images/s", f"{speed['images_per_second']:,.0f}", width=100)
            st.metric("Before the first step", rough_time(speed["start_seconds"]), width=170)
            if speed["peak_bytes"] is not None:
                st.metric(
                    "Memory measured", size_text(speed["peak_bytes"]), width=150,
                    help="By which the process grew, or what it took of the GPU at most",
                )  # fmt: skip
            st.metric("Waiting for pictures", percent(speed["waited_share"]), width=170, help="Share of each step")
        st.caption(
            literal(
                f"{speed['bottleneck'][:1].upper()}{speed['bottleneck'][1:]}. {speed['steps_timed']} steps were timed; "
                f"the network alone would reach {speed['network_alone']:,.0f} images/s, reading alone "
                f"{speed['reading_alone']:,.0f}."
            )
        )
    if plan.get("machine"):
        st.caption(literal("; ".join(f"{what}: {which}" for what, which in plan["machine"].items())))
    for note in plan.get("notes", []):
        st.info(f"{told(note)}.", icon=":material/info:")
