"""The film of a run: its first kernels as they form, what LRN does meanwhile, and one picture through all of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import streamlit as st

from alexnet.bundled import bundle_of
from alexnet.data.imagenet import readable
from alexnet.spec import LRN, Network
from analysis import film, film_numbers
from analysis.film_library import Library, Summaries
from analysis.kernels import tower_names
from analysis.sheets import Sheet, map_tiles, tower_blocks, tower_groups
from app import boxed, choices, components, exports
from app.figures import film as figures
from app.figures.sheets import png
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alexnet.bundled import Bundle
    from app.running import Run

MOST = 400
"""Moments of a film that the page plays; of a longer one every second, fourth or eighth."""
SCALES: dict[str, film.Scaling] = {"Each kernel": "kernel", "Growth": "film"}
KEYS: dict[str | type, Any] = {
    Network: lambda network: (network.name, network.input_shape, network.classes, network.hidden)
}
_LIKELIEST = 5
_FEW_MISSING = 3


# --- what is kept between two looks ----------------------------------------------------------------------------------


def _version(run: Run, chosen: Sequence[int]) -> str:
    """Changes when one of these probes is written anew, as by a training that went on from an earlier checkpoint."""
    times = []
    for step in chosen:
        try:
            times.append(run.directory.probe_path(step).stat().st_mtime_ns)
        except OSError:
            times.append(0)
    return f"{sum(times):x}"


@st.cache_resource(show_spinner=False)
def library() -> Library:
    """The moments that were read, for all sessions."""
    return Library()


@st.cache_data(max_entries=256, show_spinner=False, hash_funcs=KEYS)
def _reel(run: str, chosen: tuple[int, ...], version: str, network: Network, scale: float | None) -> film.Reel:  # noqa: ARG001
    return film.reel(Path(run), chosen, film.screen(network), scale, library().kernels)


@st.cache_resource(max_entries=512, show_spinner=False, hash_funcs=KEYS)
def _summaries(run: str, chosen: tuple[int, ...], version: str, network: Network, *, order: bool) -> Summaries:  # noqa: ARG001
    return library().summaries(Path(run), chosen, network, order=order)


@st.cache_data(max_entries=256, show_spinner=False, hash_funcs=KEYS)
def _changes(run: str, chosen: tuple[int, ...], version: str, network: Network) -> tuple[film_numbers.Change, ...]:  # noqa: ARG001
    return film_numbers.changes(Path(run), chosen, film.screen(network), library().kernels)


@st.cache_data(max_entries=64, show_spinner=False)
def _reach(run: str, chosen: tuple[int, ...], version: str) -> float:  # noqa: ARG001
    return film.reach(Path(run), chosen, library().kernels)


@st.cache_resource(max_entries=128, show_spinner=False)
def _kept(key: tuple[str | int | bool, ...], _draw: Callable[[], Any]) -> Any:  # noqa: ARG001
    """A figure as it was, until something in its `key` is new: moments come seldom, and a page redraws every 2 s."""
    return _draw()


def _all_summaries(run: Run, chosen: tuple[int, ...], network: Network, *, order: bool = False) -> Summaries:
    """Every moment in numbers; only the block that still grows is computed again, and only what is new is read.

    The kernels' `order` takes 10 ms a moment, so that a long film without it is there ten times as soon.
    """
    path = str(run.directory.path)
    parts = [_summaries(path, block, _version(run, block), network, order=order) for block in film.blocks(chosen)]
    return Summaries(
        tuple(one for part in parts for one in part.found), tuple(one for part in parts for one in part.left_out)
    )


def _readable(run: Run, chosen: tuple[int, ...], network: Network) -> tuple[film_numbers.Summary, ...]:
    """Every moment in numbers, having said which cannot be read; none, said as an error, where none can be."""
    found, missing = _all_summaries(run, chosen, network)
    if found:
        _say_missing(missing)
    else:
        st.error(literal(f"No moment of this film can be shown: {missing[0].reason}"), icon=":material/error:")
    return found


def _all_changes(run: Run, chosen: tuple[int, ...], network: Network) -> list[film_numbers.Change]:
    found: list[film_numbers.Change] = []
    last: tuple[int, ...] = ()
    for block in film.blocks(chosen):
        joined = (*last, *block)  # the change from one block to the next belongs to the film, too
        found += _changes(str(run.directory.path), joined, _version(run, joined), network)
        last = block[-1:]
    return found


# --- kernels ---------------------------------------------------------------------------------------------------------


def begun(run: Run) -> tuple[Network, tuple[int, ...]] | None:
    """The network and the moments there are; None, having said why, where there is nothing to see."""
    network = run.network()
    chosen = film.thinned(film.steps(run.directory.path), MOST)
    if network is None:
        st.info("Its config does not say which network it trains, so its film cannot be shown.")
    elif not chosen and run.config is not None and run.config.probes == 0:
        st.info("This run takes no moments for a film: --probes is 0.")
    elif not chosen:
        st.info("The first moment of the film is taken when the training begins.")
    else:
        return network, chosen
    return None


def kernels(run: Run) -> None:
    """The first layer's kernels of both towers, moment by moment."""
    if (found := begun(run)) is None:
        return
    network, chosen = found
    screen = film.screen(network)  # raises where the network has no convolution, and the page says so
    with st.container(horizontal=True, vertical_alignment="bottom"):
        scaling = SCALES[
            choices.kept(
                st.segmented_control, "Scale", list(SCALES), key="film_scale", default="Each kernel", required=True,
                help="Zero is mid-grey. Each kernel: at every moment its own largest weight is black or white. Growth: "
                "one scale for the whole film, so that kernels are seen to grow out of grey.",
            )
        ]  # fmt: skip
    place, version = str(run.directory.path), _version(run, chosen)
    scale = film.film_scale(_reach(place, chosen, version)) if scaling == "film" else None
    reels = [_reel(place, block, _version(run, block), network, scale) for block in film.blocks(chosen)]
    missing = [one for reel in reels for one in reel.left_out]
    if not any(reel.steps for reel in reels):
        st.error(literal(f"No moment of this film can be shown: {missing[0].reason}"), icon=":material/error:")
        return
    _say_missing(missing)
    per_epoch = run.steps_per_epoch
    labels = {step: f"step {step:,}" + (f" · epoch {step / per_epoch:.1f}" if per_epoch else "") for step in chosen}
    with st.container(key="film_of_kernels"):
        components.film(reels, screen, labels, key="film", version=f"{run.id} {scale}")
    st.caption(
        f"{screen.layer}'s {screen.shape[0]} kernels at {len(chosen)} moments, dense at first, where they change "
        "fastest. Noise turns into edges, gratings and blobs of colour. Drag the slider, or press Play."
    )
    _take_away(run, network, chosen, scaling)
    summaries = _all_summaries(run, chosen, network, order=True).found
    moved = _all_changes(run, chosen, network)
    st.header("Order out of noise", divider="gray")
    st.caption(
        "Compact: the share of kernels with more than 80 % of their spectral energy in one pair of peaks; noise has "
        "none, BVLC's AlexNet, trained on ImageNet, 83 %. Smoothness: squared differences between neighbouring weights "
        "over their energy, less is smoother; noise has 3.63, BVLC's 0.66. Colourfulness: share of the energy off the "
        "grey axis, 0 for grey kernels. Norm: how long a kernel is as a vector. Change: how far each step moves the "
        "kernels, as a share of their length."
    )
    logarithmic = _logarithmic()
    palette = components.palette()
    components.saved_chart(
        _kept(
            ("order", place, version, len(chosen), repr(palette), logarithmic),
            lambda: figures.order_figure(summaries, moved, screen.names, palette, logarithmic=logarithmic),
        ),
        target="chart_order",
        key=f"film_order_{run.id}",
        alt="Compactness, smoothness, colourfulness, size and change over time",
        title="order out of noise",
        name=f"{run.id}-order",
    )
    table = film_numbers.order_table(summaries, moved, screen)
    exports.show_table(table, "film_numbers", f"{run.id}-film", most=10, digits=4)


