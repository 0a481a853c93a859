"""The settings of the LRN laboratory: sliders and presets, which stand in the page's address."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import streamlit as st

from alexnet.spec import LRN
from analysis.lrn import SETTINGS, alpha_text, settings_text
from app import choices
from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.lrn import Place

SUMS = {"summed": False, "divided by n": True}
REACHES = ("per tower", "across all")
ALPHAS = (0.0, *(float(f"{digit}e{power}") for power in range(-6, 1) for digit in (1, 2, 5)), 10.0)
LARGEST_K = 10.0
LARGEST_BETA = 2.0
NAMES = ("lrn_n", "lrn_k", "lrn_alpha", "lrn_beta", "lrn_sum", "lrn_reach")


def split(place: Place) -> int:
    """Groups of ‘per tower’: the network's own, or two halves where it has one tower; 1 where that cannot be."""
    groups = max(place.layer.groups, place.towers, 2)
    return groups if place.shape[0] % groups == 0 else 1


def fitted(layer: LRN, place: Place) -> LRN:
    """The settings as they can be had here: as many groups as the place can be split into."""
    return replace(layer, groups=split(place) if layer.groups > 1 else 1)


def controls(identity: str, place: Place) -> LRN:
    """Presets and sliders; where `identity`, the weights and the stage, is new they start at the network's own."""
    options = _options(place)
    if st.session_state.get("kept_lrn_for") != identity:
        start = fitted(place.layer, place)
        if "kept_lrn_for" not in st.session_state:
            start, st.session_state.lrn_notices = _from_address(start, options)
        _set(start)
        st.session_state.kept_lrn_for = identity
    _show_notices()
    _presets(place)
    channels = place.shape[0]
    sides = st.columns(4, gap="medium")
    with sides[0]:
        n = _slider(
            "n", options["lrn_n"], "lrn_n", help="Channels in a window: itself and as many on either side",
            format_func=lambda n: "all" if n >= 2 * channels - 1 else str(n),
        )  # fmt: skip
    with sides[1]:
        k = _slider(
            "k", options["lrn_k"], "lrn_k", help="What is added to the squares: where all is silent, k^β divides"
        )
    with sides[2]:
        alpha = _slider(
            "α", options["lrn_alpha"], "lrn_alpha", format_func=alpha_text, help="How much each square weighs"
        )
    with sides[3]:
        beta = _slider("β", options["lrn_beta"], "lrn_beta", help="The power of the whole: ½ is a square root")
    with st.container(horizontal=True, gap="medium"):
        how = _choice("Squares are", tuple(SUMS), "lrn_sum", "The paper sums; Caffe, cuDNN and torch divide α by n")
        reaches = REACHES if split(place) > 1 else REACHES[1:]
        reach = _choice("Windows run", reaches, "lrn_reach", "In 2012 each GPU normalised its own maps")
    groups = split(place) if reach == REACHES[0] else 1
    return LRN(int(n), float(alpha), float(beta), float(k), SUMS[how], groups)


def _options(place: Place) -> dict[str, list[Any]]:
    """What each slider offers; the network's own value is always among it."""
    own, everything = place.layer, 2 * place.shape[0] - 1
    small = [n for n in range(1, 16, 2) if n < everything]
    return {
        "lrn_n": sorted({*small, everything, min(own.size, everything)}),
        "lrn_k": sorted({*(round(0.1 * step, 1) for step in range(round(10 * LARGEST_K) + 1)), own.k}),
        "lrn_alpha": sorted({*ALPHAS, own.alpha}),
        "lrn_beta": sorted({*(round(0.05 * step, 2) for step in range(round(20 * LARGEST_BETA) + 1)), own.beta}),
        "lrn_sum": list(SUMS),
        "lrn_reach": list(REACHES if split(place) > 1 else REACHES[1:]),
    }


def _values(layer: LRN) -> tuple[Any, ...]:
    how = next(text for text, average in SUMS.items() if average == layer.average)
    return layer.size, layer.k, layer.alpha, layer.beta, how, REACHES[layer.groups == 1]


def _set(layer: LRN) -> None:
    for name, value in zip(NAMES, _values(layer), strict=True):
        st.session_state[f"kept_{name}"] = st.session_state[f"pick_{name}"] = value


