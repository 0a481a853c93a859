from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.runs import RunDirectory
from analysis.curves import Curves, Moments
from analysis.history import History, which_lines

ROOT = Path(__file__).parents[2]


def train(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "train", "step": step, "epoch": (step - 1) // 10, "loss": 2.0 / step, "top1": 0.25, "pictures": 64,
        "learning_rate": 0.01, "images_per_second": 320.5, "waited_share": 0.125, "time": 1000.0 + step,
    } | changes  # fmt: skip


def val(step: int, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "val", "step": step, "epoch": (step - 1) // 10, "loss": 1.5, "top1": 0.5, "top5": 0.875,
        "pictures": 40, "per_class": [0.5, None, 1.0], "seconds": 2.5, "time": 1002.5 + step,
    } | changes  # fmt: skip


def layers(step: int, scale: float = 1.0, **changes: Any) -> dict[str, Any]:
    def moments(size: float) -> dict[str, float]:
        return {"mean": 0.1 * size, "std": 0.2 * size, "norm": size}

    return {
        "kind": "layers",
        "step": step,
        "weights": {"conv1.weight": moments(scale), "conv1.bias": moments(2 * scale)},
        "gradients": {"conv1.weight": moments(0.5 * scale), "conv1.bias": moments(0.25 * scale)},
    } | changes


def unreadable(step: int, *names: str) -> dict[str, Any]:
    return {"kind": "unreadable", "step": step, "count": len(names), "pictures": list(names)}


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def same(a: Any, b: Any) -> bool:
    """Whether two results of any of our kinds are equal, NaN to NaN."""
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, Curves) or hasattr(a, "__slots__"):
        return all(same(getattr(a, one.name), getattr(b, one.name)) for one in fields(a))
    if hasattr(a, "items"):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return bool(a == b)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


# --- what is read -----------------------------------------------------------------------------------------------------


def test_every_kind_of_record_in_its_columns(path: Path) -> None:
    path.write_bytes(
        lines(train(1), layers(1), train(2), val(2), unreadable(2, "a.jpg"), layers(2, 3.0), unreadable(3, "a", "é"))
    )
    found = History(path).update()
    assert found.train.step.tolist() == [1, 2]
    assert found.train.loss.tolist() == [2.0, 1.0]
    assert found.train.time.tolist() == [1001.0, 1002.0]
    for name in ("top1", "pictures", "learning_rate", "images_per_second", "waited_share"):
        assert getattr(found.train, name).tolist() == [train(1)[name]] * 2
    assert (found.val.step.tolist(), found.val.top1.tolist(), found.val.topk.tolist()) == ([2], [0.5], [0.875])
    assert found.val.k == 5
    np.testing.assert_array_equal(found.val.per_class, [[0.5, np.nan, 1.0]])
    assert found.classes == 3
    assert list(found.weights) == ["conv1.weight", "conv1.bias"]
    assert found.weights["conv1.bias"].norm.tolist() == [2.0, 6.0]
    assert found.gradients["conv1.weight"].std.tolist() == [0.1, pytest.approx(0.3)]
    assert found.gradients["conv1.weight"].step.tolist() == [1, 2]
    assert found.unreadable is not None
    assert (found.unreadable.step, found.unreadable.count, found.unreadable.pictures) == (3, 2, ("a", "é"))
    assert (found.damaged, found.step) == (0, 2)


