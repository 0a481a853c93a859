"""What is to be seen of one run, view by view: curves, classes, layers, recipe and log.

Each view reads the run's folder and draws; in a run that lives they are drawn again every two seconds, in place.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet import launch
from alexnet.bundled import bundle_of
from alexnet.config import TrainConfig, option
from alexnet.data.imagenet import readable
from alexnet.data.sources import is_there
from alexnet.plan import sources
from alexnet.runs import RunError
from alexnet.words import rough_time
from analysis import learning
from analysis.costs import cost_table
from analysis.formats import Column, Table, percent
from analysis.history import which_lines
from analysis.learning_tables import classes_table, layers_table, validations_table
from app import choices, components, exports, running
from app.figures import training
from app.figures.chart import View
from app.state import literal

if TYPE_CHECKING:
    from typing import BinaryIO

    import plotly.graph_objects as go

    from alexnet.spec import Network
    from analysis.curves import Curves
    from analysis.learning import Axis
    from app.running import Run

AXES: dict[str, Axis] = {"Step": "step", "Epoch": "epoch", "Hours": "time"}
SMOOTHING = ("Off", "Light", "Medium", "Strong")
_HALF_LIVES = (0.0, 1 / 400, 1 / 100, 1 / 25)  # of the steps so far
_LOG_BYTES = 200_000
_RECIPE_WIDTHS = {"option": 160, "value": 150, "source": 150, "about": 600}
_DATA = "DATA"
_ERRORS = "errors.txt: what the process said when something went wrong"


def _limit(run: Run) -> float | None:
    """Images a second if every operation ran as fast as this machine's large matrix products."""
    rate, network = run.number("product_rate"), run.network()
    return rate / _operations(network) if rate and network is not None else None


@lru_cache(maxsize=64)
def _operations(network: Network) -> float:
    """Of training with one picture, a multiply-accumulate counted as two; kept, since every redraw asks for it."""
    table = cost_table(network)
    return 2 * (table.total("macs") + table.total("backward_macs"))


def _limit_sentence(run: Run, found: Curves) -> str:
    """What this machine would allow, beside what it gives."""
    limit, waited, speed = _limit(run), learning.waited_share(found) or 0.0, learning.speed(found)
    if speed is None:
        return ""
    alone = speed / max(1 - waited, 1e-9)
    text = f"{speed:,.0f} images/s over the last minute of training. Without waiting for pictures: {alone:,.0f}."
    rate = run.number("product_rate")
    if limit and rate:
        text += (
            f" This machine's matrix products, measured at the start at {rate / 1e9:,.0f} GFLOP/s, allow at most "
            f"{limit:,.0f}: {percent(speed / limit)} of that is reached; the rest goes into memory traffic, pooling, "
            "normalisation and small layers."
        )
    return text


# --- curves ----------------------------------------------------------------------------------------------------------


