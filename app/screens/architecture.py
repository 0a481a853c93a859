"""Architecture: the network to scale, the exact table beside it, and where its costs are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import Conv, Linear, times
from analysis import tables
from analysis.conventions import CONVENTIONS
from analysis.costs import MAX_BATCH, cost_table, largest_batch, training_memory
from analysis.receptive import receptive_fields
from app import components, exports, queries, state, theme
from app.figures.architecture import architecture_svg
from app.figures.cost_charts import cost_charts
from app.stage_detail import show_stage

if TYPE_CHECKING:
    from analysis.conventions import Convention
    from analysis.costs import CostTable

_TABLE = "stages"
_ROW_HEIGHT = 27
PAPER_BATCH = 128


def _stage_names(table: CostTable) -> list[str]:
    return [row.name for row in table.rows]


def _selected(table: CostTable) -> str:
    """The stage that the address or the last click names; the first where this network has none of that name."""
    names = _stage_names(table)
    asked = st.query_params.get("stage")
    wanted = str(asked or st.session_state.get("stage", ""))
    if wanted in names:
        _select(wanted)  # also back from another page, so that the address says again what is shown
        return wanted
    if asked:
        st.warning(f"{table.network.name} has no stage named {asked!r}; showing {names[0]}.")
        del st.query_params["stage"]
    return names[0]


def _select(name: str) -> None:
    st.session_state.stage = name
    st.query_params["stage"] = name


def _picked_in_table(names: list[str]) -> None:
    """Follow the table's selection; clearing it keeps the stage."""
    rows = st.session_state[_TABLE]["selection"]["rows"]
    if rows:
        _select(names[rows[0]])


def _picked_in_drawing(names: list[str]) -> None:
    picked = st.session_state.drawing.picked
    if picked in names:
        _select(picked)
        st.session_state[_TABLE] = {"selection": {"rows": [names.index(picked)], "columns": []}}


def _show_totals(table: CostTable, convention: Convention) -> None:
    figures = {
        "Parameters": (convention.total_params(table), "Weights and biases of the whole network."),
        "MACs, forward": (table.total("macs"), "Multiply–accumulates with weights; bias adds are not counted."),
        "MACs, backward": (table.total("backward_macs"), "Gradients of the weights and of every layer's input."),
        "FLOPs, forward": (table.total("flops"), "Every elementary operation: 2 per MAC, bias adds, LRN, pooling, …"),
        "Neurons": (table.total("neurons"), "Outputs of layers with weights, for one image, as the paper counts them."),
        "Bytes between GPUs": (table.total("crossing_bytes"), "Forward; backward sends as much the other way."),
    }
    with st.container(horizontal=True, gap="medium"):
        for label, (value, explanation) in figures.items():
            st.metric(label, f"{value:,}", help=explanation, width="content")


def _show_table(table: CostTable, convention: Convention, names: list[str], selected: str) -> None:
    stages = tables.stage_table(table, convention)
    records = {column.key: [row[i] for row in stages.rows] for i, column in enumerate(stages.columns)}
    integer = st.column_config.NumberColumn
    bar = st.column_config.ProgressColumn
    work = "MACs" if convention.name == "ours" else f"{convention.name} {convention.unit}"
    st.dataframe(
        records,
        key=_TABLE,
        hide_index=True,
        row_height=_ROW_HEIGHT,
        height=min(len(names) + 1, 26) * _ROW_HEIGHT + 12,
        on_select=lambda: _picked_in_table(names),
        selection_mode="single-row",
        selection_default={"selection": {"rows": [names.index(selected)]}},
        alt=f"Table of {stages.title}",
        column_order=(
            "name",
            "output",
            "params",
            "params_share",
            "macs",
            "macs_share",
            "receptive_field",
            "flops",
            "activation_bytes",
        ),
        column_config={
            "name": st.column_config.TextColumn("Stage", pinned=True, width=72),
            "output": st.column_config.TextColumn("Output", help="Maps × height × width, or values", width=92),
            "params": integer("Parameters", format="localized", width=94),
            "params_share": bar("of all", format="percent", min_value=0, max_value=1, width=86),
            "macs": integer(work, format="localized", width=108),
            "macs_share": bar("of all", format="percent", min_value=0, max_value=1, width=86),
            "receptive_field": st.column_config.TextColumn("Sees", help="Receptive field in pixels", width=78),
            "flops": integer("FLOPs", format="localized", width=108, help="All elementary operations, our count"),
            "activation_bytes": integer("Bytes out", format="localized", width=92),
        },
    )


