from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from alexnet.spec import Conv, Linear
from alexnet.zoo import ALEXNET_2012, NETWORKS, network_from
from analysis.conventions import CONVENTIONS
from analysis.costs import cost_table
from app import explanations
from app.figures.architecture import architecture_svg
from app.figures.comparison import stages_chart, totals_chart
from app.figures.cost_charts import cost_charts
from app.figures.disagreement import disagreement_chart, term_totals
from app.theme import DARK, LIGHT, palette

ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"
ALEXNET = cost_table(ALEXNET_2012)


def _drawn(name: str, selected: str | None = None) -> ET.Element:
    return ET.fromstring(architecture_svg(cost_table(network_from(name)), selected))  # noqa: S314 - our own text


def _fronts(svg: ET.Element, tower: int) -> list[tuple[float, float]]:
    """Width and height of every box front of a tower, from left to right."""
    sizes = []
    for group in svg.iter(f"{SVG}g"):
        if group.get("class") == f"t{tower}":
            for polygon in group.iter(f"{SVG}polygon"):
                if polygon.get("class") == "front":
                    points = [tuple(map(float, point.split(","))) for point in polygon.get("points", "").split()]
                    xs, ys = zip(*points, strict=True)
                    sizes.append((max(xs) - min(xs), max(ys) - min(ys)))
    return sizes


def _dashed(svg: ET.Element) -> int:
    return sum(1 for path in svg.iter(f"{SVG}path") if path.get("class") == "flow crossing")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stage_is_one_button_with_a_name(name: str) -> None:
    buttons = [g for g in _drawn(name).iter(f"{SVG}g") if g.get("role") == "button"]
    assert sorted(b.get("data-item", "") for b in buttons) == sorted(s.name for s in NETWORKS[name].stages())
    assert all(b.get("aria-label", "").startswith(f"{b.get('data-item')}, ") for b in buttons)


def test_tanh_is_a_stage_like_relu() -> None:
    svg, network = _drawn("alexnet-2012:tanh"), network_from("alexnet-2012:tanh")
    labels = [text.text for text in svg.iter(f"{SVG}text")]
    assert labels.count("tanh") == 7
    assert "ReLU" not in labels
    stage = next(stage for stage in network.stages() if stage.name == "tanh1")
    assert explanations.settings(stage) == "tanh(a)"
    assert "section 3.1, figure 1" in explanations.purpose(stage, network)


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-2012@131", "alexnet-2012:tanh", "alexnet-2012@131:no-lrn"])
def test_what_is_special_of_alexnet_is_said_of_its_variants_too(name: str) -> None:
    network = network_from(name)
    stage = next(stage for stage in network.stages() if stage.name == "conv3")
    assert "reads the maps of both towers" in explanations.purpose(stage, network)


def test_volumes_are_to_scale() -> None:
    boxes = _fronts(_drawn("alexnet-2012"), tower=1)
    # One tower: maps of conv1, pool1, conv2, pool2, conv3, conv4, conv5, pool5, as the paper's figure 2 has them.
    maps, sides = (48, 48, 128, 128, 192, 192, 128, 128), (55, 27, 27, 13, 13, 13, 13, 6)
    unit_width, unit_height = boxes[0][0] / 48, boxes[0][1] / 55
    for (width, height), channels, side in zip(boxes, maps, sides, strict=False):
        assert width == pytest.approx(channels * unit_width, abs=0.2)
        assert height == pytest.approx(side * unit_height, abs=0.2)
    assert [height for _, height in boxes[8:]] == pytest.approx([boxes[8][1]] * 2)  # fc6 and fc7: 2,048 each


def test_legend_states_the_scale_that_is_drawn() -> None:
    svg = _drawn("alexnet-2012")
    words = "".join(svg.itertext())
    (maps,) = re.findall(r"width 1 unit = ([\d.]+) maps", words)
    (values,) = re.findall(r"vectors 1 unit = ([\d.]+) values", words)
    boxes = _fronts(svg, tower=1)
    assert boxes[4][0] * float(maps) == pytest.approx(192, rel=0.01)
    assert boxes[8][1] * float(values) == pytest.approx(2048, rel=0.01)


def test_towers_are_alike_and_only_the_paper_s_lines_cross() -> None:
    svg = _drawn("alexnet-2012")
    for first, second in zip(_fronts(svg, tower=1), _fronts(svg, tower=2), strict=True):
        assert first == pytest.approx(second)
    # conv3, fc6 and fc7: each tower reads the other. fc8 lives on one GPU and reads the second tower. And the legend.
    assert _dashed(svg) == 2 + 2 + 2 + 1 + 1


