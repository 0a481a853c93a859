"""Activations: what every stage makes of a picture, map by map and value by value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import times
from analysis import activations
from app import choices, components, exports, looking, queries
from app.attributions import show_attribution
from app.figures.classes import class_bars
from app.map_explorer import explorer
from app.state import literal
from app.value_detail import show_value

if TYPE_CHECKING:
    from app.looking import Chosen, Picture

VIEWS = ("One value", "What it answers to", "Every stage")


def _show_classes(found: activations.Activations, chosen: Chosen) -> None:
    """The five most probable classes, or what is missing."""
    if reason := activations.why_no_classes(found):
        st.caption(f":material/info: {literal(reason)}")
        return
    best = activations.top_classes(found)
    components.chart(
        class_bars(best, components.palette()),
        key="class_bars",
        alt="The most probable classes: " + ", ".join(f"{one.name} {one.probability:.1%}" for one in best),
    )
    if chosen.untrained:
        st.caption(
            ":material/info: These weights are random: the network has learnt nothing, and its classes mean nothing."
        )
    else:
        st.caption(
            f"The most probable of the {found.network.classes:,} classes it knows: it takes any picture for one."
        )


def _show_stages(found: activations.Activations, label: str) -> None:
    st.markdown("Silent maps are 0 everywhere on this picture. Values are what the stage gives, after it has run.")
    exports.show_table(activations.stage_table(found), "every_stage", f"{label}-stages")
    st.download_button(
        "All stages as .npz", data=lambda: activations.npz(found), file_name=f"{label}.npz",
        mime="application/octet-stream", on_click="ignore", icon=":material/download:",
        help="Every stage's values by name, float32, with the crop and the network's input; numpy.load reads it",
    )  # fmt: skip


def _page() -> None:
    st.title("Activations")
    chosen, picture = looking.chosen(), looking.picture()
    found: activations.Activations = looking.computed(lambda: queries.activations(chosen, picture))
    network = found.network
    if not found.stages:
        st.error(f"These weights lack {', '.join(found.missing)}, so not one stage of {network.name} can be computed.")
        st.stop()
    reached = found.stages[-1]
    st.markdown(
        f"**{literal(picture.name)}** through **{literal(network.name)}**: {len(found.stages)} stages, from "
        f"{times(found.input.shape)} to {times(reached.out_shape)} at {reached.name}."
    )
    _show_classes(found, chosen)
    _inside(chosen, picture, found)


@st.fragment
def _inside(chosen: Chosen, picture: Picture, found: activations.Activations) -> None:
    """The maps, and what is below them for the value picked; a click redraws these and nothing else."""
    stage, place = explorer(chosen, picture, found)
    label = f"{chosen.label}-{picture.name}"
    view = choices.pick("Below", VIEWS, "below", widget=st.segmented_control, required=True)
    if view == "One value":
        show_value(chosen, found, stage, place)
    elif view == "Every stage":
        _show_stages(found, label)
    else:
        show_attribution(chosen, picture, found, stage, place)


_page()
