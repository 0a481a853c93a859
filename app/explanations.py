"""What each layer is for, in a few sentences, with the place in the paper.  Text only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Dropout, Flatten, Linear, MaxPool, ReLU, SameMapNorm, Softmax, Tanh
from alexnet.zoo import base_name

if TYPE_CHECKING:
    from alexnet.spec import Layer, Network, Stage

# What is special about a stage of AlexNet, beyond its kind.
_ALEXNET = {
    "conv1": (
        "Looks at the image itself through 11×11 windows, 4 pixels apart. In the paper's trainings one GPU's kernels "
        "became colour blobs and the other's grey edges and gratings (section 6.1, figure 3)."
    ),
    "conv2": "Combines conv1's edges and colours into corners, textures and curves, each tower only its own.",
    "conv3": "The one convolution that reads the maps of both towers: here the GPUs exchange (section 3.2).",
    "conv4": "Again within its own tower: half of the maps, half of the weights and half of the work.",
    "conv5": "The last convolution; what it finds is pooled and handed to the classifier.",
    "fc6": "Every neuron is connected to all values of pool5; with the paper's sizes that is 62 % of all weights.",
    "fc7": "The second hidden layer; its values are the image's signature in the paper's figure 4 (section 6.1).",
    "fc8": "One score for every class.",
}


def purpose(stage: Stage, network: Network) -> str:
    """What this stage is for."""
    special = _ALEXNET.get(stage.name, "") if base_name(network.name) == "alexnet-2012" else ""
    return f"{_of_kind(stage.layer, network)} {special}".strip()


def settings(stage: Stage) -> str:
    """How the layer is set, in words and numbers."""
    match layer := stage.layer:
        case Conv():
            channels = stage.in_shape[0] // layer.groups
            groups = f", {layer.groups} groups" if layer.groups > 1 else ""
            kernels = f"{layer.out_channels} kernels of {layer.kernel}×{layer.kernel}×{channels}"
            return f"{kernels}, stride {layer.stride}, padding {layer.padding}{groups}{_initialisation(layer)}"
        case Linear():
            return f"{stage.in_shape[0]:,} inputs, {layer.out_features:,} outputs{_initialisation(layer)}"
        case LRN():
            alpha = f"{layer.alpha:g}/{layer.size}" if layer.average else f"{layer.alpha:g}"
            within = f", within each of {layer.groups} groups" if layer.groups > 1 else ""
            return f"a / ({layer.k:g} + {alpha}·Σa²)^{layer.beta:g}, Σ over {layer.size} neighbouring maps{within}"
        case SameMapNorm():
            alpha = f"{layer.alpha:g}/{layer.size}²"
            window = f"{layer.size}×{layer.size} neighbours in the map"
            return f"a / ({layer.k:g} + {alpha}·Σa²)^{layer.beta:g}, Σ over {window}"
        case MaxPool():
            return f"{layer.kernel}×{layer.kernel} windows, stride {layer.stride}"
        case AdaptiveAvgPool():
            return f"as many windows as give {layer.side}×{layer.side}"
        case Dropout():
            return f"probability {layer.probability:g}"
        case ReLU():
            return "max(0, a)"
        case Tanh():
            return "tanh(a)"
        case Softmax():
            return "exp(aᵢ) / Σ exp(aⱼ)"
        case Flatten():
            return "map by map, row by row"
    raise TypeError(f"nothing is said about {layer!r}")


def _initialisation(layer: Conv | Linear) -> str:
    """How the source starts the weights, where it says so as a normal distribution and a constant."""
    if layer.init_std is None:
        return ""
    return f"; weights start from N(0, {layer.init_std:g}²), biases from {layer.init_bias:g}"


def _of_kind(layer: Layer, network: Network) -> str:
    vgg = network.name.startswith("vgg")
    match layer:
        case Conv(kernel=1):
            return (
                "A 1×1 convolution: every output is a weighted sum of the maps at one place. It adds a non-linearity "
                "without seeing any neighbour (VGG, section 2.3)."
            )
        case Conv(groups=groups) if groups > 1:
            why = "because they live on different GPUs" if network.gpus > 1 else "as when they lived on different GPUs"
            return (
                f"A convolution in {groups} groups: each half of the kernels sees only its own half of the maps, "
                f"{why} (AlexNet, section 3.2)."
            )
        case Conv():
            section = "VGG, section 2.1" if vgg else "AlexNet, section 3.5"
            return f"A convolution: the same small kernels are held against every place of all maps ({section})."
        case ReLU():
            return (
                "Keeps positive values and sets the rest to zero. It does not saturate, so learning is several times "
                "faster than with tanh (AlexNet, section 3.1, figure 1)."
            )
        case Tanh():
            return (
                "Squashes every value between −1 and 1, as neurons were modelled before ReLU. Where it saturates its "
                "slope is almost 0 and little is learned: in the paper a network with ReLU needs a sixth of the "
                "iterations (AlexNet, section 3.1, figure 1)."
            )
        case LRN(groups=groups):
            within = " of the same tower" if groups > 1 else ""
            return (
                "Local response normalisation: a value is divided by what its neighbouring channels"
                f"{within} do at the same place, so strong responses inhibit their neighbours (AlexNet, section 3.3: "
                "top-1 and top-5 errors fall by 1.4 and 1.2 percentage points; VGG found no gain)."
            )
        case SameMapNorm():
            return (
                "Response normalisation within one map: a value is divided by what surrounds it. In the released 2012 "
                "definition, not in the paper."
            )
        case MaxPool(kernel=kernel, stride=stride) if stride < kernel:
            return (
                f"Keeps the largest value of every {kernel}×{kernel} window, {stride} apart, so that windows overlap: "
                "top-1 and top-5 errors are 0.4 and 0.3 percentage points below those of windows side by side "
                "(AlexNet, section 3.4)."
            )
        case MaxPool(kernel=kernel):
            return f"Keeps the largest value of every {kernel}×{kernel} window, side by side (VGG, section 2.1)."
        case AdaptiveAvgPool(side=side):
            return (
                f"Averages whatever arrives down to {side}×{side}, so the classifier fits any input size. torchvision "
                "added it; neither paper has it."
            )
        case Flatten():
            return "Lays all maps out as one vector for the classifier. Nothing is computed."
        case Dropout(probability=probability):
            return (
                f"While training, sets each value to zero with probability {probability:g}, so that neurons cannot "
                "rely on each other (AlexNet, section 4.2). It does nothing when the trained network runs."
            )
        case Linear():
            return "Fully connected: every output is a weighted sum of all inputs (AlexNet, section 3.5)."
        case Softmax():
            return "Turns scores into probabilities that add up to one (AlexNet, section 3.5)."
    raise TypeError(f"nothing is said about {layer!r}")
