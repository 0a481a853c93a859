"""Which pieces of which pictures excite each channel of a stage most.

One pass over a set of pictures serves all channels, and goes no further into the network than the stage.  Of the maps
only the maxima are kept: channels × count numbers, however many pictures there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from alexnet.data.images import UnreadableImageError
from alexnet.data.loading import squared
from alexnet.errors import UserError
from analysis.receptive import receptive_fields, seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.data.images import Pixels
    from alexnet.data.preprocessing import Preprocessing
    from alexnet.data.sources import Source
    from alexnet.inference import Viewer
    from alexnet.spec import Network, Stage

OUTSIDE = 128
"""Grey level of what a receptive field sees beyond the picture's edges: padding, which is no picture at all."""


class Patch(NamedTuple):
    """A place in a picture that excites a channel: the output `value` at `row`, `column` of its map.

    `picture` is the number in the source.  `rows` and `columns` are the first and last of the crop that the value
    depends on (`analysis.receptive.seen`); the first may be negative and the last beyond the crop.
    """

    picture: int
    value: float
    row: int
    column: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def inside(self, height: int, width: int) -> tuple[int, int, int, int]:
        """First and last row, first and last column of what it sees of a crop of this size."""
        (top, bottom), (left, right) = self.rows, self.columns
        return max(top, 0), min(bottom, height - 1), max(left, 0), min(right, width - 1)

    def outside(self, height: int, width: int) -> float:
        """Share of its receptive field that lies beyond the edges of a crop of this size, from 0 to 1."""
        top, bottom, left, right = self.inside(height, width)
        area = (self.rows[1] - self.rows[0] + 1) * (self.columns[1] - self.columns[0] + 1)
        return 1 - max(bottom - top + 1, 0) * max(right - left + 1, 0) / area


@dataclass(frozen=True, eq=False, slots=True)
class Exciting:
    """The strongest places so far, after `done` of `total` pictures; `unreadable` names those that were skipped.

    `values` (channels, found) float32 falls along its second axis; `pictures` (channels, found) int64 are numbers in
    the source and `places` (channels, found) int64 places in the map, row · width + column.  Every picture occurs once
    in a channel, so `found` is at most the number of pictures read.  Values may be negative, or zero after a ReLU that
    nothing passed: they are still the greatest there were.
    """

    network: Network
    stage: Stage
    done: int
    total: int
    unreadable: tuple[str, ...]
    values: NDArray[np.float32]
    pictures: NDArray[np.int64]
    places: NDArray[np.int64]

    def patches(self, channel: int) -> tuple[Patch, ...]:
        """A channel's strongest places, the strongest first."""
        names = [stage.name for stage in self.network.stages()]
        whole = receptive_fields(self.network)[names.index(self.stage.name)].whole
        _, height, width = self.network.input_shape
        found = []
        for value, picture, place in zip(
            self.values[channel].tolist(), self.pictures[channel].tolist(), self.places[channel].tolist(), strict=True
        ):
            if len(self.stage.out_shape) == 3:
                row, column = divmod(place, self.stage.out_shape[2])
                at = row, column
            else:
                row, column = 0, 0
                at = channel, channel  # a vector has no places; a flattened one remembers where each value was
            rows, columns = (
                ((0, height - 1), (0, width - 1))
                if whole
                else (seen(self.network, self.stage.name, at[0], 0), seen(self.network, self.stage.name, at[1], 1))
            )
            found.append(Patch(picture, value, row, column, rows, columns))
        return tuple(found)


