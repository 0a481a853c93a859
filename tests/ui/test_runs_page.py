"""What a reader sees of runs: watched, steered, listed, taken in, and held against one another."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import time
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from alexnet import launch, portable
from alexnet.about import about, write_about
from alexnet.bundled import GENERATED, IMAGENETTE
from alexnet.config import TrainConfig
from alexnet.runs import RunDirectory
from app import queries, running, steering
from tests.training import folder_of_pictures, options, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Open = Callable[..., AppTest]

pytestmark = pytest.mark.xdist_group("runs_page")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
VIEWS = ("Curves", "Speed", "Kernels", "LRN", "Probe picture", "Validations", "Layers", "Recipe and log")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real training of 24 steps in 4 epochs, to be copied."""
    folder = tmp_path_factory.mktemp("trained")
    pictures = folder_of_pictures(folder / "pictures")
    done = train(pictures, "--run-dir", folder / "run", *options(epochs=4, keep_every=2))
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of runs, where the server was started; no process can be."""
    monkeypatch.chdir(tmp_path)

    def no_process(arguments: Any, run: RunDirectory) -> None:
        pytest.fail(f"{run.path} was to be started with {arguments}")

    monkeypatch.setattr(launch, "_spawn", no_process)
    yield tmp_path / "runs"
    queries.opened.clear()  # paths of runs are relative


@pytest.fixture
def finished(runs: Path, trained: Path) -> RunDirectory:
    return copied(trained, runs / "first")


@pytest.fixture
def show(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page with these words in its address."""
    assert runs.parent == Path.cwd()
    monkeypatch.setattr(queries.Verification, "start", lambda _: None)
    monkeypatch.setattr(queries, "devices", lambda: ["cpu"])

    def opened(page: str = "runs", **address: str) -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=60)
        app.query_params.update(address)
        return healthy(app.switch_page(f"screens/{page}.py").run())

    return opened


def copied(run: Path, to: Path) -> RunDirectory:
    """A copy to be changed; checkpoints, which are large, are the same files under a second name: unlink them first."""

    def copy(source: str, target: str) -> object:
        return (os.link if source.endswith(".pt") else shutil.copy2)(source, target)

    shutil.copytree(run, to, copy_function=copy)
    return RunDirectory(to)


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    return app


def words(app: AppTest) -> str:
    """All that stands on the page, as its reader sees it."""
    parts = (app.title, app.header, app.markdown, app.caption, app.info, app.success, app.warning, app.error)
    return "\n".join(element.value for part in parts for element in part).replace("\\", "")


def one_error(app: AppTest) -> str:
    assert len(app.error) == 1, [error.value for error in app.error]
    text: str = app.error[0].value
    return text.replace("\\", "")


def records(run: RunDirectory, kind: str) -> list[dict[str, Any]]:
    """Read without the project's readers."""
    lines = run.metrics_path.read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def buttons(app: AppTest) -> set[str]:
    return {button.key for button in app.button if button.key}


def view(app: AppTest, name: str) -> AppTest:
    app.segmented_control(key="pick_view_of_run").set_value(name)
    return healthy(app.run())


def press(app: AppTest, key: str) -> AppTest:
    return healthy(app.button(key=key).click().run())


def table(app: AppTest, *columns: str) -> Any:
    """The table with these columns."""
    (found,) = [frame.value for frame in app.dataframe if set(columns) <= set(frame.value.columns)]
    return found


def tables(app: AppTest) -> int:
    return len(app.dataframe)


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- every view of a finished run ------------------------------------------------------------------------------------


def test_a_finished_run_in_short(show: Open, finished: RunDirectory) -> None:
    app = show(run="first")
    assert not app.error
    assert not app.warning
    validations = records(finished, "val")
    best = max(validations, key=lambda record: record["top1"])
    assert metrics(app) == {
        "Loss": f"{records(finished, 'train')[-1]['loss']:.3f}",
        f"Best top-1 (epoch {best['epoch'] + 1})": f"{100 * best['top1']:.1f} %",
        "Latest top-1": f"{100 * validations[-1]['top1']:.1f} %",
    }
    assert "step 24 of 24, epoch 4 of 4" in words(app)
    assert app.title[0].value == "first"


def charts(app: AppTest) -> int:
    """How many charts are drawn."""
    return sum("laboratory_live_chart" in element.proto.component_name for element in app.get("bidi_component"))


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_drawn(show: Open, finished: RunDirectory, name: str) -> None:
    assert finished.last.is_file()
    app = show(run="first", view_of_run=name)
    assert not app.error, app.error[0].value
    assert not app.warning
    assert app.segmented_control(key="pick_view_of_run").value == name
    assert tables(app) == {"Curves": 0, "Speed": 0, "Validations": 2}.get(name, 1)
    assert charts(app) == {"Curves": 2, "Speed": 2, "LRN": 2, "Recipe and log": 0}.get(name, 1)


def test_every_validation_is_listed(show: Open, finished: RunDirectory) -> None:
    found = table(show(run="first", view_of_run="Validations"), "top1", "seconds")
    wanted = records(finished, "val")
    assert list(found["step"]) == [record["step"] for record in wanted] == [6, 12, 18, 24]
    assert list(found["epoch"]) == [1, 2, 3, 4]
    assert list(found["top1"]) == pytest.approx([record["top1"] for record in wanted])
    assert list(found["loss"]) == pytest.approx([record["loss"] for record in wanted])


def test_classes_are_those_of_the_best_validation(show: Open, finished: RunDirectory) -> None:
    found = table(show(run="first", view_of_run="Validations"), "class", "best", "latest")
    validations = records(finished, "val")
    best = max(validations, key=lambda record: record["top1"])
    assert list(found["class"]) == ["class0", "class1", "class2"]
    assert list(found["best"]) == pytest.approx(best["per_class"])
    assert list(found["latest"]) == pytest.approx(validations[-1]["per_class"])


def test_kernels_have_a_moment_for_every_probe(show: Open, finished: RunDirectory) -> None:
    app = show(run="first", view_of_run="Kernels")
    moments = sorted(finished.probes_path.glob("step-*.npz"))
    assert f"conv1's 96 kernels at {len(moments)} moments" in words(app)
    found = table(app, "tower", "compact")
    assert len(found) == 2 * len(moments)
    with np.load(moments[-1]) as probe:
        norms = np.sqrt((probe["kernels"].astype(float) ** 2).sum(axis=(1, 2, 3)))
    assert list(found["norm"])[-2:] == pytest.approx([np.median(norms[:48]), np.median(norms[48:])], rel=1e-6)


