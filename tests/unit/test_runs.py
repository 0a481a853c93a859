from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alexnet.runs import RunDirectory, RunError, explained, new_path, replace_atomically

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", {"config": {"seed": 1}})


def test_a_new_run_has_its_config_and_nothing_else_to_read(run: RunDirectory) -> None:
    assert run.config() == {"config": {"seed": 1}}
    assert run.status() == {}
    assert run.metrics() == []
    assert not run.stop_requested()


def test_a_run_is_never_written_over(run: RunDirectory) -> None:
    with pytest.raises(RunError, match="already holds a run: resume it with --resume"):
        RunDirectory.create(run.path, {})
    assert run.config() == {"config": {"seed": 1}}


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match="not empty"):
        RunDirectory.create(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_where_nobody_may_write_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write a run to"):
        RunDirectory.create(tmp_path / "file" / "run", {})


@pytest.mark.parametrize(("make", "message"), [(False, "there is no folder"), (True, "holds no run")])
def test_opening_what_is_no_run(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "x").mkdir()
    with pytest.raises(RunError, match=message):
        RunDirectory.open(tmp_path / "x")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01"])
def test_a_damaged_config_is_said(run: RunDirectory, text: str) -> None:
    run.config_path.write_text(text)
    with pytest.raises(RunError, match=r"config\.json"):
        run.config()


# --- the lock ---------------------------------------------------------------------------------------------------------


def test_only_one_process_trains_in_a_run(run: RunDirectory) -> None:
    code = (
        "import sys; from alexnet.runs import RunDirectory, RunError\n"
        "run = RunDirectory.open(sys.argv[1]); assert run.is_locked()\n"
        "try: run.lock()\n"
        "except RunError as error: print(error)"
    )
    run.write_status({"pid": 4711})
    command = [sys.executable, "-c", code, str(run.path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "in use by another process (pid 4711)" in done.stdout


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from alexnet.runs import RunDirectory\n"
        "RunDirectory.create(sys.argv[1], {}); print('locked', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        run = RunDirectory.open(tmp_path / "run")
        assert run.is_locked()
        process.kill()
    assert not run.is_locked()
    run.lock()


def test_taking_a_run_clears_away_what_a_killed_process_left_half_written(run: RunDirectory) -> None:
    run.release()
    left = run.last.with_name(".last.pt.123.part")
    left.write_bytes(b"half a check")
    run.lock()
    assert not left.exists()


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_metrics_come_back_in_order(run: RunDirectory) -> None:
    records = [{"kind": "train", "step": step, "loss": step / 7} for step in range(100)]
    for record in records:
        run.append_metrics(record)
    assert run.metrics() == records


def test_any_beginning_of_the_metrics_file_gives_the_records_that_are_whole(run: RunDirectory) -> None:
    records = [{"step": step, "name": "Häuser ×"} for step in range(4)]
    for record in records:
        run.append_metrics(record)
    text = run.metrics_path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(text) if byte == 10]
    for length in range(len(text) + 1):
        run.metrics_path.write_bytes(text[:length])
        assert run.metrics() == records[: sum(end <= length for end in ends)]


def test_a_damaged_line_costs_no_other(run: RunDirectory) -> None:
    run.metrics_path.write_bytes(b'{"step": 1}\n\xff\xfe{{{\n[1]\n{"step": 2}\n')
    assert run.metrics() == [{"step": 1}, {"step": 2}]


def test_a_resumed_run_forgets_the_steps_it_takes_again(run: RunDirectory) -> None:
    for step in range(1, 6):
        run.append_metrics({"step": step})
        run.probe_path(step).touch()
    with run.metrics_path.open("ab") as file:
        file.write(b'{"step": 6, "lo')
    run.forget_after(3)
    run.append_metrics({"step": 4, "again": True})
    assert run.metrics() == [{"step": 1}, {"step": 2}, {"step": 3}, {"step": 4, "again": True}]
    assert sorted(path.name for path in run.probes_path.iterdir()) == [run.probe_path(n).name for n in (1, 2, 3)]


def test_a_number_that_json_does_not_know_is_not_written(run: RunDirectory) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.append_metrics({"loss": float("nan")})


# --- status -----------------------------------------------------------------------------------------------------------


def test_a_reader_never_sees_half_a_status(run: RunDirectory) -> None:
    code = (
        "import sys; from alexnet.runs import RunDirectory\n"
        "run = RunDirectory(sys.argv[1])\n"
        "for step in range(100000): run.write_status({'step': step, 'padding': 'x' * 20000})"
    )
    command = [sys.executable, "-c", code, str(run.path)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        while not run.status_path.exists():
            time.sleep(0.01)
        seen = set()
        until = time.monotonic() + 20
        while len(seen) < 100 and time.monotonic() < until:
            status = json.loads(run.status_path.read_text())  # raises where it is half written
            assert len(status["padding"]) == 20_000
            seen.add(status["step"])
        process.kill()
    assert len(seen) == 100
    assert json.loads(run.status_path.read_text())  # also after a kill


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00"])
def test_a_damaged_status_is_no_status(run: RunDirectory, text: str) -> None:
    run.status_path.write_text(text)
    assert run.status() == {}


def test_the_stop_file_asks_to_stop(run: RunDirectory) -> None:
    run.request_stop()
    assert run.stop_path.read_bytes() == b""
    assert run.stop_requested()
    run.clear_stop()
    run.clear_stop()
    assert not run.stop_requested()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_atomically(path, b"old")

    def fails(file: object) -> None:
        file.write(b"new, but")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        replace_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_explained() -> None:
    assert "disk is full" in explained(OSError(errno.ENOSPC, "No space left on device"))
    assert explained(OSError(errno.EACCES, "Permission denied")) == "Permission denied"


def test_new_paths_never_clash(tmp_path: Path) -> None:
    paths = []
    for _ in range(3):
        paths.append(new_path(tmp_path, "quick"))
        paths[-1].mkdir()
    assert len(set(paths)) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, ""),
        (b'{"state": "finished"}', ""),
        (b"", "status.json is damaged"),
        (b'{"state": "run', "status.json is damaged"),
        (b"\xff\xfe", "status.json is damaged"),
        (b"[]", "status.json is damaged: it names no state"),
        (b'{"state": "asleep"}', "status.json is damaged: it names no state"),
        (b'{"state": ["running"]}', "status.json is damaged: it names no state"),
    ],
)
def test_a_damaged_status_is_told_from_none(tmp_path: Path, content: bytes | None, says: str) -> None:
    run = RunDirectory(tmp_path)
    if content is not None:
        run.status_path.write_bytes(content)
    assert run.status_trouble() == (says and f"{tmp_path}/{says}")


def test_a_status_that_was_read_is_not_read_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_status({"state": "finished"})
    status, trouble = run.status_and_trouble()
    run.write_status({"state": "failed"})
    assert (status, trouble) == ({"state": "finished"}, "")
    assert run.condition(status=status) == "finished"
    assert run.condition() == "failed"


@pytest.mark.parametrize("made", [(), ("checkpoints",), ("checkpoints", "probes")])
def test_discarding_leaves_no_folder_however_early_it_was_interrupted(tmp_path: Path, made: tuple[str, ...]) -> None:
    run = RunDirectory(tmp_path / "run")
    for folder in ("", *made):
        (run.path / folder).mkdir()
    run.discard()
    assert not run.path.exists()


def test_discarding_what_a_page_asked_for_keeps_what_a_branch_begins_from(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.request_path.write_text("{}")
    run.lock()
    run.start.write_bytes(b"weights")
    run.begin({"a": 1})
    run.discard()
    run.release()
    assert sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*")) == [
        "checkpoints", "checkpoints/start.pt", "request.json"
    ]  # fmt: skip
