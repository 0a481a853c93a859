"""The film of a training: conv1's kernels as they form, what LRN does, and one picture's probabilities.  No torch.

A run's probes are its moments.  What a page shows again and again is a function of one moment, or of a few (a `reel`),
so that a running training costs a page only what is new.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil, log2, prod
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image, ImageColor

from alexnet.errors import UserError
from alexnet.runs import RunDirectory
from alexnet.spec import Conv
from analysis.kernels import tower_names
from analysis.sheets import TOWER_INK, Group, Sheet, kernel_tiles, labelled, tower_blocks, tower_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    from alexnet.spec import Network
    from analysis.sheets import Tiles

    Values = NDArray[np.floating[Any]]
    Doubles = NDArray[np.float64]
    Reader = Callable[[Path], Values]

Scaling = Literal["kernel", "film"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
Kind = Literal["gif", "webp"]
KINDS: tuple[Kind, ...] = get_args(Kind)

BLOCK = 16
"""Moments in a `reel` at most: one that is full never changes any more."""

_NAME = re.compile(r"step-([0-9]{9,15})\.npz")
_LARGEST = 64 << 20  # bytes of a probe, unpacked; those of the largest network in the zoo have 3 MB
_MEMBERS = 200
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_ANIMATED = 150  # frames in an animation's file
_STEPS_OF_SCALE = 4  # a film's scale grows by 2^(1/4): with its kernels, and yet only now and then


# --- moments on the disk ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """One probe.  Dictionaries are by the name of an LRN, `maps` also by the first convolution's.

    `kernels` (K, C, h, w) float16, None for a network without convolutions; `maps` and `before` (C, H, W) float16 of
    the probe picture, behind and before; `lrn` (2, C) root mean squares of each channel before and behind, over some
    pictures; `probabilities` (classes,) of the probe picture and `label`, its class, None in probes that were taken
    without.  Weights and values may be infinite or NaN: so a training looks that went wrong.
    """

    step: int
    kernels: Values | None
    maps: Mapping[str, Values]
    before: Mapping[str, Values]
    lrn: Mapping[str, Values]
    probabilities: Values | None
    label: int | None


class LeftOut(NamedTuple):
    """A moment that cannot be shown, and why."""

    step: int
    reason: str


def steps(run: Path) -> tuple[int, ...]:
    """Steps of a run's probes, in order, by their files' names alone: none is opened.  `run` is the run's folder."""
    folder = RunDirectory(run).probes_path
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are wanted, and 10,000 of them at once
    except OSError:
        return ()
    return tuple(sorted({step for name in names if (step := _step(name)) is not None}))


