from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING

import pytest

from alexnet.spec import (
    LRN,
    AdaptiveAvgPool,
    Conv,
    DoesNotFitError,
    Dropout,
    Flatten,
    IllegalNetworkError,
    Linear,
    MaxPool,
    Network,
    ReLU,
    SameMapNorm,
    Softmax,
    Tanh,
    times,
    window_positions,
)
from alexnet.zoo import NETWORKS, kernel_stack, network_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Layer, Rounding, Shape

ALEXNET = NETWORKS["alexnet-2012"]
AXES = [(size, kernel, stride) for size in range(1, 14) for kernel in range(1, 8) for stride in range(1, 6)]


# --- windows ---------------------------------------------------------------------------------------------------------


def whole_windows(size: int, kernel: int, stride: int, padding: int) -> int:
    """Windows laid from the padded edge on as long as they end inside the other padded edge."""
    starts = range(-padding, size + padding, stride)
    return sum(start + kernel <= size + padding for start in starts)


def windows_until_covered(size: int, kernel: int, stride: int, padding: int) -> int:
    """Windows laid until one reaches the far padded edge, none if even the first sticks out by a stride or more."""
    count, end = 1, -padding + kernel
    if end - (size + padding) >= stride:
        return 0
    while end < size + padding:
        count, end = count + 1, end + stride
    return count


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_floor_counts_the_whole_windows(padding: int) -> None:
    for size, kernel, stride in AXES:
        counted = max(window_positions(size, kernel, stride, padding, "floor"), 0)
        assert counted == whole_windows(size, kernel, stride, padding), (size, kernel, stride)


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_ceil_lays_windows_until_the_far_edge_is_covered(padding: int) -> None:
    for size, kernel, stride in AXES:
        counted = max(window_positions(size, kernel, stride, padding, "ceil"), 0)
        assert counted == windows_until_covered(size, kernel, stride, padding), (size, kernel, stride)


def test_pooling_rounded_up_has_no_window_that_starts_outside() -> None:
    dropped = 0
    for size, kernel, stride in AXES:
        covered = windows_until_covered(size, kernel, stride, 0)
        inside = sum(i * stride < size for i in range(covered))
        dropped += covered - inside
        assert max(MaxPool(kernel, stride, "ceil").positions(size), 0) == inside, (size, kernel, stride)
    assert dropped > 0  # the rule mattered somewhere


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_the_two_axes_are_independent(rounding: Rounding) -> None:
    conv = Conv(4, 3, stride=2, padding=1, rounding=rounding)
    rows, columns = conv.out_shape((2, 9, 14))[1:]
    assert (rows, columns) == {"floor": (5, 7), "ceil": (5, 8)}[rounding]


@pytest.mark.parametrize(("size", "side"), [(13, 6), (6, 6), (7, 6), (3, 6), (1, 2), (11, 1)])
def test_adaptive_windows_cover_every_position_in_order(size: int, side: int) -> None:
    pool = AdaptiveAvgPool(side)
    windows = [pool.window(i, size) for i in range(side)]
    assert pool.out_shape((5, size, size)) == (5, side, side)
    assert {position for start, end in windows for position in range(start, end)} == set(range(size))
    assert windows == sorted(windows)
    assert windows == [(size - end, size - start) for start, end in reversed(windows)]  # the same from both ends


