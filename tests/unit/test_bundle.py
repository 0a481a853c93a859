"""A finished run as what is shipped: half the weights' room, no photographs, nothing of the machine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from alexnet import __main__ as command_line
from alexnet import bundle, checkpoints
from alexnet.bundled import Bundle, BundleError
from alexnet.config import TrainConfig
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.foreign import open_checkpoint
from alexnet.options import parser
from alexnet.zoo import network_from
from analysis import __main__ as analysis_line
from analysis import card, film, learning, shipped
from analysis.history import History
from tests.made_run import CLASSES, PER_EPOCH, made_run
from tests.training import folder_of_pictures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alexnet.runs import RunDirectory

STEPS = 120
MOMENTS = (*range(40), *range(42, STEPS + 1, 3))
HOST = "a-machine.example"
NOTE = "Narrow layers cost two points | measured."
SHIPPED = {"config.json", "status.json", "metrics.jsonl", "weights.safetensors", "results.json", "MODEL_CARD.md"}


class Made(NamedTuple):
    """A run, where its pictures lie, and its bundle."""

    run: RunDirectory
    pictures: Path
    bundle: Bundle


def a_run(path: Path, pictures: Path, *, moments: tuple[int, ...] = MOMENTS) -> RunDirectory:
    """Finished, with a checkpoint whose weights are a start's, and this machine in every text of it."""
    config = TrainConfig(data=str(pictures), network="alexnet-2012@67", hidden=32, batch=8, epochs=12).as_json()
    run = made_run(path, steps=STEPS, moments=moments, config=config)
    faults = [f"{pictures}/train/class0/003.png: cut off", f"{Path.home()}/else/x.png: empty"]
    run.append_metrics({"kind": "unreadable", "step": 120, "count": 2, "pictures": faults})
    machine = {"pid": 4711, "host": HOST, "message": f"ended in {path}", "warnings": [f"{path}/log.txt is long"]}
    run.write_status(run.status() | machine)
    run.log_path.write_text(f"{path}")
    run.probe_picture_path.write_bytes(b"a photograph")
    network = network_from("alexnet-2012@67").adapted(classes=3, hidden=32)
    start = checkpoints.untrained(network)
    run.best.parent.mkdir()
    checkpoint = dataclasses.replace(
        start, classes=CLASSES, config=config, results={"step": 110, "top1": 0.5, "top3": 1.0, "loss": 1.1},
        preprocessing=Preprocessing(Geometry(67, 67, 67), torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0)),
    )  # fmt: skip
    checkpoints.save(run.best, checkpoint)
    return run


