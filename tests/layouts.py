"""Other people's networks and files, written as those people write them and not with this project's code."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


class TorchvisionAlexNet(nn.Module):
    """torchvision.models.AlexNet as published, with the width of its hidden layers as an argument."""

    def __init__(self, num_classes: int = 1000, hidden: int = 4096) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.5),
            nn.Linear(256 * 6 * 6, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(p=0.5),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


VGG = {
    "vgg11": [64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg13": [64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"],
    "vgg16": [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"],
    "vgg19": [64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M"],
}


def vgg_features(name: str, *, batch_norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG[name]:
        if isinstance(width, str):
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] * batch_norm + [nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers)


class TorchvisionVGG(nn.Module):
    """torchvision.models.VGG as published."""

    def __init__(self, name: str, num_classes: int = 1000, hidden: int = 4096, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.features = vgg_features(name, batch_norm=batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, hidden),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(True),
            nn.Dropout(),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class TimmVGG(nn.Module):
    """timm's VGG: the first two fully connected layers are convolutions in `pre_logits`, the last is in `head`."""

    def __init__(self, name: str, num_classes: int, hidden: int) -> None:
        super().__init__()
        self.features = vgg_features(name)
        self.pre_logits = nn.ModuleDict(
            {"fc1": nn.Conv2d(512, hidden, 7), "fc2": nn.Conv2d(hidden, hidden, 1)},
        )
        self.head = nn.ModuleDict({"fc": nn.Linear(hidden, num_classes)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_logits["fc1"](self.features(x)).relu()
        return self.head["fc"](self.pre_logits["fc2"](x).relu().flatten(1))


class UsualPort(nn.Module):
    """The usual PyTorch port of the paper (dansuh17/alexnet-pytorch), with the hidden width as an argument."""

    def __init__(self, num_classes: int = 1000, hidden: int = 4096) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_channels=3, out_channels=96, kernel_size=11, stride=4),
            nn.ReLU(),
            nn.LocalResponseNorm(size=5, alpha=0.0001, beta=0.75, k=2),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(96, 256, 5, padding=2),
            nn.ReLU(),
            nn.LocalResponseNorm(size=5, alpha=0.0001, beta=0.75, k=2),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Dropout(p=0.5),
            nn.Linear(in_features=(256 * 6 * 6), out_features=hidden),
            nn.ReLU(),
            nn.Dropout(p=0.5),
            nn.Linear(in_features=hidden, out_features=hidden),
            nn.ReLU(),
            nn.Linear(in_features=hidden, out_features=num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.net(x).flatten(1))


def caffe_weights(classes: int = 5, hidden: int = 8, seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """Random weights in the shapes of Caffe's AlexNet, by layer: (out, in, h, w) or (out, in), and biases."""
    random = torch.Generator().manual_seed(seed)
    shapes = {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (hidden, 9216),
        "fc7": (hidden, hidden),
        "fc8": (classes, hidden),
    }
    made = {}
    for name, shape in shapes.items():
        inputs = int(np.prod(shape[1:]))
        weight = torch.randn(shape, generator=random) * (2 / inputs) ** 0.5
        made[name] = (weight, torch.randn(shape[0], generator=random) * 0.1)
    return made


def caffe_forward(
    weights: Mapping[str, tuple[Tensor, Tensor]], bgr: Tensor, *, pool_first: bool = False, until: str = "fc8"
) -> Tensor:
    """Caffe's AlexNet, or CaffeNet where pooling comes first, as its prototxt says: blue, green, red come in."""

    def lrn(x: Tensor) -> Tensor:
        return functional.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0)

    def pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 3, 2, ceil_mode=True)

    x = bgr
    settings = (("conv1", 4, 0, 1), ("conv2", 1, 2, 2), ("conv3", 1, 1, 1), ("conv4", 1, 1, 2), ("conv5", 1, 1, 2))
    for name, stride, padding, groups in settings:
        x = functional.conv2d(x, *weights[name], stride=stride, padding=padding, groups=groups).relu()
        if name in {"conv1", "conv2"}:
            x = lrn(pool(x)) if pool_first else pool(lrn(x))
        if name == until:
            return x
    x = pool(x).flatten(1)
    x = functional.linear(x, *weights["fc6"]).relu()
    x = functional.linear(x, *weights["fc7"]).relu()
    return functional.linear(x, *weights["fc8"])


def tensorflow_layout(weights: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, list[NDArray[np.float32]]]:
    """The dictionary in the TensorFlow ports' bvlc_alexnet.npy: (h, w, in, out) and (in, out), flattened row by row."""
    converted = {}
    for name, (weight, bias) in weights.items():
        if weight.ndim == 4:
            array = weight.permute(2, 3, 1, 0).numpy()
        elif name == "fc6":
            array = weight.reshape(-1, 256, 6, 6).permute(2, 3, 1, 0).reshape(9216, -1).numpy()
        else:
            array = weight.T.numpy()
        converted[name] = [np.ascontiguousarray(array), bias.numpy()]
    return converted


# --- protobuf, byte by byte ------------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def single(field: int, value: float) -> bytes:
    return varint(field << 3 | 5) + struct.pack("<f", value)


def chunk(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def blob(array: NDArray[np.float32], *, legacy: bool = False, double: bool = False) -> bytes:
    """caffe.BlobProto: shape = 7 (dim = 1), or num, channels, height, width = 1 … 4; data = 5, double_data = 8."""
    data = chunk(8, array.astype("<f8").tobytes()) if double else chunk(5, array.astype("<f4").tobytes())
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        return b"".join(number(index, length) for index, length in enumerate(shape, start=1)) + data
    return chunk(7, chunk(1, b"".join(map(varint, array.shape)))) + data


def caffemodel(
    weights: Mapping[str, tuple[Tensor, Tensor]],
    *,
    old: bool = False,
    pool_first: bool = False,
    double: bool = False,
    name: str = "AlexNet",
    extra: Iterable[bytes] = (),
) -> bytes:
    """caffe.NetParameter: `layers` = 2 of V1LayerParameter, or `layer` = 100 of LayerParameter."""
    kinds = {"Data": 5, "Convolution": 4, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18, "Softmax": 20}

    def layer(title: str, kind: str, blobs: Iterable[bytes] = (), settings: bytes = b"") -> bytes:
        if old:
            content = chunk(4, title) + number(5, kinds[kind]) + b"".join(chunk(6, one) for one in blobs)
            return chunk(2, content + (chunk(18, settings) if settings else b""))
        content = chunk(1, title) + chunk(2, kind) + b"".join(chunk(7, one) for one in blobs)
        return chunk(100, content + (chunk(118, settings) if settings else b""))

    lrn = number(1, 5) + single(2, 1e-4) + single(3, 0.75)
    parts = [chunk(1, name), layer("data", "Data")]
    for title, pair in weights.items():
        kind = "Convolution" if title.startswith("conv") else "InnerProduct"
        parts.append(layer(title, kind, (blob(one.numpy(), legacy=old, double=double) for one in pair)))
        if title != "fc8":
            parts.append(layer(f"relu{title[-1]}", "ReLU"))
        if title in {"conv1", "conv2"}:
            pair_of = [layer(f"norm{title[-1]}", "LRN", settings=lrn), layer(f"pool{title[-1]}", "Pooling")]
            parts += pair_of[::-1] if pool_first else pair_of
        if title == "conv5":
            parts.append(layer("pool5", "Pooling"))
    return b"".join([*parts, layer("prob", "Softmax"), *extra])
