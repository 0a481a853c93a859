"""Compare: any networks side by side, and one large kernel against several small ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import streamlit as st

from alexnet.spec import IllegalNetworkError, times
from alexnet.zoo import NETWORKS, UnknownNetworkError, network_from
from analysis import tables
from analysis.costs import CostTable, cost_table
from analysis.formats import percent
from app import components, exports, state
from app.figures.comparison import stages_chart, totals_chart

if TYPE_CHECKING:
    from alexnet.spec import Network

_COLUMNS: dict[str, Literal["params", "macs"]] = {"Parameters": "params", "MACs": "macs"}
PRESETS = {
    "Two towers or one": (
        ("alexnet-2012", "alexnet-one-tower"),
        "In one tower conv2, conv4 and conv5 see all maps: twice their weights and twice their work.",
    ),
    "227 or 224": (
        ("alexnet-2012", "alexnet-2012@224", "alexnet-2012-source", "alexnet-half"),
        "224 without padding gives 54 rows and 5×5 maps at pool5; rounding up or padding gives back 55 and 6×6.",
    ),
    "With and without LRN": (
        ("alexnet-2012", "alexnet-2012:no-lrn", "vgg-a-lrn", "vgg-a"),
        "LRN has no parameters and no MACs, but operations and memory of its own: see FLOPs and activations.",
    ),
    "VGG A to E": (
        ("vgg-a", "vgg-a-lrn", "vgg-b", "vgg-c", "vgg-d", "vgg-e"),
        "Depth costs work, hardly any parameters. C has 1×1 convolutions where D has 3×3; torchvision has no C.",
    ),
    "All of AlexNet": (
        tuple(name for name in NETWORKS if not name.startswith("vgg")),
        "Everything that is called AlexNet, and how much it differs.",
    ),
}
_DEFAULT = list(PRESETS["Two towers or one"][0])


def _choose(names: tuple[str, ...]) -> None:
    st.session_state.nets = list(names)


def _chosen() -> list[CostTable]:
    """Tables of the chosen networks; what cannot be had is said and left out."""
    chosen: list[CostTable] = []
    for reference in st.session_state.get("nets") or []:
        try:
            table = cost_table(network_from(reference))
        except (IllegalNetworkError, UnknownNetworkError) as error:
            st.error(state.literal(f"{reference}: {error}"))
            continue
        twin = next((t.network.name for t in chosen if _same(t.network, table.network)), None)
        if twin:
            st.caption(state.literal(f"{reference} is the same network as {twin} and is shown once."))
        else:
            chosen.append(table)
    return chosen


def _same(first: Network, second: Network) -> bool:
    return (first.layers, first.input_shape) == (second.layers, second.input_shape)


def _sentence(costs: list[CostTable]) -> str:
    """What the second of two networks costs more or less than the first."""
    first, second = costs
    parts = []
    for key, words in (("params", "parameters"), ("macs", "MACs"), ("flops", "FLOPs")):
        ratio = second.total(key) / first.total(key) - 1
        much = f"{percent(abs(ratio))} {'more' if ratio > 0 else 'fewer'}" if ratio else "exactly as many"
        parts.append(f"{much} {words}")
    names = tables.distinct_names([first.network, second.network])
    return f"Against **{names[0]}**, **{names[1]}** has {parts[0]}, {parts[1]} and {parts[2]}."


def _show_networks() -> None:
    palette = components.palette()
    with st.container(horizontal=True):
        for label, (names, _) in PRESETS.items():
            st.button(label, on_click=_choose, args=(names,), key=f"preset_{label}")
    if "nets" not in st.session_state and "nets" not in st.query_params:
        st.session_state.nets = _DEFAULT
    st.multiselect(
        "Networks", list(NETWORKS), key="nets", bind="query-params", accept_new_options=True,
        help="Type a variant of your own: NAME@SIDE for another input, like alexnet-2012@224, or NAME:no-lrn.",
    )  # fmt: skip
    costs = _chosen()
    if not costs:
        st.info("Choose networks above, or one of the comparisons.")
        return
    for names, text in PRESETS.values():
        if list(names) == st.session_state.nets:
            st.markdown(text)
    if len(costs) == 2:
        st.markdown(_sentence(costs))
    components.chart(
        totals_chart(costs, palette), key="totals_chart",
        alt="Parameters and MACs of each network, split into convolutions and fully connected layers",
    )  # fmt: skip
    components.save_figure("totals_chart", "totals side by side", "compare-totals")
    st.header("Totals", divider="gray")
    exports.show_table(tables.totals_comparison(costs), "totals", "compare-totals", widths={"quantity": 200})
    st.header("Stage by stage", divider="gray")
    chosen = st.segmented_control(
        "Show", state.MEASURES, default="Layers", key="measure", bind="query-params", required=True
    )
    if chosen == "Layers":
        st.caption("conv3-64 is a 3×3 convolution with 64 maps; /4 is its stride. As in VGG's table 1.")
        exports.show_table(tables.layers_comparison(costs), "layers", "compare-layers")
        return
    measure = _COLUMNS[chosen]
    components.chart(
        stages_chart(costs, measure, palette), key="stages_chart",
        alt=f"{chosen} of every stage, a bar for each network",
    )  # fmt: skip
    components.save_figure("stages_chart", f"{measure} by stage", f"compare-{measure}")
    exports.show_table(tables.stages_comparison(costs, measure), f"by_stage_{measure}", f"compare-{measure}")


def _show_stacks() -> None:
    st.markdown(
        "VGG's argument (section 2.3): a stack of 3×3 convolutions sees as much of the image as one large kernel, for "
        "fewer weights and less work, and with a ReLU after each it can tell more apart."
    )
    with st.container(horizontal=True):
        channels = st.number_input("Maps", 1, state.MAX_MAPS, 256, key="maps", bind="query-params", width=160)
        side = st.number_input(
            "Side of a map", 1, state.MAX_MAP_SIDE, 28, key="map_side", bind="query-params", width=160
        )
    for large, count in ((5, 2), (7, 3)):
        table = tables.stacks_table([(large, 1), (3, count)], channels, side)
        (_, sees, one, _, _, _), (_, _, several, _, _, _) = table.rows
        saved = percent(1 - float(several or 0) / float(one or 1), digits=0)
        words = {2: "two", 3: "three"}[count]
        st.header(f"One {large}×{large} or {words} 3×3", divider="gray")
        st.markdown(f"Both see **{sees}**. The stack has {several:,} weights instead of {one:,}: **{saved} fewer**.")
        exports.show_table(table, f"stack_{large}", f"stack-{large}x{large}")
    st.caption(f"As many maps in as out, padded so that all stay {times((side, side))}; biases not counted.")


st.title("Compare")
st.caption("Networks stand here at their own sizes, whatever the sidebar says.")
view = st.segmented_control(
    "Compare", state.VIEWS, default="Networks", key="view", bind="query-params", required=True,
    label_visibility="collapsed",
)  # fmt: skip
if view == "Kernels":
    _show_stacks()
else:
    _show_networks()
