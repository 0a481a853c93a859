"""How long work shows itself: a bar on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

QUIET_SECONDS = 30.0
"""Where nobody watches a bar, a line so often."""


class Progress:
    """Tells people on stderr how far something is; what is said on stdout does not break the bar."""

    def __init__(self, what: str) -> None:
        self._what, self._live = what, sys.stderr.isatty()
        self._bar: tqdm[None] | None = None
        self._said_at = time.monotonic()

    def show(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`; `text` stands behind."""
        if self._live:
            if self._bar is None or self._bar.total != total:
                self.close()
                self._bar = tqdm(total=total, initial=done, desc=self._what, dynamic_ncols=True, leave=False)
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._said_at > QUIET_SECONDS:
            self._said_at = time.monotonic()
            print(f"{self._what}: {done:,} of {total:,}{', ' * bool(text)}{text}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line of its own on stdout."""
        with tqdm.external_write_mode():
            print(text, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
