from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from alexnet.errors import UserError
from analysis.sheets import (
    COLOURS,
    Group,
    Sheet,
    colour_table,
    composed,
    kernel_tiles,
    labelled,
    map_tiles,
    scale_ends,
    tower_groups,
)
from app.figures.sheets import sheet_svg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tiles = NDArray[np.uint8]

SVG = "{http://www.w3.org/2000/svg}"


def random_tiles(count: int, height: int, width: int) -> Tiles:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def sheet_of(count: int, tile: tuple[int, int], columns: int = 4, *, beside: bool = False, heading: int = 0) -> Sheet:
    half = count // 2
    shuffled = np.random.default_rng(1).permutation(count).tolist()
    groups = tower_groups((shuffled[:half], shuffled[half:]), ("GPU 1", "GPU 2"))
    return Sheet(groups, columns, tile, beside=beside, heading=heading)


# --- values to colours -----------------------------------------------------------------------------------------------


def test_weights_become_bytes_around_mid_grey() -> None:
    weights = np.zeros((2, 3, 2, 2))
    weights[0, 0, 0, 1], weights[0, 2, 1, 0] = 4.0, -2.0
    weights[1, 1, 1, 1] = -1.0
    each = kernel_tiles(weights)
    assert each.shape == (2, 2, 2, 3)
    assert each[0, 0, 0].tolist() == [128, 128, 128]
    assert each[0, 0, 1].tolist() == [255, 128, 128]
    assert each[0, 1, 0].tolist() == [128, 128, 64]  # 128 − 63.5, and numpy rounds to even
    assert each[1, 1, 1].tolist() == [128, 1, 128]
    together = kernel_tiles(weights, "global")
    np.testing.assert_array_equal(together[0], each[0])
    assert together[1, 1, 1].tolist() == [128, 96, 128]  # 128 − 127/4


def test_one_channel_is_grey_and_scaled_for_itself() -> None:
    weights = np.random.default_rng(0).normal(size=(5, 3, 4, 4)) * [[[[1]], [[10]], [[100]]]]
    for number, name in enumerate(("red", "green", "blue")):
        tiles = kernel_tiles(weights, channels=name)  # type: ignore[arg-type]
        np.testing.assert_array_equal(tiles, kernel_tiles(weights, channels=number))
        np.testing.assert_array_equal(tiles[..., 0], tiles[..., 2])
        for kernel, tile in zip(weights[:, number], tiles[..., 0].astype(int), strict=True):
            np.testing.assert_allclose(tile, 128 + 127 * kernel / np.abs(kernel).max(), atol=0.5)


def test_the_pattern_of_a_kernel_that_is_one_pattern() -> None:
    pattern = np.random.default_rng(0).normal(size=(4, 5))
    strengths = np.array([0.5, 3.0, 1.0, -0.2, 0, 0, 2])
    for sign in (1, -1):
        tiles = kernel_tiles(sign * strengths[None, :, None, None] * pattern, channels="pattern")
        np.testing.assert_array_equal(tiles, kernel_tiles(sign * pattern[None, None], channels=0))


def test_silent_kernels_and_maps_are_not_noise() -> None:
    assert set(kernel_tiles(np.zeros((2, 3, 3, 3))).ravel().tolist()) == {128}
    for colours in COLOURS:
        tiles = map_tiles(np.zeros((2, 3, 3)), colours=colours)
        middle = colour_table(colours)[128 if colours == "diverging" else 0]
        assert (tiles == middle).all()


@pytest.mark.parametrize("channels", ["rgb", "red"])
def test_maps_have_no_colours(channels: str) -> None:
    with pytest.raises(UserError, match="look at 5 maps, not at red, green and blue"):
        kernel_tiles(np.zeros((2, 5, 3, 3)), channels=channels)  # type: ignore[arg-type]