def test_layers_have_the_latest_norms(show: Open, finished: RunDirectory) -> None:
    app = show(run="first", view_of_run="Layers")
    latest = records(finished, "layers")[-1]
    (found,) = [frame.value for frame in app.dataframe]
    assert list(found.iloc[:, 0]) == list(latest["weights"])
    numbers = found.select_dtypes("number").to_numpy()
    for row, name in zip(numbers, latest["weights"], strict=True):
        assert latest["weights"][name]["norm"] == pytest.approx(
            row[np.abs(row - latest["weights"][name]["norm"]).argmin()]
        )


def test_the_recipe_says_its_values_and_its_command(show: Open, finished: RunDirectory) -> None:
    app = show(run="first", view_of_run="Recipe and log")
    found = dict(zip(*(table(app, "option", "value")[name] for name in ("option", "value")), strict=True))
    config = finished.config()["config"]
    assert found["--epochs"] == "4"
    assert found["--network"] == config["network"] == "alexnet-2012@67"
    (command,) = [code.value for code in app.code if code.value.startswith("python -m alexnet train")]
    again = command.split()
    assert again[again.index("--batch") + 1] == "8"
    assert any("epoch" in code.value for code in app.code if code is not command)


def test_smoothing_axis_and_the_steps_shown_can_be_chosen(show: Open, finished: RunDirectory) -> None:
    assert finished.last.is_file()
    app = show(run="first")
    for axis in ("Epoch", "Hours", "Step"):
        app.segmented_control(key="curves_axis").set_value(axis)
        healthy(app.run())
    for smooth in ("Off", "Strong"):
        healthy(app.select_slider(key="curves_smoothing").set_value(smooth).run())
    healthy(app.toggle(key="curves_close").set_value(True).run())
    healthy(app.slider(key="curves_span").set_value((20, 60)).run())
    # What was chosen stays over other views and other pages.
    view(app, "Validations")
    view(app, "Kernels")
    view(app, "Curves")
    assert app.select_slider(key="curves_smoothing").value == "Strong"
    assert app.slider(key="curves_span").value == (20, 60)


def test_an_unknown_run_in_the_address_is_said(show: Open, finished: RunDirectory) -> None:
    assert finished.last.is_file()
    app = show(run="nothing")
    for _ in range(2):  # it stays until a run is opened
        (said,) = app.warning
        assert f"There is no run nothing in {finished.path.parent.resolve()} (any more)" in said.value.replace("\\", "")
        assert app.title[0].value == "Runs"
        healthy(app.run())
    app.selectbox(key="pick_run").set_value("first")
    assert not healthy(app.run()).warning
    app.selectbox(key="pick_run").set_value("all")
    assert not healthy(app.run()).warning


# --- conditions ------------------------------------------------------------------------------------------------------


def status(run: RunDirectory, state: str, **more: Any) -> None:
    """What a process would say of itself now."""
    own = {"state": state, "step": 12, "steps": 24, "epochs": 4, "pid": os.getpid(), "host": socket.gethostname()}
    run.write_status(own | {"heartbeat": time.time(), "message": "", "warnings": []} | more)


ALIVE = {"stop_run", "compare_run", "archive_run"}
ENDED = {"compare_run", "archive_run", "delete_run", "longer_run", "branch_run"}


@pytest.mark.parametrize(
    ("condition", "state", "locked", "more", "says"),
    [
        ("waiting", "waiting", True, {}, "It waits for its turn, and goes on by itself."),
        ("starting", "starting", True, {}, "It reads its data and builds the network"),
        ("starting", "finished", True, {}, "It reads its data and builds the network"),
        ("running", "running", True, {"seconds_left": 90.0}, "step 12 of 24, epoch 3 of 4, about"),
        ("silent", "running", True, {"heartbeat": 1e9}, "Its process lives and has said nothing for"),
        ("gone", "running", False, {"pid": 1}, "Its process has ended after step 12 without a word: it was killed"),
        ("stopped", "stopped", False, {"message": "stopped after step 12"}, "Stopped after step 12. It can go on"),
        ("failed", "failed", False, {"message": "no pictures in x"}, "It ended with an error: no pictures in x"),
        ("finished", "finished", False, {}, "step 12 of 24"),
    ],
)
def test_a_condition_is_told_and_what_can_be_done_is_offered(
    show: Open, finished: RunDirectory, condition: str, state: str, locked: bool, more: dict[str, Any], says: str
) -> None:
    status(finished, state, **more)
    if locked:
        finished.lock()
    try:
        app = show(run="first")
        assert finished.condition() == condition
        assert says in words(app)
        assert condition in words(app)
        expected = ALIVE if locked else ENDED
        assert expected <= buttons(app), expected - buttons(app)
        assert ("resume_run" in buttons(app)) == (condition in {"gone", "stopped", "failed"})
        assert ("stop_run" in buttons(app)) == locked
        assert ("delete_run" in buttons(app)) == (not locked)
        assert ("kill_run" in buttons(app)) == (condition == "silent")
        assert {"gone": 1, "failed": 1}.get(condition, 0) == len(app.error)
        if condition == "waiting":
            assert app.button(key="stop_run").label == "Leave the queue"
            assert "step 12 of 24, epoch 3 of 4" in words(app)
        if locked:  # before the first record of a minute's work, too, so that nothing moves
            assert {"Images/s", "Waiting for pictures", "Memory", "Time left"} <= metrics(app).keys()
    finally:
        finished.release()


def test_stop_is_asked_for_once(show: Open, finished: RunDirectory) -> None:
    status(finished, "running")
    finished.lock()
    try:
        app = press(show(run="first"), "stop_run")
        assert finished.stop_requested()
        assert app.button(key="stop_run").label == "Stopping …"
        assert app.button(key="stop_run").disabled
        assert "stopping …" in words(app)
        assert "It is asked to stop, and does so after the step at hand" in words(app)
        assert "kill_run" not in buttons(app)
        os.utime(finished.stop_path, (1e9, 1e9))
        app.run()
        assert {"end_run", "kill_run"} <= buttons(healthy(app))
        # The process that holds the lock is no training, and is not ended.
        app = press(app, "end_run")
        assert "has no process on this machine that could be ended" in one_error(app)
    finally:
        finished.release()


def test_a_training_killed_before_its_first_checkpoint(show: Open, finished: RunDirectory) -> None:
    shutil.rmtree(finished.last.parent)
    finished.metrics_path.unlink()
    finished.errors_path.write_text("Traceback\nMemoryError: no room for batches\n\n")
    status(finished, "running", pid=1)
    app = show(run="first")
    said = one_error(app)
    assert "Its last words: MemoryError: no room for batches." in said
    assert "It has no checkpoint yet: start it again." in said
    assert "longer_run" not in buttons(app)
    assert "look_Kernels" not in buttons(app)


