"""Runs side by side: what came out, along which curves, what was set differently, and the kernels of each."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import streamlit as st

from alexnet import launch
from alexnet.errors import UserError
from alexnet.runs import RunDirectory, RunError, explained
from analysis import film, run_comparison
from analysis.formats import Column, Table, percent
from analysis.history import which_lines
from analysis.kernels import kernel_measures, tower_measures
from app import choices, components, exports, run_film, running
from app.figures.training_compare import COMPARED, compare_figure
from app.run_views import chart_controls
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from alexnet.spec import Network
    from analysis.curves import Curves
    from analysis.formats import Value
    from analysis.kernels import TowerMeasures
    from analysis.sheets import Tiles
    from app.figures.chart import View
    from app.figures.training_compare import Compared
    from app.running import Run

MOST = 8
"""Runs side by side; more could not be told apart."""
_CHOSEN = "compared_runs"
_LOSSES = ("val_loss", "train_loss")
_SEE: dict[Compared, str] = {
    "val_top1": "Higher is better. The star is the best validation of each; whether a difference is more than chance "
    "is said above for the first two.",
    "val_topk": "Higher is better: how often the right class is among the first few. The star is the best top-1.",
    "val_loss": "Lower is better. A loss that rises while top-1 still grows comes of a network that is ever surer, "
    "also of its mistakes.",
    "train_top1": "On altered pictures and with dropout, so that it may stay below validation. The faint band has "
    "every record.",
    "train_loss": "Lower is better, between runs with the same classes and the same label smoothing: that adds to it. "
    "The faint band has every record.",
    "learning_rate": "What the gradient is multiplied by to make a step.",
    "images_per_second": "Of the training alone. Runs that shared the machine with others were slower for that.",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the runs compared, under the name it has on this page; `curves` is None where they cannot be read."""

    run: Run
    label: str
    curves: Curves | None
    result: run_comparison.Run


# --- which runs ------------------------------------------------------------------------------------------------------


def chosen() -> list[str]:
    """The folders of the runs to compare: asked for by a run's page, by this page's widget or by its address."""
    names = running.names()
    labels = running.labels(names)
    wanted = [name for name in _wanted(names) if name in labels]
    if len(wanted) > MOST:
        st.warning(f"At most {MOST} runs stand side by side: the first {MOST} are shown.")
    st.session_state[_CHOSEN] = wanted[:MOST]
    picked: list[str] = st.multiselect(
        "Runs", names, key=_CHOSEN, format_func=lambda name: labels.get(name, name), max_selections=MOST,
        placeholder="Choose runs", help="The first two are weighed against each other.",
    )  # fmt: skip
    st.session_state[f"kept_{_CHOSEN}"] = picked
    if picked:
        st.query_params["runs"] = ",".join(quote(name, safe=" ") for name in picked)
    else:
        st.query_params.pop("runs", None)
    return picked


def _wanted(names: Sequence[str]) -> list[str]:
    """What is asked for, said where there is no such run here."""
    asked = st.session_state.pop("compare_with", None)
    if asked in names:
        return _company(asked, names)
    if asked is not None:
        st.warning(literal(f"There is no run {asked} here any more."))
    for key in (_CHOSEN, f"kept_{_CHOSEN}"):
        if key in st.session_state:
            before: list[str] = st.session_state[key]
            if gone := [name for name in before if name not in names]:
                st.warning(literal(f"Deleted meanwhile: {', '.join(gone)}."))
            return before
    said = [unquote(part) for part in st.query_params.get("runs", "").split(",")]
    found = list(dict.fromkeys(filter(None, said)))
    if unknown := [name[:60] for name in found if name not in names]:
        more = f" and {len(unknown) - MOST} more" if len(unknown) > MOST else ""
        st.warning(literal(f"There is no run {', '.join(unknown[:MOST])}{more} here."))
    return found or (_company(names[0], names) if names else [])


