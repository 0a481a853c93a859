from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from analysis.history import History
from app.figures import training, training_compare
from app.figures.chart import View
from app.theme import DARK, LIGHT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import plotly.graph_objects as go

    from analysis.curves import Curves

    Figure = Callable[..., go.Figure]

SPE, STEPS = 50, 3000
BEST = 1750
"""The step of the highest top-1; the lowest validation loss is elsewhere."""
SPIKE = 1234


def records(steps: int = STEPS, best: int = BEST) -> list[dict[str, Any]]:
    """A run of 60 epochs of 50 steps, with one step whose loss is far off, and a night in the middle."""
    random = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        epoch, now = (step - 1) // SPE, 1000.0 + step + 8 * 3600 * (step > 2000)
        found.append(
            {
                "kind": "train", "step": step, "epoch": epoch, "time": now, "pictures": 64,
                "loss": 99.0 if step == SPIKE else 2.3 * 0.999**step + float(random.uniform(0, 0.2)),
                "top1": 0.1 + 0.0002 * step, "learning_rate": 0.02 if step <= 1500 else 0.001,
                "images_per_second": 300.0 + step % 7, "waited_share": 0.5 if step == STEPS else 0.0625,
            }
        )  # fmt: skip
        if step % SPE == 0:
            top1 = 0.9 if step == best else 0.2 + 0.0001 * step
            found.append(
                {
                    "kind": "val", "step": step, "epoch": epoch, "time": now, "seconds": 0.5, "pictures": 100,
                    "loss": 2.0 - 0.0003 * step, "top1": top1, "top5": 0.95, "per_class": [top1, None, 0.125],
                }
            )  # fmt: skip
            norms = {"conv1.weight": 4.0, "conv1.bias": 0.5, "fc8.weight": 8.0}
            found.append(
                {
                    "kind": "layers", "step": step,
                    "weights": {name: {"mean": 0.0, "std": 1.0, "norm": norm} for name, norm in norms.items()},
                    "gradients": {name: {"mean": 0.0, "std": 1.0, "norm": norm / 2} for name, norm in norms.items()},
                }
            )  # fmt: skip
    return found


def read(folder: Path, found: list[dict[str, Any]]) -> Curves:
    path = folder / "metrics.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in found))
    return History(path).update()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    return read(tmp_path_factory.mktemp("run"), records())


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    return read(tmp_path_factory.mktemp("other"), records(500, 300))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    return read(tmp_path_factory.mktemp("empty"), [])


def trace(figure: go.Figure, start: str) -> Any:
    (found,) = [one for one in figure.data if (one.name or "").startswith(start)]
    return found


def words(figure: go.Figure) -> list[str]:
    return [one.text for one in figure.layout.annotations]


def lines_at(figure: go.Figure) -> list[float]:
    return [one.x0 for one in figure.layout.shapes if one.x0 == one.x1]


OF_ONE_RUN: tuple[Figure, ...] = (
    training.loss_figure,
    training.accuracy_figure,
    training.rate_figure,
    training.speed_figure,
    training.classes_figure,
    training.layers_figure,
)


# --- the best ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "place"), [("step", BEST), ("epoch", BEST / SPE)])
@pytest.mark.parametrize("log", [False, True])
def test_the_star_is_the_best_validations(run: Curves, axis: Any, place: float, log: bool) -> None:
    view = View(axis, 20, log)
    for figure, y in (
        (training.loss_figure(run, LIGHT, view), 2.0 - 0.0003 * BEST),
        (training.accuracy_figure(run, LIGHT, view), 90.0),
    ):
        star = trace(figure, "best")
        assert (list(star.x), list(star.y)) == ([pytest.approx(place)], [pytest.approx(y)])
        assert star.marker.symbol == "star"
        assert star.name == "best: 90.0 % top-1, epoch 35"
        assert lines_at(figure) == [pytest.approx(place)]


