"""Local response normalisation on real activations: what it does, to whom, and in which order.

Everything here takes the values before the normalisation, (C, H, W) float32, and gives NumPy arrays and named results;
inputs are never changed.  Section 3.3 of the paper:  b = a / (k + α·Σa²)^β  over n neighbouring channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from alexnet.spec import LRN, Conv, MaxPool, ReLU, Tanh

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from torch import Tensor

    from alexnet.spec import Network, Stage

    Array = npt.NDArray[np.float32]
    Doubles = npt.NDArray[np.float64]

PAPER = LRN(groups=2)
SETTINGS: Mapping[str, tuple[LRN, str]] = {
    "Paper": (PAPER, "section 3.3: n 5, α 1e-4 summed, β 0.75, k 2, inside each tower"),
    "Caffe": (LRN(average=True, k=1.0), "bvlc_alexnet and CaffeNet: α divided by n, k 1, across all channels"),
    "2012 source": (LRN(average=True, groups=2), "the released 2012 definition: α divided by n, inside each tower"),
    "torch port": (LRN(average=True), "most PyTorch ports: the paper's α, but torch divides it by n; across all"),
}
"""The settings people mean by ‘AlexNet's LRN’, each with what is special about it."""

PAPER_POOL = MaxPool(3, 2)
RELU = ReLU()


# --- where a normalisation stands -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network normalises, or could: `name` is the LRN's stage, or the ReLU or tanh that one is imagined behind.

    `before` is the stage whose output is normalised, `convolution` the one that made it and `pool` the pooling that
    belongs to it; where the network has none before its next convolution it is not `pooled`, and the paper's 3×3 every
    2 stands in; `activation` is its ReLU or tanh.  `layer` is the network's own normalisation, or the paper's where
    `imagined`; `towers` the parts that the maps are spread over.
    """

    name: str
    before: str
    convolution: str
    shape: tuple[int, int, int]
    pool: MaxPool
    layer: LRN
    towers: int
    imagined: bool
    pooled: bool
    activation: ReLU | Tanh


def places(network: Network) -> tuple[Place, ...]:
    """Every LRN of the network behind a convolution; in a network without any, every ReLU or tanh behind one."""
    stages = network.stages()
    imagined = not any(isinstance(stage.layer, LRN) for stage in stages)
    wanted = ReLU | Tanh if imagined else LRN
    found = []
    for index, stage in enumerate(stages):
        if not isinstance(stage.layer, wanted) or len(stage.out_shape) != 3:
            continue
        convolution = next((s for s in reversed(stages[:index]) if isinstance(s.layer, Conv)), None)
        if convolution is None:
            continue
        first = stages.index(convolution) + 1
        block = stages[first : next((i for i in range(first, len(stages)) if _weighty(stages[i])), len(stages))]
        pools = [s.layer for s in block if isinstance(s.layer, MaxPool)]
        active = [s.layer for s in block if isinstance(s.layer, ReLU | Tanh)]
        layer = stage.layer if isinstance(stage.layer, LRN) else replace(PAPER, groups=stage.towers)
        before = stage.name if imagined else stages[index - 1].name
        channels, height, width = stage.out_shape
        found.append(
            Place(
                stage.name,
                before,
                convolution.name,
                (channels, height, width),
                pools[0] if pools else PAPER_POOL,
                layer,
                stage.towers,
                imagined,
                bool(pools),
                active[0] if active else RELU,
            )
        )
    return tuple(found)


def _weighty(stage: Stage) -> bool:
    return isinstance(stage.layer, Conv) or len(stage.out_shape) != 3


def with_settings(network: Network, place: Place, layer: LRN) -> Network:
    """The network with this normalisation at the place: for its own, or behind the ReLU or tanh where it has none."""
    layers = []
    for name, own in network.layers:
        if name != place.name:
            layers.append((name, own))
        elif place.imagined:
            layers += [(name, own), (imagined_name(place), layer)]
        else:
            layers.append((name, layer))
    return replace(network, layers=tuple(layers))


def imagined_name(place: Place) -> str:
    return f"{place.name} + LRN"


# --- the formula ------------------------------------------------------------------------------------------------------


def windows(channels: int, layer: LRN) -> npt.NDArray[np.bool_]:
    """(C, C): whether channel j is in channel i's window, which ends at the border of i's group.

    Raises:
        ValueError: the channels do not split into the groups.
    """
    layer.out_shape((channels, 1, 1))
    channel = np.arange(channels)
    block = channel // (channels // layer.groups)
    near = np.abs(channel[:, None] - channel) <= layer.size // 2
    inside: npt.NDArray[np.bool_] = near & (block[:, None] == block)
    return inside


@dataclass(frozen=True, slots=True)
class Normalised:
    """Values before and after, and their ratio (k + α·Σa²)^−β, which is defined where the value is 0, too; (C, H, W).

    With k = 0 and nothing active in a window the denominator is 0: `undefined` counts such values, whose ratio is NaN
    and whose output is taken as 0 (torch would give NaN).
    """

    layer: LRN
    before: Array
    after: Array
    ratio: Array
    undefined: int

    @property
    def rest_gain(self) -> float:
        """k^−β, what a value is multiplied by while nothing around it is active; infinite for k = 0."""
        return rest_gain(self.layer)


def rest_gain(layer: LRN) -> float:
    """k^−β: 0.59 with the paper's settings, 1 with Caffe's; infinite for k = 0, unless β is 0, too."""
    if layer.k:
        return float(layer.k**-layer.beta)
    return float("inf") if layer.beta else 1.0


def normalise(a: Tensor, layer: LRN) -> Normalised:
    """(C, H, W) values before the normalisation -> before, after and ratio.

    The sum over a window is one matrix product, so that a window over all channels costs no more than the paper's 5.

    Raises:
        ValueError: not three axes, or the channels do not split into the groups.
    """
    values = three_axes(a)
    ratio = scale_of(values, layer).pow(-layer.beta)
    after, undefined = _applied(values, ratio), ~ratio.isfinite()
    count = int(undefined.sum())
    if count:
        ratio = ratio.masked_fill(undefined, torch.nan)
    return Normalised(layer, values.numpy().copy(), after.numpy(), ratio.numpy(), count)


def three_axes(a: Tensor) -> Tensor:
    if a.dim() != 3:
        raise ValueError(f"LRN works on maps (channels, height, width), got a tensor of {a.dim()} axes")
    return a.detach().float().contiguous()


def scale_of(a: Tensor, layer: LRN) -> Tensor:
    """k + α·Σa²; (C, H, W)."""
    return layer.k + layer.alpha_per_square * window_energy(a, layer)


def window_energy(a: Tensor, layer: LRN) -> Tensor:
    """Σa² over each value's window; (C, H, W) in and out."""
    near = torch.from_numpy(windows(len(a), layer)).to(a.dtype)
    return (near @ a.square().flatten(1)).view_as(a)


