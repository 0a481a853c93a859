"""What each part gives: LRN, overlapping pooling and ReLU, each left out or replaced in trainings of our own."""

from __future__ import annotations

import streamlit as st

from alexnet.runs import RUNS
from app import choices, parts, parts_found
from app.state import glossary, literal

WORDS = {
    "Ablation": "the same training again with one part taken out, to see what the part was worth.",
    "Baseline": "the network as it is, with all its parts.",
    "Seed": "the number that all chance in a run comes from. Runs of one seed begin with the same weights and see the "
    "same pictures in the same order, so they can be compared one by one.",
    "Top-1 error": "the share of validation pictures whose likeliest class is wrong.",
    "Points": "percentage points: from 20 % to 21.5 % is +1.5 points.",
    "95 % interval": "where the true mean lies 19 times in 20, by Student's t over the seeds.",
    "LRN": "local response normalisation: a value divided by what its neighbouring maps do at the same place.",
    "Overlap": "pooling windows of 3×3 that move by 2, and so share a row, where windows of 2×2 would not.",
}
ANY = "python -m alexnet ablate DATA --preset quick --seeds 3"


def _page() -> None:
    st.title("What each part gives")
    st.markdown(
        "The paper says that LRN lowers the top-1 error by 1.4 points (section 3.3) and overlapping pooling by 0.4 "
        "(section 3.4), and that ReLU learns six times as fast as tanh (section 3.1, figure 1). Here one recipe is "
        "trained with all parts and with one of them left out or replaced, each from several seeds, and what came out "
        "stands beside what was published."
    )
    with st.sidebar:
        glossary(WORDS)
    boxed, own = parts_found.shipped(), parts_found.own()
    listed = {one.name: one for one in (*boxed, *own)}
    if not boxed:
        st.info(
            "This copy comes without results of an ablation."
            + (" Those below are your own." if own else literal(f" There are none in {RUNS.resolve()} either.")),
            icon=":material/info:",
        )
    if not listed:
        parts.repeat(ANY)
        return
    name = next(iter(listed))
    if len(listed) > 1:
        name = choices.pick(
            "Ablation", list(listed), "ablation", widget=st.segmented_control, required=True,
            format_func=lambda name: literal(listed[name].title),
        )  # fmt: skip
    one = listed[name]
    if one.found is None:
        st.error(literal(one.trouble), icon=":material/error:")
        if one in own:
            st.caption(f"`python -m alexnet ablate --out {one.name} --table` writes it again, from its runs.")
        parts.repeat(ANY)
        return
    parts.about(one, one.found)
    for section in (parts.costs, parts.curves, parts.towers, parts.every_run):
        section(one, one.found)
    parts.repeat(one.found.command or ANY)


_page()
