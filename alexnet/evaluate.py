"""How good a network is: top-1 and top-5, ten crops, per class, confusions and the worst mistakes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

from alexnet.data.loading import UNREADABLE, Share, SquareBatches, batches
from alexnet.data.preprocessing import Geometry, Preprocessing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alexnet.data.sources import Source

Crops = Literal["centre", "ten"]

WORST = 50
"""Mistakes that an evaluation remembers."""


class Mistake(NamedTuple):
    """A picture that the network took for something else, with the probabilities it gave to both."""

    picture: str
    true: str
    predicted: str
    probability: float
    probability_of_true: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results over all pictures that could be read.

    `loss` is the mean cross-entropy in nats of the averaged probabilities; `top1` and `topk` are shares from 0 to 1,
    with `k` = 5, or the number of classes where there are fewer; `confusion[true][predicted]` counts pictures.
    """

    classes: tuple[str, ...]
    pictures: int
    unreadable: tuple[str, ...]
    crops: str
    loss: float
    top1: float
    topk: float
    k: int
    confusion: tuple[tuple[int, ...], ...]
    mistakes: tuple[Mistake, ...]

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """Share of each class that was recognised; None for a class without pictures."""
        return tuple(row[true] / sum(row) if sum(row) else None for true, row in enumerate(self.confusion))

    def as_data(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "pictures": self.pictures,
            "unreadable": list(self.unreadable),
            "crops": self.crops,
            "loss": self.loss,
            "top1": self.top1,
            f"top{self.k}": self.topk,
            "per_class": dict(zip(self.classes, self.per_class, strict=True)),
            "confusion": {"classes": list(self.classes), "counts": [list(row) for row in self.confusion]},
            "mistakes": [mistake._asdict() for mistake in self.mistakes],
        }


def headline(found: Evaluation) -> dict[str, Any]:
    """The figures that a run's records and checkpoints carry."""
    return {"loss": found.loss, "top1": found.top1, f"top{found.k}": found.topk, "pictures": found.pictures}


