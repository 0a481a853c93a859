"""How one output value comes about, with the real numbers: every product, square and exponential, and their sum.

Computed here in float64 from the stored activations and weights, beside the float32 value that the network gave.
`lines()` are plain text, ``left side = right side``; the left sides are true arithmetic on rounded numbers (a test
evaluates them): ``·`` multiplies, ``^`` is a power.  Where there are too many terms the largest are written out and the
others are one number, their sum.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alexnet.errors import UserError
from alexnet.spec import (
    LRN,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    ReLU,
    SameMapNorm,
    Softmax,
    Tanh,
    times,
)
from analysis.activations import class_name, probabilities, why_no_classes
from analysis.formats import Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.checkpoints import Checkpoint
    from alexnet.spec import Layer
    from analysis.activations import Activations
    from analysis.formats import Value

Numbers = NDArray[np.float64]
WRITTEN_OUT = 9
"""As many terms are written out, a whole 3×3 window; of longer sums the `LARGEST`."""
LARGEST = 5


@dataclass(frozen=True, eq=False)
class Working(ABC):
    """How one value came about.

    `place` is (channel, row, column) in maps and (index,) in a vector, `value` the result in float64 and
    `network_value` what the network computed in float32.
    """

    stage: str
    place: tuple[int, ...]
    value: float
    network_value: float

    @property
    @abstractmethod
    def sentence(self) -> str:
        """What is computed from what, in words."""

    @abstractmethod
    def lines(self) -> list[str]:
        """The arithmetic with the numbers put in."""

    @abstractmethod
    def table(self) -> Table:
        """Every term, unrounded."""

    @property
    def title(self) -> str:
        return f"{self.stage}, {_where(self.place)}"


def _where(place: tuple[int, ...]) -> str:
    if len(place) == 1:
        return f"value {place[0]}"
    return f"channel {place[0]}, row {place[1]}, column {place[2]}"


# --- numbers as text -------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Six digits, with a minus sign that is as wide as a plus."""
    return f"{value:.6g}".replace("-", "−")


def _factor(value: float) -> str:
    """A number that may follow ``·``, ``^`` or ``/``."""
    return f"({number(value)})" if value < 0 else number(value)


def _sum(*terms: str) -> str:
    """Terms joined by ``+``, or by ``−`` where one begins with it."""
    first, *others = terms
    return first + "".join(f" − {term[1:]}" if term.startswith("−") else f" + {term}" for term in others)


def _products(left: Numbers, right: Numbers) -> str:
    """a·b + c·d + …: all, or the largest and the sum of the others."""
    products = (left * right).ravel()
    chosen = _largest(products)
    pairs = zip(left.ravel()[chosen].tolist(), right.ravel()[chosen].tolist(), strict=True)
    return _sum(*(f"{number(a)}·{_factor(b)}" for a, b in pairs), *_rest(products, chosen))


def _numbers(values: Numbers) -> str:
    """a + b + …: all, or the largest and the sum of the others."""
    chosen = _largest(values)
    return _sum(*map(number, values[chosen].tolist()), *_rest(values, chosen))


def _largest(values: Numbers) -> NDArray[np.int64]:
    """Which to write out: all in order, or of many the largest in size, the largest first."""
    if values.size <= WRITTEN_OUT:
        return np.arange(values.size)
    return np.argsort(-np.abs(values), kind="stable")[:LARGEST]


def _rest(values: Numbers, chosen: NDArray[np.int64]) -> list[str]:
    """The sum of those that are not written out, where there are any."""
    return [number(float(np.delete(values, chosen).sum()))] if len(chosen) < values.size else []


def _columns(*keys: str) -> tuple[Column, ...]:
    return tuple(Column(key, key.replace("_", " ")) for key in keys)


