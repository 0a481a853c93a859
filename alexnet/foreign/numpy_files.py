"""Weights in numpy's files: .npz, a dictionary in a .npy (as TensorFlow ports of AlexNet ship), folders of .npy.

Dictionaries are pickled; they are read by `alexnet.inert`, which calls nothing.
"""

from __future__ import annotations

import os
import re
import warnings
import zipfile
import zlib
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import torch

from alexnet import inert
from alexnet.checkpoints import CheckpointError
from alexnet.foreign.containers import MAX_BYTES, Tensors, gathered, shown
from alexnet.safetensor_files import MAX_TENSORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

_RATIO, _FREE_BYTES = 20, 1 << 26
"""A compressed file may unpack to this many times its size, or to 64 MB; weights shrink by a tenth."""
_MEAN = re.compile(r"(^|[^a-z])mean([^a-z]|$)", re.IGNORECASE)


def read_npy(path: Path) -> Tensors:
    """One .npy file: a pickled dictionary of layers, since one array is not a network.

    Raises:
        CheckpointError: it is damaged, would run code, or holds a single array.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        value = _array(file, size, shown(path))
    if isinstance(value, np.ndarray):
        raise CheckpointError(
            f"{shown(path)} holds one array of shape {value.shape}, not the weights of a network: give the folder of "
            "all layers' .npy files, or an .npz of them"
        )
    made = Tensors("numpy", "a dictionary of layers in a .npy file", size, ordered=False)
    return _gathered(dict(_layers(value, "", shown(path))), made, shown(path))


def read_npz(path: Path) -> Tensors:
    """A zip file of arrays, whose sizes are held against the file's before any is unpacked.

    Raises:
        CheckpointError: it is damaged, would run code or fill the memory.
    """
    size, where = path.stat().st_size, shown(path)
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            claimed = sum(entry.file_size for entry in entries)
            if claimed > max(_RATIO * size, _FREE_BYTES) or claimed > MAX_BYTES:
                raise CheckpointError(
                    f"{where} has {size:,} bytes and unpacks to {claimed:,}, which weights never do: it is not opened"
                )
            for entry in entries:
                with archive.open(entry) as stream:
                    value = _array(cast("BinaryIO", stream), entry.file_size, f"{shown(entry.filename)} in {where}")
                name = entry.filename.removesuffix(".npy")
                if isinstance(value, np.ndarray):
                    arrays[name] = value
                else:
                    arrays |= dict(_layers(value, name, where))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"{where} is damaged or cut off ({shown(error)})") from None
    return _gathered(arrays, Tensors("numpy", "an .npz file", size, ordered=False), where)


def read_folder(path: Path) -> Tensors:
    """A folder of .npy files, one for each layer's weights and one for its biases, and perhaps a mean image.

    Raises:
        CheckpointError: there are none, or one is damaged.
    """
    files: list[Path] = []
    others: list[str] = []
    for folder, folders, names in os.walk(path):
        here = Path(folder)
        folders[:] = [] if len(here.relative_to(path).parts) > 1 else sorted(folders)
        files += [here / name for name in sorted(names) if name.endswith(".npy")]
        others += names
        if len(others) > 10 * MAX_TENSORS or len(files) > MAX_TENSORS:
            raise CheckpointError(f"{shown(path)} holds too many files to be a folder of weights")
    if not files:
        raise CheckpointError(f"{shown(path)} is a folder without weights: {_folder_remedy(others)}")
    arrays: dict[str, NDArray[Any]] = {}
    size = 0
    for file in files:
        length = file.stat().st_size
        size += length
        if size > MAX_BYTES:
            raise CheckpointError(f"the .npy files in {shown(path)} have more than {MAX_BYTES:,} bytes")
        with file.open("rb") as stream:
            value = _array(stream, length, shown(file))
        if not isinstance(value, np.ndarray):
            raise CheckpointError(f"{shown(file)} holds Python objects where an array belongs: give it by itself")
        arrays[file.relative_to(path).with_suffix("").as_posix()] = value
    return _gathered(arrays, Tensors("numpy", "a folder of .npy files", size, ordered=False), shown(path))


def _folder_remedy(names: list[str]) -> str:
    if any(name.endswith((".index", ".meta")) or name == "saved_model.pb" for name in names):
        return (
            "it looks like a TensorFlow checkpoint, which is not read; save its arrays with numpy.savez, "
            "name by name with tf.train.load_variable"
        )
    given = [name for name in names if name.endswith((".pt", ".pth", ".safetensors", ".caffemodel", ".onnx", ".npz"))]
    if given:
        return f"give the file itself, {shown(given[0])}"
    return "it is no run directory and has no .npy files like conv1_weight.npy and conv1_bias.npy"


# --- arrays ----------------------------------------------------------------------------------------------------------


def _array(stream: BinaryIO, size: int, where: str) -> NDArray[Any] | dict[Any, Any]:
    """The array in a .npy of `size` bytes, or the dictionary pickled in it.  Nothing is taken at its word."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 wrote
            version = np.lib.format.read_magic(stream)
            shape, by_columns, dtype = readers[version](stream) if version in readers else ((), False, None)
    except Exception as error:  # noqa: BLE001 - numpy answers bad headers with any exception of Python's parser
        raise CheckpointError(f"{where} is no .npy file that can be read: {shown(error)}") from None
    if dtype is None:
        raise CheckpointError(f"{where} is .npy of version {version[0]}.{version[1]}, which no weights need")
    left = size - stream.tell()
    if dtype.hasobject:
        return _pickled(stream, left, where)
    if dtype.fields or dtype.subdtype or dtype.kind not in "fiubc":
        raise CheckpointError(f"{where} holds {shown(dtype)}, not floating-point numbers")
    count = prod(shape)
    if count * dtype.itemsize > left or any(length < 0 for length in shape):
        raise CheckpointError(
            f"{where} claims an array of shape {shape}, {count * dtype.itemsize:,} bytes, and has {left:,}: "
            "it is cut off or forged"
        )
    data = stream.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise CheckpointError(f"{where} is cut off: download it again")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")


