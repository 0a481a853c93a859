"""From pictures to what a network sees: one implementation for training, evaluation and the app.

Paper, section 2: the shorter side is rescaled to 256 pixels, the central 256×256 are cut out, and the mean over the
training set is subtracted.  Section 4.1: training adds random crops, horizontal reflections and noise along the
principal components of colour; a test averages ten crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from alexnet.config import TrainConfig
    from alexnet.spec import Network

COLOURS = 3


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a training set looks like on average, in units of 0…255.

    `mean_image` is (3, side, side) and `mean` and `deviation` are (3,), all in the order red, green, blue;
    `components` is (3, 3) with the principal components of colour as columns, and `variances` (3,) are their
    eigenvalues, largest first, for pixel values from 0 to 1.
    """

    mean_image: Tensor
    mean: Tensor
    deviation: Tensor
    components: Tensor
    variances: Tensor

    def as_data(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in self.__slots__}


class StatisticsGatherer:
    """Adds up pictures, a chunk at a time, in float64."""

    def __init__(self, side: int) -> None:
        self._count = 0
        self._image = np.zeros((side, side, COLOURS), np.float64)
        self._products = np.zeros((COLOURS, COLOURS), np.float64)

    def add(self, picture: NDArray[np.uint8]) -> None:
        """One (side, side, 3) picture in 0…255."""
        values = picture.astype(np.float32)
        self._image += values
        flat = values.reshape(-1, COLOURS)
        # A picture's own products stay below 2^24 per thousand pixels; float32 is exact enough and four times faster.
        self._products += flat.T @ flat
        self._count += 1

    def result(self) -> Statistics:
        """Raises ValueError where no picture was added."""
        if self._count == 0:
            raise ValueError("no picture to take statistics of: every one was unreadable")
        mean_image = self._image / self._count
        mean = mean_image.mean(axis=(0, 1))
        pixels = self._count * mean_image.shape[0] * mean_image.shape[1]
        covariance = self._products / pixels - np.outer(mean, mean)
        variances, components = np.linalg.eigh(covariance / 255**2)
        order = np.argsort(variances)[::-1]
        components = components[:, order]
        # An eigenvector's sign is arbitrary; a fixed one makes two machines draw the same noise.
        components *= np.where(components.sum(axis=0) < 0, -1.0, 1.0)
        return Statistics(
            torch.from_numpy(mean_image.transpose(2, 0, 1).astype(np.float32)),
            torch.from_numpy(mean.astype(np.float32)),
            torch.from_numpy(np.sqrt(np.maximum(np.diag(covariance), 1e-6)).astype(np.float32)),
            torch.from_numpy(components.astype(np.float32)),
            torch.from_numpy(np.maximum(variances[order], 0.0).astype(np.float32)),
        )


