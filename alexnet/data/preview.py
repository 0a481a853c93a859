"""What preprocessing and augmentation do to a few training pictures, by the code that trains on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from alexnet.data.images import UnreadableImageError, square
from alexnet.data.loading import read_batch
from alexnet.data.preprocessing import COLOURS, Augmentation, EpochPlan, Geometry, Preprocessing, colour_shifts
from alexnet.data.sources import DataError, open_data
from alexnet.data.statistics import small_sample, statistics_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.config import TrainConfig
    from alexnet.data.loading import Batch
    from alexnet.data.preprocessing import Statistics
    from alexnet.data.sources import Source

    Bytes = NDArray[np.uint8]

SAMPLE = 100
"""Pictures that mean and colours are taken over here; a training takes up to 10,000."""
LARGEST = 256
"""Pixels of the longer side to which originals are reduced."""
_TRIES = 8  # pictures of a class that are tried before the class is given up


@dataclass(frozen=True, slots=True)
class Draw:
    """One augmented version: what the training sees of a picture in one epoch.

    `pixels` is (height, width, 3) bytes: the crop, mirrored or not, with its colour noise and nothing subtracted.  The
    crop started at row `top` and column `left` of the picture scaled to a short side of `side`; `shift` was added to
    red, green and blue in units of 0…255.
    """

    epoch: int
    pixels: Bytes
    top: int
    left: int
    side: int
    mirrored: bool
    shift: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Example:
    """One picture on its way: as the file has it (reduced to 256 pixels), its central square, as training draws it,
    the central crop that a validation sees, and what the network receives of that crop.

    `received` is scaled to be looked at, by the `Preview`'s range.  `index` is the picture's position in the split;
    `original_size` is its height and width in pixels before it was reduced.
    """

    index: int
    name: str
    label: str
    original: Bytes
    original_size: tuple[int, int]
    square: Bytes
    draws: tuple[Draw, ...]
    validation: Bytes
    received: Bytes


@dataclass(frozen=True, slots=True)
class Preview:
    """Examples, and what they were made with.

    `low` and `high` are the least and greatest value that the network receives of these crops: black and white in
    `received`.  `mean` and `deviation` are red, green and blue in 0…255, of `sampled` of `pictures` pictures: a
    training takes more, so its own differ a little.  `unreadable` names pictures that could not be read, with why.
    """

    examples: tuple[Example, ...]
    description: str
    warnings: tuple[str, ...]
    geometry: Geometry
    low: float
    high: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    sampled: int
    pictures: int
    unreadable: tuple[str, ...]


def preview(config: TrainConfig, pictures: int = 4, variants: int = 6) -> Preview:
    """A few training pictures, evenly over the classes, each with so many augmented versions: epochs 1, 2, ….

    Crops, mirrors, scales and colour noise are those that a training with this seed will draw.  Only the colour noise
    can differ in its last digits, since its principal components are here of fewer pictures.

    Raises:
        UserError: there is no such data, or nothing in it can be read.
    """
    splits = open_data(config.data, val_fraction=config.val_fraction, seed=config.seed)
    source = splits.train
    geometry = Geometry.of(config, config.described_network(len(source.classes)))
    faults: dict[str, None] = {}
    read = list(_readable(source, pictures, faults))
    indices = small_sample(len(source), SAMPLE)
    try:
        statistics = statistics_of(
            source, indices, geometry.side, unreadable=lambda error: faults.setdefault(str(error))
        )
    except ValueError as error:
        raise DataError(f"{error}; the first: {next(iter(faults))}; mend or replace them") from None
    if not read:
        raise DataError(
            f"none of the pictures tried can be read, the first: {next(iter(faults))}; mend or replace them"
        )
    plans = [_plan(config, source, geometry, epoch) for epoch in range(variants)]
    shown = Preprocessing.trained_with(config, statistics, geometry)
    squares = [square(picture, geometry.side) for _, picture in read]
    top, left = geometry.centre
    crops = np.stack(squares)[:, top : top + geometry.height, left : left + geometry.width]
    inputs = shown.inputs(torch.from_numpy(crops.copy()), top, left)
    low, high = float(inputs.min()), float(inputs.max())
    received = _as_bytes((inputs - low) / max(high - low, 1e-6) * 255)
    examples = tuple(
        Example(
            index,
            source.name(index),
            source.classes[int(source.labels[index])],
            _reduced(picture),
            picture.shape[:2],
            squares[row],
            tuple(_drawn(source, plan, index, epoch, geometry, statistics) for epoch, plan in enumerate(plans)),
            crops[row],
            received[row],
        )
        for row, (index, picture) in enumerate(read)
    )
    return Preview(
        examples,
        splits.description,
        splits.warnings,
        geometry,
        low,
        high,
        _three(statistics.mean),
        _three(statistics.deviation),
        len(indices),
        len(source),
        tuple(faults),
    )


def _readable(source: Source, count: int, faults: dict[str, None]) -> Iterator[tuple[int, Bytes]]:
    """Positions and pictures, evenly over the classes: of each the first that can be read and is not shown yet."""
    labels, classes, shown = source.labels, len(source.classes), set[int]()
    for number in range(min(count, len(source))):
        label = number % classes if count > classes else number * classes // count
        tried = 0
        for index in np.flatnonzero(labels == label).tolist():
            if index in shown:
                continue
            shown.add(index)
            try:
                yield index, source.read(index)
            except UnreadableImageError as error:
                faults.setdefault(str(error))
                tried += 1
                if tried < _TRIES:
                    continue
            break


def _plan(config: TrainConfig, source: Source, geometry: Geometry, epoch: int) -> EpochPlan:
    return EpochPlan(config.seed, epoch, len(source), geometry, Augmentation.of(config))


def _drawn(source: Source, plan: EpochPlan, index: int, epoch: int, geometry: Geometry, statistics: Statistics) -> Draw:
    position = int(np.flatnonzero(plan.order == index)[0])
    batch = read_batch(source, plan, [position], geometry)
    shift = colour_shifts(batch.alphas, statistics)
    return Draw(
        epoch,
        augmented(batch, shift)[0],
        int(batch.tops[0]),
        int(batch.lefts[0]),
        int(plan.sides[position]),
        bool(batch.mirrored[0]),
        _three(shift[0]),
    )


def augmented(batch: Batch, shifts: Tensor) -> Bytes:
    """A batch as people can look at it, (N, height, width, 3): the trainer's own way, with nothing to subtract."""
    size = batch.crops.shape[1:3]
    plain = Preprocessing(Geometry(max(size), *size), torch.zeros(COLOURS, 1, 1), torch.ones(COLOURS, 1, 1))
    return _as_bytes(plain.inputs(batch.crops, mirrored=batch.mirrored, colour=shifts))


def _as_bytes(values: Tensor) -> Bytes:
    """(N, 3, H, W) in 0…255 -> (N, H, W, 3) bytes; what lies outside is cut off."""
    pixels: Bytes = values.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
    return pixels


def _reduced(picture: Bytes) -> Bytes:
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
