"""What tests of several folders share: a page in a browser without a screen."""

import contextlib
import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="session")
def open_page():
    """From an address to a page in Chromium, the addresses that it asked for, and its errors."""
    return _open_page


@contextlib.contextmanager
def _open_page(address, *, width=1280, height=900):
    """A page, the addresses that it asked for, and its errors.

    Without a browser the test is skipped, but fails where CI is set: there it must not pass unseen.
    """
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        page = browser.new_page(viewport={"width": width, "height": height})
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda message: errors.append(message.text) if message.type == "error" else None,
        )
        page.goto(address)
        try:
            yield page, [url for url in requests if not url.startswith("data:")], errors
        finally:
            browser.close()