# --- layers that cannot be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(0, 3), r"sizes of a convolution must be positive, got Conv\(out_channels=0, kernel=3"),
        (lambda: Conv(8, 0), r"must be positive, got .*kernel=0"),
        (lambda: Conv(8, 3, stride=0), r"must be positive, got .*stride=0"),
        (lambda: Conv(8, 3, padding=-1), r"must be positive, got .*padding=-1"),
        (lambda: Conv(8, 3, groups=0), r"must be positive, got .*groups=0"),
        (lambda: Conv(9, 3, groups=2), r"9 output channels do not split into 2 groups"),
        (lambda: MaxPool(0, 2), r"sizes of a pooling must be positive, got MaxPool\(kernel=0"),
        (lambda: MaxPool(3, 0), r"sizes of a pooling must be positive, got MaxPool\(kernel=3, stride=0"),
        (lambda: LRN(4), r"LRN needs an odd number of neighbouring channels, so that they are centred; got 4"),
        (lambda: LRN(-1), r"LRN needs an odd number .*; got -1"),
        (lambda: SameMapNorm(2, 1e-3, 0.75), r"same-map normalisation needs an odd neighbourhood, got 2"),
        (lambda: Linear(0), r"a fully connected layer needs at least one output, got 0"),
    ],
)
def test_an_impossible_layer_is_refused(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [lambda: AdaptiveAvgPool(0), lambda: LRN(groups=0), lambda: Dropout(1.5), lambda: Dropout(-0.1)],
    ids=["average pooling to 0x0", "LRN in 0 groups", "dropout of 1.5", "dropout of -0.1"],
)
def test_a_layer_that_torch_cannot_run_is_refused_too(make: Callable[[], Layer]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message will do, as long as it is refused here
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv(8, 3, groups=2), (3, 8, 8), r"3 input channels do not split into 2 groups"),
        (Conv(8, 5, padding=1), (3, 2, 8), r"its 5×5 window does not fit there even with 1 rows and columns"),
        (Conv(8, 3), (3, 8, 2), r"its 3×3 window does not fit there$"),
        (Conv(8, 3), (96,), r"needs maps \(channels, height, width\), got a vector of 96"),
        (MaxPool(3, 2), (3, 2, 2), r"its 3×3 window does not fit there$"),
        (MaxPool(3, 2), (9216,), r"needs maps \(channels, height, width\), got a vector of 9216"),
        (AdaptiveAvgPool(2), (4,), r"needs maps \(channels, height, width\), got a vector of 4"),
        (Linear(10), (3, 8, 8), r"cannot connect to the maps 3×8×8 before they are flattened"),
    ],
)
def test_a_layer_says_why_an_input_does_not_suit_it(layer: Layer, shape: Shape, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer.out_shape(shape)


def test_lrn_in_groups_that_do_not_divide_the_channels_is_refused(network_of: Callable[..., Network]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message will do, as long as it is refused here
        network_of((3, 8, 8), LRN(groups=2)).stages()


@pytest.mark.parametrize("layer", [ReLU(), Tanh(), LRN(), SameMapNorm(5, 1e-3, 0.75), Dropout(), Softmax()])
def test_layers_that_work_value_by_value_keep_the_shape(layer: Layer) -> None:
    assert layer.out_shape((6, 4, 9)) == (6, 4, 9)


def test_flatten_lays_all_values_in_a_row() -> None:
    assert Flatten().out_shape((256, 6, 6)) == (9216,)


def test_layers_and_networks_are_frozen() -> None:
    conv = Conv(8, 3)
    with pytest.raises(FrozenInstanceError):
        conv.kernel = 5  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        ALEXNET.name = "mine"  # type: ignore[misc]


@pytest.mark.parametrize(("average", "expected"), [(False, 1e-4), (True, 2e-5)])
def test_alpha_is_divided_by_the_window_where_the_source_averages(average: bool, expected: float) -> None:
    assert LRN(size=5, alpha=1e-4, average=average).alpha_per_square == pytest.approx(expected)


def test_shapes_are_written_with_times_signs() -> None:
    assert times((3, 227, 227)) == "3×227×227"
    assert times((9216,)) == "9216"


# --- sizes that run out ----------------------------------------------------------------------------------------------

# Backwards from the last pooling: its kernel, then (N − 1)·S + F − 2P at every window before it.
SMALLEST = {
    "alexnet-2012": 67,  # 3 → 7 → 15 → 67
    "alexnet-one-tower": 67,
    "alexnet-2012-source": 36,  # rounded up, 2 → 4 → 8 → 7·4 + 11 − 3
    "bvlc-alexnet": 39,  # as caffenet
    "caffenet": 39,  # poolings rounded up: 2 → 4 → 8 → 7·4 + 11
    "alexnet-owt": 63,  # 67, less the padding of 2 on both sides
    "alexnet-half": 63,
    "alexnet-slim": 195,  # 3 → 5 → 7 → 9 → 19 → 23 → 47 → 195
    **dict.fromkeys(("vgg-a", "vgg-a-lrn", "vgg-b", "vgg-c", "vgg-d", "vgg-e"), 32),  # 2⁵
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_side_works_and_one_less_does_not(name: str) -> None:
    network, side = network_named(name), SMALLEST[name]
    assert network.smallest_side() == side
    assert network.adapted(input_shape=(3, side, side)).stages()[-1].out_shape == (1000,)
    with pytest.raises(DoesNotFitError, match=rf"smallest square input that works is {side}×{side}\.") as caught:
        network.adapted(input_shape=(3, side - 1, side - 1))
    assert (caught.value.smallest_side, caught.value.given) == (side, (3, side - 1, side - 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_one_short_axis_is_enough_to_be_refused(name: str) -> None:
    network, side = network_named(name), SMALLEST[name]
    for shape in ((3, side, side - 1), (3, side - 1, side)):
        assert not network.takes(*shape[1:])
        with pytest.raises(DoesNotFitError):
            network.adapted(input_shape=shape)


@pytest.mark.parametrize(
    ("name", "side", "stage", "reached"),
    [
        ("alexnet-2012", 10, "conv1", (3, 10, 10)),
        ("alexnet-2012", 11, "pool1", (96, 1, 1)),
        ("alexnet-2012", 66, "pool5", (256, 2, 2)),  # 66 → 14 → 6 → 2
        ("alexnet-2012", 34, "pool2", (256, 2, 2)),  # 34 → 6 → 2
        ("caffenet", 10, "conv1", (3, 10, 10)),
        ("caffenet", 38, "pool5", (256, 1, 1)),  # 38 → 7 → 3 → 1
        ("alexnet-2012-source", 7, "conv1", (3, 7, 7)),  # four short: not even rounding up helps
        ("alexnet-2012-source", 8, "pool1", (96, 1, 1)),
        ("alexnet-slim", 194, "pool5", (256, 2, 2)),
        ("vgg-d", 31, "pool5", (512, 1, 1)),
        ("vgg-d", 1, "pool1", (64, 1, 1)),
    ],
)
def test_a_size_that_runs_out_names_the_stage_and_what_reached_it(
    name: str, side: int, stage: str, reached: Shape
) -> None:
    with pytest.raises(DoesNotFitError) as caught:
        network_named(name).adapted(input_shape=(3, side, side))
    error = caught.value
    assert (error.network, error.stage, error.reached) == (name, stage, reached)
    text = f"{name} cannot take 3×{side}×{side}: {stage} received {times(reached)} and its "
    assert str(error).startswith(text)
    assert f"works is {SMALLEST[name]}×{SMALLEST[name]}." in str(error)


def test_the_smallest_side_is_the_first_that_a_linear_search_finds(network_of: Callable[..., Network]) -> None:
    network = network_of(
        (2, 64, 64), Conv(4, 4, stride=3, rounding="ceil"), MaxPool(2, 3, "ceil"), Conv(2, 3, padding=1), MaxPool(3, 2)
    )
    first = next(side for side in range(1, 100) if network.takes(side, side))
    assert network.smallest_side() == first > 1


def test_layers_that_never_fit_together_are_reported_as_such(network_of: Callable[..., Network]) -> None:
    with pytest.raises(ValueError, match=r"no input up to 1024×1024 passes made-up: its layers do not fit together"):
        network_of((3, 8, 8), Linear(10)).stages()


# --- adapted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 0, 0), r"from 1 to 1,024 pixels, got 0×0; the smallest square input .* alexnet-2012 can take is 67×67"),
        ((3, -5, 227), r"from 1 to 1,024 pixels, got -5×227; .* 67×67"),
        ((3, 227, 1_000_000), r"from 1 to 1,024 pixels, got 227×1000000; .* 67×67"),
        ((3, 1025, 1025), r"from 1 to 1,024 pixels, got 1025×1025; .* 67×67"),
        ((3, 10, 10), r"conv1 received 3×10×10 and its 11×11 window does not fit there\. .* 67×67"),
        ((1, 227, 227), r"takes 3 channels \(red, green, blue\), got 1: write 3×227×227"),
        ((4, 227, 227), r"takes 3 channels .*, got 4: write 3×227×227"),
        ((227, 227, 3), r"takes 3 channels .*, got 227: write 3×227×3"),
        ((227, 227), r"an input has channels, height and width, like 3×227×227; got 227×227"),
        ((1, 3, 227, 227), r"an input has channels, height and width, like 3×227×227; got 1×3×227×227"),
    ],
)
def test_an_input_that_cannot_be_names_value_rule_and_remedy(shape: Shape, message: str) -> None:
    with pytest.raises(IllegalNetworkError, match=message):
        ALEXNET.adapted(input_shape=shape)


def test_channels_are_called_colours_only_where_there_are_three() -> None:
    with pytest.raises(IllegalNetworkError, match=r"takes 256 channels") as caught:
        kernel_stack(3, 2).adapted(input_shape=(3, 28, 28))
    assert "red, green, blue" not in str(caught.value)


def test_the_largest_side_is_accepted() -> None:
    network = NETWORKS["alexnet-owt"].adapted(input_shape=(3, 1024, 1024))
    assert network.stages()[0].out_shape == (64, 255, 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 0}, r"the number of classes must be from 1 to 100,000, got 0"),
        ({"classes": -1}, r"the number of classes must be from 1 to 100,000, got -1"),
        ({"classes": 100_001}, r"the number of classes must be from 1 to 100,000, got 100,001"),
        ({"hidden": 0}, r"the width of the hidden layers must be from 1 to 16,384, got 0"),
        ({"hidden": 1_000_000}, r"the width of the hidden layers must be from 1 to 16,384, got 1,000,000"),
        ({"hidden": 4097}, r"4,097 hidden neurons do not split over the 2 towers of alexnet-2012; try 4,098"),
        ({"hidden": 1}, r"1 hidden neurons do not split over the 2 towers of alexnet-2012; try 2"),
    ],
)
def test_a_width_that_cannot_be_names_value_rule_and_remedy(change: dict[str, int], message: str) -> None:
    with pytest.raises(IllegalNetworkError, match=message):
        ALEXNET.adapted(**change)


