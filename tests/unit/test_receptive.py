from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from alexnet.build import module
from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Flatten, Linear, MaxPool, ReLU, SameMapNorm
from alexnet.zoo import NETWORKS, kernel_stack, network_named
from analysis.receptive import receptive_fields, seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Layer, Network, Stage
    from analysis.receptive import ReceptiveField


def fields_by_name(name: str) -> dict[str, ReceptiveField]:
    network = network_named(name)
    return {stage.name: field for stage, field in zip(network.stages(), receptive_fields(network), strict=True)}


# --- published figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-one-tower", "caffenet", "alexnet-owt", "alexnet-half"])
def test_fields_and_strides_of_alexnet(name: str) -> None:
    # 195 and 32 as in Araujo, Norris and Sim, Computing Receptive Fields of Convolutional Neural Networks, 2019.
    expected = {
        "conv1": (11, 4),
        "pool1": (19, 8),
        "conv2": (51, 8),
        "pool2": (67, 16),
        "conv3": (99, 16),
        "conv4": (131, 16),
        "conv5": (163, 16),
        "pool5": (195, 32),
    }
    actual = fields_by_name(name)
    assert {stage: (actual[stage].size, actual[stage].stride) for stage in expected} == expected


@pytest.mark.parametrize(
    ("name", "conv5", "pool5"),
    [("vgg-a", 134, 150), ("vgg-d", 196, 212), ("vgg-e", 252, 268), ("vgg-c", 140, 156)],
)
def test_fields_of_vgg(name: str, conv5: int, pool5: int) -> None:
    # 212 for VGG-16 is published (Araujo et al.).  The others by hand, 2^(b−1) pixels for each step in block b:
    # a 3×3 convolution is two steps, a 2×2 pooling one, a 1×1 convolution none.  C: 1 + 5 + 2·5 + 4·5 + 8·5 + 16·5.
    actual = fields_by_name(name)
    convs = [layer.kernel for _, layer in NETWORKS[name].layers if isinstance(layer, Conv)]
    last = max(stage for stage in actual if stage.startswith("conv5"))
    assert (actual[last].size, actual["pool5"].size) == (conv5, pool5)
    assert (actual["pool5"].stride, len(convs)) == (32, {"vgg-a": 8, "vgg-c": 13, "vgg-d": 13, "vgg-e": 16}[name])


def test_the_fields_of_the_released_definition_grow_by_the_same_map_norm() -> None:
    actual = fields_by_name("alexnet-2012-source")
    # Five values apart by 8 pixels: 51 + 4·8; every later field is larger by the same 32.
    assert [actual[stage].size for stage in ("conv2", "cnorm2", "pool2", "conv5", "pool5")] == [51, 83, 99, 195, 227]


def test_a_stack_of_3x3_convolutions_sees_as_much_as_one_large_kernel() -> None:
    for count, width in ((1, 3), (2, 5), (3, 7)):
        assert receptive_fields(kernel_stack(3, count))[-1][:3] == (width, 1, -count)
    assert receptive_fields(kernel_stack(7, 1))[-1][:3] == (7, 1, -3)


def test_fields_of_alexnet_begin_in_the_padding() -> None:
    actual = fields_by_name("alexnet-2012")
    # Two zeros of padding 8 pixels apart, then one zero 16 apart, three times.
    assert [actual[stage].offset for stage in ("conv1", "pool1", "conv2", "conv3", "conv4", "conv5", "pool5")] == [
        *(0, 0, -16),
        *(-32, -48, -64, -64),
    ]


def test_the_middle_value_of_pool5_does_not_see_the_whole_image_nor_past_it() -> None:
    network = NETWORKS["alexnet-2012"]
    assert seen(network, "pool5", 2) == (0, 194)
    assert seen(network, "pool5", 3, axis=1) == (32, 226)
    assert seen(network, "pool5", 0) == (-64, 130)


