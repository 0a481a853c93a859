from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from alexnet.zoo import NETWORKS
from tests.serving import settle

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.xdist_group("browser_app")  # one server and one browser for all of them


def _open(page: Page, address: str, path: str = "architecture") -> None:
    if path.startswith("?"):
        path = f"architecture{path}"
    page.goto(f"{address}/{path}")
    first = "svg.arch" if path.startswith("architecture") else "h1"
    page.wait_for_selector(first, timeout=60_000)
    settle(page)


def _heading(page: Page, text: str) -> None:
    page.wait_for_selector(f"h3:has-text('{text}')", timeout=30_000)


def _row_is_selected(page: Page, name: str) -> None:
    """Wait for the table to have selected this stage; the grid, a canvas, keeps an accessible copy of its cells."""
    row = f"[data-testid='stDataFrame'] [role='row'][aria-selected='true'] > [role='gridcell']:text-is('{name}')"
    page.wait_for_selector(row, state="attached", timeout=30_000)


def _click_row(page: Page, name: str, x: int) -> None:
    """Click into alexnet-2012's table, `x` pixels from its left: the tick is at 14."""
    grid = page.locator("[data-testid='stDataFrame']").first
    grid.scroll_into_view_if_needed()
    box = grid.bounding_box()
    assert box
    rows = [stage.name for stage in NETWORKS["alexnet-2012"].stages()]
    page.mouse.click(box["x"] + x, box["y"] + 40 + rows.index(name) * 27 + 10)


