from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from alexnet import watch
from alexnet.watch import FLAT_STEPS, FlatLoss, Heart

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_a_loss_at_ln_classes_for_long_is_a_plateau() -> None:
    flat = FlatLoss(10)
    said = [flat.warning(2.303) for _ in range(FLAT_STEPS)]
    assert said[:-1] == [None] * (FLAT_STEPS - 1)
    assert said[-1] is not None
    assert "ln(10) = 2.303" in said[-1]
    assert "--initialisation he" in said[-1]


@pytest.mark.parametrize("loss", [math.log(10) * 0.98, 1.0, math.log(10) * 1.05])
def test_a_loss_beside_ln_classes_is_no_plateau(loss: float) -> None:
    flat = FlatLoss(10)
    assert all(flat.warning(loss) is None for _ in range(2 * FLAT_STEPS))


def test_a_plateau_that_ends_is_no_longer_said() -> None:
    flat = FlatLoss(1000)
    for _ in range(FLAT_STEPS):
        last = flat.warning(math.log(1000))
    assert last is not None
    for _ in range(FLAT_STEPS // 10):
        last = flat.warning(3.0)
    assert last is None


class Written:
    def __init__(self) -> None:
        self.statuses: list[dict[str, Any]] = []

    def __call__(self, status: dict[str, Any]) -> None:
        self.statuses.append(dict(status))


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(watch, "STALL_SECONDS", 0.1)


@pytest.mark.usefixtures("fast")
def test_the_heart_beats_while_the_training_is_busy() -> None:
    written = Written()
    heart = Heart(written, {"state": "running"})
    heart.start()
    time.sleep(0.3)
    heart.note(step=3)
    time.sleep(0.1)
    heart.stop()
    beats = [status["heartbeat"] for status in written.statuses]
    assert len(beats) >= 5
    assert beats == sorted(beats)
    assert written.statuses[-1]["step"] == 3


@pytest.mark.usefixtures("fast")
def test_a_loader_without_progress_is_said_and_taken_back() -> None:
    written = Written()
    heart = Heart(written, {})
    heart.start()

    def slow() -> Iterator[int]:
        yield 1
        time.sleep(0.4)
        yield 2

    assert list(heart.waited_for(slow())) == [1, 2]
    time.sleep(0.05)
    heart.stop()
    said = [bool(status["warnings"]) for status in written.statuses]
    assert any(said)
    assert not said[0]
    assert not said[-1]
    text = next(status["warnings"][0] for status in written.statuses if status["warnings"])
    assert "no picture has come for" in text


@pytest.mark.usefixtures("fast")
def test_a_full_disk_does_not_stop_the_heart() -> None:
    calls = []

    def fails(_status: dict[str, Any]) -> None:
        calls.append(1)
        raise OSError(28, "No space left on device")

    heart = Heart(fails, {})
    heart.start()
    time.sleep(0.1)
    assert isinstance(heart.fault, OSError)
    heart.stop()
    assert len(calls) > 2


def test_a_warning_is_news_once() -> None:
    heart = Heart(Written(), {})
    assert heart.warn("flat", "it is flat")
    assert not heart.warn("flat", "it is still flat")
    assert not heart.warn("flat", None)
    assert heart.warn("flat", "flat again")


def test_giving_up_the_items_closes_where_they_come_from() -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    reader = Heart(Written(), {}).waited_for(items())
    assert next(reader) == 0
    reader.close()
    assert closed == [True]
