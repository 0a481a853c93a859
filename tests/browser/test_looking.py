"""Kernels and activations in a real browser: what is clicked, typed, uploaded and saved."""

from __future__ import annotations

import base64
import dataclasses
import io
import pickle
import re
import xml.etree.ElementTree as ET
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from alexnet import checkpoints
from alexnet.foreign import open_checkpoint
from alexnet.inference import looked_at
from alexnet.zoo import network_from
from analysis.receptive import seen
from analysis.sheets import kernel_tiles
from app import queries
from tests.serving import settle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from playwright.sync_api import Locator, Page

    from alexnet.checkpoints import Checkpoint

pytestmark = pytest.mark.xdist_group("browser")  # one server and one browser for all of them

SVG = "{http://www.w3.org/2000/svg}"
SECOND = 1_000
LONG = 60 * SECOND  # the first page waits for torch
SHEET = ".st-key-sheet_of_kernels svg.sheet"


def quiet(page: Page) -> None:
    """Wait until everything on the page is what the last run drew."""
    settle(page)
    page.wait_for_selector("[data-stale='true']", state="detached", timeout=LONG)


def look(page: Page, address: str, path: str) -> None:
    page.goto(f"{address}/{path}")
    name = "Kernels" if path.startswith("kernels") else "Activations"
    page.wait_for_selector(f"h1:has-text('{name}')", timeout=LONG)
    page.wait_for_selector(".drawing svg", timeout=LONG)
    quiet(page)


def detail(page: Page, text: str) -> None:
    page.wait_for_selector(f".st-key-detail_kernel h3:has-text('{text}')", timeout=LONG)


def cell_title(page: Page, text: str) -> None:
    page.wait_for_selector(f".st-key-detail_map :text('{text}')", timeout=LONG)


