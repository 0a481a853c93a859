"""Start a training: one form, everything that is known before the start, and the start itself."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import streamlit as st

from alexnet import launch
from alexnet.about import NAME_CHARACTERS, write_about
from alexnet.errors import UserError
from alexnet.runs import RUNS
from app import (
    choices,
    running,
    start_arrival,
    start_checks,
    start_data,
    start_fields,
    start_form,
    start_measure,
)
from app.start_form import key, told
from app.state import literal

if TYPE_CHECKING:
    from app.start_checks import Outlook
    from app.start_form import Form

TURNS = ("When the others have ended (queue)", "Side by side, now")


def _page() -> None:
    if name := st.session_state.get("start_launched"):
        _go_to(name)
    start_arrival.arrive()
    start_form.keep()
    come_from = start_arrival.origin()
    form = start_form.read(come_from)
    start_arrival.write_address(form)
    found = start_data.opened(form.shown) if form.named else start_data.Opened()
    outlook = start_checks.outlook(form, found)
    stamp = start_arrival.stamp(form)
    measured = start_measure.current(form, stamp)
    measurable = form.config is not None and not outlook.waiting and not outlook.problems.keys() - {"", "about"}
    for problem in start_measure.problems(measured):
        outlook.add(problem)

    st.title("Start a training" if come_from is None else literal(f"Branch of {come_from.run}"))
    start_arrival.head(come_from)
    st.header("Data", divider="gray")
    start_data.choose()
    start_data.show_found(found, form)
    if come_from is None:
        st.header("Preset", divider="gray")
        start_fields.preset()
    st.header("Network", divider="gray")
    start_fields.network(form, outlook.problems, found.classes)
    st.header("Recipe", divider="gray")
    start_fields.recipe(form, outlook.problems)
    st.header("Machine", divider="gray")
    start_fields.machine(form, outlook.problems)
    st.header("Before the start", divider="gray")
    start_checks.show(outlook, form)
    start_measure.show(form, stamp, measured, measurable=measurable, begun=outlook.start)
    st.header("Start", divider="gray")
    _start(form, outlook)


def _start(form: Form, outlook: Outlook) -> None:
    with st.container(horizontal=True, gap="medium"):
        with st.container(width=320):
            st.text_input(
                "Name", key=key("name"), placeholder="its folder’s: time, preset and network",
                help=f"What the run is called on these pages; at most {NAME_CHARACTERS} characters, or nothing.",
            )  # fmt: skip
        with st.container(width=420):
            st.text_area("Note", key=key("note"), height=68, placeholder="What is it for?")
    if problem := outlook.problems.get("about"):
        st.caption(f":red[{told(problem)}]")
    waits = _turn()
    if outlook.ready:
        _command(form, waits=waits)
    count = len(outlook.problems)
    with st.container(horizontal=True, vertical_alignment="center"):
        clicked = st.button(
            "Start the training" if form.origin is None else "Start the branch", type="primary",
            icon=":material/play_arrow:", disabled=not outlook.ready, key=f"start_button_{_number()}",
        )  # fmt: skip
        if count:
            st.caption(
                f"{count} {'problems stand' if count > 1 else 'problem stands'} in the way: see Before the start. "
                + (told(next(iter(outlook.problems.values()))) if count == 1 else "")
            )
        elif outlook.waiting:
            st.caption(f"{told(outlook.waiting)}.")
    if clicked and outlook.ready:
        _launch(form, waits=waits)
    if trouble := st.session_state.pop("start_trouble", None):
        st.error(literal(trouble), icon=":material/error:")


def _turn() -> bool:
    """Whether the run waits for the others here, where there are any."""
    others = running.others_alive()
    if not others:
        return False
    named = literal(", ".join(others[:5])) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
    if st.session_state.get(key("waits")) not in TURNS:
        start_form.put({"waits": TURNS[0]})
    answer = st.radio(
        f"{'Another training is' if len(others) == 1 else f'{len(others)} other trainings are'} here: {named}", TURNS,
        key=key("waits"),
        captions=(
            "It begins by itself when its turn comes.",
            "They share the machine, and each is slower; a run that waits lets this one end first, too.",
        ),
    )  # fmt: skip
    return answer == TURNS[0]


def _request(form: Form) -> launch.Request:
    if form.origin is not None:
        return launch.Request(form.branch_changes(), str(form.origin.path))
    return launch.Request(form.shown.as_json())


def _command(form: Form, *, waits: bool) -> None:
    try:
        words = [*launch.command(_request(form)), *["--queue"] * waits]
    except UserError as error:
        st.error(literal(str(error)), icon=":material/error:")
        return
    st.caption("The command that does the same:")
    st.code(shlex.join(["python", "-m", "alexnet", "train", *words]), language="bash", wrap_lines=True)


# --- the start -------------------------------------------------------------------------------------------------------


def _number() -> int:
    """Of the button: each has a key of its own, so that a second click on one that was used counts for nothing."""
    number: int = st.session_state.setdefault("start_number", 0)
    return number


def _launch(form: Form, *, waits: bool) -> None:
    """Starts it.  No element is drawn before its name is noted: a click may interrupt the script wherever one is."""
    st.session_state.start_number = _number() + 1
    try:
        if form.origin is not None:
            run = launch.start_branch(RUNS, form.origin.path, form.branch_changes(), waits=waits)
        else:
            assert form.config is not None
            run = launch.start(RUNS, form.config, waits=waits)
    except UserError as error:
        st.session_state.start_trouble = str(error)
        st.rerun()
    st.session_state.start_launched = run.path.name
    name, note = start_form.typed("name"), start_form.typed("note")
    if name or note:
        try:
            write_about(run.path, name=name, note=note)
        except UserError as error:  # it trains, only without its name
            st.session_state.steering_trouble = str(error)
    st.rerun()


def _go_to(name: str) -> None:
    """Leaves for the run that was started; begun anew where a click interrupts it."""
    choices.go_to("run", name)
    start_arrival.forget()
    del st.session_state.start_launched
    st.switch_page("screens/runs.py")


_page()
