from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from alexnet.data import pack
from alexnet.data.images import UnreadableImageError, decode, square
from alexnet.data.pack import PackSource, open_pack, verify_pack, write_pack
from alexnet.data.sources import DataError, Splits, open_data
from tests.training import imagenette

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alexnet.data.images import Pixels

ROOT = Path(__file__).parents[2]
SIDE = 8


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "CHUNK", 8)
    monkeypatch.setattr(pack, "TASK", 4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three classes of different sizes; 45 pictures to train and 5 to validate, of which two are unreadable."""
    folder = tmp_path / "data"
    rng = np.random.default_rng(0)
    for name, count in {"a": 20, "b": 20, "c": 10}.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, (int(rng.integers(4, 30)), int(rng.integers(4, 30)), 3), np.uint8)
            Image.fromarray(image).save(folder / name / f"{i:02d}.png")
    splits = open_data(str(folder))
    (folder / splits.train.name(10)).write_bytes(b"")
    (folder / splits.train.name(44)).write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = imagenette()
    folder = tmp_path_factory.mktemp("photographs")
    with tarfile.open(archive) as tar:
        files = (member for member in tar if member.isfile())
        for number, member in enumerate(islice(files, 1_000)):
            if number % 40 == 0 or number >= 990:
                tar.extract(member, folder, filter="data")
    # The archive's first thousand files are all of one class.
    (folder / "train" / "n00000000").mkdir()
    for file in sorted((folder / "train" / "n01440764").iterdir())[::2]:
        file.rename(folder / "train" / "n00000000" / file.name)
    return folder / "train"


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def run(splits: Splits, out: Path, **options: Any) -> list[pack.Progress]:
    return list(write_pack(splits, out, side=SIDE, workers=0, **options))


# --- what a pack holds -----------------------------------------------------------------------------------------------


def test_a_pack_holds_the_squares_of_all_readable_pictures(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    run(splits, tmp_path / "out")
    packed = open_data(str(tmp_path / "out"))
    lost = {splits.train.name(10), splits.train.name(44)}
    for source, result in ((splits.train, packed.train), (splits.val, packed.val)):
        kept = [i for i in range(len(source)) if source.name(i) not in lost]
        assert [result.name(i) for i in range(len(result))] == [source.name(i) for i in kept]
        assert result.labels.tolist() == [int(source.labels[i]) for i in kept]
        assert result.labels.dtype == np.int64
        assert result.classes == source.classes
        expected = np.stack([square(decode(data / source.name(i)), SIDE) for i in kept])
        for i in range(len(result)):
            np.testing.assert_array_equal(result.read(i), expected[i])
        assert isinstance(result, PackSource)
        np.testing.assert_array_equal(result.pixels, expected)
        assert (tmp_path / "out" / f"{result.split}.pixels").read_bytes() == expected.tobytes()
    assert packed.name == "data"
    assert (
        "8×8 pictures, 43 to train and 5 to validate, 3 classes, made from data: one folder per class"
        in packed.description
    )
    assert packed.warnings == (
        f"2 unreadable pictures are not in the pack; the first is {splits.train.name(10)}: zero bytes",
    )


def test_progress_is_told_chunk_by_chunk(tmp_path: Path, data: Path) -> None:
    told = [(p.split, p.done, p.total, p.skipped) for p in run(open_data(str(data)), tmp_path / "out")]
    train = [(8, 0), (16, 1), (24, 1), (32, 1), (40, 1), (45, 2)]
    assert told == [*(("train", done, 45, skipped) for done, skipped in train), ("val", 5, 5, 0)]


def test_the_index_says_what_is_where_and_holds_no_path(tmp_path: Path, data: Path) -> None:
    run(open_data(str(data)), tmp_path / "out")
    text = (tmp_path / "out" / "pack.json").read_text()
    assert str(tmp_path) not in text
    index = json.loads(text)
    assert (index["version"], index["side"], index["classes"]) == (1, SIDE, ["a", "b", "c"])
    assert [problem for _, problem in index["splits"]["train"]["skipped"]][:1] == ["zero bytes"]
    pixels = (tmp_path / "out" / "train.pixels").read_bytes()
    chunks, at = index["splits"]["train"]["chunks"], 0
    assert [kept for kept, _ in chunks] == [8, 7, 8, 8, 8, 4]
    for kept, checksum in chunks:
        assert crc32(pixels[at : at + kept * SIDE * SIDE * 3]) == checksum
        at += kept * SIDE * SIDE * 3
    assert sorted(contents(tmp_path / "out")) == sorted(
        ["pack.json", *(f"{split}.{kind}" for split in ("train", "val") for kind in ("labels", "names", "pixels"))]
    )


def test_a_source_is_small_to_send_and_maps_its_file_lazily(tmp_path: Path, data: Path) -> None:
    run(open_data(str(data)), tmp_path / "out")
    train = open_pack(tmp_path / "out").train
    assert isinstance(train, PackSource)
    first = train.read(0)
    assert first.flags.writeable
    assert not train.pixels.flags.writeable
    sent = pickle.dumps(train)
    assert len(sent) < 1_000
    copy = pickle.loads(sent)  # noqa: S301
    assert "pixels" not in vars(copy)
    np.testing.assert_array_equal(copy.read(42), train.read(42))
    assert copy.name(-1) == train.name(42)
    assert copy.labels.tolist() == train.labels.tolist()
    np.testing.assert_array_equal(train.pixels[[5, 0, 5]], [train.read(5), first, train.read(5)])
    for call in (train.read, train.name):
        with pytest.raises(IndexError):
            call(43)


def test_a_pack_can_be_packed_again_smaller(tmp_path: Path, data: Path) -> None:
    run(open_data(str(data)), tmp_path / "out")
    packed = open_pack(tmp_path / "out")
    list(write_pack(packed, tmp_path / "smaller", side=4, workers=0))
    smaller = open_pack(tmp_path / "smaller")
    np.testing.assert_array_equal(smaller.val.read(2), square(packed.val.read(2), 4))


def test_odd_names_can_be_packed(tmp_path: Path, data: Path) -> None:
    (data / "a").rename(os.fsdecode(os.fsencode(data) + b"/\xff a"))
    run(open_data(str(data)), tmp_path / "out")
    assert open_pack(tmp_path / "out").train.name(0).startswith("b/")
    assert open_pack(tmp_path / "out").val.name(-1).startswith("\\xff a/")


# --- processes -------------------------------------------------------------------------------------------------------


def test_the_bytes_do_not_depend_on_the_number_of_workers(tmp_path: Path, photographs: Path) -> None:
    splits = open_data(str(photographs))
    for workers in (0, 1, 3):
        list(write_pack(splits, tmp_path / str(workers), side=64, workers=workers))
    assert contents(tmp_path / "0") == contents(tmp_path / "1") == contents(tmp_path / "3")
    with Image.open(photographs / splits.val.name(0)) as image:
        expected = np.array(image.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    # Pillow alone, from the full size: 224 ≥ 2·64, but no reduced size keeps 128.
    np.testing.assert_array_equal(open_pack(tmp_path / "0").val.read(0), expected)


class Deadly:
    """A source whose pictures kill the process that reads them, once a file is there."""

    def __init__(self, source: Any, victim: int, how: str) -> None:
        self.source, self.victim, self.how = source, victim, how
        self.classes, self.labels = source.classes, source.labels

    def __len__(self) -> int:
        return len(self.source)

    def name(self, index: int) -> str:
        return str(self.source.name(index))

    def read(self, index: int, at_least: int | None = None) -> Pixels:
        if index == self.victim and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == self.victim and self.how == "disk":
            raise OSError(errno.EIO, "Input/output error")
        if index == self.victim and self.how == "bug":
            raise ZeroDivisionError
        if index >= self.victim and self.how == "gone":
            raise UnreadableImageError(self.name(index), "cannot be opened: No such file or directory")
        return self.source.read(index, at_least)


def deadly(data: Path, victim: int, how: str) -> Splits:
    splits = open_data(str(data))
    return Splits(Deadly(splits.train, victim, how), splits.val, splits.name, splits.description)


def test_a_worker_that_is_killed_is_explained_and_nothing_is_lost(tmp_path: Path, data: Path) -> None:
    # A spawned process can only receive what it can import, which this file is not.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_data_pack as t; from pathlib import Path\n"
        "if __name__ == '__main__':\n"
        "    t.pack.CHUNK, t.pack.TASK = 8, 4\n"
        "    try: list(t.write_pack(t.deadly(Path(sys.argv[2]), 40, 'kill'), Path(sys.argv[3]), side=8, workers=2))\n"
        "    except t.DataError as error: print(error)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script, Path(__file__).parent, data, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "was killed, perhaps since memory ran out: pack again with fewer than 2 workers" in done.stdout
    splits = open_data(str(data))
    assert run(splits, tmp_path / "out")[0].note.startswith("going on after ")
    run(splits, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_failing_disk_ends_the_packing_and_a_bug_is_not_hidden(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DataError, match=r"reading the pictures failed \(Input/output error\): pack again"):
        run(deadly(data, 20, "disk"), tmp_path / "out")
    with pytest.raises(ZeroDivisionError):
        run(deadly(data, 30, "bug"), tmp_path / "out")
    told = run(open_data(str(data)), tmp_path / "out")
    assert told[0].note == "going on after 24 of 45 pictures"


def test_a_disk_that_is_gone_is_not_a_disk_of_bad_pictures(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "SUSPICIOUS", 8)
    with pytest.raises(DataError, match=r"of 8 pictures in a row none could be read, from .*: is the disk"):
        run(deadly(data, 16, "gone"), tmp_path / "out")
    assert run(open_data(str(data)), tmp_path / "out")[0].done == 16


def test_a_split_without_a_readable_picture_is_no_pack(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    for i in range(len(splits.val)):
        (data / splits.val.name(i)).write_bytes(b"")
    with pytest.raises(DataError, match=r"no picture of val could be read, from .*zero bytes"):
        run(splits, tmp_path / "out")
    assert not (tmp_path / "out" / "pack.json").exists()


def test_stop_names_the_first_unreadable_picture_also_when_going_on(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    with pytest.raises(UnreadableImageError, match=rf"^{splits.train.name(10)}: zero bytes$"):
        run(splits, tmp_path / "out", on_unreadable="stop")
    assert (tmp_path / "out" / "train.pixels").stat().st_size == 8 * SIDE * SIDE * 3
    for progress in write_pack(splits, tmp_path / "out", side=SIDE, workers=0):
        if progress.done == 24:
            break
    with pytest.raises(UnreadableImageError, match=splits.train.name(10)):
        run(splits, tmp_path / "out", on_unreadable="stop")


# --- interruption ----------------------------------------------------------------------------------------------------


def interrupted(splits: Splits, out: Path, chunks: int) -> None:
    """Packs so many chunks and stops, as Ctrl-C does."""
    packing: Iterator[pack.Progress] = write_pack(splits, out, side=SIDE, workers=0)
    list(islice((p for p in packing if not p.note), chunks))
    packing.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("chunks", range(8))
def test_what_was_interrupted_anywhere_ends_with_the_same_bytes(tmp_path: Path, data: Path, chunks: int) -> None:
    splits = open_data(str(data))
    run(splits, tmp_path / "whole")
    interrupted(splits, tmp_path / "out", chunks)
    if chunks:
        with pytest.raises(DataError, match="a pack that was not finished: pack the same data into it again"):
            open_data(str(tmp_path / "out"))
    told = run(splits, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    notes = [p.note for p in told if p.note]
    assert notes == [f"going on after {min(8 * chunks, 45)} of 45 pictures"][: min(chunks, 1)] + [
        "going on after 5 of 5 pictures"
    ] * (chunks == 7)


def test_packing_that_stops_after_every_chunk_gets_there(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    run(splits, tmp_path / "whole")
    for _ in range(7):
        interrupted(splits, tmp_path / "out", 1)
    run(splits, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_every_way_in_which_a_crash_can_cut_files_is_taken_up(tmp_path: Path, data: Path) -> None:
    """Half a chunk without a line, half a line, lines whose pixels never reached the disk, damaged tails."""
    splits = open_data(str(data))
    run(splits, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    interrupted(splits, tmp_path / "begun", 4)
    journal, pixels = ((tmp_path / "begun" / name).read_bytes() for name in ("packing.jsonl", "train.pixels"))
    first = journal.index(b"\n") + 1
    cuts = [(journal[:length], pixels) for length in range(first, len(journal), 37)]
    cuts += [(journal, pixels[:length]) for length in range(0, len(pixels), 501)]
    cuts += [(journal, pixels + b"x" * 700), (journal + b'{"split": "tr', pixels), (journal + b"\0" * 99, pixels)]
    cuts += [(journal, pixels[:-100] + bytes(100)), (journal[:-1], pixels), (journal.replace(b"31", b"30", 1), pixels)]
    middle = len(journal) - 40
    cuts += [(journal[:middle] + b"9" + journal[middle + 1 :], pixels)]
    cuts += [(journal.replace(b"zero bytes", b"hero bytes"), pixels)]  # only the line's own checksum can tell
    for number, (lines, values) in enumerate(cuts):
        out = tmp_path / str(number)
        shutil.copytree(tmp_path / "begun", out)
        (out / "packing.jsonl").write_bytes(lines)
        (out / "train.pixels").write_bytes(values)
        interrupted(splits, out, 1)  # what was cut off must not stand in the way of what comes after it
        before = len((out / "packing.jsonl").read_bytes().splitlines()) - 1
        assert run(splits, out)[0].note == f"going on after {8 * before} of 45 pictures"
        assert contents(out) == whole, number
    assert len(cuts) > 20


def test_pixels_of_train_lost_while_val_was_packed_are_packed_again(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    run(splits, tmp_path / "whole")
    interrupted(splits, tmp_path / "out", 7)
    (tmp_path / "out" / "train.pixels").unlink()
    told = run(splits, tmp_path / "out")
    assert not any(p.note for p in told)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


SCRIPT = """
import signal, sys, time
from pathlib import Path
from alexnet.data import pack
from alexnet.data.sources import open_data

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started deaf to it
    pack.CHUNK, pack.TASK = 8, 4
    for progress in pack.write_pack(open_data(sys.argv[1]), Path(sys.argv[2]), side=64, workers=2):
        print(progress.split, progress.done, flush=True)
        time.sleep(0.5)  # on a busy machine everything is packed before the signal comes
"""


def start(tmp_path: Path, photographs: Path, out: Path) -> subprocess.Popen[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.Popen(
        [sys.executable, tmp_path / "script.py", photographs, out],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def members(session: int) -> list[int]:
    """Living processes of a session, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_packing_leaves_no_process_and_is_taken_up(
    tmp_path: Path, photographs: Path, sent: signal.Signals
) -> None:
    splits = open_data(str(photographs))
    list(write_pack(splits, tmp_path / "whole", side=64, workers=0))
    with start(tmp_path, photographs, tmp_path / "out") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "train 8\n"
        if sent == signal.SIGINT:  # the terminal sends it to all of them
            os.killpg(process.pid, sent)
        else:
            process.kill()
        _, errors = process.communicate(timeout=60)
        assert process.returncode in {-sent, 130, 1}
    if sent == signal.SIGINT:
        assert errors.count("Traceback") == 1  # the packing process's own, which the command line turns into a line
        assert errors.rstrip().endswith("KeyboardInterrupt")
    deadline = time.monotonic() + 20
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert members(process.pid) == []
    assert not (tmp_path / "out" / "pack.json").exists()
    told = list(write_pack(splits, tmp_path / "out", side=64, workers=0))
    assert told[0].note.startswith("going on after ")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


# --- other packs in the way ------------------------------------------------------------------------------------------


def test_packing_again_does_nothing_and_says_so(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    run(splits, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    told = run(splits, tmp_path / "out")
    assert [(p.split, p.done, p.total, p.skipped) for p in told] == [("train", 45, 45, 2), ("val", 5, 5, 0)]
    assert {p.note for p in told} == {"data is packed already; nothing to do"}
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("chunks", [3, None])
def test_a_pack_of_other_data_or_side_is_not_touched(tmp_path: Path, data: Path, chunks: int | None) -> None:
    splits, out = open_data(str(data)), tmp_path / "out"
    if chunks:
        interrupted(splits, out, chunks)
    else:
        run(splits, out)
    before = contents(out)
    what = "the beginnings of a pack" if chunks else "a pack"
    with pytest.raises(DataError, match=rf"holds {what} of other data \(data\): name another folder"):
        run(open_data(str(data), seed=1), out)
    with pytest.raises(DataError, match=rf"holds {what} with side 8, not 9"):
        list(write_pack(splits, out, side=9, workers=0))
    (data / "d").mkdir()
    shutil.copy(data / "a" / "00.png", data / "d" / "00.png")
    with pytest.raises(DataError, match="of other data"):
        run(open_data(str(data)), out)
    assert contents(out) == before


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    with pytest.raises(DataError, match="is not empty and no pack: name a new or an empty folder"):
        run(splits, data)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file: name a folder for the pack"):
        run(splits, tmp_path / "file")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "pack.json").write_text('{"name": "a pack of wolves"}')
    with pytest.raises(DataError, match="was not written by this program: name another folder"):
        run(splits, tmp_path / "theirs")
    (tmp_path / "theirs" / "pack.json").unlink()
    (tmp_path / "theirs" / "packing.jsonl").write_text("{}\n")
    (tmp_path / "theirs" / "train.pixels").write_text("precious")
    with pytest.raises(DataError, match="is damaged or of another version: remove the folder"):
        run(splits, tmp_path / "theirs")
    assert (tmp_path / "theirs" / "train.pixels").read_text() == "precious"


def test_two_cannot_pack_into_one_folder(tmp_path: Path, data: Path) -> None:
    splits = open_data(str(data))
    first = write_pack(splits, tmp_path / "out", side=SIDE, workers=0)
    next(first)
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=r"another process is packing into '.*out': wait for it or end it"):
        run(splits, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    list(first)
    verify_pack(tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"side": 0}, "must be from 1 to 4,096 pixels, got 0"),
        ({"side": 5000}, "got 5,000"),
        ({"workers": -1}, "must be 0 or more, got -1"),
    ],
)
def test_impossible_requests_are_refused(tmp_path: Path, data: Path, options: dict[str, int], problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        list(write_pack(open_data(str(data)), tmp_path / "out", **options))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


# --- disks -----------------------------------------------------------------------------------------------------------


def test_too_small_a_disk_is_seen_before_anything_is_written(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 50 * (SIDE * SIDE * 3 + 128)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(DataError, match=r"packing 50 pictures needs 0\.0 MB in .* where 0\.0 MB are free"):
        run(open_data(str(data)), tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    run(open_data(str(data)), tmp_path / "a" / "b")
    verify_pack(tmp_path / "a" / "b")


def test_sizes_are_in_units_people_know() -> None:
    assert pack._size(1_281_167 * 256 * 256 * 3) == "251.9 GB"
    assert pack._size(1_500_000) == "1.5 MB"


@pytest.mark.parametrize("after", range(0, 30, 3))
def test_a_disk_that_fills_up_is_explained_and_nothing_is_lost(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    splits = open_data(str(data))
    run(splits, tmp_path / "whole")
    calls, append = iter(range(10_000)), pack._append

    def fill(file: Any, values: bytes) -> None:
        if next(calls) >= after:
            file.write(values[: len(values) // 2])  # what still fits
            raise OSError(errno.ENOSPC, "No space left on device")
        append(file, values)

    with monkeypatch.context() as patch:
        patch.setattr(pack, "_append", fill)
        try:
            run(splits, tmp_path / "out")
        except DataError as error:
            message = str(error)
        else:
            message = "" if next(calls) < after else "no error"
    assert message == "" or ("no room left in" in message and "more are needed; make room and pack again" in message)
    run(splits, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_place_without_permission(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot make the folder '.*out': Permission denied"):
        run(open_data(str(data)), tmp_path / "out")


# --- damage ----------------------------------------------------------------------------------------------------------


def test_a_finished_pack_verifies_and_every_damaged_byte_is_found(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    run(open_data(str(data)), out)
    verify_pack(out)
    rng = np.random.default_rng(0)
    for path in sorted(out.iterdir()):
        good = path.read_bytes()
        for position in {0, len(good) - 2, *rng.integers(0, len(good), 8).tolist()}:
            damaged = bytearray(good)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"pack again|name another folder") as caught:
                verify_pack(out)
            assert path.name in str(caught.value)
        path.write_bytes(good)
    verify_pack(out)


def test_the_damaged_pictures_are_named(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    run(open_data(str(data)), out)
    pixels = bytearray((out / "train.pixels").read_bytes())
    pixels[16 * SIDE * SIDE * 3] ^= 1
    (out / "train.pixels").write_bytes(pixels)
    open_pack(out)  # opening looks at sizes only
    with pytest.raises(DataError, match=r"train\.pixels' is damaged, the checksum of pictures 15 to 22 is wrong"):
        verify_pack(out)


@pytest.mark.parametrize("name", ["train.pixels", "val.pixels", "train.labels", "val.names"])
def test_missing_and_cut_files_are_seen_when_opening(tmp_path: Path, data: Path, name: str) -> None:
    out = tmp_path / "out"
    run(open_data(str(data)), out)
    size = (out / name).stat().st_size
    os.truncate(out / name, size - 1)
    with pytest.raises(DataError, match=rf"{name}' is damaged, it has {size - 1:,} bytes instead of {size:,}: remove"):
        open_data(str(out))
    (out / name).unlink()
    with pytest.raises(DataError, match=rf"{name}' is damaged, it cannot be opened \(No such file"):
        open_pack(out)
    with pytest.raises(DataError, match=f"{name}' is damaged"):
        run(open_data(str(data)), out)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff", "null", '{"kind": "alexnet pack"}'])
def test_a_damaged_index_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "pack.json").write_text(text, encoding="latin1")
    with pytest.raises(DataError, match=r"pack again|name another folder"):
        open_data(str(tmp_path))


def test_an_index_of_another_version_and_a_folder_without_one(tmp_path: Path) -> None:
    (tmp_path / "pack.json").write_text('{"kind": "alexnet pack", "version": 2}')
    with pytest.raises(DataError, match="has format 2, this program reads 1: pack again"):
        open_pack(tmp_path)
    (tmp_path / "pack.json").unlink()
    with pytest.raises(DataError, match=r"is no pack: it has no pack\.json"):
        open_pack(tmp_path)


def test_the_index_may_be_named_itself(tmp_path: Path, data: Path) -> None:
    run(open_data(str(data)), tmp_path / "out")
    assert len(open_data(str(tmp_path / "out" / "pack.json")).train) == 43


def test_nothing_is_left_running() -> None:
    assert multiprocessing.active_children() == []