def test_the_best_is_named_where_its_place_is_out_of_view(run: Curves) -> None:
    figure = training.loss_figure(run, LIGHT, View(span=(1, 1000)))
    star = trace(figure, "best")
    assert star.name.startswith("best: 90.0 %")
    assert list(star.x) == [None]
    assert lines_at(figure) == []


def test_a_best_without_a_loss_still_has_its_line(tmp_path: Path) -> None:
    found = [one | {"loss": None} if one["kind"] == "val" else one for one in records(100, 50)]
    figure = training.loss_figure(read(tmp_path, found), LIGHT)
    assert list(trace(figure, "best").x) == [None]
    assert lines_at(figure) == [50]


# --- extremes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life", [0, 1, 500])
@pytest.mark.parametrize("axis", ["step", "epoch", "time"])
def test_the_band_holds_every_extreme_however_smooth_the_line(run: Curves, axis: Any, half_life: float) -> None:
    figure = training.loss_figure(run, LIGHT, View(axis, half_life))
    low, high = trace(figure, "train, low"), trace(figure, "train, range")
    assert max(high.y) == 99.0
    assert min(low.y) == run.train.loss.min()
    assert high.fill == "tonexty"
    assert figure.data.index(low) + 1 == figure.data.index(high)
    line = figure.data[figure.data.index(high) + 1]
    assert (max(line.y) == 99.0) == (half_life == 0)
    assert line.name == ("train" if half_life == 0 else "train, smoothed")


def test_a_span_shows_its_steps_and_smooths_as_the_whole_does(run: Curves) -> None:
    whole = training.accuracy_figure(run, LIGHT, View(half_life=100))
    part = training.accuracy_figure(run, LIGHT, View(half_life=100, span=(2000, 2100)))
    everything = dict(
        zip(trace(whole, "train top-1, smoothed").x, trace(whole, "train top-1, smoothed").y, strict=True)
    )
    line = trace(part, "train top-1, smoothed")
    assert (min(line.x), max(line.x)) == (2000, 2100)
    common = [(y, everything[x]) for x, y in zip(line.x, line.y, strict=True) if x in everything]
    assert common
    assert all(here == there for here, there in common)
    assert list(trace(part, "validation top-1").x) == [2000, 2050, 2100]


def test_what_is_not_finite_is_said(tmp_path: Path) -> None:
    found = [one | {"loss": None} if one["step"] in {5, 6} else one for one in records(40, 0)]
    figure = training.loss_figure(read(tmp_path, found), LIGHT)
    assert words(figure) == ["2 records have no finite value here"]


# --- each chart -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [False, True])
def test_chance_is_a_line_at_its_loss(run: Curves, log: bool) -> None:
    figure = training.loss_figure(run, LIGHT, View(log=log))
    (level,) = [one for one in figure.layout.shapes if one.y0 == one.y1]
    assert level.y0 == pytest.approx(math.log(3))
    (label,) = figure.layout.annotations
    assert label.text == "chance, ln(3) = 1.099"
    # Plotly places words on a logarithmic axis by the logarithm, lines by the value.
    assert label.y == pytest.approx(math.log10(math.log(3)) if log else math.log(3))
    assert figure.layout.yaxis.type == ("log" if log else "linear")
    assert words(training.loss_figure(run, LIGHT, classes=10)) == ["chance, ln(10) = 2.303"]


def test_chance_does_not_press_a_late_span_flat(run: Curves) -> None:
    """ln(10) = 2.303; the curves are below 1.5 in the end and above 2.3 at the beginning."""
    assert words(training.loss_figure(run, LIGHT, View(span=(2500, 3000)), classes=10)) == []
    assert words(training.loss_figure(run, LIGHT, View(span=(1, 100)), classes=10)) == ["chance, ln(10) = 2.303"]


def test_accuracies_are_percent(run: Curves) -> None:
    figure = training.accuracy_figure(run, DARK, View(log=True))
    np.testing.assert_allclose(trace(figure, "validation top-1").y, 100 * run.val.top1)
    np.testing.assert_allclose(trace(figure, "validation top-5").y, 95)
    assert max(trace(figure, "train top-1, range").y) == pytest.approx(70)
    assert figure.layout.yaxis.type == "linear"
    assert words(figure) == ["chance, 1/3 = 33.3 %"]


