"""The fields of a training's recipe: each with its option, where its value comes from, and what is wrong with it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import streamlit as st

from alexnet.config import KEPT_BY_BRANCHES, option
from alexnet.errors import UserError
from alexnet.presets import preset_named
from alexnet.spec import Dropout, times
from alexnet.words import size_text
from alexnet.zoo import network_from
from analysis.costs import cost_table
from app import queries, start_form
from app.start_form import CHOICES, FIELDS, FIRST, GROUPS, LABELS, PRESET_NAMES, RECIPE, key, told
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.start_form import Form

_ABOUT = {
    "input": "Side of the square input in pixels, or height x width",
    "variant": "no-lrn leaves local response normalisation out, no-overlap pools windows side by side, tanh takes "
    "ReLU's place",
}
_OPTION = {"input": "`--network`, behind @", "variant": "`--network`, behind the colon"}
_WIDTH = 200  # pixels of a field: five beside each other on a wide page, two on a narrow one


def group(name: str) -> tuple[str, ...]:
    """The fields of a group, in the command line's order."""
    found: dict[str, list[str]] = {title: [] for title in GROUPS.values()}
    title = ""
    for field in FIELDS:
        title = GROUPS.get(field, title)
        if title:
            found[title].append(field)
    return tuple(found[name])


# --- one field -------------------------------------------------------------------------------------------------------


def field(name: str, form: Form, problems: Mapping[str, str], *, width: int = _WIDTH) -> None:
    """A field, with its source below it, or what is wrong."""
    own, about = _own(name, form), _help(name)
    locked = form.origin is not None and _part_of(name) in KEPT_BY_BRANCHES
    with st.container(width=width, gap=None):
        if name in CHOICES or name == "device":
            options, said = list(_options(name)), st.session_state.get(key(name))
            if said and said not in options:
                options.append(str(said))  # of an older run, or of another machine: the problems say what is wrong
            st.selectbox(
                LABELS[name], options, index=None, key=key(name), placeholder=own, disabled=locked,
                help=about, accept_new_options=name == "device",
            )  # fmt: skip
        else:
            st.text_input(LABELS[name], key=key(name), placeholder=own, disabled=locked, help=about)
        st.caption(_below(name, form, problems, locked=locked))


def _below(name: str, form: Form, problems: Mapping[str, str], *, locked: bool) -> str:
    """Where the value comes from; what is wrong stands in its place."""
    part = _part_of(name)
    if (problem := problems.get(part)) and (part != "network" or name == _blamed()):
        return f":red[{told(problem)}]"
    if locked:
        return "every branch keeps it"
    mine = start_form.typed(name) if part == "network" else True
    source = form.sources[part] if mine or form.sources[part] != "yours" else "the network’s own"
    return literal(source) + _not_emptied(name, form)


def _not_emptied(name: str, form: Form) -> str:
    """What to type in a branch of a run that has a value where most have none: empty means the run's value there."""
    if form.origin is None or getattr(form.base, _part_of(name)) is None or start_form.typed(name):
        return ""
    match name:
        case "dropout":
            network = network_from(form.base.network)
            own = (layer.probability for _, layer in network.layers if isinstance(layer, Dropout))
            return f" · the network’s own is {share:g}" if (share := next(own, None)) is not None else ""
        case "jitter_to":
            return f" · for no jitter type {form.base.short_side()}"
        case "max_steps":
            return " · for no limit type a large number"
        case "workers" | "threads":
            return " · every branch has a number here"
    return ""


def _blamed() -> str:
    """The one of the network's three fields that says what is wrong."""
    return next((name for name in ("input", "variant") if start_form.typed(name)), "network")


def _part_of(name: str) -> str:
    return "network" if name in {"input", "variant"} else name


def _own(name: str, form: Form) -> str:
    if name not in {"network", "input", "variant"}:
        return start_form.own_value(name, form)
    base_name, side, variant = start_form.parts(form.base.network)
    if name == "network":
        return base_name
    same = start_form.typed("network") in {"", base_name}
    if name == "variant":
        return variant if variant and same else start_form.VARIANTS[0]
    if side and same:
        return side
    from alexnet.zoo import network_named  # noqa: PLC0415

    try:
        network = network_named(start_form.typed("network") or base_name)
    except ValueError:
        return ""
    return times(network.input_shape[1:]) if len(set(network.input_shape[1:])) > 1 else str(network.input_shape[1])


