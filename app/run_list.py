"""All runs in one table, and bringing one in from elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet import portable
from alexnet.errors import UserError
from alexnet.runs import RUNS
from analysis.formats import Column, Table
from app import boxed, choices, exports, running
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.running import Run


def show_list() -> None:
    """Every run of the folder; a click on one opens it."""
    archived = st.toggle("Show archived runs", key="runs_archived")
    runs = running.everything(archived=archived)
    if not runs:
        st.info(f"There is no run in {literal(str(RUNS.resolve()))} yet.", icon=":material/info:")
        st.page_link("screens/start.py", label="Start a training", icon=":material/play_circle:")
        st.button(
            "Show the trainings in the box", key="runs_of_the_box", icon=":material/inventory_2:", on_click=_unpack,
            help="Copies the two trainings that come with the laboratory into this folder: curves, film and layers of "
            "each, as of any run. They can be deleted again.",
        )  # fmt: skip
    if trouble := st.session_state.pop("box_trouble", None):
        st.error(literal(trouble), icon=":material/error:")
    if runs:
        _table(archived, alive=any(run.alive for run in runs))
    with st.expander("Import a run", icon=":material/upload:"):
        _import()


def _unpack() -> None:
    try:
        boxed.put_all()
    except UserError as error:
        st.session_state.box_trouble = str(error)


def _table(archived: bool, *, alive: bool) -> None:
    st.fragment(_rows, run_every=running.REFRESH_SECONDS if alive else None)(archived, alive=alive)


def _rows(archived: bool, *, alive: bool) -> None:
    runs = running.everything(archived=archived)
    if alive != any(run.alive for run in runs):
        st.rerun()  # once more with or without looking again
    shown = {
        "Run": [run.name for run in runs],
        "State": [run.condition for run in runs],
        "Progress": [_share(run) for run in runs],
        "Network": [run.config.network if run.config else "" for run in runs],
        "Data": [_data(run) for run in runs],
        "Best top-1": [running.best_top1(run) for run in runs],
        "Images/s": [run.number("images_per_second") if run.condition == "running" else None for run in runs],
        "Began": [_began(run) for run in runs],
        "Note": [run.about.note.partition("\n")[0] for run in runs],
    }
    st.dataframe(
        shown,
        key="all_runs",
        hide_index=True,
        selection_mode="single-row",
        on_select=lambda: _picked([run.id for run in runs]),
        column_config={
            "Run": st.column_config.TextColumn(pinned=True),
            "Progress": st.column_config.ProgressColumn(min_value=0.0, max_value=1.0, format="percent"),
            "Best top-1": st.column_config.NumberColumn(format="percent"),
            "Images/s": st.column_config.NumberColumn(format="%.0f"),
        },
        alt="All runs, the one that began last first",
        placeholder="",
    )
    st.caption("Click the box at the left of a run to open it. The one that began last stands first.")
    exports.save_table(_as_table(runs), "runs", "save_runs")


def _picked(ids: Sequence[str]) -> None:
    selection: Any = st.session_state.all_runs
    if rows := selection["selection"]["rows"]:
        choices.go_to("run", ids[rows[0]])


def _share(run: Run) -> float | None:
    step, steps = run.number("step"), run.number("steps")
    return step / steps if step is not None and steps else None


def _data(run: Run) -> str:
    data = run.record.get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return str(name or (Path(run.config.data).name if run.config else ""))


def _began(run: Run) -> str | None:
    """When, by this machine's clock; written so that sorting by it is sorting by time."""
    began = running.created(run.record)
    return None if began is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(began))


def _as_table(runs: Sequence[Run]) -> Table:
    columns = (
        Column("run", "Run"), Column("name", "Name"), Column("state", "State"), Column("network", "Network"),
        Column("data", "Data"), Column("step", "Step"), Column("steps", "Steps"),
        Column("best_top1", "Best top-1", percent=True), Column("began", "Began"), Column("note", "Note"),
    )  # fmt: skip
    rows = tuple(
        (
            run.id, run.about.name, run.condition, run.config.network if run.config else None, _data(run),
            run.number("step"), run.number("steps"), running.best_top1(run),
            _began(run), run.about.note,
        )
        for run in runs
    )  # fmt: skip
    return Table("Runs", columns, rows)


# --- import ----------------------------------------------------------------------------------------------------------


def _import() -> None:
    st.caption(
        "A run that was exported on this or another machine, as one .zip file: its curves, its film and its "
        "checkpoints. Nothing in it is executed, and no run here is written over."
    )
    sent = st.file_uploader("Exported run", type="zip", key="import_file")
    path = st.text_input("or its path on this machine", key="import_path", placeholder="…/run.zip")
    if not st.button("Import", key="import_button", icon=":material/upload:"):
        return
    if sent is None and not path.strip():
        st.error("No file yet: choose one, or give its path.")
        return
    bar = st.progress(0.0, "Reading …")
    try:
        found = None
        for moved in portable.importing(sent or Path(path.strip()).expanduser(), RUNS):
            bar.progress(moved.done / max(moved.total, 1), literal(moved.file or "done"))
            found = moved.path or found
    except UserError as error:
        st.error(literal(str(error)), icon=":material/error:")
    else:
        assert found is not None
        st.session_state.imported = f"{found.name} is here. {running.page_words(portable.origin(found))}"
        choices.go_to("run", found.name)
        st.rerun()
    finally:
        bar.empty()
