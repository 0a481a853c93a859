"""Every named network with its source.  Standard library only.

Names, totals and input sizes are contracts; each definition says where it comes from and what to know about it.
"""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from alexnet.spec import (
    LRN,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Flatten,
    IllegalNetworkError,
    Layer,
    Linear,
    MaxPool,
    Network,
    ReLU,
    Rounding,
    SameMapNorm,
    Softmax,
    Tanh,
    times,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PAPER = "Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, NIPS 2012"
_VGG = "Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, table 1"

# Section 5: every weight from a normal distribution of this deviation; biases of 1 give the ReLUs positive inputs and
# speed up the first stages of learning.
_SIGMA = 0.01
_ONE = 1.0

Layers = tuple[tuple[str, Layer], ...]


def _head(
    hidden: int = 4096,
    *,
    hidden_std: float | None = _SIGMA,
    output_std: float | None = _SIGMA,
    init_bias: float = _ONE,
    dropout: Literal["before", "after", "none"] = "after",
) -> Layers:
    """The three fully connected layers; dropout after each hidden one (paper), before it (torchvision) or none."""
    layers: list[tuple[str, Layer]] = [("flatten", Flatten())]
    for number in (6, 7):
        if dropout == "before":
            layers.append((f"drop{number}", Dropout()))
        layers.append((f"fc{number}", Linear(hidden, init_std=hidden_std, init_bias=init_bias)))
        layers.append((f"relu{number}", ReLU()))
        if dropout == "after":
            layers.append((f"drop{number}", Dropout()))
    return (*layers, ("fc8", Linear(1000, init_std=output_std)), ("prob", Softmax()))


def _features_2012(lrn: LRN, groups: int, *, rounding: Rounding = "floor", init_bias: float = _ONE) -> Layers:
    """Section 3.5: conv → ReLU → LRN → overlapping pooling, twice; then three convolutions and a last pooling."""
    pool = MaxPool(3, 2, rounding)
    return (
        ("conv1", Conv(96, 11, stride=4, init_std=_SIGMA)),
        ("relu1", ReLU()),
        ("norm1", lrn),
        ("pool1", pool),
        ("conv2", Conv(256, 5, padding=2, groups=groups, init_bias=init_bias, init_std=_SIGMA)),
        ("relu2", ReLU()),
        ("norm2", lrn),
        ("pool2", pool),
        ("conv3", Conv(384, 3, padding=1, init_std=_SIGMA)),
        ("relu3", ReLU()),
        ("conv4", Conv(384, 3, padding=1, groups=groups, init_bias=init_bias, init_std=_SIGMA)),
        ("relu4", ReLU()),
        ("conv5", Conv(256, 3, padding=1, groups=groups, init_bias=init_bias, init_std=_SIGMA)),
        ("relu5", ReLU()),
        ("pool5", pool),
    )


ALEXNET_2012 = Network(
    name="alexnet-2012",
    title="AlexNet, two towers",
    input_shape=(3, 227, 227),
    towers=2,
    gpus=2,
    merged_at="fc8",
    layers=_features_2012(LRN(groups=2), groups=2) + _head(),
    source=f"{_PAPER}, sections 3.1–3.5 and 5",
    remark=(
        "Each GPU holds one tower: half of the maps of every layer. They exchange only before conv3 and in the fully "
        "connected layers, and LRN never crosses the border: channel 47 has no neighbour 48. The caption of the "
        "paper's figure 2 gives conv1 253,440 neurons; its own 55·55·96 maps have 290,400."
    ),
    side_remarks=(
        (
            224,
            (
                "The paper prints 224×224 with 55×55 maps, and both cannot hold: without padding 224 gives 54, not 55. "
                "227 gives exactly 55 and is what ports use; the released 2012 definition keeps 224 and rounds up "
                "(alexnet-2012-source); others pad 224 by 2 (alexnet-owt)."
            ),
        ),
    ),
)

ALEXNET_ONE_TOWER = Network(
    name="alexnet-one-tower",
    title="AlexNet, one tower",
    input_shape=(3, 227, 227),
    layers=_features_2012(LRN(average=True), groups=1) + _head(),
    source="The usual PyTorch port, for example dansuh17/alexnet-pytorch (model.py)",
    remark=(
        "No groups: conv2, conv4 and conv5 see all maps, 57 % more work for 2 % more weights. LRN is torch's, which "
        "divides α by 5, so α = 1e-4 is five times weaker than the paper's formula; it also crosses the tower border."
    ),
    side_remarks=ALEXNET_2012.side_remarks,
)


def _source_2012() -> Layers:
    lrn = LRN(average=True, groups=2)
    return (
        ("conv1", Conv(96, 11, stride=4, rounding="ceil", init_std=_SIGMA)),
        ("norm1", lrn),
        ("pool1", MaxPool(3, 2, rounding="ceil")),
        ("relu1", ReLU()),
        ("conv2", Conv(256, 5, padding=2, groups=2, rounding="ceil", init_bias=_ONE, init_std=_SIGMA)),
        ("norm2", lrn),
        ("cnorm2", SameMapNorm(size=5, alpha=0.001, beta=0.75)),
        ("pool2", MaxPool(3, 2, rounding="ceil")),
        ("relu2", ReLU()),
        ("conv3", Conv(384, 3, padding=1, rounding="ceil", init_std=0.03)),
        ("relu3", ReLU()),
        ("conv4", Conv(384, 3, padding=1, groups=2, rounding="ceil", init_std=0.03, init_bias=_ONE)),
        ("relu4", ReLU()),
        ("conv5", Conv(256, 3, padding=1, groups=2, rounding="ceil", init_std=0.03, init_bias=_ONE)),
        ("pool5", MaxPool(3, 2, rounding="ceil")),
        ("relu5", ReLU()),
    )


ALEXNET_2012_SOURCE = Network(
    name="alexnet-2012-source",
    title="AlexNet, the released 2012 definition",
    input_shape=(3, 224, 224),
    towers=2,
    gpus=2,
    merged_at="fc8",
    layers=_source_2012() + _head(),
    source="computerhistory/AlexNet-Source-Code: the 2012 layer definitions of cuda-convnet",
    remark=(
        "What actually ran differs from the paper: sizes are rounded up (1 + ⌈(224 − 11)/4⌉ = 55), LRN comes before "
        "ReLU and divides α by 5, ReLU comes after pooling, and a response norm within each map follows the second "
        "LRN. The code's default for k is 1; the released layer files vary it, and the paper's 2 is kept here."
    ),
)

BVLC_ALEXNET = Network(
    name="bvlc-alexnet",
    title="Caffe’s AlexNet",
    input_shape=(3, 227, 227),
    towers=2,
    merged_at="fc8",
    layers=(
        *_features_2012(LRN(average=True, k=1.0), groups=2, rounding="ceil", init_bias=0.1),
        *_head(hidden_std=0.005, init_bias=0.1),
    ),
    source="BVLC/caffe, models/bvlc_alexnet/train_val.prototxt",
    remark=(
        "The paper's order of layers as Caffe trained it, and the AlexNet of most published weights. One GPU: the two "
        "towers survive as groups, and LRN runs across all channels with α divided by 5 and k = 1. Its model card "
        "names what differs in training: no noise on colour, and biases of 0.1 where the paper has 1."
    ),
    side_remarks=ALEXNET_2012.side_remarks,
)

CAFFENET = Network(
    name="caffenet",
    title="CaffeNet",
    input_shape=(3, 227, 227),
    towers=2,
    merged_at="fc8",
    layers=(
        ("conv1", Conv(96, 11, stride=4, init_std=_SIGMA)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2, rounding="ceil")),
        ("norm1", LRN(average=True, k=1.0)),
        ("conv2", Conv(256, 5, padding=2, groups=2, init_bias=_ONE, init_std=_SIGMA)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(3, 2, rounding="ceil")),
        ("norm2", LRN(average=True, k=1.0)),
        ("conv3", Conv(384, 3, padding=1, init_std=_SIGMA)),
        ("relu3", ReLU()),
        ("conv4", Conv(384, 3, padding=1, groups=2, init_bias=_ONE, init_std=_SIGMA)),
        ("relu4", ReLU()),
        ("conv5", Conv(256, 3, padding=1, groups=2, init_bias=_ONE, init_std=_SIGMA)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(3, 2, rounding="ceil")),
        *_head(hidden_std=0.005),
    ),
    source="BVLC/caffe, models/bvlc_reference_caffenet/train_val.prototxt",
    remark=(
        "Pooling before LRN, so LRN works on a quarter of the values. Caffe ran it on one GPU: the two towers survive "
        "as groups, and LRN runs across all channels with α divided by 5 and k = 1. Split over two GPUs, its LRN "
        "would need the neighbours' maps too. Caffe rounds pooling sizes up."
    ),
    side_remarks=ALEXNET_2012.side_remarks,
)

