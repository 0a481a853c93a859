from __future__ import annotations

import dataclasses
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alexnet.config import TrainConfig
from alexnet.runs import RunDirectory
from analysis.formats import FORMATS, write
from analysis.history import History
from analysis.run_comparison import (
    Run,
    Shared,
    Validation,
    config_table,
    descent,
    may_share,
    method,
    results_table,
    run_of,
    run_of_curves,
    shared,
    surroundings_table,
    two_standard_errors,
    validation_pictures,
    verdict,
)

ROOT = Path(__file__).parents[2]
DATA = {"name": "imagenette", "classes": ["cat", "dog"], "train": 9469, "val": 3925}


def record(*, data: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "config": TrainConfig(data="/data", **changes).as_json(),
        "machine": {"device": "cpu", "precision": "bfloat16"},
        "data": DATA | (data or {}),
        "versions": {"torch": "2.13.0"},
        "processes": 1,
    }


def run(name: str, top1: float, *, pictures: int = 3925, validations: int = 1, **changes: Any) -> Run:
    found = Validation(step=100, epoch=3, top1=top1, loss=0.5, pictures=pictures)
    return Run(name, record(**changes), "finished", best=found, last=found, validations=validations)


# --- configs ----------------------------------------------------------------------------------------------------------


def test_only_values_that_differ_are_listed_in_the_order_of_the_config() -> None:
    table = config_table([run("a", 0.5), run("b", 0.5, learning_rate=0.02, hidden=512), run("c", 0.5, mirror=False)])
    assert [column.heading for column in table.columns] == ["value", "a", "b", "c", "what it is"]
    assert [row[:-1] for row in table.rows] == [
        ("hidden", "not given", "512", "not given"),
        ("learning rate", "0.01", "0.02", "0.01"),
        ("mirror", "yes", "yes", "no"),
    ]
    assert table.rows[1][-1] == "learning rate at the start, after any warm-up (paper, section 5: 0.01)"


def test_every_value_can_be_listed() -> None:
    table = config_table([run("a", 0.5)], everything=True)
    assert [str(row[0]).replace(" ", "_") for row in table.rows] == list(TrainConfig(data="x").as_json())


def test_a_config_from_before_a_field_was_there_means_its_default() -> None:
    old = record()
    del old["config"]["keep_every"]
    assert config_table([Run("old", old), run("new", 0.5)]).rows == ()
    (row,) = config_table([Run("old", old), run("new", 0.5, keep_every=3)]).rows
    assert row[:3] == ("keep every", "0", "3")


def test_a_value_of_a_newer_version_is_listed_too() -> None:
    new = record()
    new["config"]["warp"] = 9
    (row,) = config_table([Run("new", new), run("old", 0.5)]).rows
    assert row == ("warp", "9", "not given", "a value that this version does not know")


def test_damaged_configs_do_not_break_the_table() -> None:
    table = config_table([Run("a", {}), Run("b", {"config": "x"}), run("c", 0.5, epochs=3)])
    assert ("epochs", "90", "90", "3") in [row[:4] for row in table.rows]


def test_runs_of_the_same_name_have_columns_of_their_own() -> None:
    table = config_table([run("a", 0.5), run("a", 0.5, epochs=3), run("value", 0.5)])
    assert [column.key for column in table.columns] == ["value", "a", "a (2)", "value (2)", "about"]
    assert table.records()[0]["a (2)"] == "3"


def test_surroundings_that_differ() -> None:
    other = record(data={"train": 100})
    other["machine"] = {"device": "cuda", "precision": "bfloat16", "gpu": "H100"}
    other["versions"] = {"torch": "2.14.0"}
    table = surroundings_table([run("a", 0.5), Run("b", other)])
    assert table.rows == (
        ("training pictures", 9469, 100),
        ("machine: device", "cpu", "cuda"),
        ("machine: gpu", None, "H100"),
        ("version of torch", "2.13.0", "2.14.0"),
    )
    assert surroundings_table([run("a", 0.5)], everything=True).rows[:4] == (
        ("data", "imagenette"),
        ("training pictures", 9469),
        ("validation pictures", 3925),
        ("classes", 2),
    )


