"""Which part of a picture a value inside a network answers to: gradients, guided backpropagation, occlusion, Grad-CAM.

The network is walked stage by stage with a ReLU of our own where a method needs one; no hook is set and nothing in the
model is changed, so that any number of threads may ask about one viewer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from alexnet.errors import UserError
from alexnet.spec import Conv, Linear, ReLU, Softmax, Tanh, times
from analysis.activations import class_name, probabilities, strengths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.data.images import Pixels
    from alexnet.inference import Viewer
    from alexnet.spec import Stage
    from analysis.activations import Activations


@dataclass(frozen=True, slots=True)
class Target:
    """The value that is to be explained.

    A `channel` alone means that map's mean over all positions; with `row` and `column` one value of it; in a vector
    `channel` is the value's number.  Without a channel the strongest is meant: the map with the largest mean, or the
    largest value of a vector.
    """

    stage: str
    channel: int | None = None
    row: int | None = None
    column: int | None = None


@dataclass(frozen=True, eq=False)
class Attribution:
    """What one method found for one target.

    `values` is (3, H, W) in red, green and blue or (H, W), float32, over the crop; `meaning` states their sign and
    unit.  `value` is the target's on the untouched picture.  `coarse` is what `values` was enlarged from.
    """

    method: str
    target: Target
    value: float
    values: NDArray[np.float32]
    meaning: str
    coarse: NDArray[np.float32] | None = None

    @property
    def heat(self) -> NDArray[np.float32]:
        """(H, W): the values themselves, or the largest size over the colours (Simonyan et al. 2014, section 3.1)."""
        return self.values if self.values.ndim == 2 else np.abs(self.values).max(0)


# --- targets ---------------------------------------------------------------------------------------------------------


def default_target(found: Activations) -> Target:
    """The score of the most probable class, or the strongest of the last maps where no class can be told.

    Raises:
        UserError: the checkpoint's weights do not suffice for any maps.
    """
    if (chances := probabilities(found)) is not None:
        return class_target(found, int(chances.argmax()))
    if not found.maps:
        raise UserError("there is nothing to explain: not one stage could be computed")
    return resolved(found, Target(found.maps[-1].name))


def class_target(found: Activations, number: int) -> Target:
    """The score of a class before softmax, whose gradient does not vanish where the network is sure.

    Raises:
        UserError: the network gives no scores, or has no such class.
    """
    scores = [stage for stage in found.stages if isinstance(stage.layer, Linear)]
    if probabilities(found) is None:
        raise UserError("there are no class scores to explain: choose a map or a single value instead")
    return resolved(found, Target(scores[-1].name, number))


def strongest_unit(found: Activations, stage: str, channel: int | None = None) -> Target:
    """The largest single value of a stage, or of one of its maps.

    Raises:
        UserError: there is no such stage or map.
    """
    target = resolved(found, Target(stage, channel))
    values = found.values[stage]
    if values.dim() == 1:
        return target
    if channel is None:
        channel = int(values.flatten(1).amax(1).argmax())
    row, column = divmod(int(values[channel].argmax()), values.shape[2])
    return Target(stage, channel, row, column)


def resolved(found: Activations, target: Target) -> Target:
    """The same target with its channel named, checked against the stage's shape.

    Raises:
        UserError: there is no such stage, channel or place; the message says what there is.
    """
    shape = found.stage(target.stage).out_shape
    if (target.row is None) != (target.column is None):
        raise UserError("a single value needs both its row and its column")
    if target.row is not None and (target.channel is None or len(shape) == 1):
        raise UserError(f"{target.stage} gives {times(shape)}: a row and a column need a map to lie in")
    asked = [(target.channel, shape[0], "channel"), (target.row, shape[-2:][0], "row")]
    asked += [(target.column, shape[-1], "column")]
    for number, size, what in asked:
        if number is not None and not 0 <= number < size:
            raise UserError(
                f"{target.stage} gives {times(shape)}: its {what}s are numbered 0 to {size - 1}, got {number}"
            )
    if target.channel is None:
        return replace(target, channel=int(strengths(found.values[target.stage]).mean.argmax()))
    return target


def describe(found: Activations, target: Target) -> str:
    """The target in words: ``the score of tench``, ``the mean of map 17 of conv5``."""
    target = resolved(found, target)
    stage = found.stage(target.stage)
    assert target.channel is not None
    if len(stage.out_shape) == 1:
        if _is_classifier(found, stage):
            what = "probability" if isinstance(stage.layer, Softmax) else "score"
            return f"the {what} of {class_name(found.classes, target.channel)}"
        return f"value {target.channel} of {stage.name}"
    if target.row is None:
        return f"the mean of map {target.channel} of {stage.name}"
    return f"map {target.channel} of {stage.name} at row {target.row}, column {target.column}"


def _is_classifier(found: Activations, stage: Stage) -> bool:
    last = [name for name, layer in found.network.layers if isinstance(layer, Linear)][-1:]
    return isinstance(stage.layer, Softmax) or [stage.name] == last


def target_value(target: Target, outputs: Tensor) -> Tensor:
    """(N, …) outputs of the target's stage -> (N,) values of the target, whose channel is named."""
    channel: Tensor = outputs[:, target.channel]
    if target.row is not None and target.column is not None:
        return channel.select(1, target.row).select(1, target.column)
    return channel.flatten(1).mean(1) if outputs.dim() > 2 else channel


