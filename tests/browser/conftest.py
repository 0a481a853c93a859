from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from tests.serving import ROOT, chromium, launch, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        if os.environ.get("ALEXNET_REQUIRE_BROWSER"):
            pytest.fail("ALEXNET_REQUIRE_BROWSER is set and no Chromium is installed")
        pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    with sync_playwright() as play:
        browser = launch(play)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with served(ROOT / "app" / "main.py") as url:
        yield url


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails its test for any console error, failed request, server error or request to elsewhere."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page, trouble = context.new_page(), []
    page.on(
        "console",
        # Streamlit probes <page>/_stcore/* on a deep link and gets 404 before it finds its own path.
        lambda message: (
            trouble.append(f"console: {message.text}")
            if message.type == "error" and "/_stcore/" not in str(message.location)
            else None
        ),
    )
    page.on("pageerror", lambda error: trouble.append(f"page: {error}"))
    page.on(
        "request",
        lambda request: (
            trouble.append(f"request to elsewhere: {request.url}")
            if not request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
            else None
        ),
    )
    page.on(
        "response",
        lambda answer: (
            trouble.append(f"{answer.status} {answer.url}")
            if answer.status >= 400 and "/_stcore/" not in answer.url
            else None
        ),
    )
    yield page
    exceptions = page.locator("[data-testid='stException']").all_inner_texts()
    context.close()
    assert not trouble
    assert not exceptions
