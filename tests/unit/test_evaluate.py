from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alexnet.data.images import UnreadableImageError
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.evaluate import evaluate

SIDE, CROP = 8, 5


class Pictures:
    """Random pictures, of which some cannot be read."""

    def __init__(self, classes: int, count: int, broken: tuple[int, ...] = ()) -> None:
        random = np.random.default_rng(classes)
        self.classes = tuple(f"class {n}" for n in range(classes))
        self.labels = random.integers(0, classes, count)
        self._pixels = random.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        self._broken = broken

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"picture {index}"

    def read(self, index: int, at_least: int | None = None) -> np.ndarray:
        assert at_least == SIDE
        if index in self._broken:
            raise UnreadableImageError(self.name(index), "torn")
        return self._pixels[index]


def preprocessing(*, mean_image: bool = False) -> Preprocessing:
    mean = torch.rand(3, SIDE, SIDE) * 100 if mean_image else torch.tensor([100.0, 120.0, 140.0])[:, None, None]
    return Preprocessing(Geometry(SIDE, CROP, CROP), mean, torch.full((3, 1, 1), 50.0))


def linear(classes: int) -> tuple[Tensor, torch.nn.Module]:
    generator = torch.Generator().manual_seed(classes)
    weights = torch.randn(3 * CROP * CROP, classes, generator=generator) / 5
    return weights, torch.nn.Identity()


def by_hand(pictures: Pictures, made: Preprocessing, weights: Tensor, places: list[tuple[int, int, bool]]) -> Tensor:
    """Probabilities of each picture, one crop at a time."""
    rows = []
    for index in range(len(pictures)):
        total = torch.zeros(weights.shape[1])
        for top, left, mirrored in places:
            crop = torch.from_numpy(pictures._pixels[index][top : top + CROP, left : left + CROP].astype(np.float32))
            values = crop.permute(2, 0, 1)
            mean = made.mean if made.mean.shape[1] == 1 else made.mean[:, top : top + CROP, left : left + CROP]
            values = (values - mean) / made.divisor
            if mirrored:
                values = values.flip(2)
            total += functional.softmax(values.flatten() @ weights, dim=0)
        rows.append(total / len(places))
    return torch.stack(rows)


@pytest.mark.parametrize("mean_image", [False, True])
@pytest.mark.parametrize("crops", ["centre", "ten"])
@pytest.mark.parametrize("batch", [1, 7, 100])
def test_every_figure_by_hand(crops: str, mean_image: bool, batch: int) -> None:
    pictures, made = Pictures(7, 40), preprocessing(mean_image=mean_image)
    weights, _ = linear(7)
    found = evaluate(
        lambda images: images.flatten(1) @ weights,
        pictures,
        made,
        device=torch.device("cpu"),
        batch=batch,
        crops=crops,  # type: ignore[arg-type]
    )
    corners = [(0, 0), (0, 3), (3, 0), (3, 3), (1, 1)]
    places = [(*c, m) for m in (False, True) for c in corners] if crops == "ten" else [(1, 1, False)]
    probabilities = by_hand(pictures, made, weights, places)
    labels = pictures.labels.tolist()
    ranks = [int((row > row[label]).sum()) for row, label in zip(probabilities, labels, strict=True)]
    assert found.top1 == sum(rank == 0 for rank in ranks) / 40
    assert (found.k, found.topk) == (5, sum(rank < 5 for rank in ranks) / 40)
    expected = -sum(math.log(float(row[label])) for row, label in zip(probabilities, labels, strict=True)) / 40
    assert found.loss == pytest.approx(expected, rel=1e-5)
    for true, guess in itertools.product(range(7), repeat=2):
        pairs = zip(probabilities.argmax(1).tolist(), labels, strict=True)
        assert found.confusion[true][guess] == sum(pair == (guess, true) for pair in pairs)
    assert sum(map(sum, found.confusion)) == found.pictures == 40
    right = {true: found.confusion[true][true] for true in range(7)}
    assert found.per_class == tuple(right[n] / labels.count(n) if n in labels else None for n in range(7))
    wrong = [index for index, rank in enumerate(ranks) if rank]
    assert {m.picture for m in found.mistakes} == {f"picture {index}" for index in wrong}
    surest = max(wrong, key=lambda index: float(probabilities[index].max()))
    assert found.mistakes[0].picture == f"picture {surest}"
    worst, truth = probabilities[surest], labels[surest]
    assert found.mistakes[0].probability_of_true == pytest.approx(float(worst[truth]), rel=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 5, 6])
def test_top_5_with_few_classes(classes: int) -> None:
    pictures = Pictures(classes, 30)
    weights, _ = linear(classes)
    found = evaluate(
        lambda images: images.flatten(1) @ weights,
        pictures,
        preprocessing(),
        device=torch.device("cpu"),
        batch=8,
    )
    assert found.k == min(5, classes)
    assert (found.topk == 1.0) == (classes <= 5)
    assert f"top{found.k}" in found.as_data()


def test_unreadable_pictures_are_counted_and_count_for_nothing() -> None:
    whole, torn = Pictures(4, 20), Pictures(4, 20, broken=(3, 11, 19))
    weights, _ = linear(4)

    def found(pictures: Pictures) -> object:
        return evaluate(
            lambda images: images.flatten(1) @ weights,
            pictures,
            preprocessing(),
            device=torch.device("cpu"),
            batch=6,
        )

    result = found(torn)
    assert result.pictures == 17  # type: ignore[attr-defined]
    assert result.unreadable == tuple(f"picture {n}: torn" for n in (3, 11, 19))  # type: ignore[attr-defined]
    probabilities = by_hand(whole, preprocessing(), weights, [(1, 1, False)])
    kept = [n for n in range(20) if n not in {3, 11, 19}]
    right = sum(int(probabilities[n].argmax()) == whole.labels[n] for n in kept)
    assert result.top1 == right / 17  # type: ignore[attr-defined]


def test_nothing_readable_is_said() -> None:
    with pytest.raises(ValueError, match="no picture could be read"):
        evaluate(
            lambda images: images[:, :2, 0, 0],
            Pictures(2, 3, broken=(0, 1, 2)),
            preprocessing(),
            device=torch.device("cpu"),
            batch=2,
        )


def test_a_mean_image_and_other_sides_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="subtracts a mean image of 8 pixels, so 12 cannot be tested"):
        evaluate(
            lambda images: images[:, :2, 0, 0],
            Pictures(2, 3),
            preprocessing(mean_image=True),
            device=torch.device("cpu"),
            batch=2,
            sides=(8, 12),
        )
