"""One output value step by step: the real numbers that are multiplied, summed, compared or divided."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from analysis import arithmetic
from analysis.activations import class_name, why_no_classes
from app import choices, components, exports
from app.figures.window import window_svg

if TYPE_CHECKING:
    from alexnet.spec import Stage
    from analysis.activations import Activations
    from app.looking import Chosen
    from app.map_explorer import Place


def show_value(chosen: Chosen, found: Activations, stage: Stage, place: Place) -> None:
    """The arithmetic of the value picked above."""
    working = arithmetic.working(chosen.checkpoint, found, stage.name, place.index)
    _show(working, chosen)
    if isinstance(working, arithmetic.SoftmaxShare):
        _show_loss(found, place)


def _show(working: arithmetic.Working, chosen: Chosen) -> None:
    st.subheader(working.title)
    st.markdown(working.sentence)
    if isinstance(working, arithmetic.ConvolutionSum):
        _show_window(working)
    st.code("\n".join(working.lines()), language=None, wrap_lines=True)
    difference = abs(working.value - working.network_value)
    st.caption(
        f"The network itself, in float32, has {arithmetic.number(working.network_value)}; the difference is "
        f"{difference:.1e}. Numbers are written with six digits; the table has all of them."
    )
    table = working.table()
    with st.expander(f"Every term ({len(table.rows):,})"):
        exports.show_table(table, "terms", f"{chosen.label}-{working.stage}-value", most=14)


def _show_window(working: arithmetic.ConvolutionSum) -> None:
    """Input, kernel and products of one channel, number by number."""
    channels = len(working.window)
    names = [_channel(working, index) for index in range(channels)]
    default = names[working.strongest_channel]
    name = choices.pick(
        "Channel of the input", names, "window_channel", default=default, width=260,
        help="The one whose products add up to most is shown first",
    )  # fmt: skip
    index = names.index(name)
    with st.container(key="window_figure"):
        components.drawing(
            window_svg(
                working.window[index], working.kernel[index], working.products[index], title=f"{working.title}, {name}"
            ),
            key="window_drawing",
            least=860,
        )
    components.save_figure("window_figure", working.title, f"{working.stage}-window")
    st.caption(f"{name}: these {working.products[index].size} products sum to {working.partial_sums[index]:.6g}.")


def _channel(working: arithmetic.ConvolutionSum, index: int) -> str:
    if len(working.window) == 3 and working.first_channel == 0:
        return ("red", "green", "blue")[index]
    return f"map {working.first_channel + index}"


def _show_loss(found: Activations, place: Place) -> None:
    """Cross-entropy, had this been the true class."""
    if why_no_classes(found):
        return
    loss = arithmetic.cross_entropy(found, place.channel)
    st.markdown(f"**Cross-entropy**, were the picture's class {class_name(found.classes, place.channel)}:")
    st.code("\n".join(loss.lines()), language=None)
