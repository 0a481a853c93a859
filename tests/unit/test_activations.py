from __future__ import annotations

import csv
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from alexnet.build import build
from alexnet.checkpoints import Checkpoint, save, untrained
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.errors import UserError
from alexnet.inference import Viewer
from alexnet.spec import AdaptiveAvgPool, Conv, Dropout, Flatten, Linear, MaxPool, Network, ReLU, Softmax
from alexnet.zoo import NETWORKS, network_from
from analysis.__main__ import main
from analysis.activations import (
    Box,
    activations,
    by_strength,
    field_of,
    histogram,
    maps_picture,
    npy,
    npz,
    probabilities,
    stage_table,
    strengths,
    top_classes,
    why_no_classes,
    write_folder,
)
from tests.bvlc import SIDE, bvlc_checkpoint, original, photographs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CPU = torch.device("cpu")


def viewer_of(network: Network, classes: tuple[str, ...] = (), seed: int = 0) -> Viewer:
    """Random weights, large enough for every stage to do something."""
    torch.manual_seed(seed)
    _, height, width = network.input_shape
    geometry = Geometry(max(height, width), height, width)
    mean, divisor = torch.full((3, 1, 1), 100.0), torch.tensor([50.0, 60.0, 70.0])[:, None, None]
    return Viewer(
        Checkpoint(network, classes, Preprocessing(geometry, mean, divisor), build(network).state_dict(), {}, {}), CPU
    )


def picture(height: int = 40, width: int = 50, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def small(request: pytest.FixtureRequest) -> Viewer:
    network_of = request.getfixturevalue("network_of")
    network = network_of(
        (3, 26, 22),
        *(Conv(6, 5, stride=2, padding=1, groups=3), ReLU(), MaxPool(3, 2, "ceil"), Conv(8, 3, padding=1, groups=2)),
        *(ReLU(), AdaptiveAvgPool(3), Flatten(), Linear(12), ReLU(), Dropout(), Linear(4), Softmax()),
        towers=2,
    )
    return viewer_of(network, ("ant", "bee", "cow", "dog"))


# --- against an independent forward pass -----------------------------------------------------------------------------


def by_hand(crop: np.ndarray) -> dict[str, torch.Tensor]:
    """Caffe's AlexNet up to pool5 in torch.nn.functional alone: the published arrays, on blue, green, red."""
    red_green_blue = torch.from_numpy(crop).permute(2, 0, 1).float() - original("mean_rgb_227")
    values, found = red_green_blue.flip(0)[None], {}
    strides, paddings, groups = {1: 4}, {1: 0, 2: 2}, {1: 1, 3: 1}
    for layer in range(1, 6):
        weight, bias = original(f"conv{layer}_weight"), original(f"conv{layer}_bias")
        values = functional.conv2d(
            values, weight, bias, strides.get(layer, 1), paddings.get(layer, 1), groups=groups.get(layer, 2)
        )
        found[f"conv{layer}"] = values
        values = found[f"relu{layer}"] = functional.relu(values)
        if layer <= 2:
            values = found[f"norm{layer}"] = functional.local_response_norm(values, 5, 1e-4, 0.75, 1.0)
        if layer in {1, 2, 5}:
            values = found[f"pool{layer}"] = functional.max_pool2d(values, 3, 2, ceil_mode=True)
    return {name: values[0] for name, values in found.items()}


def test_the_bvlc_stack_agrees_with_a_forward_pass_in_plain_functional_on_photographs() -> None:
    viewer = Viewer(bvlc_checkpoint(), CPU)
    some = [pictures[0] for pictures in photographs("val", 1).values()]
    assert len(some) == 10
    for one in some:
        crop = np.array(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BILINEAR))  # all are square
        found, expected = activations(viewer, one), by_hand(crop)
        assert np.array_equal(found.crop, crop)
        assert set(found.values) == {*expected, "flatten"}
        for name, values in expected.items():
            torch.testing.assert_close(found.values[name], values, rtol=1e-4, atol=1e-5 * float(values.abs().max()))
        assert torch.equal(found.values["flatten"], found.values["pool5"].flatten())
        assert found.values["pool5"].shape == (256, 6, 6)


