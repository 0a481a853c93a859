from __future__ import annotations

import csv
import io
import json
import os
from cmath import exp
from math import atan2, cos, degrees, hypot, pi, radians, sin, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from alexnet import checkpoints
from alexnet.errors import UserError
from alexnet.spec import Conv, MaxPool, Network, ReLU
from alexnet.zoo import network_from
from analysis import __main__ as command_line
from analysis import kernel_figures, kernels, sheets
from analysis.kernels import (
    colour_sentence,
    frequencies,
    kernel_measures,
    layer_kernels,
    measures_table,
    order,
    random_colourfulness,
    spectrum,
    tower_measures,
    tower_names,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

ROOT = Path(__file__).parents[2]
SIDE = 11


def published(layer: str = "conv1") -> NDArray[np.float32]:
    """Weights of BVLC AlexNet; without them the test skips, saying why."""
    data = Path(os.environ.get("ALEXNET_TEST_DATA") or ROOT.parent / "shared" / "data")
    file = data / "bvlc-alexnet-conv" / f"{layer}_weight.npy"
    if not file.exists():
        pytest.skip("no real weights: bvlc-alexnet-conv is neither in ../shared/data nor in $ALEXNET_TEST_DATA")
    weights: NDArray[np.float32] = np.load(file)
    return weights


def gabor(
    stripes: float, frequency: float, colour: tuple[float, ...] = (1, 1, 1), side: int = SIDE, phase: float = 0.3
) -> Floats:
    """A wave under a Gaussian window; `stripes` in degrees as on paper, so y counts upwards."""
    wave = radians(stripes + 90)
    y, x = np.mgrid[0:side, 0:side] - (side - 1) / 2
    across = x * cos(wave) - y * sin(wave)
    window = np.exp(-(x**2 + y**2) / (2 * (side / 4) ** 2))
    return np.array(colour, np.float64)[:, None, None] * np.cos(2 * pi * frequency * across + phase) * window


def noise(count: int = 96, channels: int = 3, side: int = SIDE, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, channels, side, side))


def measured(*some: Floats) -> tuple[kernels.KernelMeasures, ...]:
    return kernel_measures(np.stack(some))


# --- colour ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("colour", "share"),
    [
        ((1, 1, 1), 0),
        ((-2, -2, -2), 0),
        ((1, 0, 0), 2 / 3),
        ((0, 0, 5), 2 / 3),
        ((1, 1, 0), 1 / 3),
        ((1, -1, 0), 1),
        ((1, 1, -2), 1),
    ],
)
def test_colourfulness_is_the_squared_sine_of_the_angle_to_grey(colour: tuple[float, ...], share: float) -> None:
    # |c|²·cos² = (c·g)² with g = (1, 1, 1)/√3, so the share off the axis is 1 − (r + g + b)²/(3·|c|²).
    assert measured(gabor(30, 0.15, colour))[0].colourfulness == pytest.approx(share, abs=1e-12)


def test_colourfulness_by_projecting_every_weight() -> None:
    weights = noise(6)
    axis = np.full(3, 1 / sqrt(3))
    for kernel, found in zip(weights, kernel_measures(weights), strict=True):
        off = total = 0.0
        for row in range(SIDE):
            for column in range(SIDE):
                pixel = kernel[:, row, column]
                off += float(np.sum((pixel - pixel @ axis * axis) ** 2))
                total += float(np.sum(pixel**2))
        assert found.colourfulness == pytest.approx(off / total)
        assert found.norm == pytest.approx(sqrt(total))


@pytest.mark.parametrize("side", [3, 11])
def test_random_kernels_have_two_thirds_of_colour(side: int) -> None:
    shares = [kernel.colourfulness for kernel in kernel_measures(noise(4000, side=side))]
    chance = random_colourfulness(side * side)
    assert np.mean(shares) == pytest.approx(chance.mean, abs=4 * chance.deviation / sqrt(4000))
    assert np.std(shares) == pytest.approx(chance.deviation, rel=0.05)  # its own standard error is 1.1 %


def test_only_three_input_channels_have_colour() -> None:
    for channels in (1, 4):
        found = kernel_measures(noise(2, channels))
        assert {kernel.colourfulness for kernel in found} == {None}
        (tower,) = tower_measures(found)
        assert (tower.colourfulness, tower.spread, tower.colour, tower.grey) == (None, None, None, None)
        assert tower.smoothness is not None


