"""Batches of crops as bytes: read ahead by a thread or by processes, in an order that the plan alone decides."""

from __future__ import annotations

import queue
import signal
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from alexnet.data.images import UnreadableImageError, rescaled_crop, rescaled_size, square
from alexnet.data.preprocessing import COLOURS, Augmentation, EpochPlan, Geometry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from alexnet.data.sources import Source

UNREADABLE = -100
"""Label of a picture that could not be read: cross-entropy leaves it out, and so does every count."""
AHEAD = 3
"""Batches that are read before they are asked for."""


class LoaderError(RuntimeError):
    """Reading went wrong in a way that no picture is to blame for: a worker died, or no memory was left."""


class Batch(NamedTuple):
    """What the loader hands to the trainer; the device does the rest.

    `crops` is (N, height, width, 3) uint8; `labels` (N,) int64 with `UNREADABLE` for black stand-ins; `tops`, `lefts`
    (N,) int64 are where each crop started; `mirrored` (N,) bool; `alphas` (N, 3) float32 of the colour noise;
    `unreadable` the name and fault of each picture that could not be read.
    """

    crops: Tensor
    labels: Tensor
    tops: Tensor
    lefts: Tensor
    mirrored: Tensor
    alphas: Tensor
    unreadable: tuple[str, ...]

    def pinned(self) -> Batch:
        """The same in memory that a GPU copies from while it computes."""
        return self._changed(Tensor.pin_memory)

    def on(self, device: torch.device) -> Batch:
        """The same on a device; from pinned memory the copy goes on behind the caller's back."""
        return self._changed(lambda values: values.to(device, non_blocking=True))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        crops, labels, tops, lefts, mirrored, alphas = (change(values) for values in self[:-1])
        return Batch(crops, labels, tops, lefts, mirrored, alphas, self.unreadable)


class Place(NamedTuple):
    """One step of training: batch number `batch` of pass number `epoch`, from 0."""

    epoch: int
    batch: int


@dataclass(frozen=True)
class Share:
    """Which part of every batch one of several processes takes: pictures `rank`, `rank` + `world` and so on."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class TrainingBatches(Dataset[Batch]):
    """The batches of a training, by place.  Cheap to send to a worker process."""

    source: Source
    geometry: Geometry
    augmentation: Augmentation
    seed: int
    batch: int
    share: Share = Share()

    def __getitem__(self, place: Place) -> Batch:
        plan = _plan(self.seed, place.epoch, len(self.source), self.geometry, self.augmentation)
        start = place.batch * self.batch
        positions = range(start + self.share.rank, start + self.batch, self.share.world)
        return read_batch(self.source, plan, positions, self.geometry)

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass; the pictures left over come in other passes, whose order differs."""
        return len(self.source) // self.batch

    def places(self, first_step: int, steps: int) -> Places:
        return Places(self.steps_per_epoch, first_step, steps)


@lru_cache(maxsize=2)
def _plan(seed: int, epoch: int, count: int, geometry: Geometry, augmentation: Augmentation) -> EpochPlan:
    return EpochPlan(seed, epoch, count, geometry, augmentation)


def read_batch(source: Source, plan: EpochPlan, positions: Sequence[int], geometry: Geometry) -> Batch:
    """The pictures at these positions of the plan, read, rescaled and cropped."""
    height, width = geometry.height, geometry.width
    indices = plan.order[positions]
    crops = np.zeros((len(positions), height, width, COLOURS), np.uint8)
    starts = plan.starts(positions, (geometry.side - height, geometry.side - width)).copy()
    labels, unreadable = source.labels[indices].astype(np.int64), []
    for row, (position, index) in enumerate(zip(positions, indices.tolist(), strict=True)):
        try:
            if plan.jitters:  # VGG crops from the whole picture, not from its central square (section 3.1)
                side = int(plan.sides[position])
                picture = source.read(index, at_least=side)
                rows, columns = rescaled_size(picture, side)
                starts[row] = plan.starts([position], (rows - height, columns - width))[0]
                crops[row] = rescaled_crop(picture, side, int(starts[row, 0]), int(starts[row, 1]), height, width)
            else:
                top, left = starts[row]
                crops[row] = squared(source, index, geometry.side)[top : top + height, left : left + width]
        except UnreadableImageError as error:
            unreadable.append(str(error))
            labels[row] = UNREADABLE
    return Batch(
        torch.from_numpy(crops),
        torch.from_numpy(labels),
        torch.from_numpy(starts[:, 0]),
        torch.from_numpy(starts[:, 1]),
        torch.from_numpy(plan.mirrored[positions]),
        torch.from_numpy(plan.alphas[positions]),
        tuple(unreadable),
    )


