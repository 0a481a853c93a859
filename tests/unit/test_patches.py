from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from alexnet.checkpoints import untrained
from alexnet.data.images import UnreadableImageError, square
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.errors import UserError
from alexnet.inference import Viewer
from alexnet.spec import LRN, Conv, Flatten, Linear, MaxPool, Network, ReLU, Softmax
from analysis import patches
from analysis.patches import Patch, crop_of, most_exciting, patch_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.checkpoints import Checkpoint
    from alexnet.data.images import Pixels
    from analysis.patches import Exciting

SIDE = 24

NETWORK = Network(
    name="small",
    title="",
    input_shape=(3, SIDE, SIDE),
    layers=(
        ("conv1", Conv(6, 5, stride=2, padding=1)),
        ("relu1", ReLU()),
        ("norm1", LRN()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(4, 3, padding=1, groups=2)),
        ("flatten", Flatten()),
        ("fc3", Linear(5)),
        ("prob", Softmax()),
    ),
    source="",
    remark="",
    towers=2,
    gpus=2,
    merged_at="flatten",
)


@dataclass
class Pictures:
    """Pictures in memory; those in `broken` cannot be read."""

    pixels: list[Pixels]
    broken: frozenset[int] = frozenset()

    @property
    def classes(self) -> tuple[str, ...]:
        return ("all",)

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.zeros(len(self.pixels), np.int64)

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        return f"all/{index}.png"

    def read(self, index: int, at_least: int | None = None) -> Pixels:
        del at_least
        if index in self.broken:
            raise UnreadableImageError(self.name(index), "zero bytes")
        return self.pixels[index]


def some_pictures(count: int = 11, broken: tuple[int, ...] = ()) -> Pictures:
    random = np.random.default_rng(0)
    sizes = random.integers(30, 60, (count, 2))
    return Pictures(
        [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes], frozenset(broken)
    )


def checkpoint(network: Network = NETWORK, **weights: Tensor) -> Checkpoint:
    made = untrained(network, "he", seed=1)
    random = torch.Generator().manual_seed(0)
    return replace(
        made,
        network=network,
        preprocessing=Preprocessing(
            Geometry(28, SIDE, SIDE), 255 * torch.rand(3, 28, 28, generator=random), torch.full((3, 1, 1), 60.0)
        ),
        weights={**made.weights, **{name.replace("_", "."): values for name, values in weights.items()}},
    )


def viewer(made: Checkpoint | None = None) -> Viewer:
    return Viewer(made or checkpoint(), torch.device("cpu"))


def last(found: Iterator[Exciting]) -> Exciting:
    *_, result = found
    return result


def inputs(made: Checkpoint, picture: Pixels) -> tuple[Pixels, Tensor]:
    """A picture's crop and the network's input, written out once more."""
    crop = square(picture, 28)[2:26, 2:26]
    values = torch.from_numpy(crop.astype(np.float32)).permute(2, 0, 1)
    return crop, ((values - made.preprocessing.mean[:, 2:26, 2:26]) / 60)[None]


def maps(made: Checkpoint, picture: Pixels, stage: str) -> Tensor:
    """The maps of conv1, relu1 or pool1 without LRN, in plain torch."""
    _, values = inputs(made, picture)
    values = functional.conv2d(values, made.weights["conv1.weight"], made.weights["conv1.bias"], stride=2, padding=1)
    return values[0] if stage == "conv1" else values.relu()[0]


# --- against a scan of every value -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["conv1", "relu1"])
@pytest.mark.parametrize("batch", [1, 4, 32])
def test_the_strongest_places_by_scanning_everything(stage: str, batch: int) -> None:
    made, source = checkpoint(), some_pictures()
    found = last(most_exciting(viewer(made), source, stage, count=4, batch=batch))
    assert found.values.shape == (6, 4)
    for channel in range(6):
        scanned = []
        for number, picture in enumerate(source.pixels):
            channels = maps(made, picture, stage)[channel]
            best = (-float("inf"), 0, 0)
            for row in range(channels.shape[0]):
                for column in range(channels.shape[1]):
                    best = max(best, (float(channels[row, column]), -row, -column))
            scanned.append((best[0], number, -best[1], -best[2]))
        scanned.sort(key=lambda entry: (-entry[0], entry[1]))
        for patch, (value, number, row, column) in zip(found.patches(channel), scanned, strict=False):
            assert patch[:1] + patch[2:4] == (number, row, column)
            assert patch.value == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("stage", ["norm1", "pool1", "conv2", "fc3", "flatten", "prob"])