@pytest.mark.parametrize("hidden", [4096, 1024, 2, 16_384])
def test_classes_and_hidden_change_the_fully_connected_layers_alone(hidden: int) -> None:
    network = ALEXNET.adapted(classes=7, hidden=hidden)
    shapes = {stage.name: stage.out_shape for stage in network.stages()}
    assert [shapes[name] for name in ("fc6", "fc7", "fc8", "prob")] == [(hidden,), (hidden,), (7,), (7,)]
    assert (network.classes, network.hidden) == (7, hidden)
    assert [pair for pair in network.layers if not isinstance(pair[1], Linear)] == [
        pair for pair in ALEXNET.layers if not isinstance(pair[1], Linear)
    ]
    biases = [layer.init_bias for _, layer in network.layers if isinstance(layer, Linear)]
    assert biases == [1, 1, 0]  # how it is initialised does not change with its width


def test_classes_alone_leave_the_hidden_layers_and_hidden_alone_the_classes() -> None:
    assert (ALEXNET.adapted(classes=10).hidden, ALEXNET.adapted(hidden=10).classes) == (4096, 1000)


def test_the_original_is_not_changed() -> None:
    ALEXNET.adapted(input_shape=(3, 99, 99), classes=7, hidden=10)
    assert (ALEXNET.input_shape, ALEXNET.classes, ALEXNET.hidden) == ((3, 227, 227), 1000, 4096)


