"""What the first page says, by the numbers that it shows.  No Streamlit, no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from alexnet.spec import times
from alexnet.words import spelled_time
from analysis.ablation import PUBLISHED, effect
from analysis.ablation_tables import interval_text, points
from analysis.formats import Column, Table, percent, write
from analysis.kernels import COLOUR, COMPACT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from analysis.ablation import Ablation
    from analysis.activations import ClassProbability
    from analysis.kernels import KernelMeasures

_ONE_WAVE = 1.5
"""Waves across a kernel: an edge has a light side and a dark one, a grating repeats them."""


# --- kernels ---------------------------------------------------------------------------------------------------------


class Kinds(NamedTuple):
    """Numbers of the compact kernels of each kind, the most typical first; the rest is none of them."""

    edges: tuple[int, ...]
    gratings: tuple[int, ...]
    blobs: tuple[int, ...]


def kinds(kernels: Sequence[KernelMeasures], side: int) -> Kinds:
    """Which kernels, `side` pixels wide, are edges, gratings and blobs of colour.

    A blob has colour and no direction; an edge has one, and up to a wave and a half over the kernel; a grating more.
    Kernels that are not compact are no clear pattern.  Of edges and gratings grey ones are the most typical.
    """
    clear = [one for one in kernels if (one.compactness or 0) > COMPACT]

    def typical(one: KernelMeasures) -> float:
        return (one.compactness or 0) * (1 if one.orientation is None else 1 - (one.colourfulness or 0))

    def chosen(wanted: Callable[[KernelMeasures], bool]) -> tuple[int, ...]:
        return tuple(one.index for one in sorted(filter(wanted, clear), key=typical, reverse=True))

    def waves(one: KernelMeasures) -> float:
        return (one.frequency or 0) * side

    return Kinds(
        edges=chosen(lambda one: one.orientation is not None and waves(one) <= _ONE_WAVE),
        gratings=chosen(lambda one: one.orientation is not None and waves(one) > _ONE_WAVE),
        blobs=chosen(lambda one: one.orientation is None and (one.colourfulness or 0) > COLOUR),
    )


def orderly(table: Table) -> str:
    """The comparison of `analysis.kernel_figures`, as Markdown with what a narrow place has room for."""
    rows = tuple(
        (one["weights"], f"{one['compact']} of {one['kernels']}", one["smoothness"]) for one in table.records()
    )
    columns = (Column("weights", "weights"), Column("compact", "compact"), Column("smoothness", "smoothness"))
    return write(Table(table.title, columns, rows), "markdown")


# --- what it is -------------------------------------------------------------------------------------------------------


def made_smaller(results: Mapping[str, Any]) -> str:
    """How much of the paper's network is in the box, from the results of its bundle."""
    network, training = results["network"], results["training"]
    base, share = network["base"], network["parameters"] / network["base"]["parameters"]
    took = f"It was trained for {spelled_time(training['seconds'])}. " if training["seconds"] else ""
    same = all(name.startswith("fc") for name in network["changed"])
    return (
        f"{took}To fit into the box it sees {times(network['input'][1:])} pixels where the paper's saw "
        f"{times(base['input'][1:])}, and its hidden fully connected layers have {network['hidden']:,} values instead "
        f"of {base['hidden']:,}: {percent(share)} of the weights."
        + same
        * " The kernels of every convolution are as many and as large as the paper's."
    )


def taken_from(results: Mapping[str, Any], last: int) -> str:
    """That the film goes on behind the step whose weights are shipped, where it does."""
    step = results.get("step")
    if not isinstance(step, int) or step >= last:
        return ""
    return f" The network above is that of step {step:,}, where validation was best; the film goes on to the end."


# --- LRN -------------------------------------------------------------------------------------------------------------

_NOTHING, _LITTLE = 0.01, 0.05


def lrn_sentence(share: float | None, largest: float, k: float, beta: float, divisor: float) -> str:
    """How much LRN holds back, beyond the constant k^−β, and why it is as much.

    `share` is a fraction of the activity, None where there is none; `largest` the greatest α·Σa² on the picture;
    `divisor` what the network's pixels of 0…255 are divided by before it sees them.
    """
    if share is None:
        return "Nothing is active here on this picture, so there is nothing to hold back."
    size = "next to nothing" if share < _NOTHING else "a little" if share < _LITTLE else "so it can be seen"
    said = (
        f"On this picture the neighbours take away **{small(share)}** of the activity: {size}. The divisor is "
        f"({k:g} + the sum) to the power {beta:g}. With no neighbour active that is {k**beta:.2f}, for all values "
        f"alike, and the sum adds {largest:.2g} at most to the {k:g}."
    )
    if share < _LITTLE and divisor > 1:
        said += (
            f" The paper's settings were made for pixels up to 255; this network's are divided by {divisor:.0f} first, "
            "so its activations are small, and their squares are smaller."
        )
    return said


def trained_without_lrn(found: Ablation) -> str | None:
    """What LRN was worth in trainings with it and without; None where no seed was trained both ways."""
    ours, published = effect(found, "no-lrn"), PUBLISHED["no-lrn"].top1
    if ours is None or published is None:
        return None
    known = "one seed, so chance is not known"
    if interval := interval_text(ours):
        known = interval + ("" if ours.decided else ": it could be chance")
    return (
        "Is it worth having? In trainings of our own with and without it, on pixels up to 255, leaving it out changed "
        f"the share of wrong answers by **{points(ours.mean)} points** ({known}). The paper found {points(published)}."
    )


def small(share: float) -> str:
    """A share in percent, with a digit more where it is small; never 0.00 for what is more than nothing."""
    if 0 < share < 0.0001:
        return "less than 0.01 %"
    return percent(share, digits=2 if share < _NOTHING else 1)


# --- what it answers -------------------------------------------------------------------------------------------------


def answer_sentence(name: str, truth: str | None, best: ClassProbability) -> str:
    """What it takes a picture for; `truth` is the class that the picture shows, None where it shows none of them."""
    answer = f"**{best.name}** ({percent(best.probability, digits=0)})"
    if truth is None:
        sure = (
            "sure of it" if best.probability > 0.8 else "not sure at all" if best.probability < 0.5 else "fairly sure"
        )
        return (
            f"The {name} is none of them, and it has no way to say so: it always shares out 100 % among what it knows. "
            f"It answers {answer} and is {sure}. To it, that is the nearest of all that it has seen."
        )
    right = best.name == truth
    return (
        f"The {name} is one of them, and it is {'right' if right else 'wrong'}: it answers {answer}. It had only "
        "photographs to learn from; this is a drawing."
    )
