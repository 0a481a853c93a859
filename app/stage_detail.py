"""One stage in full: what it is for, and every figure with the arithmetic behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Dropout, Linear, MaxPool, SameMapNorm, times
from analysis import formulas
from analysis.formats import Column, Table, percent
from analysis.receptive import IMAGE
from app import exports
from app.explanations import purpose, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from analysis.costs import Cost, CostTable
    from analysis.receptive import ReceptiveField


def show_stage(table: CostTable, fields: Sequence[ReceptiveField], index: int) -> None:
    """The detail of one stage, as a heading, a paragraph and a table of formulas."""
    cost = table.rows[index]
    stage = cost.stage
    st.subheader(f"{stage.name} · {stage.layer.kind}")
    st.markdown(purpose(stage, table.network))
    facts = tuple(_facts(table, cost, fields, index))
    lines = [f"| **{what}** | {value} |" for what, value in facts]
    st.markdown("\n".join(["| quantity | with the numbers put in |", "|:--|:--|", *lines]))
    columns = (Column("quantity", "quantity"), Column("arithmetic", "with the numbers put in"))
    name = f"{table.network.name}-{stage.name}"
    exports.save_table(Table(f"{table.network.name}, {stage.name}", columns, facts), name, "save_detail")


def _facts(table: CostTable, cost: Cost, fields: Sequence[ReceptiveField], index: int) -> Iterator[tuple[str, str]]:
    stage = cost.stage
    yield "Shape", f"{times(stage.in_shape)} → {times(stage.out_shape)}"
    yield "Layer", settings(stage)
    for line in formulas.output_size(stage):
        yield "Size", f"(input − window + 2·padding)/stride + 1: {line}"
    if flat := formulas.flattened(stage):
        yield "Values", flat
    if stage.towers > 1 and len(stage.out_shape) == 3:
        yield "Per tower", f"{stage.out_shape[0] // stage.towers} of {stage.out_shape[0]} maps"
    for what, formula, column in (
        ("Parameters", formulas.params(cost), "params"),
        ("MACs", formulas.macs(cost), "macs"),
        ("MACs, backward", formulas.backward_macs(cost), "backward_macs"),
        ("FLOPs", formulas.flops(cost), "flops"),
        ("Neurons", formulas.neurons(cost) or (f"{cost.neurons:,}" if cost.neurons else None), "neurons"),
    ):
        if formula:
            meaning = " (squares summed in every window, then 4 operations a value)" * (
                column == "flops" and isinstance(cost.layer, LRN | SameMapNorm)
            )
            yield what, f"{formula}{meaning}{_share(table, cost, column)}"
    kinds = {kind: count for kind, count in cost.operations._asdict().items() if count}
    if kinds:
        yield "Operations", ", ".join(f"{kind} {count:,}" for kind, count in kinds.items())
    yield "Output bytes", formulas.activation_bytes(cost)
    if weights := formulas.param_bytes(cost):
        yield "Weight bytes", weights
    if kept := formulas.kept_bytes(cost):
        yield "Kept for backward", f"{_kept(cost)}: {kept} bytes"
    if crossing := formulas.crossing_bytes(cost, table.network.towers):
        yield "Between GPUs", f"{crossing} bytes, and as many back"
    yield "One value sees", _seen(fields, index, table)


def _kept(cost: Cost) -> str:
    """What backward needs of this stage, in words; an input that an earlier stage keeps is not counted again."""
    match cost.layer:
        case Conv() | Linear() | AdaptiveAvgPool():
            return "input"
        case MaxPool():
            return "input, where not kept before, and the place of each maximum (8 bytes)"
        case LRN() | SameMapNorm():
            return "input, where not kept before, and denominator"
        case Dropout():
            return "which values were dropped"
        case _:
            return "output"


def _share(table: CostTable, cost: Cost, column: str) -> str:
    whole = table.total(column)
    return f" ({percent(getattr(cost, column) / whole)} of all)" if whole else ""


def _seen(fields: Sequence[ReceptiveField], index: int, table: CostTable) -> str:
    after = fields[index]
    if after.whole:
        return "everything"
    before = fields[index - 1] if index else IMAGE
    formula = formulas.receptive_field(table.rows[index].stage, before, after)
    shown = formula or f"{after.size}"
    where = f"at pixel {after.offset}" if after.offset >= 0 else f"{-after.offset} pixels outside"
    return f"{shown} pixels square; those of neighbouring values lie {after.stride} apart, the first {where}"
