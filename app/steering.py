"""What can be done with a run: stop and resume it, continue, branch, name, take away, put away, delete."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet import launch, portable
from alexnet.about import NAME_CHARACTERS, delete, unknown_files, write_about
from alexnet.errors import UserError
from alexnet.runs import RUNS
from alexnet.words import size_text
from app import choices, looking, running
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.running import Run

_PATIENCE_SECONDS = 10.0
"""A training that was asked to stop and goes on for so long may be ended by force."""
_MOST_EPOCHS = 100_000
"""No recipe asks for more."""
LOOK = {
    "Kernels": "screens/kernels.py",
    "Activations": "screens/activations.py",
    "LRN laboratory": "screens/lrn.py",
}


def actions(run: Run) -> None:
    """The buttons of this run; each does one thing to its folder or its process."""
    with st.container(horizontal=True, key="steering"):
        if run.alive:
            _stopping(run)
        else:
            others = running.others_alive(run.id)
            _starting(run, others)
            if run.directory.last.is_file() and not running.last_trouble(run):
                _longer(run, others)
        if run.begun and run.directory.checkpoints():
            _branch(run)
            _look_inside(run)
        if run.begun:
            st.button("Compare", icon=":material/compare_arrows:", key="compare_run", on_click=_compare, args=(run.id,))
        _name(run)
        if run.begun:
            _export(run)
        _put_away(run)
    if st.session_state.pop("go_to_compare", False):
        st.switch_page("screens/compare_runs.py")
    if st.session_state.pop("go_to_start", False):
        st.switch_page("screens/start.py")
    if trouble := st.session_state.pop("steering_trouble", None):
        st.error(literal(trouble), icon=":material/error:")


def _try(action: Callable[[], Any]) -> None:
    """`_tried`, as a button's callback."""
    _tried(action)


def _start_again(run: Run, waits: bool) -> None:
    _tried(lambda: launch.start_again(run.directory, waits=waits))


def _tried(action: Callable[[], Any]) -> bool:
    """Does it; a mistake of the user's or the world's is said on the page at its next run."""
    try:
        action()
    except UserError as error:
        st.session_state.steering_trouble = str(error)
    except OSError as error:
        st.session_state.steering_trouble = f"{error.filename or 'the run'}: {error.strerror or error}"
    else:
        return True
    return False


# --- stop and go on --------------------------------------------------------------------------------------------------


def _stopping(run: Run) -> None:
    asked = run.directory.stop_requested()
    st.button(
        "Stopping …" if asked else "Leave the queue" if run.condition == "waiting" else "Stop",
        icon=":material/stop_circle:", key="stop_run", type="primary", disabled=asked,
        on_click=lambda: _try(lambda: launch.stop(run.directory)),
        help="Ends the training after the step at hand and keeps everything; it can go on later.",
    )  # fmt: skip
    if run.condition == "silent" or (asked and _stop_age(run) > _PATIENCE_SECONDS):
        with st.popover("End the process", icon=":material/power_off:"):
            st.markdown(
                "It does not stop by itself. Ended by force, it loses what came after its last checkpoint; resumed, it "
                "computes that again and ends with the same weights."
            )
            st.button(
                "Ask its process to end", key="end_run",
                on_click=lambda: _try(lambda: launch.end(run.directory)),
            )  # fmt: skip
            st.button(
                "End it at once", key="kill_run", type="primary",
                on_click=lambda: _try(lambda: launch.end(run.directory, at_once=True)),
            )  # fmt: skip


def _stop_age(run: Run) -> float:
    try:
        return time.time() - run.directory.stop_path.stat().st_mtime
    except OSError:
        return 0.0