def save(page: Page, target: str, fmt: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator(f".st-key-save_{target} button[data-format={fmt}]").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@cache
def built_in() -> Checkpoint:
    return open_checkpoint(queries.BUILT_IN)


def side(name: str) -> int:
    """How many rows and columns the maps of a stage of the built-in network have."""
    return next(stage.out_shape[1] for stage in built_in().network.stages() if stage.name == name)


# --- kernels ---------------------------------------------------------------------------------------------------------


def test_click_on_a_kernel_shows_it_and_says_so_in_the_address(page: Page, address: str) -> None:
    look(page, address, "kernels")
    assert page.locator(f"{SHEET} rect.tile").count() == 96
    assert [text.text_content() for text in page.locator(f"{SHEET} text").all()] == ["GPU 1", "GPU 2"]
    page.locator(f"{SHEET} [data-item='66']").click()
    detail(page, "conv1 · kernel 66 · GPU 2")
    page.wait_for_url(re.compile("kernel=66"))
    quiet(page)
    assert page.locator(f"{SHEET} rect.selected").get_attribute("data-item") == "66"
    norm = float(built_in().weights["conv1.weight"][66].double().norm())
    page.wait_for_selector(f".st-key-detail_kernel strong:text-is('{norm:.4g}')")
    # The next layers are one click away.
    page.get_by_role("button", name="conv2", exact=True).or_(page.get_by_role("radio", name="conv2")).first.click()
    detail(page, "conv2 · kernel 66 · GPU 1")
    page.wait_for_selector(".st-key-kernel_slices svg.sheet")
    assert page.locator(".st-key-kernel_slices rect.tile").count() == 48
    assert page.locator(f"{SHEET} rect.tile").count() == 256


def focus(page: Page, key: str, most: int = 80) -> None:
    """Reaches the figure in this container with the Tab key alone."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(f"!!document.activeElement?.closest('.st-key-{key} svg')"):
            return
    pytest.fail(f"Tab never reached {key}")


def item(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.dataset.item")
    return found


def test_the_sheet_of_kernels_works_by_keyboard_alone(page: Page, address: str) -> None:
    look(page, address, "kernels")
    focus(page, "sheet_of_kernels")
    assert item(page) == "0"
    for key, reached in (
        ("ArrowRight", "1"),
        ("ArrowDown", "17"),
        ("ArrowDown", "33"),
        ("ArrowDown", "49"),  # from the first GPU to the second
        ("ArrowUp", "33"),
        ("ArrowLeft", "32"),
        ("Home", "0"),
        ("ArrowUp", "0"),
        ("End", "95"),
        ("ArrowDown", "95"),
    ):
        page.keyboard.press(key)
        assert item(page) == reached, key
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    detail(page, "conv1 · kernel 79 · GPU 2")
    quiet(page)
    assert item(page) == "79"  # focus survives the redraw
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    detail(page, "conv1 · kernel 78 · GPU 2")


def pick(page: Page, key: str, option: str) -> None:
    page.locator(f".st-key-{key} input").click()
    page.keyboard.type(option)  # long lists show only a part
    page.get_by_role("option", name=option, exact=True).click()
    quiet(page)


def until(page: Page, condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        page.wait_for_timeout(50)
    pytest.fail("waited in vain")


def order(page: Page) -> list[int]:
    """Numbers of the kernels as they are shown, row by row."""
    tiles: list[dict[str, str]] = page.locator(f"{SHEET} rect.tile").evaluate_all(
        "all => all.map(r => ({...r.dataset}))"
    )
    return [int(tile["item"]) for tile in sorted(tiles, key=lambda tile: (int(tile["row"]), int(tile["column"])))]


def test_sorted_by_norm_each_tower_has_its_strongest_kernels_first(page: Page, address: str) -> None:
    look(page, address, "kernels?kernel=40")
    assert order(page) == list(range(96))
    pick(page, "pick_sort", "Norm")
    page.wait_for_url(re.compile("sort=Norm"))
    norms = built_in().weights["conv1.weight"].double().flatten(1).norm(dim=1).numpy()
    strongest = [*np.argsort(-norms[:48], kind="stable"), *(48 + np.argsort(-norms[48:], kind="stable"))]
    until(page, lambda: order(page) == strongest)
    detail(page, "conv1 · kernel 40 · GPU 1")  # still the one that was picked


@pytest.fixture
def many_pictures(tmp_path: Path) -> Path:
    """So many that a search can be stopped."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    first = folder / "0.bmp"
    Image.fromarray(random.integers(0, 256, (160, 160, 3), dtype=np.uint8)).save(first)
    for number in range(1, 6_000):
        (folder / f"{number}.bmp").hardlink_to(first)
    return folder


def test_search_for_patches_shows_its_progress_and_can_be_stopped(
    page: Page, address: str, many_pictures: Path
) -> None:
    look(page, address, "kernels?layer=conv5&kernel=3")  # to conv5 it takes long enough to be stopped
    page.locator(".st-key-search_data input").fill(str(many_pictures))
    page.locator(".st-key-search_data input").press("Enter")
    page.locator(".st-key-search_count input").fill("6000")
    page.locator(".st-key-search_count input").press("Enter")
    quiet(page)
    page.get_by_role("button", name="Look through them").click()
    page.wait_for_selector("[data-testid='stProgress']:has-text('of 6,000 pictures')", timeout=LONG)
    for _ in range(20):  # on a busy machine a click can meet a button that is just being drawn anew
        stop = page.get_by_role("button", name="Stop", exact=True)
        if stop.count():
            stop.last.click(timeout=LONG)
        page.wait_for_timeout(2 * SECOND)
        if not page.locator("[data-testid='stProgress']").count():
            break
    page.wait_for_selector("[data-testid='stProgress']", state="detached", timeout=LONG)
    page.wait_for_selector("button:has-text('Look through them')")
    quiet(page)
    caption = page.locator("text=/The strongest place in each of the/")
    caption.wait_for(timeout=LONG)
    said = re.search(r"excite it most, of ([\d,]+): the 163×163 pixels", caption.inner_text())
    assert said
    assert 0 < int(said[1].replace(",", "")) < 6_000


def test_search_for_patches_ends_and_shows_them_for_every_kernel(page: Page, address: str) -> None:
    look(page, address, "kernels")
    page.locator(".st-key-search_count input").fill("40")
    page.locator(".st-key-search_count input").press("Enter")
    quiet(page)
    page.get_by_role("button", name="Look through them").click()
    page.wait_for_selector("text=/excite it most, of 40: the 11×11 pixels it sees/", timeout=LONG)
    patches = page.locator(".st-key-exciting_patches svg.sheet")
    assert patches.locator("rect.tile").count() == 9
    first = patches.locator("image").get_attribute("href")
    page.locator(f"{SHEET} [data-item='50']").click()
    detail(page, "conv1 · kernel 50 · GPU 2")
    quiet(page)
    assert patches.locator("image").get_attribute("href") != first
    page.wait_for_selector("text=What excites kernel 50 most")
    # Nothing runs on: the page does not ask the server again and again.
    page.wait_for_timeout(1_500)
    assert page.locator("[data-testid='stProgress']").count() == 0


# --- activations -----------------------------------------------------------------------------------------------------


def click_cell(page: Page, row: int, column: int) -> None:
    area = page.locator(".st-key-map_figure [data-area]")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box
    rows, columns = (int(area.get_attribute(f"data-{name}") or 0) for name in ("rows", "columns"))
    page.mouse.click(box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"])


def frame(page: Page) -> list[float]:
    """What is framed on the picture, as rows and columns of the crop: top, left, bottom, right."""
    picture, frame = page.locator(".st-key-map_figure svg").evaluate(
        """svg => [[...svg.querySelectorAll('image')].at(-1), svg.querySelector('rect.mark:not([data-mark])')].map(
             e => ['x', 'y', 'width', 'height'].map(name => Number(e.getAttribute(name))))"""
    )
    unit = picture[2] / built_in().network.input_shape[2]
    left, top = (frame[0] - picture[0]) / unit, (frame[1] - picture[1]) / unit
    return [top, left, top + frame[3] / unit, left + frame[2] / unit]


def sees(stage: str, row: int, column: int) -> list[float]:
    network = built_in().network
    (top, bottom), (left, right) = seen(network, stage, row, 0), seen(network, stage, column, 1)
    _, height, width = network.input_shape
    return [max(top, 0), max(left, 0), min(bottom + 1, height), min(right + 1, width)]


def test_click_on_a_cell_moves_what_it_sees_and_the_arithmetic(page: Page, address: str) -> None:
    look(page, address, "activations?stage_seen=conv2&map=7&row=0&column=0")
    cell_title(page, "at row 0, column 0")
    assert frame(page) == pytest.approx(sees("conv2", 0, 0), abs=0.3)
    click_cell(page, 9, 4)
    cell_title(page, "at row 9, column 4")
    page.wait_for_url(re.compile("row=9"))
    page.wait_for_url(re.compile("column=4"))
    quiet(page)
    assert frame(page) == pytest.approx(sees("conv2", 9, 4), abs=0.3)
    page.wait_for_selector("h3:has-text('conv2, channel 7, row 9, column 4')")
    inputs = looked_at(built_in().preprocessing, queries.sample("cat"))[1]
    value = float(_walked(inputs, "conv2")[7, 9, 4])
    last = page.locator("[data-testid='stCode']").first.inner_text().strip().rpartition("= ")[2]
    assert float(last.replace("−", "-")) == pytest.approx(value, rel=1e-4)


def _walked(inputs: Any, name: str) -> Any:
    import torch

    from alexnet.inference import Viewer

    viewer = Viewer(built_in(), torch.device("cpu"))
    return next(values[0] for stage, values in viewer.walk(inputs) if stage.name == name)


def test_arrow_keys_move_the_cell_and_stop_at_the_border(page: Page, address: str) -> None:
    look(page, address, "activations?stage_seen=pool5&map=7&row=1&column=1")
    focus(page, "map_figure", most=120)
    page.keyboard.press("ArrowDown")
    cell_title(page, "at row 2, column 1")
    border = side("pool5") - 1
    for _ in range(border + 3):
        page.keyboard.press("ArrowRight")
    cell_title(page, f"at row 2, column {border}")
    quiet(page)
    assert page.evaluate("document.activeElement.dataset.area") == "map"
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')") == f"row 2, column {border}"


def test_click_on_a_map_and_on_a_value_of_a_vector(page: Page, address: str) -> None:
    look(page, address, "activations?stage_seen=relu3")
    page.locator(".st-key-sheet_of_maps [data-item='200']").click()
    cell_title(page, "relu3 · map 200")
    page.wait_for_url(re.compile("map=200"))
    pick(page, "pick_stage_seen", "fc8")
    cell_title(page, "fc8 · 10 values")
    click_cell(page, 1, 2)  # two rows of five
    cell_title(page, "at value 7")
    page.wait_for_url(re.compile("value=7"))
    pick(page, "pick_stage_seen", "relu3")
    cell_title(page, "relu3 · map 200")


def test_a_method_draws_what_it_found_over_the_picture(page: Page, address: str) -> None:
    look(page, address, "activations?below=What+it+answers+to&method=Occlusion")
    drawn = page.locator(".st-key-attribution_figure svg.panels")
    drawn.wait_for(timeout=LONG)
    headings = [text.text_content() for text in drawn.locator("text").all()]
    assert headings[:2] == ["the picture", "laid over it"]
    crop = looked_at(built_in().preprocessing, queries.sample("cat"))[0]
    np.testing.assert_array_equal(_pixels(drawn.locator("image").first.get_attribute("href") or ""), crop)


def _pixels(href: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(href.partition("base64,")[2]))).convert("RGB"))


