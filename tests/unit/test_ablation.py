from __future__ import annotations

import json
import math
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from alexnet import ablation, checkpoints, probes
from alexnet.__main__ import main as alexnet_main
from alexnet.ablation import AblationError, Meter, Planned, RunFailedError, check, planned, trained
from alexnet.config import ConfigError, TrainConfig
from alexnet.options import parser
from alexnet.presets import configured
from alexnet.runs import RunDirectory
from alexnet.spec import ReLU, Tanh
from analysis import ablation as results
from analysis import ablation_tables as tables
from analysis.__main__ import main
from analysis.ablation import Ablation, ResultsError, differences, effect, errors, read, slower, t_quantile, t_within
from tests.training import ROOT, folder_of_pictures, options, train

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

CONFIG = TrainConfig(data="/far/pictures", network="alexnet-2012@131", batch=10, epochs=4, seed=5)
PICTURES = {"classes": ["ant", "bee"], "train": 40, "val": 20}
ALL = tuple(ablation.VARIANTS)


def plan_of(folder: Path, config: TrainConfig = CONFIG, **changes: Any) -> list[Planned]:
    return planned(config, folder, **{"seeds": 2, "only": ALL, "rate": {}} | changes)


def write(
    one: Planned,
    *,
    top1: tuple[float, ...] = (0.5, 0.6),
    right: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4) * 4,
    state: str = "finished",
    top5: float = 0.9,
) -> None:
    """The run's folder, as a training leaves it: a record for each of four steps an epoch, of ten pictures each."""
    folder = one.run.path
    folder.mkdir(parents=True)
    record = {
        "format": 1,
        "config": one.config.as_json(),
        "machine": {"device": "cpu", "precision": "float32"},
        "data": {"name": "insects", **PICTURES},
    }
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "status.json").write_text(json.dumps({"state": state, "step": len(right)}))
    lines = [
        {"kind": "train", "step": step, "epoch": (step - 1) // 4, "loss": 1.0, "top1": share, "pictures": 10}
        | {"learning_rate": 0.01, "images_per_second": 10.0, "waited_share": 0.0, "time": 1000.0 + step}
        for step, share in enumerate(right, start=1)
    ]
    lines += [
        {"kind": "val", "step": 4 * at, "epoch": at - 1, "loss": 1.0, "top1": share, "top5": top5, "pictures": 20}
        | {"per_class": [share, share], "seconds": 0.5, "time": 1000.0 + 4 * at}
        for at, share in enumerate(top1, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


# --- planning ---------------------------------------------------------------------------------------------------------


def test_a_plan_has_one_folder_for_every_variant_and_seed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, rate={"tanh": 0.005})
    found = [(one.run.path.name, one.config.network, one.config.learning_rate, one.config.seed) for one in plan]
    assert found == [
        ("baseline-seed-5", "alexnet-2012@131", 0.01, 5),
        ("no-lrn-seed-5", "alexnet-2012@131:no-lrn", 0.01, 5),
        ("no-overlap-seed-5", "alexnet-2012@131:no-overlap", 0.01, 5),
        ("tanh-seed-5", "alexnet-2012@131:tanh", 0.005, 5),
        ("baseline-seed-6", "alexnet-2012@131", 0.01, 6),
        ("no-lrn-seed-6", "alexnet-2012@131:no-lrn", 0.01, 6),
        ("no-overlap-seed-6", "alexnet-2012@131:no-overlap", 0.01, 6),
        ("tanh-seed-6", "alexnet-2012@131:tanh", 0.005, 6),
    ]
    # Nothing else differs from the recipe.
    for one in plan:
        same = {"network": CONFIG.network, "learning_rate": CONFIG.learning_rate, "seed": CONFIG.seed}
        assert one.config.as_json() | same == CONFIG.as_json()


def test_runs_of_one_seed_begin_with_the_same_weights(tmp_path: Path) -> None:
    from alexnet.build import build
    from alexnet.initialisation import initialise

    started = []
    for one in plan_of(tmp_path, configured("quick", "built-in"), seeds=1):
        network = one.config.described_network(10)
        model = build(network)
        initialise(model, network, one.config.initialisation, one.config.seed)
        started.append(dict(model.state_dict()))
        kinds = {type(layer) for _, layer in network.layers} & {ReLU, Tanh}
        assert kinds == {Tanh if one.variant == "tanh" else ReLU}
    for other in started[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in started[0].items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"only": ("baseline",), "rate": {"tanh": 0.1}}, AblationError, "tanh, which is not trained: .* of baseline"),
        ({"config": TrainConfig(data="x", network="vgg-d")}, ConfigError, "no-lrn cannot be trained: vgg-d has no LRN"),
        (
            {"config": TrainConfig(data="x", network="alexnet:tanh")},
            ConfigError,
            "tanh cannot be trained: tanh is given 2 times",
        ),
        ({"rate": {"tanh": 2000.0}}, ConfigError, "--learning-rate must be from 1e-09 to 1000"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        plan_of(tmp_path, **change)


def test_variants_and_rates_are_read_from_the_command_line() -> None:
    assert ablation.variants(None) == ALL
    assert ablation.variants("tanh, Baseline") == ("baseline", "tanh")
    with pytest.raises(AblationError, match="no variant 'relu': the variants are baseline, no-lrn, no-overlap, tanh"):
        ablation.variants("tanh,relu")
    assert ablation.rates(["tanh=0.005", "baseline=1e-2"]) == {"tanh": 0.005, "baseline": 0.01}
    for wrong in ("tanh", "tanh=", "tanh=fast", "tanh=-1", "tanh=nan", "relu=0.1", "=0.1"):
        with pytest.raises(AblationError, match="--rate takes VARIANT=RATE"):
            ablation.rates([wrong])
    with pytest.raises(AblationError, match="gives tanh twice"):
        ablation.rates(["tanh=0.1", "tanh=0.2"])


# --- runs that are there already --------------------------------------------------------------------------------------


def pictures() -> dict[str, Any]:
    return PICTURES


def never() -> dict[str, Any]:
    raise AssertionError("nobody needs to look at the data")


def test_runs_of_the_same_recipe_are_taken_as_they_are(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert [one.state for one in plan] == ["to do"] * 8
    write(plan[0])
    write(plan[1], state="stopped")
    assert [one.state for one in plan[:3]] == ["finished", "begun", "to do"]
    check(plan, tmp_path, never)
    # Where it computes may change; what the preset was called says nothing beside the values.
    check(
        plan_of(tmp_path, TrainConfig.from_json(CONFIG.as_json() | {"threads": 2, "preset": "mine"})), tmp_path, never
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"epochs": 9},
            r"baseline-seed-5 was trained with --epochs 4, and now --epochs 9 is .* Give --epochs 4 again, or another",
        ),
        ({"network": "alexnet-2012"}, "with --network alexnet-2012@131, and now --network alexnet-2012 is asked for:"),
        (
            {"learning_rate": 0.02},
            "with --learning-rate 0.01, and now --learning-rate 0.02 is .* Give --rate baseline=0.01 again",
        ),
        ({"hidden": 64}, "with no --hidden, and now --hidden 64 is asked for: .* Give no --hidden again"),
        ({"mirror": False}, "with --mirror, and now --no-mirror is asked for: .* Give --mirror again"),
    ],
)
def test_runs_of_another_recipe_are_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(plan_of(tmp_path)[0])
    with pytest.raises(AblationError, match=message):
        check(plan_of(tmp_path, TrainConfig.from_json(CONFIG.as_json() | changes)), tmp_path, never)


