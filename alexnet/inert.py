"""Pickles, without what pickles do: names in them become `Inert`, and nothing named is ever called.

For files whose format is a pickle of arrays (CIFAR's batches, dictionaries in .npy files).
"""

from __future__ import annotations

import pickle
import struct
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray


class Inert:
    """Stands for a function or class that a pickle names, and for what calling it would have made.

    It only remembers.  `array`, `text` and `raw` read from it what the few known names mean.
    """

    __slots__ = ("args", "called", "state")

    def __init__(self, called: str, args: tuple[Any, ...] | None = None) -> None:
        self.called, self.args, self.state = called, args, None

    def __call__(self, *args: Any) -> Inert:
        return Inert(self.called, args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def is_call(self, name: str, arguments: Iterable[int]) -> bool:
        return self.called == name and self.args is not None and len(self.args) in arguments


NAMES = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",  # bytes, as Python 3 writes them for Python 2
    **{
        (f"numpy.{core}.{module}", name): name
        for core in ("core", "_core")  # the same before and since numpy 2
        for module, name in (("multiarray", "_reconstruct"), ("numeric", "_frombuffer"))
    },
}
"""All that pickled arrays and texts name."""


class RefusedNameError(ValueError):
    """A pickle names something that no pickled array needs: `name`, with its module."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"it asks to run {name!r}")


class _Unpickler(pickle._Unpickler):  # noqa: SLF001
    """Python's unpickler in Python, in which names become `Inert`.

    The one in C can be made to fill all memory by a single number (the memo's index is taken as its size); this one
    keeps its memo in a dictionary, and takes a tenth of a second for a batch of CIFAR.
    """

    # Extension codes look names up in a table of this process instead of asking `find_class`.
    dispatch: ClassVar[dict[int, Any]] = {
        code: action
        for code, action in pickle._Unpickler.dispatch.items()  # noqa: SLF001
        if code not in {*pickle.EXT1, *pickle.EXT2, *pickle.EXT4}
    }

    def find_class(self, module: str, name: str, /) -> Inert:
        if (module, name) not in NAMES:
            raise RefusedNameError(f"{module}.{name}")
        return Inert(NAMES[module, name])

    def load_bytearray8(self) -> None:
        # Python's own makes room for as many bytes as are claimed before it reads any.
        reader = cast("Any", self)
        (length,) = struct.unpack("<Q", reader.read(8))
        data = bytearray(reader.read(length))
        if len(data) != length:
            raise pickle.UnpicklingError("it is cut off")
        reader.append(data)

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class _Bounded:
    """A stream whose `read` makes room only for what is left, whatever is claimed."""

    def __init__(self, stream: BinaryIO, left: int) -> None:
        self._stream, self._left = stream, left

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left))
        self._left -= len(data)
        return data

    def readline(self) -> bytes:
        data = self._stream.readline(self._left)
        self._left -= len(data)
        return data


def unpickled(stream: BinaryIO, size: int) -> Any:
    """What the next `size` bytes of a stream hold; strings written by Python 2 stay bytes.

    Raises:
        RefusedNameError: it names anything but `NAMES`.
        Exception: it is damaged or cut off; an unpickler answers bad bytes with any exception there is.
    """
    return _Unpickler(cast("BinaryIO", _Bounded(stream, size)), encoding="bytes").load()


def raw(value: Any) -> bytes | None:
    """The bytes that a pickle describes, in any of the ways it can; None if it does not."""
    if isinstance(value, Inert) and value.is_call("encode", {1, 2}):
        assert value.args is not None
        characters, encoding = (*value.args, "latin1")[:2]
        if isinstance(characters, str) and text(encoding) == "latin1":
            try:
                return characters.encode("latin1")
            except UnicodeEncodeError:
                return None
    return bytes(value) if isinstance(value, bytes | bytearray) else None


def text(value: Any) -> str | None:
    """The text that a pickle describes, also one written by Python 2; None if it does not."""
    if isinstance(value, str):
        return value
    data = raw(value)
    return None if data is None else data.decode("utf-8", "backslashreplace")


def array(value: Any, kinds: str = "iu") -> NDArray[Any] | None:
    """The array of numbers that a pickle describes, made by nothing but `np.frombuffer`; None if it does not.

    `kinds` are the numbers allowed, in numpy's letters: i and u for integers, f for floating point.
    """
    described = _described(value)
    if described is None:
        return None
    shape, dtype, by_columns, buffer = described
    kind, data = _dtype(dtype, kinds), raw(buffer)
    if kind is None or not data or not isinstance(shape, tuple) or len(shape) > 4:
        return None
    if any(type(length) is not int or length < 0 for length in shape) or prod(shape) * kind.itemsize != len(data):
        return None
    return np.frombuffer(data, kind).reshape(shape, order="F" if by_columns else "C")


def objects(value: Any) -> list[Any] | None:
    """The elements of an array of Python objects, row by row; None if the pickle describes no such array."""
    described = _described(value)
    if described is None or not isinstance(described[3], list):
        return None
    return described[3]


def _described(value: Any) -> tuple[Any, Any, Any, Any] | None:
    """Shape, dtype, whether by columns, and the buffer of what may be an array."""
    if not isinstance(value, Inert) or value.args is None:
        return None
    if value.is_call("_reconstruct", {3}) and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, by_columns, buffer = value.state
    elif value.is_call("_frombuffer", {4, 5}):  # protocol 5
        buffer, dtype, shape, order = value.args[:4]
        by_columns = text(order) == "F"
    else:
        return None
    return shape, dtype, by_columns, buffer


def _dtype(value: Any, kinds: str) -> np.dtype[Any] | None:
    if not isinstance(value, Inert) or not value.is_call("dtype", {1, 2, 3}):
        return None
    assert value.args is not None
    code = text(value.args[0])
    if code not in {f"{kind}{size}" for kind in kinds for size in (1, 2, 4, 8)} - {"f1"}:
        return None
    order = text(value.state[1]) if isinstance(value.state, tuple) and len(value.state) > 1 else "|"
    return np.dtype(code).newbyteorder(cast("Any", order)) if order in {"<", ">", "|", "="} else None
