"""The trained network in the box, held to its own card."""

from __future__ import annotations

import re
import tarfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

from alexnet.bundle import FEWEST_MOMENTS, LIMIT_BYTES, METRICS_BYTES
from alexnet.bundled import IMAGENETTE
from alexnet.config import TrainConfig
from alexnet.data.imagenet import readable
from alexnet.data.sources import open_data
from alexnet.foreign import open_checkpoint
from alexnet.inference import evaluate_checkpoint
from alexnet.options import parser
from analysis import card, film, shipped
from analysis.kernels import layer_kernels
from app import queries
from tests.training import imagenette

if TYPE_CHECKING:
    from pathlib import Path

MOVED = re.compile(rb"(?<![\w/:.%<-])/(?:home|root|tmp|work|var|mnt|usr|Users)/")


def test_it_is_the_two_towers_with_every_weight_and_fits_into_the_box() -> None:
    checkpoint = open_checkpoint(IMAGENETTE.weights)
    assert IMAGENETTE.weights == queries.BUILT_IN
    assert IMAGENETTE.weights.stat().st_size <= LIMIT_BYTES == 20_000_000
    assert checkpoint.network.name.partition("@")[0] == "alexnet-2012"
    assert (checkpoint.network.hidden, checkpoint.network.towers) == (512, 2)
    assert checkpoint.weights["conv1.weight"].shape == (96, 3, 11, 11)
    assert checkpoint.missing == ()
    assert readable(checkpoint.classes[0]) == "tench"


def test_its_kernels_are_no_noise() -> None:
    towers = layer_kernels(open_checkpoint(IMAGENETTE.weights)).towers
    assert sum(tower.compact for tower in towers) > 40  # noise: 0
    assert max(tower.smoothness or 9 for tower in towers) < 0.7  # noise: 3.6


def test_its_card_says_what_its_results_say() -> None:
    results = IMAGENETTE.results()
    text = IMAGENETTE.card.read_text(encoding="utf-8")
    assert text == card.markdown(results)
    for one in results["accuracy"]:
        assert f"{100 * one['top1']:.2f} %" in text
        assert one["pictures"] == results["data"]["val"] == 3_925
    for row in results["per_class"]:
        shares = " | ".join(f"{100 * row[crops]:.1f} %" for crops in ("centre", "ten"))
        assert f"| {row['words']} | {row['pictures']} | {shares} |" in text
    assert sum(row["pictures"] for row in results["per_class"]) == 3_925
    ours = results["kernels"]["ours"]
    assert f"| this network | {ours['compact']} of 96 | {ours['smoothness']:.2f} |" in text
    assert f"{results['network']['parameters']:,}" in text


def test_its_results_are_those_of_its_weights_and_its_records() -> None:
    results, checkpoint = IMAGENETTE.results(), open_checkpoint(IMAGENETTE.weights)
    assert results["network"] == shipped.network_facts(checkpoint.network, IMAGENETTE.weights.stat().st_size)
    assert results["network"]["parameters"] == sum(tensor.numel() for tensor in checkpoint.weights.values())
    assert results["kernels"] == shipped.kernels(checkpoint)
    assert results["training"] == shipped.training(IMAGENETTE.run)
    assert results["recipe"] == checkpoint.config
    shares = [row["ten"] * row["pictures"] for row in results["per_class"]]
    assert sum(shares) / 3_925 == pytest.approx(card.accuracy(results, "float16", "ten")["top1"])


def test_half_precision_costs_next_to_nothing() -> None:
    results = IMAGENETTE.results()
    for crops in ("centre", "ten"):
        half, whole = (card.accuracy(results, weights, crops)["top1"] for weights in ("float16", "float32"))
        assert abs(half - whole) < 0.003


def test_its_training_is_a_run_with_a_film() -> None:
    run = IMAGENETTE.run
    assert run.condition() == "finished"
    steps = film.steps(IMAGENETTE.folder)
    assert len(steps) >= FEWEST_MOMENTS
    assert (steps[0], steps[-1]) == (0, run.status()["steps"])
    assert sum(step < run.status()["steps"] / 10 for step in steps) > len(steps) / 4  # where kernels change fastest
    for step in (steps[0], steps[-1]):
        moment = film.read(run.probe_path(step))
        assert moment.kernels is not None
        assert (moment.kernels.shape, moment.kernels.dtype) == ((96, 3, 11, 11), np.float16)
        assert (moment.maps, moment.before) == ({}, {})
        assert moment.lrn.keys() == {"norm1", "norm2"}
    assert run.metrics_path.stat().st_size <= METRICS_BYTES
    assert TrainConfig.from_json(run.config()["config"]).network == open_checkpoint(IMAGENETTE.weights).network.name


def test_no_photograph_and_no_path_of_a_machine_is_in_it() -> None:
    files = [path for path in IMAGENETTE.folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".jsonl", ".md", ".npz", ".safetensors"}
    for path in files:
        if path.suffix != ".npz":
            assert not MOVED.search(path.read_bytes()), path
    assert not {"host", "pid"} & IMAGENETTE.run.status().keys()


def test_the_program_takes_the_commands_that_repeat_it() -> None:
    for name, line in IMAGENETTE.results()["commands"].items():
        assert parser().parse_args(line.split()[3:]).verb == name.partition("_")[0], line


def test_it_knows_imagenette(tmp_path: Path) -> None:
    with tarfile.open(imagenette()) as tar:
        members = [member for member in tar if member.name.endswith(".JPEG") and "val/" in member.name]
        few = [members[i] for i in np.linspace(0, len(members) - 1, 300).astype(int)]
        tar.extractall(tmp_path, members=few, filter="data")
    (folder,) = tmp_path.rglob("val")
    assert len(open_data(str(folder)).val.classes) == 10
    found = evaluate_checkpoint(IMAGENETTE.weights, str(folder), everything=True)
    assert found.pictures == 300
    # 300 of 3,925 stray by 0.022; so a checkpoint that the card does not speak of is found out.
    assert found.top1 == pytest.approx(card.accuracy(IMAGENETTE.results(), "float16", "centre")["top1"], abs=0.066)
