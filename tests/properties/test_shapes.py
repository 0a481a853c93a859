from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from alexnet.build import build
from alexnet.memory import training_memory
from alexnet.spec import (
    LRN,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    Network,
    ReLU,
    SameMapNorm,
    Softmax,
    Tanh,
)
from alexnet.zoo import NETWORKS, network_named
from analysis.costs import cost_table
from analysis.receptive import receptive_fields, seen

if TYPE_CHECKING:
    from alexnet.spec import Layer, Shape

# --- torch by hand ----------------------------------------------------------------------------------------------------


def apply_by_hand(layer: Layer, value: Tensor) -> Tensor:
    """What torch makes of the layer, with its sizes taken from the tensor that arrives and not from the spec."""
    match layer:
        case Conv(rounding="floor"):
            return _conv(layer, value.shape[1])(value)
        case Conv():
            # Zeros at the bottom and right until the windows tile the input.
            rows, columns = (
                next(
                    n for n in range(layer.stride) if (size + n + 2 * layer.padding - layer.kernel) % layer.stride == 0
                )
                for size in value.shape[2:]
            )
            return _conv(layer, value.shape[1])(functional.pad(value, (0, columns, 0, rows)))
        case MaxPool():
            return functional.max_pool2d(value, layer.kernel, layer.stride, ceil_mode=layer.rounding == "ceil")
        case AdaptiveAvgPool():
            return functional.adaptive_avg_pool2d(value, layer.side)
        case Flatten():
            return value.flatten(1)
        case Linear():
            if value.dim() != 2:
                raise RuntimeError("torch would connect the last axis only")
            return nn.Linear(value.shape[1], layer.out_features)(value)
    return value


def _conv(layer: Conv, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels, layer.out_channels, layer.kernel, layer.stride, padding=layer.padding, groups=layer.groups
    )


def shapes_by_hand(layers: tuple[Layer, ...], input_shape: Shape) -> list[Shape] | None:
    """Output shapes of every layer as torch has them on the meta device; None where torch refuses one."""
    shapes = []
    with torch.device("meta"):
        value = torch.empty(1, *input_shape)
        for layer in layers:
            try:
                value = apply_by_hand(layer, value)
            except (RuntimeError, ValueError):
                return None
            shapes.append(tuple(value.shape[1:]))
    return shapes


# --- random networks --------------------------------------------------------------------------------------------------

ROUNDINGS = st.sampled_from(["floor", "ceil"])


@st.composite
def convolutions(draw: st.DrawFn, channels: int) -> Conv:
    """A convolution whose groups divide its input, most of the time."""
    groups = draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0] + [2]))
    return Conv(
        groups * draw(st.integers(1, 3)),
        draw(st.integers(1, 5)),
        stride=draw(st.integers(1, 4)),
        padding=draw(st.integers(0, 2)),
        groups=groups,
        rounding=draw(ROUNDINGS),
    )


@st.composite
def networks(draw: st.DrawFn, *, largest: int = 24) -> Network:
    """A few layers on maps, perhaps flattened and fully connected; perhaps more than the input has room for."""
    channels, layers = draw(st.integers(1, 6)), []
    shape = (channels, draw(st.integers(1, largest)), draw(st.integers(1, largest)))
    for kind in draw(st.lists(st.sampled_from("ccccmmrrtldsa"), max_size=7)):
        match kind:
            case "c":
                layers.append(conv := draw(convolutions(channels)))
                channels = conv.out_channels
            case "m":
                layers.append(MaxPool(draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(ROUNDINGS)))
            case "r":
                layers.append(ReLU())
            case "t":
                layers.append(Tanh())
            case "l":
                divisors = [g for g in range(1, channels + 1) if channels % g == 0]
                layers.append(LRN(draw(st.sampled_from([1, 3, 5])), groups=draw(st.sampled_from(divisors))))
            case "d":
                layers.append(Dropout())
            case "s":
                layers.append(SameMapNorm(draw(st.sampled_from([1, 3, 5])), 1e-3, 0.75))
            case "a":
                layers.append(AdaptiveAvgPool(draw(st.integers(1, 5))))
    if draw(st.booleans()):
        layers.append(Flatten())
        for width in draw(st.lists(st.integers(1, 9), max_size=2)):
            layers += [Linear(width), ReLU(), Dropout()]
    return sequence(shape, *layers)


def sequence(input_shape: Shape, *layers: Layer) -> Network:
    named = tuple((f"l{number}", layer) for number, layer in enumerate(layers, start=1))
    return Network("random", "Random", input_shape, named, "hypothesis", "")


def layers_of(network: Network) -> tuple[Layer, ...]:
    return tuple(layer for _, layer in network.layers)


@settings(max_examples=400)
@given(networks())
def test_the_spec_and_torch_agree_on_every_shape_or_both_refuse(network: Network) -> None:
    expected = shapes_by_hand(layers_of(network), network.input_shape)
    event("refused" if expected is None else "accepted")
    assert network.takes(*network.input_shape[1:]) == (expected is not None)
    if expected is None:
        with pytest.raises(ValueError, match=r"random cannot take|no input up to 1024×1024 passes random"):
            network.stages()
    else:
        assert [stage.out_shape for stage in network.stages()] == expected


