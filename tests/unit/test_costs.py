from __future__ import annotations

from collections import Counter
from itertools import product
from math import exp, prod, tanh
from typing import TYPE_CHECKING, ClassVar

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from alexnet.build import build, module
from alexnet.memory import largest_batch, training_memory
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
from alexnet.zoo import NETWORKS, kernel_stack, network_from, network_named
from analysis.costs import Operations, cost_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from alexnet.spec import Layer, Network, Shape, Stage
    from analysis.costs import Cost

ALEXNET = NETWORKS["alexnet-2012"]


# --- operations, counted while they are carried out -------------------------------------------------------------------


class Counted:
    """A number that counts what is done to it."""

    tally: ClassVar[Counter[str]] = Counter()

    def __init__(self, value: float) -> None:
        self.value = value

    def __mul__(self, other: Counted) -> Counted:
        return self._done("multiply", self.value * other.value)

    def __add__(self, other: Counted) -> Counted:
        return self._done("add", self.value + other.value)

    def __sub__(self, other: Counted) -> Counted:
        return self._done("add", self.value - other.value)

    def __truediv__(self, other: Counted) -> Counted:
        return self._done("divide", self.value / other.value)

    def __pow__(self, other: Counted) -> Counted:
        return self._done("power", self.value**other.value)

    def exp(self) -> Counted:
        return self._done("power", exp(self.value))

    def tanh(self) -> Counted:
        return self._done("power", tanh(self.value))

    def larger(self, other: Counted) -> Counted:
        return self._done("compare", max(self.value, other.value))

    def _done(self, kind: str, value: float) -> Counted:
        self.tally[kind] += 1
        return Counted(value)


def total(numbers: Iterable[Counted]) -> Counted:
    """The sum; n numbers take n − 1 additions."""
    first, *rest = numbers
    for number in rest:
        first = first + number
    return first


def largest(numbers: Iterable[Counted]) -> Counted:
    first, *rest = numbers
    for number in rest:
        first = first.larger(number)
    return first


Maps = dict[tuple[int, ...], Counted]


