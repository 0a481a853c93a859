"""Whole trainings from the command line: what they leave behind, killed, stopped, resumed and refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from alexnet import checkpoints
from alexnet.build import build
from alexnet.config import TrainConfig
from alexnet.initialisation import initialise
from alexnet.runs import RunDirectory
from tests.training import ROOT, command, folder_of_pictures, options, train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS = 30  # five epochs of six batches


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that nobody disturbed."""
    path = tmp_path_factory.mktemp("runs") / "finished"
    done = train(pictures, "--run-dir", path, *options(epochs=5))
    assert done.returncode == 0, done.stderr
    return RunDirectory.open(path)


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return dict(checkpoints.load(run.last).weights)


def same(first: RunDirectory, second: RunDirectory) -> bool:
    """Whether two runs ended alike to the bit: weights, momentum and schedule."""
    one, other = checkpoints.load(first.last), checkpoints.load(second.last)
    assert one.training is not None
    assert other.training is not None
    momenta = (one.training["optimiser"]["momentum_buffer"], other.training["optimiser"]["momentum_buffer"])
    return (
        all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
        and all(torch.equal(momenta[0][name], momenta[1][name]) for name in momenta[0])
        and one.training["plateau"] == other.training["plateau"]
        and one.training["step"] == other.training["step"]
    )


# --- what a run leaves behind -----------------------------------------------------------------------------------------


def test_a_run_learns_and_says_so(finished: RunDirectory) -> None:
    records = finished.metrics()
    steps = [record for record in records if record["kind"] == "train"]
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    assert [record["epoch"] for record in steps] == [step // 6 for step in range(STEPS)]
    vals = [record for record in records if record["kind"] == "val"]
    assert [record["step"] for record in vals] == [6, 12, 18, 24, 30]
    assert np.mean([record["loss"] for record in steps[-6:]]) < np.mean([record["loss"] for record in steps[:6]]) - 0.1
    assert max(record["top1"] for record in vals) >= 0.6  # chance: 0.33
    assert all(len(record["per_class"]) == 3 for record in vals)
    status = finished.status()
    assert (status["state"], status["step"], status["steps"]) == ("finished", STEPS, STEPS)
    assert status["best"]["top1"] == max(record["top1"] for record in vals)
    assert not finished.is_locked()


def test_the_config_alone_repeats_the_run(finished: RunDirectory, tmp_path: Path) -> None:
    config = finished.config()["config"]
    arguments = []
    for name, value in config.items():
        if name not in {"data", "preset"} and value is not None:
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                arguments.append(flag if value else "--no" + flag[1:])
            else:
                arguments += [flag, str(value)]
    done = train(config["data"], "--preset", config["preset"], "--run-dir", tmp_path / "again", *arguments)
    assert done.returncode == 0, done.stderr
    assert same(finished, RunDirectory.open(tmp_path / "again"))


def test_layers_are_described_under_the_specs_names(finished: RunDirectory) -> None:
    record = next(record for record in finished.metrics() if record["kind"] == "layers" and record["step"] == STEPS)
    kept = weights(finished)
    assert list(record["weights"]) == list(record["gradients"]) == list(kept)
    for name, value in kept.items():
        assert record["weights"][name]["mean"] == pytest.approx(float(value.mean()), rel=1e-4, abs=1e-8)
        assert record["weights"][name]["norm"] == pytest.approx(float(value.norm()), rel=1e-4)
    assert all(value["norm"] > 0 for value in record["gradients"].values())


def test_the_film_goes_from_the_first_weights_to_the_last(finished: RunDirectory) -> None:
    probes = sorted(finished.probes_path.glob("step-*.npz"))
    assert probes[0] == finished.probe_path(0)
    assert probes[-1] == finished.probe_path(STEPS)
    assert len(probes) >= 6
    with np.load(probes[0]) as first, np.load(probes[-1]) as last:
        norms = {f"{kind}/{name}" for kind in ("before", "map", "lrn") for name in ("norm1", "norm2")}
        assert set(last) == {"kernels", "map/conv1", "probabilities", "label", *norms}
        assert last["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        assert last["label"] == 0  # the first validation picture is of the first class
        np.testing.assert_array_equal(last["kernels"], weights(finished)["conv1.weight"].half().numpy())
        assert np.abs(first["kernels"].astype(float) - last["kernels"]).max() > 1e-4
        before, after = last["lrn/norm1"]
        assert (after < before * 2**-0.75 + 1e-6).all()  # LRN never lets more than k^−β through
    assert finished.probe_picture_path.read_bytes().startswith(b"\x89PNG")


def test_tensorboard_finds_the_tags_that_people_use(finished: RunDirectory) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished.path), size_guidance={"scalars": 0})
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {"Loss/train", "Loss/val", "Accuracy/train", "Accuracy/val", "LearningRate", "ImagesPerSecond"} <= tags
    assert {"grad_avg/conv1.weight", "weight_avg/fc8.bias"} <= tags
    assert {"grad/conv1.weight", "weight/fc8.bias"} <= set(events.Tags()["histograms"])
    losses = {event.step: event.value for event in events.Scalars("Loss/train")}
    written = {record["step"]: record["loss"] for record in finished.metrics() if record["kind"] == "train"}
    assert losses == pytest.approx(written, rel=1e-6)