def test_two_threads_see_what_one_sees() -> None:
    viewer = viewer_of(network_from("alexnet-2012@67:no-lrn").adapted(hidden=16, classes=5))
    pictures = [picture(90, 80, seed) for seed in range(6)]
    alone = [activations(viewer, one).values for one in pictures]
    with ThreadPoolExecutor(2) as pool:
        together = [found.values for found in pool.map(lambda one: activations(viewer, one), pictures)]
    for first, second in zip(alone, together, strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(alone[0]["prob"], alone[1]["prob"])


def test_one_walk_leaves_nothing_behind_on_the_model(small: Viewer) -> None:
    before = {name: values.clone() for name, values in small.model.state_dict().items()}
    found = activations(small, picture())
    for module in small.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(torch.equal(values, before[name]) for name, values in small.model.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in small.model.parameters())
    assert not any(values.requires_grad for values in found.values.values())
    with pytest.raises(FrozenInstanceError):
        found.classes = ()  # type: ignore[misc]


def test_every_stage_has_its_shape_and_what_enters_it_is_the_stage_before(small: Viewer) -> None:
    found = activations(small, picture())
    stages = small.checkpoint.network.stages()
    assert [(stage.name, tuple(found.values[stage.name].shape)) for stage in stages] == [
        (stage.name, stage.out_shape) for stage in stages
    ]
    assert found.entering("l1") is found.input
    assert found.entering("l5") is found.values["l4"]
    assert found.crop.shape == (26, 22, 3)
    # The mean of 100 and the divisors 50, 60 and 70, put in by hand.
    expected = (found.crop.astype(float) - 100) / np.array([50, 60, 70])
    np.testing.assert_allclose(found.input.numpy(), expected.transpose(2, 0, 1), rtol=1e-6)
    assert [stage.name for stage in found.maps] == [f"l{number}" for number in range(1, 7)]
    with pytest.raises(UserError, match="made-up has no stage 'l99'; there are l1, l2"):
        found.stage("l99")


def test_values_that_are_no_numbers_are_refused_by_the_first_stage_that_gives_them(small: Viewer) -> None:
    weights = {name: tensor.clone() for name, tensor in small.checkpoint.weights.items()}
    weights["l4.weight"][3, 1, 0, 0] = float("nan")
    broken = Viewer(replace(small.checkpoint, weights=weights), CPU)
    with pytest.raises(UserError, match=r"^l4 gives values that are no numbers"):
        activations(broken, picture())


# --- classes ---------------------------------------------------------------------------------------------------------


def test_the_most_probable_classes_in_order_with_their_names(small: Viewer) -> None:
    found = activations(small, picture())
    scores = found.values["l11"].double().numpy()
    expected = np.exp(scores) / np.exp(scores).sum()
    best = top_classes(found, 5)  # of four classes
    assert [one.number for one in best] == np.argsort(-expected).tolist()
    assert [one.name for one in best] == [("ant", "bee", "cow", "dog")[one.number] for one in best]
    assert [one.probability for one in best] == pytest.approx(sorted(expected, reverse=True), rel=1e-5)
    assert len(top_classes(found, 2)) == 2
    assert why_no_classes(found) == ""


def test_classes_without_names_are_numbered_and_a_network_may_end_in_scores(network_of: Callable[..., Network]) -> None:
    found = activations(viewer_of(network_of((3, 8, 8), Flatten(), Linear(3))), picture())
    assert {one.name for one in top_classes(found)} == {"class 0", "class 1", "class 2"}
    assert sum(one.probability for one in top_classes(found)) == pytest.approx(1, abs=1e-6)


def test_a_partial_checkpoint_says_what_is_missing(small: Viewer) -> None:
    weights = {name: tensor for name, tensor in small.checkpoint.weights.items() if not name.startswith(("l8", "l11"))}
    found = activations(Viewer(replace(small.checkpoint, weights=weights), CPU), picture())
    assert list(found.values) == [f"l{number}" for number in range(1, 8)]
    assert top_classes(found) == ()
    assert probabilities(found) is None
    assert why_no_classes(found) == (
        "No classes: the checkpoint has no weights for l8, l11. Everything up to l7 can be looked at."
    )
    with pytest.raises(UserError, match="l9 could not be computed: the checkpoint has no weights for l8, l11"):
        found.stage("l9")


def test_a_network_without_classifier_says_so(network_of: Callable[..., Network]) -> None:
    found = activations(viewer_of(network_of((3, 8, 8), Conv(2, 3), ReLU())), picture())
    assert why_no_classes(found) == "No classes: made-up ends in maps, it has no classifier."
    assert top_classes(found) == ()


def test_random_weights_can_be_looked_through() -> None:
    network = network_from("alexnet-2012@67").adapted(hidden=16, classes=7)
    found = activations(Viewer(untrained(network), CPU), picture())
    assert len(top_classes(found)) == 5
    assert float(probabilities(found).sum()) == pytest.approx(1, abs=1e-5)


# --- strength --------------------------------------------------------------------------------------------------------


MAPS = torch.tensor(
    [
        [[0.0, 0.0], [0.0, 0.0]],
        [[0.0, 8.0], [0.0, 0.0]],
        [[1.0, 1.0], [1.0, 2.0]],
        [[-4.0, 3.0], [0.0, 1.0]],
        [[5.0, 5.0], [5.0, 5.0]],
        [[2.0, 2.0], [2.0, 2.0]],
    ]
)


def test_strength_of_each_channel() -> None:
    found = strengths(MAPS)
    assert found.mean.tolist() == [0, 2, 1.25, 0, 5, 2]
    assert found.max.tolist() == [0, 8, 2, 3, 5, 2]
    assert found.zeros.tolist() == [1, 0.75, 0, 0.25, 0, 0]
    assert strengths(torch.tensor([3.0, 0.0])).zeros.tolist() == [0, 1]


def test_channels_by_strength_within_each_tower() -> None:
    assert [order.tolist() for order in by_strength(MAPS)] == [[4, 1, 5, 2, 0, 3]]
    assert [order.tolist() for order in by_strength(MAPS, 2)] == [[1, 2, 0], [4, 5, 3]]
    assert [order.tolist() for order in by_strength(MAPS, 2, "max")] == [[1, 2, 0], [4, 3, 5]]
    with pytest.raises(ValueError, match="6 channels do not split into 4 towers"):
        by_strength(MAPS, 4)


def test_a_histogram_counts_every_value_and_has_a_border_at_zero() -> None:
    values = torch.tensor([-1.0, -0.5, 0.0, 0.1, 1.0, 2.0, 3.0])
    found = histogram(values, 4)
    assert found.edges.tolist() == pytest.approx([-1, 0, 1, 2, 3])
    assert found.counts.tolist() == [2, 2, 1, 2]
    assert histogram(torch.zeros(2, 3), 5).counts.tolist() == [0, 0, 6, 0, 0]
    assert histogram(torch.arange(10.0), 5).counts.tolist() == [2, 2, 2, 2, 2]
    lopsided = histogram(torch.tensor([-1e-9, 1.0]), 3)
    assert lopsided.counts.sum() == 2
    assert 0 in lopsided.edges


# --- what a value sees -----------------------------------------------------------------------------------------------


def test_what_a_value_of_pool5_sees_is_cut_off_at_the_crop() -> None:
    network = NETWORKS["alexnet-2012"]
    found = field_of(network, "pool5", (0, 3))
    # 195 pixels wide, 32 apart, beginning 64 pixels before the first (Araujo et al. 2019 for the width).
    assert found.whole == Box(-64, 32, 131, 227)
    assert found.box == Box(0, 32, 131, 227)
    assert found.padding == (64, 0, 0, 0)
    assert (found.box.height, found.box.width) == (131, 195)
    assert field_of(network, "pool5", (5, 5)).padding == (0, 0, 64, 64)
    assert field_of(network, "fc6", (17,)).box == Box(0, 0, 227, 227)


def test_what_a_value_of_a_vector_sees_is_its_place_in_the_maps() -> None:
    network = NETWORKS["alexnet-2012"]
    assert field_of(network, "flatten", (36 * 7 + 6 * 2 + 3,)) == field_of(network, "pool5", (2, 3))


def test_a_changed_pixel_outside_the_box_changes_nothing_and_inside_it_does(small: Viewer) -> None:
    network, one = small.checkpoint.network, picture(26, 22)
    rows, columns = network.stages()[3].out_shape[1:]
    preprocessing = small.checkpoint.preprocessing
    plain = preprocessing.inputs(torch.from_numpy(one)[None])
    for place in ((0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)):
        box = field_of(network, "l4", place).box
        for inside in (True, False):
            mask = np.zeros((26, 22, 1), bool)
            mask[box.top : box.bottom, box.left : box.right] = True
            changed = np.where(mask == inside, 255 - one, one)
            outputs = []
            for inputs in (plain, preprocessing.inputs(torch.from_numpy(changed)[None])):
                walked = {stage.name: values for stage, values in small.walk(inputs)}
                outputs.append(walked["l4"][0, :, place[0], place[1]].detach())
            assert torch.allclose(*outputs, atol=1e-5) is not inside


def test_a_place_wholly_in_the_padding_sees_no_pixel(network_of: Callable[..., Network]) -> None:
    found = field_of(network_of((3, 6, 6), Conv(1, 1, padding=2)), "l1", (0, 9))
    assert (found.box.height, found.box.width) == (0, 0)
    assert found.padding == (2, 0, 0, 2)


def test_a_place_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError, match="pool5 gives 256×6×6; there is no place"):
        field_of(NETWORKS["alexnet-2012"], "pool5", (6, 0))
    with pytest.raises(IndexError):
        field_of(NETWORKS["alexnet-2012"], "fc6", (1, 1))
    with pytest.raises(KeyError):
        field_of(NETWORKS["alexnet-2012"], "pool9", (0, 0))


