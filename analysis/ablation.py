"""What was found by `python -m alexnet ablate`: errors with and without one thing, seed by seed, beside the paper's.

Everything is in one JSON value, small enough to be shipped, that is read without the runs.  What is judged is each
run's **last** validation: the best of many is lucky, and luckier the more validations there are.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alexnet.ablation import BASELINE, OWN, VARIANTS, runs_in
from alexnet.config import RESUMABLE, ConfigError, TrainConfig
from alexnet.errors import UserError
from alexnet.launch import LaunchError, Request, command
from analysis.formats import rounded
from analysis.kernel_figures import SIDE, KernelFigures, kernel_figures
from analysis.kernels import kernel_measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from alexnet.runs import RunDirectory
    from analysis.curves import Curves

FORMAT = 1
RESULTS = "results.json"
REACHES = 0.25
"""Figure 1: how long until the training error is this."""
CONFIDENCE = 0.95
_DIGITS = 5  # of a share: a hundredth of a picture in a thousand


class ResultsError(UserError):
    """Results cannot be read; the message names the file and says why."""


# --- what was published -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """What the paper says that leaving something out costs, on ILSVRC-2012's validation set.

    `top1` and `top5` are shares of one by which the error rises; None where no such figure was printed.
    """

    title: str
    source: str
    top1: float | None
    top5: float | None
    also: str


PUBLISHED: dict[str, Published] = {
    "no-lrn": Published(
        "without LRN",
        "Krizhevsky et al. 2012, section 3.3",
        0.014,
        0.012,
        "a four-layer network on CIFAR-10: 13 % error without, 11 % with",
    ),
    "no-overlap": Published(
        "pooling without overlap (z = 2, s = 2)", "Krizhevsky et al. 2012, section 3.4", 0.004, 0.003, ""
    ),
    "tanh": Published(
        "tanh instead of ReLU",
        "Krizhevsky et al. 2012, section 3.1 and figure 1",
        None,
        None,
        "a four-layer network on CIFAR-10, without regularisation and each with its own learning rate: ReLU reaches "
        "25 % training error in a sixth of the iterations",
    ),
}
PUBLISHED_SPEED = 6.0
"""Figure 1: times as many iterations with tanh until the training error is 25 %."""


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished run.  Shares of one; the curves have one entry an epoch with a validation, counted from 1.

    `train_top1` is over an epoch's steps as they were taken, with dropout, random crops and reflections.  `reached` is
    after how many epochs the training error, a mean over the epoch before, was first 25 %; None where never.
    `kernels` are the first layer's at the last moment of the run's film; None where it has no film, or where that
    layer's kernels are not 11×11 on red, green and blue.
    """

    seed: int
    epochs: tuple[float, ...]
    train_top1: tuple[float | None, ...]
    top1: tuple[float, ...]
    topk: tuple[float | None, ...]
    reached: float | None
    seconds: float | None
    kernels: KernelFigures | None = None

    @property
    def last_top1(self) -> float:
        return self.top1[-1]

    @property
    def last_topk(self) -> float | None:
        return self.topk[-1]

    @property
    def best_top1(self) -> float:
        return max(self.top1)


@dataclass(frozen=True, slots=True)
class Variant:
    """One change and its finished runs, by seed."""

    name: str
    network: str
    learning_rate: float
    runs: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Ablation:
    """A whole ablation.  `k` is that of top-k; `recipe` has no path, and `machines` every one that took part."""

    data: Mapping[str, Any]
    recipe: Mapping[str, Any]
    command: str
    machines: tuple[Mapping[str, Any], ...]
    k: int
    variants: tuple[Variant, ...]

    @property
    def runs(self) -> list[Outcome]:
        """Every run of every variant."""
        return [run for one in self.variants for run in one.runs]

    @property
    def epochs(self) -> float:
        """How long the longest run really was: a plateau or --max-steps may end one before the recipe's epochs."""
        return max(run.epochs[-1] for run in self.runs)

    def variant(self, name: str) -> Variant | None:
        """The variant of this name, where any run of it is finished."""
        return next((one for one in self.variants if one.name == name), None)

    def as_json(self) -> dict[str, Any]:
        """Plain types, everything that the tables need."""
        return {
            "format": FORMAT,
            "data": dict(self.data),
            "recipe": dict(self.recipe),
            "command": self.command,
            "machines": [dict(machine) for machine in self.machines],
            "k": self.k,
            "variants": [
                {
                    "name": one.name,
                    "network": one.network,
                    "learning_rate": one.learning_rate,
                    "runs": [
                        {
                            "seed": run.seed,
                            "epochs": list(run.epochs),
                            "train_top1": list(run.train_top1),
                            "top1": list(run.top1),
                            "topk": list(run.topk),
                            "reached": run.reached,
                            "seconds": run.seconds,
                            "kernels": None if run.kernels is None else run.kernels.as_json(),
                        }
                        for run in one.runs
                    ],
                }
                for one in self.variants
            ],
        }


