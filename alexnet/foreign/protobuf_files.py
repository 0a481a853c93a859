"""Weights in Caffe's and ONNX's files, read by the protobuf library with the few fields that are needed.

Field numbers are those of BVLC/caffe, src/caffe/proto/caffe.proto, and onnx/onnx, onnx/onnx.proto.  Arrays of numbers
are declared as bytes: on the wire a packed array is one length and its bytes, so that nothing is copied one by one.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from alexnet.checkpoints import CheckpointError
from alexnet.foreign.containers import Tensors, gathered, parted, shown
from alexnet.safetensor_files import MAX_TENSORS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""Largest protobuf message there can be."""

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "int": _FIELD.TYPE_INT64,
    "float": _FIELD.TYPE_FLOAT,
    "text": _FIELD.TYPE_BYTES,  # bytes: what claims to be UTF-8 may not be
}
_SCHEMA: dict[str, dict[str, tuple[int, str]]] = {
    # Caffe
    "Shape": {"dim": (1, "int*")},
    "Blob": {
        "shape": (7, "Shape"),
        "data": (5, "text*"),
        "double_data": (8, "text*"),
        "num": (1, "int"),
        "channels": (2, "int"),
        "height": (3, "int"),
        "width": (4, "int"),
    },
    "Lrn": {"local_size": (1, "int"), "alpha": (2, "float"), "beta": (3, "float"), "k": (5, "float")},
    "Transform": {"mean_value": (5, "float*")},
    "Layer": {
        "name": (1, "text"),
        "type": (2, "text"),
        "blobs": (7, "Blob*"),
        "transform": (100, "Transform"),
        "lrn": (118, "Lrn"),
    },
    "V0Layer": {"name": (1, "text")},
    "V1Layer": {
        "layer": (1, "V0Layer"),
        "name": (4, "text"),
        "type": (5, "int"),
        "blobs": (6, "Blob*"),
        "lrn": (18, "Lrn"),
        "transform": (36, "Transform"),
    },
    "Net": {"name": (1, "text"), "layers": (2, "V1Layer*"), "layer": (100, "Layer*")},
    "SolverState": {"iter": (1, "int"), "learned_net": (2, "text"), "history": (3, "Blob*")},
    # ONNX
    "Entry": {"key": (1, "text"), "value": (2, "text")},
    "OnnxTensor": {
        "dims": (1, "int*"),
        "data_type": (2, "int"),
        "float_data": (4, "text*"),
        "int32_data": (5, "int*"),
        "name": (8, "text"),
        "raw_data": (9, "text"),
        "double_data": (10, "text*"),
        "external_data": (13, "Entry*"),
        "data_location": (14, "int"),
    },
    "Attribute": {"name": (1, "text"), "f": (2, "float"), "i": (3, "int")},
    "Node": {
        "input": (1, "text*"),
        "name": (3, "text"),
        "op_type": (4, "text"),
        "attribute": (5, "Attribute*"),
    },
    "Graph": {"node": (1, "Node*"), "name": (2, "text"), "initializer": (5, "OnnxTensor*"), "sparse": (15, "Entry*")},
    "Model": {"ir_version": (1, "int"), "producer": (2, "text"), "graph": (7, "Graph")},
}  # fmt: skip


