"""What every page shares: the chosen network with its sizes, and the URL that says so."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import MAX_CLASSES, MAX_HIDDEN, IllegalNetworkError, times
from alexnet.zoo import NETWORKS, network_named
from analysis.conventions import CONVENTIONS, convention_named
from analysis.costs import MAX_BATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from alexnet.spec import Network, Shape

SIZES = ("input", "classes", "hidden")
_LONGEST_NUMBER = 12  # characters; nothing on a page is larger
VIEWS = ("Networks", "Kernels")
MEASURES = ("Layers", "Parameters", "MACs")
MAX_MAPS = 4_096
MAX_MAP_SIDE = 512


class UnreadableValueError(ValueError):
    """A value that cannot be read; the message says what was expected."""


def _whole_number(text: str, name: str, largest: int) -> int:
    """The number from 1 to `largest` that the text says; commas may group its thousands."""
    digits = text.strip()
    if not re.fullmatch(r"[+-]?(\d+|\d{1,3}(,\d{3})+)", digits, re.ASCII):
        raise UnreadableValueError(f"{name} must be a whole number, got {text[:60]!r}")
    if len(digits) > _LONGEST_NUMBER or not 1 <= (number := int(digits.replace(",", ""))) <= largest:
        raise UnreadableValueError(f"{name} must be from 1 to {largest:,}, got {digits[:60]}")
    return number


def parsed_input(text: str, channels: int) -> Shape:
    """``224`` or ``200x300`` (height × width), also with channels in front, as a shape.

    Raises:
        UnreadableValueError: the text is none of these.
    """
    parts = text.lower().replace("×", "x").replace(" ", "").split("x")
    try:
        numbers = tuple(int(part) for part in parts if len(part) <= _LONGEST_NUMBER)
    except ValueError:
        numbers = ()
    if len(numbers) != len(parts):
        numbers = ()
    match numbers:
        case (side,):
            return (channels, side, side)
        case (height, width):
            return (channels, height, width)
        case (_, _, _):
            return numbers
    raise UnreadableValueError(
        f"an input size is a number of pixels like 224, or height×width like 200x300; got {text[:60]!r}"
    )


def literal(text: str) -> str:
    """Text that may quote its reader, so that Markdown shows it as it stands: no links, formulas or markup."""
    return re.sub(r"([\\`*_\[\]<>$~#:|])", r"\\\1", text)


def _one_of(options: Sequence[str], what: str) -> Callable[[str], str]:
    """A check that takes any of these words, in any case, and gives it back as the widget writes it."""

    def check(text: str) -> str:
        for option in options:
            if text.strip().casefold() == option.casefold():
                return option
        raise UnreadableValueError(f"{what} is one of {', '.join(options)}; got {text!r}")

    return check


def _number(what: str, largest: int) -> Callable[[str], int]:
    return lambda text: _whole_number(text, what, largest)


# What a URL can say in widgets bound to it; each check gives the widget's value or raises ValueError with a sentence.
_CHECKS: dict[str, Callable[[str], str | int]] = {
    "network": lambda text: network_named(text).name,
    "convention": lambda text: convention_named(text).name,
    "batch": _number("batch", MAX_BATCH),
    "view": _one_of(VIEWS, "view"),
    "measure": _one_of(MEASURES, "measure"),
    "tool": _one_of([name for name in CONVENTIONS if name != "ours"], "tool"),
    "maps": _number("maps", MAX_MAPS),
    "map_side": _number("map_side", MAX_MAP_SIDE),
}


def read_url() -> None:
    """At a session's first run, note what the URL asks for and cannot have; the page then says so."""
    if "url_read" in st.session_state:
        return
    st.session_state.url_read = True
    notices = []
    for name, check in _CHECKS.items():
        if name in st.query_params:
            given = st.query_params[name]
            try:
                meant = check(given)
            except ValueError as error:
                notices.append(str(error))
                # Drop it before a widget sees it, so that the widget starts from its default.
                del st.query_params[name]
            else:
                if isinstance(meant, str) and meant != given:
                    # An alias or another spelling, which the bound widget would not know.
                    st.query_params[name] = meant
                    st.session_state[name] = meant
    st.session_state.url_notices = notices


def is_of_networks() -> bool:
    """Whether the address that a session begins with asks for a network, a stage or anything else to count."""
    return "url_read" not in st.session_state and not {*_CHECKS, *SIZES, "stage"}.isdisjoint(st.query_params)


