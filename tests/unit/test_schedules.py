"""The learning rate as it is drawn and told before a training, against the trainer's own."""

from __future__ import annotations

import itertools
import re
import time

import numpy as np
import pytest

from alexnet.config import TrainConfig
from alexnet.course import highest_rate, scheduled_rate, steps_between_validations, validations_after
from alexnet.data.loading import Share
from alexnet.data.preprocessing import Geometry, Preprocessing, StatisticsGatherer
from alexnet.machine import chosen
from alexnet.optim import Plateau
from alexnet.presets import configured
from alexnet.schedules import Stalled, rates
from alexnet.trainer import Trainer
from tests.training import tiny


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 1.5])
def test_rates_are_the_trainers(schedule: str, warmup: float) -> None:
    config = tiny(schedule=schedule, warmup_epochs=warmup, epochs=4, hidden=4)
    network = config.described_network(3)
    gatherer = StatisticsGatherer(config.short_side())
    gatherer.add(np.zeros((76, 76, 3), np.uint8))
    statistics = gatherer.result()
    preprocessing = Preprocessing.of(statistics, Geometry(76, 67, 67), mean_image=False, unit_variance=True)
    machine = chosen(config, network, in_memory=True)
    trainer = Trainer(config, network, machine, preprocessing, statistics, steps_per_epoch=5, share=Share())
    found = rates(config, 5)
    assert found.steps == tuple(range(1, 21))
    assert found.rates == tuple(trainer.learning_rate(step - 1) for step in found.steps)


def test_long_schedules_are_drawn_through_some_of_their_steps() -> None:
    config = tiny(schedule="cosine", warmup_epochs=1, epochs=100, learning_rate=1)
    found = rates(config, 1000)
    assert len(found.steps) < 600
    assert (found.steps[0], found.steps[-1]) == (1, 100_000)
    assert found.rates[found.steps.index(1000)] == pytest.approx(1, abs=0.001)  # the end of the warm-up
    assert found.rates[found.steps.index(50_001)] == pytest.approx(0.5)
    assert max(found.rates) <= 1


def spoken(text: str) -> list[tuple[str, int]]:
    """Every rate that a sentence names with its step."""
    found = re.findall(r"(\S+) at step ([\d,]+)", text)
    return [(rate, int(step.replace(",", "").rstrip(","))) for rate, step in found]


@pytest.mark.parametrize("schedule", ["plateau", "cosine", "constant"])
def test_the_course_in_words_is_the_schedules_own(schedule: str) -> None:
    """Over warm-ups, lengths and starts: every rate that is named is that of its step, and the words say its way."""
    for warmup, epochs, per_epoch, start in itertools.product(
        (0.0, 0.01, 0.4, 1.0, 1.7, 2.5, 3.0, 40.0), (1, 2, 3, 7, 60), (1, 4, 62), (0, 1, 5, 100)
    ):
        config = TrainConfig(data="x", schedule=schedule, warmup_epochs=warmup, epochs=epochs, learning_rate=0.02)
        steps = epochs * per_epoch
        found = rates(config, per_epoch, start=start)
        if start >= steps:
            assert found == ((), (), f"No step is left after step {start}.")
            continue
        values = [scheduled_rate(config, step, steps=steps, steps_per_epoch=per_epoch) for step in range(start, steps)]
        text, highest = found.explanation, max(values)
        assert (found.steps[0], found.steps[-1]) == (start + 1, steps)
        assert highest in found.rates  # so that the curve shows its peak
        for rate, step in spoken(text):
            assert rate == f"{values[step - 1 - start]:.3g}", (text, step)
        if len(values) == 1:
            assert text.startswith(f"There is one step, with {highest:.3g}.")
            continue
        peak = values.index(highest)
        assert ("It rises from" in text) is (peak > 0), text
        if peak:
            assert spoken(text)[:2] == [(f"{values[0]:.3g}", start + 1), (f"{highest:.3g}", start + peak + 1)]
        falls = "falls" in text.partition(" It never")[0]
        assert falls is (schedule == "cosine" and peak < len(values) - 1), text
        assert falls or values[peak:] == [values[-1]] * len(values[peak:])
        assert falls or peak == len(values) - 1 or f"stays at {values[-1]:.3g} until step {steps:,}, the last" in text
        assert not falls or spoken(text.partition(" It never")[0])[-1] == (f"{values[-1]:.3g}", steps)
        assert ("never reaches the 0.02" in text) is (not start and warmup > 0 and highest < 0.995 * 0.02), text


