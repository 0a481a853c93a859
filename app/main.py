"""The front end: ``streamlit run app/main.py``.  Navigation and what all pages share; the pages are in screens/."""

import importlib
import sys
from pathlib import Path

# `streamlit run app/main.py` puts app/ on the path, not the project's root, where alexnet/ and analysis/ are.
ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

# Streamlit imports pandas for the first table, in one place the whole and in another a part of it: two tabs then each
# hold what the other waits for, and one of them gets a half-imported module.  The whole first is safe from any thread.
importlib.import_module("pandas")

import streamlit as st  # noqa: E402

from app import components, looking, state  # noqa: E402

st.set_page_config(page_title="AlexNet laboratory", page_icon=str(Path(__file__).parent / "icon.png"), layout="wide")

first = st.Page("screens/first.py", title="First look", icon=":material/explore:", default=True)
architecture = st.Page("screens/architecture.py", title="Architecture", icon=":material/view_in_ar:")
page = st.navigation(
    {
        "": [first],
        "Count": [
            architecture,
            st.Page("screens/compare.py", title="Compare", icon=":material/compare_arrows:"),
            st.Page("screens/disagree.py", title="Why tools disagree", icon=":material/balance:"),
        ],
        "Train": [
            st.Page("screens/start.py", title="Start a training", icon=":material/play_circle:"),
            st.Page("screens/runs.py", title="Runs", icon=":material/monitoring:"),
            st.Page("screens/compare_runs.py", title="Compare runs", icon=":material/stacked_line_chart:"),
            st.Page("screens/parts.py", title="What each part gives", icon=":material/science:"),
        ],
        "Look inside": [
            st.Page("screens/kernels.py", title="Kernels", icon=":material/grid_view:"),
            st.Page("screens/activations.py", title="Activations", icon=":material/layers:"),
            st.Page("screens/lrn.py", title="LRN laboratory", icon=":material/tune:", url_path="lrn"),
        ],
    }
)
if page is first and state.is_of_networks():  # Architecture was the page without a name, and links to it stay good
    st.switch_page(architecture, query_params=st.query_params.to_dict())
LOOKING = {"kernels", "activations", "lrn"}
TRAINING = {"start", "runs", "compare_runs", "parts"}

st.logo(str(Path(__file__).parent / "logo.svg"), size="large")
st.html(Path(__file__).parent / "frontend" / "page.css")
components.back_leaves_the_page()
state.read_url()
with st.sidebar:
    if page.url_path in LOOKING:
        state.keep_network_controls()
        looking.controls()
    elif page is first or page.url_path in TRAINING:
        state.keep_network_controls()
    else:
        state.network_controls()
state.show_url_notices()
page.run()
