"""The arithmetic behind every cell, with the numbers put in: ``(11·11·3 + 1)·96 = 34,944``.  No torch.

Every function returns one line of plain text, ``left side = right side``, or None where a cell has no formula.  The
left sides are true arithmetic (a test evaluates them): ``·`` multiplies, ``⌊ ⌋`` and ``⌈ ⌉`` round.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from alexnet.memory import BYTES_PER_VALUE, INDEX_BYTES
from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Flatten, Linear, MaxPool, ReLU, SameMapNorm, Softmax, Tanh
from analysis.costs import layer_operations, maps_beyond_borders, same_map_squares

if TYPE_CHECKING:
    from alexnet.spec import Shape, Stage
    from analysis.costs import Cost
    from analysis.receptive import ReceptiveField


def _product(shape: Shape) -> str:
    """A number of values, height first as the paper writes it: ``55·55·96``."""
    return "·".join(map(str, (*shape[1:], shape[0])))


def _n(number: int) -> str:
    """A number that is a count, not a size: grouped in thousands once it is long."""
    return f"{number:,}" if number >= 10_000 else str(number)


def output_size(stage: Stage) -> list[str]:
    """N = (W − F + 2P)/S + 1 for each axis (one line where both are alike); empty where no window slides."""
    layer = stage.layer
    if not isinstance(layer, Conv | MaxPool):
        return []
    lines = [
        _axis(layer, size, positions) for size, positions in zip(stage.in_shape[1:], stage.out_shape[1:], strict=True)
    ]
    return list(dict.fromkeys(lines))


def _axis(layer: Conv | MaxPool, size: int, positions: int) -> str:
    padding = layer.padding if isinstance(layer, Conv) else 0
    span = size - layer.kernel + 2 * padding
    padded = f" + 2·{padding}" if padding else ""
    fraction = f"({size} − {layer.kernel}{padded})/{layer.stride}"
    if span % layer.stride:
        fraction = f"⌊{fraction}⌋" if layer.rounding == "floor" else f"⌈{fraction}⌉"
    dropped = span // layer.stride + (span % layer.stride > 0 and layer.rounding == "ceil") + 1 - positions
    return f"{fraction} + 1{' − 1' if dropped else ''} = {positions}"


def params(cost: Cost) -> str | None:
    """(F·F·C/g + 1)·N: a weight for every input of a kernel and one bias, for every map."""
    stage, layer = cost.stage, cost.layer
    if isinstance(layer, Conv):
        channels = f"{stage.in_shape[0]}/{layer.groups}" if layer.groups > 1 else f"{stage.in_shape[0]}"
        return f"({layer.kernel}·{layer.kernel}·{channels} + 1)·{layer.out_channels} = {cost.params:,}"
    if isinstance(layer, Linear):
        return f"({stage.in_shape[0]} + 1)·{layer.out_features} = {cost.params:,}"
    return None


def macs(cost: Cost, batch: int = 1) -> str | None:
    """Output values times the weights that make each one."""
    stage, layer = cost.stage, cost.layer
    images = f"{batch}·" if batch > 1 else ""
    if isinstance(layer, Conv):
        channels = f"{stage.in_shape[0]}/{layer.groups}" if layer.groups > 1 else f"{stage.in_shape[0]}"
        window = f"{layer.kernel}·{layer.kernel}·{channels}"
        return f"{images}{_product(stage.out_shape)} · {window} = {cost.macs:,}"
    if isinstance(layer, Linear):
        return f"{images}{stage.in_shape[0]}·{layer.out_features} = {cost.macs:,}"
    return None


def flops(cost: Cost, batch: int = 1) -> str | None:
    """Every elementary operation, by what the layer does."""
    stage, layer, values = cost.stage, cost.layer, prod(cost.stage.out_shape)
    if cost.flops == 0:
        return None
    if cost.weights:
        return f"2·{_n(cost.macs)} + {_n(cost.bias_adds)} = {cost.flops:,}"
    images = f"{batch}·" if batch > 1 else ""
    one = layer_operations(stage)
    match layer:
        case ReLU() | Tanh():
            left = _product(stage.out_shape)
        case MaxPool():
            left = _pool_flops(layer, stage, one.compare)
        case AdaptiveAvgPool():
            left = f"{_n(one.add)} + {_n(values)}"
        case LRN():
            left = _lrn_flops(layer, stage.out_shape)
        case SameMapNorm():
            left = _same_map_flops(layer, stage.out_shape)
        case Softmax():
            left = f"5·{_n(values)} − 2"
        case _:
            raise TypeError(f"no formula for the operations of {stage.name}: {layer!r}")
    if batch > 1 and " " in left:
        left = f"({left})"
    return f"{images}{left} = {cost.flops:,}"


def _pool_flops(layer: MaxPool, stage: Stage, compares: int) -> str:
    whole = prod(stage.out_shape) * (layer.kernel**2 - 1)
    text = f"{_product(stage.out_shape)} · ({layer.kernel}·{layer.kernel} − 1)"
    # Where sizes are rounded up, the last windows reach past the edge and have less to compare.
    return text if compares == whole else f"{text} − {_n(whole - compares)}"


def _lrn_flops(layer: LRN, shape: Shape) -> str:
    """Squares summed over all windows of a group, for each group and place; scale, square, power and divide each value.

    ``2·(5·48 − 2·3)·55·55 + 4·290,400``: the two windows at each border of a group lack 1 + 2 = 3 neighbours.
    """
    channels, height, width = shape
    half, block = layer.size // 2, channels // layer.groups
    window = f"{layer.size}·{block} − 2·{half * (half + 1) // 2}" if block > half else f"{block}·{block}"
    return f"{layer.groups}·({window})·{height}·{width} + 4·{_n(prod(shape))}"


def _same_map_flops(layer: SameMapNorm, shape: Shape) -> str:
    """As LRN's, with square neighbourhoods, clipped at the map's edges."""
    return f"{_n(same_map_squares(layer, shape))} + 4·{_n(prod(shape))}"


def neurons(cost: Cost) -> str | None:
    """Outputs of a stage with weights."""
    return (
        f"{_product(cost.stage.out_shape)} = {cost.neurons:,}"
        if cost.neurons and len(cost.stage.out_shape) > 1
        else None
    )


def activation_bytes(cost: Cost, batch: int = 1) -> str:
    """Four bytes for every output value."""
    images = f"{batch}·" if batch > 1 else ""
    return f"{images}{_product(cost.stage.out_shape)} · {BYTES_PER_VALUE} = {cost.activation_bytes:,}"


def param_bytes(cost: Cost) -> str | None:
    """Four bytes for every weight and bias."""
    return f"{_n(cost.params)} · {BYTES_PER_VALUE} = {cost.param_bytes:,}" if cost.params else None


def backward_macs(cost: Cost) -> str | None:
    """As many MACs for the weights' gradient as forward, and as many again for the input's, except at the image."""
    if not cost.macs:
        return None
    if not cost.input_gradient_macs:
        return f"{_n(cost.weight_gradient_macs)} + 0 = {cost.backward_macs:,}"
    return f"{_n(cost.weight_gradient_macs)} + {_n(cost.input_gradient_macs)} = {cost.backward_macs:,}"


def kept_bytes(cost: Cost) -> str | None:
    """What backward needs of one image beyond what earlier stages kept: input, output, or what is computed between."""
    stage = cost.stage
    if not cost.kept_bytes:
        return None
    outputs = prod(stage.out_shape)
    own = {
        MaxPool: (f"{_product(stage.out_shape)} · {INDEX_BYTES}", outputs * INDEX_BYTES),
        Conv: ("", 0),
        Linear: ("", 0),
        AdaptiveAvgPool: ("", 0),
    }.get(type(stage.layer), (f"{_product(stage.out_shape)} · {BYTES_PER_VALUE}", outputs * BYTES_PER_VALUE))
    parts = [own[0]] if own[1] else []
    if claimed := cost.kept_bytes - own[1]:
        shape = stage.in_shape
        whole = prod(shape) * BYTES_PER_VALUE
        padded = f" + {_n(claimed - whole)}" if claimed > whole else ""
        parts.insert(0, f"{_product(shape)} · {BYTES_PER_VALUE}{padded}")
    return f"{' + '.join(parts)} = {cost.kept_bytes:,}"


def crossing_bytes(cost: Cost, towers: int, batch: int = 1) -> str | None:
    """Values that each GPU lacks, for every GPU that needs them, four bytes each."""
    if not cost.crossing_bytes:
        return None
    stage, images = cost.stage, f"{batch}·" if batch > 1 else ""
    if isinstance(cost.layer, LRN):
        _, height, width = stage.in_shape
        half = cost.layer.size // 2
        maps = f"{towers - 1}·2·{half}"
        if stage.in_shape[0] // towers < half:  # towers thinner than the window lack fewer
            maps = str(maps_beyond_borders(stage.in_shape[0], cost.layer.size, towers))
        border = f"{maps}·{height}·{width}"
        return f"{images}{border} · {BYTES_PER_VALUE} = {cost.crossing_bytes:,}"
    share = f"{_product(stage.in_shape)}/{towers} · {towers - 1}"
    receivers = f" · {stage.towers}" if stage.towers > 1 else ""
    return f"{images}{share}{receivers} · {BYTES_PER_VALUE} = {cost.crossing_bytes:,}"


def receptive_field(stage: Stage, before: ReceptiveField, after: ReceptiveField) -> str | None:
    """r + (F − 1)·j: what one value sees, from what the stage below sees and how far apart its values look."""
    layer = stage.layer
    if not isinstance(layer, Conv | MaxPool | SameMapNorm):
        return None
    window = layer.size if isinstance(layer, SameMapNorm) else layer.kernel
    step = f"({window} − 1)·{before.stride}"
    if before.stride.denominator > 1:  # after an average pooling that does not divide its input
        step = f"⌈{step}⌉"
    return f"{before.size} + {step} = {after.size}"


def flattened(stage: Stage) -> str | None:
    """How many values a vector has that was maps."""
    return f"{_product(stage.in_shape)} = {stage.out_shape[0]:,}" if isinstance(stage.layer, Flatten) else None