@pytest.fixture(scope="module")
def analysis_here() -> Iterator[None]:
    """`python -m analysis` without a process of its own, which takes seconds to import torch."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[1:3] == ["-m", "analysis"]
        return subprocess.CompletedProcess(command, analysis_line.main(command[3:]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command_line.subprocess, "run", run)
        patch.setattr(command_line, "_listen", lambda: None)
        yield


@pytest.fixture(scope="module")
def made(analysis_here: None, tmp_path_factory: pytest.TempPathFactory) -> Made:  # noqa: ARG001
    folder = tmp_path_factory.mktemp("bundling")
    pictures = folder_of_pictures(folder / "some-pictures", per_class=1)
    run = a_run(folder / "runs" / "mine", pictures)
    words = ["bundle", str(run.path), str(folder / "out"), "--moments", "60", "--note", NOTE]
    assert command_line.main(words) == 0
    return Made(run, pictures, Bundle(folder / "out"))


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_only_what_can_be_shipped_is_in_it(made: Made) -> None:
    names = {path.relative_to(made.bundle.folder).as_posix() for path in made.bundle.folder.rglob("*")}
    probes = {name for name in names if name.startswith("probes/step-")}
    assert names - probes == SHIPPED | {"probes"}
    assert not list(made.bundle.folder.parent.glob(".out*"))


def test_nothing_of_the_machine_is_in_it(made: Made) -> None:
    words = [str(made.run.path.parent.parent), HOST, "4711"]
    assert all(word in made.run.status_path.read_text() + made.run.metrics_path.read_text() for word in words)
    for path in made.bundle.folder.rglob("*"):
        if path.is_file() and path.suffix != ".npz":
            content = path.read_bytes()
            assert not [word for word in [*words, str(Path.home())] if word.encode() in content], path
    assert made.bundle.run.config()["config"]["data"] == "pictures"
    assert open_checkpoint(made.bundle.weights).config["data"] == "pictures"
    (fault,) = [record for record in made.bundle.run.metrics() if record["kind"] == "unreadable"]
    assert fault["pictures"] == ["pictures/train/class0/003.png: cut off", "x.png: empty"]
    assert made.bundle.run.status()["warnings"] == ["mine/log.txt is long"]


def test_texts_lose_folders_and_nothing_else() -> None:
    said = {"a": ["/home/me/x.png: cut off", "3/4 of https://example.org/a/b, 300 images/s", 7], "b": "in /data (full)"}
    assert bundle._without_paths(said, {}) == {
        "a": ["x.png: cut off", "3/4 of https://example.org/a/b, 300 images/s", 7],
        "b": "in data (full)",
    }
    assert bundle._without_paths("at /my disk/pictures now", {"/my disk/pictures": "flowers"}) == "at flowers now"


def test_weights_are_half_of_what_was_trained(made: Made) -> None:
    trained, half = checkpoints.load(made.run.best), open_checkpoint(made.bundle.weights)
    assert half.weights.keys() == trained.weights.keys()
    for name, tensor in trained.weights.items():
        assert torch.equal(half.weights[name], tensor.half().float()), name
    assert half.classes == CLASSES
    assert torch.equal(half.preprocessing.mean, trained.preprocessing.mean)
    assert made.bundle.weights.stat().st_size < 0.52 * sum(4 * one.numel() for one in trained.weights.values())


def test_the_run_is_read_like_any_other(made: Made) -> None:
    run = made.bundle.run
    assert run.condition() == "finished"
    assert TrainConfig.from_json(run.config()["config"]).hidden == 32
    curves = History(run.metrics_path).update()
    assert (len(curves.train.step), len(curves.val.step)) == (STEPS, STEPS // PER_EPOCH)
    assert learning.best(curves) == learning.best(History(made.run.metrics_path).update())


def test_moments_keep_kernels_and_numbers_and_no_picture(made: Made) -> None:
    steps = film.steps(made.bundle.folder)
    assert len(steps) == 60
    assert (steps[0], steps[-1]) == (0, STEPS)
    assert sum(step < 40 for step in steps) > 30  # 40 of the run's 67 are before step 40
    for step in (steps[0], steps[-1]):
        own, kept = (film.read(run.probe_path(step)) for run in (made.run, made.bundle.run))
        assert (kept.maps, kept.before) == ({}, {})
        assert kept.kernels is not None
        assert np.array_equal(kept.kernels, own.kernels)  # type: ignore[arg-type]
        assert np.array_equal(kept.lrn["norm1"], own.lrn["norm1"])
        assert np.array_equal(kept.probabilities, own.probabilities)  # type: ignore[arg-type]
        assert kept.label == own.label == 2


@pytest.mark.parametrize("count", [60, 66, 67, 200])
def test_moments_are_chosen_evenly_by_their_place(count: int) -> None:
    chosen = bundle.chosen(MOMENTS, count)
    assert len(chosen) == min(count, len(MOMENTS)) == len(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, STEPS)
    gaps = Counter(np.diff([MOMENTS.index(step) for step in chosen]).tolist())
    assert max(gaps) <= 2


# --- records ----------------------------------------------------------------------------------------------------------


def records(steps: int = 1000) -> list[dict[str, Any]]:
    """Steps of one to three seconds, a validation after every hundredth, as a trainer writes them."""
    random, time, found = np.random.default_rng(0), 1e9, []
    for step in range(1, steps + 1):
        seconds = random.uniform(1, 3)
        time += seconds
        found.append(
            {
                "kind": "train", "step": step, "epoch": (step - 1) // 100, "loss": random.uniform(0, 2),
                "top1": random.uniform(), "pictures": 64 if step % 100 else 13, "learning_rate": 0.01,
                "images_per_second": (64 if step % 100 else 13) / seconds, "waited_share": 0.1, "time": time,
            }
        )  # fmt: skip
        if step % 100 == 0:
            time += 4
            found.append(
                {"kind": "val", "step": step, "epoch": (step - 1) // 100, "loss": 1.0, "top1": step / 2e3, "top5": 1.0}
                | {"pictures": 50, "per_class": [0.5, None], "seconds": 4.0, "time": time}
            )
    found[len(found) // 2]["loss"] = 40.0
    return found


def written(path: Path, of: list[dict[str, Any]]) -> History:
    path.write_text("".join(json.dumps(record) + "\n" for record in of))
    return History(path)


def test_records_put_together_say_the_same_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "EXTREMES", 20)
    whole = records()
    thin = bundle.thinned(whole, 10)
    steps, kept = ([one for one in of if one["kind"] == "train"] for of in (whole, thin))
    assert len(kept) < 200
    assert [one for one in thin if one["kind"] != "train"] == [one for one in whole if one["kind"] != "train"]
    assert [one["step"] for one in thin] == sorted(one["step"] for one in thin)
    for name in ("loss", "top1"):
        means = [np.average([one[name] for one in of], weights=[one["pictures"] for one in of]) for of in (steps, kept)]
        assert means[0] == pytest.approx(means[1])
    assert sum(one["pictures"] for one in kept) == sum(one["pictures"] for one in steps)
    for least_or_most in (min, max):  # of every part of 50 steps
        for part in range(0, 1000, 50):
            extreme = least_or_most(steps[part : part + 50], key=lambda one: one["loss"])
            assert extreme in kept
    before, after = (written(tmp_path / f"{at}.jsonl", of).update() for at, of in enumerate((whole, thin)))
    assert learning.speed(after, None) == pytest.approx(learning.speed(before, None))
    assert learning.pauses(after) == []
    hours = [learning.places(curves, "time") for curves in (before, after)]
    assert hours[0] is not None
    assert hours[1] is not None
    # The first record's own steps lie before the first time that is known.
    assert hours[1](np.array([1000])) == pytest.approx(hours[0](np.array([1000])), rel=1e-9)


def test_records_without_a_number_of_pictures_stay_without() -> None:
    whole = [{name: value for name, value in one.items() if name != "pictures"} for one in records(100)]
    thin = [one for one in bundle.thinned(whole, 50) if one["kind"] == "train"]
    assert not any("pictures" in one for one in thin)


def test_records_are_left_as_they_are_where_they_fit_and_are_thinned_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "EXTREMES", 20)
    whole = records()
    assert [json.loads(line) for line in bundle._fitting(whole)] == whole
    monkeypatch.setattr(bundle, "METRICS_BYTES", 60_000)
    lines = bundle._fitting(whole)
    assert sum(map(len, lines)) <= 60_000
    assert sum(map(len, lines)) > 40_000  # no more is lost than must be


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_says_what_was_measured(made: Made) -> None:
    results, text = made.bundle.results(), made.bundle.card.read_text(encoding="utf-8")
    assert text == card.markdown(results)
    assert NOTE in text
    assert "Compact" in text
    assert f"{results['network']['parameters']:,}" in text
    assert results["network"]["parameters"] == sum(
        one.numel() for one in checkpoints.load(made.run.best).weights.values()
    )
    assert results["network"]["bytes"] == made.bundle.weights.stat().st_size
    assert results["network"]["changed"] == ["fc6", "fc7", "fc8"]
    assert results["moments"] == [60, len(MOMENTS)]
    assert results["records"] == [STEPS, STEPS]
    assert str(made.pictures) not in text


def test_the_figures_are_those_of_evaluate(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    results = made.bundle.results()
    for crops, words in (("centre", []), ("ten", ["--ten-crop"])):
        assert command_line.main(["evaluate", str(made.bundle.weights), str(made.pictures), "--json", *words]) == 0
        said, ours = json.loads(capsys.readouterr().out), card.accuracy(results, "float16", crops)
        assert (said["pictures"], said["top1"], said["top3"]) == (ours["pictures"], ours["top1"], ours["topk"])
        assert said["loss"] == pytest.approx(ours["loss"])
        assert [one[crops] for one in results["per_class"]] == list(said["per_class"].values())


def test_the_commands_are_ones_that_the_program_takes(made: Made) -> None:
    results = made.bundle.results()
    assert shipped.changes(results["recipe"])["epochs"] == [90, 12]
    for name, line in results["commands"].items():
        assert parser().parse_args(line.split()[3:]).verb == name.partition("_")[0], line
    packed = shipped.commands(results["recipe"], None, 148, "best", 60)
    assert packed["pack"] == "python -m alexnet pack DATA PACK --side 148"
    assert packed["train_RUN"].startswith("python -m alexnet train PACK --preset paper-2012 --network alexnet-2012@67")


def branched(results: dict[str, Any]) -> dict[str, Any]:
    """As of a branch of a branch: first 5 epochs at 0.04, then 9 at 0.04, and 12 at the recipe's rate, jittered."""
    first = {"run": "a", "checkpoint": "best", "step": 60, "mode": "continue", "changed": {"epochs": [5, 9]}}
    second = {
        "run": "b", "checkpoint": "last", "step": 90, "mode": "continue", "before": first,
        "changed": {"epochs": [9, 12], "learning_rate": [0.04, 0.01], "jitter_to": [None, 101]},
    }  # fmt: skip
    return results | {"recipe": results["recipe"] | {"jitter_to": 101, "mean": "channel"}, "branch": second}


