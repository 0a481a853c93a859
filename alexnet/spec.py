"""Networks as data: layers, the arithmetic of their shapes, and stages.  Standard library only.

A `Network` is a name, an input shape and a sequence of named layers.  `Network.stages()` works out what
flows between them, and everything else in this project (the torch module, the cost table, the diagram, the
receptive fields, checkpoint keys, the README's table) reads those stages, so ``conv1`` is one word everywhere.

Shapes are for one image: ``(channels, height, width)`` for maps and ``(values,)`` for vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

Shape = tuple[int, ...]
Rounding = Literal["floor", "ceil"]

MAX_SIDE = 1_024
"""Largest height or width, in pixels.  Beyond it the first fully connected layer alone has billions of weights."""
MAX_HIDDEN = 16_384
MAX_CLASSES = 100_000


class IllegalNetworkError(ValueError):
    """A network was asked for a size it cannot take; the message names the value, the rule and the remedy."""


class DoesNotFitError(IllegalNetworkError):
    """An input runs out of rows or columns on its way through the network.

    `stage` is the first that cannot work, `reached` the shape that arrived there and `smallest_side` the
    smallest square input for which every stage works.
    """

    def __init__(self, network: str, given: Shape, stage: str, reached: Shape, reason: str, smallest_side: int) -> None:
        self.network, self.given, self.stage = network, given, stage
        self.reached, self.reason, self.smallest_side = reached, reason, smallest_side
        super().__init__(
            f"{network} cannot take {times(given)}: {stage} received {times(reached)} and {reason}. "
            f"The smallest square input that works is {smallest_side}×{smallest_side}."
        )


def times(shape: Shape) -> str:
    """A shape as people write it: ``3×227×227``."""
    return "×".join(map(str, shape))


def window_positions(size: int, kernel: int, stride: int, padding: int, rounding: Rounding) -> int:
    """N = (W − F + 2P)/S + 1 along one axis, rounded as said; less than 1 where the window has no place."""
    span = size - kernel + 2 * padding
    return (span // stride if rounding == "floor" else -(-span // stride)) + 1


# --- layers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Conv:
    """Convolution with square kernels; `groups` blocks of channels that do not see each other.

    `rounding="ceil"` pads the bottom and right with as many zeros as the last window lacks, as cuda-convnet does.
    `init_std` and `init_bias` are the source's initialisation, a normal distribution and a constant; an `init_std` of
    None says that the source states no such distribution.
    """

    out_channels: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    rounding: Rounding = "floor"
    init_std: float | None = None
    init_bias: float = 0.0
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        if min(self.out_channels, self.kernel, self.stride, self.groups) < 1 or self.padding < 0:
            raise ValueError(f"sizes of a convolution must be positive, got {self}")
        if self.out_channels % self.groups:
            raise ValueError(f"{self.out_channels} output channels do not split into {self.groups} groups")

    def out_shape(self, in_shape: Shape) -> Shape:
        """(C, H, W) -> (out_channels, N_H, N_W).  Raises ValueError where no window fits or groups do not divide."""
        channels, height, width = _maps(in_shape)
        if channels % self.groups:
            raise ValueError(f"{channels} input channels do not split into {self.groups} groups")
        rows = window_positions(height, self.kernel, self.stride, self.padding, self.rounding)
        columns = window_positions(width, self.kernel, self.stride, self.padding, self.rounding)
        if rows < 1 or columns < 1:
            raise ValueError(_no_room(self.kernel, self.padding))
        return (self.out_channels, rows, columns)


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Maximum over square windows; overlapping where stride < kernel (paper, section 3.4)."""

    kernel: int
    stride: int
    rounding: Rounding = "floor"
    kind: ClassVar[str] = "max pool"

    def __post_init__(self) -> None:
        if min(self.kernel, self.stride) < 1:
            raise ValueError(f"sizes of a pooling must be positive, got {self}")

    def positions(self, size: int) -> int:
        """Number of windows along an axis of `size`; less than 1 where none fits."""
        count = window_positions(size, self.kernel, self.stride, 0, self.rounding)
        # Rounding up never adds a window that would start outside (Caffe and torch agree).
        return count - 1 if count > 1 and (count - 1) * self.stride >= size else count

    def out_shape(self, in_shape: Shape) -> Shape:
        """(C, H, W) -> (C, N_H, N_W).  Raises ValueError where no window fits."""
        channels, height, width = _maps(in_shape)
        rows, columns = self.positions(height), self.positions(width)
        if rows < 1 or columns < 1:
            raise ValueError(_no_room(self.kernel, 0))
        return (channels, rows, columns)


