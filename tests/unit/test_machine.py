from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from alexnet import machine, memory
from alexnet.config import ConfigError, TrainConfig
from alexnet.machine import (
    available_bytes,
    check_memory,
    chosen,
    does_not_fit,
    product_rate,
    ran_out_of_memory,
    used_bytes,
)
from alexnet.zoo import network_named

if TYPE_CHECKING:
    from pathlib import Path

ALEXNET = network_named("alexnet-2012")


def choice(**changes: Any) -> machine.Machine:
    values = {"device": "cpu", "fused_lrn": "off"} | changes
    return chosen(TrainConfig(data="x", **values), ALEXNET, in_memory=True)


def test_every_choice_is_reported_in_words() -> None:
    report = choice(precision="float32", channels_last="off", fused_optimiser="off", workers=3, compile="on").report()
    assert report == {
        "device": "cpu",
        "precision": "float32",
        "memory order": "channels first",
        "lrn": "plain torch",
        "optimiser": "one tensor at a time",
        "network": "torch.compile",
        "reading": "3 processes",
        "threads": str(torch.get_num_threads()),
    }


def test_what_is_left_open_is_chosen_for_speed() -> None:
    found = choice()
    assert found.channels_last
    assert found.fused_optimiser
    assert found.workers == 0  # on the CPU, a thread
    assert found.precision in {torch.float32, torch.bfloat16}


def test_two_devices_take_a_tower_each() -> None:
    assert choice(device="cpu,cpu").devices == (torch.device("cpu"), torch.device("cpu"))
    assert choice(device="cpu,cpu").report()["device"] == "cpu (one tower each)"


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("warp", "must be like cpu, cuda"),
        ("cpu,cpu,cpu", "takes one device, or two"),
        ("meta", "must be cpu or cuda, got meta"),
        ("cuda:99", "torch sees no CUDA device" if not torch.cuda.is_available() else "numbered from 0"),
    ],
)
def test_devices_that_are_not_there(device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choice(device=device)


def test_a_fused_norm_that_is_forced_and_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_device: str) -> None:
        raise machine.layers.NoCompilerError("no g++")

    monkeypatch.setattr(machine.layers, "fused_kernels", fails)
    with pytest.raises(ConfigError, match=r"--fused-lrn on: torch.compile has no compiler here \(no g\+\+\)"):
        choice(fused_lrn="on")
    assert "no g++" in choice(fused_lrn="auto").report()["lrn"]


def test_a_batch_that_does_not_fit_is_answered_with_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    gib = 2**30
    monkeypatch.setattr(machine, "available_bytes", lambda _device: 2 * gib)
    assert check_memory(ALEXNET, choice(), 64, 1) is None
    text = check_memory(ALEXNET, choice(), 512, 1)
    assert text is not None
    needed = memory.training_memory(ALEXNET, 512).total
    assert f"--batch 512 does not fit: a step on 512 pictures needs about {needed / gib:.1f} GiB" in text
    fits = int(re.search(r"at most about --batch (\d+) would fit", text).group(1))  # type: ignore[union-attr]
    assert memory.training_memory(ALEXNET, fits).total <= 2 * gib < memory.training_memory(ALEXNET, fits + 1).total


def test_several_processes_divide_the_batch() -> None:
    text = does_not_fit(ALEXNET, choice(), 4096, 4, 2**31)
    assert "a step on 1024 pictures" in text
    fits = int(re.search(r"--batch (\d+) would fit", text).group(1))  # type: ignore[union-attr]
    assert fits % 4 == 0


def test_where_not_even_one_picture_fits() -> None:
    assert "not even one picture fits" in does_not_fit(ALEXNET, choice(), 8, 1, 2**20)


def test_an_estimate_that_was_too_small_halves_the_batch() -> None:
    assert "try --batch 64" in does_not_fit(ALEXNET, choice(), 128, 1, 2**40)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("shape mismatch"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert ran_out_of_memory(error) == expected


def test_torch_says_that_memory_ran_out_in_words_that_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert ran_out_of_memory(caught.value)


def test_free_memory_is_known_here() -> None:
    found = available_bytes(torch.device("cpu"))
    assert found is None or 2**20 < found < 2**50


def test_memory_in_use_grows_with_what_is_allocated_and_not_with_files(tmp_path: Path) -> None:
    here = choice()
    before = used_bytes(here)
    assert before is not None
    held = np.ones(8 << 20)  # 64 MiB
    grown = used_bytes(here)
    assert grown is not None
    assert 60 << 20 < grown - before < 80 << 20
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    mapped = np.memmap(tmp_path / "file", mode="r")
    assert int(mapped.sum()) == 0
    again = used_bytes(here)
    assert again is not None
    assert again - grown < 8 << 20
    assert held.sum() == 8 << 20


def test_the_rate_of_products_is_that_of_a_product_timed_by_hand() -> None:
    here = choice()
    factor = torch.ones(1024, 1024, dtype=here.precision)
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        factor @ factor
        times.append(time.perf_counter() - begun)
    assert product_rate(here) == pytest.approx(2 * 1024**3 / min(times), rel=0.8)  # two shared cores
