from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from alexnet.bundled import IMAGENETTE
from alexnet.foreign import open_checkpoint
from alexnet.spec import Conv
from alexnet.words import listed
from alexnet.zoo import ALEXNET_2012
from analysis.ablation import Ablation, Outcome, Variant
from analysis.activations import ClassProbability
from analysis.costs import cost_table
from analysis.history import History
from analysis.kernels import kernel_measures
from app import drawn, queries
from app.figures.first import learning_figure
from app.first_box import label
from app.first_words import (
    answer_sentence,
    kinds,
    lrn_sentence,
    made_smaller,
    small,
    taken_from,
    trained_without_lrn,
)
from app.theme import LIGHT
from tests.training import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from analysis.curves import Curves

ROWS, COLUMNS = np.mgrid[:11, :11] - 5.0
AROUND = np.exp(-(ROWS**2 + COLUMNS**2) / 18)
GREY, RED_GREEN = np.ones(3), np.array([1.0, -1.0, 0.0])


def kernel(pattern: np.ndarray, colour: np.ndarray = GREY) -> np.ndarray:
    return colour[:, None, None] * pattern * AROUND


def test_each_kernel_is_of_its_kind() -> None:
    drawn_kernels = np.stack(
        [
            kernel(np.sin(2 * np.pi * COLUMNS / 11)),  # light on one side, dark on the other
            kernel(np.cos(2 * np.pi * ROWS / 4)),  # nearly three waves
            kernel(np.ones((11, 11)), RED_GREEN),
            kernel(np.ones((11, 11))),  # a blob without colour
            np.random.default_rng(0).normal(size=(3, 11, 11)),
        ]
    )
    found = kinds(kernel_measures(drawn_kernels), 11)
    assert found == ((0,), (1,), (2,))


def test_the_most_typical_come_first() -> None:
    noise = np.random.default_rng(0).normal(size=(3, 11, 11))
    clear = kernel(np.cos(2 * np.pi * ROWS / 4))
    measured = kernel_measures(np.stack([clear + 0.15 * noise, clear, clear + 0.05 * noise]))
    assert kinds(measured, 11).gratings == (1, 2, 0)


@pytest.mark.parametrize(
    ("share", "says"),
    [
        (0.00004, "**less than 0.01 %** of the activity: next to nothing"),
        (0.001, "**0.10 %** of the activity: next to nothing"),
        (0.03, "**3.0 %** of the activity: a little"),
        (0.15, "**15.0 %** of the activity: so it can be seen"),
    ],
)
def test_lrn_is_described_by_what_it_does(share: float, says: str) -> None:
    said = lrn_sentence(share, 0.0123, 2.0, 0.75, 72.4)
    assert says in said
    assert "(2 + the sum) to the power 0.75. With no neighbour active that is 1.68, for all" in said  # 2^0.75
    assert "the sum adds 0.012 at most to the 2" in said
    assert ("divided by 72" in said) == (share < 0.05)


def test_pixels_that_are_not_scaled_are_no_reason() -> None:
    assert "divided by" not in lrn_sentence(0.001, 0.0123, 2.0, 0.75, 1.0)


def test_a_silent_picture_has_no_share() -> None:
    assert "nothing to hold back" in lrn_sentence(None, 0.0, 2.0, 0.75, 72.4)


def test_small_shares_keep_their_digits() -> None:
    assert [small(share) for share in (0, 0.00009, 0.0012, 0.012)] == ["0.00 %", "less than 0.01 %", "0.12 %", "1.2 %"]


@pytest.mark.parametrize(
    ("truth", "name", "probability", "says"),
    [
        (None, "tench", 0.9, "none of them, and it has no way to say so"),
        (None, "tench", 0.9, "**tench** (90 %) and is sure of it"),
        (None, "tench", 0.6, "is fairly sure"),
        (None, "tench", 0.3, "is not sure at all"),
        ("tench", "tench", 0.3, "it is right: it answers **tench** (30 %)"),
        ("tench", "church", 0.9, "it is wrong: it answers **church** (90 %)"),
    ],
)
def test_the_answer_is_held_against_the_truth(truth: str | None, name: str, probability: float, says: str) -> None:
    assert says in answer_sentence("fish", truth, ClassProbability(name, probability, 0))


def test_words_are_listed_as_people_do() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


