"""All maps of a stage in one sheet, one of them at large, and one value in it: choosing in one leads to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import times
from analysis import activations, sheets
from analysis.kernels import tower_names
from app import choices, components, exports, queries
from app.figures.histograms import map_histogram
from app.figures.maps import Frame, as_map, map_svg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    import numpy as np
    from numpy.typing import NDArray

    from alexnet.spec import Stage
    from analysis.activations import Activations
    from app.looking import Chosen, Picture

SORTS: dict[str, activations.Strength | None] = {"Number": None, "Mean": "mean", "Maximum": "max"}
SCALINGS: dict[str, sheets.MapScaling] = {"Each map": "map", "All alike": "global"}
COLOURS: dict[str, sheets.Colours] = {"Viridis": "viridis", "Grey": "grey", "Around zero": "diverging"}
_FEW = 64  # maps of a tower that are shown larger, 12 in a row instead of 16


@dataclass(frozen=True, slots=True)
class Place:
    """A value of a stage: `index` is (channel, row, column) in maps and (number,) in a vector."""

    index: tuple[int, ...]

    @property
    def channel(self) -> int:
        return self.index[0]


def explorer(chosen: Chosen, picture: Picture, found: Activations) -> tuple[Stage, Place]:
    """The sheet and the map at large; returns the stage and the value that are picked."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = choices.pick("Stage", [stage.name for stage in found.stages], "stage_seen", width=150)
        stage = found.stage(name)
        sort = SORTS[choices.pick("Sort by", list(SORTS), "maps_sort", width=130, help=_SORT_HELP)]
        scaling = SCALINGS[choices.pick("Scale", list(SCALINGS), "maps_scale", width=130, help=_SCALE_HELP)]
        colours = COLOURS[choices.pick("Colours", list(COLOURS), "maps_colours", width=150)]
        overlay: int = choices.kept(
            st.slider, "Overlay", 0, 100, key="overlay", default=0, format="%d%%", width=160,
            help="How strongly the map is laid over the picture below it",
        )  # fmt: skip
    values = found.values[name].numpy()
    place = _place(stage, values)
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="wide_maps"):
        if len(stage.out_shape) == 3:
            with st.container(key="sheet_of_maps"):
                _show_sheet(chosen, picture, found, stage, place.channel, sort, scaling, colours)
        _show_histogram(found, stage, place)
    with beside.container(key="detail_map"):
        _show_map(chosen, found, stage, values, place, colours, overlay / 100)
    return stage, place


_SORT_HELP = "Within each tower. Mean and maximum: the strongest map first."
_SCALE_HELP = (
    "Each map: from its own least to its greatest value. All alike: one scale for all, so that weak ones fade."
)


def _place(stage: Stage, values: NDArray[np.float32]) -> Place:
    """The value that was picked, as far as this stage has it; the greatest of all until one is picked."""
    if len(stage.out_shape) == 1:
        return Place((choices.place("value", len(values), int(values.argmax())),))
    channels, rows, columns = stage.out_shape
    channel = choices.place("map", channels, int(values.max(axis=(1, 2)).argmax()))
    row, column = divmod(int(values[channel].argmax()), columns)
    return Place((channel, choices.place("row", rows, row), choices.place("column", columns, column)))


def _show_sheet(
    chosen: Chosen,
    picture: Picture,
    found: Activations,
    stage: Stage,
    channel: int,
    sort: activations.Strength | None,
    scaling: sheets.MapScaling,
    colours: sheets.Colours,
) -> None:
    tensor = found.values[stage.name]
    towers = stage.towers
    width = len(tensor) // towers
    names = tower_names(towers, found.network.gpus, "maps")
    orders: Sequence[Sequence[int]] = sheets.tower_blocks(len(tensor), towers)
    if sort is not None:
        orders = [order.tolist() for order in activations.by_strength(tensor, towers, sort)]
    tiles, reduced = queries.map_tiles(chosen, picture, stage.name, scaling, colours)
    strength = activations.strengths(tensor)
    sheet = sheets.Sheet(sheets.tower_groups(orders, names), 12 if width <= _FEW else 16, tiles.shape[1:3])
    labels = [
        f"{stage.name} map {index}, {names[index // width]}: mean {strength.mean[index]:.3g}, "
        f"maximum {strength.max[index]:.3g}, {strength.zeros[index]:.0%} zeros"
        for index in range(len(tensor))
    ]
    components.clickable_sheet(
        tiles, sheet, labels, title=f"Maps of {stage.name}", key="map_sheet", selected=channel, on_pick=_picked_map
    )
    components.save_figure("sheet_of_maps", f"maps of {stage.name}", f"{chosen.label}-{picture.name}-{stage.name}")
    silent = int((strength.zeros == 1).sum())
    st.caption(
        f"{len(tensor)} maps of {times(stage.out_shape[1:])}{', split by tower' * (towers > 1)}. "
        + (f"{silent} {'is' if silent == 1 else 'are'} 0 everywhere on this picture. " if silent else "")
        + (f"Shown reduced to {times(tiles.shape[1:3])}. " if reduced else "")
        + "Click one, or reach the sheet with Tab, move with the arrow keys and choose with Enter."
    )


