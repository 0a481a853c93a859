"""What the page "Start a training" holds: what was typed, where that began from, and which config it means.

A field that is left empty has the value of the preset, or in a branch that of the run it comes from: the base.  What is
typed is kept as text until the library reads it (`alexnet.plan.problems`), so bad input is answered by a sentence and
nothing typed is lost.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import streamlit as st

from alexnet.config import KEPT_BY_BRANCHES, TrainConfig
from alexnet.data.sources import BUILT_IN, lasting
from alexnet.plan import problems, sources
from alexnet.presets import PRESETS, configured
from alexnet.spec import Dropout
from alexnet.words import value_text
from alexnet.zoo import CHANGES, NETWORKS, network_from
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}
_TYPES = get_type_hints(TrainConfig)
GROUPS = {"network": "Network", "epochs": "Recipe", "side": "Pictures", "validate_every": "Run", "device": "Machine"}
"""The field with which each group begins, as on the command line."""
FIRST = ("epochs", "batch", "learning_rate", "seed")
"""What most people change."""
DATA_KINDS = ("Built in", "Folder", "CIFAR archive", "Pack")
PRESET_NAMES = tuple(preset.name for preset in PRESETS)
PRESET = "quick"
"""The page's first: the built-in pictures, which it offers first, are learned with it in minutes."""
VARIANTS = (
    "as published",
    *(":".join(some) for count in range(1, len(CHANGES) + 1) for some in combinations(CHANGES, count)),
)
_PATHS = {kind: f"path_{number}" for number, kind in enumerate(DATA_KINDS)}
_WORDS = {True: "yes", False: "no"}


LABELS = {
    "network": "Network", "input": "Input side, pixels", "variant": "Variant", "hidden": "Hidden width",
    "dropout": "Dropout", "epochs": "Epochs", "batch": "Batch", "seed": "Seed", "val_fraction": "Share for validation",
    "optimiser": "Optimiser", "learning_rate": "Learning rate", "momentum": "Momentum", "weight_decay": "Weight decay",
    "schedule": "Schedule", "patience": "Patience, validations", "drops": "Drops", "warmup_epochs": "Warm-up, epochs",
    "label_smoothing": "Label smoothing", "initialisation": "Initial weights", "side": "Short side, pixels",
    "mean": "Mean subtracted", "unit_variance": "Unit variance", "random_crop": "Random crops",
    "mirror": "Reflections", "colour_noise": "Colour noise, σ", "jitter_to": "Scale jitter up to, pixels",
    "on_unreadable": "Unreadable pictures", "validate_every": "Validate every, epochs",
    "checkpoint_minutes": "Checkpoint every, minutes", "keep_every": "Keep every, validations",
    "max_steps": "At most, steps", "probes": "Snapshots for the film", "layers_every": "Measure layers every, steps",
    "device": "Device", "precision": "Precision", "channels_last": "Channels last", "fused_lrn": "Fused LRN",
    "fused_optimiser": "Fused optimiser", "compile": "Compile the network", "workers": "Reading processes",
    "threads": "Threads",
}  # fmt: skip
"""What the page calls a field; behind the comma is its unit."""


def _literals(name: str) -> tuple[str, ...]:
    """The words that a field knows, where it knows only some."""
    if _TYPES[name] is bool:
        return ("yes", "no")
    choices = get_args(_TYPES[name])
    return choices if choices and all(isinstance(choice, str) for choice in choices) else ()


