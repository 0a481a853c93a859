"""What pages know of runs, without a page: their order, what a stop is called, and those of the box."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alexnet import launch
from alexnet.about import about
from alexnet.bundled import GENERATED, IMAGENETTE
from alexnet.data.sources import BUILT_IN
from alexnet.foreign import checkpoint_path
from alexnet.runs import RunDirectory
from app import boxed, looking, run_views, running
from tests.made_run import made_run

if TYPE_CHECKING:
    from alexnet.bundled import Bundle


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_the_run_that_began_last_stands_first_whatever_it_is_called(runs: Path) -> None:
    for name, created in (("a-last", 4e9), ("z-first", 1e9), ("m-second", 2e9)):
        made_run(runs / name, moments=(), created=created)
    made_run(runs / "y-unknown", moments=())
    made_run(runs / "x-unknown", moments=(), created="yesterday")
    made_run(runs / "w-unknown", moments=(), created=float("nan"))
    (runs / "v-damaged").mkdir()
    (runs / "v-damaged" / "config.json").write_text("{")
    asked = RunDirectory(runs / "b-asked")
    asked.path.mkdir()
    asked.request_path.write_text(json.dumps(dataclasses.asdict(launch.Request({}, asked=3e9))))
    assert running.names() == [
        *("a-last", "b-asked", "m-second", "z-first", "y-unknown", "x-unknown", "w-unknown", "v-damaged")
    ]
    assert [run.id for run in running.everything(archived=False)] == running.names()


def test_a_run_whose_config_was_written_anew_takes_its_new_place(runs: Path) -> None:
    made_run(runs / "one", moments=(), created=1e9)
    made_run(runs / "two", moments=(), created=2e9)
    assert running.names() == ["two", "one"]
    config = runs / "one" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"created": 3e9}))
    assert running.names() == ["one", "two"]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("waiting", "It is asked to leave the queue"),
        ("starting", "It is asked to stop, and does so as soon as it has read its data"),
        ("running", "It is asked to stop, and does so after the step at hand"),
    ],
)
def test_a_stop_is_told_as_soon_as_it_is_asked_for(runs: Path, state: str, says: str) -> None:
    run = made_run(runs / "one", moments=())
    run.write_status({"state": state, "pid": os.getpid(), "host": socket.gethostname(), "heartbeat": time.time()})
    run.lock()
    try:
        assert not running.stopping(running.look("one"))
        launch.stop(run)
        assert running.stopping(running.look("one"))
        assert running.sentence(running.look("one")).startswith(says)
    finally:
        run.release()
    assert not running.stopping(running.look("one"))  # nobody is left who could


# --- those of the box -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bundle", [IMAGENETTE, GENERATED])
def test_whichever_is_asked_for_both_are_put_among_the_runs(runs: Path, bundle: Bundle) -> None:
    run = boxed.put(bundle)
    assert run.path.name == f"{bundle.folder.name}-in-the-box"
    assert running.names() == ["imagenette-in-the-box", "generated-in-the-box"]  # this one began first
    said = {name: about(runs / name) for name in running.names()}
    assert said["imagenette-in-the-box"].name == "Photographs (in the box)"
    assert "was trained on photographs" in said["imagenette-in-the-box"].note
    assert "From “Built-in”, Trained on “Photographs”" in said["imagenette-in-the-box"].note
    assert said["generated-in-the-box"].name == "Generated pictures (in the box)"
    assert "was trained on generated pictures" in said["generated-in-the-box"].note
    assert "From “Built-in”, Trained on “Generated pictures”" in said["generated-in-the-box"].note


def test_the_sidebar_offers_them_by_the_same_words() -> None:
    assert {bundle: name for name, (_, bundle) in looking.BUNDLES.items()} == boxed.TRAINED_ON


def test_the_command_that_judges_a_run_of_the_box_names_what_is_there(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxed.put_all()
    assert run_views.judged(running.look("generated-in-the-box")) == (str(GENERATED.weights), BUILT_IN)
    photographs = running.look("imagenette-in-the-box")
    photographs = dataclasses.replace(photographs, directory=RunDirectory(photographs.directory.path.resolve()))
    assert run_views.judged(photographs) == (str(IMAGENETTE.weights), "DATA")
    (runs.parent / "imagenette2-224").write_text("a pack that is there")
    assert run_views.judged(photographs) == (str(IMAGENETTE.weights), "imagenette2-224")
    monkeypatch.chdir(IMAGENETTE.folder.parents[2])
    given, _ = run_views.judged(photographs)
    assert given == "alexnet/trained/imagenette/weights.safetensors"
    assert checkpoint_path(Path(given)).is_file()


def test_the_command_that_judges_another_run_names_its_folder(runs: Path) -> None:
    config = json.loads(made_run(runs / "one", moments=()).config_path.read_text())["config"]
    assert run_views.judged(running.look("one")) == ("runs/one", "DATA")  # its data is only a name that is not there
    made_run(runs / "two", moments=(), config=config | {"data": "/a disk/pictures"})
    assert run_views.judged(running.look("two")) == ("runs/two", "/a disk/pictures")