def test_also_runs_that_are_not_in_this_plan_must_be_of_its_recipe(tmp_path: Path) -> None:
    write(plan_of(tmp_path, rate={"tanh": 0.5})[-1])  # tanh, seed 6, with a rate of its own
    check(plan_of(tmp_path, seeds=1), tmp_path, never)
    check(plan_of(tmp_path, only=("baseline",)), tmp_path, never)
    with pytest.raises(
        AblationError, match=r"tanh-seed-6 was trained with --batch 10, and now --batch 20 is asked for"
    ):
        check(plan_of(tmp_path, TrainConfig.from_json(CONFIG.as_json() | {"batch": 20}), seeds=1), tmp_path, never)


def test_data_may_move_and_not_change(tmp_path: Path) -> None:
    write(plan_of(tmp_path)[0])
    moved = plan_of(tmp_path, TrainConfig.from_json(CONFIG.as_json() | {"data": "/near/pictures"}))
    check(moved, tmp_path, pictures)
    with pytest.raises(
        AblationError, match=r"was trained on /far/pictures and /near/pictures has others \(other number in train\)"
    ):
        check(moved, tmp_path, lambda: PICTURES | {"train": 41})


def test_other_folders_are_no_runs(tmp_path: Path) -> None:
    write(plan_of(tmp_path)[0])
    for name in ("tanh-seed-x", "relu-seed-1", "tanh-seed-7", "notes"):
        (tmp_path / name).mkdir()
    assert [(name, seed) for name, seed, _ in ablation.runs_in(tmp_path)] == [("baseline", 5)]
    assert ablation.runs_in(tmp_path / "nowhere") == []


