from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.activations import ClassProbability, histogram
from analysis.kernels import kernel_measures, spectrum
from analysis.sheets import COLOURS, colour_table
from app.figures.classes import class_bars
from app.figures.histograms import map_histogram
from app.figures.kernels import fourier_scatter, kernel_figure
from app.figures.maps import Frame, Panel, _coloured, as_map, map_svg, maps_svg, pictures_svg
from app.figures.window import window_svg
from app.lrn_sections import _black
from app.theme import DARK, LIGHT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bytes = NDArray[np.uint8]

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script>&'


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def photograph(height: int = 67, width: int = 67) -> Bytes:
    return random().integers(0, 256, (height, width, 3), dtype=np.uint8)


def parsed(svg: str) -> ET.Element:
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", svg))
    return ET.fromstring(svg)  # noqa: S314 - our own text


def pixels(image: ET.Element) -> Bytes:
    data = image.attrib["href"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def box(element: ET.Element) -> tuple[float, ...]:
    """Left, top, width and height."""
    return tuple(float(element.attrib[name]) for name in ("x", "y", "width", "height"))


def images(svg: str) -> list[ET.Element]:
    """The map, its colour scale, the picture, and whatever is laid over it."""
    return list(parsed(svg).iter(f"{SVG}image"))


# --- a vector as a map -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "shape"),
    [
        (1, (1, 1)),
        (2, (1, 2)),
        (3, (1, 3)),
        (10, (2, 5)),
        (12, (3, 4)),
        (1000, (25, 40)),
        (4096, (64, 64)),
        (9216, (96, 96)),
        (997, (32, 32)),
        (7, (1, 7)),
        (13, (4, 4)),
        (2 * 509, (32, 32)),
    ],
)
def test_a_vector_is_laid_out_row_by_row(count: int, shape: tuple[int, int]) -> None:
    values = np.arange(count, dtype=np.float32)
    laid = as_map(values)
    assert laid.shape == shape
    np.testing.assert_array_equal(laid.ravel()[:count], values)
    assert np.isnan(laid.ravel()[count:]).all()


def test_every_vector_has_a_layout_that_a_page_can_show() -> None:
    for count in range(1, 600):
        rows, columns = as_map(np.zeros(count)).shape
        assert 0 <= rows * columns - count < columns  # nothing but the last row has a gap
        assert columns <= 16 * rows, count


def test_a_map_stays_as_it_is() -> None:
    values = random().normal(size=(3, 5))
    assert as_map(values) is values


# --- a map at large --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", COLOURS)
@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (31, 17), (1, 1), (1, 9)])
def test_every_value_of_a_map_is_a_pixel_in_its_colour(shape: tuple[int, int], colours: str) -> None:
    values = random().normal(size=shape)
    shown = pixels(images(map_svg(values, photograph(), title="m", colours=colours))[0])  # type: ignore[arg-type]
    reach = np.abs(values).max()
    low, high = (-reach, reach) if colours == "diverging" else (values.min(), values.max())
    if high == low:
        low = min(low, 0)
    share = (values - low) / ((high - low) or 1)
    wanted = colour_table(colours)[np.rint(255 * share).astype(int)]  # type: ignore[arg-type]
    np.testing.assert_array_equal(shown, wanted)


def test_values_that_are_never_negative_start_at_zero_and_the_scale_says_so() -> None:
    values = np.array([[2.0, 4.0], [8.0, 3.0]])
    svg = map_svg(values, photograph(), title="m", colours="grey")
    assert pixels(images(svg)[0])[..., 0].tolist() == [[64, 128], [255, 96]]  # of 8, in 255ths
    assert [text.text for text in parsed(svg).iter(f"{SVG}text")] == ["m", "8", "0", "what it sees"]


def test_the_scale_has_real_minus_signs_and_its_greatest_value_on_top() -> None:
    svg = map_svg(np.array([[-1234.5, 0.001234]]), photograph(), title="m", colours="grey")
    words = [text for text in parsed(svg).iter(f"{SVG}text") if text.text not in {"m", "what it sees"}]
    assert [text.text for text in words] == ["0.00123", "−1,234"]
    assert float(words[0].attrib["y"]) < float(words[1].attrib["y"])
    _, bar, _ = images(svg)
    assert pixels(bar)[:, 0, 0].tolist() == list(range(255, -1, -1))


