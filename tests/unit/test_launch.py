"""Trainings that somebody else starts: asked for, waiting, killed, stopped, going on, branching."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import torch

from alexnet import branches, checkpoints, launch
from alexnet.config import TrainConfig
from alexnet.launch import LaunchError, Request, command, start, start_again, start_branch, stop
from alexnet.options import parser
from alexnet.presets import PRESETS, configured
from alexnet.runs import PREPARE_SECONDS, START_SECONDS, RunDirectory, replace_atomically
from tests.training import ROOT, folder_of_pictures, options, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from alexnet.runs import Condition

SECOND = 1.0
LONG = 90 * SECOND


def until(true: Callable[[], object], seconds: float = LONG) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A place for runs; whatever still trains there at the end is killed."""
    folder = tmp_path / "runs"
    yield folder
    for run in launch.siblings(folder):
        if run.is_locked() and isinstance(pid := run.status().get("pid"), int):
            os.kill(pid, signal.SIGKILL)
    until(lambda: launch.reap() or not launch._children)


def tiny(data: Path, **changes: Any) -> TrainConfig:
    """The tiny recipe of tests/training.py as a config."""
    words = ["train", str(data), *options(), *(["--preset", "paper-2012"])]
    given = parser().parse_args(words)
    values = {f.name: v for f in dataclasses.fields(TrainConfig) if (v := getattr(given, f.name)) is not None}
    preset, text = values.pop("preset"), values.pop("data")
    return configured(preset, text, **{**values, "epochs": 2, **changes})


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(checkpoints.load(path).weights)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [preset.name for preset in PRESETS])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 3, "learning_rate": 1e-05, "seed": 2**62, "probes": 0},
        {"unit_variance": False, "mirror": False, "random_crop": False, "weight_decay": 0.0},
        {"network": "alexnet-2012@99:no-lrn", "side": 120, "hidden": 64, "dropout": 0.1, "mean": "channel"},
    ],
)
def test_the_command_of_a_config_means_that_config(preset: str, changes: dict[str, Any]) -> None:
    if preset == "vgg" and "network" in changes:
        changes = {**changes, "jitter_to": 130}
    config = configured(preset, "built-in", **changes)
    given = parser().parse_args(["train", *command(Request(config.as_json()))])
    values = {f.name: v for f in dataclasses.fields(TrainConfig) if (v := getattr(given, f.name)) is not None}
    assert configured(values.pop("preset"), values.pop("data"), **values) == config


def test_what_a_preset_sets_cannot_be_taken_back_to_none() -> None:
    config = dataclasses.replace(configured("quick", "built-in"), hidden=None)
    with pytest.raises(LaunchError, match="--hidden"):
        command(Request(config.as_json()))


# --- what is true of a run --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "age", "locked", "condition"),
    [
        ({"state": "running", "pid": 1}, 1.0, True, "running"),
        ({"state": "running", "pid": 1}, 31.0, True, "silent"),
        ({"state": "running", "pid": 1}, 1.0, False, "gone"),
        ({"state": "waiting", "pid": 1}, 1.0, True, "waiting"),
        ({"state": "starting", "pid": 1}, PREPARE_SECONDS - 1, True, "starting"),
        ({"state": "starting", "pid": 1}, PREPARE_SECONDS + 1, True, "silent"),
        ({"state": "waiting", "pid": 1}, 1.0, False, "gone"),
        ({"state": "stopped", "pid": 1}, 1.0, True, "starting"),
        ({"state": "finished", "pid": 1}, 1e6, False, "finished"),
        ({"state": "failed", "pid": 1}, 1e6, False, "failed"),
        ({"state": "starting"}, 1.0, False, "starting"),
        ({"state": "starting", "pid": None}, 1.0, False, "starting"),
        ({"state": "waiting", "pid": None}, 1.0, False, "starting"),
        ({"state": "starting"}, START_SECONDS + 1, False, "gone"),
        ({"state": "running", "pid": 1, "host": "another"}, 1.0, False, "running"),
        ({"state": "running", "pid": 1, "host": "another"}, 31.0, False, "silent"),
        ({}, None, False, "gone"),
        ({}, None, True, "starting"),
        ({"state": ["running"]}, 1.0, False, "gone"),
    ],
)
def test_the_condition_of_a_run(
    tmp_path: Path, status: dict[str, Any], age: float | None, locked: bool, condition: Condition
) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    if not locked:
        run.release()
    own = {"host": socket.gethostname()} | ({"heartbeat": 1e9} if age is not None else {})
    run.write_status(own | status)
    assert RunDirectory(run.path).condition(1e9 + (age or 0.0)) == condition
    run.release()


