"""Checkpoints that torch.save wrote, read with an allow-list; and safetensors."""

from __future__ import annotations

import argparse
import pickle
import re
import struct
import threading
import warnings
import zipfile
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from alexnet import inert
from alexnet.checkpoints import FORMAT, CheckpointError
from alexnet.foreign.containers import Tensors, gathered, shown
from alexnet.inert import Inert
from alexnet.safetensor_files import MAX_TENSORS, DamagedSafetensorsError, read_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files begin that torch.save wrote before version 1.6: its magic number, pickled."""

MAX_PICKLE_BYTES = 1 << 26
"""Largest list of tensors in a torch file; VGG-19's with its optimiser has 20 kB."""

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "net_state_dict",
    "weights",
    "params",
    "module",
    "state_dict_ema",
    "model_ema",
    "ema",
)
"""Where training scripts put the weights in what they save, the likeliest first."""
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|amp|rng|sampler|loader|history|hist", re.IGNORECASE)
_MAX_DEPTH = 8


def _empty(*_: object) -> dict[Any, Any]:
    """Stands for a defaultdict or another kind of dictionary: what follows fills it."""
    return {}


def _allowed() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What training scripts put beside their weights, each with something that does nothing in its place."""
    numpy = [f"{module}.{name}" for (module, name) in inert.NAMES if module.startswith("numpy")]
    numpy += [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    paths = [f"pathlib.{name}Path" for name in ("Posix", "Windows", "PurePosix", "PureWindows", "")]
    factories = [f"builtins.{name}" for name in ("list", "dict", "int", "float", "str")]  # of a defaultdict
    plain = [*numpy, *paths, *factories, "datetime.datetime", "datetime.date", "datetime.timedelta"]
    return [
        (argparse.Namespace, "argparse.Namespace"),
        (_empty, "collections.defaultdict"),
        (Inert, f"{Inert.__module__}.{Inert.__qualname__}"),  # or torch would not fill in what the others made
        *((Inert(name.rpartition(".")[2]), name) for name in plain),
    ]


_ALLOWED = _allowed()
_one_at_a_time = threading.Lock()  # torch keeps its allow-list in one place for all threads


def archive_names(path: Path) -> list[str]:
    """The names in a zip file.  Raises CheckpointError where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError) as error:
        raise CheckpointError(f"{shown(path)} is damaged or cut off ({shown(error)})") from None


def read_zip(path: Path, names: list[str]) -> Tensors:
    """A file of torch.save since version 1.6: a zip file of a pickle and one entry for each tensor's numbers.

    Raises:
        CheckpointError: it is damaged, no such file, or needs code to be run.
    """
    where = shown(path)
    tops = {name.partition("/")[2] for name in names}
    if "data.pkl" not in tops:
        if any(name.endswith((".h5", "config.json")) for name in names):
            raise CheckpointError(f"{where} is a Keras model, which is not read: save its arrays with numpy.savez")
        if any(name.endswith((".pth", ".pt", ".caffemodel", ".onnx", ".safetensors")) for name in names):
            raise CheckpointError(f"{where} is an archive: unpack it and give the file inside")
        raise CheckpointError(f"{where} is a zip file without weights: nothing in it was written by torch or numpy")
    if "constants.pkl" in tops:
        raise CheckpointError(
            f"{where} is TorchScript, a program with its weights, which is not opened: "
            "save torch.jit.load(…).state_dict() where it can be trusted"
        )
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{where} has compressed entries, which torch.save never writes: it is not opened")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size:
        raise CheckpointError(f"{where} claims to hold {claimed:,} bytes and has {size:,}: it is damaged or forged")
    listing = next(entry for entry in entries if entry.filename.endswith("/data.pkl"))
    if listing.file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{where} lists its tensors in {listing.file_size:,} bytes, more than any network needs")
    return _unwrapped(_loaded(path), Tensors("torch", "a file of torch.save", size), where)


def read_legacy(path: Path) -> Tensors:
    """A file of torch.save before version 1.6: pickles, then the numbers.  Raises as `read_zip`."""
    words = "a file of torch.save before version 1.6"
    return _unwrapped(_loaded(path), Tensors("torch", words, path.stat().st_size), shown(path))


