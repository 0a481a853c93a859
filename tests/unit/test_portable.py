"""Runs as one file: written while they train, taken in from anybody, deleted; and what is said of them."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alexnet import archive
from alexnet.about import About, about, delete, unknown_files, write_about
from alexnet.archive import ArchiveError
from alexnet.config import TrainConfig
from alexnet.data.sources import BUILT_IN
from alexnet.portable import contents, export, exporting, import_run, importing, origin
from alexnet.runs import RunDirectory, RunError
from tests.training import ROOT, command, folder_of_pictures, options, train

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = {
    "format": 1,
    "config": TrainConfig(data="/data/imagenette", preset="quick").as_json(),
    "machine": {"device": "cpu"},
    "data": {"name": "imagenette", "classes": ["cat", "dog"], "train": 9469, "val": 3925},
    "versions": {"torch": "2.13.0"},
    "created": 1.8e9,
}


def made(path: Path, *, status: dict[str, Any] | None = None) -> RunDirectory:
    """A run directory by hand, with every file that a run can have; `best` and a kept checkpoint are `last`."""
    run = RunDirectory.create(path, CONFIG)
    run.release()
    run.last.write_bytes(os.urandom(3_000_000))
    run.best.hardlink_to(run.last)
    run.kept(12).hardlink_to(run.last)
    run.start.write_bytes(b"another checkpoint")
    for step in range(13):
        run.append_metrics({"kind": "train", "step": step, "loss": 1 / (step + 1)})
        run.probe_path(step).write_bytes(os.urandom(500))
    run.probe_picture_path.write_bytes(b"PNG")
    run.log_path.write_text("2026-01-01 12:00:00 began\n" * 50)
    run.errors_path.write_text("a warning, without an end of line")
    (path / "events.out.tfevents.1795333063.vm.5711.0").write_bytes(b"event" * 1000)
    write_about(path, name="My run", note="Two\nlines")
    if status is not None:
        run.write_status(status)
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return made(tmp_path / "runs" / "mine", status={"state": "finished", "step": 12, "pid": 4711, "host": "here"})


@pytest.fixture
def file(run: RunDirectory, tmp_path: Path) -> Path:
    export(run.path, tmp_path / "mine.zip", checkpoints="all")
    return tmp_path / "mine.zip"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- there and back ---------------------------------------------------------------------------------------------------


def test_a_run_comes_back_as_it_was_but_for_its_process(run: RunDirectory, file: Path, tmp_path: Path) -> None:
    path = import_run(file, tmp_path / "elsewhere" / "runs")
    assert path == tmp_path / "elsewhere" / "runs" / "mine"
    before, after = files(run.path), files(path)
    status = json.loads(before.pop("status.json"))
    assert json.loads(after.pop("status.json")) == {key: value for key, value in status.items() if key != "pid"}
    assert after == before
    assert RunDirectory.open(path).metrics() == run.metrics()
    assert RunDirectory.open(path).condition() == "finished"
    assert names(path.parent) == ["mine"]


def test_a_second_import_writes_over_nothing(file: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    assert [import_run(file, root).name for _ in range(3)] == ["mine", "mine-2", "mine-3"]
    assert import_run(file, root, "theirs").name == "theirs"
    (root / "mine" / "log.txt").write_text("mine")
    with pytest.raises(RunError, match="exists, and nothing is written over: give another name"):
        import_run(file, root, "mine")
    assert (root / "mine" / "log.txt").read_text() == "mine"


def test_an_open_file_does_as_well_as_a_path(run: RunDirectory, tmp_path: Path) -> None:
    out = io.BytesIO()
    export(run.path, out, checkpoints="none")
    assert files(import_run(out, tmp_path / "b"))["metrics.jsonl"] == run.metrics_path.read_bytes()


def test_checkpoints_are_stored_once_and_as_they_are_and_texts_are_packed(run: RunDirectory, file: Path) -> None:
    with zipfile.ZipFile(file) as opened:
        infos = {info.filename: info for info in opened.infolist()}
        manifest = json.loads(opened.read("manifest.json"))
        assert opened.testzip() is None
    assert next(iter(infos)) == "manifest.json"
    assert list(infos)[1:] == sorted(list(infos)[1:])
    assert "checkpoints/best.pt" not in infos
    assert infos["checkpoints/last.pt"].compress_size == infos["checkpoints/last.pt"].file_size == 3_000_000
    assert infos["log.txt"].compress_size < infos["log.txt"].file_size / 10
    assert file.stat().st_size < 3_100_000
    named = {entry["name"]: entry for entry in manifest["files"]}
    assert named["checkpoints/best.pt"]["link"] == named["checkpoints/step-000000012.pt"]["link"]
    assert named["checkpoints/last.pt"]["sha256"] == hashlib.sha256(run.best.read_bytes()).hexdigest()
    assert (manifest["name"], manifest["versions"]) == ("mine", {"torch": "2.13.0"})


def test_one_checkpoint_under_several_names_is_one_file_again(file: Path, tmp_path: Path) -> None:
    back = RunDirectory.open(import_run(file, tmp_path / "b"))
    assert back.last.samefile(back.best)
    assert back.last.samefile(back.kept(12))
    assert not back.last.samefile(back.start)


@pytest.mark.parametrize(
    ("checkpoints", "kept"),
    [
        ("all", {"last", "best", "start", "step-000000012"}),
        ("last and best", {"last", "best"}),
        ("best", {"best"}),
        ("none", set()),
    ],
)
def test_only_the_checkpoints_asked_for_go(run: RunDirectory, tmp_path: Path, checkpoints: Any, kept: set[str]) -> None:
    out = tmp_path / "out.zip"
    export(run.path, out, checkpoints=checkpoints, tensorboard=False)
    back = import_run(out, tmp_path / "b")
    assert set(RunDirectory(back).checkpoints()) == kept
    assert not list(back.glob("events.*"))
    said = contents(run.path, checkpoints=checkpoints, tensorboard=False)
    assert said.files == len(files(back))
    different = {path.stat().st_ino: path.stat().st_size for path in back.rglob("*") if path.is_file()}
    assert said.size == sum(different.values())


def test_a_branch_without_a_checkpoint_of_its_own_takes_what_it_starts_from(run: RunDirectory, tmp_path: Path) -> None:
    for path in (run.last, run.best, run.kept(12)):
        path.unlink()
    export(run.path, tmp_path / "out.zip")
    assert set(RunDirectory(import_run(tmp_path / "out.zip", tmp_path / "b")).checkpoints()) == {"start"}


def test_what_is_not_of_a_run_is_left_out_and_said(run: RunDirectory, tmp_path: Path) -> None:
    (run.path / "thesis.tex").write_text("years of work")
    (run.path / "own").mkdir()
    (run.path / "own" / "notes.txt").touch()
    run.request_path.write_text("{}")
    run.request_stop()
    run.last.with_name(".last.pt.4711.part").write_bytes(b"half")
    assert contents(run.path).unknown == unknown_files(run.path) == ("own/", "thesis.tex")
    export(run.path, tmp_path / "out.zip")
    back = files(import_run(tmp_path / "out.zip", tmp_path / "b"))
    assert not {"thesis.tex", "own/notes.txt", "request.json", "stop", "checkpoints/.last.pt.4711.part"} & back.keys()


def test_files_of_more_than_four_gigabytes_and_many_are_zip64(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1_000_000)  # as if a checkpoint of 3 MB had 12 GB
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    export(run.path, tmp_path / "out.zip")
    monkeypatch.undo()
    assert b"PK\6\6" in (tmp_path / "out.zip").read_bytes()[-2000:]
    assert files(import_run(tmp_path / "out.zip", tmp_path / "b"))["checkpoints/last.pt"] == run.last.read_bytes()


def test_progress_goes_from_nothing_to_all(run: RunDirectory, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    for steps, end in ((exporting(run.path, out), out), (importing(out, tmp_path / "b"), tmp_path / "b" / "mine")):
        seen = list(steps)
        assert [step.done for step in seen] == sorted(step.done for step in seen)
        assert (seen[-1].done, seen[-1].path) == (seen[-1].total, end)
        assert {step.path for step in seen[:-1]} == {None}
        assert seen[-2].done == seen[-1].total


# --- a run that trains ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["waiting", "starting", "running"])
def test_an_exported_run_does_not_claim_to_run(tmp_path: Path, state: str) -> None:
    run = made(tmp_path / "mine", status={"state": state, "step": 1234, "pid": 1, "heartbeat": time.time()})
    run.lock()
    export(run.path, tmp_path / "out.zip")
    run.release()
    back = RunDirectory.open(import_run(tmp_path / "out.zip", tmp_path / "b"))
    assert back.status()["message"] == "exported while it was running, at step 1,234"
    assert back.condition() == back.status()["state"] == "stopped"
    assert "pid" not in back.status()
    assert run.status()["state"] == state


def test_a_run_that_was_killed_says_so_elsewhere(tmp_path: Path) -> None:
    run = made(tmp_path / "mine", status={"state": "running", "step": 7, "heartbeat": 1.0, "pid": 1})
    export(run.path, tmp_path / "out.zip")
    back = RunDirectory.open(import_run(tmp_path / "out.zip", tmp_path / "b"))
    assert back.status()["message"] == "its process had ended without a word when it was exported, at step 7"
    assert back.condition() == "stopped"


def test_what_is_written_meanwhile_is_cut_at_a_whole_line(run: RunDirectory, tmp_path: Path) -> None:
    whole = run.metrics_path.read_bytes()
    with run.metrics_path.open("ab") as metrics, run.log_path.open("ab") as log:
        metrics.write(b'{"step": 13, "lo')
        log.write(b"2026-01-01 12:00:01 half a li")
    steps = exporting(run.path, tmp_path / "out.zip")
    next(steps)
    last = run.last.read_bytes()
    with run.metrics_path.open("ab") as metrics:
        metrics.write(b'ss": 1}\n{"step": 14}\n')
    replaced = run.last.with_name("new")
    replaced.write_bytes(b"a later checkpoint")
    replaced.replace(run.last)
    run.forget_after(3)
    with pytest.raises(RunError, match=r"went away while .* was exported: export it again"):  # probes after step 3
        list(steps)
    assert not (tmp_path / "out.zip").exists()

    run.metrics_path.write_bytes(whole + b'{"step": 13, "lo')
    steps = exporting(run.path, tmp_path / "out.zip")
    next(steps)
    run.append_metrics({"step": 14})
    run.last.unlink()
    run.last.write_bytes(b"a later one")
    list(steps)
    back = files(import_run(tmp_path / "out.zip", tmp_path / "b"))
    assert back["metrics.jsonl"] == whole
    assert back["log.txt"] == b"2026-01-01 12:00:00 began\n" * 50
    assert back["checkpoints/last.pt"] == b"a later checkpoint"
    assert back["checkpoints/best.pt"] == last


def test_only_the_end_of_what_went_wrong_goes(run: RunDirectory, tmp_path: Path) -> None:
    run.errors_path.write_bytes(b"warning: the same\n" * 2_000_000 + b"the last word")  # 36 MB that pack to nothing
    export(run.path, tmp_path / "out.zip")
    errors = files(import_run(tmp_path / "out.zip", tmp_path / "b"))["errors.txt"]
    assert len(errors) == 1 << 20
    assert errors.endswith(b"the last word")


def test_a_run_without_a_word_of_its_state(tmp_path: Path) -> None:
    run = made(tmp_path / "mine")
    export(run.path, tmp_path / "out.zip")
    assert not (import_run(tmp_path / "out.zip", tmp_path / "b") / "status.json").exists()
    run.status_path.write_text("{damaged")
    export(run.path, tmp_path / "out.zip", overwrite=True)
    assert not (import_run(tmp_path / "out.zip", tmp_path / "b") / "status.json").exists()


# --- places that do not do --------------------------------------------------------------------------------------------


def test_an_export_writes_over_nothing_unless_told(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "out.zip").write_text("mine")
    with pytest.raises(RunError, match="exists: name another file"):
        export(run.path, tmp_path / "out.zip")
    assert (tmp_path / "out.zip").read_text() == "mine"
    export(run.path, tmp_path / "out.zip", overwrite=True)
    assert zipfile.is_zipfile(tmp_path / "out.zip")


def test_places_that_no_export_can_be_written_to(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is a folder: name a new file in it, like .*mine\.zip"):
        export(run.path, tmp_path)
    with pytest.raises(RunError, match="there is no folder"):
        export(run.path, tmp_path / "nowhere" / "out.zip")
    with pytest.raises(RunError, match="would lie in the run itself"):
        export(run.path, run.path / "out.zip")
    with pytest.raises(RunError, match="holds no run"):
        export(tmp_path, tmp_path / "out.zip")
    with pytest.raises(RunError, match="checkpoints can be all, last and best, best, none, not 'some'"):
        export(run.path, tmp_path / "out.zip", checkpoints="some")  # type: ignore[arg-type]


class Full(io.BytesIO):
    """A disk with room for a megabyte."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 1_000_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_said_and_nothing_half_is_left(
    run: RunDirectory, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunError, match="the disk is full: make room first"):
        export(run.path, Full())
    before = sorted(tmp_path.rglob("*"))
    written = 0

    def fills(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        nonlocal written
        if ("x" in mode or "w" in mode) and (written := written + 1) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, *arguments, **named)

    opened = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fills)
        with pytest.raises(RunError, match="to disk: the disk is full: make room first"):
            import_run(file, tmp_path / "b")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_does_not_fit_is_refused_before_anything_is_written(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=103_000_000)  # 3 MB more than are to stay free
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(RunError, match=r"holds 2\.9 MiB and .* has 98\.2 MiB free, of which 100\.0 MiB stay free"):
        import_run(file, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("name", ["", " x", "../x", "a/b", ".x", "a\\b", "a\nb", "x" * 201, "\u202ex"])
def test_names_that_no_folder_gets(file: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match=r"cannot be a run's folder: .*give another name"):
        import_run(file, tmp_path / "b", name)
    assert not (tmp_path / "b").exists()


def test_a_folder_of_runs_that_is_a_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    with pytest.raises(RunError, match="cannot write to"):
        import_run(file, tmp_path / "b")


# --- stopped half-way -------------------------------------------------------------------------------------------------


def test_an_export_that_is_given_up_leaves_nothing(run: RunDirectory, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for after in (1, 20, 22):
        steps = exporting(run.path, tmp_path / "out.zip")
        for _ in range(after):
            next(steps)
        steps.close()
        assert sorted(tmp_path.rglob("*")) == before


def test_an_import_that_is_given_up_leaves_nothing(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    steps = importing(file, tmp_path / "b")
    for _ in range(3):
        next(steps)
    (hidden,) = (tmp_path / "b").iterdir()
    assert hidden.name.startswith(".importing-")
    steps.close()
    assert list((tmp_path / "b").iterdir()) == []

    def interrupts(_moved: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_run(file, tmp_path / "b", seen=interrupts)
    assert list((tmp_path / "b").iterdir()) == []


def test_a_killed_import_is_hidden_and_the_next_one_clears_it_away(file: Path, tmp_path: Path) -> None:
    root = tmp_path / "b"
    code = (
        "import sys, time; from pathlib import Path; from alexnet.portable import importing\n"
        "steps = importing(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "for _ in range(3): next(steps)\n"
        "print('half', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file), str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        (half,) = root.iterdir()
        assert import_run(file, root).name == "mine"
        assert half.exists()  # the other import lives, and is left alone
        process.send_signal(signal.SIGKILL)
    assert half.exists()
    assert import_run(file, root).name == "mine-2"
    assert sorted(path.name for path in root.iterdir()) == ["mine", "mine-2"]


def test_imports_at_the_same_time_get_folders_of_their_own(file: Path, tmp_path: Path) -> None:
    paths: list[Path] = []
    threads = [threading.Thread(target=lambda: paths.append(import_run(file, tmp_path / "b"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 8
    assert sorted(paths) == sorted((tmp_path / "b").iterdir())


# --- hostile files ----------------------------------------------------------------------------------------------------


Members = dict[str, bytes]


def unpacked(file: Path) -> Members:
    with zipfile.ZipFile(file) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def packed(members: Members, *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as new:
        for name, content in members.items():
            new.writestr(name, content)
    return out.getvalue()


def listed(members: Members, **changes: Any) -> Members:
    """The members with a manifest that is true of them."""
    manifest = json.loads(members["manifest.json"]) | changes
    manifest["files"] = [
        {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in members.items()
        if name != "manifest.json"
    ]
    return {
        "manifest.json": json.dumps(manifest).encode(),
        **{n: c for n, c in members.items() if n != "manifest.json"},
    }


def changed_config(members: Members, **changes: Any) -> Members:
    config = json.loads(members["config.json"]) | changes
    return listed(members | {"config.json": json.dumps(config).encode()})


def manifest_of(members: Members, change: Callable[[dict[str, Any]], Any]) -> bytes:
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    return packed(members | {"manifest.json": json.dumps(manifest).encode()})


def with_entry(members: Members, name: str, mode: int) -> bytes:
    out = io.BytesIO(packed(members))
    with zipfile.ZipFile(out, "a") as opened:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        opened.writestr(info, "/etc/passwd")
    return out.getvalue()


def twice(members: Members) -> bytes:
    out = io.BytesIO(packed(members))
    with zipfile.ZipFile(out, "a") as opened, pytest.warns(UserWarning, match="Duplicate name"):
        opened.writestr("log.txt", "another")
    return out.getvalue()


def patched(data: bytes, name: str, offset: int, value: bytes) -> bytes:
    """Bytes changed in the table of contents, at an offset into the record of this file."""
    where = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    return data[: where + offset] + value + data[where + offset + len(value) :]


def bomb() -> bytes:
    return bytes(64 << 20)


def claims_a_huge_table(members: Members) -> bytes:
    """A true table of contents of many empty files, as zip64 could hold by the million."""
    return packed(members | {f"probes/step-{step:09d}.npz": b"" for step in range(70_000)})


def many(members: Members) -> bytes:
    return packed(members | {f"probes/step-{step:09d}.npz": b"" for step in range(20_001)})


def overlapping(members: Members) -> bytes:
    """Two names for the same bytes, each with a true checksum: a small file that unpacks to far more."""
    content = os.urandom(400_000)
    members = listed(members | {"probes/step-000000001.npz": content, "probes/step-000000002.npz": content})
    data = packed(members, compression=zipfile.ZIP_STORED)
    at = data.index(b"probes/step-000000002.npz") - 30
    cut = data[:at] + data[at + 30 + 25 + len(content) :]
    table = cut.index(b"PK\1\2")
    cut = patched(cut, "probes/step-000000002.npz", 42, struct.pack("<I", 0))
    return cut[:-6] + struct.pack("<I", table) + cut[-2:]


HOSTILE: dict[str, tuple[Callable[[Members], bytes], str]] = {
    "a path out of the folder": (
        lambda m: packed(m | {"../../evil": b""}),
        r"holds '\.\./\.\./evil', which is not of a",
    ),
    "an absolute path": (lambda m: packed(m | {"/etc/cron.d/evil": b""}), "holds '/etc/cron.d/evil', which is not"),
    "a path with a drive": (lambda m: packed(m | {"C:\\evil": b""}), "which is not of a run"),
    "a path hidden in a known name": (
        lambda m: packed(m | {"probes/../../step-000000001.npz": b""}),
        "is not of a run",
    ),
    "an unknown file": (lambda m: packed(listed(m | {"run.sh": b"rm"})), r"holds 'run\.sh', which is not of a run"),
    "an unknown file in a folder": (lambda m: packed(listed(m | {"probes/x.pkl": b""})), "is not of a run"),
    "a name that ends in a line": (lambda m: packed(listed(m | {"log.txt\n": b""})), r"holds 'log\.txt\\n', which"),
    "a null in a name": (
        lambda m: packed(listed(m | {"logXtxt": b""})).replace(b"logXtxt", b"log\0txt"),
        r"holds 'log\\x00txt', which is not of a run",
    ),
    "a folder": (lambda m: packed(m | {"probes/": b""}), "holds 'probes/', which is not of a run"),
    "a link": (lambda m: with_entry(m, "checkpoints/start.pt", 0o120777), "as a link or a device and not as a file"),
    "a device": (lambda m: with_entry(m, "checkpoints/start.pt", 0o020666), "as a link or a device"),
    "a file twice": (twice, r"holds log\.txt twice"),
    "an unlisted file": (lambda m: packed(m | {"probes/step-000000099.npz": b""}), "is in it and not in its manifest"),
    "a missing file": (
        lambda m: packed({name: content for name, content in m.items() if name != "log.txt"}),
        r"is not whole: log\.txt is missing; copy the file again",
    ),
    "no config": (
        lambda m: packed(listed({name: content for name, content in m.items() if name != "config.json"})),
        r"holds no config\.json, so no run",
    ),
    "no manifest": (
        lambda m: packed({name: content for name, content in m.items() if name != "manifest.json"}),
        r"holds no manifest\.json",
    ),
    "another file under its name": (
        lambda m: packed(m | {"log.txt": m["log.txt"][::-1]}),
        r"is damaged: log\.txt is not what it was when it was exported",
    ),
    "another size": (lambda m: packed(m | {"log.txt": b"short"}), r"log\.txt has 5 bytes and its manifest says 1,300"),
    "encrypted": (
        lambda m: patched(packed(m), "log.txt", 8, b"\x01\x00"),
        r"is encrypted \(log\.txt\): unpack it with its password",
    ),
    "packed in another way": (lambda m: packed(m, compression=zipfile.ZIP_LZMA), "in a way that export does not use"),
    "a bomb": (lambda m: packed(listed(m | {"log.txt": bomb()})), "to 67,108,864 bytes, more than 300 times its size"),
    "a bomb that lies about its size": (
        lambda m: patched(packed(m | {"log.txt": bomb()}), "log.txt", 24, struct.pack("<I", 1300)),
        r"is damaged",
    ),
    "overlapping files": (overlapping, "claims to hold more than its own size"),
    "a huge table of contents": (claims_a_huge_table, "its table of contents has more than 4,194,304 bytes"),
    "too many files": (many, r"holds 20,0\d\d files and a run has at most 20,000"),
    "a manifest of a newer format": (
        lambda m: manifest_of(m, lambda manifest: manifest.update(format=2)),
        "is of format 2 and this program knows 1: use a newer version",
    ),
    "a manifest of something else": (
        lambda m: manifest_of(m, lambda manifest: manifest.update(kind="a cake")),
        "has a manifest.json that export did not write",
    ),
    "a manifest that is no JSON": (lambda m: packed(m | {"manifest.json": b"{"}), r"holds a damaged manifest\.json: "),
    "a manifest that is no object": (lambda m: packed(m | {"manifest.json": b"[]"}), "it is no object"),
    "a manifest without an end": (
        lambda m: packed(m | {"manifest.json": b"[" * 200_000}),
        r"holds a damaged manifest\.json: maximum recursion depth",
    ),
    "a manifest of names that are none": (
        lambda m: manifest_of(m, lambda manifest: manifest["files"][0].update(name="../x")),
        "says nothing sensible of its files",
    ),
    "a manifest that names a file twice": (
        lambda m: manifest_of(m, lambda manifest: manifest["files"].append(manifest["files"][0])),
        "names a file twice",
    ),
    "a manifest of sizes that are none": (
        lambda m: manifest_of(m, lambda manifest: manifest["files"][0].update(size=-1)),
        "says nothing sensible of its files",
    ),
    "a link to a file that is none": (
        lambda m: manifest_of(
            m, lambda manifest: manifest["files"].append({**LINK, "link": "../../../etc/passwd", "sha256": ""})
        ),
        "'../../../etc/passwd', which it cannot be",
    ),
    "a link to itself": (
        lambda m: manifest_of(m, lambda manifest: manifest["files"].append({**LINK, "link": LINK["name"]})),
        "which it cannot be",
    ),
    "a config of a newer format": (lambda m: packed(changed_config(m, format=9)), "holds a run of format '9' and this"),
    "a config of no training": (
        lambda m: packed(changed_config(m, config={"epochs": 3})),
        "a config must say which data",
    ),
    "a config with a value of a newer version": (
        lambda m: packed(changed_config(m, config=CONFIG["config"] | {"warp": 9})),  # type: ignore[operator]
        "a config has no warp; .* use the version that it was exported with",
    ),
    "a config with a value out of range": (
        lambda m: packed(changed_config(m, config=CONFIG["config"] | {"epochs": -1})),  # type: ignore[operator]
        "--epochs must be from 1",
    ),
    "a config that is no object": (lambda m: packed(listed(m | {"config.json": b"1"})), "it is no object"),
    "a config with no data": (lambda m: packed(changed_config(m, data=[])), "data is no object"),
    "a config with classes that are none": (
        lambda m: packed(changed_config(m, data={"classes": [1]})),
        "data has no list of classes",
    ),
    "a status that is no number": (lambda m: packed(listed(m | {"status.json": b'{"step": NaN}'})), "NaN is no number"),
    "a status of no state": (lambda m: packed(listed(m | {"status.json": b'{"state": []}'})), "there is no such state"),
    "cut off": (lambda m: packed(m)[:-1000], "is cut off or damaged: File is not a zip file; copy the file again"),
    "cut off in the middle": (lambda m: packed(m)[:2000], "is cut off or damaged"),
    "empty": (lambda _: b"", "is no zip archive: name the file that export wrote"),
    "a picture": (lambda _: b"\x89PNG\r\n\x1a\n" + bytes(1000), "is no zip archive"),
    "bytes changed inside": (
        lambda m: (data := packed(m))[: (at := data.index(b"log.txt") + 20)] + b"\xff\xff\xff" + data[at + 3 :],
        r"is damaged at log\.txt",
    ),
}
LINK = {"name": "checkpoints/start.pt", "size": 3, "sha256": "0" * 64}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Members:
    """A small archive, unpacked."""
    run = made(tmp_path_factory.mktemp("runs") / "mine", status={"state": "stopped"})
    out = tmp_path_factory.mktemp("archives") / "out.zip"
    export(run.path, out, checkpoints="none", tensorboard=False)
    return unpacked(out)


def test_the_archive_that_the_hostile_ones_are_made_of_is_taken(members: Members, tmp_path: Path) -> None:
    for content in (packed(members), packed(listed(members)), packed(members, compression=zipfile.ZIP_STORED)):
        assert files(import_run(io.BytesIO(content), tmp_path / "b")).keys() == members.keys() - {"manifest.json"}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_files_are_refused_and_nothing_is_left(members: Members, tmp_path: Path, what: str) -> None:
    make, message = HOSTILE[what]
    file = tmp_path / "evil.zip"
    file.write_bytes(make(members))
    with pytest.raises(ArchiveError, match=message) as refused:
        import_run(file, tmp_path / "b")
    assert str(refused.value).startswith(f"{file} ")
    assert len(str(refused.value).splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == [file]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"is a folder: name the .zip file that export wrote"):
        import_run(tmp_path, tmp_path / "b")
    with pytest.raises(ArchiveError, match=r"cannot be read: No such file or directory; name the .zip file"):
        import_run(tmp_path / "nothing.zip", tmp_path / "b")


def test_any_byte_changed_is_refused_or_changes_nothing(members: Members, tmp_path: Path) -> None:
    data = packed(members)
    want = files(import_run(io.BytesIO(data), tmp_path / "b", "good"))
    for number, at in enumerate(range(0, len(data), max(1, len(data) // 60))):
        damaged = data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :]
        try:
            path = import_run(io.BytesIO(damaged), tmp_path / "b", f"{number}")
        except ArchiveError:
            continue
        assert files(path) == want  # dates and the like


def test_a_hostile_name_and_status_become_harmless(members: Members, tmp_path: Path) -> None:
    odd = {"step": "<b>", "best": {"top1": "high"}, "warnings": [1], "message": 3, "heartbeat": None, "loss": True}
    status = {"state": "running", "pid": 1, "machine": {"device": "cpu"}, "epoch": 2} | odd
    evil = listed(members | {"status.json": json.dumps(status).encode()}, name="../../../../tmp/evil")
    path = import_run(io.BytesIO(packed(evil)), tmp_path / "b")
    assert path == tmp_path / "b" / "imported"
    message = "it was running elsewhere when it was exported"
    settled = {"state": "stopped", "message": message, "machine": {"device": "cpu"}, "epoch": 2}
    assert RunDirectory(path).status() == settled


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux says which files are open")
def test_no_file_stays_open(run: RunDirectory, file: Path, tmp_path: Path) -> None:
    def opened() -> int:
        return len(names(Path("/proc/self/fd")))

    before = opened()
    export(run.path, tmp_path / "out.zip")
    import_run(file, tmp_path / "b")
    contents(run.path)
    steps = importing(file, tmp_path / "b")
    next(steps)
    assert opened() > before
    steps.close()
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ArchiveError, match="is cut off"):
        import_run(file, tmp_path / "b")
    assert opened() == before


def test_an_upload_is_named_in_messages_without_breaking_the_line() -> None:
    upload = io.BytesIO(b"no zip")
    upload.name = "a\nb\x1b[31m.zip"
    with pytest.raises(ArchiveError, match=r"^'a\\nb\\x1b\[31m\.zip' is no zip archive"):
        import_run(upload, Path("nowhere"))


# --- where it goes on -------------------------------------------------------------------------------------------------


def data_of(run: RunDirectory, data: str) -> None:
    config = CONFIG | {"config": CONFIG["config"] | {"data": data}}  # type: ignore[operator]
    run.config_path.write_text(json.dumps(config))


def test_an_imported_run_says_where_its_data_was(run: RunDirectory, tmp_path: Path) -> None:
    assert origin(run.path) == (
        "It was trained on '/data/imagenette' ('imagenette': 9,469 pictures for training, 3,925 for validation), which "
        f"is not here; where these pictures lie here, it goes on with: python -m alexnet train DATA --resume {run.path}"
    )
    for here in (str(tmp_path), BUILT_IN):
        data_of(run, here)
        assert origin(run.path) == f"It was trained on {here!r}, which is here too; it goes on with --resume {run.path}"
    for odd in ("x" * 5000, "a\0b"):
        data_of(run, odd)
        assert "which is not here" in origin(run.path)
    for checkpoint in run.checkpoints().values():
        checkpoint.unlink()
    assert "without its last checkpoint it can be looked at, and does not go on" in origin(run.path)


@pytest.mark.parametrize("module", ["about", "archive", "portable"])
def test_nothing_but_the_standard_library_is_needed(module: str) -> None:
    code = f"import sys, alexnet.{module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "PIL"} & set(done.stdout.split())


# --- a real run -------------------------------------------------------------------------------------------------------


def test_a_run_exported_while_it_trains_goes_on_elsewhere_to_the_same_weights(tmp_path: Path) -> None:
    from alexnet import checkpoints

    pictures = folder_of_pictures(tmp_path / "here" / "pictures")
    path = tmp_path / "here" / "runs" / "mine"
    wanted = options(epochs=3, probes=3)
    with subprocess.Popen(
        [sys.executable, "-m", "alexnet", "train", str(pictures), "--run-dir", str(path), *wanted],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    ) as process:
        run = RunDirectory(path)
        until = time.monotonic() + 60
        while not run.best.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)  # between any two of its instructions
        export(path, tmp_path / "mine.zip")
        assert process.poll() is None
        process.send_signal(signal.SIGCONT)
        assert process.wait(60) == 0

    shutil.move(pictures, tmp_path / "moved")  # on the other machine the pictures lie elsewhere
    (tmp_path / "moved").rename(tmp_path / "there")
    done = command("import", tmp_path / "mine.zip", "--runs", tmp_path / "runs", "--name", "theirs")
    assert done.returncode == 0, done.stderr
    assert f"run directory: {tmp_path / 'runs' / 'theirs'}" in done.stdout
    assert "which is not here" in done.stdout
    back = RunDirectory.open(tmp_path / "runs" / "theirs")
    assert back.status()["message"].startswith("exported while it was running, at step ")
    before = checkpoints.load(back.last)
    assert before.training is not None
    assert 0 < before.training["step"] < 18

    done = train(tmp_path / "there", "--resume", back.path)
    assert done.returncode == 0, done.stderr
    one, other = checkpoints.load(run.last), checkpoints.load(back.last)
    assert one.training is not None
    assert other.training is not None
    assert one.training["step"] == other.training["step"] == 18
    assert all(one.weights[name].equal(other.weights[name]) for name in one.weights)
    assert [record["loss"] for record in run.metrics() if record["kind"] == "train"] == [
        record["loss"] for record in back.metrics() if record["kind"] == "train"
    ]
    assert {path.name for path in run.probes_path.iterdir()} == {path.name for path in back.probes_path.iterdir()}


def test_the_command_line_says_what_it_left_out_and_what_it_refuses(run: RunDirectory, tmp_path: Path) -> None:
    (run.path / "thesis.tex").touch()
    out = tmp_path / "out.zip"
    done = command("export", run.path, out, "--checkpoints", "none", "--no-tensorboard")
    assert done.stdout.splitlines()[0] == "note: thesis.tex is not of a run and is left out"
    assert f"{out}: 20 files of {run.path} in 0.0 MB" in done.stdout
    for arguments, message in (
        (("export", run.path, out), "exists: name another file"),
        (("export", run.path, tmp_path / "out.tar"), "what is written is a zip file: name it out.tar.zip"),
        (("import", run.log_path, "--runs", tmp_path / "b"), "is no zip archive"),
    ):
        done = command(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


# --- about.json -------------------------------------------------------------------------------------------------------


def test_what_is_said_of_a_run_comes_back(run: RunDirectory) -> None:
    assert about(run.path) == About("My run", "Two\nlines", archived=False)
    assert write_about(run.path, archived=True) == About("My run", "Two\nlines", archived=True)
    assert (
        write_about(run.path, name="  Größe 🧑‍🔬 ")
        == about(run.path)
        == About("Größe 🧑‍🔬", "Two\nlines", archived=True)
    )
    write_about(run.path, name="", note="one\r\ntwo\rthree\n")
    assert json.loads((run.path / "about.json").read_bytes()) == {
        "name": "",
        "note": "one\ntwo\nthree",
        "archived": True,
    }


def test_a_run_of_which_nobody_said_anything(tmp_path: Path) -> None:
    assert about(tmp_path) == About("", "", archived=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"name": 3}', b'{"name": "a\\nb"}', b" " * (2 << 20) + b"{}"],
)
def test_a_damaged_file_says_nothing(run: RunDirectory, content: bytes) -> None:
    (run.path / "about.json").write_bytes(content)
    assert about(run.path) == About()


def test_a_damaged_value_costs_no_other(run: RunDirectory) -> None:
    (run.path / "about.json").write_text('{"name": "good", "note": 3, "archived": "yes", "more": 1}')
    assert about(run.path) == About("good")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"name": "x" * 81}, "at most 80 characters, got 81: shorten it"),
        ({"note": "x" * 10_001}, "at most 10,000 characters, got 10,001"),
        ({"name": "a\nb"}, "is one line: put the rest into its note"),
        ({"name": "a\x1b[31m"}, r"control character U\+001B"),
        ({"name": "a\tb"}, r"control character U\+0009"),
        ({"name": "a\u2028b"}, r"U\+2028"),
        ({"name": "exe.\u202egnp"}, r"U\+202E"),
        ({"note": "a\0b"}, r"a run's note cannot hold the control character U\+0000: take it out"),
        ({"note": "\ud800"}, r"U\+D800"),
    ],
)
def test_what_cannot_be_said(run: RunDirectory, said: dict[str, str], message: str) -> None:
    with pytest.raises(RunError, match=message):
        write_about(run.path, **said)  # type: ignore[arg-type]
    assert about(run.path).name == "My run"


def test_the_longest_that_can_be_said(run: RunDirectory) -> None:
    longest = About("ß" * 80, "a\n\t" + "x" * 9_997)
    assert write_about(run.path, name=longest.name, note=longest.note) == about(run.path) == longest


def test_nothing_is_said_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in"):
        write_about(tmp_path, name="x")
    assert list(tmp_path.iterdir()) == []


def test_two_tabs_that_write_at_once_lose_nothing(run: RunDirectory) -> None:
    threads = [
        threading.Thread(target=write_about, args=(run.path,), kwargs=what)
        for _ in range(20)
        for what in ({"name": "named"}, {"note": "noted"}, {"archived": True})
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert about(run.path) == About("named", "noted", archived=True)


# --- delete -----------------------------------------------------------------------------------------------------------


def test_a_deleted_run_is_gone(run: RunDirectory) -> None:
    other = made(run.path.with_name("other"))
    delete(run.path, run.path.parent)
    assert names(run.path.parent) == ["other"]
    assert other.last.is_file()


def test_a_run_that_was_only_asked_for_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "request.json").write_text("{}")
    delete(tmp_path / "asked", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_trains_is_not_deleted(run: RunDirectory) -> None:
    run.lock()
    with pytest.raises(RunError, match="is in use by a training: stop it first"):
        delete(run.path, run.path.parent, everything=True)
    assert run.last.is_file()
    run.release()
    delete(run.path, run.path.parent)


def test_a_training_that_begins_while_its_run_is_deleted_keeps_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def begins(path: Path, target: Path) -> Path:
        if path == run.path:
            run.lock()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", begins)
    with pytest.raises(RunError, match="is in use by a training"):
        delete(run.path, run.path.parent)
    assert run.last.is_file()
    assert names(run.path.parent) == ["mine"]
    run.release()


def test_a_run_that_trains_on_another_machine_is_deleted_only_when_meant(tmp_path: Path) -> None:
    run = made(tmp_path / "mine", status={"state": "running", "host": "far away", "heartbeat": time.time()})
    with pytest.raises(RunError, match="is in use by a training"):
        delete(run.path, tmp_path, everything=True)
    run.write_status(run.status() | {"heartbeat": 1.0})
    with pytest.raises(RunError, match=r"says that it is trained on far away, .*delete it with everything"):
        delete(run.path, tmp_path)
    delete(run.path, tmp_path, everything=True)
    assert not run.path.exists()


def test_files_that_no_run_has_are_kept_unless_everything_goes(run: RunDirectory) -> None:
    (run.path / "thesis.tex").touch()
    (run.path / "probes" / "own").mkdir()
    with pytest.raises(RunError, match=r"holds what is not of a run: 'probes/own/', 'thesis\.tex'; move it away"):
        delete(run.path, run.path.parent)
    assert (run.path / "thesis.tex").exists()
    for number in range(10):
        (run.path / f"{number}").touch()
    with pytest.raises(RunError, match=r"'0', '1', '2', '3', '4' and 7 more; move"):
        delete(run.path, run.path.parent)
    delete(run.path, run.path.parent, everything=True)
    assert not run.path.exists()


def test_only_runs_of_that_folder_are_deleted(run: RunDirectory, tmp_path: Path) -> None:
    root = tmp_path / "others"
    root.mkdir()
    (root / "link").symlink_to(run.path)
    (root / "folder").mkdir()
    (root / "folder" / "photo.jpg").touch()
    for path, message in (
        (root / "link", "is no folder"),
        (run.path, "is not a run in"),
        (root / ".." / "runs" / "mine", "is not a run in"),
        (root / "nothing", "is no folder"),
        (root / "folder", "holds no run: delete it by hand"),
    ):
        with pytest.raises(RunError, match=message):
            delete(path, root, everything=True)
    assert run.last.is_file()
    assert (root / "folder" / "photo.jpg").exists()


def test_links_in_a_run_are_not_followed(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    (run.path / "photos").symlink_to(tmp_path / "mine")
    run.log_path.unlink()
    run.log_path.symlink_to(tmp_path / "mine" / "photo.jpg")
    with pytest.raises(RunError, match=r"'log\.txt', 'photos/'"):
        delete(run.path, run.path.parent)
    delete(run.path, run.path.parent, everything=True)
    assert (tmp_path / "mine" / "photo.jpg").exists()


def test_a_folder_whose_config_is_damaged_is_deleted_only_when_meant(run: RunDirectory) -> None:
    run.config_path.write_text('{"name": "another program"}')
    with pytest.raises(RunError, match="is no run's"):
        delete(run.path, run.path.parent)
    run.config_path.write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        delete(run.path, run.path.parent)
    delete(run.path, run.path.parent, everything=True)
    assert not run.path.exists()


def test_a_deletion_that_is_interrupted_shows_no_half_a_run(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            delete(run.path, run.path.parent)
    (left,) = run.path.parent.iterdir()
    assert left.name.startswith(".deleted-mine-")
    made(run.path)
    delete(run.path, run.path.parent)
    assert list(run.path.parent.iterdir()) == []


def test_limits_fit_what_a_config_may_ask_for() -> None:
    from alexnet import config

    most = config._RANGES["probes"][1]
    assert 2 * most <= archive.MAX_FILES
