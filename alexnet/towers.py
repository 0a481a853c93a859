"""A network of two towers on two devices, exchanging only where the 2012 network does (paper, section 3.2, figure 2).

Each tower's half of every stage lives on its own device.  They exchange before a layer that looks at all maps
(conv3) or all neurons (fc6, fc7); from the stage `merged_at` on (fc8), the first device holds all.  The two devices
may be any: two GPUs, one GPU twice, the CPU twice.  The numbers are those of `alexnet.build.build` up to rounding.

Copies are queued on the devices' own streams: the host does not wait for them, so two GPUs compute at once, but a
tower does not work while its own maps travel.  To convolve its own maps first and add the other tower's part later
would need a further stream and allocator bookkeeping on each device, both again in backward, to hide one copy.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet import build, spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alexnet.spec import Network, Stage

Pair = tuple[Tensor, Tensor]
Devices = tuple[torch.device, torch.device]

OUTPUT = "output"
"""The name under which `TwoTowers.sent` counts scores that are put together after the last stage of all."""


class TwoTowers(nn.Module):
    """The same function as `build.build(network)`, tower 1 on the first device and tower 2 on the second.

    Children have the spec's names, and a stage that is split has its towers as children ``0`` and ``1``:
    ``conv1.0.weight``, ``conv1.1.weight``, …, ``fc8.weight``; `split` and `join` translate.  Weights are torch's
    default initialisation until others are loaded.  Every child stays where it was put: to move the module, make
    another and load the weights.

    Raises:
        ValueError: the network does not have two towers, or a stage does not split into two halves.
        alexnet.spec.DoesNotFitError: the network cannot take its input size.
    """

    def __init__(self, network: Network, devices: Devices) -> None:
        super().__init__()
        if network.towers != 2:
            raise ValueError(
                f"{network.name} has {network.towers} tower{'s' * (network.towers != 1)}, and two devices take two: "
                "run it on one device, or choose a network with two towers, such as alexnet-2012"
            )
        self._link = _Link(devices)
        self._order: list[str] = []
        given = True  # what reaches the first layer with weights is the image, whole
        for stage in network.stages():
            if isinstance(stage.layer, spec.Softmax):
                continue  # as in `build.build`
            weighted = isinstance(stage.layer, spec.Conv | spec.Linear)
            if stage.towers == 1 or (given and not weighted):
                with devices[0]:
                    child = build.module(stage)
            else:
                child = _split_stage(network, stage, self._link, given)
            given = given and not weighted
            self.add_module(stage.name, child)
            self._order.append(stage.name)

    @property
    def devices(self) -> Devices:
        return self._link.devices

    @property
    def sent(self) -> dict[str, int]:
        """Bytes that crossed in the latest forward pass, by stage; where both devices are one, what would have crossed.

        Backward sends as many the other way, except for dropout's masks.  The image is not counted: whoever calls gives
        it to both devices.
        """
        return dict(self._link.sent)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) on any device -> (N, classes) on the first.

        Pinned images travel while this returns: do not write over them before the step is over.
        """
        link = self._link
        link.sent = {}
        held: Tensor | Pair = images
        for name in self._order:
            child = self.get_submodule(name)
            if isinstance(child, _Halves):
                held = child(held if isinstance(held, tuple) else child.given(held))
            else:
                held = child(link.gathered(held, name))
        return link.gathered(held, OUTPUT)


class _Link:
    """The way between two devices, and the bytes that took it."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.sent: dict[str, int] = {}

    def send(self, values: Tensor, tower: int, stage: str) -> Tensor:
        """The values on the device of `tower` (0 or 1); they came from the other."""
        self.sent[stage] = self.sent.get(stage, 0) + values.nbytes
        return _copied(values, self.devices[tower])

    def gathered(self, held: Tensor | Pair, stage: str) -> Tensor:
        """All values on the first device, those of tower 1 first."""
        if isinstance(held, tuple):
            return torch.cat((held[0], self.send(held[1], 0, stage)), dim=1)
        return _copied(held, self.devices[0])


def _copied(values: Tensor, device: torch.device) -> Tensor:
    # Whoever reads a GPU's memory is queued behind the copy; nothing would keep a CPU from reading too early.
    return values.to(device, non_blocking=device.type == "cuda")


# --- a stage in two halves -------------------------------------------------------------------------------------------


class _Halves(nn.ModuleList):
    """A stage's two halves, each on its device and without the other: takes and returns what the two towers hold."""

    def __init__(self, stage: Stage, link: _Link) -> None:
        parts = []
        for device in link.devices:
            with device:
                parts.append(build.module(_half(stage)))
        super().__init__(parts)
        self._stage, self._link = stage, link

    def given(self, image: Tensor) -> Pair:
        """What each tower gets of an image that no tower holds yet: all of it, or the channels of its groups."""
        first, second = self._link.devices
        groups = getattr(self._stage.layer, "groups", 1)
        parts = image.chunk(2, dim=1) if groups > 1 else (image, image)
        return _copied(parts[0], first), _copied(parts[1], second)

    def forward(self, held: Pair) -> Pair:
        return self[0](held[0]), self[1](held[1])


class _SeeingAll(_Halves):
    """Each half looks at all maps or neurons: the towers send each other what they hold (conv3, fc6, fc7)."""

    def forward(self, held: Pair) -> Pair:
        first, second = held
        there = self._link.send(first, 1, self._stage.name)
        back = self._link.send(second, 0, self._stage.name)
        # Tower 1's channels come first, before and after they are flattened.
        return super().forward((torch.cat((first, back), dim=1), torch.cat((there, second), dim=1)))