def _company(name: str, names: Sequence[str]) -> list[str]:
    """A run and what to weigh it against: the one it is a branch of, or else the newest other."""
    parent = None
    with contextlib.suppress(RunError):  # deleted in this very moment
        parent = _branch(running.look(name)).get("run")
    others = [other for other in names if other != name]
    return [name, parent] if parent in others else [name, *others[:1]]


# --- all of it -------------------------------------------------------------------------------------------------------


def compare(names: Sequence[str]) -> None:
    """Everything about these runs, looked at again and again while one of them lives."""
    pace = _pace(_looked_at(names))
    st.fragment(_compared, run_every=pace)(tuple(names), pace)


def _pace(runs: Sequence[Run]) -> float | None:
    """Seconds between two looks: as often as the slowest allows; None where none of the runs lives."""
    return max((pace for run in runs if (pace := running.pace(run)) is not None), default=None)


def _looked_at(names: Sequence[str]) -> list[Run]:
    found = []
    for name in names:
        try:
            found.append(running.look(name))
        except RunError:
            st.warning(literal(f"{name} was deleted meanwhile."))
    return found


def _compared(names: tuple[str, ...], pace: float | None) -> None:
    sides = _sides(_looked_at(names))
    if pace != _pace([side.run for side in sides]):
        st.rerun()  # once more, looking again at another pace or not at all
    if not sides:
        return
    family = _family(sides)
    _say_verdict(sides, family)
    _curves(sides, family)
    st.header("Results", divider="gray")
    results = [side.result for side in sides]
    exports.show_table(run_comparison.results_table(results), "compared_results", "compare-results")
    st.caption(
        "Time is that of steps and validations: pauses do not count, and what a branch took over from its parent does. "
        "Images/s is the median over all records."
    )
    _differences([result for result in results if result.record.get("config")])
    _descent(sides, family)
    _kernels(sides)


def _sides(runs: Sequence[Run]) -> list[Side]:
    found = []
    for run, label in zip(runs, _labels(runs), strict=True):
        curves, status = None, run.status
        asked = {"config": run.config.as_json()} if run.config is not None else {}
        record = run.record or asked  # what waits has only been asked for
        result = run_comparison.run_of(label, record, [], status, run.condition)
        try:
            curves = running.curves(run)
            result = run_comparison.run_of_curves(label, record, curves, _pictures(run), status, run.condition)
        except OSError as error:
            st.error(literal(f"{label}: its metrics cannot be read: {explained(error)}"), icon=":material/error:")
        if run.trouble:
            st.error(literal(f"{label}: its config cannot be used: {run.trouble}"), icon=":material/error:")
        if curves is not None and curves.damaged:
            st.caption(
                literal(
                    f"{label}: {curves.damaged:,} line{'s' * (curves.damaged != 1)} of metrics.jsonl could not be read "
                    f"and {'are' if curves.damaged != 1 else 'is'} left out. {which_lines(curves)}"
                )
            )
        found.append(Side(run, label, curves, result))
    return found


def _labels(runs: Sequence[Run]) -> list[str]:
    """What people call each; with its folder where two are called the same."""
    names = [run.name for run in runs]
    return [f"{run.name} ({run.id})" if names.count(run.name) > 1 else run.name for run in runs]


def _family(sides: Sequence[Side]) -> dict[str, Run]:
    """The runs compared and those that they come from, as far as these are here, by their folders."""
    found = {side.run.id: side.run for side in sides}
    for side in sides:
        run = side.run
        while (parent := _run(_branch(run).get("run"))) is not None and parent.id not in found:
            found[parent.id] = run = parent
    return found


def _shared(first: Side, second: Side, family: Mapping[str, Run]) -> run_comparison.Shared:
    """The past that two runs have in common, as a branch and its parent have."""
    records = {name: run.record for name, run in family.items()}
    reach = run_comparison.may_share(first.run.id, second.run.id, records)
    if not reach or first.curves is None or second.curves is None:
        return run_comparison.Shared()
    return run_comparison.shared(first.curves, second.curves, reach)


