"""The same recipe with one thing changed at a time, several seeds each: one run directory for every training.

The changes are those that the paper gives figures for: without LRN (section 3.3), without overlap in pooling (section
3.4), and tanh instead of ReLU (section 3.1, figure 1).  Runs of one seed share initial weights, order and crops, so
they can be compared pair by pair.  No torch: what trains is handed in.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

from alexnet.config import RESUMABLE, ConfigError, TrainConfig, option
from alexnet.errors import UserError
from alexnet.progress import Progress
from alexnet.runs import RunDirectory
from alexnet.spec import IllegalNetworkError
from alexnet.words import hours_and_minutes
from alexnet.zoo import network_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

BASELINE = "baseline"
VARIANTS: dict[str, str] = {BASELINE: "", "no-lrn": "no-lrn", "no-overlap": "no-overlap", "tanh": "tanh"}
"""What is trained, and what stands for it behind the network's name."""

OWN = frozenset({"network", "learning_rate", "seed"})
"""In what the runs of one ablation may differ: variant, rate and seed."""
UNSAID = frozenset({"preset"})
"""The preset is a word for values, and the values are compared."""

_FOLDER = re.compile(r"(?P<variant>[a-z-]+)-seed-(?P<seed>[0-9]{1,18})")

State = Literal["to do", "begun", "finished"]


class AblationError(UserError):
    """An ablation cannot be run as asked; the message names the run, the reason and the remedy."""


class RunFailedError(Exception):
    """One training of an ablation could not go on; the message is its own."""


@dataclass(frozen=True, slots=True)
class Planned:
    """One training of an ablation."""

    variant: str
    config: TrainConfig
    run: RunDirectory

    @property
    def state(self) -> State:
        if not self.run.config_path.is_file():
            return "to do"
        return "finished" if self.run.status().get("state") == "finished" else "begun"

    def __str__(self) -> str:
        return f"{self.variant}, seed {self.config.seed}"


def folder_name(variant: str, seed: int) -> str:
    """What the folder of a run is called."""
    return f"{variant}-seed-{seed}"


def runs_in(folder: Path) -> list[tuple[str, int, RunDirectory]]:
    """Variant, seed and directory of every run in an ablation's folder, the baseline first."""
    order, found = list(VARIANTS), []
    for path in folder.iterdir() if folder.is_dir() else ():
        name = _FOLDER.fullmatch(path.name)
        if name and name["variant"] in VARIANTS and (path / "config.json").is_file():
            found.append((name["variant"], int(name["seed"]), RunDirectory(path)))
    return sorted(found, key=lambda one: (order.index(one[0]), one[1]))


# --- planning ---------------------------------------------------------------------------------------------------------


def variants(text: str | None) -> tuple[str, ...]:
    """The variants named in ``baseline,tanh``, in the usual order; all where nothing is named.

    Raises:
        AblationError: there is none of that name.
    """
    if text is None:
        return tuple(VARIANTS)
    named = [name.strip().lower() for name in text.split(",")]
    for name in named:
        if name not in VARIANTS:
            raise AblationError(f"there is no variant {name!r}: the variants are {', '.join(VARIANTS)}")
    return tuple(name for name in VARIANTS if name in named)


