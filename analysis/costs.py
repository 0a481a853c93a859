"""What every stage costs, counted from the spec alone: parameters, operations, memory, traffic.  No torch.

One multiply–accumulate (MAC) is one multiplication with a weight and the addition that goes with it; adding a bias
is not part of it.  `flops` counts every elementary operation once: two per MAC, the bias adds, and what ReLU, LRN,
pooling and softmax do.  All operations, bytes and traffic are for `batch` images; parameters are per network.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple

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
)

if TYPE_CHECKING:
    from alexnet.spec import Layer, Network, Shape, Stage

MAX_BATCH = 65_536
BYTES_PER_VALUE = 4
"""Weights, activations and gradients are single-precision floats, as in 2012."""

INDEX_BYTES = 8  # torch remembers where each maximum was as an int64


class Operations(NamedTuple):
    """Elementary operations by kind.  An exponential counts as one power."""

    multiply: int = 0
    add: int = 0
    compare: int = 0
    divide: int = 0
    power: int = 0

    @property
    def total(self) -> int:
        return self.multiply + self.add + self.compare + self.divide + self.power


_NOTHING = Operations()


class Cost(NamedTuple):
    """One stage's costs.  Counts of operations and bytes are for the whole batch.

    `weight_gradient_macs` and `input_gradient_macs` are the two halves of the backward pass; the first layer with
    weights has no input gradient, since nobody trains the image.  `kept_bytes` is what backward needs again and
    therefore stays in memory while training.  `crossing_bytes` is what one GPU must send another before or within
    this stage, forward; backward sends as much the other way.
    """

    stage: Stage
    weights: int
    biases: int
    macs: int
    bias_adds: int
    operations: Operations
    weight_gradient_macs: int
    input_gradient_macs: int
    activation_bytes: int
    kept_bytes: int
    crossing_bytes: int

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def layer(self) -> Layer:
        return self.stage.layer

    @property
    def params(self) -> int:
        """Weights and biases."""
        return self.weights + self.biases

    @property
    def param_bytes(self) -> int:
        return self.params * BYTES_PER_VALUE

    @property
    def flops(self) -> int:
        """Every elementary operation: 2 per MAC, bias adds, and what layers without weights do."""
        return self.operations.total

    @property
    def backward_macs(self) -> int:
        return self.weight_gradient_macs + self.input_gradient_macs

    @property
    def neurons(self) -> int:
        """Outputs of one image, where the stage has weights: what the paper counts as neurons."""
        return prod(self.stage.out_shape) if self.weights else 0


class CostTable(NamedTuple):
    """Every stage's costs for `batch` images."""

    network: Network
    batch: int
    rows: tuple[Cost, ...]

    def total(self, column: str) -> int:
        """Sum of a column (any integer attribute of `Cost`) over all stages."""
        return sum(getattr(row, column) for row in self.rows)

    def operations(self) -> Operations:
        """Operations by kind over all stages."""
        return Operations(*(sum(kind) for kind in zip(*(row.operations for row in self.rows), strict=True)))

    def row(self, name: str) -> Cost:
        """The stage of this name.  Raises KeyError where there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)


def cost_table(network: Network, batch: int = 1) -> CostTable:
    """Costs of every stage for `batch` images.

    Raises:
        ValueError: the batch is not from 1 to MAX_BATCH.
        alexnet.spec.DoesNotFitError: the network cannot take its input size.
    """
    if not 1 <= batch <= MAX_BATCH:
        raise ValueError(f"a batch has from 1 to {MAX_BATCH:,} images, got {batch:,}")
    rows, learning, towers, keeper = [], False, network.towers, _Keeper()
    for stage in network.stages():
        weights, biases, macs = weights_biases_macs(stage)
        # Backward ends at the first layer with weights: nobody trains the image, and nothing before it is kept.
        first, learning = not learning, learning or weights > 0
        # Every GPU is given the image itself, so nothing crosses before the first layer with weights either.
        crossing = 0 if first or towers == 1 else crossing_values(stage, towers)
        rows.append(
            _cost(stage, batch, weights, biases, macs, first, keeper.kept_bytes(stage) if learning else 0, crossing)
        )
        towers = stage.towers
    return CostTable(network, batch, tuple(rows))


def _cost(
    stage: Stage, batch: int, weights: int, biases: int, macs: int, first: bool, kept: int, crossing: int
) -> Cost:
    outputs = prod(stage.out_shape)
    bias_adds = outputs * batch if weights else 0
    multiply, add, compare, divide, power = layer_operations(stage)
    macs *= batch
    # By position: keywords would make the whole table a tenth slower.
    return Cost(
        stage,
        weights,
        biases,
        macs,
        bias_adds,
        Operations(
            multiply * batch + macs, add * batch + macs + bias_adds, compare * batch, divide * batch, power * batch
        ),
        # Every product w·a of the forward pass returns once in ∂L/∂w and once in ∂L/∂a, with or without groups.
        macs,
        0 if first else macs,
        outputs * BYTES_PER_VALUE * batch,
        kept * batch,
        crossing * BYTES_PER_VALUE * batch,
    )


def weights_biases_macs(stage: Stage) -> tuple[int, int, int]:
    """Weights, biases and the MACs of one image.

    A convolution has (C/groups)·F·F weights for each of its N maps and uses each once per output position.
    """
    layer = stage.layer
    if isinstance(layer, Conv):
        channels, (maps, rows, columns) = stage.in_shape[0], stage.out_shape
        weights = channels // layer.groups * layer.kernel * layer.kernel * maps
        return weights, maps, weights * rows * columns
    if isinstance(layer, Linear):
        weights = stage.in_shape[0] * layer.out_features
        return weights, layer.out_features, weights
    return 0, 0, 0


def layer_operations(stage: Stage) -> Operations:
    """What one image costs a stage beyond its MACs and bias adds.

    * ReLU: one comparison per value.
    * Max pooling: a window of w values takes w − 1 comparisons; windows that reach past the edge are smaller.
    * Average pooling: w − 1 additions and one division per window.
    * LRN: square each value (1 ×), add the w squares of its window (w − 1 +; fewer at the borders of each group),
      scale (1 ×), add k (1 +), raise to β (1 power), divide (1 ÷).
    * Same-map norm: the same with a square neighbourhood inside the map.
    * Softmax over N scores: the largest (N − 1 comparisons), subtract it (N +), N exponentials, their sum (N − 1 +),
      N divisions.
    * Dropout and flatten: nothing when a trained network runs.
    """
    layer = stage.layer
    if isinstance(layer, (Conv, Linear, Dropout, Flatten)):  # first, as most stages are these
        return _NOTHING
    values = prod(stage.out_shape)
    match layer:
        case ReLU():
            return Operations(0, 0, values)
        case MaxPool():
            return Operations(compare=_max_pool_inputs(stage) - values)
        case LRN():
            return _norm_operations(values, lrn_squares(layer, stage.out_shape))
        case SameMapNorm():
            return _norm_operations(values, same_map_squares(layer, stage.out_shape))
        case AdaptiveAvgPool():
            return Operations(add=_adaptive_inputs(layer, stage) - values, divide=values)
        case Softmax():
            return Operations(compare=values - 1, add=2 * values - 1, power=values, divide=values)
    raise TypeError(f"no cost rule for {stage.name}: {layer!r}")


def _norm_operations(values: int, squares: int) -> Operations:
    return Operations(multiply=2 * values, add=squares - values + values, divide=values, power=values)


def clipped_windows(size: int, window: int) -> int:
    """Values that centred windows of odd length `window` hold together on an axis of `size`, clipped at both ends.

    The windows of 48 channels with n = 5 hold 5·48 − 2·(1 + 2) = 234.
    """
    half = window // 2
    if size > half:
        return window * size - half * (half + 1)
    return size * size  # every window covers the whole axis


def lrn_squares(layer: LRN, shape: Shape) -> int:
    """Squares added up over all windows of an LRN: fewer than n per value, since windows end at each group's border."""
    channels, height, width = shape
    return layer.groups * clipped_windows(channels // layer.groups, layer.size) * height * width


def same_map_squares(layer: SameMapNorm, shape: Shape) -> int:
    """Squares added up over all square neighbourhoods, clipped at the map's edges."""
    channels, height, width = shape
    return channels * clipped_windows(height, layer.size) * clipped_windows(width, layer.size)


def _max_pool_inputs(stage: Stage) -> int:
    """Values that all windows look at together; a window that reaches past the edge looks at fewer."""
    layer = stage.layer
    assert isinstance(layer, MaxPool)
    (channels, height, width), (_, rows, columns) = stage.in_shape, stage.out_shape

    def axis(size: int, count: int) -> int:
        overhang = max((count - 1) * layer.stride + layer.kernel - size, 0)
        return count * layer.kernel - overhang

    return channels * axis(height, rows) * axis(width, columns)


def _adaptive_inputs(layer: AdaptiveAvgPool, stage: Stage) -> int:
    channels, height, width = stage.in_shape

    def axis(size: int) -> int:
        return sum(end - start for start, end in (layer.window(i, size) for i in range(layer.side)))

    return channels * axis(height) * axis(width)


def crossing_values(stage: Stage, towers: int) -> int:
    """Values of one image that GPUs must send each other before this stage, forward, when `towers` hold its input.

    A layer that looks at all maps (conv3) or all neurons (fc6, fc7) on every GPU needs what the other GPUs hold;
    a layer that one GPU holds alone (the classifier, in the paper's figure 2) needs the others' share once.  LRN
    across all channels (Caffe's, not the paper's) would need the nearest maps across each border.
    """
    layer, incoming = stage.layer, prod(stage.in_shape)
    if stage.towers == 1:
        return incoming // towers * (towers - 1)
    if isinstance(layer, LRN) and layer.groups == 1:
        channels, height, width = stage.in_shape
        return maps_beyond_borders(channels, layer.size, towers) * height * width
    if isinstance(layer, Linear) or (isinstance(layer, Conv) and layer.groups == 1):
        return incoming * (towers - 1)
    return 0


def maps_beyond_borders(channels: int, size: int, towers: int) -> int:
    """Maps that towers lack for windows of `size` channels: up to `size` // 2 on either side of each tower's block."""
    block, half = channels // towers, size // 2
    return sum(min(half, block * tower) + min(half, channels - block * (tower + 1)) for tower in range(towers))


class _Keeper:
    """Follows which tensors backward will ask for, counting each once, as torch's autograd keeps them.

    A convolution or fully connected layer keeps its input (a padded copy where sizes are rounded up); ReLU its
    output; LRN its input and its denominator; max pooling its input and where each maximum was (int64); dropout its
    mask; softmax with cross-entropy its output.  An input that an earlier stage already kept costs nothing more.
    """

    def __init__(self) -> None:
        self._incoming_kept = False

    def kept_bytes(self, stage: Stage) -> int:
        """Bytes of one image that this stage keeps beyond what earlier stages kept."""
        incoming, outgoing = prod(stage.in_shape) * BYTES_PER_VALUE, prod(stage.out_shape) * BYTES_PER_VALUE
        claim = 0 if self._incoming_kept else incoming
        match stage.layer:
            case Conv() | Linear():
                self._incoming_kept = False  # of the next stage: nobody kept this stage's output yet
                missing = _missing_edge_values(stage)
                return incoming + missing * BYTES_PER_VALUE if missing else claim
            case ReLU() | Softmax():
                self._incoming_kept = True
                return outgoing
            case LRN() | SameMapNorm():
                self._incoming_kept = False
                return claim + outgoing
            case MaxPool():
                self._incoming_kept = False
                return claim + outgoing // BYTES_PER_VALUE * INDEX_BYTES
            case Dropout():
                self._incoming_kept = False
                return outgoing
            case AdaptiveAvgPool(side=side):
                self._incoming_kept = False
                return claim if side > 1 else 0  # down to 1×1 torch takes a mean, which needs only its shape
            case Flatten():
                return 0  # a view: whether its values are kept does not change
        raise TypeError(f"no memory rule for {stage.name}: {stage.layer!r}")


def _missing_edge_values(stage: Stage) -> int:
    """Zeros that a convolution rounded up appends to its input at the bottom and right."""
    layer = stage.layer
    if not isinstance(layer, Conv):
        return 0
    channels, height, width = stage.in_shape

    def reach(size: int, positions: int) -> int:
        return max((positions - 1) * layer.stride + layer.kernel - 2 * layer.padding, size)

    _, rows, columns = stage.out_shape
    return channels * (reach(height, rows) * reach(width, columns) - height * width)


# --- training memory -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that a training step with momentum needs at least: without workspaces, fragmentation and the framework."""

    weights: int
    gradients: int
    momentum: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.momentum + self.activations


def training_memory(network: Network, batch: int) -> TrainingMemory:
    """Memory of one training step on `batch` images: weights, their gradients and momentum, and kept activations."""
    table = cost_table(network, batch)
    params = table.total("param_bytes")
    return TrainingMemory(params, params, params, table.total("kept_bytes"))


def largest_batch(network: Network, available_bytes: int) -> int:
    """The largest batch whose training step fits in so many bytes; 0 where not even one image does."""
    one = training_memory(network, 1)
    fixed = one.total - one.activations
    return max((available_bytes - fixed) // one.activations, 0)
