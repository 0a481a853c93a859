"""What the pages that look inside share: the weights, the device they run on, and the picture.  All in the sidebar.

A choice is one short text, which stands in the page's address: ``built-in``, ``built-in:generated``,
``random:alexnet-2012:0``, ``run:NAME/best``, ``file:PATH``; ``cat``, ``generated:12``.  What was uploaded or
photographed has no address.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from PIL import Image

from alexnet.about import about
from alexnet.bundled import GENERATED, IMAGENETTE
from alexnet.errors import UserError
from alexnet.runs import RUNS, RunDirectory, explained
from alexnet.spec import times
from alexnet.zoo import NETWORKS
from analysis.kernels import EXPLANATIONS
from app import choices, queries, state, uploads
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.checkpoints import Checkpoint
    from alexnet.data.images import Pixels

WEIGHTS = ("Built-in", "Random", "Run", "File", "Upload")
BUNDLES = {"Photographs": ("built-in", IMAGENETTE), "Generated pictures": ("built-in:generated", GENERATED)}
"""What the networks in the box were trained on, with what stands for each in an address."""
PICTURES = ("Samples", "Generated", "Upload", "Camera")
SAMPLES = ("cat", "coffee", "rocket", "astronaut", "parachute", "golf-ball")
AUTO = "as recognised"
_THUMBNAIL = 150
_MISMATCHES = 6  # that stand in the sentence itself
LARGEST_SEED = 999_999


@dataclass(frozen=True, slots=True)
class Chosen:
    """Weights to look inside.  `key` says everything that decides them, for caches; `label` is for people."""

    key: str
    label: str
    device: str
    checkpoint: Checkpoint

    @property
    def untrained(self) -> bool:
        return self.key.startswith("random:")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to look at: `pixels` is (height, width, 3) bytes, `digest` names its content."""

    name: str
    digest: str
    pixels: Pixels


def controls() -> None:
    """The sidebar of these pages.  Leaves what was chosen, or what was wrong with it, in the session's state."""
    st.markdown("##### Weights")
    st.session_state.looking = _attempted(_weights)
    st.markdown("##### Picture")
    st.session_state.picture = _attempted(_picture)
    state.glossary(_WORDS)


_WORDS = {
    "Kernel": "the weights of one output map; in the first layer it is a small picture.",
    "Map": "one channel of a stage's output: how much of what its kernel looks for is where.",
    "Tower": "the half of the network that one GPU held in 2012.",
    **{name.capitalize(): text[:1].lower() + text[1:] for name, text in EXPLANATIONS.items() if name != "index"},
    "Response": "what a kernel gives at a place of the picture, before ReLU.",
    "What a value sees": "its receptive field: the square of the picture that it depends on.",
    "Silent": "0 everywhere on this picture.",
    "Suppressed": "what LRN takes away beyond the constant that scales all values alike.",
}


def chosen() -> Chosen:
    """The weights of the sidebar; the page ends here, saying why, where there are none."""
    return _have(st.session_state.looking)  # type: ignore[no-any-return]


def picture() -> Picture:
    """The picture of the sidebar; the page ends here, saying why, where there is none."""
    return _have(st.session_state.picture)  # type: ignore[no-any-return]


def computed(make: Callable[[], Any]) -> Any:
    """What this gives; the page ends here, saying why, where the weights or the picture do not allow it."""
    return _have(_attempted(make))


