"""Archives of runs, from anybody: checked before anything of them is written.  Standard library only.

Nothing in such a file is believed: only the files that a run has are taken, each as large as its manifest says and with
the checksum there, and none is opened but the few in JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from alexnet.about import CARRIED, shortened
from alexnet.config import TrainConfig
from alexnet.errors import UserError
from alexnet.runs import FORMAT as RUN_FORMAT
from alexnet.runs import RunError, State, explained

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import BinaryIO

FORMAT = 1
MANIFEST = "manifest.json"
KIND = "a run of alexnet"

PIECE = 1 << 20
_JSON_BYTES = 16 << 20
MAX_FILES = 20_000
"""Twice the probes that a config may ask for."""
_CONTENTS_BYTES = 4 << 20
"""Largest table of contents, which is read at once: `MAX_FILES` files need half of it."""
_RATIO, _RATIO_BYTES = 300, 16 << 20
"""Larger files than the second are not packed more densely than the first: curves pack 5 : 1, TensorBoard's 13 : 1."""
ALIVE = frozenset({"waiting", "starting", "running"})
_NUMBERS = frozenset({"step", "steps", "epoch", "epochs", "heartbeat", "started", "loss", "images_per_second"})
_OBJECTS = frozenset({"best", "val", "machine"})
_TEXTS = frozenset({"message", "host"})

_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, ArithmeticError)
"""What zipfile raises on files that are no archives, or not any more."""


class ArchiveError(UserError):
    """A file is not a run that can be taken in; the message names it, the rule and the remedy."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that the manifest names."""

    name: str
    size: int
    sha256: str
    link: str | None


@dataclass(slots=True)
class _Bounded:
    """An archive's bytes, for zipfile, which would read a table of contents of any size at once."""

    file: BinaryIO

    def read(self, size: int = -1) -> bytes:
        found = self.file.read(size if 0 <= size <= _CONTENTS_BYTES else _CONTENTS_BYTES + 1)
        if len(found) > _CONTENTS_BYTES:
            raise zipfile.BadZipFile(f"its table of contents has more than {_CONTENTS_BYTES:,} bytes")
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        """The file is its owner's."""