def test_the_best_checkpoint_is_the_best_validation(finished: RunDirectory) -> None:
    vals = [record for record in finished.metrics() if record["kind"] == "val"]
    best = max(vals, key=lambda record: (record["top1"], -record["step"]))
    results = checkpoints.load(finished.best).results
    assert (results["step"], results["top1"]) == (best["step"], best["top1"])


# --- killed, stopped, resumed -----------------------------------------------------------------------------------------


class Killed:
    """A run that is killed again and again until it gets through."""

    def __init__(self, pictures: Path, path: Path, *extra: str, epochs: int = 5) -> None:
        self._pictures, self.path = pictures, path
        self._recipe = [*options(epochs=epochs, checkpoint_minutes=0), *extra]

    def start(self) -> subprocess.Popen[bytes]:
        run = RunDirectory(self.path)
        where = ["--resume", self.path] if run.config_path.exists() else [self._pictures, "--run-dir", self.path]
        recipe = [] if run.config_path.exists() else self._recipe
        command = [sys.executable, "-m", "alexnet", "train", *map(str, where), *recipe]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def wait_for_step(self, step: int) -> None:
        run = RunDirectory(self.path)
        while run.status().get("step", 0) < step:
            time.sleep(0.01)

    def killed_when(self, happens: Callable[[], bool], timeout: float = 60) -> bool:
        """Kills −9 at a moment; whether the run was still going."""
        with self.start() as process:
            until = time.monotonic() + timeout
            while process.poll() is None and time.monotonic() < until and not happens():
                time.sleep(0.002)
            alive = process.poll() is None
            process.kill()
        return alive

    def finish(self) -> RunDirectory:
        with self.start() as process:
            assert process.stdout is not None
            text = process.stdout.read().decode()
        assert process.returncode == 0, text
        return RunDirectory.open(self.path)

    def check_files(self) -> None:
        """No file under its own name is ever half written."""
        run = RunDirectory(self.path)
        for checkpoint in (run.last, run.best):
            if checkpoint.exists():
                checkpoints.load(checkpoint)
        for probe in run.probes_path.glob("*.npz"):
            with np.load(probe) as arrays:
                assert all(arrays[name].size for name in arrays)
        if run.status_path.exists():
            json.loads(run.status_path.read_text())


def writing(run: RunDirectory) -> bool:
    """Whether a checkpoint is being written right now."""
    return any(run.last.parent.glob(".*.part"))


@pytest.mark.long
def test_killed_while_writing_a_checkpoint_a_run_ends_as_if_never_stopped(
    finished: RunDirectory, pictures: Path, tmp_path: Path
) -> None:
    killed = Killed(pictures, tmp_path / "run")
    run = RunDirectory(killed.path)
    hit = 0
    for steps in (1, 4, 9):
        hit += killed.killed_when(lambda steps=steps: run.status().get("step", 0) >= steps and writing(run))
        killed.check_files()
    assert hit == 3
    assert same(finished, killed.finish())
    records = [record["step"] for record in run.metrics() if record["kind"] == "train"]
    assert records == list(range(1, STEPS + 1))  # each step once
    assert not list(run.path.rglob("*.part"))