# --- to take away ----------------------------------------------------------------------------------------------------


def test_the_table_states_spread_zeros_and_silent_maps(small: Viewer) -> None:
    weights = {name: tensor.clone() for name, tensor in small.checkpoint.weights.items()}
    weights["l4.weight"][2], weights["l4.bias"][2] = 0, -1  # a map that ReLU silences on every picture
    found = activations(Viewer(replace(small.checkpoint, weights=weights), CPU), picture())
    records = {record["stage"]: record for record in stage_table(found).records()}
    assert list(records) == list(found.values)
    relu = found.values["l5"].numpy()
    assert records["l5"]["silent_maps"] == sum(not relu[channel].any() for channel in range(8)) >= 1
    assert records["l5"]["zeros"] == pytest.approx(1 - np.count_nonzero(relu) / relu.size, rel=1e-5)
    assert records["l4"]["shape"] == "8×6×5"
    conv = found.values["l4"].numpy().astype(float)
    assert (records["l4"]["min"], records["l4"]["max"]) == pytest.approx((conv.min(), conv.max()))
    assert records["l4"]["mean"] == pytest.approx(conv.mean(), rel=1e-4)
    assert records["l8"]["silent_maps"] is None


def test_files_hold_every_value(small: Viewer) -> None:
    found = activations(small, picture())
    read = np.load(io.BytesIO(npy(found, "l4")))
    assert read.dtype == np.float32
    assert np.array_equal(read, found.values["l4"].numpy())
    with np.load(io.BytesIO(npz(found))) as archive:
        assert set(archive.files) == {"crop", "input", *found.values}
        assert np.array_equal(archive["crop"], found.crop)
        assert all(np.array_equal(archive[name], values.numpy()) for name, values in found.values.items())
    with pytest.raises(UserError, match="no stage 'conv9'"):
        npy(found, "conv9")


