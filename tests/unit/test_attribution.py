from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from alexnet.build import build
from alexnet.checkpoints import Checkpoint
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.errors import UserError
from alexnet.inference import Viewer
from alexnet.spec import LRN, Conv, Flatten, Linear, MaxPool, ReLU, SameMapNorm, Softmax, Tanh
from analysis.activations import activations
from analysis.attribution import (
    AGAINST,
    FOR,
    Target,
    cam_stage,
    class_target,
    default_target,
    describe,
    grad_cam,
    gradient,
    guided_backpropagation,
    occlusion,
    overlay,
    resolved,
    signed_picture,
    strongest_unit,
)
from tests.bvlc import bvlc_checkpoint, photographs

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Network
    from analysis.activations import Activations
    from analysis.attribution import Attribution

DIVISOR = torch.tensor([50.0, 60.0, 70.0])[:, None, None]
SIDE = 14


def viewer_of(network: Network, classes: tuple[str, ...] = (), seed: int = 0, *, positive: bool = False) -> Viewer:
    torch.manual_seed(seed)
    weights = {
        name: tensor.abs() if positive else tensor for name, tensor in build(network).double().state_dict().items()
    }
    _, height, width = network.input_shape
    mean = torch.zeros(3, 1, 1) if positive else torch.full((3, 1, 1), 100.0)
    preprocessing = Preprocessing(Geometry(max(height, width), height, width), mean, DIVISOR)
    floats = {name: tensor.float() for name, tensor in weights.items()}
    return Viewer(Checkpoint(network, classes, preprocessing, floats, {}, {}), torch.device("cpu"))