def _step(name: str) -> int | None:
    """The step that a probe's file name tells; None for other files."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    step = int(found[1])
    return step if name == f"step-{step:09d}.npz" else None


def thinned(found: Sequence[int], most: int) -> tuple[int, ...]:
    """At most `most` of a film's steps, evenly by their number and with the first and the last.

    Every second, fourth or eighth is kept, so that the choice stays as it is while a film grows, until it doubles.

    Raises:
        UserError: fewer than 2 are wanted.
    """
    if most < 2:
        raise UserError(f"a film has 2 moments or more, not {most}")
    stride = 1
    while len(range(0, len(found), stride)) + 1 > most and len(found) > most:
        stride *= 2
    kept = found[::stride]
    return tuple(kept) if not kept or kept[-1] == found[-1] else (*kept, found[-1])


def blocks(chosen: Sequence[int], size: int = BLOCK) -> tuple[tuple[int, ...], ...]:
    """The steps in blocks of `size`, each to be cached by itself: only the last one still grows."""
    return tuple(tuple(chosen[first : first + size]) for first in range(0, len(chosen), size))


def read(path: Path, *, maps: bool = True) -> Moment:
    """A probe, whole or without its `maps`, which take nine tenths of the time.

    Raises:
        UserError: it is damaged, only half there, or something else; nothing in it is executed or taken at its word.
    """
    step, arrays = _read(path, lambda name: maps or not name.startswith(("map/", "before/")))

    def called(kind: str, axes: int) -> dict[str, Values]:
        found = {name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)}
        for name, value in found.items():
            if value.ndim != axes or 0 in value.shape:
                raise _damaged(path, f"its {kind}{name} has the shape {value.shape}")
        return found

    lrn = called("lrn/", 2)
    for name, value in lrn.items():
        if len(value) != 2:
            raise _damaged(path, f"its lrn/{name} has the shape {value.shape}, not two rows")
    probabilities = arrays.get("probabilities")
    if probabilities is not None and (probabilities.ndim != 1 or not probabilities.size):
        raise _damaged(path, f"its probabilities have the shape {probabilities.shape}")
    label = arrays.get("label")
    if label is not None and (label.ndim or label.dtype != np.int64):
        raise _damaged(path, f"its label is of type {label.dtype} and shape {label.shape}")
    known = label is not None and probabilities is not None and 0 <= int(label) < len(probabilities)
    return Moment(
        step=step,
        kernels=_four_axes(path, arrays.get("kernels")),
        maps=called("map/", 3),
        before=called("before/", 3),
        lrn=lrn,
        probabilities=probabilities,
        label=int(label) if label is not None and known else None,
    )


def read_kernels(path: Path) -> Values:
    """A probe's kernels alone, (K, C, h, w): a third of the work of reading all of it.

    Raises:
        UserError: as `read`, or there are none.
    """
    _, arrays = _read(path, "kernels".__eq__)
    kernels = _four_axes(path, arrays.get("kernels"))
    if kernels is None:
        raise _damaged(path, "it has no kernels")
    return kernels


def _four_axes(path: Path, kernels: Values | None) -> Values | None:
    if kernels is not None and (kernels.ndim != 4 or 0 in kernels.shape):
        raise _damaged(path, f"its kernels have the shape {kernels.shape}")
    return kernels


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not a probe that can be shown: {why}; the others are not affected")


def _read(path: Path, wanted: Callable[[str], bool]) -> tuple[int, dict[str, Values]]:
    """Step and arrays of a probe's file; sizes are held against the file's before anything is unpacked."""
    step = _step(path.name)
    if step is None:
        raise UserError(f"{path} is not named like a probe, step-000000123.npz")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            claimed = sum(entry.file_size for entry in entries)
            if len(entries) > _MEMBERS or claimed > _LARGEST:
                raise _damaged(path, f"it claims {len(entries):,} arrays of {claimed:,} bytes together")
            found = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name != entry.filename and wanted(name):
                    with archive.open(entry) as stream:
                        found[name] = _array(stream, entry.file_size)  # type: ignore[arg-type]
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is gone") from None
    except zipfile.BadZipFile:
        raise _damaged(path, "it is cut off, or no .npz file") from None
    except (OSError, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _damaged(path, _one_line(error)) from None
    return step, found


def _array(stream: BinaryIO, size: int) -> Values:
    """The array in a .npy of `size` bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # noqa: BLE001 - numpy answers bad headers with any exception of Python's parser
        raise ValueError(f"it has no array that can be read ({_one_line(error)})") from None
    if version != (1, 0):
        raise ValueError(f"it has arrays of version {version}")
    if dtype not in _FLOATS and dtype != np.int64:
        raise ValueError(f"it has arrays of type {dtype}")
    if any(side < 0 for side in shape) or prod(shape) * dtype.itemsize > size:
        raise ValueError(f"it has an array of {shape} {dtype} in {size:,} bytes")
    content = stream.read(prod(shape) * dtype.itemsize)
    if len(content) < prod(shape) * dtype.itemsize:
        raise EOFError("it ends in the middle of an array")
    # Flat bytes in the order of columns are those of the array with its axes turned round.
    values = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:120]
    return text or type(error).__name__


# --- kernels as pictures ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Screen:
    """Where kernels lie in every picture of a film: `names` of the towers, and a sheet with a group for each."""

    layer: str
    shape: tuple[int, int, int, int]
    names: tuple[str, ...]
    sheet: Sheet

    @property
    def towers(self) -> int:
        return len(self.names)