def most_exciting(
    viewer: Viewer, source: Source, stage_name: str, *, count: int = 9, pictures: int | None = None, batch: int = 32
) -> Iterator[Exciting]:
    """For every channel of a stage the `count` pictures of `source` that excite it most, each with its strongest place.

    Yields what is known after every `batch` pictures, at first of none: the last is the result, and whoever has seen
    enough stops asking.  `pictures` takes so many, spread evenly over the source, which is often sorted by class.
    Each is looked at as the viewer's preprocessing crops it.  Of equals, the picture that comes first wins.

    Raises:
        UserError: no such stage, or its weights are missing; no picture could be read; counts below one.
    """
    if count < 1 or batch < 1 or (pictures is not None and pictures < 1):
        raise UserError(f"count, batch and pictures must be 1 or more, got {count}, {batch} and {pictures}")
    stage = _stage(viewer, stage_name)
    total = len(source) if pictures is None else min(pictures, len(source))
    if not total:
        raise UserError("there are no pictures to look through")
    return _search(viewer, source, stage, [i * len(source) // total for i in range(total)], count, batch)


def _stage(viewer: Viewer, name: str) -> Stage:
    for stage in viewer.stages:
        if stage.name == name:
            return stage
    known = ", ".join(viewer.stage_names) or "none"
    if name in dict(viewer.checkpoint.network.layers):
        lacks = ", ".join(viewer.checkpoint.missing)
        raise UserError(f"{name} cannot be computed: the checkpoint has no weights for {lacks}; there are {known}")
    raise UserError(f"{viewer.checkpoint.network.name} has no stage {name!r}; there are {known}")


def _search(
    viewer: Viewer, source: Source, stage: Stage, indices: Sequence[int], count: int, batch: int
) -> Iterator[Exciting]:
    preprocessing = viewer.checkpoint.preprocessing.on(viewer.device)
    channels = stage.out_shape[0]
    values = torch.empty(0, channels)
    numbers, places = torch.empty(0, channels, dtype=torch.int64), torch.empty(0, channels, dtype=torch.int64)
    unreadable: list[str] = []

    def known(done: int) -> Exciting:
        return Exciting(
            viewer.checkpoint.network,
            stage,
            done,
            len(indices),
            tuple(unreadable),
            values.T.contiguous().numpy(),
            numbers.T.contiguous().numpy(),
            places.T.contiguous().numpy(),
        )

    yield known(0)
    for start in range(0, len(indices), batch):
        read, crops = [], []
        for index in indices[start : start + batch]:
            try:
                crops.append(crop_of(preprocessing, source, index))
            except UnreadableImageError:
                unreadable.append(source.name(index))
            else:
                read.append(index)
        if crops:
            top, where = _maxima(viewer, preprocessing, np.stack(crops), stage)
            which = torch.tensor(read)[:, None].expand(-1, channels)
            # Stable, so that of equals (zeros after ReLU, for one) the picture that comes first stays first.
            values, ranks = torch.cat((values, top)).sort(dim=0, descending=True, stable=True)
            numbers = torch.cat((numbers, which)).gather(0, ranks)[:count]
            places = torch.cat((places, where)).gather(0, ranks)[:count]
            values = values[:count]
        yield known(min(start + batch, len(indices)))
    if not len(values):
        raise UserError(f"none of the {len(indices):,} pictures could be read, {unreadable[0]} for one")


@torch.no_grad()
def _maxima(viewer: Viewer, preprocessing: Preprocessing, crops: Pixels, stage: Stage) -> tuple[Tensor, Tensor]:
    """(N, H, W, 3) crops -> each picture's greatest value in every channel, and its place: both (N, channels)."""
    top, left = preprocessing.geometry.centre
    inputs = preprocessing.inputs(torch.from_numpy(crops).to(viewer.device), top, left)
    # The walk is left at this stage; what lies behind is never computed.
    output = next(values for here, values in viewer.walk(inputs) if here.name == stage.name)
    greatest, places = output.reshape(len(crops), stage.out_shape[0], -1).max(dim=2)
    if not bool(greatest.isfinite().all()):
        raise UserError(f"{stage.name} gives values that are no numbers (NaN or infinite): nothing can be ranked")
    return greatest.float().cpu(), places.cpu()


def crop_of(preprocessing: Preprocessing, source: Source, index: int) -> Pixels:
    """The crop of a picture, (H, W, 3) bytes, as the network is shown it.

    Raises:
        UnreadableImageError: it cannot be decoded.
    """
    geometry = preprocessing.geometry
    top, left = geometry.centre
    return squared(source, index, geometry.side)[top : top + geometry.height, left : left + geometry.width]


def patch_image(crop: Pixels, patch: Patch) -> Pixels:
    """What a patch's output value sees of its picture's crop: its receptive field, grey beyond the crop's edges."""
    (top, bottom), (left, right) = patch.rows, patch.columns
    image = np.full((bottom - top + 1, right - left + 1, 3), OUTSIDE, np.uint8)
    first_row, last_row, first_column, last_column = patch.inside(*crop.shape[:2])
    if first_row <= last_row and first_column <= last_column:
        image[first_row - top : last_row - top + 1, first_column - left : last_column - left + 1] = crop[
            first_row : last_row + 1, first_column : last_column + 1
        ]
    return image
