"""What was named as data and is something else: what it is, and what is wanted instead."""

from __future__ import annotations

import zipfile
from pathlib import Path

from alexnet.archive import MANIFEST
from alexnet.data.images import SUFFIXES

_WEIGHTS = frozenset(
    {".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".caffemodel", ".npz", ".npy", ".pkl", ".h5", ".mat"}
)
_WANTED = "name a folder of pictures, a CIFAR archive or a pack"
_LOOKED_AT = 4_096  # bytes from the start: enough to tell a text


def wrong_kind(data: str) -> str:
    """A sentence on a file or folder that is known and holds no data; "" for everything else.

    For what could not be opened only: a picture may be a class's only one, and a folder may have any name.
    """
    try:
        path = Path(data).expanduser()
        kind = _folder(path) if path.is_dir() else _file(path) if path.is_file() else ""
    except (OSError, RuntimeError, ValueError):  # as for `alexnet.data.sources.open_data`, which says why
        return ""
    return kind and f"{str(path)!r} is {kind}"


def _folder(path: Path) -> str:
    if (path / "config.json").is_file() and (path / "checkpoints").is_dir():
        return (
            f"the folder of a run, with its weights and no pictures: {_WANTED}; to go on from what it "
            "has learned, begin a branch on the page Runs"
        )
    return ""


def _file(path: Path) -> str:
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        begins = file.read(_LOOKED_AT)
    if begins.startswith(b"PK"):
        return _zip(path, suffix)
    if suffix in SUFFIXES:
        return "a single picture: name the folder that has one folder of pictures for every class"
    if suffix in _WEIGHTS:
        return _of_weights()
    if not begins:
        return f"an empty file: {_WANTED}"
    if b"\0" not in begins and _is_text(begins):
        return f"a text file, and no pictures: {_WANTED}"
    return ""


def _zip(path: Path, suffix: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        names = []
    if MANIFEST in names and "config.json" in names:
        return "a run that was exported: import it on the page Runs; here the pictures are named that it trains on"
    if suffix in _WEIGHTS or any(name.endswith("data.pkl") for name in names):
        return _of_weights()
    return "a .zip archive: unpack it, and name the folder that has one folder of pictures for every class"


def _of_weights() -> str:
    return (
        f"a checkpoint, the weights of a network and no pictures: {_WANTED}; to go on from a run's checkpoint, "
        "begin a branch on the page Runs"
    )


def _is_text(begins: bytes) -> bool:
    try:
        begins.decode("utf-8")
    except UnicodeDecodeError as error:  # a letter that was cut at the end is none that cannot be read
        return error.start >= len(begins) - 3
    return True