@pytest.mark.slow
def test_killed_at_20_random_instants_a_run_ends_as_if_never_stopped(pictures: Path, tmp_path: Path) -> None:
    done = train(pictures, "--run-dir", tmp_path / "undisturbed", *options(epochs=25))
    assert done.returncode == 0, done.stderr
    undisturbed = RunDirectory.open(tmp_path / "undisturbed")
    killed, chance = Killed(pictures, tmp_path / "run", epochs=25), np.random.default_rng(0)
    run, hits, during_write = RunDirectory(killed.path), 0, 0
    for _ in range(40):
        if hits == 20:
            break
        earlier, delay = run.status().get("pid"), chance.uniform(0, 0.25)
        hits += killed.killed_when(moment(run, earlier, delay))
        during_write += writing(run)
        killed.check_files()
    print(f"{hits} kills, {during_write} of them while a checkpoint was written")
    assert hits == 20
    assert same(undisturbed, killed.finish())


def moment(run: RunDirectory, earlier: int | None, delay: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since a process other than `earlier` began to train."""
    begun: list[float] = []

    def reached() -> bool:
        status = run.status()
        if not begun and status.get("state") == "running" and status.get("pid") != earlier:
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] > delay

    return reached


@pytest.mark.parametrize("how", ["file", "SIGTERM", "SIGINT"])
def test_asked_to_stop_a_run_saves_and_goes_on_later(
    how: str, finished: RunDirectory, pictures: Path, tmp_path: Path
) -> None:
    killed = Killed(pictures, tmp_path / "run")
    run = RunDirectory(killed.path)
    with killed.start() as process:
        killed.wait_for_step(3)
        if how == "file":
            run.request_stop()
        else:
            process.send_signal(getattr(signal, how))
        assert process.stdout is not None
        text = process.stdout.read().decode()
    assert process.returncode == 0, text
    assert "as asked; go on with --resume" in text
    status = run.status()
    assert status["state"] == "stopped"
    assert checkpoints.load(run.last).training["step"] == status["step"] < STEPS  # type: ignore[index]
    assert same(finished, killed.finish())
    assert not run.stop_requested()


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished: RunDirectory) -> None:
    before = weights(finished)
    done = train("--resume", finished.path)
    assert done.returncode == 0, done.stderr
    assert all(torch.equal(before[name], value) for name, value in weights(finished).items())


# --- refused ----------------------------------------------------------------------------------------------------------


def refused(*arguments: object, **environment: str) -> str:
    """The one line that a mistake gets."""
    done = train(*arguments, **environment)
    assert done.returncode == 2, done.stdout + done.stderr
    return only_line(done.stderr)


def only_line(text: str) -> str:
    """The one line beside those of progress, which a slow machine brings forth."""
    lines = [line for line in text.splitlines() if not line.startswith(("train: ", "mean and colours: "))]
    assert len(lines) == 1, text
    return lines[0]


def test_missing_and_empty_data(tmp_path: Path) -> None:
    assert "no data named" in refused()
    assert "No such file or directory" in refused(tmp_path / "nowhere", "--run-dir", tmp_path / "run")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "--run-dir", tmp_path / "run")
    folder_of_pictures(tmp_path / "one", classes=1)
    assert "class" in refused(tmp_path / "one", "--run-dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_settings_that_do_not_fit(pictures: Path, tmp_path: Path) -> None:
    def line(*arguments: str) -> str:
        return refused(pictures, "--run-dir", tmp_path / "run", *options(), *arguments)

    assert "--batch 49 is more than the 48 training pictures: give at most 48" in line("--batch", "49")
    assert "torch sees no CUDA device" in line("--device", "cuda") or torch.cuda.is_available()
    assert "must be like cpu" in line("--device", "warp")
    assert "has no two towers" in line("--device", "cpu,cpu", "--network", "alexnet-one-tower@67")
    assert "did you mean alexnet" in line("--network", "alexnt")
    assert "invalid choice" in line("--schedule", "sometimes")
    assert "states no initial weights" in line("--network", "alexnet-owt@67", "--initialisation", "paper")
    assert "does not fit: a step on" in line("--network", "vgg-d@1024", "--side", "1024", "--batch", "48")


def test_a_run_that_is_there_is_not_written_over(finished: RunDirectory, pictures: Path, tmp_path: Path) -> None:
    before = finished.metrics_path.read_bytes()
    assert "already holds a run" in refused(pictures, "--run-dir", finished.path, *options())
    assert finished.metrics_path.read_bytes() == before
    assert "there is no folder" in refused("--resume", tmp_path / "nothing")


def test_a_run_in_use_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    killed = Killed(pictures, tmp_path / "run")
    with killed.start() as process:
        killed.wait_for_step(1)
        assert f"in use by another process (pid {process.pid})" in refused("--resume", killed.path)
        process.kill()


def test_a_resumed_run_keeps_its_recipe(finished: RunDirectory) -> None:
    assert "trains with --network alexnet-2012@67, not vgg-a" in refused(
        "--resume", finished.path, "--network", "vgg-a"
    )
    assert "trains with --learning-rate 0.02, not 0.5" in refused("--resume", finished.path, "--learning-rate", "0.5")


def test_a_damaged_checkpoint_is_said_and_kept(pictures: Path, tmp_path: Path) -> None:
    killed = Killed(pictures, tmp_path / "run")
    run = RunDirectory(killed.path)
    killed.killed_when(lambda: run.status().get("step", 0) >= 2)
    run.last.write_bytes(run.last.read_bytes()[:1000])
    assert "is not a checkpoint that can be read" in refused("--resume", killed.path)
    assert len(run.last.read_bytes()) == 1000


def test_a_run_whose_last_checkpoint_is_gone_does_not_start_anew(pictures: Path, tmp_path: Path) -> None:
    killed = Killed(pictures, tmp_path / "run")
    run = RunDirectory(killed.path)
    killed.killed_when(lambda: run.status().get("step", 0) >= 8)
    run.last.unlink()
    before = run.metrics()
    line = refused("--resume", killed.path)
    assert "last.pt is gone and this run has steps behind it" in line
    assert "best.pt" in line
    assert run.metrics() == before


def test_data_that_moved_is_named_and_data_that_grew_is_refused(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    killed = Killed(folder_of_pictures(before), tmp_path / "run", "--max-steps", "8")
    run = RunDirectory(killed.path)
    killed.killed_when(lambda: run.status().get("step", 0) >= 2)
    before.rename(after)
    assert "No such file or directory" in refused("--resume", killed.path)
    (after / "train" / "class0" / "new.png").write_bytes((after / "train" / "class0" / "000.png").read_bytes())
    line = refused(after, "--resume", killed.path)
    assert "began with 48 pictures in train" in line
    assert "now has 49" in line
    (after / "train" / "class0" / "new.png").unlink()
    done = train(after, "--resume", killed.path)
    assert done.returncode == 0, done.stderr
    assert run.status()["step"] == 8


def test_a_config_that_was_changed_is_noticed(pictures: Path, tmp_path: Path) -> None:
    killed = Killed(pictures, tmp_path / "run")
    run = RunDirectory(killed.path)
    killed.killed_when(lambda: run.status().get("step", 0) >= 2)
    run.config_path.write_text(run.config_path.read_text().replace('"batch": 8', '"batch": 16'))
    assert "says --batch 16 and the checkpoint was trained with 8" in refused("--resume", killed.path)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_before_it_began_a_run_leaves_nothing(how: signal.Signals, pictures: Path, tmp_path: Path) -> None:
    killed = Killed(pictures, tmp_path / "run")
    with killed.start() as process:
        assert process.stdout is not None
        process.stdout.readline()  # what the data is
        process.send_signal(how)
        text = process.stdout.read().decode()
    if process.returncode == 0:  # it had begun: then it stopped as asked
        assert "as asked" in text
        return
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "interrupted" in text
    assert not killed.path.exists()


def test_interrupted_twice_a_run_ends_at_once_and_goes_on_later(
    finished: RunDirectory, pictures: Path, tmp_path: Path
) -> None:
    killed = Killed(pictures, tmp_path / "run")
    run = RunDirectory(killed.path)
    with killed.start() as process:
        killed.wait_for_step(3)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # another number: two of one kind could arrive as one
        assert process.stdout is not None
        text = process.stdout.read().decode()
    assert "Traceback" not in text
    assert process.returncode in {0, 130}, text
    assert run.status()["state"] == "stopped"
    assert same(finished, killed.finish())


def test_a_refused_start_leaves_no_folder(pictures: Path, tmp_path: Path) -> None:
    refused(
        pictures, "--run-dir", tmp_path / "a", *options(), "--network", "alexnet-owt@67", "--initialisation", "paper"
    )
    torn = folder_of_pictures(tmp_path / "torn")
    for file in (torn / "val").rglob("*.png"):
        file.write_bytes(b"")
    line = refused(torn, "--run-dir", tmp_path / "b", *options())
    assert "none of the 12 validation pictures can be read, the first: val/class0/000.png" in line
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_pack_smaller_than_the_recipe_is_remarked(pictures: Path, tmp_path: Path) -> None:
    assert command("pack", pictures, tmp_path / "pack", "--side", 40).returncode == 0
    done = train(tmp_path / "pack", "--run-dir", tmp_path / "run", *options(max_steps=1))
    assert done.returncode == 0, done.stderr
    assert "the pack's pictures have 40 pixels and this recipe wants 76" in done.stdout


def test_a_full_disk_stops_the_run_and_costs_only_what_was_not_saved(pictures: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limit = 6 * 2**20  # a checkpoint of this network is larger

    def with_little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing beyond it is an OSError, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "alexnet", "train", str(pictures), "--run-dir", str(tmp_path / "run"), *options()]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=with_little_room, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write to" in only_line(done.stderr)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert RunDirectory.open(tmp_path / "run").status()["state"] == "failed"


def test_a_loss_that_explodes_is_said_with_a_remedy(pictures: Path, tmp_path: Path) -> None:
    line = refused(pictures, "--run-dir", tmp_path / "run", *options(learning_rate=500, weight_decay=0.5))
    assert "the loss became" in line
    assert "smaller --learning-rate" in line
    status = RunDirectory.open(tmp_path / "run").status()
    assert status["state"] == "failed"
    assert "the loss became" in status["message"]


# --- pictures that cannot be read -------------------------------------------------------------------------------------


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    root = folder_of_pictures(tmp_path / "torn")
    (root / "train" / "class1" / "003.png").write_bytes(b"")
    picture = root / "val" / "class2" / "001.png"
    picture.write_bytes(picture.read_bytes()[:2000])
    return root


def test_unreadable_pictures_are_counted_skipped_and_reported(torn: Path, tmp_path: Path) -> None:
    done = train(torn, "--run-dir", tmp_path / "run", *options(epochs=2))
    assert done.returncode == 0, done.stderr
    assert "2 pictures were unreadable and skipped: " in done.stdout
    assert "003.png" in done.stdout
    run = RunDirectory.open(tmp_path / "run")
    report = [record for record in run.metrics() if record["kind"] == "unreadable"][-1]
    assert report["count"] == len(report["pictures"]) == 2
    assert any("train/class1/003.png" in fault for fault in report["pictures"])
    assert any("val/class2/001.png" in fault for fault in report["pictures"])
    assert [record["pictures"] for record in run.metrics() if record["kind"] == "val"] == [11, 11]


def test_by_choice_the_first_unreadable_picture_ends_the_run(torn: Path, tmp_path: Path) -> None:
    line = refused(torn, "--run-dir", tmp_path / "run", *options(), "--on-unreadable", "stop")
    assert "003.png" in line


# --- packs and evaluation ---------------------------------------------------------------------------------------------


def test_a_pack_trains_to_the_same_weights_as_its_folder(
    finished: RunDirectory, pictures: Path, tmp_path: Path
) -> None:
    packed = command("pack", pictures, tmp_path / "pack", "--side", 76)
    assert packed.returncode == 0, packed.stderr
    done = train(tmp_path / "pack", "--run-dir", tmp_path / "run", *options(epochs=5))
    assert done.returncode == 0, done.stderr
    assert same(finished, RunDirectory.open(tmp_path / "run"))


def test_evaluation_finds_what_training_found(finished: RunDirectory, pictures: Path) -> None:
    done = command("evaluate", finished.path, pictures, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    best = finished.status()["best"]
    assert (found["top1"], found["pictures"]) == (best["top1"], 12)
    assert found["loss"] == pytest.approx(best["loss"], rel=1e-4)
    assert sum(map(sum, found["confusion"]["counts"])) == 12
    assert "top3" in found
    assert "top5" not in found  # there are three classes
    mistakes = 12 - round(12 * found["top1"])
    assert len(found["mistakes"]) == mistakes


def test_evaluation_as_a_table(finished: RunDirectory, pictures: Path) -> None:
    done = command("evaluate", finished.last, pictures, "--ten-crop")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("12 pictures, ten crops: top-1 ")
    assert [line.split()[:2] for line in done.stdout.splitlines()[3:6]] == [[f"class{n}", "4"] for n in range(3)]


def test_evaluation_at_several_sides(finished: RunDirectory, pictures: Path) -> None:
    done = command("evaluate", finished.path, pictures, "--sides", "70,76,90")
    assert done.returncode == 0, done.stderr
    assert "centre crop at 70, 76, 90 pixels" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere.pt", "PICTURES"], "there is no checkpoint nowhere.pt"),
        (["evaluate", "RUN", "nowhere"], "No such file or directory"),
        (["evaluate", "RUN", "OTHER"], "the checkpoint knows 3 classes and the data has 4"),
        (["evaluate", "RUN", "PICTURES", "--sides", "10"], "do not fit a short side of 10"),
        (["evaluate", "RUN", "PICTURES", "--sides", "ten"], "expected short sides in pixels"),
        (["evaluate", "RUN", "PICTURES", "--device", "warp"], "--device must be like cpu"),
        (["evaluate", "RUN", "PICTURES", "--batch", "0"], "--batch must be 1 or more"),
        (["pack", "nowhere", "OUT"], "No such file or directory"),
        (["pack", "PICTURES", "OUT", "--side", "0"], "side"),
        (["pack", "PICTURES", "RUN"], "is not empty and no pack"),
    ],
)
def test_mistakes_get_one_line(
    arguments: list[str], message: str, finished: RunDirectory, pictures: Path, tmp_path: Path
) -> None:
    if "OTHER" in arguments:
        folder_of_pictures(tmp_path / "other", classes=4)
    names = {"RUN": finished.path, "PICTURES": pictures, "OUT": tmp_path / "out", "OTHER": tmp_path / "other"}
    done = command(*(names.get(argument, argument) for argument in arguments))
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in only_line(done.stderr)


def test_every_picture_can_be_looked_at(finished: RunDirectory, pictures: Path) -> None:
    done = command("evaluate", finished.path, pictures, "--all", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pictures"] == 48 + 12
    assert "all 60 pictures" in done.stderr
    alone = command("evaluate", finished.path, pictures / "val", "--all", "--json")
    assert json.loads(alone.stdout)["pictures"] == 12
    both = command("evaluate", finished.path, pictures, "--json")
    assert json.loads(alone.stdout)["top1"] == json.loads(both.stdout)["top1"]


def test_data_that_is_not_split_is_split_as_the_training_did(pictures: Path, tmp_path: Path) -> None:
    recipe = [*options(epochs=1, seed=5), "--val-fraction", "0.25"]
    done = train(pictures / "train", "--run-dir", tmp_path / "run", *recipe)
    assert done.returncode == 0, done.stderr
    found = command("evaluate", tmp_path / "run", pictures / "train", "--json")
    assert found.returncode == 0, found.stderr
    best = RunDirectory.open(tmp_path / "run").status()["best"]
    assert json.loads(found.stdout)["pictures"] == best["pictures"] == 12
    assert json.loads(found.stdout)["loss"] == pytest.approx(best["loss"], rel=1e-4)


def test_weights_that_are_no_numbers_are_refused(finished: RunDirectory, pictures: Path, tmp_path: Path) -> None:
    content = torch.load(finished.last, weights_only=True)
    content["weights"]["conv2.weight"][0] = float("nan")
    torch.save(content, tmp_path / "nan.pt")
    done = command("evaluate", tmp_path / "nan.pt", pictures)
    assert done.returncode == 2
    assert "weights that are no numbers" in done.stderr


@pytest.mark.parametrize("verb", ["train", "evaluate", "pack", "presets"])
def test_help_can_be_written_in_any_encoding(verb: str) -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "alexnet", verb, "--help"], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_presets_are_listed_with_what_to_expect() -> None:
    done = command("presets")
    assert done.returncode == 0
    assert all(f"{name}: " in done.stdout for name in ("paper-2012", "modern", "quick", "vgg"))
    assert "python -m alexnet train" in done.stdout


# --- several processes, two devices -----------------------------------------------------------------------------------


GENTLE = {"learning_rate": 0.005}
"""At 0.02 these few pictures make the first steps so unstable that a difference of 1e-8 grows tenfold at every one."""


def assert_same_steps(first: RunDirectory, second: RunDirectory) -> None:
    """Ten steps led to the same weights, to 1e-5, and hundreds of times farther than that from where they began."""
    one, other = weights(first), weights(second)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-5)
    config = TrainConfig.from_json(first.config()["config"])
    network = config.described_network(3)
    initial = build(network)
    initialise(initial, network, config.initialisation, config.seed)
    moved = max(float((value - initial.state_dict()[name]).abs().max()) for name, value in one.items())
    assert moved > 5e-3


def train_together(*arguments: object) -> subprocess.CompletedProcess[str]:
    """`train` in two processes, as torchrun starts them."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*launch, "-m", "alexnet", "train", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_processes_report_each_others_unreadable_pictures(torn: Path, tmp_path: Path) -> None:
    done = train_together(torn, "--run-dir", tmp_path / "run", *options(epochs=1))
    assert done.returncode == 0, done.stderr
    run = RunDirectory.open(tmp_path / "run")
    assert [record["count"] for record in run.metrics() if record["kind"] == "unreadable"] == [2]
    assert next(record["pictures"] for record in run.metrics() if record["kind"] == "val") == 11


@pytest.mark.long
def test_two_processes_take_the_steps_of_one(pictures: Path, tmp_path: Path) -> None:
    recipe = options(max_steps=10, dropout=0.0, seed=3, **GENTLE)
    alone = train(pictures, "--run-dir", tmp_path / "one", *recipe)
    assert alone.returncode == 0, alone.stderr
    done = train_together(pictures, "--run-dir", tmp_path / "two", *recipe)
    assert done.returncode == 0, done.stderr
    one, two = (RunDirectory.open(tmp_path / name) for name in ("one", "two"))
    assert_same_steps(one, two)
    for first, second in zip(one.metrics(), two.metrics(), strict=True):
        assert first["kind"] == second["kind"]
        if first["kind"] in {"train", "val"}:
            assert second["loss"] == pytest.approx(first["loss"], rel=1e-4)
            assert second["top1"] == first["top1"]
    assert two.config()["processes"] == 2


def test_two_devices_train_as_one(pictures: Path, tmp_path: Path) -> None:
    recipe = options(max_steps=10, seed=3, **GENTLE)  # with dropout
    for name, device in (("one", "cpu"), ("two", "cpu,cpu")):
        done = train(pictures, "--run-dir", tmp_path / name, "--device", device, *recipe)
        assert done.returncode == 0, done.stderr
    assert_same_steps(*(RunDirectory.open(tmp_path / name) for name in ("one", "two")))


def test_a_run_begun_on_two_devices_goes_on_on_one(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed = Killed(pictures, path, "--device", "cpu,cpu", "--max-steps", "10", "--learning-rate", "0.005")
    run = RunDirectory(path)
    assert killed.killed_when(lambda: run.status().get("step", 0) >= 4)
    done = train("--resume", path, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "note: this run began with device: cpu (one tower each)" in done.stdout
    assert run.status()["step"] == 10
    plain = tmp_path / "plain"
    assert train(pictures, "--run-dir", plain, *options(max_steps=10, epochs=5, **GENTLE)).returncode == 0
    assert_same_steps(RunDirectory.open(plain), run)
