"""What both command lines do alike: one line for a mistake, any encoding, readers that leave early."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable


class Parser(argparse.ArgumentParser):
    """argparse that reports a mistake in one line on stderr, with exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}  (see {self.prog} --help)\n")


INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def write_utf8() -> None:
    """A terminal or file may be set to an encoding without ×, − or σ, which the help has too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8")


def status(prog: str, action: Callable[[], int], mistakes: tuple[type[Exception], ...]) -> int:
    """Runs a verb; its exit status, or 2 after one line on stderr where the user can mend what went wrong."""
    try:
        result = action()
        sys.stdout.flush()
    except mistakes as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        print(f"{prog}: interrupted{interruption}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` for one, has seen enough; Python must not complain at exit
        _give_up_output()
        return 0
    except OSError as error:
        where = f"{error.filename} could not be used" if error.filename else "the output could not be written"
        print(f"{prog}: {where}: {error.strerror}", file=sys.stderr)
        if not error.filename:
            _give_up_output()
        return 2
    return result


def _give_up_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
