"""What every stage of a network makes of one picture: values, their strength, what they see of the picture.

Values are kept on the CPU as float32 without a batch axis: (channels, height, width) for maps, (values,) for vectors.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image

from alexnet.data.imagenet import readable
from alexnet.errors import UserError
from alexnet.inference import looked_at
from alexnet.spec import Linear, Softmax, times
from analysis import receptive
from analysis.formats import Column, Table, write
from analysis.kernels import tower_names
from analysis.sheets import Sheet, labelled, map_tiles, tower_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.data.images import Pixels
    from alexnet.inference import Viewer
    from alexnet.spec import Network, Stage

Strength = Literal["mean", "max"]
MAPS_IN_A_ROW = 16


@dataclass(frozen=True, eq=False)
class Activations:
    """One picture on its way through a network.

    `crop` is what the network was shown, (H, W, 3) bytes, and `input` (3, H, W) float32 the same after preprocessing.
    `values` holds the output of each of `stages`, those that the weights suffice for; `missing` names the stages whose
    weights are not there.  Stages that pass values on (dropout) share their memory with the one before: read, and do
    not write.
    """

    network: Network
    stages: tuple[Stage, ...]
    crop: Pixels
    input: Tensor
    values: Mapping[str, Tensor]
    classes: tuple[str, ...]
    missing: tuple[str, ...] = ()

    def stage(self, name: str) -> Stage:
        """The stage of this name.

        Raises:
            UserError: the network has none, or its values could not be computed.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages) or "none"
        if name in dict(self.network.layers):
            lacks = f"the checkpoint has no weights for {', '.join(self.missing)}"
            raise UserError(f"{name} could not be computed: {lacks}; there are {known}")
        raise UserError(f"{self.network.name} has no stage {name!r}; there are {known}")

    def entering(self, name: str) -> Tensor:
        """The values that reach a stage: the output of the one before, or the input of the first."""
        index = self.stages.index(self.stage(name))
        return self.values[self.stages[index - 1].name] if index else self.input

    @property
    def maps(self) -> tuple[Stage, ...]:
        """The stages that give maps."""
        return tuple(stage for stage in self.stages if len(stage.out_shape) == 3)


def activations(viewer: Viewer, picture: Pixels) -> Activations:
    """Every stage's output for one (h, w, 3) picture of bytes, by one walk in float32.

    Raises:
        UserError: a stage gave values that are no numbers, or the checkpoint's pictures do not fit its network.
    """
    checkpoint = viewer.checkpoint
    crop, inputs = looked_at(checkpoint.preprocessing, picture)
    if inputs.shape[1:] != checkpoint.network.input_shape:
        raise UserError(
            f"the checkpoint makes pictures of {times(tuple(inputs.shape[1:]))}, "
            f"and its network takes {times(checkpoint.network.input_shape)}"
        )
    values = {}
    with torch.no_grad():
        for stage, output in viewer.walk(inputs):
            values[stage.name] = output[0].float().cpu().contiguous()
    for name, tensor in values.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(
                f"{name} gives values that are no numbers (NaN or infinite): "
                "the weights are damaged, or the input is far from what they were trained on"
            )
    return Activations(
        network=checkpoint.network,
        stages=viewer.stages,
        crop=crop,
        input=inputs[0].contiguous(),
        values=values,
        classes=checkpoint.classes,
        missing=checkpoint.missing,
    )


# --- classes ---------------------------------------------------------------------------------------------------------


class ClassProbability(NamedTuple):
    """A class with its `number` among the outputs, from 0."""

    name: str
    probability: float
    number: int


def class_name(classes: tuple[str, ...], index: int) -> str:
    """The name of an output in words; ``class 17`` where nobody named it."""
    return readable(classes[index]) if index < len(classes) else f"class {index}"


def probabilities(found: Activations) -> Tensor | None:
    """(classes,) float32 that sum to 1; None where the network has no classifier or lacks weights for it."""
    if why_no_classes(found):
        return None
    last = found.stages[-1]
    values = found.values[last.name]
    return values if isinstance(last.layer, Softmax) else values.softmax(0)


def top_classes(found: Activations, k: int = 5) -> tuple[ClassProbability, ...]:
    """The `k` most probable classes, or all where there are fewer; none where `why_no_classes` has a reason."""
    chances = probabilities(found)
    if chances is None:
        return ()
    best = chances.topk(min(k, len(chances)))
    return tuple(
        ClassProbability(class_name(found.classes, index), probability, index)
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    )