def rates(texts: Iterable[str]) -> dict[str, float]:
    """Learning rates of single variants from ``tanh=0.005``: figure 1's were chosen for each network by itself.

    Raises:
        AblationError: it is not a variant and a number, or a variant is named twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        name = name.strip().lower()
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if name not in VARIANTS or not isfinite(rate) or rate <= 0:
            raise AblationError(
                f"--rate takes VARIANT=RATE with one of {', '.join(VARIANTS)}, like tanh=0.005; got {text!r}"
            )
        if name in found:
            raise AblationError(f"--rate gives {name} twice: give each variant one rate")
        found[name] = rate
    return found


def planned(
    config: TrainConfig, folder: Path, *, seeds: int, only: Sequence[str], rate: Mapping[str, float]
) -> list[Planned]:
    """Every training: seed by seed, so that one that is stopped early leaves whole comparisons behind.

    Seeds count up from the config's.  A variant's rate is the config's where `rate` does not name it.

    Raises:
        ConfigError: the network cannot be changed in one of these ways.
        AblationError: a rate of a variant that is not trained.
    """
    if unused := [name for name in rate if name not in only]:
        raise AblationError(f"--rate names {unused[0]}, which is not trained: it is none of {', '.join(only)}")
    configs: dict[str, TrainConfig] = {}
    for name in only:
        change = VARIANTS[name]
        try:
            network = network_from(f"{config.network}:{change}").name if change else config.network
        except IllegalNetworkError as error:
            raise ConfigError(f"{name} cannot be trained: {error}") from None
        configs[name] = replace(config, network=network, learning_rate=rate.get(name, config.learning_rate))
    return [
        Planned(name, replace(configs[name], seed=seed), RunDirectory(folder / folder_name(name, seed)))
        for seed in range(config.seed, config.seed + seeds)
        for name in only
    ]


def check(plan: Sequence[Planned], folder: Path, data: Callable[[], Mapping[str, Any]]) -> None:
    """Holds every run that is in the folder against the plan: one recipe and one set of pictures for all.

    `data` tells what config.json says of the pictures (classes, train, val); it is asked only where a run has them
    from another place.

    Raises:
        AblationError: a run was made with another recipe or other pictures; the message names the value.
    """
    ours = {one.run.path.name: one for one in plan}
    for variant, _seed, run in runs_in(folder):
        record = run.config()
        recorded = record.get("config")
        recorded = recorded if isinstance(recorded, dict) else {}
        one = ours.get(run.path.name)
        config = (one or plan[0]).config
        for field in fields(TrainConfig):
            name, wanted = field.name, getattr(config, field.name)
            if name in RESUMABLE | UNSAID or (one is None and name in OWN):
                continue
            was = recorded.get(name, field.default)  # a run from before the field was there
            if was != wanted:
                again = f"--rate {variant}={was}" if name == "learning_rate" else _given(name, was)
                raise AblationError(
                    f"{run.path} was trained with {_given(name, was)}, and now {_given(name, wanted)} is asked for: "
                    f"one ablation has one recipe. Give {again} again, or another folder with --out"
                )
        if recorded.get("data") != config.data:
            _check_pictures(run, record.get("data"), recorded.get("data"), config.data, data())


def _given(name: str, value: object) -> str:
    """A value as it is given on the command line."""
    if value is None:
        return f"no {option(name)}"
    if isinstance(value, bool):
        return option(name if value else f"no_{name}")
    return f"{option(name)} {value}"


def _check_pictures(run: RunDirectory, was: Any, path: Any, given: str, now: Mapping[str, Any]) -> None:
    was = was if isinstance(was, dict) else {}
    for what, words in (("classes", "classes"), ("train", "number in train"), ("val", "number in val")):
        if was.get(what) != now[what]:
            raise AblationError(
                f"{run.path} was trained on {path} and {given} has others (other {words}): one ablation "
                "has one set of pictures. Give the same data again, or another folder with --out"
            )


# --- training ---------------------------------------------------------------------------------------------------------


class Meter(Progress):
    """How far one run is, and how long all that are left will take."""

    def __init__(self, plan: Sequence[Planned]) -> None:
        super().__init__("ablate")
        self._plan = plan
        self._at, self._step, self._steps, self._later = 0, 0, 0, 0
        self._taken, self._seconds, self._clock = 0, 0.0, 0.0

    def name(self, at: int) -> str:
        """What run number `at`, counted from 0, is called in the lines."""
        return f"run {at + 1} of {len(self._plan)}: {self._plan[at]}"

    def begins(self, at: int, *, step: int, steps: int) -> None:
        """Run number `at` goes on from `step` of `steps`."""
        self._at, self._step, self._steps, self._clock = at, step, steps, time.monotonic()
        self._later = sum(steps - _step_of(one) for one in self._plan[at + 1 :] if one.state != "finished")

    def show(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total`; of a training's steps also what is left in all."""
        if total == self._steps and done > self._step:
            now = time.monotonic()
            self._taken, self._seconds = self._taken + done - self._step, self._seconds + now - self._clock
            self._step, self._clock = done, now
            text = f"{text}; {self.name(self._at)}; {hours_and_minutes(self.seconds_left() or 0.0)} left in all"
        super().show(done, total, text)

    def seconds_left(self) -> float | None:
        """At the speed so far; every run has as many steps as this one.  None before the first step."""
        if not self._taken:
            return None
        return (self._steps - self._step + self._later) * self._seconds / self._taken


def _step_of(one: Planned) -> int:
    """How many steps of this run need not be taken again."""
    step = one.run.status().get("step") if one.state == "begun" else 0
    return step if isinstance(step, int) else 0


def trained(plan: Sequence[Planned], train: Callable[[Planned, Meter, int], str]) -> None:
    """Trains what is not finished; `train` takes a run, its meter and its number and says the state it ended in.

    A run that fails does not keep the others from being trained.

    Raises:
        KeyboardInterrupt: a run was asked to stop; the same command goes on.
        AblationError: runs have failed.
    """
    meter, failed = Meter(plan), []
    finished = sum(one.state == "finished" for one in plan)
    meter.say(f"{len(plan)} runs, {finished} of them finished")
    for at, one in enumerate(plan):
        state = one.state
        if state == "finished":
            continue
        what = "goes on" if state == "begun" else "begins"
        meter.say(f"{meter.name(at)} {what} in {one.run.path}")
        begun = time.monotonic()
        try:
            ended = train(one, meter, at)
        except KeyboardInterrupt:
            ended = "stopped"
        except RunFailedError as error:
            failed.append(error)
            meter.say(f"{meter.name(at)} failed: {error}")
            continue
        if ended != "finished":
            raise KeyboardInterrupt("; the same command goes on with it")
        left = meter.seconds_left()
        then = f"; {hours_and_minutes(left)} left in all" if left else ""
        meter.say(f"{meter.name(at)} finished after {hours_and_minutes(time.monotonic() - begun)}{then}")
    if failed:
        raise AblationError(
            f"{len(failed)} of {len(plan)} runs failed and are not in the table; the first: {failed[0]}"
        )
