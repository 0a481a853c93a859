from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from alexnet.errors import UserError
from app.scans import Scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20  # far more than any of these takes


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


class Steps:
    """Numbers from 0, each given out only when the test lets it; remembers whether it was closed, and by whom."""

    def __init__(self, count: int = 100, trouble: Exception | None = None) -> None:
        self.count, self.trouble = count, trouble
        self.let = threading.Semaphore(0)
        self.taken: list[int] = []
        self.closed = False
        self.thread: threading.Thread | None = None

    def __call__(self) -> Iterator[int]:
        self.thread = threading.current_thread()
        try:
            for number in range(self.count):
                assert self.let.acquire(timeout=SECONDS)
                self.taken.append(number)
                yield number
            if self.trouble is not None:
                raise self.trouble
        finally:
            self.closed = True


def test_it_runs_beside_whoever_started_it_and_shows_its_latest_step() -> None:
    steps = Steps(3)
    scan = Scan(steps)
    assert scan.running
    assert scan.latest is None
    for number in range(3):
        steps.let.release()
        until(lambda wanted=number: scan.latest == wanted)  # type: ignore[misc]
    until(lambda: not scan.running)
    assert (scan.latest, scan.trouble, scan.stopped) == (2, None, False)
    assert steps.closed
    assert steps.thread not in {None, threading.current_thread()}


def test_a_server_that_ends_does_not_wait_for_it() -> None:
    steps = Steps()
    scan = Scan(steps)
    until(lambda: steps.thread is not None)
    assert steps.thread is not None
    assert steps.thread.daemon
    scan.stop()
    steps.let.release()
    until(lambda: not scan.running)


def test_stopped_it_takes_no_further_step_and_keeps_what_it_has() -> None:
    steps = Steps()
    scan = Scan(steps)
    steps.let.release()
    until(lambda: scan.latest == 0)
    scan.stop()
    steps.let.release(10)
    until(lambda: not scan.running)
    # The step it was busy with is the last.
    assert steps.taken == [0, 1]
    assert (scan.latest, scan.stopped, scan.trouble) == (1, True, None)
    assert steps.closed


def test_stopped_before_its_first_step_it_still_ends() -> None:
    steps = Steps()
    scan = Scan(steps)
    scan.stop()
    steps.let.release(10)
    until(lambda: not scan.running)
    assert steps.taken == [0]
    assert steps.closed


def test_the_iterator_is_closed_by_the_thread_that_ran_it() -> None:
    closed_by = []

    def steps() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed_by.append(threading.current_thread())

    scan = Scan(steps)
    until(lambda: scan.latest == 0)
    scan.stop()
    until(lambda: not scan.running)
    assert len(closed_by) == 1
    assert closed_by[0] is not threading.current_thread()


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (UserError("none of the 7 pictures could be read"), "none of the 7 pictures could be read"),
        (PermissionError(13, "Permission denied", "pictures"), "Permission denied"),
    ],
)
def test_trouble_is_a_sentence_and_what_was_found_before_stays(trouble: Exception, says: str) -> None:
    steps = Steps(2, trouble)
    scan = Scan(steps)
    steps.let.release(2)
    until(lambda: not scan.running)
    assert scan.trouble is not None
    assert says in scan.trouble
    assert scan.latest == 1
    assert not scan.stopped
    assert steps.closed


def test_trouble_before_there_are_any_steps() -> None:
    def steps() -> Iterator[int]:
        raise UserError("there is no folder of that name")

    scan = Scan(steps)
    until(lambda: not scan.running)
    assert (scan.latest, scan.trouble) == (None, "there is no folder of that name")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_mistake_of_ours_is_not_shown_as_a_search_that_never_ends() -> None:
    scan = Scan(Steps(0, RuntimeError("CUDA out of memory")))
    until(lambda: not scan.running)
    assert scan.trouble is not None
    assert "CUDA out of memory" in scan.trouble