def _options(name: str) -> Iterable[str]:
    if name != "device":
        return CHOICES[name]
    found = queries.devices()
    cuda = [device for device in found if device != "cpu"]
    pairs = [f"{one},{other}" for one, other in pairwise(cuda)]
    return ("auto", *found, *pairs)


def _help(name: str) -> str:
    about = _ABOUT.get(name) or FIELDS[name].metadata["about"]
    return f"{about[:1].upper()}{about[1:]}.  \nOn the command line: {_OPTION.get(name) or f'`{option(name)}`'}."


# --- the groups ------------------------------------------------------------------------------------------------------


def fields(names: Iterable[str], form: Form, problems: Mapping[str, str]) -> None:
    """Fields side by side, as many as there is room for."""
    with st.container(horizontal=True):
        for name in names:
            field(name, form, problems)


def folded(title: str, names: Iterable[str], form: Form, problems: Mapping[str, str], about: str) -> None:
    """Fields that few people change; the title says how many were, and whether something is wrong among them."""
    names = tuple(names)
    changed = sum(name in form.changed() or name in form.problems for name in names)
    wrong = sum(name in problems for name in names)
    than = "the run" if form.origin is not None else "the preset"
    words = [f"**{title}**", f"{changed} of {len(names)} differ from {than}" if changed else f"{len(names)} values"]
    if wrong:
        words.append(f":red[{wrong} {'problems' if wrong > 1 else 'problem'}]")
    with st.expander(" · ".join(words), key=f"start_group_{title}"):
        st.caption(about)
        fields(names, form, problems)


def preset() -> None:
    """The choice of the preset, and what is to be expected of it."""
    with st.container(horizontal=True, gap="medium"):
        with st.container(width=_WIDTH):
            said = st.session_state.get(key("preset"))
            options = [*PRESET_NAMES, *([said] if said and said not in PRESET_NAMES else [])]
            st.selectbox(
                "Preset", options, key=key("preset"), help="Where every value comes from that you do not type."
            )
            st.button(
                "Reset to the preset", icon=":material/restart_alt:", key="start_reset", on_click=start_form.reset,
                disabled=not any(start_form.typed(name) for name in RECIPE), width="stretch",
                help="Empties every field of the recipe, so that the preset's value stands there again.",
            )  # fmt: skip
        try:
            chosen = preset_named(start_form.typed("preset"))
        except UserError as error:
            st.error(literal(str(error)), icon=":material/error:")
            return
        with st.container(width="stretch"):
            st.markdown(literal(chosen.purpose))
            st.caption(f"{literal(chosen.expect)}  \n{literal(chosen.hardware)}")


def network(form: Form, problems: Mapping[str, str], classes: int | None) -> None:
    """Network and size, with what an image costs."""
    fields(("network", "input", "variant", "hidden", "dropout"), form, problems)
    # Of a network that there is not, nothing can be counted; those of the one before would be taken for its own.
    wrong = not form.problems.keys().isdisjoint({"network", "hidden"})
    described = form.shown.described_network(classes)
    costs = cost_table(described)
    params, macs, back = costs.total("params"), costs.total("macs"), costs.total("backward_macs")
    with st.container(horizontal=True, gap="medium", key="start_costs"):
        for label, count, about in (
            ("Parameters", params, f"{size_text(4 * params)} in float32"),
            ("MACs for an image", macs, "Multiply–accumulates, forward"),
            ("To train on an image", macs + back, "MACs, forward and backward"),
        ):
            st.metric(label, "—" if wrong else f"{count:,}", width=190, help=None if wrong else about)
    if wrong:
        st.caption("Counted as soon as there is such a network.")
        return
    guess = "" if classes is not None else ", the network’s own until the data is open"
    shape = times(described.input_shape)
    st.caption(
        f"{literal(form.shown.network)} with {shape} input and {described.classes:,} classes{guess}. {described.title}."
    )


def recipe(form: Form, problems: Mapping[str, str]) -> None:
    """What most people change, and the rest folded away."""
    fields(FIRST, form, problems)
    rest = [name for name in group("Recipe") if name not in FIRST]
    folded("More of the recipe", rest, form, problems, "How it learns.")
    folded("Pictures", group("Pictures"), form, problems, "From files to the network’s input.")
    folded("Run", group("Run"), form, problems, "What is done and written on the way.")


def machine(form: Form, problems: Mapping[str, str]) -> None:
    """Where it computes."""
    field("device", form, problems, width=280)
    rest = [name for name in group("Machine") if name != "device"]
    folded("More of the machine", rest, form, problems, "auto takes what is fastest here, and the log says what.")
