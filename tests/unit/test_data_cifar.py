from __future__ import annotations

import copyreg
import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from alexnet.data import cifar
from alexnet.data.cifar import CifarSource, is_cifar, open_cifar
from alexnet.data.sources import DataError, open_data

if TYPE_CHECKING:
    from collections.abc import Callable

Files = dict[str, bytes]

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HUNDRED = [f"fine_{i:02d}" for i in range(100)]
SET_NAMES = {"10-py": "cifar-10-batches-py", "10-bin": "cifar-10-batches-bin", "100-py": "cifar-100-python"}
SET_NAMES["100-bin"] = "cifar-100-binary"


def pictures(count: int, classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """(N, 32, 32, 3) uint8 and labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, classes, count).tolist()


def planes(images: np.ndarray) -> np.ndarray:
    """The 3,072 bytes a picture, as the web page describes them: all of red row by row, then green, then blue."""
    rows = [[image[y, x, c] for c in range(3) for y in range(32) for x in range(32)] for image in images]
    return np.array(rows, np.uint8)


# --- Python 2's pickles, written by hand -----------------------------------------------------------------------------


def python2(value: Any) -> bytes:
    """What cPickle of Python 2 writes at protocol 2: strings are SHORT_BINSTRING or BINSTRING, not unicode."""

    def dump(value: Any) -> bytes:
        if isinstance(value, bytes):
            if len(value) < 256:
                return b"U" + bytes([len(value)]) + value
            return b"T" + struct.pack("<I", len(value)) + value
        if isinstance(value, int):
            return b"K" + bytes([value])
        if isinstance(value, list):
            return b"](" + b"".join(map(dump, value)) + b"e"
        if isinstance(value, dict):
            return b"}(" + b"".join(dump(key) + dump(entry) for key, entry in value.items()) + b"u"
        shape = b"(" + b"".join(b"M" + struct.pack("<H", length) for length in value.shape) + b"t"
        dtype = (
            b"cnumpy\ndtype\n" + b"(" + dump(b"u1") + b"K\0K\1tR" + b"(K\3" + dump(b"|") + b"NNNJ\xff\xff\xff\xff" * 1
        ) + b"J\xff\xff\xff\xffK\0tb"
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0t" + dump(b"b") + b"tR"
            b"(K\1" + shape + dtype + b"I00\n" + dump(value.tobytes()) + b"tb"
        )

    return b"\x80\x02" + dump(value) + b"."


def python3(protocol: int) -> Callable[[Any], bytes]:
    return lambda value: pickle.dumps(value, protocol)


WRITERS = {"python 2": python2, **{f"protocol {p}": python3(p) for p in (2, 3, 4, 5)}}


# --- whole sets ------------------------------------------------------------------------------------------------------


def made(
    kind: str, write: Callable[[Any], bytes] = python2, count: int = 3
) -> tuple[Files, list[tuple[np.ndarray, list[int]]]]:
    """The files of a small set in one of the published forms, and what is in them: training batches, then the test."""
    classes, batches = (10, 5) if kind.startswith("10-") else (100, 1)
    content = [pictures(count + i, classes, seed=i) for i in range(batches + 1)]
    files: Files = {}
    for i, (images, labels) in enumerate(content):
        number = f"data_batch_{i + 1}" if i < batches else "test_batch"
        if classes == 100:
            number = "train" if i < batches else "test"
        if kind.endswith("bin"):
            coarse = b"\x13" if classes == 100 else b""
            records = (
                coarse + bytes([label]) + row.tobytes() for label, row in zip(labels, planes(images), strict=True)
            )
            files[f"{number}.bin"] = b"".join(records)
        else:
            names = [f"picture_{j}.png".encode() for j in range(len(labels))]
            batch: dict[bytes, Any] = {b"batch_label": b"x", b"filenames": names, b"data": planes(images)}
            key = b"labels" if classes == 10 else b"fine_labels"
            batch |= {key: labels} if classes == 10 else {key: labels, b"coarse_labels": [19] * len(labels)}
            files[number] = write(batch)
    if kind == "10-bin":
        files["batches.meta.txt"] = "\n".join([*TEN, "", ""]).encode()
    elif kind == "100-bin":
        files["fine_label_names.txt"] = "\n".join([*HUNDRED, ""]).encode()
        files["coarse_label_names.txt"] = b"fish\n"
    elif kind == "10-py":
        names = [name.encode() for name in TEN]
        files["batches.meta"] = write({b"num_cases_per_batch": 3, b"label_names": names, b"num_vis": 77})
    else:
        fine, coarse = [name.encode() for name in HUNDRED], [b"fish"]
        files["meta"] = write({b"fine_label_names": fine, b"coarse_label_names": coarse})
    return files, content


def folder(root: Path, files: Files) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (root / name).write_bytes(data)
    return root


def archive(path: Path, files: Files, top: str = "top", mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        directory = tarfile.TarInfo(top)
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
        for name, data in {**files, "readme.html": b"hello"}.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def check(source: Any, content: list[tuple[np.ndarray, list[int]]]) -> None:
    images = np.concatenate([images for images, _ in content])
    labels = [label for _, labels in content for label in labels]
    assert source.labels.tolist() == labels
    assert source.labels.dtype == np.int64
    assert source.pixels.dtype == np.uint8
    np.testing.assert_array_equal(source.pixels, images)
    for i in range(len(images)):
        np.testing.assert_array_equal(source.read(i), images[i])


@pytest.mark.parametrize("kind", SET_NAMES)
@pytest.mark.parametrize("packing", ["folder", "folder above", "tar.gz", "tar"])
def test_every_published_form_is_read(tmp_path: Path, kind: str, packing: str) -> None:
    files, content = made(kind)
    if packing.startswith("folder"):
        path = folder(tmp_path / SET_NAMES[kind], files)
        path = path if packing == "folder" else tmp_path
    else:
        path = archive(tmp_path / f"x.{packing}", files, SET_NAMES[kind], "w:gz" if packing == "tar.gz" else "w")
    splits = open_data(str(path))
    check(splits.train, content[:-1])
    check(splits.val, content[-1:])
    assert splits.train.classes == splits.val.classes == tuple(TEN if kind.startswith("10-") else HUNDRED)
    assert splits.name == ("CIFAR-10" if kind.startswith("10-") else "CIFAR-100")
    assert splits.description.count(f"{len(splits.train)} pictures to train and {len(splits.val)} to validate") == 1
    assert splits.train.name(0) == f"train/{splits.train.classes[splits.train.labels[0]]}/00000"
    assert str(tmp_path) not in splits.description


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", ["10-py", "100-py"])
def test_pickles_of_every_protocol_are_read(tmp_path: Path, kind: str, writer: str) -> None:
    files, content = made(kind, WRITERS[writer])
    splits = open_cifar(folder(tmp_path, files))
    check(splits.train, content[:-1])
    check(splits.val, content[-1:])
    assert splits.val.classes == tuple(TEN if kind == "10-py" else HUNDRED)


def test_the_pickles_by_hand_are_what_python_understands() -> None:
    images, labels = pictures(3, 10, 0)
    value = pickle.loads(python2({b"data": planes(images), b"labels": labels}), encoding="bytes")  # noqa: S301
    np.testing.assert_array_equal(value[b"data"], planes(images))
    assert value[b"labels"] == labels


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_texts_as_keys_arrays_as_labels_and_fortran_order_are_read(tmp_path: Path, protocol: int) -> None:
    files, content = made("10-py")
    images, labels = content[-1]
    for dtype in ("u1", ">i4", "<i8"):
        batch = {"data": np.asfortranarray(planes(images)), "labels": np.array(labels, dtype)}
        splits = open_cifar(folder(tmp_path, {**files, "test_batch": pickle.dumps(batch, protocol)}))
        check(splits.val, content[-1:])


def test_a_source_is_sent_as_a_path_and_read_again(tmp_path: Path) -> None:
    files, content = made("10-bin", count=20)
    splits = open_cifar(folder(tmp_path, files))
    sent = pickle.dumps(splits.train)
    assert len(sent) < 4_000 < splits.train.read(0).nbytes * 2
    copy = pickle.loads(sent)  # noqa: S301
    assert len(copy) == len(splits.train)
    check(copy, content[:-1])
    assert isinstance(splits.train, CifarSource)
    np.testing.assert_array_equal(splits.train.read(3), splits.train.pixels[3])  # the original still has its own
    splits.train.read(3)[:] = 0
    assert splits.train.pixels[3].any()
    again = pickle.loads(sent)  # noqa: S301
    files["data_batch_1.bin"] = bytes([(content[0][1][0] + 1) % 10]) + files["data_batch_1.bin"][1:]
    folder(tmp_path, files)
    with pytest.raises(DataError, match="has changed since it was opened"):
        again.read(0)


def test_other_folders_and_files_are_not_taken_for_it(tmp_path: Path) -> None:
    assert not is_cifar(folder(tmp_path / "a", {"train": b"list of files", "test": b"another"}))
    assert not is_cifar(folder(tmp_path / "b", {"meta": b"x"}))
    assert is_cifar(folder(tmp_path / "c", {"data_batch_1": b"", "data_batch_2": b""}))
    assert not is_cifar(folder(tmp_path / "d", {"x": b"\x1f"}) / "x")


# --- what is wrong with it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SET_NAMES)
def test_every_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    files, _ = made(kind)
    for name in set(files) - {"coarse_label_names.txt"}:
        rest = {other: data for other, data in files.items() if other != name}
        with pytest.raises(DataError, match=rf"lacks {name}: download it again"):
            open_cifar(archive(tmp_path / "x.tar.gz", rest))


@pytest.mark.parametrize(
    ("kind", "name", "change", "problem"),
    [
        (
            "10-bin",
            "data_batch_2.bin",
            lambda data: data[:-1],
            r"data_batch_2\.bin has 12,291 bytes, no multiple of 3,073",
        ),
        ("10-bin", "test_batch.bin", lambda _: b"", r"test_batch\.bin has 0 bytes"),
        ("10-bin", "data_batch_1.bin", lambda data: b"\x0a" + data[1:], r"has label 10; CIFAR-10 has 0 to 9"),
        ("100-bin", "test.bin", lambda data: b"\x00\x64" + data[2:], r"has label 100; CIFAR-100 has 0 to 99"),
        ("10-bin", "batches.meta.txt", lambda data: data[9:], r"batches\.meta\.txt names 9 classes; CIFAR-10 has 10"),
        ("10-bin", "batches.meta.txt", lambda data: data.replace(b"dog", b"cat"), "names 9 classes"),
        ("10-bin", "batches.meta.txt", lambda _: b"\xff\xff", "is no text"),
        ("10-py", "data_batch_3", lambda data: data[: len(data) // 2], "data_batch_3 is damaged or cut off"),
        ("10-py", "data_batch_3", lambda _: b"", "data_batch_3 is damaged or cut off"),
        ("10-py", "data_batch_3", lambda _: b"hello", "data_batch_3 is damaged or cut off"),
        ("10-py", "data_batch_3", lambda _: pickle.dumps([1]), "holds list where a dictionary belongs"),
        ("10-py", "data_batch_3", lambda _: pickle.dumps({}), "nothing that can be read for its data"),
        ("10-py", "batches.meta", lambda _: pickle.dumps({}), "no list of texts under 'label_names'"),
        ("10-py", "batches.meta", lambda _: pickle.dumps({"label_names": [1] * 10}), "no list of texts"),
        ("10-py", "batches.meta", lambda _: pickle.dumps({"label_names": ["a"] * 10}), "names 1 classes"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, kind: str, name: str, change: Callable[[bytes], bytes], problem: str
) -> None:
    files, _ = made(kind)
    with pytest.raises(DataError, match=problem) as caught:
        open_cifar(folder(tmp_path, {**files, name: change(files[name])}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("batch", "problem"),
    [
        ({"data": np.zeros((2, 3072), np.float32), "labels": [0, 0]}, "nothing that can be read"),
        ({"data": np.zeros((2, 3072), np.int8), "labels": [0, 0]}, r"int8 of shape \(2, 3072\)"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 0]}, r"\(2, 3071\)"),
        ({"data": np.zeros((2, 3, 32, 32), np.uint8), "labels": [0, 0]}, r"\(2, 3, 32, 32\)"),
        (
            {"data": np.zeros((0, 3072), np.uint8), "labels": []},
            r"nothing that can be read|asks to run '__builtin__.bytes'",
        ),
        ({"data": b"x" * 6144, "labels": [0, 0]}, "nothing that can be read"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, "2 pictures but 1 labels"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "no list of numbers under 'labels'"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, "1"]}, "no list of numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, True]}, "no list of numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, "label 10"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, -1]}, "no list of numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 2**80]}, "no list of numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": np.array([0, -1])}, "label -1"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": np.array([[0, 1]])}, "no list of numbers"),
    ],
)
def test_wrong_contents_of_a_pickle_are_refused(tmp_path: Path, batch: dict[str, Any], problem: str) -> None:
    files, _ = made("10-py")
    for protocol in (2, 4, 5):
        with pytest.raises(DataError, match=problem):
            open_cifar(folder(tmp_path, {**files, "data_batch_5": pickle.dumps(batch, protocol)}))


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_an_archive_cut_off_anywhere_is_refused(tmp_path: Path, mode: str) -> None:
    files, _ = made("10-bin")
    path = archive(tmp_path / "x.tar", files, mode=mode)
    good = path.read_bytes()
    for length in {*range(300, len(good) - (10_240 + 20) * (mode == "w"), len(good) // 40)} | {3, 10, 257, 299}:
        path.write_bytes(good[:length])
        with pytest.raises(DataError, match=r"download it again|unpack it"):
            open_data(str(path))


def test_a_damaged_archive_is_refused_or_read_right(tmp_path: Path) -> None:
    files, content = made("10-bin")
    path = archive(tmp_path / "x.tar.gz", files)
    good, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = bytearray(good)
        damaged[rng.integers(len(good))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            splits = open_cifar(path)
        except DataError:
            refused += 1
            continue
        check(splits.train, content[:-1])  # the damage is in the time stamp or the name of gzip's header
    assert refused > 50


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"n01440764/x.JPEG": b"x"})
    with pytest.raises(DataError, match="is an archive, but not of CIFAR: unpack it and name the folder"):
        open_data(str(path))
    (tmp_path / "y.gz").write_bytes(gzip.compress(b"no archive at all" * 100))
    with pytest.raises(DataError, match="is damaged or cut off"):
        open_data(str(tmp_path / "y.gz"))


def test_only_regular_files_of_an_archive_are_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 3073)
    files, _ = made("10-bin")
    del files["test_batch.bin"]
    path = archive(tmp_path / "x.tar", files, mode="w")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
        with tarfile.open(tmp_path / "y.tar", "w") as tar, tarfile.open(path) as good:
            for member in good:
                tar.addfile(member, good.extractfile(member))
            link = tarfile.TarInfo("top/test_batch.bin")
            link.type, link.linkname = kind, str(secret)
            tar.addfile(link)
        with pytest.raises(DataError, match=r"lacks test_batch\.bin"):
            open_cifar(tmp_path / "y.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["secret", "x.tar", "y.tar"]  # nothing was unpacked


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    files, _ = made("10-bin")
    with pytest.raises(DataError, match=r"two files named test_batch\.bin"):
        open_cifar(archive(tmp_path / "x.tar", {**files, "again/test_batch.bin": files["test_batch.bin"]}, mode="w"))


def test_archives_that_swell_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "MAX_ARCHIVE_BYTES", 100_000)
    path = archive(tmp_path / "x.tar.gz", {"zeros": bytes(1_000_000)})
    with pytest.raises(DataError, match="unpacks to more than 100,000 bytes"):
        open_cifar(path)
    monkeypatch.setattr(cifar, "MAX_FILE_BYTES", 10_000)
    for path in (
        archive(tmp_path / "y.tar.gz", {"meta": bytes(10_001)}),
        folder(tmp_path / "z", {"meta": bytes(10_001)}),
    ):
        with pytest.raises(DataError, match="meta has 10,001 bytes; no file of CIFAR has more than 10,000"):
            open_cifar(path)


# --- hostile pickles -------------------------------------------------------------------------------------------------


class Reduced:
    """Pickles as a call of anything."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


HOSTILE = {
    "system": b"cos\nsystem\n(Vexport X\ntR.",
    "posix": pickle.dumps(Reduced(os.system, ("touch executed",))),
    "eval": b"c__builtin__\neval\n(Vopen('executed', 'w')\ntR.",
    "builtins eval": pickle.dumps(Reduced(eval, ("open('executed', 'w')",))),
    "getattr": pickle.dumps({b"data": Reduced(getattr, (Reduced(__import__, ("os",)), "system"))}),
    "inst": b"(Vtouch executed\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nVtouch executed\no.",
    "newobj": b"\x80\x02csubprocess\nPopen\nVtouch executed\n\x85\x81.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0etouch executed\x85R.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0bos.system.x\x93.",
    "numpy's own load": b"cnumpy\nload\n(Vexecuted\ntR.",
    "runstring": b"cnumpy.testing._private.utils\nrunstring\n(Vopen('executed','w')\n}tR.",
    "codecs": b"c_codecs\nopen\n(Vexecuted\nVw\ntR.",
    "bytearray": b"c__builtin__\nbytearray\n(I9999999999\ntR.",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("where", ["data_batch_1", "batches.meta"])
def test_pickles_that_call_are_refused_and_call_nothing(
    tmp_path: Path, name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files, _ = made("10-py")
    for function in ("os.system", "builtins.eval", "builtins.__import__"):
        if function != "builtins.__import__":  # imports go on as usual
            monkeypatch.setattr(function, lambda *_: pytest.fail("it was executed"))
    with pytest.raises(DataError, match=rf"{where} is no CIFAR batch: it asks to run '[\w.]+', .*do not trust it"):
        open_cifar(folder(tmp_path / "set", {**files, where: HOSTILE[name]}))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cnumpy\nndarray\n}V__class__\nK\1s\x86b.",  # sets attributes of what stands for a class
        b"\x80\x02cnumpy\nndarray\nN}V__init__\nK\1s\x86b.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"\x80\x04cnumpy\nndarray\n)}\x92.",
        b"\x80\x02\x82\x01U\1x\x85R.",  # an extension code, and a call of what it stands for
        b"\x80\x02\x83\x01\x00.",
        b"\x80\x02\x84\x01\x00\x00\x00.",
        b"Pan id\n.",  # a persistent id
        b"\x80\x05\x97.",  # a buffer from outside
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of 64 GB, if taken at its word
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",  # a frame of 8 exabytes
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of that length
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"]" * 50_000 + b"a" * 49_999 + b".",
        b"}" + b"2" * 5_000 + b"0" * 5_000 + b"U\4dataU\4datas.",
        b"}U\4datacnumpy.core.multiarray\n_reconstruct\n(K\1K\2K\3tRs.",
        b"}U\4datacnumpy.core.multiarray\n_reconstruct\n(K\1K\2K\3tR(K\1]]]]tbs.",
        b"}U\4datacnumpy.core.multiarray\n_reconstruct\n(K\1K\2K\3tR(K\1(J\xff\xff\xff\xfftcnumpy\ndtype\n(U\2u1tRI00\nU\0tbs.",
        b"}U\4datacnumpy.core.multiarray\n_reconstruct\n(K\1K\2K\3tR(K\1(K\1tcnumpy\ndtype\n(U\1OtRI00\nU\10"
        + b"x" * 8
        + b"tbs.",
        b"}U\4datac_codecs\nencode\n(]]tRs.",
        b"}c_codecs\nencode\n(V\\u1234\nVlatin1\ntRK\1s.",
        b"}U\4datacnumpy._core.numeric\n_frombuffer\n(]]]]tRs.",
        b"}(U\4datacnumpy\ndtype\n(]tRU\4datacnumpy\ndtype\nu.",
        b"." * 10,
        b"",
    ],
)
def test_crooked_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    before = dict(vars(cifar._Inert)), dict(cifar._NAMES)
    called: list[Any] = []
    copyreg._extension_cache[1] = called.append  # type: ignore[attr-defined]
    try:
        files, _ = made("10-py")
        with pytest.raises(DataError):
            open_cifar(folder(tmp_path, {**files, "data_batch_1": data}))
    finally:
        del copyreg._extension_cache[1]  # type: ignore[attr-defined]
    assert (dict(vars(cifar._Inert)), dict(cifar._NAMES), called) == (*before, [])


def test_batches_damaged_anywhere_are_refused_or_read_in_form() -> None:
    files, _ = made("10-py", python3(2), count=1)
    good, rng = files["data_batch_1"], np.random.default_rng(1)
    structure = [i for i in range(len(good)) if i < 200 or i > len(good) - 200]
    for _ in range(400):
        damaged = bytearray(good)
        damaged[rng.choice(structure)] = int(rng.integers(256))
        try:
            pixels, labels = cifar._pickled_batch(bytes(damaged), "data_batch_1", cifar._LAYOUTS[0])
        except DataError:
            continue
        assert pixels.shape == (len(labels), 32, 32, 3)
        assert pixels.dtype == np.uint8


def test_the_module_needs_no_torch() -> None:
    code = "import sys, alexnet.data.cifar; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