@pytest.mark.parametrize("name", ["fc6", "relu7", "prob"])
def test_a_fully_connected_value_sees_the_whole_image(name: str) -> None:
    first, last = seen(NETWORKS["alexnet-2012"], name, 17)
    assert first <= 0
    assert last >= 226


@pytest.mark.parametrize(("axis", "last"), [(0, 6), (1, 12)])
def test_a_fully_connected_value_sees_all_that_windows_reach(
    axis: int, last: int, network_of: Callable[..., Network]
) -> None:
    # Windows of 3 every 2 pixels: three on 8 rows, six on 14 columns; the last row and column are not reached.
    network = network_of((1, 8, 14), Conv(1, 3, stride=2), Flatten(), Linear(4), ReLU(), Linear(2))
    assert seen(network, "l3", 3, axis) == seen(network, "l5", 1, axis) == (0, last)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("index", range(3))
def test_rows_and_columns_of_an_image_that_is_not_square(
    axis: int, index: int, network_of: Callable[..., Network]
) -> None:
    network = network_of((1, 14, 23), Conv(1, 2, stride=2), AdaptiveAvgPool(3))
    image = torch.rand(1, 1, 14, 23, dtype=torch.double, requires_grad=True)
    output = nn.Sequential(*map(smooth, network.stages()))(image)[0, 0]
    (gradient,) = torch.autograd.grad((output[index] if axis == 0 else output[:, index]).sum(), image)
    reached = gradient[0, 0].abs().sum(dim=1 - axis).nonzero().flatten().tolist()
    assert seen(network, "l2", index, axis) == (min(reached), max(reached))


def test_a_stage_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KeyError, match="conv9"):
        seen(NETWORKS["alexnet-2012"], "conv9", 0)


@pytest.mark.parametrize("name", NETWORKS)
def test_fully_connected_layers_see_everything_and_no_earlier_stage_does(name: str) -> None:
    network = network_named(name)
    wholes = [field.whole for field in receptive_fields(network)]
    first = next(i for i, stage in enumerate(network.stages()) if isinstance(stage.layer, Linear))
    assert wholes == [i >= first for i in range(len(wholes))]


# --- against gradients -----------------------------------------------------------------------------------------------


def smooth(stage: Stage) -> nn.Module:
    """The stage with positive weights, and means for maxima, so that a gradient reaches all that it looks at."""
    layer = stage.layer
    if isinstance(layer, MaxPool):
        return nn.AvgPool2d(layer.kernel, layer.stride, ceil_mode=layer.rounding == "ceil")
    one = module(stage).double()
    for parameter in one.parameters():
        nn.init.ones_(parameter)
    return one


def rows_seen(network: Network, index: int) -> tuple[int, ...]:
    """Input rows with a gradient from output row `index` of the last stage."""
    image = torch.rand(1, *network.input_shape, dtype=torch.double) + 1
    image.requires_grad_()
    output = nn.Sequential(*map(smooth, network.stages()))(image)
    (gradient,) = torch.autograd.grad(output[0, 0, index].sum(), image)
    return tuple(gradient.abs().sum(dim=(0, 1, 3)).nonzero().flatten().tolist())


@pytest.mark.parametrize(
    "layers",
    [
        (Conv(2, 5, stride=2, padding=1), ReLU(), MaxPool(3, 2), Conv(2, 3, padding=1)),
        (Conv(2, 3, stride=3), Conv(2, 3), LRN(3), MaxPool(2, 2)),
        (Conv(4, 3, padding=2), Conv(4, 3, padding=2, groups=2), MaxPool(3, 2, "ceil"), Conv(2, 1)),
        (Conv(2, 4, stride=2, rounding="ceil"), MaxPool(3, 1), Conv(1, 2, stride=2, padding=1, rounding="ceil")),
        (Conv(1, 3, stride=2), SameMapNorm(5, 1e-3, 0.75), MaxPool(2, 2)),
        (MaxPool(2, 2), SameMapNorm(3, 1e-3, 0.75), Conv(2, 3, stride=2, padding=1), Conv(2, 3)),
    ],
    ids=lambda layers: "-".join(type(layer).__name__ for layer in layers),
)
def test_a_span_is_where_gradients_arrive(layers: tuple[Layer, ...], network_of: Callable[..., Network]) -> None:
    network = network_of((3, 37, 37), *layers)
    field, rows = receptive_fields(network)[-1], network.stages()[-1].out_shape[1]
    inside = 0
    for index in range(rows):
        first, last = seen(network, network.layers[-1][0], index)
        assert first == field.offset + index * field.stride
        assert last == first + field.size - 1
        if first >= 0 and last < 37:  # where it reaches past the edges, padding hides some of it
            inside += 1
            assert rows_seen(network, index) == tuple(range(first, last + 1)), index
    assert inside >= 2  # so that the stride was checked as well