@pytest.mark.parametrize("name", ["alexnet-one-tower", "alexnet-owt", "vgg-d"])
def test_one_tower_has_nothing_that_crosses(name: str) -> None:
    svg = _drawn(name)
    assert _dashed(svg) == 0
    assert _fronts(svg, tower=2) == []


def test_the_selected_stage_and_no_other_is_marked() -> None:
    chosen = [
        g.get("data-item") for g in _drawn("vgg-e", "conv3_4").iter(f"{SVG}g") if "selected" in g.get("class", "")
    ]
    assert chosen == ["conv3_4"]


def test_drawings_stay_within_their_sheet() -> None:
    for name in NETWORKS:
        svg = _drawn(name)
        _, _, width, height = map(float, svg.get("viewBox", "").split())
        for polygon in svg.iter(f"{SVG}polygon"):
            for point in polygon.get("points", "").split():
                x, y = map(float, point.split(","))
                assert -0.5 <= x <= width + 0.5, name
                assert -0.5 <= y <= height + 0.5, name


@pytest.mark.parametrize("batch", [1, 128])
def test_cost_charts_show_the_table_s_numbers(batch: int) -> None:
    table = cost_table(ALEXNET_2012, batch)
    bars = {bar.name: dict(zip(bar.y, bar.x, strict=True)) for bar in cost_charts(table, LIGHT).data}
    assert bars["parameters"]["fc6"] == 37_752_832
    assert bars["forward"]["conv1"] == 105_415_200 * batch
    assert bars["backward, input"]["conv1"] == 0  # nobody trains the image
    assert bars["backward, weights"]["conv2"] == bars["backward, input"]["conv2"] == 223_948_800 * batch
    assert bars["activations kept"]["relu1"] == pytest.approx(55 * 55 * 96 * 4 * batch / 2**20)
    assert bars["weights, gradients and momentum"]["fc8"] == pytest.approx(3 * 4_097_000 * 4 / 2**20)


def test_totals_chart_adds_up_to_the_totals() -> None:
    tables = [cost_table(NETWORKS[name]) for name in ("vgg-a", "vgg-c")]
    bars = totals_chart(tables, DARK).data
    for axis, column in (("x", "params"), ("x2", "macs")):
        sums = [sum(bar.x[i] for bar in bars if bar.xaxis == axis) for i in range(2)]
        assert sums == [table.total(column) for table in tables]


def test_stage_chart_keeps_the_order_of_the_stages() -> None:
    tables = [cost_table(NETWORKS[name]) for name in ("vgg-a", "vgg-e")]
    figure = stages_chart(tables, "macs", LIGHT)
    order = [stage.name for stage in NETWORKS["vgg-e"].stages() if isinstance(stage.layer, Conv | Linear)]
    assert list(figure.layout.xaxis.categoryarray) == order
    assert dict(zip(figure.data[1].x, figure.data[1].y, strict=True))["conv1_1"] == 224 * 224 * 64 * 27


def test_disagreement_chart_has_a_bar_for_every_term() -> None:
    terms = term_totals(ALEXNET, list(CONVENTIONS.values()))
    by_tool: dict[str, int] = {}
    for term in terms:
        by_tool[term.convention] = by_tool.get(term.convention, 0) + term.added
    # Differences of the totals seen by running the tools on alexnet-2012.
    assert by_tool == {
        "torchinfo": 659_272,
        "ptflops": 4_939_504,
        "ptflops-aten": 659_272,
        "torch": 724_406_816,
        "netscope": 2_385_120,
    }
    assert list(disagreement_chart(terms, LIGHT).data[0].x) == [term.added for term in terms]


def test_disagreement_chart_without_terms_says_so() -> None:
    figure = disagreement_chart([], LIGHT)
    assert "same number" in figure.layout.annotations[0].text


def test_palette_follows_the_theme_and_config_has_the_same_towers() -> None:
    config = (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    light, dark = config.split("[theme.dark]")
    for colours, text in ((LIGHT, light), (DARK, dark)):
        assert f'blueColor = "{colours.tower1}"' in text
        assert f'orangeColor = "{colours.tower2}"' in text
    assert (palette("light"), palette("dark"), palette(None)) == (LIGHT, DARK, LIGHT)


def test_the_pages_that_count_never_import_torch() -> None:
    program = """
import sys
from streamlit.testing.v1 import AppTest
from app import queries
queries.Verification.start = lambda self: None  # the witnesses are a process of their own
app = AppTest.from_file("app/main.py", default_timeout=60)
for page in ("screens/architecture.py", "screens/compare.py", "screens/disagree.py"):
    app.switch_page(page).run()
    assert not app.exception
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