def test_the_run_directory_and_this_reader_agree(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    history = History(run.metrics_path)
    for step in range(1, 30):
        run.append_metrics(train(step))
        if step % 10 == 0:
            run.append_metrics(val(step))
    found = history.update()
    records = run.metrics()
    assert found.train.loss.tolist() == [record["loss"] for record in records if record["kind"] == "train"]
    assert found.val.step.tolist() == [record["step"] for record in records if record["kind"] == "val"]
    run.forget_after(15)
    found = history.update()
    assert found.train.step.tolist() == list(range(1, 16))
    assert found.val.step.tolist() == [10]
    run.append_metrics(train(16, loss=9.0))
    assert history.update().train.loss[-1] == 9.0


def test_few_classes_have_another_k(path: Path) -> None:
    record = val(1)
    del record["top5"]
    path.write_bytes(lines(record | {"top3": 0.75}))
    found = History(path).update().val
    assert (found.k, found.topk.tolist()) == (3, [0.75])


def test_a_run_without_a_file_is_empty(path: Path) -> None:
    history = History(path)
    assert history.update().step == 0
    assert history.update().classes is None
    path.write_bytes(lines(train(1)))
    assert history.update().step == 1
    path.unlink()
    assert history.update().step == 0
    assert History(path / "below" / "a" / "file").update().step == 0


def test_the_arrays_cannot_be_written_to(path: Path) -> None:
    path.write_bytes(lines(train(1), val(1), layers(1)))
    found = History(path).update()
    for array in (found.train.step, found.train.loss, found.val.per_class, found.weights["conv1.weight"].norm):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_what_was_given_out_stays_as_it_was(path: Path) -> None:
    history = History(path)
    path.write_bytes(lines(train(1), train(2), val(2), layers(2)))
    before = history.update()
    with path.open("ab") as file:
        file.write(lines(train(3), train(2, loss=70.0), val(2, top1=0.0), layers(1), layers(3)))
    after = history.update()
    assert before.train.loss.tolist() == [2.0, 1.0]
    assert before.val.top1.tolist() == [0.5]
    assert before.weights["conv1.weight"].step.tolist() == [2]
    assert after.train.loss.tolist() == [2.0, 70.0, 2.0 / 3]
    assert after.weights["conv1.weight"].step.tolist() == [1, 2, 3]


# --- as the file grows ------------------------------------------------------------------------------------------------


def test_nothing_new_is_the_same_object(path: Path) -> None:
    path.write_bytes(lines(train(1)))
    history = History(path)
    first = history.update()
    assert history.update() is first
    assert history.curves is first
    os.utime(path)
    assert history.update() is first


def test_a_half_written_line_waits(path: Path) -> None:
    whole = lines(train(1), train(2))
    path.write_bytes(whole[:-1])
    history = History(path)
    assert history.update().train.step.tolist() == [1]
    path.write_bytes(whole)
    assert history.update().train.step.tolist() == [1, 2]
    assert history.damaged == 0


def test_only_what_is_new_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis import history as module

    path.write_bytes(lines(*map(train, range(1, 1001))))
    history = History(path)
    history.update()
    parsed: list[bytes] = []
    real = module._record
    monkeypatch.setattr(module, "_record", lambda line: parsed.append(line) or real(line))
    with path.open("ab") as file:
        file.write(lines(train(1001)))
    assert history.update().step == 1001
    assert [line for line in parsed if line] == [lines(train(1001))[:-1]]


def test_a_shorter_file_is_read_anew(path: Path) -> None:
    path.write_bytes(lines(*map(train, range(1, 6)), val(5)))
    history = History(path)
    history.update()
    path.write_bytes(lines(train(1, loss=5.0)))
    found = history.update()
    assert (found.train.loss.tolist(), found.val.step.size) == ([5.0], 0)


@pytest.mark.parametrize("count", [2, 5, 9])
def test_another_file_is_read_anew_whatever_its_length_and_inode(path: Path, count: int) -> None:
    path.write_bytes(lines(*map(train, range(1, 6))))
    history = History(path)
    history.update()
    # Written over in place: the same inode, and for 5 records the same size.
    path.write_bytes(lines(*(train(step, top1=0.75) for step in range(1, count + 1))))
    os.utime(path, ns=(1, 1))
    found = history.update()
    assert found.train.top1.tolist() == [0.75] * count


records = st.one_of(
    st.builds(train, st.integers(1, 30), loss=st.floats(0, 9)),
    st.builds(val, st.integers(1, 30), top1=st.floats(0, 1)),
    st.builds(layers, st.integers(1, 30), st.floats(0.5, 2)),
    st.builds(unreadable, st.integers(1, 30), st.text(max_size=5)),
    st.just({"kind": "von später", "step": 3}),
    st.sampled_from(["{", "☃", 5, None, [], {}, {"kind": "train"}, {"kind": "layers", "step": 1}]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=25), st.lists(st.integers(0, 6000), max_size=12))
def test_reading_piece_by_piece_is_reading_at_once(
    tmp_path_factory: pytest.TempPathFactory, written: list[Any], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("pieces")
    content = lines(*written)
    piecewise, whole = folder / "piecewise.jsonl", folder / "whole.jsonl"
    whole.write_bytes(content)
    history = History(piecewise)
    history.update()
    # Cuts are anywhere: in the middle of lines, and of letters that are several bytes.
    edges = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    for start, end in pairwise(edges):
        with piecewise.open("ab") as file:
            file.write(content[start:end])
        history.update()
    found, expected = history.curves, History(whole).update()
    assert same(found, expected)
    # An independent reading: the last record of each step, in the order of steps.
    last = {one["step"]: one["loss"] for one in written if isinstance(one, dict) and "loss" in one and "pictures" in one
            and one["kind"] == "train"}  # fmt: skip
    assert expected.train.step.tolist() == sorted(last)
    assert expected.train.loss.tolist() == [last[step] for step in sorted(last)]


def test_a_block_of_bytes_may_end_anywhere(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = lines(*map(train, range(1, 40)), unreadable(40, "日本語.jpg"), val(40))
    path.write_bytes(content)
    expected = History(path).update()
    for size in (1, 7, 100, 333):
        monkeypatch.setattr("analysis.history._CHUNK", size)
        assert same(History(path).update(), expected)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"\x00\x00\x00", b"\xff\xfe", b"null", b"[]", b"3", b'"train"', b"{}", b'{"kind": "train"}',
        b'{"kind": ["train"], "step": 1}', b'{"kind": "train", "step": 1.5}', b'{"kind": "train", "step": true}',
        b'{"kind": "train", "step": -1}', b'{"kind": "train", "step": 99999999999999999}', b"[" * 100_000,
        b'{"kind": "layers", "step": 1}', b'{"kind": "layers", "step": 1, "weights": 3, "gradients": []}',
        b'{"kind": "unreadable", "step": 1, "count": "x", "pictures": []}',
        b'{"kind": "train", "step": 1, "loss": NaN', b'{"step": 5, "loss": 1}\r',
    ],
)  # fmt: skip
def test_a_damaged_line_is_counted_and_harms_no_other(path: Path, line: bytes) -> None:
    path.write_bytes(lines(train(1)) + line + b"\n\n" + lines(train(2), val(2)))
    found = History(path).update()
    assert found.damaged == 1
    assert found.damaged_lines == (2,)
    assert (found.train.step.tolist(), found.val.step.tolist()) == ([1, 2], [2])


def test_damaged_lines_are_numbered_as_an_editor_does_also_in_a_file_that_grows(path: Path) -> None:
    path.write_bytes(b"\n" + lines(train(1)) + b"{\n" + b"half")
    history = History(path)
    assert history.update().damaged_lines == (3,)
    with path.open("ab") as file:
        file.write(b" a line\n" + lines(train(2)) + b"[]\n")
    assert history.update().damaged_lines == (3, 4, 6)
    path.write_bytes(b"{\n" * 300)
    assert history.update().damaged == 300
    assert history.curves.damaged_lines == tuple(range(1, 101))


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((), ""),
        ((2,), "It is line 2."),
        ((1, 3), "They are lines 1 and 3."),
        ((1, 2, 4), "They are lines 1, 2 and 4."),
        (tuple(range(1, 13)), "They are lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more."),
    ],
)
def test_damaged_lines_in_words(path: Path, at: tuple[int, ...], said: str) -> None:
    path.write_bytes(b"".join(b"{\n" if number in at else lines(train(number)) for number in range(1, 14)))
    assert which_lines(History(path).update()) == said