def test_the_watchdog_is_heard(show: Open, finished: RunDirectory) -> None:
    plateau = "the loss has stayed at ln(3) = 1.10 for 500 steps: *nothing* is learned; raise the learning rate"
    status(finished, "running", warnings=[plateau, "the loader stalls"])
    finished.lock()
    try:
        app = show(run="first")
        said = [warning.value.replace("\\", "") for warning in app.warning]
        assert said == [plateau[0].upper() + plateau[1:], "The loader stalls"]
    finally:
        finished.release()
    # A run that has ended has nothing to be warned of.
    status(finished, "stopped", warnings=[plateau])
    assert not show(run="first").warning


def test_a_full_disk_is_said(show: Open, finished: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024
    monkeypatch.setattr(running.shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 1 << 20))
    status(finished, "running", pid=1)
    assert "the disk is full (1.0 MiB free)" in one_error(show(run="first"))
    status(finished, "running")
    finished.lock()
    try:
        (warning,) = show(run="first").warning
        assert "The disk has 1.0 MiB left: make room" in warning.value.replace("\\", "")
    finally:
        finished.release()


def test_a_run_that_waits_has_no_curves_and_can_leave_the_queue(show: Open, runs: Path, finished: RunDirectory) -> None:
    run = asked_for(runs / "waits", waits=True)
    status(run, "waiting", message="waits for first", step=None, steps=None)
    run.lock()
    write_about(finished.path, name="The first of all")
    status(finished, "running")
    finished.lock()
    try:
        app = show(run="waits")
        assert "It waits for The first of all, and begins by itself." in words(app)
        assert app.button(key="stop_run").label == "Leave the queue"
        assert not {"compare_run", "resume_run", "branch_run", "export_run"} & buttons(app)
        found = table(app, "option", "value")
        assert ("--epochs", "7") in zip(found["option"], found["value"], strict=True)
    finally:
        run.release()
        finished.release()


def asked_for(path: Path, *, waits: bool = False, origin: str | None = None, **values: Any) -> RunDirectory:
    """A run that a page asked for and that has not begun."""
    path.mkdir(parents=True)
    asked = values if origin else TrainConfig(data="built-in", epochs=7).as_json() | values
    (path / "request.json").write_text(
        json.dumps({"values": asked, "origin": origin, "waits": waits, "asked": time.time()})
    )
    return RunDirectory(path)


def test_a_run_that_could_not_begin_says_why_and_can_be_started_again(
    show: Open, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = asked_for(runs / "lost")
    run.write_status({"state": "failed", "message": "there is no data in /nowhere", "heartbeat": 1e9})
    started: list[Any] = []
    monkeypatch.setattr(launch, "start_again", lambda run, *, waits: started.append((run.path.name, waits)))
    app = show(run="lost")
    assert "It ended with an error: there is no data in /nowhere" in one_error(app)
    assert app.button(key="resume_run").label == "Start again"
    assert "change_run" in buttons(app)
    press(app, "resume_run")
    assert started == [("lost", False)]


def test_a_branch_that_has_not_begun_says_what_it_was_to_go_on_from(show: Open, runs: Path) -> None:
    run = asked_for(runs / "branch", origin="/elsewhere/runs/first/checkpoints/last.pt", epochs=9, fused_lrn=False)
    run.write_status({"state": "failed", "message": "gone", "heartbeat": 1e9})
    run.errors_path.write_text("Killed\n")
    app = show(run="branch")
    assert "It was to go on from checkpoint last of /elsewhere/runs/first, as it was" in words(app)
    found = table(app, "option", "value", "before")
    assert list(zip(found["option"], found["value"], strict=True)) == [("--epochs", "9"), ("--fused-lrn", "no")]
    assert [code.value for code in app.code if "Killed" in code.value] == ["Killed"]


def test_a_branch_that_waits_names_its_parent_and_what_it_changes(
    show: Open, runs: Path, finished: RunDirectory
) -> None:
    write_about(finished.path, name="Parent")
    run = asked_for(runs / "branch", waits=True, origin=str(finished.kept(12).resolve()), learning_rate=0.5)
    run.start.parent.mkdir()
    os.link(finished.kept(12), run.start)
    status(run, "waiting", step=None, steps=None)
    run.lock()
    try:
        app = show(run="branch")
        assert "It goes on from checkpoint step 12 of Parent, as it was when this run was asked for" in words(app)
        found = table(app, "option", "value", "before")
        assert found.iloc[0, :3].tolist() == ["--learning-rate", "0.5", "0.02"]
        assert "branch_run" not in buttons(app)
    finally:
        run.release()


def test_the_best_of_a_branch_is_also_what_it_took_over(show: Open, runs: Path, finished: RunDirectory) -> None:
    validations = {record["step"]: record["top1"] for record in records(finished, "val")}
    for name, step, own in (("better", 12, 1.5), ("worse", 12, 0.0), ("weights", 12, 0.0)):
        branch = copied(finished.path, runs / name)
        root = {"run": "first", "checkpoint": "last", "step": step, "changed": {}}
        mode = "weights" if name == "weights" else "continue"
        change_json(branch.config_path, branch=root | {"mode": mode})
        change_json(branch.status_path, best={"step": 24, "top1": own})
    found = table(show(), "Run", "Best top-1")
    best = dict(zip(found["Run"], found["Best top-1"], strict=True))
    assert best["better"] == 1.5
    assert best["worse"] == max(validations[6], validations[12]) > 0
    assert best["weights"] == 0


def test_checkpoints_are_listed_with_their_steps(show: Open, finished: RunDirectory) -> None:
    change_json(finished.status_path, best={"step": 6, "top1": 0.5}, saved=18)
    app = show(run="first")
    wanted = ["last · step 18", "best · step 6", "step 24", "step 12"]
    assert app.selectbox(key="branch_from").options == wanted
    # A status of before this was said: after its end a run's last checkpoint is of its last step, else nobody knows.
    status(finished, "stopped", step=17)
    assert show(run="first").selectbox(key="branch_from").options == ["last · step 17", "best", "step 24", "step 12"]
    status(finished, "running", step=17, pid=1)
    assert show(run="first").selectbox(key="branch_from").options[0] == "last"


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_half_written_last_line_changes_nothing(show: Open, finished: RunDirectory) -> None:
    before = metrics(show(run="first"))
    with finished.metrics_path.open("ab") as file:
        file.write(b'{"kind": "val", "step": 25, "top1": 0.99')
    app = show(run="first")
    assert metrics(app) == before
    assert not app.error
    assert "could not be read" not in words(app)


def test_damaged_lines_are_counted_and_everything_else_is_shown(show: Open, finished: RunDirectory) -> None:
    lines = finished.metrics_path.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b'"val"' in line)
    damaged = [
        *lines[:at],
        b"\x00\xff\xfe garbage\n",
        lines[at][: len(lines[at]) // 2] + b"\n",
        b"[1, 2]\n",
        *lines[at + 1 :],
    ]
    finished.metrics_path.write_bytes(b"".join(damaged))
    app = show(run="first")
    assert "3 lines of metrics.jsonl could not be read and are left out; everything else is shown." in words(app)
    assert list(table(view(app, "Validations"), "top1", "seconds")["step"]) == [12, 18, 24]
    for name in VIEWS:
        assert not view(app, name).error


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"state": 7, "step": "x", "best": [], "warnings": 3}']
)
def test_a_damaged_status_loses_nothing_else(show: Open, finished: RunDirectory, content: bytes) -> None:
    finished.status_path.write_bytes(content)
    app = show(run="first")
    said = one_error(app)
    assert "what the last one said of its end is lost: runs/first/status.json is damaged" in said
    assert "Resume it: it goes on from its last checkpoint and writes the file anew." in said
    assert "step 24 of 24, epoch 4 of 4" in words(app)
    assert "resume_run" in buttons(app)
    assert list(table(view(app, "Validations"), "top1", "seconds")["step"]) == [6, 12, 18, 24]
    found = table(show(), "State")
    assert list(found["State"]) == ["gone"]
    assert list(found["Progress"]) == [1.0]
    assert list(found["Best top-1"]) == pytest.approx([max(record["top1"] for record in records(finished, "val"))])