@dataclass(frozen=True, slots=True)
class AdaptiveAvgPool:
    """Mean over windows laid so that `side` × `side` come out whatever goes in (torchvision's `avgpool`)."""

    side: int
    kind: ClassVar[str] = "average pool"

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"an average pooling must give at least 1×1, got {self.side}×{self.side}")

    def out_shape(self, in_shape: Shape) -> Shape:
        """(C, H, W) -> (C, side, side)."""
        channels, _, _ = _maps(in_shape)
        return (channels, self.side, self.side)

    def window(self, index: int, size: int) -> tuple[int, int]:
        """First and one-past-last input position of output `index` on an axis of `size` (torch's rule)."""
        return index * size // self.side, -(-(index + 1) * size // self.side)


class _SameShape:
    """A layer that leaves the shape as it is."""

    __slots__ = ()

    def out_shape(self, in_shape: Shape) -> Shape:
        return in_shape


@dataclass(frozen=True, slots=True)
class ReLU(_SameShape):
    """f(a) = max(0, a)  (paper, section 3.1)."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True, slots=True)
class Tanh(_SameShape):
    """f(a) = tanh(a), between −1 and 1: how a neuron was modelled before ReLU (paper, section 3.1)."""

    kind: ClassVar[str] = "tanh"


@dataclass(frozen=True, slots=True)
class LRN:
    """Local response normalisation across channels: b = a / (k + α·Σa²)^β  (paper, section 3.3).

    The sum runs over `size` neighbouring channels, cut off at the first and last channel of each of `groups`
    blocks: with two groups no channel has a neighbour in the other tower.  `average=True` divides α by `size`,
    as the 2012 source, Caffe, cuDNN and torch do; the paper sums.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    average: bool = False
    groups: int = 1
    kind: ClassVar[str] = "lrn"

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(
                f"LRN needs an odd number of neighbouring channels, so that they are centred; got {self.size}"
            )
        if self.groups < 1:
            raise ValueError(f"LRN needs at least 1 group, got {self.groups}")

    def out_shape(self, in_shape: Shape) -> Shape:
        """(C, H, W) -> (C, H, W).  Raises ValueError where the channels do not split into the groups."""
        channels, _, _ = _maps(in_shape)
        if channels % self.groups:
            raise ValueError(f"{channels} channels do not split into {self.groups} groups")
        return in_shape

    @property
    def alpha_per_square(self) -> float:
        """What each square is multiplied by, whichever way the source writes α."""
        return self.alpha / self.size if self.average else self.alpha


@dataclass(frozen=True, slots=True)
class SameMapNorm(_SameShape):
    """Response normalisation within one map: the squares of a `size` × `size` neighbourhood, α divided by size².

    cuda-convnet's layer type ``rnorm``; it is in the released 2012 definition and not in the paper.
    """

    size: int
    alpha: float
    beta: float
    k: float = 1.0
    kind: ClassVar[str] = "same-map norm"

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"same-map normalisation needs an odd neighbourhood, got {self.size}")


@dataclass(frozen=True, slots=True)
class Dropout(_SameShape):
    """While training, each value is set to 0 with this probability and the rest scaled up (paper, section 4.2)."""

    probability: float = 0.5
    kind: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"dropout needs a probability from 0 to 1, got {self.probability}")


@dataclass(frozen=True, slots=True)
class Softmax(_SameShape):
    """Class scores to probabilities.  torch's loss wants the scores, so `build` leaves it to the caller."""

    kind: ClassVar[str] = "softmax"


@dataclass(frozen=True, slots=True)
class Flatten:
    """Maps to one vector, channel by channel."""

    kind: ClassVar[str] = "flatten"

    def out_shape(self, in_shape: Shape) -> Shape:
        """(C, H, W) -> (C·H·W,)."""
        return (prod(in_shape),)