def test_towers_that_merge_before_the_hidden_layers_take_an_odd_width() -> None:
    assert NETWORKS["alexnet-slim"].adapted(hidden=4097).hidden == 4097


def test_one_tower_takes_an_odd_width() -> None:
    assert NETWORKS["alexnet-owt"].adapted(hidden=4097).hidden == 4097


def test_the_remedy_for_three_towers_splits_over_three(network_of: Callable[..., Network]) -> None:
    network = network_of((3, 8, 8), Conv(6, 3, groups=3), Flatten(), Linear(9), Linear(2), towers=3, merged_at="l4")
    with pytest.raises(IllegalNetworkError, match=r"4 hidden neurons do not split over the 3 towers.*; try 6"):
        network.adapted(hidden=4)


def test_a_network_without_classifier_has_no_classes_to_change() -> None:
    stack = kernel_stack(3, 2)
    assert (stack.classes, stack.hidden) == (None, None)
    with pytest.raises(IllegalNetworkError, match=r"two 3×3 has no classifier to give 10 classes"):
        stack.adapted(classes=10)


def test_a_network_without_hidden_layers_has_no_width_to_change(network_of: Callable[..., Network]) -> None:
    network = network_of((3, 8, 8), Flatten(), Linear(10))
    assert (network.classes, network.hidden) == (10, None)
    with pytest.raises(IllegalNetworkError, match=r"made-up has no hidden fully connected layer to make 64 wide"):
        network.adapted(hidden=64)