# --- sums of products ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ConvolutionSum(Working):
    """Σ input·weight over a window of every channel that the group sees, and the bias.

    `window`, `kernel` and `products` are (channels, F, F); `inside` (F, F) is False in the padding, where the input
    counts as 0.  The window begins at row `top` and column `left` of the input (negative: in the padding) and its
    channels at `first_channel`; `partial_sums` (channels,) are its products' sums.
    """

    window: Numbers
    kernel: Numbers
    inside: NDArray[np.bool_]
    top: int
    left: int
    first_channel: int
    bias: float

    @property
    def products(self) -> Numbers:
        return self.window * self.kernel

    @property
    def partial_sums(self) -> Numbers:
        sums: Numbers = self.products.sum(axis=(1, 2))
        return sums

    @property
    def sentence(self) -> str:
        channels, side, _ = self.window.shape
        outside = int((~self.inside).sum())
        padding = f", {outside} of {side**2} places in the padding" if outside else ""
        return (
            f"{times((channels, side, side))} inputs, each times its weight, and a bias: channels {self.first_channel} "
            f"to {self.first_channel + channels - 1}, rows {self.top} to {self.top + side - 1}, columns {self.left} to "
            f"{self.left + side - 1}{padding}."
        ).replace("-", "−")

    @property
    def strongest_channel(self) -> int:
        """The channel of the window, from 0, whose products add up to most in size."""
        return int(np.abs(self.partial_sums).argmax())

    def lines(self) -> list[str]:
        """The products of the strongest channel, the channels' partial sums, and the bias."""
        strongest, partial = self.strongest_channel, self.partial_sums
        total = float(partial.sum())
        lines = [f"{_products(self.window[strongest], self.kernel[strongest])} = {number(partial[strongest])}"]
        if len(partial) > 1:
            lines.append(f"{_numbers(partial)} = {number(total)}")
        return [*lines, f"{_sum(number(total), number(self.bias))} = {number(self.value)}"]

    def table(self) -> Table:
        """One row for each weight, and the bias as the last."""
        rows: list[tuple[Value, ...]] = []
        for (channel, row, column), weight in np.ndenumerate(self.kernel):
            entering = float(self.window[channel, row, column])
            place = (self.first_channel + channel, self.top + row, self.left + column)
            where = "input" if self.inside[row, column] else "padding"
            rows.append((where, *place, entering, float(weight), entering * float(weight)))
        rows.append(("bias", None, None, None, None, self.bias, self.bias))
        columns = _columns("what", "channel", "row", "column", "input", "weight", "product")
        return Table(self.title, columns, tuple(rows), ("sum", None, None, None, None, None, self.value))


@dataclass(frozen=True, eq=False)
class ConnectedSum(Working):
    """Σ input·weight over all values that enter, and the bias; `inputs` and `weights` are (values,)."""

    inputs: Numbers
    weights: Numbers
    bias: float

    @property
    def products(self) -> Numbers:
        return self.inputs * self.weights

    def largest(self, count: int = LARGEST) -> NDArray[np.int64]:
        """Which inputs contribute most, for or against, the largest first."""
        return np.argsort(-np.abs(self.products), kind="stable")[:count]

    @property
    def sentence(self) -> str:
        silent = int((self.inputs == 0).sum())
        return f"{len(self.inputs):,} inputs, {silent:,} of them 0, each times its weight, and a bias."

    def lines(self) -> list[str]:
        total = float(self.products.sum())
        return [
            f"{_products(self.inputs, self.weights)} = {number(total)}",
            f"{_sum(number(total), number(self.bias))} = {number(self.value)}",
        ]

    def table(self) -> Table:
        """One row for each weight, the largest contribution first, and the bias as the last."""
        triples = np.stack([self.inputs, self.weights, self.products], axis=1)
        order = self.largest(len(self.inputs)).tolist()
        rows: list[tuple[Value, ...]] = [("input", index, *triples[index].tolist()) for index in order]
        rows.append(("bias", None, None, self.bias, self.bias))
        columns = _columns("what", "number", "input", "weight", "product")
        return Table(self.title, columns, tuple(rows), ("sum", None, None, None, self.value))


# --- pooling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pooled(Working):
    """`window` (rows, columns) begins at row `top` and column `left` of the map; it is cut off at the map's edge."""

    window: Numbers
    top: int
    left: int

    def _extent(self) -> str:
        rows, columns = self.window.shape
        return f"rows {self.top} to {self.top + rows - 1}, columns {self.left} to {self.left + columns - 1}"

    def _rows(self) -> list[tuple[Value, ...]]:
        return [
            (self.top + row, self.left + column, float(value)) for (row, column), value in np.ndenumerate(self.window)
        ]