@dataclass(frozen=True, slots=True)
class Linear:
    """Fully connected layer; initialisation as in `Conv`."""

    out_features: int
    init_std: float | None = None
    init_bias: float = 0.0
    kind: ClassVar[str] = "fully connected"

    def __post_init__(self) -> None:
        if self.out_features < 1:
            raise ValueError(f"a fully connected layer needs at least one output, got {self.out_features}")

    def out_shape(self, in_shape: Shape) -> Shape:
        """(values,) -> (out_features,).  Raises ValueError for maps, which must be flattened first."""
        if len(in_shape) != 1:
            raise ValueError(f"cannot connect to the maps {times(in_shape)} before they are flattened")
        return (self.out_features,)


Layer = Conv | MaxPool | AdaptiveAvgPool | ReLU | Tanh | LRN | SameMapNorm | Dropout | Softmax | Flatten | Linear


def _maps(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(f"needs maps (channels, height, width), got a vector of {times(shape)}")
    return shape[0], shape[1], shape[2]


def _no_room(kernel: int, padding: int) -> str:
    padded = f" even with {padding} rows and columns of padding on each side" if padding else ""
    return f"its {kernel}×{kernel} window does not fit there{padded}"


# --- stages and networks ---------------------------------------------------------------------------------------------


class Stage(NamedTuple):
    """One layer in its place.  `towers` is the number of towers (GPUs, in 2012) that its output is spread over."""

    name: str
    layer: Layer
    in_shape: Shape
    out_shape: Shape
    towers: int


@dataclass(frozen=True, slots=True)
class Network:
    """A network as data.

    `towers` is the number of parts that most layers fall into, one for each GPU where the source has that many `gpus`;
    from the stage `merged_at` on, one part holds all.
    `source` says where the definition comes from and `remark` what is worth knowing about it; `side_remarks`
    holds remarks that apply to one input size only.
    """

    name: str
    title: str
    input_shape: Shape
    layers: tuple[tuple[str, Layer], ...]
    source: str
    remark: str
    towers: int = 1
    merged_at: str | None = None
    side_remarks: tuple[tuple[int, str], ...] = ()
    gpus: int = 1

    def stages(self) -> tuple[Stage, ...]:
        """Every layer with the shapes that reach and leave it.

        Raises:
            DoesNotFitError: naming the first stage that cannot work, and the smallest square input that can.
        """
        stages, shape, towers = [], self.input_shape, self.towers
        for name, layer in self.layers:
            if name == self.merged_at:
                towers = 1
            try:
                out_shape = layer.out_shape(shape)
            except ValueError as error:
                raise DoesNotFitError(
                    self.name, self.input_shape, name, shape, str(error), self.smallest_side()
                ) from None
            stages.append(Stage(name, layer, shape, out_shape, towers))
            shape = out_shape
        return tuple(stages)

    def takes(self, height: int, width: int) -> bool:
        """Whether an input of this size passes every stage."""
        shape: Shape = (self.input_shape[0], height, width)
        try:
            for _, layer in self.layers:
                shape = layer.out_shape(shape)
        except ValueError:
            return False
        return True

    def smallest_side(self) -> int:
        """Side in pixels of the smallest square input that every stage can work with."""
        low, high = 0, MAX_SIDE  # no output grows when its input shrinks, so the legal sides are an interval
        if not self.takes(high, high):
            raise ValueError(f"no input up to {high}×{high} passes {self.name}: its layers do not fit together")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.takes(middle, middle) else (middle, high)
        return high

    @property
    def classes(self) -> int | None:
        """Number of classes: the outputs of the last fully connected layer; None where there is none."""
        linears = self._linears()
        return linears[-1].out_features if linears else None

    @property
    def hidden(self) -> int | None:
        """Width of the hidden fully connected layers; None where there is none."""
        linears = self._linears()
        return linears[0].out_features if len(linears) > 1 else None

    def _linears(self) -> list[Linear]:
        return [layer for _, layer in self.layers if isinstance(layer, Linear)]

    def adapted(
        self, *, input_shape: Shape | None = None, classes: int | None = None, hidden: int | None = None
    ) -> Network:
        """The same network for another input size, number of classes or width of the hidden layers.

        Raises:
            IllegalNetworkError: the value is outside what this network can take; the message says which and why.
        """
        network = self
        if input_shape is not None and input_shape != self.input_shape:
            network = replace(network, input_shape=self._checked_input(input_shape))
        if classes is not None:
            _check_range("the number of classes", classes, MAX_CLASSES)
            if self.classes is None:
                raise IllegalNetworkError(f"{self.name} has no classifier to give {classes:,} classes")
        if hidden is not None:
            _check_range("the width of the hidden layers", hidden, MAX_HIDDEN)
            if self.hidden is None:
                raise IllegalNetworkError(f"{self.name} has no hidden fully connected layer to make {hidden:,} wide")
            if self.towers > 1 and hidden % self.towers and self._hidden_is_split():
                raise IllegalNetworkError(
                    f"{hidden:,} hidden neurons do not split over the {self.towers} towers of {self.name}; "
                    f"try {hidden + -hidden % self.towers:,}"
                )
        if classes is not None or hidden is not None:
            network = _with_linears(network, partial(_resized, classes=classes, hidden=hidden))
        network.stages()
        return network

    def _hidden_is_split(self) -> bool:
        for name, layer in self.layers:
            if name == self.merged_at:
                return False
            if isinstance(layer, Linear):
                return True
        return False

    def _checked_input(self, shape: Shape) -> Shape:
        channels = self.input_shape[0]
        if len(shape) != 3:
            raise IllegalNetworkError(
                f"an input has channels, height and width, like {times(self.input_shape)}; got {times(shape)}"
            )
        if shape[0] != channels:
            raise IllegalNetworkError(
                f"{self.name} takes {channels} channels{' (red, green, blue)' * (channels == 3)}, got {shape[0]}: "
                f"write {channels}×{shape[1]}×{shape[2]}"
            )
        if not all(1 <= side <= MAX_SIDE for side in shape[1:]):
            raise IllegalNetworkError(
                f"height and width must be from 1 to {MAX_SIDE:,} pixels, got {shape[1]}×{shape[2]}; "
                f"the smallest square input that {self.name} can take is {self.smallest_side()}×{self.smallest_side()}"
            )
        return shape

    def without(self, kind: type[Layer]) -> Network:
        """The same network with every layer of this kind left out, for comparing with and without."""
        return replace(
            self,
            name=f"{self.name} without {kind.kind.upper()}",
            layers=tuple(pair for pair in self.layers if not isinstance(pair[1], kind)),
        )

    def notes(self) -> tuple[str, ...]:
        """What a reader should know about this input size: windows that do not tile it, pixels that no one sees."""
        notes = [text for side, text in self.side_remarks if side in self.input_shape[1:]]
        for stage in self.stages():
            layer = stage.layer
            if isinstance(layer, Conv | MaxPool):
                padding = layer.padding if isinstance(layer, Conv) else 0
                notes.extend(
                    _fraction_note(stage.name, layer, size, padding, stage.out_shape[1 + axis])
                    for axis, size in enumerate(stage.in_shape[1:])
                    if (size - layer.kernel + 2 * padding) % layer.stride
                )
        return tuple(dict.fromkeys(notes))


def _with_linears(network: Network, change: Callable[[Linear, bool], Linear]) -> Network:
    """The network with every fully connected layer changed; `change` is told whether it is the last."""
    last = max(i for i, (_, layer) in enumerate(network.layers) if isinstance(layer, Linear))
    return replace(
        network,
        layers=tuple(
            (name, change(layer, i == last) if isinstance(layer, Linear) else layer)
            for i, (name, layer) in enumerate(network.layers)
        ),
    )


def _resized(layer: Linear, is_last: bool, *, classes: int | None, hidden: int | None) -> Linear:
    width = classes if is_last else hidden
    return layer if width is None else replace(layer, out_features=width)


def _check_range(what: str, value: int, largest: int) -> None:
    if not 1 <= value <= largest:
        raise IllegalNetworkError(f"{what} must be from 1 to {largest:,}, got {value:,}")


def _fraction_note(name: str, layer: Conv | MaxPool, size: int, padding: int, positions: int) -> str:
    span = size - layer.kernel + 2 * padding
    padded = f" + 2·{padding}" if padding else ""
    exact = f"{name}: ({size} − {layer.kernel}{padded})/{layer.stride} + 1 = {span / layer.stride + 1:g}"
    if (positions - 1) * layer.stride < span:
        missed = span - (positions - 1) * layer.stride
        lost = max(missed - padding, 0)
        unseen = (
            f"; {lost} row{'s' * (lost != 1)} or column{'s' * (lost != 1)} at the far edge never seen" if lost else ""
        )
        return f"{exact}, rounded down to {positions}{unseen}"
    return f"{exact}, rounded up to {positions}; the last window reaches past the edge"