def _show_map(
    chosen: Chosen,
    found: Activations,
    stage: Stage,
    values: NDArray[np.float32],
    place: Place,
    colours: sheets.Colours,
    overlay: float,
) -> None:
    """One map at large above the picture, with what the picked value sees."""
    if len(stage.out_shape) == 3:
        shown, cell = values[place.channel], (place.index[1], place.index[2])
        title = f"{stage.name} · map {place.channel}"
        picked: Callable[[], None] = _picked_cell
    else:
        shown = as_map(values)
        cell = divmod(place.channel, shown.shape[1])
        title = f"{stage.name} · {len(values):,} values"
        count, columns = len(values), shown.shape[1]

        def picked() -> None:
            if (at := components.picked_cell(st.session_state.map_cells.picked)) is not None:
                choices.choose("value", min(at[0] * columns + at[1], count - 1))

    value = float(shown[cell])
    field = activations.field_of(found.network, stage.name, place.index[1:] or place.index)
    where = _where(stage, place, _class(found, stage, place))
    st.markdown(
        f"**{title}** at {where}: **{value:.5g}**, sees {field.box.height}×{field.box.width} pixels of "
        "the picture" + (" and padding beyond its edge" if any(field.padding) else "")
    )
    with st.container(key="map_figure"):
        components.clickable_cells(
            map_svg(
                shown, found.crop, title=title, colours=colours, frame=Frame(*field.box, dashed=any(field.padding)),
                overlay=overlay if len(stage.out_shape) == 3 else 0.0,
            ),
            cell,
            {"map": shown},
            key="map_cells",
            on_pick=picked,
        )  # fmt: skip
    name = f"{chosen.label}-{stage.name}-{place.channel}"
    with st.container(horizontal=True, vertical_alignment="center"):
        components.save_figure("map_figure", title, name)
        about = f"All values of {stage.name}, {times(stage.out_shape)} float32"
        exports.save_npy(lambda: values, f"{chosen.label}-{stage.name}", "save_npy", about)


def _show_histogram(found: Activations, stage: Stage, place: Place) -> None:
    tensor = found.values[stage.name]
    spread = activations.histogram(tensor[place.channel] if tensor.dim() == 3 else tensor)
    title = f"map {place.channel} of {stage.name}" if tensor.dim() == 3 else stage.name
    components.chart(
        map_histogram(spread, title, components.palette()),
        key="map_histogram",
        alt=f"How often each size of value occurs in {title}",
    )


def _class(found: Activations, stage: Stage, place: Place) -> str:
    """The class that a value of the last stages is for."""
    classes = found.network.classes
    if activations.why_no_classes(found) or len(stage.out_shape) > 1 or stage.out_shape[0] != classes:
        return ""
    return activations.class_name(found.classes, place.channel)


def _where(stage: Stage, place: Place, name: str) -> str:
    if len(stage.out_shape) == 1:
        return f"value {place.channel}{f' ({name})' if name else ''}"
    return f"row {place.index[1]}, column {place.index[2]}"


def _picked_map() -> None:
    picked: Any = st.session_state.map_sheet.picked
    if picked is not None:
        choices.choose("map", int(picked))


def _picked_cell() -> None:
    if (at := components.picked_cell(st.session_state.map_cells.picked)) is not None:
        choices.choose("row", at[0])
        choices.choose("column", at[1])
