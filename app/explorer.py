"""The drawing, the table and the detail of one stage, tied together: choosing in one chooses in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import times
from analysis import formats, tables
from analysis.conventions import CONVENTIONS, OURS
from analysis.receptive import receptive_fields
from app import components, exports, state
from app.figures.architecture import architecture_svg
from app.stage_detail import show_stage

if TYPE_CHECKING:
    from alexnet.spec import Network
    from analysis.costs import CostTable
    from analysis.formats import Table

_ROW_HEIGHT = 27


def _table_key(network: Network) -> str:
    """A table of its own for each network: row 4 is another stage in the next."""
    return f"stages_{network.name}"


def _stage_names(table: CostTable) -> list[str]:
    return [row.name for row in table.rows]


def _selected(table: CostTable) -> str:
    """The stage that the address or the last click names; the first where this network has none of that name."""
    names = _stage_names(table)
    asked = st.query_params.get("stage")
    wanted = str(asked or st.session_state.get("stage", "")).casefold()
    if wanted in names:
        _select(wanted)  # also back from another page, so that the address says again what is shown
        return wanted
    if asked:
        st.warning(state.literal(f"{table.network.name} has no stage named {asked!r}; showing {names[0]}."))
        del st.query_params["stage"]
    return names[0]


def _select(name: str) -> None:
    st.session_state.stage = name
    st.query_params["stage"] = name


def _tick(network: Network, row: int) -> None:
    """Let the table show this row as the selected one, whatever was clicked in it."""
    st.session_state[_table_key(network)] = {"selection": {"rows": [row], "columns": [], "cells": []}}


def _picked_in_table(network: Network, names: list[str]) -> None:
    """Follow a tick or a click on any cell; taking the tick away keeps the stage, and the tick."""
    selection = st.session_state[_table_key(network)]["selection"]
    cells, rows = selection.get("cells") or [], selection["rows"]
    if cells:
        row = cells[0][0]
    elif rows:
        row = rows[0]
    else:
        row = names.index(st.session_state.stage) if st.session_state.get("stage") in names else 0
    _select(names[row])
    _tick(network, row)


def _picked_in_drawing(network: Network, names: list[str]) -> None:
    picked = st.session_state.drawing.picked
    if picked in names:
        _select(picked)
        _tick(network, names.index(picked))


def _summary(table: CostTable, name: str) -> str:
    """The selected stage in one line, right below the drawing, wherever its detail stands."""
    cost = table.row(name)
    parts = [f"**{name}** · {cost.layer.kind}", f"{times(cost.stage.in_shape)} → {times(cost.stage.out_shape)}"]
    for column, words in (("params", "parameters"), ("macs", "MACs")):
        if value := getattr(cost, column):
            parts.append(f"{value:,} {words} ({formats.percent(value / table.total(column))})")
    return " · ".join(parts)


def _show_table(network: Network, stages: Table, work: str, names: list[str], selected: str) -> None:
    records = {column.key: [row[i] for row in stages.rows] for i, column in enumerate(stages.columns)}
    integer = st.column_config.NumberColumn
    bar = st.column_config.ProgressColumn
    st.dataframe(
        records,
        key=_table_key(network),
        hide_index=True,
        row_height=_ROW_HEIGHT,
        height=min(len(names) + 1, 26) * _ROW_HEIGHT + 12,
        on_select=lambda: _picked_in_table(network, names),
        selection_mode=["single-row", "single-cell"],
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
            "name": st.column_config.TextColumn("Stage", pinned=True, width=66),
            "output": st.column_config.TextColumn("Output", help="Maps × height × width, or values", width=80),
            "params": integer("Parameters", format="localized", width=84),
            "params_share": bar("of all", format="percent", min_value=0, max_value=1, width=76),
            "macs": integer(work, format="localized", width=98),
            "macs_share": bar("of all", format="percent", min_value=0, max_value=1, width=76),
            "receptive_field": st.column_config.TextColumn("Sees", help="Receptive field in pixels", width=72),
            "flops": integer("FLOPs", format="localized", width=100, help="All elementary operations, our count"),
            "activation_bytes": integer("Bytes out", format="localized", width=92),
        },
    )


@st.fragment
def explorer(table: CostTable) -> None:
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
            on_pick=lambda: _picked_in_drawing(network, names),
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(_summary(table, selected), width="stretch")
        components.save_figure("architecture_figure", f"{network.name} to scale", network.name)
    st.caption(
        "Click a volume, a label below it or a row of the table; or reach the drawing with Tab, move with the arrow "
        "keys and choose with Enter (in the table, Space with Shift)."
    )
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
            stages = tables.stage_table(table, convention)
            exports.save_table(
                stages,
                f"{network.name}-{times(network.input_shape[1:])}-{choice}".replace("×", "x"),
                "save_stages",
                json=lambda: formats.json_text(tables.cost_json(table, convention)),
            )
        _show_table(network, stages, "MACs" if convention is OURS else convention.name, names, selected)
        st.caption(
            f"Total {convention.total_params(table):,} parameters and {convention.total_macs(table):,} "
            f"{convention.unit}. {convention.reason}"
        )
    with beside.container(key="stage_detail"):
        show_stage(table, receptive_fields(network), names.index(selected))
        if convention is not OURS:
            st.caption(f"This detail is our count; the table shows {convention.name}'s.")
