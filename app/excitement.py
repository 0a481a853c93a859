"""What excites a channel most: pieces of pictures, found by looking through a whole set in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from PIL import Image

from alexnet.data.images import UnreadableImageError
from alexnet.data.sources import BUILT_IN
from analysis import sheets
from app import choices, components, queries
from app.state import literal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from alexnet.data.sources import Source
    from analysis.patches import Exciting, Patch
    from app.looking import Chosen
    from app.scans import Scan

_LARGEST = 96  # pixels of a patch in the sheet; what is larger is reduced
_MOST_PICTURES = 1_000_000


def running() -> bool:
    """Whether the search that this session asked for still goes on."""
    search = st.session_state.get("search")
    return search is not None and search.running


def show_exciting(chosen: Chosen, stage: str, channel: int) -> None:
    """The controls of the search, and what it has found for this channel so far."""
    st.markdown(f"**What excites kernel {channel} most**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        data: str = choices.kept(
            st.text_input, "Pictures", key="search_data", default=BUILT_IN,
            help="built-in, or the path of a folder of pictures, a CIFAR archive or a pack on this machine",
        ).strip()  # fmt: skip
        count = int(
            choices.kept(
                st.number_input, "At most", 1, _MOST_PICTURES, key="search_count", default=500, width=130,
                help="So many of them, spread evenly over the set",
            )
        )  # fmt: skip
        wanted = (chosen.key, stage, data, count)
        if running():
            st.button("Stop", key="search_stop", on_click=st.session_state.search.stop, icon=":material/stop:")
        elif st.button("Look through them", disabled=not data, icon=":material/search:"):
            st.session_state.search_of = wanted
            st.session_state.search = _started(chosen, stage, data, count)
            st.rerun()
    if st.session_state.get("search_of", (None, None))[:2] == wanted[:2]:
        _show_found(st.session_state.search, st.session_state.search_of[2], chosen, stage, channel)
    elif running():
        st.caption(f"Looking through pictures for {st.session_state.search_of[1]}.")


def _started(chosen: Chosen, stage: str, data: str, count: int) -> Scan[tuple[Source, Exciting]]:
    found = queries.search(chosen, stage, data, count)
    if found.trouble or (found.stopped and not found.running):
        queries.search.clear(chosen, stage, data, count)
        found = queries.search(chosen, stage, data, count)
    return found


def _show_found(search: Scan[tuple[Source, Exciting]], data: str, chosen: Chosen, stage: str, channel: int) -> None:
    if search.trouble:
        st.error(literal(search.trouble), icon=":material/error:")
        return
    if search.latest is None:
        st.progress(0.0, "Opening the pictures …")
        return
    source, found = search.latest
    if search.running:
        st.progress(found.done / found.total, f"{found.done:,} of {found.total:,} pictures")
    patches = found.patches(channel)
    if not patches:
        return
    tiles = np.stack([_tile(chosen, data, patch, source) for patch in patches])
    sheet = sheets.Sheet((sheets.Group("", tuple(range(len(tiles)))),), len(tiles), tiles.shape[1:3], gap=2)
    labels = [f"{source.name(patch.picture)}: {patch.value:.4g} at {patch.row}, {patch.column}" for patch in patches]
    with st.container(key="exciting_patches"):
        components.clickable_sheet(
            tiles,
            sheet,
            labels,
            title=f"Patches that excite kernel {channel} of {stage} most",
            key="patch_sheet",
            width=700,
            least=300,
        )
    components.save_figure(
        "exciting_patches", f"patches for kernel {channel}", f"{chosen.label}-{stage}-{channel}-patches"
    )
    seen = patches[0]
    size = f"{seen.rows[1] - seen.rows[0] + 1}×{seen.columns[1] - seen.columns[0] + 1}"
    lost = len(found.unreadable)
    unreadable = f" {lost:,} more could not be read, {literal(found.unreadable[0])} for one." if lost else ""
    st.caption(
        f"The strongest place in each of the {len(patches)} pictures that excite it most, of {found.done - lost:,}: "
        f"the {size} pixels it sees, grey beyond the edge. Strongest first, from {patches[0].value:.4g} to "
        f"{patches[-1].value:.4g}.{unreadable}"
    )


@st.cache_data(max_entries=512, show_spinner=False, hash_funcs=queries.KEYS)
def _tile(chosen: Chosen, data: str, patch: Patch, _source: Source) -> NDArray[np.uint8]:  # noqa: ARG001
    """What a patch sees in a picture of these data, as a square small enough for the sheet."""
    from analysis.patches import OUTSIDE, crop_of, patch_image  # noqa: PLC0415 - torch

    try:
        crop = crop_of(chosen.checkpoint.preprocessing, _source, patch.picture)
    except UnreadableImageError:  # it was there when the search read it
        return np.full((_LARGEST, _LARGEST, 3), OUTSIDE, np.uint8)
    image = patch_image(crop, patch)
    side = min(max(image.shape[:2]), _LARGEST)
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BOX))
