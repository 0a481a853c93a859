"""The first minute: README's first command in a fresh copy, its bare address, and not one click before the kernels."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from tests.serving import ROOT, _free_port, settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.xdist_group("browser_app")

SECOND = 1_000
LAST = ".st-key-first_answers .main-svg"


_BLOCKS = re.compile(r"^```sh\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
README_S_FIRST = _BLOCKS.findall((ROOT / "README.md").read_text(encoding="utf-8"))[0]
"""The first command that README prints: it makes an environment, installs, and starts the app."""
_PYTHON = ".venv/bin/python"


def _copied(folder: Path) -> Path:
    """What a clone would hold if all were committed: every file that git does not ignore, as it is now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode:  # no clone but an archive, unpacked
        nothing = shutil.ignore_patterns(".venv", "runs", "__pycache__", ".*_cache", ".hypothesis")
        return Path(shutil.copytree(ROOT, folder / "laboratory", ignore=nothing))
    for name in sorted(set(os.fsdecode(listed.stdout).split("\0")) - {""}):
        if (ROOT / name).is_file():  # not deleted meanwhile
            (folder / "laboratory" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "laboratory" / name)
    return folder / "laboratory"


@contextlib.contextmanager
def _started(command: list[str], folder: Path, patience: float) -> Iterator[str]:
    """What this command serves in this folder, on a port that is free; the folder alone is where modules are found."""
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        command, cwd=folder, env={**environment, "STREAMLIT_SERVER_PORT": str(port)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + patience
        while not _healthy(address):
            assert server.poll() is None, f"{shlex.join(command)} ended with exit status {server.returncode}"
            assert time.monotonic() < deadline, f"no answer within {patience:.0f} seconds"
            time.sleep(0.05)
        yield address
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=20)


def _healthy(address: str) -> bool:
    with (
        contextlib.suppress(urllib.error.URLError, ConnectionError),
        urllib.request.urlopen(f"{address}/_stcore/health", timeout=2) as answer,  # noqa: S310 - our own address
    ):
        return bool(answer.status == 200)
    return False


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What README's first command serves when all is installed, in a copy that nobody has used: there are no runs."""
    words = shlex.split(README_S_FIRST.rpartition("&&")[2])
    assert words[:4] == [_PYTHON, "-m", "streamlit", "run"]
    with _started([sys.executable, *words[1:]], _copied(tmp_path_factory.mktemp("fresh")), patience=60) as address:
        yield address


@pytest.mark.slow
def test_readmes_first_command_from_nothing_to_the_kernels(page: Page, tmp_path: Path) -> None:
    """All of it, as a newcomer types it: it downloads the libraries."""
    with _started(["bash", "-c", README_S_FIRST], _copied(tmp_path), patience=1_200) as address:
        page.goto(address)
        page.locator(".st-key-first_sheet svg image").wait_for(timeout=90 * SECOND)
        assert len(_tiles(page, ".st-key-first_sheet")) == 96
        page.locator(LAST).first.wait_for(timeout=120 * SECOND)
        settle(page)


def _open(page: Page, address: str) -> None:
    page.goto(address)
    page.locator(LAST).first.wait_for(timeout=90 * SECOND)
    settle(page)