# --- walking ---------------------------------------------------------------------------------------------------------


class _GuidedReLU(torch.autograd.Function):
    """ReLU that lets back only what is positive both forward and backward (Springenberg et al. 2015, figure 1)."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        passed: Tensor = gradients[0].clamp(min=0) * (values > 0)
        return passed


def _guided(values: Tensor) -> Tensor:
    result: Tensor = _GuidedReLU.apply(values)
    return result


def _between(
    viewer: Viewer,
    values: Tensor,
    *,
    behind: str | None,
    upto: str,
    relu: Callable[[Tensor], Tensor] = functional.relu,
) -> Tensor:
    """The output of stage `upto` from the values behind stage `behind`, or from the network's input."""
    names = [stage.name for stage in viewer.stages]
    first = names.index(behind) + 1 if behind is not None else 0
    for stage in viewer.stages[first : names.index(upto) + 1]:
        values = relu(values) if isinstance(stage.layer, ReLU) else viewer.through(stage, values)
    return values


def _on_device(viewer: Viewer, values: Tensor) -> Tensor:
    """A copy of one picture's values with a batch axis, in the memory order that the viewer's weights have."""
    batch = values[None].to(viewer.device, copy=True)
    return batch.contiguous(memory_format=torch.channels_last) if batch.dim() == 4 else batch


# --- methods ---------------------------------------------------------------------------------------------------------


def gradient(viewer: Viewer, found: Activations, target: Target) -> Attribution:
    """How much the target changes for each pixel value, to first order (Simonyan et al. 2014).

    (3, H, W), signed, in units of the target per level of 0…255.

    Raises:
        UserError: there is no such target.
    """
    return _by_gradient(viewer, found, target, functional.relu, "gradient", "the target's change per level of 0…255")


def guided_backpropagation(viewer: Viewer, found: Activations, target: Target) -> Attribution:
    """The gradient with every ReLU letting back only what is positive (Springenberg et al. 2015).

    (3, H, W), signed, in units of the target per level of 0…255, of the network in which nothing inhibits: it shows
    what excites the target sharply, and is no derivative of it.  Tanh lets everything back, scaled by its slope: a
    network without any ReLU gives the plain gradient.

    Raises:
        UserError: there is no such target.
    """
    meaning = "the target's change per level of 0…255 if nothing behind a ReLU could inhibit it"
    return _by_gradient(viewer, found, target, _guided, "guided backpropagation", meaning)


