"""Files and folders that hold weights, read without executing anything: tensors by name and plain values beside them.

What the names and shapes mean is for `alexnet.foreign`.  Formats are told by content, not by the name of the file:
torch (zip and the one before), safetensors, numpy (.npz, .npy, folders of .npy), Caffe and ONNX.  Everything else
gets a sentence that says what it is and what to do.
"""

from __future__ import annotations

import re
import stat
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from alexnet.checkpoints import CheckpointError, trouble_with
from alexnet.safetensor_files import MAX_TENSORS, begins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

MAX_BYTES = 8 << 30
"""Largest file that is opened; VGG-19 with the state of its optimiser has 1.7 GB."""

Kind = Literal["ours", "torch", "safetensors", "numpy", "caffe", "onnx"]


@dataclass(frozen=True, slots=True)
class Tensors:
    """What a file holds.  Names are printable; tensors are float32 on the CPU.

    `words` say what kind of file it is, `removed` which wrappers its weights were found in, `layers` the order of its
    layers where it states one: kind and, for LRN, its parameters (size, alpha, beta, k).  `faults` are sentences about
    tensors that cannot be weights; `dtypes` the number formats in the file.  `mean` is a mean image found with the
    weights, by its name.  `own` is the content of a checkpoint of this project.
    """

    kind: Kind
    words: str
    size: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    layers: tuple[tuple[str, tuple[float, ...]], ...] = ()
    faults: tuple[str, ...] = ()
    mean: tuple[str, Tensor] | None = None
    ordered: bool = True
    notes: tuple[str, ...] = ()
    own: Any = None


def shown(text: object) -> str:
    """A name or text from a file as it can be printed anywhere: on one line, without control characters, and short."""
    raw = str(text)
    kept = raw if len(raw) <= 120 else f"{raw[:117]}…"
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "backslashreplace").decode("ascii")
        for letter in kept
    )


_ROLES = {
    "weight": re.compile(r"(.+?)(?:[./_:-](?:weights?|kernel|w|W|w_0)|W)(?::0)?"),
    "bias": re.compile(r"(.+?)(?:[./_:-](?:bias(?:es)?|b|B|b_0)|B)(?::0)?"),
}


def parted(name: str) -> tuple[str, str] | None:
    """A tensor's name as that of its layer and what it is there, "weight" or "bias"; None where it is neither."""
    for role, pattern in _ROLES.items():
        if found := pattern.fullmatch(name):
            return found[1], role
    return None


def gathered(arrays: Mapping[str, Tensor], made: Tensors, where: str) -> Tensors:
    """The container with these tensors: as float32, under printable names, those that cannot be weights as faults.

    `where` is the file's name for messages.

    Raises:
        CheckpointError: there are none, or more than any network has.
    """
    if not arrays:
        raise CheckpointError(f"{where} holds no weights")
    if len(arrays) > MAX_TENSORS:
        raise CheckpointError(f"{where} holds {len(arrays):,} tensors; at most {MAX_TENSORS:,} are read")
    tensors: dict[str, Tensor] = {}
    dtypes: dict[str, str] = {}
    faults: list[str] = []
    for given, tensor in arrays.items():
        name = shown(given)
        if name in tensors:
            raise CheckpointError(f"{where} has two tensors that are called {name}")
        # Batch normalisation counts its batches: that it has any is for the mapping to say.
        trouble = None if name.endswith("num_batches_tracked") else trouble_with(tensor)
        if trouble is None and tensor.numel() * tensor.itemsize > made.size * 1.01 + 4096 and made.kind == "torch":
            trouble = f"claims {tensor.numel():,} values in a file of {made.size:,} bytes"
        if trouble is not None:
            faults.append(f"{name} {trouble}")
            continue
        dtypes[name] = str(tensor.dtype).removeprefix("torch.")
        tensors[name] = tensor.detach().float()
    return replace(made, tensors=tensors, dtypes=dtypes, faults=(*made.faults, *faults))


def read(path: Path) -> Tensors:
    """The weights in a file, or in a folder of .npy files.

    Raises:
        CheckpointError: there is none, or it is of no kind that can be read; one line that says which and what to do.
    """
    where = shown(path)
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            from alexnet.foreign.numpy_files import read_folder  # noqa: PLC0415 - it imports this module

            return read_folder(path)
        if not stat.S_ISREG(about.st_mode):
            raise CheckpointError(f"{where} is neither a file nor a folder")
        if about.st_size > MAX_BYTES:
            raise CheckpointError(
                f"{where} has {about.st_size:,} bytes; at most {MAX_BYTES:,} are read: save the weights without the "
                "optimiser's state"
            )
        with path.open("rb") as file:
            head = file.read(4096)
        return _reader(path, head, about.st_size)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {where}") from None
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{where} cannot be read: {shown(reason)}") from None
    except MemoryError:
        raise CheckpointError(f"{where} needs more memory than this machine has") from None