def _starting(run: Run, others: Sequence[str]) -> None:
    """Resume, or start again what never began; beside the others, or when they have ended."""
    if run.trouble or running.last_trouble(run):
        _other_ways(run)
        return
    if run.condition == "finished":
        return
    label, icon = ("Resume", ":material/play_arrow:") if run.begun else ("Start again", ":material/replay:")
    if not others:
        st.button(
            label, icon=icon, key="resume_run", type="primary",
            on_click=lambda: _try(lambda: launch.start_again(run.directory, waits=False)),
        )  # fmt: skip
    else:
        with st.popover(label, icon=icon, type="primary"):
            st.markdown(
                f"Now trains or waits here: {literal(', '.join(others))}. Side by side, each is slower, and a run that "
                "waits will go on waiting until this one has ended, too."
            )
            for text, waits, key in (
                ("When the others have ended", True, "resume_later"),
                ("Now, side by side with them", False, "resume_now"),
            ):
                st.button(
                    text, key=key,
                    on_click=_start_again, args=(run, waits),
                )  # fmt: skip
    if not run.begun:
        st.button(
            "Change and start", icon=":material/edit:", key="change_run", on_click=_to_form, args=(f"again:{run.id}",)
        )


def _other_ways(run: Run) -> None:
    """Out of a run that cannot go on itself, since its recipe or its last checkpoint cannot be read."""
    whole = [name for name in run.directory.checkpoints() if name != "last" or not running.last_trouble(run)]
    if whole:
        name = next((name for name in ("last", "best") if name in whole), whole[0])
        st.button(
            f"Branch from {running.checkpoint_label(run, name)}", icon=":material/fork_right:", key="branch_instead",
            type="primary", on_click=_to_form, args=(f"branch:{run.id}/{name}",),
            help="A new run that goes on from there; this one stays as it is.",
        )  # fmt: skip
    elif not run.trouble:
        st.button(
            "Start a new run like it", icon=":material/replay:", key="start_instead", type="primary",
            on_click=_to_form, args=(f"like:{run.id}",),
        )  # fmt: skip


def _longer(run: Run, others: Sequence[str]) -> None:
    """A branch from the last checkpoint with more epochs: the old run stays what it was."""
    if run.config is None or run.config.epochs >= _MOST_EPOCHS:
        return
    with st.popover("Continue for longer", icon=":material/more_time:"):
        st.markdown(
            "A new run goes on from the last checkpoint, with this one's curves and film up to there; this one stays "
            "as it is. The learning rate is the schedule's for the new length."
        )
        st.number_input(
            "Epochs in all", run.config.epochs + 1, _MOST_EPOCHS,
            min(_MOST_EPOCHS, max(run.config.epochs + 1, round(run.config.epochs * 1.5))), key="longer_epochs",
        )  # fmt: skip
        if others:
            st.checkbox(
                "Wait until the others have ended", value=True, key="longer_waits",
                help="Side by side, each is slower, and a run that waits will go on waiting until this one has ended, "
                "too.",
            )  # fmt: skip
        st.button("Continue", type="primary", key="longer_run", on_click=_go_on_longer, args=(run,))


def _go_on_longer(run: Run) -> None:
    # Asked of the widgets now: what was typed just before the click is not in the page that drew the button.
    changes: dict[str, Any] = {"epochs": int(st.session_state.longer_epochs)}
    if run.config is not None and run.config.max_steps is not None:
        changes["max_steps"] = 10**12  # the number of steps was what ended it
    waits = bool(st.session_state.get("longer_waits", False))

    def begin() -> None:
        new = launch.start_branch(RUNS, run.directory.last, changes, waits=waits)
        write_about(new.path, name=f"{run.name} (longer)"[:NAME_CHARACTERS])
        choices.go_to("run", new.path.name)

    _tried(begin)


def _branch(run: Run) -> None:
    with st.popover("Branch", icon=":material/fork_right:"):
        st.markdown(
            "A new run that goes on from a checkpoint of this one with changed values: the next page asks which."
        )
        names = list(run.directory.checkpoints())
        st.selectbox(
            "From checkpoint", names, key="branch_from", format_func=lambda name: running.checkpoint_label(run, name)
        )
        st.button(
            "Choose values", type="primary", key="branch_run",
            on_click=lambda: _to_form(f"branch:{run.id}/{st.session_state.branch_from}"),
        )  # fmt: skip


def _to_form(reference: str) -> None:
    st.session_state.start_from = reference
    st.session_state.go_to_start = True


def _compare(name: str) -> None:
    st.session_state.compare_with = name
    st.session_state.go_to_compare = True


# --- look inside -----------------------------------------------------------------------------------------------------


