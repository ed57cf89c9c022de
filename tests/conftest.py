"""What tests of several folders share: property tests, a browser, what can be read in a figure."""

import contextlib
import os
import random
import shutil

import matplotlib as mpl
import pytest
import torch
from hypothesis import HealthCheck, settings
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


# No deadline, and drawing may take long: a first call compiles.
settings.register_profile(
    "ours",
    deadline=None,
    derandomize=False,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.hookimpl(tryfirst=True)  # hypothesis reads the option in its own
def pytest_configure(config):
    """Draw a new seed for the property tests of each run; where CI is set, it is always 0."""
    settings.load_profile("ours")
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = 0 if os.environ.get("CI") else random.randrange(2**32)
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)  # several workers share the cores


def pytest_collection_modifyitems(items):
    """Begin with the longest test, beside which the other worker runs the rest."""
    items.sort(key=lambda item: not item.name.startswith("test_smoke_runs"))


def pytest_report_header(config):
    """Say how to repeat the examples of the property tests."""
    return f"property tests: --hypothesis-seed={config.option.hypothesis_seed}"


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


@pytest.fixture(scope="session")
def keep_picture():
    """Keep a picture of a page, or of a part of it, in the folder `SCREENSHOTS`, if that is set."""

    def keep(part, name):
        if folder := os.environ.get("SCREENSHOTS"):
            part.screenshot(path=f"{folder}/{name}.png")

    return keep


@pytest.fixture(scope="session")
def overlapping_texts():
    """From a figure to what cannot be read in it: texts that overlap, texts off the page."""
    return _overlapping_texts


def _overlapping_texts(figure):
    """Pairs of texts of a figure whose boxes overlap, and texts that leave the page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    list of str
        Empty where all can be read.
    """
    figure.canvas.draw()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    hidden, boxes = _labels_out_of_sight(figure), []
    for text in figure.findobj(mpl.text.Text):
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            box = text.get_window_extent(renderer)
            if box.width and box.height:
                boxes.append((text.get_text(), box))
    found = []
    for i, (first, a) in enumerate(boxes):
        if a.x0 < page.x0 - 1 or a.y0 < page.y0 - 1 or a.x1 > page.x1 + 1 or a.y1 > page.y1 + 1:
            found.append(f"{first!r} leaves the page")
        found += [
            f"{first!r} and {second!r}"
            for second, b in boxes[:i]
            if a.shrunk(0.96, 0.8).overlaps(b.shrunk(0.96, 0.8))
        ]
    return found


def _labels_out_of_sight(figure):
    """Ids of the labels of ticks beyond their axis' limits, which are not drawn."""
    found = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high:
                    found |= {id(tick.label1), id(tick.label2)}
    return found