# --- one after the other ----------------------------------------------------------------------------------------------


def test_only_what_is_left_is_trained_and_the_lines_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path, only=("baseline", "tanh"))
    write(plan[0])
    write(plan[2], state="stopped")
    asked = []

    def one_run(one: Planned, _meter: Meter, at: int) -> str:
        asked.append((at, one.run.path.name, one.state))
        return "finished"

    trained(plan, one_run)
    assert asked == [(1, "tanh-seed-5", "to do"), (2, "baseline-seed-6", "begun"), (3, "tanh-seed-6", "to do")]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 runs, 1 of them finished"
    assert lines[1] == f"run 2 of 4: tanh, seed 5 begins in {tmp_path / 'tanh-seed-5'}"
    assert lines[2].startswith("run 2 of 4: tanh, seed 5 finished after 0 s")
    assert lines[3] == f"run 3 of 4: baseline, seed 6 goes on in {tmp_path / 'baseline-seed-6'}"


@pytest.mark.parametrize("how", ["asked", "at once"])
def test_a_run_that_is_stopped_stops_all(how: str, tmp_path: Path) -> None:
    asked = []

    def one_run(_one: Planned, _meter: Meter, at: int) -> str:
        asked.append(at)
        if how == "at once":
            raise KeyboardInterrupt("; go on with --resume")
        return "stopped"

    with pytest.raises(KeyboardInterrupt, match=r"^; the same command goes on with it$"):
        trained(plan_of(tmp_path), one_run)
    assert asked == [0]


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    asked = []

    def one_run(one: Planned, _meter: Meter, at: int) -> str:
        asked.append(at)
        if one.variant == "tanh":
            raise RunFailedError("the loss became inf")
        return "finished"

    with pytest.raises(AblationError, match="2 of 8 runs failed and are not in the table; the first: the loss became"):
        trained(plan_of(tmp_path), one_run)
    assert asked == list(range(8))


def test_the_time_left_is_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path)  # of 100 steps each
    for one, state, done in ((plan[0], "finished", 100), (plan[4], "finished", 100), (plan[5], "stopped", 30)):
        write(one, state=state, right=(0.5,) * done)
    now, meter = [50.0], Meter(plan)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter.begins(1, step=20, steps=100)
    assert meter.seconds_left() is None
    meter.show(3, 7, "mean and colours")  # not steps
    assert meter.seconds_left() is None
    now[0] += 60.0
    meter.show(50, 100, "loss 1")  # 30 steps in 60 s; 50 of this run are left, and of five others 4·100 + 70
    assert meter.seconds_left() == pytest.approx((50 + 4 * 100 + 70) * 2.0)
    now[0] += 1000.0  # between two runs nobody trains
    meter.begins(2, step=0, steps=100)
    now[0] += 30.0
    meter.show(30, 100, "loss 1")  # in all 60 steps in 90 s
    assert meter.seconds_left() == pytest.approx((70 + 3 * 100 + 70) * 1.5)


# --- Student's t ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (29, 2.045), (120, 1.980)],
)
def test_t_is_that_of_printed_tables(freedom: int, t: float) -> None:
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_the_share_within_t_is_the_integral_of_its_density(freedom: int) -> None:
    scale = math.gamma((freedom + 1) / 2) / math.sqrt(freedom * math.pi) / math.gamma(freedom / 2)
    steps, t = 20_000, 2.7
    middles = ((at + 0.5) * t / steps for at in range(steps))
    area = 2 * sum(scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2) for x in middles) * t / steps
    assert t_within(t, freedom) == pytest.approx(area, abs=1e-7)


def test_t_needs_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="at least one degree of freedom, got 0"):
        t_quantile(0)


# --- what was found ---------------------------------------------------------------------------------------------------