def notice(text: str) -> None:
    """Say at the top of the page what of the address could not be used."""
    st.session_state.url_notices.append(text)


def show_url_notices() -> None:
    """Say, until the reader has seen it, what of the URL could not be used."""
    if notices := st.session_state.url_notices:
        lines = "\n".join(f"* {literal(notice)}" for notice in notices)
        st.warning(f"Part of this page's address could not be used; defaults are shown instead.\n{lines}")
        st.button("Dismiss", on_click=notices.clear)


def network_controls() -> None:
    """The shared choice of network and sizes, in the sidebar.  Leaves the network in the session's state."""
    name = st.selectbox(
        "Network",
        list(NETWORKS),
        key="network",
        bind="query-params",
        help="Architecture and Why tools disagree show this network; Compare has a choice of its own.",
    )
    base = NETWORKS[name]
    st.caption(base.title)
    # Open where a link sets a size; after that it is the reader's to open and close.
    opened = st.session_state.setdefault("sizes_open", any(st.query_params.get(key) for key in SIZES))
    with st.expander("Sizes", expanded=opened):
        _, height, width = base.input_shape
        size = f"{height}" if height == width else f"{height}x{width}"
        _size_field("Input (pixels)", "input", size, "Side of the square input, or height x width")
        _size_field("Classes", "classes", f"{base.classes}", "Number of classes")
        _size_field("Hidden width", "hidden", f"{base.hidden}", "Neurons of each hidden fully connected layer")
        st.button("Reset sizes", on_click=_reset_sizes, disabled=not any(st.session_state.get(key) for key in SIZES))
    glossary(_WORDS)
    try:
        st.session_state.chosen_network, st.session_state.size_error = _adapted(base), None
    except (IllegalNetworkError, UnreadableValueError) as error:
        st.session_state.chosen_network, st.session_state.size_error = base, str(error)


def keep_network_controls() -> None:
    """On a page without them: keep what they say, which Streamlit otherwise forgets with the widgets."""
    for key in ("network", *SIZES):
        if key in st.session_state:
            st.session_state[key] = st.session_state[key]


_WORDS = {
    "MAC": "multiply–accumulate: one multiplication with a weight and the addition that goes with it.",
    "FLOP": "one elementary operation: two per MAC, and also bias adds and what ReLU, tanh, LRN, pooling and softmax "
    "do. torch's FLOPs are the two per MAC alone.",
    "Stage": "one layer in its place in the network.",
    "Map": "one channel of a stage's output; sizes in tables are maps × height × width.",
    "Tower": "the half of the network that one GPU held in 2012.",
    "LRN": "local response normalisation: a value divided by what its neighbouring maps do at the same place.",
    "Sees": "the receptive field: the square of the image that one value depends on.",
    "Witness": "a tool that counts the same network on its own; its figures are held against ours.",
    "Kept": "what the forward pass must keep in memory until the backward pass has used it.",
}


def glossary(words: Mapping[str, str]) -> None:
    """What the terms on a page mean, in the sidebar."""
    with st.expander("Words"):
        st.markdown("\n".join(f"* **{word}**: {meaning}" for word, meaning in words.items()))


def _size_field(label: str, key: str, default: str, explanation: str) -> None:
    st.text_input(label, key=key, placeholder=default, bind="query-params", help=f"{explanation}; empty for {default}.")


def _reset_sizes() -> None:
    for key in SIZES:
        st.session_state[key] = ""


def _adapted(base: Network) -> Network:
    size, classes, hidden = (str(st.session_state.get(key) or "").strip() for key in SIZES)
    return base.adapted(
        input_shape=parsed_input(size, base.input_shape[0]) if size else None,
        classes=_whole_number(classes, "the number of classes", MAX_CLASSES) if classes else None,
        hidden=_whole_number(hidden, "the width of the hidden layers", MAX_HIDDEN) if hidden else None,
    )


def chosen_network() -> Network:
    """The network of the sidebar.  A size it cannot take is reported here and its own size shown instead."""
    network: Network = st.session_state.chosen_network
    if error := st.session_state.size_error:
        st.error(f"**These sizes do not work:** {literal(error)}", icon=":material/error:")
        st.caption(f"Meanwhile {network.name} is shown with its own sizes, input {times(network.input_shape)}.")
        st.button("Use the network's own sizes", on_click=_reset_sizes, type="primary")
    return network