ALEXNET_OWT = Network(
    name="alexnet-owt",
    title="AlexNet, ‘one weird trick’",
    input_shape=(3, 224, 224),
    layers=(
        ("conv1", Conv(64, 11, stride=4, padding=2)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(192, 5, padding=2)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv(384, 3, padding=1)),
        ("relu3", ReLU()),
        ("conv4", Conv(256, 3, padding=1)),
        ("relu4", ReLU()),
        ("conv5", Conv(256, 3, padding=1)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(3, 2)),
        ("avgpool", AdaptiveAvgPool(6)),
        *_head(hidden_std=None, output_std=None, init_bias=0.0, dropout="before"),
    ),
    source=(
        "Krizhevsky, One weird trick for parallelizing convolutional neural networks, arXiv:1404.5997; "
        "torchvision's `alexnet`"
    ),
    remark=(
        "What most people load as AlexNet. No LRN, no groups, 64-192-384-256-256 maps, and dropout before the fully "
        "connected layers. torchvision's average pooling makes fc6 the same for every input size."
    ),
)

ALEXNET_HALF = Network(
    name="alexnet-half",
    title="AlexNet, half width",
    input_shape=(3, 224, 224),
    layers=(
        ("conv1", Conv(48, 11, stride=4, padding=2)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(128, 5, padding=2)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv(192, 3, padding=1)),
        ("relu3", ReLU()),
        ("conv4", Conv(192, 3, padding=1)),
        ("relu4", ReLU()),
        ("conv5", Conv(128, 3, padding=1)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(3, 2)),
        *_head(2048, hidden_std=None, output_std=None, init_bias=0.0, dropout="before"),
    ),
    source="A widely copied PyTorch classroom listing: 48-128-192-192-128 maps, 2048 hidden neurons",
    remark=(
        "One tower of the paper's network on its own, for small data and small machines: 27 % of the weights "
        "and 43 % of the work. No LRN; 224 padded by 2 gives 55 (55.25, rounded down)."
    ),
)

