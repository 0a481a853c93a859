"""The two custom elements of the pages: the clickable drawing, and the buttons that save a figure.

Both live in the page itself (no frame), so the drawing follows the theme and the buttons can reach the figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_FRONTEND = Path(__file__).parent / "frontend"


def _source(name: str) -> str:
    return (_FRONTEND / name).read_text(encoding="utf-8")


_drawing = st.components.v2.component(
    "laboratory_drawing",
    html='<div class="drawing"></div>',
    css=_source("drawing.css"),
    js=_source("drawing.js"),
    isolate_styles=False,
)

_export = st.components.v2.component(
    "laboratory_export",
    html=(
        '<div class="row"><span class="quiet">Save figure</span><button data-format="png">PNG</button>'
        '<button data-format="svg">SVG</button><span class="said" role="status"></span></div>'
    ),
    css=_source("export.css"),
    js=_source("export.js"),
)


def clickable_drawing(
    svg: str, stages: Sequence[str], selected: str | None, *, key: str, on_pick: Callable[[], None]
) -> str | None:
    """Show an SVG whose elements with ``data-stage`` are buttons; returns the stage picked just now, or None.

    Arrow keys move between stages, Enter and Space pick.  `svg` must be our own: it goes into the page as it is.
    """
    result: Any = _drawing(
        key=key,
        data={"svg": svg, "stages": list(stages), "selected": selected},
        on_picked_change=on_pick,
    )
    picked = result.picked
    return str(picked) if picked else None


def save_figure(target: str, title: str, name: str) -> None:
    """Buttons that save the figure inside the element with key `target` as PNG (three times its size) and SVG."""
    _export(key=f"save_{target}", data={"target": target, "title": title, "name": name})