@dataclass(frozen=True, eq=False)
class LargestOf(_Pooled):
    """The largest value of a window; `cut_off` rows and columns of it lie beyond the map (sizes rounded up)."""

    cut_off: tuple[int, int]

    @property
    def winner(self) -> tuple[int, int]:
        """Row and column of the map where the largest value stands, the first of equals."""
        row, column = divmod(int(self.window.argmax()), self.window.shape[1])
        return self.top + row, self.left + column

    @property
    def equals(self) -> int:
        """How many places hold the largest value."""
        return int((self.window == self.window.max()).sum())

    @property
    def sentence(self) -> str:
        row, column = self.winner
        tie = f", the first of {self.equals} that are equal" if self.equals > 1 else ""
        rows, columns = self.cut_off
        beyond = f"; {rows} of its rows and {columns} of its columns lie beyond the map" if rows or columns else ""
        return f"The largest of {self._extent()}: it stands at row {row}, column {column}{tie}{beyond}."

    def lines(self) -> list[str]:
        return [f"max({', '.join(map(number, self.window.ravel().tolist()))}) = {number(self.value)}"]

    def table(self) -> Table:
        rows = tuple((*row, "largest" if row[:2] == self.winner else "") for row in self._rows())
        return Table(self.title, _columns("row", "column", "input", "wins"), rows)


@dataclass(frozen=True, eq=False)
class MeanOf(_Pooled):
    """The mean of a window."""

    @property
    def sentence(self) -> str:
        return f"The mean of {self._extent()}."

    def lines(self) -> list[str]:
        total = float(self.window.sum())
        return [
            f"{_numbers(self.window.ravel())} = {number(total)}",
            f"{number(total)}/{self.window.size} = {number(self.value)}",
        ]

    def table(self) -> Table:
        return Table(self.title, _columns("row", "column", "input"), tuple(self._rows()), ("mean", None, self.value))


# --- response normalisation ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Normalised(Working):
    """a / (k + α·Σa²)^β over neighbours.

    `neighbours` are the channels of LRN, or (row, column) of the same map; `values` are theirs and `own` is a.  `alpha`
    is what each square is multiplied by, whichever way the source writes it.
    """

    neighbours: tuple[tuple[int, ...], ...]
    values: Numbers
    own: float
    k: float
    alpha: float
    beta: float

    @property
    def squares(self) -> Numbers:
        return self.values**2

    @property
    def total(self) -> float:
        """Σa²."""
        return float(self.squares.sum())

    @property
    def scale(self) -> float:
        """k + α·Σa²."""
        return self.k + self.alpha * self.total

    @property
    def divisor(self) -> float:
        """(k + α·Σa²)^β."""
        return math.pow(self.scale, self.beta)

    @property
    def sentence(self) -> str:
        across = len(self.neighbours[0]) == 1
        if across:
            where = f"channels {self.neighbours[0][0]} to {self.neighbours[-1][0]} at this place"
        else:
            (top, left), (bottom, right) = self.neighbours[0], self.neighbours[-1]
            where = f"rows {top} to {bottom}, columns {left} to {right} of this map"
        return (
            f"The value divided by a power of k and the weighted squares of {len(self.values)} values, its own among "
            f"them: {where}."
        )

    def lines(self) -> list[str]:
        squares = self.squares
        chosen = _largest(squares)
        terms = [f"{_factor(value)}^2" for value in self.values[chosen].tolist()]
        total, scale, divisor = self.total, self.scale, self.divisor
        return [
            f"{_sum(*terms, *_rest(squares, chosen))} = {number(total)}",
            f"{number(self.k)} + {number(self.alpha)}·{number(total)} = {number(scale)}",
            f"{number(scale)}^{number(self.beta)} = {number(divisor)}",
            f"{number(self.own)}/{number(divisor)} = {number(self.value)}",
        ]

    def table(self) -> Table:
        names = ("channel",) if len(self.neighbours[0]) == 1 else ("row", "column")
        rows = tuple(
            (*place, value, square)
            for place, value, square in zip(self.neighbours, self.values.tolist(), self.squares.tolist(), strict=True)
        )
        totals: tuple[Value, ...] = ("sum", *[None] * len(names), self.total)
        return Table(self.title, _columns(*names, "input", "square"), rows, totals)


