from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from alexnet.data.preprocessing import (
    Augmentation,
    EpochPlan,
    Geometry,
    Preprocessing,
    Statistics,
    StatisticsGatherer,
    colour_shifts,
)

PAPER = Geometry(side=256, height=224, width=224)


def pictures(count: int, side: int) -> np.ndarray:
    """Pictures whose colours hang together, as photographs' do."""
    random = np.random.default_rng(5)
    brightness = random.normal(120, 50, (count, side, side, 1))
    colour = random.normal(0, 10, (count, side, side, 3)) * (1, 0.3, 2)
    return np.clip(brightness + colour, 0, 255).astype(np.uint8)


def gathered(found: np.ndarray) -> Statistics:
    gatherer = StatisticsGatherer(found.shape[1])
    for picture in found:
        gatherer.add(picture)
    return gatherer.result()


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_there_are_2178_crops_and_reflections_not_2048() -> None:
    assert PAPER.positions == (33, 33)
    # By brute force on a picture whose every pixel is different: 2,178 different inputs.
    picture = torch.arange(256 * 256, dtype=torch.int32).reshape(256, 256)
    corners = {
        (int(crop[0, 0]), int(crop[0, -1]))
        for top, left in itertools.product(range(256 - 224 + 1), repeat=2)
        for crop in (picture[top : top + 224, left : left + 224], picture[top : top + 224, left : left + 224].flip(1))
    }
    assert len(corners) == 2_178 == PAPER.positions[0] * PAPER.positions[1] * 2
    assert 32 * 32 * 2 == 2_048  # the paper's figure leaves out the last row and column of positions


def test_ten_crops_are_four_corners_the_centre_and_their_reflections() -> None:
    assert PAPER.ten_crops() == (
        (0, 0, False),
        (0, 32, False),
        (32, 0, False),
        (32, 32, False),
        (16, 16, False),
        (0, 0, True),
        (0, 32, True),
        (32, 0, True),
        (32, 32, True),
        (16, 16, True),
    )


def test_an_odd_margin_rounds_the_centre_down() -> None:
    assert Geometry(256, 227, 227).centre == (14, 14)
    assert Geometry(256, 227, 227).positions == (30, 30)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_statistics_are_numpys_over_all_pixels() -> None:
    found = pictures(20, 16)
    statistics = gathered(found)
    flat = found.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(statistics.mean, flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.deviation, flat.std(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.mean_image, found.mean(0).transpose(2, 0, 1), rtol=1e-5)
    covariance = np.cov(flat.T / 255, bias=True)
    components, variances = statistics.components.numpy(), statistics.variances.numpy()
    np.testing.assert_allclose(components @ np.diag(variances) @ components.T, covariance, atol=1e-7)
    np.testing.assert_allclose(components.T @ components, np.eye(3), atol=1e-6)
    assert variances[0] > variances[1] > variances[2] > 0
    assert (components.sum(axis=0) >= 0).all()


def test_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no picture"):
        StatisticsGatherer(8).result()


def test_the_colour_noise_is_the_papers_formula() -> None:
    statistics = gathered(pictures(20, 16))
    alphas = torch.tensor([[0.1, -0.2, 0.3], [0.0, 0.0, 1.0]])
    expected = [
        sum(
            float(alphas[row, i]) * float(statistics.variances[i]) * statistics.components[:, i].numpy()
            for i in range(3)
        )
        * 255
        for row in range(2)
    ]
    np.testing.assert_allclose(colour_shifts(alphas, statistics), np.stack(expected), rtol=1e-5)


# --- inputs -----------------------------------------------------------------------------------------------------------


def preprocessing(geometry: Geometry, *, mean_image: bool, unit_variance: bool) -> Preprocessing:
    return Preprocessing.of(
        gathered(pictures(10, geometry.side)), geometry, mean_image=mean_image, unit_variance=unit_variance
    )


@pytest.mark.parametrize("mean_image", [False, True])
@pytest.mark.parametrize("unit_variance", [False, True])
def test_inputs_pixel_by_pixel(mean_image: bool, unit_variance: bool) -> None:
    made = preprocessing(Geometry(9, 5, 4), mean_image=mean_image, unit_variance=unit_variance)
    squares = pictures(3, 9)
    tops, lefts, mirrored = [0, 4, 2], [5, 0, 3], [False, True, True]
    colour = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-4.0, 5.0, -6.0]])
    crops = np.stack([square[t : t + 5, left : left + 4] for square, t, left in zip(squares, tops, lefts, strict=True)])
    inputs = made.inputs(
        torch.from_numpy(crops),
        torch.tensor(tops),
        torch.tensor(lefts),
        mirrored=torch.tensor(mirrored),
        colour=colour,
    )
    assert inputs.shape == (3, 3, 5, 4)
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    for n, c, y, x in itertools.product(range(3), range(3), range(5), range(4)):
        column = 3 - x if mirrored[n] else x
        value = float(squares[n, tops[n] + y, lefts[n] + column, c])
        value -= float(made.mean[c, tops[n] + y, lefts[n] + column] if mean_image else made.mean[c, 0, 0])
        value = (value + float(colour[n, c])) / float(made.divisor[c, 0, 0])
        assert float(inputs[n, c, y, x]) == pytest.approx(value, abs=1e-4)