def test_the_peak_of_a_warm_up_into_a_cosine_is_where_no_other_step_is_higher() -> None:
    config = TrainConfig(data="x", schedule="cosine", warmup_epochs=3, epochs=4, learning_rate=1)
    step, rate = highest_rate(config, steps=4000, steps_per_epoch=1000)
    # s·(1+cos(πs/N)) is highest where y·tan(y) = 1/2 with y = πs/2N: y = 0.6533, since tan(0.6533) = 0.7654
    assert step == pytest.approx(0.6533 * 2 * 4000 / np.pi, abs=1)
    assert rate == pytest.approx(step / 3000 * (1 + np.cos(np.pi * (step - 1) / 4000)) / 2)
    huge = TrainConfig(data="x", schedule="cosine", warmup_epochs=3e3, epochs=100_000)
    began = time.perf_counter()
    assert highest_rate(huge, steps=10**11, steps_per_epoch=10**6)[1] < 0.01
    assert time.perf_counter() - began < 0.5


def test_the_drops_of_a_plateau_are_explained_and_not_drawn() -> None:
    found = rates(configured("paper-2012", "x"), 10)
    assert set(found.rates) == {0.01}
    assert found.explanation == (
        "It stays at 0.01 until step 900, the last. After 4 validations without a lower error it is divided by 10, to "
        "0.001, then 0.0001, then 1e-05; the next such stall ends the run. When that happens the validations decide, "
        "so no drop is drawn."
    )
    once = rates(configured("paper-2012", "x", drops=0, patience=1), 10).explanation
    assert once.endswith("After 1 validation without a lower error the run ends.")


@pytest.mark.parametrize("drops", [0, 1, 3])
@pytest.mark.parametrize("patience", [1, 3, 4])
@pytest.mark.parametrize("so_far", [None, (0.01, 2, -1), (0.01, 2, 0), (0.001, 1, 2), (0.0001, 0, 1)])
def test_no_more_drops_are_told_than_validations_can_bring(
    drops: int, patience: int, so_far: tuple[float, int, int] | None
) -> None:
    """Against the trainer's own plateau, which is told that nothing gets better any more."""
    stalled = None if so_far is None or so_far[2] >= patience else Stalled(*so_far)
    for epochs in range(1, 18):
        config = TrainConfig(data="x", epochs=epochs, patience=patience, drops=drops)
        if stalled is None:
            plateau = Plateau(0.01, patience, drops)
        else:
            best = 0.5 if stalled.stalled_for >= 0 else np.inf
            plateau = Plateau(stalled.rate, patience, stalled.drops_left, best, max(0, stalled.stalled_for))
        seen = [f"{plateau.rate:.3g}" for _ in range(epochs) if not plateau.finished and plateau.validated(0.5)]
        text = rates(config, 5, stalled=stalled).explanation
        told = re.search(r"divided by 10, to (.*?)[;.] ", text)
        assert (told[1].split(", then ") if told else []) == seen, text
        assert ("ends the run" in text or "the run ends" in text) is plateau.finished, text


def test_a_training_that_goes_on_has_the_steps_and_validations_that_are_left() -> None:
    config = tiny(epochs=5, validate_every=1.5, schedule="plateau")
    found = rates(config, 6, start=13, stalled=Stalled(0.002, 1, 0))
    assert found.steps == tuple(range(14, 31))
    assert set(found.rates) == {0.002}
    assert found.explanation.startswith("It stays at 0.002 until step 30")
    for every in (0.1, 1.0, 1.5, 2.0, 50.0):
        config = tiny(epochs=5, validate_every=every)
        after = steps_between_validations(config, 6)
        validated = [step for step in range(1, 31) if step % after == 0 or step == 30]
        for start in range(31):
            left = [step for step in validated if step > start]
            assert validations_after(config, 6, start) == (len(left) if start < 30 else 0)


def test_schedules_in_words_where_they_are_odd() -> None:
    short = configured("quick", "x", warmup_epochs=1, max_steps=5)
    assert rates(short, 62).explanation.endswith(
        "It never reaches the 0.02 of the recipe, since the training ends before the warm-up."
    )
    assert rates(short, 0).steps == ()
    assert rates(configured("quick", "x"), 62).explanation == (
        "It rises from 0.000323 at step 1 to 0.02 at step 62, then falls along a cosine to 3.57e-09 at step 3,720, "
        "the last."
    )
    few = rates(configured("quick", "x", epochs=2), 62).explanation
    assert few.endswith("It never reaches the 0.02 of the recipe, since the cosine falls while it warms up.")
