"""Taking a table away: one menu with every format beside each table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from analysis import tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from analysis.tables import Format, Table

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
        for fmt, label in _LABELS.items():
            write = json if json and fmt == "json" else partial(tables.write, table, fmt)
            st.download_button(
                label,
                data=write,
                file_name=f"{name}.{tables.SUFFIXES[fmt]}",
                mime=_MIME[fmt],
                key=f"{key}_{fmt}",
                on_click="ignore",
                width="stretch",
            )