def test_the_learning_rate_is_logarithmic_where_it_falls_far(run: Curves, other: Curves) -> None:
    figure = training.rate_figure(run, LIGHT, View(half_life=500))
    assert figure.layout.yaxis.type == "log"
    line = figure.data[-1]
    assert dict(zip(line.x, line.y, strict=True)).items() >= {1500: 0.02, 1501: 0.001}.items()
    assert training.rate_figure(other, LIGHT).layout.yaxis.type == "linear"


def test_a_cosine_is_linear_although_it_ends_near_zero() -> None:
    steps = np.arange(1, 1001)
    cosine = 0.01 * (1 + np.cos(np.pi * steps / 1001))
    figure = training.schedule_figure(steps, cosine, LIGHT, steps_per_epoch=10)
    assert figure.layout.yaxis.type == "linear"


def test_speed_has_its_limit_and_says_what_waited(run: Curves) -> None:
    figure = training.speed_figure(run, LIGHT, View(half_life=10), limit=352.0)
    (level,) = figure.layout.shapes
    assert (level.y0, level.name, level.showlegend) == (352.0, "measured limit: 352 images/s", True)
    texts = trace(figure, "images/s, range").text
    assert all(text.endswith("% waiting for pictures") for text in texts)
    assert "6.2 % waiting" in texts[0]
    assert max(trace(figure, "images/s, range").y) == 306
    assert not training.speed_figure(run, LIGHT).layout.shapes


def test_classes_are_rows_and_validations_columns(run: Curves) -> None:
    figure = training.classes_figure(run, LIGHT, View("epoch"), names=["cat", "dog", "owl"])
    (heat,) = figure.data
    assert list(heat.y) == ["cat", "dog", "owl"]
    assert figure.layout.yaxis.type == "category"
    np.testing.assert_allclose(heat.x, np.arange(1, 61))
    np.testing.assert_allclose(heat.z[0], 100 * run.val.top1)
    assert np.isnan(heat.z[1]).all()
    assert heat.text[2][34] == "step 1,750"
    assert lines_at(figure) == [35]
    assert words(figure) == ["★ best, epoch 35"]


def test_of_very_many_validations_the_best_is_kept(tmp_path: Path) -> None:
    found = [
        {"kind": "val", "step": step, "epoch": step, "top1": 0.9 if step == 777 else 0.5, "per_class": [0.5, 0.5]}
        for step in range(1, 2001)
    ]
    (heat,) = training.classes_figure(read(tmp_path, found), LIGHT).data
    assert len(heat.x) <= 401
    assert {1, 777, 2000} <= set(heat.x)


@pytest.mark.parametrize(("measure", "value"), [("weights", 4.0), ("gradients", 2.0), ("updates", 0.02 * 2 / 4)])
def test_layers_have_a_colour_each_in_every_measure(run: Curves, measure: Any, value: float) -> None:
    figure = training.layers_figure(run, LIGHT, View("epoch"), measure=measure)
    assert [(one.name, one.line.color) for one in figure.data] == [
        ("conv1", LIGHT.series[0]), ("fc8", LIGHT.series[1]),
    ]  # fmt: skip
    assert (figure.data[0].x[0], figure.data[0].y[0]) == (1, pytest.approx(value))
    assert figure.layout.yaxis.type == "log"
    (bias,) = training.layers_figure(run, LIGHT, measure=measure, part="bias").data
    assert bias.name == "conv1"


