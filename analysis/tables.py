"""What the tables say: networks, stages, comparisons, conventions.  No torch; `formats` writes them down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from alexnet.memory import training_memory
from alexnet.spec import LRN, AdaptiveAvgPool, Conv, Linear, MaxPool, SameMapNorm, times
from alexnet.zoo import NETWORKS, kernel_stack
from analysis.conventions import OURS
from analysis.costs import cost_table
from analysis.formats import Column, Table
from analysis.receptive import receptive_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.spec import Layer, Network
    from analysis.conventions import Convention
    from analysis.costs import Cost, CostTable
    from analysis.formats import Value

TOTALS = (
    "params",
    "macs",
    "flops",
    "neurons",
    "backward_macs",
    "param_bytes",
    "activation_bytes",
    "kept_bytes",
    "crossing_bytes",
)
"""The columns of `Cost` that add up to something."""


def networks_table() -> Table:
    """Every named network with its totals."""
    columns = (
        Column("name", "network"),
        Column("title", "what"),
        Column("input", "input"),
        Column("params", "parameters"),
        Column("macs", "MACs"),
        Column("source", "source"),
    )
    rows = []
    for network in NETWORKS.values():
        table = cost_table(network)
        rows.append(
            (
                network.name,
                network.title,
                times(network.input_shape),
                table.total("params"),
                table.total("macs"),
                network.source,
            )
        )
    return Table("Networks", columns, tuple(rows))


def stage_table(table: CostTable, convention: Convention = OURS) -> Table:
    """Every stage of a network: shapes, parameters, work, memory, receptive field; counted as `convention` does."""
    columns = (
        Column("name", "stage"),
        Column("kind", "kind"),
        Column("output", "output"),
        Column("params", "parameters"),
        Column("params_share", "share", percent=True),
        Column("macs", "MACs" if convention is OURS else f"{convention.name}: {convention.unit}"),
        Column("macs_share", "share", percent=True),
        Column("flops", "FLOPs"),
        Column("activation_bytes", "activation bytes"),
        Column("receptive_field", "sees"),
    )
    params, macs = convention.total_params(table), convention.total_macs(table)
    rows = tuple(
        (
            cost.name,
            cost.layer.kind,
            times(cost.stage.out_shape),
            convention.params(cost),
            convention.params(cost) / params if params else 0.0,
            convention.macs(cost, table.batch),
            convention.macs(cost, table.batch) / macs if macs else 0.0,
            cost.flops,
            cost.activation_bytes,
            "everything" if field.whole else f"{field.size}×{field.size}",
        )
        for cost, field in zip(table.rows, receptive_fields(table.network), strict=True)
    )
    totals = (
        "total",
        None,
        None,
        params,
        1.0,
        macs,
        1.0,
        table.total("flops"),
        table.total("activation_bytes"),
        None,
    )
    images = "" if table.batch == 1 else f", batch of {table.batch:,}"
    counted = "" if convention is OURS else f", counted as {convention.tool} does"
    title = f"{table.network.name}, input {times(table.network.input_shape)}{images}{counted}"
    return Table(title, columns, rows, totals)


def cost_json(table: CostTable, convention: Convention = OURS) -> dict[str, Any]:
    """The `table` command's JSON: ``params`` and ``macs`` are the figures that the convention's tool would print."""
    totals: dict[str, Any] = {name: table.total(name) for name in TOTALS}
    totals |= {"params": convention.total_params(table), "macs": convention.total_macs(table)}
    totals["operations"] = table.operations()._asdict()
    stages = []
    for cost, field in zip(table.rows, receptive_fields(table.network), strict=True):
        stages.append(
            {
                "name": cost.name,
                "kind": cost.layer.kind,
                "input_shape": list(cost.stage.in_shape),
                "output_shape": list(cost.stage.out_shape),
                "params": convention.params(cost),
                "weights": cost.weights,
                "biases": cost.biases,
                "macs": convention.macs(cost, table.batch),
                "bias_adds": cost.bias_adds,
                "flops": cost.flops,
                "operations": cost.operations._asdict(),
                "backward_macs": cost.backward_macs,
                "weight_gradient_macs": cost.weight_gradient_macs,
                "input_gradient_macs": cost.input_gradient_macs,
                "neurons": cost.neurons,
                "param_bytes": cost.param_bytes,
                "activation_bytes": cost.activation_bytes,
                "kept_bytes": cost.kept_bytes,
                "crossing_bytes": cost.crossing_bytes,
                "receptive_field": None
                if field.whole
                else {"size": field.size, "stride": float(field.stride), "offset": field.offset},
            }
        )
    return {
        "network": table.network.name,
        "input": list(table.network.input_shape),
        "batch": table.batch,
        "convention": convention.name,
        "unit": convention.unit,
        "totals": totals,
        "stages": stages,
    }


_COMPARED = {
    "params": "parameters",
    "neurons": "neurons",
    "macs": "MACs forward",
    "backward_macs": "MACs backward",
    "flops": "FLOPs forward",
    "param_bytes": "bytes of weights",
    "activation_bytes": "bytes of activations",
    "crossing_bytes": "bytes between GPUs, forward",
}


def totals_comparison(tables: Sequence[CostTable]) -> Table:
    """Totals of several networks side by side."""
    names = distinct_names([table.network for table in tables])
    columns = (Column("quantity", "quantity"), *(Column(name, name) for name in names))
    rows: list[tuple[Value, ...]] = [("input", *(times(table.network.input_shape) for table in tables))]
    rows.append(("layers with weights", *(sum(1 for row in table.rows if row.weights) for table in tables)))
    for key, words in _COMPARED.items():
        rows.append((words, *(table.total(key) for table in tables)))
    memory = (training_memory(table.network, table.batch).total for table in tables)
    batch = tables[0].batch
    rows.append((f"bytes to train on {f'{batch:,} images' if batch > 1 else 'one image'}", *memory))
    return Table(f"Totals{f', batch of {batch:,}' if batch > 1 else ''}", columns, tuple(rows))


def stages_comparison(tables: Sequence[CostTable], column: Literal["params", "macs"]) -> Table:
    """One column of every network, stage by stage, and how much more than the first network each other one has."""
    names = distinct_names([table.network for table in tables])
    by_name = [{row.name: row for row in table.rows} for table in tables]
    rows: list[tuple[Value, ...]] = []
    for stage in merged_order([[row.name for row in table.rows] for table in tables]):
        values = [getattr(rows_of[stage], column) if stage in rows_of else None for rows_of in by_name]
        if any(values):
            rows.append((stage, *values, *_differences(values)))
    totals: list[Value] = [table.total(column) for table in tables]
    words = {"params": "Parameters", "macs": "MACs"}[column]
    differences = (
        [Column("difference", "difference")]
        if len(tables) == 2
        else [Column(f"difference_{name}", f"{name} − {names[0]}") for name in names[1:]]
    )
    columns = (Column("name", "stage"), *(Column(name, name) for name in names), *differences)
    return Table(f"{words} by stage", columns, tuple(rows), ("total", *totals, *_differences(totals)))


def layer_notation(layer: Layer) -> str:
    """A layer as VGG's table 1 writes it: ``conv3-64`` is a 3×3 convolution with 64 maps; stride and groups follow."""
    match layer:
        case Conv():
            stride = f" /{layer.stride}" if layer.stride > 1 else ""
            groups = f", {layer.groups} groups" if layer.groups > 1 else ""
            return f"conv{layer.kernel}-{layer.out_channels}{stride}{groups}"
        case Linear():
            return f"FC-{layer.out_features}"
        case MaxPool():
            return f"maxpool{layer.kernel} /{layer.stride}"
        case LRN():
            across = f", {layer.groups} groups" if layer.groups > 1 else ""
            return f"LRN-{layer.size}{across}"
    return layer.kind


