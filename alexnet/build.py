"""Network -> torch module with the spec's names, so that ``conv1.weight`` is conv1's weights everywhere."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from torch import nn

from alexnet import layers, spec

if TYPE_CHECKING:
    from alexnet.spec import Network, Stage


def build(network: Network) -> nn.Sequential:
    """A module that turns (N, C, H, W) images into (N, classes) scores, one child per stage under the stage's name.

    The final softmax is left out: torch's cross-entropy takes scores.  Weights are torch's default initialisation.
    Build under ``torch.device("meta")`` to have the structure without memory.

    Raises:
        alexnet.spec.DoesNotFitError: the network cannot take its input size.
    """
    return nn.Sequential(
        OrderedDict(
            (stage.name, module(stage)) for stage in network.stages() if not isinstance(stage.layer, spec.Softmax)
        )
    )


def module(stage: Stage) -> nn.Module:
    """The torch module of one stage."""
    match layer := stage.layer:
        case spec.Conv():
            conv = layers.CeilConv2d if layer.rounding == "ceil" else nn.Conv2d
            return conv(
                stage.in_shape[0],
                layer.out_channels,
                layer.kernel,
                stride=layer.stride,
                padding=layer.padding,
                groups=layer.groups,
            )
        case spec.Linear():
            return nn.Linear(stage.in_shape[0], layer.out_features)
        case spec.MaxPool():
            return nn.MaxPool2d(layer.kernel, layer.stride, ceil_mode=layer.rounding == "ceil")
        case spec.AdaptiveAvgPool():
            return nn.AdaptiveAvgPool2d(layer.side)
        case spec.LRN():
            return layers.LocalResponseNorm(layer)
        case spec.SameMapNorm():
            return layers.SameMapResponseNorm(layer)
        case spec.ReLU():
            # Not in place: the pages that look inside still need the values before ReLU.
            return nn.ReLU()
        case spec.Tanh():
            return nn.Tanh()
        case spec.Dropout():
            return nn.Dropout(layer.probability)
        case spec.Flatten():
            return nn.Flatten()
        case spec.Softmax():
            return nn.Softmax(dim=1)
