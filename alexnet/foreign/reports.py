"""What is in a checkpoint, what it fits and every mismatch: for the terminal, the app and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from alexnet.foreign.containers import shown
from alexnet.foreign.recognition import origin, own_checkpoint
from alexnet.spec import times

if TYPE_CHECKING:
    from torch import Tensor

    from alexnet.foreign.mapping import Fit
    from alexnet.foreign.recognition import Opened


@dataclass(frozen=True, slots=True)
class Held:
    """One tensor of a file: `norm` is the square root of its sum of squares, None where a value is no number.

    `stage` is the weight or bias of the network that it becomes, None where it becomes none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    norm: float | None
    stage: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """What `inspect` found.  `network` is the one that it fits, or the nearest where `fits` is False.

    `removed` are the wrappers around the weights and the prefixes of their names; `nearest` are networks with their
    numbers of mismatches, the fewest first; `faults` say why the file would be refused though its shapes fit.
    """

    path: str
    layout: str
    bytes: int
    tensors: tuple[Held, ...]
    removed: tuple[str, ...]
    metadata: dict[str, Any]
    fits: bool
    network: str
    input_shape: tuple[int, ...]
    classes: int | None
    missing: tuple[str, ...]
    mismatches: tuple[str, ...]
    others: tuple[str, ...]
    nearest: tuple[tuple[str, int], ...]
    faults: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{self.path}: {self.layout}, {self.bytes:,} bytes"]
        if self.fits:
            whole = f"all but {', '.join(self.missing)}" if self.missing else "all weights"
            classes = f", {self.classes:,} classes" if self.classes and not self.missing else ""
            lines.append(f"fits      {self.network} ({times(self.input_shape)}{classes}): {whole}")
        else:
            lines.append(f"fits      no network as it is; held against {self.network}")
        rows = [
            ("removed", ", ".join(self.removed)),
            ("also fits", ", ".join(self.others)),
            ("beside", ", ".join(f"{key} = {value}" for key, value in self.metadata.items() if not _long(value))),
        ]
        lines += [f"{label:<10}{value}" for label, value in rows if value]
        lines += [f"fault     {fault}" for fault in self.faults]
        lines += [f"mismatch  {mismatch}" for mismatch in self.mismatches]
        if not self.fits and len(self.nearest) > 1:
            near = ", ".join(f"{name} ({count})" for name, count in self.nearest)
            lines.append(f"nearest   {near} by number of mismatches")
        lines += [f"note      {note}" for note in self.notes]
        if self.tensors:
            name = max(len(held.name) for held in self.tensors)
            shape = max(len(times(held.shape)) for held in self.tensors)
            lines += ["", f"{'tensor':<{name}}  {'shape':<{shape}}  dtype     {'norm':>10}  becomes"]
            lines += [
                f"{held.name:<{name}}  {times(held.shape):<{shape}}  {held.dtype:<8}  "
                f"{'no number' if held.norm is None else f'{held.norm:.4g}':>10}  {held.stage or '—'}"
                for held in self.tensors
            ]
        return "\n".join(lines)


def _long(value: Any) -> bool:
    return isinstance(value, list | dict) and len(value) > 8


def norm(tensor: Tensor) -> float:
    """Square root of the sum of squares, in float64: finite exactly where every value is."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def report(file: Opened, notes: tuple[str, ...]) -> Report:
    """What is known of a file that was read; `notes` are those it would be opened with."""
    best, tensors, own = file.best, file.tensors, own_checkpoint(file)
    becomes = _becomes(best)
    held = []
    faults = list(tensors.faults)
    for name, tensor in tensors.tensors.items():
        size = norm(tensor)
        if not math.isfinite(size):
            faults.append(f"{name} holds values that are no numbers (NaN or infinite)")
        number = size if math.isfinite(size) else None
        held.append(Held(name, tuple(tensor.shape), tensors.dtypes.get(name, ""), number, becomes.get(name)))
    metadata = dict(tensors.metadata)
    if own is not None:
        metadata = {key: value for key, value in {**own.config, **own.results}.items() if value is not None}
    return Report(
        path=shown(file.path),
        layout=origin(file),
        bytes=tensors.size,
        tensors=tuple(held),
        removed=(*tensors.removed, *file.units.removed),
        metadata=metadata,
        fits=best.fits and not faults,
        network=best.network.name,
        input_shape=best.network.input_shape,
        classes=best.network.classes,
        missing=best.missing,
        mismatches=tuple(map(str, best.mismatches)),
        others=file.others,
        nearest=tuple(_nearest(file.fits)),
        faults=tuple(faults),
        notes=notes,
    )


def _becomes(fitted: Fit) -> dict[str, str]:
    """The weight or bias of the network that each tensor becomes."""
    wrong = {mismatch.tensor for mismatch in fitted.mismatches}
    pairs: dict[str, str] = {}
    for stage, unit in fitted.stage_of.items():
        pairs[unit.weight] = f"{stage}.weight"
        if unit.bias is not None:
            pairs[unit.bias] = f"{stage}.bias"
    return {name: place for name, place in pairs.items() if name not in wrong}


def _nearest(fits: tuple[Fit, ...]) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for one in fits:
        counts.setdefault(one.network.name, len(one.mismatches))
    return sorted(counts.items(), key=lambda pair: pair[1])[:5]
