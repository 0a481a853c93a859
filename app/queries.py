"""The only caching: what takes long is computed once, and shared by all sessions; nobody alters it.

Cost tables take a tenth of a millisecond and are not cached.  The witnesses need torch, fvcore and torchinfo, which
take seconds to import and run; they run as ``python -m analysis verify`` beside the server.  The pages that look inside
need torch in the server itself: it is imported when the first of them is opened, so that the others answer at once.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet.bundled import IMAGENETTE
from alexnet.errors import UserError
from app.scans import Scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alexnet.checkpoints import Checkpoint
    from alexnet.data.images import Pixels
    from alexnet.data.sources import Source
    from alexnet.inference import Viewer
    from alexnet.spec import Network
    from analysis.activations import Activations
    from analysis.attribution import Attribution, OcclusionStep, Target
    from analysis.kernels import LayerKernels
    from analysis.patches import Exciting
    from analysis.sheets import Channels, Colours, MapScaling, Scaling, Tiles
    from app.looking import Chosen, Picture

ROOT = Path(__file__).resolve().parent.parent
BUILT_IN = IMAGENETTE.weights
GENERATED = 1_000
"""Generated pictures to choose from."""
_LIMIT_SECONDS = 600

_one_at_a_time = threading.Lock()
_running: list[Verification] = []


@dataclass(slots=True)
class Verification:
    """A `verify` that waits, runs or is done; `verdict` is its JSON, `trouble` a sentence if it could not be had.

    One runs at a time, whoever asks, and it starts when a page first looks while no other runs: leafing through the
    networks leaves no queue behind.
    """

    command: tuple[str, ...]
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    verdict: dict[str, Any] | None = None
    trouble: str | None = None

    @property
    def done(self) -> bool:
        return self.verdict is not None or self.trouble is not None

    def poll(self) -> None:
        """Start it if nothing else runs, or take its answer if there is one."""
        with _one_at_a_time:
            if self.done:
                return
            if self.process is None:
                for other in tuple(_running):
                    other.collect()
                if not _running:
                    self.start()
            else:
                self.collect()

    def start(self) -> None:
        """Start the process and remember that it runs."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own program, with arguments that the spec has checked
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        _running.append(self)

    def collect(self) -> None:
        """Take the answer of a process that has ended; end one that takes too long."""
        assert self.process is not None
        if self.process.poll() is None:
            if time.monotonic() - self.started < _LIMIT_SECONDS:
                return
            self.process.kill()
        out, err = self.process.communicate()
        _running.remove(self)
        try:
            self.verdict = json.loads(out)[0]
        except (json.JSONDecodeError, IndexError):
            last = err.strip().splitlines()[-1] if err.strip() else f"exit status {self.process.returncode}"
            self.trouble = f"the witnesses could not be asked: {last}"

    def stop(self) -> None:
        """End the process if it still runs."""
        with _one_at_a_time:
            if self in _running:
                assert self.process is not None
                self.process.kill()
                self.process.wait()
                self.collect()


def verification(network: Network) -> Verification:
    """The witnesses' verdict on this network as far as it is known; asked for once and shared by all sessions."""
    asked = _verification(*_key(network))
    asked.poll()
    return asked


def _key(network: Network) -> tuple[str, str, int | None, int | None]:
    return network.name, "x".join(map(str, network.input_shape)), network.classes, network.hidden


@st.cache_resource(max_entries=32, show_spinner=False, on_release=Verification.stop)
def _verification(name: str, shape: str, classes: int | None, hidden: int | None) -> Verification:
    command = [sys.executable, "-m", "analysis", "verify", name, "--format", "json", "--input", shape]
    for option, value in (("--classes", classes), ("--hidden", hidden)):
        if value is not None:
            command += [option, str(value)]
    return Verification(tuple(command))


def ask_again(network: Network) -> None:
    """Forget a verdict that could not be had, so that the next call asks anew."""
    _verification.clear(*_key(network))