def test_unknown_choices_are_refused() -> None:
    weights = np.zeros((1, 3, 2, 2))
    with pytest.raises(UserError, match="scaled by kernel or global, not by 'log'"):
        kernel_tiles(weights, "log")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no channel 3"):
        kernel_tiles(weights, channels=3)
    with pytest.raises(UserError, match="scaled by map or global"):
        map_tiles(weights[0], "kernel")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not in 'jet'"):
        map_tiles(weights[0], colours="jet")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="one column or more"):
        Sheet((), 0, (3, 3))


def test_viridis_is_viridis() -> None:
    from plotly.colors import hex_to_rgb, sequential

    table = colour_table("viridis").astype(int)
    for share, colour in zip(np.linspace(0, 255, 10), sequential.Viridis, strict=True):
        assert np.abs(table[round(share)] - hex_to_rgb(colour)).max() <= 8
    light = table @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light[::8]) > 0).all()  # bytes are too coarse for single steps


def test_maps_are_scaled_each_or_together() -> None:
    maps = np.stack([np.linspace(0, 4, 12).reshape(3, 4), np.linspace(2, 8, 12).reshape(3, 4)])
    table = colour_table("grey")
    for scaling, lows, highs in (("map", (0, 0), (4, 8)), ("global", (0, 0), (8, 8))):
        tiles = map_tiles(maps, scaling, "grey")  # type: ignore[arg-type]
        for values, tile, low, high in zip(maps, tiles, lows, highs, strict=True):
            np.testing.assert_array_equal(tile, table[np.rint(255 * (values - low) / (high - low)).astype(int)])


def test_zero_is_the_middle_of_diverging_colours() -> None:
    maps = np.array([[[-1.0, 0.0, 3.0]]])
    tiles = map_tiles(maps, colours="diverging")[0, 0].astype(int)
    table = colour_table("diverging").astype(int)
    assert np.abs(tiles - table[[85, 128, 255]]).max() <= 4  # (−1 + 3)/6 of 255 is 85
    assert [float(end.squeeze()) for end in scale_ends(maps.min(), maps.max(), "diverging")] == [-3, 3]


def test_maps_below_zero_use_their_whole_range() -> None:
    tiles = map_tiles(np.array([[[-5.0, -4.0, -3.0]]]), colours="grey")
    assert tiles[0, 0, :, 0].tolist() == [0, 128, 255]


# --- layout ----------------------------------------------------------------------------------------------------------


def test_the_papers_figure_3() -> None:
    sheet = Sheet(tower_groups((range(48), range(48, 96)), ("GPU 1", "GPU 2")), 16, (11, 11))
    assert sheet.rows == (3, 3)
    assert sheet.size == (16 * 12 - 1, 2 * (3 * 12 - 1) + 4)
    places = {place.item: place for place in sheet.places()}
    assert places[17][1:] == (0, 1, 1, 12, 12)
    assert places[48][1:] == (1, 3, 0, 0, 3 * 12 - 1 + 4)
    aside = Sheet(sheet.groups, 8, (11, 11), beside=True)
    places = {place.item: place for place in aside.places()}
    assert aside.size == (2 * 95 + 4, 6 * 12 - 1)
    assert places[48][1:] == (1, 0, 8, 99, 0)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("heading", [0, 7])
@pytest.mark.parametrize(("count", "tile"), [(10, (3, 5)), (13, (4, 4)), (2, (1, 6)), (24, (6, 2))])
def test_every_tile_is_found_in_its_place(count: int, tile: tuple[int, int], heading: int, beside: bool) -> None:
    tiles, sheet = random_tiles(count, *tile), sheet_of(count, tile, beside=beside, heading=heading)
    for scale in (1, 3):
        picture = np.asarray(composed(tiles, sheet, scale))
        assert picture.shape == (sheet.size[1] * scale, sheet.size[0] * scale, 4)
        covered = np.zeros(picture.shape[:2], bool)
        places = sheet.places()
        assert sorted(place.item for place in places) == list(range(count))
        assert len({(place.row, place.column) for place in places}) == count
        for place in places:
            rows = slice(place.top * scale, (place.top + tile[0]) * scale)
            columns = slice(place.left * scale, (place.left + tile[1]) * scale)
            enlarged = tiles[place.item].repeat(scale, axis=0).repeat(scale, axis=1)
            np.testing.assert_array_equal(picture[rows, columns, :3], enlarged)
            assert not covered[rows, columns].any()
            covered[rows, columns] = True
        np.testing.assert_array_equal(picture[..., 3] == 255, covered)
        assert not covered[: heading * scale].any()


