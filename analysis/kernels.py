"""What a convolution's kernels look for: colour or grey, in which direction, how fine.  numpy only.

Weights are (K, C, h, w): K kernels on C input channels.  Kernels are numbered from 0, as channels are everywhere here.
"Energy" is the sum of squared weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, degrees, hypot, sqrt
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from alexnet.errors import UserError
from alexnet.spec import Conv
from analysis.formats import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from alexnet.checkpoints import Checkpoint
    from analysis.formats import Value

    Floats = NDArray[np.float64]
    Weights = NDArray[Any]

SPECTRUM = 32
"""Side of the spectra in bins; kernels are padded with zeros to it, so a bin is 1/32 cycle per pixel."""

COMPACT = 0.8
"""A kernel whose compactness is above this is called compact: 80 of BVLC AlexNet's 96, and none of random weights."""

COLOUR = 0.5
"""A kernel is called a colour kernel where more of its energy lies off the grey axis than on it."""

_CERTAIN = 3.0  # standard errors; chance alone goes beyond them once in 370 times
_CHUNK = 64  # kernels whose spectra are in memory together

Measure = Literal["index", "colourfulness", "orientation", "frequency", "compactness", "smoothness", "norm"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
"""What kernels can be sorted by; ``index`` is their order in the layer."""

EXPLANATIONS: dict[Measure, str] = {
    "index": "The kernel's place in the layer, counted from 0.",
    "colourfulness": "Share of the kernel's energy off the grey axis (1, 1, 1)/√3: 0 is grey, 1 has no brightness.",
    "orientation": "Direction of the stripes in degrees: 0 lies, 45 rises to the right, 90 stands.",
    "frequency": "Stripes in cycles per pixel: 0.1 repeats every 10 pixels, 0.5 is the finest there is.",
    "compactness": "Share of spectral energy near the strongest frequency: waves and blobs have much, noise little.",
    "smoothness": "Squared differences of neighbouring weights over energy: small is smooth, noise has nearly 4.",
    "norm": "Square root of the energy: how strongly the kernel can answer.",
}
_DESCENDING = {"colourfulness", "compactness", "norm"}  # what is strongest comes first; smoothest and coarsest, too


@dataclass(frozen=True, slots=True)
class KernelMeasures:
    """One kernel in numbers; `tower` counts from 0, like `index`.

    `colourfulness` is the share of energy off the grey axis (1, 1, 1)/√3, None unless the kernel has 3 input channels.

    `orientation` is the direction of the stripes (not of the wave, which is perpendicular to them) in degrees from 0
    to 180, counter-clockwise from horizontal as on paper: 0 is lying stripes, 45 rising to the right, 90 standing.
    `frequency` is in cycles per pixel along the wave.  Both are read off the peak of the power spectrum, summed over
    channels, with a parabola between bins, and None where the peak is at zero or so near that not half a cycle fits
    into the kernel: a blob has no direction.

    `compactness` is the share of spectral energy within 4 of 32 bins of the strongest peak and its mirror image.
    `smoothness` is the sum of squared differences between neighbours, down and to the right, over energy; white noise
    on n×n pixels has 4·(n − 1)/n.  `norm` is the square root of the energy.

    A kernel of zeros has norm 0 and None for everything else.
    """

    index: int
    tower: int
    colourfulness: float | None
    orientation: float | None
    frequency: float | None
    compactness: float | None
    smoothness: float | None
    norm: float

    def value(self, measure: Measure) -> float | None:
        found: float | None = getattr(self, measure)
        return found


@dataclass(frozen=True, slots=True)
class TowerMeasures:
    """A tower's kernels together; `tower` counts from 0.

    `colourfulness` is the mean of the kernels' shares, so that a weak kernel counts as much as a strong one (the share
    of all energy together would be 0.79 and 0.09 in BVLC AlexNet, where the means are 0.77 and 0.15), and `spread` the
    shares' standard deviation.  Of the others it is the median, except of orientation, which goes round in a circle:
    `directed` counts the kernels that have one.  `colour` and `grey` count kernels above `COLOUR` and not, `compact`
    those above `COMPACT`.
    """

    tower: int
    kernels: int
    colourfulness: float | None
    spread: float | None
    frequency: float | None
    compactness: float | None
    smoothness: float | None
    norm: float
    colour: int | None
    grey: int | None
    directed: int
    compact: int


class Chance(NamedTuple):
    """Expectation and standard deviation."""

    mean: float
    deviation: float


# --- measuring -------------------------------------------------------------------------------------------------------


def kernel_measures(weights: Weights, towers: int = 1) -> tuple[KernelMeasures, ...]:
    """Every kernel of (K, C, h, w) weights in numbers; `towers` equal parts of the K kernels lie one after the other.

    Raises:
        UserError: no such weights: not four axes, not finite, or not to be split into that many towers.
    """
    values = _checked(weights, towers)
    count, channels, height, width = values.shape
    energy = np.square(values).sum(axis=(1, 2, 3))
    grey = np.square(values.sum(axis=1)).sum(axis=(1, 2)) / channels
    rough = sum(np.square(np.diff(values, axis=axis)).sum(axis=(1, 2, 3)) for axis in (2, 3))
    found = []
    for index, (power, total) in enumerate(zip(_spectra(values), energy, strict=True)):
        tower = index * towers // count
        if total == 0:
            found.append(KernelMeasures(index, tower, None, None, None, None, None, 0.0))
            continue
        row, column = divmod(int(power.argmax()), power.shape[1])
        orientation, frequency = _direction(power, row, column, height, width)
        found.append(
            KernelMeasures(
                index=index,
                tower=tower,
                colourfulness=min(max(float(1 - grey[index] / total), 0.0), 1.0) if channels == 3 else None,
                orientation=orientation,
                frequency=frequency,
                compactness=float(power[_near(power.shape[0], row, column)].sum() / power.sum()),
                smoothness=float(rough[index] / total),
                norm=sqrt(total),
            )
        )
    return tuple(found)


def spectrum(kernel: Weights) -> Floats:
    """Power spectrum of one (C, h, w) kernel, summed over channels, with zero frequency at [side // 2, side // 2].

    The side is 32 bins, or the kernel's own where that is larger; rows and columns go from −1/2 to 1/2 cycle per
    pixel, downwards and to the right (`frequencies`).  The sum is side² times the kernel's energy (Parseval).
    """
    return np.fft.fftshift(next(iter(_spectra(_checked(kernel[None], 1)))))


def frequencies(side: int = SPECTRUM) -> Floats:
    """Cycles per pixel of a spectrum's rows or columns, in the order of `spectrum`."""
    return np.fft.fftshift(np.fft.fftfreq(side))


def _checked(weights: Weights, towers: int) -> Floats:
    values = np.asarray(weights, np.float64)
    if values.ndim != 4 or 0 in values.shape:
        raise UserError(f"kernels have the axes kernel, channel, row and column; these weights are {weights.shape}")
    if not np.isfinite(values).all():
        raise UserError("the kernels hold weights that are no numbers (NaN or infinite): nothing can be measured")
    if towers < 1 or len(values) % towers:
        raise UserError(f"{len(values)} kernels do not split into {towers} equal towers")
    return values


def _spectra(values: Floats) -> Iterable[Floats]:
    """Power spectra (side, side) of (K, C, h, w) kernels, zero frequency first."""
    count, channels, height, width = values.shape
    side = max(SPECTRUM, height, width)
    for start in range(0, count, _CHUNK):
        some = values[start : start + _CHUNK].reshape(-1, channels, height * width)
        if channels > height * width:
            # A sum over channels of squares does not change when the channels are rotated; R has only h·w of them.
            some = np.asarray(np.linalg.qr(some, mode="r"))
        waves = np.fft.fft2(some.reshape(len(some), -1, height, width), (side, side))
        yield from (np.square(waves.real) + np.square(waves.imag)).sum(axis=1)


def _direction(power: Floats, row: int, column: int, height: int, width: int) -> tuple[float | None, float | None]:
    """Orientation and frequency of the peak at a bin."""
    side = len(power)
    down = _cycles(row, side) + _between(power[:, column], row) / side
    right = _cycles(column, side) + _between(power[row], column) / side
    if hypot(down * height, right * width) < 0.5:
        return None, None
    # Rows count downwards, degrees go up; the stripes are perpendicular to the wave (right, −down).
    return (degrees(atan2(-down, right)) + 90) % 180, hypot(down, right)


def _cycles(index: int, side: int) -> float:
    return (index - side if 2 * index > side else index) / side


def _between(line: Floats, peak: int) -> float:
    """How far, in bins, the top of a parabola through a peak and its two neighbours lies from the peak."""
    before, here, after = (float(line[(peak + step) % len(line)]) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    return (before - after) / (2 * bend) if bend else 0.0


def _near(side: int, row: int, column: int) -> NDArray[np.bool_]:
    """The bins within an eighth of the side (4 of 32) of a peak or its mirror image; a spectrum goes round."""
    rows, columns = np.ogrid[:side, :side]

    def distance(to: int, of: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.minimum((of - to) % side, (to - of) % side)

    def disc(y: int, x: int) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = 64 * (distance(y, rows) ** 2 + distance(x, columns) ** 2) <= side**2
        return inside

    return disc(row, column) | disc(-row, -column)


def tower_measures(kernels: Sequence[KernelMeasures]) -> tuple[TowerMeasures, ...]:
    """The towers' kernels together, in the towers' order."""
    towers = sorted({kernel.tower for kernel in kernels})
    return tuple(_tower(tower, [kernel for kernel in kernels if kernel.tower == tower]) for tower in towers)


def _tower(tower: int, kernels: list[KernelMeasures]) -> TowerMeasures:
    shares = [kernel.colourfulness for kernel in kernels if kernel.colourfulness is not None]
    colour = sum(share > COLOUR for share in shares)

    def median(measure: Measure) -> float | None:
        found = [value for kernel in kernels if (value := kernel.value(measure)) is not None]
        return float(np.median(found)) if found else None

    return TowerMeasures(
        tower=tower,
        kernels=len(kernels),
        colourfulness=float(np.mean(shares)) if shares else None,
        spread=float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0 if shares else None,
        frequency=median("frequency"),
        compactness=median("compactness"),
        smoothness=median("smoothness"),
        norm=median("norm") or 0.0,
        colour=colour if shares else None,
        grey=len(shares) - colour if shares else None,
        directed=sum(kernel.orientation is not None for kernel in kernels),
        compact=sum((kernel.compactness or 0) > COMPACT for kernel in kernels),
    )


def order(kernels: Sequence[KernelMeasures], by: Measure = "index") -> tuple[tuple[int, ...], ...]:
    """Numbers of each tower's kernels, sorted within it; kernels without the measure come last.

    Most colourful, most compact and strongest first; otherwise the smallest number first.
    """
    if by not in MEASURES:
        raise UserError(f"kernels can be sorted by {', '.join(MEASURES)}, not by {by!r}")
    sign = -1 if by in _DESCENDING else 1

    def place(kernel: KernelMeasures) -> tuple[bool, float, int]:
        value = kernel.value(by)
        return value is None, 0.0 if value is None else sign * value, kernel.index

    towers = sorted({kernel.tower for kernel in kernels})
    ranked = sorted(kernels, key=place)
    return tuple(tuple(kernel.index for kernel in ranked if kernel.tower == tower) for tower in towers)


# --- in words --------------------------------------------------------------------------------------------------------


def tower_names(towers: int, gpus: int = 1, what: str = "kernels") -> tuple[str, ...]:
    """What the parts of a layer's kernels or maps are called: ``GPU 1`` where the source had that many, or ``tower 1``.

    One tower alone is ``all kernels``, or all of `what` it is.
    """
    if towers == 1:
        return (f"all {what}",)
    return tuple(f"{'GPU' if gpus > 1 else 'tower'} {tower + 1}" for tower in range(towers))


def random_colourfulness(pixels: int) -> Chance:
    """Colourfulness of a kernel whose weights, on 3 channels of so many pixels, are independent and normal.

    Two of the three axes of colour are off grey, so the energies off and on it are χ² with 2n and n degrees of freedom
    and the share is Beta(n, n/2): mean 2/3, variance (2/9)/(3n/2 + 1), which is 0.035² for 11×11 pixels.
    """
    return Chance(2 / 3, sqrt(2 / 9 / (1.5 * pixels + 1)))


def colour_sentence(towers: Sequence[TowerMeasures], names: Sequence[str], pixels: int) -> str:
    """Which tower is colour and which grey, as measured; nothing is assumed about which half is which.

    `pixels` is height times width of a kernel.  Two towers differ where their means are more than three standard
    errors apart, for the spread of their kernels and no less than random kernels' (`random_colourfulness`): dealing
    the same kernels out at random would do that once in 370 times.  "Colour" and "grey" are said where the means,
    besides, lie on different sides of one half.
    """
    known = [(tower.colourfulness, tower, name) for tower, name in zip(towers, names, strict=True)]
    measured = sorted(
        ((share, tower, name) for share, tower, name in known if share is not None), key=lambda entry: -entry[0]
    )
    if not measured and any(tower.smoothness is not None for tower in towers):
        return "These kernels have no colour: they look at maps, not at red, green and blue."
    if not measured:
        return "All weights are 0: these kernels look for nothing."
    most, strong, first = measured[0]
    least, weak, last = measured[-1]
    if len(measured) == 1:
        return (
            f"There is one tower, and {strong.colour} of its {strong.kernels} kernels have more colour than grey "
            f"(mean colourfulness {most:.2f}){_like_random(measured, pixels)}."
        )
    chance = random_colourfulness(pixels).deviation
    error = sqrt(sum(max(tower.spread or 0.0, chance) ** 2 / tower.kernels for tower in (strong, weak)))
    figures = f"mean colourfulness {most:.2f} on {first} against {least:.2f} on {last}"
    if most - least <= _CERTAIN * error:
        return (
            f"No tower is clearly the colour one: {figures}, which is less than three standard errors apart"
            f"{_like_random(measured, pixels)}."
        )
    counts = f"{strong.colour} against {weak.colour} of {weak.kernels} kernels have more colour than grey"
    if most > COLOUR >= least:
        return f"{_capital(first)} is the colour tower and {last} the grey one: {figures} ({counts})."
    both = "colour" if least > COLOUR else "grey"
    return f"{_capital(first)} has more colour than {last}, though both are mostly {both}: {figures} ({counts})."


def _like_random(measured: Sequence[tuple[float, TowerMeasures, str]], pixels: int) -> str:
    """A remark where neither the means nor the spread can be told from those of random weights."""
    chance = random_colourfulness(pixels)
    alike = all(
        abs(share - chance.mean) <= _CERTAIN * chance.deviation / sqrt(tower.kernels)
        and (tower.spread or 0.0) <= 2 * chance.deviation
        for share, tower, _ in measured
    )
    return "; random weights have 2/3, since two of the three axes of colour are off grey, and so have these" * alike


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


# --- a checkpoint's layer --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, slots=True)
class LayerKernels:
    """One layer's kernels, measured: `weights` (K, C, h, w) float32, and what the towers are called."""

    layer: str
    weights: NDArray[np.float32]
    names: tuple[str, ...]
    kernels: tuple[KernelMeasures, ...]
    towers: tuple[TowerMeasures, ...]

    @property
    def sentence(self) -> str:
        """Which tower is colour and which grey."""
        return colour_sentence(self.towers, self.names, self.weights.shape[2] * self.weights.shape[3])

    @property
    def table(self) -> Table:
        return measures_table(self.kernels, self.names, self.layer)

    @property
    def towers_table(self) -> Table:
        return towers_table(self.towers, self.names, self.layer)


def layers_with_kernels(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the convolutions whose weights a checkpoint has."""
    convolutions = [name for name, layer in checkpoint.network.layers if isinstance(layer, Conv)]
    return tuple(name for name in convolutions if name not in checkpoint.missing)


def layer_kernels(checkpoint: Checkpoint, layer: str = "conv1") -> LayerKernels:
    """The kernels of a checkpoint's layer, split into the towers that its output is spread over.

    Raises:
        UserError: there are no kernels under this name, or they hold weights that are no numbers.
    """
    if layer not in (known := layers_with_kernels(checkpoint)):
        is_convolution = isinstance(dict(checkpoint.network.layers).get(layer), Conv)
        why = f"the checkpoint has no weights for {layer}" if is_convolution else f"there are no kernels in {layer!r}"
        raise UserError(f"{why}; it has kernels of {', '.join(known) or 'no layer'}")
    stage = next(stage for stage in checkpoint.network.stages() if stage.name == layer)
    weights: NDArray[np.float32] = checkpoint.weights[f"{layer}.weight"].float().cpu().numpy()
    kernels = kernel_measures(weights, stage.towers)
    names = tower_names(stage.towers, checkpoint.network.gpus)
    return LayerKernels(layer, weights, names, kernels, tower_measures(kernels))


# --- tables ----------------------------------------------------------------------------------------------------------


def measures_table(kernels: Sequence[KernelMeasures], names: Sequence[str], layer: str) -> Table:
    """A row for every kernel, in the layer's order."""
    columns = (
        Column("kernel", "kernel"),
        Column("tower", "tower"),
        Column("colourfulness", "colourfulness"),
        Column("orientation", "orientation, °"),
        Column("frequency", "cycles/pixel"),
        Column("compactness", "compactness"),
        Column("smoothness", "smoothness"),
        Column("norm", "norm"),
    )
    rows = tuple(
        (
            kernel.index,
            names[kernel.tower],
            kernel.colourfulness,
            kernel.orientation,
            kernel.frequency,
            kernel.compactness,
            kernel.smoothness,
            kernel.norm,
        )
        for kernel in kernels
    )
    return _filled(f"Kernels of {layer}", columns, rows)


def towers_table(towers: Sequence[TowerMeasures], names: Sequence[str], layer: str) -> Table:
    """A row for every tower: the mean of colourfulness, the medians of the others, and how many are what."""
    columns = (
        Column("tower", "tower"),
        Column("kernels", "kernels"),
        Column("colourfulness", "mean colourfulness"),
        Column("colour", "colour"),
        Column("grey", "grey"),
        Column("directed", "with a direction"),
        Column("compact", "compact"),
        Column("frequency", "cycles/pixel"),
        Column("compactness", "compactness"),
        Column("smoothness", "smoothness"),
        Column("norm", "norm"),
    )
    rows = tuple(
        (
            names[tower.tower],
            tower.kernels,
            tower.colourfulness,
            tower.colour,
            tower.grey,
            tower.directed,
            tower.compact,
            tower.frequency,
            tower.compactness,
            tower.smoothness,
            tower.norm,
        )
        for tower in towers
    )
    what = "mean colourfulness, and medians" if any(tower.colour is not None for tower in towers) else "medians"
    return _filled(f"Towers of {layer}: {what}", columns, rows)


def _filled(title: str, columns: tuple[Column, ...], rows: tuple[tuple[Value, ...], ...]) -> Table:
    """The table without the columns that hold nothing: deeper layers have no colour."""
    kept = [index for index in range(len(columns)) if any(row[index] is not None for row in rows)]
    return Table(title, tuple(columns[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))