def squared(source: Source, index: int, side: int) -> NDArray[np.uint8]:
    """The picture's central square with this side; a pack of that side hands it out as it is."""
    picture = source.read(index, at_least=side)
    return picture if picture.shape[:2] == (side, side) else square(picture, side)


class Places(Sampler[Place]):
    """The steps from one to another, as places: the sampler of every loader here."""

    def __init__(self, steps_per_epoch: int, first_step: int, steps: int) -> None:
        self._per_epoch, self._steps = steps_per_epoch, range(first_step, steps)

    def __iter__(self) -> Iterator[Place]:
        return (Place(*divmod(step, self._per_epoch)) for step in self._steps)

    def __len__(self) -> int:
        return len(self._steps)


@dataclass(frozen=True)
class SquareBatches(Dataset[Batch]):
    """All pictures in order, each as its whole square of `side`: evaluation takes its crops from that."""

    source: Source
    side: int
    batch: int
    share: Share = Share()

    def __getitem__(self, place: Place) -> Batch:
        positions = self.positions(place)
        squares = np.zeros((len(positions), self.side, self.side, COLOURS), np.uint8)
        labels, unreadable = np.array(self.source.labels[positions], np.int64), []
        for row, index in enumerate(positions):
            try:
                squares[row] = squared(self.source, index, self.side)
            except UnreadableImageError as error:
                unreadable.append(str(error))
                labels[row] = UNREADABLE
        nothing = torch.zeros(len(positions), dtype=torch.int64)
        return Batch(
            torch.from_numpy(squares),
            torch.from_numpy(labels),
            nothing,
            nothing,
            nothing.bool(),
            torch.zeros(len(positions), COLOURS),
            tuple(unreadable),
        )

    def positions(self, place: Place) -> range:
        """Which pictures this process's part of a batch holds."""
        start = place.batch * self.batch
        return range(start + self.share.rank, min(start + self.batch, len(self.source)), self.share.world)

    def places(self) -> Places:
        count = -(-len(self.source) // self.batch)
        return Places(count, 0, count)


def batches(
    dataset: TrainingBatches | SquareBatches, places: Places, *, workers: int, pin: bool = False
) -> Generator[Batch]:
    """Each place's batch, read ahead: by `workers` processes, or by one thread where that is 0.

    Raises:
        LoaderError: a worker process died; the message says of what and what to do.
    """
    if workers == 0:
        yield from _ahead(dataset.__getitem__, places, pin=pin)
        return
    loader = DataLoader(
        dataset,
        batch_size=None,
        collate_fn=_as_it_is,
        sampler=places,
        num_workers=workers,
        prefetch_factor=AHEAD,
        # Not fork: the trainer has threads of its own, and a copy made while one holds a lock hangs.
        multiprocessing_context="forkserver",
        worker_init_fn=_calm_worker,
        pin_memory=pin,
    )
    try:
        yield from loader
    except (RuntimeError, OSError, EOFError) as error:
        if "in DataLoader worker process" in str(error):  # raised by what it read, not by its end
            raise
        words = str(error).partition("\n")[0] or type(error).__name__  # an EOFError has nothing to say
        raise LoaderError(
            f"a process that reads pictures died ({words}); most often memory ran out: "
            "try fewer workers with --workers, or a pack"
        ) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def _calm_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of a terminal; the trainer takes it as a request and still needs its next picture.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _ahead(read: Callable[[Place], Batch], places: Places, *, pin: bool) -> Generator[Batch]:
    """Runs `read` in a thread, a few batches ahead.  Pillow and numpy let other threads work meanwhile."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
    given_up = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not given_up.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for place in places:
                batch = read(place)
                if not put(batch.pinned() if pin else batch):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asked
            put(error)

    thread = threading.Thread(target=work, name="pictures", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        given_up.set()
        thread.join()