def _logarithmic() -> bool:
    return bool(
        choices.kept(st.toggle, "Logarithmic steps", key="film_log", default=True, help="The first steps change most")
    )


def _say_missing(missing: Sequence[film.LeftOut]) -> None:
    """Which moments are damaged, open to be read where they are few."""
    if not missing:
        return
    head = f"{len(missing)} moment{'s' * (len(missing) != 1)} cannot be shown"
    with st.expander(head, icon=":material/warning:", expanded=len(missing) <= _FEW_MISSING):
        st.markdown("\n".join(f"* step {one.step:,}: {literal(one.reason)}" for one in missing[:50]))
        if len(missing) > 50:
            st.markdown(f"and {len(missing) - 50} more.")


_MOVING: tuple[tuple[str, Literal["gif", "webp"], str], ...] = (
    ("GIF", "gif", "image/gif"),
    ("WebP", "webp", "image/webp"),
)


def _take_away(run: Run, network: Network, chosen: Sequence[int], scaling: film.Scaling) -> None:
    """The film as one file."""

    def made() -> film.Film:
        return film.frames(run.directory.path, network, 100, scaling)

    def strip() -> bytes:
        return png(film.strip(made(), 6, caption=f"{run.name}, steps {chosen[0]:,} to {chosen[-1]:,}"))

    def playing(kind: Literal["gif", "webp"]) -> bytes:
        return film.animation(made(), kind=kind, title=run.name)

    with st.container(horizontal=True):
        for label, kind, mime in _MOVING:
            st.download_button(
                label, data=partial(playing, kind), mime=mime,
                file_name=f"{run.id}-film.{kind}", key=f"film_{kind}", on_click="ignore", icon=":material/movie:",
                help="The film, playing by itself, to be put on a page or a slide",
            )  # fmt: skip
        st.download_button(
            "Strip", data=strip, mime="image/png", file_name=f"{run.id}-film.png", key="film_strip",
            on_click="ignore", icon=":material/view_agenda:", help="Six moments one below the other, for print",
        )  # fmt: skip


