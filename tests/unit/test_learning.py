from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis import learning, learning_tables
from analysis.formats import FORMATS, write
from analysis.history import History

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from analysis.curves import Curves

    Read = Callable[[list[dict[str, Any]]], Curves]

SPE = 10
"""Steps in an epoch of the made-up runs."""


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def written(records: list[dict[str, Any]]) -> Curves:
        path = tmp_path / "metrics.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return History(path).update()

    return written


def train(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "train", "step": step, "epoch": (step - 1) // SPE, "loss": 2.0, "top1": 0.5, "pictures": 64,
        "learning_rate": 0.02, "images_per_second": 32.0, "waited_share": 0.25, "time": 1000.0 + 2 * step,
    } | changes  # fmt: skip


def val(step: int, top1: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "val", "step": step, "epoch": (step - 1) // SPE, "loss": 1.25, "top1": top1, "top5": 0.9,
        "pictures": 40, "per_class": [0.5, None, 1.0], "seconds": 1.5, "time": 1001.5 + 2 * step,
    } | changes  # fmt: skip


def moved(records: list[dict[str, Any]], step: int, seconds: float) -> list[dict[str, Any]]:
    """The records, those from this step on so much later."""
    return [one | {"time": one["time"] + seconds * (one["step"] >= step)} for one in records]


# --- the best ---------------------------------------------------------------------------------------------------------


def test_the_best_is_the_first_of_the_highest(read: Read) -> None:
    curves = read([val(10, 0.5), val(20, None), val(30, 0.75, loss=0.9, top5=0.95), val(40, 0.75), val(50, 0.7)])
    assert learning.best(curves) == learning.Best(2, 30, 2, 0.75, 0.95, 5, 0.9)


def test_without_a_validation_there_is_no_best(read: Read) -> None:
    assert learning.best(read([])) is None
    assert learning.best(read([train(1), val(10, None)])) is None


def test_the_best_of_a_record_that_says_little(read: Read) -> None:
    found = learning.best(read([{"kind": "val", "step": 7, "top1": 0.0}]))
    assert found is not None
    assert (found.step, found.epoch, found.top1) == (7, None, 0.0)
    assert math.isnan(found.loss)


# --- axes -------------------------------------------------------------------------------------------------------------


def test_steps_are_their_own_places(read: Read) -> None:
    at = learning.places(read([]), "step")
    assert at is not None
    assert at(np.array([3, 9])).tolist() == [3.0, 9.0]


def test_epochs_come_from_where_the_records_change_epoch(read: Read) -> None:
    at = learning.places(read([train(step) for step in range(1, 26)]), "epoch")
    assert at is not None
    np.testing.assert_allclose(at(np.array([0, 1, 10, 15, 20, 25])), [0, 0.1, 1, 1.5, 2, 2.5])