def _pictures(run: Run) -> dict[int, int]:
    path = run.directory.metrics_path
    try:
        about = path.stat()
    except FileNotFoundError:
        return {}
    return _validation_pictures(str(path.resolve()), about.st_size, about.st_mtime_ns)


@st.cache_data(max_entries=64, show_spinner=False)
def _validation_pictures(path: str, size: int, changed: int) -> dict[int, int]:  # noqa: ARG001 - they name the content
    return run_comparison.validation_pictures(Path(path))


# --- verdict and curves ----------------------------------------------------------------------------------------------


def _say_verdict(sides: Sequence[Side], family: Mapping[str, Run]) -> None:
    if len(sides) < 2:
        st.info("One run is chosen: choose another to weigh it against.", icon=":material/info:")
        return
    first, second = sides[:2]
    so_far = "So far: " if first.run.alive or second.run.alive else ""
    with st.container(horizontal=True, vertical_alignment="center", key="verdict"):
        st.markdown(
            literal(so_far + run_comparison.verdict(first.result, second.result, _shared(first, second, family)).text),
            help=literal(run_comparison.method()),
        )


def _curves(sides: Sequence[Side], family: Mapping[str, Run]) -> None:
    recorded = {side.label: side.curves for side in sides if side.curves is not None and side.curves.step}
    if not recorded:
        st.info("No step is recorded yet: curves begin with the first.")
        return
    measure: Compared = choices.kept(
        st.segmented_control, "Measure", COMPARED, key="compare_measure", default="val_top1", required=True,
        format_func=_words(list(recorded.values())).__getitem__,
    )  # fmt: skip
    parted = _parted([side for side in sides if side.label in recorded], family)
    figure = compare_figure(
        recorded,
        measure,
        components.palette(),
        _how(list(recorded.values()), log=measure in _LOSSES),
        steps_per_epoch={side.label: float(side.run.steps_per_epoch) for side in sides if side.run.steps_per_epoch},
        parted={label: step for label, (_, step) in parted.items()},
    )
    words = _words(list(recorded.values()))[measure]
    # A chart of its own for each measure: the zoom of one would leave nothing to be seen of another.
    components.saved_chart(
        figure,
        target="chart_compare",
        key=f"compare_{measure}",
        alt=f"{words} of {', '.join(recorded)} over the training",
        title=f"{words.lower()} side by side",
        name=f"compare-{measure}",
    )
    st.caption(_SEE[measure])
    for label, (other, step) in parted.items():
        st.caption(literal(f"{label} is drawn from step {step:,} on, where it parts from {other}."))


def _parted(sides: Sequence[Side], family: Mapping[str, Run]) -> dict[str, tuple[str, int]]:
    """The runs that have a past in common with one before them: with which, and up to which step."""
    found = {}
    sides = sorted(sides, key=lambda side: len(_family([side])))  # parents first: they are drawn whole
    for number, side in enumerate(sides):
        others = [(_shared(other, side, family).step, other.label) for other in sides[:number]]
        step, other = max(others, key=lambda one: one[0], default=(0, ""))
        if step:
            found[side.label] = other, step
    return found


def _words(curves: Sequence[Curves]) -> dict[Compared, str]:
    counts = {one.val.k for one in curves}
    k = counts.pop() if len(counts) == 1 else "k"
    return {
        "val_top1": "Top-1",
        "val_topk": f"Top-{k}",
        "val_loss": "Loss",
        "train_top1": "Training top-1",
        "train_loss": "Training loss",
        "learning_rate": "Learning rate",
        "images_per_second": "Images/s",
    }


