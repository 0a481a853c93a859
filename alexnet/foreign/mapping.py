"""Which network some tensors belong to: from their names and shapes alone, by the spec.

A *unit* is a weight with its bias.  Units that are called like stages of a network are those stages; the others are
its convolutions and fully connected layers in their order.  A network fits that, in some width, number of classes and
input size, has every unit's shapes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from math import isqrt
from typing import TYPE_CHECKING, Any

from alexnet.foreign.containers import parted
from alexnet.spec import (
    MAX_SIDE,
    AdaptiveAvgPool,
    Conv,
    Flatten,
    IllegalNetworkError,
    Linear,
    Network,
    Shape,
    Stage,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor

TRAINING_WRAPPERS = frozenset({"module", "_orig_mod"})
"""What DataParallel and torch.compile put into names, at any depth."""
_FULLY_CONNECTED = re.compile(r"fc\d*.*|pre_logits|classifier|head|dense\d*|linear\d*")
_NORMALISATION = re.compile(
    r"(.*[._/])?(running_mean|running_var|running\d|num_batches_tracked|moving_mean|gamma|beta)"
)


@dataclass(frozen=True, slots=True)
class Unit:
    """A weight and its bias, by the names of their tensors, with the weight's shape as in the file.

    `key` is the last part of the layer's name, in small letters; `connects` says that it is fully connected, though its
    weight may be written as a convolution's.
    """

    name: str
    key: str
    weight: str
    bias: str | None
    shape: Shape
    bias_shape: Shape | None
    connects: bool


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One tensor that does not fit: its shape, and the stage's weight or bias whose place it would take, if any."""

    tensor: str
    found: Shape | None
    place: str | None
    expected: Shape | None
    reason: str

    def __str__(self) -> str:
        return f"{self.tensor} {self.reason}"


