from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.data.images import UnreadableImageError
from alexnet.data.loading import UNREADABLE, Batch, LoaderError, Place, Share, SquareBatches, TrainingBatches, batches
from alexnet.data.preprocessing import Augmentation, EpochPlan, Geometry
from alexnet.data.sources import open_data
from tests.training import folder_of_pictures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GEOMETRY = Geometry(16, 11, 12)


class Numbered:
    """Pictures that say which they are: picture i is all i, except where its rows and columns are told."""

    classes = ("even", "odd")

    def __init__(self, count: int, broken: tuple[int, ...] = (), *, dies: int | None = None) -> None:
        self._count, self._broken, self._dies = count, broken, dies

    @property
    def labels(self) -> np.ndarray:
        return np.arange(self._count) % 2

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        return f"picture {index}"

    def read(self, index: int, at_least: int | None = None) -> np.ndarray:
        assert at_least is not None
        if index in self._broken:
            raise UnreadableImageError(self.name(index), "torn")
        if index == self._dies:
            raise SystemExit(3)
        y, x = np.mgrid[0:at_least, 0:at_least]
        return np.stack([np.full_like(y, index), y, x], axis=-1).astype(np.uint8)


def dataset(count: int = 40, batch: int = 8, share: Share | None = None, **source: object) -> TrainingBatches:
    return TrainingBatches(
        Numbered(count, **source),  # type: ignore[arg-type]
        GEOMETRY,
        Augmentation(),
        seed=7,
        batch=batch,
        share=share or Share(),
    )


def everything(data: TrainingBatches, steps: int, *, first: int = 0, workers: int = 0) -> list[Batch]:
    return list(batches(data, data.places(first, steps), workers=workers))


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first[:-1], second[:-1], strict=True)) and first[-1] == second[-1]


def test_a_batch_is_what_the_plan_says() -> None:
    data = dataset()
    plan = EpochPlan(7, 2, 40, GEOMETRY, Augmentation())
    batch = data[Place(epoch=2, batch=3)]
    tops, lefts = plan.starts(range(40), (16 - 11, 16 - 12)).T
    assert batch.crops.shape == (8, 11, 12, 3)
    for row, position in enumerate(range(24, 32)):
        index = plan.order[position]
        assert batch.labels[row] == index % 2
        crop = batch.crops[row].numpy()
        assert (crop[..., 0] == index).all()
        assert crop[0, 0, 1:].tolist() == [tops[position], lefts[position]]
        assert crop[-1, -1, 1:].tolist() == [tops[position] + 10, lefts[position] + 11]
        assert (batch.tops[row], batch.lefts[row]) == (tops[position], lefts[position])
        assert batch.mirrored[row] == plan.mirrored[position]
        np.testing.assert_array_equal(batch.alphas[row], plan.alphas[position])


def test_an_epoch_shows_every_picture_once_and_epochs_follow_each_other() -> None:
    read = everything(dataset(), steps=10)
    for epoch in range(2):
        seen = torch.cat([batch.crops[:, 0, 0, 0] for batch in read[5 * epoch : 5 * epoch + 5]])
        assert sorted(seen.tolist()) == list(range(40))


def test_what_does_not_fill_a_batch_waits_for_another_epoch() -> None:
    data = dataset(count=43)
    assert data.steps_per_epoch == 5
    assert len(everything(data, steps=5)) == 5


