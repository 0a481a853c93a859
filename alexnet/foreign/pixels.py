"""What foreign weights were shown: the conventions of scale, mean and channel order, as preprocessings of ours.

Ours are always red, green, blue from 0 to 255 before the mean is taken off.  Weights that were trained on blue, green,
red are opened with the input channels of conv1 turned round, which gives the same numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad

from alexnet.checkpoints import IMAGENET_MEAN, CheckpointError
from alexnet.data.preprocessing import Geometry, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

    from alexnet.spec import Network

IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
"""Deviation of ImageNet's training pictures in red, green, blue, 0…255 (torchvision's 0.229, 0.224, 0.225)."""
CAFFE_MEAN = (123.0, 117.0, 104.0)
"""Caffe's channel means in red, green, blue, 0…255; its own order is 104, 117, 123 for blue, green, red."""

PIXELS = {
    "torchvision": "red, green, blue from 0 to 1, less ImageNet's mean, divided by its deviation",
    "caffe": "blue, green, red from 0 to 255, less the mean",
    "rgb-255": "red, green, blue from 0 to 255, less ImageNet's mean",
    "rgb-raw": "red, green, blue from 0 to 255 as they are",
    "rgb-1": "red, green, blue from 0 to 1",
    "rgb-centred": "red, green, blue from −1 to 1",
}
"""The conventions by name."""

_CONSTANTS = {
    "torchvision": (IMAGENET_MEAN, IMAGENET_DEVIATION),
    "caffe": (CAFFE_MEAN, (1.0, 1.0, 1.0)),
    "rgb-255": (IMAGENET_MEAN, (1.0, 1.0, 1.0)),
    "rgb-raw": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "rgb-1": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "rgb-centred": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}


def checked(pixels: str) -> str:
    """Raises CheckpointError where no convention has this name."""
    if pixels not in PIXELS:
        raise CheckpointError(f"there are no pixels called {pixels!r}; known: {', '.join(PIXELS)}")
    return pixels


def turned(weights: dict[str, Tensor], network: Network) -> dict[str, Tensor]:
    """The weights with the input channels of the first convolution from blue, green, red to red, green, blue."""
    first = f"{network.layers[0][0]}.weight"
    return {name: tensor.flip(1) if name == first else tensor for name, tensor in weights.items()}


def preprocessing_of(
    pixels: str, network: Network, mean: tuple[str, Tensor] | None, values: list[float] | None
) -> tuple[Preprocessing, tuple[str, ...]]:
    """A convention for a network's input, and what had to be assumed.

    `mean` is an image of means with its name, `values` the channels' means, blue first, that a Caffe file states; both
    are used where pixels keep their 0…255.
    """
    _, height, width = network.input_shape
    shorter = min(height, width)
    # 256 pixels and a crop of 224 or 227 is what everyone does; other inputs keep the proportion of torchvision's.
    side = 256 if 224 <= shorter <= max(height, width) <= 256 else round(max(height, width) * 256 / 224)
    geometry = Geometry(side, height, width)
    centre, divisor = (torch.tensor(numbers)[:, None, None] for numbers in _CONSTANTS[pixels])
    notes = []
    if pixels == "caffe" and values is not None and len(values) == 3:
        centre = torch.tensor(values[::-1])[:, None, None]
        notes.append(f"the file's own means are taken off: {', '.join(f'{value:g}' for value in values)} (blue first)")
    elif pixels == "caffe" and mean is None:
        notes.append("Caffe's channel means are taken off: 104, 117, 123 for blue, green, red")
    if mean is not None and pixels in {"caffe", "rgb-255"}:
        centre, note = _mean_image(mean, geometry)
        notes.append(note)
    notes.insert(0, f"pixels are taken to be {PIXELS[pixels]} ({pixels}); another of {', '.join(PIXELS)} can be chosen")
    return Preprocessing(geometry, centre, divisor), tuple(notes)


def _mean_image(mean: tuple[str, Tensor], geometry: Geometry) -> tuple[Tensor, str]:
    """The mean image in red, green, blue at the geometry's size, and in words what was done."""
    name, image = mean
    image = image.squeeze().float()
    if image.ndim == 3 and image.shape[0] != 3 and image.shape[-1] == 3:
        image = image.permute(2, 0, 1)
    if image.shape[0] != 3 or image.ndim not in {1, 3} or not bool(image.isfinite().all()):
        raise CheckpointError(
            f"the mean image {name} has shape {tuple(mean[1].shape)} or no numbers in it; expected 3×H×W"
        )
    bgr = re.search("rgb", name, re.IGNORECASE) is None
    order = "blue, green, red as Caffe has it" if bgr else "red, green, blue as its name says"
    image = image.flip(0) if bgr else image
    if image.ndim == 3 and image.shape[1:] == (geometry.side, geometry.side):
        return image, f"the mean image {name} is taken off, in {order}"
    if image.ndim == 3 and image.shape[1:] == (geometry.height, geometry.width):
        top, left = geometry.centre
        sides = (left, geometry.side - geometry.width - left, top, geometry.side - geometry.height - top)
        return (
            pad(image[None], sides, mode="replicate")[0],
            f"the mean image {name} is taken off the central crop, in {order}",
        )
    return (
        image.reshape(3, -1).mean(1)[:, None, None],
        f"the channels' means of {name} are taken off, in {order}, since its size is not the input's",
    )