# --- started, stopped, killed -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_run_is_started_stopped_killed_and_goes_on_to_the_same_weights(pictures: Path, root: Path) -> None:
    often = {"validate_every": 10, "probes": 0, "layers_every": 0}
    config = tiny(pictures, epochs=40, **often)
    run = start(root, config)
    until(lambda: run.status().get("step", 0) >= 3)
    assert run.condition() == "running"
    with pytest.raises(LaunchError, match="has a process already"):
        start_again(run)
    stop(run)
    until(lambda: run.condition() == "stopped")
    assert run.last.exists()
    stopped_at = run.status()["step"]

    start_again(run)
    until(lambda: run.condition() == "running" and run.status()["step"] > stopped_at)
    os.kill(run.status()["pid"], signal.SIGKILL)
    launch.reap()
    until(lambda: run.condition() == "gone")

    start_again(run)
    until(lambda: run.condition() == "finished")
    alone = train(pictures, "--run-dir", root / "alone", "--preset", "paper-2012", *options(epochs=40, **often))
    assert alone.returncode == 0, alone.stderr
    assert same(weights(run.last), weights(root / "alone" / "checkpoints" / "last.pt"))
    launch.reap()
    assert not launch._children


def test_a_run_that_cannot_start_says_why_and_keeps_what_was_asked(pictures: Path, root: Path) -> None:
    run = start(root, tiny(pictures, batch=4096))
    until(lambda: run.condition() == "failed")
    assert "--batch 4096" in run.status()["message"]
    assert not run.config_path.exists()
    asked = launch.request(run)
    assert asked is not None
    assert asked.values["batch"] == 4096
    assert [other.path for other in launch.siblings(root)] == [run.path]


def test_two_processes_never_train_in_one_folder(pictures: Path, root: Path) -> None:
    run = start(root, tiny(pictures, epochs=200))
    until(lambda: run.status().get("step", 0) >= 1)
    pid = run.status()["pid"]
    done = train("--resume", run.path)
    assert done.returncode == 2
    assert "in use by another process" in done.stderr
    assert (run.condition(), run.status()["pid"]) == ("running", pid)


@pytest.mark.long
def test_a_second_run_waits_for_the_first_and_a_third_for_both(pictures: Path, root: Path) -> None:
    first = start(root, tiny(pictures, epochs=200))
    until(lambda: first.condition() == "running")
    second = start(root, tiny(pictures, epochs=1), waits=True)
    until(lambda: second.condition() == "waiting" and second.is_locked())
    third = start(root, tiny(pictures, epochs=1, seed=3), waits=True)
    until(lambda: "waits for" in third.status().get("message", ""))
    assert first.path.name in second.status()["message"]
    assert second.path.name in third.status()["message"]
    assert not second.config_path.exists()
    stop(third)
    until(lambda: third.condition() == "stopped")
    assert "before it began" in third.status()["message"]
    stop(first)
    until(lambda: second.condition() == "finished")
    assert first.condition() == "stopped"
    start_again(third)  # it waits no more than it has to
    until(lambda: third.condition() == "finished")


def test_a_command_that_waited_for_nothing_leaves_no_folder(root: Path) -> None:
    done = train(root / "nowhere", "--queue", "--run-dir", root / "run")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert not (root / "run").exists()


