"""Checkpoints: weights with everything needed to look at a picture through them, or to go on training."""

from __future__ import annotations

import json
import pickle
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
from alexnet.runs import replace_atomically
from alexnet.safetensor_files import DamagedSafetensorsError, begins, read_safetensors, write_safetensors
from alexnet.serial import DamagedNetworkError, network_as_data, network_from_data
from alexnet.spec import Conv, Linear

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from alexnet.config import Initialisation
    from alexnet.spec import Layer, Network, Stage

FORMAT = "alexnet-laboratory checkpoint 1"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
SAFETENSORS = ".safetensors"
_PIXELS = "preprocessing."
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
    `origin` says in words what kind of file this came from and `notes` what had to be assumed; both are empty in what
    we trained ourselves.
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


def numbered(count: int) -> tuple[str, ...]:
    """Names for classes of which only the number is known."""
    return tuple(f"class {index}" for index in range(count))


def untrained(network: Network, how: Initialisation | None = None, seed: int = 0) -> Checkpoint:
    """A network with the weights that a training starts from, before anything is learnt.

    Without `how` they are He's, behind a conv1 as its source states it where it does.

    Raises:
        ValueError: the network's source states no such initialisation.
    """
    if how is None:
        first = next(layer for _, layer in network.layers if isinstance(layer, Conv))
        how = "he" if first.init_std is None else "he-behind-conv1"
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
        origin=f"random weights, untrained, seed {seed}",
    )


def save(path: Path, checkpoint: Checkpoint, *, half: bool = False) -> None:
    """Writes a checkpoint aside, forces it to the disk and renames it.

    A path that ends in .safetensors is written in that format: weights under the names of the network's stages and
    everything else as JSON, but no state of a training.  `half` stores weights there as float16, in half the room.

    Raises:
        OSError: no room, or no right to write; what was there before is untouched.
        ValueError: `half` for a file of the other format.
    """
    weights = {name: tensor.detach() for name, tensor in checkpoint.weights.items()}
    content: dict[str, Any] = {
        "format": FORMAT,
        "network": network_as_data(checkpoint.network),
        "classes": list(checkpoint.classes),
        "preprocessing": checkpoint.preprocessing.as_data(),
        "config": checkpoint.config,
        "results": checkpoint.results,
        "origin": checkpoint.origin,
        "notes": list(checkpoint.notes),
    }
    if path.suffix == SAFETENSORS:
        pixels = content["preprocessing"] = dict(checkpoint.preprocessing.as_data())
        tensors = {f"{_PIXELS}{name}": pixels.pop(name) for name in ("mean", "divisor")}
        tensors |= {name: tensor.half() if half else tensor for name, tensor in weights.items()}
        replace_atomically(path, lambda file: write_safetensors(file, tensors, content))
        return
    if half:
        raise ValueError(f"only {SAFETENSORS} files are stored as float16, got {path.name}")
    content |= {"weights": weights, "training": checkpoint.training}
    try:
        replace_atomically(path, lambda file: torch.save(content, file))
    except RuntimeError as error:  # torch's writer wraps what the system said
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, (OSError, KeyboardInterrupt)):
                raise cause from None
            cause = cause.__context__
        raise OSError(str(error)) from error


