"""Branches: new runs that go on from another run's checkpoint, with some values of the recipe changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alexnet import checkpoints
from alexnet.bundled import bundle_of
from alexnet.checks import TrainingError
from alexnet.config import ANEW, KEPT_BY_BRANCHES, ConfigError, TrainConfig, option
from alexnet.course import RATE
from alexnet.optim import Plateau
from alexnet.runs import RunDirectory, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from alexnet.checkpoints import Checkpoint
    from alexnet.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Branch:
    """A checkpoint at `path` to go on from, the recipe it was trained with, and the values that change: (old, new)."""

    checkpoint: Checkpoint
    path: Path
    config: TrainConfig
    changed: dict[str, list[Any]]

    def goes_on(self, pictures: int) -> bool:
        """Whether it keeps step, momentum and order of the pictures, with so many pictures to train."""
        before = self.checkpoint.training
        return before is not None and not ANEW & self.changed.keys() and before.get("pictures", pictures) == pictures

    @property
    def step(self) -> int:
        """The step of the checkpoint."""
        return int((self.checkpoint.training or self.checkpoint.results).get("step", 0))

    @property
    def parent(self) -> RunDirectory | None:
        """The run that it comes from, where the checkpoint still lies in it; a branch's own `start` does not."""
        run = RunDirectory(self.path.parent.parent)
        return run if self.path != run.start and self.path.parent == run.last.parent else None

    def record(self, pictures: int) -> dict[str, Any]:
        """Where it comes from, for config.json; `before` is where its parent came from, if that is a branch, too."""
        parent = self.parent
        before = parent.config().get("branch") if parent is not None and parent.config_path.is_file() else None
        return {
            "run": parent.path.name if parent is not None else None,
            "checkpoint": self.path.stem,
            "step": self.step,
            "changed": self.changed,
            "mode": "continue" if self.goes_on(pictures) else "weights",
        } | ({"before": before} if before else {})

    def check(self, classes: Sequence[str], data: str) -> None:
        """Raises RunError where the data has other classes than the network tells apart."""
        if self.checkpoint.classes != tuple(classes):
            raise RunError(
                f"{self.path} tells {len(self.checkpoint.classes)} classes apart, {self.checkpoint.classes[0]} first, "
                f"and {data} has {len(classes)}, {classes[0]} first: a branch keeps its classes; start a new run for "
                "others"
            )

    def bend(self, trainer: Trainer, pictures: int) -> str:
        """Gives a trainer that has the weights what else it goes on with; says what that is.

        Raises:
            TrainingError: nothing is left to train.
        """
        config, goes_on = trainer.config, self.goes_on(pictures)
        if goes_on and self.checkpoint.training is not None:
            trainer.load_state(self.checkpoint.training)
            if RATE & self.changed.keys():
                trainer.plateau = Plateau(config.learning_rate, config.patience, config.drops)
        if trainer.finished:
            more = "" if trainer.step >= trainer.steps else f", or more {option('drops')}, since validation had stalled"
            raise TrainingError(
                f"there is nothing left to train: {self.path} is at step {trainer.step:,}, and with "
                f"{option('epochs')} {config.epochs} the end is step {trainer.steps:,}; give more {option('epochs')}"
                + more
            )
        how = "with step, momentum and order of pictures" if goes_on else "with its weights alone, from step 0"
        changed = ", ".join(f"{option(name)} {new} (was {old})" for name, (old, new) in self.changed.items())
        return f"goes on from {self.path} at step {self.step:,}, {how}; changed: {changed or 'nothing'}"


def opened(path: Path, changes: dict[str, Any], taken: Path | None = None) -> Branch:
    """The checkpoint at `path`, or a run's last one, as the root of a branch with these values.

    A bundle has weights alone, so that a branch of it begins at step 0.
    `taken` is that checkpoint as it was when the branch was asked for: `path` may have been replaced since, or be gone.

    Raises:
        UserError: it cannot be read, came with no recipe, is no whole network, or a value cannot be changed.
    """
    path = _of_folder(RunDirectory(path)) if path.is_dir() else path
    checkpoint = checkpoints.load(taken or path)
    try:
        config = TrainConfig.from_json(checkpoint.config)
    except ConfigError as error:
        raise TrainingError(f"no branch can start from {path}, since no recipe came with it: {error}") from None
    changed = {
        name: [getattr(config, name), value] for name, value in changes.items() if getattr(config, name) != value
    }
    if fixed := sorted(KEPT_BY_BRANCHES & changed.keys()):
        name = fixed[0]
        raise TrainingError(
            f"a branch keeps {option(name)} {changed[name][0]} of the run it comes from, got {changed[name][1]}: leave "
            "it out, or start a new run"
        )
    if missing := checkpoint.missing:
        raise TrainingError(f"{path} holds no weights for {', '.join(missing)}: a branch needs a whole network")
    return Branch(checkpoint, path, config, changed)


def _of_folder(run: RunDirectory) -> Path:
    bundle = bundle_of(run)
    return run.last if bundle is None else bundle.weights


def unsaved(run: RunDirectory, began: dict[str, Any]) -> Branch | None:
    """The branch that a resumed run is, where it was killed before it had a checkpoint of its own.

    Raises:
        UserError: what it began from cannot be read.
    """
    root = began.get("branch")
    if root is None or run.last.exists() or not run.start.exists():
        return None
    if any(record["step"] > root["step"] for record in run.metrics() if isinstance(record.get("step"), int)):
        return None
    changes = {name: new for name, (_old, new) in root["changed"].items()}
    return opened(run.start, changes)