def test_a_signal_ends_a_training_that_does_not_answer(pictures: Path, root: Path) -> None:
    run = start(root, tiny(pictures, epochs=200))
    until(lambda: run.status().get("step", 0) >= 1)
    launch.end(run, at_once=True)
    until(lambda: run.condition() == "gone")
    with pytest.raises(LaunchError, match="no process on this machine"):
        launch.end(run)
    with pytest.raises(LaunchError, match="does not run"):
        stop(run)


def test_a_damaged_status_ends_no_other_program(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        run = RunDirectory.create(tmp_path / "run", {})
        run.write_status({"state": "running", "pid": bystander.pid, "host": socket.gethostname()})
        with pytest.raises(LaunchError, match="no process on this machine"):
            launch.end(run, at_once=True)
        assert bystander.poll() is None
        bystander.kill()
    run.release()


# --- branches ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Two epochs of six steps, every validation's checkpoint kept."""
    path = tmp_path_factory.mktemp("parents") / "parent"
    given = options(epochs=2, schedule="constant", keep_every=1)
    done = train(pictures, "--run-dir", path, *given)
    assert done.returncode == 0, done.stderr
    return RunDirectory.open(path)


def test_kept_checkpoints_are_those_of_their_validations(parent: RunDirectory) -> None:
    assert list(parent.checkpoints()) == ["last", "best", "step-000000012", "step-000000006"]
    assert same(weights(parent.kept(12)), weights(parent.last))
    assert not same(weights(parent.kept(6)), weights(parent.last))


def test_a_run_continued_for_longer_ends_as_one_that_was_asked_for_as_long(
    parent: RunDirectory, pictures: Path, tmp_path: Path, root: Path
) -> None:
    longer = start_branch(root, parent.last, {"epochs": 4})
    until(lambda: longer.condition() == "finished")
    whole = train(pictures, "--run-dir", tmp_path / "whole", *options(epochs=4, schedule="constant", keep_every=1))
    assert whole.returncode == 0, whole.stderr
    assert same(weights(longer.last), weights(tmp_path / "whole" / "checkpoints" / "last.pt"))
    steps = [record["step"] for record in longer.metrics() if record["kind"] == "train"]
    assert steps == list(range(1, 25))  # the first half is the parent's
    root_of = longer.config()["branch"]
    assert root_of == {
        "run": "parent", "checkpoint": "last", "step": 12, "changed": {"epochs": [2, 4]}, "mode": "continue"
    }  # fmt: skip
    assert same(weights(longer.start), weights(parent.last))
    assert {path.name for path in parent.probes_path.glob("step-*")} <= {p.name for p in longer.probes_path.iterdir()}


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of the processes that would have been started."""
    said: list[list[str]] = []
    monkeypatch.setattr(launch, "_spawn", lambda arguments, _run: said.append(list(arguments)))
    return said


@pytest.mark.parametrize("gone", [False, True])
def test_a_branch_begins_from_the_checkpoint_that_it_was_asked_of(
    parent: RunDirectory, root: Path, spawned: list[list[str]], gone: bool
) -> None:
    """Also where the other run has trained on since, or is deleted, when its turn comes."""
    other = RunDirectory(root / "other")
    shutil.copytree(parent.path, other.path)
    replace_atomically(other.last, parent.kept(6).read_bytes())
    branch = start_branch(root, other.last, {"learning_rate": 0.005, "epochs": 2}, waits=True)
    (arguments,) = spawned
    if gone:
        shutil.rmtree(other.path)
    else:
        replace_atomically(other.last, parent.last.read_bytes())
    done = train(*arguments)
    assert done.returncode == 0, done.stderr
    assert same(weights(branch.start), weights(parent.kept(6)))
    assert branch.config()["branch"] == {
        "run": "other", "checkpoint": "last", "step": 6, "changed": {"learning_rate": [0.02, 0.005]}, "mode": "continue"
    }  # fmt: skip
    steps = [record["step"] for record in branch.metrics() if record["kind"] == "train"]
    assert steps == list(range(7 if gone else 1, 13))
    assert (
        "other/metrics.jsonl is gone, so that curves and film begin at step 6" in branch.log_path.read_text()
    ) == gone


def test_a_branch_that_could_not_begin_keeps_what_it_was_to_begin_from(
    parent: RunDirectory, root: Path, spawned: list[list[str]]
) -> None:
    branch = start_branch(root, parent.kept(6), {"batch": 4096})
    assert train(*spawned.pop()).returncode == 2
    assert "--batch 4096" in branch.status()["message"]
    assert not branch.config_path.exists()
    assert branch.start.read_bytes() == parent.kept(6).read_bytes()
    start_again(branch)
    assert len(spawned) == 1


def test_no_branch_is_asked_of_a_checkpoint_that_is_gone(parent: RunDirectory, root: Path) -> None:
    with pytest.raises(LaunchError, match=r"there is no checkpoint .*step-000000007\.pt, so no branch"):
        start_branch(root, parent.kept(7), {})
    assert not root.exists()


def test_the_status_says_of_which_step_the_last_checkpoint_is(parent: RunDirectory) -> None:
    assert parent.status()["saved"] == checkpoints.load(parent.last).results["step"] == 12


def test_an_earlier_checkpoint_without_changes_leads_to_the_same_end(parent: RunDirectory, tmp_path: Path) -> None:
    done = train("--branch", parent.kept(6), "--run-dir", tmp_path / "branch")
    assert done.returncode == 0, done.stderr
    assert same(weights(tmp_path / "branch" / "checkpoints" / "last.pt"), weights(parent.last))


def test_a_branch_killed_before_its_first_checkpoint_begins_again(parent: RunDirectory, root: Path) -> None:
    branch = start_branch(root, parent.kept(6), {"learning_rate": 0.005})
    until(lambda: branch.condition() == "finished")
    ended = weights(branch.last)
    for path in (branch.last, branch.best, *branch.last.parent.glob("step-*")):  # as if it had been killed at once
        path.unlink()
    branch.forget_after(6)
    done = train("--resume", branch.path)
    assert done.returncode == 0, done.stderr
    assert same(weights(branch.last), ended)
    assert not same(ended, weights(parent.last))


def test_another_optimiser_starts_from_the_weights_alone(parent: RunDirectory, tmp_path: Path) -> None:
    done = train("--branch", parent.path, "--optimiser", "sgd", "--epochs", "1", "--run-dir", tmp_path / "branch")
    assert done.returncode == 0, done.stderr
    branch = RunDirectory.open(tmp_path / "branch")
    assert branch.config()["branch"]["mode"] == "weights"
    assert [r["step"] for r in branch.metrics() if r["kind"] == "train"] == list(range(1, 7))
    assert "with its weights alone" in branch.log_path.read_text()
    assert "before" not in branch.config()["branch"]  # the parent is no branch
    again = branches.opened(branch.last, {"epochs": 9})
    assert again.record(pictures=48)["before"] == branch.config()["branch"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--seed", "5"], "--seed"),
        (["--network", "alexnet-2012@131"], "--network"),
        ([], "nothing left to train"),
        (["--epochs", "1"], "nothing left to train"),
        (["--resume", "elsewhere"], "give one of them"),
    ],
)
def test_what_a_branch_cannot_do(parent: RunDirectory, tmp_path: Path, changes: list[str], message: str) -> None:
    where = [] if "--resume" in changes else ["--run-dir", tmp_path / "branch"]
    done = train("--branch", parent.path, *changes, *where)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "branch").exists()


def test_a_branch_keeps_its_classes(parent: RunDirectory, tmp_path: Path) -> None:
    others = folder_of_pictures(tmp_path / "others", classes=2)
    done = train(others, "--branch", parent.path, "--epochs", "3", "--run-dir", tmp_path / "branch")
    assert done.returncode == 2
    assert "a branch keeps its classes" in done.stderr


def test_the_module_runs_from_any_folder(pictures: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pictures)
    run = start(root, tiny(pictures, epochs=1))
    until(lambda: run.condition() == "finished")
    assert ROOT not in run.path.parents
