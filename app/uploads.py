"""Uploaded files, kept by content on the server's disk until it ends, so that they can be opened by path."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_KEPT = 8
"""Uploads that stay on the disk; the one longest unused goes first.  A checkpoint of VGG-E takes 0.6 GB."""

_lock = threading.Lock()


class Uploaded(Protocol):
    """What Streamlit gives for an uploaded file."""

    @property
    def name(self) -> str: ...

    def getbuffer(self) -> memoryview: ...


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="alexnet-laboratory-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def kept(files: Sequence[Uploaded]) -> Path:
    """Where these files lie: the file itself, or a folder of all of them where there are several.

    Raises:
        UserError: two have one name, so that one would be lost.
        OSError: the disk is full.
    """
    names = [_name(file) for file in files]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two of these files are named {twice}: a folder of .npy files has one of each name")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{_name(file)}\0{len(file.getbuffer())}\0".encode())
        digest.update(file.getbuffer())
    folder = _root() / digest.hexdigest()[:24]
    with _lock:
        if folder.exists():
            folder.touch()
        else:
            _make_room()
            aside = folder.with_suffix(".part")
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            try:
                for file in files:
                    (aside / _name(file)).write_bytes(file.getbuffer())
                aside.rename(folder)
            except OSError:
                shutil.rmtree(aside, ignore_errors=True)
                raise
    return folder if len(files) > 1 else folder / _name(files[0])


def _name(file: Uploaded) -> str:
    """The file's own name without any folders, since a browser may send what it likes."""
    name = Path(file.name.replace("\\", "/").replace("\0", "")).name
    return name if name not in {"", ".."} else "upload"


def _make_room() -> None:
    old = sorted(_root().iterdir(), key=lambda path: path.stat().st_mtime)
    for path in old[: max(0, len(old) - MOST_KEPT + 1)]:
        shutil.rmtree(path, ignore_errors=True)
