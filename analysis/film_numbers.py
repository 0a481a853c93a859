"""A run's film in numbers: order out of noise, what LRN takes away, and the answers to one picture.  numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from alexnet.errors import UserError
from alexnet.runs import RunDirectory
from alexnet.spec import LRN
from analysis.film import read_kernels, screen
from analysis.formats import Column, Table
from analysis.kernels import kernel_measures, tower_measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from alexnet.spec import Network
    from analysis.film import Moment, Reader, Screen
    from analysis.kernels import TowerMeasures

    Doubles = NDArray[np.float64]
    Values = NDArray[Any]

Measure = Literal["compact", "smoothness", "colourfulness", "norm", "change"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""What shows order emerging from noise, for each tower over time."""

FEW = 10
"""Classes that can all be followed."""

HEADINGS: dict[Measure, str] = {
    "compact": "Compact kernels",
    "smoothness": "Smoothness (less is smoother)",
    "colourfulness": "Colourfulness",
    "norm": "Norm",
    "change": "Change for each step",
}
EXPLANATIONS: dict[Measure, str] = {
    "compact": "Share of kernels whose spectral energy lies mostly (above 0.8) near one frequency, as that of waves "
    "and blobs does; of random kernels none.",
    "smoothness": "Median of the squared differences between neighbouring weights over energy: the less, the smoother; "
    "noise has nearly 4.",
    "colourfulness": "Mean share of the kernels' energy off the grey axis: random weights have 2/3, grey edges 0, "
    "colour without brightness 1.",
    "norm": "Median length of the kernels' weights: how strongly they can answer.  Weight decay shrinks what does not "
    "learn.",
    "change": "Length of what a tower's weights changed by since the moment before, over their length then, for each "
    "step between: kernels that have formed change little.",
}


# --- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Suppressed:
    """What a normalisation takes away at one moment, as shares: of all activity, and of each channel's, (C,).

    None, and NaN, where a channel is silent, values are no numbers, or k = 0 so that nothing stays as it was.
    """

    overall: float | None
    channels: Doubles