def test_pauses_are_marked_on_an_axis_of_hours(run: Curves) -> None:
    figure = training.accuracy_figure(run, LIGHT, View("time"))
    pause, best = sorted(figure.layout.shapes, key=lambda one: one.line.dash == "dot")[:2]
    assert pause.line.color == LIGHT.grid
    # Step 2,000 was 1,999 s after the first; the night between it and the next record is one more.
    assert pause.x0 == pytest.approx(2000 / 3600, rel=1e-2)
    assert best.x0 == pytest.approx((BEST - 1) / 3600, rel=1e-2)
    assert max(trace(figure, "train top-1, range").x) == pytest.approx((STEPS - 1) / 3600, rel=1e-2)


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OF_ONE_RUN)
@pytest.mark.parametrize("axis", ["step", "epoch", "time"])
def test_an_empty_run_is_a_figure_that_says_so(empty: Curves, make: Figure, axis: Any) -> None:
    figure = make(empty, LIGHT, View(axis, 10, True))
    assert words(figure) == ["nothing recorded here yet"]
    assert json.loads(figure.to_json())


@pytest.mark.parametrize("make", OF_ONE_RUN)
def test_a_redraw_keeps_the_zoom_and_another_scale_does_not(run: Curves, other: Curves, make: Figure) -> None:
    first, later, epochs = make(other, LIGHT), make(run, LIGHT), make(run, LIGHT, View("epoch"))
    assert first.layout.uirevision == later.layout.uirevision is not None
    assert first.layout.xaxis.uirevision == later.layout.xaxis.uirevision != epochs.layout.xaxis.uirevision
    flat, steep = training.loss_figure(run, LIGHT), training.loss_figure(run, LIGHT, View(log=True))
    assert flat.layout.yaxis.uirevision != steep.layout.yaxis.uirevision


@pytest.mark.parametrize("make", OF_ONE_RUN)
@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_everything_written_has_the_themes_colour(run: Curves, make: Figure, palette: Any) -> None:
    layout = make(run, palette).layout
    for font in (layout.xaxis.tickfont, layout.yaxis.tickfont, layout.xaxis.title.font, layout.legend.font):
        assert font.color == palette.text
    assert all(one.font.color == palette.text for one in layout.annotations)
    assert layout.xaxis.title.text == "step"


def test_before_the_first_epoch_ends_the_axis_is_of_steps_and_says_so(tmp_path: Path) -> None:
    curves = read(tmp_path, records(30, 0))
    figure = training.loss_figure(curves, LIGHT, View("epoch"))
    assert (figure.layout.xaxis.title.text, max(figure.data[0].x)) == ("step", 30)
    known = training.loss_figure(curves, LIGHT, View("epoch", steps_per_epoch=SPE))
    assert (known.layout.xaxis.title.text, max(known.data[0].x)) == ("epochs", pytest.approx(30 / SPE))


def test_a_long_run_is_a_small_figure(tmp_path: Path) -> None:
    found = [
        {"kind": "train", "step": step, "epoch": 0, "loss": math.sin(step), "top1": 0.5, "time": float(step)}
        for step in range(1, 100_001)
    ]
    found[54_321]["loss"] = -40.0
    figure = training.loss_figure(read(tmp_path, found), LIGHT, View(half_life=30))
    assert min(trace(figure, "train, low").y) == -40
    assert len(figure.to_json()) < 250_000


# --- several runs -----------------------------------------------------------------------------------------------------


def test_runs_are_compared_with_the_best_of_each(run: Curves, other: Curves) -> None:
    figure = training_compare.compare_figure({"long": run, "short": other}, "val_loss", LIGHT, View("epoch"))
    assert [one.name for one in figure.data if one.showlegend is not False] == ["long", "short"]
    for name, curves, step in (("long", run, BEST), ("short", other, 300)):
        star, line = trace(figure, f"{name}, best"), next(one for one in figure.data if one.name == name)
        assert (star.x[0], star.y[0]) == (pytest.approx(step / SPE), pytest.approx(2.0 - 0.0003 * step))
        assert star.marker.color == line.line.color
        np.testing.assert_array_equal(line.y, curves.val.loss)


def test_a_training_measure_is_smooth_over_its_extremes(run: Curves, other: Curves) -> None:
    view = View(half_life=100)
    figure = training_compare.compare_figure({"long": run, "short": other}, "train_loss", LIGHT, view)
    assert max(trace(figure, "long, range").y) == 99.0
    (line,) = [one for one in figure.data if one.name == "long"]
    assert max(line.y) < 10
    star = trace(figure, "long, best")
    # The star lies on the smooth line.
    assert star.y[0] == pytest.approx(np.interp(BEST, line.x, line.y), rel=0.02)
    assert figure.layout.yaxis.title.text == "training loss, nats, smoothed"