def why_no_classes(found: Activations) -> str:
    """A sentence where no class can be told, saying what is missing; empty where classes can be told."""
    if found.network.classes is None:
        return f"No classes: {found.network.name} ends in maps, it has no classifier."
    if found.missing:
        return (
            f"No classes: the checkpoint has no weights for {', '.join(found.missing)}. "
            f"Everything up to {found.stages[-1].name if found.stages else 'the first of them'} can be looked at."
        )
    # The last fully connected layer gives the scores; only a softmax may stand behind it.
    if not any(isinstance(stage.layer, Linear) for stage in found.stages[-2:]):
        return f"No classes: {found.network.name} ends in {found.stages[-1].name}, which gives no scores."
    return ""


# --- strength --------------------------------------------------------------------------------------------------------


class Strengths(NamedTuple):
    """How strongly each channel answers, over its positions: (C,) float32 each.  `zeros` is a share of one."""

    mean: NDArray[np.float32]
    max: NDArray[np.float32]
    zeros: NDArray[np.float32]


def strengths(maps: Tensor) -> Strengths:
    """Of (C, H, W) maps, or of (C,) values, each of which is then a map of one position."""
    flat = maps.reshape(len(maps), -1)
    return Strengths(
        flat.mean(1).numpy(),
        flat.amax(1).numpy(),
        (flat == 0).float().mean(1).numpy(),
    )


def by_strength(maps: Tensor, towers: int = 1, by: Strength = "mean") -> tuple[NDArray[np.int64], ...]:
    """Channel numbers of each tower, the strongest first; channels of equal strength keep their order.

    Raises:
        ValueError: the channels do not split into this many towers.
    """
    channels = len(maps)
    if towers < 1 or channels % towers:
        raise ValueError(f"{channels} channels do not split into {towers} towers")
    measure: NDArray[np.float32] = getattr(strengths(maps), by)
    width = channels // towers
    return tuple(
        first + np.argsort(-measure[first : first + width], kind="stable") for first in range(0, channels, width)
    )


class Histogram(NamedTuple):
    """`counts` (bins,) of values from `edges[i]` up to `edges[i + 1]`, the last edge included; `edges` (bins + 1,)."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


def histogram(values: Tensor, bins: int = 50) -> Histogram:
    """How often each size of value occurs, from the smallest to the largest; a constant map fills one bin.

    Where values lie on both sides of 0, 0 is a border of bins, so that what ReLU cuts off can be seen.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0 < high and bins > 1:
        below = min(max(round(bins * -low / (high - low)), 1), bins - 1)
        edges = np.concatenate([np.linspace(low, 0, below + 1), np.linspace(0, high, bins - below + 1)[1:]])
    else:
        edges = np.linspace(low - 0.5, high + 0.5, bins + 1) if low == high else np.linspace(low, high, bins + 1)
    counts, _ = np.histogram(values.numpy().astype(np.float64), edges)
    return Histogram(counts, edges)


# --- what a value sees -----------------------------------------------------------------------------------------------


class Box(NamedTuple):
    """Pixels from `top` and `left` up to, not including, `bottom` and `right`."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left


class Field(NamedTuple):
    """What one output value sees.

    `box` is the part on the crop, empty where nothing of it lies there; `whole` the full extent, which may begin before
    pixel 0 and end beyond the last; `padding` how many rows and columns of it lie above, to the left of, below and to
    the right of the crop.
    """

    box: Box
    whole: Box
    padding: tuple[int, int, int, int]


def field_of(network: Network, stage: str, place: tuple[int, ...]) -> Field:
    """What the value at (row, column) of a stage's maps, or at (index,) of its vector, sees of the crop.

    Raises:
        KeyError: the network has no stage of this name.
        IndexError: the stage has no such place.
    """
    shapes = {one.name: one.out_shape for one in network.stages()}
    shape = shapes[stage]
    sizes = shape[1:] if len(shape) == 3 else shape
    if len(place) != len(sizes) or any(not 0 <= index < size for index, size in zip(place, sizes, strict=False)):
        raise IndexError(f"{stage} gives {times(shape)}; there is no place {place}")
    _, height, width = network.input_shape
    top, bottom = receptive.seen(network, stage, place[0], 0)
    left, right = receptive.seen(network, stage, place[-1], 1)
    whole = Box(top, left, bottom + 1, right + 1)
    box = Box(*(min(max(edge, 0), size) for edge, size in zip(whole, (height, width, height, width), strict=True)))
    beyond = (max(-top, 0), max(-left, 0), max(whole.bottom - height, 0), max(whole.right - width, 0))
    return Field(box, whole, beyond)


# --- to take away ----------------------------------------------------------------------------------------------------


def stage_table(found: Activations) -> Table:
    """Every stage with the spread of its values; a silent map is 0 everywhere on this picture."""
    columns = (
        Column("stage", "stage"),
        Column("kind", "kind"),
        Column("shape", "output"),
        Column("min", "min"),
        Column("mean", "mean"),
        Column("max", "max"),
        Column("zeros", "zeros", percent=True),
        Column("silent_maps", "silent maps"),
    )
    rows = []
    for stage in found.stages:
        values = found.values[stage.name]
        silent = int((strengths(values).zeros == 1).sum()) if values.dim() == 3 else None
        rows.append(
            (
                stage.name,
                stage.layer.kind,
                times(stage.out_shape),
                float(values.min()),
                float(values.mean()),
                float(values.max()),
                float((values == 0).float().mean()),
                silent,
            )
        )
    return Table(f"Activations of {found.network.name}", columns, tuple(rows))


def npy(found: Activations, stage: str) -> bytes:
    """One stage's values as a ``.npy`` file, float32."""
    found.stage(stage)
    return npy_bytes(found.values[stage].numpy())