def test_a_background_fills_the_gaps() -> None:
    tiles = random_tiles(4, 2, 2)
    picture = composed(tiles, sheet_of(4, (2, 2)), background="#102030")
    assert picture.mode == "RGB"
    assert picture.getpixel((2, 0)) == (0x10, 0x20, 0x30)


def test_an_empty_sheet_has_no_size() -> None:
    sheet = Sheet((Group("none", ()),), 4, (3, 3))
    assert (sheet.size, sheet.places()) == ((0, 0), ())
    assert "<image" in sheet_svg(random_tiles(0, 3, 3), sheet, [], title="nothing")


def test_tiles_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        composed(random_tiles(4, 3, 3), sheet_of(4, (2, 2)))
    with pytest.raises(ValueError, match="scale"):
        composed(random_tiles(4, 2, 2), sheet_of(4, (2, 2)), 0)


# --- for print -------------------------------------------------------------------------------------------------------


def contains(picture: Image.Image, tile: Tiles, scale: int) -> bool:
    """Whether the enlarged tile is somewhere in the picture, pixel by pixel."""
    pixels, wanted = np.asarray(picture), tile.repeat(scale, axis=0).repeat(scale, axis=1)
    height, width = wanted.shape[:2]
    starts = np.argwhere((pixels == wanted[0, 0]).all(axis=2))
    return any(np.array_equal(pixels[top : top + height, left : left + width], wanted) for top, left in starts.tolist())


@pytest.mark.parametrize("numbers", [False, True])
def test_a_printed_figure_holds_every_tile(numbers: bool) -> None:
    tiles, sheet = random_tiles(12, 5, 4), sheet_of(12, (5, 4))
    picture = labelled(tiles, sheet, "conv1: 12 kernels", "What to see. " * 20, scale=8, numbers=numbers)
    assert all(contains(picture, tile, 8) for tile in tiles)


def ink(picture: Image.Image, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(picture) == colour).all(axis=2).sum())


def test_headings_have_the_towers_colours() -> None:
    tiles = np.full((12, 5, 4, 3), 128, np.uint8)
    picture = labelled(tiles, sheet_of(12, (5, 4)), "title", "caption", scale=20)
    assert ink(picture, (0x25, 0x63, 0xA8)) > 30
    assert ink(picture, (0xC2, 0x57, 0x1A)) > 30
    alone = Sheet(tower_groups((range(12),), ("all kernels",)), 4, (5, 4))
    assert ink(labelled(tiles, alone, "title", scale=20), (0x25, 0x63, 0xA8)) == 0


def test_letters_that_the_font_lacks_are_spelt_out() -> None:
    tiles, sheet = random_tiles(4, 5, 5), sheet_of(4, (5, 5))

    def drawn(title: str) -> bytes:
        return labelled(tiles, sheet, title, scale=30).tobytes()

    assert drawn("11×11") == drawn("11x11")
    assert drawn("Café α") == drawn("Cafe alpha")
    assert drawn("日本") == drawn("??")
    assert drawn("11x11") != drawn("11y11")


def test_the_figure_grows_to_print_size_and_no_further_than_programs_open() -> None:
    tiles = random_tiles(96, 11, 11)
    sheet = Sheet(tower_groups((range(48), range(48, 96)), ("GPU 1", "GPU 2")), 16, (11, 11))
    assert 1400 < labelled(tiles, sheet, "conv1", "caption").size[0] < 1800
    with pytest.raises(UserError, match="too large"):
        labelled(tiles, sheet, "conv1", scale=100)


# --- for the page ----------------------------------------------------------------------------------------------------