@pytest.mark.parametrize(("measure", "first"), [("val_top1", 1750), ("train_loss", 1750)])
def test_a_branch_is_drawn_from_where_it_parts(run: Curves, other: Curves, measure: Any, first: float) -> None:
    figure = training_compare.compare_figure(
        {"parent": run, "branch": run, "else": other}, measure, LIGHT, View(half_life=20), parted={"branch": 1750}
    )
    for name, start in (("parent", SPE if measure == "val_top1" else 1), ("branch", first)):
        (line,) = [one for one in figure.data if one.name == name]
        assert (min(line.x), max(line.x)) == (start, STEPS)
    assert lines_at(figure) == [1750]
    later = training_compare.compare_figure({"parent": run, "branch": run}, measure, LIGHT, parted={"branch": 2000})
    assert list(trace(later, "branch, best").x) == [None]  # the best is in what they share, and marked once
    assert list(trace(later, "parent, best").x) == [BEST]


def test_eight_runs_can_be_told_apart_and_more_can_too(other: Curves) -> None:
    figure = training_compare.compare_figure({f"run {at}": other for at in range(12)}, "val_top1", LIGHT)
    looks = [(one.line.color, one.line.dash) for one in figure.data if one.mode == "lines+markers"]
    assert len({colour for colour, _ in looks[:8]}) == 8
    assert len(set(looks)) == 12


def test_a_run_without_a_place_on_the_axis_is_named(tmp_path: Path, run: Curves) -> None:
    young = read(tmp_path, records(30, 0))
    figure = training_compare.compare_figure({"old": run, "young": young}, "train_top1", LIGHT, View("epoch"))
    assert list(trace(figure, "young (no place on this axis yet)").x) == [None]
    placed = training_compare.compare_figure(
        {"old": run, "young": young}, "train_top1", LIGHT, View("epoch"), steps_per_epoch={"young": SPE}
    )
    (line,) = [one for one in placed.data if one.name == "young"]
    assert max(line.x) == pytest.approx(30 / SPE)


@pytest.mark.parametrize("measure", training_compare.COMPARED)
def test_every_measure_compares_and_none_of_nothing(run: Curves, empty: Curves, measure: Any) -> None:
    figure = training_compare.compare_figure({"a": run, "b": empty}, measure, DARK, View(half_life=10))
    assert "a" in [one.name for one in figure.data]
    assert words(figure) == []
    for runs in ({}, {"b": empty}):
        assert words(training_compare.compare_figure(runs, measure, DARK)) == ["nothing recorded here yet"]


# --- a schedule -------------------------------------------------------------------------------------------------------


def test_a_schedule_is_over_epochs() -> None:
    steps = np.arange(1, 10_001)
    figure = training.schedule_figure(steps, np.where(steps == 5000, 3.0, 1.0), LIGHT, steps_per_epoch=100)
    (line,) = figure.data
    assert (line.x[0], line.x[-1]) == (0.01, 100)
    assert (max(line.y), line.x[np.argmax(line.y)], line.customdata[np.argmax(line.y)]) == (3.0, 50, 5000)
    assert figure.layout.yaxis.type == "linear"
    dropped = training.schedule_figure(steps, np.where(steps > 5000, 0.001, 0.1), LIGHT, steps_per_epoch=100)
    assert dropped.layout.yaxis.type == "log"
    with pytest.raises(ValueError, match="an epoch has at least one step, got 0"):
        training.schedule_figure(steps, steps, LIGHT, steps_per_epoch=0)


def test_a_schedule_without_steps_says_so() -> None:
    figure = training.schedule_figure(np.empty(0), np.empty(0), LIGHT, steps_per_epoch=10)
    assert words(figure) == ["nothing recorded here yet"]
