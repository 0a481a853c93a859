"""First look: the network in the box in five stops, with nothing chosen.

The first two need no torch and are on the screen before it is imported; each of the others comes as it is ready.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from alexnet.bundled import IMAGENETTE
from alexnet.data.sources import BUILT_IN
from alexnet.errors import UserError
from alexnet.presets import preset_named
from alexnet.runs import explained
from alexnet.words import listed
from analysis import kernel_figures, sheets
from analysis.formats import percent
from analysis.kernels import tower_names
from app import boxed, choices, components, exports, first_box, first_words, looking, parts_found, queries
from app.figures.classes import class_bars
from app.figures.first import learning_figure
from app.figures.maps import Panel, maps_svg
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streamlit.delta_generator import DeltaGenerator as Place

    from analysis.activations import Activations
    from app.first_box import Box
    from app.looking import Chosen, Picture

STOPS = ("Kernels", "How they formed", "A picture inside", "Neighbours", "What it answers")
SHOWS = {"parachute": "parachute", "golf-ball": "golf ball", "cat": None, "coffee": None}
"""Samples to choose from, and which class each of them shows: those of the last are unknown to the network."""
MINUTES = "minutes"
"""The preset that anyone can repeat the way from noise to kernels with."""
_EXAMPLES = 5
_STRONGEST = 16  # deep maps of each tower that are shown
_LEAST_TILE = 28
_FRONTEND = Path(__file__).resolve().parents[1] / "frontend"


# --- what all stops have ---------------------------------------------------------------------------------------------


def _tour() -> None:
    links = "".join(
        f'<a href="#stop-{number}" target="_self"><b>{number}</b><span>{name}</span></a>'
        for number, name in enumerate(STOPS, start=1)
    )
    with st.container(key="tour"):
        st.html(f'<nav class="tour" aria-label="Tour">{links}</nav>')


def _stop(number: int, title: str) -> None:
    st.header(f"{number} · {title}", anchor=f"stop-{number}", divider="gray")


def _closer(label: str, page: str, key: str, prepare: Callable[[], None] = lambda: None, **address: str) -> None:
    """A button that leads to the page where all of it is, with what is shown here chosen there."""
    pressed = st.button(label, key=f"closer_{key}", icon=":material/arrow_forward:", on_click=prepare)
    if pressed and "box_trouble" not in st.session_state:
        st.switch_page(f"screens/{page}.py", query_params=address)


def _go(page: str) -> None:
    """To be followed at the next run: a click on a drawing is told to a callback, which cannot leave the page."""
    st.session_state.first_goes_to = page


def _follow() -> None:
    if page := st.session_state.pop("first_goes_to", None):
        st.switch_page(f"screens/{page}.py")


def _told(error: UserError | OSError) -> None:
    st.error(literal(explained(error) if isinstance(error, OSError) else str(error)), icon=":material/error:")


# --- 1 and 2: what it learnt, and how --------------------------------------------------------------------------------


def _kernels(box: Box) -> None:
    found = box.kernels
    tiles = sheets.kernel_tiles(found.weights)
    side = found.weights.shape[2]
    _stop(1, f"The {len(tiles)} things it looks for first")
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="wide_first_kernels"):
        blocks = sheets.tower_blocks(len(tiles), len(found.names))
        sheet = sheets.Sheet(sheets.tower_groups(blocks, found.names), 16, (side, side))
        labels = [
            f"kernel {number} of {found.layer}, {found.names[one.tower]}" for number, one in enumerate(found.kernels)
        ]
        with st.container(key="first_sheet"):
            components.clickable_sheet(
                tiles, sheet, labels, title=f"Kernels of {found.layer}", key="first_kernels",
                on_pick=partial(_to_kernel, "first_kernels"),
            )  # fmt: skip
        components.save_figure("first_sheet", f"kernels of {found.layer}", f"built-in-{found.layer}-kernels")
        _kinds(box, tiles)
    with beside.container(key="detail_first_kernels"):
        st.markdown(
            f"Each square is a **kernel**: {side}×{side} weights that slide over the picture and answer wherever it "
            "looks like them. Nobody drew them: they began as noise and were formed by photographs alone. The first "
            "cells of your visual cortex look for much the same. The two names are the **two GPUs** over which the "
            "network of 2012 was split."
        )
        _quality(box)
        _closer("Look closer: every kernel at large", "kernels", "kernels", looking.choose_built_in)


def _kinds(box: Box, tiles: sheets.Tiles) -> None:
    """A few clear examples of each kind, from these very kernels."""
    found = first_words.kinds(box.kernels.kernels, box.kernels.weights.shape[2])
    named = [
        (name, numbers) for name, numbers in zip(("Edges", "Gratings", "Colour blobs"), found, strict=True) if numbers
    ]
    if not named:
        return
    groups = tuple(sheets.Group(f"{name}: {len(numbers)}", numbers[:_EXAMPLES]) for name, numbers in named)
    sheet = sheets.Sheet(groups, _EXAMPLES, tiles.shape[1:3], gap=1, group_gap=6, beside=True)
    labels = [f"kernel {number}" for number in range(len(tiles))]
    components.clickable_sheet(
        tiles, sheet, labels, title="Kinds of kernels", key="first_kinds", on_pick=partial(_to_kernel, "first_kinds"),
        width=900, least=520,
    )  # fmt: skip
    st.caption(
        "**Edges** find where light meets dark, **gratings** find stripes, **blobs** find patches of a colour. The "
        f"other {len(tiles) - sum(map(len, found))} are none of these clearly."
    )


def _quality(box: Box) -> None:
    table = kernel_figures.comparison_table(box.kernels, "this network")
    if table is None:
        return
    with st.container(key="orderly"):
        st.markdown(first_words.orderly(table))
    st.caption(
        "**Compact**: one clear wave or blob makes up more than 80 % of the kernel. **Smoothness**: how "
        "much neighbouring weights differ, the median; less is smoother. BVLC's AlexNet saw 1.2 million photographs "
        "of ImageNet."
    )
    exports.save_table(table, "built-in-kernels-compared", "save_first_quality")


def _to_kernel(sheet: str) -> None:
    if (picked := st.session_state[sheet].picked) is not None:
        looking.choose_built_in()
        choices.go_to("layer", "conv1")
        choices.choose("kernel", int(picked))
        _go("kernels")


def _film(box: Box) -> None:
    _stop(2, "How they formed, from noise")
    try:
        training = first_box.training(box.network)
    except (UserError, OSError) as error:
        _told(error)
        return
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="wide_first_film"):
        components.film(training.reels, training.screen, training.labels, key="first_film", from_start=True)
    with beside.container(key="detail_first_film"):
        st.markdown(
            f"**Press Play.** The network saw {training.pictures:,} photographs {training.epochs} times over, a few at "
            "a time, and after each few every weight was moved a little towards better answers. Drag the slider to "
            "find out when noise gives way to order." + first_words.taken_from(box.results, training.steps[-1])
        )
        with st.container(key="first_learning"):
            components.chart(
                learning_figure(training.curves, len(box.classes), components.palette()),
                key="first_learning_chart",
                alt="Right answers rise from guessing, and the loss falls, as the training goes on",
            )
        components.save_figure("first_learning", "how it learnt", "built-in-learning")
        st.markdown(
            "You can watch this happen yourself, in minutes, on pictures that are drawn by rule: by the button below, "
            f"or with `{preset_named(MINUTES).command}`."
        )
        _closer("Look closer: its film and curves at large", "runs", "training", _unpack)
        if trouble := st.session_state.pop("box_trouble", None):
            st.error(literal(trouble), icon=":material/error:")
        _closer("Train one yourself", "start", "start", data=BUILT_IN, preset=MINUTES)


def _unpack() -> None:
    """The training in the box as a run, so that the page of runs can show it."""
    try:
        choices.go_to("run", boxed.put(IMAGENETTE).path.name)
    except UserError as error:
        st.session_state.box_trouble = str(error)
    else:
        choices.go_to("view_of_run", "Kernels")


# --- 3, 4 and 5: one picture -----------------------------------------------------------------------------------------


@st.fragment
def _picture_stops(box: Box) -> None:
    """A picture on its way through; another one redraws these three stops and nothing else."""
    _follow()
    _stop(3, "What they make of a picture")
    beside = st.container(horizontal=True, gap="medium")
    wide, detail = beside.container(key="wide_first_maps"), beside.container(key="detail_first_maps")
    with detail:
        name = choices.pick(
            "Picture", list(SHOWS), "sample", widget=st.segmented_control, required=True, format_func=_called
        )
        seen = looking.Picture(name, name, queries.sample(name))
        st.image(seen.pixels, width=200, caption=_called(name))
    try:
        chosen = looking.built_in()
        found = queries.activations(chosen, seen)
    except (UserError, OSError) as error:
        _told(error)
        return
    _maps(chosen, seen, found, wide, detail)
    _lrn(chosen, seen, found)
    _answers(seen, found, box.classes)


def _called(sample: str) -> str:
    return sample.replace("-", " ").capitalize()


def _maps(chosen: Chosen, seen: Picture, found: Activations, wide: Place, detail: Place) -> None:
    with wide:
        with st.container(key="first_maps"):
            st.markdown("**First layer**: a map for each kernel, in the same places as above")
            _sheet(chosen, seen, found, "relu1")
        components.save_figure("first_maps", "maps of relu1", f"built-in-{seen.name}-relu1")
        with st.container(key="first_deep"):
            st.markdown("**Fifth layer**: the maps that answer most")
            _sheet(chosen, seen, found, "relu5", _STRONGEST)
        components.save_figure("first_deep", "strongest maps of relu5", f"built-in-{seen.name}-relu5")
    with detail:
        st.markdown(
            "A **map** shows where on the picture one kernel answers: dark is not at all, yellow is most. The first "
            "layer still draws the picture, in edges and colours. Four layers on nothing looks like it any more: "
            "each value sees a large part of the picture, and answers to something rarer."
        )
        _closer(
            "Look closer: every map of every stage", "activations", "maps", partial(looking.choose_built_in, seen.name)
        )


def _sheet(chosen: Chosen, seen: Picture, found: Activations, name: str, most: int | None = None) -> None:
    """All maps of a stage, or the `most` strongest of each tower."""
    from analysis.activations import by_strength  # noqa: PLC0415 - torch

    stage, maps = found.stage(name), found.values[name]
    names = tower_names(stage.towers, found.network.gpus, "maps")
    orders: Sequence[Sequence[int]] = sheets.tower_blocks(len(maps), stage.towers)
    if most is not None:
        orders = [order[:most].tolist() for order in by_strength(maps, stage.towers)]
    tiles, _ = queries.map_tiles(chosen, seen, name, "map", "viridis")
    larger = -(-_LEAST_TILE // tiles.shape[1])  # so that the gap between tiles is as narrow as between large ones
    tiles = tiles.repeat(larger, 1).repeat(larger, 2)
    sheet = sheets.Sheet(sheets.tower_groups(orders, names), 16, tiles.shape[1:3])
    labels = [f"map {number} of {name}" for number in range(len(maps))]
    components.clickable_sheet(
        tiles, sheet, labels, title=f"Maps of {name}", key=f"first_{name}", on_pick=partial(_to_map, name, seen.name)
    )


def _to_map(stage: str, sample: str) -> None:
    if (picked := st.session_state[f"first_{stage}"].picked) is not None:
        looking.choose_built_in(sample)
        choices.go_to("stage_seen", stage)
        choices.choose("map", int(picked))
        _go("activations")


def _lrn(chosen: Chosen, seen: Picture, found: Activations) -> None:
    from analysis import lrn  # noqa: PLC0415 - torch

    _stop(4, "Neighbours hold each other back")
    place = lrn.places(found.network)[0]
    layer = place.layer
    result = lrn.normalise(found.values[place.before], layer)
    share, shares = lrn.suppressed_overall(result), np.nan_to_num(lrn.suppressed_shares(result))
    channel = int(shares.argmax())
    before, rest = result.before[channel], result.rest_gain
    lost = 100 * (1 - result.ratio[channel] / rest)
    panels = [
        Panel("before", f"map {channel}, before", before, (0.0, float(before.max()))),
        Panel("lost", "taken away, %", lost, (0.0, float(lost.max()))),
    ]
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="wide_first_lrn"):
        title = f"what {place.name} takes away from map {channel}"
        cell = divmod(int(lost.argmax()), lost.shape[1])
        with st.container(key="first_lrn"):
            components.clickable_cells(
                maps_svg(panels, title=title), cell, {panel.name: panel.values for panel in panels},
                key="first_lrn_cells", on_pick=lambda: None, least=520,
            )  # fmt: skip
        components.save_figure("first_lrn", title, f"built-in-{seen.name}-{place.name}")
        st.caption(
            f"Map {channel} loses more than any other, **{first_words.small(float(shares[channel]))}** of itself, and "
            f"most where it and the maps beside it answer strongly. That all values alike are made {rest:.2f} of "
            "themselves, neighbours or none, is not counted."
        )
    with beside.container(key="detail_first_lrn"):
        st.markdown(
            "In **local response normalisation** (LRN) every value is divided by what grows with the squares of its "
            "own map and the maps beside it, at the same place: where many answer at once, all are turned down, as "
            "between neighbouring nerve cells."
        )
        largest = float(np.nanmin(result.ratio) ** (-1 / layer.beta) - layer.k)
        divisor = float(chosen.checkpoint.preprocessing.divisor.float().mean())
        st.markdown(first_words.lrn_sentence(share, largest, layer.k, layer.beta, divisor))

        def prepare() -> None:
            looking.choose_built_in(seen.name)
            choices.choose("lrn_map", channel)

        _closer("Look closer: turn its settings up", "lrn", "lrn", prepare)
        worth = parts_found.of_lrn()
        if worth and (said := first_words.trained_without_lrn(worth)):
            st.markdown(said)
            _closer("Look closer: every seed of it", "parts", "parts", ablation=parts_found.LRN)


def _answers(seen: Picture, found: Activations, classes: Sequence[str]) -> None:
    from analysis.activations import top_classes  # noqa: PLC0415 - torch

    _stop(5, "What it answers")
    best = top_classes(found)
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="wide_first_answers"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.image(seen.pixels, width=150, caption=_called(seen.name))
            with st.container(key="first_answers", width="stretch"):
                components.chart(
                    class_bars(best, components.palette()),
                    key="first_answers_chart",
                    alt="The most probable classes: " + ", ".join(f"{one.name} {one.probability:.1%}" for one in best),
                )
        components.save_figure("first_answers", f"what it takes the {seen.name} for", f"built-in-{seen.name}-classes")
    with beside.container(key="detail_first_answers"):
        st.markdown(f"It knows **{len(classes)} things** and no others: {listed(classes)}.")
        st.markdown(first_words.answer_sentence(_called(seen.name).lower(), SHOWS[seen.name], best[0]))
        st.session_state.first_again = seen.name
        st.segmented_control(
            "Try another picture", list(SHOWS), key="first_again", required=True, format_func=_called, on_change=_again
        )
        _closer("Look closer: what made it say so", "activations", "answers", partial(_why, seen.name))


def _again() -> None:
    choices.go_to("sample", st.session_state.first_again)


def _why(sample: str) -> None:
    looking.choose_built_in(sample)
    choices.go_to("below", "What it answers to")


def _made_smaller() -> None:
    """What the network in the box is less than the paper's, and where all of that is said."""
    try:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(first_words.made_smaller(IMAGENETTE.results()), width="stretch")
            if st.button("Its model card", key="model_card", icon=":material/description:"):
                _show_card(IMAGENETTE.card.read_text(encoding="utf-8"))
    except (UserError, OSError) as error:
        _told(error)