# --- results ----------------------------------------------------------------------------------------------------------


def metrics() -> list[dict[str, Any]]:
    """Ten steps of 64 pictures at speeds whose times are known, two validations, and a night between them."""
    speeds = [64.0, 32.0, 128.0, 64.0, 64.0, 64.0, 16.0, 64.0, 64.0, 64.0]  # seconds: 1 2 .5 1 1 1 4 1 1 1
    steps = [
        {
            "kind": "train",
            "step": number,
            "epoch": (number - 1) // 5,
            "loss": 3 - number / 10,
            "pictures": 64,
            "images_per_second": speed,
            "time": 1e9 + 40_000 * (number > 5),
        }
        for number, speed in enumerate(speeds, start=1)
    ]
    val = {"kind": "val", "pictures": 200, "seconds": 3.25}
    first = val | {"step": 5, "epoch": 0, "top1": 0.75, "loss": 0.9}
    second = val | {"step": 10, "epoch": 1, "top1": 0.7, "loss": 0.8}
    return [*steps[:5], first, *steps[5:], second]


def test_results_from_the_records() -> None:
    found = run_of("a", record(), metrics(), {"state": "finished", "step": 10, "steps": 10})
    assert found.best == Validation(5, 0, 0.75, 0.9, 200)
    assert found.last == Validation(10, 1, 0.7, 0.8, 200)
    assert (found.validations, found.step, found.steps, found.state) == (2, 10, 10, "finished")
    assert found.loss == pytest.approx(2.0)
    assert found.seconds == pytest.approx(13.5 + 6.5)  # the night is not in it
    assert found.images_per_second == 64.0
    (row,) = results_table([found]).records()
    assert row == {
        "run": "a",
        "state": "finished",
        "best_top1": 0.75,
        "best_step": 5,
        "best_epoch": 1,
        "last_top1": 0.7,
        "last_loss": 0.8,
        "train_loss": 2.0,
        "pictures": 200,
        "step": 10,
        "steps": 10,
        "minutes": 0.33,
        "images_per_second": 64.0,
    }


def test_records_of_the_first_runs_stand_for_whole_batches() -> None:
    old = [{"kind": "train", "step": step, "images_per_second": 32.0} for step in (1, 2, 5)]
    found = run_of("old", record(batch=64), old, {})
    assert found.seconds == pytest.approx(5 * 64 / 32)
    assert found.images_per_second == 32.0


def test_the_first_of_equal_validations_is_the_best() -> None:
    same = [{"kind": "val", "step": step, "top1": 0.5, "pictures": 10} for step in (3, 6)]
    best = run_of("a", {}, same, {}).best
    assert best is not None
    assert best.step == 3


def test_a_run_that_has_done_nothing_and_one_of_damaged_records() -> None:
    damaged = [
        {},
        {"kind": "train"},
        {"kind": "train", "step": "x"},
        {"kind": "train", "step": 3, "loss": None, "images_per_second": 0, "pictures": 8},
        {"kind": "val", "step": 3, "top1": float("nan"), "pictures": 8},
        {"kind": "val", "step": 3, "top1": 7, "pictures": 8},
        {"kind": "val", "step": 3, "top1": 0.5},
    ]
    runs = [run_of("new", {}, [], {}), run_of("odd", {}, damaged, {"steps": "many"}, state="gone")]
    rows = results_table(runs).records()
    assert rows[0] == dict.fromkeys(rows[0]) | {"run": "new", "state": ""}
    assert rows[1] == dict.fromkeys(rows[0]) | {"run": "odd", "state": "gone", "step": 3}


def test_every_table_is_written_in_every_format() -> None:
    runs = [run("a", 0.5), run("b", 0.6, epochs=3)]
    for table in (config_table(runs), surroundings_table(runs, everything=True), results_table(runs)):
        for fmt in FORMATS:
            assert "b" in write(table, fmt)


# --- from the shared reader -------------------------------------------------------------------------------------------


def written(path: Path, records: list[dict[str, Any]], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in records) + tail)
    return path