class Archive:
    """An archive whose table of contents, manifest, config and status have been checked."""

    def __init__(self, file: Path | BinaryIO, stack: contextlib.ExitStack) -> None:
        """Raises ArchiveError."""
        self.name = called(file)
        source = stack.enter_context(_source(file)) if isinstance(file, Path) else file
        with self._reading():
            self._size = source.seek(0, os.SEEK_END)
            source.seek(0)
            begins = source.read(4)
        if begins != b"PK\3\4":
            raise self._refused("is no zip archive: name the file that export wrote")
        with self._reading("is cut off or damaged"):
            self._zip = stack.enter_context(zipfile.ZipFile(_Bounded(source)))
        self._members = self._checked_members()
        manifest = self._json(MANIFEST)
        self.wanted_name, entries = self._checked_manifest(manifest)
        self.stored = [entry for entry in entries if entry.link is None]
        self.links = [entry for entry in entries if entry.link is not None]
        self._check_against(entries)
        self._check_config(self._json("config.json"))
        self.status = self._checked_status() if "status.json" in self._members else None

    def copied(self, entry: Entry, path: Path) -> Generator[int]:
        """Writes a file of the archive; the sizes of its pieces as they are written.

        Raises:
            ArchiveError: it is not what the manifest says.
            RunError: it cannot be written.
        """
        digest, size = hashlib.sha256(), 0
        try:
            with path.open("xb") as file, contextlib.closing(self._pieces(entry.name)) as pieces:
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    file.write(piece)
                    yield len(piece)
                file.flush()
                if not entry.name.startswith("probes/"):  # there may be thousands, and no run needs one to go on
                    os.fsync(file.fileno())
        except OSError as error:
            raise RunError(f"cannot write {entry.name} to disk: {explained(error)}") from None
        if size != entry.size or digest.hexdigest() != entry.sha256:
            raise self._refused(
                f"is damaged: {entry.name} is not what it was when it was exported; copy the file again"
            )

    def _refused(self, why: str) -> ArchiveError:
        return ArchiveError(f"{self.name} {why}")

    @contextlib.contextmanager
    def _reading(self, what: str = "is damaged") -> Iterator[None]:
        try:
            yield
        except ArchiveError:
            raise
        except _BROKEN as error:
            raise self._refused(f"{what}: {_one_line(error)}; copy the file again, or export the run again") from None
        except OSError as error:
            raise self._refused(f"cannot be read: {explained(error)}; copy the file again") from None

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        """The table of contents, without anything that no export writes."""
        found: dict[str, zipfile.ZipInfo] = {}
        again = "only a file that export wrote can be imported"
        infos = self._zip.infolist()
        if len(infos) > MAX_FILES:
            raise self._refused(f"holds {len(infos):,} files and a run has at most {MAX_FILES:,}: {again}")
        for info in infos:
            name = info.orig_filename
            kind = stat.S_IFMT(info.external_attr >> 16)
            if name != MANIFEST and not CARRIED.fullmatch(name):
                raise self._refused(f"holds {shortened(name)}, which is not of a run: {again}")
            if kind not in {0, stat.S_IFREG} or info.is_dir():
                raise self._refused(f"holds {name} as a link or a device and not as a file: {again}")
            if name in found:
                raise self._refused(f"holds {name} twice: {again}")
            if info.flag_bits & 0x2041:  # encrypted, strongly encrypted, names masked
                raise self._refused(f"is encrypted ({name}): unpack it with its password and pack it without one")
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise self._refused(f"packs {name} in a way that export does not use: {again}")
            if info.file_size > _RATIO_BYTES and info.file_size > _RATIO * info.compress_size:
                raise self._refused(
                    f"would unpack {name} from {info.compress_size:,} to {info.file_size:,} bytes, more than "
                    f"{_RATIO} times its size: {again}"
                )
            found[name] = info
        if sum(info.compress_size for info in infos) > self._size:
            raise self._refused(f"claims to hold more than its own size: {again}")
        for name in (MANIFEST, "config.json"):
            if name not in found:
                raise self._refused(f"holds no {name}, so no run that was exported: {again}")
        return found

    def _checked_manifest(self, manifest: dict[str, Any]) -> tuple[str, list[Entry]]:
        """The run's name, and what the manifest says of each file."""
        version, files, name = (manifest.get(key) for key in ("format", "files", "name"))
        if manifest.get("kind") != KIND or not isinstance(version, int) or not isinstance(files, list):
            raise self._refused(f"has a {MANIFEST} that export did not write: export the run again")
        if version > FORMAT:
            raise self._refused(f"is of format {version} and this program knows {FORMAT}: use a newer version of it")
        if not isinstance(name, str) or name_problem(name):
            name = "imported"
        entries = []
        for values in files:
            entry = _entry(values)
            if entry is None or not CARRIED.fullmatch(entry.name):
                raise self._refused(f"has a {MANIFEST} that says nothing sensible of its files: export the run again")
            entries.append(entry)
        return name, entries

    def _check_against(self, entries: list[Entry]) -> None:
        """The manifest against the table of contents."""
        named = {entry.name: entry for entry in entries}
        stored = {entry.name for entry in self.stored}
        if len(named) != len(entries):
            raise self._refused(f"has a {MANIFEST} that names a file twice: export the run again")
        if missing := sorted(stored ^ (self._members.keys() - {MANIFEST})):
            where = "is in it and not in its manifest" if missing[0] not in stored else "is missing"
            raise self._refused(f"is not whole: {missing[0]} {where}; copy the file again, or export the run again")
        for entry in self.stored:
            if entry.size != self._members[entry.name].file_size:
                raise self._refused(
                    f"is damaged: {entry.name} has {self._members[entry.name].file_size:,} bytes and its manifest says "
                    f"{entry.size:,}; export the run again"
                )
        for entry in self.links:
            other = named.get(str(entry.link))
            checkpoints = entry.name.startswith("checkpoints/") and str(entry.link).startswith("checkpoints/")
            if other is None or other.link is not None or not checkpoints or other.sha256 != entry.sha256:
                raise self._refused(
                    f"is damaged: {entry.name} is said to be the same as {shortened(str(entry.link))}, "
                    "which it cannot be; export the run again"
                )

    def _check_config(self, values: dict[str, Any]) -> None:
        """What everybody relies on in config.json."""
        version = values.get("format", RUN_FORMAT)
        if not isinstance(version, int) or version > RUN_FORMAT:
            raise self._refused(
                f"holds a run of format {shortened(str(version))} and this program knows {RUN_FORMAT}: "
                "use a newer version of it"
            )
        try:
            TrainConfig.from_json(values.get("config", {}))
        except (ValueError, TypeError, ArithmeticError) as error:
            raise self._refused(
                f"holds no training that this version knows, since its config.json says: {_one_line(error)}; "
                "use the version that it was exported with"
            ) from None
        data = values.get("data", {})
        for name in ("machine", "data", "versions", "branch"):
            if not isinstance(values.get(name, {}), dict):
                raise self._refused(f"holds a damaged config.json: {name} is no object; export the run again")
        classes = data.get("classes", [])
        counts = [data[split] for split in ("train", "val") if split in data]
        if (
            not isinstance(classes, list)
            or not all(isinstance(name, str) for name in classes)
            or not all(isinstance(count, int) and count >= 0 for count in counts)
        ):
            raise self._refused(
                "holds a damaged config.json: data has no list of classes or no counts; export it again"
            )

    def _checked_status(self) -> dict[str, Any]:
        values = self._json("status.json")
        if values.get("state", "stopped") not in get_args(State):
            raise self._refused("holds a damaged status.json: there is no such state; export the run again")
        return settled(values, "it was running elsewhere when it was exported")

    def _json(self, name: str) -> dict[str, Any]:
        """A small file of the archive, which must be a JSON object of ordinary values."""
        if self._members[name].file_size > _JSON_BYTES:
            raise self._refused(f"holds a {name} of more than {_JSON_BYTES:,} bytes: export the run again")
        content = b"".join(self._pieces(name))
        try:
            values = json.loads(content, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise self._refused(
                f"holds a damaged {name}: {_one_line(error)}; copy the file again, or export the run again"
            ) from None
        if not isinstance(values, dict):
            raise self._refused(f"holds a damaged {name}: it is no object; export the run again")
        return values

    def _pieces(self, name: str) -> Generator[bytes]:
        with self._reading(f"is damaged at {name}"):
            member = self._zip.open(self._members[name])
        with member:
            while True:
                with self._reading(f"is damaged at {name}"):
                    piece = member.read(PIECE)
                if not piece:
                    return
                yield piece


def _entry(values: object) -> Entry | None:
    if not isinstance(values, dict):
        return None
    name, size, sha256, other = (values.get(key) for key in ("name", "size", "sha256", "link"))
    if not isinstance(name, str) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    if not isinstance(sha256, str) or not isinstance(other, str | None):
        return None
    return Entry(name, size, sha256, other)


def _source(file: Path) -> BinaryIO:
    if file.is_dir():
        raise ArchiveError(f"{file} is a folder: name the .zip file that export wrote")
    try:
        return file.open("rb")
    except OSError as error:
        raise ArchiveError(f"{file} cannot be read: {explained(error)}; name the .zip file that export wrote") from None


# --- small things, of writing too -------------------------------------------------------------------------------------


def settled(status: dict[str, Any], message: str) -> dict[str, Any]:
    """A status that speaks of no process, `message` where it did; without values that no reader could use."""
    kept = {name: value for name, value in status.items() if name not in {"pid", "asked"} and _can_be_read(name, value)}
    if kept.get("state") in ALIVE:
        kept |= {"state": "stopped", "message": message}
    return kept


def _can_be_read(name: str, value: object) -> bool:
    if name in _NUMBERS:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name in _OBJECTS:
        inside = str if name == "machine" else (int, float)
        return isinstance(value, dict) and all(isinstance(one, inside) for one in value.values())
    if name == "warnings":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return isinstance(value, str) or name not in _TEXTS


def status_bytes(status: dict[str, Any]) -> bytes:
    return (json.dumps(status, ensure_ascii=False) + "\n").encode()


def name_problem(name: str) -> str | None:
    """Why a folder cannot be called so; None where it can."""
    if not name or name != name.strip() or not name.isprintable():
        return "a name has visible characters, and no space at either end"
    if name.startswith(".") or "/" in name or "\\" in name:
        return "a name has no slash and no dot in front"
    if len(name.encode(errors="replace")) > 200:
        return f"a name has at most 200 bytes, this one {len(name.encode(errors='replace'))}"
    return None


def called(file: Path | BinaryIO) -> str:
    """A file in a message; an upload has a name that anybody chose."""
    if isinstance(file, Path):
        return str(file)
    name = getattr(file, "name", None)
    return shortened(name) if isinstance(name, str) and name else "the file"


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no number in JSON")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(character for character in text if character.isprintable())[:300]