@settings(max_examples=200)
@given(networks())
def test_the_built_module_has_the_shapes_and_parameters_of_the_spec(network: Network) -> None:
    assume(network.takes(*network.input_shape[1:]))
    table = cost_table(network)
    with torch.device("meta"):
        model, value = build(network).eval(), torch.empty(2, *network.input_shape)
    for cost, (name, child) in zip(table.rows, model.named_children(), strict=True):
        value = child(value)
        assert (name, tuple(value.shape)) == (cost.name, (2, *cost.stage.out_shape))
        numbers = [parameter.numel() for parameter in child.parameters()]
        assert [cost.weights, cost.biases] == (numbers or [0, 0])
    assert table.total("params") == sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=150)
@given(networks(), st.integers(1, 3))
def test_macs_are_half_the_flops_that_torch_counts(network: Network, batch: int) -> None:
    assume(network.takes(*network.input_shape[1:]))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build(network)(torch.empty(batch, *network.input_shape))
    assert 2 * cost_table(network, batch).total("macs") == counter.get_total_flops()


@settings(max_examples=100)
@given(networks())
def test_the_smallest_side_is_what_a_linear_search_finds(network: Network) -> None:
    assume(network.takes(300, 300))
    channels, layers = network.input_shape[0], layers_of(network)
    runs = (side for side in range(1, 301) if shapes_by_hand(layers, (channels, side, side)) is not None)
    assert network.smallest_side() == next(runs)


@settings(max_examples=150)
@given(networks(largest=14), st.integers(1, 3))
def test_kept_bytes_are_what_autograd_keeps(network: Network, batch: int) -> None:
    features = (layer for layer in layers_of(network) if not isinstance(layer, Flatten | Linear))
    network = sequence(network.input_shape, *features, Flatten(), Linear(3), Softmax())
    assume(network.takes(*network.input_shape[1:]))
    model, kept = build(network).train(), []
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.untyped_storage())  # held, so that no address is used twice
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        image, labels = torch.randn(batch, *network.input_shape), torch.zeros(batch, dtype=torch.int64)
        loss = functional.cross_entropy(model(image), labels)
    assert loss.grad_fn is not None
    storages = {storage.data_ptr(): storage.nbytes() for storage in kept}
    measured = sum(size for address, size in storages.items() if address not in parameters)
    labels_and_total_weight = 8 * batch + 4
    assert measured == training_memory(network, batch).activations + labels_and_total_weight


@settings(max_examples=150)
@given(networks())
def test_a_field_inside_the_image_is_what_windows_reach(network: Network) -> None:
    windows = (layer for layer in layers_of(network) if isinstance(layer, Conv | MaxPool))
    network = sequence(network.input_shape, Conv(network.input_shape[0], 1), *windows)
    shapes, height = shapes_by_hand(layers_of(network), network.input_shape), network.input_shape[1]
    assume(shapes)
    # For every output row, the input rows that its windows reach through all layers.
    reached = [{row} for row in range(height)]
    for layer, (_, rows, _) in zip(layers_of(network), shapes or [], strict=True):
        padding = layer.padding if isinstance(layer, Conv) else 0
        starts = range(-padding, -padding + rows * layer.stride, layer.stride)
        reached = [
            set().union(*(reached[row] for row in range(start, start + layer.kernel) if 0 <= row < len(reached)))
            for start in starts
        ]
    field = receptive_fields(network)[-1]
    for index, rows in enumerate(reached):
        first, last = seen(network, network.layers[-1][0], index)
        assert (first, last) == (
            field.offset + index * field.stride,
            field.offset + index * field.stride + field.size - 1,
        )
        if first >= 0 and last < height:  # else padding hides some of it
            event("inside")
            assert (min(rows), max(rows)) == (first, last)
        else:
            assert all(first <= row <= last for row in rows)


# --- the named networks at any size -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=25)
@given(height=st.integers(1, 300), width=st.integers(1, 300))
@example(height=227, width=227)
@example(height=224, width=224)
@example(height=67, width=66)
@example(height=32, width=31)
def test_a_named_network_takes_a_size_exactly_where_torch_runs_it(name: str, height: int, width: int) -> None:
    network = network_named(name)
    layers = layers_of(network)[:-1]  # but the softmax
    expected = shapes_by_hand(layers, (3, height, width))
    event("refused" if expected is None else "accepted")
    assert network.takes(height, width) == (expected is not None)
    if expected is None:
        with pytest.raises(ValueError, match=f"{name} cannot take 3×{height}×{width}: "):
            network.adapted(input_shape=(3, height, width))
        return
    adapted = network.adapted(input_shape=(3, height, width))
    assert [stage.out_shape for stage in adapted.stages()][:-1] == expected
    with torch.device("meta"):
        assert build(adapted)(torch.empty(2, 3, height, width)).shape == (2, 1000)
