"""Everything that a training writes down while it goes on: metrics, status, TensorBoard, probes and the log."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from alexnet import probes
from alexnet.course import RECORDS
from alexnet.evaluate import headline
from alexnet.events import Events
from alexnet.machine import product_rate, used_bytes
from alexnet.watch import FlatLoss, Heart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from alexnet.evaluate import Evaluation
    from alexnet.probes import Probe
    from alexnet.progress import Progress
    from alexnet.runs import RunDirectory, State
    from alexnet.trainer import Step, Trainer


class Recorder:
    """The one writer of a run directory, beside the checkpoints."""

    def __init__(
        self, run: RunDirectory, trainer: Trainer, progress: Progress, *, best: dict[str, Any], classes: int
    ) -> None:
        self._run, self._trainer, self._progress = run, trainer, progress
        self._flat = FlatLoss(classes)
        self._window: list[Step] = []
        self._every = max(1, trainer.steps // RECORDS)
        self._reported = 0
        self.speed = 0.0
        """Pictures a second, smoothed."""
        self.heart = Heart(
            run.write_status,
            {
                "state": "running",
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "started": time.time(),
                "step": trainer.step,
                "steps": trainer.steps,
                "epoch": trainer.step // trainer.steps_per_epoch,
                "epochs": trainer.config.epochs,
                "best": best,
                "machine": trainer.machine.report(),
                "product_rate": product_rate(trainer.machine),
                "message": "",
            },
        )
        self._events = Events(run.path, trainer.step + 1 if trainer.step else 0)
        self.heart.start()

    def close(self, state: State, message: str) -> None:
        """The last word of the status."""
        with contextlib.suppress(OSError):
            self._events.close()
        self.heart.note(state=state, message=message, step=self._trainer.step)
        self.heart.stop()
        self.heart.update()
        self._progress.close()

    def say(self, text: str) -> None:
        """A line for whoever watches, and for log.txt."""
        say(self._run, self._progress, text)

    # --- steps -------------------------------------------------------------------------------------------------------

    def step(self, record: Step, *, last: bool) -> None:
        """One step; `last` before a validation, so that no record spans one."""
        self._window.append(record)
        self._warn("flat", self._flat.warning(record.loss))
        if last or len(self._window) >= self._every:
            self._write_window()

    def _write_window(self) -> None:
        window, self._window = self._window, []
        last = window[-1]
        pictures, seconds = sum(step.pictures for step in window), sum(step.seconds for step in window)
        loss = sum(step.loss * step.pictures for step in window) / max(pictures, 1)
        accuracy = sum(step.correct for step in window) / max(pictures, 1)
        speed = pictures / seconds
        self.speed = 0.9 * self.speed + 0.1 * speed if self.speed else speed
        self._run.append_metrics(
            {
                "kind": "train",
                "step": last.step,
                "epoch": last.epoch,
                "loss": loss,
                "top1": accuracy,
                "pictures": pictures,
                "learning_rate": last.learning_rate,
                "images_per_second": round(speed, 2),
                "waited_share": round(sum(step.waited for step in window) / seconds, 4),
                "time": round(time.time(), 3),
            }
        )
        self._events.step(last.step, loss, accuracy, last.learning_rate, speed)
        left = (self._trainer.steps - last.step) * self._trainer.config.batch / self.speed if self.speed else None
        self.heart.note(
            step=last.step,
            epoch=last.epoch,
            loss=loss,
            memory=used_bytes(self._trainer.machine),
            images_per_second=round(self.speed, 1),
            seconds_left=None if left is None else round(left),
        )
        self._progress.show(last.step, self._trainer.steps, f"loss {loss:.3f}, {self.speed:.0f} images/s")

    def layers(self) -> None:
        """Mean, deviation and norm of every weight and of its latest gradient."""
        step, weights, gradients = self._trainer.step, self._trainer.weights(), self._trainer.gradients()
        self._events.layers(step, weights, gradients)
        self._run.append_metrics(
            {
                "kind": "layers",
                "step": step,
                "weights": {name: probes.moments(tensor) for name, tensor in weights.items()},
                "gradients": {name: probes.moments(tensor) for name, tensor in gradients.items()},
            }
        )

    def probe(self, probe: Probe) -> None:
        """A snapshot for the film."""
        probes.save(self._run.probe_path(self._trainer.step), probe.taken(self._trainer.weights()))

    # --- validations -------------------------------------------------------------------------------------------------

    def validation(self, found: Evaluation, *, best: dict[str, Any], is_best: bool, dropped: bool, took: float) -> None:
        """What a validation found; `took` seconds, `dropped` where the learning rate drops for it."""
        step, trainer = self._trainer.step, self._trainer
        epoch = (step - 1) // trainer.steps_per_epoch
        self._run.append_metrics(
            {
                "kind": "val",
                "step": step,
                "epoch": epoch,
                **headline(found),
                "per_class": list(found.per_class),
                "seconds": round(took, 2),
                "time": round(time.time(), 3),
            }
        )
        self._events.validation(step, found)
        self.heart.update(best=best, val={"step": step, **headline(found)})
        self.say(
            f"epoch {epoch + 1}/{trainer.config.epochs}, step {step:,}: top-1 {found.top1:.2%}, "
            f"top-{found.k} {found.topk:.2%}, loss {found.loss:.3f}"
            + (", best so far" if is_best else "")
            + (f"; learning rate now {trainer.learning_rate(step):g}" if dropped else "")
            + (f"; {self.speed:.0f} images/s" if self.speed else "")
        )

    # --- trouble -----------------------------------------------------------------------------------------------------

    def unreadable(self, faults: Iterable[str]) -> None:
        """Says which pictures could not be read so far, where there are more than the last time."""
        shown = list(dict.fromkeys(faults))
        if len(shown) == self._reported:
            return
        count = self._reported = len(shown)
        were = "picture was" if count == 1 else "pictures were"
        self.say(f"{count} {were} unreadable and skipped: {'; '.join(shown[:5])}" + ("; …" if count > 5 else ""))
        self._run.append_metrics(
            {"kind": "unreadable", "step": self._trainer.step, "count": count, "pictures": shown[:1000]}
        )
        self.heart.note(unreadable=count)

    def _warn(self, kind: str, text: str | None) -> None:
        if self.heart.warn(kind, text):
            self.say(f"warning: {text}")


def say(run: RunDirectory, progress: Progress, text: str) -> None:
    """A line for whoever watches, and for log.txt."""
    progress.say(text)
    write_log(run, text)


def write_log(run: RunDirectory, text: str) -> None:
    """A line for log.txt, with the time, where the run directory is there already."""
    if run.path.is_dir():
        with contextlib.suppress(OSError), run.log_path.open("a", encoding="utf-8") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