def _how(run: Run, found: Curves, *, log: bool = True, smooth: bool = True) -> View:
    """The controls above the charts, and what they say; `log` and `smooth` where the charts know these."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = chart_controls(
            "curves", found.step, log=log, smooth=smooth,
            smoothing="Only the line is smoothed (exponential moving average). The band behind it always reaches from "
            "the least to the greatest raw value: no extreme is hidden.",
        )  # fmt: skip
        span = _span(found)
    per_epoch = run.steps_per_epoch
    return dataclasses.replace(view, span=span, steps_per_epoch=float(per_epoch) if per_epoch else None)


def chart_controls(page: str, steps: int, *, log: bool, smoothing: str, smooth: bool = True) -> View:
    """Axis, smoothing and scale of charts over so many steps; `page` tells one page's choices from another's."""
    axis = choices.kept(
        st.segmented_control, "Along", list(AXES), key=f"{page}_axis", default="Step", required=True
    )  # fmt: skip
    half_life = 0.0
    if smooth:
        chosen = choices.kept(
            st.select_slider, "Smoothing", SMOOTHING, key=f"{page}_smoothing", default="Medium", width=220,
            help=smoothing,
        )  # fmt: skip
        half_life = _HALF_LIVES[SMOOTHING.index(chosen)] * max(steps, 1)
    logarithmic = log and choices.kept(
        st.toggle, "Logarithmic loss", key=f"{page}_log", default=True, help="Equal ratios look equal"
    )
    return View(AXES[axis], half_life, bool(logarithmic))


def _span(found: Curves) -> tuple[float, float] | None:
    """The steps to look at closely, all if none are chosen."""
    if found.step < 10 or not choices.kept(
        st.toggle, "Only some steps", key="curves_close", default=False,
        help="Draws the chosen steps anew with every detail; zooming in a chart only enlarges what is drawn.",
    ):  # fmt: skip
        return None
    # The end grows with the run: a slider whose end changed would start anew, so it counts in shares.
    low, high = choices.kept(
        st.slider, "From … to, % of the steps so far", 0, 100, key="curves_span", default=(0, 100), width=260
    )
    return found.step * low / 100, found.step * high / 100


def _say_damage(found: Curves) -> None:
    """That lines of metrics.jsonl are damaged, and which, before what is drawn of the others."""
    if found.damaged:
        st.warning(
            f"{found.damaged:,} line{'s' * (found.damaged != 1)} of metrics.jsonl could not be read and "
            f"{'are' if found.damaged != 1 else 'is'} left out; everything else is shown. {which_lines(found)}",
            icon=":material/warning:",
        )


def curves(run: Run) -> None:
    """Loss and accuracy."""
    found = running.curves(run)
    _say_damage(found)
    if not found.step:
        st.info("No step is recorded yet: curves begin with the first.")
        return
    view, palette = _how(run, found), components.palette()
    classes = len(run.classes) or None
    _chart(run, "loss", training.loss_figure(found, palette, view, classes=classes), "Loss over the training")
    st.caption(
        "Training and validation should fall together. Where validation rises while training falls, the network learns "
        "its training pictures by heart (it overfits)."
    )
    _chart(
        run, "accuracy", training.accuracy_figure(found, palette, view, classes=classes), "Accuracy over the training"
    )
    st.caption(
        "The star is the best validation. The checkpoint best holds the weights of that step; of a branch, those of "
        "its own best. In training, accuracy is measured with dropout and on altered pictures, so validation may stand "
        "above it."
    )
    _unreadable(found)
    _raw(run)


def rate_and_speed(run: Run) -> None:
    """Learning rate and images a second."""
    found = running.curves(run)
    _say_damage(found)
    if not found.step:
        st.info("No step is recorded yet: curves begin with the first.")
        return
    view, palette = _how(run, found, log=False), components.palette()
    _chart(
        run, "speed", training.speed_figure(found, palette, view, limit=_limit_in_sight(run, found)), "Images a second"
    )
    st.caption(
        "Only training steps are timed, not validations and checkpoints. Dips are waits for pictures and for other "
        "programs. " + _limit_sentence(run, found)
    )
    _chart(run, "rate", training.rate_figure(found, palette, view), "Learning rate")
    st.caption("What the gradient is multiplied by to make a step.")
    _pauses(found)


def _chart(run: Run, key: str, figure: go.Figure, alt: str) -> None:
    components.saved_chart(
        figure, target=f"chart_{key}", key=f"curve_{key}_{run.id}", alt=alt, title=alt, name=f"{run.id}-{key}"
    )


def _limit_in_sight(run: Run, found: Curves) -> float | None:
    """The limit, where drawing it does not flatten the curve to a line at the bottom."""
    limit, speed = _limit(run), learning.speed(found, None)
    return limit if limit and speed and limit < 4 * speed else None


def _pauses(found: Curves) -> None:
    if gaps := learning.pauses(found):
        total = 3_600 * sum(gap.hours for gap in gaps)
        st.caption(
            f"It stood still {len(gaps)} time{'s' * (len(gaps) != 1)}, {rough_time(total)} in all: it was stopped and "
            "resumed, or the machine was asleep or busy. The axis of hours leaves this out."
        )


def _unreadable(found: Curves) -> None:
    if found.unreadable is None or not found.unreadable.count:
        return
    with st.expander(f"{found.unreadable.count} pictures could not be read and were skipped"):
        st.markdown("\n".join(f"* {literal(name)}" for name in found.unreadable.pictures[:200]))


def _raw(run: Run) -> None:
    def file() -> BinaryIO:
        return run.directory.metrics_path.open("rb")

    st.download_button(
        "metrics.jsonl", data=file, file_name=f"{run.id}-metrics.jsonl", mime="application/jsonl", key="raw_metrics",
        on_click="ignore", icon=":material/download:", help="Every record as it was written",
    )  # fmt: skip


# --- classes and layers ----------------------------------------------------------------------------------------------


def validations(run: Run) -> None:
    """Accuracy class by class, validation by validation."""
    found = running.curves(run)
    _say_damage(found)
    if not len(found.val.step):
        st.info("Classes are told apart at the first validation.")
        return
    view, names = _how(run, found, log=False, smooth=False), [readable(name) for name in run.classes]
    components.saved_chart(
        training.classes_figure(found, components.palette(), view, names=names),
        target="chart_classes",
        key=f"curve_classes_{run.id}",
        alt="Share of right answers of each class at each validation",
        title="accuracy by class",
        name=f"{run.id}-classes",
        caption="A row that stays dark is a class that the network mistakes for others; the command at the end of this "
        "view says for which.",
    )
    exports.show_table(validations_table(found), "validations", f"{run.id}-validations", most=12)
    exports.show_table(classes_table(found, names), "by_class", f"{run.id}-classes", most=20)
    checkpoint, data = judged(run)
    named = f"; DATA is where its pictures lie here, {run.config.data}" if data == _DATA and run.config else ""
    st.caption(literal(f"Which classes are taken for which, and the mistakes that the network is surest of{named}:"))
    st.code(
        f"python -m alexnet evaluate {_quoted(checkpoint)} {_quoted(data)}", language="bash", wrap_lines=True
    )  # fmt: skip


def judged(run: Run) -> tuple[str, str]:
    """What `evaluate` is to be given for this run: its checkpoint, and its data where that can be found from here.

    A bundle names its data without where it lay.
    """
    bundle, data = bundle_of(run.directory), run.config.data if run.config else _DATA
    path = run.directory.path if bundle is None else bundle.weights
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return str(path), _DATA if Path(data).name == data and not is_there(data) else data


MEASURES: dict[str, training.Measure] = {"Gradients": "gradients", "Weights": "weights", "Relative update": "updates"}
_SEE = {
    "Gradients": "Gradients that vanish layer by layer towards the input stop the first layers from learning; where "
    "they grow without end, the loss soon is no number (NaN).",
    "Weights": "Weight decay pulls the norms down, learning pushes them up; they level out.",
    "Relative update": "How far one step moves a layer, as a share of the layer's size and without momentum: about "
    "1/1000 is usual.",
}
PARTS: dict[str, training.Part] = {"Weights": "weight", "Biases": "bias"}


def layers(run: Run) -> None:
    """Norms of gradients and weights, layer by layer."""
    found = running.curves(run)
    _say_damage(found)
    if not found.weights:
        every = run.config.layers_every if run.config else 0
        st.info(
            f"Layers are measured every {every:,} steps: the first time is still to come."
            if every
            else "This run does not measure its layers: --layers-every is 0."
        )
        return
    view = _how(run, found, log=False, smooth=False)
    with st.container(horizontal=True):
        measure = choices.kept(
            st.segmented_control, "Measure", list(MEASURES), key="layers_measure", default="Gradients", required=True
        )
        part = choices.kept(
            st.segmented_control, "Of", list(PARTS), key="layers_part", default="Weights", required=True
        )
    components.saved_chart(
        training.layers_figure(found, components.palette(), view, measure=MEASURES[measure], part=PARTS[part]),
        target="chart_layers",
        key=f"curve_layers_{measure}_{part}_{run.id}",
        alt=f"{measure} of each layer over the training",
        title=f"{measure.lower()} by layer",
        name=f"{run.id}-layers",
        caption=_SEE[measure],
    )
    exports.show_table(layers_table(found), "by_layer", f"{run.id}-layers", most=20, digits=4)
    st.caption(
        "‖w‖ and ‖g‖ are the lengths (Euclidean norms) of a layer's weights and of their gradient, ε is the learning "
        "rate; ε·‖g‖ / ‖w‖ is the relative update."
    )


# --- recipe and log --------------------------------------------------------------------------------------------------


def recipe(run: Run) -> None:
    """The recipe with each value's source, the machine, and what the process said."""
    if run.config is not None:
        exports.show_table(_recipe_table(run.config), "recipe", f"{run.id}-recipe", widths=_RECIPE_WIDTHS)
        st.caption("The command that trains a network from new weights with the same values:")
        st.code(
            "python -m alexnet train " + " ".join(map(_quoted, launch.command(launch.Request(run.config.as_json())))),
            language="bash", wrap_lines=True,
        )  # fmt: skip
    if branch := run.record.get("branch"):
        st.markdown(_branch_sentence(branch))
    if isinstance(machine := run.record.get("machine"), dict):
        st.header("Machine", divider="gray")
        st.markdown("\n".join(f"* **{literal(str(what))}**: {literal(str(which))}" for what, which in machine.items()))
    st.header("Log", divider="gray")
    for path, words in ((run.directory.log_path, "log.txt"), (run.directory.errors_path, _ERRORS)):
        if text := _tail(path):
            st.caption(words)
            st.code(text, language=None, height=280 if path == run.directory.log_path else 120)
    st.download_button(
        "config.json", data=json.dumps(run.record, indent=2, ensure_ascii=False), file_name=f"{run.id}-config.json",
        mime="application/json", key="raw_config", on_click="ignore", icon=":material/download:",
        help="It alone repeats the run",
    )  # fmt: skip


