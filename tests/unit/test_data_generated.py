from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from alexnet.data.generated import COUNTS, DESCRIPTIONS, MAX_SIDE, MIN_SIDE, GeneratedSource, colours, gallery

if TYPE_CHECKING:
    from alexnet.data.generated import Split

ROOT = Path(__file__).parents[2]
CLASSES = list(DESCRIPTIONS)


@lru_cache(maxsize=16)
def pictures(name: str, count: int = 20) -> np.ndarray:
    """The first pictures of a class, (count, 160, 160, 3) in 0..255."""
    source = GeneratedSource("train")
    return np.stack([source.read(int(index)) for index in np.flatnonzero(source.labels == CLASSES.index(name))[:count]])


def grey(images: np.ndarray) -> np.ndarray:
    return np.asarray(images @ np.array([0.299, 0.587, 0.114]))


# --- what a source promises ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [MIN_SIDE, 111, 160, 227])
def test_pictures_are_rgb_bytes_of_the_side_asked_for(side: int) -> None:
    source = GeneratedSource("val", count=10, side=side)
    for index in range(len(source)):
        picture = source.read(index)
        assert picture.shape == (side, side, 3)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        assert picture.flags.writeable


@pytest.mark.parametrize("split", ["train", "val"])
def test_labels_are_balanced(split: Split) -> None:
    source = GeneratedSource(split)
    assert len(source) == len(source.labels) == COUNTS[split]
    assert source.labels.dtype == np.int64
    assert np.bincount(source.labels).tolist() == [COUNTS[split] // len(CLASSES)] * len(CLASSES)


def test_labels_of_an_odd_count_are_balanced_within_one() -> None:
    counts = np.bincount(GeneratedSource("train", count=47).labels)
    assert counts.sum() == 47
    assert counts.max() - counts.min() == 1


def test_classes_are_described() -> None:
    assert GeneratedSource("val").classes == tuple(CLASSES)
    assert len(CLASSES) == 10
    assert all(sentence.endswith(".") for sentence in DESCRIPTIONS.values())


def test_names_tell_split_class_and_position() -> None:
    source = GeneratedSource("train")
    assert source.name(10) == "built-in/train/discs/00010"
    assert GeneratedSource("val").name(5) == "built-in/val/red-green checks/00005"
    assert len({source.name(index) for index in range(len(source))}) == len(source)


def test_the_order_of_access_changes_nothing() -> None:
    source = GeneratedSource("train", count=30)
    forwards = [source.read(index) for index in range(30)]
    backwards = [GeneratedSource("train", count=30).read(index) for index in reversed(range(30))]
    assert all(np.array_equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))


def test_a_longer_source_starts_with_the_shorter() -> None:
    assert np.array_equal(GeneratedSource("val", count=20).read(13), GeneratedSource("val").read(13))


def test_indices_may_be_negative_or_of_numpy() -> None:
    source = GeneratedSource("val", count=20)
    assert np.array_equal(source.read(-1), source.read(19))
    assert np.array_equal(source.read(np.int64(3)), source.read(3))  # type: ignore[arg-type]
    assert source.name(-1) == source.name(19)


def test_a_hint_of_the_size_needed_changes_nothing() -> None:
    source = GeneratedSource("val", count=20)
    assert np.array_equal(source.read(3, at_least=64), source.read(3))