def _reader(path: Path, head: bytes, size: int) -> Tensors:
    """What reads a file that begins so, and what it found."""
    from alexnet.foreign import numpy_files, protobuf_files, torch_files  # noqa: PLC0415 - they import this module

    if head.startswith((b"PK\3\4", b"PK\5\6")):
        check_directory(path, size)
        names = torch_files.archive_names(path)
        if any(name.endswith(".npy") for name in names):
            return numpy_files.read_npz(path)
        return torch_files.read_zip(path, names)
    if head.startswith(torch_files.LEGACY_MAGIC):
        return torch_files.read_legacy(path)
    if head.startswith(b"\x93NUMPY"):
        return numpy_files.read_npy(path)
    if (sentence := _other_format(path, head, size)) is not None:
        raise CheckpointError(f"{shown(path)} {sentence}")
    if begins(head):
        return torch_files.read_safetensors_file(path)
    return protobuf_files.read_protobuf(path, size)


def check_directory(path: Path, size: int) -> None:
    """Refuses a zip file for the number of entries that its last record claims, before any of them is listed."""
    with path.open("rb") as file:
        file.seek(max(0, size - (1 << 16) - 22 - 76))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        raise CheckpointError(f"{shown(path)} is damaged or cut off: the list of what is in it is missing")
    entries, listed = struct.unpack_from("<H4x", tail, end + 8)[0], struct.unpack_from("<I", tail, end + 12)[0]
    big = tail.rfind(b"PK\6\6", 0, end)
    if big >= 0 and len(tail) - big >= 56:
        entries, listed = struct.unpack_from("<QQ", tail, big + 32)
    if entries > MAX_TENSORS or listed > (MAX_TENSORS << 9):
        raise CheckpointError(f"{shown(path)} holds {entries:,} entries; at most {MAX_TENSORS:,} are read")


_STARTS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (b"\x89HDF\r\n\x1a\n",),
        "is HDF5 (Keras, or Caffe's .h5), which is not read: save its arrays with numpy.savez where it can be opened",
    ),
    (
        (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*"),
        "is a picture, not a checkpoint: give it where pictures are asked for",
    ),
    (
        (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf", b"Rar!"),
        "is compressed: unpack it and give the file inside",
    ),
    (
        (b"version https://git-lfs",),
        "is a git-lfs pointer, not the weights themselves: run `git lfs pull` where it came from, or download the file",
    ),
    ((b"%PDF",), "is a PDF, not a checkpoint"),
    ((b"GGUF",), "is GGUF, a format of language models, which is not read"),
    ((b"\x7fELF", b"MZ"), "is a program, not a checkpoint; it was not run"),
    (
        (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5"),
        "is a bare pickle, which could run any code and is not opened: where it can be trusted, save it as safetensors",
    ),
)
_TENSORFLOW = (
    "is part of a TensorFlow checkpoint, which is not read: save its arrays with numpy.savez(…, "
    "**{name: tf.train.load_variable(folder, name) for name, _ in tf.train.list_variables(folder)})"
)


def _other_format(path: Path, head: bytes, size: int) -> str | None:
    """The rest of a sentence about a file of a kind that is not read; None where it may be one that is."""
    if not size:
        return "is empty: copy or download it again"
    for starts, sentence in _STARTS:
        if head.startswith(starts):
            return sentence
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it and give the file or folder inside"
    if not any(head.strip(b"\0")):
        return "begins with nothing but zeros: copy or download it again"
    name = path.name.lower()
    if name.endswith((".index", ".meta")) or re.search(r"\.data-\d+-of-\d+$", name) or name == "saved_model.pb":
        return _TENSORFLOW
    if name.endswith(".safetensors") or b"\0" in head:
        return None
    return _text_format(name, head, size)


def _text_format(name: str, head: bytes, size: int) -> str | None:
    """As `_other_format`, for files of text."""
    try:
        text = (head if len(head) == size else head[:-4]).decode("utf-8").lstrip("\ufeff \t\r\n")
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return None
    if re.match(r"<(!doctype|html|head|\?xml|!--)", text, re.IGNORECASE):
        return (
            "is a web page, not the weights: the download was answered with a page (a login, a warning or an error); "
            "open its address in a browser and save the file itself"
        )
    if re.search(r"^\s*model_checkpoint_path\s*:", text, re.MULTILINE):
        return _TENSORFLOW
    if re.search(r"\blayers?\s*\{", text) or name.endswith(".prototxt"):
        return "is Caffe's description of a network in text (prototxt), without weights: give the .caffemodel beside it"
    if text.startswith(("{", "[")):
        return "is JSON text, without weights"
    return "is text, not a checkpoint"