def screen(network: Network, columns: int = 16) -> Screen:
    """Kernels of the network's first convolution, each tower in rows of `columns`, as figure 3 of the paper has them.

    Raises:
        UserError: the network has no convolution.
    """
    first = next((stage for stage in network.stages() if isinstance(stage.layer, Conv)), None)
    if first is None:
        raise UserError(f"{network.name} has no convolution, so there are no kernels to film")
    assert isinstance(first.layer, Conv)
    count, side = first.layer.out_channels, first.layer.kernel
    names = tower_names(first.towers, network.gpus)
    groups = tower_groups(tower_blocks(count, first.towers), names)
    shape = (count, first.in_shape[0] // first.layer.groups, side, side)
    return Screen(first.name, shape, names, Sheet(groups, columns, (side, side)))


class Frame(NamedTuple):
    """Kernels at one step as tiles (K, h, w, 3) uint8."""

    step: int
    tiles: Tiles


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """Frames on one screen, in order, and the moments that are missing from it."""

    screen: Screen
    frames: tuple[Frame, ...]
    left_out: tuple[LeftOut, ...]


def reach(run: Path, chosen: Iterable[int], read: Reader = read_kernels) -> float:
    """The largest magnitude of any weight at these moments; those that cannot be read have none."""
    found = (_magnitude(run, step, read) for step in chosen)
    return max(found, default=0.0)


def _magnitude(run: Path, step: int, read: Reader) -> float:
    try:
        kernels = read(RunDirectory(run).probe_path(step))
    except UserError:
        return 0.0
    largest = float(np.abs(kernels).max())
    return largest if np.isfinite(largest) else 0.0


def film_scale(largest: float) -> float:
    """The end of a film's scale for weights up to `largest`: the next of 1, 2^¼, 2^½, … times a power of two.

    So the scale grows with the kernels of a training that is watched, but seldom: pictures already made stay right.
    """
    return float(2.0 ** (ceil(_STEPS_OF_SCALE * log2(largest) - 1e-9) / _STEPS_OF_SCALE)) if largest > 0 else 1.0


def tiles(kernels: Values, place: Screen, scale: float | None = None) -> Tiles:
    """Kernels (K, C, h, w) as pictures (K, h, w, 3), as `analysis.sheets.kernel_tiles` makes them.

    Zero is mid-grey.  With a `scale` that weight is the brightest, in all pictures alike; without, each kernel's own
    largest.  Kernels that see no colours are shown by their strongest pattern, each in its own scale.

    Raises:
        UserError: the kernels are another network's, or not finite.
    """
    if kernels.shape != place.shape:
        raise UserError(f"it has kernels of {kernels.shape}, and {place.layer} has {place.shape}: another network's")
    if not np.isfinite(kernels).all():
        raise UserError("it has weights that are no numbers (NaN or infinite): the training went wrong there")
    if place.shape[1] != 3:
        return kernel_tiles(kernels, "kernel", "pattern")
    if scale is None:
        return kernel_tiles(kernels)
    share = np.clip(np.asarray(kernels, np.float64).transpose(0, 2, 3, 1) / scale, -1, 1)
    return np.rint(128 + 127 * share).astype(np.uint8)


def frames(run: Path, network: Network, most: int = 400, scaling: Scaling = "kernel", columns: int = 16) -> Film:
    """The film of a run, with at most so many moments; ``film`` is one scale over all of it, so that growth is seen.

    Raises:
        UserError: the network has no convolution, the scaling is unknown, or no moment can be shown.
    """
    place, chosen = screen(network, columns), thinned(steps(run), most)
    scale = _scale(scaling, lambda: reach(run, chosen))
    found = shown(run, chosen, place, scale)
    if not found.frames:
        why = f": {found.left_out[0].reason}" if found.left_out else ""
        raise UserError(f"{run} has no probe to show{why}")
    return found


def _scale(scaling: Scaling, largest: Callable[[], float]) -> float | None:
    if scaling not in SCALINGS:
        raise UserError(f"a film is scaled by {' or '.join(SCALINGS)}, not by {scaling!r}")
    return film_scale(largest()) if scaling == "film" else None


def shown(
    run: Path, chosen: Iterable[int], place: Screen, scale: float | None = None, read: Reader = read_kernels
) -> Film:
    """The kernels at these moments, as `read` gives them; those that cannot be shown are named instead."""
    made, left_out = [], []
    for step in chosen:
        try:
            made.append(Frame(step, tiles(read(RunDirectory(run).probe_path(step)), place, scale)))
        except UserError as error:
            left_out.append(LeftOut(step, str(error)))
    return Film(place, tuple(made), tuple(left_out))


class Reel(NamedTuple):
    """Some frames as bytes, and what is missing: plain values, so that a page can keep them.

    `content` holds each step's tiles (K, h, w, 3) one after the other.  As PNGs they would be larger, since weights
    hardly shrink and gaps would be stored as well.  `digest` tells one reel from another.
    """

    steps: tuple[int, ...]
    content: bytes
    left_out: tuple[LeftOut, ...]
    digest: str


def reel(
    run: Path, chosen: Sequence[int], place: Screen, scale: float | None = None, read: Reader = read_kernels
) -> Reel:
    """One block of a film; `scale` as in `tiles`, `read` as in `shown`."""
    found = shown(run, chosen, place, scale, read)
    done = tuple(frame.step for frame in found.frames)
    content = b"".join(frame.tiles.tobytes() for frame in found.frames)
    digest = blake2b(repr((done, place.shape)).encode() + content, digest_size=12).hexdigest()
    return Reel(done, content, found.left_out, digest)


def history(film: Film, kernel: int, columns: int = 24) -> tuple[Tiles, Sheet]:
    """One kernel's own little film: its tile at each frame, and a sheet for them, in order.

    Raises:
        UserError: there is no such kernel.
    """
    if not 0 <= kernel < film.screen.shape[0]:
        raise UserError(f"there is no kernel {kernel}: {film.screen.layer} has 0 to {film.screen.shape[0] - 1}")
    name = next(group for group in film.screen.sheet.groups if kernel in group.items)
    group = Group(f"kernel {kernel}, {name.label}", tuple(range(len(film.frames))), name.tower)
    return np.stack([frame.tiles[kernel] for frame in film.frames]), Sheet((group,), columns, film.screen.sheet.tile)


# --- exports ---------------------------------------------------------------------------------------------------------


def animation(film: Film, *, kind: Kind = "gif", title: str = "", seconds: float = 12.0, scale: int = 4) -> bytes:
    """The film as a file that plays by itself, forever: both towers under their names, and the step.

    GIF opens everywhere, slides included; it has 256 colours, chosen for the film as a whole, so that nothing flickers.
    WebP has every colour, is about as large, and opens in browsers.  At most `_ANIMATED` frames, evenly chosen, are in
    the file: some 8 MB for 100 frames of 96 kernels.  The last one stays for two seconds.

    Raises:
        UserError: there is nothing to show, no such kind, or a film too large for other programs.
    """
    if kind not in KINDS:
        raise UserError(f"a film is saved as {' or '.join(KINDS)}, not as {kind!r}")
    if not film.frames:
        raise UserError("there is no moment to show")
    last = film.frames[-1].step
    sheet = film.screen.sheet
    chosen = [film.frames[place] for place in thinned(range(len(film.frames)), _ANIMATED)]
    pictures = [
        labelled(frame.tiles, sheet, f"{title} step {frame.step:,} of {last:,}".strip(), scale=scale, numbers=False)
        for frame in chosen
    ]
    # GIF counts hundredths of a second, and browsers show no frame for less than two.
    each = max(20, round(100 * seconds / len(pictures)) * 10)
    durations = [each] * (len(pictures) - 1) + [2000]
    buffer = io.BytesIO()
    if kind == "webp":
        pictures[0].save(
            buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=durations, loop=0, lossless=True,
            method=0, quality=20,
        )  # fmt: skip
        return buffer.getvalue()
    colours = _common_colours(film)
    reduced = [picture.quantize(palette=colours, dither=Image.Dither.NONE) for picture in pictures]
    reduced[0].save(buffer, "GIF", save_all=True, append_images=reduced[1:], duration=durations, loop=0, optimize=False)
    return buffer.getvalue()


def _common_colours(film: Film) -> Image.Image:
    """A picture with 256 colours for a whole film: those of the headings, and what suits the weights."""
    places = sorted(set(np.linspace(0, len(film.frames) - 1, 10).round().astype(int)))
    some = np.concatenate([film.frames[place].tiles.reshape(-1, 3) for place in places])
    # Each colour counts once, however many weights have it: most are nearly grey, and would leave nothing for the rest.
    different = np.unique(some & 0xF8, axis=0) | 0x04
    suited = Image.fromarray(different[None]).quantize(232, Image.Quantize.MEDIANCUT).getpalette() or []
    ink = np.array([ImageColor.getrgb(colour) for colour in ("#1f2328", *TOWER_INK)], np.float64)
    shades = np.concatenate([255 + (ink - 255) * share for share in (0, 0.2, 0.4, 0.6, 0.8, 1)]).round().astype(int)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*suited[: 3 * 232], *shades.ravel().tolist()])
    return palette


def strip(film: Film, count: int = 6, *, title: str = "", caption: str = "") -> Image.Image:
    """A figure for print: so many moments below one another, evenly chosen by frame, each under its step.

    Raises:
        UserError: nothing to show, or fewer than 1 moment asked for.
    """
    if count < 1 or not film.frames:
        raise UserError(f"{count} of {len(film.frames)} moments cannot be printed: choose 1 or more")
    places = sorted(set(np.linspace(0, len(film.frames) - 1, count).round().astype(int).tolist()))
    chosen = [film.frames[place] for place in places]
    kernels = film.screen.shape[0]
    groups = tuple(
        Group(
            f"step {frame.step:,}" + (f", {group.label}" if film.screen.towers > 1 else ""),
            tuple(number * kernels + item for item in group.items),
            group.tower,
        )
        for number, frame in enumerate(chosen)
        for group in film.screen.sheet.groups
    )
    columns = max(ceil(kernels / film.screen.towers / 2), 1)  # two rows for each tower: a moment is one broad band
    sheet = Sheet(groups, columns, film.screen.sheet.tile)
    every = np.concatenate([frame.tiles for frame in chosen])
    return labelled(every, sheet, title or f"Kernels of {film.screen.layer} as they form", caption, numbers=False)