def picture(side: int = SIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


@pytest.fixture(scope="module")
def viewer(request: pytest.FixtureRequest) -> Viewer:
    """conv, ReLU, LRN, pool, conv, ReLU, same-map norm, two fully connected layers: l1 to l11."""
    network_of = request.getfixturevalue("network_of")
    network = network_of(
        (3, SIDE, SIDE),
        *(Conv(6, 3), ReLU(), LRN(3, alpha=0.5, k=1.0, groups=2), MaxPool(3, 2, "ceil")),
        *(Conv(4, 3, padding=1, groups=2), ReLU(), SameMapNorm(3, alpha=0.5, beta=0.75)),
        *(Flatten(), Linear(8), ReLU(), Linear(3), Softmax()),
    )
    return viewer_of(network, ("ant", "bee", "cow"))


@pytest.fixture(scope="module")
def found(viewer: Viewer) -> Activations:
    return activations(viewer, picture())


# --- targets ---------------------------------------------------------------------------------------------------------


def test_the_default_is_the_score_of_the_most_probable_class(viewer: Viewer, found: Activations) -> None:
    target = default_target(found)
    assert target == Target("l11", int(found.values["l11"].argmax()))
    assert target == class_target(found, target.channel)
    assert describe(found, target) == f"the score of {viewer.checkpoint.classes[target.channel]}"
    assert describe(found, Target("l12", 0)) == "the probability of ant"


def test_without_a_classifier_it_is_the_strongest_of_the_last_maps(viewer: Viewer) -> None:
    weights = {name: tensor for name, tensor in viewer.checkpoint.weights.items() if not name.startswith("l11")}
    partial = activations(Viewer(replace(viewer.checkpoint, weights=weights), viewer.device), picture())
    strongest = int(partial.values["l7"].numpy().mean((1, 2)).argmax())
    assert default_target(partial) == Target("l7", strongest)
    assert describe(partial, Target("l7")) == f"the mean of map {strongest} of l7"
    with pytest.raises(UserError, match="no class scores to explain"):
        class_target(partial, 0)


def test_the_strongest_value(found: Activations) -> None:
    values = found.values["l7"].numpy()
    unit = strongest_unit(found, "l7")
    assert values[unit.channel, unit.row, unit.column] == values.max()
    unit = strongest_unit(found, "l7", 2)
    assert (unit.channel, values[2, unit.row, unit.column]) == (2, values[2].max())
    assert describe(found, unit) == f"map 2 of l7 at row {unit.row}, column {unit.column}"
    assert strongest_unit(found, "l9") == Target("l9", int(found.values["l9"].argmax()))


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("l99"), "made-up has no stage 'l99'"),
        (Target("l7", 4), "l7 gives 4×6×6: its channels are numbered 0 to 3, got 4"),
        (Target("l7", 0, 6, 0), "its rows are numbered 0 to 5, got 6"),
        (Target("l7", 0, 0, -1), "its columns are numbered 0 to 5, got -1"),
        (Target("l7", 0, 3), "needs both its row and its column"),
        (Target("l7", None, 3, 3), "a row and a column need a map"),
        (Target("l9", 0, 0, 0), "a row and a column need a map"),
    ],
)
def test_a_target_that_does_not_exist_is_refused(found: Activations, target: Target, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolved(found, target)


# --- gradients -------------------------------------------------------------------------------------------------------


TARGETS = [Target("l11", 1), Target("l12", 2), Target("l7"), Target("l5", 1, 2, 4), Target("l3", 0), Target("l9", 5)]


def changed_value(viewer: Viewer, inputs: torch.Tensor, target: Target) -> float:
    """The target in float64, from functional operations of torch's own written out here."""
    weights = {name: tensor.double() for name, tensor in viewer.checkpoint.weights.items()}
    values = inputs.double()
    for stage in viewer.stages:
        name, layer = stage.name, stage.layer
        match layer:
            case Conv():
                values = functional.conv2d(
                    values,
                    weights[f"{name}.weight"],
                    weights[f"{name}.bias"],
                    layer.stride,
                    layer.padding,
                    groups=layer.groups,
                )
            case Linear():
                values = functional.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])
            case ReLU():
                values = values.clamp(min=0)
            case MaxPool():
                values = functional.max_pool2d(values, layer.kernel, layer.stride, ceil_mode=True)
            case LRN():
                blocks = [
                    functional.local_response_norm(block, 3, alpha=0.5 * 3, beta=0.75, k=1.0)
                    for block in values.chunk(2, 1)
                ]
                values = torch.cat(blocks, 1)
            case SameMapNorm():
                values = values / (1 + 0.5 * functional.avg_pool2d(values.square(), 3, 1, 1)) ** 0.75
            case Flatten():
                values = values.flatten(1)
            case Softmax():
                values = values.softmax(1)
        if name == target.stage:
            break
    channel = values[0, target.channel]
    return float(channel.mean() if target.row is None else channel[target.row, target.column])


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_gradient_is_what_one_level_of_a_pixel_changes(viewer: Viewer, found: Activations, target: Target) -> None:
    target = resolved(found, target)
    result = gradient(viewer, found, target)
    assert result.values.shape == (3, SIDE, SIDE)
    assert result.value == pytest.approx(changed_value(viewer, found.input[None], target), rel=1e-4, abs=1e-6)
    random, step, checked = np.random.default_rng(1), 1e-3, 0
    for _ in range(40):
        colour, row, column = random.integers(3), random.integers(SIDE), random.integers(SIDE)
        values = []
        for sign in (1, -1):
            inputs = found.input[None].double().clone()
            inputs[0, colour, row, column] += sign * step / float(DIVISOR[colour])
            values.append(changed_value(viewer, inputs, target))
        slope = (values[0] - values[1]) / (2 * step)
        assert result.values[colour, row, column] == pytest.approx(slope, rel=1e-3, abs=1e-7)
        checked += slope != 0
    assert checked > 5


def test_heat_is_the_largest_size_over_the_colours(viewer: Viewer, found: Activations) -> None:
    result = gradient(viewer, found, TARGETS[0])
    row, column = 5, 6
    assert result.heat[row, column] == max(abs(float(result.values[colour, row, column])) for colour in range(3))