# Top-1 at the last validation by seed.
SHARES = {
    "baseline": (0.80, 0.82, 0.84),
    "no-lrn": (0.79, 0.80, 0.81),
    "no-overlap": (0.82, 0.82, 0.82),
    "tanh": (0.60, 0.60, 0.60),
}
FAST, SLOW = (0.0,) * 4 + (0.8,) * 12, (0.0,) * 10 + (0.8,) * 6


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole ablation, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("ablation")
    for one in plan_of(folder, seeds=3, rate={"tanh": 0.005}):
        share = SHARES[one.variant][one.config.seed - 5]
        right = SLOW if one.variant == "tanh" else FAST
        write(one, top1=(0.2, 0.9, 0.5, share), right=right, top5=share + 0.1)
    return folder


@pytest.fixture(scope="module")
def found(runs: Path) -> Ablation:
    return read(runs)


@pytest.fixture
def folder(runs: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be written into."""
    return shutil.copytree(runs, tmp_path / "runs")


def test_differences_are_taken_seed_by_seed(found: Ablation) -> None:
    cost = effect(found, "no-lrn")
    assert cost is not None
    assert cost.seeds == (5, 6, 7)
    assert cost.mean == pytest.approx(0.02)  # 0.01, 0.02 and 0.03
    assert cost.half == pytest.approx(4.303 * 0.01 / math.sqrt(3), rel=1e-4)
    assert not cost.decided
    other = effect(found, "tanh", top=5)
    assert other is not None
    assert other.mean == pytest.approx(0.22)  # 0.20, 0.22 and 0.24
    assert other.half == pytest.approx(4.303 * 0.02 / math.sqrt(3), rel=1e-4)
    assert other.decided
    none = effect(found, "no-overlap")  # −0.02, 0 and 0.02
    assert none is not None
    assert none.mean == pytest.approx(0, abs=1e-12)


def test_errors_are_of_the_last_validation_and_not_of_the_best(found: Ablation) -> None:
    base = found.variant("baseline")
    assert base is not None
    spread = errors(base)
    assert spread is not None
    assert (spread.count, spread.mean, spread.deviation) == (3, pytest.approx(0.18), pytest.approx(0.02))
    assert {run.best_top1 for run in base.runs} == {0.9}
    assert base.runs[1].top1 == (0.2, 0.9, 0.5, 0.82)
    assert base.runs[1].epochs == (1, 2, 3, 4)
    assert base.runs[1].last_topk == pytest.approx(0.92)
    assert base.runs[1].seconds == pytest.approx(15)  # from step 1 to step 16, a second each


def test_training_error_is_a_mean_over_the_epoch_before(found: Ablation) -> None:
    base, tanh = found.variant("baseline"), found.variant("tanh")
    assert base is not None
    assert tanh is not None
    assert base.runs[0].train_top1 == (0.0, 0.8, 0.8, 0.8)
    assert tanh.runs[0].train_top1 == (0.0, 0.0, 0.4, 0.8)
    # 0.8 in all four steps makes 20 % error; in three of four it is 40 %.
    assert base.runs[0].reached == 2.0
    assert tanh.runs[0].reached == 3.5
    assert slower(found, "tanh") == (pytest.approx(1.75), 3)


@pytest.mark.parametrize(
    ("right", "reached"),
    [
        ((0.75,) * 16, 1.0),  # exactly 25 %, and not before a whole epoch has passed
        ((1.0,) * 3 + (0.0,) * 13, 1.0),  # three steps of four, if never again
        ((1.0,) * 2 + (0.0,) * 14, None),  # half, and no whole epoch before that
        ((0.0,) * 15 + (1.0,), None),
        ((0.0,) * 5 + (1.0,) * 11, 2.0),
    ],
)
def test_when_25_percent_are_reached(right: tuple[float, ...], reached: float | None, tmp_path: Path) -> None:
    one = plan_of(tmp_path, seeds=1, only=("baseline",))[0]
    write(one, right=right)
    (outcome,) = read(tmp_path).variants[0].runs
    assert outcome.reached == reached


def test_one_seed_has_no_spread_and_what_is_not_finished_does_not_count(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    for one in plan[:6]:
        write(one, state="finished" if one is not plan[5] else "stopped")
    found = read(tmp_path)
    assert [(one.name, len(one.runs)) for one in found.variants] == [
        ("baseline", 2),
        ("no-lrn", 1),
        ("no-overlap", 1),
        ("tanh", 1),
    ]
    cost = effect(found, "no-lrn")
    assert cost is not None
    assert (cost.seeds, cost.mean, cost.half, cost.decided) == ((5,), 0, None, False)
    assert "one seed, so nothing is known of the spread" in tables.sentences(found)[0]
    assert tables.effects_table(found).records()[0]["top1_half"] is None


def test_without_the_baseline_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    for one in plan_of(tmp_path, only=("no-lrn", "tanh"), seeds=1):
        write(one)
    found = read(tmp_path)
    assert effect(found, "tanh") is None
    assert slower(found, "tanh") is None
    assert tables.effects_table(found).rows == ()
    assert tables.sentences(found)[0] == "without LRN: no seed was trained with and without it."
    assert found.recipe["network"] == "alexnet-2012@131"
    assert "--network alexnet-2012@131 " in found.command
    assert found.command.endswith("--seeds 1 --only no-lrn,tanh")


# --- kernels ----------------------------------------------------------------------------------------------------------


def kernels_of(coloured: tuple[int, int], flat: int = 40) -> NDArray[np.float16]:
    """96 kernels: so many of each tower's 48 have no grey in them and the others nothing else.

    `flat` are alike everywhere: one frequency, and no difference between neighbours.  The others are one pixel: every
    frequency, and to its four neighbours a difference of all its energy.
    """
    found = np.zeros((96, 3, 11, 11), np.float16)
    for at, kernel in enumerate(found):
        ink = (1, -1, 0) if at % 48 < coloured[at // 48] else (1, 1, 1)
        where = np.s_[:, :] if at < flat else np.s_[5, 5]
        for channel, strength in zip(kernel, ink, strict=True):
            channel[where] = strength
    return found


def filmed(one: Planned, kernels: NDArray[Any] | None, step: int = 16) -> None:
    one.run.probes_path.mkdir(exist_ok=True)
    probes.save(one.run.probe_path(step), {} if kernels is None else {"kernels": kernels})


def with_films(folder: Path, *coloured: tuple[int, int]) -> Ablation:
    """Baselines whose towers have so many coloured kernels, a seed each."""
    for one, counts in zip(plan_of(folder, only=("baseline",), seeds=len(coloured)), coloured, strict=True):
        write(one)
        filmed(one, kernels_of(counts))
    return read(folder)


def test_kernels_are_those_of_the_last_probe(tmp_path: Path) -> None:
    one, other = plan_of(tmp_path, seeds=1, only=("baseline", "tanh"))
    write(one)
    write(other)
    filmed(one, np.random.default_rng(0).normal(size=(96, 3, 11, 11)).astype(np.float16), 0)
    filmed(one, kernels_of((48, 48), flat=0), 8)
    filmed(one, kernels_of((0, 36)), 16)
    found = read(tmp_path)
    (mine,), (theirs,) = (variant.runs for variant in found.variants)
    assert mine.kernels is not None
    assert (mine.kernels.kernels, mine.kernels.compact, mine.kernels.smoothness) == (96, 40, 4)
    assert mine.kernels.colourfulness == (0, 0.75)
    assert theirs.kernels is None
    assert results.from_json(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    "what", ["no kernels", "only the start", "another side", "no colours", "no numbers", "damaged"]
)
def test_runs_whose_kernels_cannot_be_measured_have_none(what: str, tmp_path: Path) -> None:
    (one,) = plan_of(tmp_path, seeds=1, only=("baseline",))
    write(one)
    whole = kernels_of((0, 36))
    kernels = {"no kernels": None, "another side": whole[..., :7, :7], "no colours": whole[:, :1]}.get(what, whole)
    filmed(one, np.full_like(whole, np.nan) if what == "no numbers" else kernels, 0 if what == "only the start" else 16)
    if what == "damaged":
        one.run.probe_path(16).write_bytes(b"PK")
    found = read(tmp_path)
    assert [run.kernels for run in found.variants[0].runs] == [None]
    assert tables.kernels_table(found) is None
    assert tables.tower_sentences(found) == []
    assert len(tables.tables(found)) == 4


def test_results_from_before_kernels_were_measured_are_read(tmp_path: Path) -> None:
    values = with_films(tmp_path, (0, 36)).as_json()
    del values["variants"][0]["runs"][0]["kernels"]
    found = results.from_json(values)
    assert found.variants[0].runs[0].kernels is None
    assert found.variants[0].runs[0].top1 == (0.5, 0.6)


def test_each_runs_kernels_stand_beside_bvlcs_and_random_ones(tmp_path: Path) -> None:
    found = with_films(tmp_path, (0, 36), (12, 0))
    table = tables.kernels_table(found)
    assert table is not None
    first, second, bvlc, random = table.records()
    assert first == {
        "variant": "baseline", "seed": 5, "compact": 40, "smoothness": 4,
        "colourfulness_1": 0, "colourfulness_2": 0.75, "difference": -0.75,
    }  # fmt: skip
    assert (second["seed"], second["difference"]) == (6, 0.25)
    assert (bvlc["variant"], bvlc["compact"], bvlc["colourfulness_1"]) == ("BVLC AlexNet", 80, 0.766)
    assert (random["compact"], random["smoothness"], random["difference"]) == (0, 3.636, 0)
    assert "Do the towers specialise?" in [one.title.partition(" Kernels")[0] for one in tables.tables(found)]
    for text in (tables.markdown(found), tables.report(found), tables.as_text(found)):
        assert "Do the towers specialise?" in text
    for text in (tables.markdown(found), tables.report(found)):
        assert "not always the same tower is the more colourful one" in text


@pytest.mark.parametrize(
    ("coloured", "which", "apart"),
    [
        (
            [(0, 36), (0, 24), (12, 36)],  # 0.75, 0.5 and 0.5 apart
            "always tower 2 is the more colourful one (3 of 3 seeds; by chance it is always the same 1 time in 4)",
            "0.58 ± 0.14",
        ),
        (
            [(36, 0), (0, 12)],
            "not always the same tower is the more colourful one (tower 1 in 1 of 2 seeds, tower 2 in 1)",
            "0.50 ± 0.35",
        ),
        ([(36, 0)], "tower 1 is the more colourful one (one seed)", "0.75"),
        ([(12, 12), (0, 0)], "neither tower is the more colourful one", "0.00 ± 0.00"),
    ],
)
def test_whether_the_towers_specialise_is_said_as_it_is(
    coloured: list[tuple[int, int]], which: str, apart: str, tmp_path: Path
) -> None:
    assert tables.tower_sentences(with_films(tmp_path, *coloured)) == [
        f"baseline: {which}; the two are {apart} apart in mean colourfulness.",
        "The towers of BVLC AlexNet have 0.77 and 0.15, 0.62 apart; random weights have 0.67 in both.",
    ]


# --- as data ----------------------------------------------------------------------------------------------------------


def test_results_are_whole_without_the_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ablation", str(folder), "--write"]) == 0
    shown = capsys.readouterr().out
    found = read(folder)
    kept = folder / "results.json"
    (folder / "results.md").rename(folder / "kept.md")
    for one in plan_of(folder, seeds=3):
        shutil.rmtree(one.run.path)
    assert read(kept) == found
    assert main(["ablation", str(kept)]) == 0
    assert capsys.readouterr().out == shown
    assert main(["ablation", str(kept), "--format", "markdown"]) == 0
    assert capsys.readouterr().out == (folder / "kept.md").read_text()
    assert main(["ablation", str(kept), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"][0]["rows"][0]["published_top1"] == 1.4
    assert main(["ablation", str(kept), "--write"]) == 2
    assert "--write needs the folder of the runs" in capsys.readouterr().err


def test_results_name_no_place_of_this_machine(folder: Path) -> None:
    tables.save(read(folder), folder)
    for name in ("results.json", "results.md"):
        text = (folder / name).read_text()
        assert "/far/pictures" not in text
        assert str(folder) not in text
        assert "insects" in text


def test_results_are_small_enough_to_be_shipped(tmp_path: Path) -> None:
    for one in plan_of(tmp_path, seeds=3):
        write(one, top1=tuple(0.123456789 + at / 1000 for at in range(20)), right=(0.987654321,) * 80)
    tables.save(read(tmp_path), tmp_path)
    assert (tmp_path / "results.json").stat().st_size < 15_000  # 100 kB are allowed


def test_the_command_repeats_the_recipe(found: Ablation) -> None:
    assert found.command.startswith("python -m alexnet ablate DATA ")
    said = parser().parse_args(found.command.split()[3:])
    given = {name: value for name in CONFIG.as_json() if (value := getattr(said, name)) is not None}
    assert configured(given.pop("preset"), **given | {"data": CONFIG.data}) == CONFIG
    assert (said.seeds, said.rate, said.only) == (3, ["tanh=0.005"], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no results of an ablation"),
        ("[]", "holds no results of an ablation: TypeError"),
        ('{"format": 9}', "its format is 9, and this version reads 1"),
        ('{"format": 1}', "KeyError: 'data'"),
    ],
)
def test_damaged_results_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ResultsError, match=message):
        read(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ([], "it has no variant"),
        ([{"name": "relu"}], "its variant 'relu' is none of baseline, no-lrn, no-overlap, tanh"),
        ([{"runs": []}], "its variant baseline has no run"),
    ],
)
def test_results_that_no_table_can_show_are_refused(
    variants: list[dict[str, Any]], message: str, found: Ablation
) -> None:
    values = found.as_json()
    values["variants"] = [values["variants"][0] | changes for changes in variants]
    with pytest.raises(ValueError, match=message):
        results.from_json(values)


def test_curves_of_unequal_length_are_refused(found: Ablation) -> None:
    values = found.as_json()
    values["variants"][1]["runs"][0]["top1"].pop()
    with pytest.raises(ValueError, match="the curves of seed 5 are not equally long"):
        results.from_json(values)


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(plan_of(tmp_path)[0], state="stopped")
    assert main(["ablation", str(tmp_path)]) == 2
    assert "holds no finished run of an ablation: python -m alexnet ablate DATA makes them" in capsys.readouterr().err


def test_a_finished_run_without_validations_is_named(tmp_path: Path) -> None:
    write(plan_of(tmp_path)[0], top1=())
    with pytest.raises(ResultsError, match=r"baseline-seed-5 is finished and has no validation in metrics\.jsonl"):
        read(tmp_path)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_effects_stand_beside_the_published_ones(found: Ablation) -> None:
    first, second, third = tables.effects_table(found).records()
    assert first == {
        "change": "without LRN",
        "seeds": 3,
        "top1": 2.0,
        "top1_half": 2.48,
        "top5": 2.0,
        "top5_half": 2.48,
        "published_top1": 1.4,
        "published_top5": 1.2,
        "source": "Krizhevsky et al. 2012, section 3.3",
    }
    assert (second["published_top1"], second["published_top5"]) == (0.4, 0.3)
    assert (third["top1"], third["published_top1"]) == (22.0, None)


def test_the_other_tables(found: Ablation) -> None:
    records = {row["variant"]: row for row in tables.results_table(found).records()}
    assert records["tanh"]["learning_rate"] == 0.005
    assert records["no-lrn"]["top1_error"] == pytest.approx(0.2)
    assert records["no-lrn"]["top1_deviation"] == pytest.approx(statistics.stdev([0.19, 0.2, 0.21]))
    speed = {row["variant"]: row for row in tables.speed_table(found).records()}
    assert (speed["tanh"]["epochs"], speed["tanh"]["each"], speed["tanh"]["times"]) == (3.5, "3.5, 3.5, 3.5", 1.75)
    assert speed["baseline"]["times"] is None
    assert len(tables.runs_table(found).rows) == 12


def test_the_sentences_say_what_is_and_is_not_known(found: Ablation) -> None:
    lrn, overlap, tanh, speed = tables.sentences(found)
    assert lrn == (
        "without LRN: top-1 error +2.00 points (95 % interval −0.48 to +4.48, 3 seeds; it includes 0, so these runs "
        "cannot tell). Published: +1.40 (Krizhevsky et al. 2012, section 3.3)."
    )
    assert "top-1 error 0.00 points" in overlap
    assert "so these runs cannot tell" not in tanh
    assert speed.startswith("tanh takes 1.8 times as many epochs to 25 % training error (3 seeds); published: 6 times")


def test_a_published_figure_outside_our_interval_is_said_to_be_so(tmp_path: Path) -> None:
    shares = {"baseline": (0.800, 0.800, 0.800), "no-lrn": (0.750, 0.751, 0.752), "no-overlap": (0.79, 0.80, 0.798)}
    for one in plan_of(tmp_path, seeds=3, only=tuple(shares)):
        write(one, top1=(shares[one.variant][one.config.seed - 5],))
    found = read(tmp_path)
    assert differences(found, "no-lrn") == pytest.approx({5: 0.050, 6: 0.049, 7: 0.048})
    lrn, overlap = tables.sentences(found)
    assert lrn.endswith("Published: +1.40, outside this interval (Krizhevsky et al. 2012, section 3.3).")
    assert overlap.endswith("Published: +0.40 (Krizhevsky et al. 2012, section 3.4).")  # 0.40 ± 1.31


def test_25_percent_that_nobody_reached_are_said_to_be_so(tmp_path: Path) -> None:
    for one in plan_of(tmp_path, only=("baseline", "tanh")):
        write(one, right=(0.1,) * 16 if one.variant == "tanh" else FAST)
    found = read(tmp_path)
    assert tables.speed_table(found).records()[1]["each"] == "not reached, not reached"
    assert tables.sentences(found)[-1].startswith(
        "25 % training error was reached by 2 of 2 runs with ReLU and 0 of 2 runs with tanh; published: 6 times"
    )


def test_published_figures_are_those_of_the_paper() -> None:
    found = {name: (one.top1, one.top5) for name, one in results.PUBLISHED.items()}
    assert found == {"no-lrn": (0.014, 0.012), "no-overlap": (0.004, 0.003), "tanh": (None, None)}
    assert set(found) == set(ALL) - {"baseline"}
    assert results.PUBLISHED_SPEED == 6


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_table_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert alexnet_main(["ablate", "--out", str(folder), "--table"]) == 0
    assert capfd.readouterr().out.startswith("What each change costs, insects, 4 epochs\n")
    assert {"results.json", "results.md"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no data named"),
        (("built-in", "--network", "vgg-d"), "no-lrn cannot be trained: vgg-d has no LRN to leave out"),
        (("built-in", "--only", "x"), "there is no variant 'x'"),
        (("built-in", "--seeds", "0"), "argument --seeds: expected a whole number above 0"),
        (("built-in", "--network", "alexnet@109"), "no-overlap cannot be trained: .* pool2 would give 256×6×6"),
    ],
)
def test_a_mistake_is_one_line(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        status: object = alexnet_main(["ablate", *words, "--out", str(tmp_path / "runs")])
    except SystemExit as ended:  # argparse's own
        status = ended.code
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    assert status == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said)
    assert not (tmp_path / "runs").exists()


def ablate(*words: object, **changes: object) -> list[str]:
    return [sys.executable, "-m", "alexnet", "ablate", *map(str, words), *options(epochs=3, **changes)]


@pytest.mark.slow
def test_an_ablation_that_is_interrupted_goes_on_and_ends_as_single_runs_do(tmp_path: Path) -> None:
    data, out = folder_of_pictures(tmp_path / "pictures"), tmp_path / "ablation"
    words = (data, "--out", out, "--seeds", 2, "--only", "baseline,tanh", "--rate", "tanh=0.01")
    process = subprocess.Popen(ablate(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    second = RunDirectory(out / "tanh-seed-0")
    deadline = time.monotonic() + 120
    while len(second.metrics()) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "python -m alexnet ablate: interrupted; the same command goes on with it" in said
    first = RunDirectory(out / "baseline-seed-0")
    assert (first.status()["state"], second.status()["state"]) == ("finished", "stopped")
    untouched = first.last.stat().st_mtime_ns

    other = subprocess.run(ablate(*words, batch=4), cwd=ROOT, capture_output=True, text=True, check=False)
    assert other.returncode == 2
    assert (
        "baseline-seed-0 was trained with --batch 8, and now --batch 4 is asked for: one ablation has one recipe"
        in other.stderr
    )

    again = subprocess.run(ablate(*words), cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "4 runs, 1 of them finished" in again.stdout
    assert "run 2 of 4: tanh, seed 0 goes on in" in again.stdout
    assert first.last.stat().st_mtime_ns == untouched
    found: Ablation = read(out / "results.json")
    assert [(one.name, [run.seed for run in one.runs]) for one in found.variants] == [
        ("baseline", [0, 1]),
        ("tanh", [0, 1]),
    ]
    vals = [record["top1"] for record in second.metrics() if record["kind"] == "val"]
    assert found.variants[1].runs[0].top1 == pytest.approx(vals, abs=1e-5)
    assert len(vals) == 3

    # One of them by itself, undisturbed, ends with the same weights to the bit.
    alone = RunDirectory(tmp_path / "alone")
    done = train(data, "--run-dir", alone.path, *options(epochs=3, network="alexnet-2012@67:tanh", learning_rate=0.01))
    assert done.returncode == 0, done.stderr
    mine, theirs = checkpoints.load(alone.last).weights, checkpoints.load(second.last).weights
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