# --- one value to one value ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Rectified(Working):
    """max(0, a)."""

    entering: float

    @property
    def sentence(self) -> str:
        return "What is negative becomes 0." if self.entering < 0 else "What is not negative stays as it is."

    def lines(self) -> list[str]:
        return [f"max(0, {number(self.entering)}) = {number(self.value)}"]

    def table(self) -> Table:
        return Table(self.title, _columns("input", "output"), ((self.entering, self.value),))


@dataclass(frozen=True, eq=False)
class Squashed(Working):
    """tanh(a); `slope` is its derivative there, 1 − tanh²(a), which is what learning has left to work with."""

    entering: float

    @property
    def slope(self) -> float:
        return 1 - self.value**2

    @property
    def sentence(self) -> str:
        return f"What enters is squashed between −1 and 1; the slope there is {number(self.slope)}, and 1 at 0."

    def lines(self) -> list[str]:
        return [f"tanh({number(self.entering)}) = {number(self.value)}"]

    def table(self) -> Table:
        return Table(self.title, _columns("input", "output", "slope"), ((self.entering, self.value, self.slope),))


@dataclass(frozen=True, eq=False)
class PassedOn(Working):
    """A value that only changes its place (flatten) or nothing at all (dropout, when nobody trains)."""

    source: tuple[int, ...]
    counted: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        if self.source == self.place:
            return "The value stays as it is: dropout works only while training."
        return f"The value of {_where(self.source)}, unchanged: maps are laid end to end, row by row."

    def lines(self) -> list[str]:
        return list(self.counted)

    def table(self) -> Table:
        rows = ((_where(self.source), _where(self.place), self.value),)
        return Table(self.title, _columns("from", "to", "value"), rows)


# --- classes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class SoftmaxShare(Working):
    """e^s of one class among all: the largest score is taken off first, so that nothing overflows.

    `scores` (classes,) are what enters, `names` the classes'.
    """

    scores: Numbers
    names: tuple[str, ...]

    @property
    def largest(self) -> float:
        return float(self.scores.max())

    @property
    def exponentials(self) -> Numbers:
        """e^(s − largest), each at most 1."""
        result: Numbers = np.exp(self.scores - self.largest)
        return result

    @property
    def total(self) -> float:
        return float(self.exponentials.sum())

    @property
    def sentence(self) -> str:
        return f"The share of {self.names[self.place[0]]} in the exponentials of all {len(self.scores):,} scores."

    def _share(self) -> list[str]:
        score, largest = float(self.scores[self.place[0]]), self.largest
        difference, power = score - largest, float(self.exponentials[self.place[0]])
        return [
            f"{number(score)} − {_factor(largest)} = {number(difference)}",
            f"exp({number(difference)}) = {number(power)}",
            f"{_numbers(self.exponentials)} = {number(self.total)}",
        ]

    def lines(self) -> list[str]:
        power = float(self.exponentials[self.place[0]])
        return [*self._share(), f"{number(power)}/{number(self.total)} = {number(self.value)}"]

    def table(self) -> Table:
        """One row for each class, the most probable first."""
        shares = self.exponentials / self.total
        order = np.argsort(-self.scores, kind="stable").tolist()
        rows = tuple(
            (index, self.names[index], *(float(of[index]) for of in (self.scores, self.exponentials, shares)))
            for index in order
        )
        columns = _columns("number", "class", "score", "exponential", "probability")
        return Table(self.title, columns, rows, (None, "sum", None, self.total, float(shares.sum())))


