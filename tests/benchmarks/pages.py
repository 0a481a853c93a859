"""How long a person waits in a real browser, beside a bare Streamlit app in the same run.

    python -m tests.benchmarks.pages [ROUNDS]

Each round starts a fresh server and a fresh browser for the bare app and for ours, in turn.  One JSON line comes out:
medians, spreads, and the ratios that matter.  Targets: first paint at most 1.25 × the bare app's, a page switch and a
click on a stage within 0.5 s.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from tests.serving import ROOT, launch, served, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

_CHART = ".js-plotly-plot .main-svg"
BARE = Path(__file__).with_name("bare_app.py")


def seconds(
    page: Page,
    *selectors: str,
    act: Callable[[], object] | None = None,
    until: str | None = None,
    argument: object = None,
) -> float:
    """Seconds from `act` until all of these are visible, `until` holds, and the browser has painted them."""
    start = time.perf_counter()
    if act is not None:
        act()
    for selector in selectors:
        page.wait_for_selector(selector, timeout=60_000)
    if until is not None:
        page.wait_for_function(until, arg=argument, timeout=60_000)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return time.perf_counter() - start


def _open(page: Page, address: str, *selectors: str) -> float:
    return seconds(page, *selectors, act=lambda: page.goto(address, wait_until="commit"))


def switch(page: Page, link: str, *selectors: str) -> float:
    settle(page)
    page.wait_for_timeout(300)
    return seconds(page, *selectors, act=page.get_by_role("link", name=link, exact=True).click)


def _bare(page: Page, address: str) -> dict[str, float]:
    return {
        "bare first paint": _open(page, address, "h1:has-text('One')", _CHART),
        "bare page switch": switch(page, "Two", "h1:has-text('Two')", ".st-key-second .main-svg"),
    }


def bare_switch(page: Page, address: str) -> float:
    """A page switch in an app that has two charts and nothing else."""
    return _bare(page, address)["bare page switch"]


def _ours(page: Page, address: str) -> dict[str, float]:
    found = {
        "first paint": _open(
            page, f"{address}/architecture", "h1:has-text('Architecture')", "[data-testid=stMetric]", "svg.arch"
        ),
    }
    # The witnesses count in a process of their own on these two cores; what follows is measured once they are done.
    page.wait_for_selector("text=figures agree", timeout=60_000)
    settle(page)
    page.wait_for_timeout(300)
    stage = page.locator("[data-item=conv2]").first
    found["click on a stage"] = seconds(page, "h3:has-text('conv2')", act=stage.click)
    found["switch to Compare"] = switch(page, "Compare", "h1:has-text('Compare')", ".st-key-totals_chart .main-svg")
    tools = ("h1:has-text('Why tools')", ".st-key-disagreement_chart .main-svg")
    found["switch to Why tools disagree"] = switch(page, "Why tools disagree", *tools)
    found["switch to Architecture"] = switch(page, "Architecture", "h1:has-text('Architecture')", "svg.arch")
    return found


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    found: dict[str, list[float]] = {}
    with sync_playwright() as play, tempfile.TemporaryDirectory() as elsewhere:
        for _ in range(rounds):
            for app, cwd, measure in ((BARE, Path(elsewhere), _bare), (ROOT / "app" / "main.py", ROOT, _ours)):
                with served(app, cwd) as address:
                    browser = launch(play)
                    page = browser.new_page(viewport={"width": 1440, "height": 900})
                    for what, value in measure(page, address).items():
                        found.setdefault(what, []).append(value)
                    browser.close()
    medians = {what: statistics.median(values) for what, values in found.items()}
    print(
        json.dumps(
            {
                "median_seconds": {what: round(value, 3) for what, value in medians.items()},
                "spread_seconds": {what: round(max(v) - min(v), 3) for what, v in found.items()},
                "first_paint_ratio": round(medians["first paint"] / medians["bare first paint"], 3),
                "rounds": rounds,
                "machine": platform.processor() or platform.machine(),
                "versions": {name: version(name) for name in ("streamlit", "plotly", "playwright")},
            }
        )
    )


if __name__ == "__main__":
    main()