def test_a_branch_is_repeated_from_the_first_training_on(made: Made) -> None:
    results = branched(made.bundle.results())
    found = shipped.commands(results["recipe"], results["branch"], 96, "best", 60)
    trainings = [line for name, line in found.items() if name.startswith("train")]
    options = [parser().parse_args(line.split()[3:]) for line in trainings]
    assert [one.data for one in options] == ["PACK"] * 3
    assert [str(one.run_dir) for one in options] == ["RUN2", "RUN1", "RUN"]
    assert [one.branch and str(one.branch) for one in options] == [
        None, "RUN2/checkpoints/best.pt", "RUN1/checkpoints/last.pt",
    ]  # fmt: skip
    assert [one.epochs for one in options] == [5, 9, 12]
    assert [getattr(one, "learning_rate", None) for one in options] == [0.04, None, 0.01]


def test_the_card_says_what_a_branch_was_before(made: Made) -> None:
    text = card.markdown(branched(made.bundle.results()))
    assert (
        "Up to step 90 it was another training, with `--epochs` 9, `--learning-rate` 0.04, `--jitter-to` not set; the"
        in text
    )
    assert "Up to step 60 it was another training, with `--epochs` 5; the schedule went on from there." in text


def test_a_network_trained_on_several_sizes_is_tested_at_their_mean(made: Made) -> None:
    recipe = made.bundle.results()["recipe"]
    assert shipped.jittered(recipe) == []
    jittered = recipe | {"jitter_to": 101, "mean": "channel"}
    assert shipped.jittered(jittered) == [(88,)]  # 67·256/227 = 76; (76 + 101)/2
    found = shipped.commands(jittered, None, None, "best", 60)
    assert [line.partition("BUNDLE/")[2] for name, line in found.items() if name.startswith("evaluate")] == [
        "weights.safetensors DATA",
        "weights.safetensors DATA --ten-crop",
        "weights.safetensors DATA --ten-crop --sides 88",
    ]


