"""CIFAR-10 and CIFAR-100 as their authors publish them: binary or pickled, unpacked or as the archive.

Krizhevsky (2009), "Learning multiple layers of features from tiny images": 50,000 pictures to train and 10,000 to
test, 32×32, of 10 or 100 classes.  https://www.cs.toronto.edu/~kriz/cifar.html describes both formats.

The Python version is pickled, and a pickle may name any function to be called.  Nothing named in these files is ever
called: see `alexnet.inert`.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

import numpy as np

from alexnet.data.sources import DataError, Splits
from alexnet.inert import NAMES as _NAMES  # noqa: F401
from alexnet.inert import Inert as _Inert  # noqa: F401
from alexnet.inert import RefusedNameError, array, text, unpickled

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from alexnet.data.images import Pixels
    from alexnet.data.sources import Labels

SIDE = 32
PICTURE_BYTES = 3 * SIDE * SIDE
"""One picture: all of red row by row, then green, then blue."""

MAX_FILE_BYTES = 1 << 28
"""Largest file that is read; the largest real one (CIFAR-100's pickled training set) has 155 MB."""
MAX_ARCHIVE_BYTES = 1 << 30
"""Where reading an archive ends: a gigabyte of zeros compresses to one megabyte."""


@dataclass(frozen=True)
class _Layout:
    """One way in which one of the two sets is published."""

    name: str
    classes: int
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    """Pickled: the key of the labels.  Binary: empty."""
    names: str
    """Pickled: the key of the class names."""
    label_bytes: int = 1
    """Binary: bytes before each picture; the last of them is the label (CIFAR-100: coarse, then fine)."""

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.meta)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_BINARY_BATCHES = tuple(f"{name}.bin" for name in _BATCHES)
_LAYOUTS = (
    _Layout("CIFAR-10", 10, "cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta", "labels", "label_names"),
    _Layout("CIFAR-10", 10, "cifar-10-batches-bin", _BINARY_BATCHES, "test_batch.bin", "batches.meta.txt", "", ""),
    _Layout("CIFAR-100", 100, "cifar-100-python", ("train",), "test", "meta", "fine_labels", "fine_label_names"),
    _Layout("CIFAR-100", 100, "cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt", "", "", 2),
)
_EVERY_FILE = frozenset(name for layout in _LAYOUTS for name in layout.files)
_AMBIGUOUS = {"train", "test"}  # many a data set has lists of files by these names


