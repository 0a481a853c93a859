"""A trained network to look at pictures through."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

from alexnet.build import build
from alexnet.checkpoints import numbered
from alexnet.data.images import square
from alexnet.data.sources import DataError, JoinedSource, open_data
from alexnet.errors import UserError
from alexnet.evaluate import Crops, Evaluation, evaluate
from alexnet.foreign import open_checkpoint
from alexnet.machine import PRECISIONS, autocast, named_devices
from alexnet.spec import Softmax

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch import Tensor

    from alexnet.checkpoints import Checkpoint
    from alexnet.data.images import Pixels
    from alexnet.data.preprocessing import Preprocessing
    from alexnet.data.sources import Source
    from alexnet.spec import Stage


class Viewer:
    """A checkpoint's network on a device, without dropout; any number of readers may share one.

    `stages` are those it can compute: all, or those before the first whose weights the checkpoint lacks.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device, precision: torch.dtype = torch.float32) -> None:
        self.checkpoint, self.device, self.precision = checkpoint, device, precision
        self.stages = checkpoint.reachable
        with torch.device("meta"):
            whole = build(checkpoint.network)
        model = nn.Sequential(
            OrderedDict((name, child) for name, child in whole.named_children() if name in self.stage_names)
        )
        weights = checkpoint.weights
        model.load_state_dict({name: weights[name] for name in model.state_dict()}, assign=True)
        placed: nn.Module = model.eval().requires_grad_(False).to(device)
        self.model = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(stage.name for stage in self.stages)

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) inputs -> (N, classes) float32 scores, before softmax.

        Raises:
            UserError: the checkpoint lacks weights, so there are no scores.
        """
        if missing := self.checkpoint.missing:
            raise UserError(f"no classes can be told: the checkpoint has no weights for {', '.join(missing)}")
        with autocast(self.device, self.precision):
            result: Tensor = self.model(images.to(self.device))
        return result.float()

    def walk(self, images: Tensor) -> Iterator[tuple[Stage, Tensor]]:
        """Every stage that can be computed with its output for (N, 3, H, W) inputs, the softmax included.

        Values stay on the viewer's device; gradients are kept only where the caller asks torch for them.
        """
        values = images.to(self.device)
        for stage in self.stages:
            values = self.through(stage, values)
            yield stage, values

    def through(self, stage: Stage, values: Tensor) -> Tensor:
        """What one of the stages makes of a batch of values that reach it."""
        if isinstance(stage.layer, Softmax):
            return values.softmax(1)
        result: Tensor = self.model.get_submodule(stage.name)(values)
        return result


def looked_at(preprocessing: Preprocessing, picture: Pixels) -> tuple[Pixels, Tensor]:
    """The centre crop of a picture, as the network is shown it.

    (height, width, 3) bytes -> the crop as bytes (H, W, 3) and as the network's input (1, 3, H, W).
    """
    geometry = preprocessing.geometry
    top, left = geometry.centre
    crop = square(picture, geometry.side)[top : top + geometry.height, left : left + geometry.width]
    return crop, preprocessing.inputs(torch.from_numpy(crop.copy())[None], top, left)


def evaluate_checkpoint(
    path: Path,
    data: str,
    *,
    crops: Crops = "centre",
    sides: tuple[int, ...] = (),
    device: str = "auto",
    precision: str = "float32",
    batch: int = 64,
    workers: int = 0,
    everything: bool = False,
    say: Callable[[str], None] = lambda _text: None,
    seen: Callable[[int, int], None] = lambda _done, _total: None,
) -> Evaluation:
    """A checkpoint of any kind judged on the validation pictures of some data, with its own preprocessing.

    Classes that the checkpoint only numbers are taken to be the data's in their order.  Data that is not split is split
    as the checkpoint's training did; `everything` takes all its pictures instead.
    `say` is told what was looked at.

    Raises:
        UserError: no such checkpoint, data or device, or data with other classes.
    """
    if batch < 1 or workers < 0:
        raise UserError(f"--batch must be 1 or more and --workers 0 or more, got {batch} and {workers}")
    checkpoint = open_checkpoint(path)
    fraction, seed = checkpoint.config.get("val_fraction"), checkpoint.config.get("seed")  # others' may hold anything
    splits = open_data(
        data,
        val_fraction=fraction if isinstance(fraction, float) and 0 < fraction < 1 else 0.1,
        seed=seed if isinstance(seed, int) and seed >= 0 else 0,
    )
    source: Source = JoinedSource(splits.train, splits.val) if everything else splits.val
    if checkpoint.missing:
        raise UserError(f"no classes can be told: {path} has no weights for {', '.join(checkpoint.missing)}")
    known = tuple(source.classes)
    if len(known) == len(checkpoint.classes) and checkpoint.classes == numbered(len(known)):
        say(
            "The checkpoint numbers its classes and does not name them: they are taken to be the data's, in this order."
        )
    elif known != checkpoint.classes:
        raise DataError(_other_classes(checkpoint.classes, known))
    devices = named_devices(device, checkpoint.network)
    if len(devices) != 1:
        raise UserError(f"--device takes one device here, got {device!r}")
    viewer = Viewer(checkpoint, devices[0], PRECISIONS[precision])
    try:
        found = evaluate(
            viewer.scores,
            source,
            checkpoint.preprocessing,
            device=viewer.device,
            batch=batch,
            workers=workers,
            crops=crops,
            sides=sides,
            seen=lambda done: seen(done, len(source)),
        )
    except ValueError as error:
        raise UserError(str(error)) from None
    for note in checkpoint.notes:
        say(f"checkpoint: {note}")
    which = f"all {len(source):,} pictures" if everything else f"the {len(source):,} kept for validation"
    say(f"{splits.description}  Looked at {which}.")
    for warning in splits.warnings:
        say(f"note: {warning}")
    return found


def _other_classes(known: tuple[str, ...], found: tuple[str, ...]) -> str:
    if len(known) != len(found):
        return f"the checkpoint knows {len(known)} classes and the data has {len(found)}"
    first = next((a, b) for a, b in zip(known, found, strict=True) if a != b)
    return f"the data has other classes than the checkpoint: {first[1]} where it knows {first[0]}"
