"""Everything that decides a training, as one checked value that goes to JSON and back.  Standard library only."""

from __future__ import annotations

import dataclasses
import functools
import math
import typing
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from alexnet import zoo
from alexnet.errors import UserError
from alexnet.spec import Dropout, IllegalNetworkError, Network, times

Optimiser = Literal["sgd-2012", "sgd", "adamw"]
Schedule = Literal["plateau", "cosine", "constant"]
Initialisation = Literal["paper", "source", "he", "he-behind-conv1", "torch"]
Mean = Literal["image", "channel"]
Switch = Literal["auto", "on", "off"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
OnUnreadable = Literal["skip", "stop"]

KEPT_BY_BRANCHES = frozenset(
    {"network", "hidden", "initialisation", "side", "mean", "unit_variance", "seed", "val_fraction"}
)
"""What a branch cannot change: the network, what it is shown, and which pictures it has never been trained on."""
RESUMABLE = frozenset({"data", "device", "workers", "threads", "checkpoint_minutes"})
"""What a resumed run may change: where it computes and where its data lies, not what."""
ANEW = frozenset({"optimiser", "batch"})
"""What a branch changes only by starting at step 0 with the weights alone: momentum and steps would mean others."""


class ConfigError(UserError):
    """A training was asked for something impossible; the message names the value, the rule and the remedy."""


def _about(text: str, **kwargs: Any) -> Any:
    """A field with the sentence that the command line and the app show beside it."""
    return dataclasses.field(metadata={"about": text}, **kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training.  Two runs with equal configs, data and machine end with the same weights.

    The defaults are the paper's (sections 2, 4 and 5), except where a field says otherwise.
    """

    data: str = _about("a folder of pictures, a CIFAR archive, a pack, or built-in")
    preset: str = _about("the preset this config started from", default="paper-2012")
    network: str = _about(
        "network: NAME or NAME@SIDE, and behind it any of :no-lrn, :no-overlap and :tanh", default="alexnet-2012"
    )
    hidden: int | None = _about(
        "width of the hidden fully connected layers; the network's own if not given", default=None
    )
    dropout: float | None = _about("dropout probability; the network's own if not given", default=None)

    epochs: int = _about("passes over the training pictures (paper, section 5: roughly 90)", default=90)
    batch: int = _about("pictures in one step, over all processes (paper, section 5: 128)", default=128)
    seed: int = _about("decides order, augmentation, dropout, initial weights and the split of a folder", default=0)
    val_fraction: float = _about("share of the pictures kept for validation where the data is not split", default=0.1)

    optimiser: Optimiser = _about("update rule (paper, section 5: sgd-2012)", default="sgd-2012")
    learning_rate: float = _about(
        "learning rate at the start, after any warm-up (paper, section 5: 0.01)", default=0.01
    )
    momentum: float = _about("momentum (paper, section 5: 0.9)", default=0.9)
    weight_decay: float = _about("weight decay (paper, section 5: 0.0005)", default=0.0005)
    schedule: Schedule = _about("plateau: divide by 10 when validation stalls (paper, section 5)", default="plateau")
    patience: int = _about(
        "plateau: validations without a lower error before a drop (not in the paper, where it was done by hand)",
        default=4,
    )
    drops: int = _about("plateau: drops of the learning rate; the run ends at the next stall (paper: 3)", default=3)
    warmup_epochs: float = _about("epochs over which the learning rate rises from 0", default=0.0)
    label_smoothing: float = _about("share of the target spread over all classes", default=0.0)
    initialisation: Initialisation = _about(
        "initial weights (paper, section 5: normal, σ 0.01, some biases 1)", default="paper"
    )

    side: int | None = _about(
        "short side of the pictures in pixels before cropping; 256 scaled with the input "
        "if not given (paper, section 2)",
        default=None,
    )
    mean: Mean = _about(
        "what is subtracted: the mean of every pixel of the image (paper), or of each channel", default="image"
    )
    unit_variance: bool = _about(
        "divide each channel by its standard deviation instead of keeping 0…255 (not in the paper)", default=False
    )
    random_crop: bool = _about("random crops in training (paper, section 4.1)", default=True)
    mirror: bool = _about("random horizontal reflections in training (paper, section 4.1)", default=True)
    colour_noise: float = _about(
        "σ of the noise along the principal components of colour (paper, section 4.1: 0.1)", default=0.1
    )
    jitter_to: int | None = _about(
        "scale jitter: the short side is drawn from `side` up to this (VGG: 512)", default=None
    )
    on_unreadable: OnUnreadable = _about(
        "pictures that cannot be read are counted and skipped, or end the run", default="skip"
    )

    validate_every: float = _about("epochs between validations", default=1.0)
    checkpoint_minutes: float = _about(
        "minutes between checkpoints, beside the one after each validation", default=10.0
    )
    keep_every: int = _about(
        "validations between checkpoints that are kept beside the last and the best; 0 for none", default=0
    )
    max_steps: int | None = _about("end after so many steps, whatever the epochs", default=None)
    probes: int = _about("snapshots for the film over the whole run; 0 for none", default=100)
    layers_every: int = _about("steps between statistics of weights and gradients; 0 for none", default=100)

    device: str = _about("auto, cpu, cuda, cuda:1, or two for one tower each: cuda:0,cuda:1 or cpu,cpu", default="auto")
    precision: Precision = _about("number format of the products; weights stay float32", default="auto")
    channels_last: Switch = _about("memory order of the maps", default="auto")
    fused_lrn: Switch = _about("one compiled kernel for local response normalisation", default="auto")
    fused_optimiser: Switch = _about("one kernel for the update of all weights", default="auto")
    compile: Switch = _about("torch.compile for the whole network", default="auto")
    workers: int | None = _about(
        "processes that read pictures; 0 for a thread of the trainer; chosen if not given", default=None
    )
    threads: int | None = _about("threads of one process on the CPU; torch's choice if not given", default=None)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), _types()[field.name])
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ConfigError(f"{option(name)} must be from {_plain(low)} to {_plain(high)}, got {_plain(value)}")
        self.described_network()  # what follows counts on there being one
        if not self.data:
            raise ConfigError("no data named: give a folder of pictures, a CIFAR archive, a pack, or built-in")
        if self.jitter_to is not None and self.jitter_to < self.short_side():
            raise ConfigError(
                f"{option('jitter_to')} {self.jitter_to} is below the short side {self.short_side()}: scale jitter "
                f"draws between the two; give at least {self.short_side()}, or a smaller {option('side')}"
            )
        if self.mean == "image" and self.jitter_to is not None:
            raise ConfigError(
                f"{option('jitter_to')} changes the size of the pictures, so no mean image fits them all: "
                f"use {option('mean')} channel"
            )
        self._check_side()

    def _check_side(self) -> None:
        _, height, width = self.described_network().input_shape
        if self.short_side() < max(height, width):
            raise ConfigError(
                f"{option('side')} {self.short_side()} is smaller than the network's input {times((height, width))}: "
                f"crops do not fit; give at least {max(height, width)}, or a network with a smaller input, NAME@SIDE"
            )

    def described_network(self, classes: int | None = None) -> Network:
        """The network with everything this config says about it.

        Raises:
            ConfigError: there is no such network, or it cannot be had in that size.
        """
        try:
            network = zoo.network_from(self.network).adapted(classes=classes, hidden=self.hidden)
        except (zoo.UnknownNetworkError, IllegalNetworkError) as error:
            raise ConfigError(str(error)) from None
        if network.classes is None:
            raise ConfigError(f"{network.name} has no classifier, so it cannot be trained")
        return network if self.dropout is None else _with_dropout(network, self.dropout)

    def short_side(self) -> int:
        """Pixels of the short side before cropping: 256 for the network's own input, in proportion for others."""
        if self.side is not None:
            return self.side
        own = zoo.base_of(self.network).input_shape
        return round(256 * max(self.described_network().input_shape[1:]) / max(own[1:]))

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """The config that `as_json` wrote.

        Raises:
            ConfigError: a key that no config has, a missing one without default, or a value outside its range.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"a config is a JSON object, got {type(values).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f"a config has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        if "data" not in values:
            raise ConfigError("a config must say which data")
        return cls(**values)


def option(name: str) -> str:
    """A field as it is written on the command line."""
    return "--" + name.replace("_", "-")


_RANGES: dict[str, tuple[float, float]] = {
    "dropout": (0.0, 0.99),
    "epochs": (1, 100_000),
    "batch": (1, 65_536),
    "seed": (0, 2**63 - 1),
    "val_fraction": (0.001, 0.9),
    "learning_rate": (1e-9, 1000.0),
    "momentum": (0.0, 0.9999),
    "weight_decay": (0.0, 1.0),
    "patience": (1, 10_000),
    "drops": (0, 20),
    "warmup_epochs": (0.0, 10_000.0),
    "label_smoothing": (0.0, 0.99),
    "side": (1, 2_048),
    "colour_noise": (0.0, 10.0),
    "jitter_to": (1, 2_048),
    "validate_every": (0.01, 100_000.0),
    "checkpoint_minutes": (0.0, 100_000.0),
    "keep_every": (0, 10_000),
    "max_steps": (1, 10**12),
    "probes": (0, 10_000),
    "layers_every": (0, 10**9),
    "workers": (0, 256),
    "threads": (1, 1_024),
}


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


@functools.cache  # resolving the hints takes most of the time that a check takes
def _types() -> dict[str, Any]:
    return typing.get_type_hints(TrainConfig)


def _check_type(name: str, value: object, kind: Any) -> None:
    choices = get_args(kind)
    if choices and all(isinstance(choice, str) for choice in choices):
        if value not in choices:
            raise ConfigError(f"{option(name)} must be {', '.join(choices[:-1])} or {choices[-1]}, got {value!r}")
        return
    allowed = choices or (kind,)
    if float in allowed:
        allowed = (*allowed, int)
    if isinstance(value, bool) and bool not in allowed:
        raise ConfigError(f"{option(name)} must be a number, got {value}")
    if not isinstance(value, allowed):
        words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        wanted = words[float if float in allowed else allowed[0]]
        raise ConfigError(f"{option(name)} must be {wanted}, got {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{option(name)} must be a finite number, got {value}")


def _with_dropout(network: Network, probability: float) -> Network:
    return replace(
        network,
        layers=tuple(
            (name, replace(layer, probability=probability) if isinstance(layer, Dropout) else layer)
            for name, layer in network.layers
        ),
    )