def _save(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.locator(button).click()
    target = folder / download.value.suggested_filename
    download.value.save_as(target)
    return target


def test_first_screen_draws_alexnet_in_two_towers(page: Page, address: str) -> None:
    _open(page, address)
    drawing = page.locator("svg.arch")
    assert drawing.is_visible()
    # Two boxes for every volume of the towers: five convolutions, three poolings, fc6 and fc7.
    assert drawing.locator("g.t1:has(polygon.front)").count() == 10
    assert drawing.locator("g.t2:has(polygon.front)").count() == 10
    assert page.locator("[data-testid='stMetric']").first.inner_text().endswith("60,965,224")


def test_click_on_a_volume_selects_row_detail_and_address(page: Page, address: str) -> None:
    _open(page, address)
    page.locator("[data-item=conv2]").first.click()
    _heading(page, "conv2")
    page.wait_for_selector("text=(5·5·96/2 + 1)·256 = 307,456")
    page.wait_for_url(re.compile("stage=conv2"))
    _row_is_selected(page, "conv2")


def test_row_of_the_table_selects_the_volume(page: Page, address: str) -> None:
    _open(page, address)
    _click_row(page, "norm1", 14)
    _heading(page, "norm1")
    assert page.locator("g.pill.selected").get_attribute("data-item") == "norm1"
    page.wait_for_url(re.compile("stage=norm1"))


def test_click_on_any_cell_selects_its_stage(page: Page, address: str) -> None:
    _open(page, address)
    _click_row(page, "conv4", 260)
    _heading(page, "conv4")
    _row_is_selected(page, "conv4")


def test_another_network_keeps_the_stage_in_drawing_table_and_detail(page: Page, address: str) -> None:
    _open(page, address)
    page.locator("[data-item=fc6]").first.click()
    _heading(page, "fc6")
    page.locator(".st-key-network input").click()
    page.get_by_role("option", name="vgg-a", exact=True).click()
    page.wait_for_selector("[data-item=conv5_2]")
    _row_is_selected(page, "fc6")
    assert page.locator("g.stage.selected").get_attribute("data-item") == "fc6"


def test_narrow_page_shows_the_choice_beside_the_drawing(page: Page, address: str) -> None:
    page.set_viewport_size({"width": 900, "height": 900})
    _open(page, address, "?network=vgg-e&stage=fc7")
    page.wait_for_selector("[data-testid='stMarkdown']:has-text('16,781,312 parameters')")
    box = page.locator("[data-item=fc7]").first.bounding_box()
    frame = page.locator(".drawing").bounding_box()
    assert box
    assert frame
    assert frame["x"] <= box["x"] <= frame["x"] + frame["width"]  # scrolled to
    # Both in one look, and until it is so: two looks one after the other can have a redraw of the page between them.
    page.wait_for_function(
        """() => {
          const top = key => document.querySelector(`.st-key-${key}`)?.getBoundingClientRect().top
          return top("stage_detail") < top("stage_table")
        }"""
    )


def test_drawing_works_by_keyboard_alone(page: Page, address: str) -> None:
    _open(page, address)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.dataset?.item") == "conv1":
            break
    else:
        pytest.fail("Tab never reached the drawing")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    _heading(page, "norm1")
    settle(page)
    assert page.evaluate("document.activeElement?.dataset?.item") == "norm1"  # focus survives the redraw


def test_address_restores_the_view(page: Page, address: str) -> None:
    _open(page, address, "?network=vgg-c&input=64&classes=10&stage=conv3_3&convention=torch")
    _heading(page, "conv3_3")
    page.wait_for_selector("text=(1·1·256 + 1)·256 = 65,792")
    # Table 1's column C with 64×64 pixels (2×2 maps before fc6) and 10 classes.
    widths = [(3, 64, 9), (64, 64, 9), (64, 128, 9), (128, 128, 9), (128, 256, 9), (256, 256, 9), (256, 256, 1)]
    widths += [(256, 512, 9), (512, 512, 9), (512, 512, 1), (512, 512, 9), (512, 512, 9), (512, 512, 1)]
    params = sum((inputs * window + 1) * maps for inputs, maps, window in widths)
    params += (2 * 2 * 512 + 1) * 4096 + 4097 * 4096 + 4097 * 10
    assert page.locator("[data-testid='stMetric']").first.inner_text().endswith(f"{params:,}")


def test_page_switches_keep_network_and_stage(page: Page, address: str) -> None:
    _open(page, address, "?network=caffenet&stage=norm2")
    _heading(page, "norm2")
    page.get_by_role("link", name="Why tools disagree").click()
    page.wait_for_selector("h1:has-text('Why tools disagree')")
    settle(page)
    assert page.get_by_text("caffenet").first.is_visible()
    page.wait_for_url(re.compile("network=caffenet"))
    page.get_by_role("link", name="Architecture").click()
    page.wait_for_selector("h1:has-text('Architecture')")
    _heading(page, "norm2")
    settle(page)
    page.wait_for_url(re.compile("network=caffenet"))
    page.wait_for_url(re.compile("stage=norm2"))


def test_witnesses_really_agree(page: Page, address: str) -> None:
    _open(page, address)
    page.wait_for_selector("text=/All 167 figures agree/", timeout=60_000)
    page.get_by_role("button", name="What they said").click()
    page.wait_for_selector("text=held against ours converted to that way")


@pytest.mark.parametrize("target", ["architecture_figure", "cost_charts"])
def test_figures_are_saved_as_png_and_svg(page: Page, address: str, tmp_path: Path, target: str) -> None:
    _open(page, address)
    page.wait_for_selector(".js-plotly-plot .main-svg")
    settle(page)
    drawn = _save(page, f".st-key-save_{target} button[data-format=svg]", tmp_path)
    tree = ET.parse(drawn).getroot()  # noqa: S314 - our own file
    words = "".join(tree.itertext())
    assert "conv1" in words
    assert "fc8" in words
    assert "var(--" not in drawn.read_text()  # stands alone: no variable of the page is left
    picture = Image.open(_save(page, f".st-key-save_{target} button[data-format=png]", tmp_path))
    assert picture.width == 3 * int(tree.attrib["width"])
    colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours
    assert len(colours) > 50  # a drawing, not an empty sheet


def test_table_is_saved_in_every_format(page: Page, address: str, tmp_path: Path) -> None:
    _open(page, address, "?convention=torchinfo")
    files = {}
    page.locator(".st-key-stage_table").get_by_role("button", name="Save table").click()
    for label, suffix in (("CSV", "csv"), ("JSON", "json"), ("Markdown", "md"), ("LaTeX (booktabs)", "tex")):
        with page.expect_download() as download:
            page.get_by_role("button", name=label, exact=True).last.click()
        target = tmp_path / download.value.suggested_filename
        download.value.save_as(target)
        assert target.suffix == f".{suffix}"
        files[suffix] = target.read_text()
    rows = list(csv.DictReader(io.StringIO(files["csv"])))
    assert rows[0]["macs"] == "105705600"
    assert rows[-1]["macs"] == "725066088"
    assert json.loads(files["json"])["totals"]["macs"] == 725_066_088
    assert "| conv1 |" in files["md"]
    assert "\\toprule" in files["tex"]


def test_every_network_is_drawn(page: Page, address: str) -> None:
    # One browser for all of them: its cache makes the second page cheap.  Of VGG the shallowest and the deepest.
    chosen = {name: network for name, network in NETWORKS.items() if name[:4] != "vgg-" or name in {"vgg-a", "vgg-e"}}
    for name, network in chosen.items():
        _open(page, address, f"?network={name}")
        drawn = page.locator("svg.arch [data-item]").evaluate_all("all => all.map(g => g.dataset.item)")
        assert sorted(drawn) == sorted(stage.name for stage in network.stages()), name


@pytest.mark.parametrize("path", ["architecture", "compare", "compare?view=kernels", "disagree"])
def test_pages_fit_900_pixels_without_scrolling_sideways(page: Page, address: str, path: str) -> None:
    page.set_viewport_size({"width": 900, "height": 900})
    _open(page, address, path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 902
    main = page.locator("[data-testid='stMain']")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 2


def test_dark_theme_is_dark_and_the_towers_keep_their_colours(page: Page, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    _open(page, address)
    ground = page.locator(".stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    assert max(map(int, re.findall(r"\d+", ground)[:3])) < 60
    fills = [
        page.locator(f"svg.arch g.t{tower} polygon.front").first.evaluate("e => getComputedStyle(e).fill")
        for tower in (1, 2)
    ]
    assert fills == ["rgb(106, 168, 232)", "rgb(240, 149, 90)"]


def test_malformed_address_is_a_notice_not_a_traceback(page: Page, address: str) -> None:
    _open(page, address, "?network=alexnet2012&batch=0&input=10")
    page.wait_for_selector("text=did you mean alexnet-2012?")
    page.wait_for_selector("text=conv1 received 3×10×10")
    page.get_by_role("button", name="Use the network's own sizes").click()
    page.wait_for_url(re.compile(r"^(?!.*input=)"))
    page.get_by_role("button", name="Dismiss").click()
    page.wait_for_selector("text=did you mean", state="detached")


def test_compare_keeps_its_choice_in_the_address(page: Page, address: str) -> None:
    _open(page, address, "compare")
    page.get_by_role("button", name="With and without LRN").click()
    page.wait_for_selector("text=alexnet-2012:no-lrn")
    settle(page)
    page.wait_for_url(re.compile("nets=alexnet-2012(:|%3A)no-lrn"))
    page.reload()
    page.wait_for_selector("text=alexnet-2012:no-lrn")
