"""Kernels: all of a layer in one picture, split by tower, measured; one at large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import times
from analysis import kernels, sheets
from analysis.kernel_figures import comparison_table
from app import choices, components, excitement, exports, looking, queries
from app.figures.kernels import fourier_scatter
from app.kernel_detail import show_kernel

if TYPE_CHECKING:
    from alexnet.spec import Stage
    from app.looking import Chosen

COLUMNS = 16  # tiles in a row, as in figure 3 of the paper
SORTS = {measure.capitalize() if measure != "index" else "Number": measure for measure in kernels.MEASURES}
CHANNELS: dict[str, sheets.Channels] = {"Colour": "rgb", "Red": "red", "Green": "green", "Blue": "blue"}
SCALINGS: dict[str, sheets.Scaling] = {"Each kernel": "kernel", "All alike": "global"}


def _label(kernel: kernels.KernelMeasures, names: tuple[str, ...], layer: str) -> str:
    parts = [f"{layer} kernel {kernel.index}, {names[kernel.tower]}"]
    if kernel.colourfulness is not None:
        parts.append(f"colourfulness {kernel.colourfulness:.2f}")
    if kernel.orientation is not None and kernel.frequency is not None:
        parts.append(f"stripes at {kernel.orientation:.0f}°, {kernel.frequency:.2f} cycles/pixel")
    return "; ".join(parts)


def _explorer(chosen: Chosen, stage: Stage, *, searching: bool) -> None:
    """The sheet and the kernel picked in it; a click redraws these and nothing else."""
    if searching and not excitement.running():
        st.rerun()
    layer = stage.name
    found = queries.kernels(chosen, layer)
    weights, measured, names = found.weights, found.kernels, found.names
    with st.container(horizontal=True, vertical_alignment="bottom"):
        sort = SORTS[choices.pick("Sort by", list(SORTS), "sort", width=170, help=_sort_help())]
        channels: sheets.Channels = "pattern"
        if weights.shape[1] == 3:
            channels = CHANNELS[choices.pick("Show", list(CHANNELS), "channels", width=130)]
        scaling = SCALINGS[
            choices.pick(
                "Scale", list(SCALINGS), "scaling", width=150,
                help="Zero is mid-grey. Each kernel: its largest weight is black or white. All alike: the layer's is.",
            )
        ]  # fmt: skip
    sheet = sheets.Sheet(
        sheets.tower_groups(kernels.order(measured, sort), names),
        COLUMNS,
        weights.shape[2:],
    )
    tiles = queries.kernel_tiles(chosen, layer, scaling, channels)
    number = choices.place("kernel", len(weights))
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="wide_kernels"):
        labels = [_label(kernel, names, layer) for kernel in measured]
        with st.container(key="sheet_of_kernels"):
            components.clickable_sheet(
                tiles, sheet, labels, title=f"Kernels of {layer}", key="kernel_sheet", selected=number, on_pick=_picked
            )
        components.save_figure("sheet_of_kernels", f"kernels of {layer}", f"{chosen.label}-{layer}-kernels")
        st.caption(
            ("" if weights.shape[1] == 3 else f"{_pattern_note(weights.shape[1])} ")
            + "Click a kernel, or reach the sheet with Tab, move with the arrow keys and choose with Enter."
        )
        if layer in {reached.name for reached in chosen.checkpoint.reachable}:
            excitement.show_exciting(chosen, layer, number)
    with beside.container(key="detail_kernel"):
        show_kernel(chosen, stage, number, measured[number], names, tiles[number])


def _pattern_note(inputs: int) -> str:
    return (
        f"Each of these kernels looks at {inputs} maps; shown is the one spatial pattern that explains most of it, "
        "with the sign that most of its weights have. "
        "The kernel picked is shown map by map."
    )


def _sort_help() -> str:
    return "\n".join(f"* **{label}**: {kernels.EXPLANATIONS[measure]}" for label, measure in SORTS.items())


def _picked() -> None:
    if (picked := st.session_state.kernel_sheet.picked) is not None:
        choices.choose("kernel", int(picked))


def _page() -> None:
    st.title("Kernels")
    chosen = looking.chosen()
    network = chosen.checkpoint.network
    layers = kernels.layers_with_kernels(chosen.checkpoint)
    if not layers:
        st.error(f"These weights hold no convolution of {network.name}, so there are no kernels to show.")
        st.stop()
    layer = choices.pick("Layer", layers, "layer", widget=st.segmented_control, required=True)
    stage = next(stage for stage in network.stages() if stage.name == layer)
    found = queries.kernels(chosen, layer)
    weights, names = found.weights, found.names
    st.markdown(
        f"**{weights.shape[0]} kernels of {times(weights.shape[2:])}** on "
        + ("red, green and blue" if weights.shape[1] == 3 else f"{weights.shape[1]} maps each")
        + f". {found.sentence}"
    )
    searching = excitement.running()
    # While a search runs the explorer looks again every second; at its end the page stops doing so.
    st.fragment(_explorer, run_every=1.0 if searching else None)(chosen, stage, searching=searching)
    st.header("The towers in numbers" if len(names) > 1 else "The layer in numbers", divider="gray")
    exports.show_table(found.towers_table, "towers", f"{chosen.label}-{layer}-towers")
    if (compared := comparison_table(found, chosen.label)) is not None:
        exports.show_table(compared, "compared", f"{chosen.label}-{layer}-compared")
        st.caption(
            "These kernels beside those of BVLC's AlexNet, trained on ImageNet's 1.2 million photographs, and what to "
            "expect of random weights. Compact kernels look for one wave or blob; smooth ones have little noise. "
            "Which tower has more colour differs between trainings."
        )
    components.chart(
        fourier_scatter(found.kernels, names, components.palette()),
        key="fourier",
        alt=f"Direction, frequency and colourfulness of the kernels of {layer}",
    )
    st.caption(
        "Every kernel at the wave it looks for, as far from the middle as the wave is fine; both ends are drawn. A "
        "kernel of noise has some strongest wave, too: compactness says how much of it that is."
        + (" At the right how much of each kernel is colour." if weights.shape[1] == 3 else "")
    )
    components.save_figure("fourier", f"waves of {layer}", f"{chosen.label}-{layer}-waves")
    st.header("Every kernel", divider="gray")
    exports.show_table(found.table, "every_kernel", f"{chosen.label}-{layer}-kernels", most=16)


_page()
