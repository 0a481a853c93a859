"""Compare runs: what was set differently, what came out, and whether that is more than chance."""

from __future__ import annotations

import streamlit as st

from alexnet.runs import RUNS
from app import components, run_compare, running
from app.state import literal


def _page() -> None:
    st.title("Compare runs")
    if not running.names():
        st.info(f"There is no run in {literal(str(RUNS.resolve()))} yet.", icon=":material/info:")
        st.page_link("screens/start.py", label="Start a training", icon=":material/play_circle:")
        return
    if picked := run_compare.chosen():
        components.prepare_live_charts()
        run_compare.compare(picked)
    else:
        st.info("Choose the runs to compare: up to eight stand side by side.", icon=":material/info:")


_page()
