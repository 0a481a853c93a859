"""The only caching: what takes long is computed once and in a process of its own.

Cost tables take a tenth of a millisecond and are not cached.  The witnesses need torch, fvcore and torchinfo, which
take seconds to import and run; they run as ``python -m analysis verify`` beside the server, so that the pages stay
free of torch and answer at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from alexnet.spec import Network

ROOT = Path(__file__).resolve().parent.parent
_LIMIT_SECONDS = 600

_one_at_a_time = threading.Lock()
_running: list[Verification] = []


@dataclass(slots=True)
class Verification:
    """A `verify` that waits, runs or is done; `verdict` is its JSON, `trouble` a sentence if it could not be had.

    One runs at a time, whoever asks, and it starts when a page first looks while no other runs: leafing through the
    networks leaves no queue behind.
    """

    command: tuple[str, ...]
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    verdict: dict[str, Any] | None = None
    trouble: str | None = None

    @property
    def done(self) -> bool:
        return self.verdict is not None or self.trouble is not None

    def poll(self) -> None:
        """Start it if nothing else runs, or take its answer if there is one."""
        with _one_at_a_time:
            if self.done:
                return
            if self.process is None:
                for other in tuple(_running):
                    other.collect()
                if not _running:
                    self.start()
            else:
                self.collect()

    def start(self) -> None:
        """Start the process and remember that it runs."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own program, with arguments that the spec has checked
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        _running.append(self)

    def collect(self) -> None:
        """Take the answer of a process that has ended; end one that takes too long."""
        assert self.process is not None
        if self.process.poll() is None:
            if time.monotonic() - self.started < _LIMIT_SECONDS:
                return
            self.process.kill()
        out, err = self.process.communicate()
        _running.remove(self)
        try:
            self.verdict = json.loads(out)[0]
        except (json.JSONDecodeError, IndexError):
            last = err.strip().splitlines()[-1] if err.strip() else f"exit status {self.process.returncode}"
            self.trouble = f"the witnesses could not be asked: {last}"

    def stop(self) -> None:
        """End the process if it still runs."""
        with _one_at_a_time:
            if self in _running:
                assert self.process is not None
                self.process.kill()
                self.process.wait()
                self.collect()


def verification(network: Network) -> Verification:
    """The witnesses' verdict on this network as far as it is known; asked for once and shared by all sessions."""
    asked = _verification(*_key(network))
    asked.poll()
    return asked


def _key(network: Network) -> tuple[str, str, int | None, int | None]:
    return network.name, "x".join(map(str, network.input_shape)), network.classes, network.hidden


@st.cache_resource(max_entries=32, show_spinner=False, on_release=Verification.stop)
def _verification(name: str, shape: str, classes: int | None, hidden: int | None) -> Verification:
    command = [sys.executable, "-m", "analysis", "verify", name, "--format", "json", "--input", shape]
    for option, value in (("--classes", classes), ("--hidden", hidden)):
        if value is not None:
            command += [option, str(value)]
    return Verification(tuple(command))


def ask_again(network: Network) -> None:
    """Forget a verdict that could not be had, so that the next call asks anew."""
    _verification.clear(*_key(network))