# --- reading ----------------------------------------------------------------------------------------------------------


def read(path: Path) -> Ablation:
    """An ablation from the folder of its runs, or from a results.json.

    Raises:
        ResultsError: there is no finished run, or the file is damaged.
    """
    if path.is_file():
        return _from_file(path)
    return _from_runs(path)


def _from_file(path: Path) -> Ablation:
    try:
        return from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} holds no results of an ablation: {error}") from None


def from_json(values: Any) -> Ablation:
    """What `Ablation.as_json` gave.

    Raises:
        ValueError: something is missing or of another kind.
    """
    try:
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']}, and this version reads {FORMAT}")
        found = Ablation(
            data=dict(values["data"]),
            recipe=dict(values["recipe"]),
            command=str(values["command"]),
            machines=tuple(dict(machine) for machine in values["machines"]),
            k=int(values["k"]),
            variants=tuple(
                Variant(
                    str(one["name"]),
                    str(one["network"]),
                    float(one["learning_rate"]),
                    tuple(_outcome_from(run) for run in one["runs"]),
                )
                for one in values["variants"]
            ),
        )
        _check_variants(found)
    except (TypeError, KeyError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    return found


def _check_variants(found: Ablation) -> None:
    """Raises ValueError where there is a variant without runs, or that this version does not know, or none at all."""
    if not found.variants:
        raise ValueError("it has no variant")
    for one in found.variants:
        if one.name not in VARIANTS:
            raise ValueError(f"its variant {one.name!r} is none of {', '.join(VARIANTS)}")
        if not one.runs:
            raise ValueError(f"its variant {one.name} has no run")


def _outcome_from(run: Any) -> Outcome:
    epochs, top1 = (tuple(float(value) for value in run[name]) for name in ("epochs", "top1"))
    train_top1, topk = (tuple(map(_share, run[name])) for name in ("train_top1", "topk"))
    if not 0 < len(epochs) == len(top1) == len(train_top1) == len(topk):
        raise ValueError(f"the curves of seed {run['seed']} are not equally long")
    kernels = run.get("kernels")  # not in results from before they were measured
    return Outcome(
        seed=int(run["seed"]),
        epochs=epochs,
        train_top1=train_top1,
        top1=top1,
        topk=topk,
        reached=_share(run["reached"]),
        seconds=_share(run["seconds"]),
        kernels=None if kernels is None else _kernels_from(kernels),
    )


def _kernels_from(values: Any) -> KernelFigures:
    return KernelFigures(
        kernels=int(values["kernels"]),
        compact=int(values["compact"]),
        smoothness=_share(values["smoothness"]),
        colourfulness=tuple(map(_share, values["colourfulness"])),
    )


def _share(value: Any) -> float | None:
    return None if value is None else float(value)


def _from_runs(folder: Path) -> Ablation:
    from analysis.history import History  # noqa: PLC0415 - what only runs need, not their results

    found: dict[str, list[tuple[TrainConfig, Outcome]]] = {}
    records, ks = [], set()
    for name, _seed, run in runs_in(folder):
        if run.status().get("state") != "finished":
            continue
        record = run.config()
        config, curves = _config(run, record), History(run.metrics_path).update()
        if not curves.val.step.size:
            raise ResultsError(f"{run.path} is finished and has no validation in {run.metrics_path.name}")
        records.append(record)
        ks.add(curves.val.k)
        found.setdefault(name, []).append(
            (config, replace(outcome(config, record, curves), kernels=_kernels(config, run)))
        )
    if not records:
        raise ResultsError(f"{folder} holds no finished run of an ablation: python -m alexnet ablate DATA makes them")
    configs = {name: runs[0][0] for name, runs in found.items()}
    base = _base(*next(iter(configs.items())))
    machines = [record.get("machine", {}) for record in records]
    data = records[0].get("data", {})
    return Ablation(
        data={name: data.get(name) for name in ("name", "train", "val")} | {"classes": len(data.get("classes", ()))},
        recipe={name: value for name, value in base.as_json().items() if name not in RESUMABLE | OWN}
        | {"network": base.network},
        command=_command(configs, max(len(runs) for runs in found.values()), base),
        machines=tuple(machine for at, machine in enumerate(machines) if machine not in machines[:at]),
        k=max(ks),
        variants=tuple(
            Variant(name, configs[name].network, configs[name].learning_rate, tuple(one for _, one in runs))
            for name, runs in found.items()
        ),
    )


def _base(name: str, config: TrainConfig) -> TrainConfig:
    """The baseline's config, from the first variant's: the baseline's own, where it was trained."""
    network, change = config.network, VARIANTS[name]
    return replace(config, network=network.replace(f":{change}", "") if change else network)


def _config(run: RunDirectory, record: Mapping[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.from_json(record.get("config", {}))
    except ConfigError as error:
        raise ResultsError(f"{run.config_path} holds no config: {error}") from None


def _command(configs: Mapping[str, TrainConfig], seeds: int, base: TrainConfig) -> str:
    """What repeats it, with DATA for where the pictures lie."""
    try:
        _, *words = command(Request(base.as_json() | {"data": "DATA"}))
    except LaunchError:  # a value that cannot be said on the command line, which no ablation has
        return ""
    only = [] if len(configs) == len(VARIANTS) else ["--only", ",".join(configs)]
    for name, config in configs.items():
        if config.learning_rate != base.learning_rate:
            only += ["--rate", f"{name}={config.learning_rate:g}"]
    return " ".join(["python -m alexnet ablate DATA", *words, "--seeds", str(seeds), *only])


def outcome(config: TrainConfig, record: Mapping[str, Any], curves: Curves) -> Outcome:
    """What one run's records say."""
    pictures = record.get("data", {}).get("train")
    steps_per_epoch = max(pictures // config.batch, 1) if isinstance(pictures, int) else 1
    train, val = curves.train, curves.val
    validated = [
        (step, top1, topk)
        for step, top1, topk in zip(val.step.tolist(), val.top1.tolist(), val.topk.tolist(), strict=True)
        if math.isfinite(top1)
    ]
    right = [
        (step, share * count, count)
        for step, share, count in zip(train.step.tolist(), train.top1.tolist(), train.pictures.tolist(), strict=True)
        if math.isfinite(share) and math.isfinite(count)
    ]
    return Outcome(
        seed=config.seed,
        epochs=tuple(round(step / steps_per_epoch, 3) for step, _, _ in validated),
        train_top1=tuple(_mean_between(right, step - steps_per_epoch, step) for step, _, _ in validated),
        top1=tuple(round(top1, _DIGITS) for _, top1, _ in validated),
        topk=tuple(round(topk, _DIGITS) if math.isfinite(topk) else None for _, _, topk in validated),
        reached=_reached(right, steps_per_epoch),
        seconds=_seconds(curves),
    )


def _kernels(config: TrainConfig, run: RunDirectory) -> KernelFigures | None:
    """The first layer's at the run's last probe; None where there is none that can be measured."""
    from analysis import film  # noqa: PLC0415 - as above

    steps = film.steps(run.path)
    if not steps or not steps[-1]:  # step 0 says nothing of a training
        return None
    try:
        weights = film.read_kernels(run.probe_path(steps[-1]))
        if weights.shape[1:] != (3, SIDE, SIDE):
            return None
        found = kernel_figures(kernel_measures(weights, film.screen(config.described_network()).towers))
    except UserError:  # damaged, or no numbers: a film has that said, and here it is one row less
        return None
    return replace(
        found,
        smoothness=rounded(found.smoothness, 4),
        colourfulness=tuple(rounded(share, 4) for share in found.colourfulness),
    )


def _mean_between(right: Sequence[tuple[int, float, float]], after: int, upto: int) -> float | None:
    """The share right of all pictures in the records of these steps."""
    chosen = [(good, count) for step, good, count in right if after < step <= upto]
    pictures = sum(count for _, count in chosen)
    return round(sum(good for good, _ in chosen) / pictures, _DIGITS) if pictures else None


def _reached(right: Sequence[tuple[int, float, float]], steps_per_epoch: int) -> float | None:
    """After how many epochs the error, a mean over the whole epoch before, is first `REACHES`."""
    good = pictures = 0.0
    first = 0
    for step, more, count in right:
        good, pictures = good + more, pictures + count
        while right[first][0] <= step - steps_per_epoch:
            good, pictures, first = good - right[first][1], pictures - right[first][2], first + 1
        if step >= steps_per_epoch and pictures and 1 - good / pictures <= REACHES + 1e-9:
            return round(step / steps_per_epoch, 3)
    return None


def _seconds(curves: Curves) -> float | None:
    """Spent in steps and validations, so that a night in which the run was stopped does not count."""
    from analysis.learning import places  # noqa: PLC0415 - as above

    hours = places(curves, "time")
    return None if hours is None else round(float(hours(curves.val.step[-1:])[0]) * 3600, 1)


# --- Student's t ------------------------------------------------------------------------------------------------------


def t_within(t: float, freedom: int) -> float:
    """How probable |T| < t is, for Student's T with so many degrees of freedom (Abramowitz and Stegun, 26.7.3–4)."""
    angle = math.atan(t / math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = total = cosine if odd else 1.0
    for index in range(2 + odd, freedom - 1, 2):
        term *= (index - 1) / index * cosine**2
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if freedom > 1 else 0.0))


def t_quantile(freedom: int) -> float:
    """The t with |T| < t as often as `CONFIDENCE` says: 4.303 for two degrees of freedom.

    Raises:
        ValueError: there is no degree of freedom.
    """
    if freedom < 1:
        raise ValueError(f"Student's t needs at least one degree of freedom, got {freedom}")
    low, high = 0.0, 1.0
    while t_within(high, freedom) < CONFIDENCE:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_within(middle, freedom) < CONFIDENCE else (low, middle)
    return (low + high) / 2


# --- what they say ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and sample standard deviation over `count` runs; of one run there is no deviation."""

    count: int
    mean: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Effect:
    """How much more the error is than the baseline's: the mean over seeds that both have, and ± half a 95 % interval.

    `half` is None where there is one pair only: nothing is known of the spread then.
    """

    seeds: tuple[int, ...]
    mean: float
    half: float | None

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.excludes(0.0)

    def excludes(self, share: float) -> bool:
        """Whether the interval leaves out this difference."""
        return self.half is not None and abs(self.mean - share) > self.half


def spread(values: Sequence[float]) -> Spread | None:
    """Of a few numbers; None of none."""
    if not values:
        return None
    return Spread(len(values), statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def differences(found: Ablation, name: str, *, top: int = 1) -> dict[int, float]:
    """A variant's error less the baseline's, by seed; nothing where they share none.

    `top` is 1, or the ablation's k.
    """
    base, other = found.variant(BASELINE), found.variant(name)
    pairs: dict[int, float] = {}
    if base is None or other is None:
        return pairs
    ours = {run.seed: run.last_top1 if top == 1 else run.last_topk for run in base.runs}
    for run in other.runs:
        theirs, mine = run.last_top1 if top == 1 else run.last_topk, ours.get(run.seed)
        if theirs is not None and mine is not None:
            pairs[run.seed] = mine - theirs
    return pairs


def effect(found: Ablation, name: str, *, top: int = 1) -> Effect | None:
    """The mean of a variant's `differences` with its interval; None where there is none."""
    pairs = differences(found, name, top=top)
    whole = spread(list(pairs.values()))
    if whole is None:
        return None
    half = None
    if whole.deviation is not None:
        half = t_quantile(whole.count - 1) * whole.deviation / math.sqrt(whole.count)
    return Effect(tuple(sorted(pairs)), whole.mean, half)


def errors(variant: Variant, *, top: int = 1) -> Spread | None:
    """The error of every run at its last validation."""
    shares = [run.last_top1 if top == 1 else run.last_topk for run in variant.runs]
    return spread([1 - share for share in shares if share is not None])


def slower(found: Ablation, name: str) -> tuple[float, int] | None:
    """How many times as many epochs a variant takes to 25 % training error, and over how many pairs that is the mean.

    None where no seed reached it both ways; seeds that did not are left out, so the true factor is larger then.
    """
    base, other = found.variant(BASELINE), found.variant(name)
    if base is None or other is None:
        return None
    ours = {run.seed: run.reached for run in base.runs}
    ratios = [run.reached / mine for run in other.runs if run.reached and (mine := ours.get(run.seed))]
    return (statistics.fmean(ratios), len(ratios)) if ratios else None