@pytest.mark.parametrize("constant", [0.0, 3.5, -2.0])
@pytest.mark.parametrize("colours", COLOURS)
def test_a_map_without_any_difference_is_one_colour(constant: float, colours: str) -> None:
    svg = map_svg(np.full((4, 4), constant), photograph(), title="m", colours=colours)  # type: ignore[arg-type]
    shown = pixels(images(svg)[0])
    assert (shown == shown[0, 0]).all()


def test_places_that_are_left_over_are_grey_and_colour_nothing_else() -> None:
    values = np.arange(1.0, 14.0)
    shown = pixels(images(map_svg(as_map(values), photograph(), title="fc8", colours="viridis"))[0])
    np.testing.assert_array_equal(shown.reshape(-1, 3)[13:], np.full((3, 3), 128))
    wanted = colour_table("viridis")[np.rint(255 * values / 13).astype(int)]
    np.testing.assert_array_equal(shown.reshape(-1, 3)[:13], wanted)


@pytest.mark.parametrize("shape", [(67, 67), (40, 100), (100, 40)])
def test_the_picture_is_shown_as_the_network_saw_it(shape: tuple[int, int]) -> None:
    picture = photograph(*shape)
    _, _, shown = images(map_svg(np.eye(3), picture, title="m"))
    np.testing.assert_array_equal(pixels(shown), picture)
    _, _, width, height = box(shown)
    assert height / width == pytest.approx(shape[0] / shape[1], rel=1e-2)


def test_nothing_lies_on_anything_else_or_outside_the_drawing() -> None:
    root = parsed(map_svg(random().normal(size=(5, 9)), photograph(60, 90), title="m"))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    boxes = [box(image) for image in root.iter(f"{SVG}image")]
    for left, top, wide, tall in boxes:
        assert left >= 0
        assert top >= 0
        assert left + wide <= width
        assert top + tall <= height
    map_box, scale_box, picture_box = boxes
    assert map_box[0] + map_box[2] < scale_box[0]
    assert map_box[1] + map_box[3] < picture_box[1]


@pytest.mark.parametrize("shape", [(13, 13), (4, 10)])
def test_the_cells_that_can_be_picked_are_the_map_s(shape: tuple[int, int]) -> None:
    root = parsed(map_svg(random().normal(size=shape), photograph(), title="conv5 · map 7"))
    (area,) = (rect for rect in root.iter(f"{SVG}rect") if "data-area" in rect.attrib)
    assert box(area) == box(next(root.iter(f"{SVG}image")))
    assert (int(area.attrib["data-rows"]), int(area.attrib["data-columns"])) == shape
    assert area.attrib["tabindex"] == "0"
    assert area.attrib["aria-label"].startswith("conv5 · map 7")
    marks = [rect for rect in root.iter(f"{SVG}rect") if rect.attrib.get("data-mark") == area.attrib["data-area"]]
    assert marks


@pytest.mark.parametrize("dashed", [False, True])
def test_the_frame_is_around_what_the_value_sees(dashed: bool) -> None:
    picture = photograph(100, 200)
    root = parsed(map_svg(np.eye(2), picture, title="m", frame=Frame(10, 40, 60, 120, dashed=dashed)))
    left, top, width, height = box(list(root.iter(f"{SVG}image"))[2])
    marks = [rect for rect in root.iter(f"{SVG}rect") if "x" in rect.attrib and "data-area" not in rect.attrib]
    assert len(marks) == 2  # light on dark, so that it shows on any picture
    for mark in marks:
        found = box(mark)
        assert found[0] == pytest.approx(left + 40 / 200 * width, abs=0.1)
        assert found[1] == pytest.approx(top + 10 / 100 * height, abs=0.1)
        assert found[2] == pytest.approx(80 / 200 * width, abs=0.1)
        assert found[3] == pytest.approx(50 / 100 * height, abs=0.1)
    assert sum("stroke-dasharray" in mark.attrib for mark in marks) == dashed


