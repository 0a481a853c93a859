"""The custom elements of the pages: the clickable drawing, pictures of clickable cells, the buttons that save a figure.

They live in the page itself (no frame), so the drawing follows the theme and the buttons can reach the figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st
from plotly.offline import get_plotlyjs

from analysis.formats import number_text
from app import theme
from app.figures.film import film_block, film_groups
from app.figures.sheets import WIDTH, sheet_svg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from analysis.film import Reel, Screen
    from analysis.sheets import Sheet, Tiles
    from app.theme import Palette

    Values = NDArray[Any]

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

_cells = st.components.v2.component(
    "laboratory_cells",
    html='<div class="drawing"></div><div class="reading">&nbsp;</div>',
    css=_source("drawing.css"),
    js=_source("cells.js"),
    isolate_styles=False,
)

_film = st.components.v2.component(
    "laboratory_film",
    html=_source("film.html"),
    css=_source("film.css"),
    js=_source("film.js"),
    isolate_styles=False,
)

_film_block = st.components.v2.component(
    "laboratory_film_block",
    html='<div class="film-block"></div>',
    js=_source("film_block.js"),
    isolate_styles=False,
)

_plotly = st.components.v2.component(
    "laboratory_plotly",
    html="<div></div>",
    js=f"{get_plotlyjs()}\nexport default function () {{}}\n",
    isolate_styles=False,
)

_live_chart = st.components.v2.component(
    "laboratory_live_chart",
    html='<div class="live-chart" role="img"></div>',
    js=_source("live_chart.js"),
    isolate_styles=False,
)

_history = st.components.v2.component(
    "laboratory_history", html="<span></span>", js=_source("history.js"), isolate_styles=False
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


def back_leaves_the_page() -> None:
    """Makes the browser's Back leave a page at once, whatever was chosen on it; stands on every page, unseen."""
    with st.container(key="page_history"):
        _history(key="history")


def clickable_drawing(
    svg: str, items: Sequence[str], selected: str | None, *, key: str, on_pick: Callable[[], None], least: int = 860
) -> str | None:
    """Show an SVG whose elements with ``data-item`` are buttons; returns the item picked just now, or None.

    Arrow keys move between items (also up and down where they say their ``data-row`` and ``data-column``), Enter and
    Space pick.  Narrower than `least` pixels it scrolls.  `svg` must be our own: it goes into the page as it is.
    """
    result: Any = _drawing(
        key=key,
        data={"svg": svg, "items": list(items), "selected": selected, "least": least},
        on_picked_change=on_pick,
    )
    picked = result.picked
    return str(picked) if picked else None


def clickable_sheet(
    tiles: Tiles,
    sheet: Sheet,
    labels: Sequence[str],
    *,
    title: str,
    key: str,
    selected: int | None = None,
    on_pick: Callable[[], None] = lambda: None,
    least: int = 520,
    width: int = WIDTH,
) -> None:
    """A sheet of kernels, maps or patches: its tiles are the items of a `clickable_drawing`.

    `width` is the drawing's in its own units, as in `sheet_svg`.
    """
    clickable_drawing(
        sheet_svg(tiles, sheet, labels, title=title, width=width),
        [str(place.item) for place in sheet.places()],
        None if selected is None else str(selected),
        key=key,
        on_pick=on_pick,
        least=least,
    )


def drawing(svg: str, *, key: str, least: int = 320) -> None:
    """Show an SVG of our own in which nothing can be picked; `st.html` would take embedded pictures out."""
    clickable_drawing(svg, (), None, key=key, on_pick=lambda: None, least=least)


