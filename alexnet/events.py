"""TensorBoard events, with the tags that people look for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from alexnet.evaluate import Evaluation

HISTOGRAM_VALUES = 65_536
"""Values that a histogram is made of, evenly spaced: fc6 has 37 million, and counting all would take seconds."""


class Events:
    """Writes ``events.*`` in a run directory."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Events of a resumed run from `first_step` on replace those of the one that was killed."""
        self._writer = SummaryWriter(str(folder), purge_step=first_step or None)

    def step(self, step: int, loss: float, accuracy: float, learning_rate: float, images_per_second: float) -> None:
        for tag, value in {
            "Loss/train": loss,
            "Accuracy/train": accuracy,
            "LearningRate": learning_rate,
            "ImagesPerSecond": images_per_second,
        }.items():
            self._writer.add_scalar(tag, value, step)

    def validation(self, step: int, evaluation: Evaluation) -> None:
        self._writer.add_scalar("Loss/val", evaluation.loss, step)
        self._writer.add_scalar("Accuracy/val", evaluation.top1, step)
        self._writer.add_scalar(f"Accuracy/val_top{evaluation.k}", evaluation.topk, step)

    def layers(self, step: int, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Mean and histogram of every weight and its gradient, under the tags of the well-known ports."""
        for tag, tensors in (("weight", weights), ("grad", gradients)):
            for name, tensor in tensors.items():
                self._writer.add_scalar(f"{tag}_avg/{name}", float(tensor.mean()), step)
                flat = tensor.detach().flatten()
                sample = flat[:: max(1, len(flat) // HISTOGRAM_VALUES)].float().cpu().numpy()
                self._writer.add_histogram(f"{tag}/{name}", sample, step)

    def close(self) -> None:
        self._writer.close()