class CifarSource:
    """One split in memory: `pixels` is (N, 32, 32, 3) uint8 RGB, `labels` (N,) int64.

    What is sent to a worker process is the path; it reads the file again when it is first asked for a picture, since
    150 MB through a pipe would cost more.
    """

    def __init__(
        self, path: Path, split: Literal["train", "val"], classes: tuple[str, ...], pixels: Pixels, labels: Labels
    ) -> None:
        self.path, self.split, self.classes, self.labels = path, split, classes, labels
        self._pixels: Pixels | None = pixels

    def __len__(self) -> int:
        return len(self.labels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    @property
    def pixels(self) -> Pixels:
        """All pictures, (N, 32, 32, 3) uint8 RGB."""
        if self._pixels is None:
            splits = open_cifar(self.path)
            again = splits.train if self.split == "train" else splits.val
            assert isinstance(again, CifarSource)
            if not np.array_equal(again.labels, self.labels):
                raise DataError(f"{str(self.path)!r} has changed since it was opened: start again")
            self._pixels = again._pixels  # noqa: SLF001
            assert self._pixels is not None  # they have just been read
        return self._pixels

    def name(self, index: int) -> str:
        index = range(len(self))[index]
        return f"{self.split}/{self.classes[self.labels[index]]}/{index:05d}"

    def read(self, index: int, at_least: int | None = None) -> Pixels:  # noqa: ARG002  there is nothing smaller
        return np.array(self.pixels[index])


def is_cifar(path: Path) -> bool:
    """Whether to read this with `open_cifar`: a tar archive, or a folder that has two of its files."""
    if not path.is_dir():
        return _compression(path) is not None
    return any(
        {name for name in layout.files if (folder / name).is_file()} - _AMBIGUOUS
        and sum((folder / name).is_file() for name in layout.files) >= 2
        for layout in _LAYOUTS
        for folder in (path, path / layout.folder)
    )


def open_cifar(path: Path) -> Splits:
    """CIFAR-10 or CIFAR-100 (its 100 fine classes) from a folder or a .tar or .tar.gz; the test set is `val`.

    Batches may have any number of pictures.

    Raises:
        DataError: a file is missing, truncated, damaged, or names what no such file has to name.
    """
    try:
        contents = _folder_contents(path) if path.is_dir() else _archive_contents(path)
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:  # gzip.BadGzipFile is an OSError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{str(path)!r} is damaged or cut off ({reason}): download it again") from error
    layout = max(_LAYOUTS, key=lambda layout: sum(name in contents for name in layout.files))
    missing = [name for name in layout.files if name not in contents]
    if len(missing) == len(layout.files):
        raise DataError(f"{str(path)!r} is an archive, but not of CIFAR: unpack it and name the folder")
    if missing:
        raise DataError(f"{str(path)!r} looks like {layout.name} but lacks {', '.join(missing)}: download it again")
    pickled = bool(layout.labels)
    classes = (_pickled_names if pickled else _listed_names)(contents[layout.meta], layout)
    if len(set(classes)) != layout.classes or len(classes) != layout.classes:
        raise DataError(f"{layout.meta} names {len(set(classes))} classes; {layout.name} has {layout.classes}")
    batch = _pickled_batch if pickled else _binary_batch
    parts = [batch(contents.pop(name), name, layout) for name in layout.train]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    train = CifarSource(path, "train", classes, pixels, labels)
    val = CifarSource(path, "val", classes, *batch(contents[layout.test], layout.test, layout))
    counts = f"{len(train):,} pictures to train and {len(val):,} to validate, {len(classes)} classes"
    form = "Python" if pickled else "binary"
    return Splits(train, val, layout.name, f"{layout.name}, {form} version, test set for validation; {counts}.")


# --- files and archives ----------------------------------------------------------------------------------------------


def _folder_contents(path: Path) -> dict[str, bytes]:
    for layout in _LAYOUTS:
        if (path / layout.folder).is_dir() and not any((path / name).is_file() for name in layout.files):
            path /= layout.folder
            break
    contents = {}
    for name in sorted(_EVERY_FILE):
        file = path / name
        if file.is_file():
            _check_size(name, file.stat().st_size)
            contents[name] = file.read_bytes()
    return contents


def _compression(path: Path) -> Literal["gz", "none"] | None:
    with path.open("rb") as file:
        start = file.read(262)
    return "gz" if start[:2] == b"\x1f\x8b" else "none" if start[257:262] == b"ustar" else None


def _archive_contents(path: Path) -> dict[str, bytes]:
    """The files of a tar archive that a layout names.  Nothing is written to disk, nothing else is kept."""
    contents: dict[str, bytes] = {}
    with path.open("rb") as file:
        raw = gzip.GzipFile(fileobj=file) if _compression(path) == "gz" else file
        bounded = cast("BinaryIO", _Bounded(raw, str(path)))
        with tarfile.open(fileobj=bounded, mode="r|") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in _EVERY_FILE or not member.isreg():
                    continue
                _check_size(name, member.size)
                stream = archive.extractfile(member)
                assert stream is not None  # a regular file has one
                if name in contents:
                    raise DataError(f"{str(path)!r} has two files named {name}: download it again")
                contents[name] = stream.read()
        while bounded.read(1 << 16):  # the archive ends before the stream, and gzip's checksum comes last
            pass
    return contents


class _Bounded:
    """A stream that ends with an error rather than after terabytes."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, name: str) -> None:
        self._stream, self._name, self._left = stream, name, MAX_ARCHIVE_BYTES

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self._name!r} unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes, which no CIFAR does")
        return data


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise DataError(f"{name} has {size:,} bytes; no file of CIFAR has more than {MAX_FILE_BYTES:,}")


# --- what is in them -------------------------------------------------------------------------------------------------


def _listed_names(data: bytes, layout: _Layout) -> tuple[str, ...]:
    try:
        return tuple(line.strip() for line in data.decode("utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{layout.meta} is no text: download it again") from error


def _binary_batch(data: bytes, name: str, layout: _Layout) -> tuple[Pixels, Labels]:
    record = layout.label_bytes + PICTURE_BYTES
    if not data or len(data) % record:
        raise DataError(f"{name} has {len(data):,} bytes, no multiple of {record:,}: download it again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, record)
    labels = rows[:, layout.label_bytes - 1].astype(np.int64)
    return _pictures(rows[:, layout.label_bytes :]), _checked(labels, name, layout)


def _pickled_names(data: bytes, layout: _Layout) -> tuple[str, ...]:
    names = _unpickled(data, layout.meta).get(layout.names)
    texts = [text(value) for value in names] if isinstance(names, list) else [None]
    if None in texts:
        raise DataError(f"{layout.meta} has no list of texts under {layout.names!r}: download it again")
    return tuple(cast("list[str]", texts))


def _pickled_batch(data: bytes, name: str, layout: _Layout) -> tuple[Pixels, Labels]:
    batch = _unpickled(data, name)
    rows, listed = array(batch.get("data")), batch.get(layout.labels)
    if rows is None or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != PICTURE_BYTES or not len(rows):
        shape = "nothing that can be read" if rows is None else f"{rows.dtype} of shape {rows.shape}"
        raise DataError(f"{name} has {shape} for its data; expected is uint8 of shape (N, {PICTURE_BYTES})")
    if isinstance(listed, list) and all(type(label) is int and 0 <= label < 1 << 32 for label in listed):
        labels = np.array(listed, np.int64)
    else:
        given = array(listed)
        if given is None or given.ndim != 1:
            raise DataError(f"{name} has no list of numbers under {layout.labels!r}: download it again")
        labels = given.astype(np.int64)
    if len(labels) != len(rows):
        raise DataError(f"{name} has {len(rows):,} pictures but {len(labels):,} labels: download it again")
    return _pictures(rows), _checked(labels, name, layout)


def _pictures(rows: NDArray[np.uint8]) -> Pixels:
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _checked(labels: Labels, name: str, layout: _Layout) -> Labels:
    wrong = labels[(labels < 0) | (labels >= layout.classes)]
    if len(wrong):
        raise DataError(f"{name} has label {wrong[0]}; {layout.name} has 0 to {layout.classes - 1}: download it again")
    return labels


# --- pickles ----------------------------------------------------------------------------------------------------------


def _unpickled(data: bytes, name: str) -> dict[str, Any]:
    """A pickled dictionary by its texts; strings written by Python 2 stay bytes.

    Raises:
        DataError: it names anything but `inert.NAMES`, is cut off, or is no dictionary.
    """
    try:
        value = unpickled(io.BytesIO(data), len(data))
    except RefusedNameError as error:
        raise DataError(f"{name} is no CIFAR batch: {error}, which no CIFAR file needs: do not trust it") from error
    except Exception as error:  # an unpickler answers bad bytes with any exception there is
        raise DataError(f"{name} is damaged or cut off: download it again") from error
    if not isinstance(value, dict):
        raise DataError(f"{name} holds {type(value).__name__} where a dictionary belongs: download it again")
    return {known: entry for key, entry in value.items() if (known := text(key)) is not None}
