"""The trained network in the box, read without torch: what the first page shows while torch is still being imported."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import streamlit as st

from alexnet.bundled import IMAGENETTE
from alexnet.data.imagenet import readable
from alexnet.errors import UserError
from alexnet.runs import RunDirectory
from alexnet.serial import DamagedNetworkError, network_from_data
from alexnet.spec import Conv
from analysis import film
from analysis.formats import percent
from analysis.history import History
from analysis.kernels import LayerKernels, kernel_measures, tower_measures, tower_names
from app import queries, run_film

if TYPE_CHECKING:
    from alexnet.spec import Network
    from analysis.curves import Curves


@dataclass(frozen=True, slots=True, eq=False)
class Box:
    """The network in the box: its first kernels, measured, and what it knows.  `classes` are words for people."""

    network: Network
    kernels: LayerKernels
    classes: tuple[str, ...]
    results: dict[str, Any]
    """Of its last validation: ``top1``, ``pictures``, …"""


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """How it was trained, as its run directory tells: the film in blocks, and its curves."""

    screen: film.Screen
    reels: tuple[film.Reel, ...]
    curves: Curves
    pictures: int
    """In the training set."""
    epochs: int

    @property
    def steps(self) -> tuple[int, ...]:
        return tuple(step for reel in self.reels for step in reel.steps)

    @property
    def labels(self) -> dict[int, str]:
        """What stands beside the film's slider at each step."""
        return {step: label(step, self.curves) for step in self.steps}


def label(step: int, curves: Curves) -> str:
    """The step, and the share of right answers at the last validation until then, where there was one."""
    before = np.flatnonzero((curves.val.step <= step) & np.isfinite(curves.val.top1))
    if not step:
        return "step 0 · untrained"
    return f"step {step:,}" + (f" · {percent(curves.val.top1[before[-1]], digits=0)} right" if before.size else "")


def box() -> Box:
    """What is in the box.

    Raises:
        UserError: the file is missing or damaged.
    """
    return _box(str(queries.BUILT_IN), queries.stamp(queries.BUILT_IN))


@st.cache_resource(max_entries=2, show_spinner=False)
def _box(path: str, version: str) -> Box:  # noqa: ARG001
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            texts = opened.metadata() or {}
            network = network_from_data(json.loads(texts["network"]))
            first = next(stage for stage in network.stages() if isinstance(stage.layer, Conv))
            weights = np.asarray(opened.get_tensor(f"{first.name}.weight"), np.float32)
        measured = kernel_measures(weights, first.towers)
        names = tower_names(first.towers, network.gpus)
        return Box(
            network=network,
            kernels=LayerKernels(first.name, weights, names, measured, tower_measures(measured)),
            classes=tuple(readable(str(name)) for name in json.loads(texts["classes"])),
            results=dict(json.loads(texts["results"])),
        )
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError, DamagedNetworkError) as error:
        raise UserError(f"the network in the box, {path}, cannot be read: {error}") from None


def training(network: Network) -> Training:
    """The run that made it.

    Raises:
        UserError: nothing of its film can be shown.
    """
    run = IMAGENETTE.folder
    return _training(str(run), queries.stamp(run), network)


@st.cache_resource(max_entries=2, show_spinner=False, hash_funcs=run_film.KEYS)
def _training(path: str, version: str, network: Network) -> Training:  # noqa: ARG001
    directory = RunDirectory(Path(path))
    screen, chosen = film.screen(network), film.thinned(film.steps(directory.path), run_film.MOST)
    reels = tuple(film.reel(directory.path, block, screen) for block in film.blocks(chosen))
    if not any(reel.steps for reel in reels):
        raise UserError(f"{path} has no moment of the training that can be shown")
    record = directory.config()
    try:
        pictures, epochs = int(record["data"]["train"]), int(record["config"]["epochs"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{directory.config_path} does not say what it was trained on, and for how long") from None
    return Training(screen, reels, History(directory.metrics_path).update(), pictures, epochs)