def test_reading_from_the_middle_goes_on_as_from_the_start() -> None:
    data = dataset()
    whole = everything(data, steps=12)
    rest = everything(data, steps=12, first=7)
    assert len(rest) == 5
    assert all(same(a, b) for a, b in zip(whole[7:], rest, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than this machine has cores
def test_processes_read_what_a_thread_reads() -> None:
    data = dataset()
    assert all(same(a, b) for a, b in zip(everything(data, steps=6), everything(data, steps=6, workers=2), strict=True))


@pytest.mark.parametrize("world", [2, 4])
def test_shares_together_are_the_whole_batch(world: int) -> None:
    whole = dataset()[Place(0, 1)]
    for rank in range(world):
        part = dataset(share=Share(rank, world))[Place(0, 1)]
        for all_of_it, some in zip(whole[:-1], part[:-1], strict=True):
            assert torch.equal(all_of_it[rank::world], some)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_picture_is_black_has_no_label_and_is_named(workers: int) -> None:
    data = dataset(broken=(3, 30))
    read = everything(data, steps=5, workers=workers)
    faults = [fault for batch in read for fault in batch.unreadable]
    assert set(faults) == {"picture 3: torn", "picture 30: torn"}
    assert len(faults) == 2
    black = torch.cat([batch.crops.flatten(1).amax(1) for batch in read]) == 0
    missing = torch.cat([batch.labels for batch in read]) == UNREADABLE
    assert int(missing.sum()) == 2
    assert black[missing].all()


def test_a_reader_that_is_given_up_ends_its_thread() -> None:
    import threading

    data = dataset()
    reader = batches(data, data.places(0, 10**6), workers=0)
    next(reader)
    assert any(thread.name == "pictures" for thread in threading.enumerate())
    reader.close()
    assert not any(thread.name == "pictures" for thread in threading.enumerate())


def test_an_error_in_the_reading_thread_reaches_the_trainer() -> None:
    class Faulty(Numbered):
        def read(self, index: int, at_least: int | None = None) -> np.ndarray:
            raise ZeroDivisionError(index, at_least)

    data = TrainingBatches(Faulty(8), GEOMETRY, Augmentation(), 0, 4)
    with pytest.raises(ZeroDivisionError):
        everything(data, steps=1)


def test_a_worker_that_dies_is_said_with_a_remedy() -> None:
    with pytest.raises(LoaderError, match="try fewer workers with --workers, or a pack"):
        everything(dataset(dies=5), steps=5, workers=1)


def test_a_worker_whose_end_has_no_words_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(_loader: object) -> Iterator[object]:
        raise EOFError  # what a pipe says that the other end has left
        yield

    monkeypatch.setattr("alexnet.data.loading.DataLoader.__iter__", ends)
    with pytest.raises(LoaderError, match=r"died \(EOFError\); most often memory ran out: try fewer workers"):
        everything(dataset(), steps=1, workers=1)


def test_reading_runs_ahead_of_a_slow_trainer() -> None:
    class Slow(Numbered):
        def read(self, index: int, at_least: int | None = None) -> np.ndarray:
            time.sleep(0.02)
            return super().read(index, at_least)

    data = TrainingBatches(Slow(40), GEOMETRY, Augmentation(), 0, 4)
    reader = batches(data, data.places(0, 10), workers=0)
    next(reader)
    time.sleep(0.6)  # the trainer computes; three batches of four pictures take 0.24 s to read
    start = time.perf_counter()
    for _ in range(3):
        next(reader)
    assert time.perf_counter() - start < 0.06  # they lay ready
    reader.close()


def test_a_dataset_is_cheap_to_send_to_a_process(tmp_path: Path) -> None:
    splits = open_data(str(folder_of_pictures(tmp_path / "pictures")))
    data = TrainingBatches(splits.train, GEOMETRY, Augmentation(), 0, 4)
    assert len(pickle.dumps(data)) < 10_000


class Photograph:
    """One photograph-like picture of 60×90 pixels, smooth, so that where a crop came from can be read off it."""

    classes = ("one", "other")
    labels = np.arange(64) % 2

    def __len__(self) -> int:
        return 64

    def name(self, index: int) -> str:
        return f"picture {index}"

    def read(self, index: int, at_least: int | None = None) -> np.ndarray:
        assert at_least is not None
        y, x = np.mgrid[0:60, 0:90]
        return np.stack([np.full_like(y, index), 2 * y, 2 * x], axis=-1).astype(np.uint8)


def test_scale_jitter_crops_from_the_whole_rescaled_picture() -> None:
    augmentation = Augmentation(jitter_to=40)
    batch = TrainingBatches(Photograph(), GEOMETRY, augmentation, 0, 64)[Place(0, 0)]
    plan = EpochPlan(0, 0, 64, GEOMETRY, augmentation)
    assert len(set(plan.sides.tolist())) > 10
    for row in range(64):
        side = int(plan.sides[row])
        whole = Image.fromarray(Photograph().read(0, 1)).resize(
            (round(90 * side / 60), side), Image.Resampling.BILINEAR
        )
        top, left = int(batch.tops[row]), int(batch.lefts[row])
        assert 0 <= top <= side - 11
        assert 0 <= left <= whole.width - 12
        expected = np.array(whole)[top : top + 11, left : left + 12, 1:].astype(int)
        inner = (slice(1, -1), slice(1, -1))  # at the picture's own edges the two filters see different neighbours
        assert np.abs(batch.crops[row].numpy()[..., 1:].astype(int)[inner] - expected[inner]).max() <= 2
    assert batch.lefts.max() > 40 - 12  # beyond any central square


# --- evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [Share(), Share(1, 3)])
def test_test_batches_are_all_pictures_in_order(share: Share) -> None:
    data = SquareBatches(Numbered(23), side=16, batch=6, share=share)
    read = list(batches(data, data.places(), workers=0))
    assert len(read) == 4
    seen = torch.cat([batch.crops[:, 0, 0, 0] for batch in read]).tolist()
    whole = [
        index for start in range(0, 23, 6) for index in range(start, min(start + 6, 23))[share.rank :: share.world]
    ]
    assert seen == whole
    assert all(batch.crops.shape[1:] == (16, 16, 3) for batch in read)
