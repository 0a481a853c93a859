from __future__ import annotations

import csv
import io
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from alexnet.spec import Linear, ReLU
from alexnet.zoo import NETWORKS, network_from
from analysis import formats, tables
from analysis.conventions import CONVENTIONS
from analysis.costs import cost_table
from analysis.formats import FORMATS, SUFFIXES, Column, Table, write
from analysis.tables import merged_order

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alexnet.spec import Network
    from analysis.costs import CostTable

ALEXNET = cost_table(NETWORKS["alexnet-2012"])
AWKWARD = Table(
    "50 % of a_b & c",
    (Column("name", "na|me"), Column("count", "count_#"), Column("share", "share", percent=True), Column("x", "x")),
    (("a_b", 1_234_567, 0.25, None), ('say "hi", you|they', -5, 0.75, 2.5), ("{x}~^\\$", 0, 0.0, 1000.0)),
    ("total", 1_234_562, 1.0, None),
)
SUMMED = Table("no totals", AWKWARD.columns[:2], (("a", 1), ("b", 2)))


def two() -> list[CostTable]:
    return [cost_table(network_from(name)) for name in ("alexnet-2012", "alexnet-2012-source@300")]


# All tables that the command line and the app can write.
EVERY: dict[str, Callable[[], Table]] = {
    "awkward": lambda: AWKWARD,
    "without totals": lambda: SUMMED,
    "networks": tables.networks_table,
    **{name: partial(lambda of: tables.stage_table(cost_table(of, 3)), network) for name, network in NETWORKS.items()},
    **{name: partial(tables.stage_table, ALEXNET, convention) for name, convention in CONVENTIONS.items()},
    "compared totals": lambda: tables.totals_comparison(two()),
    "compared layers": lambda: tables.layers_comparison(two()),
    "compared params": lambda: tables.stages_comparison(two(), "params"),
    "compared macs of three": lambda: tables.stages_comparison([*two(), ALEXNET], "macs"),
    "conventions": lambda: tables.conventions_table(ALEXNET, list(CONVENTIONS.values())),
}


@pytest.fixture(params=EVERY)
def table(request: pytest.FixtureRequest) -> Table:
    """Each of all tables in turn."""
    return EVERY[request.param]()


def rows_with_totals(table: Table) -> list[tuple[formats.Value, ...]]:
    return [*table.rows, *([table.totals] if table.totals else [])]


# --- formats ----------------------------------------------------------------------------------------------------------


def test_csv_reads_back_with_every_digit(table: Table) -> None:
    header, *rows = csv.reader(io.StringIO(write(table, "csv")))
    assert header == [column.key for column in table.columns]
    for read, row in zip(rows, rows_with_totals(table), strict=True):
        for cell, value in zip(read, row, strict=True):
            assert (None if cell == "" else type(value)(cell)) == value


def test_json_reads_back_with_every_digit(table: Table) -> None:
    value = json.loads(write(table, "json"))
    keys = [column.key for column in table.columns]
    assert value["title"] == table.title
    assert [list(row) for row in value["rows"]] == [keys] * len(table.rows)
    assert [tuple(row.values()) for row in value["rows"]] == list(table.rows)
    assert (tuple(value["totals"].values()) if table.totals else value["totals"]) == table.totals


def test_keys_of_columns_are_distinct(table: Table) -> None:
    keys = [column.key for column in table.columns]
    assert len(set(keys)) == len(keys)


def test_markdown_has_a_heading_a_rule_and_a_line_a_row(table: Table) -> None:
    text = write(table, "markdown")
    lines = [re.split(r"(?<!\\)\|", line) for line in text.splitlines()]
    assert len(lines) == 2 + len(rows_with_totals(table))
    assert {len(line) for line in lines} == {len(table.columns) + 2}  # a bar at either end
    for index, rule in enumerate(lines[1][1:-1]):
        texts = all(isinstance(row[index], str | None) for row in table.rows)
        assert rule.strip() == (":--" if texts else "--:")