class _AcrossBorder(_Halves):
    """LRN over all channels (Caffe's): its windows reach `size` // 2 maps into the other tower."""

    def forward(self, held: Pair) -> Pair:
        first, second = held
        layer, maps = self._stage.layer, first.shape[1]
        assert isinstance(layer, spec.LRN)
        border = min(layer.size // 2, maps)
        if not border:
            return super().forward(held)
        there = self._link.send(first[:, -border:], 1, self._stage.name)
        back = self._link.send(second[:, :border], 0, self._stage.name)
        # The neighbours' maps are normalised too, with windows cut off too early, and dropped.
        first, second = super().forward((torch.cat((first, back), dim=1), torch.cat((there, second), dim=1)))
        return first[:, :maps], second[:, border:]


class _DropHalves(_Halves):
    """Dropout with one mask for both towers, drawn on the first device: it is the one-device network's for one seed.

    Tower 2's half of the mask crosses, while training only.  On maps in channels-last order the one-device network
    draws in another order, so there the two masks differ.
    """

    def forward(self, held: Pair) -> Pair:
        first, second = held
        layer = self._stage.layer
        assert isinstance(layer, spec.Dropout)
        if not self.training or not layer.probability:
            return held
        ones = first.new_ones(first.shape[0], 2 * first.shape[1], *first.shape[2:])
        mine, other = functional.dropout(ones, layer.probability).chunk(2, dim=1)
        return first * mine, second * self._link.send(other, 1, self._stage.name)


def _split_stage(network: Network, stage: Stage, link: _Link, given: bool) -> _Halves:
    """The two halves of a stage.  Raises ValueError where there are none."""
    layer = stage.layer
    groups = layer.groups if isinstance(layer, spec.Conv | spec.LRN) else 1
    if stage.out_shape[0] % 2 or (groups > 1 and groups % 2):
        odd = f"{groups} groups" if groups > 1 and groups % 2 else f"{stage.out_shape[0]} outputs"
        raise ValueError(
            f"{stage.name} of {network.name} does not split over two devices: its {odd} have no half. "
            "Make the number even, or run the network on one device"
        )
    match layer:
        case spec.Dropout():
            return _DropHalves(stage, link)
        case spec.LRN(groups=1):
            return _AcrossBorder(stage, link)
        case spec.Linear() | spec.Conv(groups=1) if not given:
            return _SeeingAll(stage, link)
    return _Halves(stage, link)


def _half(stage: Stage) -> Stage:
    """One tower's part of a stage: half of its outputs, from half of its input unless it looks at all."""
    layer, inputs = stage.layer, stage.in_shape
    half_of_inputs = (inputs[0] // 2, *inputs[1:])
    match layer:
        case spec.Conv(out_channels=maps, groups=groups):
            layer = replace(layer, out_channels=maps // 2, groups=max(groups // 2, 1))
            inputs = inputs if groups == 1 else half_of_inputs
        case spec.Linear(out_features=width):
            layer = replace(layer, out_features=width // 2)
        case spec.LRN(groups=groups):
            layer, inputs = replace(layer, groups=max(groups // 2, 1)), half_of_inputs
        case _:
            inputs = half_of_inputs
    return stage._replace(layer=layer, in_shape=inputs, out_shape=(stage.out_shape[0] // 2, *stage.out_shape[1:]))


# --- names -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def split(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under one-device names (``conv1.weight``) -> copies under the names of `TwoTowers`.

    Weights, gradients or momentum, all of them or some: a row (dimension 0) belongs to an output, and the first half
    of the outputs to tower 1.

    Raises:
        ValueError: a name is not the network's, or a tensor does not have a row for every output.
    """
    stages = {stage.name: stage for stage in network.stages()}
    result = {}
    for name, tensor in tensors.items():
        stage_name, _, kind = name.rpartition(".")
        stage = stages.get(stage_name)
        if stage is None:
            raise _unknown(network, name)
        if tensor.shape[:1] != stage.out_shape[:1]:
            raise ValueError(
                f"{name} of {network.name} should have {stage.out_shape[0]} rows, one for each output; "
                f"its shape is {spec.times(tensor.shape) or 'that of a single number'}"
            )
        if stage.towers == 1:
            result[name] = tensor.clone()
        else:
            for tower, half in enumerate(tensor.chunk(2)):
                result[f"{stage_name}.{tower}.{kind}"] = half.clone()
    return result


@torch.no_grad()
def join(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `split`: copies under one-device names, each on the device of its first half.

    Raises:
        ValueError: a name is not one of `TwoTowers`, or a half is missing.
    """
    towers = {stage.name: stage.towers for stage in network.stages()}
    result = {}
    for name, tensor in tensors.items():
        path, _, kind = name.rpartition(".")
        stage, _, tower = path.partition(".")
        if tower not in {1: ("",), 2: ("0", "1")}.get(towers.get(stage, 0), ()):
            raise _unknown(network, name)
        if not tower:
            result[name] = tensor.clone()
            continue
        halves = [tensors.get(f"{stage}.{number}.{kind}") for number in range(2)]
        if halves[0] is None or halves[1] is None:
            raise ValueError(f"{name} of {network.name} lacks its other half: give both towers' tensors")
        result[f"{stage}.{kind}"] = torch.cat((halves[0], halves[1].to(halves[0].device)))
    return result


def _unknown(network: Network, name: str) -> ValueError:
    return ValueError(f"{network.name} has no tensor named {name!r} in this placement")