def _look_inside(run: Run) -> None:
    with st.popover("Look inside", icon=":material/search:"):
        names = run.directory.checkpoints_to_see()
        picked = st.selectbox(
            "Checkpoint", names, key="look_checkpoint", format_func=lambda name: running.checkpoint_label(run, name)
        )
        st.caption("Its file is read beside the training, which does not notice.")
        for label, page in LOOK.items():
            if st.button(label, key=f"look_{label}", width="stretch"):
                looking.choose_run(run.id, picked)
                st.switch_page(page, query_params={"weights": f"run:{run.id}/{picked}"})


# --- name, take away, put away ---------------------------------------------------------------------------------------


def _name(run: Run) -> None:
    with st.popover("Name and note", icon=":material/edit_note:"), st.form("about_run", border=False):
        name = st.text_input("Name", run.about.name, placeholder=run.id, max_chars=NAME_CHARACTERS)
        note = st.text_area("Note", run.about.note, height=160)
        if st.form_submit_button("Save") and _tried(lambda: write_about(run.directory.path, name=name, note=note)):
            st.rerun()


def _export(run: Run) -> None:
    with st.popover("Export", icon=":material/download:"):
        kinds = {"last and best": "Last and best", "best": "Best only", "all": "All", "none": "None"}
        kind: Any = st.selectbox(
            "Checkpoints", list(kinds), key="export_checkpoints", format_func=kinds.__getitem__,
            help="With the last one the run can be resumed elsewhere; each has weights and momentum.",
        )  # fmt: skip
        events = st.checkbox("TensorBoard's files too", key="export_events")
        try:
            held = portable.contents(run.directory.path, checkpoints=kind, tensorboard=events)
        except UserError as error:
            st.error(literal(str(error)))
            return
        st.caption(
            f"One .zip of {held.files} files, {size_text(held.size)}: everything that the run is, to be imported on "
            "another machine. A run that trains is not disturbed."
            + (f" Left out, since no run has them: {literal(', '.join(held.unknown[:5]))}." if held.unknown else "")
        )
        st.download_button(
            "Download", data=lambda: _archive(run, kind, events=events), file_name=f"{run.id}.zip",
            mime="application/zip", key="export_run", type="primary", on_click="ignore",
        )  # fmt: skip
        st.caption("The same, also for very large runs, without a browser:")
        more = "" if kind == "last and best" else f' --checkpoints "{kind}"'
        st.code(f"python -m alexnet export {run.directory.path} {run.id}.zip{more}", language="bash", wrap_lines=True)


def _archive(run: Run, kind: Any, *, events: bool) -> io.BytesIO:
    file = io.BytesIO()
    portable.export(run.directory.path, file, checkpoints=kind, tensorboard=events)
    file.seek(0)
    return file


def _put_away(run: Run) -> None:
    with st.popover("Archive or delete", icon=":material/inventory_2:"):
        st.button(
            "Take out of the archive" if run.about.archived else "Archive", key="archive_run",
            on_click=lambda: _try(lambda: write_about(run.directory.path, archived=not run.about.archived)),
            help="An archived run stays on the disk and leaves the lists.",
        )  # fmt: skip
        st.divider()
        if run.alive:
            st.caption("A run that trains or waits cannot be deleted: stop it first.")
            return
        strange = unknown_files(run.directory.path)
        if strange:
            st.warning(f"Its folder also holds files that are no run's: {literal(', '.join(strange[:5]))}.")
        sure = st.checkbox(
            f"Delete this run for ever, with all of its {size_text(_size(run))}"
            + (" and those files" if strange else ""),
            key=f"sure_{run.id}",
        )
        st.button(
            "Delete", key="delete_run", type="primary", disabled=not sure, on_click=_deleted, args=(run,),
            kwargs={"everything": bool(strange)},
        )  # fmt: skip


def _size(run: Run) -> int:
    return sum(path.lstat().st_size for path in run.directory.path.rglob("*") if path.is_file())


def _deleted(run: Run, *, everything: bool) -> None:
    if _tried(lambda: delete(run.directory.path, RUNS, everything=everything)):
        choices.go_to("run", "all")
        st.session_state.run_deleted = run.name