@dataclass(frozen=True, eq=False)
class CrossEntropy(SoftmaxShare):
    """−ln p of the class that is taken to be right, in nats: ln Σe^(s − largest) − (s − largest).

    The second form holds also where p is too small for a number.  `network_value` comes from torch's log-softmax.
    """

    @property
    def probability(self) -> float:
        return float(self.exponentials[self.place[0]]) / self.total

    @property
    def sentence(self) -> str:
        return (
            f"The loss if {self.names[self.place[0]]} is right; knowing nothing of {len(self.scores):,} classes costs "
            f"ln {len(self.scores):,} = {number(math.log(len(self.scores)))}."
        )

    @property
    def title(self) -> str:
        return f"cross-entropy, {self.names[self.place[0]]}"

    def lines(self) -> list[str]:
        difference, probability = float(self.scores[self.place[0]]) - self.largest, self.probability
        lines = [*self._share(), f"ln({number(self.total)}) − {_factor(difference)} = {number(self.value)}"]
        return [*lines, f"−ln({number(probability)}) = {number(self.value)}"] if probability else lines


def cross_entropy(found: Activations, label: int) -> CrossEntropy:
    """The loss for the class numbered `label`.

    Raises:
        UserError: no class can be told, or there is no such class.
    """
    if probabilities(found) is None:
        raise UserError(why_no_classes(found))
    last = found.stages[-1]
    entering = found.entering(last.name) if isinstance(last.layer, Softmax) else found.values[last.name]
    if not 0 <= label < len(entering):
        raise UserError(f"the classes are numbered 0 to {len(entering) - 1}, got {label}")
    scores: Numbers = entering.double().numpy()
    shifted = scores - scores.max()
    loss = float(np.log(np.exp(shifted).sum()) - shifted[label])
    network_value = -float(entering.log_softmax(0)[label])
    return CrossEntropy(last.name, (label,), loss, network_value, scores, _names(found, len(scores)))


def _names(found: Activations, count: int) -> tuple[str, ...]:
    return tuple(class_name(found.classes, index) for index in range(count))


# --- any stage -------------------------------------------------------------------------------------------------------


def working(checkpoint: Checkpoint, found: Activations, stage: str, place: Sequence[int]) -> Working:
    """How the value at `place` of a stage came about: (channel, row, column) in maps, (index,) in a vector.

    Raises:
        UserError: there is no such stage or place.
    """
    one = found.stage(stage)
    where = tuple(place)
    if len(where) != len(one.out_shape) or any(
        not 0 <= index < size for index, size in zip(where, one.out_shape, strict=True)
    ):
        raise UserError(f"{stage} gives {times(one.out_shape)}, counted from 0; there is no place {where}")
    network_value = float(found.values[stage][where])
    entering: Numbers = found.entering(stage).double().numpy()
    return _worked(checkpoint, found, stage, one.layer, where, network_value, entering)