def normalised(a: Tensor, layer: LRN) -> Tensor:
    """b alone, as a tensor; 0 where the denominator is 0."""
    return _applied(a, scale_of(a, layer).pow(-layer.beta))


def _applied(a: Tensor, ratio: Tensor) -> Tensor:
    """a times the ratio, and 0 where that is infinite."""
    return torch.where(ratio.isfinite(), a * ratio, torch.zeros(()))


def settings_text(layer: LRN) -> str:
    """``n 5, α 1e-4 summed, β 0.75, k 2``."""
    how = "divided by n" if layer.average else "summed"
    return f"n {layer.size}, α {alpha_text(layer.alpha)} {how}, β {layer.beta:g}, k {layer.k:g}"


def alpha_text(alpha: float) -> str:
    """``1e-4``; numbers that are neither small nor large as they are: ``0.5``."""
    if not alpha or 0.01 <= alpha < 1000:
        return f"{alpha:g}"
    digits, _, power = f"{alpha:.3e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def gain(own: Doubles, neighbours: float, layer: LRN) -> Doubles:
    """(k + α·(a² + E))^−β for values a of its own and the energy E = Σa² of its neighbours."""
    scale: Doubles = layer.k + layer.alpha_per_square * (np.square(own) + neighbours)
    with np.errstate(divide="ignore"):
        result: Doubles = scale**-layer.beta
    return result


def peak(neighbours: float, layer: LRN) -> float | None:
    """The value that comes out largest: beyond it a stronger input gives a weaker output.  None where there is none.

    a·(k + α(a² + E))^−β grows until a² = (k + αE)/(α(2β − 1)): with the paper's settings and silent neighbours until
    200.  For β = ½ it levels off instead, below that it always grows.
    """
    alpha = layer.alpha_per_square
    if alpha <= 0 or layer.beta <= 0.5:
        return None
    return float(np.sqrt((layer.k + alpha * neighbours) / (alpha * (2 * layer.beta - 1))))