def test_guided_backpropagation_is_the_gradient_where_nothing_inhibits(network_of: Callable[..., Network]) -> None:
    network = network_of((3, 9, 9), Conv(4, 3), ReLU(), MaxPool(2, 2), Conv(3, 2), ReLU(), Flatten(), Linear(2))
    positive = viewer_of(network, positive=True)
    found = activations(positive, picture(9))
    guided, plain = (method(positive, found, Target("l7", 1)) for method in (guided_backpropagation, gradient))
    np.testing.assert_allclose(guided.values, plain.values, rtol=1e-6)
    assert (guided.values >= 0).all()
    assert guided.values.any()


def test_tanh_passes_a_gradient_on_by_its_slope(network_of: Callable[..., Network]) -> None:
    one = viewer_of(network_of((3, 1, 1), Conv(4, 1), Tanh(), Conv(1, 1)))
    found = activations(one, picture(1))
    first, last = (one.checkpoint.weights[f"{name}.weight"].double().numpy()[:, :, 0, 0] for name in ("l1", "l3"))
    slopes = 1 - np.tanh(found.values["l1"].double().numpy()[:, 0, 0]) ** 2
    expected = (last[0] * slopes) @ first / DIVISOR.flatten().double().numpy()
    for method in (gradient, guided_backpropagation):  # nothing inhibits: both are the gradient
        np.testing.assert_allclose(method(one, found, Target("l3", 0)).values[:, 0, 0], expected, rtol=1e-4)
    assert cam_stage(found, Target("l3", 0)) == "l2"


def test_guided_backpropagation_by_hand(network_of: Callable[..., Network]) -> None:
    # Four 1×1 filters on one pixel and a weighted sum; (value before ReLU, weight behind it) covers each sign of both.
    one = viewer_of(network_of((3, 1, 1), Conv(4, 1), ReLU(), Conv(1, 1)))
    weights = {name: torch.zeros_like(tensor) for name, tensor in one.checkpoint.weights.items()}
    for channel, bias in enumerate((1.0, 1.0, -1.0, -1.0)):
        weights["l1.bias"][channel] = bias
        weights["l1.weight"][channel] = torch.tensor([1.0, 10.0, 100.0])[:, None, None] * (channel + 1) * 1e-6
    weights["l3.weight"][0, :, 0, 0] = torch.tensor([2.0, -3.0, 2.0, -3.0])
    handmade = Viewer(replace(one.checkpoint, weights=weights), torch.device("cpu"))
    found = activations(handmade, np.full((1, 1, 3), 100, np.uint8))  # the mean: an input of 0
    per_level = np.array([1.0, 10.0, 100.0]) / DIVISOR.flatten().numpy() * 1e-6
    plain, guided = (method(handmade, found, Target("l3", 0)) for method in (gradient, guided_backpropagation))
    np.testing.assert_allclose(plain.values[:, 0, 0], (2 * 1 - 3 * 2) * per_level, rtol=1e-5)
    np.testing.assert_allclose(guided.values[:, 0, 0], 2 * 1 * per_level, rtol=1e-5)


# --- occlusion -------------------------------------------------------------------------------------------------------


def test_occlusion_is_what_covering_each_square_takes_away(viewer: Viewer, found: Activations) -> None:
    target, window, stride = Target("l11", 1), 4, 3
    steps = list(occlusion(viewer, found, target, window=window, stride=stride, batch=7))
    starts = [0, 3, 6, 9, 10]  # the last square of 4 ends with the 14 pixels
    whole = changed_value(viewer, found.input[None], target)
    drops = np.zeros((5, 5))
    for i, top in enumerate(starts):
        for j, left in enumerate(starts):
            covered = found.input[None].clone()
            covered[..., top : top + window, left : left + window] = 0
            drops[i, j] = whole - changed_value(viewer, covered, target)
    result = steps[-1].attribution
    np.testing.assert_allclose(result.coarse, drops, atol=1e-5)
    assert np.abs(drops).max() > 1e-3
    for row in range(SIDE):
        for column in range(SIDE):
            over = [
                drops[i, j]
                for i, top in enumerate(starts)
                for j, left in enumerate(starts)
                if top <= row < top + window and left <= column < left + window
            ]
            assert result.values[row, column] == pytest.approx(np.mean(over), abs=1e-5)
    assert [(step.done, step.total) for step in steps] == [(7, 25), (14, 25), (21, 25), (25, 25)]
    assert not steps[0].attribution.values[10:].any()  # not covered yet