def _messages() -> dict[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(name="weights.proto", package="weights", syntax="proto2")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for label, (number, words) in fields.items():
            repeated, kind = words.endswith("*"), words.rstrip("*")
            made = message.field.add(
                name=label, number=number, label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            )
            if kind in _TYPES:
                made.type = _TYPES[kind]
            else:
                made.type, made.type_name = _FIELD.TYPE_MESSAGE, f".weights.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"weights.{name}")) for name in _SCHEMA}


_MESSAGES = _messages()


def _parsed(name: str, data: bytes) -> Any | None:
    try:
        return _MESSAGES[name].FromString(data)
    except (DecodeError, RuntimeError):
        return None


def _text(value: bytes) -> str:
    return shown(value.decode("utf-8", "backslashreplace"))


def read_protobuf(path: Path, size: int) -> Tensors:
    """A .caffemodel or .onnx file, told apart by their fields.

    Raises:
        CheckpointError: it is neither, or is damaged; the message says what it is where that can be told.
    """
    where = shown(path)
    if size > MAX_MESSAGE_BYTES:
        raise CheckpointError(f"{where} is of no format that is known: {_KNOWN}")
    data = path.read_bytes()
    model = _parsed("Model", data)
    if model is not None and (model.graph.node or model.graph.initializer):
        return _onnx(model, size, where)
    net = _parsed("Net", data)
    if net is not None and (net.layer or net.layers):
        return _caffe(net, size, where)
    suffix = path.suffix.lower()
    state = _parsed("SolverState", data)
    if state is not None and (state.history or (state.learned_net and suffix == ".solverstate")):
        learned = f": give {_text(state.learned_net)}, the weights that it names" if state.learned_net else ""
        raise CheckpointError(f"{where} is Caffe's solverstate, which holds the optimiser and no weights{learned}")
    blob = _parsed("Blob", data)
    if blob is not None and blob.data and blob.channels:
        raise CheckpointError(
            f"{where} is one array of Caffe's (a mean image, binaryproto), not weights: give the .caffemodel"
        )
    if suffix in {".caffemodel", ".onnx", ".solverstate", ".binaryproto"}:
        raise CheckpointError(f"{where} is damaged or cut off, or is no {suffix} file: download it again")
    raise CheckpointError(f"{where} is of no format that is known: {_KNOWN}")


_KNOWN = "torch, safetensors, numpy (.npz, .npy, a folder of .npy), Caffe's .caffemodel and ONNX are read"


def _floats(chunks: Any, dtype: str, shape: tuple[int, ...], name: str, where: str) -> Tensor:
    """Packed little-endian numbers as a tensor, if there are as many as the shape says."""
    data = b"".join(chunks)
    size = np.dtype(dtype).itemsize
    if any(length < 0 for length in shape) or prod(shape) * size != len(data):
        held = len(data) // size
        raise CheckpointError(
            f"{name} in {where} claims shape {shape} and holds {held:,} numbers: the file is damaged or forged"
        )
    array = np.frombuffer(data, dtype)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))).reshape(shape)


# --- Caffe -----------------------------------------------------------------------------------------------------------

_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 15: "LRN", 17: "Pooling"}
_KINDS = {"Convolution": "conv", "InnerProduct": "fully connected", "LRN": "lrn", "Pooling": "max pool"}


def _caffe(net: Any, size: int, where: str) -> Tensors:
    old = not net.layer
    arrays: dict[str, Tensor] = {}
    order: list[tuple[str, tuple[float, ...]]] = []
    metadata: dict[str, Any] = {"name": _text(net.name)} if net.name else {}
    if len(net.layers) + len(net.layer) > MAX_TENSORS:
        raise CheckpointError(
            f"{where} has {len(net.layers) + len(net.layer):,} layers; at most {MAX_TENSORS:,} are read"
        )
    for layer in net.layers if old else net.layer:
        if old and layer.HasField("layer"):
            raise CheckpointError(
                f"{where} is in Caffe's format of 2013: bring it up to date with Caffe's upgrade_net_proto_binary"
            )
        name = _text(layer.name)
        kind = _V1_TYPES.get(layer.type, "") if old else _text(layer.type)
        if kind in _KINDS:
            order.append((_KINDS[kind], _lrn(layer.lrn) if kind == "LRN" else ()))
        if values := list(layer.transform.mean_value):
            metadata["mean_value"] = values
        labels = ("weight", "bias") if kind in {"Convolution", "InnerProduct"} else ("running0", "running1", "running2")
        for index, blob in enumerate(layer.blobs):
            label = f"{name}.{labels[index] if index < len(labels) else index}"
            if label in arrays:
                raise CheckpointError(f"{where} has two layers that are called {name}")
            arrays[label] = _blob(blob, label, kind, where)
    words = f"a .caffemodel{' of the format before 2015' if old else ''}"
    made = Tensors("caffe", words, size, metadata=metadata, layers=tuple(order))
    return gathered(arrays, made, where)


def _lrn(lrn: Any) -> tuple[float, ...]:
    """size, alpha, beta and k, Caffe's own where the file says nothing."""
    defaults = {"local_size": 5, "alpha": 1.0, "beta": 0.75, "k": 1.0}
    return tuple(getattr(lrn, name) if lrn.HasField(name) else value for name, value in defaults.items())


def _blob(blob: Any, name: str, kind: str, where: str) -> Tensor:
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:  # always four numbers before 2015, whatever the array
        shape = (blob.num, blob.channels, blob.height, blob.width)
        if kind == "InnerProduct" or name.endswith(".bias"):
            kept = 1 if name.endswith(".bias") else 2
            shape = shape[4 - kept :] if all(length == 1 for length in shape[: 4 - kept]) else shape
    data, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    tensor = _floats(data, dtype, shape, name, where)
    if kind == "InnerProduct" and tensor.ndim == 4 and tensor.shape[:2] == (1, 1):
        return tensor[0, 0]
    return tensor.flatten() if name.endswith(".bias") and tensor.numel() == max(tensor.shape, default=0) else tensor


# --- ONNX ------------------------------------------------------------------------------------------------------------