def load(path: Path) -> Checkpoint:
    """Reads one of our checkpoints, of either format; nothing in it is executed.  Tensors are float32 on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, foreign, or would run code.
    """
    try:
        with path.open("rb") as file:
            safe = begins(file.read(16))
        if safe:
            return from_safetensors(*read_safetensors(path), path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles of other protocols, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except CheckpointError:
        raise
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is not a checkpoint that can be read: {_reason(error)}") from None
    return from_content(content, path)


def from_safetensors(tensors: dict[str, Tensor], texts: dict[str, str], path: Path) -> Checkpoint:
    """One of our checkpoints from what its safetensors file holds; otherwise as `load`."""
    if texts.get("format") != FORMAT:
        return from_content(None, path)
    try:
        content: dict[str, Any] = {
            name: text if name in {"format", "origin"} else json.loads(text) for name, text in texts.items()
        }
        content["preprocessing"] |= {name: tensors.pop(f"{_PIXELS}{name}") for name in ("mean", "divisor")}
    except KeyError as error:
        raise CheckpointError(f"{path} is damaged: it lacks {error}") from None
    except (ValueError, TypeError, RecursionError):
        raise CheckpointError(f"{path} is damaged: what it says of itself cannot be read") from None
    return from_content({**content, "weights": tensors, "training": None}, path)


def from_content(content: Any, path: Path) -> Checkpoint:
    """One of our checkpoints from the dictionary that its file holds; otherwise as `load`."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of this project: it lacks format = {FORMAT!r}")
    try:
        network = network_from_data(content["network"])
        training = content["training"]
        return Checkpoint(
            network=network,
            classes=tuple(map(str, content["classes"])),
            preprocessing=Preprocessing.from_data(content["preprocessing"]),
            weights=_checked(content["weights"], network, path, whole=training is not None),
            config=dict(content["config"]),
            results=dict(content["results"]),
            training=training,
            origin=str(content.get("origin", "")),
            notes=tuple(map(str, content.get("notes", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, DamagedNetworkError) as error:
        if isinstance(error, CheckpointError):
            raise
        missing = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{path} is damaged: {missing}") from None


def _reason(error: Exception) -> str:
    """Why torch could not read a file, without its advice to read it unsafely."""
    text = str(error).strip()
    if isinstance(error, DamagedSafetensorsError):
        return text
    if "weights_only" in text or isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds more than weights and plain values, and nothing in a checkpoint is executed"
    if isinstance(error, (EOFError, zipfile.BadZipFile)) or "zip archive" in text or "Invalid argument" in text:
        return "it is damaged or cut off"
    return text.splitlines()[0] if text else type(error).__name__


def _checked(weights: dict[str, Tensor], network: Network, path: Path, *, whole: bool) -> dict[str, Tensor]:
    """The weights as float32, of which every name and shape is the network's.

    Unless they must be `whole`, stages may lack both weight and bias, but not all of them may.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in build(network).state_dict().items()}
    held = {name.rpartition(".")[0] for name in weights}
    absent = set() if whole or not weights else {name for name in expected if name.rpartition(".")[0] not in held}
    wrong = [
        f"{name} is missing" if name not in weights else f"{name} is {tuple(weights[name].shape)}, not {tuple(shape)}"
        for name, shape in expected.items()
        if name not in absent and (name not in weights or weights[name].shape != shape)
    ]
    wrong += [f"{name} is not the network's" for name in weights if name not in expected]
    if wrong:
        raise CheckpointError(f"the weights in {path} do not fit {network.name}: {'; '.join(wrong)}")
    for name, tensor in weights.items():
        if (trouble := trouble_with(tensor)) is not None:
            raise CheckpointError(f"{name} in {path} {trouble}")
    return {name: tensor.float() for name, tensor in weights.items()}


def trouble_with(tensor: Tensor) -> str | None:
    """Why a tensor from a file cannot be weights, as the rest of a sentence; None where it can.

    A tensor may claim any shape with strides of 0 over a few bytes, or without any bytes at all.
    """
    if tensor.is_quantized or tensor.dtype not in FLOATS:
        return f"holds {str(tensor.dtype).removeprefix('torch.')}, not floating-point numbers of 16, 32 or 64 bits"
    if tensor.layout != torch.strided or tensor.is_nested:
        return "is sparse or nested, not a plain array: call to_dense() on it before saving"
    if tensor.device.type == "meta":
        return "has a shape and no values (it is on torch's meta device)"
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        return f"claims {tensor.numel():,} values and the file holds fewer"
    return None
