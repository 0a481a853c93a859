"""The data of a training that is to start: which, what was found there, and what is done to its pictures."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from alexnet.data.imagenet import readable
from alexnet.data.sources import BUILT_IN, class_counts, open_data
from alexnet.errors import UserError
from alexnet.words import rough_time
from analysis.formats import Column, Table
from app import choices, components, exports, queries, start_form
from app.figures.preview import preview_svg
from app.scans import Scan
from app.start_form import DATA_KINDS, key, told
from app.state import literal
from app.wrong_data import wrong_kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alexnet.config import TrainConfig
    from alexnet.data.preview import Preview
    from alexnet.data.sources import Splits
    from app.start_form import Form

    Found = TypeVar("Found")

_PATIENCE_SECONDS = 1.0
"""Most data is open by then; what takes longer goes on beside the page."""
_EXPECTED = {
    "Built in": "4,000 pictures of 10 kinds of pattern, drawn by rule: nothing to download, and a network learns them "
    "in minutes.",
    "Folder": "A folder that holds train/ and val/ with a folder for every class in each; or one that holds a folder "
    "for every class, of which a share is set apart for validation. Pictures may lie at any depth in a class.",
    "CIFAR archive": "CIFAR-10 or CIFAR-100 as it is distributed for Python: the .tar.gz file, or the folder unpacked "
    "from it.",
    "Pack": "A folder that `python -m alexnet pack` wrote: pictures already decoded and resized, read at memory speed.",
}
_CIFAR = "CIFAR archive"
_EXAMPLES = {
    "Folder": "…/imagenette2-320",
    "CIFAR archive": "…/cifar-10-python.tar.gz",
    "Pack": "…/imagenette-148",
}


# --- opened beside the page ------------------------------------------------------------------------------------------


@st.cache_data(max_entries=64, ttl=5, show_spinner=False)
def version(data: str) -> str:
    """Changes when the data does; looked at every few seconds at most.  Raises UserError where there is nothing."""
    if data == BUILT_IN:
        return BUILT_IN
    try:
        return queries.stamp(Path(data).expanduser())
    except RuntimeError as error:  # no such user's home
        raise UserError(str(error)) from None


@st.cache_resource(max_entries=6, show_spinner=False, on_release=Scan.stop)
def _opening(data: str, val_fraction: float, seed: int, stamp: str) -> Scan[Splits]:  # noqa: ARG001
    def steps() -> Iterator[Splits]:
        yield open_data(data, val_fraction=val_fraction, seed=seed)

    return Scan(steps)


@st.cache_resource(max_entries=6, show_spinner=False, on_release=Scan.stop)
def _previewing(config: TrainConfig, stamp: str) -> Scan[Preview]:  # noqa: ARG001
    def steps() -> Iterator[Preview]:
        from alexnet.data.preview import preview  # noqa: PLC0415 - torch

        yield preview(config)

    return Scan(steps)


def _settled(scan: Scan[Found], seconds: float = _PATIENCE_SECONDS) -> bool:
    """Whether it is done, after a short wait."""
    end = time.monotonic() + seconds
    while scan.running and time.monotonic() < end:
        time.sleep(0.01)
    return not scan.running


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """What is known of the data: the splits, or a sentence that says why not, or neither while it is looked through."""

    splits: Splits | None = None
    trouble: str = ""
    scan: Scan[Splits] | None = None

    @property
    def classes(self) -> int | None:
        return len(self.splits.train.classes) if self.splits is not None else None


def opened(config: TrainConfig) -> Opened:
    """The data of this config, as far as it is open; a folder with a million pictures is looked through beside."""
    try:
        stamp = version(config.data)
    except UserError:
        try:  # nothing is there, which the library says best, and at once
            return Opened(open_data(config.data, val_fraction=config.val_fraction, seed=config.seed))
        except UserError as error:
            return Opened(trouble=wrong_kind(config.data) or str(error))
    scan = _opening(config.data, config.val_fraction, config.seed, stamp)
    if not _settled(scan):
        return Opened(scan=scan)
    if scan.latest is None:
        return Opened(trouble=wrong_kind(config.data) or scan.trouble or "the data could not be looked through")
    return Opened(scan.latest)


def _wait(scan: Scan[Found], begun: float, what: str) -> None:
    """Says how long it takes, and runs the page again when it is done."""
    if not scan.running:
        st.rerun()
    st.info(
        f"{what} … {rough_time(max(1.0, time.monotonic() - begun))}. The rest of the form can be filled in meanwhile.",
        icon="spinner",
    )


# --- on the page -----------------------------------------------------------------------------------------------------


def choose() -> None:
    """Which data."""
    kind = st.segmented_control(
        "Data", DATA_KINDS, key=key("data_kind"), required=True, label_visibility="collapsed"
    )  # fmt: skip
    kind = kind or DATA_KINDS[0]
    if kind != DATA_KINDS[0]:
        st.text_input(
            f"Path of the {kind[:1].lower() + kind[1:] if kind != _CIFAR else kind}",
            key=key(start_form.path_name(kind)), placeholder=_EXAMPLES[kind],
            help=f"From the root, or from {literal(str(Path.cwd()))}, where the page was started.",
        )  # fmt: skip
    st.caption(_EXPECTED[kind])


def show_found(found: Opened, form: Form) -> None:
    """What is there; or why it cannot be used."""
    if not form.named:
        st.info("Type the path: what is found there is shown here.", icon=":material/edit:")
        return
    if found.trouble:
        st.error(told(found.trouble), icon=":material/error:")
        return
    if found.splits is None:
        assert found.scan is not None
        begun = st.session_state.setdefault("start_opening", (id(found.scan), time.monotonic()))
        if begun[0] != id(found.scan):
            begun = st.session_state.start_opening = (id(found.scan), time.monotonic())
        st.fragment(_wait, run_every=1.0)(found.scan, begun[1], f"Looking through {literal(form.shown.data)}")
        return
    splits = found.splits
    st.markdown(literal(splits.description))
    for warning in splits.warnings:
        st.warning(told(warning), icon=":material/visibility:")
    with st.container(horizontal=True, gap="medium"):
        show_classes = choices.kept(st.toggle, "Show the classes", key="start_show_classes", default=False)
        show_preview = choices.kept(
            st.toggle, "Show what training does to the pictures", key="start_show_preview", default=False
        )
    if show_classes:
        exports.show_table(_classes(splits), "start_classes", f"{splits.name}-classes", most=12)
    if show_preview:
        _preview(form)


def _classes(splits: Splits) -> Table:
    columns = (Column("class", "Class"), Column("train", "To train"), Column("val", "To validate"))
    names = (readable(name) for name in splits.train.classes)
    train, val = class_counts(splits.train), class_counts(splits.val)
    rows = tuple(zip(names, train, val, strict=True))
    return Table("Pictures of each class", columns, rows, ("all classes", sum(train), sum(val)))


def _preview(form: Form) -> None:
    """A few pictures on their way from the file to the network."""
    drawn = st.session_state.setdefault("start_draw", 0)
    config = _as_previewed(form.shown, drawn)
    try:
        stamp = version(config.data)
    except UserError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    scan = _previewing(config, stamp)
    if not _settled(scan, 0.3):
        st.fragment(_wait, run_every=0.5)(scan, time.monotonic(), "Reading a few pictures and drawing")
        return
    found = scan.latest
    if found is None:
        st.error(literal(scan.trouble or "the pictures could not be drawn"), icon=":material/error:")
        return
    st.caption(
        "In every epoch the network sees another version of a picture: a crop, perhaps mirrored, with its colours "
        "moved. Validation sees the central crop. Point at a picture to read what was done to it."
    )
    title = "What training does to a few pictures"
    with st.container(key="start_preview"):
        components.drawing(preview_svg(found, title=title), key="start_preview_drawing", least=900)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Draw again", icon=":material/casino:", key="start_draw_again", on_click=_draw_again)
        components.save_figure("start_preview", title, "preprocessing")
        st.caption("As drawn with the seed of the form." if not drawn else f"As drawn with seed {config.seed:,}.")
    if found.unreadable:
        st.warning(
            f"{len(found.unreadable)} of the pictures tried cannot be read, the first: {literal(found.unreadable[0])}"
        )


def _as_previewed(config: TrainConfig, drawn: int) -> TrainConfig:
    """The config as far as it matters to the pictures, so that other changes draw nothing anew."""
    same = {
        name: getattr(config, name)
        for name in (
            *("data", "network", "seed", "val_fraction", "side", "mean", "unit_variance"),
            *("random_crop", "mirror", "colour_noise", "jitter_to"),
        )
    }
    # hidden layers and optimisers see the pictures, and do nothing to them
    return type(config)(**same | {"seed": (config.seed + drawn) % 2**63})


def _draw_again() -> None:
    st.session_state.start_draw += 1
