"""Files of the safetensors library: a JSON header with shapes and offsets, then the numbers.  Nothing to execute."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import safetensors
import safetensors.torch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

MAX_HEADER_BYTES = 1 << 22
"""Largest header that is read: room for 40,000 tensors, where VGG-19 with its optimiser has 80."""

MAX_TENSORS = 10_000
"""Most tensors in one file of any kind; VGG-19 with the state of its optimiser has 76."""


class DamagedSafetensorsError(ValueError):
    """The file is no safetensors file, or its header says what cannot be; the message says what."""


def begins(head: bytes) -> bool:
    """Whether a file that begins with these bytes is meant to be safetensors: eight of length, then an object."""
    return len(head) > 8 and head[8:9] == b"{" and (head[7] == 0 or head[9:10] in b'"}')


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, in the file's own number formats, and the texts beside them.

    The header is checked against the size of the file before anything is read.

    Raises:
        DamagedSafetensorsError: the header is cut off, too large, or does not describe this file.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            raise DamagedSafetensorsError(
                f"its header claims {length:,} bytes and the file has {size:,}: it is cut off"
            )
        if length > MAX_HEADER_BYTES:
            raise DamagedSafetensorsError(f"its header has {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    try:
        with safetensors.safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if len(names) <= MAX_TENSORS:
                return {name: opened.get_tensor(name) for name in names}, dict(opened.metadata() or {})
    except (safetensors.SafetensorError, ValueError, TypeError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0].removeprefix("Error while deserializing header: ")
        raise DamagedSafetensorsError(f"it is damaged or cut off ({reason})") from None
    raise DamagedSafetensorsError(f"it holds {len(names):,} tensors; at most {MAX_TENSORS:,} are read")


def write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], content: dict[str, Any]) -> None:
    """Tensors under their names, and every entry of `content` as JSON text beside them."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in content.items()
    }
    file.write(safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, texts))