def drawing(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own


@pytest.mark.parametrize("beside", [False, True])
def test_every_tile_is_a_button_over_its_picture(beside: bool) -> None:
    tiles, sheet = random_tiles(10, 3, 5), sheet_of(10, (3, 5), beside=beside)
    root = drawing(sheet_svg(tiles, sheet, [f"kernel {i}" for i in range(10)], title="conv1", selected=4))
    (image,) = root.iter(f"{SVG}image")
    data = image.attrib["href"].removeprefix("data:image/png;base64,")
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    scale = float(image.attrib["width"]) / pixels.shape[1]
    assert float(image.attrib["height"]) / pixels.shape[0] == pytest.approx(scale, rel=0.01)
    buttons = [rect for rect in root.iter(f"{SVG}rect") if "data-item" in rect.attrib]
    assert sorted(int(rect.attrib["data-item"]) for rect in buttons) == list(range(10))
    for rect in buttons:
        item = int(rect.attrib["data-item"])
        left, top, width, height = (round(float(rect.attrib[name]) / scale) for name in ("x", "y", "width", "height"))
        assert (width, height) == (5, 3)
        np.testing.assert_array_equal(pixels[top : top + 3, left : left + 5, :3], tiles[item])
        assert rect.attrib["role"] == "button"
        assert rect.attrib["aria-label"] == rect.findtext(f"{SVG}title") == f"kernel {item}"
        assert rect.attrib["aria-pressed"] == str(item == 4).lower()
        assert rect.attrib["tabindex"] == ("0" if item == 4 else "-1")
    grid = {(int(rect.attrib["data-row"]), int(rect.attrib["data-column"])) for rect in buttons}
    assert grid == {(place.row, place.column) for place in sheet.places()}


def test_headings_stand_above_their_groups() -> None:
    sheet = sheet_of(10, (3, 5))
    root = drawing(sheet_svg(random_tiles(10, 3, 5), sheet, [""] * 10, title=""))
    headings = list(root.iter(f"{SVG}text"))
    assert [(text.text, text.attrib["class"]) for text in headings] == [("GPU 1", "t1"), ("GPU 2", "t2")]
    tops = {int(r.attrib["data-row"]): float(r.attrib["y"]) for r in root.iter(f"{SVG}rect") if "data-row" in r.attrib}
    assert 12 < float(headings[0].attrib["y"]) < tops[0]
    below_first = tops[1] + (tops[1] - tops[0]) * 0.5
    assert below_first < float(headings[1].attrib["y"]) < tops[2]


def test_one_tile_can_always_be_reached() -> None:
    sheet = sheet_of(6, (3, 3))
    for selected in (None, 77):
        svg = sheet_svg(random_tiles(6, 3, 3), sheet, [""] * 6, title="", selected=selected)
        assert svg.count('tabindex="0"') == 1


def test_text_is_escaped() -> None:
    hostile = '"><script>alert(1)</script>&'
    sheet = Sheet((Group(hostile, (0,)),), 1, (3, 3))
    svg = sheet_svg(random_tiles(1, 3, 3), sheet, {0: hostile}, title=hostile)
    assert "<script" not in svg
    root = drawing(svg)
    assert root.attrib["aria-label"] == root.findtext(f".//{SVG}title") == root.findtext(f".//{SVG}text") == hostile


def test_a_page_of_kernels_is_small() -> None:
    sheet = Sheet(tower_groups((range(48), range(48, 96)), ("GPU 1", "GPU 2")), 16, (11, 11))
    svg = sheet_svg(random_tiles(96, 11, 11), sheet, ["conv1 kernel, GPU 1: colourfulness 0.83"] * 96, title="conv1")
    assert len(svg) < 110_000  # of noise, which no PNG makes smaller than 3 bytes a pixel
    assert not re.search(r"\b(nan|inf)\b", svg)


def test_neither_kernels_nor_sheets_load_torch() -> None:
    code = (
        "import sys, analysis.kernels, app.figures.sheets; print({'torch', 'streamlit', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