def _how(curves: Sequence[Curves], *, log: bool) -> View:
    """The controls of the chart, as on a run's own page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        return chart_controls(
            "compare", max(one.step for one in curves), log=log,
            smoothing="Of what is measured in training, not of validations. Only the line is smoothed: the faint band "
            "behind it reaches from the least to the greatest raw value.",
        )  # fmt: skip


# --- what differs ----------------------------------------------------------------------------------------------------


def _differences(results: Sequence[run_comparison.Run]) -> None:
    st.header("Recipe", divider="gray")
    everything = bool(
        choices.kept(
            st.toggle, "Everything, also what is the same", key="compare_everything", default=False,
            help="Of the recipe and of its surroundings",
        )
    )  # fmt: skip
    if not results:
        st.caption("None of their configs can be read.")
        return
    alone = "One run alone differs from nothing: switch on everything." if len(results) < 2 else ""
    recipe = run_comparison.config_table(results, everything=everything)
    if recipe.rows:
        exports.show_table(recipe, "compared_recipe", "compare-recipe", widths={"about": 420}, most=20)
    else:
        st.caption(alone or "Every value of the recipe is the same.")
    st.header("Surroundings", divider="gray")
    around = run_comparison.surroundings_table(results, everything=everything)
    if around.rows:
        exports.show_table(around, "compared_surroundings", "compare-surroundings", most=20)
    else:
        st.caption(alone or "Data, machine and versions are the same.")


def _descent(sides: Sequence[Side], family: Mapping[str, Run]) -> None:
    """Where each run comes from, under the names that people see."""
    st.header("Where they come from", divider="gray")
    labels = _names(sides, family)
    records: dict[str, dict[str, Any]] = {}
    for folder, run in family.items():
        branch = _branch(run)
        parent = branch.get("run")
        named = {"run": labels.get(parent, parent)} if isinstance(parent, str) else {}
        records[labels[folder]] = run.record and run.record | {"branch": branch | named}
    lines = dict.fromkeys(
        line
        for side in sides
        for line in (run_comparison.descent(side.label, records) if side.run.begun else [_not_begun(side, labels)])
    )
    st.markdown("\n".join(f"* {literal(line)}" for line in lines))


def _names(sides: Sequence[Side], family: Mapping[str, Run]) -> dict[str, str]:
    """What each of the family is called, by its folder; no two alike."""
    names = {side.run.id: side.label for side in sides}
    for folder, run in family.items():
        if folder not in names:
            names[folder] = run.name if run.name not in names.values() else f"{run.name} ({folder})"
    return names


def _branch(run: Run) -> dict[str, Any]:
    """Where its config says that it comes from; empty where it began by itself."""
    branch = run.record.get("branch")
    return branch if isinstance(branch, dict) else {}


def _not_begun(side: Side, names: Mapping[str, str]) -> str:
    if side.run.trouble:
        return f"Nothing is known of where {side.label} comes from: its config cannot be read."
    asked = launch.request(side.run.directory)
    if asked is None or not asked.origin:
        return f"{side.label} has not begun yet; it is to begin from new weights."
    path = Path(asked.origin)
    parent = _run(path.parent.parent.name) if path.parent.name == "checkpoints" else None
    origin = asked.origin if parent is None else f"the checkpoint “{path.stem}” of {names.get(parent.id, parent.name)}"
    return f"{side.label} has not begun yet; it is to go on from {origin}."


def _run(name: object) -> Run | None:
    if not isinstance(name, str) or name not in running.names():
        return None
    try:
        return running.look(name)
    except RunError:
        return None


# --- kernels ---------------------------------------------------------------------------------------------------------

_MEASURED = (
    Column("run", "run"), Column("step", "step"), Column("tower", "tower"), Column("kernels", "kernels"),
    Column("compact", "compact"), Column("compactness", "compactness"), Column("smoothness", "smoothness"),
    Column("colourfulness", "colourfulness"), Column("norm", "norm"),
)  # fmt: skip


def _kernels(sides: Sequence[Side]) -> None:
    st.header("Kernels", divider="gray")
    share = int(
        choices.kept(
            st.slider, "Moment, as a share of the steps that each run has taken", 0, 100, key="compare_share",
            default=100, format="%d %%", width=420,
        )
    )  # fmt: skip
    st.caption(
        "The first layer's kernels, each in its own scale: noise turns into edges, gratings and blobs of colour. "
        "Compact: kernels with more than 80 % of their spectral energy in one pair of peaks. Smoothness: squared "
        "differences between neighbouring weights over their energy, less is smoother: 3.63 for noise on 11×11, 0.66 "
        "in BVLC's AlexNet."
    )
    rows: list[tuple[Value, ...]] = []
    for number, (place, columns, width) in enumerate(_places(len(sides))):
        with place:
            rows += _side_of_kernels(sides[number], number, share, columns=columns, width=width)
    if rows:
        exports.show_table(
            Table("Kernels side by side", _MEASURED, tuple(rows)), "compared_kernels", "compare-kernels", most=16
        )


def _places(count: int) -> list[tuple[Any, int, int]]:
    """Where each run's kernels stand, how many in a row, and how wide their drawing is in its own units."""
    match count:
        case 1:
            return [(st.container(), 16, 1160)]
        case 2:
            return [(column, 12, 520) for column in st.columns(2, gap="medium")]
    flow = st.container(horizontal=True, gap="small")  # as many in a row as there is room for
    return [(flow.container(width=250), 8, 290) for _ in range(count)]