ALEXNET_SLIM = Network(
    name="alexnet-slim",
    title="AlexNet, a TF-Slim listing as printed",
    input_shape=(3, 227, 227),
    towers=2,
    gpus=2,
    merged_at="fc6",
    layers=(
        ("conv1", Conv(96, 11, stride=4)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(3, 2)),
        ("conv2", Conv(256, 5, groups=2)),
        ("relu2", ReLU()),
        ("pool2", MaxPool(3, 2)),
        ("conv3", Conv(384, 3)),
        ("relu3", ReLU()),
        ("conv4", Conv(384, 3, groups=2)),
        ("relu4", ReLU()),
        ("conv5", Conv(256, 3, groups=2)),
        ("relu5", ReLU()),
        ("pool5", MaxPool(3, 2)),
        *_head(hidden_std=None, output_std=None, init_bias=0.0, dropout="none"),
    ),
    source="A lecture's TensorFlow-Slim listing with two towers, exactly as printed",
    remark=(
        "Every convolution is VALID (no padding), so maps shrink to 23, 9, 7 and 5 and pool5 is 2×2 instead of 6×6: "
        "fc6 has 1,024 inputs instead of 9,216, and the network less than half of AlexNet's weights. A listing that "
        "looks like AlexNet and is not, which its totals show at once. No LRN, no dropout."
    ),
)