@pytest.mark.parametrize(
    "records",
    [
        metrics(),
        metrics()[:3],
        [{"kind": "train", "step": step, "images_per_second": 32.0} for step in (1, 2, 5)],
        [{"kind": "val", "step": step, "top1": 0.5, "pictures": 10} for step in (3, 6)],
        [{"kind": "val", "step": 3, "top1": 7, "pictures": 8, "seconds": 4}, {"kind": "val", "step": 4, "top1": 0.5}],
        [{"kind": "train", "step": 3, "loss": None, "images_per_second": 0, "pictures": 8}],
        [],
    ],
)
def test_curves_tell_the_same_as_the_records(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    file = written(tmp_path / "metrics.jsonl", records)
    status = {"state": "running", "step": 99, "steps": 100}
    found = run_of_curves("a", record(), History(file).update(), validation_pictures(file), status)
    wanted = run_of("a", record(), records, status)
    assert found.seconds == pytest.approx(wanted.seconds)
    assert dataclasses.replace(found, seconds=wanted.seconds) == wanted


def test_pictures_of_validations_are_read_past_damage(tmp_path: Path) -> None:
    good = {"kind": "val", "step": 3, "pictures": 8}
    file = written(
        tmp_path / "metrics.jsonl",
        [{"kind": "train", "step": 9, "pictures": 64, "note": "val"}, good, good | {"step": 5, "pictures": "x"}],
        tail=b'{"kind": "val", \xff\n["val"]\n{"kind": "val", "step": 7, "pictures": 8}',
    )
    assert validation_pictures(file) == {3: 8}
    assert validation_pictures(tmp_path / "nothing") == {}


# --- descent ----------------------------------------------------------------------------------------------------------


def branch(run: str | None, *, mode: str = "continue", **changed: Any) -> dict[str, Any]:
    return {"branch": {"run": run, "checkpoint": "last", "step": 1200, "changed": changed, "mode": mode}}


def test_the_chain_of_parents_in_words() -> None:
    records = {
        "third": branch("second", mirror=[True, False], epochs=[9, 20]),
        "second": branch("first", mode="weights", optimiser=["sgd", "adamw"]),
        "first": record(),
    }
    assert descent("third", records) == (
        "third goes on from the checkpoint “last” (step 1,200) of second, with mirror yes → no, epochs 9 → 20.",
        "second took the weights of the checkpoint “last” (step 1,200) of first, with optimiser sgd → adamw.",
        "first began from new weights.",
    )


def test_parents_that_are_gone_go_in_circles_or_are_no_runs() -> None:
    assert descent("b", {"b": branch("a")})[1] == "a is not here, so nothing is known of what came before."
    assert descent("b", {"b": branch("a"), "a": branch("b")})[2] == "b is said to come from itself, which cannot be."
    assert descent("b", {"b": branch("a"), "a": {}})[1] == (
        "Nothing is known of where a comes from: its config cannot be read."
    )
    assert descent("b", {"b": branch(None)}) == (
        "b goes on from the checkpoint “last” (step 1,200) that belongs to no run, with nothing changed.",
    )
    odd = {"b": {"branch": {"run": 3, "changed": {"x": 1}, "step": "x", "checkpoint": []}}}
    assert descent("b", odd) == ("b goes on from a checkpoint that belongs to no run, with nothing changed.",)


# --- a common past ----------------------------------------------------------------------------------------------------


def past(run: str | None, step: int, mode: str = "continue") -> dict[str, Any]:
    return {"branch": {"run": run, "checkpoint": "last", "step": step, "changed": {}, "mode": mode}}


def test_branches_share_what_they_and_their_parents_went_on_from() -> None:
    records = {
        "first": record(),
        "second": past("first", 40),
        "third": past("second", 90),
        "early": past("second", 30),
        "anew": past("first", 40, mode="weights"),
        "orphan": past("gone", 70),
        "sibling": past("gone", 50),
        "ring": past("ring", 5),
    }
    expected = {
        ("first", "second"): 40, ("second", "third"): 90, ("first", "third"): 40, ("first", "early"): 30,
        ("third", "early"): 30, ("first", "anew"): 0, ("second", "anew"): 0, ("orphan", "sibling"): 50,
        ("first", "orphan"): 0, ("gone", "orphan"): 70, ("ring", "first"): 0,
    }  # fmt: skip
    for (one, other), step in expected.items():
        assert may_share(one, other, records) == may_share(other, one, records) == step, (one, other)


def recorded(steps: range, tops: dict[int, float], start: float) -> list[dict[str, Any]]:
    """A record a step, and validations at some."""
    found: list[dict[str, Any]] = []
    for step in steps:
        found.append(
            {"kind": "train", "step": step, "loss": 2 / step, "top1": 0.5, "pictures": 64, "time": start + step}
        )
        if step in tops:
            found.append(
                {"kind": "val", "step": step, "top1": tops[step], "loss": 1.0, "pictures": 3925, "seconds": 1.0}
                | {"time": start + step + 0.5}
            )
    return found


@pytest.fixture
def family(tmp_path: Path) -> tuple[RunDirectory, RunDirectory]:
    """A run whose best validation, of 30 steps, is at step 10, and a branch of it from step 10 with 20 of its own."""
    parent, child = (RunDirectory(tmp_path / name) for name in ("parent", "child"))
    for one in (parent, child):
        one.path.mkdir()
    for entry in recorded(range(1, 31), {5: 0.2, 10: 0.9, 20: 0.5, 30: 0.6}, 1e9):
        parent.append_metrics(entry)
    child.inherit(parent, 10)
    for entry in recorded(range(11, 31), {20: 0.7, 30: 0.65}, 2e9):
        child.append_metrics(entry)
    return parent, child


def side(run: RunDirectory) -> Run:
    curves, path = History(run.metrics_path).update(), run.metrics_path
    return run_of_curves(run.path.name, record(), curves, validation_pictures(path), {})


def test_a_branch_and_its_parent_share_records_and_are_judged_by_the_others(
    family: tuple[RunDirectory, RunDirectory],
) -> None:
    parent, child = (History(one.metrics_path).update() for one in family)
    assert shared(parent, child, 10) == shared(child, parent, 10) == Shared(10, 2)
    assert shared(parent, child, 25) == Shared(10, 2)  # the records themselves part at 11
    assert shared(parent, child, 9) == Shared(9, 1)
    assert shared(parent, parent, 30) == Shared(30, 4)
    one, other = map(side, family)
    assert (one.best, one.validations) == (other.best, 4)
    # Together with their common past both would be equally good: their best validation is the same one.
    assert "have the same top-1" in verdict(one, other).text
    found = verdict(one, other, Shared(10, 2))
    assert found.difference == pytest.approx(0.6 - 0.7)
    assert found.decided
    assert found.text.startswith(
        "Up to step 10 parent and child are one training, with 2 validations: what was recorded there counts once, and "
        "they are weighed against each other by what came after. child is better than parent by 10.0 points"
    )
    assert "Each is the best of its validations" not in found.text  # two and two


def test_equal_numbers_of_two_trainings_are_not_shared(family: tuple[RunDirectory, RunDirectory]) -> None:
    """The same seed gives the same losses; that is another training nevertheless, at another time."""
    parent, again = family
    again.metrics_path.write_bytes(b"")
    for entry in recorded(range(1, 31), {5: 0.2, 10: 0.9, 20: 0.5, 30: 0.6}, 2e9):
        again.append_metrics(entry)
    assert shared(*(History(one.metrics_path).update() for one in (parent, again)), 10) == Shared()
    assert shared(History(parent.path / "nothing").update(), History(parent.metrics_path).update(), 10) == Shared()


def test_a_branch_that_was_not_validated_yet_cannot_be_compared(family: tuple[RunDirectory, RunDirectory]) -> None:
    parent, child = family
    child.forget_after(15)
    found = verdict(side(parent), side(child), Shared(10, 2))
    assert (found.difference, found.decided) == (None, False)
    assert found.text.endswith("child has not been validated since, so there is nothing to compare.")


# --- chance -----------------------------------------------------------------------------------------------------------


def test_two_standard_errors_by_hand() -> None:
    # 2·√(0.64·0.36/100 + 0.5·0.5/100) = 2·√0.004804
    assert two_standard_errors(0.64, 0.5, 100, 100) == pytest.approx(2 * 0.0693108, rel=1e-5)
    # equal shares: 2·√(2·p·q/n) = √(8·p·q/n)
    assert two_standard_errors(0.8, 0.8, 3925, 3925) == pytest.approx(math.sqrt(8 * 0.16 / 3925))
    assert two_standard_errors(0.5, 0.5, 50, 200) == pytest.approx(2 * math.sqrt(0.005 + 0.00125))


def test_chance_alone_exceeds_two_standard_errors_about_as_often_as_is_said() -> None:
    drawn = random.Random(0)  # noqa: S311 - no secret
    pictures, share, tries = 400, 0.8, 1500
    exceeded = 0
    for _ in range(tries):
        one, other = (sum(drawn.random() < share for _ in range(pictures)) / pictures for _ in range(2))
        exceeded += abs(one - other) > two_standard_errors(one, other, pictures, pictures)
    assert 0.03 < exceeded / tries < 0.065  # 4.55 % by the normal distribution


def test_a_difference_beyond_chance() -> None:
    found = verdict(run("A", 0.823), run("B", 0.8))
    # 2·√((0.823·0.177 + 0.8·0.2)/3925) = 0.017650
    assert found.margin == pytest.approx(0.0176497, rel=1e-5)
    assert found.difference == pytest.approx(0.023)
    assert found.decided
    assert found.text == (
        "A is better than B by 2.3 points of top-1 on 3,925 validation pictures: more than chance makes (two standard "
        "errors of the difference are 1.8 points). Both saw the same pictures; a paired test would be tighter."
    )


def test_a_difference_within_chance_is_not_called_better() -> None:
    found = verdict(run("A", 0.8), run("B", 0.805))
    assert not found.decided
    assert found.difference == pytest.approx(-0.005)
    assert found.text.startswith(
        "B is ahead of A by 0.50 points of top-1 on 3,925 validation pictures, which chance alone can make (two "
    )
    assert "better" not in found.text
    assert verdict(run("A", 0.8), run("B", 0.8)).text.startswith("A and B have the same top-1 on 3,925")


def test_the_order_of_the_two_changes_the_sign_alone() -> None:
    one, other = verdict(run("A", 0.9), run("B", 0.8)), verdict(run("B", 0.8), run("A", 0.9))
    assert one.difference == -(other.difference or 0)
    assert (one.text, one.margin, one.decided) == (other.text, other.margin, other.decided)


def test_one_point_is_one_point() -> None:
    assert "by 1.0 point of top-1" in verdict(run("A", 0.81, pictures=100_000), run("B", 0.8, pictures=100_000)).text


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (run("B", 0.7, data={"name": "cifar"}), r"validated on different data \(imagenette and cifar\)"),
        (run("B", 0.7, data={"classes": ["cat"]}), r"different classes apart \(2 and 1\)"),
        (run("B", 0.7, data={"classes": ["dog", "cat"]}), r"classes apart \(both have 2, but not the same\)"),
        (run("B", 0.7, pictures=100), r"pictures are not the same \(3,925 and 100 of imagenette\)"),
        (Run("B", record()), "B has not been validated yet"),
    ],
)
def test_what_cannot_be_compared(other: Run, reason: str) -> None:
    import re

    found = verdict(run("A", 0.9), other)
    assert re.search(reason, found.text)
    assert (found.difference, found.margin, found.decided) == (None, None, False)


def test_reservations_are_said() -> None:
    text = verdict(run("A", 0.9, validations=60), run("B", 0.8, validations=10, seed=1)).text
    assert "different pictures of the same data, unless it came split" in text
    assert "best of its validations, 60 and 10: more tries favour" in text
    assert "the same pictures" not in text
    assert "rough" not in text
    assert "Fewer than 5 pictures are right, or wrong" in verdict(run("A", 0.999), run("B", 0.8)).text


def test_the_formula_is_told() -> None:
    assert "2·√(p₁(1−p₁)/n₁ + p₂(1−p₂)/n₂)" in method()


def test_neither_torch_nor_anything_else_to_install_is_needed() -> None:
    code = (
        "import sys; before = set(sys.modules); import analysis.run_comparison\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - sys.stdlib_module_names == {"alexnet", "analysis"}
