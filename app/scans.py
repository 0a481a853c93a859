"""Long looks through many pictures: they go on beside the pages, show how far they are, and can be stopped."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Step = TypeVar("Step")


class Scan(Generic[Step]):
    """An iterator run in a thread of its own.  `latest` is its latest step, `trouble` a sentence where it failed.

    The thread computes and never touches Streamlit.  What it has found stays when it is stopped.
    """

    def __init__(self, steps: Callable[[], Iterator[Step]]) -> None:
        self.latest: Step | None = None
        self.trouble: str | None = None
        self._asked_to_stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(steps,), daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether somebody ended it before it was through."""
        return self._asked_to_stop.is_set()

    def stop(self) -> None:
        self._asked_to_stop.set()

    def _run(self, steps: Callable[[], Iterator[Step]]) -> None:
        try:
            with contextlib.closing(steps()) as results:  # type: ignore[type-var]
                for result in results:
                    self.latest = result
                    if self._asked_to_stop.is_set():
                        break
        except (UserError, OSError) as error:
            self.trouble = str(error)
        except Exception as error:
            self.trouble = f"the search broke off: {type(error).__name__}: {error}"
            raise  # the server's log gets the whole of it