def test_the_overlay_is_the_map_over_the_picture_as_strong_as_asked() -> None:
    values = random().normal(size=(6, 6))
    assert len(images(map_svg(values, photograph(), title="m"))) == 3
    map_image, _, picture, laid = images(map_svg(values, photograph(), title="m", overlay=0.35))
    np.testing.assert_array_equal(pixels(laid), pixels(map_image))
    assert box(laid) == box(picture)
    assert [float(image.attrib["opacity"]) for image in (picture, laid)] == [1, 0.35]


def test_coarse_maps_are_not_smoothed() -> None:
    map_image, _, picture = images(map_svg(np.eye(6), photograph(), title="m"))
    assert "smooth" not in map_image.attrib.get("class", "")
    assert picture.attrib["class"] == "smooth"


def test_titles_are_text() -> None:
    root = parsed(map_svg(np.eye(2), photograph(), title=HOSTILE))
    assert root.attrib["aria-label"] == root.findtext(f"{SVG}text") == HOSTILE
    assert not list(root.iter(f"{SVG}script"))


# --- pictures beside one another -------------------------------------------------------------------------------------


def test_pictures_stand_side_by_side_under_their_headings() -> None:
    panels = [("the picture", photograph(50, 50)), (HOSTILE, photograph(40, 80)), ("coarse", photograph(6, 6))]
    root = parsed(pictures_svg(panels, title="Grad-CAM"))
    shown = list(root.iter(f"{SVG}image"))
    headings = list(root.iter(f"{SVG}text"))
    assert [heading.text for heading in headings] == [name for name, _ in panels]
    right = -1.0
    for image, heading, (_, wanted) in zip(shown, headings, panels, strict=True):
        np.testing.assert_array_equal(pixels(image), wanted)
        left, _, width, height = box(image)
        assert float(heading.attrib["x"]) == left > right
        assert height / width == pytest.approx(wanted.shape[0] / wanted.shape[1], rel=1e-2)
        right = left + width
    assert right <= float(root.attrib["width"]) + 0.5
    assert ["smooth" in image.attrib.get("class", "") for image in shown] == [True, True, False]


def test_no_pictures_are_an_empty_drawing() -> None:
    assert images(pictures_svg([], title="nothing")) == []


# --- one window of a convolution -------------------------------------------------------------------------------------


def grids(svg: str, shape: tuple[int, int]) -> list[list[ET.Element]]:
    """The cells of input, weight and product."""
    cells = [rect for rect in parsed(svg).iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    size = shape[0] * shape[1]
    assert len(cells) == 3 * size
    return [cells[number * size : (number + 1) * size] for number in range(3)]


@pytest.mark.parametrize("shape", [(11, 11), (3, 3), (1, 1), (2, 5)])
def test_every_number_of_the_window_stands_in_its_place(shape: tuple[int, int]) -> None:
    inputs, weights = random().normal(size=(2, *shape))
    products = inputs * weights
    svg = window_svg(inputs, weights, products, title="conv1")
    for cells, values in zip(grids(svg, shape), (inputs, weights, products), strict=True):
        lefts, tops = sorted({box(cell)[0] for cell in cells}), sorted({box(cell)[1] for cell in cells})
        for cell in cells:
            row, column = tops.index(box(cell)[1]), lefts.index(box(cell)[0])
            said = cell.findtext(f"{SVG}title") or ""
            assert said.startswith(f"row {row}, column {column}: ")
            assert float(said.rpartition(" ")[2]) == pytest.approx(values[row, column], rel=1e-5)
    root = parsed(svg)
    heads = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "head"]
    assert heads == ["input", "weight", "product"]


def test_positive_is_red_negative_blue_and_zero_nearly_white() -> None:
    values = np.array([[-2.0, 0.0, 2.0]])
    for cells in grids(window_svg(values, values, values, title=""), (1, 3)):
        colours = [[int(cell.attrib["fill"][place : place + 2], 16) for place in (1, 3, 5)] for cell in cells]
        blue, white, red = colours
        assert blue[2] > blue[0] + 100
        assert min(white) > 240
        assert red[0] > red[2] + 100


@pytest.mark.parametrize("inputs", [np.zeros((3, 3)), np.full((2, 2), 1e-30), np.full((2, 2), -1e30)])
def test_a_window_of_nothing_and_of_extremes_is_drawn(inputs: Floats) -> None:
    cells = grids(window_svg(inputs, inputs, np.zeros_like(inputs), title="padding"), inputs.shape)  # type: ignore[arg-type]
    assert all(re.fullmatch("#[0-9a-f]{6}", cell.attrib["fill"]) for grid in cells for cell in grid)


