"""The player of a film of kernels in a real browser: its slider, its keys, play and pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.made_run import PER_EPOCH, made_run
from tests.serving import ROOT, served, settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.xdist_group("browser")  # one browser for all of them

SECOND = 1_000
MOMENTS = tuple(range(0, 81, 2))


@pytest.fixture
def film(page: Page, tmp_path: Path) -> Iterator[Locator]:
    """The player of a finished run with 41 moments: at two a second nobody is too slow for it."""
    (tmp_path / ".streamlit").symlink_to(ROOT / ".streamlit")
    made_run(tmp_path / "runs" / "filmed", steps=MOMENTS[-1], moments=MOMENTS)
    with served(ROOT / "app" / "main.py", tmp_path) as address:
        page.goto(f"{address}/runs?run=filmed&view_of_run=Kernels")
        player = page.locator(".film")
        player.locator("canvas").first.wait_for(timeout=60 * SECOND)
        settle(page)
        yield player
        page.goto("about:blank")  # a page whose server goes away complains


def label(step: int) -> str:
    return f"step {step} · epoch {step / PER_EPOCH:.1f}"


def stands_at(film: Locator, step: int) -> None:
    """The moment that is said, that a screen reader is told, and that is drawn."""
    film.get_by_text(label(step), exact=True).wait_for(timeout=10 * SECOND)
    slider = film.get_by_role("slider", name="Moment of the training")
    assert slider.get_attribute("aria-valuetext") == label(step)
    assert slider.input_value() == str(MOMENTS.index(step))
    film.page.wait_for_function("([film, step]) => film.dataset.step == step", arg=[film.element_handle(), step])


def picture(film: Locator) -> str:
    """The first tower as it is drawn."""
    drawn: str = film.locator("canvas").first.evaluate("canvas => canvas.toDataURL()")
    return drawn


def goes_past(film: Locator, step: int) -> None:
    condition = "([film, place]) => Number(film.querySelector('.film-time').value) >= place"
    film.page.wait_for_function(condition, arg=[film.element_handle(), MOMENTS.index(step)])


def place(film: Locator) -> int:
    return int(film.get_by_role("slider", name="Moment of the training").input_value())


def test_a_film_is_stepped_played_and_paused(film: Locator, page: Page) -> None:
    slider = film.get_by_role("slider", name="Moment of the training")
    stands_at(film, 80)  # the newest
    assert film.locator("canvas").count() == 2
    newest = picture(film)

    # Keys.
    slider.focus()
    for key, step in (("ArrowLeft", 78), ("ArrowLeft", 76), ("ArrowRight", 78), ("Home", 0), ("ArrowRight", 2)):
        page.keyboard.press(key)
        stands_at(film, step)
    assert picture(film) != newest

    # Play: from here on, moment after moment.
    film.get_by_label("Speed").select_option("2")
    film.get_by_role("button", name="Play").click()
    goes_past(film, 4)
    assert film.get_by_role("button", name="Pause").is_visible()
    goes_past(film, 6)

    # Pause: nothing moves for as long as two further moments would take.
    film.get_by_role("button", name="Pause").click()
    here = place(film)
    assert MOMENTS.index(6) <= here < len(MOMENTS) - 1
    page.wait_for_timeout(1.2 * SECOND)
    assert place(film) == here
    stands_at(film, MOMENTS[here])

    # The space bar plays, to the end, where it stops by itself; played again it begins anew.
    slider.focus()
    film.get_by_label("Speed").select_option("25")
    slider.focus()
    page.keyboard.press("Space")
    stands_at(film, 80)
    film.get_by_role("button", name="Play").wait_for()
    assert picture(film) == newest
    film.get_by_label("Speed").select_option("2")
    film.get_by_role("button", name="Play").click()
    slider.press("ArrowRight")  # whoever takes the slider has paused
    assert film.get_by_role("button", name="Play").is_visible()
    assert place(film) < len(MOMENTS) - 1

    # Another scale is the same film: the moment stays.
    slider.press("Home")
    stands_at(film, 0)
    page.get_by_text("Growth", exact=True).click()
    settle(page)
    stands_at(film, 0)