# --- notes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-one-tower", "caffenet"])
def test_the_note_on_224_says_that_it_gives_54(name: str) -> None:
    network = network_named(name).adapted(input_shape=(3, 224, 224))
    assert (224 - 11) // 4 + 1 == 54 == network.stages()[0].out_shape[1]
    notes = network.notes()
    assert "224 gives 54, not 55" in notes[0]
    assert notes[1] == (
        "conv1: (224 − 11)/4 + 1 = 54.25, rounded down to 54; 1 row or column at the far edge never seen"
    )


@pytest.mark.parametrize(("shape", "remarks"), [((3, 224, 300), 1), ((3, 300, 224), 1), ((3, 225, 225), 0)])
def test_the_remark_on_224_is_made_wherever_a_side_is_224(shape: Shape, remarks: int) -> None:
    notes = ALEXNET.adapted(input_shape=shape).notes()
    assert sum("The paper prints 224" in note for note in notes) == remarks


def test_sizes_that_divide_have_no_notes() -> None:
    assert NETWORKS["vgg-d"].notes() == ()
    assert ALEXNET.notes() == ()


def test_padding_at_the_far_edge_is_not_counted_as_unseen() -> None:
    notes = NETWORKS["alexnet-owt"].notes()
    # 224 + 2·2 − 11 = 217 = 54·4 + 1: the row that no window reaches is padding.
    assert notes == ("conv1: (224 − 11 + 2·2)/4 + 1 = 55.25, rounded down to 55",)


def test_rounding_up_is_noted_as_reaching_past_the_edge() -> None:
    assert NETWORKS["alexnet-2012-source"].notes() == (
        "conv1: (224 − 11)/4 + 1 = 54.25, rounded up to 55; the last window reaches past the edge",
    )


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 0), (3, 4, 1), (5, 4, 1), (2, 3, 0), (7, 5, 2)])
def test_rows_said_to_be_unseen_are_exactly_those_that_no_window_covers(
    network_of: Callable[..., Network], kernel: int, stride: int, padding: int
) -> None:
    noted = 0
    for side in range(kernel, 30):
        network = network_of((1, side, side), Conv(1, kernel, stride=stride, padding=padding))
        seen = {
            row
            for i in range(whole_windows(side, kernel, stride, padding))
            for row in range(i * stride - padding, i * stride - padding + kernel)
        }
        # Rows beyond the last window; those that a large stride skips between windows are another matter.
        lost = side - 1 - max(seen & set(range(side)))
        (note,) = network.notes() or ("",)
        noted += bool(lost)
        assert f"; {lost} row{'s' * (lost != 1)} or" in note if lost else "never seen" not in note, side
    assert noted > 0


def test_two_different_axes_get_a_note_each() -> None:
    network = replace(ALEXNET, input_shape=(3, 228, 229), side_remarks=())
    assert [note[:33] for note in network.notes()[:2]] == [
        "conv1: (228 − 11)/4 + 1 = 55.25, ",
        "conv1: (229 − 11)/4 + 1 = 55.5, r",
    ]
