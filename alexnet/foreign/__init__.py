"""Checkpoints from anywhere: any file or folder of weights as a checkpoint of one of our networks, or why it is none.

`containers` reads the file, `mapping` finds the networks that it fits by names and shapes, `recognition` the likeliest
of them, `pixels` what it was shown.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from alexnet.checkpoints import Checkpoint, CheckpointError, numbered
from alexnet.data.imagenet import synsets
from alexnet.foreign import mapping
from alexnet.foreign.containers import shown
from alexnet.foreign.pixels import PIXELS, checked, preprocessing_of, turned
from alexnet.foreign.recognition import Opened, checkpoint_path, every_fit, like_caffe, opened, origin, own_checkpoint
from alexnet.foreign.reports import Report, norm, report
from alexnet.spec import Linear

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from alexnet.foreign.mapping import Mismatch
    from alexnet.spec import Network

__all__ = ["PIXELS", "CheckpointMismatchError", "Report", "checkpoint_path", "inspect", "open_checkpoint"]

_CLASS_KEYS = ("classes", "class_names", "class_to_idx")
_RESULTS = ("epoch", "best_acc1", "best_acc5", "best_acc", "acc1", "acc5", "top1", "top5", "loss", "step", "iteration")


class CheckpointMismatchError(CheckpointError):
    """The weights in a file fit no network, or not the one asked for.

    `mismatches` are all of them, against `network`: the one asked for, or the nearest.
    """

    def __init__(self, message: str, network: Network, mismatches: tuple[Mismatch, ...]) -> None:
        super().__init__(message)
        self.network, self.mismatches = network, mismatches


def open_checkpoint(path: Path | str, *, network: str | None = None, pixels: str | None = None) -> Checkpoint:
    """The weights in a file or folder of any kind that is read, with what had to be assumed in its notes.

    `network` is a reference like ``vgg-d`` or ``alexnet-2012@131`` where another than the likeliest is wanted, and
    `pixels` one of `PIXELS`.  Of a run directory the best checkpoint is opened.

    Raises:
        CheckpointMismatchError: no network, or not this one, has weights of these shapes; it lists every mismatch.
        CheckpointError: there is no such file, or it is damaged, foreign, or would run code.
    """
    chosen = None if pixels is None else checked(pixels)
    file = opened(path, network=network)
    own = own_checkpoint(file)
    if own is not None and (network is None or own.network.name == file.best.network.name):
        _refuse_faults(file, own.weights)
        if chosen is None:
            return own
        return _repainted(own, chosen)
    best = file.best
    _refuse_faults(file, {})
    if not best.fits:
        raise _mismatch(file, asked=network is not None)
    weights = mapping.placed(best, file.tensors.tensors)
    _refuse_faults(file, weights)
    return _checkpoint(file, weights, own, chosen)


def _mismatch(file: Opened, *, asked: bool) -> CheckpointMismatchError:
    best, where = file.best, shown(file.path)
    every = "; ".join(map(str, best.mismatches))
    if not best.mismatches:
        every = "no tensor is named like a weight"
    normalised = any("batch normalisation" in one.reason for one in best.mismatches)
    why = "it has batch normalisation, which no network here has. " if normalised else ""
    name = best.network.name
    if asked:
        message = f"{where} does not fit {name}: {why}{every}"
        likelier = next((one for one in every_fit(file) if one.fits), None)
        message += f". It fits {likelier.network.name}" if likelier else ""
    else:
        count = len(best.mismatches)
        message = (
            f"{where} fits no network: {why}{'T' if why else 't'}he nearest is {name}, with {count} "
            f"mismatch{'es' * (count != 1)}: {every}"
        )
    return CheckpointMismatchError(message, best.network, best.mismatches)


def inspect(path: Path | str, *, network: str | None = None) -> Report:
    """What is in a file or folder of weights, and which network it fits; it need fit none.

    Raises:
        CheckpointError: it cannot be read at all, or no network is called as asked.
    """
    file = opened(path, network=network)
    own = own_checkpoint(file)
    notes = file.notes
    if own is not None:
        notes = own.notes
    elif file.best.fits:
        notes = _checkpoint(file, mapping.placed(file.best, file.tensors.tensors), None, None).notes
    return report(file, notes)


# --- the checkpoint --------------------------------------------------------------------------------------------------


def _refuse_faults(file: Opened, weights: Any) -> None:
    where = shown(file.path)
    if file.tensors.faults:
        raise CheckpointError(f"{where} holds what cannot be weights: {'; '.join(file.tensors.faults)}")
    wrong = [name for name, tensor in weights.items() if not math.isfinite(norm(tensor))]
    if wrong:
        raise CheckpointError(
            f"{where} holds weights that are no numbers (NaN or infinite), in {', '.join(wrong)}: nothing can be seen "
            "through it"
        )


def _repainted(own: Checkpoint, pixels: str) -> Checkpoint:
    """One of ours with another convention of pixels."""
    preprocessing, notes = preprocessing_of(pixels, own.network, None, None)
    weights = turned(dict(own.weights), own.network) if pixels == "caffe" else own.weights
    return replace(own, preprocessing=preprocessing, weights=weights, notes=(*own.notes, *notes), training=None)


def _checkpoint(
    file: Opened, weights: dict[str, torch.Tensor], own: Checkpoint | None, pixels: str | None
) -> Checkpoint:
    tensors, best = file.tensors, file.best
    network, metadata = best.network, tensors.metadata
    notes = [*file.notes, *tensors.notes]
    if own is not None and pixels is None and network.input_shape == own.network.input_shape:
        preprocessing = own.preprocessing
    else:
        pixels = pixels or ("caffe" if like_caffe(tensors) else "torchvision")
        means = metadata.get("mean_value")
        preprocessing, said = preprocessing_of(pixels, network, tensors.mean, means)
        notes += said
        if pixels == "caffe":
            weights = turned(weights, network)
            if f"{network.layers[0][0]}.weight" in weights:
                notes.append("conv1 is turned from blue, green, red to red, green, blue")
    if best.missing:
        notes.append(f"there are no weights for {', '.join(best.missing)}")
    classes, said_classes = _classes(metadata, network, missing=best.missing)
    notes += said_classes
    return Checkpoint(
        network=network,
        classes=own.classes if own is not None and len(own.classes) == network.classes else classes,
        preprocessing=preprocessing,
        weights=weights,
        config={key: value for key, value in metadata.items() if key not in {*_RESULTS, *_CLASS_KEYS}},
        results={key: value for key, value in metadata.items() if key in _RESULTS},
        origin=own.origin if own is not None else origin(file),
        notes=tuple(notes),
    )


def _classes(
    metadata: dict[str, Any], network: Network, *, missing: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The file's names of classes where it has as many as the network, or numbers; and in words which."""
    count = network.classes or 0
    last = next((name for name, layer in reversed(network.layers) if isinstance(layer, Linear)), None)
    if last in missing:
        return (), ()
    for key in _CLASS_KEYS:
        names = metadata.get(key)
        if isinstance(names, dict):
            names = sorted(names, key=names.__getitem__)
        if isinstance(names, list) and len(names) == count and len(set(names)) == count:
            return tuple(names), (f"the names of the classes are the file's ({key})",)
    if count == len(synsets()):
        return synsets(), (
            "the file names none of its 1,000 classes: they are taken for ImageNet's, in their usual order",
        )
    return numbered(count), (f"the file names none of its {count:,} classes: they are numbered from 0",)