# --- to take away ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "targets"),
    [("kernels", {"sheet_of_kernels": 1}), ("activations?stage_seen=conv5", {"map_figure": 3, "window_figure": 0})],
)
def test_figures_are_saved_as_png_and_svg(
    page: Page, address: str, tmp_path: Path, path: str, targets: dict[str, int]
) -> None:
    """`targets` says how many pictures each figure holds."""
    look(page, address, path)
    for target, pictures in targets.items():
        shown = page.locator(f".st-key-{target} svg image")
        drawn = save(page, target, "svg", tmp_path)
        tree = ET.parse(drawn).getroot()  # noqa: S314 - our own file
        embedded = [image.attrib["href"] for image in tree.iter(f"{SVG}image")]
        assert embedded == [image.get_attribute("href") for image in shown.all()]
        assert len(embedded) == pictures
        assert "var(--" not in drawn.read_text()  # stands alone: no variable of the page is left
        picture = Image.open(save(page, target, "png", tmp_path)).convert("RGB")
        assert picture.width == 3 * int(tree.attrib["width"])
        assert picture.height == 3 * int(tree.attrib["height"])
        colours = picture.getcolors(1 << 24)
        assert colours
        assert len(colours) > 50  # the picture itself, not an empty sheet
        if target == "sheet_of_kernels":
            _kernels_are_in(picture, page)