@st.fragment
def _explorer(table: CostTable) -> None:
    """The drawing, the table and the detail; a click redraws these and nothing else."""
    names = _stage_names(table)
    selected = _selected(table)
    network = table.network
    with st.container(key="architecture_figure"):
        components.clickable_drawing(
            architecture_svg(table, selected),
            names,
            selected,
            key="drawing",
            on_pick=lambda: _picked_in_drawing(names),
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Click a volume or a label below it, or use Tab, the arrow keys and Enter.", width="stretch")
        components.save_figure("architecture_figure", f"{network.name} to scale", network.name)
    beside = st.container(horizontal=True, gap="medium")
    with beside.container(key="stage_table"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            choice = st.selectbox(
                "Count as",
                list(CONVENTIONS),
                key="convention",
                bind="query-params",
                width=190,
                help="Parameters and MACs as this tool would print them. The reasons are on “Why tools disagree”.",
            )
            convention = CONVENTIONS[choice]
            exports.save_table(
                tables.stage_table(table, convention),
                f"{network.name}-stages",
                "save_stages",
                json=lambda: tables.json_text(tables.cost_json(table, convention)),
            )
        _show_table(table, convention, names, selected)
        st.caption(
            f"Total {convention.total_params(table):,} parameters and {convention.total_macs(table):,} "
            f"{convention.unit}. {convention.reason}"
        )
    with beside.container(key="stage_detail"):
        show_stage(table, receptive_fields(network), names.index(selected))


def _show_verdict(table: CostTable) -> None:
    asked = queries.verification(table.network)
    if asked.trouble:
        st.warning(asked.trouble[0].upper() + asked.trouble[1:])
        st.button("Ask again", on_click=queries.ask_again, args=(table.network,))
    elif asked.verdict is None:
        st.info(
            "The witnesses are counting this network: torch, fvcore and torchinfo …", icon=":material/hourglass_top:"
        )
    else:
        _verdict_figures(asked.verdict)


def _verdict_figures(verdict: dict[str, object]) -> None:
    witnesses, mismatches, skipped = verdict["witnesses"], verdict["mismatches"], verdict["skipped"]
    assert isinstance(witnesses, list)
    assert isinstance(mismatches, list)
    assert isinstance(skipped, list)
    compared = sum(entry["compared"] for entry in witnesses)
    if mismatches:
        lines = "\n".join(
            f"* **{m['stage']}**: {m['witness']} counts {m['theirs']} {m['quantity']}, we count {m['ours']}"
            for m in mismatches
        )
        st.error(f"**{len(mismatches)} of {compared} figures disagree.**\n{lines}", icon=":material/error:")
        return
    names = ", ".join(dict.fromkeys(entry["witness"] for entry in witnesses))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.success(
            f"**All {compared} figures agree** with independent witnesses, at every stage and in total: {names}.",
            icon=":material/verified:",
            width="stretch",
        )
        with st.popover("What they said"):
            st.markdown(
                "Each witness counts a torch module built from the same description, in its own way of counting; "
                "its figures are held against ours converted to that way."
            )
            st.dataframe(
                {
                    "witness": [entry["witness"] for entry in witnesses],
                    "quantity": [entry["quantity"] for entry in witnesses],
                    "agree": [f"{entry['agree']} of {entry['compared']}" for entry in witnesses],
                    "its total": [entry.get("theirs") for entry in witnesses],
                },
                hide_index=True,
                column_config={"its total": st.column_config.NumberColumn(format="localized")},
                alt="What each witness counted",
            )
            for entry in skipped:
                st.caption(f"{entry['witness']} was not asked: {entry['reason']}.")


@st.fragment(run_every=1)
def _waiting_verdict(table: CostTable) -> None:
    """Poll while the witnesses count; the whole page runs again once they are done, and polling ends."""
    _show_verdict(table)
    if queries.verification(table.network).done:
        st.rerun()


def _where(table: CostTable) -> str:
    """What the charts show, in one sentence, from the numbers themselves."""

    def share(column: str, kind: type) -> str:
        part = sum(getattr(row, column) for row in table.rows if isinstance(row.layer, kind))
        return f"{part / table.total(column):.0%}".replace("%", " %")

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
batch = st.session_state.get("batch") or PAPER_BATCH
costs = cost_table(network, batch)
_show_totals(cost_table(network), CONVENTIONS["ours"])
if queries.verification(network).done:
    _show_verdict(costs)
else:
    _waiting_verdict(costs)
_explorer(cost_table(network))

st.header("Where the costs are", divider="gray")
with st.container(horizontal=True, vertical_alignment="bottom"):
    st.number_input(
        "Batch", min_value=1, max_value=MAX_BATCH, value=PAPER_BATCH, key="batch", bind="query-params", width=160,
        help="Images counted together: 128 in the paper (section 5). Parameters do not depend on it.",
    )  # fmt: skip
    exports.save_table(tables.stage_table(costs), f"{network.name}-batch-{batch}", "save_costs")
st.markdown(_where(costs))
st.plotly_chart(
    cost_charts(costs, theme.palette(st.context.theme.type)),
    key="cost_charts",
    config={"displayModeBar": False},
    alt=f"Bars of parameters, MACs and training memory for every stage of {network.name}",
)
components.save_figure("cost_charts", f"costs of {network.name}", f"{network.name}-costs")
_show_memory(costs)
