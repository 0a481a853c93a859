"""The browser's own buttons: Back leaves a page, and Forward comes back to what was chosen on it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.serving import settle

if TYPE_CHECKING:
    from playwright.sync_api import Page

LONG = 60_000


def test_one_press_of_back_leaves_a_page_and_forward_brings_it_back(page: Page, address: str) -> None:
    page.goto(f"{address}/disagree")
    page.wait_for_selector("h1:has-text('Why tools disagree')", timeout=LONG)
    settle(page)
    page.wait_for_timeout(1_000)
    left = page.url
    page.get_by_role("link", name="Kernels", exact=True).click()
    page.wait_for_selector("h1:has-text('Kernels')", timeout=LONG)
    settle(page)
    page.locator("[data-item='14']").first.click()
    page.wait_for_url(re.compile(r"kernels\?.*kernel=14"), timeout=LONG)
    settle(page)
    page.go_back()
    page.wait_for_selector("h1:has-text('Why tools disagree')", timeout=LONG)
    settle(page)
    assert page.url == left  # with nothing of the other page's in it
    page.go_forward()
    page.wait_for_selector("h1:has-text('Kernels')", timeout=LONG)
    page.wait_for_selector("h3:has-text('kernel 14')", timeout=LONG)
    assert "kernel=14" in page.url