def carry_out(layer: Layer, in_shape: Shape, out_shape: Shape) -> Counter[str]:
    """Do what the layer does with one image, in plain loops, and return how often it did what."""
    values: Maps = {place: Counted(0.1 + 0.01 * i) for i, place in enumerate(product(*map(range, in_shape)))}
    places = list(product(*map(range, out_shape)))
    zero, one = Counted(0.0), Counted(1.0)
    Counted.tally = Counter()
    match layer:
        case Conv():
            for place in places:
                _convolve(layer, values, in_shape, out_shape, place)
        case Linear():
            for _ in places:
                products = zero
                for value in values.values():
                    products += one * value
                products += one  # the bias
        case ReLU():
            for value in values.values():
                zero.larger(value)
        case Tanh():
            for value in values.values():
                value.tanh()
        case MaxPool():
            for channel, row, column in places:
                rows, columns = (range(i * layer.stride, i * layer.stride + layer.kernel) for i in (row, column))
                largest(v for p, v in values.items() if p[0] == channel and p[1] in rows and p[2] in columns)
        case LRN():
            squares = {place: value * value for place, value in values.items()}
            width = in_shape[0] // layer.groups
            for c, y, x in places:
                near = [n for n in range(in_shape[0]) if abs(n - c) <= layer.size // 2 and n // width == c // width]
                values[c, y, x] / (one + one * total(squares[n, y, x] for n in near)) ** one
        case SameMapNorm():
            squares = {place: value * value for place, value in values.items()}
            half = layer.size // 2
            for c, y, x in places:
                near = [p for p in squares if p[0] == c and abs(p[1] - y) <= half and abs(p[2] - x) <= half]
                values[c, y, x] / (one + one * total(squares[p] for p in near)) ** one
        case Softmax():
            top = largest(values.values())
            exponentials = [(value - top).exp() for value in values.values()]
            whole = total(exponentials)
            for exponential in exponentials:
                exponential / whole
    return Counted.tally


def _convolve(conv: Conv, values: Maps, in_shape: Shape, out_shape: Shape, place: tuple[int, ...]) -> None:
    """One output value; positions in the padding are multiplied like all others."""
    zero, one = Counted(0.0), Counted(1.0)
    (maps, row, column), width = place, in_shape[0] // conv.groups
    group = maps // (out_shape[0] // conv.groups)
    products = zero
    for channel in range(group * width, (group + 1) * width):
        for i, j in product(range(conv.kernel), repeat=2):
            at = (channel, row * conv.stride - conv.padding + i, column * conv.stride - conv.padding + j)
            products += one * values.get(at, zero)
    products += one  # the bias


SMALL = [
    ((2, 5, 6), Conv(3, 3)),
    ((2, 6, 5), Conv(3, 3, stride=2, padding=1)),
    ((4, 5, 5), Conv(6, 3, padding=2, groups=2)),
    ((3, 6, 4), Conv(3, 2, stride=3, groups=3)),
    ((2, 6, 7), Conv(2, 3, stride=2, rounding="ceil")),
    ((2, 6, 6), Conv(4, 3, stride=4, padding=1, groups=2, rounding="ceil")),
    ((2, 3, 4), Conv(5, 1)),
    ((12,), Linear(7)),
    ((2, 3, 4), ReLU()),
    ((9,), ReLU()),
    ((2, 3, 4), Tanh()),
    ((9,), Tanh()),
    ((2, 7, 7), MaxPool(3, 2)),
    ((2, 6, 8), MaxPool(3, 2, "ceil")),
    ((1, 7, 6), MaxPool(2, 2, "ceil")),
    ((1, 8, 9), MaxPool(2, 3, "ceil")),
    ((1, 2, 2), MaxPool(3, 2, "ceil")),
    ((2, 5, 5), MaxPool(1, 2)),
    ((8, 2, 3), LRN(5)),
    ((8, 2, 2), LRN(5, groups=2)),
    ((9, 1, 2), LRN(3, groups=3)),
    ((4, 2, 2), LRN(5, groups=2)),
    ((3, 2, 2), LRN(9)),
    ((5, 1, 1), LRN(1)),
    ((2, 6, 7), SameMapNorm(5, 1e-3, 0.75)),
    ((1, 2, 5), SameMapNorm(5, 1e-3, 0.75)),
    ((1, 1, 1), SameMapNorm(3, 1e-3, 0.75)),
    ((10,), Softmax()),
    ((1,), Softmax()),
]


@pytest.mark.parametrize(("in_shape", "layer"), SMALL, ids=str)
def test_operations_are_those_that_loops_carry_out(
    in_shape: Shape, layer: Layer, network_of: Callable[..., Network]
) -> None:
    (cost,) = cost_table(network_of(in_shape, layer)).rows
    done = carry_out(layer, in_shape, cost.stage.out_shape)
    assert {kind: count for kind, count in cost.operations._asdict().items() if count} == dict(done)
    assert cost.flops == done.total()


@pytest.mark.parametrize(("in_shape", "layer"), [case for case in SMALL if isinstance(case[1], Conv | Linear)], ids=str)
def test_macs_are_the_multiplications_that_loops_carry_out(
    in_shape: Shape, layer: Layer, network_of: Callable[..., Network]
) -> None:
    (cost,) = cost_table(network_of(in_shape, layer)).rows
    done = carry_out(layer, in_shape, cost.stage.out_shape)
    assert cost.macs == done["multiply"]
    assert cost.macs + cost.bias_adds == done["add"]


@pytest.mark.parametrize(("size", "side"), [(13, 6), (6, 6), (7, 3), (3, 5), (4, 1)])
def test_average_pooling_adds_and_divides_what_torch_looks_at(
    size: int, side: int, network_of: Callable[..., Network]
) -> None:
    (cost,) = cost_table(network_of((2, size, size), AdaptiveAvgPool(side))).rows
    image = torch.zeros(2, size, size, requires_grad=True)
    adds = divisions = 0
    for value in functional.adaptive_avg_pool2d(image, side).flatten():
        (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
        adds += int(gradient.count_nonzero()) - 1
        divisions += 1
    assert cost.operations == Operations(add=adds, divide=divisions)


@pytest.mark.parametrize("layer", [Dropout(), Flatten()])
def test_dropout_and_flatten_do_nothing_when_a_trained_network_runs(
    layer: Layer, network_of: Callable[..., Network]
) -> None:
    (cost,) = cost_table(network_of((2, 3, 4), layer)).rows
    assert cost.operations.total == cost.params == cost.macs == 0


def test_a_kind_of_layer_without_a_cost_rule_is_an_error(network_of: Callable[..., Network]) -> None:
    class Novel(ReLU):
        pass

    assert cost_table(network_of((2, 3, 4), Novel())).total("flops") == 24  # a kind of ReLU

    class Unheard:
        kind = "unheard"

        def out_shape(self, in_shape: Shape) -> Shape:
            return in_shape

    with pytest.raises(TypeError, match=r"no (cost|memory) rule for l1: "):
        cost_table(network_of((2, 3, 4), Unheard()))


# --- parameters and work of AlexNet: the paper's figures --------------------------------------------------------------

# Weights and biases, MACs and neurons of section 3.5, from the kernel sizes and map counts printed there.
PAPER = {
    "conv1": ((11 * 11 * 3 + 1) * 96, 34_944, 105_415_200, 290_400),
    "conv2": ((5 * 5 * 48 + 1) * 256, 307_456, 223_948_800, 186_624),
    "conv3": ((3 * 3 * 256 + 1) * 384, 885_120, 149_520_384, 64_896),
    "conv4": ((3 * 3 * 192 + 1) * 384, 663_936, 112_140_288, 64_896),
    "conv5": ((3 * 3 * 192 + 1) * 256, 442_624, 74_760_192, 43_264),
    "fc6": ((6 * 6 * 256 + 1) * 4096, 37_752_832, 37_748_736, 4_096),
    "fc7": ((4096 + 1) * 4096, 16_781_312, 16_777_216, 4_096),
    "fc8": ((4096 + 1) * 1000, 4_097_000, 4_096_000, 1_000),
}


@pytest.mark.parametrize("stage", PAPER)
def test_parameters_macs_and_neurons_of_alexnet(stage: str) -> None:
    formula, params, macs, neurons = PAPER[stage]
    cost = cost_table(ALEXNET).row(stage)
    assert cost.params == formula == params
    assert (cost.macs, cost.neurons) == (macs, neurons)


def test_no_other_stage_of_alexnet_has_parameters_macs_or_neurons() -> None:
    rows = cost_table(ALEXNET).rows
    assert {row.name for row in rows if row.params or row.macs or row.neurons or row.backward_macs} == set(PAPER)


def test_alexnet_has_60_million_parameters_and_650_thousand_neurons() -> None:
    table = cost_table(ALEXNET)
    assert table.total("params") == sum(row[1] for row in PAPER.values()) == 60_965_224
    assert table.total("neurons") == 659_272
    # Figure 2 gives conv1 as 253,440, the rest as here: 253,440–186,624–64,896–64,896–43,264–4096–4096–1000.
    assert table.total("neurons") - 290_400 + 253_440 == 253_440 + 186_624 + 64_896 + 64_896 + 43_264 + 4096 * 2 + 1000


def test_flops_of_alexnet() -> None:
    table = cost_table(ALEXNET)
    by_hand = {
        "conv1": 2 * 105_415_200 + 290_400,
        "relu1": 290_400,
        # 96 maps in two blocks of 48: 2·(5·48 − 6) squares a position, and 4 more operations a value.
        "norm1": (2 * 234 + 4 * 96) * 55 * 55,
        "pool1": 96 * 27 * 27 * 8,
        "conv2": 2 * 223_948_800 + 186_624,
        "norm2": (2 * (5 * 128 - 6) + 4 * 256) * 27 * 27,
        "pool5": 256 * 6 * 6 * 8,
        "flatten": 0,
        "drop6": 0,
        "fc8": 2 * 4_096_000 + 1_000,
        "prob": 5 * 1000 - 2,
    }
    assert {name: table.row(name).flops for name in by_hand} == by_hand
    assert table.operations().total == table.total("flops")


def test_bytes_are_four_a_value() -> None:
    table = cost_table(ALEXNET)
    assert table.total("param_bytes") == 243_860_896  # the size of a float32 checkpoint
    assert table.row("conv1").activation_bytes == 1_161_600
    assert table.row("fc8").activation_bytes == 4_000


def test_vgg_d_as_tables_of_it_in_circulation_have_it() -> None:
    # Memory and weights as the CS231n notes on VGGNet list them, in values.
    table = cost_table(network_named("vgg16"))
    conv1_2, conv5_3, fc6 = (table.row(name) for name in ("conv1_2", "conv5_3", "fc6"))
    assert (conv1_2.activation_bytes // 4, conv1_2.weights) == (3_211_264, 36_864)
    assert (conv5_3.activation_bytes // 4, conv5_3.weights) == (100_352, 2_359_296)
    assert fc6.weights == 102_760_448


def test_a_stage_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="conv9"):
        cost_table(ALEXNET).row("conv9")


# --- backward ---------------------------------------------------------------------------------------------------------


def test_backward_is_twice_forward_less_the_images_gradient() -> None:
    table = cost_table(ALEXNET)
    assert table.total("backward_macs") == 2 * 724_406_816 - 105_415_200
    assert table.row("conv1").input_gradient_macs == 0
    assert table.row("conv2").input_gradient_macs == 223_948_800


@pytest.mark.parametrize(
    ("in_shape", "layer"),
    [
        ((2, 6, 5), Conv(3, 3, stride=2, padding=1)),
        ((3, 7, 7), Conv(4, 3)),
        ((12,), Linear(7)),
        ((4, 3, 3), Conv(5, 1)),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [True, False])
def test_backward_macs_are_half_the_flops_that_torch_counts(
    in_shape: Shape, layer: Layer, first: bool, network_of: Callable[..., Network]
) -> None:
    # A layer that keeps the shape and has weights, so that the layer looked at is not the first.
    before = [] if first else [Linear(in_shape[0]) if len(in_shape) == 1 else Conv(in_shape[0], 1)]
    cost = cost_table(network_of(in_shape, *before, layer)).rows[-1]
    image = torch.zeros(1, *in_shape, requires_grad=not first)
    output = module(cost.stage)(image)
    with FlopCounterMode(display=False) as counter:
        output.sum().backward()
    assert 2 * cost.backward_macs == counter.get_total_flops()


def test_grouped_weight_gradients_take_as_many_macs_as_loops_over_their_pairs(
    network_of: Callable[..., Network],
) -> None:
    conv, in_shape = Conv(6, 3, padding=1, groups=2), (4, 5, 5)
    cost = cost_table(network_of(in_shape, Conv(4, 1), conv)).rows[1]
    pairs = 0
    for out_map, in_map in product(range(6), range(4)):
        if out_map // 3 == in_map // 2:  # the same group
            pairs += 1
    # ∂L/∂w of one weight adds up 5·5 products; ∂L/∂a is the same products sorted by input.
    assert cost.weight_gradient_macs == cost.input_gradient_macs == pairs * 9 * 25


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-owt", "alexnet-2012-source", "vgg-a-lrn"])
def test_a_batch_scales_work_and_memory_but_not_parameters(name: str) -> None:
    network = network_named(name)
    for one, seven in zip(cost_table(network).rows, cost_table(network, 7).rows, strict=True):
        assert (seven.weights, seven.biases, seven.neurons, seven.param_bytes) == (
            *(one.weights, one.biases, one.neurons, one.param_bytes),
        )
        assert seven.operations == tuple(7 * count for count in one.operations)
        for column in (
            *("macs", "bias_adds", "flops", "weight_gradient_macs", "input_gradient_macs", "backward_macs"),
            *("activation_bytes", "kept_bytes", "crossing_bytes"),
        ):
            assert getattr(seven, column) == 7 * getattr(one, column), column


@pytest.mark.parametrize(("batch", "written"), [(0, "0"), (-1, "-1"), (-1000, "-1,000"), (65_537, "65,537")])
def test_a_batch_without_images_or_with_too_many_is_refused(batch: int, written: str) -> None:
    with pytest.raises(ValueError, match=rf"a batch has from 1 to 65,536 images, got {written}$"):
        cost_table(ALEXNET, batch)


def test_the_largest_batch_that_can_be_counted() -> None:
    assert cost_table(ALEXNET, 65_536).total("macs") == 65_536 * 724_406_816


# --- traffic between GPUs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "crossing"),
    [
        (
            "alexnet-2012",  # figure 2: two towers of 128 maps and 2048 neurons
            {"conv3": 2 * 128 * 13 * 13 * 4, "fc6": 2 * 128 * 6 * 6 * 4, "fc7": 2 * 2048 * 4, "fc8": 2048 * 4},
        ),
        (
            "alexnet-2012-source",
            {"conv3": 2 * 128 * 13 * 13 * 4, "fc6": 2 * 128 * 6 * 6 * 4, "fc7": 2 * 2048 * 4, "fc8": 2048 * 4},
        ),
        (
            "caffenet",  # Caffe's LRN looks two maps across the border, from either side
            {
                "norm1": 2 * 2 * 27 * 27 * 4,
                "norm2": 2 * 2 * 13 * 13 * 4,
                "conv3": 2 * 128 * 13 * 13 * 4,
                "fc6": 2 * 128 * 6 * 6 * 4,
                "fc7": 2 * 2048 * 4,
                "fc8": 2048 * 4,
            },
        ),
        # One GPU holds everything from flatten on: the other sends it its half of 256 2×2 maps.
        ("alexnet-slim", {"conv3": 2 * 128 * 11 * 11 * 4, "fc6": 128 * 2 * 2 * 4}),
        ("alexnet-one-tower", {}),
        ("alexnet-owt", {}),
        ("vgg-d", {}),
    ],
)
def test_bytes_that_cross(name: str, crossing: dict[str, int]) -> None:
    table = cost_table(network_named(name))
    assert {row.name: row.crossing_bytes for row in table.rows if row.crossing_bytes} == crossing


@pytest.mark.parametrize(
    ("channels", "towers", "size"), [(12, 2, 5), (12, 3, 3), (12, 3, 5), (12, 2, 1), (4, 2, 9), (6, 3, 7)]
)
def test_lrn_across_all_maps_needs_what_each_tower_lacks(
    channels: int, towers: int, size: int, network_of: Callable[..., Network]
) -> None:
    layers = Conv(channels, 1), LRN(size)
    network = network_of((3, 4, 5), *layers, towers=towers)
    width = channels // towers
    lacking = {
        (tower, wanted)
        for tower, held in product(range(towers), range(channels))
        for wanted in range(channels)
        if held // width == tower and abs(wanted - held) <= size // 2 and wanted // width != tower
    }
    assert cost_table(network).rows[1].crossing_bytes == len(lacking) * 4 * 5 * 4


@pytest.mark.parametrize("towers", [2, 3])
def test_layers_that_see_everything_need_what_each_tower_lacks(towers: int, network_of: Callable[..., Network]) -> None:
    layers = Conv(6, 1), Conv(6, 1, groups=towers), Conv(6, 1), Flatten(), Linear(6), Linear(2)
    network = network_of((3, 4, 5), *layers, towers=towers, merged_at="l6")
    share = 6 * 4 * 5 // towers
    lacking = share * (towers - 1) * towers * 4
    crossing = [row.crossing_bytes for row in cost_table(network).rows]
    assert crossing == [0, 0, lacking, 0, lacking, 6 // towers * (towers - 1) * 4]


# --- what training keeps ----------------------------------------------------------------------------------------------


def kept_by_autograd(network: Network, batch: int) -> int:
    """Bytes of the tensors that torch keeps for backward, parameters not counted, each storage once."""
    model = build(network).train()
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = []  # holding on to every tensor, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(model(torch.randn(batch, *network.input_shape)), torch.zeros(batch).long())
    assert loss.requires_grad
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in kept}
    return sum(size for address, size in storages.items() if address not in parameters)


LABELS_AND_TOTAL_WEIGHT = 8 + 8 + 4  # what the loss of two images keeps beyond the network: two int64 and a float


@pytest.mark.parametrize(
    "reference",
    [
        "alexnet-2012",
        "caffenet",
        "alexnet-one-tower@99",
        "alexnet-owt",
        "alexnet-owt@130x97",  # other than 6×6 reaches the average pooling
        "alexnet-half@99",
        "alexnet-2012-source",
        "alexnet-2012-source@101x90",
        "alexnet-slim",
        "vgg-a-lrn@64",
        "vgg-c@32",
    ],
)
def test_kept_bytes_are_what_autograd_keeps(reference: str) -> None:
    network = network_from(reference).adapted(hidden=64, classes=10)
    assert kept_by_autograd(network, 2) == training_memory(network, 2).activations + LABELS_AND_TOTAL_WEIGHT


def test_kept_bytes_of_the_whole_alexnet_are_what_autograd_keeps() -> None:
    assert kept_by_autograd(ALEXNET, 2) == training_memory(ALEXNET, 2).activations + LABELS_AND_TOTAL_WEIGHT


HEAD = Flatten(), Linear(3), Softmax()


@pytest.mark.parametrize(
    "layers",
    [
        (Conv(4, 3), Conv(4, 3), *HEAD),
        (Conv(4, 3), MaxPool(2, 2), ReLU(), Conv(4, 1), *HEAD),
        (Conv(4, 3), LRN(3), LRN(3), SameMapNorm(3, 1e-3, 0.75), Conv(2, 1), *HEAD),
        (Conv(4, 3), ReLU(), Dropout(), ReLU(), Conv(2, 1), *HEAD),
        (
            Conv(4, 3),
            Tanh(),
            Conv(2, 1),
            Tanh(),
            LRN(3),
            MaxPool(2, 2),
            Tanh(),
            Flatten(),
            Dropout(),
            Tanh(),
            *HEAD[1:],
        ),
        (Conv(4, 3), ReLU(), Flatten(), Dropout(), Linear(5), ReLU(), Linear(3), Softmax()),
        (Conv(4, 3, stride=2, rounding="ceil"), Conv(4, 3, stride=4, rounding="ceil"), *HEAD),
        (Conv(4, 3), ReLU(), Conv(4, 3, stride=4, rounding="ceil"), *HEAD),
        (Conv(4, 3), AdaptiveAvgPool(2), *HEAD),
        (Conv(4, 3), ReLU(), AdaptiveAvgPool(2), MaxPool(2, 2), *HEAD),
        (Conv(4, 3), AdaptiveAvgPool(1), *HEAD),  # torch takes a mean there, which keeps no values
        (Conv(4, 3), ReLU(), AdaptiveAvgPool(1), *HEAD),
        (MaxPool(2, 2), Conv(4, 3), *HEAD),  # nothing to keep before the first weights
        (ReLU(), LRN(3), Conv(4, 3), *HEAD),
        (Flatten(), Dropout(), Linear(3), Softmax()),
    ],
    ids=lambda layers: "-".join(type(layer).__name__ for layer in layers),
)
def test_kept_bytes_of_a_few_layers_are_what_autograd_keeps(
    layers: tuple[Layer, ...], network_of: Callable[..., Network]
) -> None:
    network = network_of((3, 12, 12), *layers)
    assert kept_by_autograd(network, 2) == training_memory(network, 2).activations + LABELS_AND_TOTAL_WEIGHT


def test_training_memory_of_alexnet_is_weights_gradients_momentum_and_activations() -> None:
    memory = training_memory(ALEXNET, 128)
    assert memory.weights == memory.gradients == memory.momentum == 60_965_224 * 4
    assert memory.total == 3 * 60_965_224 * 4 + memory.activations
    assert memory.activations == 128 * training_memory(ALEXNET, 1).activations


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-slim", "vgg-d"])
@pytest.mark.parametrize("batch", [1, 2, 128, 1000])
def test_the_largest_batch_fits_exactly(name: str, batch: int) -> None:
    network = network_named(name)
    needed = training_memory(network, batch).total
    assert largest_batch(network, needed) == batch
    assert largest_batch(network, needed - 1) == batch - 1
    assert largest_batch(network, training_memory(network, batch + 1).total - 1) == batch


@pytest.mark.parametrize("available", [0, -1, 1_000_000])
def test_no_batch_fits_where_not_even_the_weights_do(available: int) -> None:
    assert largest_batch(ALEXNET, available) == 0


# --- stacks of 3×3 convolutions ---------------------------------------------------------------------------------------


def test_three_3x3_convolutions_take_45_percent_fewer_weights_than_one_7x7() -> None:
    # Section 2.3 of the VGG paper: 27·C² against 49·C², “81 % more”.
    three, one = (cost_table(kernel_stack(kernel, count)) for kernel, count in ((3, 3), (7, 1)))
    assert three.total("weights") * 49 == one.total("weights") * 27
    assert round(one.total("weights") / three.total("weights") - 1, 2) == 0.81
    assert three.total("macs") * 49 == one.total("macs") * 27


def test_every_stage_of_every_network_has_costs_that_are_not_negative() -> None:
    def numbers(row: Cost) -> list[int]:
        return [*row.operations, row.kept_bytes, row.crossing_bytes, row.weights, row.biases, row.macs]

    def values(stage: Stage) -> int:
        return prod(stage.out_shape)

    for network in NETWORKS.values():
        for row in cost_table(network).rows:
            assert min(numbers(row)) >= 0
            assert row.activation_bytes == 4 * values(row.stage) > 0
