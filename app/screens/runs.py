"""Runs: all of them, or one: watched as it goes on, and steered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from alexnet import launch
from alexnet.errors import UserError
from alexnet.runs import RUNS, RunError, explained
from app import choices, components, run_film, run_head, run_views, running, steering
from app.run_list import show_list
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Collection

ALL = "all"
VIEWS = {
    "Curves": run_views.curves,
    "Speed": run_views.rate_and_speed,
    "Kernels": run_film.kernels,
    "LRN": run_film.lrn,
    "Probe picture": run_film.probe,
    "Validations": run_views.validations,
    "Layers": run_views.layers,
    "Recipe and log": run_views.recipe,
}
# Views that change seldom and cost more are looked at so many times less often.
SLOWER = {"Kernels": 4, "LRN": 4, "Probe picture": 4, "Recipe and log": 2}


def _one(name: str) -> None:
    try:
        run = running.look(name)
    except RunError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    st.title(literal(run.name))
    if run.about.note:
        st.markdown(literal(run.about.note).replace("\n", "  \n"))
    every, pace = running.REFRESH_SECONDS if run.alive else None, running.pace(run)
    st.fragment(run_head.head, run_every=every)(run, pace)
    steering.actions(run)
    if not run.begun:
        asked = launch.request(run.directory)
        if asked is not None and asked.origin is not None:
            run_head.asked_for(run, asked, Path(asked.origin))
        else:
            run_views.recipe(run)
        return
    view = choices.pick(
        "View", list(VIEWS), "view_of_run", widget=st.segmented_control, required=True, label_visibility="collapsed"
    )
    slower = every and every * SLOWER.get(view, 1)
    st.fragment(_view, run_every=slower and max(slower, pace or 0.0))(view, run.id)


def _view(view: str, name: str) -> None:
    """One view of the run as it is now; in a run that lives, looked at again and again."""
    try:
        VIEWS[view](running.look(name))
    except UserError as error:
        st.error(literal(str(error)), icon=":material/error:")
    except OSError as error:
        st.error(literal(f"{error.filename or name} cannot be read: {explained(error)}"), icon=":material/error:")


def _look_for_missing(there: Collection[str]) -> None:
    """Where the run that is asked for is not there, notes its name for the list, which is shown until one is chosen."""
    wanted = next(filter(None, map(st.session_state.get, ("pick_run", "kept_pick_run"))), st.query_params.get("run"))
    if wanted is not None and wanted not in there:
        st.session_state.run_missing = wanted
        choices.go_to("run", ALL)
    elif st.session_state.get("run_missing") in there:  # it is back
        del st.session_state.run_missing


def _page() -> None:
    names = running.names()
    labels = {ALL: "All runs"} | running.labels(names)
    _look_for_missing(labels)
    with st.sidebar:
        picked = choices.pick("Run", list(labels), "run", default=ALL, format_func=labels.__getitem__)
        st.caption(literal(f"From {RUNS.resolve()}, the latest first"))
    if gone := st.session_state.pop("run_deleted", None):
        st.success(literal(f"{gone} is deleted."))
    if notice := st.session_state.pop("imported", None):
        st.success(literal(notice))
    components.prepare_live_charts()  # on the list too: a run is opened the sooner
    if picked == ALL:
        st.title("Runs")
        if missing := st.session_state.get("run_missing"):
            st.warning(
                literal(
                    f"There is no run {missing[:100]} in {RUNS.resolve()} (any more): it was deleted or renamed, or "
                    "the address has a mistake. These are the runs that there are."
                ),
                icon=":material/search_off:",
            )
        show_list()
    else:
        st.session_state.pop("run_missing", None)
        _one(picked)
    running.spare_the_collector()


_page()
