"""Previews of preprocessing and augmentation, against what the loader and the trainer make of the same pictures."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.data.images import decode
from alexnet.data.loading import TrainingBatches
from alexnet.data.preprocessing import Augmentation, Geometry, Preprocessing, StatisticsGatherer
from alexnet.data.preview import SAMPLE, preview
from alexnet.data.sources import open_data
from alexnet.errors import UserError
from alexnet.presets import configured
from app.figures.preview import preview_svg
from tests.training import folder_of_pictures

if TYPE_CHECKING:
    from pathlib import Path

    from alexnet.config import TrainConfig

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("pictures"))


def config(data: object, **changes: Any) -> TrainConfig:
    tiny = {"network": "alexnet-2012@67", "hidden": 8, "side": 76, "batch": 8, "seed": 5}
    return configured("quick", str(data), **{**tiny, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"jitter_to": 90}, {"mirror": False, "random_crop": False}, {"colour_noise": 0.0}, {"colour_noise": 2.0}],
    ids=str,
)
def test_what_is_shown_is_what_the_training_will_draw(pictures: Path, changes: dict[str, Any]) -> None:
    recipe = config(pictures, **changes)
    found = preview(recipe, 3, 4)
    source = open_data(str(pictures)).train
    augmentation = Augmentation(recipe.random_crop, recipe.mirror, recipe.colour_noise, recipe.jitter_to)
    batches = TrainingBatches(source, Geometry(76, 67, 67), augmentation, 5, 8)
    drawn = {}  # the pixels of every picture in every epoch, by a way of its own: numpy, one picture at a time
    for place in batches.places(0, 4 * batches.steps_per_epoch):
        batch = batches[place]
        order = np.random.Generator(np.random.Philox(np.random.SeedSequence([5, place.epoch]))).permutation(48)
        for row, index in enumerate(order[place.batch * 8 : place.batch * 8 + 8].tolist()):
            crop = batch.crops[row].numpy().astype(np.float64)
            drawn[place.epoch, index] = (crop[:, ::-1] if batch.mirrored[row] else crop, batch, row)
    assert [example.label for example in found.examples] == ["class0", "class1", "class2"]
    for example in found.examples:
        assert source.name(example.index) == example.name
        for epoch, draw in enumerate(example.draws):
            pixels, batch, row = drawn[epoch, example.index]
            assert (draw.epoch, draw.top, draw.left) == (epoch, int(batch.tops[row]), int(batch.lefts[row]))
            assert draw.mirrored == bool(batch.mirrored[row])
            expected = np.clip(np.round(pixels + np.array(draw.shift, np.float32)), 0, 255)
            np.testing.assert_allclose(draw.pixels, expected, atol=1)  # a half may be rounded either way
            alphas = batch.alphas[row].numpy()
            assert (np.abs(draw.shift).max() > 0) == (recipe.colour_noise > 0)
            assert np.linalg.norm(draw.shift) <= 255 * np.abs(alphas).max()  # eigenvalues are below 1
    draws = [draw for example in found.examples for draw in example.draws]
    if recipe.jitter_to:
        assert len({draw.side for draw in draws}) > 4
    else:
        assert {draw.side for draw in draws} == {76}
    if recipe.random_crop:
        assert len({(draw.top, draw.left) for draw in draws}) > 6


@pytest.mark.parametrize("mean", ["image", "channel"])
@pytest.mark.parametrize("unit", [False, True])
def test_the_networks_input_is_the_validations(pictures: Path, mean: Any, unit: bool) -> None:
    found = preview(config(pictures, mean=mean, unit_variance=unit), 3, 1)
    source = open_data(str(pictures)).train
    assert found.sampled == found.pictures == len(source) == 48
    gatherer = StatisticsGatherer(76)
    for index in range(48):
        gatherer.add(np.asarray(Image.fromarray(source.read(index)).resize((76, 76), Image.Resampling.LANCZOS)))
    near = gatherer.result()  # another filter, so only nearly the same
    np.testing.assert_allclose(found.mean, near.mean, atol=0.5)
    np.testing.assert_allclose(found.deviation, near.deviation, rtol=0.05)
    crops = np.stack([example.validation for example in found.examples])
    for example in found.examples:
        np.testing.assert_array_equal(example.validation, example.square[4:71, 4:71])
    shown = Preprocessing.of(near, Geometry(76, 67, 67), mean_image=mean == "image", unit_variance=unit)
    inputs = shown.inputs(torch.from_numpy(crops.copy()), 4, 4).permute(0, 2, 3, 1).numpy()
    span = found.high - found.low
    assert (found.low, found.high) == pytest.approx((inputs.min(), inputs.max()), abs=0.05 * span)
    received = np.stack([example.received for example in found.examples])
    assert received.min() == 0
    assert received.max() == 255
    np.testing.assert_allclose(found.low + received / 255 * span, inputs, atol=0.05 * span)


def test_pictures_come_evenly_from_the_classes(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "ten", classes=10, per_class=3, val=1)
    labels = [example.label for example in preview(config(root), 4, 1).examples]
    assert labels == ["class0", "class2", "class5", "class7"]
    several = preview(config(root), 23, 1).examples
    assert len({example.index for example in several}) == 23
    assert {example.label for example in several} == {f"class{number}" for number in range(10)}


def test_what_cannot_be_read_is_named_and_the_next_is_shown(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path, classes=2, per_class=3, val=1)
    (root / "train" / "class0" / "000.png").write_bytes(b"")
    found = preview(config(root), 2, 1)
    assert [example.name for example in found.examples] == ["train/class0/001.png", "train/class1/000.png"]
    assert found.unreadable == ("train/class0/000.png: zero bytes",)
    for path in root.glob("train/*/*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"every one was unreadable; the first: train/class0/000.png"):
        preview(config(root), 2, 1)


@pytest.mark.parametrize(
    ("name", "message"), [("gone", "No such file"), ("empty", "holds no picture"), ("file", "is a file")]
)
def test_data_that_cannot_be_used_is_said(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    with pytest.raises(UserError, match=message):
        preview(config(tmp_path / name))


def test_large_data_is_sampled() -> None:
    found = preview(configured("quick", "built-in"), 4, 2)
    assert found.pictures == 4000
    assert found.sampled == SAMPLE <= 200
    assert len(found.examples) == 4


def test_originals_are_reduced(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path, classes=2, per_class=2, val=1)
    path = root / "train" / "class0" / "000.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 600, 3), np.uint8)).save(path)
    example = preview(config(root), 1, 1).examples[0]
    assert example.original.shape == (128, 256, 3)
    assert example.original_size == decode(path).shape[:2] == (300, 600)


# --- the sheet -------------------------------------------------------------------------------------------------------


def test_the_sheet_has_a_row_for_each_picture_and_a_column_for_each_step(pictures: Path) -> None:
    found = preview(config(pictures), 3, 4)
    text = preview_svg(found, title="Made of & <pictures>")
    root = ET.fromstring(text)  # noqa: S314 - our own
    assert root.get("aria-label") == "Made of & <pictures>"
    headings = [element.text for element in root.iter(f"{SVG}text") if element.get("class") == "head"]
    assert headings == ["original", "square", "epoch 1", "epoch 2", "epoch 3", "epoch 4", "validation", "input"]
    images = list(root.iter(f"{SVG}image"))
    assert len(images) == 3 * len(headings)
    lines = [element.text or "" for element in root.iter(f"{SVG}text") if element.get("class") is None]
    assert lines[0] == "class0 · train/class0/000.png, 80×80 pixels"
    assert "48 of 48 pictures" in lines[-1]
    # A crop is as much smaller than the square as its pixels are fewer, and every tile lies in the sheet.
    square, crop = images[1], images[2]
    assert float(crop.get("width", 0)) / float(square.get("width", 1)) == pytest.approx(67 / 76, abs=0.01)
    wide, high = (float(size) for size in root.get("viewBox", "").split()[2:])
    for image in images:
        assert float(image.get("x", 0)) + float(image.get("width", 0)) <= wide + 0.1
        assert float(image.get("y", 0)) + float(image.get("height", 0)) <= high
    data = re.sub("^data:image/jpeg;base64,", "", square.get("href", ""))
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert shown.shape == found.examples[0].square.shape
    assert np.abs(shown - found.examples[0].square).mean() < 6  # JPEG, of noisy stripes
    (title,) = crop.findall(f"{SVG}title")
    draw = found.examples[0].draws[0]
    assert f"from row {draw.top}, column {draw.left} at a short side of 76" in (title.text or "")