# --- direction and fineness ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colour", [(1, 1, 1), (1, -1, 0), (0.2, 0, -3)])
@pytest.mark.parametrize("frequency", [0.12, 0.2, 0.31])
@pytest.mark.parametrize("stripes", [0, 20, 45, 80, 90, 110, 135, 170])
def test_a_gabor_is_recognised(stripes: float, frequency: float, colour: tuple[float, ...]) -> None:
    (found,) = measured(gabor(stripes, frequency, colour))
    assert found.orientation is not None
    assert found.frequency == pytest.approx(frequency, abs=0.02)
    assert abs((found.orientation - stripes + 90) % 180 - 90) < 4
    assert found.compactness is not None
    assert found.compactness > 0.9


def test_what_the_directions_are_called() -> None:
    lying, standing, rising = np.zeros((3, 1, SIDE, SIDE))
    lying[:, ::2], standing[:, :, ::2] = 1, 1
    rising[0] = np.fromfunction(
        lambda y, x: np.cos(2 * pi * (x + y) / 5), (SIDE, SIDE)
    )  # constant where x grows as y falls
    found = [kernel.orientation for kernel in measured(lying - 0.5, standing - 0.5, rising)]
    assert found == pytest.approx([0, 90, 45], abs=1)


def test_blobs_have_no_direction() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE] - 5.0
    blob = np.exp(-(x**2 + y**2) / 8)[None]
    slope = 1 + x[None] / 50
    for found in measured(blob, slope):
        assert (found.orientation, found.frequency) == (None, None)
        assert found.compactness is not None


def test_the_spectrum_by_its_definition() -> None:
    kernel = noise(1, 2, 4)[0]
    found, cycles = spectrum(kernel), frequencies()
    assert found.shape == (32, 32)
    assert (cycles[0], cycles[16], cycles[-1]) == (-0.5, 0, 0.5 - 1 / 32)
    for row, column in ((0, 0), (16, 16), (3, 29), (20, 11), (31, 16)):
        power = 0.0
        for channel in kernel:
            total = 0j
            for y in range(4):
                for x in range(4):
                    total += channel[y, x] * exp(-2j * pi * (cycles[row] * y + cycles[column] * x))
            power += abs(total) ** 2
        assert found[row, column] == pytest.approx(power)
    assert found.sum() == pytest.approx(32**2 * np.sum(kernel**2))


def test_many_channels_have_the_spectrum_of_all_of_them() -> None:
    # More channels than pixels take another way through the code (channels are rotated into few).
    kernel = noise(1, 20, 3)[0]
    singly = sum(spectrum(channel[None]) for channel in kernel)
    np.testing.assert_allclose(spectrum(kernel), singly, rtol=1e-9)


def test_a_kernel_larger_than_the_spectrum_is_not_cut() -> None:
    kernel = gabor(90, 0.25, side=40)
    assert spectrum(kernel).shape == (40, 40)
    assert measured(kernel)[0].frequency == pytest.approx(0.25, abs=0.01)


def test_compactness_by_counting_bins() -> None:
    for kernel, found in zip(noise(3), kernel_measures(noise(3)), strict=True):
        power = spectrum(kernel)
        peak = divmod(int(power.argmax()), 32)
        near = 0.0
        for row in range(32):
            for column in range(32):
                for sign in (1, -1):
                    away = [
                        ((at - 16) - sign * (to - 16) + 16) % 32 - 16
                        for at, to in zip((row, column), peak, strict=True)
                    ]
                    if hypot(*away) <= 4:
                        near += power[row, column]
                        break
        assert found.compactness == pytest.approx(near / power.sum())


def test_random_kernels_are_not_compact() -> None:
    # Two discs of 49 bins hold 98 of 1,024, and the peak itself is above the average.
    assert max(kernel.compactness or 0 for kernel in kernel_measures(noise(500))) < 0.25


def test_smoothness_by_loops() -> None:
    kernel = noise(1, 2, 4)[0]
    rough = 0.0
    for channel in kernel:
        for y in range(4):
            for x in range(4):
                rough += (channel[y + 1, x] - channel[y, x]) ** 2 if y < 3 else 0
                rough += (channel[y, x + 1] - channel[y, x]) ** 2 if x < 3 else 0
    assert measured(kernel)[0].smoothness == pytest.approx(rough / np.sum(kernel**2))