def layers_comparison(tables: Sequence[CostTable]) -> Table:
    """What each network has at each stage; ReLU, dropout and what else has no size of its own is left out."""
    by_name = [{row.name: row.layer for row in table.rows} for table in tables]
    rows: list[tuple[Value, ...]] = []
    for stage in merged_order([[row.name for row in table.rows] for table in tables]):
        layers = [found.get(stage) for found in by_name]
        if any(isinstance(layer, Conv | Linear | MaxPool | LRN | SameMapNorm | AdaptiveAvgPool) for layer in layers):
            rows.append((stage, *(layer_notation(layer) if layer else None for layer in layers)))
    names = distinct_names([table.network for table in tables])
    return Table("Layers by stage", (Column("name", "stage"), *(Column(name, name) for name in names)), tuple(rows))


def tidy_comparison(tables: Sequence[CostTable]) -> Table:
    """Every stage of every network in one table, a row each: what programs read."""
    columns = ("network", "stage", "kind", "output", "params", "macs", "backward_macs", "flops", "activation_bytes")
    names = distinct_names([table.network for table in tables])
    rows: list[tuple[Value, ...]] = []
    for name, table in zip(names, tables, strict=True):
        for row in table.rows:
            numbers = (getattr(row, column) for column in columns[4:])
            rows.append((name, row.name, row.layer.kind, times(row.stage.out_shape), *numbers))
    return Table("Every stage of every network", tuple(Column(column, column) for column in columns), tuple(rows))


