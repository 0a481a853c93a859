from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import uploads

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sent:
    """What Streamlit gives for an uploaded file."""

    name: str
    content: bytes = b"weights"

    def getbuffer(self) -> memoryview:
        return memoryview(self.content)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, with something beside it that no upload may touch."""
    folder = tmp_path / "kept" / "uploads"
    folder.mkdir(parents=True)
    (tmp_path / "precious").write_bytes(b"mine")
    monkeypatch.setattr(uploads, "_root", lambda: folder)
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_one_file_is_kept_under_its_name(root: Path) -> None:
    path = uploads.kept([Sent("net.pth", b"abc")])
    assert path.name == "net.pth"
    assert path.read_bytes() == b"abc"
    assert path.parent.parent == root


def test_several_files_are_kept_as_a_folder() -> None:
    path = uploads.kept([Sent("conv1_weight.npy", b"1"), Sent("conv1_bias.npy", b"2")])
    assert {file.name: file.read_bytes() for file in path.iterdir()} == {
        "conv1_weight.npy": b"1",
        "conv1_bias.npy": b"2",
    }


def test_the_same_content_is_kept_once_and_is_not_written_again(root: Path) -> None:
    first = uploads.kept([Sent("net.pth", b"abc")])
    written = first.stat().st_mtime_ns
    assert uploads.kept([Sent("net.pth", b"abc")]) == first
    assert first.stat().st_mtime_ns == written
    assert len(files(root)) == 1


def test_name_and_content_both_tell_uploads_apart(root: Path) -> None:
    paths = {
        uploads.kept([Sent("a.pth", b"abc")]),
        uploads.kept([Sent("b.pth", b"abc")]),
        uploads.kept([Sent("a.pth", b"abd")]),
    }
    assert len(paths) == len(files(root)) == 3


def test_one_file_is_never_taken_for_two_that_read_alike_one_after_the_other() -> None:
    two = uploads.kept([Sent("a", b"x"), Sent("b", b"y")])
    one = uploads.kept([Sent("a", b"xb\0y")])
    assert sorted(path.name for path in two.iterdir()) == ["a", "b"]
    assert one.read_bytes() == b"xb\0y"


@pytest.mark.parametrize(
    ("name", "kept_as"),
    [
        ("../../precious", "precious"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\precious", "precious"),
        ("C:\\nets\\net.pth", "net.pth"),
        ("nets/", "nets"),
        ("", "upload"),
        ("/", "upload"),
        (".", "upload"),
        ("..", "upload"),
        ("../..", "upload"),
        ("a/..", "upload"),
        ("..\\..", "upload"),
        ("-rf *.npy", "-rf *.npy"),
        ("ätsch 网.pth", "ätsch 网.pth"),
        (".hidden", ".hidden"),
        ("a\0b.pth", "ab.pth"),
    ],
)
def test_a_name_leads_nowhere_else(root: Path, tmp_path: Path, name: str, kept_as: str) -> None:
    path = uploads.kept([Sent(name, b"theirs")])
    assert path.name == kept_as
    assert path.read_bytes() == b"theirs"
    assert path.resolve().parent.parent == root.resolve()
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert files(tmp_path) == sorted([path, tmp_path / "precious"])


def test_a_name_that_no_disk_takes_is_an_error_of_the_disk_and_leaves_nothing(root: Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        uploads.kept([Sent("a.pth"), Sent("n" * 300)])
    assert list(root.iterdir()) == []


def test_two_files_of_one_name_are_refused_as_one_would_be_lost(root: Path) -> None:
    with pytest.raises(ValueError, match=r"two of these files are named bias\.npy"):
        uploads.kept([Sent("conv1/bias.npy", b"1"), Sent("conv2/bias.npy", b"2")])
    assert list(root.iterdir()) == []


def _aged(path: Path, seconds: int) -> None:
    """As if last used so long ago."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_the_longest_unused_goes_first(root: Path) -> None:
    paths = [uploads.kept([Sent("net.pth", bytes([number]))]) for number in range(uploads.MOST_KEPT)]
    for age, path in enumerate(reversed(paths), start=1):
        _aged(path.parent, 60 * age)
    assert all(path.exists() for path in paths)
    assert uploads.kept([Sent("net.pth", bytes([0]))]) == paths[0]  # used again: now the youngest
    uploads.kept([Sent("net.pth", b"one more")])
    assert [path.exists() for path in paths] == [True, False, *[True] * (uploads.MOST_KEPT - 2)]
    assert len(list(root.iterdir())) == uploads.MOST_KEPT


def test_a_full_disk_is_reported_and_leaves_nothing_half_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        if written:
            write(path, data[:1])
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            uploads.kept([Sent("a.npy"), Sent("b.npy")])
    assert written
    assert list(root.iterdir()) == []
    assert sorted(path.name for path in uploads.kept([Sent("a.npy"), Sent("b.npy")]).iterdir()) == ["a.npy", "b.npy"]


def test_what_a_killed_server_left_half_written_is_in_nobodys_way(root: Path) -> None:
    path = uploads.kept([Sent("net.pth")])
    path.unlink()
    path.parent.rename(path.parent.with_suffix(".part"))
    (path.parent.with_suffix(".part") / "rest").write_bytes(b"half")
    assert uploads.kept([Sent("net.pth")]) == path
    assert [file.name for file in path.parent.iterdir()] == ["net.pth"]
    assert list(root.iterdir()) == [path.parent]


def test_all_uploads_go_with_the_server(tmp_path: Path) -> None:
    program = (
        "from app import uploads\n"
        "class Sent:\n"
        "    name = 'net.pth'\n"
        "    def getbuffer(self): return memoryview(b'abc')\n"
        "path = uploads.kept([Sent()]); print(path, path.exists())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    path, _, existed = done.stdout.strip().rpartition(" ")
    assert existed == "True"
    assert Path(path).is_relative_to(tmp_path)
    assert not any(child.name.startswith("alexnet-laboratory-") for child in tmp_path.iterdir())