_ONNX_FLOATS = {1: ("float_data", "<f4"), 11: ("double_data", "<f8"), 10: ("", "<f2"), 16: ("", "<u2")}
_ONNX_KINDS = {
    "Conv": "conv",
    "Gemm": "fully connected",
    "MatMul": "fully connected",
    "LRN": "lrn",
    "MaxPool": "max pool",
}


def _onnx(model: Any, size: int, where: str) -> Tensors:
    graph = model.graph
    if graph.sparse:
        raise CheckpointError(f"{where} stores weights as sparse arrays, which are not read: export it with dense ones")
    if len(graph.initializer) > MAX_TENSORS or len(graph.node) > 10 * MAX_TENSORS:
        raise CheckpointError(f"{where} has {len(graph.initializer):,} arrays; at most {MAX_TENSORS:,} are read")
    held = {bytes(tensor.name): tensor for tensor in graph.initializer}
    arrays: dict[str, Tensor] = {}
    faults: list[str] = []
    for label, tensor, transposed in _onnx_weights(graph, held):
        value = _onnx_tensor(tensor, where)
        if isinstance(value, str):
            faults.append(value)
        else:
            arrays[label] = value.T if transposed and value.ndim == 2 else value
    order = tuple(
        (_ONNX_KINDS[op], _onnx_lrn(node) if op == "LRN" else ())
        for node in graph.node
        if (op := _text(node.op_type)) in _ONNX_KINDS
    )
    producer = _text(model.producer)
    metadata = {key: text for key, text in {"producer": producer, "name": _text(graph.name)}.items() if text}
    made = Tensors("onnx", "an ONNX file", size, metadata=metadata, layers=order, faults=tuple(faults))
    if faults and not arrays:
        return made
    return gathered(arrays, made, where)


def _onnx_weights(graph: Any, held: dict[bytes, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Each weight and bias in the order in which the graph uses them: its name, itself, whether it is (in, out).

    Initialisers that serve for something else (shapes, axes) are left out; those that the exporter named by number
    are named by the operation that uses them.
    """
    used: set[bytes] = set()
    unit = ""
    for number, node in enumerate(graph.node):
        op, inputs = _text(node.op_type), [bytes(name) for name in node.input]
        weighs = op in {"Conv", "Gemm", "MatMul", "BatchNormalization"}
        adds = op == "Add" and any(len(held[name].dims) == 1 for name in inputs if name in held)
        transposed = op == "MatMul" or (
            op == "Gemm" and not any(entry.name == b"transB" and entry.i for entry in node.attribute)
        )
        for index, name in enumerate(inputs):
            if name not in held or name in used or not (weighs or adds):
                continue
            used.add(name)
            role = "weight" if index == 1 and weighs else "bias" if index == 2 or adds else f"running{index}"
            parts = parted(_text(name))
            if role == "weight":
                unit = parts[0] if parts else f"{op}.{number}"
            own = parts is not None and parts == (unit, role)
            yield _text(name) if own else f"{unit}.{role}", held[name], transposed and role == "weight"


def _onnx_tensor(tensor: Any, where: str) -> Tensor | str:
    name, shape = _text(tensor.name), tuple(tensor.dims)
    if tensor.data_location == 1 or tensor.external_data:
        files = [_text(entry.value) for entry in tensor.external_data if entry.key == b"location"]
        raise CheckpointError(
            f"{where} keeps its weights in another file ({files[0] if files else 'not named'}), which is not opened: "
            "export it as one file, with save_as_external_data=False"
        )
    if tensor.data_type not in _ONNX_FLOATS:
        return f"{name} holds ONNX type {tensor.data_type}, not floating-point numbers (quantised weights are not read)"
    label, dtype = _ONNX_FLOATS[tensor.data_type]
    if tensor.raw_data:
        chunks = [tensor.raw_data]
    elif label:
        chunks = getattr(tensor, label)
    else:  # two bytes each, one to an int32
        chunks = [np.array([value & 0xFFFF for value in tensor.int32_data], "<u2").tobytes()]
    if dtype == "<u2":  # bfloat16, which numpy has not: the upper half of a float32
        data = b"".join(chunks)
        if prod(shape) * 2 != len(data) or any(length < 0 for length in shape):
            return f"{name} claims shape {shape} and holds {len(data) // 2:,} numbers"
        return torch.frombuffer(bytearray(data), dtype=torch.bfloat16).reshape(shape)
    return _floats(chunks, dtype, shape, name, where)


def _onnx_lrn(node: Any) -> tuple[float, ...]:
    given = {entry.name: entry for entry in node.attribute}
    size = given[b"size"].i if b"size" in given else 5
    rest = ((b"alpha", 1e-4), (b"beta", 0.75), (b"bias", 1.0))
    return (size, *(given[name].f if name in given else value for name, value in rest))