@pytest.mark.parametrize(
    "content", [b"{bad", b"[]", b"{}", b'{"config": 3}', b'{"config": {"data": "x", "epochs": "many"}}', b"\xff"]
)
def test_a_damaged_config_is_said_and_curves_are_shown(show: Open, finished: RunDirectory, content: bytes) -> None:
    finished.config_path.write_bytes(content)
    app = show(run="first")
    assert "Its config cannot be used: runs/first/config.json" in one_error(app)
    assert app.button(key="branch_instead").label == "Branch from last · step 24"
    assert "Best top-1" in " ".join(metrics(app))
    assert list(table(view(app, "Validations"), "top1", "seconds")["step"]) == [6, 12, 18, 24]
    for name in VIEWS:
        assert len(view(app, name).error) == 1
    assert "resume_run" not in buttons(app)
    app = show()
    assert list(table(app, "Run")["Run"]) == ["first"]


def test_a_config_that_is_gone_is_replaced_by_what_was_asked_for(show: Open, finished: RunDirectory) -> None:
    asked = {"values": finished.config()["config"], "origin": None, "waits": False, "asked": 1.0}
    finished.request_path.write_text(json.dumps(asked))
    finished.config_path.unlink()
    app = show(run="first")
    assert not app.error
    found = table(app, "option", "value")
    assert ("--epochs", "4") in zip(found["option"], found["value"], strict=True)


def test_a_damaged_checkpoint_is_said_where_it_is_opened(show: Open, finished: RunDirectory) -> None:
    whole = finished.best.read_bytes()
    finished.best.unlink()  # the file may have two names
    finished.best.write_bytes(whole[: len(whole) // 2])
    app = show(run="first")
    assert not app.error
    assert "look_Kernels" in buttons(app)
    app = show("kernels", weights="run:first/best")
    assert "best.pt" in one_error(app)
    assert not show("kernels", weights="run:first/last").error


@pytest.mark.parametrize(
    ("content", "message", "says"),
    [
        (b"PK", "", "runs/first/checkpoints/last.pt is damaged or cut off. It cannot be resumed: branch from another"),
        (None, "", "runs/first/checkpoints/last.pt is gone. It cannot be resumed: branch from another checkpoint"),
        (
            b"",
            "checkpoints/last.pt is no checkpoint; copy r/x/best.pt over it to go on from the best validation",
            "checkpoints/last.pt is no checkpoint. It cannot be resumed: branch from another checkpoint",
        ),
    ],
)
def test_a_damaged_last_checkpoint_is_said_before_it_is_resumed(
    show: Open, finished: RunDirectory, content: bytes | None, message: str, says: str
) -> None:
    finished.last.unlink()
    if content is not None:
        finished.last.write_bytes(content)
    status(finished, "failed" if message else "running", message=message, pid=1, best={"step": 24, "top1": 0.5})
    app = show(run="first")
    said = one_error(app)
    assert says in said
    assert "copy" not in said
    assert not {"resume_run", "longer_run"} & buttons(app)
    assert app.button(key="branch_instead").label == "Branch from best · step 24"
    app = press(app, "branch_instead")
    assert app.title[0].value == "Branch of first"
    assert str(app.session_state.start_origin).endswith("first/checkpoints/best.pt")


def test_a_refused_checkpoint_that_was_replaced_can_be_resumed(show: Open, finished: RunDirectory) -> None:
    status(finished, "failed", message=f"{finished.last} is not a checkpoint that can be read: it is damaged")
    os.utime(finished.last, (1e9, 1e9))
    assert "resume_run" not in buttons(show(run="first"))
    os.utime(finished.last, (4e9, 4e9))
    assert "resume_run" in buttons(show(run="first"))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "the pictures are gone: /a b is not there any more, or is empty; put it back, then go on with --resume r/x",
            "the pictures are gone: /a b is not there any more, or is empty; put it back, then press Resume",
        ),
        (
            "cannot write to x: the disk is full: make room first; then go on with --resume /somewhere/my runs/one",
            "cannot write to x: the disk is full: make room first; then press Resume",
        ),
        ("Its data is here too; it goes on with --resume runs/x", "Its data is here too; it goes on with Resume."),
        ("no pictures in x", "no pictures in x"),
    ],
)  # fmt: skip
def test_messages_of_the_command_line_are_in_the_words_of_the_page(said: str, shown: str) -> None:
    assert running.page_words(said) == shown


def test_a_button_leads_inside_the_chosen_checkpoint(show: Open, finished: RunDirectory) -> None:
    assert finished.last.is_file()
    app = show(run="first")
    best = max(records(finished, "val"), key=lambda record: record["top1"])
    assert app.selectbox(key="look_checkpoint").options[:2] == [f"best · step {best['step']}", "last · step 24"]
    assert "step 12" in app.selectbox(key="look_checkpoint").options
    app.selectbox(key="look_checkpoint").set_value("last").run()
    app = press(app, "look_Kernels")
    assert app.title[0].value == "Kernels"
    assert not app.error
    assert app.query_params["weights"] in ("run:first/last", ["run:first/last"])