def test_grey_edges_are_more_typical_than_coloured_ones() -> None:
    edge = np.sin(2 * np.pi * COLUMNS / 11)
    measured = kernel_measures(np.stack([kernel(edge, RED_GREEN), kernel(edge)]))
    assert kinds(measured, 11).edges == (1, 0)


def test_how_much_of_the_network_is_in_the_box_is_counted() -> None:
    results = IMAGENETTE.results()
    said = made_smaller(results)
    network = open_checkpoint(IMAGENETTE.weights).network
    share = cost_table(network).total("params") / 60_965_224
    assert f"{100 * share:.1f} % of the weights" in said
    side = network.input_shape[1]
    assert f"sees {side}×{side} pixels where the paper's saw 227×227" in said
    assert "have 512 values instead of 4,096" in said
    ours, papers = dict(network.layers), dict(ALEXNET_2012.layers)
    same = all(ours[name] == layer for name, layer in papers.items() if isinstance(layer, Conv))
    assert ("as many and as large as the paper's" in said) == same


def test_where_the_film_goes_on_is_said() -> None:
    assert taken_from({"step": 50}, 60).startswith(" The network above is that of step 50,")
    assert taken_from({"step": 60}, 60) == taken_from({}, 60) == ""


def ablation(*pairs: tuple[float, float]) -> Ablation:
    """Top-1 with LRN and without it, a pair for each seed."""
    outcome = partial(Outcome, epochs=(1.0,), train_top1=(0.5,), topk=(0.9,), reached=None, seconds=None)
    variants = (
        Variant(name, "alexnet", 0.01, tuple(outcome(seed, top1=(pair[at],)) for seed, pair in enumerate(pairs)))
        for at, name in enumerate(("baseline", "no-lrn"))
    )
    return Ablation({}, {}, "", (), 5, tuple(variants))


def test_what_training_without_lrn_cost_is_said_with_its_chance() -> None:
    said = trained_without_lrn(ablation((0.70, 0.68), (0.71, 0.69), (0.72, 0.69)))
    # Differences 2, 2 and 3 points: mean 2.33, s 0.577, Student's t for 2 degrees of freedom 4.303: ± 1.43.
    assert said is not None
    assert "wrong answers by **+2.33 points** (95 % interval +0.90 to +3.77, 3 seeds). The paper found +1.40." in said
    chance = trained_without_lrn(ablation((0.70, 0.69), (0.69, 0.70)))
    assert chance is not None
    assert "it could be chance" in chance
    assert "one seed, so chance is not known" in (trained_without_lrn(ablation((0.70, 0.69))) or "")
    assert trained_without_lrn(ablation()) is None


@pytest.fixture
def curves(tmp_path: Path) -> Curves:
    """Three epochs of ten steps, each validated."""
    records: list[dict[str, Any]] = []
    for step in range(1, 31):
        records.append({"kind": "train", "step": step, "epoch": (step - 1) // 10, "loss": 3 - step / 20, "top1": 0.1})
        if step % 10 == 0:
            records.append({"kind": "val", "step": step, "epoch": step // 10 - 1, "loss": 2.0, "top1": step / 40})
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return History(path).update()


def test_a_moment_has_the_accuracy_of_the_last_validation_before_it(curves: Curves) -> None:
    assert [label(step, curves) for step in (0, 9, 10, 19, 30)] == [
        *("step 0 · untrained", "step 9", "step 10 · 25 % right", "step 19 · 25 % right", "step 30 · 75 % right")
    ]


def test_the_learning_is_drawn_over_epochs(curves: Curves) -> None:
    figure = learning_figure(curves, 10, LIGHT)
    right, loss = figure.data
    assert list(right.x) == [1, 2, 3]
    assert list(right.y) == [25, 50, 75]
    assert loss.x[-1] == 3
    assert loss.y[0] == pytest.approx(2.95)
    assert figure.layout.shapes[0].y0 == 10  # guessing among ten


def test_the_kernels_are_there_before_torch() -> None:
    code = "import sys; from app import first_box; print(len(first_box.box().kernels.weights), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "96 False\n"


@pytest.mark.parametrize("name", drawn.DRAWINGS)
def test_the_pictures_that_are_shipped_are_the_ones_that_are_drawn(name: str) -> None:
    shipped, made = queries.sample(name), drawn.DRAWINGS[name]()
    assert isinstance(made, Image.Image)
    assert np.abs(shipped.astype(int) - np.asarray(made, int)).mean() < 4  # what JPEG takes away