def test_markdown_prints_numbers_with_thousands_and_totals_in_bold() -> None:
    assert write(AWKWARD, "markdown").splitlines() == [
        "| na\\|me | count_# | share | x |",
        "| :-- | --: | --: | --: |",
        "| a_b | 1,234,567 | 25.0 % |  |",
        '| say "hi", you\\|they | -5 | 75.0 % | 2.5 |',
        "| {x}~^\\$ | 0 | 0.0 % | 1,000 |",
        "| **total** | **1,234,562** | **100.0 %** |  |",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.000123456, "0.0001235"), (-0.25, "−0.25"), (2.0, "2"), (999.96, "1000"), (-12_345.6, "−12,346"), (0.0, "0")],
)
def test_numbers_keep_four_digits(value: float, shown: str) -> None:
    table = Table("t", (Column("x", "x"),), ((value,),))
    assert write(table, "markdown").splitlines()[-1] == f"| {shown} |"


def test_text_is_aligned(table: Table) -> None:
    title, rule, _, second_rule, *rest = write(table, "text").splitlines()
    assert title == table.title
    assert set(rule) == {"─"} == set(second_rule)
    body = [line for line in rest if line != rule]
    assert len(rest) - len(body) == (1 if table.totals else 0)
    assert len(body) == len(rows_with_totals(table))
    assert max(map(len, body)) <= len(rule)


def test_text_lines_up_names_on_the_left_and_numbers_on_the_right() -> None:
    assert write(AWKWARD, "text").splitlines() == [
        "50 % of a_b & c",
        "─────────────────────────────────────────────",
        "na|me                 count_#    share      x",
        "─────────────────────────────────────────────",
        "a_b                 1,234,567   25.0 %",
        'say "hi", you|they         -5   75.0 %    2.5',
        "{x}~^\\$                     0    0.0 %  1,000",
        "─────────────────────────────────────────────",
        "total               1,234,562  100.0 %",
    ]


def test_latex_is_balanced_booktabs(table: Table) -> None:
    text = write(table, "latex")
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    rules = re.findall(r"\\(\w+rule)", text)
    assert rules == ["toprule", "midrule", *(["midrule"] if table.totals else []), "bottomrule"]
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(rows_with_totals(table))
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(table.columns) - 1}
    (alignment,) = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert len(alignment) == len(table.columns)


def test_latex_escapes_what_latex_would_read_as_markup(table: Table) -> None:
    first, *lines = write(table, "latex").splitlines()
    assert first == "% needs \\usepackage{booktabs}"
    for line in lines:
        assert not re.search(r"(?<!\\)[%_#~^]", re.sub(r"\\text\w+\{\}", "", line)), line


def test_latex_writes_every_symbol_as_a_command(table: Table) -> None:
    assert write(table, "latex").isascii()


def test_latex_of_awkward_cells() -> None:
    lines = write(AWKWARD, "latex").splitlines()
    assert r"  \caption{50 \% of a\_b \& c}" in lines
    assert r"    a\_b & 1,234,567 & 25.0 \% &  \\" in lines
    assert r"    \{x\}\textasciitilde{}\textasciicircum{}\textbackslash{}\$ & 0 & 0.0 \% & 1,000 \\" in lines


def test_latex_of_symbols() -> None:
    assert formats.latex_escaped("3×3 · α − β → ⌈5⌉") == (
        r"3$\times$3 $\cdot$ $\alpha$ $-$ $\beta$ $\to$ $\lceil$5$\rceil$"
    )


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_ends_in_one_newline(table: Table, fmt: formats.Format) -> None:
    text = write(table, fmt)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_every_format_has_a_suffix_of_its_own() -> None:
    assert set(SUFFIXES) == set(FORMATS)
    assert len(set(SUFFIXES.values())) == len(FORMATS)


def test_records_leave_out_the_totals() -> None:
    assert SUMMED.records() == [{"name": "a", "count": 1}, {"name": "b", "count": 2}]
    assert len(AWKWARD.records()) == 3


# --- stage tables -----------------------------------------------------------------------------------------------------


def column(table: Table, key: str) -> list[Any]:
    index = [column.key for column in table.columns].index(key)
    return [row[index] for row in table.rows]


def total(table: Table, key: str) -> Any:
    assert table.totals is not None
    return dict(zip((column.key for column in table.columns), table.totals, strict=True))[key]


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_totals_are_the_sums_of_their_columns(name: str, convention: tables.Convention) -> None:
    table = tables.stage_table(cost_table(NETWORKS[name], 3), convention)
    for key in ("params", "macs", "flops", "activation_bytes"):
        assert total(table, key) == sum(column(table, key)) > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_shares_are_parts_of_the_total_and_add_up_to_one(name: str) -> None:
    table = tables.stage_table(cost_table(NETWORKS[name]), CONVENTIONS["netscope"])
    for key in ("params", "macs"):
        shares = column(table, f"{key}_share")
        assert sum(shares) == pytest.approx(1, abs=1e-12)
        assert shares == [value / total(table, key) for value in column(table, key)]
        assert total(table, f"{key}_share") == 1