def test_a_damaged_probe_among_good_ones_is_named(show: Open, finished: RunDirectory) -> None:
    probes = sorted(finished.probes_path.glob("step-*.npz"))
    cut = probes[1]
    cut.write_bytes(cut.read_bytes()[:300])
    app = show(run="first", view_of_run="Kernels")
    assert not app.error
    assert cut.name in words(app)
    assert [expander.label for expander in app.expander] == ["1 moment cannot be shown"]
    assert len(table(app, "tower", "compact")) == 2 * (len(probes) - 1)
    for name in ("LRN", "Probe picture"):
        assert not view(app, name).error
        healthy(app.select_slider(key="film_moment").set_value(int(cut.stem.removeprefix("step-"))).run())
        assert cut.name in words(app)
        healthy(app.select_slider(key="film_moment").set_value(int(probes[-1].stem.removeprefix("step-"))).run())
        assert not app.error


def test_no_probe_that_can_be_read(show: Open, finished: RunDirectory) -> None:
    for probe in finished.probes_path.glob("step-*.npz"):
        probe.write_bytes(b"PK")
    app = show(run="first", view_of_run="Kernels")
    assert "No moment of this film can be shown" in one_error(app)
    for name in ("LRN", "Probe picture"):
        assert "is not a probe that can be shown" in one_error(view(app, name))
    shutil.rmtree(finished.probes_path)
    for name in ("Kernels", "LRN", "Probe picture"):
        assert not view(app, name).error
        assert "The first moment of the film" in words(app)