@pytest.mark.parametrize("side", [3, 11])
def test_smoothness_of_noise(side: int) -> None:
    # Each of the 2·n·(n − 1) differences has twice a weight's variance, and there are n² weights: 4·(n − 1)/n.
    (whole,) = tower_measures(kernel_measures(noise(3000, side=side)))
    assert whole.smoothness == pytest.approx(4 * (side - 1) / side, rel=0.02)


def test_a_dead_kernel_has_a_norm_and_nothing_else() -> None:
    found = measured(np.zeros((3, 5, 5)), noise(1, 3, 5)[0])
    assert found[0] == kernels.KernelMeasures(0, 0, None, None, None, None, None, 0.0)
    (tower,) = tower_measures(found)
    assert (tower.kernels, tower.colourfulness) == (2, found[1].colourfulness)


@pytest.mark.parametrize(
    ("weights", "towers", "message"),
    [
        (np.zeros((4, 3)), 1, "axes kernel, channel, row and column"),
        (np.full((4, 3, 2, 2), np.nan), 1, "no numbers"),
        (np.zeros((4, 3, 2, 2)), 3, "4 kernels do not split into 3"),
    ],
)
def test_what_cannot_be_measured(weights: Floats, towers: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        kernel_measures(weights, towers)


# --- towers and words ------------------------------------------------------------------------------------------------


def sentence(weights: Floats | NDArray[np.float32], towers: int = 2) -> str:
    names = tower_names(towers, gpus=towers)
    return colour_sentence(tower_measures(kernel_measures(weights, towers)), names, weights.shape[2] * weights.shape[3])


def two_halves(first: tuple[float, ...], second: tuple[float, ...]) -> Floats:
    return np.stack([gabor(angle, 0.2, colour) for colour in (first, second) for angle in range(0, 180, 15)])


def test_the_colour_tower_is_the_one_that_was_measured() -> None:
    weights = two_halves((1, -1, 0), (1, 1, 1))
    assert sentence(weights).startswith(
        "GPU 1 is the colour tower and GPU 2 the grey one: mean colourfulness 1.00 on GPU 1 against 0.00 on GPU 2 "
        "(12 against 0 of 12 kernels have more colour than grey)."
    )
    assert sentence(weights[::-1]).startswith(
        "GPU 2 is the colour tower and GPU 1 the grey one: mean colourfulness 1.00 on GPU 2 against 0.00 on GPU 1"
    )


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [((1, -1, 0), (1, 0, 0), "both are mostly colour"), ((1, 1, 0), (1, 1, 1), "both are mostly grey")],
)
def test_towers_that_differ_on_the_same_side(first: tuple[float, ...], second: tuple[float, ...], what: str) -> None:
    said = sentence(two_halves(first, second))
    assert said.startswith("GPU 1 has more colour than GPU 2")
    assert what in said


def test_random_weights_have_no_colour_tower() -> None:
    for seed in range(20):
        said = sentence(noise(seed=seed))
        assert said.startswith("No tower is clearly the colour one")
        assert "random weights have 2/3" in said


def test_equal_towers_that_are_not_random_are_not_called_so() -> None:
    weights = noise()
    weights[::2] = weights[::2].mean(axis=1, keepdims=True)
    assert sentence(weights).startswith("No tower is clearly the colour one")
    assert "random" not in sentence(weights)


def test_one_tower_has_nothing_to_be_compared_with() -> None:
    weights = two_halves((1, -1, 0), (1, 1, 1))
    assert sentence(weights, 1) == (
        "There is one tower, and 12 of its 24 kernels have more colour than grey (mean colourfulness 0.50)."
    )


def test_deeper_layers_have_no_colour() -> None:
    assert "no colour" in sentence(noise(8, 16, 3))


def test_names_of_towers() -> None:
    assert tower_names(2, 2) == ("GPU 1", "GPU 2")
    assert tower_names(2, 1) == ("tower 1", "tower 2")
    assert tower_names(1, 2) == ("all kernels",)