@pytest.mark.parametrize("index", range(3))
def test_a_span_ends_at_the_edges_of_the_image(index: int, network_of: Callable[..., Network]) -> None:
    network = network_of((1, 9, 9), Conv(1, 3, stride=2, padding=1), Conv(1, 3, stride=2, padding=1))
    first, last = seen(network, "l2", index)
    assert (first, last) == (4 * index - 3, 4 * index + 3)
    assert rows_seen(network, index) == tuple(range(max(first, 0), min(last, 8) + 1))


@pytest.mark.parametrize(
    ("side", "layers"),
    [
        (12, (AdaptiveAvgPool(6),)),
        (24, (Conv(1, 2, stride=2), AdaptiveAvgPool(4))),
        (13, (AdaptiveAvgPool(6),)),
        (28, (Conv(1, 4, stride=4), AdaptiveAvgPool(3))),  # windows of 3, starting at 0, 2 and 4 of 7
        (15, (Conv(1, 3, stride=3), AdaptiveAvgPool(3))),  # windows of 2, 3 and 2
    ],
    ids=["divides", "divides after stride", "13 to 6", "7 to 3 after stride 4", "5 to 3 after stride 3"],
)
def test_what_is_seen_through_average_pooling_is_where_gradients_arrive(
    side: int, layers: tuple[Layer, ...], network_of: Callable[..., Network]
) -> None:
    network = network_of((1, side, side), *layers)
    field, count = receptive_fields(network)[-1], network.stages()[-1].out_shape[1]
    reached = [rows_seen(network, index) for index in range(count)]
    assert field.size == max(len(rows) for rows in reached)  # the widest window
    assert [seen(network, network.layers[-1][0], index) for index in range(count)] == [
        (rows[0], rows[-1]) for rows in reached
    ]
    assert field.stride == Fraction(side, count)


@pytest.mark.parametrize("shape", [(1, 13, 6), (1, 6, 13)])
def test_the_field_of_average_pooling_is_a_square_as_wide_as_its_widest_window(
    shape: tuple[int, int, int], network_of: Callable[..., Network]
) -> None:
    (field,) = receptive_fields(network_of(shape, AdaptiveAvgPool(6)))
    assert field.size == 3  # of 13 in 6 parts, the widest is three; of 6, one


def test_flattening_keeps_the_field_and_a_fully_connected_layer_sees_all(
    network_of: Callable[..., Network],
) -> None:
    conv, flat, full = receptive_fields(network_of((1, 8, 8), Conv(1, 3), Flatten(), Linear(2)))
    assert conv == flat
    assert (flat.whole, full.whole) == (False, True)


def test_a_flattened_value_sees_what_its_place_on_the_maps_sees() -> None:
    network = NETWORKS["alexnet-2012"]
    for value, (row, column) in {0: (0, 0), 7: (1, 1), 36 + 5: (0, 5), 9215: (5, 5)}.items():
        assert seen(network, "flatten", value, axis=0) == seen(network, "pool5", row, axis=0)
        assert seen(network, "flatten", value, axis=1) == seen(network, "pool5", column, axis=1)