def training_table(table: CostTable) -> Table:
    """Where parameters, work and training memory are: what the cost charts draw."""
    columns = (
        Column("name", "stage"),
        Column("params", "parameters"),
        Column("macs", "MACs, forward"),
        Column("weight_gradient_macs", "MACs, backward, weights"),
        Column("input_gradient_macs", "MACs, backward, input"),
        Column("training_param_bytes", "bytes of weights, gradients and momentum"),
        Column("kept_bytes", "bytes of activations kept"),
    )

    def figures(row: Cost) -> tuple[int, ...]:
        backward = (row.weight_gradient_macs, row.input_gradient_macs)
        return (row.params, row.macs, *backward, 3 * row.param_bytes, row.kept_bytes)

    body = [figures(row) for row in table.rows]
    rows: list[tuple[Value, ...]] = [(row.name, *values) for row, values in zip(table.rows, body, strict=True)]
    totals = tuple(map(sum, zip(*body, strict=True)))
    title = f"{table.network.name}, training on a batch of {table.batch:,}"
    return Table(title, columns, tuple(rows), ("total", *totals))


def _differences(values: Sequence[Any]) -> list[Value]:
    """How much more than the first each other value is; a stage that a network lacks counts nothing."""
    return [(value or 0) - (values[0] or 0) for value in values[1:]]


def distinct_names(networks: Sequence[Network]) -> list[str]:
    """Names to tell networks apart: a name that occurs twice gets its input size, then a number."""
    names = [network.name for network in networks]
    if len(set(names)) < len(names):
        names = [f"{network.name} {times(network.input_shape)}" for network in networks]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        names[i] = f"{name} ({seen[name]})" if seen[name] > 1 else name
    return names


def merged_order(sequences: Sequence[Sequence[str]]) -> list[str]:
    """All names once; names that only a later sequence has stand before the next name that both have.

    VGG's ``conv3_1`` stands behind AlexNet's ``conv3``, where there is one.
    """
    merged: list[str] = []
    for sequence in sequences:
        at = len(merged)
        for name in reversed(sequence):
            block = name.partition("_")[0]
            if name in merged:
                at = merged.index(name)
            elif block != name and block in merged:
                at = merged.index(block) + 1
                merged.insert(at, name)
            else:
                merged.insert(at, name)
    return merged


def conventions_table(table: CostTable, conventions: Sequence[Convention]) -> Table:
    """One network under every convention: a column a convention, stages that anyone counts as rows."""
    rows: list[tuple[Value, ...]] = []
    for cost in table.rows:
        values = [convention.macs(cost, table.batch) for convention in conventions]
        if any(values):
            rows.append((cost.name, *values))
    return Table(
        f"{table.network.name}, counted by every convention",
        (Column("name", "stage"), *(Column(convention.name, convention.name) for convention in conventions)),
        tuple(rows),
        ("total", *(convention.total_macs(table) for convention in conventions)),
    )


def tools_table(table: CostTable, conventions: Sequence[Convention]) -> Table:
    """One network's total as every tool prints it, and how much more than ours that is."""
    columns = (
        Column("convention", "convention"),
        Column("tool", "tool"),
        Column("figure", "figure"),
        Column("calls_it", "calls it"),
        Column("difference", "more than ours"),
        Column("params", "parameters"),
    )
    ours = OURS.total_macs(table)
    rows = tuple(
        (
            convention.name,
            convention.tool,
            convention.total_macs(table),
            convention.unit,
            convention.total_macs(table) - ours,
            convention.total_params(table),
        )
        for convention in conventions
    )
    return Table(f"{table.network.name}, one image, as every tool counts it", columns, rows)


def tool_differences(table: CostTable, convention: Convention) -> Table:
    """Every stage where this convention differs from ours, with the arithmetic."""
    columns = (
        Column("stage", "stage"),
        Column("ours", "ours"),
        Column("theirs", convention.name),
        Column("what", "adds"),
        Column("formula", "by formula"),
    )
    rows = []
    for cost in table.rows:
        for term, _ in convention.differences(cost):
            rows.append((cost.name, cost.macs, convention.macs(cost), term.what, term.formula(cost)))
    return Table(f"{table.network.name}: {convention.name} against ours", columns, tuple(rows))


def stacks_table(pairs: Sequence[tuple[int, int]], channels: int, side: int) -> Table:
    """Stacks of convolutions, each (kernel, count): what they see, their weights, work and non-linearities."""
    columns = (
        Column("stack", "stack"),
        Column("sees", "sees"),
        Column("weights", "weights"),
        Column("formula", "weights, by formula"),
        Column("macs", "MACs"),
        Column("relus", "ReLUs"),
    )
    rows = []
    for kernel, count in pairs:
        network = kernel_stack(kernel, count, channels, side)
        costs, field = cost_table(network), receptive_fields(network)[-1]
        weights = costs.total("weights")
        left = f"{count}·" if count > 1 else ""
        rows.append(
            (
                network.title,
                f"{field.size}×{field.size}",
                weights,
                f"{left}{kernel}·{kernel}·{channels}² = {weights:,}",
                costs.total("macs"),
                count,
            )
        )
    return Table(f"Kernel stacks, {channels} maps of {side}×{side}", columns, tuple(rows))
