"""Documented recipes: what each is for, what to expect of it, and the command.  Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from alexnet.config import ConfigError, TrainConfig


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe: what it changes in `TrainConfig`'s defaults, and what its reader should know."""

    name: str
    purpose: str
    expect: str
    hardware: str
    command: str
    changes: dict[str, Any] = field(default_factory=dict)


PRESETS = (
    Preset(
        "paper-2012",
        "The recipe of 2012, value by value.",
        "The paper: top-1 error 40.7 %, top-5 18.2 % on ILSVRC-2012's validation set for one network with ten-crop "
        "(table 2).  Learning starts slowly: with σ = 0.01 everywhere the loss stays near ln(classes) for long.",
        "ImageNet, two GTX 580 for five to six days in 2012; one present GPU.",
        "python -m alexnet train IMAGENET --preset paper-2012",
    ),
    Preset(
        "modern",
        "What trains the same network well today: He initialisation, unit variance, warm-up and a cosine.",
        "Not yet run on ImageNet by us, so no figure is promised; `quick` is much the same recipe, smaller.",
        "ImageNet, one GPU or several through torchrun.",
        "python -m alexnet train IMAGENET --preset modern",
        {
            "optimiser": "sgd",
            "schedule": "cosine",
            "learning_rate": 0.02,
            "warmup_epochs": 5.0,
            "initialisation": "he",
            "label_smoothing": 0.1,
            "mean": "channel",
            "unit_variance": True,
            "batch": 256,
        },
    ),
    Preset(
        "quick",
        "Both towers at 131×131 with narrow fully connected layers: small enough for two CPU cores.",
        "On Imagenette top-1 80.5 % with the centre crop and 81.9 % with ten crops: 67 % after 10 of the 60 epochs, "
        "78 % after 30.  The built-in pictures: 79 % after 3 epochs, 95 % after 9, in four minutes and a half.",
        "A laptop's CPU: 36 minutes for Imagenette on 2 cores with bfloat16 (AMX), about 320 pictures a second.",
        "python -m alexnet pack FOLDER PACK --side 148 && python -m alexnet train PACK --preset quick",
        {
            "network": "alexnet-2012@131",
            "hidden": 512,
            "optimiser": "sgd",
            "schedule": "cosine",
            "learning_rate": 0.02,
            "warmup_epochs": 1.0,
            "weight_decay": 1e-3,
            "initialisation": "he-behind-conv1",
            "mean": "channel",
            "unit_variance": True,
            "label_smoothing": 0.1,
            "batch": 64,
            "epochs": 60,
        },
    ),
    Preset(
        "minutes",
        "From noise to kernels while one watches: both towers at 99×99, many small steps.",
        "The built-in pictures: top-1 92.8 % after 4,000 steps; after a third of them 40 of the 96 kernels of the "
        "first layer are compact (noise: 0), and their smoothness is 0.8 (noise: 3.6).",
        "A laptop's CPU: 9 minutes on one core.",
        "python -m alexnet train built-in --preset minutes",
        {
            "network": "alexnet-2012@99",
            "hidden": 128,
            "optimiser": "sgd",
            "schedule": "cosine",
            "learning_rate": 0.02,
            "warmup_epochs": 1.0,
            "weight_decay": 2e-3,
            "initialisation": "he-behind-conv1",
            "mean": "channel",
            "unit_variance": True,
            "label_smoothing": 0.1,
            "batch": 16,
            "epochs": 16,
        },
    ),
    Preset(
        "vgg",
        "VGG's recipe (section 3.1): batch 256, momentum 0.9, weight decay 5e-4, rate 0.01, plateau, scale jitter.",
        "The paper: configuration D with jitter [256, 512], top-1 error 25.6 %, top-5 8.1 % at one test scale "
        "(table 3).",
        "ImageNet, several GPUs for days (four Titan Black, two to three weeks in 2014).",
        "torchrun --nproc-per-node 4 -m alexnet train IMAGENET --preset vgg",
        {
            "network": "vgg-d",
            "batch": 256,
            "epochs": 74,
            "jitter_to": 512,
            "mean": "channel",
            "initialisation": "he",
        },
    ),
)


def preset_named(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ConfigError: there is none; the message names them all.
    """
    for preset in PRESETS:
        if preset.name == name:
            return preset
    near = get_close_matches(name, [preset.name for preset in PRESETS], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"no preset {name!r}: {hint}the presets are {', '.join(preset.name for preset in PRESETS)}")


def configured(name: str, data: str, **changes: Any) -> TrainConfig:
    """The preset's config for this data, with some values changed.

    Raises:
        ConfigError: no such preset, or a value that cannot be.
    """
    return TrainConfig(**{**preset_named(name).changes, "preset": name, "data": data, **changes})
