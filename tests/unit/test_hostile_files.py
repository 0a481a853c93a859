"""Files that are broken, are something else, or would do harm: each gets its sentence, and none does anything."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import pickle
import resource
import struct
import threading
import time
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper
from torch import nn

from alexnet import checkpoints
from alexnet.checkpoints import CheckpointError
from alexnet.foreign import inspect, open_checkpoint
from alexnet.foreign.containers import MAX_BYTES
from alexnet.zoo import NETWORKS
from tests import layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 10.0
"""Far above what any takes here, far below what an honest reading of the claims would."""
MEMORY_BYTES = 1 << 30


class Bomb:
    """Makes a file when it is unpickled."""

    canary = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (Bomb.canary,))


class Sneaky:
    """The same through a function that looks harmless: eval by way of builtins."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (f"__import__('os').mkdir({Bomb.canary!r})",))


class Model(nn.Module):
    """A whole model, as torch.save(model) writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 11)


@pytest.fixture(autouse=True)
def canary(tmp_path: Path) -> Iterator[None]:
    path = tmp_path / "canary"
    Bomb.canary = str(path)
    yield
    assert not path.exists(), "the file ran code"


@pytest.fixture(autouse=True)
def bounds() -> Iterator[None]:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    yield
    assert time.perf_counter() - began < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MEMORY_BYTES


def saved(content: Any, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def state(**changes: Any) -> dict[str, Any]:
    weights = layouts.caffe_weights()
    made = {f"{name}.{part}": pair[i] for name, pair in weights.items() for i, part in enumerate(("weight", "bias"))}
    return made | changes


def small() -> dict[str, Any]:
    return {"conv1.weight": torch.ones(96, 3, 11, 11), "conv1.bias": torch.ones(96)}


def repacked(data: bytes, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file with its entries changed; those for which None comes back are left out."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.infolist():
            if (content := change(entry.filename, old.read(entry))) is not None:
                new.writestr(entry.filename, content)
    return out.getvalue()


def npy(header: str, content: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + content


def npy_of(value: Any) -> bytes:
    return array_of("|O", "()", pickle.dumps(value))


def npz(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return out.getvalue()


def npz_bomb() -> bytes:
    out = io.BytesIO()
    zeros = bytes(1 << 24)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("conv1_weight.npy", "w") as member:
        member.write(array_of("<f4", "(134217728,)", b""))
        for _ in range(32):
            member.write(zeros)
    return out.getvalue()


def array_of(dtype: str, shape: str, content: bytes) -> bytes:
    return npy(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}", content)


def many_entries() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(12_000):
            archive.writestr(f"{number}.npy", b"")
    return out.getvalue()


def header(content: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def onnx_file(*tensors: Any, op: str = "Conv") -> bytes:
    nodes = [helper.make_node(op, ["data", *(tensor.name for tensor in tensors)], ["out"])]
    graph = helper.make_graph(nodes, "g", [], [], initializer=tensors)
    return helper.make_model(graph).SerializeToString()


def external() -> bytes:
    tensor = helper.make_tensor("conv1.weight", TensorProto.FLOAT, (1,), [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return onnx_file(tensor)


def claimed(shape: tuple[int, ...]) -> Any:
    tensor = onnx.TensorProto(name="conv1.weight", data_type=TensorProto.FLOAT, raw_data=b"\0" * 16)
    tensor.dims.extend(shape)
    return tensor


def layer_of(shape: tuple[int, ...], floats: int = 4) -> bytes:
    dims = layouts.chunk(7, layouts.chunk(1, b"".join(map(layouts.varint, shape))))
    blob = layouts.chunk(7, dims + layouts.chunk(5, bytes(4 * floats)))
    return layouts.chunk(100, layouts.chunk(1, "conv1") + layouts.chunk(2, "Convolution") + blob)


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are to be removed, and old files will still have them
        return torch.quantize_per_tensor(torch.ones(8, 8), 0.1, 0, torch.qint8)


def endless() -> dict[str, Any]:
    itself: dict[str, Any] = {}
    itself["state_dict"] = itself
    return itself


def doubling() -> dict[str, Any]:
    """2^60 dictionaries in sixty."""
    inner: dict[str, Any] = {}
    for _ in range(60):
        inner = {"a": inner, "b": inner}
    return inner


def deep() -> bytes:
    nested: Any = torch.ones(1)
    for _ in range(400):
        nested = {"model": nested}
    return saved(nested)


def pickle_of_a_name(module: str, name: str) -> bytes:
    """The data.pkl that calls module.name("x"), in a file of torch.save."""
    program = b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"X\x01\x00\x00\x00x\x85R."
    return repacked(saved(small()), lambda entry, content: program if entry.endswith("data.pkl") else content)


GOOD = saved(small())
LEGACY = saved(small(), legacy=True)
COUNT = b"M" + struct.pack("<H", 96 * 3 * 11 * 11)
"""The number of values in conv1.weight, pickled."""

FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    # that would run code
    "a bomb in a torch zip": (
        "x.pth",
        lambda: saved({"state_dict": Bomb()}),
        r"asks to run '(posix|nt|os).mkdir'.*do not",
    ),
    "a bomb in legacy torch": (
        "x.pth",
        lambda: saved({"a": Bomb()}, legacy=True),
        r"asks to run '(posix|nt|os).mkdir'",
    ),
    "a bomb beside weights": (
        "x.pth",
        lambda: saved({**small(), "optimizer": [{"x": (Sneaky(),)}]}),
        "asks to run 'builtins.eval'",
    ),
    "a bomb deep down": ("x.pth", lambda: saved({"a": {"b": {"c": [[({"d": Bomb()},)]]}}}), "asks to run"),
    "a name that imports": ("x.pth", lambda: pickle_of_a_name("runpy", "run_path"), "asks to run 'runpy.run_path'"),
    "torch's own loader by name": (
        "x.pth",
        lambda: pickle_of_a_name("torch", "load"),
        "holds an object of 'torch.load'",
    ),
    "a whole model": ("x.pth", lambda: saved(Model()), r"holds an object of '.*Model'.*state_dict\(\)"),
    "a bare pickle": ("x.pkl", lambda: pickle.dumps(Bomb()), "bare pickle, which could run any code"),
    "a bomb in a .npy": ("x.npy", lambda: npy_of(Bomb()), "asks to run '(posix|nt|os).mkdir', which no array needs"),
    "a bomb in a dictionary in a .npy": ("x.npy", lambda: npy_of(np.array({"conv1": [Bomb()]}, object)), "asks to run"),
    "a bomb in an .npz": ("x.npz", lambda: npz(conv1=npy_of(Sneaky())), "asks to run 'builtins.eval'"),
    "an extension code": ("x.npy", lambda: npy_of(0)[:-4] + b"\x82\x01.", "damaged or cut off"),
    "TorchScript": (
        "x.pt",
        lambda: _with(GOOD, "archive/constants.pkl", b"\x80\2)."),
        "TorchScript, a program with its weights",
    ),
    # damaged
    "an empty file": ("x.pth", lambda: b"", "is empty: copy or download it again"),
    "zeros": ("x.pth", lambda: bytes(10_000), "nothing but zeros"),
    "half a zip": ("x.pth", lambda: GOOD[: len(GOOD) // 2], "damaged or cut off"),
    "a zip without its end": ("x.pth", lambda: GOOD[:-10], "damaged or cut off"),
    "the beginning of a zip": ("x.pth", lambda: GOOD[:30], "damaged or cut off"),
    "a zip without a middle": ("x.pth", lambda: GOOD[:2000] + GOOD[9000:], "damaged or (cut off|forged)"),
    "a zip without numbers": (
        "x.pth",
        lambda: repacked(GOOD, lambda entry, data: None if "/data/" in entry else data),
        "damaged or cut off",
    ),
    "half of legacy torch": ("x.pth", lambda: LEGACY[: len(LEGACY) // 2], "damaged or cut off"),
    "legacy torch, its magic only": ("x.pth", lambda: LEGACY[:20], "damaged or cut off"),
    "half an .npz": (
        "x.npz",
        lambda: npz(conv1_weight=np.random.default_rng(0).bytes(500))[:200],
        "damaged or cut off",
    ),
    "a .npy without a header": ("x.npy", lambda: b"\x93NUMPY\1\0\x10\0", r"no \.npy file that can be read"),
    "a .npy with a program for a header": (
        "x.npy",
        lambda: npy("__import__('os').mkdir('x')", b""),
        r"no \.npy file that can be read",
    ),
    "a .npy of a version to come": ("x.npy", lambda: npy("{}", b"", (9, 0)), "(version 9.0|no .npy file)"),
    "a cut pickle in a .npy": (
        "x.npy",
        lambda: npy_of(np.array({"conv1": [np.ones(9)]}, object))[:-40],
        "damaged or cut off",
    ),
    "half a caffemodel": (
        "x.caffemodel",
        lambda: layouts.caffemodel({"conv1": layouts.caffe_weights()["conv1"]})[:9000],
        "damaged or cut off",
    ),
    "a safetensors file without its end": (
        "x.safetensors",
        lambda: safetensors.torch.save(small())[:-8],
        "damaged or cut off",
    ),
    # claims
    "a compressed torch zip": (
        "x.pth",
        lambda: repacked(GOOD, lambda _, data: data, zipfile.ZIP_DEFLATED),
        "compressed entries",
    ),
    "a torch tensor larger than its numbers": (
        "x.pth",
        lambda: repacked(GOOD, lambda _, data: data.replace(COUNT, b"J" + struct.pack("<i", 10**9))),
        "damaged or cut off",
    ),
    "legacy torch that claims gigabytes": (
        "x.pth",
        lambda: LEGACY.replace(COUNT, b"J" + struct.pack("<i", 2 * 10**9)),
        "damaged or cut off",
    ),
    "a tensor expanded to terabytes": (
        "x.pth",
        lambda: saved(small() | {"fc6.weight": torch.ones(1).half().expand(10**6, 10**6)}),
        "fc6.weight claims 1,000,000,000,000 values",
    ),
    "a tensor without values": (
        "x.pth",
        lambda: saved(small() | {"fc6.weight": torch.empty(10**6, 10**6, device="meta")}),
        "fc6.weight has a shape and no values",
    ),
    "an oversized safetensors header": (
        "x.safetensors",
        lambda: struct.pack("<Q", 1 << 40) + b"{" + b" " * 99,
        "claims 1,099,511,627,776 bytes",
    ),
    "a safetensors header of many megabytes": (
        "x.safetensors",
        lambda: struct.pack("<Q", 5 << 20) + b"{" + b" " * (5 << 20),
        "its header has 5,242,880 bytes; at most",
    ),
    "safetensors beyond its end": (
        "x.safetensors",
        lambda: header({"conv1.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}),
        "no safetensors file that can be read",
    ),
    "safetensors that overlap": (
        "x.safetensors",
        lambda: header({f"{n}.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}, bytes(4)),
        "no safetensors file that can be read",
    ),
    "a .npy of terabytes": (
        "x.npy",
        lambda: array_of("<f4", "(1000000, 1000000)", b"x" * 64),
        "4,000,000,000,000 bytes, and has 64",
    ),
    "a .npy of a negative size": (
        "x.npy",
        lambda: array_of("<f4", "(-4,)", b"x" * 64),
        "claims an array of shape|no .npy file",
    ),
    "an .npz that unpacks to half a gigabyte": ("x.npz", npz_bomb, "unpacks to 536,.*, which weights never do"),
    "an archive of too many entries": ("x.npz", many_entries, "holds 12,000 entries; at most 10,000"),
    "a pickle that claims gigabytes": (
        "x.npy",
        lambda: array_of("|O", "()", b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x."),
        "damaged or cut off",
    ),
    "a caffemodel of a negative size": ("x.caffemodel", lambda: layer_of((-1, 4)), r"claims shape \(-1, 4\)"),
    "a caffemodel of a huge size": ("x.caffemodel", lambda: layer_of((1 << 40, 1 << 20)), "and holds 4 numbers"),
    "ONNX of a negative size": ("x.onnx", lambda: onnx_file(claimed((-2, -2))), r"claims shape \(-2, -2\)"),
    "ONNX of a huge size": ("x.onnx", lambda: onnx_file(claimed((1 << 40, 1 << 40))), "and holds 4 numbers"),
    "too many tensors": (
        "x.pth",
        lambda: saved({f"{n}.weight": torch.ones(1, 1) for n in range(10_001)}),
        "tensors; at most 10,000|entries; at most",
    ),
    "too many tensors in safetensors": (
        "x.safetensors",
        lambda: header({f"{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)}),
        "holds 20,000 tensors; at most 10,000",
    ),
    # shapes that never end
    "a dictionary in itself": ("x.pth", lambda: saved(endless()), "holds no weights; its keys are: state_dict"),
    "dictionaries that double": ("x.pth", lambda: saved(doubling()), "holds no weights; its keys are: a, b"),
    "four hundred wrappers": ("x.pth", deep, "holds no weights"),
    "a pickled list in itself": ("x.npy", lambda: array_of("|O", "()", b"\x80\2]q\0h\0a."), "no dictionary of layers"),
    "a pickle of lists a hundred thousand deep": (
        "x.npy",
        lambda: array_of("|O", "()", b"\x80\2" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."),
        "no dictionary of layers",
    ),
    # numbers that are no weights
    "NaN": (
        "x.pth",
        lambda: saved(state(**{"fc7.bias": torch.full((8,), torch.nan)})),
        r"no numbers \(NaN or infinite\), in fc7.bias",
    ),
    "infinity": (
        "x.pth",
        lambda: saved(state(**{"fc7.bias": torch.full((8,), torch.inf)})),
        r"no numbers \(NaN or infinite\), in fc7.bias",
    ),
    "integers": (
        "x.pth",
        lambda: saved(state(**{"fc7.weight": torch.ones(8, 8, dtype=torch.int8)})),
        "fc7.weight holds int8, not floating-point",
    ),
    "complex numbers": (
        "x.pth",
        lambda: saved(state(**{"fc7.weight": torch.ones(8, 8, dtype=torch.complex64)})),
        "fc7.weight holds complex64",
    ),
    "a sparse tensor": (
        "x.pth",
        lambda: saved(state(**{"fc7.weight": torch.eye(8).to_sparse()})),
        "fc7.weight is sparse",
    ),
    "a quantised tensor": (
        "x.pth",
        lambda: saved(state(**{"fc7.weight": quantised()})),
        "fc7.weight holds qint8, not floating-point",
    ),
    "complex numbers in numpy": (
        "x.npz",
        lambda: npz(conv1_weight=array_of("<c8", "(1,)", bytes(8))),
        "holds complex64",
    ),
    "texts in numpy": (
        "x.npz",
        lambda: npz(conv1_weight=array_of("<U4", "(1,)", bytes(16))),
        "holds <U4, not floating-point",
    ),
    "quantised ONNX": (
        "x.onnx",
        lambda: onnx_file(helper.make_tensor("conv1.weight", TensorProto.INT8, (1,), [1])),
        "holds ONNX type 3",
    ),
    # something else
    "prototxt": (
        "deploy.caffemodel",
        lambda: b'name: "AlexNet"\nlayer {\n  name: "conv1"\n  type: "Convolution"\n}\n',
        "prototxt.*without weights: give the .caffemodel",
    ),
    "a solverstate": (
        "x.solverstate",
        lambda: (
            layouts.number(1, 450000)
            + layouts.chunk(2, "caffe_iter_450000.caffemodel")
            + layouts.chunk(3, layouts.chunk(5, bytes(16)))
        ),
        "solverstate, which holds the optimiser and no weights: give caffe_iter_450000.caffemodel",
    ),
    "a mean image of Caffe": (
        "mean.binaryproto",
        lambda: (
            b"".join(layouts.number(n, v) for n, v in ((1, 1), (2, 3), (3, 2), (4, 2))) + layouts.chunk(5, bytes(48))
        ),
        "one array of Caffe's",
    ),
    "ONNX with its weights elsewhere": (
        "x.onnx",
        external,
        r"in another file \(\.\./\.\./etc/passwd\), which is not opened",
    ),
    "HDF5": ("x.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5 .*numpy.savez"),
    "a TensorFlow index": ("model.ckpt.index", lambda: b"\0\0\1\2" + bytes(50) + b"x", "TensorFlow checkpoint"),
    "a TensorFlow pointer": ("checkpoint", lambda: b'model_checkpoint_path: "model.ckpt-9"\n', "TensorFlow checkpoint"),
    "a web page": (
        "alexnet.pth",
        lambda: b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
        "a web page, not the weights",
    ),
    "a git-lfs pointer": (
        "x.pth",
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "a picture": ("x.pth", lambda: b"\x89PNG\r\n\x1a\n" + bytes(50), "is a picture"),
    "a tar archive": ("x.tar", lambda: b"x" * 257 + b"ustar" + bytes(500), "tar archive: unpack it"),
    "a gzip file": ("x.pth.gz", lambda: b"\x1f\x8b\x08" + bytes(50), "is compressed: unpack it"),
    "text": ("x.pth", lambda: b"epoch 1 loss 2.3\n", "is text, not a checkpoint"),
    "noise": ("x.pth", lambda: np.random.default_rng(5).bytes(5000), "no format that is known"),
    "a zip of documents": ("x.zip", lambda: _with(b"", "readme.txt", b"hello"), "zip file without weights"),
    "a zip of a checkpoint": ("x.zip", lambda: _with(b"", "alexnet.pth", GOOD), "is an archive: unpack it"),
    "one tensor": ("x.pth", lambda: saved(torch.ones(3)), "holds one tensor"),
    "a list": ("x.pth", lambda: saved([1, 2]), "holds list, not a dictionary"),
    "no tensors": ("x.pth", lambda: saved({"epoch": 3}), "holds no weights; its keys are: epoch"),
    "one array": ("x.npy", lambda: array_of("<f4", "(2, 2)", bytes(16)), r"one array of shape \(2, 2\)"),
    "ours with a lie about itself": (
        "x.safetensors",
        lambda: safetensors.torch.save(small(), {"format": checkpoints.FORMAT, "network": "[" * 50_000}),
        "is damaged",
    ),
    "ours without a network": (
        "x.pt",
        lambda: saved({"format": checkpoints.FORMAT, "weights": small()}),
        "it lacks 'network'",
    ),
    "names that move the cursor": (
        "x.pth",
        lambda: saved({"\x1b[2J\nowned.weight": torch.ones(4, 4)}),
        r"fits no network.*\\x1b\[2J\\nowned.weight",
    ),
}


def _with(data: bytes, name: str, content: bytes) -> bytes:
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a" if data else "w") as archive:
        archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize("kind", FILES)
def test_every_hostile_or_broken_file_gets_its_sentence(kind: str, tmp_path: Path) -> None:
    name, content, sentence = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content())
    with pytest.raises(CheckpointError, match=sentence) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    try:
        report = inspect(path)
    except CheckpointError:
        return
    assert not report.fits
    assert all(line.isprintable() for line in report.text().splitlines())


def test_a_fifth_of_all_cuts_of_a_checkpoint_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for data in (saved({"conv1.weight": torch.ones(2, 2)}), saved({"conv1.weight": torch.ones(2, 2)}, legacy=True)):
        for length in range(1, len(data), 5):
            path.write_bytes(data[:length])
            with pytest.raises(CheckpointError):
                open_checkpoint(path)


def test_changed_bytes_are_refused_or_read_and_never_crash(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {"conv1": layouts.caffe_weights()["conv1"]}
    for name, data in (
        ("x.pth", GOOD),
        ("y.pth", LEGACY),
        ("x.caffemodel", layouts.caffemodel(weights)),
        ("x.safetensors", safetensors.torch.save(small())),
        ("x.npy", npy_of(np.array(layouts.tensorflow_layout(weights), object))),
    ):
        ends = [*range(min(1000, len(data) // 2)), *range(len(data) - 600, len(data))]
        for _ in range(60):
            changed = bytearray(data)
            for place in random.choice(ends, 2):
                changed[place] = random.integers(256)
            (tmp_path / name).write_bytes(changed)
            try:
                open_checkpoint(tmp_path / name)
            except CheckpointError as error:
                assert str(error).isprintable()  # noqa: PT017 - any sentence will do


# --- what the file system can do -------------------------------------------------------------------------------------


def refused(path: Path, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        open_checkpoint(path)
    with pytest.raises(CheckpointError, match=sentence):
        inspect(path)


def test_nothing_there(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere.pth", "there is no checkpoint")
    refused(tmp_path / "file" / "x", "there is no checkpoint")
    refused(tmp_path, "a folder without weights: it is no run directory and has no .npy files")
    (tmp_path / "model.pth").write_bytes(GOOD)
    refused(tmp_path, "give the file itself, model.pth")


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    refused(tmp_path / "a", "(cannot be read: Too many levels|there is no checkpoint)")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "again").symlink_to(folder)
    (folder / "conv1_weight.npy").symlink_to(folder / "conv1_weight.npy")
    refused(folder, "cannot be read: Too many levels")


def test_no_right_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(GOOD)
    path.chmod(0)
    if os.geteuid() == 0:  # to whom nothing is forbidden
        opened = type(path).open

        def forbidden(self: Path, *arguments: Any, **options: Any) -> Any:
            if self == path:
                raise PermissionError(13, "Permission denied", str(self))
            return opened(self, *arguments, **options)

        monkeypatch.setattr(type(path), "open", forbidden)
    refused(path, "cannot be read: Permission denied")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "neither a file nor a folder")


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with path.open("wb") as file:
        file.write(GOOD)
        file.truncate(MAX_BYTES + 1)  # takes no room on the disk
    refused(path, "at most 8,589,934,592 are read: save the weights without the optimiser")


def test_a_name_of_a_file_cannot_move_the_cursor(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[2J\nx.pth"
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"\\x1b\[2J\\nx.pth is empty") as caught:
        open_checkpoint(path)
    assert str(caught.value).isprintable()


def test_the_allow_list_is_gone_afterwards_and_holds_for_all_threads(tmp_path: Path) -> None:
    path, before = tmp_path / "x.pth", torch.serialization.get_safe_globals()
    torch.save({"state_dict": small(), "args": argparse.Namespace(lr=1.0)}, path)
    found: list[str] = []

    def read() -> None:
        found.extend(inspect(path).network for _ in range(10))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 40
    assert torch.serialization.get_safe_globals() == before


def test_partial_weights_of_ours_must_be_whole_stages(tmp_path: Path) -> None:
    made = checkpoints.untrained(NETWORKS["alexnet-2012"].adapted(classes=3, hidden=8, input_shape=(3, 67, 67)))
    content = {name: tensor for name, tensor in made.weights.items() if name != "conv2.bias"}
    checkpoints.save(tmp_path / "x.pt", dataclasses.replace(made, weights=content))
    refused(tmp_path / "x.pt", "conv2.bias is missing")
