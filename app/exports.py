"""Tables on a page, and taking them away: a menu with every format beside each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from analysis import formats

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from analysis.formats import Format, Table, Value

_LABELS: dict[Format, str] = {"csv": "CSV", "json": "JSON", "markdown": "Markdown", "latex": "LaTeX (booktabs)"}
_MIME: dict[Format, str] = {
    "csv": "text/csv",
    "json": "application/json",
    "markdown": "text/markdown",
    "latex": "application/x-tex",
}


def save_table(table: Table, name: str, key: str, *, json: Callable[[], str] | None = None) -> None:
    """A menu of downloads of this table; `json` replaces its plain JSON where the command line has a richer one."""
    with st.popover("Save table", icon=":material/download:"):
        download_buttons(table, name, key, json=json)


def download_buttons(table: Table, name: str, key: str, *, json: Callable[[], str] | None = None) -> None:
    """A button for every format, written when it is pressed."""
    for fmt, label in _LABELS.items():
        st.download_button(
            label,
            data=json if json and fmt == "json" else partial(formats.write, table, fmt),
            file_name=f"{name}.{formats.SUFFIXES[fmt]}",
            mime=_MIME[fmt],
            key=f"{key}_{fmt}",
            on_click="ignore",
            width="stretch",
        )


def save_npy(values: Callable[[], NDArray[Any]], name: str, key: str, about: str) -> None:
    """A button that downloads an array as a ``.npy`` file; `about` says what it holds."""

    def data() -> bytes:
        from analysis.activations import npy_bytes  # noqa: PLC0415 - torch, which other pages do not need

        return npy_bytes(values())

    st.download_button(
        ".npy", data=data, file_name=f"{name}.npy", mime="application/octet-stream", on_click="ignore", key=key,
        help=about,
    )  # fmt: skip


def show_table(
    table: Table,
    key: str,
    name: str,
    *,
    widths: dict[str, int] | None = None,
    most: int | None = None,
    digits: int | None = None,
) -> None:
    """A table as `show_frame` shows it, with its menu of downloads below; `name` is the files' name."""
    show_frame(table, key, widths=widths, most=most, digits=digits)
    save_table(table, name, f"save_{key}")


def show_frame(
    table: Table,
    key: str,
    *,
    widths: dict[str, int] | None = None,
    most: int | None = None,
    digits: int | None = None,
) -> None:
    """A table as people read it, totals last, numbers to the right; more than `most` rows are scrolled.

    The data frame's own formats have two or three decimals, whatever the number's size.  With `digits` each number that
    is not whole has so many, so that a share of 0.0004 is 0.04 %, not 0.
    """
    rows = [*table.rows, *([table.totals] if table.totals else [])]
    records: dict[str, list[Value]] = {}
    config = {}
    for index, column in enumerate(table.columns):
        values = [row[index] for row in rows]
        width = (widths or {}).get(column.key)
        if any(isinstance(value, str) for value in values):
            # A column of a data frame has one type: where numbers stand among words, show them as they are printed.
            values = [f"{value:,}" if isinstance(value, int) else value for value in values]
            words_only = all(isinstance(row[index], str | None) for row in rows)
            config[column.key] = st.column_config.TextColumn(
                column.heading,
                alignment="left" if words_only else "right",
                pinned=index == 0,
                width=width,
            )
        else:
            shown: Any = "percent" if column.percent else "localized"
            if digits is not None and any(isinstance(value, float) for value in values):
                shown = f"%.{digits}g %%" if column.percent else f"%.{digits}g"
                values = [100 * value if column.percent and value is not None else value for value in values]
            config[column.key] = st.column_config.NumberColumn(column.heading, format=shown, width=width)
        records[column.key] = values
    st.dataframe(
        records,
        key=key,
        hide_index=True,
        row_height=29,
        height=(min(len(rows), most or len(rows)) + 1) * 29 + 8,
        column_config=config,
        alt=table.title,
        placeholder="",
    )