def _vgg(letter: str, depth: int, blocks: tuple[tuple[int, ...], ...], remark: str, *, lrn: bool = False) -> Network:
    """A column of table 1: `blocks` gives the kernel sizes of each block's convolutions."""

    def features() -> Iterator[tuple[str, Layer]]:
        for block, (kernels, channels) in enumerate(zip(blocks, (64, 128, 256, 512, 512), strict=True), start=1):
            for number, kernel in enumerate(kernels, start=1):
                # Section 3.1: weights of variance 0.01, so a standard deviation of 0.1, and no bias.
                yield f"conv{block}_{number}", Conv(channels, kernel, padding=kernel // 2, init_std=0.1)
                yield f"relu{block}_{number}", ReLU()
            if lrn and block == 1:
                yield "norm1", LRN()
            yield f"pool{block}", MaxPool(2, 2)

    return Network(
        name=f"vgg-{letter.lower()}",
        title=f"VGG {letter}, {depth} weight layers",
        input_shape=(3, 224, 224),
        layers=(*features(), *_head(hidden_std=0.1, output_std=0.1, init_bias=0.0)),
        source=_VGG,
        remark=remark,
    )


_A = ((3,), (3,), (3, 3), (3, 3), (3, 3))
VGG_A = _vgg("A", 11, _A, "The shallowest column, trained first; its weights initialised the deeper ones.")
VGG_A_LRN = _vgg(
    "A-LRN",
    11,
    _A,
    "A with LRN after the first convolution. Top-1 error 29.7 % against 29.6 % without (table 3): LRN does not help, "
    "and the deeper columns leave it out.",
    lrn=True,
)
VGG_B = _vgg("B", 13, ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)), "A second 3×3 convolution in the first two blocks.")
VGG_C = _vgg(
    "C",
    16,
    ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "B with 1×1 convolutions, which add a non-linearity but see no neighbours; torchvision does not have it. D, with "
    "3×3 in their place, is better (27.0 % against 28.1 %): spatial context matters.",
)
VGG_D = _vgg("D", 16, ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)), "Known as VGG-16.")
VGG_E = _vgg("E", 19, ((3, 3), (3, 3), (3,) * 4, (3,) * 4, (3,) * 4), "Known as VGG-19.")

NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        ALEXNET_2012,
        ALEXNET_ONE_TOWER,
        ALEXNET_2012_SOURCE,
        BVLC_ALEXNET,
        CAFFENET,
        ALEXNET_OWT,
        ALEXNET_HALF,
        ALEXNET_SLIM,
        VGG_A,
        VGG_A_LRN,
        VGG_B,
        VGG_C,
        VGG_D,
        VGG_E,
    )
}

ALIASES = {
    "alexnet": "alexnet-2012",
    "torchvision-alexnet": "alexnet-owt",
    "vgg11": "vgg-a",
    "vgg13": "vgg-b",
    "vgg16": "vgg-d",
    "vgg19": "vgg-e",
}


class UnknownNetworkError(ValueError):
    """No network has this name; the message suggests the nearest."""


def network_named(name: str) -> Network:
    """The network of this name or alias, in any case.

    Raises:
        UnknownNetworkError: no such network; the message names the nearest and how to list all.
    """
    key = name.strip().lower()
    key = ALIASES.get(key, key)
    if key in NETWORKS:
        return NETWORKS[key]
    near = get_close_matches(key, [*NETWORKS, *ALIASES], n=1, cutoff=0.5)
    suggestion = f"did you mean {near[0]}? " if near else ""
    raise UnknownNetworkError(f"there is no network named {name!r}; {suggestion}Known: {', '.join(NETWORKS)}")


def base_of(reference: str) -> Network:
    """The network, as published, that a reference or the name of a variant begins with.

    Raises:
        UnknownNetworkError: no such network.
    """
    return network_named(base_name(reference))


def base_name(reference: str) -> str:
    """A reference, or the name of a variant, without input size and changes."""
    return reference.partition(":")[0].partition("@")[0]


