"""One kernel in full: weights, spectrum, its answer to the picture, and what excites it most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.errors import UserError
from alexnet.spec import times
from analysis import kernels, sheets
from analysis.formats import number_text
from app import components, exports, looking, queries
from app.figures.kernels import kernel_figure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from alexnet.spec import Stage
    from analysis.kernels import KernelMeasures
    from app.looking import Chosen


def show_kernel(
    chosen: Chosen,
    stage: Stage,
    number: int,
    measured: KernelMeasures,
    names: tuple[str, ...],
    tile: NDArray[np.uint8],
) -> None:
    """The detail beside the sheet."""
    weights = queries.kernels(chosen, stage.name).weights[number]
    bias = float(chosen.checkpoint.weights[f"{stage.name}.bias"][number])
    st.subheader(f"{stage.name} · kernel {number} · {names[measured.tower]}")
    st.markdown(_numbers(measured, bias))
    response = _response(chosen, stage.name, number)
    components.chart(
        kernel_figure(tile, weights, kernels.spectrum(weights), response, components.palette()),
        key="kernel_figure",
        alt=f"Weights, spectrum and response of kernel {number}",
    )
    name = f"{chosen.label}-{stage.name}-{number}"
    with st.container(horizontal=True, vertical_alignment="center"):
        components.save_figure("kernel_figure", f"kernel {number} of {stage.name}", name)
        exports.save_npy(lambda: weights, name, "save_kernel", f"Its weights, {times(weights.shape)} float32")
    if len(weights) != 3:
        _show_slices(chosen, stage, number)


def _numbers(measured: KernelMeasures, bias: float) -> str:
    parts = []
    for measure in kernels.MEASURES[1:]:
        value = measured.value(measure)
        if value is not None:
            unit = {"orientation": "°", "frequency": " cycles/pixel"}.get(measure, "")
            shown = f"{value:.0f}" if measure == "orientation" else number_text(value)
            parts.append(f"{measure} **{shown}{unit}**")
    parts.append(f"bias **{number_text(bias)}**")
    if measured.orientation is None:
        parts.append("no direction: a blob, or nothing")
    return " · ".join(parts)


def _response(chosen: Chosen, layer: str, number: int) -> NDArray[np.float32] | None:
    """The kernel's map on the sidebar's picture; None where there is no picture, or no way to the layer."""
    picture = st.session_state.picture
    if not isinstance(picture, looking.Picture) or layer not in {stage.name for stage in chosen.checkpoint.reachable}:
        return None
    try:
        found: NDArray[np.float32] = queries.activations(chosen, picture).values[layer][number].numpy()
    except UserError:  # values beyond all numbers; the page Activations says so
        return None
    return found


def _show_slices(chosen: Chosen, stage: Stage, number: int) -> None:
    """A deeper kernel map by map."""
    weights = queries.kernels(chosen, stage.name).weights[number]
    tiles = sheets.kernel_tiles(weights[:, None], "global", 0)
    inputs = len(weights)
    first = (number // (stage.out_shape[0] // stage.layer.groups)) * inputs  # type: ignore[union-attr]
    sheet = sheets.Sheet(
        (sheets.Group(f"its weights on maps {first} to {first + inputs - 1}", tuple(range(inputs))),),
        16,
        weights.shape[1:],
    )
    strongest = float(abs(weights).max())
    with st.container(key="kernel_slices"):
        components.clickable_sheet(
            tiles,
            sheet,
            [f"on map {first + index}: norm {float((one**2).sum()) ** 0.5:.3f}" for index, one in enumerate(weights)],
            title=f"Kernel {number} of {stage.name} by input map",
            key="slice_sheet",
            width=420,
            least=260,
        )
    st.caption(f"Mid-grey is 0, white +{strongest:.3f}, black −{strongest:.3f}.")