@st.dialog("Model card", width="large")
def _show_card(card: str) -> None:
    """The card as it is shipped, without the heading, which the dialog has."""
    st.markdown(card.partition("\n")[2])
    st.download_button("Save", card, "MODEL_CARD.md", "text/markdown", icon=":material/download:", on_click="ignore")


def _page() -> None:
    _follow()
    st.html(_FRONTEND / "first.css")
    st.title("First look")
    try:
        box = first_box.box()
    except UserError as error:
        _told(error)
        st.stop()
    known = box.results.get("top1")
    st.markdown(
        "This is **AlexNet**, the network that changed how computers see, in the two halves in which it was built in "
        f"2012. This one was trained by this project, on photographs of {len(box.classes)} kinds of things"
        + (f", and names {percent(known, digits=0)} of others rightly" if isinstance(known, float) else "")
        + ". Everything below is drawn from its weights as you look."
    )
    _made_smaller()
    _tour()
    _kernels(box)
    _film(box)
    _picture_stops(box)
    st.divider()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Go on:**", width="content")
        st.page_link("screens/architecture.py", label="Count every weight of it", icon=":material/view_in_ar:")
        st.page_link("screens/start.py", label="Train your own", icon=":material/play_circle:")
        st.page_link("screens/compare.py", label="Hold networks against each other", icon=":material/compare_arrows:")


_page()