def test_every_stage_can_be_asked(stage: str) -> None:
    look, source = viewer(), some_pictures()
    found = last(most_exciting(look, source, stage, count=3, batch=4))
    for channel in range(found.stage.out_shape[0]):
        values = []
        for picture in source.pixels:
            output = {here.name: out for here, out in look.walk(inputs(look.checkpoint, picture)[1])}[stage]
            values.append(float(output[0, channel].max()))
        strongest = sorted(range(len(values)), key=lambda number: (-values[number], number))[:3]
        assert found.values[channel] == pytest.approx([values[number] for number in strongest], rel=1e-4, abs=1e-6)
        assert found.pictures[channel].tolist() == strongest


def test_a_patch_is_all_that_its_value_depends_on() -> None:
    # The value comes back from the patch alone, whatever the rest of the picture is.
    made, source = checkpoint(), some_pictures(5)
    found = last(most_exciting(viewer(made), source, "conv1", count=5))
    for patch in found.patches(2):
        crop, values = inputs(made, source.pixels[patch.picture])
        np.testing.assert_array_equal(crop_of(made.preprocessing, source, patch.picture), crop)
        top, bottom, left, right = patch.inside(SIDE, SIDE)
        other = torch.full_like(values, 1e3)
        other[..., top : bottom + 1, left : right + 1] = values[..., top : bottom + 1, left : right + 1]
        output = functional.conv2d(other, made.weights["conv1.weight"], made.weights["conv1.bias"], stride=2, padding=1)
        assert float(output[0, 2, patch.row, patch.column]) == pytest.approx(patch.value, rel=1e-4)


def test_an_edge_is_found_where_it_is() -> None:
    kernel = torch.zeros(6, 3, 5, 5)
    kernel[0] = 1
    made = checkpoint(conv1_weight=kernel, conv1_bias=torch.zeros(6))
    flat = np.full((28, 28, 3), 10, np.uint8)
    bright = flat.copy()
    bright[2 + 11 : 2 + 16, 2 + 5 : 2 + 10] = (
        255  # rows 11 to 15 and columns 5 to 9 of the crop: output row 6, column 3
    )
    made = replace(
        made, preprocessing=Preprocessing(Geometry(28, SIDE, SIDE), torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    )
    first, second = last(most_exciting(viewer(made), Pictures([flat, bright]), "conv1")).patches(0)
    assert first == Patch(1, 75 * 255.0, 6, 3, (11, 15), (5, 9))
    assert second.value == 75 * 10.0
    image = patch_image(crop_of(made.preprocessing, Pictures([flat, bright]), 1), first)
    assert image.shape == (5, 5, 3)
    assert (image == 255).all()


# --- channels that never say yes -------------------------------------------------------------------------------------


def test_negative_channels_have_their_least_negative_place() -> None:
    made = checkpoint(conv1_bias=torch.full((6,), -1e4))
    found = last(most_exciting(viewer(made), some_pictures(), "conv1", count=3))
    assert (found.values < 0).all()
    assert (np.diff(found.values, axis=1) <= 0).all()


def test_silent_channels_keep_the_first_pictures() -> None:
    made = checkpoint(conv1_bias=torch.full((6,), -1e4))
    found = last(most_exciting(viewer(made), some_pictures(), "relu1", count=3, batch=2))
    assert not found.values.any()
    assert found.pictures.tolist() == [[0, 1, 2]] * 6


def test_values_that_are_no_numbers_are_told() -> None:
    made = checkpoint(conv1_bias=torch.full((6,), float("nan")))
    with pytest.raises(UserError, match="conv1 gives values that are no numbers"):
        last(most_exciting(viewer(made), some_pictures(), "conv1"))


# --- the pass over the pictures --------------------------------------------------------------------------------------


def test_progress_is_told_and_what_is_known_so_far() -> None:
    found = list(most_exciting(viewer(), some_pictures(11, broken=(3, 4)), "conv1", count=9, batch=4))
    assert [(now.done, now.total) for now in found] == [(0, 11), (4, 11), (8, 11), (11, 11)]
    assert [now.values.shape[1] for now in found] == [0, 3, 6, 9]
    assert found[-1].unreadable == ("all/3.png", "all/4.png")
    assert set(found[-1].pictures.ravel().tolist()) == set(range(11)) - {3, 4}
    assert [patch.picture for patch in found[0].patches(0)] == []


def test_a_search_can_be_left() -> None:
    search = most_exciting(viewer(), some_pictures(), "conv1", batch=1)
    next(search)
    now = next(search)
    assert (now.done, now.pictures.ravel().tolist()) == (1, [0] * 6)


def test_a_part_of_the_pictures_is_spread_evenly() -> None:
    found = last(most_exciting(viewer(), some_pictures(11), "conv1", pictures=4))
    assert sorted(found.pictures[0].tolist()) == [0, 2, 5, 8]
    assert last(most_exciting(viewer(), some_pictures(3), "conv1", pictures=50)).total == 3


def test_nothing_behind_the_stage_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    look = viewer()
    monkeypatch.setattr(look.model.get_submodule("relu1"), "forward", lambda _values: pytest.fail("went on"))
    assert last(most_exciting(look, some_pictures(), "conv1")).done == 11


def test_gradients_are_left_as_they_were() -> None:
    for _ in most_exciting(viewer(), some_pictures(4), "conv1", batch=1):
        assert torch.is_grad_enabled()


def test_no_map_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    original = patches._maxima

    def counted(*arguments: object) -> tuple[Tensor, Tensor]:
        greatest, places = original(*arguments)  # type: ignore[arg-type]
        kept.append((greatest.untyped_storage().nbytes(), places.untyped_storage().nbytes()))
        return greatest, places

    monkeypatch.setattr(patches, "_maxima", counted)
    last(most_exciting(viewer(), some_pictures(8), "conv1", batch=4))
    assert kept == [(4 * 6 * 4, 4 * 6 * 8)] * 2


def test_what_cannot_be_searched() -> None:
    look = viewer()
    with pytest.raises(UserError, match="small has no stage 'conv9'; there are conv1, relu1"):
        most_exciting(look, some_pictures(), "conv9")
    lacking = checkpoint()
    del lacking.weights["conv2.weight"], lacking.weights["conv2.bias"]  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="fc3 cannot be computed: the checkpoint has no weights for conv2; there are"):
        most_exciting(viewer(lacking), some_pictures(), "fc3")
    assert last(most_exciting(viewer(lacking), some_pictures(), "pool1")).done == 11
    with pytest.raises(UserError, match="no pictures"):
        most_exciting(look, Pictures([]), "conv1")
    with pytest.raises(UserError, match="1 or more"):
        most_exciting(look, some_pictures(), "conv1", count=0)
    with pytest.raises(UserError, match="none of the 2 pictures could be read, all/0"):
        last(most_exciting(look, some_pictures(2, broken=(0, 1)), "conv1"))


