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

import pytest
import torch

from alexnet import plan, probes, timing
from alexnet.build import build
from alexnet.config import TrainConfig
from alexnet.presets import PRESETS, configured
from alexnet.rehearsal import Doing, measured, rehearsed
from alexnet.runs import RunDirectory
from tests.training import ROOT, command, folder_of_pictures, options, tiny, train

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


@pytest.mark.parametrize("text", ["٣", "３", "0.٥", "1²", "१"])
def test_digits_of_other_scripts_are_no_numbers(text: str) -> None:
    names = sorted(WHOLE | FRACTIONS)
    _, wrong = plan.problems({"data": "x", **dict.fromkeys(names, text)})
    assert sorted(wrong) == names
    for name in names:
        assert wrong[name].endswith(f"must be a {'whole ' * (name in WHOLE)}number, got {text!r}")


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


def test_what_other_programs_took_is_what_the_machine_did_beside_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    before = timing.Worked(at=100.0, machine=5000.0, own=10.0)
    after = timing.Worked(at=110.0, machine=5030.0, own=22.0)  # of 40 seconds, 30 were worked, 12 of them by us
    assert timing.others_share(before, after) == pytest.approx(18 / 40)
    assert timing.others_share(before, after._replace(machine=5011.0)) == 0.0  # the two are not counted at once
    assert timing.others_share(before, after._replace(at=100.2)) is None
    assert timing.others_share(None, after) is timing.others_share(before, None) is None


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="this system does not say what its cores did")  # noqa: PTH110
def test_another_program_is_seen_and_our_own_work_is_not_held_against_it() -> None:
    code = "import time\nwhile time.process_time() < 60: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as spinning:
        begun = timing.Worked.so_far()
        own, end = time.process_time(), time.perf_counter() + 1.0
        while time.perf_counter() < end:
            pass
        own, ended = time.process_time() - own, timing.Worked.so_far()
        ticks = timing._ticks(str(spinning.pid))
        spinning.kill()
    assert begun is not None
    assert ended is not None
    assert ended.own - begun.own == pytest.approx(own, abs=0.05)
    share = timing.others_share(begun, ended)
    assert share is not None
    cores = os.cpu_count() or 1
    assert 0.7 * ticks / os.sysconf("SC_CLK_TCK") / cores - 0.1 <= share <= 1 - (own - 0.1) / cores


def test_what_holds_it_up_is_said_only_where_it_is_known() -> None:
    assert timing._bottleneck(0.0, 60, 100, None) == (
        "the network sets the pace; reading beside it takes 40% of its speed"
    )
    assert timing._bottleneck(0.0, 60, 100, 0.05) == timing._bottleneck(0.0, 60, 100, None)
    assert timing._bottleneck(0.0, 60, 100, 0.3) == (
        "the network sets the pace; other programs took about 30% of the cores meanwhile"
    )
    assert timing._bottleneck(0.0, 99, 100, 0.0) == "the network sets the pace"
    assert timing._bottleneck(0.5, 60, 100, 0.3) == (
        "reading holds it up: 50% of each step is waiting for pictures; other programs took about 30% of the cores "
        "meanwhile"
    )


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_tells_every_mistake_on_a_line() -> None:
    done = command("plan", "x", "--batch", "0", "--momentum", "2")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("python -m alexnet plan: --") for line in lines)


def test_more_steps_are_timed_than_the_training_has(pictures: Path) -> None:
    cosine = options(schedule="cosine", optimiser="sgd-2012", max_steps=2)  # a rule that knows no rate of 0
    done = command("plan", pictures, *cosine, "--steps", 4, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["steps"], found["speed"]["steps_timed"]) == (2, 4)


def planning(*arguments: object) -> list[str]:
    """To be started in an empty folder, where a process of `tests.training` cannot be."""
    return [sys.executable, "-m", "alexnet", "plan", *map(str, arguments)]


@pytest.mark.slow
def test_the_command_and_its_progress(pictures: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = planning(pictures, *options(epochs=2), "--steps", 2, "--json", "--progress")
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
    words = planning(pictures, *options(), "--steps", 10_000, "--json", "--progress")
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if '"timing' in line:
                break
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert everything(tmp_path) == set()
