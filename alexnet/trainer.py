"""A network that learns: one record for every step.  Knows no files."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from alexnet import layers, towers
from alexnet.build import build
from alexnet.course import all_steps, scheduled_rate
from alexnet.data.loading import UNREADABLE
from alexnet.data.preprocessing import colour_shifts
from alexnet.initialisation import initialise
from alexnet.machine import autocast
from alexnet.optim import SGD2012, Plateau

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from alexnet.config import TrainConfig
    from alexnet.data.loading import Batch, Share
    from alexnet.data.preprocessing import Preprocessing, Statistics
    from alexnet.machine import Machine
    from alexnet.spec import Network


class NotFiniteError(ArithmeticError):
    """The loss is not a finite number any more: training on would only spread it."""


class Step(NamedTuple):
    """What one optimiser step says of itself, over all processes.

    `step` counts from 1; `loss` is the mean cross-entropy in nats, label smoothing included, over the `pictures` that
    could be read, and `correct` how many of these the network had right before the step; `seconds` is how long it took,
    `waited` of them for pictures.
    """

    step: int
    epoch: int
    loss: float
    correct: int
    pictures: int
    learning_rate: float
    seconds: float
    waited: float
    unreadable: tuple[str, ...]


class Trainer:
    """A network, its optimiser and its learning rate on one machine.

    Weights and momentum go in and out under the one-device names (``conv1.weight``), wherever they live.
    """

    def __init__(
        self,
        config: TrainConfig,
        network: Network,
        machine: Machine,
        preprocessing: Preprocessing,
        statistics: Statistics,
        *,
        steps_per_epoch: int,
        share: Share,
    ) -> None:
        """`steps_per_epoch` is the number of whole batches in one pass.

        Raises:
            ValueError: initial weights that the network's source does not state.
        """
        self.config, self.network, self.machine, self.share = config, network, machine, share
        self.preprocessing, self.statistics = preprocessing.on(machine.device), statistics
        self.steps_per_epoch = steps_per_epoch
        self.steps = all_steps(config, steps_per_epoch)
        self.step = 0
        self.plateau = Plateau(config.learning_rate, config.patience, config.drops)

        initial = build(network)
        initialise(initial, network, config.initialisation, config.seed)
        self.module = self._placed(initial)
        layers.use_kernels(self.module, machine.lrn_kernels)
        self._forward: nn.Module = self.module
        if machine.compile:
            self._forward = cast("nn.Module", torch.compile(self._forward))
        if share.world > 1:
            self._forward = DistributedDataParallel(
                self._forward,
                device_ids=[machine.device.index] if machine.on_cuda else None,
                gradient_as_bucket_view=True,
            )
        self.optimiser = self._made_optimiser()
        self._scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == torch.float16)

    def _placed(self, initial: nn.Sequential) -> nn.Module:
        machine = self.machine
        if len(machine.devices) == 2:
            first, second = machine.devices
            split: nn.Module = towers.TwoTowers(self.network, (first, second))
            split.load_state_dict(towers.split(self.network, initial.state_dict()))
            return split
        order = torch.channels_last if machine.channels_last else torch.contiguous_format
        placed: nn.Module = initial.to(device=machine.device).to(memory_format=order)  # type: ignore[call-overload]
        return placed

    def _made_optimiser(self) -> torch.optim.Optimizer:
        config = self.config
        named = list(self.module.named_parameters())
        # Biases do not decay, as in the released source and in Caffe's AlexNet; the paper speaks of weights.
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in named if name.endswith("weight")], "weight_decay": config.weight_decay},
            {"params": [p for name, p in named if not name.endswith("weight")], "weight_decay": 0.0},
        ]
        fused = self.machine.fused_optimiser
        if config.optimiser == "adamw":
            return torch.optim.AdamW(groups, lr=config.learning_rate, fused=fused)
        if config.optimiser == "sgd":
            return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum, fused=fused)
        return SGD2012(
            groups,
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
        )

    # --- the learning rate -------------------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """The rate of the step after `step` steps."""
        return scheduled_rate(
            self.config,
            step,
            steps=self.steps,
            steps_per_epoch=self.steps_per_epoch,
            plateau_rate=self.plateau.rate,
        )

    def validated(self, error: float) -> bool:
        """Tells the schedule the error rate of a validation; whether the learning rate drops for it."""
        return self.config.schedule == "plateau" and self.plateau.validated(error)

    @property
    def finished(self) -> bool:
        return self.step >= self.steps or self.plateau.finished

    # --- learning ----------------------------------------------------------------------------------------------------

    def train(self, batches: Iterable[Batch]) -> Iterator[Step]:
        """One step for each batch; the step is done, and can be saved, when its record comes.

        Raises:
            NotFiniteError: the loss is infinite or not a number; the weights are those of before the step.
        """
        clock = time.perf_counter()
        for batch in batches:
            waited = time.perf_counter() - clock
            loss, correct, readable = self._stepped(batch)
            now = time.perf_counter()
            yield Step(
                self.step,
                (self.step - 1) // self.steps_per_epoch,
                loss,
                correct,
                readable,
                float(self.optimiser.param_groups[0]["lr"]),
                now - clock,
                waited,
                batch.unreadable,
            )
            clock = time.perf_counter()

    def _stepped(self, batch: Batch) -> tuple[float, int, int]:
        """Mean loss, number right and number read, over all processes."""
        self.module.train()
        # Dropout's masks are a function of seed, step and process: a resumed run draws what this one would have.
        seeds = np.random.SeedSequence([self.config.seed, self.step, self.share.rank])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate(self.step)
        shifts = colour_shifts(batch.alphas, self.statistics) if self.config.colour_noise else None
        placed = batch.on(self.machine.device)
        images = self.preprocessing.inputs(
            placed.crops, batch.tops, batch.lefts, mirrored=placed.mirrored, colour=shifts
        )
        with autocast(self.machine.device, self.machine.precision):
            scores = self._forward(self._ordered(images))
        losses = functional.cross_entropy(
            scores.float(),
            placed.labels,
            reduction="sum",
            ignore_index=UNREADABLE,
            label_smoothing=self.config.label_smoothing,
        )
        self.optimiser.zero_grad()
        # By the number of pictures asked for, not read: so several processes together take exactly one's step.
        self._scaler.scale(losses / len(batch.labels)).backward()
        with torch.no_grad():
            correct = (scores.argmax(1) == placed.labels).sum()
            sums = torch.stack(
                [losses.detach().double(), correct.double(), (placed.labels != UNREADABLE).sum().double()]
            )
            if self.share.world > 1:
                distributed.all_reduce(sums)
        total, right, readable = sums.tolist()
        if not math.isfinite(total):
            self.optimiser.zero_grad()
            raise NotFiniteError(
                f"the loss became {total} at step {self.step + 1}, with learning rate {self.learning_rate(self.step):g}"
            )
        self._scaler.unscale_(self.optimiser)
        self._scaler.step(self.optimiser)
        self._scaler.update()
        self.step += 1
        return total / max(readable, 1), int(right), int(readable)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients of the latest step by one-device names; they stay until the next."""
        return self._joined({name: p.grad for name, p in self.module.named_parameters() if p.grad is not None})

    def _ordered(self, images: Tensor) -> Tensor:
        return images if self.machine.channels_last else images.contiguous()

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) inputs -> (N, classes) float32 scores, without dropout."""
        self.module.eval()
        with autocast(self.machine.device, self.machine.precision):
            result: Tensor = self.module(self._ordered(images))
        return result.float()

    # --- state -------------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """Every weight by its one-device name; not copied where it lives on one device."""
        return self._joined(dict(self.module.state_dict()))

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Takes weights by one-device names, of exactly this network."""
        self.module.load_state_dict(self._split(weights))

    def state(self) -> dict[str, Any]:
        """What beside the weights a run needs to go on as if it had never stopped; plain types and tensors."""
        momenta: dict[str, dict[str, Tensor]] = {}
        updates = 0.0  # AdamW counts them for each weight; they are all equal
        for name, parameter in self.module.named_parameters():
            for kind, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor) and value.dim():
                    momenta.setdefault(kind, {})[name] = value
                elif isinstance(value, Tensor):
                    updates = float(value)
        return {
            "step": self.step,
            "optimiser": {kind: self._joined(tensors) for kind, tensors in momenta.items()},
            "updates": updates,
            "stepped_with": float(self.optimiser.param_groups[0].get("stepped_with", 0.0)),
            "plateau": self.plateau.as_data(),
            "scaler": self._scaler.state_dict(),
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave."""
        self.step = int(state["step"])
        for kind, tensors in state["optimiser"].items():
            split = self._split(tensors)
            for name, parameter in self.module.named_parameters():
                # In the parameter's own memory order, which fused kernels take for granted.
                self.optimiser.state[parameter][kind] = torch.zeros_like(parameter).copy_(split[name])
                if self.config.optimiser == "adamw":
                    home = parameter.device if self.machine.fused_optimiser else torch.device("cpu")
                    self.optimiser.state[parameter]["step"] = torch.tensor(state["updates"], device=home)
        for group in self.optimiser.param_groups:
            if "stepped_with" in group:
                group["stepped_with"] = state["stepped_with"]
        self.plateau = Plateau(**state["plateau"])
        self._scaler.load_state_dict(state["scaler"])

    def _joined(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if len(self.machine.devices) == 1:
            return tensors
        return towers.join(self.network, tensors)

    def _split(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if len(self.machine.devices) == 1:
            return tensors
        return towers.split(self.network, tensors)