def test_another_process_draws_the_same() -> None:
    code = (
        "import hashlib, random; from alexnet.data.generated import GeneratedSource as S; s = S('val', seed=3);"
        "print(*[hashlib.sha256(s.read(i).tobytes()).hexdigest() for i in range(10)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    source = GeneratedSource("val", seed=3)
    assert done.stdout.split() == [hashlib.sha256(source.read(i).tobytes()).hexdigest() for i in range(10)]


def test_the_module_needs_no_torch() -> None:
    code = "import sys, alexnet.data.generated; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_drawing_leaves_numpys_shared_randomness_alone() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002
    GeneratedSource("val").read(4)
    assert np.array_equal(before, np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002


def test_no_picture_comes_twice_in_any_split_or_seed() -> None:
    sources = [GeneratedSource(split, count=60, seed=seed) for split in ("train", "val") for seed in (0, 1)]
    # Thumbnails, so that the same scene with other grain would be found too.
    small = np.stack(
        [
            np.asarray(Image.fromarray(source.read(index)).resize((16, 16), Image.Resampling.BOX), np.float64).ravel()
            for source in sources
            for index in range(60)
        ]
    )
    squares = (small**2).sum(1)
    apart = np.sqrt(np.maximum(squares[:, None] + squares - 2 * small @ small.T, 0) / small.shape[1])
    np.fill_diagonal(apart, np.inf)
    assert apart.min() > 8


def test_a_source_is_cheap_to_send_to_a_worker() -> None:
    source = GeneratedSource("train", seed=5)
    sent = pickle.dumps(source)
    assert len(sent) < 1_000
    back = pickle.loads(sent)  # noqa: S301
    assert np.array_equal(back.labels, source.labels)
    assert np.array_equal(back.read(7), source.read(7))
    assert back.name(7) == source.name(7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "the split must be one of train, val, got 'test'"),
        ({"count": 0}, "the number of pictures must be at least 1, got 0"),
        ({"side": MIN_SIDE - 1}, f"the side must be from {MIN_SIDE} to {MAX_SIDE} pixels, got {MIN_SIDE - 1}"),
        ({"side": MAX_SIDE + 1}, f"the side must be from {MIN_SIDE} to {MAX_SIDE} pixels, got {MAX_SIDE + 1}"),
        ({"seed": -1}, "the seed must not be negative, got -1"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        GeneratedSource(**{"split": "train", **options})


@pytest.mark.parametrize("index", [20, -21])
def test_there_is_no_picture_outside(index: int) -> None:
    source = GeneratedSource("val", count=20)
    for look in (source.read, source.name):
        with pytest.raises(IndexError, match=f"there are 20 pictures, so no picture {index}"):
            look(index)


def test_a_gallery_has_one_column_a_class() -> None:
    source = GeneratedSource("val", count=40, side=100)
    sheet = np.asarray(gallery(source, per_class=3))
    assert sheet.shape == (3 * 104 + 4, 10 * 104 + 4, 3)
    for index in (0, 9, 12, 29):
        row, column = divmod(index, 10)
        top, left = 4 + 104 * row, 4 + 104 * column
        assert np.array_equal(sheet[top : top + 100, left : left + 100], source.read(index))


@pytest.mark.parametrize("per_class", [0, 5])
def test_a_gallery_needs_pictures(per_class: int) -> None:
    with pytest.raises(ValueError, match=f"40 pictures make columns of 1 to 4, got {per_class}"):
        gallery(GeneratedSource("val", count=40), per_class)


# --- colours ---------------------------------------------------------------------------------------------------------


def test_colours_have_the_brightness_asked_for() -> None:
    rng = np.random.default_rng(0)
    hue, chroma, luma = rng.random((3, 500)).astype(np.float32)
    rgb = colours(hue, chroma, luma)
    assert rgb.min() > -1e-5
    assert rgb.max() < 1 + 1e-5
    assert np.abs(grey(rgb) - luma).max() < 1e-5


def test_colours_keep_their_hue() -> None:
    one = np.ones(4, np.float32)
    red, yellow, green, blue = colours(np.array([0, 1 / 6, 1 / 3, 2 / 3], np.float32), one, one * 0.4)
    assert red[0] > red[1] == red[2]
    assert yellow[0] == yellow[1] > yellow[2]
    assert green[1] > green[0] == green[2]
    assert blue[2] > blue[0] == blue[1]


# --- what is in the pictures, measured by other means than they were drawn -------------------------------------------


def spectrum(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Power of the grey picture, the frequency in cycles per side and its direction in degrees, 0 to 180.

    Level stripes have power in direction 90.
    """
    window = np.hanning(len(image))
    values = grey(image)
    power = np.abs(np.fft.fft2((values - values.mean()) * window * window[:, None])) ** 2
    axis = np.fft.fftfreq(len(image), 1 / len(image))
    direction = np.degrees(np.arctan2(axis[:, None], axis[None, :])) % 180
    return power, np.hypot(axis, axis[:, None]), direction


def peak(image: np.ndarray) -> tuple[float, float]:
    """Frequency and direction of the strongest wave between the scene's own (below 8) and the grain's (above 40)."""
    power, frequency, direction = spectrum(image)
    # Photographs and scenes alike have power ∝ 1/f²; what stands out of it is the grating.
    standing_out = power * frequency**2 * ((frequency > 8) & (frequency < 40))
    at = np.unravel_index(standing_out.argmax(), power.shape)
    return float(frequency[at]), float(direction[at])


def share(hits: list[bool]) -> float:
    return sum(hits) / len(hits)


@pytest.mark.parametrize(
    ("name", "directions", "frequencies"),
    [
        ("level stripes", (65, 115), (8.5, 19)),
        ("upright stripes", (-25, 25), (8.5, 19)),
        ("fine stripes", (-90, 90), (20, 36)),
    ],
)
def test_stripes_have_the_direction_and_the_width_of_their_class(
    name: str, directions: tuple[float, float], frequencies: tuple[float, float]
) -> None:
    peaks = [peak(image) for image in pictures(name)]
    turned = [angle - 180 if angle - 180 >= directions[0] else angle for _, angle in peaks]
    inside = [
        directions[0] <= angle <= directions[1] and frequencies[0] <= frequency <= frequencies[1]
        for angle, (frequency, _) in zip(turned, peaks, strict=True)
    ]
    assert share(inside) >= 0.85


def test_fine_stripes_have_every_direction() -> None:
    quarters = {int((peak(image)[1] + 22.5) % 180 // 45) for image in pictures("fine stripes", 40)}
    assert quarters == {0, 1, 2, 3}


def redness(image: np.ndarray) -> float:
    """How much more the middle of a picture varies from red to green than from blue to yellow."""
    thumbnail = np.asarray(Image.fromarray(image).resize((40, 40), Image.Resampling.BOX), np.float64)[10:30, 10:30]
    red, green, blue = np.moveaxis(thumbnail, -1, 0)
    red_green, blue_yellow = red - green, blue - (red + green) / 2
    return float(np.log(red_green.std() / blue_yellow.std()))


@pytest.mark.parametrize("pattern", ["checks", "blobs"])
def test_opponent_classes_differ_along_their_own_axis_of_colour(pattern: str) -> None:
    red_green, blue_yellow = (
        np.array([redness(image) for image in pictures(f"{pair} {pattern}", 60)])
        for pair in ("red-green", "blue-yellow")
    )
    # The chance that a red-green picture scores above a blue-yellow one.
    assert (red_green[:, None] > blue_yellow).mean() > 0.95
    assert np.median(red_green) > 0 > np.median(blue_yellow)


@pytest.mark.parametrize("pattern", ["checks", "blobs"])
def test_brightness_does_not_tell_opponent_classes_apart(pattern: str) -> None:
    """Mean and contrast of the middle of grey pictures come from one distribution (Kolmogorov and Smirnov)."""
    middle = [grey(pictures(f"{colour} {pattern}", 60))[:, 60:100, 60:100] for colour in ("red-green", "blue-yellow")]
    for statistic in (np.mean, np.std):
        a, b = (np.sort(statistic(values, axis=(1, 2))) for values in middle)
        both = np.concatenate([a, b])
        apart = np.abs(np.searchsorted(a, both, "right") - np.searchsorted(b, both, "right")).max() / len(a)
        # 1 % critical value for two samples of 60: 1.63 · sqrt(2 / 60).
        assert apart < 0.298


def radial_slope(images: np.ndarray) -> float:
    """Slope of log power against log frequency, over all directions, from 4 to 40 cycles per side."""
    powers = np.mean([spectrum(image)[0] for image in images], axis=0)
    _, frequency, _ = spectrum(images[0])
    rings = np.arange(4, 41)
    power = [powers[np.abs(frequency - ring) < 0.5].mean() for ring in rings]
    return float(np.polyfit(np.log(rings), np.log(power), 1)[0])


def test_dead_leaves_have_a_power_law_like_that_of_photographs() -> None:
    """Photographs have power ∝ f**−2 and single ones up to f**−3; leaves of one size would have f**−3."""
    assert -3 < radial_slope(pictures("dead leaves", 40)) < -2


def edge_density(image: np.ndarray) -> float:
    smooth = np.asarray(Image.fromarray(image).convert("L").reduce(2), np.float64)
    dy, dx = np.gradient(smooth)
    return float((np.hypot(dx, dy) > 0.25 * smooth.std()).mean())


def test_dead_leaves_have_edges_everywhere_and_shapes_few() -> None:
    leaves = np.median([edge_density(image) for image in pictures("dead leaves")])
    for name in ("discs", "stars"):
        assert leaves > 1.5 * np.median([edge_density(image) for image in pictures(name)])


def straightness(image: np.ndarray) -> float:
    """How much the directions of the strong edges crowd together: 0 for a circle's, large for straight edges."""
    smooth = grey(np.asarray(Image.fromarray(image).reduce(2), np.float64))
    dy, dx = np.gradient(smooth)
    strength = np.hypot(dx, dy)
    strong = strength > np.quantile(strength, 0.95)
    angles = np.degrees(np.arctan2(dy, dx)[strong]) % 360
    histogram = np.histogram(angles, bins=24, range=(0, 360))[0] / strong.sum()
    return float((histogram**2).sum() * 24 - 1)


def test_stars_have_straight_edges_and_discs_round_ones() -> None:
    discs, stars = (np.array([straightness(i) for i in pictures(name, 40)]) for name in ("discs", "stars"))
    # The chance that a star picture scores above a disc picture.
    assert (stars[:, None] > discs).mean() > 0.8


@pytest.mark.parametrize("name", CLASSES)
def test_pictures_vary_and_are_neither_black_nor_white(name: str) -> None:
    images = pictures(name).astype(np.float64)
    means, spreads = images.mean((1, 2, 3)), images.std((1, 2, 3))
    assert 60 < means.mean() < 195
    assert means.std() > 10
    assert spreads.min() > 5
    assert ((images > 0) & (images < 255)).mean() > 0.9


@pytest.mark.parametrize("name", CLASSES)
def test_sizes_are_fractions_of_the_side(name: str) -> None:
    """The same scene at another side, but for the grain: so a small source stands for a large one."""
    index = CLASSES.index(name)
    small, large = (GeneratedSource("val", side=side).read(index) for side in (120, 240))
    shrunk = np.asarray(Image.fromarray(large).reduce(2), np.float64)
    agreement = np.corrcoef(shrunk.ravel(), small.astype(np.float64).ravel())[0, 1]
    assert agreement > 0.9