# --- looking inside --------------------------------------------------------------------------------------------------


@st.cache_data(show_spinner="Starting torch …")
def devices() -> list[str]:
    """What a network can run on here, the fastest first."""
    import torch  # noqa: PLC0415 - see above

    return [*(f"cuda:{index}" for index in range(torch.cuda.device_count())), "cpu"]


@st.cache_data(show_spinner=False)
def pixel_kinds() -> list[str]:
    """The kinds of input that foreign checkpoints may expect."""
    from alexnet.foreign import PIXELS  # noqa: PLC0415

    return list(PIXELS)


def stamp(path: Path) -> str:
    """Changes when the file does, or a file in the folder or just below it.  Raises UserError where there is none."""
    try:
        times = [path.stat().st_mtime_ns]
        if path.is_dir():
            below = islice((entry for pattern in ("*", "*/*") for entry in path.glob(pattern)), _MOST_LOOKED_AT)
            times += [entry.lstat().st_mtime_ns for entry in below]
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a name that no file can have
        raise UserError(f"there is nothing at {path}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be looked at: {error.strerror or error}") from None
    return f"{max(times)}.{len(times)}"


_MOST_LOOKED_AT = 1_000


@st.cache_resource(max_entries=4, show_spinner=False)
def opened(path: str, version: str, network: str | None, pixels: str | None) -> Checkpoint:  # noqa: ARG001
    """A checkpoint of any kind, as it is in this `version` of the file (`stamp`).  Raises UserError."""
    from alexnet.foreign import open_checkpoint  # noqa: PLC0415

    return open_checkpoint(Path(path), network=network, pixels=pixels)


@st.cache_resource(max_entries=2, show_spinner=False)
def untrained(name: str, seed: int) -> Checkpoint:
    """Weights that a training of this network starts from."""
    from alexnet.checkpoints import untrained as made  # noqa: PLC0415
    from alexnet.zoo import network_named  # noqa: PLC0415

    return made(network_named(name), seed=seed)


KEYS: dict[str | type, Any] = {"app.looking.Chosen": attrgetter("key"), "app.looking.Picture": attrgetter("digest")}
"""What decides an answer about these: hashing weights and pixels themselves would take longer than the answers."""


def _released(viewer: Viewer) -> None:
    """Give a GPU its memory back: torch would keep it for as long as the server lives."""
    import torch  # noqa: PLC0415

    if viewer.device.type == "cuda":
        viewer.model.to("meta")
        torch.cuda.empty_cache()


@st.cache_resource(max_entries=2, show_spinner=False, hash_funcs=KEYS, on_release=_released)
def viewer(chosen: Chosen) -> Viewer:
    """The chosen weights on their device, ready to look at pictures."""
    import torch  # noqa: PLC0415

    from alexnet.inference import Viewer  # noqa: PLC0415

    return Viewer(chosen.checkpoint, torch.device(chosen.device))


@st.cache_resource(max_entries=6, show_spinner="Looking …", hash_funcs=KEYS)
def activations(chosen: Chosen, picture: Picture) -> Activations:
    """Every stage's output for this picture."""
    from analysis.activations import activations as found  # noqa: PLC0415

    return found(viewer(chosen), picture.pixels)


@st.cache_resource(max_entries=32, show_spinner="Measuring …", hash_funcs=KEYS)
def kernels(chosen: Chosen, layer: str) -> LayerKernels:
    """A layer's kernels, measured."""
    from analysis.kernels import layer_kernels  # noqa: PLC0415

    return layer_kernels(chosen.checkpoint, layer)


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def kernel_tiles(chosen: Chosen, layer: str, scaling: Scaling, channels: Channels) -> Tiles:
    """A layer's kernels as pictures."""
    from analysis.sheets import kernel_tiles as tiles  # noqa: PLC0415

    return tiles(kernels(chosen, layer).weights, scaling, channels)


