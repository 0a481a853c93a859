from __future__ import annotations

import base64
import io
import json
import re
import struct
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from alexnet.spec import LRN
from alexnet.zoo import network_from
from analysis import film, film_numbers
from analysis.kernels import kernel_measures, tower_measures
from analysis.sheets import composed
from app.figures.film import (
    before_after_svg,
    channels_figure,
    film_block,
    film_groups,
    order_figure,
    probability_figure,
    share_figure,
)
from app.theme import DARK, LIGHT

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray

    from app.theme import Palette

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script>&'
STEPS = (0, 1, 10, 1000)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def summaries(steps: tuple[int, ...] = STEPS, label: int | None = 2) -> list[film_numbers.Summary]:
    found = []
    for number, step in enumerate(steps):
        towers = tower_measures(kernel_measures(random().normal(size=(8, 3, 5, 5)) + number, 2))
        shares = {
            "norm1": film_numbers.Suppressed(0.1 * number, np.array([0.0, 0.1, np.nan, 0.3]) * number),
            "norm2": film_numbers.Suppressed(None, np.full(6, np.nan)),
        }
        likely = np.array([0.5, 0.2, 0.2, 0.1], np.float32)
        found.append(film_numbers.Summary(step, towers, shares, likely if number else None, label))
    return found


def changes() -> list[film_numbers.Change]:
    return [
        film_numbers.Change(0, 1, (0.1, None)),
        film_numbers.Change(1, 10, (0.09, 0.9)),
        film_numbers.Change(10, 1000, (0.99, 0.0)),
    ]


def drawn(figure: go.Figure) -> dict[str, Any]:
    """What the page gets; every number in it is a number."""
    whole: dict[str, Any] = json.loads(figure.to_json())
    return whole


# --- the player ------------------------------------------------------------------------------------------------------