def _by_gradient(
    viewer: Viewer,
    found: Activations,
    target: Target,
    relu: Callable[[Tensor], Tensor],
    method: str,
    meaning: str,
) -> Attribution:
    target = resolved(found, target)
    inputs = _on_device(viewer, found.input).requires_grad_()
    with torch.enable_grad():
        value = target_value(target, _between(viewer, inputs, behind=None, upto=target.stage, relu=relu))
        (slopes,) = torch.autograd.grad(value.sum(), inputs)
    # The input is divided by `divisor`: one level of a pixel is 1/divisor of it.
    per_level = slopes[0].cpu() / viewer.checkpoint.preprocessing.divisor.cpu()
    return Attribution(method, target, float(value.detach()), per_level.float().contiguous().numpy(), meaning)


def cam_stage(found: Activations, target: Target) -> str:
    """Where Grad-CAM looks unless told: the last convolution's maps, after ReLU or tanh, that weights lead from.

    For a class that is relu5, as in Selvaraju et al. 2017; for a map of conv5 to pool5 it is relu4.

    Raises:
        UserError: the target has no maps below it but the picture itself.
    """
    names = [stage.name for stage in found.stages]
    below = found.stages[: names.index(found.stage(target.stage).name) + 1]
    weighted = [index for index, stage in enumerate(below) if isinstance(stage.layer, Conv | Linear)]
    maps = [stage for stage in below[: weighted[-1] if weighted else 0] if len(stage.out_shape) == 3]
    if not maps:
        raise UserError(f"Grad-CAM weighs the maps below its target, and {target.stage} has only the picture below it")
    active = [stage for stage in maps if isinstance(stage.layer, Conv | ReLU | Tanh)]
    return (active or maps)[-1].name


def grad_cam(viewer: Viewer, found: Activations, target: Target, stage: str | None = None) -> Attribution:
    """Where the maps lie that speak for the target: max(0, Σ α_c·A_c) (Selvaraju et al. 2017).

    A_c are the maps of `stage` and α_c the mean over positions of the target's slope at them.  `coarse` is (h, w) of
    that stage, `values` (H, W) the same enlarged bilinearly to the crop; never negative, in units of the target per
    position.

    Raises:
        UserError: there is no such target or stage, or the stage gives no maps or lies behind the target.
    """
    target = resolved(found, target)
    stage = cam_stage(found, target) if stage is None else stage
    names = [one.name for one in found.stages]
    if len(found.stage(stage).out_shape) != 3:
        raise UserError(f"Grad-CAM needs maps, and {stage} gives a vector of {times(found.stage(stage).out_shape)}")
    if names.index(stage) > names.index(target.stage):
        raise UserError(f"Grad-CAM looks at maps that lead to its target: {stage} lies behind {target.stage}")
    maps = _on_device(viewer, found.values[stage]).requires_grad_()
    with torch.enable_grad():
        value = target_value(target, _between(viewer, maps, behind=stage, upto=target.stage))
        (slopes,) = torch.autograd.grad(value.sum(), maps)
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    coarse = (weights * maps.detach()).sum(1, keepdim=True).clamp(min=0)
    heat = functional.interpolate(coarse, size=found.crop.shape[:2], mode="bilinear", align_corners=False)
    return Attribution(
        "Grad-CAM",
        target,
        float(value.detach()),
        heat[0, 0].cpu().numpy(),
        f"the maps of {stage} weighted by the target's mean slope at each, negative sums left out",
        coarse[0, 0].cpu().numpy(),
    )


class OcclusionStep(NamedTuple):
    """`done` of `total` positions were covered; `attribution` holds what is known so far, and 0 elsewhere."""

    done: int
    total: int
    attribution: Attribution