def test_a_network_without_weights_has_shares_of_nothing(network_of: Callable[..., Network]) -> None:
    table = tables.stage_table(cost_table(network_of((3, 4, 4), ReLU())))
    assert (column(table, "params_share"), column(table, "macs_share")) == ([0.0], [0.0])


def test_the_first_row_of_alexnet() -> None:
    row = tables.stage_table(ALEXNET).records()[0]
    assert row == {
        "name": "conv1",
        "kind": "conv",
        "output": "96×55×55",
        "params": 34_944,
        "params_share": 34_944 / 60_965_224,
        "macs": 105_415_200,
        "macs_share": 105_415_200 / 724_406_816,
        "flops": 2 * 105_415_200 + 290_400,
        "activation_bytes": 290_400 * 4,
        "receptive_field": "11×11",
    }


def test_fully_connected_layers_see_everything() -> None:
    seen = {row["name"]: row["receptive_field"] for row in tables.stage_table(ALEXNET).records()}
    assert (seen["pool5"], seen["flatten"], seen["fc6"]) == ("195×195", "195×195", "everything")


def test_a_convention_gives_its_own_parameters_and_counts_and_says_so() -> None:
    table = tables.stage_table(ALEXNET, CONVENTIONS["netscope"])
    rows = {row["name"]: row for row in table.records()}
    assert (rows["norm1"]["params"], rows["norm1"]["macs"]) == (2, 5 * 290_400)
    assert (total(table, "params"), total(table, "macs")) == (60_965_228, 726_791_936)
    assert table.title == "alexnet-2012, input 3×227×227, counted as netscope CNN Analyzer does"
    assert "netscope: “MACC”" in [column.heading for column in table.columns]


def test_titles_name_network_input_and_batch() -> None:
    assert tables.stage_table(ALEXNET).title == "alexnet-2012, input 3×227×227"
    title = tables.stage_table(cost_table(network_from("vgg16@64x96"), 1280)).title
    assert title == "vgg-d@64x96, input 3×64×96, batch of 1,280"


def test_the_table_of_networks() -> None:
    rows = {row["name"]: row for row in tables.networks_table().records()}
    assert list(rows) == list(NETWORKS)
    vgg = rows["vgg-d"]
    assert (vgg["input"], vgg["params"], vgg["macs"]) == ("3×224×224", 138_357_544, 15_470_264_320)
    assert all(row["source"] for row in rows.values())


# --- JSON of the `table` command --------------------------------------------------------------------------------------

TOTALS = {"params", "macs", "flops", "neurons"}  # what the design promises, and more
STAGE = {"name", "kind", "input_shape", "output_shape", "params", "macs", "flops"}


@pytest.mark.parametrize("name", NETWORKS)
def test_json_of_a_network_has_the_keys_of_the_design(name: str) -> None:
    value = json.loads(formats.json_text(tables.cost_json(cost_table(NETWORKS[name]))))
    assert {"network", "input", "convention", "totals", "stages"} <= set(value)
    assert (value["network"], value["convention"]) == (name, "ours")
    assert value["input"] == list(NETWORKS[name].input_shape)
    assert set(value["totals"]) >= TOTALS
    assert all(set(stage) >= STAGE for stage in value["stages"])
    assert [stage["name"] for stage in value["stages"]] == [stage for stage, _ in NETWORKS[name].layers]


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=CONVENTIONS)
@pytest.mark.parametrize("batch", [1, 5])
def test_json_totals_are_the_sums_of_the_stages(batch: int, convention: tables.Convention) -> None:
    value = tables.cost_json(cost_table(NETWORKS["alexnet-2012"], batch), convention)
    for key, number in value["totals"].items():
        if key == "operations":
            for kind, count in number.items():
                assert count == sum(stage["operations"][kind] for stage in value["stages"])
        else:
            assert number == sum(stage[key] for stage in value["stages"]), key
    assert value["batch"] == batch