@pytest.mark.parametrize("value", [None, "2.0", True, [1.0], {}, 10**400], ids=str)
def test_what_is_no_number_is_nan(path: Path, value: Any) -> None:
    def moments(norm: Any) -> dict[str, Any]:
        return {"conv1.weight": {"mean": 0.0, "std": 1.0, "norm": norm}, "conv2.weight": norm}

    path.write_bytes(
        lines(
            train(1), train(2, loss=value), val(2, top1=value, per_class=[value, 0.5, 1]),
            layers(2, weights=moments(value), gradients={}),
        )
    )  # fmt: skip
    found = History(path).update()
    # JSON has no integers of 400 digits for every reader: such a line may be damage as well.
    assert np.isnan(found.train.loss[1:]).all()
    assert found.train.loss[0] == 2.0
    assert np.isnan(found.val.top1).all()
    assert np.isnan(found.val.per_class[:, 0]).all()
    assert all(np.isnan(one.norm).all() for one in found.weights.values())


def test_missing_keys_are_nan(path: Path) -> None:
    path.write_bytes(lines({"kind": "train", "step": 4}, {"kind": "val", "step": 4}, train(5)))
    found = History(path).update()
    for one in fields(found.train):
        if one.name != "step":
            assert math.isnan(getattr(found.train, one.name)[0])
    assert found.train.loss[1] == 0.4
    assert np.isnan([found.val.top1[0], found.val.topk[0], found.val.loss[0]]).all()
    assert found.val.per_class.shape == (1, 0)
    assert found.damaged == 0


