"""What is looked at before a training starts, and by `alexnet.plan` before that: whether things fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from alexnet import probes
from alexnet.config import ConfigError, option
from alexnet.data.images import UnreadableImageError
from alexnet.data.loading import squared
from alexnet.data.pack import PackSource
from alexnet.errors import UserError
from alexnet.machine import check_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from alexnet.config import TrainConfig
    from alexnet.data.preprocessing import Geometry
    from alexnet.data.sources import Source
    from alexnet.machine import Machine
    from alexnet.spec import Network


class TrainingError(UserError):
    """A training cannot start or go on; the message says why and what to do."""


def size_problems(
    config: TrainConfig, pictures: int, network: Network, machine: Machine, world: int
) -> Iterator[UserError]:
    """Everything that does not fit between the recipe, so many training pictures and the machine."""
    if config.batch > pictures:
        yield ConfigError(
            f"{option('batch')} {config.batch} is more than the {pictures} training pictures: give at most {pictures}"
        )
    if config.batch % world:
        yield ConfigError(
            f"{option('batch')} {config.batch} does not split over {world} processes: "
            f"give {config.batch + -config.batch % world}"
        )
    if config.optimiser == "adamw" and machine.precision == torch.float16:
        yield ConfigError("adamw is not used with float16 here: use bfloat16 or float32")
    if (problem := check_memory(network, machine, config.batch, world)) is not None:
        yield TrainingError(problem)


def enlarged(source: Source, geometry: Geometry) -> str | None:
    """What to say of a pack whose pictures are smaller than the recipe wants them."""
    if not isinstance(source, PackSource) or source.side >= geometry.side:
        return None
    return (
        f"the pack's pictures have {source.side} pixels and this recipe wants {geometry.side}, so they are enlarged: "
        f"pack them anew with python -m alexnet pack --side {geometry.side}, or train a smaller network, like "
        f"{option('preset')} quick"
    )


def probe_crops(source: Source, geometry: Geometry) -> tuple[NDArray[np.uint8], int]:
    """Central crops of the first validation pictures that can be read, (N, height, width, 3), for a probe.

    With them the class of the first one, which is the probe picture.

    Raises:
        TrainingError: none can be read.
    """
    squares: list[NDArray[np.uint8]] = []
    label, fault = 0, ""
    for index in range(len(source)):
        try:
            squares.append(squared(source, index, geometry.side))
            label = int(source.labels[index]) if len(squares) == 1 else label
        except UnreadableImageError as error:
            fault = fault or str(error)
        if len(squares) == probes.PICTURES:
            break
    if not squares:
        raise TrainingError(
            f"none of the {len(source):,} validation pictures can be read, the first: {fault}; mend or replace them"
        )
    top, left = geometry.centre
    return np.stack(squares)[:, top : top + geometry.height, left : left + geometry.width].copy(), label