def test_order_within_each_tower() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE] - 5.0
    blob = 9 * np.exp(-(x**2 + y**2) / 8) * np.ones((3, 1, 1))
    fine, coarse = gabor(45, 0.3, (1, 0, 0)), gabor(20, 0.15, (1, -1, 0))
    found = kernel_measures(np.stack([blob, fine, coarse, coarse, fine, blob]), 2)
    assert order(found) == ((0, 1, 2), (3, 4, 5))
    assert order(found, "frequency") == ((2, 1, 0), (3, 4, 5))  # without one: last
    assert order(found, "orientation") == ((2, 1, 0), (3, 4, 5))
    assert order(found, "colourfulness") == ((2, 1, 0), (3, 4, 5))
    assert order(found, "norm")[1][0] == 5
    assert order(found, "smoothness") == ((0, 2, 1), (5, 3, 4))
    with pytest.raises(UserError, match="sorted by"):
        order(found, "beauty")  # type: ignore[arg-type]


def test_the_table_has_every_kernel() -> None:
    found = kernel_measures(noise(6), 2)
    rows = measures_table(found, tower_names(2, 2), "conv1").records()
    assert [(row["kernel"], row["tower"]) for row in rows] == [(k, f"GPU {1 + (k > 2)}") for k in range(6)]
    assert [row["norm"] for row in rows] == [kernel.norm for kernel in found]


# --- real weights ----------------------------------------------------------------------------------------------------


def test_published_weights_have_their_published_figures() -> None:
    weights = published()
    found = kernel_measures(weights, 2)
    first, second = tower_measures(found)
    assert (first.colourfulness, second.colourfulness) == (
        pytest.approx(0.77, abs=0.005),
        pytest.approx(0.15, abs=0.005),
    )
    assert first.compact + second.compact == 80
    assert np.median([kernel.smoothness or 0 for kernel in found]) == pytest.approx(0.66, abs=0.005)
    assert sentence(weights).startswith("GPU 1 is the colour tower and GPU 2 the grey one")
    halves_swapped = np.concatenate((weights[48:], weights[:48]))
    assert sentence(halves_swapped).startswith("GPU 2 is the colour tower and GPU 1 the grey one")
    assert sentence(weights[np.random.default_rng(0).permutation(96)]).startswith("No tower is clearly the colour one")


def test_figures_that_others_are_compared_with_are_those_of_the_published_weights() -> None:
    weights, stated = published(), kernel_figures.BVLC
    measured_here = kernel_figures.kernel_figures(kernel_measures(weights, 2))
    assert (stated.kernels, stated.compact) == (96, 80) == (measured_here.kernels, measured_here.compact)
    assert stated.smoothness == pytest.approx(measured_here.smoothness, abs=5e-5)
    assert stated.colourfulness == pytest.approx(measured_here.colourfulness, abs=5e-5)


def test_published_gratings_point_where_their_gradients_do() -> None:
    # Another route to the direction: the gradient's structure tensor, whose strongest axis is the wave's.
    weights = published()[48:].astype(np.float64)
    agreed = compared = 0
    for kernel, found in zip(weights, kernel_measures(weights), strict=True):
        if found.orientation is None or (found.compactness or 0) < 0.9:
            continue
        down, right = np.gradient(kernel, axis=(1, 2))
        angle = atan2(-2 * np.sum(down * right), np.sum(right**2) - np.sum(down**2)) / 2
        compared += 1
        agreed += abs((found.orientation - degrees(angle)) % 180 - 90) < 15
    assert compared > 20
    assert agreed >= 0.9 * compared


def test_what_is_expected_of_random_weights_is_what_they_have() -> None:
    expected, found = kernel_figures.random_figures(), kernel_figures.kernel_figures(kernel_measures(noise(2000), 2))
    assert found.compact == expected.compact == 0
    assert found.smoothness == pytest.approx(expected.smoothness, rel=0.01)
    assert found.colourfulness == pytest.approx(expected.colourfulness, rel=0.01)


# --- checkpoints and the command line --------------------------------------------------------------------------------