def _worked(
    checkpoint: Checkpoint,
    found: Activations,
    stage: str,
    layer: Layer,
    place: tuple[int, ...],
    network_value: float,
    entering: Numbers,
) -> Working:
    match layer:
        case Conv():
            return _convolution(checkpoint, stage, layer, place, network_value, entering)
        case Linear():
            weights, bias = _weights(checkpoint, stage, place[0])
            value = float((entering * weights).sum() + bias)
            return ConnectedSum(stage, place, value, network_value, entering, weights, bias)
        case MaxPool():
            channel, row, column = place
            top, left = row * layer.stride, column * layer.stride
            window = entering[channel, top : top + layer.kernel, left : left + layer.kernel]
            cut_off = (layer.kernel - window.shape[0], layer.kernel - window.shape[1])
            return LargestOf(stage, place, float(window.max()), network_value, window, top, left, cut_off)
        case AdaptiveAvgPool():
            channel, row, column = place
            (top, bottom), (left, right) = (
                layer.window(index, size) for index, size in zip((row, column), entering.shape[1:], strict=True)
            )
            window = entering[channel, top:bottom, left:right]
            return MeanOf(stage, place, float(window.mean()), network_value, window, top, left)
        case LRN():
            channel, row, column = place
            width, half = len(entering) // layer.groups, layer.size // 2
            block = channel // width * width
            first, end = max(block, channel - half), min(block + width, channel + half + 1)
            return _normalised(
                stage,
                place,
                network_value,
                neighbours=tuple((index,) for index in range(first, end)),
                values=entering[first:end, row, column],
                own=float(entering[place]),
                terms=(layer.k, layer.alpha_per_square, layer.beta),
            )
        case SameMapNorm():
            channel, row, column = place
            half = layer.size // 2
            rows, columns = (
                range(max(index - half, 0), min(index + half + 1, size))
                for index, size in zip((row, column), entering.shape[1:], strict=True)
            )
            return _normalised(
                stage,
                place,
                network_value,
                neighbours=tuple((r, c) for r in rows for c in columns),
                values=entering[channel, rows.start : rows.stop, columns.start : columns.stop].ravel(),
                own=float(entering[place]),
                terms=(layer.k, layer.alpha / layer.size**2, layer.beta),
            )
        case ReLU():
            own = float(entering[place])
            return Rectified(stage, place, max(own, 0.0), network_value, own)
        case Tanh():
            own = float(entering[place])
            return Squashed(stage, place, math.tanh(own), network_value, own)
        case Dropout():
            return PassedOn(stage, place, float(entering[place]), network_value, place)
        case Flatten():
            return _flattened(stage, place, network_value, entering)
        case Softmax():
            powers = np.exp(entering - entering.max())
            share = float(powers[place] / powers.sum())
            return SoftmaxShare(stage, place, share, network_value, entering, _names(found, len(entering)))


def _weights(checkpoint: Checkpoint, stage: str, channel: int) -> tuple[Numbers, float]:
    """The weights and the bias of one output."""
    weights: Numbers = checkpoint.weights[f"{stage}.weight"][channel].detach().double().cpu().numpy()
    return weights, float(checkpoint.weights[f"{stage}.bias"][channel])


def _convolution(
    checkpoint: Checkpoint, stage: str, layer: Conv, place: tuple[int, ...], network_value: float, entering: Numbers
) -> ConvolutionSum:
    channel, row, column = place
    seen = len(entering) // layer.groups
    first = channel // (layer.out_channels // layer.groups) * seen
    top, left = row * layer.stride - layer.padding, column * layer.stride - layer.padding
    # Zeros wherever the window lies outside, also where a size rounded up lets it reach past the padding.
    window = np.zeros((seen, layer.kernel, layer.kernel))
    inside = np.zeros((layer.kernel, layer.kernel), np.bool_)
    _, height, width = entering.shape
    rows = slice(max(-top, 0), max(min(height - top, layer.kernel), 0))
    columns = slice(max(-left, 0), max(min(width - left, layer.kernel), 0))
    window[:, rows, columns] = entering[
        first : first + seen,
        top + rows.start : top + rows.stop,
        left + columns.start : left + columns.stop,
    ]
    inside[rows, columns] = True
    kernel, bias = _weights(checkpoint, stage, channel)
    value = float((window * kernel).sum() + bias)
    return ConvolutionSum(stage, place, value, network_value, window, kernel, inside, top, left, first, bias)


def _normalised(
    stage: str,
    place: tuple[int, ...],
    network_value: float,
    *,
    neighbours: tuple[tuple[int, ...], ...],
    values: Numbers,
    own: float,
    terms: tuple[float, float, float],
) -> Normalised:
    k, alpha, beta = terms
    value = own / math.pow(k + alpha * float((values**2).sum()), beta)
    return Normalised(stage, place, value, network_value, neighbours, values, own, k, alpha, beta)


def _flattened(stage: str, place: tuple[int, ...], network_value: float, entering: Numbers) -> PassedOn:
    if entering.ndim == 1:
        return PassedOn(stage, place, float(entering[place]), network_value, place)
    _, height, width = entering.shape
    channel, rest = divmod(place[0], height * width)
    row, column = divmod(rest, width)
    counted = f"{channel}·{height}·{width} + {row}·{width} + {column} = {place[0]}"
    return PassedOn(
        stage, place, float(entering[channel, row, column]), network_value, (channel, row, column), (counted,)
    )