def test_another_batch_size_makes_other_epochs(read: Read) -> None:
    """Ten steps an epoch, and from step 20 on five."""
    records = [train(step) for step in range(1, 21)] + [
        train(step, epoch=2 + (step - 21) // 5) for step in range(21, 34)
    ]
    at = learning.places(read(records), "epoch")
    assert at is not None
    np.testing.assert_allclose(at(np.array([10, 20, 25, 30, 33])), [1, 2, 3, 4, 4.6])


def test_in_the_first_epoch_its_length_must_be_told(read: Read) -> None:
    curves = read([train(step) for step in range(1, 8)])
    assert learning.places(curves, "epoch") is None
    at = learning.places(curves, "epoch", 14)
    assert at is not None
    assert at(np.array([7])).tolist() == [0.5]


def test_hours_leave_pauses_out_and_say_so(read: Read) -> None:
    records = [train(step) for step in range(1, 101)]
    night = moved(records, 41, 9 * 3600.0)
    plain, slept = read(records), read(night)
    steps = np.array([1, 40, 41, 100])
    hours = [at(steps) for at in (learning.places(plain, "time"), learning.places(slept, "time")) if at]
    # Two seconds a step, also from step 40 to 41.
    np.testing.assert_allclose(hours, np.array([(steps - 1) * 2 / 3600] * 2), atol=1e-9)
    assert learning.pauses(plain) == []
    (pause,) = learning.pauses(slept)
    assert (pause.step, pause.hours) == (41, pytest.approx(9.0))


def test_a_long_validation_is_no_pause(read: Read) -> None:
    records = moved([train(step) for step in range(1, 31)], 21, 600.0)
    took = val(20, 0.5, seconds=600.0, time=1000.0 + 40 + 600)
    assert learning.pauses(read([*records, took])) == []
    assert len(learning.pauses(read(records))) == 1


@pytest.mark.parametrize("seconds", [7.0, 20.0, 59.0])
def test_a_short_stop_is_a_pause_and_is_left_out(read: Read, seconds: float) -> None:
    curves = read(moved([train(step) for step in range(1, 101)], 41, seconds))
    (pause,) = learning.pauses(curves)
    assert (pause.step, pause.hours * 3600) == (41, pytest.approx(seconds))
    at = learning.places(curves, "time")
    assert at is not None
    np.testing.assert_allclose(at(np.array([40, 41, 100])) * 3600, [78, 80, 198])


def test_a_slow_step_is_no_pause(read: Read) -> None:
    """The record of step 41 says itself that its 64 pictures took 40 s."""
    records = moved([train(step) for step in range(1, 101)], 41, 38.0)
    records[40]["images_per_second"] = 64 / 40
    assert learning.pauses(read(records)) == []


def test_a_validation_that_does_not_say_how_long_it_took_is_no_pause(read: Read) -> None:
    records = moved([train(step) for step in range(1, 31)], 21, 600.0)
    assert learning.pauses(read([*records, val(20, 0.5, seconds=None, time=1000.0 + 40 + 600)])) == []


def test_writing_checkpoints_slowly_is_no_pause_and_a_stop_there_is(read: Read) -> None:
    """Behind each of six validations 20 s go by, and behind the fourth somebody stopped it for two minutes more."""
    records = [train(step) for step in range(1, 71)]
    for end in range(10, 70, 10):
        records = moved(records, end + 1, 20.0 + 120.0 * (end == 40))
        records.append(val(end, 0.5, seconds=0.0, time=1000.0 + 2 * end + 2 * (end - 10) + 120 * (end > 40)))
    (pause,) = learning.pauses(read(records))
    assert (pause.step, pause.hours * 3600) == (41, pytest.approx(140.0))
    assert learning.pauses(read([one for one in records if one["step"] <= 20])) == []


def test_where_records_do_not_tell_their_speed_a_pause_is_over_a_minute(read: Read) -> None:
    for seconds, count in ((55.0, 0), (65.0, 1)):
        records = [train(step, images_per_second=None) for step in range(1, 101)]
        assert len(learning.pauses(read(moved(records, 41, seconds)))) == count


def test_a_clock_set_back_is_no_time_won(read: Read) -> None:
    curves = read(moved([train(step) for step in range(1, 31)], 11, -3600.0))
    at = learning.places(curves, "time")
    assert at is not None
    assert (np.diff(at(curves.train.step)) >= 0).all()
    assert at(np.array([30]))[0] == pytest.approx(28 * 2 / 3600)


def test_without_records_there_is_no_axis_of_hours(read: Read) -> None:
    assert learning.places(read([]), "time") is None
    assert learning.places(read([train(1)]), "time") is None


# --- derived figures --------------------------------------------------------------------------------------------------


def test_speed_is_pictures_over_seconds_not_the_mean_of_speeds(read: Read) -> None:
    """60 pictures at 30/s are 2 s, 60 at 10/s are 6 s: 120 in 8 s."""
    curves = read([train(1, pictures=60, images_per_second=30.0), train(2, pictures=60, images_per_second=10.0)])
    assert learning.speed(curves) == pytest.approx(15.0)
    # Half the time waited in the first 2 s, none in the other 6.
    curves = read(
        [
            train(1, pictures=60, images_per_second=30.0, waited_share=0.5),
            train(2, pictures=60, images_per_second=10.0, waited_share=0.0),
        ]
    )
    assert learning.waited_share(curves) == pytest.approx(1 / 8)


def test_speed_over_the_last_minute_or_the_whole_run(read: Read) -> None:
    records = [train(step, images_per_second=10.0 if step <= 100 else 40.0) for step in range(1, 131)]
    curves = read(records)
    assert learning.speed(curves, 60) == pytest.approx(40.0)
    # 100 records of 64/10 s, 30 of 64/40 s.
    assert learning.speed(curves, None) == pytest.approx(130 * 64 / (100 * 6.4 + 30 * 1.6))
    assert learning.speed(curves, 0) == pytest.approx(40.0)


def test_older_records_without_pictures_count_alike(read: Read) -> None:
    curves = read([train(1, pictures=None, images_per_second=30.0), train(2, pictures=None, images_per_second=10.0)])
    assert learning.speed(curves) == pytest.approx(15.0)


def test_no_speed_without_records_and_of_none_that_is_a_number(read: Read) -> None:
    for records in ([], [train(1, images_per_second=0.0)], [train(1, images_per_second=None)]):
        curves = read(records)
        assert learning.speed(curves) is None
        assert learning.waited_share(curves) is None


def test_an_epoch_takes_its_steps_and_its_validation(read: Read) -> None:
    records = [train(step) for step in range(1, 36)]
    records = [*moved(moved(records, 11, 7.0), 26, 3600.0), val(10, 0.5, seconds=7.0, time=1000.0 + 20 + 7)]
    epochs, seconds = learning.epoch_seconds(read(records))
    assert epochs.tolist() == [0.0, 1.0, 2.0]
    # Nine steps of 2 s after the first record, and 7 s of validation; then ten; ten, with a pause that is left out.
    assert seconds.tolist() == pytest.approx([25.0, 20.0, 20.0])
    assert learning.epoch_seconds(read(records[:20]))[0].tolist() == [0.0, 1.0]
    assert learning.epoch_seconds(read([]))[0].size == 0


def layers(step: int, weight: float, gradient: float) -> dict[str, Any]:
    def moments(norm: float) -> dict[str, Any]:
        return {"conv1.weight": {"mean": 0.0, "std": 1.0, "norm": norm}}

    return {"kind": "layers", "step": step, "weights": moments(weight), "gradients": moments(gradient)}


def test_relative_updates_use_the_rate_of_their_step(read: Read) -> None:
    records = [train(1, learning_rate=0.5), train(4, learning_rate=0.1)]
    curves = read([*records, layers(0, 1.0, 1.0), layers(3, 10.0, 2.0), layers(4, 10.0, 2.0), layers(5, 0.0, 2.0)])
    steps, ratios = learning.relative_updates(curves)["conv1.weight"]
    assert steps.tolist() == [0, 3, 4, 5]
    np.testing.assert_allclose(ratios, [np.nan, 0.5 * 2 / 10, 0.1 * 2 / 10, np.nan])


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_table_of_validations(read: Read) -> None:
    table = learning_tables.validations_table(read([val(10, 0.5), val(20, None, epoch=None, seconds=None)]))
    assert [column.key for column in table.columns] == ["step", "epoch", "top1", "top5", "loss", "seconds"]
    assert table.rows == ((10, 1, 0.5, 0.9, 1.25, 1.5), (20, None, None, 0.9, 1.25, None))


def test_the_table_of_classes_has_the_best_and_the_latest(read: Read) -> None:
    curves = read([val(10, 0.9), val(20, 0.5, per_class=[0.25, 0.5, None])])
    table = learning_tables.classes_table(curves, ["cat", "dog", "owl"])
    assert table.rows == (("cat", 0.5, 0.25, -0.25), ("dog", None, 0.5, None), ("owl", 1.0, None, None))
    assert [row[0] for row in learning_tables.classes_table(curves, ["too", "few"]).rows] == [
        "class 0", "class 1", "class 2",
    ]  # fmt: skip
    assert [row[0] for row in learning_tables.classes_table(curves, ["a", "b", "a"]).rows] == ["a (0)", "b", "a (2)"]


def test_the_table_of_layers_has_the_latest(read: Read) -> None:
    table = learning_tables.layers_table(read([train(1), layers(1, 5.0, 5.0), layers(2, 10.0, 2.0)]))
    assert table.rows == (("conv1.weight", 2, 10.0, 2.0, pytest.approx(0.02 * 2 / 10)),)


def test_tables_of_any_run_can_be_written_in_every_format(read: Read) -> None:
    for records in ([], [train(1)], [val(1, None)], [train(1), val(1, 0.5), layers(1, 0.0, 1.0)]):
        curves = read(records)
        for table in (
            learning_tables.validations_table(curves),
            learning_tables.classes_table(curves),
            learning_tables.layers_table(curves),
        ):
            assert all(len(row) == len(table.columns) for row in table.rows)
            for fmt in FORMATS:
                assert write(table, fmt)