def _recipe_table(config: TrainConfig) -> Table:
    fields, come_from = dataclasses.fields(TrainConfig), sources(config)
    columns = (Column("option", "Option"), Column("value", "Value"), Column("source", "From"), Column("about", "What"))
    rows = tuple(
        (
            option(field.name),
            running.cell(getattr(config, field.name)),
            come_from.get(field.name, ""),
            field.metadata["about"],
        )
        for field in fields
    )
    return Table("Recipe", columns, rows)


def _quoted(word: str) -> str:
    return word if all(letter.isalnum() or letter in "-_./@:,=+" for letter in word) else json.dumps(word)


def _branch_sentence(branch: Any) -> str:
    if not isinstance(branch, dict):
        return ""
    changed = branch.get("changed")
    words = (
        ", ".join(f"{option(name)} {pair[1]} instead of {pair[0]}" for name, pair in changed.items() if len(pair) == 2)
        if isinstance(changed, dict)
        else ""
    )
    kept = "with momentum and step" if branch.get("mode") == "continue" else "with its weights alone, from step 0"
    return literal(
        f"It goes on from the checkpoint “{branch.get('checkpoint')}” of {_called(branch.get('run'))} at step "
        f"{branch.get('step')}, {kept}; changed: {words or 'nothing'}."
    )


def _called(folder: object) -> str:
    """What people call the run in this folder; the folder's name where it is gone."""
    if not isinstance(folder, str):
        return "no run here"
    try:
        return running.look(folder).name if folder in running.names() else folder
    except RunError:
        return folder


def _tail(path: Any) -> str:
    """The end of a text file; all of it where that is short."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_BYTES))
            return str(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""
