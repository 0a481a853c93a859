"""Runs: all of them, or one: watched as it goes on, and steered."""

from __future__ import annotations

import contextlib

import streamlit as st

from alexnet.errors import UserError
from alexnet.runs import RUNS, RunError, explained
from app import choices, components, run_film, run_views, running, steering
from app.run_list import show_list
from app.state import literal

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


def _head(run: running.Run, pace: float | None) -> None:
    """How far it is, what it says, and what is wrong; looked at again while it lives."""
    try:
        now = running.look(run.id)
    except RunError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    if (now.condition, now.begun, running.pace(now)) != (run.condition, run.begun, pace):
        st.rerun()
    colour, icon = running.BADGES[now.condition]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(now.condition, icon=icon, color=colour)  # type: ignore[arg-type]
        if text := running.progress_text(now):
            st.markdown(text)
    step, steps = now.number("step"), now.number("steps")
    if step is not None and steps and now.condition != "finished":
        st.progress(min(step / steps, 1.0))
    words = running.sentence(now)
    if now.trouble:
        st.error(literal(f"Its config cannot be used: {now.trouble}"), icon=":material/error:")
    if words:
        kind = {"gone": st.error, "failed": st.error, "silent": st.warning}.get(now.condition, st.info)
        if now.condition != "finished":
            kind(literal(words))
    for warning in running.warnings(now):
        st.warning(literal(warning), icon=":material/visibility:")
    with contextlib.suppress(OSError):  # the views say what cannot be read
        run_views.figures_in_short(now)


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
    st.fragment(_head, run_every=every)(run, pace)
    steering.actions(run)
    if not run.begun:
        run_views.recipe(run)
        return
    components.prepare_live_charts()
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


def _page() -> None:
    names = running.names()
    labels = {ALL: "All runs"} | running.labels(names)
    with st.sidebar:
        picked = choices.pick("Run", list(labels), "run", default=ALL, format_func=labels.__getitem__)
        st.caption(literal(f"From {RUNS.resolve()}, the latest first"))
    if gone := st.session_state.pop("run_deleted", None):
        st.success(literal(f"{gone} is deleted."))
    if notice := st.session_state.pop("imported", None):
        st.success(literal(notice))
    if picked == ALL:
        st.title("Runs")
        show_list()
    else:
        _one(picked)
    running.spare_the_collector()


_page()