def test_numbers_fit_their_cells() -> None:
    values = np.array([[0.0, 1.0, -0.5, 123.4, -99.44, 0.0123, -0.00012, 0.995, 9.96]])
    root = parsed(window_svg(values, values, values, title=""))
    words = [text.text for text in root.iter(f"{SVG}text") if "fill" in text.get("style", "")]
    assert words[: values.size] == ["0", "1.0", "−.50", "123", "−99.4", ".012", "−.000", "1.0", "10.0"]


def test_a_window_s_title_is_text() -> None:
    root = parsed(window_svg(np.eye(2), np.eye(2), np.eye(2), title=HOSTILE))
    assert root.attrib["aria-label"] == HOSTILE
    assert not list(root.iter(f"{SVG}script"))


# --- histogram and classes -------------------------------------------------------------------------------------------


def test_the_histogram_shows_every_value_once() -> None:
    values = torch.randn(40, 40, generator=torch.Generator().manual_seed(0)).relu()
    found = histogram(values)
    (bars,) = map_histogram(found, "map 3 of relu1", LIGHT).data
    assert sum(bars.y) == 1600
    left, right = np.array(bars.x) - np.array(bars.width) / 2, np.array(bars.x) + np.array(bars.width) / 2
    for low, high, count in zip(left[1:-1], right[1:-1], bars.y[1:-1], strict=True):
        assert count == int(((values >= low) & (values < high)).sum())
    assert left[0] == pytest.approx(0)
    assert right[-1] == pytest.approx(float(values.max()), rel=1e-6)
    assert bars.y[0] >= int((values == 0).sum())


@pytest.mark.parametrize("constant", [0.0, 7.0, -1e6])
def test_the_histogram_of_a_constant_map_is_one_bar(constant: float) -> None:
    (bars,) = map_histogram(histogram(torch.full((5, 5), constant)), "m", DARK).data
    assert sorted(bars.y)[-2:] == [0, 25]
    assert abs(bars.x[int(np.argmax(bars.y))] - constant) <= 0.5
    assert (np.array(bars.width) > 0).all()


def test_class_bars_say_each_class_from_the_top() -> None:
    long = "a very long name of a kind of dog that nobody would ever want to read beside a bar"
    classes = [ClassProbability("tench", 0.7, 4), ClassProbability(long, 0.2, 0), ClassProbability("tench", 0.1, 9)]
    figure = class_bars(classes, LIGHT)
    (bars,) = figure.data
    assert list(bars.x) == [0.7, 0.2, 0.1]
    assert list(bars.text) == ["70.0%", "20.0%", "10.0%"]
    assert [tuple(one) for one in bars.customdata] == [("tench", 4), (long, 0), ("tench", 9)]  # in full
    assert len(set(bars.y)) == 3  # two of one name stay two bars
    assert figure.layout.yaxis.autorange == "reversed"
    names = figure.layout.yaxis.ticktext
    assert (names[0], names[2]) == ("tench", "tench")
    assert names[1].endswith("…")
    assert len(names[1]) == 40
    assert long.startswith(names[1][:-1])


def test_one_class_is_one_bar() -> None:
    (bars,) = class_bars([ClassProbability("everything", 1.0, 0)], DARK).data
    assert (list(bars.x), list(bars.text)) == ([1.0], ["100.0%"])


# --- kernels ---------------------------------------------------------------------------------------------------------


def wave(degrees: float, frequency: float, side: int = 11) -> Floats:
    """Stripes in this direction, counter-clockwise from lying ones, as on paper."""
    angle = np.deg2rad(degrees)
    y, x = np.mgrid[0:side, 0:side]
    return np.cos(2 * np.pi * frequency * (x * np.sin(angle) + y * np.cos(angle)))


def kernels_of(*waves: Floats, colour: int | None = None) -> Floats:
    weights = np.stack([np.stack([one] * 3) for one in waves])
    if colour is not None:
        weights[colour] *= np.array([1, 0, -1])[:, None, None]
    return weights


