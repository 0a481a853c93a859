"""Initial weights: the paper's, the released source's, and He's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from alexnet import zoo
from alexnet.spec import Conv, Linear

if TYPE_CHECKING:
    from alexnet.config import Initialisation
    from alexnet.spec import Network

_SOURCE_DEVIATIONS = {
    name: layer.init_std
    for name, layer in zoo.network_named("alexnet-2012-source").layers
    if isinstance(layer, Conv | Linear)
}


@torch.no_grad()
def initialise(model: nn.Module, network: Network, how: Initialisation, seed: int) -> None:
    """Fills a one-device model with the weights that a training starts from; `seed` alone decides the numbers.

    `paper`: what the network's own source states (for AlexNet section 5: normal with σ = 0.01, biases 1 in conv2,
    conv4, conv5 and the hidden fully connected layers; 0 everywhere with tanh, see
    `zoo.network_from`).  `source`: the σ of the released 2012 layer definition.
    `he`: σ = √(2 / inputs of one output), biases 0 (He et al. 2015, section 2.2).  `he-behind-conv1`: the paper's
    conv1, whose kernels then form as in the paper, and He's behind it, which let the gradient through.  `torch`:
    torch's default, uniform within ±1/√inputs for weights and biases.

    Raises:
        ValueError: `paper` or `source` for a layer of which that source says nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [(name, layer) for name, layer in network.layers if isinstance(layer, Conv | Linear)]
    for position, (name, layer) in enumerate(layers):
        module = model.get_submodule(name)
        assert isinstance(module, nn.Conv2d | nn.Linear)
        assert module.bias is not None
        inputs = module.weight[0].numel()
        if how == "torch":
            bound = 1 / math.sqrt(inputs)
            module.weight.uniform_(-bound, bound, generator=generator)
            module.bias.uniform_(-bound, bound, generator=generator)
            continue
        use_he = how == "he" or (how == "he-behind-conv1" and position > 0)
        stated = _SOURCE_DEVIATIONS.get(name) if how == "source" else layer.init_std
        deviation = math.sqrt(2 / inputs) if use_he else stated
        if deviation is None:
            raise ValueError(
                f"the source of {network.name} states no initial weights for {name}: "
                "use --initialisation he or --initialisation torch"
            )
        module.weight.normal_(0.0, deviation, generator=generator)
        module.bias.fill_(0.0 if how.startswith("he") else layer.init_bias)