def test_the_card_alone_can_be_written_again(made: Made) -> None:
    before = made.bundle.card.read_text(encoding="utf-8")
    made.bundle.card.unlink()
    assert analysis_line.main(["card", str(made.bundle.folder)]) == 0
    assert made.bundle.card.read_text(encoding="utf-8") == before


def test_what_the_recipe_leaves_open_is_said(made: Made) -> None:
    rows = {row["option"]: (row["value"], row["preset"]) for row in card.recipe_table(made.bundle.results()).records()}
    assert rows["`--epochs`"] == ("**12**", "preset: 90")
    assert rows["`--jitter-to`"] == ("no", "")
    assert rows["`--side`"] == ("76 (256 in proportion to the input)", "")  # 67·256/227


@pytest.mark.parametrize(
    ("half", "said"), [(0.5, "costs nothing"), (0.25, "right: −1 with the centre crop and +0 with")]
)
def test_what_half_precision_costs_is_counted(made: Made, half: float, said: str) -> None:
    results = made.bundle.results()
    for one in results["accuracy"]:
        cut = (one["weights"], one["crops"]) == ("float16", "centre")
        one |= {"pictures": 4, "top1": half if cut else 0.5}
    assert said in card.markdown(results)


# --- what cannot be bundled -------------------------------------------------------------------------------------------


