"""What is said of a training before it starts, against trainings, formulas and files."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from alexnet import plan, probes, recorder
from alexnet.build import build
from alexnet.config import TrainConfig
from alexnet.data.loading import Share
from alexnet.data.preprocessing import Geometry, Preprocessing, StatisticsGatherer
from alexnet.machine import chosen
from alexnet.presets import PRESETS, configured
from alexnet.rehearsal import Doing, measured, rehearsed
from alexnet.runs import RunDirectory
from alexnet.trainer import Trainer
from tests.training import ROOT, TINY, folder_of_pictures, options, train

if TYPE_CHECKING:
    from pathlib import Path

FIELDS = {field.name for field in dataclasses.fields(TrainConfig)}
SWITCHES = {"unit_variance", "random_crop", "mirror"}
CHOICES = {
    *("optimiser", "schedule", "initialisation", "mean", "on_unreadable", "precision"),
    *("channels_last", "fused_lrn", "fused_optimiser", "compile"),
}
TEXTS = {"data", "preset", "network", "device"}
FRACTIONS = {
    *("dropout", "val_fraction", "learning_rate", "momentum", "weight_decay", "warmup_epochs", "label_smoothing"),
    *("colour_noise", "validate_every", "checkpoint_minutes"),
}
WHOLE = FIELDS - SWITCHES - CHOICES - TEXTS - FRACTIONS
UNLIMITED = {"hidden"}  # the network says what it can be


def tiny(data: object = "x", **changes: Any) -> TrainConfig:
    texts = {name.replace("-", "_"): value for name, value in TINY.items()}
    config, wrong = plan.problems({"data": str(data), **texts, "unit_variance": "yes", **changes})
    assert wrong == {}
    assert config is not None
    return config


# --- forms -----------------------------------------------------------------------------------------------------------


def bad_values() -> list[tuple[str, object]]:
    bad: list[tuple[str, object]] = [("data", ""), ("data", "  "), ("preset", "slow"), ("preset", "Quick ")]
    bad += [("network", text) for text in ("nope", "alexnet-2012@20", "alexnet-2012@x", "vgg-d:nothing")]
    bad += [(name, text) for name in SWITCHES for text in ("perhaps", "2", "ja")]
    bad += [(name, text) for name in CHOICES for text in ("nothing", "1")]
    bad += [(name, text) for name in WHOLE | FRACTIONS for text in ("many", "1,5", "nan", "inf", "-1", "1e300", "1 2")]
    bad += [(name, text) for name in WHOLE for text in ("1.5", "0.1", 2.5, True)]
    return bad


@pytest.mark.parametrize("field", sorted(FIELDS - UNLIMITED - {"device"}))  # only the machine knows its devices
def test_a_bad_value_is_named_with_its_rule(field: str) -> None:
    told = {"data": "no data named", "preset": "no preset", "network": ""}
    bad = [value for name, value in bad_values() if name == field]
    assert len(bad) > 1
    for value in bad:
        config, wrong = plan.problems({"data": "x", field: value})
        assert config is None
        assert set(wrong) == {field}
        assert told.get(field, f"--{field.replace('_', '-')} must be ") in wrong[field]
        assert "\n" not in wrong[field]


def test_every_problem_of_a_form_is_found_at_once() -> None:
    bad = {name: value for name, value in bad_values() if name not in UNLIMITED}
    assert set(bad) == FIELDS - UNLIMITED - {"device"}
    config, wrong = plan.problems(bad)
    assert config is None
    assert set(wrong) == set(bad)


def test_what_people_type_means_what_they_mean() -> None:
    typed = {
        "data": " x ",
        "batch": " 64 ",
        "epochs": "1e2",
        "learning_rate": "1e-3",
        "mirror": "No",
        "seed": 7.0,
        "unit_variance": "on",
        "weight_decay": "0",
        "hidden": "",
        "momentum": None,
        "side": "",
        "jitter_to": " ",
    }
    expected = TrainConfig(
        data="x", batch=64, epochs=100, learning_rate=0.001, mirror=False, seed=7, unit_variance=True, weight_decay=0
    )
    assert plan.problems(typed) == (expected, {})


def test_a_comma_is_said_to_be_no_decimal_sign() -> None:
    _, wrong = plan.problems({"data": "x", "learning_rate": "0,01", "seed": "1,000", "momentum": "1,0,0"})
    assert wrong["learning_rate"].endswith("got '0,01': a decimal sign is a point, as in 0.01")
    assert wrong["seed"].endswith("write 1000, without commas")
    assert wrong["momentum"].endswith("write 100, without commas")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_as_text_is_the_preset(preset: Any) -> None:
    config = configured(preset.name, "x")
    texts = {name: "" if value is None else str(value) for name, value in config.as_json().items()}
    assert plan.problems(texts) == (config, {})
    assert plan.problems({"data": "x", "preset": preset.name}) == (config, {})


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"side": 100}, {"side"}),
        ({"network": "alexnet-2012@300", "side": "256"}, {"side"}),
        ({"jitter_to": 300}, {"jitter_to"}),
        ({"jitter_to": 200, "mean": "channel"}, {"jitter_to"}),
        ({"preset": "vgg", "side": "600"}, {"jitter_to"}),
        ({"preset": "vgg", "mean": "image"}, {"jitter_to"}),
        ({"network": "nope", "jitter_to": "512", "batch": "0"}, {"network", "batch", "jitter_to"}),
        ({"side": 100, "jitter_to": "300", "mean": "image", "drops": "-1"}, {"side", "jitter_to", "drops"}),
        ({"batches": 5}, {""}),
    ],
)
def test_values_that_do_not_go_together(values: dict[str, Any], names: set[str]) -> None:
    config, wrong = plan.problems({"data": "x", **values})
    assert config is None
    assert set(wrong) == names


def test_plans_need_the_standard_library_only() -> None:
    code = "import sys; before = set(sys.modules); import alexnet.plan; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded - sys.stdlib_module_names == {"alexnet"}


# --- sources ---------------------------------------------------------------------------------------------------------


def test_every_value_has_a_source() -> None:
    quick = plan.sources(configured("quick", "x", batch=128, momentum=0.8, seed=3, drops=3))
    assert set(quick) == FIELDS
    assert quick["hidden"] == quick["learning_rate"] == "preset quick"
    assert quick["batch"] == "yours"  # the default, where the preset has another
    assert quick["momentum"] == quick["seed"] == quick["data"] == "yours"
    paper = plan.sources(configured("paper-2012", "x"))
    assert {name for name, source in paper.items() if source == "paper, section 5"} == {
        *("epochs", "batch", "optimiser", "learning_rate", "momentum", "weight_decay", "schedule", "initialisation"),
    }
    assert paper["side"] == "paper, section 2"
    assert paper["drops"] == paper["mean"] == "paper"
    assert paper["patience"] == paper["unit_variance"] == paper["jitter_to"] == "default"  # not in the paper
    assert paper["precision"] == paper["workers"] == "chosen by the machine"
    assert paper["dropout"] == "the network's own"
    assert plan.sources(configured("paper-2012", "x", workers=0))["workers"] == "yours"


# --- learning rates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_rates_are_the_trainers(schedule: str, warmup: float) -> None:
    config = tiny(schedule=schedule, warmup_epochs=warmup, epochs=4, hidden=4)
    network = config.described_network(3)
    gatherer = StatisticsGatherer(config.short_side())
    gatherer.add(np.zeros((76, 76, 3), np.uint8))
    statistics = gatherer.result()
    preprocessing = Preprocessing.of(statistics, Geometry(76, 67, 67), mean_image=False, unit_variance=True)
    machine = chosen(config, network, in_memory=True)
    trainer = Trainer(config, network, machine, preprocessing, statistics, steps_per_epoch=5, share=Share())
    found = plan.rates(config, 5)
    assert found.steps == tuple(range(1, 21))
    assert found.rates == tuple(trainer.learning_rate(step - 1) for step in found.steps)


def test_long_schedules_are_drawn_through_some_of_their_steps() -> None:
    config = tiny(schedule="cosine", warmup_epochs=1, epochs=100, learning_rate=1)
    found = plan.rates(config, 1000)
    assert len(found.steps) < 600
    assert (found.steps[0], found.steps[-1]) == (1, 100_000)
    assert found.rates[found.steps.index(1000)] == pytest.approx(1, abs=0.001)  # the end of the warm-up
    assert found.rates[found.steps.index(50_001)] == pytest.approx(0.5)
    assert max(found.rates) <= 1


def test_the_drops_of_a_plateau_are_explained_and_not_drawn() -> None:
    found = plan.rates(configured("paper-2012", "x"), 10)
    assert set(found.rates) == {0.01}
    assert "to 0.001, then 0.0001, then 1e-05" in found.explanation
    assert "4 validations without" in found.explanation
    once = plan.rates(configured("paper-2012", "x", drops=0, patience=1), 10).explanation
    assert once == "It stays at 0.01; 1 validation without a lower error ends the run."


def test_schedules_in_words_where_they_are_odd() -> None:
    short = configured("quick", "x", warmup_epochs=1, max_steps=5)
    assert "takes all 5 steps" in plan.rates(short, 62).explanation
    assert plan.rates(short, 0).steps == ()
    rise = plan.rates(configured("quick", "x"), 62).explanation
    assert rise.startswith("It rises to 0.02 over the first 62 of 3,720 steps, then falls from 0.02 to nearly 0")


# --- memory and disk -------------------------------------------------------------------------------------------------


def test_memory_by_hand() -> None:
    found = plan.memory_needed(TrainConfig(data="x"), 1000)
    assert found.weights == found.gradients == found.momentum == 4 * 60_965_224
    # relu1 has 96·55·55 values before it and as many after; 64 squares of 256×256 in three colours lie beside them
    assert found.validation == 64 * (4 * 2 * 96 * 55 * 55 + 3 * 256 * 256)
    assert found.total == 3 * 4 * 60_965_224 + found.activations
    small = TrainConfig(data="x", batch=1)
    assert plan.memory_needed(small, 1000).total == 3 * 4 * 60_965_224 + found.validation


def test_an_optimiser_remembers_one_number_two_or_none() -> None:
    weights = 4 * sum(tensor.numel() for tensor in build(tiny().described_network(3)).parameters())
    for changes, share in (({}, 1), ({"optimiser": "adamw"}, 2), ({"momentum": 0}, 0)):
        assert plan.memory_needed(tiny(**changes), 3).momentum == share * weights


@pytest.mark.parametrize("network", ["alexnet-2012@67", "vgg-a@32", "alexnet-owt@67"])
def test_a_snapshot_is_as_large_as_said(network: str) -> None:
    described = TrainConfig(data="x", network=network, hidden=8).described_network(7)
    probe = probes.Probe(described, torch.zeros(1, *described.input_shape))
    taken = probe.taken(build(described).state_dict())
    assert plan.probe_bytes(described, 7) == sum(array.nbytes for array in taken.values())


def test_constants_of_modules_that_need_torch() -> None:
    assert plan.MAP_SIDE == probes.MAP_SIDE
    assert plan._RECORDS == recorder.RECORDS


@pytest.mark.parametrize("steps", [1, 7, 30, 3720, 10**6])
@pytest.mark.parametrize("count", [2, 6, 100])
def test_no_more_snapshots_are_taken_than_counted(steps: int, count: int) -> None:
    assert len(probes.schedule(steps, count)) <= min(count, steps) + 1


@pytest.mark.parametrize("keep", [0, 1, 2, 3, 7])
def test_kept_checkpoints_are_counted_as_the_training_keeps_them(keep: int) -> None:
    config = tiny(keep_every=keep)
    for steps in range(1, 40):
        for every in (1, 4, 6, 50):
            validated = [step for step in range(1, steps + 1) if step % every == 0 or step == steps]
            kept = [step for step in validated if keep and (step // every) % keep == 0]
            assert plan.kept_checkpoints(config, steps, every) == len(kept)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.mark.slow
def test_a_run_takes_the_room_that_was_said(pictures: Path, tmp_path: Path) -> None:
    done = train(pictures, "--run-dir", tmp_path / "run", *options(epochs=10, keep_every=5))
    assert done.returncode == 0, done.stderr
    run = RunDirectory.open(tmp_path / "run")
    config = tiny(pictures, epochs=10, keep_every=5)
    said = plan.disk_needed(config, 3, 6)
    assert run.last.stat().st_size == pytest.approx(said.checkpoint, rel=0.03)
    names = {path.stat().st_ino for path in run.last.parent.iterdir()}
    assert len(names) <= said.checkpoints / said.checkpoint
    taken = sum(path.stat().st_size for path in run.probes_path.glob("*.npz"))
    assert 0.6 * said.probes < taken <= 1.1 * said.probes
    assert run.metrics_path.stat().st_size == pytest.approx(said.metrics, rel=0.25)
    (events,) = run.path.glob("events.*")
    assert events.stat().st_size == pytest.approx(said.events, rel=0.4)
    assert sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file()) <= 1.1 * said.total


# --- rehearsals ------------------------------------------------------------------------------------------------------


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_a_rehearsal_says_what_a_training_will_be_and_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    doings: list[Doing] = []
    config = tiny(pictures, epochs=5, probes=6)
    found = rehearsed(config, steps=3, runs=tmp_path / "runs", seen=doings.append)
    assert everything(tmp_path) == {str(tmp_path / "runs")}
    assert found.problems == ()
    assert found.train == {"class0": 16, "class1": 16, "class2": 16}
    assert found.val == {"class0": 4, "class1": 4, "class2": 4}
    assert (found.steps, found.steps_per_epoch, found.validations) == (30, 6, 5)
    assert found.probes == len(probes.schedule(30, 6))
    assert found.machine["precision"] == "float32"
    speed, disk = found.speed, found.disk
    assert speed is not None
    assert disk is not None
    assert speed.steps_timed == 3
    assert speed.checkpoint_bytes == pytest.approx(disk.checkpoint, rel=0.03)
    assert speed.images_per_second == pytest.approx(8 / speed.step_seconds)
    between = 5 * (speed.validation_seconds + speed.checkpoint_seconds) + speed.checkpoint_seconds
    taken = 30 * speed.step_seconds + between + found.probes * speed.probe_seconds + 6 * speed.layers_seconds
    assert speed.total_seconds == pytest.approx(speed.start_seconds + taken)
    assert speed.epoch_seconds == pytest.approx(taken / 5)
    assert {doing.what for doing in doings} >= {"opening the data", "timing steps", "timing a validation"}
    data = json.loads(json.dumps(found.as_data()))
    assert data["memory"]["total"] == plan.memory_needed(config, 3).total
    assert "it can start" in plan.report(found)


def test_a_rehearsal_that_is_given_up_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for last in ("reading pictures", "timing steps", "timing what is written"):
        going = measured(tiny(pictures), steps=3, runs=tmp_path / "runs")
        while next(going).what != last:
            pass
        going.close()
    assert everything(tmp_path) == {str(tmp_path / "runs")}


def test_every_problem_is_found(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    found = rehearsed(tiny(pictures, batch=49, device="cuda:99"), runs=tmp_path / "runs" / "mine")
    device, batch, place = sorted(found.problems, key=lambda text: ("cannot write" in text, text[:7] == "--batch"))
    assert device.startswith("--device cuda:99: ")
    assert "49 is more than the 48 training pictures" in batch
    assert "is a file" in place
    assert found.speed is None
    missing = rehearsed(tiny(tmp_path / "gone"), runs=tmp_path)
    assert len(missing.problems) == 1
    assert "gone" in missing.problems[0]
    assert missing.train == {}


def test_what_the_owner_should_know_is_noted(tmp_path: Path) -> None:
    root = folder_of_pictures(tmp_path / "pictures", classes=2, per_class=20)
    for number in range(14):
        (root / "train" / "class1" / f"{number:03}.png").unlink()
    (root / "train" / "class0" / "000.png").write_bytes(b"no picture")
    other = RunDirectory.create(tmp_path / "runs" / "other", {})
    other.write_status({"state": "running", "heartbeat": time.time(), "pid": os.getpid()})
    found = rehearsed(tiny(root, probes=0, layers_every=0), steps=1, runs=tmp_path / "runs")
    other.release()
    assert found.problems == ()
    assert found.running == ("other",)
    text = "\n".join(found.notes)
    assert "1 other training runs here now (other)" in text
    assert "20 pictures of class0 and 6 of class1" in text
    assert "each epoch leaves out 2" in text
    assert "class0/000.png" in text
    assert len(found.unreadable) == 1
    stopping = rehearsed(tiny(root, on_unreadable="stop"), steps=1, runs=tmp_path)
    assert any("--on-unreadable skip" in problem for problem in stopping.problems)


def test_a_disk_that_is_too_small_is_a_problem(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("alexnet.plan.shutil.disk_usage", lambda _path: usage)
    found = rehearsed(tiny(pictures), runs=tmp_path)
    assert ["has 1000 bytes free" in problem for problem in found.problems] == [True]


# --- the command -----------------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "alexnet", "plan", *map(str, arguments)]


def test_the_command_tells_every_mistake_on_a_line() -> None:
    done = subprocess.run(
        command("x", "--batch", "0", "--momentum", "2"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("python -m alexnet plan: --") for line in lines)


@pytest.mark.slow
def test_the_command_and_its_progress(pictures: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command(pictures, *options(epochs=2), "--steps", 2, "--json", "--progress")
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *doings, found = map(json.loads, done.stdout.splitlines())
    assert all(set(doing) == {"what", "done", "total"} for doing in doings)
    assert found["speed"]["steps_timed"] == 2
    assert found["problems"] == []
    assert everything(tmp_path) == set()


@pytest.mark.slow
def test_ended_by_a_signal_it_leaves_nothing(pictures: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = command(pictures, *options(), "--steps", 10_000, "--json", "--progress")
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"timing' in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert everything(tmp_path) == set()
