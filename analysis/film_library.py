"""A run's moments, each read from the disk once, for all views and readers that ask for the same.  numpy; no torch.

A probe is written aside and put in its place whole, so a file that has the same size and time has the same content.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from alexnet.errors import UserError
from alexnet.runs import RunDirectory
from analysis.film import LeftOut, read
from analysis.film_numbers import order_of, summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from alexnet.spec import Network
    from analysis.film import Moment, Values
    from analysis.film_numbers import Summary
    from analysis.kernels import TowerMeasures

    Identity = tuple[int, int, int]

MOST_BYTES = 64 << 20
"""What a library holds at most, in kernels: some 900 moments of AlexNet, in 70 kB each."""


class Summaries(NamedTuple):
    """Moments in numbers, and those that cannot be read."""

    found: tuple[Summary, ...]
    left_out: tuple[LeftOut, ...]


class _Held(NamedTuple):
    """What is known of a file; `order` is by the network whose kernels it is taken for."""

    identity: Identity
    moment: Moment | UserError
    size: int
    order: dict[Network, tuple[TowerMeasures, ...]]


class Library:
    """Moments without their maps, which are nine tenths of a probe and of which one is looked at at a time.

    Safe to use from several threads: two that want the same new moment at once may both read it.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        """What was asked for longest ago goes first when more than so many bytes are held."""
        self._most, self._bytes = most_bytes, 0
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def moment(self, path: Path) -> Moment:
        """The probe at `path`, without `maps` and `before`.

        Raises:
            UserError: as `analysis.film.read`, also the second time.
        """
        identity = _identity(path)
        with self._lock:
            held = self._held.get(str(path))
            if held is not None and held.identity == identity:
                self._held.move_to_end(str(path))
                return _given(held.moment)
        try:
            found: Moment | UserError = read(path, maps=False)
        except UserError as error:
            found = error
        if identity is not None:
            self._keep(str(path), _Held(identity, found, _size(found), {}))
        return _given(found)

    def kernels(self, path: Path) -> Values:
        """The probe's kernels, (K, C, h, w).

        Raises:
            UserError: as `moment`, or there are none.
        """
        kernels = self.moment(path).kernels
        if kernels is None:
            raise UserError(f"{path} is not a probe that can be shown: it has no kernels; the others are not affected")
        return kernels

    def summaries(self, run: Path, chosen: Sequence[int], network: Network, *, order: bool = True) -> Summaries:
        """The moments in numbers (`analysis.film_numbers.summary`)."""
        found, left_out = [], []
        for step in chosen:
            path = RunDirectory(run).probe_path(step)
            try:
                moment = self.moment(path)
            except UserError as error:
                left_out.append(LeftOut(step, str(error)))
                continue
            one = summary(moment, network, order=False)
            found.append(replace(one, towers=self._order(path, moment, network)) if order else one)
        return Summaries(tuple(found), tuple(left_out))

    def _order(self, path: Path, moment: Moment, network: Network) -> tuple[TowerMeasures, ...]:
        """The kernels measured, which takes ten times as long as reading them, once."""
        with self._lock:
            held = self._held.get(str(path))
        if held is None or held.moment is not moment:
            return order_of(moment, network)
        if network not in held.order:
            held.order[network] = order_of(moment, network)
        return held.order[network]

    def _keep(self, name: str, held: _Held) -> None:
        with self._lock:
            if (old := self._held.pop(name, None)) is not None:
                self._bytes -= old.size
            self._held[name] = held
            self._bytes += held.size
            while self._bytes > self._most and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1].size


def _identity(path: Path) -> Identity | None:
    """What changes when a file is written anew; None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns


def _size(found: Moment | UserError) -> int:
    """What it takes to hold it, roughly."""
    if isinstance(found, UserError):
        return 1_000
    arrays = [found.kernels, found.probabilities, *found.lrn.values()]
    return 1_000 + sum(array.nbytes for array in arrays if array is not None)


def _given(found: Moment | UserError) -> Moment:
    if isinstance(found, UserError):
        raise found.with_traceback(None)
    return found