def _pixels(shown: Locator) -> np.ndarray:
    """What is on the screen there, (rows, columns, 3)."""
    shown.scroll_into_view_if_needed()
    return np.asarray(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"), float)


def _tiles(page: Page, sheet: str) -> list[tuple[int, np.ndarray]]:
    """Each tile of a sheet with its number, cut out of one picture of the screen."""
    drawing = page.locator(f"{sheet} svg.sheet")
    picture = _pixels(drawing)
    places = drawing.evaluate(
        """svg => {
          const whole = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("[data-item]")].map(tile => {
            const box = tile.getBoundingClientRect();
            return [Number(tile.dataset.item), box.left - whole.left, box.top - whole.top, box.width, box.height];
          });
        }"""
    )
    return [
        (item, picture[round(top) + 2 : round(top + high) - 2, round(left) + 2 : round(left + wide) - 2])
        for item, left, top, wide, high in places
    ]


def _roughness(tile: np.ndarray) -> float:
    """Squared differences of the 11×11 weights beside each other, over the sum of their squares; zero is mid-grey."""
    weights = Image.fromarray(tile.astype(np.uint8)).resize((11, 11), Image.Resampling.BOX)
    values = np.asarray(weights, float) - 128
    return sum(np.square(np.diff(values, axis=axis)).sum() for axis in (0, 1)) / np.square(values).sum()


def test_trained_kernels_film_activations_lrn_and_answers_without_a_click(page: Page, fresh: str) -> None:
    page.goto(fresh)
    page.locator(".st-key-first_sheet svg image").wait_for(timeout=60 * SECOND)
    tiles = _tiles(page, ".st-key-first_sheet")
    assert sorted(item for item, _ in tiles) == list(range(96))
    assert min(tile.std() for _, tile in tiles) > 8  # a picture in every place, of both towers
    assert page.locator(".st-key-first_sheet .t1").inner_html() == "GPU 1"
    assert page.locator(".st-key-first_sheet .t2").inner_html() == "GPU 2"
    assert np.median([_roughness(tile) for _, tile in tiles]) < 2  # noise has 3.6

    page.locator(LAST).first.wait_for(timeout=90 * SECOND)
    settle(page)
    film = page.locator(".film")
    film.scroll_into_view_if_needed()
    assert film.get_attribute("data-step") == "0"
    noise = _pixels(film.locator("canvas").first)
    film.get_by_role("button", name="Play").click()
    page.wait_for_function("film => Number(film.dataset.step) > 100", arg=film.element_handle(), timeout=60 * SECOND)
    film.get_by_role("button", name="Pause").click()
    film.get_by_role("slider", name="Moment of the training").press("End")
    film.get_by_text(" % right").wait_for()
    formed = _pixels(film.locator("canvas").first)
    assert np.abs(formed - noise).mean() > 10

    maps = _tiles(page, ".st-key-first_maps")
    assert len(maps) == 96
    assert sum(tile.std() > 3 for _, tile in maps) > 48  # some are silent
    assert len(_tiles(page, ".st-key-first_deep")) == 32
    assert _pixels(page.locator(".st-key-first_lrn svg")).std() > 20
    assert page.get_by_text("of the activity").is_visible()
    bars = page.locator(LAST).first
    assert _pixels(bars).std() > 10
    assert len(page.locator(".st-key-first_answers .ytick").all()) == 5


@pytest.mark.parametrize("width", [1440, 900])
def test_tour_leads_to_every_stop_by_keyboard(page: Page, fresh: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    _open(page, fresh)
    links = page.get_by_role("navigation", name="Tour").get_by_role("link")
    assert links.count() == 5
    bar = page.locator(".st-key-tour")
    for number in range(5):
        links.nth(number).focus()
        page.keyboard.press("Enter")
        stop = page.locator(f"h2#stop-{number + 1}")
        page.wait_for_function(
            """([stop, bar, last]) => {
              const top = stop.getBoundingClientRect().top, below = bar.getBoundingClientRect().bottom;
              return top >= below - 1 && top < (last ? innerHeight : below + 200);
            }""",
            arg=[stop.element_handle(), bar.element_handle(), number == 4],
            timeout=10 * SECOND,
        )


def test_a_kernel_that_is_clicked_is_the_one_at_large(page: Page, fresh: str) -> None:
    _open(page, fresh)
    page.locator(".st-key-first_sheet [data-item='70']").click()
    page.locator("h1:has-text('Kernels')").wait_for(timeout=60 * SECOND)
    page.locator("h3:has-text('conv1 · kernel 70 · GPU 2')").wait_for(timeout=30 * SECOND)
    settle(page)


def test_an_old_link_to_the_architecture_still_leads_there(page: Page, fresh: str) -> None:
    page.goto(f"{fresh}/?network=caffenet&stage=norm2")
    page.locator("svg.arch").wait_for(timeout=60 * SECOND)
    page.locator("h3:has-text('norm2')").wait_for(timeout=30 * SECOND)
    page.wait_for_url("**/architecture?*network=caffenet*")
    settle(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_900_pixels_in_both_themes(page: Page, fresh: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 900, "height": 900})
    _open(page, fresh)
    main = page.locator("[data-testid='stMain']")
    assert main.evaluate("e => e.scrollWidth - e.clientWidth") <= 2
    ground, bar = (
        page.locator(place).evaluate("e => getComputedStyle(e).backgroundColor") for place in (".stApp", ".st-key-tour")
    )
    assert ground == bar  # what scrolls under the bar does not shine through
