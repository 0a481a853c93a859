"""The sections of "What each part gives": each says in a sentence what to see, and shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.ablation import BASELINE
from alexnet.words import value_text
from analysis import ablation_tables as tables
from analysis.ablation import PUBLISHED, effect
from analysis.formats import Column, Table, number_text
from app import choices, components, exports
from app.figures.ablation import MEASURES, cost_figure, curves_figure, curves_words
from app.state import literal

if TYPE_CHECKING:
    from analysis.ablation import Ablation
    from app.figures.ablation import Measure
    from app.parts_found import Listed

_SEE: dict[Measure, str] = {
    "validation": "Lower is better. Each thin line is one seed, the thick one the mean of a variant's seeds. Where the "
    "thin lines of two variants run through each other, chance alone moves the error as much as the change does. "
    "The costs above compare the right ends of these lines.",
    "training": "The error on the training pictures themselves, as the steps met them, with dropout and random crops "
    "where the recipe has them. The paper's figure 1 asks which curve is first at the dashed line, 25 %; the table of "
    "epochs below says when each seed was there.",
}


def about(one: Listed, found: Ablation) -> None:
    """Why these runs were made, on what, and how many."""
    data = found.data
    size = ", ".join(
        f"{data[key]:,} {what}"
        for key, what in (("classes", "classes"), ("train", "training pictures"), ("val", "validation pictures"))
        if isinstance(data.get(key), int)
    )
    names = ", ".join(variant.name for variant in found.variants)
    many = f"{len(found.runs)} runs of {number_text(found.epochs, 3)} epochs"
    what = f"{many}: {names}; {found.recipe.get('network')}, on {data.get('name')} ({size})."
    st.markdown(literal(f"{one.about} {what}".strip()))


def costs(one: Listed, found: Ablation) -> None:
    """What leaving each part out costs, beside what was published."""
    st.header("What each change costs", divider="gray")
    st.markdown("\n".join(f"* {literal(sentence)}" for sentence in tables.sentences(found)))
    words = "of each change in top-1 error, beside the published figures"
    components.chart(cost_figure(found, components.palette()), key="parts_cost", alt=f"Cost {words}")
    components.save_figure("parts_cost", f"cost {words}", f"{one.file}-cost")
    drawn = [variant.name for variant in found.variants if variant.name != BASELINE and effect(found, variant.name)]
    published = any(PUBLISHED[name].top1 for name in drawn)
    st.caption(
        "Each ring is one seed: its error with the change less its error without, so that right of the zero line the "
        "network is worse for the change. The square is the mean of the seeds and the bar its 95 % interval: the true "
        "mean lies within it 19 times in 20. A bar across the zero line cannot tell whether the part helps at all."
        + published
        * (
            " The diamond is what the paper printed, for ILSVRC-2012 with 1.2 million pictures of 1,000 classes; where "
            "it lies off the bar, our effect is not the published one."
        )
    )
    exports.show_table(tables.effects_table(found), "parts_effects", f"{one.file}-effects", widths={"source": 330})


def curves(one: Listed, found: Ablation) -> None:
    """How the errors got there, and how long that took."""
    st.header("How they learned", divider="gray")
    race = {variant.name for variant in found.variants} == {BASELINE, "tanh"}  # who gets there first
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure: Measure = choices.kept(
            st.segmented_control, "Error", MEASURES, key=f"parts_error_{one.name}", required=True,
            default="training" if race else "validation", format_func=lambda name: f"in {name}",
        )  # fmt: skip
        late = bool(
            choices.kept(
                st.toggle, "Second half only", key=f"parts_late_{one.name}", default=False,
                help="Leaves out the steep beginning, so that differences at the end can be seen.",
            )
        )  # fmt: skip
    key = f"parts_curves_{measure}_{'late' if late else 'all'}"  # the zoom of one would be wrong for the other
    figure = curves_figure(found, measure, components.palette(), late=late)
    components.chart(figure, key=key, alt=curves_words(found, measure))
    components.save_figure(key, f"top-1 error in {measure}", f"{one.file}-{measure}")
    st.caption(_SEE[measure])
    st.subheader("Errors after the last epoch")
    exports.show_table(tables.results_table(found), "parts_results", f"{one.file}-results")
    st.caption("± s is the standard deviation between seeds: how much chance alone moves one run.")
    st.subheader("Epochs to 25 % training error")
    exports.show_table(tables.speed_table(found), "parts_speed", f"{one.file}-speed")


def towers(one: Listed, found: Ablation) -> None:
    """Whether one tower becomes the colour one; nothing where no run has a film."""
    table = tables.kernels_table(found)
    if table is None:
        return
    st.header("Do the towers specialise?", divider="gray")
    st.markdown(
        "In the paper one GPU's kernels came to see colour and the other's grey, in every run (section 6.1). Here are "
        "each run's first kernels at its end:"
    )
    st.markdown("\n".join(f"* {literal(sentence)}" for sentence in tables.tower_sentences(found)))
    exports.show_table(table, "parts_kernels", f"{one.file}-kernels", widths={"variant": 210})
    st.caption(
        "Colourfulness is the share of a kernel's energy off the grey axis, here its mean over a tower. A kernel is "
        "compact where more than 80 % of its spectrum lies near one frequency, as in edges, gratings and blobs. "
        "Smoothness is squared differences between neighbouring weights over energy: small is smooth."
    )


def every_run(one: Listed, found: Ablation) -> None:
    """The runs, what they had in common, and what computed them."""
    st.header("Every run", divider="gray")
    exports.show_table(tables.runs_table(found), "parts_runs", f"{one.file}-runs")
    with st.expander("What was held equal, and on which machine"):
        st.markdown(tables.METHOD)
        exports.show_table(_recipe(found), "parts_recipe", f"{one.file}-recipe", widths={"setting": 200, "value": 400})
        for machine in found.machines:
            st.caption(literal("; ".join(f"{what}: {which}" for what, which in machine.items())))


def _recipe(found: Ablation) -> Table:
    columns = (Column("setting", "setting"), Column("value", "value"))
    rows = tuple((name, value_text(value, "not set")) for name, value in sorted(found.recipe.items()))
    return Table("What was held equal", columns, rows)


def repeat(command: str) -> None:
    """The command that makes these runs, or any."""
    st.header("Run it yourself", divider="gray")
    st.code(command, language="sh", wrap_lines=True)
    st.caption(
        "DATA is your pictures: a folder with `train/` and `val/`, a folder per class in each; one folder per class; a "
        "CIFAR archive; a pack that `python -m alexnet pack` made; or `built-in`, for pictures made by rule. "
        "The runs go to `runs/ablation`, or with `--out` into another folder of `runs`; what they find then stands on "
        "this page. Stopped at any time, the same command goes on; with `--table` it trains nothing and writes down "
        "what is finished."
    )