# --- cutting out -----------------------------------------------------------------------------------------------------


def test_the_part_beyond_the_edge_is_grey_and_told() -> None:
    crop = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)
    corner = Patch(0, 1.0, 0, 0, (-2, 3), (20, 27))
    image = patch_image(crop, corner)
    assert image.shape == (6, 8, 3)
    for row in range(6):
        for column in range(8):
            y, x = row - 2, column + 20
            expected = crop[y, x].tolist() if 0 <= y < SIDE and 0 <= x < SIDE else [patches.OUTSIDE] * 3
            assert image[row, column].tolist() == expected
    assert corner.inside(SIDE, SIDE) == (0, 3, 20, 23)
    assert corner.outside(SIDE, SIDE) == pytest.approx(1 - 16 / 48)


def test_fully_connected_stages_see_the_whole_crop() -> None:
    source = some_pictures(3)
    for stage in ("fc3", "prob"):
        for patch in last(most_exciting(viewer(), source, stage)).patches(1):
            assert patch[4:] == ((0, SIDE - 1), (0, SIDE - 1))
            assert patch.outside(SIDE, SIDE) == 0


def test_a_flattened_value_sees_what_it_saw_in_its_map() -> None:
    look, source = viewer(), some_pictures(3)
    flat = last(most_exciting(look, source, "flatten"))
    _, rows, columns = next(stage.in_shape for stage in look.stages if stage.name == "flatten")
    channel, row, column = 2, 1, 3
    (first, *_) = flat.patches(channel * rows * columns + row * columns + column)
    # conv2 reads rows 0 to 2 of pool1, which are rows 0 to 6 of conv1, which are rows −1 to 15 of the crop.
    assert first.rows == (-1, 15)
    # and columns 2 to 4 of pool1: 4 to 10 of conv1: 7 to 23 of the crop
    assert first.columns == (7, 23)