def test_json_of_alexnets_conv1_and_fc8() -> None:
    value = tables.cost_json(ALEXNET)
    stages = {stage["name"]: stage for stage in value["stages"]}
    assert value["totals"]["neurons"] == 659_272
    conv1 = stages["conv1"]
    assert (conv1["input_shape"], conv1["output_shape"]) == ([3, 227, 227], [96, 55, 55])
    assert (conv1["weights"], conv1["biases"], conv1["neurons"]) == (34_848, 96, 290_400)
    assert conv1["receptive_field"] == {"size": 11, "stride": 4.0, "offset": 0}
    assert stages["fc8"]["receptive_field"] is None
    assert stages["fc8"]["crossing_bytes"] == 2048 * 4


def test_json_params_and_macs_are_what_the_tool_would_print() -> None:
    totals = tables.cost_json(ALEXNET, CONVENTIONS["netscope"])["totals"]
    assert (totals["params"], totals["macs"]) == (60_965_228, 726_791_936)


# --- comparisons ------------------------------------------------------------------------------------------------------


def compared(*references: str, hidden: int | None = None) -> list[Any]:
    return [cost_table(network_from(reference).adapted(hidden=hidden)) for reference in references]


def test_totals_side_by_side() -> None:
    table = tables.totals_comparison(compared("alexnet-2012", "vgg-d"))
    rows = {row["quantity"]: (row["alexnet-2012"], row["vgg-d"]) for row in table.records()}
    assert rows["input"] == ("3×227×227", "3×224×224")
    assert rows["layers with weights"] == (8, 16)
    assert rows["parameters"] == (60_965_224, 138_357_544)
    assert rows["MACs forward"] == (724_406_816, 15_470_264_320)
    assert rows["bytes of weights"] == (243_860_896, 553_430_176)
    assert rows["bytes between GPUs, forward"][1] == 0
    assert rows["bytes to train on one image"][0] > 3 * 243_860_896


@pytest.mark.parametrize(
    ("key", "conv2", "everything"),
    [("params", 614_656 - 307_456, 62_378_344 - 60_965_224), ("macs", 223_948_800, 1_135_256_096 - 724_406_816)],
)
def test_the_difference_between_one_tower_and_two(key: Any, conv2: int, everything: int) -> None:
    table = tables.stages_comparison(compared("alexnet-2012", "alexnet-one-tower"), key)
    rows = {row["name"]: row for row in table.records()}
    assert [column.key for column in table.columns] == ["name", "alexnet-2012", "alexnet-one-tower", "difference"]
    assert rows["conv1"]["difference"] == 0
    assert rows["conv2"]["difference"] == conv2
    assert all(row["difference"] == row["alexnet-one-tower"] - row["alexnet-2012"] for row in rows.values())
    assert total(table, "difference") == sum(row["difference"] for row in rows.values()) == everything


def test_a_stage_that_only_one_network_has_differs_by_all_of_it() -> None:
    table = tables.stages_comparison(compared("vgg-a", "vgg-b"), "params")
    rows = {row["name"]: row for row in table.records()}
    assert (rows["conv1_2"]["vgg-a"], rows["conv1_2"]["vgg-b"]) == (None, 36_928)
    assert rows["conv1_2"]["difference"] == 36_928
    assert list(rows)[:4] == ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    reverse = tables.stages_comparison(compared("vgg-b", "vgg-a"), "params")
    assert {row["name"]: row["difference"] for row in reverse.records()}["conv1_2"] == -36_928
    assert list(column(reverse, "name")) == list(rows)


def test_three_networks_are_each_held_against_the_first() -> None:
    table = tables.stages_comparison(compared("vgg-a", "vgg-b", "vgg-d"), "macs")
    assert [column.key for column in table.columns] == [
        *("name", "vgg-a", "vgg-b", "vgg-d"),
        *("difference_vgg-b", "difference_vgg-d"),
    ]
    # conv1_2, 64 maps of 3×3×64 at 224×224, is in B and D and not in A.
    assert next(row for row in table.rows if row[0] == "conv1_2")[4:] == (1_849_688_064, 1_849_688_064)
    assert table.totals
    assert table.totals[4:] == (11_308_466_176 - 7_609_090_048, 15_470_264_320 - 7_609_090_048)


