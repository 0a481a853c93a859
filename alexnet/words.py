"""Sizes, durations and values of a recipe as people read them.  Standard library only.

The three durations are for three places: how long something may take, how long it took, and a text to be read aloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def size_text(size: int) -> str:
    """Bytes in the unit that people would use."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 2**power:
            return f"{size / 2**power:.1f} {unit}"
    return f"{size} bytes"


def rough_time(seconds: float) -> str:
    """A duration in one unit, no finer than anybody could know it: ``2.5 s``, ``12 min``, ``3.3 h`` or ``2.1 days``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.1f} days"


def hours_and_minutes(seconds: float) -> str:
    """A duration to the minute: ``3 h 20 min``, ``12 min`` or ``40 s``."""
    if seconds < 60:
        return f"{max(round(seconds), 0)} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


def spelled_time(seconds: float) -> str:
    """A duration to the minute in a text's own words: ``35 minutes``, ``2 hours 5 minutes``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} seconds"
    hours, rest = divmod(minutes, 60)
    parts = [(hours, "hour"), (rest, "minute")]
    return " ".join(f"{count} {unit}{'s' * (count != 1)}" for count, unit in parts if count)


def value_text(value: object, none: str = "none", number: Callable[[float], str] = "{:g}".format) -> str:
    """A value of a recipe: yes or no, a float as `number` writes it; `none` is what its absence means."""
    if value is None:
        return none
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)


def listed(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