def test_the_kernel_figure_has_the_weights_the_spectrum_and_the_response() -> None:
    weights = kernels_of(wave(30, 0.2))[0]
    tile = photograph(11, 11)
    power = spectrum(weights)
    response = random().normal(size=(31, 31))
    picture, spread, answer = kernel_figure(tile, weights, power, response, LIGHT).data
    np.testing.assert_array_equal(picture.z, tile)
    np.testing.assert_array_equal(picture.customdata, weights.transpose(1, 2, 0))
    np.testing.assert_allclose(spread.z, power / power.sum())
    np.testing.assert_array_equal(answer.z, response)
    assert answer.zmax == -answer.zmin == np.abs(response).max()
    assert len(spread.x) == power.shape[1]
    assert spread.x[int(np.argmin(np.abs(spread.x)))] == 0
    # The brightest place is the wave itself: as far from the middle as it is fine.
    row, column = np.unravel_index(int(np.argmax(spread.z)), power.shape)
    assert np.hypot(spread.x[column], spread.y[row]) == pytest.approx(0.2, abs=0.04)


def test_every_panel_has_its_title_and_row_0_on_top() -> None:
    weights = kernels_of(wave(30, 0.2))[0]
    for response, count in ((None, 2), (random().normal(size=(4, 9)), 3)):
        figure = kernel_figure(photograph(11, 11), weights, spectrum(weights), response, DARK)
        titles = [note.text for note in figure.layout.annotations]
        assert titles == ["weights", "spectrum, cycles/pixel", "response, before ReLU"][:count]
        axes = [figure.layout[name] for name in ("yaxis", "yaxis2", "yaxis3")[:count]]
        assert all(axis.autorange == "reversed" or axis.range[0] > axis.range[1] for axis in axes)


def test_a_silent_kernel_and_a_silent_response_are_drawn() -> None:
    nothing = np.zeros((3, 11, 11))
    _, spread, answer = kernel_figure(
        np.full((11, 11, 3), 128, np.uint8), nothing, spectrum(nothing), np.zeros((5, 5)), LIGHT
    ).data
    assert np.isfinite(spread.z).all()
    assert answer.zmax > answer.zmin


def test_a_deep_kernel_names_no_colours() -> None:
    weights = random().normal(size=(48, 5, 5))
    picture = kernel_figure(photograph(5, 5), weights, spectrum(weights), None, LIGHT).data[0]
    assert "red" not in picture.hovertemplate
    assert picture.customdata is None


def test_kernels_lie_at_their_wave_in_both_ends_of_the_plane() -> None:
    weights = kernels_of(wave(0, 0.25), wave(90, 0.25), wave(45, 0.2), wave(135, 0.3))
    plane = fourier_scatter(kernel_measures(weights), ("all kernels",), LIGHT).data[0]
    assert [one[0] for one in plane.customdata] == [0, 1, 2, 3] * 2
    np.testing.assert_allclose(plane.x[4:], -np.array(plane.x[:4]))
    np.testing.assert_allclose(plane.y[4:], -np.array(plane.y[:4]))
    # A wave is perpendicular to its stripes: lying stripes on the vertical axis, rising ones to the lower right.
    wanted = [(0, 0.25), (0.25, 0), (0.2, -0.2), (0.3, 0.3)]
    for x, y, (right, up), length in zip(plane.x, plane.y, wanted, (0.25, 0.25, 0.2, 0.3), strict=False):
        direction = np.array([right, up]) / np.hypot(right, up)
        assert abs(np.dot([x, y], direction)) == pytest.approx(length, abs=0.03)
        assert np.hypot(x, y) == pytest.approx(length, abs=0.03)


def test_each_tower_has_its_colour_and_its_row() -> None:
    weights = kernels_of(wave(0, 0.25), wave(90, 0.25), wave(45, 0.2), wave(135, 0.3), colour=0)
    for palette in (LIGHT, DARK):
        figure = fourier_scatter(kernel_measures(weights, 2), ("GPU 1", "GPU 2"), palette)
        assert [trace.name for trace in figure.data] == ["GPU 1", "GPU 1", "GPU 2", "GPU 2"]
        inks = [trace.marker.color for trace in figure.data]
        assert inks == [palette.tower1, palette.tower1, palette.tower2, palette.tower2]
    axis = figure.layout.yaxis2
    named = dict(zip(axis.ticktext, axis.tickvals, strict=True))
    for name, trace in (("GPU 1", figure.data[1]), ("GPU 2", figure.data[3])):
        assert all(abs(y - named[name]) < 0.5 for y in trace.y)
    assert named["GPU 1"] > named["GPU 2"]  # the first on top
    assert list(figure.data[1].x) == pytest.approx([1, 0], abs=1e-9)  # red minus blue has no grey at all
    assert [trace.showlegend for trace in figure.data if trace.xaxis == "x2"] == [False, False]


