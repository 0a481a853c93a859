"""What keeps an eye on a training: its heartbeat, and words for what goes wrong."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

BEAT_SECONDS = 2.0
STALL_SECONDS = 60.0
"""Waiting longer than this for one batch is no progress."""
FLAT_STEPS = 300
"""A plateau is said to be one after so many steps."""
FLAT_SHARE = 0.01
"""The mean loss is at ln(classes) when it is nearer than this share of it."""

T = TypeVar("T")


class FlatLoss:
    """Notices a loss that stays at ln(classes): the network gives every class the same probability."""

    def __init__(self, classes: int) -> None:
        self._chance = math.log(classes)
        self._losses: deque[float] = deque(maxlen=FLAT_STEPS)

    def warning(self, loss: float) -> str | None:
        """What to say after this step's loss; None while there is nothing to say."""
        self._losses.append(loss)
        if len(self._losses) < FLAT_STEPS:
            return None
        mean = sum(self._losses) / FLAT_STEPS
        if abs(mean - self._chance) > FLAT_SHARE * self._chance:
            return None
        return (
            f"the loss has stayed at {mean:.3f} for {FLAT_STEPS} steps, which is ln({round(math.exp(self._chance))}) = "
            f"{self._chance:.3f}: the network does not tell the classes apart yet. With the paper's initial weights "
            "this can last for long; --initialisation he, a warm-up or another learning rate end it"
        )


class Heart:
    """Writes the status every few seconds from a thread of its own, whatever the training is busy with."""

    def __init__(self, write: Callable[[dict[str, Any]], None], status: dict[str, Any]) -> None:
        self._write, self._status = write, status
        self._warnings: dict[str, str] = {}
        self._waiting_since: float | None = None
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.fault: OSError | None = None
        """Why the status could not be written the last time, if so."""

    def start(self) -> None:
        self.update()
        self._thread.start()

    def update(self, **values: Any) -> None:
        """Changes the status and writes it at once."""
        with self._lock:
            self._status |= values
            self._written()

    def note(self, **values: Any) -> None:
        """Changes the status; the next beat writes it."""
        with self._lock:
            self._status |= values

    def warn(self, kind: str, text: str | None) -> bool:
        """Sets or, with None, takes back a warning; whether that is news."""
        with self._lock:
            news = self._warnings.get(kind) is None and text is not None
            if text is None:
                self._warnings.pop(kind, None)
            else:
                self._warnings[kind] = text
        return news

    def waited_for(self, items: Iterable[T]) -> Generator[T]:
        """The items as they come, with an eye on how long each takes to come."""
        iterator = iter(items)
        try:
            while True:
                self._waiting_since = time.monotonic()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self._waiting_since = None
                self.warn("stalled", None)
                yield item
        finally:
            if (close := getattr(iterator, "close", None)) is not None:
                close()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT_SECONDS):
            since = self._waiting_since
            if since is not None and (waited := time.monotonic() - since) > STALL_SECONDS:
                self.warn(
                    "stalled",
                    f"no picture has come for {waited:.0f} s: the disk or network that holds the data does not answer, "
                    "or its processes are stuck",
                )
            with self._lock:
                self._written()

    def _written(self) -> None:
        self._status |= {"heartbeat": time.time(), "warnings": list(self._warnings.values())}
        try:
            self._write(self._status)
            self.fault = None
        except OSError as error:  # a full disk must not kill the thread: the training itself will say so
            self.fault = error