def npy_bytes(values: NDArray[Any]) -> bytes:
    """An array as a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(found: Activations) -> bytes:
    """All stages' values by name as an ``.npz`` file, with the ``crop`` (H, W, 3) and the ``input`` (3, H, W)."""
    file = io.BytesIO()
    arrays = {name: values.numpy() for name, values in found.values.items()}
    np.savez(file, **({"crop": found.crop, "input": found.input.numpy()} | arrays))  # type: ignore[arg-type]
    return file.getvalue()


def maps_picture(found: Activations, name: str) -> Image.Image:
    """All maps of a stage in one labelled picture, by tower, the strongest first.

    Each map is scaled for itself: dark is its least value and light its greatest; maps with negative values are blue
    below zero and red above.

    Raises:
        UserError: there is no such stage, or it gives no maps.
    """
    stage = found.stage(name)
    if len(stage.out_shape) != 3:
        raise UserError(f"{name} gives a vector of {times(stage.out_shape)}, no maps to draw")
    maps = found.values[name]
    signed = bool((maps < 0).any())
    orders = by_strength(maps, stage.towers)
    names = tower_names(stage.towers, found.network.gpus, "maps")
    sheet = Sheet(tower_groups([order.tolist() for order in orders], names), MAPS_IN_A_ROW, stage.out_shape[1:])
    channels, height, width = stage.out_shape
    colours = "Blue is negative, red positive." if signed else "Dark is the least value of a map, light its greatest."
    return labelled(
        map_tiles(maps.numpy(), "map", "diverging" if signed else "viridis"),
        sheet,
        f"{name} of {found.network.name}: {channels} maps of {height}×{width}",
        f"{colours} Each map is scaled for itself; those with the largest mean come first.",
    )


def write_folder(
    found: Activations, folder: Path, stages: Sequence[str] = (), seen: Callable[[int, int], None] | None = None
) -> None:
    """Writes ``NAME.npy`` of each stage, ``NAME.png`` of those with maps, ``picture.png`` and ``stages.csv``.

    The picture is the crop that the network was shown.  `stages` names those wanted, all unless told; `seen` is told
    how many are done.

    Raises:
        UserError: there is no such stage, or its name is no name for a file.
        OSError: the folder cannot be written.
    """
    chosen = [found.stage(name) for name in dict.fromkeys(stages)] or list(found.stages)
    for stage in chosen:
        # A name comes from the checkpoint, which may come from anybody: it must not lead out of the folder.
        if not re.fullmatch(r"[\w-]{1,100}", stage.name):
            raise UserError(f"the stage {stage.name!r} cannot name a file: letters, digits, - and _ can")
    folder.mkdir(parents=True, exist_ok=True)
    for done, stage in enumerate(chosen, start=1):
        (folder / f"{stage.name}.npy").write_bytes(npy(found, stage.name))
        if len(stage.out_shape) == 3:
            maps_picture(found, stage.name).save(folder / f"{stage.name}.png")
        if seen is not None:
            seen(done, len(chosen))
    Image.fromarray(found.crop).save(folder / "picture.png")
    (folder / "stages.csv").write_text(write(stage_table(found), "csv"), encoding="utf-8")