def _loaded(path: Path) -> Any:
    where = shown(path)
    try:
        with _one_at_a_time, warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([^\s`]+)", str(error)):
            name = named[1].removeprefix("__builtin__.")
            name = shown(name if "." in name else f"builtins.{name}")  # torch leaves the module of these away
            raise CheckpointError(f"{where} {_refusal(name)}") from None
        raise CheckpointError(f"{where} is damaged, or holds more than weights and plain values") from None
    except Exception as error:  # noqa: BLE001 - torch answers bad bytes with any exception there is
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{where} is damaged or cut off ({shown(reason)})") from None


def _refusal(name: str) -> str:
    remedy = "nothing in a checkpoint is executed"
    if re.match(r"(builtins?|os|posix|nt|subprocess|sys|importlib|runpy|shutil|socket|ctypes|code|pickle)\b", name):
        return f"asks to run {name!r}: {remedy}, and no network needs that; do not trust this file"
    return (
        f"holds an object of {name!r} beside or instead of weights: {remedy}. "
        "Where it can be trusted, save only the weights: torch.save(model.state_dict(), …)"
    )


def _unwrapped(root: Any, made: Tensors, where: str) -> Tensors:
    """The weights among what was saved, and the plain values beside them."""
    if isinstance(root, dict) and root.get("format") == FORMAT:
        return replace(made, kind="ours", words="a checkpoint of this project", own=root)
    if isinstance(root, torch.Tensor):
        raise CheckpointError(f"{where} holds one tensor of shape {tuple(root.shape)}, not the weights of a network")
    if not isinstance(root, dict):
        raise CheckpointError(f"{where} holds {type(root).__name__}, not a dictionary of weights by name")
    inside, removed = root, list[str]()
    metadata: dict[str, Any] = {}
    while len(removed) < _MAX_DEPTH and (key := _wrapper(inside)) is not None:
        metadata |= _plain_values(inside)
        removed.append(key)
        inside = inside[key]
    arrays = dict(islice(_named_tensors(inside, (), set()), MAX_TENSORS + 1))
    for name in [name for name, tensor in arrays.items() if tensor.ndim == 0]:
        if not name.endswith("num_batches_tracked"):
            del arrays[name]
    metadata |= _plain_values(inside)
    notes: tuple[str, ...] = ()
    others = [key for key, value in root.items() if isinstance(value, dict) and isinstance(key, str)]
    if averages := [shown(key) for key in others if "ema" in key.lower() and key not in removed]:
        notes = (f"the file also holds averaged weights ({averages[0]}), which were left aside",)
    if not arrays:
        keys = ", ".join(shown(key) for key in list(root)[:8]) or "nothing"
        raise CheckpointError(f"{where} holds no weights; its keys are: {keys}")
    return gathered(arrays, replace(made, metadata=metadata, removed=tuple(map(shown, removed)), notes=notes), where)


def _wrapper(values: dict[Any, Any]) -> str | None:
    """The key under which the weights are, where they are not in the dictionary itself."""
    found = [key for key in WRAPPERS if isinstance(values.get(key), dict) and _has_tensors(values[key])]
    if any(isinstance(value, torch.Tensor) and value.ndim in {2, 4} for value in values.values()):
        return None
    if found:
        return found[0]
    others = [
        key
        for key, value in values.items()
        if isinstance(key, str) and isinstance(value, dict) and not _NOT_WEIGHTS.search(key) and _has_tensors(value)
    ]
    return others[0] if len(others) == 1 else None


def _has_tensors(values: dict[Any, Any]) -> bool:
    return next(_named_tensors(values, (), set()), None) is not None


def _named_tensors(values: Any, path: tuple[str, ...], seen: set[int]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in dictionaries within dictionaries, under its keys joined by dots.

    Each dictionary is looked into once, or a few that hold each other many times over would never end.
    """
    if isinstance(values, torch.Tensor):
        yield ".".join(path), values
    elif isinstance(values, dict) and id(values) not in seen and len(path) < _MAX_DEPTH:
        seen.add(id(values))
        for key, value in values.items():
            if isinstance(key, str) and not (isinstance(value, dict) and _NOT_WEIGHTS.search(key)):
                yield from _named_tensors(value, (*path, key), seen)


def _plain_values(values: dict[Any, Any], *, options: bool = True) -> dict[str, Any]:
    """Numbers, short texts and lists of texts, up to 100 of them; options of a script one by one."""
    plain: dict[str, Any] = {}
    for key, value in list(values.items())[:100]:
        if not isinstance(key, str) or _NOT_WEIGHTS.search(key):
            continue
        if isinstance(value, argparse.Namespace) and options:
            inner = _plain_values(vars(value), options=False)
            plain |= {name: entry for name, entry in inner.items() if name not in plain}
        elif (entry := _plain(value)) is not None:
            plain[shown(key)] = entry
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (
            value.item()
            if value.numel() == 1 and value.layout == torch.strided and value.device.type == "cpu"
            else None
        )
    if isinstance(value, Inert):
        return _scalar(value)
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list | tuple) and 0 < len(value) <= MAX_TENSORS and all(isinstance(one, str) for one in value):
        return [shown(one) for one in value]
    if (
        isinstance(value, dict)
        and 0 < len(value) <= MAX_TENSORS
        and all(isinstance(name, str) and type(index) is int for name, index in value.items())
    ):
        return {shown(name): index for name, index in value.items()}  # class_to_idx of torchvision's folders
    return value if isinstance(value, bool | int | float) and abs(value) < 1e300 else None


def _scalar(value: Inert) -> float | None:
    """The number that numpy's scalar(dtype, bytes) would have made."""
    if value.is_call("scalar", {2}):
        assert value.args is not None
        dtype, data = value.args
        whole = Inert("_frombuffer", (data, dtype, (1,), "C"))
        numbers = inert.array(whole, "iuf")
        return None if numbers is None else numbers[0].item()
    return None


def read_safetensors_file(path: Path) -> Tensors:
    """A file of the safetensors library.  Raises CheckpointError where it is damaged."""
    try:
        tensors, texts = read_safetensors(path)
    except DamagedSafetensorsError as error:
        raise CheckpointError(f"{shown(path)} is no safetensors file that can be read: {shown(error)}") from None
    made = Tensors("safetensors", "a safetensors file", path.stat().st_size, ordered=False)
    if texts.get("format") == FORMAT:
        return replace(made, kind="ours", words="a checkpoint of this project (safetensors)", own=(tensors, texts))
    return gathered(
        tensors, replace(made, metadata={shown(key): shown(text) for key, text in texts.items()}), shown(path)
    )
