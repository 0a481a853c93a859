"""A finished run as what a project can ship: weights in half precision and a run directory without photographs.

Nothing of the machine goes with it: no path, host or process, no log, and neither the probe photograph nor its maps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from alexnet import checkpoints, probes
from alexnet.archive import settled
from alexnet.bundled import CARD, FEWEST_MOMENTS, MOMENTS, RESULTS, WEIGHTS, WHICH, BundleError
from alexnet.config import TrainConfig
from alexnet.data.sources import BUILT_IN
from alexnet.runs import RunDirectory, explained, replace_atomically

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from alexnet.bundled import Which
    from alexnet.checkpoints import Checkpoint

LIMIT_BYTES = 20_000_000
"""Weights beyond this are not shipped: whoever clones the project takes them along."""
METRICS_BYTES = 2_000_000
"""Records of steps are put together where all records together would take more."""
EXTREMES = 400
"""In each of so many equal parts of a training the steps with the lowest and the highest loss stay as they are."""

_OURS = re.compile(
    rf"(config|status)\.json|metrics\.jsonl|{WEIGHTS}|{RESULTS}|{CARD}|probes(/step-[0-9]{{9,13}}\.npz)?"
)
_FOLDERS = re.compile(r"(?<![\w/:.%])/(?:[^/\s]+/)*(?=[^/\s])")
"""What stands before the last part of an absolute path, in any text; not in 3/4 or https://."""
_OF_THE_PROCESS = frozenset({"host", "memory", "seconds_left"})


@dataclass(slots=True)
class Gathered:
    """A bundle on its way, in a `folder` beside its place: all but the numbers and the card."""

    folder: Path
    out: Path

    def publish(self) -> None:
        """Puts it into its place, of what was there before instead.

        Raises:
            BundleError: there is no right to.
        """
        before = _beside(self.out, "before")
        try:
            if self.out.exists():
                shutil.rmtree(before, ignore_errors=True)  # of one that was killed just here
                self.out.rename(before)
            self.folder.rename(self.out)
        except OSError as error:
            if before.exists() and not self.out.exists():
                before.rename(self.out)
            raise BundleError(f"{self.out} cannot be put in its place: {explained(error)}") from None
        shutil.rmtree(before, ignore_errors=True)