# --- LRN -------------------------------------------------------------------------------------------------------------


def _norms(network: Network) -> dict[str, LRN]:
    return {
        stage.name: stage.layer
        for stage in network.stages()
        if isinstance(stage.layer, LRN) and len(stage.out_shape) == 3
    }


def lrn(run: Run) -> None:
    """What LRN takes away as training goes on, and its maps before and after."""
    if (found := begun(run)) is None:
        return
    network, chosen = found
    norms = _norms(network)
    if not norms:
        st.info(f"{network.name} has no local response normalisation.")
        return
    if not (summaries := _readable(run, chosen, network)):
        return
    palette = components.palette()
    seen = str(run.directory.path), _version(run, chosen), len(chosen), repr(palette)
    logarithmic = _logarithmic()
    components.saved_chart(
        _kept(("share", *seen, logarithmic), lambda: figures.share_figure(summaries, palette, logarithmic=logarithmic)),
        target="chart_lrn",
        key=f"film_lrn_{run.id}",
        alt="Share of activity that each LRN suppresses over the training",
        title="suppressed share over time",
        name=f"{run.id}-lrn",
        caption="How much of the activity LRN takes away, beyond the constant factor k to the power −β that all values "
        "have alike. It grows with the activations: while they are small, the sum of their squares is nothing beside "
        "k.",
    )
    norm = str(
        choices.kept(
            st.segmented_control, "LRN", list(norms), key="film_norm", default=next(iter(norms)), required=True
        )
        if st.session_state.get("kept_film_norm", next(iter(norms))) in norms
        else next(iter(norms))
    )
    towers = len(film.screen(network).names)
    components.saved_chart(
        _kept(("channels", *seen, norm), lambda: figures.channels_figure(summaries, norm, towers, palette)),
        target="chart_lrn_channels",
        key=f"film_channels_{norm}_{run.id}",
        alt=f"Suppressed share of every channel of {norm} over the training",
        title=f"{norm} channel by channel",
        name=f"{run.id}-{norm}-channels",
        caption=f"A row for each channel of {norm}, a column for each moment: the brighter, the more its neighbours "
        "suppress it." + (" The dotted line parts the towers." if towers > 1 else ""),
    )
    table = film_numbers.suppression_table(summaries)
    exports.show_table(table, "film_suppressed", f"{run.id}-suppressed", most=10, digits=4)
    st.header("The probe picture before and after", divider="gray")
    if _left_out(bundle_of(run.directory), run, chosen):
        return
    step = _moment(chosen)
    moment = film.read(run.directory.probe_path(step))
    if norm not in moment.maps:
        st.info(f"This moment holds no maps of {norm}.")
        return
    with st.container(key="maps_lrn"):
        svg = _kept(
            ("before and after", *seen, norm, step), lambda: figures.before_after_svg(moment, norm, norms[norm])
        )
        components.drawing(svg, key="film_before_after", least=520)
    st.caption(
        f"The channels of {norm} that answer most to the probe picture at step {step:,}: before LRN, and behind it "
        "divided by k to the power −β, so that a map that is darker there was suppressed by its neighbours."
    )
    components.save_figure("maps_lrn", f"{norm} before and after", f"{run.id}-{norm}-{step}")


_NO_PICTURE = (
    "The probe picture is left out on purpose: a training is bundled without its pictures, since photographs may not "
    "be passed on. What the network answered to it stays."
)


