"""One training in its run directory: from a config to a finished run, stopped and resumed as often as needed."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from alexnet import branches, checkpoints, probes
from alexnet.checks import TrainingError, enlarged, probe_crops, size_problems
from alexnet.config import RESUMABLE, ConfigError, TrainConfig, option
from alexnet.course import TEST_BATCH, steps_between_validations
from alexnet.data.images import UnreadableImageError
from alexnet.data.loading import LoaderError, TrainingBatches, batches
from alexnet.data.preprocessing import Augmentation, Geometry, Preprocessing, Statistics
from alexnet.data.sources import is_there, open_data
from alexnet.data.statistics import statistics_of, training_sample
from alexnet.evaluate import evaluate, headline
from alexnet.group import lost_another
from alexnet.machine import available_bytes, chosen, does_not_fit, ran_out_of_memory
from alexnet.recorder import Recorder, say, write_log
from alexnet.runs import FORMAT, RunDirectory, RunError, explained, link, replace_atomically
from alexnet.trainer import NotFiniteError, Trainer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from alexnet.checkpoints import Checkpoint
    from alexnet.group import Group
    from alexnet.progress import Progress
    from alexnet.runs import State
    from alexnet.trainer import Step

_IN_VAIN = 8
"""So many pictures in a row that cannot be read are not single files that are damaged."""


def begin(config: TrainConfig, run: RunDirectory, group: Group, progress: Progress) -> Session:
    """A new run in a new folder, ready to run.

    Raises:
        UserError: something does not fit; nothing has been written then.
    """
    return _begun(Session(config, run, group, progress))


def branch(
    path: Path,
    changes: dict[str, Any],
    run: RunDirectory,
    group: Group,
    progress: Progress,
    *,
    taken: Path | None = None,
) -> Session:
    """A new run that goes on from the checkpoint at `path`, or a run's last one, with some values changed.

    `taken` is that checkpoint as it was when the branch was asked for, where it waited since.

    It keeps step, momentum and the order of the pictures, so that without changes it ends with the same weights as the
    run it comes from; where optimiser, batch or pictures change it starts at step 0 with the weights alone.

    Raises:
        UserError: something does not fit; nothing has been written then.
    """
    root = branches.opened(path, changes, taken)
    config = replace(root.config, **changes)
    return _begun(Session(config, run, group, progress, branch=root))


def _begun(session: Session) -> Session:
    try:
        session.prepare()
    except BaseException:
        if session.created:
            session.run_directory.discard()
        raise
    return session


def resume(run: RunDirectory, changes: dict[str, Any], group: Group, progress: Progress) -> Session:
    """A run that goes on from its last checkpoint, ready to run.

    Raises:
        UserError: no such run, one in use, a change of what decides the weights, or a damaged checkpoint.
    """
    run.check()
    began = run.config()
    try:
        config = TrainConfig.from_json(began.get("config", {}))
    except ConfigError as error:
        raise RunError(f"{run.config_path} holds no config: {error}") from None
    for name, value in changes.items():
        if name not in RESUMABLE and getattr(config, name) != value:
            raise RunError(
                f"{run.path} trains with {option(name)} {getattr(config, name)}, not {value}: a resumed run keeps its "
                "recipe; start a new run, or a branch with --branch, for another"
            )
    config = replace(config, **{name: value for name, value in changes.items() if name in RESUMABLE})
    if group.leads and not run.held:
        run.lock()
        run.clear_stop()
    session = Session(config, run, group, progress, began=began)
    session.prepare()
    return session


class Session:
    """Everything of one training: `prepare`, then `run`."""

    def __init__(
        self,
        config: TrainConfig,
        run: RunDirectory,
        group: Group,
        progress: Progress,
        *,
        began: dict[str, Any] | None = None,
        branch: branches.Branch | None = None,
    ) -> None:
        """`began` is what config.json holds of a run that is resumed."""
        self.config, self.run_directory, self._group, self._progress = config, run, group, progress
        self._began, self._branch = began, branch
        self.created = False
        """Whether this process made the run directory."""
        self._stop_signal: int | None = None
        self._best: dict[str, Any] = {}
        self._results: dict[str, Any] = {}
        self._unreadable: dict[str, None] = {}
        self._in_vain = 0

    def prepare(self) -> None:
        """Opens the data, builds the network and takes the run directory.

        Raises:
            UserError: something does not fit.
        """
        config, group, progress = self.config, self._group, self._progress
        self.splits = open_data(config.data, val_fraction=config.val_fraction, seed=config.seed)
        self.network = config.described_network(len(self.splits.train.classes))
        if group.leads:  # before kernels are compiled, which can take half a minute the first time
            progress.say(self.splits.description)
        self.machine = chosen(
            config,
            self.network,
            in_memory=hasattr(self.splits.train, "pixels"),
            local_rank=group.local_rank,
            world=group.size,
        )
        self._check_sizes()
        checkpoint = self._taken()
        group.wait()
        if group.leads:
            write_log(self.run_directory, self.splits.description)
        for warning in self.splits.warnings:
            self._say(f"note: {warning}")
        report = self.machine.report()
        self._say("; ".join(f"{what}: {which}" for what, which in report.items()))
        began_on = self._began.get("machine", {}) if self._began is not None else {}
        if changed := [what for what in report if began_on.get(what, report[what]) != report[what]]:
            was = "; ".join(f"{what}: {began_on[what]}" for what in changed)
            self._say(f"note: this run began with {was}; its last bits may differ from a run that never moved")

        self.geometry = Geometry.of(config, self.network)
        train = self.splits.train
        if (note := enlarged(train, self.geometry)) is not None:
            self._say(f"note: {note}")
        before = checkpoint.training if checkpoint is not None else None
        self.statistics = Statistics(**before["statistics"]) if before else self._statistics()
        if self._branch is None:
            self.preprocessing = Preprocessing.trained_with(config, self.statistics, self.geometry)
        else:  # what the network is used to, also where the pictures are others
            self.preprocessing = self._branch.checkpoint.preprocessing
        self.batches = TrainingBatches(
            train, self.geometry, Augmentation.of(config), config.seed, config.batch, group.share
        )
        try:
            self.trainer = Trainer(
                config,
                self.network,
                self.machine,
                self.preprocessing,
                self.statistics,
                steps_per_epoch=self.batches.steps_per_epoch,
                share=group.share,
            )
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if checkpoint is not None:
            self.trainer.load_weights(checkpoint.weights)
        if self._branch is not None:
            self._say(self._branch.bend(self.trainer, len(train)))
        elif checkpoint is not None and before:
            self.trainer.load_state(before)
            self._best, self._results = before["best"], checkpoint.results
        self._film = self._probe() if group.leads and config.probes else None

    def _taken(self) -> Checkpoint | None:
        """Takes the run directory; gives the checkpoint to go on from, if there is one."""
        if self._began is not None:
            self._branch = branches.unsaved(self.run_directory, self._began)
        if self._branch is not None:
            self._branch.check(self.splits.train.classes, self.config.data)
            checkpoint: Checkpoint | None = self._branch.checkpoint
        else:
            checkpoint = self._last_checkpoint(self._began) if self._began is not None else None
        if self._began is None and self._group.leads:
            self.run_directory.begin(self._record())
            self.created = True
            if self._branch is not None and not self.run_directory.start.exists():
                link(self._branch.path, self.run_directory.start)
        return checkpoint

    def _check_sizes(self) -> None:
        pictures = len(self.splits.train)
        for problem in size_problems(self.config, pictures, self.network, self.machine, self._group.size):
            raise problem

    def _last_checkpoint(self, began: dict[str, Any]) -> Checkpoint | None:
        run, began_with = self.run_directory, began.get("data", {})
        for split, source in (("train", self.splits.train), ("val", self.splits.val)):
            if began_with.get(split, len(source)) != len(source):
                raise RunError(
                    f"{run.path} began with {began_with[split]:,} pictures in {split} and {self.config.data} now has "
                    f"{len(source):,}: a run goes on with the pictures it began with; start a new run for others"
                )
        if not run.last.exists() and (run.best.exists() or run.metrics()):
            raise RunError(
                f"{run.last} is gone and this run has steps behind it: put it back, or copy {run.best} to it to go on "
                "from the best validation, or start a new run"
            )
        if not run.last.exists():
            self._say("this run has no checkpoint yet: it starts from the beginning")
            return None
        try:
            checkpoint = checkpoints.load(run.last)
        except checkpoints.CheckpointError as error:
            other = f"; copy {run.best} over it to go on from the best validation" if run.best.exists() else ""
            raise checkpoints.CheckpointError(f"{error}{other}") from None
        mine, its = self.config.as_json(), checkpoint.config
        if changed := [name for name in mine if name not in RESUMABLE and its.get(name, mine[name]) != mine[name]]:
            raise RunError(
                f"{run.config_path} says {option(changed[0])} {mine[changed[0]]} and the checkpoint was trained with "
                f"{its[changed[0]]}: put the old value back, or start a new run"
            )
        if checkpoint.training is None:
            raise checkpoints.CheckpointError(f"{run.last} holds weights only, so no training can go on from it")
        if checkpoint.classes != tuple(self.splits.train.classes) or checkpoint.network != self.network:
            raise RunError(
                f"{run.path} was trained on {len(checkpoint.classes)} classes, {checkpoint.classes[0]} first, with "
                f"{checkpoint.network.name}; {self.config.data} now has {len(self.splits.train.classes)}, "
                f"{self.splits.train.classes[0]} first: a run goes on with its own network and data"
            )
        return checkpoint

    def _record(self) -> dict[str, Any]:
        """What config.json holds: the recipe, and what it met."""
        return {
            "format": FORMAT,
            "config": self.config.as_json(),
            "machine": self.machine.report(),
            "data": {
                "name": self.splits.name,
                "classes": list(self.splits.train.classes),
                "train": len(self.splits.train),
                "val": len(self.splits.val),
            },
            "processes": self._group.size,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
            "created": time.time(),
        } | ({} if self._branch is None else {"branch": self._branch.record(len(self.splits.train))})

    def _statistics(self) -> Statistics:
        """Mean and colours of the training set; every process works them out alike."""
        source = self.splits.train
        indices = training_sample(len(source))
        self._say(f"taking mean and colours of {len(indices):,} training pictures")

        def unreadable(error: UnreadableImageError) -> None:
            if self.config.on_unreadable == "stop":
                raise TrainingError(_ended_by(error)) from None
            self._unreadable.setdefault(str(error))

        def seen(done: int, total: int) -> None:
            if self._group.leads:
                self._progress.show(done, total, "mean and colours")

        try:
            return statistics_of(source, indices, self.geometry.side, unreadable=unreadable, seen=seen)
        except TrainingError:  # of `unreadable`, and a ValueError, too
            raise
        except ValueError as error:
            raise TrainingError(f"{error}; the first: {next(iter(self._unreadable))}; mend or replace them") from None
        finally:
            self._progress.close()

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self) -> State:
        """Trains to the end, or until asked to stop; the state it ends in.

        Raises:
            TrainingError: the training could not go on; the last checkpoint is whole.
        """
        if not self._group.leads:
            with self._signals(), self._explained():
                return self._trained(None)
        try:
            if self._branch is not None and (parent := self._branch.parent) and (step := self.trainer.step):
                if not parent.metrics_path.is_file():
                    self._say(f"note: {parent.metrics_path} is gone, so that curves and film begin at step {step:,}")
                self.run_directory.inherit(parent, step)
            self.run_directory.forget_after(self.trainer.step)
            recorder = Recorder(
                self.run_directory,
                self.trainer,
                self._progress,
                best=self._best,
                classes=len(self.splits.train.classes),
            )
        except BaseException:  # interrupted while TensorBoard is loaded, which takes seconds
            if self.created:
                self.run_directory.discard()
            raise
        state: State = "failed"
        message = "ended by an error in the program"
        began = True
        try:
            with self._signals(), self._explained():
                state, message = self._trained(recorder), ""
        except TrainingError as error:
            message = str(error)
            raise
        except KeyboardInterrupt:
            state, message = "stopped", "interrupted at once; the last checkpoint is whole"
            began = self.trainer.step > 0 or not self.created  # before the first step there is nothing to go on with
            raise KeyboardInterrupt(f"; go on with --resume {self.run_directory.path}" if began else "") from None
        finally:
            recorder.close(state, message)
            self.run_directory.release()
            if not began:
                self.run_directory.discard()
        return state

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what the world can do to a training into one line."""
        try:
            yield
        except NotFiniteError as error:
            raise TrainingError(
                f"{error}. The last checkpoint is from before; start again with a smaller {option('learning_rate')}, "
                f"with a warm-up, or with {option('precision')} float32"
            ) from None
        except UnreadableImageError as error:
            raise TrainingError(_ended_by(error)) from None
        except LoaderError as error:
            raise TrainingError(str(error)) from None
        except OSError as error:
            where, run = os.fspath(error.filename or self.run_directory.path), self.run_directory.path
            reads = not is_there(self.config.data) or where.startswith(f"{self.config.data}{os.sep}")
            does = f"read {self.config.data}" if reads else f"write to {where}"
            raise TrainingError(f"cannot {does}: {explained(error)}; then go on with --resume {run}") from None
        except (RuntimeError, MemoryError) as error:
            if lost_another(error):
                raise TrainingError(
                    "another of the processes that train together has ended, and it says why; go on with --resume "
                    f"{self.run_directory.path}"
                ) from None
            if not ran_out_of_memory(error):
                raise
            raise TrainingError(
                does_not_fit(
                    self.network,
                    self.machine,
                    self.config.batch,
                    self._group.size,
                    available_bytes(self.machine.device),
                )
            ) from None

    def _trained(self, recorder: Recorder | None) -> State:
        trainer, config = self.trainer, self.config
        validate_every = steps_between_validations(config, trainer.steps_per_epoch)
        probe = self._film
        moments = probes.schedule(trainer.steps, config.probes)
        if recorder and probe and trainer.step == 0:
            recorder.probe(probe)
        if not self.run_directory.last.exists():
            self._save(recorder)
        elif recorder:
            recorder.heart.note(saved=trainer.step)
        saved_at, stopping = time.monotonic(), False
        reader = batches(
            self.batches,
            self.batches.places(trainer.step, trainer.steps),
            workers=self.machine.workers,
            pin=self.machine.on_cuda,
        )
        with contextlib.closing(recorder.heart.waited_for(reader) if recorder else reader) as incoming:
            for step in trainer.train(incoming):
                self._check_pictures(step)
                if step.unreadable and config.on_unreadable == "stop":
                    raise UnreadableImageError(*step.unreadable[0].split(": ", 1))
                self._unreadable |= dict.fromkeys(step.unreadable)
                validates = step.step % validate_every == 0 or step.step == trainer.steps
                if recorder:
                    recorder.step(step, last=validates)
                    if config.layers_every and step.step % config.layers_every == 0:
                        recorder.layers()
                    if probe and step.step in moments:
                        recorder.probe(probe)
                if validates:
                    self._validate(recorder)
                if validates or time.monotonic() - saved_at > config.checkpoint_minutes * 60:
                    self._save(recorder)
                    saved_at = time.monotonic()
                    if validates:
                        self._keep(trainer.step // validate_every)
                stopping = self._group.agreed(self._asked_to_stop())
                if stopping or trainer.finished:
                    break
        if stopping and not trainer.finished:
            self._save(recorder)
            self._say(f"stopped after step {trainer.step:,} as asked; go on with --resume {self.run_directory.path}")
            return "stopped"
        best = f"; best top-1 {self._best['top1']:.2%} at step {self._best['step']:,}" if self._best else ""
        self._say(f"finished after step {trainer.step:,}{best}")
        return "finished"

    # --- what happens between steps ----------------------------------------------------------------------------------

    def _validate(self, recorder: Recorder | None) -> None:
        begun = time.monotonic()
        try:
            found = evaluate(
                self.trainer.scores,
                self.splits.val,
                self.preprocessing,
                device=self.machine.device,
                batch=TEST_BATCH * self._group.size,
                workers=self.machine.workers,
                share=self._group.share,
            )
        except ValueError as error:
            self._check_data()
            raise TrainingError(
                f"validation: {error}: look whether {self.config.data} is whole, then go on with --resume "
                f"{self.run_directory.path}"
            ) from None
        if found.unreadable:  # a result over the pictures that were read before the folder went away means nothing
            self._check_data()
        unreadable = self._group.gathered((*self._unreadable, *found.unreadable))
        dropped = self.trainer.validated(1 - found.top1)
        self._results = {"step": self.trainer.step, **headline(found)}
        is_best = not self._best or found.top1 > self._best["top1"]
        if is_best:
            self._best = dict(self._results)
        if recorder:
            took = time.monotonic() - begun
            recorder.validation(found, best=self._best, is_best=is_best, dropped=dropped, took=took)
            recorder.unreadable(unreadable)

    def _check_pictures(self, step: Step) -> None:
        """Raises TrainingError where pictures are not damaged one by one but gone: skipping would train on nothing."""
        if not step.unreadable:
            self._in_vain = 0
            return
        self._check_data()
        self._in_vain = 0 if step.pictures else self._in_vain + len(step.unreadable)
        if self._in_vain >= _IN_VAIN:
            raise TrainingError(
                f"of the last {self._in_vain} pictures none could be read, the latest: {step.unreadable[-1]}; look "
                f"whether {self.config.data} is whole, then go on with --resume {self.run_directory.path}"
            )

    def _check_data(self) -> None:
        """Raises TrainingError where the pictures are not where they were."""
        if not is_there(self.config.data):
            raise TrainingError(
                f"the pictures are gone: {self.config.data} is not there any more, or is empty; put it back, then go "
                f"on with --resume {self.run_directory.path}"
            )

    def _probe(self) -> probes.Probe:
        """Over the first validation pictures that can be read; the very first is also kept to be looked at."""
        top, left = self.geometry.centre
        crops, label = probe_crops(self.splits.val, self.geometry)
        picture = Image.fromarray(crops[0])
        replace_atomically(self.run_directory.probe_picture_path, lambda file: picture.save(file, "PNG"))
        return probes.Probe(self.network, self.preprocessing.inputs(torch.from_numpy(crops), top, left), label)

    def _save(self, recorder: Recorder | None) -> None:
        if recorder is None:  # only the first of several processes writes
            return
        run, trainer = self.run_directory, self.trainer
        checkpoints.save(
            run.last,
            checkpoints.Checkpoint(
                network=self.network,
                classes=tuple(self.splits.train.classes),
                preprocessing=self.preprocessing,
                weights=trainer.weights(),
                config=self.config.as_json(),
                results=self._results,
                training=trainer.state()
                | {
                    "best": self._best,
                    "statistics": self.statistics.as_data(),
                    "pictures": len(self.splits.train),
                },
            ),
        )
        if self._best and self._best["step"] == trainer.step:
            link(run.last, run.best)
        recorder.heart.update(saved=trainer.step)

    def _keep(self, validation: int) -> None:
        """Keeps the checkpoint of every so many validations."""
        run, every = self.run_directory, self.config.keep_every
        if self._group.leads and every and validation % every == 0:
            link(run.last, run.kept(self.trainer.step))

    # --- stopping and saying -----------------------------------------------------------------------------------------

    def _asked_to_stop(self) -> bool:
        return self._stop_signal is not None or (self._group.leads and self.run_directory.stop_requested())

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the training after the step at hand, with a checkpoint; a second one ends it now."""

        def remember(number: int, _frame: object) -> None:
            if self._stop_signal is not None:
                raise KeyboardInterrupt
            self._stop_signal = number

        before = {number: signal.signal(number, remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _say(self, text: str) -> None:
        if self._group.leads:
            say(self.run_directory, self._progress, text)


def _ended_by(error: UnreadableImageError) -> str:
    return f"{error}; with {option('on_unreadable')} skip such pictures are left out and counted"
