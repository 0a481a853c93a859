from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

import pytest

from alexnet.ablation import VARIANTS
from analysis.ablation import Ablation, Outcome, Variant
from app.figures.ablation import cost_figure, curves_figure, curves_words
from app.theme import DARK, LIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import plotly.graph_objects as go


def ran(seed: int, *shares: float, train: Sequence[float | None] | None = None, first: float = 1.0) -> Outcome:
    """A run with these shares right at its validations, an epoch apart."""
    epochs = tuple(first + at for at in range(len(shares)))
    return Outcome(seed, epochs, tuple(train or shares), shares, (None,) * len(shares), None, None)


def made(variants: Mapping[str, Sequence[Outcome]]) -> Ablation:
    found = tuple(Variant(name, "alexnet", 0.01, tuple(runs)) for name, runs in variants.items())
    return Ablation({"name": "insects"}, {"network": "alexnet"}, "", (), 5, found)


@pytest.fixture
def found() -> Ablation:
    return made(
        {
            "baseline": [ran(1, 0.5, 0.80), ran(2, 0.6, 0.82), ran(3, 0.7, 0.84)],
            "no-lrn": [ran(1, 0.4, 0.79), ran(2, 0.5, 0.80), ran(3, 0.6, 0.81)],  # 1, 2 and 3 points
            "no-overlap": [ran(2, 0.5, 0.83)],  # one pair: −1 point
            "tanh": [ran(3, 0.1, 0.60)],  # 24 points
        }
    )


def trace(figure: go.Figure, name: str) -> Any:
    (one,) = [one for one in figure.data if one.name.startswith(name)]
    return one


# --- the cost ---------------------------------------------------------------------------------------------------------


def test_every_seed_is_a_dot_and_their_mean_has_an_interval(found: Ablation) -> None:
    figure = cost_figure(found, LIGHT)
    seeds, means = trace(figure, "a seed"), trace(figure, "mean")
    assert seeds.x == pytest.approx([1, 2, 3, -1, 24])
    assert [round(y) for y in seeds.y] == [0, 0, 0, 1, 2]
    assert [(seed, text) for seed, text in seeds.customdata][:2] == [(1, "+1.00"), (2, "+2.00")]
    assert means.x == pytest.approx([2, -1, 24])
    # Student's t for two degrees of freedom over √3 of a standard deviation of one point; of one pair nothing is known.
    assert means.error_x.array == pytest.approx([4.303 / 3**0.5, 0, 0], rel=1e-3)
    assert [words for _, words in means.customdata] == [
        "95 % interval −0.48 to +4.48, 3 seeds",
        *["one seed: nothing is known of the spread"] * 2,
    ]


def test_what_was_published_has_another_shape_and_names_its_source(found: Ablation) -> None:
    figure = cost_figure(found, LIGHT)
    published = trace(figure, "published")
    assert published.name == "published: Krizhevsky et al. 2012, section 3.3 and section 3.4"
    assert published.x == pytest.approx([1.4, 0.4])  # of tanh no error was printed
    assert [round(y) for y in published.y] == [0, 1]
    assert [source for _, source in published.customdata] == [
        "Krizhevsky et al. 2012, section 3.3",
        "Krizhevsky et al. 2012, section 3.4",
    ]
    assert len({trace(figure, name).marker.symbol for name in ("a seed", "mean", "published")}) == 3


def test_zero_has_a_line_and_each_row_its_name_and_number(found: Ablation) -> None:
    axes = cost_figure(found, DARK).layout
    assert (axes.xaxis.zeroline, axes.xaxis.zerolinecolor) == (True, DARK.text)
    assert axes.yaxis.ticktext == (
        "without LRN<br><b>+2.00</b> ± 2.48",
        "pooling without overlap<br>(z = 2, s = 2)<br><b>−1.00</b> one seed",
        "tanh instead of ReLU<br><b>+24.00</b> one seed",
    )
    assert axes.yaxis.tickvals == (0, 1, 2)


