"""Why tools disagree: one network, every convention, every difference explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import times
from analysis import tables
from analysis.conventions import CONVENTIONS, OURS, Convention
from analysis.costs import CostTable, cost_table
from analysis.tables import Column, Table
from app import components, exports, state, theme
from app.figures.disagreement import disagreement_chart, term_totals

if TYPE_CHECKING:
    from collections.abc import Sequence


def _totals(table: CostTable, conventions: Sequence[Convention]) -> Table:
    columns = (
        Column("convention", "convention"),
        Column("tool", "tool"),
        Column("figure", "figure"),
        Column("calls_it", "calls it"),
        Column("difference", "more than ours"),
        Column("params", "parameters"),
    )
    ours = table.total("macs")
    rows = tuple(
        (
            convention.name,
            convention.tool,
            convention.total_macs(table),
            convention.unit,
            convention.total_macs(table) - ours,
            convention.total_params(table),
        )
        for convention in conventions
    )
    return Table(f"{table.network.name}, one image, as every tool counts it", columns, rows)


def _differences(table: CostTable, convention: Convention) -> Table:
    """Every stage where this convention differs from ours, with the arithmetic."""
    columns = (
        Column("stage", "stage"),
        Column("ours", "ours"),
        Column("theirs", convention.name),
        Column("what", "adds"),
        Column("formula", "by formula"),
    )
    rows = []
    for cost in table.rows:
        for term, _ in convention.differences(cost):
            rows.append((cost.name, cost.macs, convention.macs(cost), term.what, term.formula(cost)))
    return Table(f"{table.network.name}: {convention.name} against ours", columns, tuple(rows))


def _frame(table: Table, key: str, widths: dict[str, int | str]) -> None:
    records = {column.key: [row[i] for row in table.rows] for i, column in enumerate(table.columns)}
    config = {
        column.key: st.column_config.TextColumn(column.heading, width=widths.get(column.key))  # type: ignore[arg-type]
        if all(isinstance(value, str) for value in records[column.key])
        else st.column_config.NumberColumn(column.heading, format="localized", width=widths.get(column.key))  # type: ignore[arg-type]
        for column in table.columns
    }
    height = (len(table.rows) + 1) * 29 + 8
    st.dataframe(records, key=key, hide_index=True, row_height=29, height=height, column_config=config, alt=table.title)
    exports.save_table(table, key.replace("_", "-"), f"save_{key}")


network = state.chosen_network()
costs = cost_table(network)
conventions = list(CONVENTIONS.values())
st.title("Why tools disagree")
figures = sorted({convention.total_macs(costs) for convention in conventions})
st.markdown(
    f"Counted in {len(conventions)} ways, one image through **{network.name}** ({times(network.input_shape)}) costs "
    f"**{len(figures)} different numbers**, from {figures[0]:,} to {figures[-1]:,}. None of them is wrong: each tool "
    "counts something else, and most do not say what. Here every difference is a term of its own, exact at every "
    "stage; the tests of this project hold each against the tool itself."
)
_frame(_totals(costs, conventions), "every_tool", {"tool": 300, "calls_it": 180})
st.header("What each tool adds", divider="gray")
terms = term_totals(costs, conventions)
st.plotly_chart(
    disagreement_chart(terms, theme.palette(st.context.theme.type)), key="disagreement_chart",
    config={"displayModeBar": False}, alt="What each tool adds to our count, on a logarithmic scale",
)  # fmt: skip
components.save_figure("disagreement_chart", "what each tool adds", f"{network.name}-tools")

st.header("One tool, stage by stage", divider="gray")
others = [convention.name for convention in conventions if convention is not OURS]
name = st.segmented_control(
    "Tool", others, default="torchinfo", key="tool", bind="query-params", required=True
)  # fmt: skip
chosen = CONVENTIONS[name or "torchinfo"]
st.markdown(
    f"**{chosen.tool}**: {chosen.total_macs(costs):,} {chosen.unit}. {chosen.reason} *Source: {chosen.source}.*"
)
for term in (*chosen.terms, *chosen.param_terms):
    if any(term.images(row) for row in costs.rows):
        st.markdown(f"* **{term.what}**: {term.why}.")
difference = _differences(costs, chosen)
if difference.rows:
    _frame(difference, "stage_differences", {"what": 240, "formula": 330})
else:
    st.info(f"For {network.name}, {chosen.name} and our count are the same at every stage.")
st.header("Every tool, stage by stage", divider="gray")
every = tables.conventions_table(costs, conventions)
_frame(Table(every.title, every.columns, (*every.rows, every.totals or ())), "every_stage", {})
