"""What a file of weights is: read, held against every network, and the likeliest of those that fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet import checkpoints
from alexnet.bundled import bundle_of
from alexnet.checkpoints import Checkpoint, CheckpointError
from alexnet.foreign import containers, mapping
from alexnet.runs import RunDirectory
from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Linear, MaxPool
from alexnet.zoo import NETWORKS, network_from

if TYPE_CHECKING:
    from alexnet.foreign.containers import Tensors
    from alexnet.foreign.mapping import Fit, Units
    from alexnet.spec import Network

_CAFFE_FIRST = ("bvlc-alexnet", "caffenet")


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was read and held against the networks: `fits` has the nearest first, whether it fits or not.

    `others` are the names of further networks that fit; `notes` say why the first was chosen.
    """

    path: Path
    tensors: Tensors
    units: Units
    fits: tuple[Fit, ...]
    others: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def best(self) -> Fit:
        return self.fits[0]


def checkpoint_path(path: Path) -> Path:
    """The file meant: of a run directory its best checkpoint, or the last where none was validated.

    A bundle, and a copy of one in the box among the runs, has neither: there it is the bundle's weights.

    Raises:
        RunError: the folder's config.json is no run's.
    """
    if not path.is_dir() or not (path / "config.json").is_file():
        return path
    run = RunDirectory.open(path)
    if run.best.exists():
        return run.best
    bundle = None if run.last.exists() else bundle_of(run)
    return run.last if bundle is None else bundle.weights


def opened(path: Path | str, *, network: str | None = None) -> Opened:
    """A file read and held against every network, or against the one asked for.

    Raises:
        CheckpointError: it cannot be read, or no network is called so.
    """
    path = checkpoint_path(Path(path))
    asked = _asked(network)
    tensors = containers.read(path)
    if tensors.own is not None:
        own = _own(tensors, path)
        held = tensors.own[0] if isinstance(tensors.own, tuple) else tensors.own["weights"]
        dtypes = {name: str(held[name].dtype).removeprefix("torch.") for name in own.weights}
        tensors = replace(tensors, tensors=dict(own.weights), dtypes=dtypes)
        shapes = {name: tuple(tensor.shape) for name, tensor in own.weights.items()}
        units = mapping.units_of(shapes, ordered=True)
        fits = [mapping.fit(units, asked or own.network, any_side=asked is not None)]
        return Opened(path, replace(tensors, own=own), units, tuple(fits), (), ())
    units = mapping.units_of(
        {name: tuple(tensor.shape) for name, tensor in tensors.tensors.items()}, ordered=tensors.ordered
    )
    candidates = [asked] if asked is not None else list(NETWORKS.values())
    any_side = network is None or "@" not in network
    tried = [
        mapping.fit(units, candidate, channels_last=last, any_side=any_side)
        for candidate in candidates
        for last in (False, True)
    ]
    fits = mapping.best(tried)
    good = [one for one in fits if one.fits and len(one.missing) == len(fits[0].missing)]
    good = [one for one in good if (one.sides is None) == (good[0].sides is None)]
    if not good:
        return Opened(path, tensors, units, tuple(fits), (), ())
    ranked, notes = _chosen(good, tensors)
    others = tuple(dict.fromkeys(one.network.name for one in ranked[1:] if one.network.name != ranked[0].network.name))
    rest = [one for one in fits if one not in good]
    return Opened(path, tensors, units, (*ranked, *rest), others, notes)


def own_checkpoint(file: Opened) -> Checkpoint | None:
    """The checkpoint that a file of this project holds; None for a foreign one."""
    return file.tensors.own if isinstance(file.tensors.own, Checkpoint) else None


def _own(tensors: Tensors, path: Path) -> Checkpoint:
    if isinstance(tensors.own, tuple):
        arrays, texts = tensors.own
        return checkpoints.from_safetensors(arrays, texts, path)
    return checkpoints.from_content(tensors.own, path)


def _asked(network: str | None) -> Network | None:
    if network is None:
        return None
    try:
        return network_from(network)
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def every_fit(file: Opened) -> list[Fit]:
    return mapping.best(
        mapping.fit(file.units, network, channels_last=last) for network in NETWORKS.values() for last in (False, True)
    )


# --- which network ---------------------------------------------------------------------------------------------------