def small() -> checkpoints.Checkpoint:
    """Two towers with colours in the second; nothing in it is trained."""
    layers = (
        ("conv1", Conv(8, 11, stride=4)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(4, 3, groups=2)),
    )
    network = Network(
        name="alexnet-2012", title="", input_shape=(3, 67, 67), layers=layers, source="", remark="", towers=2, gpus=2
    )
    made = checkpoints.untrained(network_from("alexnet-2012@67"))
    weights = {
        "conv1.weight": np.stack([gabor(40, 0.2, (1, 1, 1))] * 4 + [gabor(70, 0.2, (1, -1, 0))] * 4),
        "conv1.bias": np.zeros(8),
    }
    import torch

    return checkpoints.Checkpoint(
        network, (), made.preprocessing, {k: torch.from_numpy(v).float() for k, v in weights.items()}, {}, {}
    )


def test_kernels_of_a_checkpoint() -> None:
    found = layer_kernels(small())
    assert found.sentence.startswith("GPU 2 is the colour tower")
    assert found.weights.shape == (8, 3, 11, 11)
    assert len(found.table.rows) == 8
    with pytest.raises(UserError, match="no weights for conv2; it has kernels of conv1"):
        layer_kernels(small(), "conv2")
    with pytest.raises(UserError, match="no kernels in 'relu1'; it has kernels of conv1"):
        layer_kernels(small(), "relu1")


def test_kernels_beside_the_published_and_random_ones() -> None:
    found = layer_kernels(small())
    table = kernel_figures.comparison_table(found, "mine")
    assert table is not None
    mine, bvlc, random = table.records()
    assert [row["weights"] for row in (mine, bvlc, random)] == ["mine", "BVLC AlexNet", "random, expected"]
    assert (mine["kernels"], mine["compact"]) == (8, sum(tower.compact for tower in found.towers))
    assert (mine["colourfulness"], mine["colourfulness_other"]) == (1.0, 0.0)  # the second tower's comes first
    assert (bvlc["compact"], bvlc["smoothness"], bvlc["colourfulness"]) == (80, 0.66, 0.766)
    assert (random["compact"], random["smoothness"], random["colourfulness_other"]) == (0, 3.636, 0.667)


def test_kernels_of_another_size_are_not_compared_with_them() -> None:
    checkpoint = checkpoints.untrained(network_from("vgg-a@32").adapted(classes=2, hidden=8))
    assert kernel_figures.comparison_table(layer_kernels(checkpoint, "conv1_1")) is None
    deeper = checkpoints.untrained(network_from("alexnet-2012@67").adapted(classes=2, hidden=8))
    assert kernel_figures.comparison_table(layer_kernels(deeper, "conv2")) is None


def test_the_command_line_knows_the_same_choices() -> None:
    assert command_line.SCALINGS == sheets.SCALINGS
    assert command_line.CHANNELS == sheets.CHANNELS
    assert command_line.MEASURES == kernels.MEASURES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    checkpoints.save(path, checkpoints.untrained(network_from("alexnet-2012@67").adapted(classes=2, hidden=8)))
    return path


def test_the_command_draws_and_prints(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kernels.png"
    assert command_line.main(["kernels", str(checkpoint), "-o", str(out), "--sort", "orientation"]) == 0
    said = capsys.readouterr()
    assert "No tower is clearly the colour one" in said.out
    assert "GPU 2" in said.out
    assert said.err == ""
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        assert picture.size[0] > 1000


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_command_gives_the_table(checkpoint: Path, layer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["kernels", str(checkpoint), "--layer", layer, "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == {"conv1": 96, "conv2": 256}[layer]
    assert command_line.main(["kernels", str(checkpoint), "--layer", layer, "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == len(rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "fc6"], "no kernels in 'fc6'"),
        (["-o", "."], "is a folder"),
        (["-o", "kernels.jpg"], "no name for a PNG"),
        (["-o", "not-there/kernels.png"], "there is no folder not-there"),
        (["-o", "{}", "--channels", "purple"], "no channel 'purple'"),
        (["-o", "{}", "--channels", "3"], "there are 0 to 2"),
        (["-o", "{}", "--layer", "conv2", "--channels", "rgb"], "show their 'pattern'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    checkpoint: Path, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kernels.png"
    assert command_line.main(["kernels", str(checkpoint), *(part.format(out) for part in arguments)]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not out.exists()


def test_a_layer_of_zeros_looks_for_nothing() -> None:
    towers = tower_measures(kernel_measures(np.zeros((4, 3, 5, 5)), 2))
    assert colour_sentence(towers, ("GPU 1", "GPU 2"), 25) == "All weights are 0: these kernels look for nothing."