def test_squares_that_do_not_lie_on_the_crop_are_refused_at_once(viewer: Viewer, found: Activations) -> None:
    with pytest.raises(UserError, match="1 to 14 pixels wide to lie on the crop, got 15"):
        occlusion(viewer, found, Target("l11", 1), window=15)
    with pytest.raises(UserError, match="move by 1 to 4, so that none is left out; got 5"):
        occlusion(viewer, found, Target("l11", 1), window=4, stride=5)
    (only,) = occlusion(viewer, found, Target("l11", 1), window=14)
    assert (only.total, only.attribution.coarse.shape) == (1, (1, 1))


# --- Grad-CAM --------------------------------------------------------------------------------------------------------


def test_grad_cam_by_hand(network_of: Callable[..., Network]) -> None:
    # Two maps of 2×2 through a fully connected layer: the slope at each position is its weight.
    one = viewer_of(network_of((3, 2, 2), Conv(2, 1), Flatten(), Linear(2)))
    weights = {name: torch.zeros_like(tensor) for name, tensor in one.checkpoint.weights.items()}
    weights["l1.weight"][0, 0], weights["l1.weight"][1, 1] = 50.0, 60.0  # undo the divisors: red, and green, less 100
    weights["l3.weight"][1] = torch.tensor([1.0, 2.0, 3.0, 6.0, -1.0, -2.0, 0.0, 1.0])
    handmade = Viewer(replace(one.checkpoint, weights=weights), torch.device("cpu"))
    pixels = np.array([[[110, 100, 0], [100, 120, 0]], [[104, 130, 0], [100, 100, 0]]], np.uint8)
    result = grad_cam(handmade, activations(handmade, pixels), Target("l3", 1), "l1")
    red, green = np.array([[10, 0], [4, 0]]), np.array([[0, 20], [30, 0]])
    expected = np.maximum((1 + 2 + 3 + 6) / 4 * red + (-1 - 2 + 0 + 1) / 4 * green, 0)  # 3·red − ½·green
    np.testing.assert_allclose(result.coarse, expected, rtol=1e-5)
    assert expected.tolist() == [[30, 0], [0, 0]]
    np.testing.assert_allclose(result.values, expected, rtol=1e-5)  # the crop is as large as the maps
    assert result.value == pytest.approx(1 * 10 + 3 * 4 - 2 * 20 + 0 * 30)


def test_grad_cam_looks_at_the_last_rectified_maps_below_the_weights_of_its_target(found: Activations) -> None:
    assert cam_stage(found, Target("l11", 0)) == "l6"
    assert cam_stage(found, Target("l12", 0)) == "l6"
    assert cam_stage(found, Target("l7", 0)) == "l2"
    assert cam_stage(found, Target("l5", 0)) == "l2"
    with pytest.raises(UserError, match="l2 has only the picture below it"):
        cam_stage(found, Target("l2", 0))


def test_grad_cam_of_any_stage_with_maps_is_enlarged_to_the_crop(viewer: Viewer, found: Activations) -> None:
    result = grad_cam(viewer, found, Target("l11", 0), "l4")
    assert (result.coarse.shape, result.values.shape) == ((6, 6), (SIDE, SIDE))
    assert result.values.min() >= 0
    assert result.value == pytest.approx(float(found.values["l11"][0]), rel=1e-5)
    with pytest.raises(UserError, match="needs maps, and l8 gives a vector of 144"):
        grad_cam(viewer, found, Target("l11", 0), "l8")
    with pytest.raises(UserError, match="l7 lies behind l5"):
        grad_cam(viewer, found, Target("l5", 0), "l7")


# --- what is left behind ---------------------------------------------------------------------------------------------