def evaluate(
    scores: Callable[[Tensor], Tensor],
    source: Source,
    preprocessing: Preprocessing,
    *,
    device: torch.device,
    batch: int,
    workers: int = 0,
    crops: Crops = "centre",
    sides: tuple[int, ...] = (),
    share: Share | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Looks at every picture of `source` through `scores`, which turns (N, 3, H, W) inputs into (N, classes) scores.

    With several crops the probabilities are averaged (paper, section 4.1).  `sides` are short sides to test at
    instead of the preprocessing's own, averaged likewise (VGG, section 4.2).  With a `share`, each process looks at
    its part and all get the whole result.  `seen` is told the number of pictures after each batch.

    Raises:
        ValueError: no picture could be read.
    """
    share = share or Share()
    sizes = list(_sizes(preprocessing, sides))
    tally = _Tally(source, device, len(sizes))
    for size in sizes:
        dataset = SquareBatches(source, size.geometry.side, batch, share)
        placed = size.on(device)
        places = dataset.places()
        reader = batches(dataset, places, workers=workers, pin=device.type == "cuda")
        for place, group in zip(places, reader, strict=True):
            squares = group.crops.to(device, non_blocking=True)
            probabilities = mean_probabilities(scores, squares, placed, crops) if len(squares) else None
            tally.add(dataset.positions(place), probabilities, group.labels, group.unreadable)
            seen(min((place.batch + 1) * batch, len(source)))
    if share.world > 1:
        tally.reduce()
    label = {"centre": "centre crop", "ten": "ten crops"}[crops]
    return tally.result(label + (f" at {', '.join(map(str, sides))} pixels" if sides else ""))


def _sizes(preprocessing: Preprocessing, sides: tuple[int, ...]) -> Iterator[Preprocessing]:
    """The preprocessing for each short side; Raises ValueError where a mean image fits only its own."""
    own = preprocessing.geometry
    for side in sides or (own.side,):
        if side < max(own.height, own.width):
            raise ValueError(f"crops of {own.height}×{own.width} do not fit a short side of {side}")
        if side != own.side and preprocessing.mean.shape[1:] != (1, 1):
            raise ValueError(f"this checkpoint subtracts a mean image of {own.side} pixels, so {side} cannot be tested")
        yield Preprocessing(Geometry(side, own.height, own.width), preprocessing.mean, preprocessing.divisor)


def mean_probabilities(
    scores: Callable[[Tensor], Tensor], squares: Tensor, preprocessing: Preprocessing, crops: Crops
) -> Tensor:
    """(N, side, side, 3) bytes -> (N, classes) probabilities, averaged over the crops."""
    geometry = preprocessing.geometry
    places = geometry.ten_crops() if crops == "ten" else ((*geometry.centre, False),)
    total: Tensor | None = None
    for top, left, mirrored in places:
        window = squares[:, top : top + geometry.height, left : left + geometry.width]
        flags = torch.ones(len(squares), dtype=torch.bool, device=squares.device) if mirrored else None
        found = functional.softmax(scores(preprocessing.inputs(window, top, left, mirrored=flags)), dim=1)
        total = found if total is None else total + found
    assert total is not None
    return total / len(places)


class _Tally:
    """Adds up an evaluation; where several sizes are tested, the probabilities of all are averaged first."""

    def __init__(self, source: Source, device: torch.device, sizes: int) -> None:
        self._source, self._device, self._sizes = source, device, sizes
        self._classes = len(source.classes)
        self._k = min(5, self._classes)
        self._probabilities = torch.zeros(len(source), self._classes)
        self._readable = torch.zeros(len(source), dtype=torch.bool)
        self._unreadable: dict[str, None] = {}

    def add(self, indices: range, probabilities: Tensor | None, labels: Tensor, unreadable: tuple[str, ...]) -> None:
        if probabilities is None:
            return
        rows = torch.arange(indices.start, indices.stop, indices.step)
        self._probabilities[rows] += probabilities.float().cpu()
        self._readable[rows] = labels != UNREADABLE
        self._unreadable |= dict.fromkeys(unreadable)

    def reduce(self) -> None:
        """Every process gets the sums of all."""
        for name in ("_probabilities", "_readable"):
            values = getattr(self, name).float().to(self._device)
            distributed.all_reduce(values)
            setattr(self, name, values.cpu())
        self._readable = self._readable > 0
        names: list[dict[str, None] | None] = [None] * distributed.get_world_size()
        distributed.all_gather_object(names, self._unreadable)
        self._unreadable = {name: None for part in names if part for name in part}

    def result(self, crops: str) -> Evaluation:
        kept = self._readable.nonzero().flatten()
        if not len(kept):
            raise ValueError("no picture could be read, so there is nothing to evaluate")
        probabilities = self._probabilities[kept] / self._sizes
        labels = torch.from_numpy(self._source.labels)[kept]
        predicted = probabilities.argmax(1)
        of_true = probabilities.gather(1, labels[:, None]).flatten()
        pairs = torch.bincount(labels * self._classes + predicted, minlength=self._classes**2)
        best = probabilities.topk(self._k, dim=1).indices
        count = len(kept)
        return Evaluation(
            classes=tuple(self._source.classes),
            pictures=count,
            unreadable=tuple(self._unreadable),
            crops=crops,
            loss=float(-of_true.clamp_min(1e-30).log().double().mean()),
            top1=int((predicted == labels).sum()) / count,
            topk=int((best == labels[:, None]).any(1).sum()) / count,
            k=self._k,
            confusion=tuple(map(tuple, pairs.reshape(self._classes, self._classes).tolist())),
            mistakes=tuple(self._worst(kept, probabilities, predicted, labels, of_true)),
        )

    def _worst(
        self, kept: Tensor, probabilities: Tensor, predicted: Tensor, labels: Tensor, of_true: Tensor
    ) -> Iterator[Mistake]:
        """The mistakes of which the network was surest."""
        confidence = probabilities.amax(1)
        wrong = (predicted != labels).nonzero().flatten().tolist()
        for row in heapq.nlargest(WORST, wrong, key=lambda row: float(confidence[row])):
            yield Mistake(
                self._source.name(int(kept[row])),
                self._source.classes[int(labels[row])],
                self._source.classes[int(predicted[row])],
                float(confidence[row]),
                float(of_true[row]),
            )