def _side_of_kernels(side: Side, number: int, share: int, *, columns: int, width: int) -> list[tuple[Value, ...]]:
    """One run's kernels; their numbers, a row for each tower."""
    head = st.empty()
    head.markdown(f"**{literal(side.label)}**")
    if (found := run_film.begun(side.run)) is None:
        return []
    network, moments = found
    step = min(moments, key=lambda one: abs(one - share / 100 * moments[-1]))
    path = side.run.directory.probe_path(step)
    try:
        screen = film.screen(network, columns)
        tiles, towers = _moment(str(side.run.directory.path.resolve()), step, _changed(side.run, step), network)
    except UserError as error:
        st.info(literal(str(error).replace(str(path.resolve()), path.name)), icon=":material/info:")
        return []
    per_epoch = side.run.steps_per_epoch
    epoch = f", epoch {step / per_epoch:.1f}" if per_epoch else ""
    head.markdown(f"**{literal(side.label)}** at step {step:,}{epoch}")
    names = [screen.names[tower.tower] for tower in towers]
    labels = [f"{names[kernel * len(names) // len(tiles)]}, kernel {kernel}" for kernel in range(len(tiles))]
    with st.container(key=f"kernels_{number}"):
        components.clickable_sheet(
            tiles, screen.sheet, labels, title=f"Kernels of {screen.layer} of {side.label} at step {step:,}",
            key=f"compare_kernels_{number}", least=180, width=width,
        )  # fmt: skip
    st.markdown("\n".join(f"* {name}: {_in_words(tower)}" for name, tower in zip(names, towers, strict=True)))
    components.save_figure(
        f"kernels_{number}", f"{screen.layer} of {side.label}", f"{side.run.id}-{screen.layer}-{step}"
    )
    return [
        (
            side.label, step, name, tower.kernels, tower.compact, tower.compactness, tower.smoothness,
            tower.colourfulness, tower.norm,
        )
        for name, tower in zip(names, towers, strict=True)
    ]  # fmt: skip


def _in_words(tower: TowerMeasures) -> str:
    share = percent(tower.compact / tower.kernels, 0)
    smooth = "unknown" if tower.smoothness is None else f"{tower.smoothness:.2f}"
    return f"**{tower.compact}** of {tower.kernels} compact ({share}), smoothness **{smooth}**"


def _changed(run: Run, step: int) -> int:
    """Another number when the moment is written anew."""
    try:
        return run.directory.probe_path(step).stat().st_mtime_ns
    except OSError:
        return 0


@st.cache_data(max_entries=128, show_spinner=False, hash_funcs=run_film.KEYS)
def _moment(run: str, step: int, changed: int, network: Network) -> tuple[Tiles, tuple[TowerMeasures, ...]]:  # noqa: ARG001
    """A moment's kernels as pictures, and each tower's in numbers."""
    screen = film.screen(network)
    kernels = film.read_kernels(RunDirectory(run).probe_path(step))
    return film.tiles(kernels, screen), tower_measures(kernel_measures(kernels, screen.towers))