def _kernels_are_in(picture: Image.Image, page: Page) -> None:
    """Pixels of the PNG have the colours that the weights have, each kernel in its place."""
    tiles = kernel_tiles(built_in().weights["conv1.weight"].numpy())
    corner = 3  # the margin of the sheet
    for item in (0, 31, 66, 95):
        left, top, width, height = page.locator(f"{SHEET} [data-item='{item}']").evaluate(
            "e => ['x', 'y', 'width', 'height'].map(name => Number(e.getAttribute(name)))"
        )
        for row, column in ((0, 0), (5, 5), (10, 3)):
            x, y = left + (column + 0.5) * width / 11 + corner, top + (row + 0.5) * height / 11 + corner
            found = np.array(picture.getpixel((int(3 * x), int(3 * y))), int)
            assert np.abs(found - tiles[item, row, column]).max() <= 2


def test_values_are_saved_as_numbers(page: Page, address: str, tmp_path: Path) -> None:
    look(page, address, "activations?stage_seen=pool2")
    with page.expect_download() as download:
        page.locator(".st-key-save_npy button:visible").click()
    download.value.save_as(tmp_path / "x.npy")
    inputs = looked_at(built_in().preprocessing, queries.sample("cat"))[1]
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), _walked(inputs, "pool2").numpy(), rtol=1e-4, atol=1e-4)


# --- uploads ---------------------------------------------------------------------------------------------------------


def upload(page: Page, key: str, files: Path | Sequence[Path]) -> None:
    page.locator(f".st-key-{key} input[type=file]").set_input_files(files)


def small() -> Checkpoint:
    made = checkpoints.untrained(network_from("alexnet-2012@67").adapted(classes=3, hidden=8), seed=5)
    return dataclasses.replace(made, classes=("ape", "bee", "cat"))


def sidebar(page: Page) -> Locator:
    return page.locator("[data-testid='stSidebar']")


def test_a_checkpoint_is_uploaded_and_stays_chosen_on_the_other_pages(page: Page, address: str, tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "mine.pt", small())
    look(page, address, "kernels?kernel=2")
    pick(page, "weights_from", "Upload")
    page.wait_for_selector("text=nothing uploaded yet")
    upload(page, "weights_upload", tmp_path / "mine.pt")
    sidebar(page).locator("text=alexnet-2012@67").wait_for(timeout=LONG)
    norm = float(small().weights["conv1.weight"][2].double().norm())
    page.wait_for_selector(f".st-key-detail_kernel strong:text-is('{norm:.4g}')", timeout=LONG)
    assert "weights=" not in page.url  # nobody else could open it
    page.get_by_role("link", name="Activations").click()
    page.wait_for_selector("h1:has-text('Activations')")
    page.wait_for_selector("text=alexnet-2012@67", timeout=LONG)
    page.wait_for_selector("text=to 3 at prob")
    page.get_by_role("link", name="Architecture").click()
    page.wait_for_selector("h1:has-text('Architecture')")
    quiet(page)
    page.get_by_role("link", name="Kernels").click()
    page.wait_for_selector(f".st-key-detail_kernel strong:text-is('{norm:.4g}')", timeout=LONG)