def _left_out(bundle: Bundle | None, run: Run, chosen: Sequence[int]) -> bool:
    """Whether this run comes from `bundle` and its moments hold no maps; says so."""
    if bundle is None or film.read(run.directory.probe_path(chosen[-1])).maps:
        return False
    st.info(
        literal(
            "Its maps are left out on purpose: a training is bundled without its probe picture and what shows it, "
            "since photographs may not be passed on. The page Activations shows the maps of any picture in this "
            f"network: choose {boxed.weights_of(bundle)}, in its sidebar."
        )
    )
    st.page_link("screens/activations.py", label="Activations", icon=":material/layers:")
    return True


def _moment(chosen: Sequence[int]) -> int:
    """The moment to look at: where the reader stands; whoever stands at the newest one goes on with the newest."""
    newest = chosen[-1]
    if len(chosen) == 1:
        return newest
    stood = st.session_state.get("film_moment", st.session_state.get("kept_film_moment"))
    if stood not in chosen or stood == st.session_state.get("film_newest"):
        st.session_state.film_moment = newest
    st.session_state.film_newest = newest
    return int(
        choices.kept(
            st.select_slider, "Moment", list(chosen), key="film_moment", default=newest,
            format_func=lambda step: f"step {step:,}" + (" (newest)" if step == newest else ""),
        )
    )  # fmt: skip


# --- the probe picture -----------------------------------------------------------------------------------------------


def probe(run: Run) -> None:
    """One validation picture: what the network takes it for as it learns, and its maps at any moment."""
    if (found := begun(run)) is None:
        return
    network, chosen = found
    if not (summaries := _readable(run, chosen, network)):
        return
    bundle = bundle_of(run.directory)
    names = [readable(name) for name in run.classes]
    top = st.container(horizontal=True, gap="medium")
    with top.container(key="detail_probe", width=220):
        if run.directory.probe_picture_path.is_file():
            own = next((one.label for one in reversed(summaries) if one.label is not None), None)
            truth = names[own] if own is not None and own < len(names) else None
            st.image(
                run.directory.probe_picture_path.read_bytes(), width=200,
                caption="The probe picture" + (f": {truth}" if truth else ""),
            )  # fmt: skip
        else:
            st.caption("The file of the probe picture is gone." if bundle is None else _NO_PICTURE)
    with top.container(key="wide_probe"):
        followed = film_numbers.contenders(summaries, _LIKELIEST)
        if not followed or len(names) != (network.classes or 0):
            st.info("This run's moments hold no answers to the probe picture: it was trained before they were kept.")
        else:
            logarithmic = _logarithmic()
            components.saved_chart(
                figures.probability_figure(summaries, followed, names, components.palette(), logarithmic=logarithmic),
                target="chart_probe",
                key=f"film_probe_{run.id}",
                alt="What the network takes the probe picture for, over the training",
                title="answers to the probe picture",
                name=f"{run.id}-probe",
            )
    st.caption(
        "The network is never trained on the probe picture: it is the first validation picture that could be read. "
        "Each line is the probability that it gives one class."
    )
    if followed and len(names) == (network.classes or 0):
        table = film_numbers.probability_table(summaries, followed, names)
        exports.show_table(table, "film_answers", f"{run.id}-answers", most=8, digits=4)
    st.header("Its maps", divider="gray")
    if _left_out(bundle, run, chosen):
        return
    step = _moment(chosen)
    moment = film.read(run.directory.probe_path(step))
    stages = list(moment.maps)
    if not stages:
        st.info("This moment holds no maps.")
        return
    stage = choices.pick("Maps of", stages, "film_stage", widget=st.segmented_control, required=True)
    maps = moment.maps[stage]
    towers = next((found.towers for found in network.stages() if found.name == stage), 1)
    towers_of = tower_names(towers, network.gpus, "maps")
    blocks = tower_blocks(len(maps), towers)
    sheet = Sheet(tower_groups(blocks, towers_of), 16, maps.shape[1:])
    with st.container(key="maps_probe"):
        components.clickable_sheet(
            map_tiles(maps), sheet, [f"{stage} map {number}" for number in range(len(maps))],
            title=f"Maps of {stage} at step {step:,}", key="film_maps",
        )  # fmt: skip
    st.caption(
        f"Every map of {stage} at step {step:,}, each in its own scale, at most 32 pixels wide. The pages under Look "
        "inside show every stage of any checkpoint at full size."
    )
    components.save_figure("maps_probe", f"{stage} at step {step:,}", f"{run.id}-{stage}-{step}")
