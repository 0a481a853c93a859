"""What one training step keeps in memory, from the spec alone.  Standard library only.

Float32 throughout, as in 2012.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

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
    from collections.abc import Sequence

    from alexnet.spec import Network, Stage

BYTES_PER_VALUE = 4
"""Weights, activations and gradients are single-precision floats, as in 2012."""

INDEX_BYTES = 8  # torch remembers where each maximum was as an int64


def parameters(stage: Stage) -> tuple[int, int]:
    """Weights and biases.  A convolution has (C/groups)·F·F weights for each of its N maps."""
    layer = stage.layer
    if isinstance(layer, Conv):
        return stage.in_shape[0] // layer.groups * layer.kernel * layer.kernel * layer.out_channels, layer.out_channels
    if isinstance(layer, Linear):
        return stage.in_shape[0] * layer.out_features, layer.out_features
    return 0, 0


def kept_bytes(stages: Sequence[Stage]) -> list[int]:
    """For each stage, the bytes of one image that backward needs again and that no earlier stage keeps already.

    Nothing is kept before the first layer with weights, since nobody trains the image.
    """
    keeper, learning, kept = _Keeper(), False, []
    for stage in stages:
        learning = learning or parameters(stage)[0] > 0
        kept.append(keeper.kept_bytes(stage) if learning else 0)
    return kept


class _Keeper:
    """Follows which tensors backward will ask for, counting each once, as torch's autograd keeps them.

    A convolution or fully connected layer keeps its input (a padded copy where sizes are rounded up); ReLU and
    tanh their output; LRN its input and its denominator; max pooling its input and where each maximum was (int64);
    dropout its mask; softmax with cross-entropy its output.  An input that an earlier stage already kept costs nothing
    more.
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
            case ReLU() | Tanh() | Softmax():
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
    stages = network.stages()
    params = sum(map(sum, map(parameters, stages))) * BYTES_PER_VALUE
    return TrainingMemory(params, params, params, sum(kept_bytes(stages)) * batch)


def largest_batch(network: Network, available_bytes: int) -> int:
    """The largest batch whose training step fits in so many bytes; 0 where not even one image does."""
    one = training_memory(network, 1)
    fixed = one.total - one.activations
    return max((available_bytes - fixed) // one.activations, 0)