@st.cache_resource(max_entries=4, show_spinner=False, hash_funcs=KEYS, on_release=Scan.stop)
def search(chosen: Chosen, stage: str, data: str, pictures: int) -> Scan[tuple[Source, Exciting]]:
    """What excites each channel of a stage most, among so many pictures of some data; it starts at the first call."""
    look_through = viewer(chosen)

    def steps() -> Iterator[tuple[Source, Exciting]]:
        from alexnet.data.sources import open_pictures  # noqa: PLC0415
        from analysis.patches import most_exciting  # noqa: PLC0415

        source = open_pictures(data)
        for found in most_exciting(look_through, source, stage, pictures=pictures):
            yield source, found

    return Scan(steps)


LARGEST_TILE = 64
"""Side of a map in a sheet, in pixels: 96 of them then fill a screen, and the page stays light."""


@st.cache_data(max_entries=32, show_spinner=False, hash_funcs=KEYS)
def map_tiles(
    chosen: Chosen, picture: Picture, stage: str, scaling: MapScaling, colours: Colours
) -> tuple[Tiles, bool]:
    """A stage's maps as pictures, and whether they were reduced, by averaging, to `LARGEST_TILE`."""
    from torch.nn import functional  # noqa: PLC0415

    from analysis.sheets import map_tiles as tiles  # noqa: PLC0415

    maps = activations(chosen, picture).values[stage]
    larger = max(maps.shape[1:]) > LARGEST_TILE
    if larger:
        height, width = (max(1, round(side * LARGEST_TILE / max(maps.shape[1:]))) for side in maps.shape[1:])
        maps = functional.adaptive_avg_pool2d(maps, (height, width))
    return tiles(maps.numpy(), scaling, colours), larger


@st.cache_data(max_entries=32, show_spinner="Asking …", hash_funcs=KEYS)
def attributed(chosen: Chosen, picture: Picture, method: str, target: Target) -> Attribution:
    """What one of the methods that take one pass finds."""
    from analysis import attribution  # noqa: PLC0415

    methods = {
        "Grad-CAM": attribution.grad_cam,
        "Guided backpropagation": attribution.guided_backpropagation,
        "Gradient": attribution.gradient,
    }
    return methods[method](viewer(chosen), activations(chosen, picture), target)


def occluded(chosen: Chosen, picture: Picture, target: Target) -> Iterator[OcclusionStep]:
    """Occlusion step by step; the last step alone where it is known already."""
    key = (chosen.key, picture.digest, target)
    if key in _occlusions():
        yield _occlusions()[key]
        return
    from analysis.attribution import occlusion  # noqa: PLC0415

    step = None
    for step in occlusion(viewer(chosen), activations(chosen, picture), target):
        yield step
    if step is not None:
        _occlusions()[key] = step
        while len(_occlusions()) > _MOST_OCCLUSIONS:
            _occlusions().pop(next(iter(_occlusions())), None)


_MOST_OCCLUSIONS = 16


@st.cache_resource(show_spinner=False)
def _occlusions() -> dict[Any, OcclusionStep]:
    return {}


@st.cache_data(max_entries=8, show_spinner=False)
def sample(name: str) -> Pixels:
    """One of the photographs that are shipped."""
    from alexnet.data.images import decode  # noqa: PLC0415

    return decode(Path(__file__).parent / "pictures" / f"{name}.jpg")


@st.cache_data(max_entries=32, show_spinner=False)
def generated(number: int) -> tuple[str, Pixels]:
    """A picture made by rule: its name and its pixels."""
    from alexnet.data.generated import GeneratedSource  # noqa: PLC0415

    source = GeneratedSource("val", side=256)
    index = number % len(source)
    return source.classes[source.labels[index]], source.read(index)


@st.cache_data(max_entries=8, show_spinner=False)
def decoded(name: str, data: bytes) -> Pixels:
    """The picture in an uploaded file.  Raises UserError where it is none."""
    from alexnet.data.images import decode  # noqa: PLC0415

    return decode(data, name=name, at_least=512)
