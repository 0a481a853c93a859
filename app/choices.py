"""Choices that last: over a visit to another page, and in the page's address where they belong there.

Streamlit forgets a widget's value with the widget.  What is to stay is kept beside it, under the same name with
``kept_`` before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app.state import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def kept(widget: Callable[..., Any], label: str, *options: Any, key: str, default: Any, **how: Any) -> Any:
    """What a widget says, which starts where it was left, also after a visit to a page that does not show it."""
    if st.session_state.get(key) is None:
        # Also where a busy browser first drew the widget without the start it was given, and says that nothing is
        # chosen: a page that looks again every two seconds may have sent it a second time by then.
        st.session_state[key] = st.session_state.get(f"kept_{key}", default)
    value = widget(label, *options, key=key, **how)
    if value is None:  # the state of a widget of this name on the page before, which this one does not take over
        return st.session_state.get(f"kept_{key}", default)
    st.session_state[f"kept_{key}"] = value
    return value


def pick(label: str, options: Sequence[str], name: str, *, default: str | None = None, **how: Any) -> str:
    """One of some options, which stands in the page's address under `name` and stays over a visit elsewhere.

    Unlike a widget bound to the address, its options may change with the weights: what is no option then falls back to
    `default`, or to the first.  ``widget`` is the Streamlit function, a selectbox if not given.
    """
    widget = how.pop("widget", st.selectbox)
    key = f"pick_{name}"
    asked = st.query_params.get(name)
    if asked is not None and asked not in options and f"kept_{key}" not in st.session_state:
        st.warning(literal(f"There is no {label.lower()} {asked[:60]!r} here: {default or options[0]} is shown."))
    wanted = (st.session_state.get(key), st.session_state.get(f"kept_{key}"), st.query_params.get(name), default)
    st.session_state[key] = next((option for option in wanted if option in options), options[0])
    found: str = widget(label, options, key=key, **how) or st.session_state[key] or options[0]
    st.session_state[f"kept_{key}"] = found
    st.query_params[name] = found
    return found


def place(name: str, count: int, default: int = 0) -> int:
    """A number from 0 below `count` that the address says and clicks change (`choose`), like a kernel's.

    Until one is chosen it is the default, which may change with what is shown, and the address says nothing of it.
    """
    asked = st.session_state.get(f"kept_{name}", st.query_params.get(name))
    number = below(count, str(asked))
    if number is None:
        if name in st.query_params and f"kept_{name}" not in st.session_state:
            told = st.query_params[name][:60]
            st.warning(literal(f"{name} is a number from 0 to {count - 1:,} here; got {told!r}."))
        st.query_params.pop(name, None)
        return default
    st.query_params[name] = str(number)
    choose(name, number)  # what an address said stays over a visit elsewhere, too
    return number


def below(limit: int, text: str) -> int | None:
    """The number from 0 below `limit` that a text says, if it says one; nothing on a page has ten digits."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else limit
    return number if number < limit else None


def choose(name: str, number: int) -> None:
    """Make this number the one that `place` gives."""
    st.session_state[f"kept_{name}"] = number


def go_to(name: str, option: str) -> None:
    """Make this option the one that `pick` gives at the next run, whatever its widget says now."""
    st.session_state[f"kept_pick_{name}"] = option
    st.session_state.pop(f"pick_{name}", None)
    st.query_params[name] = option