def test_numbers_that_are_not_finite_are_read_as_they_are(path: Path) -> None:
    path.write_bytes(b'{"kind": "train", "step": 1, "loss": NaN}\n{"kind": "train", "step": 2, "loss": Infinity}\n')
    found = History(path).update()
    np.testing.assert_array_equal(found.train.loss, [np.nan, np.inf])
    assert found.damaged == 0


def test_a_validation_with_other_classes_has_none(path: Path) -> None:
    path.write_bytes(lines(val(1, per_class=[1.0]), val(2), val(3, per_class="?")))
    shares = History(path).update().val.per_class
    np.testing.assert_array_equal(shares, [[np.nan] * 3, [0.5, np.nan, 1.0], [np.nan] * 3])


def test_a_file_that_cannot_be_read_is_said(path: Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        History(path).update()


# --- threads ----------------------------------------------------------------------------------------------------------


def test_many_readers_never_see_half_an_update(path: Path) -> None:
    path.touch()
    history, faults, done = History(path), list[str](), threading.Event()

    def read() -> None:
        step = 0
        while not done.is_set():
            found = history.update()
            lengths = {getattr(found.train, one.name).size for one in fields(found.train)}
            norms: Moments | None = found.weights.get("conv1.weight")
            if len(lengths) != 1 or found.train.step.tolist() != list(range(1, found.train.step.size + 1)):
                faults.append(f"columns of {lengths}")
            if norms is not None and norms.norm.tolist() != [float(one) for one in norms.step]:
                faults.append("norms of other steps")
            if found.step < step:
                faults.append(f"back from {step} to {found.step}")
            step = found.step

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    content = lines(*(one for step in range(1, 301) for one in (train(step), layers(step, float(step)))))
    random = np.random.default_rng(0)
    at = 0
    with path.open("ab", buffering=0) as file:
        while at < len(content):
            size = int(random.integers(1, 4000))
            file.write(content[at : at + size])
            at += size
            time.sleep(0.001)
    done.set()
    for reader in readers:
        reader.join()
    assert faults == []
    assert history.update().step == 300


def test_reading_curves_needs_neither_torch_nor_streamlit_nor_plotly() -> None:
    code = (
        "import sys; import analysis.history, analysis.learning, analysis.learning_tables, analysis.thinning;"
        "print(*{'torch', 'streamlit', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.benchmark
def test_a_hundred_thousand_records_are_read_in_less_than_a_second(path: Path) -> None:
    path.write_bytes(lines(*map(train, range(1, 100_001))))
    begun = time.perf_counter()
    history = History(path)
    assert history.update().train.step.size == 100_000
    assert time.perf_counter() - begun < 1
    begun = time.perf_counter()
    for _ in range(1000):
        history.update()
    assert (time.perf_counter() - begun) / 1000 < 100e-6