def _pickled(stream: BinaryIO, size: int, where: str) -> dict[Any, Any]:
    try:
        value = inert.unpickled(stream, size)
    except inert.RefusedNameError as error:
        raise CheckpointError(
            f"{where} asks to run {shown(error.name)!r}, which no array needs: nothing in a checkpoint is executed; "
            "do not trust this file"
        ) from None
    except Exception:  # noqa: BLE001 - an unpickler answers bad bytes with any exception there is
        raise CheckpointError(f"{where} is damaged or cut off: its pickled dictionary cannot be read") from None
    held = inert.objects(value)
    if held is None or len(held) != 1 or not isinstance(held[0], dict):
        raise CheckpointError(f"{where} holds Python objects that are no dictionary of layers")
    return held[0]


def _layers(values: dict[Any, Any], prefix: str, where: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of {"conv1": [weights, biases]} or {"conv1": {"weights": …, "biases": …}}, named conv1/weights."""
    if len(values) > MAX_TENSORS:
        raise CheckpointError(f"{where} holds {len(values):,} entries; at most {MAX_TENSORS:,} are read")
    for key, value in values.items():
        label = inert.text(key)
        if label is None:
            raise CheckpointError(f"{where} has a key that is no text: {shown(key)}")
        name = f"{prefix}/{label}" if prefix else label
        parts: dict[Any, Any]
        if isinstance(value, dict):
            parts = value
        else:
            held = value if isinstance(value, list | tuple) else inert.objects(value)
            if held is None:
                parts = {"": value}
            elif len(held) > 2:
                raise CheckpointError(f"{where} has {len(held)} arrays for {shown(name)}; expected weights and biases")
            else:
                parts = dict(zip(("weights", "biases"), held, strict=False))
        for part, given in parts.items():
            array = inert.array(given, "iuf")
            if array is None:
                raise CheckpointError(f"{where} has something else than an array of numbers for {shown(name)}")
            yield "/".join(filter(None, (name, inert.text(part)))), array


def _gathered(arrays: dict[str, NDArray[Any]], made: Tensors, where: str) -> Tensors:
    """Arrays as tensors, the mean image apart."""
    mean: tuple[str, Tensor] | None = None
    tensors: dict[str, Tensor] = {}
    for name, array in arrays.items():
        native = array.astype(array.dtype.newbyteorder("="), copy=not array.dtype.isnative)
        if native.dtype.kind == "f" and native.dtype.itemsize > 8:
            native = native.astype(np.float64)
        if native.dtype.kind == "u" and native.dtype.itemsize > 1:
            native = native.astype(np.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bytes are only read, and conversion copies what is not float32
            tensor = torch.from_numpy(np.ascontiguousarray(native).reshape(native.shape))
        if _MEAN.search(name.rpartition("/")[2].replace("_", " ")) and 3 in tensor.shape and tensor.is_floating_point():
            mean = (shown(name), tensor.float())
        else:
            tensors[name] = tensor
    return gathered(tensors, replace(made, mean=mean), where)
