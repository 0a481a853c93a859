"""Where labelled pictures come from: `open_data` looks at what the user named and gives its two splits.

A `Source` is one split, read by position.  It holds no open file and little memory, so that it can be sent to worker
processes.  numpy and pillow only.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from alexnet.data.images import SUFFIXES, decode
from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from alexnet.data.images import Pixels

    Labels = NDArray[np.int64]

BUILT_IN = "built-in"
"""What names the generated pictures (`alexnet.data.generated`); a folder of that name is ``./built-in``."""

TRAIN = "train"
VAL_FOLDERS = ("val", "valid", "validation", "test")
"""Names of the folder that the network is judged on, best first; letters may be large or small."""

CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "@eadir"})
"""What systems leave behind, in lower case; like everything with a leading dot it is neither class nor picture."""


class DataError(UserError):
    """The data that the user named cannot be used; one line says what is wrong and what to do."""


def is_there(data: str) -> bool:
    """Whether what the user named still holds something: where a disk was taken out, an empty folder may be left."""
    path = Path(data)
    try:
        return data == BUILT_IN or (any(path.iterdir()) if path.is_dir() else path.exists())
    except OSError:
        return False


def lasting(data: str) -> str:
    """What the user named as a path from the root, where there is something: a run may go on from another folder.

    The rest stays as it is, for `open_data` to say what is wrong with it.
    """
    if data in {"", BUILT_IN}:
        return data
    try:
        path = Path(data).expanduser()
        return str(path.resolve()) if path.exists() else data
    except (OSError, RuntimeError, ValueError):  # no such user's home, a name too long or with a zero byte
        return data


class Source(Protocol):
    """Labelled pictures of one split, by position.

    Picklable, and cheap to send to worker processes, whether they are forked or spawned.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in it."""

    @property
    def labels(self) -> Labels:
        """The class of every picture, (N,) int64."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a report calls this picture, e.g. ``train/n01440764/x.JPEG``."""

    def read(self, index: int, at_least: int | None = None) -> Pixels:
        """The picture, (height, width, 3) uint8 RGB; see `images.decode` for `at_least`.

        Raises:
            UnreadableImageError: there is no such picture any more, or it cannot be decoded.
        """


def class_counts(source: Source) -> list[int]:
    """How many pictures each class has, in the order of the classes."""
    return [int(count) for count in np.bincount(source.labels, minlength=len(source.classes))]