def test_one_place_for_all_crops_is_as_good_as_each_its_own() -> None:
    made = preprocessing(Geometry(9, 5, 5), mean_image=True, unit_variance=False)
    crops = torch.from_numpy(pictures(2, 9)[:, 1:6, 3:8].copy())
    each = made.inputs(crops, torch.tensor([1, 1]), torch.tensor([3, 3]))
    assert torch.equal(made.inputs(crops, 1, 3), each)


def test_inputs_leave_the_bytes_as_they_are() -> None:
    crops = torch.from_numpy(pictures(2, 6))
    before = crops.clone()
    preprocessing(Geometry(6, 6, 6), mean_image=False, unit_variance=True).inputs(crops)
    assert torch.equal(crops, before)


def test_preprocessing_survives_a_checkpoint() -> None:
    made = preprocessing(Geometry(9, 5, 4), mean_image=True, unit_variance=True)
    again = Preprocessing.from_data(made.as_data())
    assert again.geometry == made.geometry
    assert torch.equal(again.mean, made.mean)
    assert torch.equal(again.divisor, made.divisor)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"channels": "BGR"}, "'BGR' is not known"), ({"mean": torch.zeros(3, 8, 8)}, "does not fit pictures of 9×9")],
)
def test_damaged_preprocessing_is_refused(change: dict[str, object], message: str) -> None:
    data = preprocessing(Geometry(9, 5, 4), mean_image=True, unit_variance=True).as_data() | change
    with pytest.raises(ValueError, match=message):
        Preprocessing.from_data(data)


# --- the plan of an epoch ---------------------------------------------------------------------------------------------


def plan(epoch: int = 0, *, count: int = 5000, seed: int = 1, **augmentation: object) -> EpochPlan:
    return EpochPlan(seed, epoch, count, PAPER, Augmentation(**augmentation))  # type: ignore[arg-type]


def starts(made: EpochPlan, room: int = 256 - 224) -> np.ndarray:
    return made.starts(range(len(made.order)), (room, room))


def test_every_picture_comes_once_in_an_epoch_in_another_order_each_time() -> None:
    first, second = plan(0), plan(1)
    assert sorted(first.order) == sorted(second.order) == list(range(5000))
    assert (first.order != second.order).mean() > 0.99


def test_a_plan_is_a_function_of_seed_and_epoch() -> None:
    for name in ("order", "mirrored", "alphas", "sides"):
        np.testing.assert_array_equal(getattr(plan(3), name), getattr(plan(3), name))
    np.testing.assert_array_equal(starts(plan(3)), starts(plan(3)))
    assert (plan(3, seed=2).order != plan(3).order).any()


def test_every_position_is_drawn_and_no_other() -> None:
    many = plan(count=100_000)
    tops, lefts = starts(many).T
    for drawn in (tops, lefts):
        counts = np.bincount(drawn, minlength=33)
        assert len(counts) == 33
        # 100,000 draws over 33 places: 3,030 each, give or take five standard deviations.
        assert np.abs(counts - 100_000 / 33).max() < 5 * np.sqrt(100_000 / 33)
    assert abs(many.mirrored.mean() - 0.5) < 0.01
    assert np.corrcoef(tops, lefts)[0, 1] < 0.02


def test_the_colour_noise_has_the_papers_deviation() -> None:
    alphas = plan(count=100_000).alphas
    np.testing.assert_allclose(alphas.std(0), 0.1, rtol=0.02)
    np.testing.assert_allclose(alphas.mean(0), 0, atol=0.002)


def test_without_augmentation_every_crop_is_the_centre() -> None:
    still = plan(random_crop=False, mirror=False, colour_noise=0.0)
    assert set(starts(still).flatten()) == {16}
    assert not still.mirrored.any()
    assert not still.alphas.any()


def test_scale_jitter_draws_every_side() -> None:
    jittered = plan(count=100_000, jitter_to=512)
    assert set(jittered.sides) == set(range(256, 513))