@contextlib.contextmanager
def gathered(
    path: Path, out: Path, *, which: Which = "best", moments: int = MOMENTS, force: bool = False
) -> Iterator[Gathered]:
    """What a finished run's bundle holds, beside `out`; gone in the end unless it was published.

    Raises:
        UserError: the run is not finished or lacks something, its weights are too large, or `out` is taken.
    """
    run = RunDirectory.open(path)
    _check_finished(run)
    _check_place(run, out, force=force)
    kept = _kept(run, moments)
    checkpoint = checkpoints.load(checkpoint_of(run, which))
    record = run.config()
    TrainConfig.from_json(record.get("config", {}))  # raises where it is no config
    names = _names(record, run)
    folder = _beside(out, "part")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        data = data_name(record)
        _save_weights(folder / WEIGHTS, checkpoint, data, names)
        made = RunDirectory(folder)
        made.probes_path.mkdir()
        record["config"]["data"] = data
        config = json.dumps(_without_paths(record, names), ensure_ascii=False, indent=2, allow_nan=False)
        replace_atomically(made.config_path, f"{config}\n".encode(), durable=False)
        status = {name: value for name, value in settled(run.status(), "").items() if name not in _OF_THE_PROCESS}
        made.write_status(_without_paths(status, names))
        records = [_without_paths(one, names) for one in run.metrics()]
        replace_atomically(made.metrics_path, b"".join(_fitting(records)), durable=False)
        for step in kept:
            _save_moment(run.probe_path(step), made.probe_path(step))
        yield Gathered(folder, out)
    except OSError as error:
        raise BundleError(f"cannot write {out}: {explained(error)}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def checkpoint_of(run: RunDirectory, which: Which) -> Path:
    """Raises BundleError where the run has no such checkpoint."""
    if which not in WHICH:
        raise BundleError(f"--checkpoint must be {' or '.join(WHICH)}, got {which!r}")
    path = run.best if which == "best" else run.last
    if not path.is_file():
        held = ", ".join(run.checkpoints()) or "none"
        raise BundleError(f"{run.path} has no checkpoint {which!r}: it has {held}; choose another with --checkpoint")
    return path


def data_name(record: dict[str, Any]) -> str:
    """What a run's data is called, without where it lies; `record` is what config.json holds."""
    path = str(record["config"]["data"])
    return path if path == BUILT_IN else Path(str(record.get("data", {}).get("name") or path)).name


# --- what can be bundled, and where -----------------------------------------------------------------------------------


def _check_finished(run: RunDirectory) -> None:
    if (condition := run.condition()) == "finished":
        return
    step, steps = run.status().get("step"), run.status().get("steps")
    far = f" at step {step:,} of {steps:,}" if isinstance(step, int) and isinstance(steps, int) else ""
    raise BundleError(
        f"{run.path} is not finished: it is {condition}{far}; only a whole training is bundled: let it end "
        f"(python -m alexnet train --resume {run.path})"
    )


def _check_place(run: RunDirectory, out: Path, *, force: bool) -> None:
    if not out.parent.is_dir():
        raise BundleError(f"there is no folder {out.parent} to put {out.name} into: make it first, or name another")
    if out.resolve().is_relative_to(run.path.resolve()) or run.path.resolve().is_relative_to(out.resolve()):
        raise BundleError(f"{out} and the run would lie in each other: name a place outside of {run.path}")
    if not out.exists():
        return
    if not out.is_dir():
        raise BundleError(f"{out} is a file: name a new folder")
    strange = sorted(name for path in out.rglob("*") if not _OURS.fullmatch(name := path.relative_to(out).as_posix()))
    if strange:
        raise BundleError(f"{out} holds what is not of a bundle: {strange[0]}; name a new folder, or move it away")
    if not force:
        raise BundleError(f"{out} exists: name a new folder, or --force to put the bundle in its place")


def _kept(run: RunDirectory, count: int) -> tuple[int, ...]:
    """Steps of the moments that go along."""
    if count < FEWEST_MOMENTS:
        raise BundleError(f"--moments must be {FEWEST_MOMENTS} or more, so that the film does not jump; got {count}")
    numbers = (path.stem.removeprefix("step-") for path in run.probes_path.glob("step-*.npz"))
    steps = sorted(int(number) for number in numbers if number.isdecimal())
    if len(steps) < FEWEST_MOMENTS:
        raise BundleError(
            f"{run.path} holds {len(steps)} moments, and a film has {FEWEST_MOMENTS} or more: train again with more "
            f"--probes"
        )
    return chosen(steps, count)


def chosen(steps: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` (2 or more) of these steps, evenly by their place: dense where they are, both ends among them."""
    if len(steps) <= count:
        return tuple(steps)
    return tuple(steps[round(index * (len(steps) - 1) / (count - 1))] for index in range(count))


def _beside(out: Path, what: str) -> Path:
    whole = out.resolve()
    return whole.with_name(f".{whole.name}.{what}")


# --- weights and moments ----------------------------------------------------------------------------------------------


def _save_weights(path: Path, checkpoint: Checkpoint, data: str, names: dict[str, str]) -> None:
    for name, tensor in checkpoint.weights.items():
        if not bool(torch.isfinite(tensor.half()).all()):
            raise BundleError(f"{name} holds weights that float16 cannot: they end at 65,504; train again")
    config = _without_paths(checkpoint.config | {"data": data}, names)
    results = _without_paths(checkpoint.results, names)
    checkpoints.save(path, dataclasses.replace(checkpoint, config=config, results=results, training=None), half=True)
    if (size := path.stat().st_size) > LIMIT_BYTES:
        raise BundleError(
            f"the weights take {size / 1e6:.1f} MB as float16, and at most {LIMIT_BYTES / 1e6:g} MB are shipped: train "
            "with narrower fully connected layers (--hidden) or a smaller input (--network NAME@SIDE)"
        )


def _save_moment(source: Path, path: Path) -> None:
    """A moment without the photograph's maps."""
    try:
        with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            taken = {
                name: arrays[name]
                for name in arrays.files
                if name in {"kernels", "probabilities", "label"} or name.startswith("lrn/")
            }
    except (OSError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise BundleError(f"{source} is damaged ({error}): take it away, and bundle the run again") from None
    if "kernels" in taken:
        taken["kernels"] = taken["kernels"].astype(np.float16)
    probes.save(path, taken)


# --- texts without the machine ----------------------------------------------------------------------------------------


def _names(record: dict[str, Any], run: RunDirectory) -> dict[str, str]:
    """The paths that are known, and what is said instead."""
    data = str(record["config"]["data"])
    known = {str(run.path.resolve()): run.path.resolve().name, str(run.path): run.path.resolve().name}
    return {path: name for path, name in (known | {data: data_name(record)}).items() if "/" in path}


def _without_paths(value: Any, names: dict[str, str]) -> Any:
    """The same with every absolute path in every text cut down to its last part."""
    match value:
        case dict():
            return {key: _without_paths(one, names) for key, one in value.items()}
        case list() | tuple():
            return [_without_paths(one, names) for one in value]
        case str():
            for path in sorted(names, key=len, reverse=True):
                value = value.replace(path, names[path])
            return _FOLDERS.sub("", value)
    return value


# --- records ----------------------------------------------------------------------------------------------------------


def _fitting(records: Sequence[dict[str, Any]]) -> list[bytes]:
    """Records as lines; where they would take more than `METRICS_BYTES`, those of steps as means of several.

    Validations, layers and pictures that could not be read are all kept.
    """
    lines = [_line(one) for one in records]
    together = 1
    while sum(map(len, lines)) > METRICS_BYTES and together < len(records):
        together += 1
        lines = [_line(_rounded(one)) for one in thinned(records, together)]
    return lines


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _rounded(record: dict[str, Any]) -> dict[str, Any]:
    """Six digits of what is no result: a step's numbers and the layers' moments."""
    if record.get("kind") not in {"train", "layers"}:
        return record

    def six(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: six(one) for name, one in value.items()}
        return float(f"{value:.6g}") if isinstance(value, float) else value

    return {name: one if name == "time" else six(one) for name, one in record.items()}


def thinned(records: Sequence[dict[str, Any]], together: int) -> list[dict[str, Any]]:
    """Records of which up to so many neighbouring steps are one: their mean, as `Recorder` makes it.

    The extremes of the loss in each of `EXTREMES` parts of the training stay records of their own, and no mean spans
    another kind of record or two epochs.
    """
    alone = _extremes([one for one in records if _is_step(one)])
    made: list[dict[str, Any]] = []
    group: list[dict[str, Any]] = []

    def close() -> None:
        if group:
            made.append(_mean(group))
            group.clear()

    for record in records:
        if not _is_step(record):
            close()
            made.append(record)
            continue
        lonely = record["step"] in alone
        if lonely or len(group) == together or (group and group[-1].get("epoch") != record.get("epoch")):
            close()
        group.append(record)
        if lonely:
            close()
    close()
    return made


def _is_step(record: dict[str, Any]) -> bool:
    numbers = ("step", "loss", "top1", "images_per_second", "waited_share")
    return record.get("kind") == "train" and all(
        isinstance(record.get(name), int | float) and (name != "images_per_second" or record[name] > 0)
        for name in numbers
    )


def _extremes(steps: Sequence[dict[str, Any]]) -> set[int]:
    """The steps of least and of largest loss in each part of equally many records, and the first and the last."""
    parts = [part for part in np.array_split(np.arange(len(steps)), EXTREMES) if part.size]
    alone = {steps[end]["step"] for end in (0, -1)} if steps else set()
    for part in parts:
        ranked = sorted(part.tolist(), key=lambda index: steps[index]["loss"])
        alone |= {steps[ranked[0]]["step"], steps[ranked[-1]]["step"]}
    return alone


def _mean(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record for several: shares and loss weighted by pictures, all pictures over all seconds; the rest the last's.

    The first runs did not write how many pictures a step took; it was as many in each.
    """
    if len(group) == 1:
        return group[0]
    last = group[-1]
    pictures = [one.get("pictures", 1) for one in group]
    seconds = [count / one["images_per_second"] for count, one in zip(pictures, group, strict=True)]

    def weighted(name: str, weights: Iterable[float]) -> float:
        pairs = [(one[name], weight) for one, weight in zip(group, weights, strict=True)]
        return float(sum(value * weight for value, weight in pairs) / max(sum(weight for _, weight in pairs), 1e-12))

    mean = last | {"loss": weighted("loss", pictures), "top1": weighted("top1", pictures)}
    mean |= {"images_per_second": sum(pictures) / sum(seconds), "waited_share": weighted("waited_share", seconds)}
    return mean | ({"pictures": sum(pictures)} if "pictures" in last else {})