def test_a_folder_deleted_while_its_page_is_drawn(
    show: Open, runs: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of the looks that a page takes at the run."""
    real, looks, last = running.look, 0, 0

    def look(name: str) -> running.Run:
        nonlocal looks
        looks += 1
        if looks == last:
            shutil.rmtree(runs / "first")
        return real(name)

    monkeypatch.setattr(running, "look", look)
    copied(trained, runs / "first")
    assert not show(run="first").error
    assert looks > 4
    for moment in range(2, looks + 1):
        looks, last = 0, moment
        if not (runs / "first").exists():
            copied(trained, runs / "first")
        for error in show(run="first").error:
            said = error.value.replace("\\", "")
            assert "there is no run first here any more" in said or "there is no folder runs/first" in said


def test_a_deleted_run_in_the_address_is_said(show: Open, finished: RunDirectory) -> None:
    assert show(run="first").title[0].value == "first"
    shutil.rmtree(finished.path)
    app = show(run="first")
    assert "There is no run first in" in words(app)
    assert app.title[0].value == "Runs"


# --- the list --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
def test_no_runs_at_all(show: Open, runs: Path, there: bool) -> None:
    if there:
        runs.mkdir()
    app = show()
    assert f"There is no run in {runs} yet." in words(app)
    assert [link.label for link in app.get("page_link")][-1:] == ["Start a training"]


def test_where_there_are_no_runs_those_of_the_box_can_be_looked_at(show: Open, runs: Path) -> None:
    app = press(show(), "runs_of_the_box")
    listed = table(app, "Run", "State")
    assert list(zip(listed["Run"], listed["State"], strict=True)) == [
        ("Photographs (in the box)", "finished"),
        ("Generated pictures (in the box)", "finished"),
    ]
    assert "runs_of_the_box" not in buttons(app)
    for bundle in (IMAGENETTE, GENERATED):
        copy = runs / f"{bundle.folder.name}-in-the-box"
        assert sorted(path.name for path in copy.iterdir()) == [
            *("about.json", "config.json", "metrics.jsonl", "probes", "status.json")
        ]
        assert (copy / "metrics.jsonl").read_bytes() == (bundle.folder / "metrics.jsonl").read_bytes()
    assert not list(runs.glob(".*"))


def test_a_folder_of_runs_that_cannot_be_written_is_said(show: Open, runs: Path) -> None:
    runs.write_text("no folder")
    app = press(show(), "runs_of_the_box")
    assert "the training in the box cannot be put into" in one_error(app)
    assert runs.read_text() == "no folder"


def test_three_hundred_runs_are_listed(show: Open, runs: Path, finished: RunDirectory) -> None:
    config = finished.config_path.read_bytes()
    for number in range(300):
        run = runs / f"run-{number:03}"
        run.mkdir()
        (run / "config.json").write_bytes(config)
        (run / "status.json").write_text(
            json.dumps({"state": "finished", "step": 24, "steps": 24, "best": {"top1": number / 300}})
        )
    app = show()
    began = time.perf_counter()
    healthy(app.run())
    assert time.perf_counter() - began < 5  # 300 folders are looked at anew, here on a busy machine
    found = table(app, "Run", "State")
    assert len(found) == 301
    assert list(found["Run"])[:2] == ["run-299", "run-298"]
    assert list(found["Best top-1"])[:300] == pytest.approx([number / 300 for number in reversed(range(300))])
    assert set(found["State"]) == {"finished"}


def test_what_the_list_says_of_each(show: Open, runs: Path, finished: RunDirectory) -> None:
    write_about(finished.path, name="My *run*", note="first line\nsecond line")
    other = asked_for(runs / "zwaits", waits=True)
    status(other, "waiting", step=None, steps=None)
    other.lock()
    try:
        found = table(show(), "Run", "State")
    finally:
        other.release()
    assert list(found["Run"]) == ["zwaits", "My *run*"]
    assert list(found["State"]) == ["waiting", "finished"]
    assert found["Progress"][1] == 1.0
    assert list(found["Note"]) == ["", "first line"]
    assert found["Network"][1] == "alexnet-2012@67"
    best = max(record["top1"] for record in records(finished, "val"))
    assert found["Best top-1"][1] == pytest.approx(best)
    assert found["Began"][1] == time.strftime("%Y-%m-%d %H:%M", time.localtime(finished.config()["created"]))


# --- name, note, archive, delete -------------------------------------------------------------------------------------


def test_a_name_and_a_note_are_kept_and_shown_as_they_are(show: Open, finished: RunDirectory) -> None:
    app = show(run="first")
    (name,) = [field for field in app.text_input if field.label == "Name"]
    (note,) = [field for field in app.text_area if field.label == "Note"]
    name.set_value("A [name](http://x) $x$")
    note.set_value("one\n# two")
    (save,) = [button for button in app.button if button.label == "Save"]
    healthy(save.click().run())
    assert (about(finished.path).name, about(finished.path).note) == ("A [name](http://x) $x$", "one\n# two")
    assert app.title[0].value.replace("\\", "") == "A [name](http://x) $x$"
    assert "\\[name\\]" in app.title[0].value
    assert "one  \n# two" in words(app)
    assert any("\\# two" in text.value for text in app.markdown)


def test_an_archived_run_leaves_the_list_until_it_is_asked_for(show: Open, finished: RunDirectory) -> None:
    app = press(show(run="first"), "archive_run")
    assert about(finished.path).archived
    assert app.button(key="archive_run").label == "Take out of the archive"
    app = show()
    assert "There is no run in" in words(app)
    assert not app.dataframe
    healthy(app.toggle(key="runs_archived").set_value(True).run())
    assert list(table(app, "Run")["Run"]) == ["first"]
    press(show(run="first"), "archive_run")
    assert not about(finished.path).archived
    assert list(table(show(), "Run")["Run"]) == ["first"]


def test_deleting_asks_first_and_says_so(show: Open, finished: RunDirectory) -> None:
    write_about(finished.path, name="Mine")
    app = show(run="first")
    assert app.button(key="delete_run").disabled
    (finished.path / "letters.txt").write_text("mine")
    healthy(app.run())
    assert "also holds files that are no run's: letters.txt" in words(app)
    (finished.path / "letters.txt").unlink()
    healthy(app.run())
    healthy(app.checkbox(key="sure_first").check().run())
    app = press(app, "delete_run")
    assert not finished.path.exists()
    assert "Mine is deleted." in words(app)
    assert app.title[0].value == "Runs"


def test_a_run_taken_up_in_the_moment_of_deleting_stays(
    show: Open, finished: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = steering.delete

    def delete(*place: Path, everything: bool) -> None:
        finished.lock()
        try:
            real(*place, everything=everything)
        finally:
            finished.release()

    monkeypatch.setattr(steering, "delete", delete)
    app = show(run="first")
    healthy(app.checkbox(key="sure_first").check().run())
    app = press(app, "delete_run")
    assert finished.last.is_file()
    assert "is in use by a training: stop it first" in one_error(app)
    assert app.title[0].value == "first"


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What `launch` was asked for, instead of processes."""
    said: list[tuple[Any, ...]] = []

    def branch(root: Path, origin: Path, changes: dict[str, Any], *, waits: bool = False) -> RunDirectory:
        said.append(("branch", root.resolve().name, origin.resolve(), changes, waits))
        return asked_for(root / "branched", waits=waits, origin=str(origin), **changes)

    monkeypatch.setattr(launch, "start_branch", branch)
    monkeypatch.setattr(launch, "start_again", lambda run, *, waits=None: said.append(("again", run.path.name, waits)))
    return said


def test_resume_starts_the_same_run_again(show: Open, finished: RunDirectory, asked: list[tuple[Any, ...]]) -> None:
    status(finished, "stopped", message="")
    app = show(run="first")
    assert app.button(key="resume_run").label == "Resume"
    press(app, "resume_run")
    assert asked == [("again", "first", False)]


@pytest.mark.parametrize(("key", "waits"), [("resume_later", True), ("resume_now", False)])
def test_beside_another_training_resume_asks_whether_to_wait(
    show: Open, runs: Path, trained: Path, finished: RunDirectory, asked: list[tuple[Any, ...]], key: str, waits: bool
) -> None:
    status(finished, "stopped", message="")
    other = copied(trained, runs / "second")
    status(other, "running")
    other.lock()
    try:
        app = show(run="first")
        assert "Now trains or waits here: second. Side by side, each is slower, and a run that waits will" in words(app)
        press(app, key)
        assert asked == [("again", "first", waits)]
    finally:
        other.release()


def test_continue_for_longer_is_a_new_run_from_the_last_checkpoint(
    show: Open, runs: Path, finished: RunDirectory, asked: list[tuple[Any, ...]]
) -> None:
    app = show(run="first")
    assert app.number_input(key="longer_epochs").value == 6
    assert app.number_input(key="longer_epochs").min == 5
    app.number_input(key="longer_epochs").set_value(9)
    app = press(app, "longer_run")
    assert asked == [("branch", "runs", finished.last, {"epochs": 9}, False)]
    assert about(runs / "branched").name == "first (longer)"
    assert app.title[0].value.replace("\\", "") == "first (longer)"


@pytest.mark.parametrize(("epochs", "suggested"), [(80_000, 100_000), (100_000, None)])
def test_no_run_is_continued_beyond_what_a_recipe_allows(
    show: Open, finished: RunDirectory, epochs: int, suggested: int | None
) -> None:
    change_json(finished.config_path, config=finished.config()["config"] | {"epochs": epochs})
    app = show(run="first")
    found = [field.value for field in app.number_input if field.key == "longer_epochs"]
    assert found == ([] if suggested is None else [suggested])


def test_what_launch_refuses_is_said(show: Open, finished: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise launch.LaunchError("no run can be begun in runs: [No space left]")

    monkeypatch.setattr(launch, "start_branch", refuse)
    assert finished.last.is_file()
    app = press(show(run="first"), "longer_run")
    assert one_error(app) == "no run can be begun in runs: [No space left]"
    assert app.title[0].value == "first"


def test_branch_leads_to_the_form_with_its_checkpoint(show: Open, finished: RunDirectory) -> None:
    assert finished.kept(12).is_file()
    app = show(run="first")
    app.selectbox(key="branch_from").set_value("step-000000012")
    app = press(app, "branch_run")
    assert app.title[0].value == "Branch of first"
    assert not app.error
    assert "step-000000012" in str(app.session_state.start_origin)


# --- taken elsewhere -------------------------------------------------------------------------------------------------


def test_an_exported_run_has_what_the_page_says(show: Open, finished: RunDirectory) -> None:
    (finished.path / "letters.txt").write_text("mine")
    app = show(run="first")
    assert "Left out, since no run has them: letters.txt." in words(app)
    exported = steering._archive(running.look("first"), "last and best", events=False)
    found = portable.import_run(exported, finished.path.parent.parent / "elsewhere")
    here, there = (
        {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        for root in (finished.path, found)
    )
    left_out = {name for name in here if name.startswith(("events.", "letters", "checkpoints/step-"))}
    assert len(left_out) >= 3
    assert here.keys() - left_out == there.keys()
    for name in there.keys() - {"status.json", "config.json"}:
        assert there[name].read_bytes() == here[name].read_bytes(), name
    held = portable.contents(finished.path, checkpoints="last and best", tensorboard=False)
    assert f"One .zip of {held.files} files" in words(app)
    healthy(app.selectbox(key="export_checkpoints").set_value("none").run())
    assert f"One .zip of {held.files - 2} files" in words(app)
    assert '--checkpoints "none"' in " ".join(code.value for code in app.code)


def test_an_exported_run_is_taken_in_through_its_path(show: Open, runs: Path, finished: RunDirectory) -> None:
    write_about(finished.path, name="Far travelled")
    portable.export(finished.path, runs.parent / "run.zip", checkpoints="none")
    shutil.rmtree(finished.path)
    app = show()
    app.text_input(key="import_path").set_value(str(runs.parent / "run.zip"))
    app = press(app, "import_button")
    (found,) = list(runs.glob("[!.]*"))
    assert found.name == "first"
    assert app.title[0].value == "Far travelled"
    assert metrics(app)["Latest top-1"] == f"{100 * records(RunDirectory(found), 'val')[-1]['top1']:.1f} %"
    assert "first is here. It was trained on" in words(app)
    assert "--resume" not in words(app)


@pytest.mark.parametrize(
    ("content", "says"), [(b"no archive at all", "zip"), (None, "No such file"), (b"PK\x05\x06" + bytes(18), "")]
)
def test_rubbish_is_not_taken_in(show: Open, runs: Path, content: bytes | None, says: str) -> None:
    file = runs.parent / "[rubbish].zip"
    if content is not None:
        file.write_bytes(content)
    app = show()
    app.text_input(key="import_path").set_value(str(file))
    app = press(app, "import_button")
    assert says in one_error(app)
    assert not list(runs.glob("[!.]*"))


def test_an_import_of_nothing_is_asked_what(show: Open, runs: Path) -> None:
    assert not runs.exists()
    assert one_error(press(show(), "import_button")) == "No file yet: choose one, or give its path."


def test_an_upload_is_taken_in_beside_a_run_of_its_name(show: Open, runs: Path, finished: RunDirectory) -> None:
    file = io.BytesIO()
    portable.export(finished.path, file, checkpoints="none")
    app = show()
    app.file_uploader(key="import_file").upload("run.zip", file.getvalue()).run()
    press(app, "import_button")
    assert len([path for path in runs.iterdir() if path.name.startswith("first")]) == 2


# --- compare ---------------------------------------------------------------------------------------------------------


def picked(app: AppTest) -> list[str]:
    return list(app.multiselect(key="compared_runs").value)


@pytest.fixture
def two(runs: Path, trained: Path, finished: RunDirectory) -> tuple[RunDirectory, RunDirectory]:
    """The same training twice; the second with another learning rate in its config and half of its best top-1."""
    other = copied(trained, runs / "second")
    record = json.loads(other.config_path.read_text())
    record["config"]["learning_rate"] = 0.125
    record["versions"] = dict(record.get("versions") or {}) | {"torch": "1.0"}
    other.config_path.write_text(json.dumps(record))
    lines = [json.loads(line) for line in other.metrics_path.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "val":
            line["top1"] /= 2
    other.metrics_path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return finished, other


def test_two_runs_side_by_side(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    app = show("compare_runs", runs="second,first")
    assert not app.error
    assert not app.warning
    assert picked(app) == ["second", "first"]
    tops = [max(record["top1"] for record in records(run, "val")) for run in two]
    assert tops[0] == 2 * tops[1]
    margin = 2 * sum(top * (1 - top) / 12 for top in tops) ** 0.5
    verdict = "first is better than second by" if tops[0] - tops[1] > margin else "first is ahead of second by"
    assert f"{verdict} {100 * (tops[0] - tops[1]):.1f} points of top-1 on 12 validation pictures" in words(app)
    assert f"(two standard errors of the difference are {100 * margin:.1f} points)" in words(app)
    results = table(app, "best_top1", "minutes")
    assert list(results["run"]) == ["second", "first"]
    assert list(results["best_top1"]) == pytest.approx([tops[1], tops[0]])
    assert list(results["step"]) == [24, 24]
    assert list(results["train_loss"]) == pytest.approx([records(two[0], "train")[-1]["loss"]] * 2, abs=1e-4)
    recipe = table(app, "value", "second", "first", "about")
    assert [tuple(row)[:3] for row in recipe.itertuples(index=False)] == [("learning rate", "0.125", "0.02")]
    surroundings = table(app, "what", "second", "first")
    assert [list(row)[:2] for row in surroundings.itertuples(index=False)] == [["version of torch", "1.0"]]
    healthy(app.toggle(key="compare_everything").set_value(True).run())
    assert len(table(app, "value", "second", "first", "about")) == len(TrainConfig(data="x").as_json())
    assert "first began from new weights." in words(app)
    assert charts(app) == 1


def test_kernels_side_by_side_at_a_share_of_the_steps(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    app = show("compare_runs", runs="first,second")
    moments = sorted(int(path.stem[5:]) for path in two[0].probes_path.glob("step-*.npz"))
    for share, step in ((100, moments[-1]), (0, moments[0]), (50, min(moments, key=lambda one: abs(one - 12)))):
        healthy(app.slider(key="compare_share").set_value(share).run())
        found = table(app, "tower", "compact", "smoothness")
        assert list(found["step"]) == [step] * 4
        assert list(found["run"]) == ["first", "first", "second", "second"]
        assert list(found["tower"]) == ["GPU 1", "GPU 2"] * 2
        with np.load(two[0].probe_path(step)) as probe:
            kernels = probe["kernels"].astype(float)
        # Smoothness by its definition: squared differences of neighbours over energy, the median of each tower.
        rough = sum((np.diff(kernels, axis=axis) ** 2).sum(axis=(1, 2, 3)) for axis in (2, 3))
        each = rough / (kernels**2).sum(axis=(1, 2, 3))
        assert list(found["smoothness"])[:2] == pytest.approx([np.median(each[:48]), np.median(each[48:])], rel=1e-6)
        assert f"**first** at step {step:,}" in words(app)


@pytest.mark.parametrize(
    "measure", ["val_top1", "val_topk", "val_loss", "train_top1", "train_loss", "learning_rate", "images_per_second"]
)
def test_every_measure_is_drawn(show: Open, two: tuple[RunDirectory, RunDirectory], measure: str) -> None:
    assert two
    app = show("compare_runs", runs="first,second")
    app.segmented_control(key="compare_measure").set_value(measure)
    healthy(app.run())
    assert charts(app) == 1
    assert bool([toggle for toggle in app.toggle if toggle.key == "compare_log"]) == measure.endswith("loss")
    for axis in ("Epoch", "Hours"):
        app.segmented_control(key="compare_axis").set_value(axis)
        assert not healthy(app.run()).error


def test_the_choice_of_runs_stays_over_a_visit_elsewhere(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    assert two
    app = show("compare_runs", runs="second")
    assert "One run is chosen" in words(app)
    app.multiselect(key="compared_runs").set_value(["first", "second"])
    healthy(app.run())
    assert app.query_params["runs"] in ("first,second", ["first,second"])
    app.query_params.clear()
    healthy(app.switch_page("screens/runs.py").run())
    app.query_params.clear()
    healthy(app.switch_page("screens/compare_runs.py").run())
    assert picked(app) == ["first", "second"]
    app.multiselect(key="compared_runs").set_value([])
    healthy(app.run())
    assert "Choose the runs to compare" in words(app)
    assert "runs" not in app.query_params


def test_without_an_address_the_two_latest_are_compared(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    assert two
    assert picked(show("compare_runs")) == ["second", "first"]


def test_unknown_runs_in_the_address_are_left_out(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    assert two
    app = show("compare_runs", runs="first,../etc,first,,second,**x**")
    assert "There is no run ../etc, **x** here." in words(app)
    assert picked(app) == ["first", "second"]
    app = show("compare_runs", runs="nothing")
    assert "There is no run nothing here." in words(app)
    assert picked(app) == []
    assert "Choose the runs to compare" in words(app)


def test_a_folder_with_a_comma_in_its_name_has_an_address(show: Open, runs: Path, trained: Path) -> None:
    for name in ("a,b", "50%"):
        copied(trained, runs / name)
    app = show("compare_runs")
    assert picked(app) == ["a,b", "50%"]
    address = app.query_params["runs"]
    said = address[0] if isinstance(address, list) else address
    assert picked(show("compare_runs", runs=said)) == ["a,b", "50%"]


def test_compare_on_a_branch_s_page_brings_its_parent(
    show: Open, runs: Path, trained: Path, two: tuple[RunDirectory, RunDirectory]
) -> None:
    assert two
    third = copied(trained, runs / "zthird")
    branch = {"run": "first", "checkpoint": "last", "step": 12, "changed": {"epochs": [4, 6]}, "mode": "continue"}
    change_json(third.config_path, branch=branch)
    write_about(runs / "first", name="The parent")
    app = press(show(run="zthird"), "compare_run")
    assert app.title[0].value == "Compare runs"
    assert picked(app) == ["zthird", "first"]
    assert "zthird goes on from the checkpoint “last” (step 12) of The parent, with epochs 4 → 6." in words(app)
    assert "The parent began from new weights." in words(app)
    app.query_params.clear()
    healthy(app.switch_page("screens/runs.py").run())
    assert app.selectbox(key="pick_run").value == "zthird"
    app = press(show(run="first"), "compare_run")
    assert picked(app) == ["first", "zthird"]


def test_a_single_run_is_shown_alone(show: Open, finished: RunDirectory) -> None:
    assert finished.last.is_file()
    app = show("compare_runs")
    assert picked(app) == ["first"]
    assert "One run is chosen: choose another to weigh it against." in words(app)
    assert "One run alone differs from nothing" in words(app)
    assert not app.error
    assert len(table(app, "tower", "compact")) == 2


def test_no_runs_to_compare(show: Open, runs: Path) -> None:
    app = show("compare_runs", runs="first")
    assert f"There is no run in {runs} yet." in words(app)


def test_more_than_eight_runs_are_too_many(show: Open, runs: Path, trained: Path) -> None:
    for number in range(9):
        copied(trained, runs / f"r{number}")
    app = show("compare_runs", runs=",".join(f"r{number}" for number in range(9)))
    assert "At most 8 runs stand side by side" in words(app)
    assert picked(app) == [f"r{number}" for number in range(8)]
    assert len(table(app, "tower", "compact")) == 16


def test_runs_of_one_name_are_told_apart(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    for run in two:
        write_about(run.path, name="Same")
    app = show("compare_runs", runs="first,second")
    assert list(table(app, "best_top1", "minutes")["run"]) == ["Same (first)", "Same (second)"]


def test_a_run_deleted_meanwhile_is_said(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    app = show("compare_runs", runs="first,second")
    shutil.rmtree(two[1].path)
    healthy(app.run())
    assert "Deleted meanwhile: second." in words(app)
    assert picked(app) == ["first"]
    assert list(table(app, "best_top1", "minutes")["run"]) == ["first"]


def test_damage_to_one_run_leaves_the_other_whole(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    first, second = two
    second.config_path.write_bytes(b"{bad")
    with second.metrics_path.open("ab") as file:
        file.write(b"garbage\n")
    app = show("compare_runs", runs="first,second")
    assert "second: its config cannot be used" in one_error(app)
    assert "second: 1 line of metrics.jsonl could not be read and is left out." in words(app)
    assert "Its config does not say which network it trains" in words(app)
    assert "Nothing is known of where second comes from: its config cannot be read." in words(app)
    assert list(table(app, "best_top1", "minutes")["step"]) == [24, 24]
    assert list(table(app, "tower", "compact")["run"]) == ["first", "first"]
    # What nobody knows is not held against the other's recipe.
    healthy(app.toggle(key="compare_everything").set_value(True).run())
    assert list(table(app, "value", "about").columns) == ["value", "first", "about"]
    assert first.config_path.is_file()


def test_a_damaged_probe_and_a_run_without_film(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    first, second = two
    latest = max(first.probes_path.glob("step-*.npz"))
    latest.write_bytes(latest.read_bytes()[:300])
    change_json(second.config_path, config=second.config()["config"] | {"probes": 0})
    for probe in second.probes_path.glob("step-*.npz"):
        probe.unlink()
    app = show("compare_runs", runs="first,second")
    assert not app.error
    assert f"{latest.name} is not a probe that can be shown" in words(app)
    assert "This run takes no moments for a film: --probes is 0." in words(app)
    healthy(app.slider(key="compare_share").set_value(0).run())
    assert list(table(app, "tower", "compact")["step"]) == [0, 0]


def test_a_run_that_has_only_been_asked_for(show: Open, runs: Path, finished: RunDirectory) -> None:
    asked_for(runs / "waits", waits=True)
    assert finished.last.is_file()
    app = show("compare_runs", runs="first,waits")
    assert "waits has not been validated yet, so there is nothing to compare." in words(app)
    assert "waits has not begun yet; it is to begin from new weights." in words(app)
    recipe = table(app, "value", "first", "waits", "about")
    assert ("epochs", "4", "7") in [tuple(row)[:3] for row in recipe.itertuples(index=False)]


def test_metrics_that_cannot_be_opened_are_said(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    two[1].metrics_path.unlink()
    two[1].metrics_path.mkdir()
    app = show("compare_runs", runs="first,second")
    assert "second: its metrics cannot be read" in one_error(app)
    assert list(table(app, "best_top1", "minutes")["run"]) == ["first", "second"]
    assert charts(app) == 1
    app = show(run="second")
    assert "metrics.jsonl" in words(app)


def test_a_comparison_with_a_living_run_says_so_far(show: Open, two: tuple[RunDirectory, RunDirectory]) -> None:
    status(two[1], "running")
    two[1].lock()
    try:
        assert "So far: first is" in words(show("compare_runs", runs="first,second"))
    finally:
        two[1].release()


def test_two_runs_of_one_name_stay_apart(show: Open, finished: RunDirectory, runs: Path) -> None:
    shutil.copytree(finished.path, runs / "second")
    for name in ("first", "second"):
        write_about(runs / name, name="alike")
    app = show(run="second")
    press(app, "archive_run")
    assert about(runs / "second").archived
    assert not about(runs / "first").archived
    assert app.query_params["run"] in ("second", ["second"])
    assert {"alike · finished · first", "alike · finished · second"} <= set(app.selectbox(key="pick_run").options)
