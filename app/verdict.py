"""What the independent witnesses say of the network on the page: agreement, or every mismatch in red."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import queries

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
            st.dataframe(
                {
                    "witness": [entry["witness"] for entry in witnesses],
                    "quantity": [entry["quantity"] for entry in witnesses],
                    "agree": [f"{entry['agree']} of {entry['compared']}" for entry in witnesses],
                    "its total": [_total(entry) for entry in witnesses],
                },
                hide_index=True,
                column_config={"its total": st.column_config.TextColumn(alignment="right")},
                alt="What each witness counted",
            )
            for entry in skipped:
                st.caption(f"{entry['witness']} was not asked: {entry['reason']}.")


@st.fragment(run_every=1)
def _wait(network: Network) -> None:
    """Poll while the witnesses count; the whole page runs again once they are done, and polling ends."""
    _show(network)
    if queries.verification(network).done:
        st.rerun()


def _total(entry: dict[str, object]) -> str:
    """A witness's figure for the whole network; shapes have none."""
    return f"{entry['theirs']:,}" if "theirs" in entry else ""
