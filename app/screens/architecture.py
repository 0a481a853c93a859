"""Architecture: the network to scale, the exact table beside it, and where its costs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.memory import largest_batch, training_memory
from alexnet.spec import Conv, Linear, times
from analysis import tables
from analysis.costs import MAX_BATCH, cost_table
from analysis.formats import percent
from app import components, exports, state
from app.explorer import explorer
from app.figures.cost_charts import cost_charts
from app.verdict import show_verdict

if TYPE_CHECKING:
    from alexnet.spec import Network
    from analysis.costs import CostTable

PAPER_BATCH = 128


def _show_totals(table: CostTable, network: Network) -> None:
    split = "Forward; backward sends as much the other way."
    if network.towers > network.gpus:
        split = f"If its {network.towers} groups were on GPUs of their own. {split}"
    figures = {
        "Parameters": (table.total("params"), "Weights and biases of the whole network."),
        "MACs, forward": (table.total("macs"), "Multiply–accumulates with weights; bias adds are not counted."),
        "MACs, backward": (table.total("backward_macs"), "Gradients of the weights and of every layer's input."),
        "FLOPs, forward": (table.total("flops"), "Every elementary operation: 2 per MAC, bias adds, LRN, pooling, …"),
        "Neurons": (table.total("neurons"), "Outputs of layers with weights, for one image, as the paper counts them."),
        "Bytes between GPUs": (table.total("crossing_bytes"), split),
    }
    with st.container(horizontal=True, gap="medium"):
        for label, (value, explanation) in figures.items():
            st.metric(label, f"{value:,}", help=explanation, width="content")


def _where(table: CostTable) -> str:
    """What the charts show, in one sentence, from the numbers themselves."""

    def share(column: str, kind: type) -> str:
        part = sum(getattr(row, column) for row in table.rows if isinstance(row.layer, kind))
        return percent(part / table.total(column), digits=0)

    heaviest = max(table.rows, key=lambda row: row.params)
    busiest = max(table.rows, key=lambda row: row.macs)
    largest = max(table.rows, key=lambda row: row.kept_bytes)
    return (
        f"Fully connected layers hold **{share('params', Linear)}** of the parameters ({heaviest.name} most), "
        f"convolutions do **{share('macs', Conv)}** of the work ({busiest.name} most), and of the activations that "
        f"training must keep, {largest.name} needs most. Backward takes "
        f"**{table.total('backward_macs') / table.total('macs'):.2f}** times the work of forward."
    )


def _show_memory(table: CostTable) -> None:
    memory = training_memory(table.network, table.batch)
    gib = 2**30
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "momentum": memory.momentum,
        "activations kept for the backward pass": memory.activations,
    }
    listed = ", ".join(f"{what} {size / gib:,.2f}" for what, size in parts.items())
    st.markdown(
        f"Training on **{table.batch:,}** image{'s' * (table.batch > 1)} takes at least "
        f"**{memory.total / gib:,.2f} GiB** ({listed}). A 3 GiB card of 2012 could train on "
        f"{largest_batch(table.network, 3 * gib):,} at a time and 24 GiB on "
        f"{largest_batch(table.network, 24 * gib):,}; workspaces and the framework come on top."
    )


network = state.chosen_network()
st.title("Architecture")
st.markdown(f"**{network.title}**, input {times(network.input_shape)}. {network.remark} *Source: {network.source}.*")
for note in network.notes():
    st.caption(f":material/info: {note}")
one_image = cost_table(network)
_show_totals(one_image, network)
show_verdict(network)
explorer(one_image)

st.header("Where the costs are", divider="gray")
with st.container(horizontal=True, vertical_alignment="bottom"):
    batch = st.number_input(
        "Batch", min_value=1, max_value=MAX_BATCH, value=PAPER_BATCH, key="batch", bind="query-params", width=160,
        help="Images counted together: 128 in the paper (section 5). Parameters do not depend on it.",
    )  # fmt: skip
    costs = cost_table(network, batch)
    exports.save_table(tables.training_table(costs), f"{network.name}-training-batch-{batch}", "save_costs")
st.markdown(_where(costs))
components.chart(
    cost_charts(costs, components.palette()),
    key="cost_charts",
    alt=f"Bars of parameters, MACs and training memory for every stage of {network.name}",
)
components.save_figure("cost_charts", f"costs of {network.name}", f"{network.name}-costs-batch-{batch}")
_show_memory(costs)