# --- who is suppressed, and by whom -----------------------------------------------------------------------------------


class Suppression(NamedTuple):
    """One channel's share of suppressed activity, and what its inhibition comes from; shares are fractions of one.

    `suppressed` is 1 − Σ|b| / (k^−β·Σ|a|): the constant k^−β only scales all values alike and is no inhibition.  None
    where the channel is silent or k = 0, so that nothing stays as it was.  `own`, and `strongest_share` for the
    neighbour `strongest`, are parts of Σ|a|·(window's Σa²): of the energy that inhibits the channel, counted as often
    as it is active.  None where it is silent or has no neighbours.
    """

    channel: int
    mean: float
    suppressed: float | None
    own: float | None
    strongest: int | None
    strongest_share: float | None


def suppressed_shares(result: Normalised) -> Doubles:
    """The share of each channel's activity that is suppressed, as in `Suppression`; (C,), NaN where there is none."""
    active, left = _activity(result.before), _activity(result.after)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Doubles = 1 - left / (result.rest_gain * active)
    return np.where((active > 0) & np.isfinite(result.rest_gain), shares, np.nan)


def suppressed_overall(result: Normalised) -> float | None:
    """The share of all channels' activity that is suppressed; None where that is undefined."""
    active = float(_activity(result.before).sum())
    if not active or not np.isfinite(result.rest_gain):
        return None
    return 1 - float(_activity(result.after).sum()) / (result.rest_gain * active)


def _activity(values: Array) -> Doubles:
    """Σ|a| of each channel."""
    total: Doubles = np.abs(values).sum((1, 2), dtype=np.float64)
    return total


def suppression(result: Normalised) -> tuple[Suppression, ...]:
    """How much of each channel's activity is suppressed, and by which neighbour most."""
    flat = np.abs(result.before.reshape(len(result.before), -1)).astype(np.float64)
    near = windows(len(flat), result.layer)
    energy = np.where(near, flat @ np.square(flat).T, 0.0)  # [i, j]: j's squares, wherever i is active
    whole, means, rows = energy.sum(1), flat.mean(1), []
    for channel, suppressed in enumerate(suppressed_shares(result)):
        own = share = strongest = None
        if whole[channel]:
            own = float(energy[channel, channel] / whole[channel])
            others = energy[channel].copy()
            others[channel] = -1.0
            best = int(others.argmax())
            if others[best] > 0:
                strongest, share = best, float(others[best] / whole[channel])
        known = None if np.isnan(suppressed) else float(suppressed)
        rows.append(Suppression(channel, float(means[channel]), known, own, strongest, share))
    return tuple(rows)


# --- one pixel --------------------------------------------------------------------------------------------------------


class Neighbour(NamedTuple):
    """A channel in another's window at one pixel: `weighted` is α·a², and `share` what that is of k + α·Σa²."""

    channel: int
    value: float
    square: float
    weighted: float
    share: float


@dataclass(frozen=True, slots=True)
class Profile:
    """All channels at one pixel; each array is (C,), in double precision.  `energy` is Σa² over the window."""

    layer: LRN
    row: int
    column: int
    before: Doubles
    energy: Doubles
    scale: Doubles
    ratio: Doubles
    after: Doubles

    def neighbours(self, channel: int) -> tuple[Neighbour, ...]:
        """The channels in this one's window, itself among them, from the lowest to the highest."""
        inside = np.flatnonzero(windows(len(self.before), self.layer)[channel])
        alpha, scale = self.layer.alpha_per_square, self.scale[channel]
        return tuple(
            Neighbour(
                int(j),
                float(self.before[j]),
                float(self.before[j] ** 2),
                float(alpha * self.before[j] ** 2),
                float(alpha * self.before[j] ** 2 / scale) if scale else 0.0,
            )
            for j in inside
        )


