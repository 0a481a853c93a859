"""What the independent witnesses say of the network on the page: agreement, or every mismatch in red."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from analysis.formats import Column, Table, json_text
from app import exports, queries

if TYPE_CHECKING:
    from alexnet.spec import Network


def show_verdict(network: Network) -> None:
    """The witnesses' verdict, or that they are still counting."""
    if queries.verification(network).done:
        _show(network)
    else:
        _wait(network)


def _show(network: Network) -> None:
    asked = queries.verification(network)
    if asked.trouble:
        st.warning(asked.trouble[0].upper() + asked.trouble[1:])
        st.button("Ask again", on_click=queries.ask_again, args=(network,))
    elif asked.verdict is None:
        st.info(
            "The witnesses are counting this network: torch, fvcore and torchinfo …", icon=":material/hourglass_top:"
        )
    else:
        _verdict_figures(asked.verdict)


def _verdict_figures(verdict: dict[str, object]) -> None:
    witnesses, mismatches, skipped = verdict["witnesses"], verdict["mismatches"], verdict["skipped"]
    assert isinstance(witnesses, list)
    assert isinstance(mismatches, list)
    assert isinstance(skipped, list)
    compared = sum(entry["compared"] for entry in witnesses)
    if mismatches:
        lines = "\n".join(
            f"* **{m['stage']}**: {m['witness']} counts {m['theirs']} {m['quantity']}, we count {m['ours']}"
            for m in mismatches
        )
        st.error(f"**{len(mismatches)} of {compared} figures disagree.**\n{lines}", icon=":material/error:")
        return
    names = ", ".join(dict.fromkeys(entry["witness"] for entry in witnesses))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.success(
            f"**All {compared} figures agree** with independent witnesses, at every stage and in total: {names}.",
            icon=":material/verified:",
            width="stretch",
        )
        with st.popover("What they said"):
            st.markdown(
                "Each witness counts a torch module built from the same description, in its own way of counting; "
                "its figures are held against ours converted to that way."
            )
            said = _said(verdict["network"], witnesses)
            exports.show_frame(said, "said")
            for entry in skipped:
                st.caption(f"{entry['witness']} was not asked: {entry['reason']}.")
            with st.container(horizontal=True):
                name = f"{verdict['network']}-witnesses"
                exports.download_buttons(said, name, "save_said", json=lambda: json_text(verdict))


def _said(network: object, witnesses: list[dict[str, Any]]) -> Table:
    """Each witness's figures in a row; shapes have no total."""
    columns = (
        Column("witness", "witness"),
        Column("quantity", "quantity"),
        Column("compared", "figures"),
        Column("agree", "agree"),
        Column("total", "its total"),
    )
    keys = ("witness", "quantity", "compared", "agree", "theirs")
    rows = tuple(tuple(entry.get(key) for key in keys) for entry in witnesses)
    return Table(f"{network}: what each witness counted", columns, rows)


@st.fragment(run_every=1)
def _wait(network: Network) -> None:
    """Poll while the witnesses count; the whole page runs again once they are done, and polling ends."""
    _show(network)
    if queries.verification(network).done:
        st.rerun()