def gather(run: RunDirectory, out: Path, **options: Any) -> None:
    with bundle.gathered(run.path, out, **{"moments": 60} | options) as found:
        found.publish()


def test_nothing_is_put_in_the_place_of_a_bundle_unless_told(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    gather(made.run, out)
    (out / "results.json").write_text("{}")
    with pytest.raises(BundleError, match="exists: name a new folder, or --force"):
        gather(made.run, out)
    assert (out / "results.json").exists()
    gather(made.run, out, force=True)
    assert not (out / "results.json").exists()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(BundleError, match=r"holds what is not of a bundle: thesis\.tex"):
        gather(made.run, out, force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_run_that_is_not_finished_is_refused(made: Made, tmp_path: Path) -> None:
    run = a_run(tmp_path / "mine", made.pictures, moments=(0,))
    run.write_status(run.status() | {"state": "stopped", "step": 60})
    with pytest.raises(BundleError, match=r"not finished: it is stopped at step 60 of 120; .*train --resume"):
        gather(run, tmp_path / "out")


def test_a_film_that_would_jump_is_refused(made: Made, tmp_path: Path) -> None:
    run = a_run(tmp_path / "mine", made.pictures, moments=(0, 1, STEPS))
    with pytest.raises(BundleError, match="holds 3 moments, and a film has 60 or more: train again with more --probes"):
        gather(run, tmp_path / "out")
    with pytest.raises(BundleError, match="--moments must be 60 or more"):
        gather(made.run, tmp_path / "out", moments=59)


def test_weights_that_are_too_large_are_refused(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bundle.LIMIT_BYTES == 20_000_000
    monkeypatch.setattr(bundle, "LIMIT_BYTES", made.bundle.weights.stat().st_size - 1)
    with pytest.raises(BundleError, match=r"MB as float16, and at most .* are shipped: train with narrower"):
        gather(made.run, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(bundle, "LIMIT_BYTES", made.bundle.weights.stat().st_size)
    gather(made.run, tmp_path / "out")


def test_a_checkpoint_that_is_not_there_is_named(made: Made, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no checkpoint 'last': it has best"):
        gather(made.run, tmp_path / "out", which="last")


def test_a_damaged_moment_is_named(made: Made, tmp_path: Path) -> None:
    run = a_run(tmp_path / "mine", made.pictures)
    run.probe_path(STEPS).write_bytes(run.probe_path(STEPS).read_bytes()[:5000])
    with pytest.raises(BundleError, match=r"step-000000120\.npz is damaged"):
        gather(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("analysis_here")
def test_pictures_that_are_gone_are_told_before_anything_is_made(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bundle", str(made.run.path), str(tmp_path / "out"), "--data", str(tmp_path / "gone")]
    assert command_line.main(words) == 2
    assert "gone is not there: name --data" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("analysis_here")
def test_pictures_of_other_classes_leave_nothing_behind(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others = folder_of_pictures(tmp_path / "others", classes=2, per_class=1, val=1)
    words = ["bundle", str(made.run.path), str(tmp_path / "out"), "--data", str(others)]
    assert command_line.main(words) == 2
    assert "the checkpoint knows 3 classes and the data has 2" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"others"}


def test_results_that_cannot_be_read_say_what_to_do(tmp_path: Path) -> None:
    for content in (None, "{", '{"format": 0}'):
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        with pytest.raises(BundleError, match="make the bundle again with python -m alexnet bundle"):
            Bundle(tmp_path).results()
