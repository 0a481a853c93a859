"""The life of a training in a real browser: started, watched, stopped, killed, compared; the server restarted."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from alexnet import launch
from alexnet.runs import RunDirectory
from tests.serving import ROOT, served, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.xdist_group("browser_training")

SECOND = 1_000
LONG = 90 * SECOND
MAIN = ROOT / "app" / "main.py"
PLOT = ".st-key-chart_loss .js-plotly-plot"
PROGRESS = re.compile(r"step ([\d,]+) of ([\d,]+)")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder to serve from, with the project's settings; trainings that still go on there at the end are killed."""
    (tmp_path / ".streamlit").symlink_to(ROOT / ".streamlit")
    yield tmp_path
    for run in launch.siblings(tmp_path / "runs"):
        if run.is_locked() and isinstance(pid := run.status().get("pid"), int):
            os.kill(pid, signal.SIGKILL)


def trainers(place: Path) -> list[int]:
    """Processes that train in this folder, as the system lists them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            cwd = (path.parent / "cwd").readlink()
        except OSError:  # it has ended meanwhile
            continue
        if b"train" in words and b"alexnet" in words and cwd == place:
            found.append(int(path.parent.name))
    return found


def start(page: Page, address: str, *, name: str, epochs: int) -> str:
    """Fills in the form for a tiny network on built-in pictures and starts it; the run's folder."""
    page.goto(f"{address}/start?data=built-in&preset=quick&net=alexnet-2012@67")
    page.wait_for_selector("h1:has-text('Start a training')", timeout=LONG)
    settle(page)
    page.get_by_label("Epochs", exact=True).fill(str(epochs))
    page.get_by_label("Batch", exact=True).fill("16")
    page.get_by_label("Name", exact=True).fill(name)
    page.keyboard.press("Tab")
    settle(page)
    page.get_by_role("button", name="Start the training").click()
    page.wait_for_url(re.compile(r"/runs\?.*run="), timeout=LONG)
    page.wait_for_selector(f"h1:has-text('{name}')", timeout=LONG)
    return re.search(r"run=([^&]+)", page.url)[1]  # type: ignore[index]


def condition(page: Page, word: str, timeout: float = LONG) -> None:
    page.wait_for_selector(f".stMarkdownBadge:has-text('{word}')", timeout=timeout)


def step(page: Page) -> int:
    page.wait_for_selector(":text-matches('step [0-9,]+ of [0-9,]+')", timeout=LONG)
    found = PROGRESS.search(page.locator("[data-testid='stMainBlockContainer']").inner_text())
    assert found is not None
    return int(found[1].replace(",", ""))


def updates(page: Page, count: int) -> None:
    """Waits until the page has shown so many further steps by itself."""
    seen = {step(page)}
    deadline = time.monotonic() + 90
    while len(seen) <= count:
        assert time.monotonic() < deadline, f"the page showed only the steps {sorted(seen)}"
        page.wait_for_timeout(300)
        seen.add(step(page))


@pytest.mark.long
def test_the_life_of_a_run(page: Page, place: Path) -> None:
    with served(MAIN, place) as address:
        first = start(page, address, name="the first", epochs=400)
        run = RunDirectory(place / "runs" / first)
        condition(page, "running")
        assert len(trainers(place)) == 1
        updates(page, 3)
        zoom_stays(page)

        page.get_by_role("button", name="Stop", exact=True).click()
        condition(page, "stopped")
        stopped_at = run.status()["step"]
        assert run.last.exists()
        page.get_by_role("button", name="Resume", exact=True).click()
        condition(page, "running")
        updates(page, 1)
        assert run.status()["step"] > stopped_at

        second = start(page, address, name="the second", epochs=400)
        # Something trains already, so the form asks; it waits unless told otherwise.
        condition(page, "waiting")
        assert len(trainers(place)) == 2

        # A second tab sees the same.
        page.goto(f"{address}/runs?run={first}")
        condition(page, "running")
        os.kill(run.status()["pid"], signal.SIGKILL)
        condition(page, "gone")
        page.wait_for_selector(":text('Its process has ended')", timeout=LONG)
        page.wait_for_selector("button:has-text('Resume')")
        other = RunDirectory(place / "runs" / second)
        deadline = time.monotonic() + 60
        while other.condition() != "running" or not other.metrics():
            assert time.monotonic() < deadline
            page.wait_for_timeout(200)
        page.goto("about:blank")  # a page whose server goes away complains

    assert trainers(place) == [other.status()["pid"]]  # the server's end is not the training's
    with served(MAIN, place) as address:
        page.goto(f"{address}/runs")
        page.wait_for_selector("h1:has-text('Runs')", timeout=LONG)
        page.goto(f"{address}/runs?run={first}")
        condition(page, "gone")
        page.goto(f"{address}/runs?run={second}")
        condition(page, "running")
        updates(page, 1)
        page.get_by_role("button", name="Compare", exact=True).click()
        page.wait_for_selector("h1:has-text('Compare runs')", timeout=LONG)
        page.get_by_role("radio", name="Training loss").or_(
            page.get_by_role("button", name="Training loss")
        ).first.click()
        for name in ("the first", "the second"):
            page.wait_for_selector(f".js-plotly-plot :text('{name}')", timeout=LONG)
        page.goto(f"{address}/runs?run={second}")
        page.get_by_role("button", name="Stop", exact=True).click()
        condition(page, "stopped")
        page.goto("about:blank")
    all_end(place)


def all_end(place: Path) -> None:
    """A training says that it has stopped, and then ends."""
    deadline = time.monotonic() + 30
    while trainers(place):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def zoom_stays(page: Page) -> None:
    """Zooms into the loss and sees the same chart, still zoomed, after further updates."""
    plot = page.locator(PLOT)
    plot.wait_for(timeout=LONG)
    box = plot.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.7, steps=5)
    page.mouse.up()
    page.wait_for_timeout(500)
    plot.evaluate("element => { element.mark = 'the same' }")
    before = plot.evaluate("element => element.layout.xaxis.range")
    drawn = "element => Math.max(...element._fullData.map((trace) => Math.max(...trace.x.filter(Number.isFinite))))"
    reached = plot.evaluate(drawn)
    updates(page, 2)
    page.wait_for_function(f"(reached) => ({drawn})(document.querySelector('{PLOT}')) > reached", arg=reached)
    assert plot.evaluate("element => element.mark") == "the same"  # redrawn in place
    assert plot.evaluate("element => element.layout.xaxis.range") == before
