"""Mean and colours of a training set, picture by picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet.data.images import UnreadableImageError
from alexnet.data.loading import squared
from alexnet.data.preprocessing import StatisticsGatherer

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.data.preprocessing import Statistics
    from alexnet.data.sources import Source

TRAINING_PICTURES = 10_000
"""A training takes its statistics over all pictures, or over about so many, evenly spaced."""


def training_sample(count: int) -> range:
    """The positions that a training on `count` pictures takes its statistics over."""
    return range(0, count, max(1, count // TRAINING_PICTURES))


def small_sample(count: int, at_most: int) -> range:
    """No more than `at_most` positions of `count`, evenly spaced: enough to look at, too few to train with."""
    return range(0, count, -(-count // at_most))


def statistics_of(
    source: Source,
    indices: range,
    side: int,
    *,
    unreadable: Callable[[UnreadableImageError], None],
    seen: Callable[[int, int], None] = lambda _done, _total: None,
) -> Statistics:
    """Mean and colours of the central squares at these positions.

    `unreadable` is told of each picture that cannot be read, and may raise; `seen` how many of how many are done.

    Raises:
        ValueError: none of them could be read.
    """
    gatherer = StatisticsGatherer(side)
    for done, index in enumerate(indices):
        try:
            gatherer.add(squared(source, index, side))
        except UnreadableImageError as error:
            unreadable(error)
        seen(done, len(indices))
    return gatherer.result()
