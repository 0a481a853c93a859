"""How long a person waits on the pages that look inside, in a real browser, with real weights loaded.

    python -m tests.benchmarks.looking [ROUNDS]

The weights are BVLC AlexNet's where the real data is at hand (see tests/bvlc.py), else the trained network in the box.
Each round starts a fresh server and browser and opens the pages once; then it measures, in seconds from the click until
the browser has painted what was asked for: a switch to the kernels page (target 1), a step of an LRN slider (0.5, the
maps themselves redrawn), a new picture's activations (1.5), a click on a kernel, a map and a value.  One JSON line
comes out: medians, spreads, and the same page switch in a bare Streamlit app beside it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.benchmarks.pages import BARE, bare_switch, seconds, switch
from tests.serving import ROOT, launch, served, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

PICTURES = ("Coffee", "Rocket", "Astronaut", "Cat")


def _weights() -> tuple[str, str]:
    folder = Path(os.environ.get("ALEXNET_TEST_DATA") or ROOT.parent / "shared" / "data") / "bvlc-alexnet-conv"
    return (f"file:{folder}", "bvlc-alexnet") if folder.exists() else ("built-in", "built-in")


def _quiet(page: Page) -> None:
    settle(page)
    page.wait_for_timeout(400)


def _after(page: Page, act: Callable[[], None], *selectors: str) -> float:
    """Seconds from what a person does until these are painted and the script has come to rest."""
    _quiet(page)
    took = seconds(page, *selectors, act=act)
    settle(page)
    return took


def _changed(page: Page, act: Callable[[], None], what: str) -> float:
    """Seconds until an attribute or text, given as JavaScript, is another than before, and painted."""
    _quiet(page)
    before = page.evaluate(f"() => {what}")
    return seconds(page, act=act, until=f"before => ({what}) !== before", argument=before)


def _choose(page: Page, label: str, option: str) -> None:
    box = page.get_by_role("combobox", name=label, exact=True)
    box.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # a list of options closes when what it belongs to is scrolled
    box.click()
    page.get_by_role("option", name=option).wait_for()


def _looked(page: Page, address: str, weights: str) -> dict[str, list[float]]:
    page.goto(f"{address}/kernels?weights={weights}")
    page.wait_for_selector("svg.sheet", timeout=120_000)
    kernels = ("h1:has-text('Kernels')", "svg.sheet", ".st-key-kernel_figure .main-svg")
    found: dict[str, list[float]] = {}

    def add(what: str, took: float) -> None:
        found.setdefault(what, []).append(took)

    switch(page, "Activations", "svg.panels")
    add("switch to kernels", switch(page, "Kernels", *kernels))
    for number in (60, 7, 88):
        kernel = page.locator(f"svg.sheet [data-item='{number}']").first
        add("click on a kernel", _after(page, kernel.click, f"h3:has-text('kernel {number} ')"))
    switch(page, "Activations", "svg.panels")
    shown = "document.querySelector('svg.panels image').getAttribute('href')"
    for picture in PICTURES:
        _quiet(page)
        _choose(page, "Picture", picture)
        option = page.get_by_role("option", name=picture)
        add("new picture", _changed(page, option.click, shown))
    for number in (30, 77):
        tile = page.locator(f"svg.sheet [data-item='{number}']").first
        add("click on a map", _changed(page, tile.click, shown))
    switch(page, "LRN laboratory", "h1:has-text('LRN')", ".st-key-lrn_maps svg.panels")
    slider = page.locator("input[type='range'][aria-label='n']")
    slider.focus()
    maps = "document.querySelector('.st-key-lrn_maps svg.panels').innerHTML"
    for _ in range(4):
        add("LRN slider", _changed(page, lambda: page.keyboard.press("ArrowRight"), maps))
    add("switch to kernels", switch(page, "Kernels", *kernels))
    return found


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    weights, name = _weights()
    found: dict[str, list[float]] = {}
    with sync_playwright() as play, tempfile.TemporaryDirectory() as elsewhere:
        for _ in range(rounds):
            with served(BARE, Path(elsewhere)) as address:
                browser = launch(play)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                found.setdefault("bare page switch", []).append(bare_switch(page, address))
                browser.close()
            with served(ROOT / "app" / "main.py", ROOT) as address:
                browser = launch(play)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                for what, values in _looked(page, address, weights).items():
                    found.setdefault(what, []).extend(values)
                browser.close()
    print(
        json.dumps(
            {
                "median_seconds": {what: round(statistics.median(values), 3) for what, values in found.items()},
                "worst_seconds": {what: round(max(values), 3) for what, values in found.items()},
                "weights": name,
                "rounds": rounds,
                "machine": platform.processor() or platform.machine(),
                "versions": {name: version(name) for name in ("streamlit", "plotly", "torch", "playwright")},
            }
        )
    )


if __name__ == "__main__":
    main()