def every_method(viewer: Viewer, found: Activations) -> list[Attribution]:
    target = Target("l11", 1)
    return [
        gradient(viewer, found, target),
        guided_backpropagation(viewer, found, target),
        grad_cam(viewer, found, target),
        list(occlusion(viewer, found, target))[-1].attribution,
    ]


def test_nothing_is_left_on_the_model_or_the_activations(viewer: Viewer, found: Activations) -> None:
    weights = {name: tensor.clone() for name, tensor in viewer.model.state_dict().items()}
    values = {name: tensor.clone() for name, tensor in found.values.items()}
    shown, children = found.input.clone(), list(viewer.model.named_modules())
    every_method(viewer, found)
    assert list(viewer.model.named_modules()) == children
    assert all(torch.equal(tensor, weights[name]) for name, tensor in viewer.model.state_dict().items())
    assert all(torch.equal(tensor, values[name]) for name, tensor in found.values.items())
    assert torch.equal(found.input, shown)
    assert not any(tensor.requires_grad for tensor in (found.input, *found.values.values()))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in viewer.model.parameters())
    for module in viewer.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
        assert not module._backward_pre_hooks
    assert torch.is_grad_enabled()


def test_two_threads_get_what_one_gets(viewer: Viewer) -> None:
    pictures = [activations(viewer, picture(seed=seed)) for seed in range(6)]
    alone = [every_method(viewer, one) for one in pictures]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda one: every_method(viewer, one), pictures))
    for first, second in zip(alone, together, strict=True):
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.values, other.values)


# --- pictures --------------------------------------------------------------------------------------------------------


def test_an_overlay_is_orange_for_and_blue_against_and_grey_where_nothing_speaks() -> None:
    crop = np.full((1, 4, 3), (100, 150, 50), np.uint8)
    heat = np.array([[2.0, -2.0, 0.0, 1.0]], np.float32)
    painted = overlay(crop, heat, strength=1.0)
    grey = round(0.299 * 100 + 0.587 * 150 + 0.114 * 50)
    assert painted[0].tolist()[:3] == [list(FOR), list(AGAINST), [grey] * 3]
    np.testing.assert_allclose(painted[0, 3], (np.array(FOR) + 123.65) / 2, atol=1)
    assert (overlay(crop, np.zeros((1, 4), np.float32)) == grey).all()
    with pytest.raises(ValueError, match="heat of 2×2 does not lie on a crop of 1×4"):
        overlay(crop, np.zeros((2, 2), np.float32))


def test_signed_values_lie_around_middle_grey() -> None:
    values = np.array([[[-2.0, 0.0]], [[1.0, 2.0]], [[0.0, -1.0]]], np.float32)
    assert signed_picture(values)[0].tolist() == [[0, 191, 128], [128, 255, 64]]
    assert signed_picture(np.zeros((1, 1), np.float32)).tolist() == [[[128] * 3]]


# --- on real weights -------------------------------------------------------------------------------------------------


def test_a_value_of_the_bvlc_stack_answers_to_its_receptive_field_alone() -> None:
    viewer = Viewer(bvlc_checkpoint(), torch.device("cpu"))
    found = activations(viewer, photographs("val", 1)["n01440764"][0])
    target = Target("conv3", 10, 6, 6)
    for method in (gradient, guided_backpropagation):
        heat = method(viewer, found, target).heat
        rows, columns = (np.flatnonzero(heat.any(axis)) for axis in (1, 0))
        # 99 pixels around the middle one of 13 places 16 pixels apart, the first beginning 32 before the crop
        # (the stack's published size and stride): from 6·16 − 32 = 64 to 162.
        assert 64 <= rows.min() < rows.max() <= 162
        assert 64 <= columns.min() < columns.max() <= 162
        assert rows.max() - rows.min() > 50
    for step in occlusion(viewer, found, target, window=57, stride=57):
        result = step.attribution
    # Squares from 0 to 56 and from 170 to 226 lie beside 64 … 162.
    np.testing.assert_allclose(result.coarse[[0, -1]], 0, atol=1e-4)
    assert np.abs(result.coarse[1:-1, 1:-1]).max() > 1