def network_from(reference: str) -> Network:
    """A network from a short reference: ``alexnet-2012``, ``alexnet-2012@224``, ``alexnet-2012@131:no-lrn:tanh``.

    ``@SIDE`` (or ``@HEIGHTxWIDTH``) sets the input size, and behind it come changes, each after a colon:

    * ``:no-lrn`` leaves LRN out (paper, section 3.3).
    * ``:no-overlap`` makes every pooling's window as wide as its stride: z = 2 and s = 2 in AlexNet, which "produces
      output of equivalent dimensions" (section 3.4); where it would not, the network is refused.
    * ``:tanh`` puts tanh in the place of every ReLU (section 3.1).  Initial biases of 1 are there to give ReLUs
      positive inputs (section 5) and would start tanh at 0.76, where its slope is 0.42: all become 0.

    The network's name becomes the reference, its changes in this order, so that variants can stand side by side.

    Raises:
        UnknownNetworkError: no such network.
        alexnet.spec.IllegalNetworkError: the size or a change is not one that the network can take.
    """
    head, colon, suffix = reference.strip().partition(":")
    name, at, size = head.partition("@")
    network = network_named(name)
    label = network.name
    if at:
        sides = size.lower().split("x")
        if not all(side.isdecimal() and side.isascii() and len(side) < 8 for side in sides) or len(sides) > 2:
            raise IllegalNetworkError(f"after @ comes a side in pixels, like {network.name}@224; got {reference!r}")
        height, width = int(sides[0]), int(sides[-1])
        network = network.adapted(input_shape=(network.input_shape[0], height, width))
        label += f"@{size.lower()}"
    wanted = [change.strip().lower() for change in suffix.split(":")] if colon else []
    for change in wanted:
        if change not in CHANGES:
            known = f"{', '.join(list(CHANGES)[:-1])} or {list(CHANGES)[-1]}"
            raise IllegalNetworkError(f"after : comes {known}; got {reference!r}")
        if wanted.count(change) > 1:
            raise IllegalNetworkError(f"{change} is given {wanted.count(change)} times in {reference!r}: give it once")
    for change, changed in CHANGES.items():
        if change in wanted:
            network = changed(network)
            label += f":{change}"
    return replace(network, name=label)


def _no_lrn(network: Network) -> Network:
    if not any(isinstance(layer, LRN) for _, layer in network.layers):
        raise IllegalNetworkError(f"{network.name} has no LRN to leave out")
    return network.without(LRN)


def _no_overlap(network: Network) -> Network:
    """Windows side by side.  Raises IllegalNetworkError where a pooling would give another number of them."""
    layers = []
    for stage in network.stages():
        layer = stage.layer
        if isinstance(layer, MaxPool) and layer.kernel > layer.stride:
            layer = replace(layer, kernel=layer.stride)
            if (shape := layer.out_shape(stage.in_shape)) != stage.out_shape:
                raise IllegalNetworkError(
                    f"{network.name} cannot pool without overlap at {times(network.input_shape)}: {stage.name} would "
                    f"give {times(shape)} instead of {times(stage.out_shape)}; try another input, NAME@SIDE"
                )
        layers.append((stage.name, layer))
    if tuple(layers) == network.layers:
        raise IllegalNetworkError(f"{network.name} has no pooling whose windows overlap")
    return replace(network, layers=tuple(layers))


def _tanh(network: Network) -> Network:
    """Tanh for ReLU, also in the names of the stages."""
    if not any(isinstance(layer, ReLU) for _, layer in network.layers):
        raise IllegalNetworkError(f"{network.name} has no ReLU to replace by tanh")

    def changed(name: str, layer: Layer) -> tuple[str, Layer]:
        match layer:
            case ReLU():
                return name.replace("relu", "tanh"), Tanh()
            case Conv() | Linear():
                return name, replace(layer, init_bias=0.0)
        return name, layer

    return replace(network, layers=tuple(changed(*pair) for pair in network.layers))


CHANGES: dict[str, Callable[[Network], Network]] = {"no-lrn": _no_lrn, "no-overlap": _no_overlap, "tanh": _tanh}
"""What can stand behind a network's name, in the order in which it is written."""


def kernel_stack(kernel: int, count: int, channels: int = 256, side: int = 28) -> Network:
    """`count` convolutions of `kernel` × `kernel` with as many maps out as in, each followed by ReLU.

    The comparison of VGG's section 2.3: stacks of 3×3 see as much as one large kernel for fewer weights.
    """
    layers: list[tuple[str, Layer]] = []
    for number in range(1, count + 1):
        layers += [(f"conv{number}", Conv(channels, kernel, padding=kernel // 2)), (f"relu{number}", ReLU())]
    words = {1: "one", 2: "two", 3: "three"}
    return Network(
        name=f"{words.get(count, str(count))} {kernel}×{kernel}",
        title=f"{words.get(count, str(count))} {kernel}×{kernel} convolution{'s' * (count > 1)}",
        input_shape=(channels, side, side),
        layers=tuple(layers),
        source=f"{_VGG.rsplit(',', 1)[0]}, section 2.3",
        remark=f"{channels} maps in and out of every layer.",
    )