def _attempted(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except UserError as error:
        return error
    except OSError as error:
        return UserError(f"{error.filename or 'this file'} cannot be read: {explained(error)}")


def _have(found: Any) -> Any:
    if isinstance(found, UserError):
        mismatches = getattr(found, "mismatches", ())
        shown = str(found)
        if len(mismatches) > _MISMATCHES:  # all of them follow in a list
            shown = shown.replace(
                "; ".join(map(str, mismatches)), "; ".join(map(str, mismatches[:_MISMATCHES])) + "; …"
            )
        st.error(literal(shown), icon=":material/error:")
        if len(mismatches) > _MISMATCHES:
            with st.expander(f"All {len(mismatches)} mismatches"):
                st.markdown("\n".join(f"* {literal(str(one))}" for one in mismatches))
        st.caption("Choose other weights or another picture in the sidebar.")
        st.stop()
    return found


# --- weights ---------------------------------------------------------------------------------------------------------


def _weights() -> Chosen:
    _from_address()
    source = choices.kept(st.selectbox, "From", WEIGHTS, key="weights_from", default=WEIGHTS[0], help=_WEIGHTS_HELP)
    device = _device()
    network = pixels = None
    if source == "Random":
        reference = f"random:{_network()}:{_seed()}"
    elif source == "Run":
        reference = f"run:{_run()}/{_checkpoint()}"
    elif source == "File":
        reference = f"file:{_path()}"
        network, pixels = _read_as()
    elif source == "Upload":
        st.query_params.pop("weights", None)  # nobody else could open them, nor this session after a reload
        path = _uploaded()
        network, pixels = _read_as()
        return _opened(str(path), f"upload:{path}", device, network, pixels)
    else:
        reference = BUNDLES[_trained_on()][0]
    st.query_params["weights"] = reference
    return _opened(reference.partition(":")[2], reference, device, network, pixels)


_WEIGHTS_HELP = (
    "Built-in: small AlexNets of two towers that this project trained. Random: what training starts from. Run: "
    "trainings of this machine. File and Upload: checkpoints of PyTorch, torchvision, timm, Caffe, ONNX, safetensors, "
    ".npy and .npz; nothing in a file is executed."
)


def _from_address() -> None:
    """At a session's first look, take the weights that the address names."""
    if "weights_read" in st.session_state:
        return
    st.session_state.weights_read = True
    given = st.query_params.get("weights", "")
    kind, _, rest = given.partition(":")
    match kind:
        case "" | "built-in" if not rest:
            pass
        case "built-in" if (named := _bundle_of(given)) is not None:
            st.session_state.kept_built_in = named
        case "random":
            name, _, seed = rest.partition(":")
            number = choices.below(LARGEST_SEED + 1, seed or "0")
            if name not in NETWORKS:
                state.notice(f"there is no network {name[:60]!r}: the weights in the box are shown")
                return
            st.session_state.kept_weights_from, st.session_state.kept_random_network = "Random", name
            st.session_state.kept_random_seed = number or 0
            if number is None:
                state.notice(f"a seed is a number from 0 to {LARGEST_SEED:,}; got {seed[:60]!r}")
        case "run":
            choose_run(*rest.split("/", 1))
        case "file":
            st.session_state.kept_weights_from, st.session_state.kept_weights_path = "File", rest
        case _:
            known = "built-in, built-in:generated, random:NETWORK:SEED, run:NAME or file:PATH"
            state.notice(f"weights are {known}; got {given[:60]!r}")


def _bundle_of(reference: str) -> str | None:
    """What the network in the box of this address was trained on."""
    return next((name for name, (one, _) in BUNDLES.items() if one == reference), None)


def choose_run(name: str, checkpoint: str = "best") -> None:
    """Make a run's checkpoint the weights that these pages look inside."""
    st.session_state.kept_weights_from = "Run"
    st.session_state.kept_weights_run, st.session_state.kept_weights_checkpoint = name, checkpoint
    for key in ("weights_from", "weights_run", "weights_checkpoint"):  # of a widget that still remembers another
        st.session_state.pop(key, None)
    st.session_state.weights_read = True


def choose_built_in(sample: str | None = None) -> None:
    """Make the network in the box, and this sample where one is given, what these pages look at."""
    st.session_state.kept_weights_from, st.session_state.kept_built_in = "Built-in", next(iter(BUNDLES))
    for key in ("weights_from", "built_in"):
        st.session_state.pop(key, None)
    st.session_state.weights_read = True
    if sample is not None:
        st.session_state.kept_picture_from, st.session_state.kept_picture_sample = "Samples", sample
        for key in ("picture_from", "picture_sample"):
            st.session_state.pop(key, None)
        st.session_state.picture_read = True


def built_in() -> Chosen:
    """The network in the box, on the fastest device, as the sidebar opens it."""
    device, (key, checkpoint) = queries.devices()[0], _read(queries.BUILT_IN)
    return Chosen(f"{key}|{device}", "built-in", device, checkpoint)


def _device() -> str:
    """Where the network runs: the choice is shown only where there is one."""
    devices = queries.devices()
    if len(devices) == 1:
        return devices[0]
    return str(choices.kept(st.selectbox, "Runs on", devices, key="looking_device", default=devices[0]))


def _trained_on() -> str:
    return str(
        choices.kept(
            st.selectbox, "Trained on", list(BUNDLES), key="built_in", default=next(iter(BUNDLES)),
            help="Photographs: ten classes of Imagenette. Generated pictures: drawn by rule; you can train the same "
            "yourself in minutes, with the command in the README.",
        )
    )  # fmt: skip


def _network() -> str:
    return str(choices.kept(st.selectbox, "Network", list(NETWORKS), key="random_network", default="alexnet-2012"))


def _seed() -> int:
    seed = choices.kept(
        st.number_input, "Seed", 0, LARGEST_SEED, key="random_seed", default=0, help="Other numbers, other weights"
    )
    return int(seed)


def _run() -> str:
    runs = _runs()
    if not runs:
        raise UserError(
            f"there is no run with a checkpoint in {RUNS.resolve()}: train one with `python -m alexnet train`, or open "
            "a run's checkpoint as a file"
        )
    if st.session_state.get("kept_weights_run") not in runs:
        if asked := st.session_state.get("kept_weights_run"):
            state.notice(f"there is no run {asked[:60]!r} with a checkpoint here; the newest is shown")
        st.session_state.pop("weights_run", None)
        st.session_state.pop("kept_weights_run", None)
    about = f"From {RUNS.resolve()}, newest first"
    return str(
        choices.kept(
            st.selectbox, "Run", runs, key="weights_run", default=runs[0], help=about, format_func=_called
        )
    )  # fmt: skip


def _runs() -> list[str]:
    found = {path.parent.parent: path for path in sorted(RUNS.glob("*/checkpoints/*.pt"))}
    return [run.name for run in sorted(found, key=lambda run: run.stat().st_mtime, reverse=True)]


def _called(run: str) -> str:
    """A run by the name that its reader gave it, or its folder's."""
    return about(RUNS / run).name or run


def _checkpoint() -> str:
    """Which of the run's checkpoints: the best, unless another is asked for."""
    there = RunDirectory(RUNS / st.session_state.kept_weights_run).checkpoints_to_see()
    if (asked := st.session_state.get("kept_weights_checkpoint", "best")) not in there:
        if asked != "best":
            state.notice(f"this run has no checkpoint {asked[:60]!r}; its {there[0]} is shown")
        st.session_state.pop("weights_checkpoint", None)
        st.session_state.kept_weights_checkpoint = there[0]
    return str(
        choices.kept(
            st.selectbox, "Checkpoint", there, key="weights_checkpoint", default=there[0],
            help="Best: of all validations. Last: where training is; it is read beside a training that goes on.",
        )
    )  # fmt: skip


def _path() -> str:
    path: str = choices.kept(
        st.text_input, "Path on this machine", key="weights_path", default="", placeholder="…/checkpoint.pth",
        help="A checkpoint file, a run directory, or a folder of .npy files",
    )  # fmt: skip
    if not path.strip():
        raise UserError("no file named yet: give the path of a checkpoint on this machine")
    return str(Path(path.strip()).expanduser())


def _uploaded() -> Path:
    files = st.file_uploader(
        "Checkpoint, or all the .npy files of a folder", accept_multiple_files=True, key="weights_upload"
    )
    if files:
        identity = tuple(file.file_id for file in files)
        if st.session_state.get("uploaded_identity") != identity:
            st.session_state.uploaded_path, st.session_state.uploaded_identity = uploads.kept(files), identity
    path: Path | None = st.session_state.get("uploaded_path")
    if path is None:
        raise UserError("nothing uploaded yet: choose a checkpoint file, or all .npy files of a folder")
    if not path.exists():
        raise UserError(f"{path.name} is not kept any more: upload it again")
    return path


def _read_as() -> tuple[str | None, str | None]:
    with st.expander("Read as"):
        network = choices.kept(st.selectbox, "Network", [AUTO, *NETWORKS], key="read_network", default=AUTO)
        pixels = choices.kept(
            st.selectbox, "Pixels it was trained on", [AUTO, *queries.pixel_kinds()], key="read_pixels", default=AUTO,
            help="What the network expects where the file does not say",
        )  # fmt: skip
    return (None if network == AUTO else network), (None if pixels == AUTO else pixels)


def _opened(what: str, reference: str, device: str, network: str | None, pixels: str | None) -> Chosen:
    kind = reference.partition(":")[0]
    with st.spinner("Opening the weights …"):
        if kind == "random":
            name, _, seed = what.partition(":")
            key, checkpoint = reference, queries.untrained(name, int(seed))
        else:
            path = _of_box(reference) if kind == "built-in" else _of_run(what) if kind == "run" else Path(what)
            try:
                key, checkpoint = _read(path, network, pixels)
            except UserError as error:
                if kind != "upload":
                    raise
                raise _without_folder(error, path) from None
    labels = {
        "built-in": reference.replace(":", "-"), "random": "random weights", "run": what.replace("/", "-")
    }  # fmt: skip
    label = labels.get(kind, Path(what).name)
    _describe(checkpoint, device)
    return Chosen(f"{key}|{device}", label, device, checkpoint)


def _read(path: Path, network: str | None = None, pixels: str | None = None) -> tuple[str, Checkpoint]:
    """Everything that decides a checkpoint in a file, for caches, and the checkpoint."""
    version = queries.stamp(path)
    return f"{path}|{version}|{network}|{pixels}", queries.opened(str(path), version, network, pixels)


def _of_box(reference: str) -> Path:
    """The file of a network in the box, by its address."""
    return next(bundle.weights for address, bundle in BUNDLES.values() if address == reference)


def _of_run(what: str) -> Path:
    """The file of ``NAME/CHECKPOINT``."""
    name, _, checkpoint = what.partition("/")
    return RUNS / name / "checkpoints" / f"{checkpoint}.pt"


def _without_folder(error: UserError, path: Path) -> UserError:
    """The same about an upload by its own name: where the server keeps it is nobody's business."""
    mismatches = getattr(error, "mismatches", ())
    told = UserError(str(error).replace(f"{path.parent}/", ""))
    told.mismatches = mismatches  # type: ignore[attr-defined]
    return told


def _describe(checkpoint: Checkpoint, device: str) -> None:
    """What was opened: network, origin, device, and what is missing or was assumed."""
    network = checkpoint.network
    lines = [f"**{literal(network.name)}**, {times(network.input_shape)}, on {device.upper()}"]
    if checkpoint.origin:
        lines.append(literal(checkpoint.origin))
    if top1 := checkpoint.results.get("top1"):
        lines.append(f"top-1 {top1:.1%} on its validation pictures")
    if missing := checkpoint.missing:
        lines.append(f"without {', '.join(missing)}")
    st.caption("  \n".join(lines))
    if checkpoint.notes:
        with st.expander(f"Notes ({len(checkpoint.notes)})"):
            st.markdown("\n".join(f"* {literal(text)}" for text in checkpoint.notes))


# --- picture ---------------------------------------------------------------------------------------------------------


def _picture() -> Picture:
    _picture_from_address()
    source = choices.kept(st.selectbox, "From", PICTURES, key="picture_from", default=PICTURES[0], help=_PICTURES_HELP)
    if source == "Generated":
        number = _number()
        name, pixels = queries.generated(number)
        found = _made(f"generated:{number}", name, pixels)
    elif source == "Upload":
        found = _sent(st.file_uploader("Picture", key="picture_upload"), "picture_sent", "upload a picture")
    elif source == "Camera":
        found = _sent(st.camera_input("Camera", key="picture_camera"), "picture_taken", "take a photograph")
    else:
        name = choices.kept(
            st.selectbox, "Picture", SAMPLES, key="picture_sample", default=SAMPLES[0], format_func=str.capitalize
        )
        found = _made(name, name, queries.sample(name))
    st.image(_thumbnail(found.pixels), caption=found.name)
    return found


def _thumbnail(pixels: Pixels) -> Image.Image:
    """The picture at most `_THUMBNAIL` pixels wide and high, and at least one."""
    small = Image.fromarray(pixels)
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return small


_PICTURES_HELP = (
    "Samples: photographs that are free to share, and two drawings. Generated: pictures that this project makes by "
    "rule. Upload: any picture file. Camera: your own; it stays on this machine."
)


def _picture_from_address() -> None:
    if "picture_read" in st.session_state:
        return
    st.session_state.picture_read = True
    given = st.query_params.get("picture", "")
    kind, _, text = given.partition(":")
    if not given:
        return
    if kind in SAMPLES:
        st.session_state.kept_picture_sample = kind
    elif kind == "generated" and (number := choices.below(queries.GENERATED, text)) is not None:
        st.session_state.kept_picture_from, st.session_state.kept_picture_number = "Generated", number
    else:
        known = ", ".join(SAMPLES)
        state.notice(f"a picture is {known} or generated:0 to {queries.GENERATED - 1}; got {given[:60]!r}")


def _number() -> int:
    return int(choices.kept(st.number_input, "Number", 0, queries.GENERATED - 1, key="picture_number", default=0))


def _made(reference: str, name: str, pixels: Pixels) -> Picture:
    st.query_params["picture"] = reference
    return Picture(name, reference, pixels)


def _sent(file: Any, key: str, what: str) -> Picture:
    """The picture in an uploaded file; it stays chosen when its widget is gone, as on another page."""
    st.query_params.pop("picture", None)
    if file is not None:
        data = file.getvalue()
        st.session_state[key] = (file.name, hashlib.sha256(data).hexdigest()[:24], data)
    if key not in st.session_state:
        raise UserError(f"no picture yet: {what} in the sidebar")
    name, digest, data = st.session_state[key]
    return Picture(name, digest, queries.decoded(name, data))
