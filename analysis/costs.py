"""What every stage costs, counted from the spec alone: parameters, operations, memory, traffic.  No torch.

One multiply–accumulate (MAC) is one multiplication with a weight and the addition that goes with it; adding a bias
is not part of it.  `flops` counts every elementary operation once: two per MAC, the bias adds, and what ReLU, tanh,
LRN, pooling and softmax do.  All operations, bytes and traffic are for `batch` images; parameters are per network.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from alexnet.memory import BYTES_PER_VALUE, kept_bytes, parameters
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
)

if TYPE_CHECKING:
    from alexnet.spec import Layer, Network, Shape, Stage

MAX_BATCH = 65_536


class Operations(NamedTuple):
    """Elementary operations by kind.  An exponential or a hyperbolic tangent counts as one power."""

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
    rows, learning, towers, stages = [], False, network.towers, network.stages()
    for stage, kept in zip(stages, kept_bytes(stages), strict=True):
        weights, biases, macs = weights_biases_macs(stage)
        # Backward ends at the first layer with weights: nobody trains the image.
        first, learning = not learning, learning or weights > 0
        # Every GPU is given the image itself, so nothing crosses before the first layer with weights either.
        crossing = 0 if first or towers == 1 else crossing_values(stage, towers)
        rows.append(_cost(stage, batch, weights, biases, macs, first, kept, crossing))
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
    """Weights, biases and the MACs of one image: a convolution uses each weight once per output position."""
    weights, biases = parameters(stage)
    return weights, biases, weights * prod(stage.out_shape[1:])


def layer_operations(stage: Stage) -> Operations:
    """What one image costs a stage beyond its MACs and bias adds.

    * ReLU: one comparison per value.
    * Tanh: one hyperbolic tangent per value, which counts as one power, like softmax's exponentials.
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
        case Tanh():
            return Operations(power=values)
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