def suppressed(strengths: Values, layer: LRN) -> Suppressed:
    """Share of activity that an LRN suppresses, from root mean squares (2, C) before and behind: 1 − Σb / (k^−β·Σa).

    As in `analysis.lrn.suppressed_overall`, the constant k^−β only scales all values alike and is no inhibition.  There
    a and b are mean magnitudes, here root mean squares, since those are what probes hold: they weigh strong values
    more, which are suppressed more, so shares come out larger here, by a tenth to a third in BVLC AlexNet on the four
    photographs that come with the pages.  Compare them over time, not with that page's.
    """
    before, after = np.asarray(strengths, np.float64)
    rest = layer.k**-layer.beta if layer.k else (np.inf if layer.beta else 1.0)
    with np.errstate(all="ignore"):
        shares = 1 - after / (rest * before)
        whole = 1 - after.sum() / (rest * before.sum())
    known = (before > 0) & np.isfinite(before) & np.isfinite(after) & np.isfinite(rest)
    overall = float(whole) if np.isfinite(rest) and np.isfinite(whole) and before.sum() > 0 else None
    return Suppressed(overall, np.where(known, shares, np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """One moment in numbers; nothing in it is large, so a page can keep all of them.

    `towers` is empty where the kernels are none, no numbers or not asked for; `suppressed` is by the name of an LRN.
    """

    step: int
    towers: tuple[TowerMeasures, ...]
    suppressed: Mapping[str, Suppressed]
    probabilities: Values | None
    label: int | None

    @property
    def order(self) -> dict[Measure, tuple[float | None, ...]]:
        """Each of the `MEASURES` but the change, for every tower."""
        return {
            "compact": tuple(tower.compact / tower.kernels for tower in self.towers),
            "smoothness": tuple(tower.smoothness for tower in self.towers),
            "colourfulness": tuple(tower.colourfulness for tower in self.towers),
            "norm": tuple(tower.norm for tower in self.towers),
        }


def summary(moment: Moment, network: Network, *, order: bool = True) -> Summary:
    """The moment's numbers.  LRN's that the network does not have, or with other channels, are left out.

    Without `order` the kernels are not measured, which takes ten times as long as all else.
    """
    norms = {
        stage.name: (stage.layer, stage.out_shape[0])
        for stage in network.stages()
        if isinstance(stage.layer, LRN) and len(stage.out_shape) == 3
    }
    shares = {
        name: suppressed(strengths, norms[name][0])
        for name, strengths in moment.lrn.items()
        if name in norms and strengths.shape[1] == norms[name][1]
    }
    towers = order_of(moment, network) if order else ()
    return Summary(moment.step, towers, shares, moment.probabilities, moment.label)


def order_of(moment: Moment, network: Network) -> tuple[TowerMeasures, ...]:
    """Each tower's kernels in numbers; nothing where the moment has none, or they are no numbers."""
    if moment.kernels is None:
        return ()
    try:
        return tower_measures(kernel_measures(moment.kernels, screen(network).towers))
    except UserError:
        return ()


class Change(NamedTuple):
    """How much each tower's kernels changed from the moment `since` to `step`: ‖ΔW‖ / ‖W‖, W at `since`.

    None where W is zero or no numbers.  Probes hold half precision, so a share below 0.0003 may be rounding alone.
    """

    since: int
    step: int
    shares: tuple[float | None, ...]

    @property
    def per_step(self) -> tuple[float | None, ...]:
        """The shares over the steps between, since moments lie denser at first."""
        return tuple(None if share is None else share / (self.step - self.since) for share in self.shares)


def change(since: int, earlier: Values, step: int, later: Values, towers: int) -> Change:
    """The change between two moments' kernels (K, C, h, w), for each of the `towers` that they lie in one by one.

    Raises:
        UserError: the kernels are not of one network, or the moments not one after the other.
    """
    if earlier.shape != later.shape or len(earlier) % towers:
        raise UserError(f"kernels of {earlier.shape} and {later.shape} in {towers} towers cannot be compared")
    if step <= since:
        raise UserError(f"step {step} does not come after step {since}")
    old, new = (np.asarray(values, np.float64).reshape(towers, -1) for values in (earlier, later))
    with np.errstate(all="ignore"):
        shares = np.linalg.norm(new - old, axis=1) / np.linalg.norm(old, axis=1)
    return Change(since, step, tuple(float(share) if np.isfinite(share) else None for share in shares))


def changes(run: Path, chosen: Sequence[int], place: Screen, read: Reader = read_kernels) -> tuple[Change, ...]:
    """The changes between these moments, one after the other; moments that cannot be read are passed over."""
    found: list[Change] = []
    last: tuple[int, Values] | None = None
    for step in chosen:
        try:
            kernels = read(RunDirectory(run).probe_path(step))
        except UserError:
            continue
        if kernels.shape != place.shape:
            continue
        if last is not None:
            found.append(change(*last, step, kernels, place.towers))
        last = step, kernels
    return tuple(found)


def contenders(summaries: Sequence[Summary], count: int = 5) -> tuple[int, ...]:
    """The classes to follow: all where they are few, else the probe picture's own and the likeliest others at the end.

    As many at every moment of a training that goes on, and in the order of the classes, so that a table of them keeps
    its columns: `count` others (where its own is not known, so many in all), or all of at most `FEW`.
    """
    known = [one for one in summaries if one.probabilities is not None and np.isfinite(one.probabilities).all()]
    if not known or known[-1].probabilities is None:
        return ()
    if len(known[-1].probabilities) <= FEW:
        return tuple(range(len(known[-1].probabilities)))
    own = [] if known[-1].label is None else [known[-1].label]
    likeliest = [int(index) for index in np.argsort(-known[-1].probabilities, kind="stable") if index not in own]
    return tuple(sorted(own + likeliest[:count]))


def probabilities(summaries: Sequence[Summary], classes: int) -> Doubles:
    """(moments, classes) of the probe picture; rows of NaN where a moment has none, or other classes."""
    rows = np.full((len(summaries), classes), np.nan)
    for row, one in zip(rows, summaries, strict=True):
        if one.probabilities is not None and len(one.probabilities) == classes:
            row[:] = one.probabilities
    return rows


def strongest(moment: Moment, norm: str, count: int = 16) -> tuple[int, ...]:
    """The channels that answer most to the probe picture before a normalisation, in the layer's order."""
    maps = moment.before[norm] if norm in moment.before else moment.maps[norm]
    means = np.nan_to_num(np.abs(np.asarray(maps, np.float32)).mean(axis=(1, 2)))
    return tuple(sorted(np.argsort(-means, kind="stable")[:count].tolist()))


# --- tables ----------------------------------------------------------------------------------------------------------


def order_table(summaries: Sequence[Summary], moved: Sequence[Change], place: Screen) -> Table:
    """A row for every moment and tower: the `MEASURES`."""
    columns = (
        Column("step", "step"),
        Column("tower", "tower"),
        Column("compact", "compact", percent=True),
        Column("smoothness", "smoothness"),
        Column("colourfulness", "colourfulness"),
        Column("norm", "norm"),
        Column("since", "changed since step"),
        Column("change", "change", percent=True),
    )
    by_step = {one.step: one for one in moved}
    rows: list[tuple[str | int | float | None, ...]] = []
    for one in summaries:
        found = by_step.get(one.step)
        rows.extend(
            (
                one.step,
                place.names[tower],
                *(one.order[name][tower] for name in ("compact", "smoothness", "colourfulness", "norm")),
                found.since if found else None,
                found.shares[tower] if found else None,
            )
            for tower in range(len(one.towers))
        )
    return Table(f"Kernels of {place.layer} as they form", columns, tuple(rows))


def suppression_table(summaries: Sequence[Summary]) -> Table:
    """A row for every moment: the share that each LRN suppresses."""
    names = sorted({name for one in summaries for name in one.suppressed})
    columns = (Column("step", "step"), *(Column(name, f"{name}, suppressed", percent=True) for name in names))
    rows = tuple(
        (one.step, *(one.suppressed[name].overall if name in one.suppressed else None for name in names))
        for one in summaries
    )
    return Table("Activity suppressed by response normalisation", columns, rows)


def probability_table(summaries: Sequence[Summary], chosen: Sequence[int], classes: Sequence[str]) -> Table:
    """A row for every moment with probabilities: those of the chosen classes for the probe picture."""
    columns = (
        Column("step", "step"),
        *(Column(f"class_{index}", classes[index], percent=True) for index in chosen),
    )
    rows = tuple(
        (one.step, *(float(one.probabilities[index]) for index in chosen))
        for one in summaries
        if one.probabilities is not None and len(one.probabilities) == len(classes)
    )
    return Table("Probabilities of the probe picture", columns, rows)