def clickable_cells(
    svg: str,
    selected: tuple[int, int],
    values: Mapping[str, Values],
    *,
    key: str,
    on_pick: Callable[[], None],
    least: int = 320,
) -> tuple[int, int] | None:
    """Show an SVG with pictures of which each cell can be picked; returns the (row, column) picked just now, or None.

    Each picture lies under a focusable rectangle with ``data-area``, ``data-rows`` and ``data-columns``; a rectangle
    with ``data-mark`` of the same name follows the cell.  Arrow keys move it.  `values` are (rows, columns) numbers of
    each area, read out under the pointer.  `svg` must be our own.
    """
    result: Any = _cells(
        key=key,
        data={"svg": svg, "selected": list(selected), "least": least, "values": _readings(values)},
        on_picked_change=on_pick,
    )
    return picked_cell(result.picked)


def _readings(values: Mapping[str, Values]) -> dict[str, list[list[str]]]:
    return {name: [[number_text(float(value)) for value in row] for row in rows] for name, rows in values.items()}


def picked_cell(picked: Any) -> tuple[int, int] | None:
    """What the cells' component reports as (row, column)."""
    if not picked:
        return None
    row, _, column = str(picked).partition(",")
    return int(row), int(column)


def film(
    reels: Sequence[Reel],
    screen: Screen,
    labels: Mapping[int, str],
    *,
    key: str,
    version: str = "",
    selected: int | None = None,
    on_pick: Callable[[], None] | None = None,
    from_start: bool = False,
) -> int | None:
    """A film of kernels with a slider and a play button; returns the kernel picked just now, or None.

    `labels` says of every step what stands beside the slider.  `version` names what else decides the pictures, such as
    their scaling: while it stays, so do the pictures that the browser has.  Where nothing changed the reader's place,
    size and speed stay as they are, and from the newest moment on the film follows.  Each reel is an element of its
    own, which Streamlit sends again only when it has changed: keep them in `analysis.film.blocks`.  It first stands at
    the newest moment or, `from_start`, at the first.
    """
    name = f"{key} {version}"
    with st.container(key=f"film_blocks_{key}", gap=None):
        for number, reel in enumerate(reels):
            _film_block(key=f"{key}_block_{number}", data=film_block(name, reel))
    steps = [step for reel in reels for step in reel.steps]
    result: Any = _film(
        key=key,
        data={
            "film": name,
            "steps": steps,
            "labels": [labels[step] for step in steps],
            "groups": film_groups(screen),
            "tile": list(screen.sheet.tile),
            "selected": selected,
            "pickable": on_pick is not None,
            "from_start": from_start,
        },
        on_picked_change=on_pick or (lambda: None),
    )
    return int(result.picked) if result.picked else None


def palette() -> Palette:
    """The colours of the theme that the reader has."""
    return theme.palette(st.context.theme.type)


def chart(figure: go.Figure, *, key: str, alt: str) -> None:
    """A chart of Plotly's without its own row of tools; `alt` is what a screen reader is told."""
    st.plotly_chart(figure, key=key, config={"displayModeBar": False}, alt=alt)


def prepare_live_charts() -> None:
    """Puts Plotly on the page, once, for `live_chart`: outside of what is drawn again and again."""
    with st.container(key="plotly", height="content", gap=None):
        _plotly(key="plotly_itself")


def live_chart(figure: go.Figure, *, key: str, alt: str) -> None:
    """A chart that, drawn again under the same key, changes in place: no flicker, and a reader stays zoomed in.

    `st.plotly_chart` makes the figure a part of the element's identity, whatever its key, and puts a new element in the
    old one's place.  Needs `prepare_live_charts`.  What is zoomed stays where the figure's `uirevision` does.
    """
    _live_chart(key=key, data={"figure": figure.to_json(), "alt": alt})


def saved_chart(
    figure: go.Figure, *, target: str, key: str, alt: str, title: str, name: str, caption: str = ""
) -> None:
    """A `live_chart` in a container of its own with key `target`, what to see in it, and the buttons that save it."""
    with st.container(key=target):
        live_chart(figure, key=key, alt=alt)
    if caption:
        st.caption(caption)
    save_figure(target, title, name)


def save_figure(target: str, title: str, name: str) -> None:
    """Buttons that save the figure inside the element with key `target` as PNG (three times its size) and SVG."""
    _export(key=f"save_{target}", data={"target": target, "title": title, "name": name})
