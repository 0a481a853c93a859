"""How one comes to the page "Start a training": from an address, or from a run that is repeated or branched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet import launch
from alexnet.data.sources import BUILT_IN
from alexnet.errors import UserError
from alexnet.presets import configured, preset_named
from alexnet.runs import RUNS, RunDirectory
from alexnet.zoo import network_from
from app import running, start_checks, start_data, start_form, state
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alexnet.config import TrainConfig
    from app.start_form import Form, Origin

_IN_ADDRESS = ("data", "preset", "net", "branch")
"""Not ``network``, which is read too: the pages that count have a widget bound to it."""
_LONGEST = 1_000  # characters of an address's value; no path is longer that anybody shares


def arrive() -> None:
    """Takes over what another page asks for; at a session's first visit, what the address says."""
    asked = st.session_state.pop("start_from", None)
    if asked is None:
        if "start_kept" not in st.session_state:
            _read_address()
        return
    try:
        take_over(asked)
    except UserError as error:
        st.session_state.start_trouble = str(error)


def take_over(asked: str) -> None:
    """Fills the form from ``again:RUN``, ``like:RUN`` or ``branch:RUN/CHECKPOINT``.

    Raises:
        UserError: there is no such run or checkpoint any more, or its recipe cannot be read.
    """
    kind, _, name = asked.partition(":")
    st.session_state.start_origin = None
    if kind == "branch":
        run, _, checkpoint = name.rpartition("/")
        path = _directory(run).checkpoints().get(checkpoint)
        if path is None:
            raise UserError(f"run {run} has no checkpoint {checkpoint} any more, so no branch can start from it")
        _branch(path, {})
        return
    directory = _directory(name)
    request = launch.request(directory)
    if kind == "again" and request is not None and not directory.config_path.is_file():
        values, come_from = request.values, request.origin
    else:
        values, come_from = directory.config().get("config", {}), None
    if not isinstance(values, dict):
        raise UserError(f"the recipe of run {name} cannot be read")
    if come_from is not None:
        path = Path(come_from)
        # Where the other run is gone, what was taken of it when this one was asked for.
        _branch(path if path.is_file() else launch.taken(directory, path) or path, values)
        return
    start_form.fill(values, _base(values))


def _directory(name: str) -> RunDirectory:
    if name not in running.names():
        raise UserError(f"there is no run {name[:100]!r} here any more, so nothing can be taken over from it")
    return RunDirectory(RUNS / name)


def _base(values: Mapping[str, Any]) -> TrainConfig:
    preset = str(values.get("preset", "paper-2012"))
    try:
        return configured(preset, BUILT_IN)
    except UserError:  # a preset of another version: every value is known all the same
        return configured("paper-2012", BUILT_IN)


def _branch(path: Path, changes: Mapping[str, Any]) -> None:
    start = start_checks.origin(str(path))
    st.session_state.start_origin = str(path)
    start_form.fill({"data": start.config.data} | dict(changes), start.config)


def origin() -> Origin | None:
    """Where the branch starts that the form is about, if it is about one."""
    path = st.session_state.get("start_origin")
    if path is None:
        return None
    try:
        return start_checks.origin(path)
    except UserError as error:
        st.session_state.start_trouble = str(error)
        st.session_state.start_origin = None
        return None


def head(come_from: Origin | None) -> None:
    """What the form is about, below the title."""
    if trouble := st.session_state.pop("start_trouble", None):
        st.error(literal(trouble), icon=":material/error:")
    if come_from is None:
        st.caption(
            "Choose data and a preset, change what you like, and start. What you leave empty has the value that stands "
            "there in grey. The training is a process of its own: it goes on when this page is closed."
        )
        return
    st.markdown(
        f"A new run that goes on from checkpoint **{literal(come_from.path.stem)}** of run "
        f"**{literal(come_from.run)}**, at step {come_from.step:,}. What you leave empty has that run’s value; grey "
        "fields are kept by every branch, since the weights would mean nothing without them."
    )
    st.button("Start from a preset instead", icon=":material/undo:", key="start_no_branch", on_click=_no_branch)


def _no_branch() -> None:
    st.session_state.start_origin = None
    start_form.reset()


def forget() -> None:
    """After the start: the next run has a name of its own, and a branch is made once."""
    start_form.put({"name": "", "note": ""})
    st.session_state.start_kept |= {"name": "", "note": ""}
    if st.session_state.get("start_origin") is not None:
        _no_branch()
        st.session_state.start_kept |= {name: start_form.empty(name) for name in start_form.RECIPE}


# --- the address -----------------------------------------------------------------------------------------------------


def _read_address() -> None:
    said = {name: st.query_params[name][:_LONGEST].strip() for name in _IN_ADDRESS if name in st.query_params}
    if "network" in st.query_params and "sizes_open" not in st.session_state:
        # Behind a page that counts it is that page's: the widget there is bound to it.
        said.setdefault("net", st.query_params.pop("network")[:_LONGEST].strip())
    wrong = []
    if "preset" in said:
        try:
            start_form.put({"preset": preset_named(said["preset"]).name})
        except UserError as error:
            wrong.append(str(error))
    if "net" in said:
        try:
            start_form.put_network(network_from(said["net"]).name)
        except ValueError as error:
            wrong.append(str(error))
    if said.get("data"):
        start_form.put_data(said["data"])
    if branch := said.get("branch"):
        try:
            take_over(f"branch:{branch}")
        except UserError as error:
            wrong.append(str(error))
    if wrong:
        for name in _IN_ADDRESS:
            st.query_params.pop(name, None)
        start_form.keep()  # the notices stand above the page, so it is run once more
        for sentence in wrong:
            state.notice(sentence)
        st.rerun()


def write_address(form: Form) -> None:
    """Says in the address what decides most, so that it can be shared."""
    if form.origin is not None:
        wanted: dict[str, str | None] = {"branch": form.origin.name}
    else:
        wanted = {
            "data": start_form.data(),
            "preset": start_form.typed("preset"),
            "net": start_form.reference(form.base.network) if "network" not in form.problems else None,
        }
    for name in _IN_ADDRESS:
        said = wanted.get(name)
        if not said:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != said:
            st.query_params[name] = said


def stamp(form: Form) -> str:
    """The state of the data, as far as it can be looked at."""
    try:
        return start_data.version(form.shown.data)
    except UserError:
        return ""
