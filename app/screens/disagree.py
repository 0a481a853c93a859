"""Why tools disagree: one network, every convention, every difference explained."""

from __future__ import annotations

import streamlit as st

from alexnet.spec import times
from analysis import tables
from analysis.conventions import CONVENTIONS, OURS
from analysis.costs import cost_table
from app import components, exports, state
from app.figures.disagreement import disagreement_chart, term_totals

network = state.chosen_network()
costs = cost_table(network)
conventions = list(CONVENTIONS.values())
st.title("Why tools disagree")
figures = sorted({convention.total_macs(costs) for convention in conventions})
st.markdown(
    f"Counted in {len(conventions)} ways, one image through **{network.name}** ({times(network.input_shape)}) costs "
    f"**{len(figures)} different numbers**, from {figures[0]:,} to {figures[-1]:,}. Each tool counts something "
    "else, most do not say what, and one counts some operations twice. Here every difference is a term of its own, "
    "exact at every stage; the tests of this project hold each against the tool itself, netscope's, which runs only in "
    "a browser, against its published formulas."
)
exports.show_table(
    tables.tools_table(costs, conventions), "every_tool", f"{network.name}-tools", widths={"tool": 300, "calls_it": 180}
)
st.header("What each tool adds", divider="gray")
terms = term_totals(costs, conventions)
components.chart(
    disagreement_chart(terms, components.palette()), key="disagreement_chart",
    alt="What each tool adds to our count, on a logarithmic scale",
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
difference = tables.tool_differences(costs, chosen)
if difference.rows:
    exports.show_table(
        difference, "stage_differences", f"{network.name}-{chosen.name}", widths={"what": 240, "formula": 330}
    )
else:
    st.info(f"For {network.name}, {chosen.name} and our count are the same at every stage.")
st.header("Every tool, stage by stage", divider="gray")
exports.show_table(tables.conventions_table(costs, conventions), "every_stage", f"{network.name}-every-tool")