def test_a_change_without_a_published_figure_has_no_diamond(found: Ablation) -> None:
    only = made({one.name: one.runs for one in found.variants if one.name in {"baseline", "tanh"}})
    assert [one.name for one in cost_figure(only, LIGHT).data] == ["a seed", "mean, 95 % interval"]


@pytest.mark.parametrize("names", [["baseline"], ["no-lrn", "tanh"]])
def test_where_nothing_can_be_compared_the_figure_says_so(names: list[str], found: Ablation) -> None:
    figure = cost_figure(made({one.name: one.runs for one in found.variants if one.name in names}), LIGHT)
    assert not figure.data
    assert [words.text for words in figure.layout.annotations] == ["no seed was trained with and without a part"]


# --- the curves -------------------------------------------------------------------------------------------------------


def test_a_thin_line_a_seed_and_a_thick_one_for_their_mean(found: Ablation) -> None:
    figure = curves_figure(found, "validation", LIGHT)
    thin = trace(figure, "no-lrn, seed 2")
    assert (thin.x, thin.showlegend) == ((1, 2), False)
    assert thin.y == pytest.approx([50, 20])
    mean = trace(figure, "no-lrn (3 seeds)")
    assert mean.y == pytest.approx([statistics.fmean([60, 50, 40]), 20])
    assert mean.line.width > thin.line.width
    assert mean.line.color == thin.line.color
    thick = [one for one in figure.data if one.showlegend is None]
    assert [one.name for one in thick] == [
        "baseline (3 seeds)", "no-lrn (3 seeds)", "no-overlap (1 seed)", "tanh (1 seed)",
    ]  # fmt: skip
    assert len({one.line.color for one in thick}) == len({one.line.dash for one in thick}) == len(VARIANTS)


def test_the_mean_is_taken_where_every_seed_was_measured() -> None:
    found = made({"baseline": [ran(1, 0.5, 0.7, 0.9), ran(2, 0.5, 0.8, first=2)]})
    assert trace(curves_figure(found, "validation", LIGHT), "baseline (2").x == (2, 3)
    assert trace(curves_figure(found, "validation", LIGHT), "baseline (2").y == pytest.approx([40, 15])


def test_training_errors_have_the_line_of_figure_1() -> None:
    found = made({"baseline": [ran(1, 0.5, 0.6, train=(None, 0.9)), ran(2, 0.5, 0.6, train=(0.7, 0.8))]})
    figure = curves_figure(found, "training", LIGHT)
    (line,) = figure.layout.shapes
    assert (line.y0, line.y1, line.line.dash) == (25, 25, "dash")
    assert figure.layout.annotations[0].text == "25 %, as in figure 1"
    assert trace(figure, "baseline, seed 1").y == (None, pytest.approx(10))
    assert (trace(figure, "baseline (2").x, trace(figure, "baseline (2").y) == ((2,), pytest.approx((15,)))
    assert not curves_figure(found, "validation", LIGHT).layout.shapes


def test_the_second_half_reaches_from_its_lowest_to_its_highest_error() -> None:
    found = made({"baseline": [ran(1, 0.1, 0.5, 0.7, 0.8)]})
    axes = curves_figure(found, "validation", LIGHT, late=True).layout
    assert axes.xaxis.range == (2, 4)
    assert axes.yaxis.range == pytest.approx((20 - 1.5, 50 + 1.5))
    assert curves_figure(found, "validation", LIGHT).layout.xaxis.range is None
    # From zero, as the paper's figure 1 is, and not where that would hide what is looked for.
    assert curves_figure(found, "training", LIGHT).layout.yaxis.rangemode == "tozero"
    assert curves_figure(found, "training", LIGHT, late=True).layout.yaxis.rangemode is None


def test_the_curves_are_said_in_words(found: Ablation) -> None:
    assert curves_words(found, "validation") == (
        "Top-1 error in validation over the epochs, ending: baseline at 18 %, no-lrn at 20 %, no-overlap at 17 %, "
        "tanh at 40 %"
    )
    silent = made({"baseline": [ran(1, 0.5, train=(None,))]})
    assert curves_words(silent, "training") == "Top-1 error in training over the epochs, ending: nowhere"
