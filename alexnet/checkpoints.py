"""Checkpoints: weights with everything needed to look at a picture through them, or to go on training."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch

from alexnet.build import build
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.errors import UserError
from alexnet.initialisation import initialise
from alexnet.runs import beside, replace_atomically
from alexnet.serial import DamagedNetworkError, network_as_data, network_from_data
from alexnet.spec import Conv, Linear

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from alexnet.config import Initialisation
    from alexnet.spec import Layer, Network, Stage

FORMAT = "alexnet-laboratory checkpoint 1"
IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean of ImageNet's training pictures in red, green, blue, 0…255 (torchvision's 0.485, 0.456, 0.406)."""


class CheckpointError(UserError):
    """A checkpoint cannot be read or does not fit; the message names the file and says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network with its weights, what its outputs mean and how its inputs were made.

    `config` is the recipe as JSON; `training` is what `Trainer.state` gave, and None in one that is only to be looked
    through; `results` are the latest validation's.

    Weights may be partial: `missing` stages then have none, and what lies behind the first of them cannot be computed.
    `origin` says in words what kind of file this came from and `notes` what had to be assumed; both are empty in ours.
    """

    network: Network
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    weights: Mapping[str, Tensor]
    config: dict[str, Any]
    results: dict[str, Any]
    training: dict[str, Any] | None = None
    origin: str = ""
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the stages that have weights in the network and none here."""
        return tuple(name for name, layer in self.network.layers if _has_weights(layer) and not self._holds(name))

    @property
    def reachable(self) -> tuple[Stage, ...]:
        """The stages that can be computed: all of them, or those before the first whose weights are missing."""
        gaps = set(self.missing)
        return tuple(takewhile(lambda stage: stage.name not in gaps, self.network.stages()))

    def _holds(self, name: str) -> bool:
        return f"{name}.weight" in self.weights


def _has_weights(layer: Layer) -> bool:
    return isinstance(layer, Conv | Linear)


def untrained(network: Network, how: Initialisation = "he-behind-conv1", seed: int = 0) -> Checkpoint:
    """A network with the weights that a training starts from, before anything is learnt.

    Raises:
        ValueError: the network's source states no such initialisation.
    """
    model = build(network)
    initialise(model, network, how, seed)
    _, height, width = network.input_shape
    return Checkpoint(
        network=network,
        classes=(),
        preprocessing=Preprocessing(
            Geometry(max(height, width), height, width), torch.tensor(IMAGENET_MEAN)[:, None, None], torch.ones(3, 1, 1)
        ),
        weights=model.state_dict(),
        config={"initialisation": how, "seed": seed},
        results={},
        origin=f"random weights ({how}, seed {seed})",
    )


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint aside, forces it to the disk and renames it.

    Raises:
        OSError: no room, or no right to write; what was there before is untouched.
    """
    content = {
        "format": FORMAT,
        "network": network_as_data(checkpoint.network),
        "classes": list(checkpoint.classes),
        "preprocessing": checkpoint.preprocessing.as_data(),
        "weights": {name: tensor.detach() for name, tensor in checkpoint.weights.items()},
        "config": checkpoint.config,
        "results": checkpoint.results,
        "training": checkpoint.training,
    }
    try:
        replace_atomically(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch's writer wraps what the system said
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (OSError, KeyboardInterrupt)):
                raise cause from None
            cause = cause.__context__
        raise OSError(str(error)) from error


def link(existing: Path, path: Path) -> None:
    """Gives a whole checkpoint a second name without writing it again; a copy where the disk has no hard links."""
    aside = beside(path)
    aside.unlink(missing_ok=True)
    try:
        os.link(existing, aside)
    except OSError:
        shutil.copyfile(existing, aside)
    aside.replace(path)


def load(path: Path) -> Checkpoint:
    """Reads one of our checkpoints; nothing in it is executed.  Tensors are on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or would run code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other protocols, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is not a checkpoint that can be read: {_reason(error)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this project: it lacks format = {FORMAT!r}")
    try:
        network = network_from_data(content["network"])
        return Checkpoint(
            network=network,
            classes=tuple(map(str, content["classes"])),
            preprocessing=Preprocessing.from_data(content["preprocessing"]),
            weights=_checked(content["weights"], network, path),
            config=dict(content["config"]),
            results=dict(content["results"]),
            training=content["training"],
        )
    except (KeyError, TypeError, ValueError, DamagedNetworkError) as error:
        if isinstance(error, CheckpointError):
            raise
        missing = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path} is damaged: {missing}") from None


def _reason(error: Exception) -> str:
    """Why torch could not read a file, without its advice to read it unsafely."""
    text = str(error).strip()
    if "weights_only" in text or isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds more than weights and plain values, and nothing in a checkpoint is executed"
    if isinstance(error, (EOFError, zipfile.BadZipFile)) or "zip archive" in text or "Invalid argument" in text:
        return "it is damaged or cut off"
    return text.splitlines()[0] if text else type(error).__name__


def _checked(weights: dict[str, Tensor], network: Network, path: Path) -> dict[str, Tensor]:
    """The weights, of which every name and shape is the network's."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in build(network).state_dict().items()}
    wrong = [
        f"{name} is missing" if name not in weights else f"{name} is {tuple(weights[name].shape)}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name not in weights or weights[name].shape != shape
    ]
    wrong += [f"{name} is not the network's" for name in weights if name not in expected]
    if wrong:
        raise CheckpointError(f"the weights in {path} do not fit {network.name}: {'; '.join(wrong)}")
    return weights