def test_layers_are_written_as_in_table_1_of_vgg() -> None:
    table = tables.layers_comparison(compared("vgg-a", "vgg-c", "vgg-d"))
    rows = {row["name"]: (row["vgg-a"], row["vgg-c"], row["vgg-d"]) for row in table.records()}
    assert rows["conv1_1"] == ("conv3-64", "conv3-64", "conv3-64")
    assert rows["conv1_2"] == (None, "conv3-64", "conv3-64")
    assert rows["conv3_3"] == (None, "conv1-256", "conv3-256")
    assert rows["pool5"] == ("maxpool2 /2",) * 3
    assert rows["fc8"] == ("FC-1000",) * 3
    assert not [name for name in rows if name.startswith(("relu", "drop", "flatten", "prob"))]


def test_strides_groups_and_norms_of_alexnet_are_written_out() -> None:
    table = tables.layers_comparison(compared("alexnet-2012", "alexnet-2012-source"))
    rows = {row["name"]: row["alexnet-2012"] for row in table.records()}
    assert rows["conv1"] == "conv11-96 /4"
    assert rows["conv2"] == "conv5-256, 2 groups"
    assert rows["norm1"] == "LRN-5, 2 groups"
    assert rows["pool1"] == "maxpool3 /2"
    assert rows["cnorm2"] is None


def test_stages_without_weights_are_left_out_of_comparisons() -> None:
    names = column(tables.stages_comparison(compared("alexnet-2012", "alexnet-owt"), "params"), "name")
    assert names == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


def test_columns_of_networks_with_one_name_can_be_told_apart() -> None:
    half = NETWORKS["alexnet-half"]

    def names(*networks: Network) -> list[str]:
        return [
            column.key for column in tables.totals_comparison([cost_table(network) for network in networks]).columns
        ]

    small = half.adapted(input_shape=(3, 99, 99))
    assert names(half, small) == ["quantity", "alexnet-half 3×224×224", "alexnet-half 3×99×99"]
    assert names(half, half.adapted(classes=10)) == [
        "quantity",
        "alexnet-half 3×224×224",
        "alexnet-half 3×224×224 (2)",
    ]
    assert names(half, NETWORKS["vgg-a"]) == ["quantity", "alexnet-half", "vgg-a"]


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        ([], []),
        (["abc"], "abc"),
        (["abc", "abc"], "abc"),
        (["acd", "abcd"], "abcd"),
        (["abcd", "acd"], "abcd"),
        (["abc", "abcde"], "abcde"),
        (["cd", "abcd"], "abcd"),
        (["ad", "abd", "acd"], "abcd"),
        (["ab", "xy"], "abxy"),
        (["axb", "ayb"], "axyb"),
    ],
)
def test_merged_order(sequences: Sequence[str], expected: str) -> None:
    assert merged_order(sequences) == list(expected)


def test_merged_order_of_all_networks_keeps_the_order_of_each() -> None:
    sequences = [[name for name, _ in NETWORKS[f"vgg-{letter}"].layers] for letter in "abcde"]
    merged = merged_order(sequences)
    assert len(set(merged)) == len(merged)
    for sequence in sequences:
        assert [name for name in merged if name in sequence] == sequence


def test_conventions_side_by_side() -> None:
    names = ["ours", "torchinfo", "netscope"]
    table = tables.conventions_table(ALEXNET, [CONVENTIONS[name] for name in names])
    rows = {row["name"]: [row[name] for name in names] for row in table.records()}
    assert rows["conv1"] == [105_415_200, 105_705_600, 105_415_200]
    assert rows["norm1"] == [0, 0, 1_452_000]
    assert "relu1" not in rows  # nobody here counts it
    assert table.totals == ("total", 724_406_816, 725_066_088, 726_791_936)
    everyone = tables.conventions_table(ALEXNET, list(CONVENTIONS.values()))
    assert "relu1" in column(everyone, "name")


def test_a_wider_classifier_adds_exactly_its_rows() -> None:
    before, after = compared("alexnet-owt")[0], compared("alexnet-owt", hidden=4098)[0]
    table = tables.stages_comparison([before, after], "params")
    differences = {row["name"]: row["difference"] for row in table.records() if row["difference"]}
    inputs = 256 * 6 * 6
    assert differences == {"fc6": 2 * (inputs + 1), "fc7": 4098 * 4099 - 4096 * 4097, "fc8": 2 * 1000}
    assert all(isinstance(after.row(name).layer, Linear) for name in differences)