def test_a_stage_drawn_by_tower_with_the_strongest_map_first(small: Viewer) -> None:
    found = activations(small, picture())
    drawn = np.asarray(maps_picture(found, "l5")).astype(int)
    strongest = by_strength(found.values["l5"], 2)
    assert strongest[0][0] != 0  # else the order would not show
    yellow = np.abs(drawn - np.array([253, 231, 37])).sum(2) < 8  # viridis at its lightest: each map's greatest value
    rows, columns = np.nonzero(yellow)
    across = drawn.shape[1] / 4  # four maps in a row, the same width for each, in either tower's half
    for tower, half in enumerate((rows < drawn.shape[0] / 2, rows >= drawn.shape[0] / 2)):
        for place, channel in enumerate(strongest[tower]):
            values = found.values["l5"][channel].numpy()
            here = half & (columns // across == place)
            assert here.any() == bool(values.any())
            if here.any():  # within the tile, whose columns are five, a margin aside
                within = (columns[here].mean() / across - place) * 5
                assert within == pytest.approx(np.argwhere(values == values.max())[0, 1] + 0.5, abs=0.6)
    with pytest.raises(UserError, match="l7 gives a vector of 72, no maps to draw"):
        maps_picture(found, "l7")


def test_a_folder_holds_what_was_asked_for(small: Viewer, tmp_path: Path) -> None:
    found, steps = activations(small, picture()), []
    write_folder(found, tmp_path / "new" / "er", ("l5", "l12", "l5"), lambda *counts: steps.append(counts))
    names = {"l5.npy", "l5.png", "l12.npy", "picture.png", "stages.csv"}
    assert {path.name for path in (tmp_path / "new" / "er").iterdir()} == names
    assert steps == [(1, 2), (2, 2)]
    assert np.array_equal(np.load(tmp_path / "new" / "er" / "l5.npy"), found.values["l5"].numpy())
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new" / "er" / "picture.png")), found.crop)
    with (tmp_path / "new" / "er" / "stages.csv").open(encoding="utf-8", newline="") as file:
        assert [row["stage"] for row in csv.DictReader(file)] == list(found.values)


def test_a_stage_name_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    name = str(tmp_path / "elsewhere")
    network = Network("hostile", "", (3, 8, 8), ((name, ReLU()),), "", "")
    found = activations(viewer_of(network), picture())
    with pytest.raises(UserError, match="cannot name a file"):
        write_folder(found, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_do_not_fit_the_network_are_refused(small: Viewer) -> None:
    other = replace(small.checkpoint.preprocessing, geometry=Geometry(30, 30, 30))
    with pytest.raises(UserError, match="makes pictures of 3×30×30, and its network takes 3×26×22"):
        activations(Viewer(replace(small.checkpoint, preprocessing=other), CPU), picture())


# --- command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(small: Viewer, tmp_path: Path) -> Path:
    save(tmp_path / "small.pt", small.checkpoint)
    Image.fromarray(picture()).save(tmp_path / "picture.png")
    (tmp_path / "notes.txt").write_text("no picture\n")
    return tmp_path


def test_the_command_writes_a_folder_and_prints_stages_and_classes(
    files: Path, small: Viewer, capsys: pytest.CaptureFixture[str]
) -> None:
    out = files / "out"
    arguments = ["activations", str(files / "small.pt"), str(files / "picture.png"), "-o", str(out), "--device", "cpu"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    found = activations(small, picture())
    best = top_classes(found)[0]
    assert f"{100 * best.probability:.1f} %  {best.name}" in printed
    assert f"Activations of {small.checkpoint.network.name}" in printed
    assert {path.stem for path in out.glob("*.npy")} == set(found.values)
    assert {path.stem for path in out.glob("*.png")} == {"picture", *(stage.name for stage in found.maps)}
    np.testing.assert_allclose(np.load(out / "l11.npy"), found.values["l11"].numpy(), rtol=1e-6)
    assert main(arguments) == 2
    assert "is not empty: choose another folder, or write into this one with --force" in capsys.readouterr().err
    (out / "l11.npy").unlink()
    assert main([*arguments, "--force", "--stage", "l11"]) == 0
    assert (out / "l11.npy").exists()


@pytest.mark.parametrize(
    ("checkpoint", "image", "more", "message"),
    [
        ("small.pt", "notes.txt", (), "not a picture"),
        ("small.pt", "missing.png", (), "missing.png: cannot be opened"),
        ("missing.pt", "picture.png", (), "missing.pt"),
        ("notes.txt", "picture.png", (), "notes.txt"),
        ("small.pt", "picture.png", ("--stage", "l99"), "no stage 'l99'"),
        ("small.pt", "picture.png", ("--device", "tpu"), "--device must be like cpu"),
        ("small.pt", "picture.png", ("--device", "cpu,cpu"), "device"),
        ("small.pt", "picture.png", ("-o", "small.pt"), "small.pt is a file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(
    checkpoint: str,
    image: str,
    more: tuple[str, ...],
    message: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)
    assert main(["activations", checkpoint, image, "-o", "out", *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("python -m analysis activations: ")
    assert error.count("\n") == 1
    assert not (files / "out").exists()