@dataclass(frozen=True, slots=True)
class Units:
    """What the names say: units in their order, what was removed from their names, and what is part of none."""

    units: tuple[Unit, ...]
    removed: tuple[str, ...]
    strays: tuple[Mismatch, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """How tensors lie in a network: `stage_of` gives each unit's stage, and all is well without `mismatches`.

    `channels_last` says that weights are TensorFlow's: (H, W, in, out) and (in, out).  `sides` are the smallest and
    largest input side with the same weights, where another than the network's own had to be chosen.
    """

    network: Network
    stage_of: Mapping[str, Unit]
    missing: tuple[str, ...]
    mismatches: tuple[Mismatch, ...]
    channels_last: bool = False
    sides: tuple[int, int] | None = None

    @property
    def fits(self) -> bool:
        return not self.mismatches and bool(self.stage_of)


def units_of(shapes: Mapping[str, Shape], *, ordered: bool) -> Units:
    """Tensors by name as units; `ordered` says that the file lists them in the order of computation."""
    found: dict[str, dict[str, str]] = {}
    strays: list[Mismatch] = []
    removed: dict[str, None] = {}
    for name, shape in shapes.items():
        parts = parted(name)
        kept = [part for part in re.split(r"[./]", parts[0]) if part] if parts else []
        removed |= dict.fromkeys(part for part in kept if part in TRAINING_WRAPPERS)
        unit = ".".join(part for part in kept if part not in TRAINING_WRAPPERS)
        normalises = _NORMALISATION.fullmatch(name) or (parts and parts[1] == "weight" and len(shape) == 1)
        if normalises:
            strays.append(
                Mismatch(name, shape, None, None, "belongs to a batch normalisation, which no network here has")
            )
        elif parts is None or not unit:
            strays.append(Mismatch(name, shape, None, None, f"({times(shape)}) is neither a weight nor a bias"))
        elif parts[1] in found.setdefault(unit, {}):
            strays.append(Mismatch(name, shape, None, None, f"is a second {parts[1]} of {unit}"))
        else:
            found[unit][parts[1]] = name
    made = {name: roles for name, roles in found.items() if "weight" in roles}
    for name, roles in found.items():
        if name not in made:
            tensor = roles["bias"]
            norm = any(stray.tensor.rpartition(".")[0] == tensor.rpartition(".")[0] for stray in strays)
            reason = (
                "belongs to a batch normalisation, which no network here has" if norm else "is a bias without weights"
            )
            strays.append(Mismatch(tensor, shapes[tensor], None, None, reason))
    shared = _shared_parts(list(made))
    removed |= dict.fromkeys(shared)
    units = {name: _unit(name, roles, shapes) for name, roles in made.items()}
    order = sorted(units, key=_order_key(units, len(shared), ordered=ordered))
    return Units(tuple(units[name] for name in order), tuple(removed), tuple(strays))


def _unit(name: str, roles: dict[str, str], shapes: Mapping[str, Shape]) -> Unit:
    parts = name.lower().split(".")
    shape, bias = shapes[roles["weight"]], roles.get("bias")
    connects = len(shape) == 2 or any(_FULLY_CONNECTED.fullmatch(part) for part in parts)
    return Unit(name, parts[-1], roles["weight"], bias, shape, None if bias is None else shapes[bias], connects)


def _shared_parts(names: list[str]) -> list[str]:
    """The parts that all names begin with, as "model" in model.conv1 and model.fc6; never a whole name."""
    split = [name.split(".") for name in names]
    shared: list[str] = []
    for column in zip(*(parts[:-1] for parts in split), strict=False):
        if len(set(column)) > 1 or len(split) < 2:
            break
        shared.append(column[0])
    return shared


def _order_key(units: Mapping[str, Unit], shared: int, *, ordered: bool) -> Callable[[str], tuple[Any, ...]]:
    """The order of computation: convolutions, then what connects all to all; within them the file's, or by number."""
    groups: dict[str, int] = {}

    def group(name: str) -> str:
        return name.split(".")[shared]

    for name, unit in units.items():
        rank = (2 if len(unit.shape) == 2 else 1) if unit.connects else 0
        groups[group(name)] = min(groups.get(group(name), rank), rank)
    places = {name: index for index, name in enumerate(units)}

    def key(name: str) -> tuple[Any, ...]:
        natural = tuple((int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", name))
        return (groups[group(name)], places[name] if ordered else 0, natural)

    return key


def fit(found: Units, network: Network, *, channels_last: bool = False, any_side: bool = True) -> Fit:
    """How the units lie in a network, whose classes, hidden width and input side follow from them where they can."""
    stages = [stage for stage in network.stages() if isinstance(stage.layer, Conv | Linear)]
    assigned: dict[str, Unit] = {}
    mismatches = list(found.strays)
    for connects in (False, True):
        mine = [unit for unit in found.units if unit.connects == connects]
        places = [stage.name for stage in stages if isinstance(stage.layer, Linear) == connects]
        named = {unit.key: unit for unit in mine if unit.key in places}
        rest = [unit for unit in mine if named.get(unit.key) is not unit]
        free = [place for place in places if place not in named]
        assigned |= named | dict(zip(free, rest, strict=False))
        mismatches += [
            Mismatch(unit.weight, unit.shape, None, None, f"({times(unit.shape)}) has no place in {network.name}")
            for unit in rest[len(free) :]
        ]
    network, sides = _adapted(network, stages, assigned, channels_last=channels_last, any_side=any_side)
    missing = []
    for stage in network.stages():
        if not isinstance(stage.layer, Conv | Linear):
            continue
        unit = assigned.get(stage.name)
        if unit is None:
            missing.append(stage.name)
        else:
            mismatches += _mismatches(unit, stage, channels_last=channels_last)
    order = {stage.name: assigned[stage.name] for stage in stages if stage.name in assigned}
    return Fit(network, order, tuple(missing), tuple(mismatches), channels_last, sides)


def weight_shape(stage: Stage) -> Shape:
    """(out, in / groups, kernel, kernel) or (out, in)."""
    match stage.layer:
        case Conv() as conv:
            return (conv.out_channels, stage.in_shape[0] // conv.groups, conv.kernel, conv.kernel)
        case Linear() as linear:
            return (linear.out_features, stage.in_shape[0])
    raise TypeError(f"{stage.name} has no weights")


def as_ours(shape: Shape, *, connects: bool, channels_last: bool) -> Shape:
    """A weight's shape as (out, in, kernel, kernel), or (out, in) of what connects all to all."""
    if channels_last:
        shape = (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
    if connects and len(shape) == 4:
        return (shape[0], shape[1] * shape[2] * shape[3])
    return shape


def _mismatches(unit: Unit, stage: Stage, *, channels_last: bool) -> list[Mismatch]:
    expected = weight_shape(stage)
    given = as_ours(unit.shape, connects=unit.connects, channels_last=channels_last)
    wrong = []
    if given != expected:
        place = f"{stage.name}.weight"
        groups = stage.layer.groups if isinstance(stage.layer, Conv) else 1
        why = f" (in {groups} groups)" if groups > 1 and len(given) == 4 and given[1] == groups * expected[1] else ""
        reason = f"is {times(given)} where {place} is {times(expected)}{why}"
        wrong.append(Mismatch(unit.weight, given, place, expected, reason))
    place, length = f"{stage.name}.bias", (expected[0],)
    if unit.bias is None:
        wrong.append(Mismatch(unit.weight, given, place, length, f"comes without a bias where {stage.name} has one"))
    elif unit.bias_shape != length:
        found = times(unit.bias_shape or ())
        wrong.append(
            Mismatch(unit.bias, unit.bias_shape, place, length, f"is {found} where {place} is {times(length)}")
        )
    return wrong


def _adapted(
    network: Network, stages: list[Stage], assigned: Mapping[str, Unit], *, channels_last: bool, any_side: bool
) -> tuple[Network, tuple[int, int] | None]:
    """The network in the width, number of classes and input side that the fully connected units say."""
    linears = [stage for stage in stages if isinstance(stage.layer, Linear)]
    given = [
        as_ours(assigned[stage.name].shape, connects=True, channels_last=channels_last)
        if stage.name in assigned
        else None
        for stage in linears
    ]
    changes = {"hidden": given[0][0] if given[0] else given[1][1] if given[1] else None} if len(given) > 1 else {}
    changes["classes"] = given[-1][0] if given and given[-1] else None
    for name, value in changes.items():
        try:
            network = network.adapted(**{name: value}) if value is not None else network  # type: ignore[arg-type]
        except IllegalNetworkError:
            continue
    sides = None
    if any_side and given and given[0] and given[0][1] != linears[0].in_shape[0]:
        sides = _sides(network, given[0][1])
        if sides is not None:
            network = network.adapted(input_shape=(network.input_shape[0], *(_tidiest(network, *sides),) * 2))
    return network, sides


def _maps_side(network: Network, side: int) -> int:
    """Side of the maps that reach the fully connected layers from a square input; 0 where none do."""
    shape: Shape = (network.input_shape[0], side, side)
    try:
        for _, layer in network.layers:
            if isinstance(layer, Flatten):
                break
            shape = layer.out_shape(shape)
    except ValueError:
        return 0
    return shape[1]


def _sides(network: Network, inputs: int) -> tuple[int, int] | None:
    """The smallest and largest input side that gives the first fully connected layer so many inputs."""
    flatten = next(stage for stage in network.stages() if isinstance(stage.layer, Flatten))
    channels = flatten.in_shape[0]
    side = isqrt(inputs // channels)
    if side * side * channels != inputs or not side:
        return None
    if any(isinstance(layer, AdaptiveAvgPool) for _, layer in network.layers):
        return None
    every = range(MAX_SIDE + 1)
    first = bisect_left(every, side, key=lambda width: _maps_side(network, width))
    last = bisect_left(every, side + 1, key=lambda width: _maps_side(network, width)) - 1
    return (first, last) if first <= last and _maps_side(network, first) == side else None


def _tidiest(network: Network, first: int, last: int) -> int:
    """Of these sides the smallest whose windows leave no pixel over, or the smallest."""
    for side in range(first, last + 1):
        if not replace(network, input_shape=(network.input_shape[0], side, side)).notes():
            return side
    return first


def placed(fitted: Fit, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a fit under the network's own names, in its layout."""
    shapes = {stage.name: stage for stage in fitted.network.stages()}
    flat = next((stage.in_shape for stage in fitted.network.stages() if isinstance(stage.layer, Flatten)), ())
    first = next((name for name, layer in fitted.network.layers if isinstance(layer, Linear)), None)
    weights: dict[str, Tensor] = {}
    for name, unit in fitted.stage_of.items():
        weight = tensors[unit.weight]
        if fitted.channels_last and weight.ndim == 4:
            weight = weight.permute(3, 2, 0, 1)
        elif fitted.channels_last:
            weight = weight.T
            if name == first and len(flat) == 3:  # TensorFlow flattens rows, columns, then maps
                channels, height, width = flat
                weight = weight.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        weights[f"{name}.weight"] = weight.reshape(weight_shape(shapes[name])).contiguous()
        assert unit.bias is not None  # or it would not fit
        weights[f"{name}.bias"] = tensors[unit.bias].contiguous()
    return weights


def best(fits: Iterable[Fit]) -> list[Fit]:
    """The nearest first: fewest mismatches, then most units in place, then fewest stages without weights."""
    return sorted(
        fits, key=lambda one: (len(one.mismatches), -len(one.stage_of), one.sides is not None, len(one.missing))
    )
