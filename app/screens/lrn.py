"""LRN laboratory: local response normalisation on real activations, with every setting at hand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import times
from analysis import lrn
from analysis.formats import percent
from app import choices, looking, lrn_sections, queries
from app.lrn_settings import controls
from app.state import literal

if TYPE_CHECKING:
    from alexnet.spec import LRN
    from analysis.activations import Activations
    from analysis.lrn import Place
    from app.looking import Chosen

SECTIONS = {
    "One map": lrn_sections.one_map,
    "All maps": lrn_sections.all_maps,
    "Suppressed": lrn_sections.suppressed,
    "Gain": lrn_sections.gains,
    "Orders": lrn_sections.orders,
    "Towers": lrn_sections.towers,
    "Limit cases": lrn_sections.limits,
    "Cost": lrn_sections.cost,
    "Published": lrn_sections.published,
}


def _power(found: re.Match[str]) -> str:
    """``2e-5`` as TeX writes it; a factor of 1 is left out."""
    factor, power = found.groups()
    return f"{factor} \\cdot 10^{{{power}}}" if factor else f"10^{{{power}}}"


def _formula(layer: LRN) -> str:
    alpha = re.sub(r"^(?:1|(.+))e(-?\d+)$", _power, lrn.alpha_text(layer.alpha))
    per_square = f"\\tfrac{{{alpha}}}{{{layer.size}}}" if layer.average else alpha
    return f"$b = a \\,/\\, ({layer.k:g} + {per_square} \\cdot \\textstyle\\sum a^2)^{{{layer.beta:g}}}$"


@st.fragment
def _laboratory(chosen: Chosen, place: Place, seen: Activations) -> None:
    """Settings and one section; a slider redraws these and nothing else."""
    layer = controls(f"{chosen.key}|{place.name}", place)
    before = seen.values[place.before]
    result = lrn.normalise(before, layer)
    overall = lrn.suppressed_overall(result)
    if overall is not None:
        effect = (
            f"**{percent(overall)}** of the activity is suppressed, beyond $k^{{-\\beta}}$ = {result.rest_gain:.3g}."
        )
    elif layer.k:
        effect = "Nothing is active on this picture."
    else:
        effect = "With k = 0 there is no gain at rest to compare with."
        if result.undefined:
            effect += f" {result.undefined:,} values have a denominator of 0 and are shown as 0."
    reach = "inside each tower" if layer.groups > 1 else "across all channels"
    st.markdown(f"{_formula(layer)}, over {min(layer.size, place.shape[0])} channels, {reach}. {effect}")
    section = choices.pick(
        "Section", list(SECTIONS), "section", widget=st.segmented_control, required=True, label_visibility="collapsed"
    )
    SECTIONS[section](lrn_sections.Bench(chosen, place, layer, seen, before, result))


def _about(place: Place) -> str:
    where = f"**{place.name}**, {times(place.shape)}, from the output of {place.before}"
    if place.imagined:
        return (
            f"This network has no LRN. Here its {place.name} is followed by one **as if** it had: {times(place.shape)} "
            f"values; the network itself is not changed."
        )
    return f"{where}. Its own settings: {lrn.settings_text(place.layer)}."


def _page() -> None:
    chosen, picture = looking.chosen(), looking.picture()
    network = chosen.checkpoint.network
    st.title("LRN laboratory")
    st.markdown(
        "Local response normalisation divides every value by what its neighbouring channels do at the same pixel "
        "(paper, section 3.3): strong channels hold their neighbours back, like lateral inhibition between neurons. "
        "Move a setting and see what is suppressed on a real picture."
    )
    computed = {stage.name for stage in chosen.checkpoint.reachable}
    places = {place.name: place for place in lrn.places(network) if place.before in computed}
    if not places:
        st.error(
            literal(
                f"{network.name} has no convolution with LRN, ReLU or tanh behind it that these weights reach: choose "
                "others in the sidebar."
            ),
            icon=":material/error:",
        )
        st.stop()
    name = choices.pick("Stage", list(places), "lrn_stage", widget=st.segmented_control, required=True)
    place, seen = places[name], looking.computed(lambda: queries.activations(chosen, picture))
    st.markdown(_about(place))
    _laboratory(chosen, place, seen)


_page()