def test_several_npy_files_are_one_network(page: Page, address: str, tmp_path: Path) -> None:
    files = []
    for name, tensor in small().weights.items():
        if name.startswith("conv"):
            files.append(tmp_path / f"{name.replace('.', '_')}.npy")
            np.save(files[-1], tensor.numpy())
    look(page, address, "kernels")
    pick(page, "weights_from", "Upload")
    upload(page, "weights_upload", files)
    sidebar(page).locator("text=without fc6, fc7, fc8").wait_for(timeout=LONG)
    quiet(page)
    assert page.locator(f"{SHEET} rect.tile").count() == 96


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.canary,))


def test_a_hostile_upload_is_a_sentence_and_does_nothing(page: Page, address: str, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(pickle.dumps(Hostile(tmp_path / "canary")))
    look(page, address, "kernels")
    pick(page, "weights_from", "Upload")
    upload(page, "weights_upload", tmp_path / "net.pth")
    page.wait_for_selector("[data-testid='stAlert']:has-text('net.pth is a bare pickle')", timeout=LONG)
    assert not (tmp_path / "canary").exists()
    pick(page, "weights_from", "Built-in")
    detail(page, "conv1 · kernel 0 · GPU 1")


def test_a_picture_is_uploaded_and_one_that_is_none_is_a_sentence(page: Page, address: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (131, 131, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    (tmp_path / "words.jpg").write_text("no picture at all")
    look(page, address, "activations?stage_seen=conv1")
    pick(page, "picture_from", "Upload")
    page.wait_for_selector("text=no picture yet")
    upload(page, "picture_upload", tmp_path / "noise.png")
    page.wait_for_selector("strong:text-is('noise.png')", timeout=LONG)
    quiet(page)
    crop = looked_at(built_in().preprocessing, pixels)[0]
    shown = page.locator(".st-key-map_figure svg image").last.get_attribute("href") or ""
    np.testing.assert_array_equal(_pixels(shown), crop)
    upload(page, "picture_upload", tmp_path / "words.jpg")
    page.wait_for_selector("[data-testid='stAlert']:has-text('words.jpg')", timeout=LONG)


# --- room and light --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "kernels?layer=conv2",
        "activations?below=What+it+answers+to",
        "activations?stage_seen=fc6&below=Every+stage",
    ],
)
def test_pages_fit_900_pixels_without_scrolling_sideways(page: Page, address: str, path: str) -> None:
    page.set_viewport_size({"width": 900, "height": 900})
    look(page, address, path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 902
    main = page.locator("[data-testid='stMain']")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 2


def test_dark_theme_is_dark_and_the_towers_keep_their_colours(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    look(page, address, "kernels")
    ground = page.locator(".stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground)[:3])) < 60
    fills = [page.locator(f"{SHEET} text.t{tower}").evaluate("e => getComputedStyle(e).fill") for tower in (1, 2)]
    assert fills == ["rgb(106, 168, 232)", "rgb(240, 149, 90)"]
    look(page, address, "activations")
    ink = page.locator(".st-key-map_figure text.head").first.evaluate("e => getComputedStyle(e).fill")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180


def test_a_pixel_and_a_slider_of_the_lrn_laboratory(page: Page, address: str) -> None:
    page.goto(f"{address}/lrn?lrn_map=40")
    page.wait_for_selector(".st-key-lrn_maps svg.panels", timeout=LONG)
    quiet(page)
    page.locator(".st-key-lrn_maps [data-area=after]").click()  # in its middle
    middle = side("norm1") // 2
    page.wait_for_selector(f"h3:has-text('Every channel at row {middle}, column {middle}')", timeout=LONG)
    before = page.locator(".stMarkdown:has-text('of the activity is suppressed')").last.inner_text()
    slider = page.locator("input[type='range'][aria-label='α']")
    slider.focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "before => [...document.querySelectorAll('.stMarkdown')].some("
        "e => e.innerText.includes('of the activity is suppressed') && e.innerText !== before)",
        arg=before,
        timeout=LONG,
    )
    quiet(page)
    assert "lrn_alpha=" in page.url