def test_the_players_bytes_are_head_and_tiles() -> None:
    tiles = random().integers(0, 256, (2, 4, 3, 3, 3), dtype=np.uint8)
    reel = film.Reel((5, 70), tiles.tobytes(), (), "d1")
    content = film_block("run kernel", reel)
    (length,) = struct.unpack("<I", content[:4])
    head = json.loads(content[4 : 4 + length])
    assert head["film"] == "run kernel"
    assert head["steps"] == [5, 70]
    np.testing.assert_array_equal(np.frombuffer(content[4 + length :], np.uint8).reshape(tiles.shape), tiles)
    others = [film_block("run film", reel), film_block("run kernel", reel._replace(digest="d2"))]
    digests = {json.loads(one[4 : 4 + struct.unpack("<I", one[:4])[0]])["digest"] for one in (content, *others)}
    assert len(digests) == 3


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-owt", "vgg-a"])
def test_groups_say_where_every_kernel_lies_in_its_towers_picture(name: str) -> None:
    place = film.screen(network_from(name))
    tiles = random().integers(1, 256, (place.shape[0], *place.sheet.tile, 3), dtype=np.uint8)
    whole = np.asarray(composed(tiles, place.sheet))
    seen = []
    for group in film_groups(place):
        part = whole[group["top"] : group["top"] + group["height"], group["left"] : group["left"] + group["width"]]
        assert part.shape[:2] == (group["height"], group["width"])
        for item, left, top in group["places"]:
            seen.append(item)
            height, width = place.sheet.tile
            np.testing.assert_array_equal(part[top : top + height, left : left + width, :3], tiles[item])
        assert group["tower"] == (0 if place.towers == 1 else len(seen) * place.towers // place.shape[0])
    assert sorted(seen) == list(range(place.shape[0]))


# --- over time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_shares_are_a_line_for_each_norm_in_percent(palette: Palette) -> None:
    figure = share_figure(summaries(), palette)
    first, second = figure.data
    assert (first.name, second.name) == ("norm1", "norm2")
    assert list(first.x) == list(STEPS)
    assert list(first.y) == pytest.approx([0, 10, 20, 30])
    assert set(second.y) == {None}
    assert (
        figure.layout.uirevision == share_figure(summaries((0, 1)), DARK).layout.uirevision
    )  # zoom stays while a run goes on
    assert first.line.color == palette.series[0]
    assert "step" in figure.layout.xaxis.title.text
    assert "%" in figure.layout.yaxis.title.text
    drawn(figure)


def test_a_logarithmic_axis_has_step_0_at_a_half_and_says_0_there() -> None:
    figure = share_figure(summaries(), LIGHT, logarithmic=True)
    assert figure.layout.xaxis.type == "log"
    assert list(figure.data[0].x) == [0.5, 1, 10, 1000]
    assert dict(zip(figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext, strict=True)) == {
        0.5: "0",
        1: "1",
        10: "10",
        100: "100",
        1000: "1,000",
    }
    assert list(figure.data[0].customdata) == list(STEPS)


def test_channels_lie_downwards_and_moments_to_the_right() -> None:
    figure = channels_figure(summaries(), "norm1", 2, LIGHT)
    (heat,) = figure.data
    assert np.shape(heat.z) == (4, 4)
    assert heat.z[3][2] == pytest.approx(60)
    assert np.isnan(heat.z[2]).all()
    assert heat.customdata[0][3] == 1000
    assert list(figure.layout.xaxis.ticktext) == ["0", "1", "10", "1,000"]
    assert figure.layout.yaxis.autorange == "reversed"
    assert [shape.y0 for shape in figure.layout.shapes] == [1.5]  # between channels 1 and 2 lies the towers' border
    assert len(channels_figure(summaries(), "norm1", 1, LIGHT).layout.shapes) == 0
    drawn(channels_figure(summaries(), "norm2", 2, LIGHT))


@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_order_is_a_chart_for_each_measure_and_a_line_for_each_tower(palette: Palette, logarithmic: bool) -> None:
    figure = order_figure(summaries(), changes(), ("GPU 1", "GPU 2"), palette, logarithmic=logarithmic)
    assert len(figure.data) == 2 * len(film_numbers.MEASURES)
    assert [note.text for note in figure.layout.annotations] == list(film_numbers.HEADINGS.values())
    assert [trace.line.color for trace in figure.data] == [palette.tower1, palette.tower2] * len(film_numbers.MEASURES)
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2
    compact = figure.data[0]
    assert list(compact.y) == [100 * one.towers[0].compact / 4 for one in summaries()]
    change = figure.data[2 * film_numbers.MEASURES.index("change")]
    assert list(change.x) == [1, 10, 1000]
    assert list(change.y) == pytest.approx([10, 1, 0.1])
    assert figure.data[2 * film_numbers.MEASURES.index("change") + 1].y[0] is None
    other = order_figure(summaries(), changes(), ("GPU 1", "GPU 2"), palette, logarithmic=not logarithmic)
    assert figure.layout.uirevision != other.layout.uirevision  # a zoom of the other axis means nothing here
    drawn(figure)


def test_one_measure_and_one_tower_alone() -> None:
    one = [film_numbers.Summary(3, tower_measures(kernel_measures(random().normal(size=(4, 3, 5, 5)))), {}, None, None)]
    figure = order_figure(one, [], ("all kernels",), LIGHT, measures=("norm",))
    (line,) = figure.data
    assert line.showlegend is False
    assert line.line.color == LIGHT.series[0]  # the towers' colours are the towers' alone
    assert list(line.y) == [one[0].towers[0].norm]


def test_moments_whose_kernels_are_no_numbers_are_gaps() -> None:
    broken = [*summaries((0, 1)), film_numbers.Summary(2, (), {}, None, None)]
    figure = order_figure(broken, changes()[:1], ("GPU 1", "GPU 2"), LIGHT)
    assert figure.data[0].y[2] is None


def test_probabilities_are_in_percent_and_the_true_class_is_said() -> None:
    figure = probability_figure(summaries(), (2, 0), ("a", "b", "c", "d"), LIGHT)
    own, other = figure.data
    assert own.name == "c (true)"
    assert other.name == "a"
    assert list(own.x) == [1, 10, 1000]  # step 0 was taken without
    assert list(other.y) == [50.0] * 3
    assert own.line.width > other.line.width
    assert [trace.name for trace in probability_figure(summaries(label=None), (2,), "abcd", LIGHT).data] == ["c"]


def test_nothing_to_show_is_an_empty_figure() -> None:
    for figure in (
        share_figure([], LIGHT, logarithmic=True),
        channels_figure([], "norm1", 2, LIGHT),
        order_figure([], [], ("GPU 1", "GPU 2"), LIGHT, logarithmic=True),
        probability_figure([], (), (), LIGHT),
    ):
        drawn(figure)


# --- the probe picture's maps ----------------------------------------------------------------------------------------


def moment(before: NDArray[Any], after: NDArray[Any], *, older: bool = False) -> film.Moment:
    return film.Moment(1234, None, {"norm1": after}, {} if older else {"norm1": before}, {}, None, None)


def parsed(svg: str) -> ET.Element:
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", svg))
    return ET.fromstring(svg)  # noqa: S314 - our own text


def picture_in(root: ET.Element) -> NDArray[np.uint8]:
    (image,) = root.iter(f"{SVG}image")
    content = image.attrib["href"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_maps_before_and_behind_share_a_scale_and_the_constant_is_taken_out() -> None:
    before = random().random((4, 6, 6)).astype(np.float32)
    halved = before * 2**-0.75  # what no neighbour inhibits
    halved[1] /= 2
    root = parsed(before_after_svg(moment(before, halved), "norm1", LRN(), channels=(0, 1, 3)))
    tiles = [element for element in root.iter(f"{SVG}rect") if "data-item" in element.attrib]
    assert [tile.attrib["data-item"] for tile in tiles] == ["0", "1", "2", "3", "4", "5"]
    assert [tile.attrib["aria-label"] for tile in tiles][:4:3] == ["channel 0 before", "channel 0 behind, over k^−β"]
    picture = picture_in(root)
    rows = np.flatnonzero(picture.any(axis=(1, 2)))  # what lies between, with the headings, is clear
    upper, lower = picture[rows[:6]], picture[rows[6:]]
    np.testing.assert_array_equal(upper[:, :6], lower[:, :6])  # channel 0 is not suppressed
    assert (upper[:, 8:14].astype(int).sum() - lower[:, 8:14].astype(int).sum()) > 0  # channel 1 is
    assert "step 1,234" in root.attrib["aria-label"]


def test_a_probe_without_maps_from_before_shows_those_behind() -> None:
    after = random().random((40, 6, 6)).astype(np.float32)
    root = parsed(before_after_svg(moment(after, after, older=True), "norm1", LRN(), count=16))
    assert sum("data-item" in element.attrib for element in root.iter(f"{SVG}rect")) == 16


def test_maps_that_went_wrong_and_hostile_names_do_no_harm() -> None:
    after = np.full((4, 6, 6), np.nan, np.float16)
    after[0] = np.inf
    one = film.Moment(0, None, {HOSTILE: after}, {HOSTILE: after}, {}, None, None)
    svg = before_after_svg(one, HOSTILE, LRN(k=0.0))
    parsed(svg)
    assert "<script>" not in svg