CHOICES: dict[str, tuple[str, ...]] = {
    "network": tuple(NETWORKS),
    "variant": VARIANTS,
    **{name: words for name in FIELDS if (words := _literals(name))},
}
"""Fields in which one chooses; in the others one types."""
RECIPE = (*(name for name in FIELDS if name not in {"data", "preset"}), "input", "variant")
"""What "Reset to the preset" empties.  Input side and variant are parts of --network."""
_OTHERS = ("data_kind", *_PATHS.values(), "preset", "name", "note", "waits")
_AT_FIRST: dict[str, Any] = {
    "data_kind": DATA_KINDS[0], "preset": PRESET, "name": "", "note": "", "waits": None
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """The checkpoint that a branch starts from: its path, recipe and classes; `pictures` it was trained on.

    `plateau` is how far its plateau had come, as `alexnet.optim.Plateau` says it.
    """

    path: Path
    run: str
    config: TrainConfig
    step: int
    classes: tuple[str, ...]
    pictures: int | None
    goes_on: bool
    plateau: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        return f"{self.run}/{self.path.stem}"


@dataclass(frozen=True, slots=True)
class Form:
    """What the fields say.

    `base` has what stands where nothing is typed.  `config` is None while there are problems; `shown` then leaves out
    what is wrong, so that there is always something to show.  `named` is whether any data is named yet: until then
    there is no config either, and nothing is wrong.
    """

    base: TrainConfig
    origin: Origin | None
    config: TrainConfig | None
    shown: TrainConfig
    problems: dict[str, str]
    sources: dict[str, str]
    named: bool = True

    def changed(self) -> dict[str, Any]:
        """The values that differ from the base's, without the data."""
        return {
            name: value
            for name in FIELDS
            if name not in {"data", "preset"} and (value := getattr(self.shown, name)) != getattr(self.base, name)
        }

    def branch_changes(self) -> dict[str, Any]:
        """What a branch is told to change, with the data."""
        data = {} if self.shown.data == self.base.data else {"data": self.shown.data}
        return data | self.changed()


# --- what was typed --------------------------------------------------------------------------------------------------


_LIBRARYS = re.compile(
    r"(?P<command>python -m alexnet [a-z]+(?: --[a-z-]+ \d+)*)"
    r"|(?<![^\s(])--(?P<option>[a-z][a-z0-9-]*)"
    r"|(?P<smaller>a network with a smaller input, NAME@SIDE)"
    r"|(?P<side>after @ comes a side in pixels, like [^ ;]+)"
    r"|(?P<variant>after : comes [a-z-]+(?:, [a-z-]+)* or [a-z-]+)"
)
"""What the library's sentences have for the command line, and the page has other words for."""


def told(sentence: str) -> str:
    """A sentence of the library as Markdown shows it: as it stands, with the fields of the page for its options."""
    pieces, end = [], 0
    for found in _LIBRARYS.finditer(sentence):
        pieces += [literal(sentence[end : found.start()]), _on_the_page(found)]
        end = found.end()
    text = "".join((*pieces, literal(sentence[end:])))
    return f"{text[:1].upper()}{text[1:]}"


def _on_the_page(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "smaller":
            return f"a smaller {label('input')}"
        case "side":
            return f"{label('input')} is a number of pixels like 224, or height x width like 200x300"
        case "variant":
            return f"{label('variant')} is one of the list or nothing"
        case "option":
            name = found["option"].replace("-", "_")
            if (name := name if name in LABELS else name.removeprefix("no_")) in LABELS or name == "preset":
                return label(name)
    return f"`{found[0]}`"


def label(name: str) -> str:
    """A field as sentences name it, in bold type."""
    return f"**{LABELS.get(name, name.capitalize()).partition(',')[0]}**"


def key(name: str) -> str:
    """The widget of a field."""
    return f"field_{name}"


def typed(name: str) -> str:
    """What a widget says, "" for nothing."""
    return str(st.session_state.get(key(name)) or "").strip()


def empty(name: str) -> str | None:
    return None if name in CHOICES or name == "device" else ""


def put(values: Mapping[str, Any]) -> None:
    """Writes into fields; before their widgets are drawn, or in a callback."""
    for name, value in values.items():
        st.session_state[key(name)] = value


def keep() -> None:
    """Keeps what the widgets say over a visit to another page, with which Streamlit forgets them."""
    kept: dict[str, Any] = st.session_state.setdefault("start_kept", {})
    for name in (*RECIPE, *_OTHERS):
        if key(name) in st.session_state:
            kept[name] = st.session_state[key(name)]
        else:
            st.session_state[key(name)] = kept.get(name, _AT_FIRST.get(name, empty(name)))


def reset() -> None:
    """Empties every field of the recipe."""
    put({name: empty(name) for name in RECIPE})


def fill(values: Mapping[str, Any], base: TrainConfig) -> None:
    """Fills the form with the values of a config that differ from the base's."""
    reset()
    others = {name: value for name, value in values.items() if name in RECIPE and name != "network"}
    put({name: text(value) or empty(name) for name, value in others.items() if value != getattr(base, name)})
    put({"preset": base.preset})
    network = str(values.get("network", base.network))
    if network != base.network:
        put_network(network)
    put_data(str(values.get("data", base.data)))


def put_network(reference: str) -> None:
    """Names the network in its three fields."""
    name, side, variant = parts(reference)
    put({"network": name, "input": side, "variant": variant or None})


def put_data(data: str) -> None:
    """Names the data in the form."""
    from alexnet.data import pack  # noqa: PLC0415 - numpy and pillow, which the library's tables do without

    if data == BUILT_IN:
        put({"data_kind": DATA_KINDS[0]})
        return
    try:
        path = Path(data).expanduser()
        kind = 3 if pack.is_pack(path) else 2 if path.is_file() else 1
    except (OSError, RuntimeError, ValueError):  # no path at all: the page will say so
        kind = 1
    put({"data_kind": DATA_KINDS[kind], _PATHS[DATA_KINDS[kind]]: data})


def text(value: Any) -> str | None:
    """A value as it would be typed."""
    if isinstance(value, bool):
        return _WORDS[value]
    return "" if value is None else str(value)


def path_name(kind: str) -> str:
    """The field in which the path to this kind of data is typed; each kind has its own."""
    return _PATHS[kind]


def data() -> str:
    """The data that the form names, in a way that means the same from any folder."""
    kind = st.session_state.get(key("data_kind")) or DATA_KINDS[0]
    return BUILT_IN if kind == DATA_KINDS[0] else lasting(typed(_PATHS[kind]))


# --- the network, in three fields ------------------------------------------------------------------------------------


def parts(reference: str) -> tuple[str, str, str]:
    """``alexnet-2012@131:no-lrn`` as name, input side and variant."""
    head, _, variant = reference.partition(":")
    name, _, side = head.partition("@")
    return name, side, variant


def reference(base: str) -> str | None:
    """The network that the three fields say, where any says something.

    Side and variant stay the base's only beside the base's own network.
    """
    name, side, variant = typed("network"), typed("input"), typed("variant")
    if not (name or side or variant):
        return None
    base_name, base_side, base_variant = parts(base)
    own = not name or name == base_name
    side = side or (base_side if own else "")
    variant = ("" if variant == VARIANTS[0] else variant) or ("" if variant or not own else base_variant)
    return (name or base_name) + (f"@{side}" if side else "") + (f":{variant}" if variant else "")


# --- what it means ---------------------------------------------------------------------------------------------------


def read(origin: Origin | None = None) -> Form:
    """The config that the fields mean, and everything that is wrong with them by themselves."""
    preset = typed("preset")
    if origin is not None:
        base = origin.config
        given: dict[str, Any] = base.as_json() | {"preset": "paper-2012"}  # a preset's values would stand for none
    else:
        base = configured(preset if preset in PRESET_NAMES else PRESET, BUILT_IN)
        given = {"preset": preset}
    locked = frozenset() if origin is None else KEPT_BY_BRANCHES
    given |= {
        name: said for name in RECIPE if name in FIELDS and name not in {"network", *locked} and (said := typed(name))
    }
    if "network" not in locked and (network := reference(base.network)):
        given["network"] = network
    given["data"] = data()
    config, found = problems(given)
    if not (named := bool(given["data"])):
        found.pop("data")
        given.pop("data")
    shown = config or _without(given, found) or base
    if origin is not None:
        shown = dataclasses.replace(shown, preset=base.preset)
    come_from = sources(shown)
    if origin is not None:
        come_from = {
            name: "as in that run" if getattr(shown, name) == getattr(base, name) else "yours" for name in FIELDS
        }
    come_from |= dict.fromkeys(found, "yours")
    return Form(base, origin, None if config is None else shown, shown, found, come_from, named)


def _without(given: dict[str, Any], wrong: Mapping[str, str]) -> TrainConfig | None:
    """The config of what is right; what is wrong only beside the values that stand in its place is left out, too."""
    rest = given
    while True:
        rest = {name: value for name, value in rest.items() if name not in wrong}
        config, wrong = problems({"data": BUILT_IN} | rest)
        if config is not None or wrong.keys().isdisjoint(rest):
            return config


def own_value(name: str, form: Form) -> str:
    """What stands in an empty field: the base's value, or what takes its place where it has none."""
    value, network = getattr(form.base, name), network_from(form.shown.network)
    if value is not None:
        return value_text(value)
    match name:
        case "hidden":
            return str(network.hidden or "none")
        case "dropout":
            found = (layer.probability for _, layer in network.layers if isinstance(layer, Dropout))
            return next((f"{share:g}" for share in found), "none")
        case "side":
            return str(form.shown.short_side())
        case "jitter_to":
            return "no jitter"
        case "max_steps":
            return "no limit"
    return "chosen by the machine"