def occlusion(
    viewer: Viewer,
    found: Activations,
    target: Target,
    *,
    window: int | None = None,
    stride: int | None = None,
    batch: int = 32,
) -> Iterator[OcclusionStep]:
    """How much the target falls where a square of the picture is covered (Zeiler and Fergus 2014, section 4.2).

    The square is `window` pixels wide (a seventh of the crop unless told) and moves by `stride` (half of that); the
    last row and column of squares end at the crop's edge.  It is filled with the mean that preprocessing subtracts, so
    with 0 of the network's input.  `coarse` is (rows, columns) of squares, `values` (H, W) the mean over all squares
    that cover a pixel; positive where covering lowers the target, in its units.  A step is yielded for every `batch`.

    Raises:
        UserError: there is no such target, or window and stride do not fit the crop.
    """
    target = resolved(found, target)
    height, width = found.crop.shape[:2]
    window = max(min(height, width) // 7, 1) if window is None else window
    stride = max(window // 2, 1) if stride is None else stride
    if not 1 <= window <= min(height, width):
        raise UserError(f"the square must be 1 to {min(height, width)} pixels wide to lie on the crop, got {window}")
    if not 1 <= stride <= window:
        raise UserError(f"squares of {window} pixels move by 1 to {window}, so that none is left out; got {stride}")
    return _occluded(viewer, found, target, window, stride, max(batch, 1))


def _occluded(
    viewer: Viewer, found: Activations, target: Target, window: int, stride: int, batch: int
) -> Iterator[OcclusionStep]:
    height, width = found.crop.shape[:2]
    tops, lefts = _starts(height, window, stride), _starts(width, window, stride)
    places = [(row, column) for row in range(len(tops)) for column in range(len(lefts))]
    value = float(target_value(target, found.values[target.stage][None]))
    drops = np.zeros((len(tops), len(lefts)), np.float32)
    total, covers = np.zeros((height, width)), np.zeros((height, width))
    inputs = _on_device(viewer, found.input)
    for start in range(0, len(places), batch):
        some = places[start : start + batch]
        covered = inputs.repeat(len(some), 1, 1, 1).contiguous(memory_format=torch.channels_last)
        for image, (row, column) in zip(covered, some, strict=True):
            image[:, tops[row] : tops[row] + window, lefts[column] : lefts[column] + window] = 0
        with torch.no_grad():
            left = target_value(target, _between(viewer, covered, behind=None, upto=target.stage))
        for (row, column), remains in zip(some, left.tolist(), strict=True):
            drops[row, column] = value - remains
            square = (slice(tops[row], tops[row] + window), slice(lefts[column], lefts[column] + window))
            total[square] += value - remains
            covers[square] += 1
        attribution = Attribution(
            "occlusion",
            target,
            value,
            (total / np.maximum(covers, 1)).astype(np.float32),
            f"how far the target falls when a square of {window} pixels around here is covered",
            drops.copy(),
        )
        yield OcclusionStep(start + len(some), len(places), attribution)


def _starts(size: int, window: int, stride: int) -> list[int]:
    """First pixels of windows along an axis; the last ends at its end."""
    last = size - window
    return [*range(0, last, stride), last]


# --- pictures --------------------------------------------------------------------------------------------------------

FOR, AGAINST = (255, 94, 0), (0, 110, 255)
"""Orange where a place speaks for the target, blue where it speaks against it."""


def overlay(crop: Pixels, heat: NDArray[np.float32], strength: float = 0.75) -> Pixels:
    """(H, W, 3) bytes: the crop in grey under (H, W) heat, orange where it is positive and blue where negative.

    The largest size covers the picture with `strength`, 0 leaves it as it is; heat that is 0 everywhere shows as none.

    Raises:
        ValueError: the heat is not as large as the crop.
    """
    if heat.shape != crop.shape[:2]:
        raise ValueError(f"heat of {times(heat.shape)} does not lie on a crop of {times(crop.shape[:2])}")
    grey = (crop @ np.array([0.299, 0.587, 0.114]))[..., None]
    size = float(np.abs(heat).max()) or 1.0
    opacity = strength * np.abs(heat)[..., None] / size
    colour = np.where(heat[..., None] >= 0, FOR, AGAINST)
    painted: Pixels = np.round(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    return painted


def signed_picture(values: NDArray[np.float32]) -> Pixels:
    """(3, H, W) or (H, W) signed values as (H, W, 3) bytes: 0 is middle grey, the largest size is 0 or 255."""
    coloured = values.transpose(1, 2, 0) if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)
    size = float(np.abs(coloured).max()) or 1.0
    picture: Pixels = np.round(127.5 + 127.5 * coloured / size).astype(np.uint8)
    return picture