@dataclass(frozen=True, slots=True)
class Geometry:
    """The picture's short side becomes `side` pixels and its central square is cut out (section 2); crops of
    `height` × `width` pixels come from that square.
    """

    side: int
    height: int
    width: int

    @classmethod
    def of(cls, config: TrainConfig, network: Network) -> Geometry:
        """The one that a recipe means for this network."""
        _, height, width = network.input_shape
        return cls(config.short_side(), height, width)

    @property
    def positions(self) -> tuple[int, int]:
        """Rows and columns at which a crop can start: 33 each for 224 out of 256.

        The paper counts 32·32·2 = 2,048 crops and reflections; (256 − 224 + 1)²·2 = 2,178 is the number, since a
        crop can start at pixel 0 and at pixel 32.
        """
        return self.side - self.height + 1, self.side - self.width + 1

    @property
    def centre(self) -> tuple[int, int]:
        """Top and left of the central crop."""
        return (self.side - self.height) // 2, (self.side - self.width) // 2

    def ten_crops(self) -> tuple[tuple[int, int, bool], ...]:
        """Top, left and whether mirrored: the four corners, the centre, and their reflections (section 4.1)."""
        bottom, right = self.side - self.height, self.side - self.width
        corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), self.centre)
        return tuple((top, left, mirrored) for mirrored in (False, True) for top, left in corners)


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes a network's input; every checkpoint carries its own.

    Values are 0…255 in red, green, blue, less `mean`, divided by `divisor`: `mean` is (3, side, side) or (3, 1, 1),
    `divisor` (3, 1, 1).
    """

    geometry: Geometry
    mean: Tensor
    divisor: Tensor

    @classmethod
    def of(cls, statistics: Statistics, geometry: Geometry, *, mean_image: bool, unit_variance: bool) -> Preprocessing:
        """The one that a training set's statistics give."""
        mean = statistics.mean_image if mean_image else statistics.mean[:, None, None]
        divisor = statistics.deviation if unit_variance else torch.ones(COLOURS)
        return cls(geometry, mean, divisor[:, None, None])

    @classmethod
    def trained_with(cls, config: TrainConfig, statistics: Statistics, geometry: Geometry) -> Preprocessing:
        """The one that a recipe means, with its training set's statistics."""
        return cls.of(statistics, geometry, mean_image=config.mean == "image", unit_variance=config.unit_variance)

    @cached_property
    def _divides(self) -> bool:
        """Whether the divisor changes anything; asked once, since on a GPU the answer takes waiting for it."""
        return bool((self.divisor != 1).any())

    def inputs(
        self,
        crops: Tensor,
        tops: Tensor | int = 0,
        lefts: Tensor | int = 0,
        *,
        mirrored: Tensor | None = None,
        colour: Tensor | None = None,
    ) -> Tensor:
        """(N, height, width, 3) bytes -> the network's (N, 3, height, width) float32, on the device of `crops`.

        `tops` and `lefts` say where each crop started, which matters only to a mean image.  `mirrored` is (N,) bool;
        `colour` (N, 3) is added to red, green and blue in units of 0…255.  The memory order is channels last.
        """
        device = crops.device
        values = crops.permute(0, 3, 1, 2).float()
        if self.mean.shape[1:] == (1, 1):
            values = values.sub_(self.mean.to(device))
        else:
            values = values.sub_(self._cropped_means(tops, lefts, len(crops)).to(device))
        if colour is not None:
            values = values.add_(colour[:, :, None, None].to(device))
        if self._divides:
            values = values.div_(self.divisor.to(device))
        if mirrored is not None:
            values = torch.where(mirrored[:, None, None, None].to(device), values.flip(3), values)
        return values.contiguous(memory_format=torch.channels_last)

    def _cropped_means(self, tops: Tensor | int, lefts: Tensor | int, count: int) -> Tensor:
        """The part of the mean image under each crop: one for all where they start at one place."""
        height, width = self.geometry.height, self.geometry.width
        if isinstance(tops, int) and isinstance(lefts, int):
            return self.mean[None, :, tops : tops + height, lefts : lefts + width]
        rows = torch.as_tensor(tops).expand(count).tolist()
        columns = torch.as_tensor(lefts).expand(count).tolist()
        return torch.stack(
            [self.mean[:, top : top + height, left : left + width] for top, left in zip(rows, columns, strict=True)]
        )

    def on(self, device: torch.device) -> Preprocessing:
        """The same with its mean and divisor on a device, so that no batch copies them again."""
        return Preprocessing(self.geometry, self.mean.to(device), self.divisor.to(device))

    def as_data(self) -> dict[str, Any]:
        """Plain types and tensors, as they go into a checkpoint."""
        return {
            "side": self.geometry.side,
            "height": self.geometry.height,
            "width": self.geometry.width,
            "mean": self.mean.cpu(),
            "divisor": self.divisor.cpu(),
            "channels": "RGB",
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Preprocessing:
        """Raises KeyError or ValueError where something is missing or of the wrong shape."""
        if data["channels"] != "RGB":
            raise ValueError(f"channel order {data['channels']!r} is not known; it must be RGB")
        side, height, width = (int(data[name]) for name in ("side", "height", "width"))
        made = cls(Geometry(side, height, width), data["mean"], data["divisor"])
        if made.mean.shape not in {(COLOURS, 1, 1), (COLOURS, side, side)} or made.divisor.shape != (COLOURS, 1, 1):
            raise ValueError(f"mean of shape {tuple(made.mean.shape)} does not fit pictures of {side}×{side}")
        return made


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What training does to each picture at random (paper, section 4.1; VGG, section 3.1)."""

    random_crop: bool = True
    mirror: bool = True
    colour_noise: float = 0.1
    jitter_to: int | None = None

    @classmethod
    def of(cls, config: TrainConfig) -> Augmentation:
        """The one that a recipe means."""
        return cls(config.random_crop, config.mirror, config.colour_noise, config.jitter_to)


class EpochPlan:
    """All random choices of one pass over the training set, as tables: they depend on seed and epoch alone.

    So a resumed run goes on where it stopped, every number of worker processes sees the same pictures, and several
    machines together see what one would.
    """

    def __init__(self, seed: int, epoch: int, count: int, geometry: Geometry, augmentation: Augmentation) -> None:
        """`count` pictures.  `order` is (count,) indices; the other tables are by position in that order.

        `sides` is the (count,) short sides, `mirrored` (count,) bool, and `alphas` (count, 3) the paper's α's: one
        normal number for each principal component of colour.
        """
        # Philox is counter-based and specified to the bit; the same numbers on every machine.
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
        self.order = random.permutation(count)
        self._places, mirrored = random.random((count, 2), np.float32), random.random(count, np.float32) < 0.5
        noise, scales = random.standard_normal((count, COLOURS), np.float32), random.random(count, np.float32)
        self._random_crop = augmentation.random_crop
        self.jitters = augmentation.jitter_to is not None
        self.sides = self._sides(scales, geometry.side, augmentation.jitter_to)
        self.mirrored = mirrored if augmentation.mirror else np.zeros(count, np.bool_)
        self.alphas = noise * np.float32(augmentation.colour_noise)

    @staticmethod
    def _sides(uniform: NDArray[np.float32], side: int, jitter_to: int | None) -> NDArray[np.int64]:
        if jitter_to is None:
            return np.full(len(uniform), side, np.int64)
        drawn = side + np.floor(uniform * (jitter_to - side + 1)).astype(np.int64)
        return np.minimum(drawn, jitter_to, out=drawn)  # float32 can round up to 1

    def starts(self, positions: Sequence[int], rooms: tuple[int, int]) -> NDArray[np.int64]:
        """(N, 2) top and left of the crops at these positions, each from 0 to the room there is, both included."""
        room = np.array(rooms, np.int64)
        if not self._random_crop:
            return np.broadcast_to(room // 2, (len(positions), 2))
        drawn: NDArray[np.int64] = np.floor(self._places[positions] * (room + 1)).astype(np.int64)
        return np.minimum(drawn, room, out=drawn)


def colour_shifts(alphas: Tensor, statistics: Statistics) -> Tensor:
    """[p₁, p₂, p₃]·[α₁λ₁, α₂λ₂, α₃λ₃]ᵀ for each picture: (N, 3) -> (N, 3) in units of 0…255 (section 4.1).

    The paper does not say in which unit the eigenvalues are, and λ depends on it by its square: with pixels in 0…255
    the first would shift every picture by hundreds.  As in other ports, pixels here go from 0 to 1.
    """
    return alphas * statistics.variances @ statistics.components.T * 255.0