def test_kernels_without_direction_are_missing_from_the_plane_only() -> None:
    blob = np.exp(-((np.mgrid[0:11, 0:11] - 5) ** 2).sum(0) / 20)
    weights = kernels_of(blob, wave(90, 0.25), np.zeros((11, 11)))
    plane, colours = fourier_scatter(kernel_measures(weights), ("all kernels",), LIGHT).data
    assert [one[0] for one in plane.customdata] == [1, 1]
    assert list(colours.customdata) == [0, 1]  # what is 0 has no colour either


def test_deeper_layers_have_no_colourfulness() -> None:
    weights = random().normal(size=(4, 8, 5, 5))
    figure = fourier_scatter(kernel_measures(weights, 2), ("GPU 1", "GPU 2"), LIGHT)
    assert len(figure.data) == 2
    assert len(figure.layout.annotations) == 1


def test_kernels_of_nothing_are_an_empty_plane() -> None:
    figure = fourier_scatter(kernel_measures(np.zeros((2, 3, 11, 11))), ("all kernels",), LIGHT)
    assert [len(trace.x) for trace in figure.data] == [0]
    low, high = figure.layout.xaxis.range
    assert -low == high > 0


@pytest.mark.parametrize("side", [1, 3])
def test_the_smallest_kernels_are_drawn(side: int) -> None:
    weights = random().normal(size=(2, 4, side, side))
    fourier_scatter(kernel_measures(weights), ("all kernels",), LIGHT)
    figure = kernel_figure(photograph(side, side), weights[0], spectrum(weights[0]), None, LIGHT)
    assert np.isfinite(figure.data[1].z).all()


def test_maps_side_by_side_are_coloured_between_their_ends_and_what_is_no_number_is_grey() -> None:
    before, after = np.array([[0.0, 4.0], [8.0, 2.0]]), np.array([[0.0, np.nan], [4.0, 2.0]])
    svg = maps_svg([Panel("a", "before", before, (0.0, 8.0)), Panel("b", "after <b>", after, (0.0, 8.0))], title="two")
    first, _, second, _ = (pixels(image) for image in images(svg))
    table = colour_table("viridis")
    np.testing.assert_array_equal(first, table[np.array([[0, 128], [255, 64]])])
    np.testing.assert_array_equal(second[1], table[[128, 64]])  # the same value has the same colour in both
    assert second[0, 1].tolist() == [128, 128, 128]
    areas = [rect.attrib for rect in parsed(svg).iter(f"{SVG}rect") if "data-area" in rect.attrib]
    assert [(area["data-area"], area["data-rows"], area["data-columns"]) for area in areas] == [
        ("a", "2", "2"),
        ("b", "2", "2"),
    ]
    assert "after &lt;b&gt;" in svg


def test_exact_ends_show_what_hardly_varies() -> None:
    values = np.array([[0.590, 0.592], [0.594, 0.595]], np.float32)

    def greys(*, exact: bool) -> list[int]:
        panel = Panel("ratio", "ratio", values, (0.590, 0.595), "grey", exact=exact)
        return _coloured(panel)[..., 0].ravel().tolist()

    assert greys(exact=True) == [0, 102, 204, 255]  # of 255: 0/5, 2/5, 4/5 and 5/5
    assert min(greys(exact=False)) > 250  # of 0 to 0.595


@pytest.mark.parametrize(
    ("ratios", "black"),
    [((0.5918, 0.595), 0.5918), ((0.13, 0.595), 0.0), ((0.595, 0.595), 0.0), ((np.nan, 0.59), 0.59)],
)
def test_a_ratio_is_stretched_where_hardly_anything_is_inhibited(ratios: tuple[float, float], black: float) -> None:
    assert _black(np.array(ratios), 0.595) == pytest.approx(black)