def _slider(label: str, options: Sequence[Any], name: str, **how: Any) -> Any:
    _prepare(options, name)
    return _keep(st.select_slider(label, options, key=f"pick_{name}", **how), name)


def _choice(label: str, options: Sequence[str], name: str, explanation: str) -> str:
    _prepare(options, name)
    found = st.segmented_control(label, options, key=f"pick_{name}", required=True, help=explanation)
    return str(_keep(found, name))


def _prepare(options: Sequence[Any], name: str) -> None:
    """Start the widget where it was left, also after a visit to a page that does not show it."""
    wanted = st.session_state.get(f"pick_{name}", st.session_state.get(f"kept_{name}"))
    if isinstance(wanted, float | int) and wanted not in options:
        wanted = min(options, key=lambda option: abs(option - wanted))
    st.session_state[f"pick_{name}"] = wanted if wanted in options else options[0]


def _keep(value: Any, name: str) -> Any:
    st.session_state[f"kept_{name}"] = value
    st.query_params[name] = str(value)
    return value


def _presets(place: Place) -> None:
    own = fitted(place.layer, place)
    with st.container(horizontal=True):
        if not place.imagined:
            _preset("Its own", own, "what this network was made with")
        for label, (layer, explanation) in SETTINGS.items():
            _preset(label, fitted(layer, place), explanation)


def _preset(label: str, layer: LRN, explanation: str) -> None:
    st.button(
        label, on_click=_set, args=(layer,), key=f"lrn_preset_{label}", help=f"{settings_text(layer)}: {explanation}"
    )


# --- the address ------------------------------------------------------------------------------------------------------


def _from_address(layer: LRN, options: dict[str, list[Any]]) -> tuple[LRN, list[str]]:
    """The settings that the address names, and sentences on what of it cannot be had."""
    values, notices = dict(zip(NAMES, _values(layer), strict=True)), []
    for name in NAMES:
        if name not in st.query_params:
            continue
        given = st.query_params[name]
        found = _read(given, options[name])
        if found is None:
            notices.append(f"{name}={given[:40]}: {_rule(name, options[name])}")
        else:
            values[name] = found
    groups = layer.groups if layer.groups > 1 else 2
    return (
        LRN(
            values["lrn_n"],
            values["lrn_alpha"],
            values["lrn_beta"],
            values["lrn_k"],
            SUMS[values["lrn_sum"]],
            groups if values["lrn_reach"] == REACHES[0] else 1,
        ),
        notices,
    )


def _read(text: str, options: Sequence[Any]) -> Any:
    """The option that a text means; None where there is none."""
    if isinstance(options[0], str):
        return text if text in options else None
    try:
        number = float(text)
    except ValueError:
        return None
    return next((option for option in options if isfinite(number) and abs(option - number) <= 1e-9 * option), None)


def _rule(name: str, options: Sequence[Any]) -> str:
    what = name.removeprefix("lrn_")
    if isinstance(options[0], str):
        return f"{what} is {' or '.join(options)}"
    extra = {
        "lrn_n": "an odd number on the slider",
        "lrn_alpha": "0 or 1, 2 or 5 times a power of ten",
        "lrn_k": "a number in steps of 0.1",
        "lrn_beta": "a number in steps of 0.05",
    }[name]
    return f"{what} is {extra}, from {options[0]:g} to {options[-1]:g}"


def _show_notices() -> None:
    notices: list[str] = st.session_state.get("lrn_notices") or []
    if notices:
        lines = "\n".join(f"* {literal(notice)}" for notice in notices)
        st.warning(f"Part of this page's address could not be used; the network's own settings stand in.\n{lines}")
        st.button("Dismiss", key="lrn_dismiss", on_click=notices.clear)


def number(label: str, name: str, count: int, default: int) -> int:
    """A box for a number from 0 below `count` that stands in the address and that clicks elsewhere change, too."""
    key = f"box_{name}"
    st.session_state[key] = choices.place(name, count, default)
    found = st.number_input(
        label, 0, count - 1, key=key, width=150, on_change=lambda: choices.choose(name, st.session_state[key])
    )
    return int(found)