def profile(a: Tensor, layer: LRN, row: int, column: int) -> Profile:
    """What happens to every channel at one pixel.

    Raises:
        ValueError: no such pixel, or the channels do not split into the groups.
    """
    channels, height, width = three_axes(a).shape
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"there is no pixel in row {row}, column {column}: the maps are {height}×{width}, from 0")
    before = a[:, row, column].detach().double().numpy().copy()
    energy = windows(channels, layer).astype(np.float64) @ np.square(before)
    scale = layer.k + layer.alpha_per_square * energy
    with np.errstate(divide="ignore"):
        ratio = scale**-layer.beta
    after = np.where(np.isfinite(ratio), before * np.where(np.isfinite(ratio), ratio, 0.0), 0.0)
    return Profile(layer, row, column, before, energy, scale, ratio, after)


# --- orders -----------------------------------------------------------------------------------------------------------


class Order(NamedTuple):
    """One order of ReLU (or tanh), LRN and pooling behind the same convolution.

    `maps` is what comes out, (C, H', W'); `relative` is ‖maps − first‖ / ‖first‖ against the first order and
    `correlation` that of all values with the first's (None where either is constant).  `normalised` counts the values
    that the LRN works on, for one image.
    """

    name: str
    source: str
    maps: Array
    relative: float
    correlation: float | None
    largest: float
    normalised: int


def orders(raw: Tensor, layer: LRN, pool: MaxPool, activation: ReLU | Tanh = RELU) -> tuple[Order, ...]:
    """The orders in use, from a convolution's output before its ReLU or tanh, (C, H, W); the paper's comes first.

    Either and maximum can change places, since all keep the order of values: the last two are always equal.  What makes
    them differ from the paper's is that negative responses inhibit, too; what makes CaffeNet's differ is that
    neighbours' maxima meet, which may come from different pixels.
    """
    raw = three_axes(raw)

    def pooled(maps: Tensor) -> Tensor:
        return functional.max_pool2d(maps[None], pool.kernel, pool.stride, ceil_mode=pool.rounding == "ceil")[0]

    active, word = (torch.tanh, "tanh") if isinstance(activation, Tanh) else (torch.relu, "ReLU")

    def lrn(maps: Tensor) -> Tensor:
        return normalised(maps, layer)

    small, large = pooled(raw).numel(), raw.numel()
    results = (
        (f"{word} → LRN → pool", "paper, section 3.5", pooled(lrn(active(raw))), large),
        (f"{word} → pool → LRN", "CaffeNet", lrn(pooled(active(raw))), small),
        (f"LRN → {word} → pool", "the paper's, with LRN first", pooled(active(lrn(raw))), large),
        (f"LRN → pool → {word}", "released 2012 definition", active(pooled(lrn(raw))), large),
    )
    first = results[0][2].double()
    norm = float(first.norm())
    rows = []
    for name, source, maps, count in results:
        off = maps.double() - first
        relative = float(off.norm()) / norm if norm else float(bool(off.any()))
        rows.append(
            Order(name, source, maps.numpy(), relative, _correlation(maps, first), float(off.abs().max()), count)
        )
    return tuple(rows)


def _correlation(one: Tensor, other: Tensor) -> float | None:
    x, y = one.double().flatten(), other.double().flatten()
    x, y = x - x.mean(), y - y.mean()
    length = float(x.norm() * y.norm())
    return float(x @ y) / length if length else None


# --- per tower or across ----------------------------------------------------------------------------------------------


class BorderRow(NamedTuple):
    """One channel normalised inside its tower and across all: mean outputs, and ‖across − inside‖ / ‖inside‖.

    `foreign` counts the channels of another tower that its window reaches when nothing stops it.
    """

    channel: int
    tower: int
    foreign: int
    inside: float
    across: float
    difference: float


def border(a: Tensor, layer: LRN, towers: int = 2) -> tuple[BorderRow, ...]:
    """Every channel normalised with windows that end at the towers' borders, and with windows that cross them.

    Raises:
        ValueError: the channels do not split into the towers.
    """
    values = three_axes(a)
    split, joined = replace(layer, groups=towers), replace(layer, groups=1)
    inside, across = (normalised(values, settings).double().flatten(1) for settings in (split, joined))
    foreign = (windows(len(values), joined) & ~windows(len(values), split)).sum(1)
    norms, off = inside.norm(dim=1), (across - inside).norm(dim=1)
    block = len(values) // towers
    return tuple(
        BorderRow(
            channel,
            channel // block,
            int(foreign[channel]),
            float(inside[channel].mean()),
            float(across[channel].mean()),
            float(off[channel] / norms[channel]) if norms[channel] else 0.0,
        )
        for channel in range(len(values))
    )