@dataclass(frozen=True)
class Splits:
    """What `open_data` found: the pictures to learn from and those to be judged on, with the same classes.

    `description` says in one sentence what was found and how it was split; `warnings` name what the user should know.
    None of the texts holds a path of this machine, so that they may be saved with a run or a pack.
    """

    train: Source
    val: Source
    name: str
    description: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Picture files below one folder.

    ImageNet has 1.28 million of them.  As `Path` objects they would take half a gigabyte in every worker process and,
    because Python writes a reference count into each object it looks at, forked workers could not share them.  So the
    paths, relative to their class's folder, lie end to end in one bytes object: picture i is
    ``paths[ends[i - 1]:ends[i]]`` in ``folders[labels[i]]``.
    """

    root: Path
    classes: tuple[str, ...]
    folders: tuple[str, ...]
    labels: Labels
    paths: bytes
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        # A file name may be no valid UTF-8, and a report must be able to hold it.
        return os.fsencode(self._path(index)).decode("utf-8", "backslashreplace")

    def read(self, index: int, at_least: int | None = None) -> Pixels:
        return decode(self.root / self._path(index), name=self.name(index), at_least=at_least)

    def _path(self, index: int) -> str:
        index = range(len(self))[index]
        start = int(self.ends[index - 1]) if index else 0
        return f"{self.folders[self.labels[index]]}/{os.fsdecode(self.paths[start : self.ends[index]])}"


@dataclass(frozen=True, eq=False)
class JoinedSource:
    """The pictures of one source and then those of another with the same classes."""

    first: Source
    second: Source

    @property
    def classes(self) -> tuple[str, ...]:
        return self.first.classes

    @property
    def labels(self) -> Labels:
        return np.concatenate((self.first.labels, self.second.labels))

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def name(self, index: int) -> str:
        source, index = self._place(index)
        return source.name(index)

    def read(self, index: int, at_least: int | None = None) -> Pixels:
        source, index = self._place(index)
        return source.read(index, at_least)

    def _place(self, index: int) -> tuple[Source, int]:
        index = range(len(self))[index]
        return (self.first, index) if index < len(self.first) else (self.second, index - len(self.first))


def open_data(text: str, *, val_fraction: float = 0.1, seed: int = 0) -> Splits:
    """The two splits of what the user named.

    Known are ``built-in``; a folder with train/ and val/ (or another of `VAL_FOLDERS`), in them one folder per class
    with pictures at any depth; a folder with one folder per class; CIFAR-10 and CIFAR-100 as folder or archive
    (`alexnet.data.cifar`); and a pack (`alexnet.data.pack`).

    Where there is no split, `val_fraction` of each class is set apart for validation: at least one picture, and never
    the last.  `seed` and the pictures' names decide which, so neither the order in which the file system lists them,
    nor the other classes, nor the release of any library changes the choice, and added pictures change it little.

    Raises:
        DataError: nothing is there, or nothing that this function knows, or it has no two classes with pictures.
    """
    if not 0 < val_fraction < 1:
        raise DataError(f"the validation fraction must lie between 0 and 1, got {val_fraction:g}")
    if text == BUILT_IN:
        return _built_in(seed)
    if not text.strip():
        raise DataError(f"no data named: give a folder of pictures, a CIFAR archive, a pack, or {BUILT_IN!r}")
    try:
        path = Path(text).expanduser()
        is_folder = path.is_dir()
        path.stat()
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no such user's home; ValueError: a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot open {text!r}: {reason}; name a folder, an archive, or {BUILT_IN!r}") from error
    return _open_folder(path, val_fraction, seed) if is_folder else _open_file(path)


def open_pictures(text: str) -> Source:
    """All pictures of what the user named, to look at and not to learn from: classes and splits do not matter.

    Known is what `open_data` knows, and any folder with pictures anywhere below it.

    Raises:
        DataError: there is nothing of the kind; the message says what was expected.
    """
    from alexnet.data import cifar, pack  # noqa: PLC0415  they build on this module

    path = Path(text).expanduser()
    if text == BUILT_IN or not path.is_dir() or pack.is_pack(path) or cifar.is_cifar(path):
        splits = open_data(text)
        return JoinedSource(splits.train, splits.val)
    path = path.resolve()
    files = _walk(path, path.name, Counter(), [])
    if not files:
        raise DataError(f"{str(path)!r} holds no picture; expected are files such as .jpg or .png, at any depth")
    return FolderSource(
        path.parent,
        (_name(path),),
        (path.name,),
        np.zeros(len(files), np.int64),
        b"".join(files),
        np.cumsum([len(file) for file in files], dtype=np.int64),
    )


def _built_in(seed: int) -> Splits:
    from alexnet.data.generated import GeneratedSource  # noqa: PLC0415  draws with what folders need not load

    train, val = GeneratedSource("train", seed=seed), GeneratedSource("val", seed=seed)
    counts = f"{len(train):,} pictures to train and {len(val):,} to validate, {len(train.classes)} classes"
    return Splits(train, val, BUILT_IN, f"Built-in: drawn by rule from seed {seed}, {counts}.")


def _open_file(path: Path) -> Splits:
    from alexnet.data import cifar, pack  # noqa: PLC0415  they build on this module

    if path.name == pack.INDEX:
        return pack.open_pack(path.parent)
    if cifar.is_cifar(path):
        return cifar.open_cifar(path)
    raise DataError(
        f"{str(path)!r} is a file, and no CIFAR archive (.tar or .tar.gz): "
        "unpack it, and name the folder that has one folder of pictures per class"
    )


def _open_folder(path: Path, fraction: float, seed: int) -> Splits:
    from alexnet.data import cifar, pack  # noqa: PLC0415  they build on this module

    if pack.is_pack(path):
        return pack.open_pack(path)
    top = _Listing.of(path)
    if cifar.is_cifar(path):
        return cifar.open_cifar(path)
    roles = {name.lower(): name for name in top.folders}  # of Train/ and train/ the second, which sorts last
    if TRAIN in roles and _Listing.of(path / roles[TRAIN]).folders:  # else "train" is a class, as in COCO
        return _open_splits(path, top, roles, fraction, seed)
    if top.folders and {name.lower() for name in top.folders} <= set(VAL_FOLDERS):
        raise DataError(f"{str(path)!r} has {top.folders[0]}/ but no train/: name the folder above both")
    if len(top.folders) == 1 and TRAIN in map(str.lower, _Listing.of(path / top.folders[0]).folders):
        raise DataError(f"{str(path)!r} has no train/, but {top.folders[0]}/ in it has: name {path / top.folders[0]}")
    found = _Found.below(path, "", top)
    train, val, lonely = _divided(path, found, fraction, seed)
    return Splits(
        train,
        val,
        _name(path),
        f"{_name(path)}: one folder per class, {_share(fraction, seed)}; {_counts(train, val)}.",
        (*found.warnings, *lonely),
    )


def _open_splits(path: Path, top: _Listing, roles: dict[str, str], fraction: float, seed: int) -> Splits:
    """A folder with train/, and with or without one to judge on."""
    train_folder = roles[TRAIN]
    trained = _Found.below(path, train_folder)
    val_folder = next((roles[role] for role in VAL_FOLDERS if role in roles), None)
    if val_folder is not None and val_folder.lower() == "test" and not _Listing.of(path / val_folder).folders:
        val_folder = None  # a competition's test set: its labels are not given
    unused = [f"{name}/" for name in top.folders if name not in {train_folder, val_folder}]
    warnings = [f"not used: {_some(unused)}"] if unused else []
    if val_folder is None:
        train, val, lonely = _divided(path, trained, fraction, seed)
        how = f"{train_folder}/ alone, {_share(fraction, seed)}"
        warnings += [*trained.warnings, *lonely]
    else:
        judged = _Found.below(path, val_folder, strict=False)
        unknown = sorted(set(judged.pictures) - set(trained.pictures))
        if unknown:
            raise DataError(
                f"{val_folder}/ has classes that {train_folder}/ has not: {_some(unknown)}; "
                "both need the same folders, by the same names"
            )
        missing = [name for name in trained.pictures if not judged.pictures.get(name)]
        warnings += [*trained.warnings, *judged.warnings]
        if missing:
            warnings.append(f"{val_folder}/ has no picture of {_some(missing)}: accuracy says nothing about them")
        train, val = trained.source(path), judged.source(path, tuple(trained.pictures))
        how = f"{train_folder}/ and {val_folder}/"
    return Splits(train, val, _name(path), f"{_name(path)}: {how}; {_counts(train, val)}.", tuple(warnings))


# --- looking into folders --------------------------------------------------------------------------------------------


class _Listing(NamedTuple):
    """What lies directly in a folder, in order of name, without the hidden and the clutter."""

    folders: list[str]
    pictures: list[str]
    others: list[str]
    broken: list[str]  # links that lead nowhere

    @classmethod
    def of(cls, path: Path) -> _Listing:
        listing = cls([], [], [], [])
        try:
            # scandir knows most entries' kind from the listing itself; 1.28 million calls of stat take minutes.
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                        continue
                    listing._place(entry).append(entry.name)
        except OSError as error:
            raise DataError(f"cannot look into {str(path)!r}: {error.strerror}; give this user the right to") from error
        for names in listing:
            names.sort(key=os.fsencode)
        return listing

    def _place(self, entry: os.DirEntry[str]) -> list[str]:
        try:
            if entry.is_dir():
                return self.folders
            is_file = entry.is_file()
        except OSError:  # a link to itself
            return self.broken
        if not is_file:
            return self.broken if entry.is_symlink() else self.others
        return self.pictures if os.path.splitext(entry.name)[1].lower() in SUFFIXES else self.others  # noqa: PTH122


@dataclass(frozen=True)
class _Found:
    """Pictures by class, as paths relative to `folder`/class/ with forward slashes, in order."""

    folder: str
    pictures: dict[str, list[bytes]]
    warnings: tuple[str, ...]

    @classmethod
    def below(cls, root: Path, folder: str, listing: _Listing | None = None, *, strict: bool = True) -> _Found:
        """Every class in a folder of `root`; `strict` refuses one class alone and classes without a picture."""
        where = root / folder
        top = listing or _Listing.of(where)
        shown = str(where)
        others: Counter[str] = Counter(_suffix(name) for name in top.others)
        broken = list(top.broken)
        pictures = {name: _walk(where / name, name, others, broken) for name in top.folders}
        if not top.folders and top.pictures:
            raise DataError(
                f"{shown!r} holds {len(top.pictures):,} pictures but no class folders: "
                "put the pictures of each class into a folder named after it"
            )
        if not any(pictures.values()):
            seen = ", ".join(f"{count:,} {suffix}" for suffix, count in others.most_common(3))
            links = f"{len(broken):,} links that lead nowhere" if broken else ""
            raise DataError(
                f"{shown!r} holds no picture (found: {', '.join(filter(None, [seen, links])) or 'nothing'}); "
                "expected are folders named after classes, with files such as .jpg or .png"
            )
        empty = [f"{name}/" for name, files in pictures.items() if not files]
        if strict and empty:
            raise DataError(f"no pictures in {_some(empty)} of {shown!r}: fill or remove what is no class")
        if strict and len(pictures) == 1:
            raise DataError(
                f"{shown!r} has only one class, {top.folders[0]!r}; a classifier needs two: "
                "one folder for each, side by side"
            )
        warnings = []
        beside = f" in {folder}/" if folder else ""
        if top.pictures:
            warnings.append(f"left out{beside}, since they lie in no class's folder: {_some(top.pictures)}")
        if broken:
            warnings.append(f"left out{beside}, since these links lead nowhere: {_some(broken)}")
        return cls(folder, pictures, tuple(warnings))

    def source(self, root: Path, classes: tuple[str, ...] | None = None) -> FolderSource:
        """These pictures; `classes` gives the order of the labels where the other split decides it."""
        classes = classes or tuple(self.pictures)
        groups = [self.pictures.get(name, []) for name in classes]
        files = [file for group in groups for file in group]
        return FolderSource(
            root,
            tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in classes),
            tuple(f"{self.folder}/{name}" if self.folder else name for name in classes),
            np.repeat(np.arange(len(classes), dtype=np.int64), [len(group) for group in groups]),
            b"".join(files),
            np.cumsum([len(file) for file in files], dtype=np.int64),
        )


def _walk(top: Path, name: str, others: Counter[str], broken: list[str]) -> list[bytes]:
    """Pictures anywhere below a class's folder, sorted; counts what else is there.

    Links are followed, as many data sets are made of them, but no folder is entered twice: a link to a folder above
    would otherwise never end.
    """
    found: list[bytes] = []
    entered: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        folder = top / inside
        try:
            status = folder.stat()
        except OSError as error:
            raise DataError(f"cannot look into {str(folder)!r}: {error.strerror}") from error
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        listing = _Listing.of(folder)
        found += [os.fsencode(inside + file) for file in listing.pictures]
        others.update(map(_suffix, listing.others))
        broken += [f"{name}/{inside}{link}" for link in listing.broken]
        waiting += [f"{inside}{deeper}/" for deeper in reversed(listing.folders)]
    return sorted(found)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower() or "without suffix"  # noqa: PTH122  there are millions of names


# --- splitting -------------------------------------------------------------------------------------------------------


def _divided(root: Path, found: _Found, fraction: float, seed: int) -> tuple[FolderSource, FolderSource, list[str]]:
    """The two parts of each class, and a warning about classes with one picture, which validation goes without."""
    train, val = {}, {}
    for name, files in found.pictures.items():
        chosen = _chosen(files, fraction, f"{seed}/{name}")
        train[name] = [file for i, file in enumerate(files) if i not in chosen]
        val[name] = [file for i, file in enumerate(files) if i in chosen]
    lonely = [name for name, files in val.items() if not files]
    if len(lonely) == len(val):
        raise DataError(f"every class in {str(root)!r} has one picture only: two are needed, to train and to validate")
    warnings = [f"one picture only, used for training: {_some(lonely)}"] if lonely else []
    return (
        _Found(found.folder, train, ()).source(root),
        _Found(found.folder, val, ()).source(root),
        warnings,
    )


def _chosen(files: Sequence[bytes], fraction: float, salt: str) -> set[int]:
    """Positions of the pictures for validation: those whose names have the smallest digests.

    A digest, and no random generator, since generators may change between releases of their library.
    """
    count = min(max(round(len(files) * fraction), 1), len(files) - 1)
    prefix = salt.encode("utf-8", "surrogateescape") + b"\0"
    digests = [blake2b(prefix + file, digest_size=8).digest() for file in files]
    return set(sorted(range(len(files)), key=lambda i: (digests[i], i))[:count])


# --- words -----------------------------------------------------------------------------------------------------------


def _name(path: Path) -> str:
    return os.fsencode(path.resolve().name or "data").decode("utf-8", "backslashreplace")


def _share(fraction: float, seed: int) -> str:
    return f"{100 * fraction:g} % of each class set apart for validation by seed {seed}"


def _counts(train: Source, val: Source) -> str:
    return f"{len(train):,} pictures to train and {len(val):,} to validate, {len(train.classes):,} classes"


def _some(names: Iterable[str]) -> str:
    """Some of many names: ``a, b, c and 5 more``."""
    listed = [os.fsencode(name).decode("utf-8", "backslashreplace") for name in names]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3:,} more" if len(listed) > 3 else "")