def like_caffe(tensors: Tensors) -> bool:
    """Whether a file comes from Caffe or from a port of its weights."""
    producer = str(tensors.metadata.get("producer", "")).lower()
    if tensors.kind == "numpy":  # arrays of a torch module keep its dotted names, and have no mean image beside them
        return tensors.mean is not None or not any(name.endswith(".weight") for name in tensors.tensors)
    return tensors.kind == "caffe" or "caffe" in producer or any("_w_0" in name for name in tensors.tensors)


def _chosen(good: list[Fit], tensors: Tensors) -> tuple[list[Fit], tuple[str, ...]]:
    """Networks that fit equally, the likeliest first, and why."""
    said = {str(tensors.metadata.get(key, "")).lower() for key in ("arch", "name", "model_name", "network")} - {""}
    order = tuple(kind for kind, _ in tensors.layers)
    norms = [numbers for kind, numbers in tensors.layers if kind == "lrn"]
    caffe = like_caffe(tensors)

    def likelihood(one: Fit) -> tuple[bool, bool, bool, int]:
        name = one.network.name
        preferred = _CAFFE_FIRST.index(name) - len(_CAFFE_FIRST) if caffe and name in _CAFFE_FIRST else 0
        return (
            bool(order) and _order(one.network) != order,
            bool(norms) and not _same_norms(one.network, norms),
            name not in said,
            preferred,
        )

    ranked = sorted(good, key=likelihood)
    first = ranked[0]
    others = list(dict.fromkeys(one.network.name for one in ranked if one.network.name != first.network.name))
    notes = []
    if others:
        sure = "the file's order of layers says" if order and _order(first.network) == order else "taken to be"
        notes.append(
            f"{sure} {first.network.name}; {_joined(others)} "
            f"{'have' if len(others) > 1 else 'has'} weights of the same shapes: --network chooses"
        )
    if norms and not _same_norms(first.network, norms):
        given = "; ".join("n {:g}, α {:g}, β {:g}, k {:g}".format(*numbers) for numbers in norms)
        notes.append(f"the file's LRN is {given}, with α divided by n, which is not that of {first.network.name}")
    if first.sides is not None:
        low, high = first.sides
        side = first.network.input_shape[1]
        notes.append(
            f"the input is taken to be {side}×{side}: fc6 has the same weights for any side from {low} to {high}"
        )
    return ranked, tuple(notes)


def _order(network: Network) -> tuple[str, ...]:
    kinds = (Conv, MaxPool, LRN, Linear)
    return tuple(layer.kind for _, layer in network.layers if isinstance(layer, kinds))


def _same_norms(network: Network, norms: list[tuple[float, ...]]) -> bool:
    """Whether a network's LRN is what the file says, where α is divided by n."""
    mine = [layer for _, layer in network.layers if isinstance(layer, LRN)]
    return len(mine) == len(norms) and all(
        abs(layer.alpha_per_square * size - alpha) <= 1e-3 * alpha
        and layer.size == size
        and abs(layer.beta - beta) < 1e-3
        and abs(layer.k - k) < 1e-3
        for layer, (size, alpha, beta, k) in zip(mine, norms, strict=True)
    )


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def origin(file: Opened) -> str:
    """What kind of file it is, in words: whose names its weights have, and what they lay in."""
    tensors = file.tensors
    metadata, keys = tensors.metadata, [unit.name for unit in file.units.units]
    if tensors.kind == "ours":
        return tensors.words
    names = ""
    if tensors.kind in {"torch", "safetensors", "onnx"}:
        pooled = any(isinstance(layer, AdaptiveAvgPool) for _, layer in file.best.network.layers)
        if any(".pre_logits." in f".{key}" for key in keys):
            names = "timm's names, "
        elif any(".features." in f".{key}" for key in keys) and (pooled or file.best.network.name.startswith("vgg")):
            names = "torchvision's names, "
        elif any(".net." in f".{key}" for key in keys):
            names = "the names of a usual PyTorch port, "
    words = tensors.words
    if {"arch", "best_acc1"} <= metadata.keys():
        words = "a training checkpoint of pytorch/examples"
    elif tensors.removed:
        words = f"{words}, under {'.'.join(tensors.removed)}"
    if isinstance(metadata.get("epoch"), int):
        words += f" (epoch {metadata['epoch']})"
    return f"{names}in {words}" if names else words
