"""A JupyterLab and a Chromium for the tests of this folder; `lab_page.py` says how a test uses them.

The fixtures live as long as this folder's tests run, not as long as the session: Playwright's event loop must be gone
before other tests start loops of their own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab_page import LabPage
from tests.browser.lab_server import LabServer, running_lab

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

NAMES = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: containers refuse it. The rest keeps the browser from calling home; names outside resolve to nothing.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def find_chromium() -> str | None:
    """Path of the browser, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def chromium() -> str:
    """Path of the browser; tests are skipped without one, unless SVDLAB_REQUIRE_BROWSER=1 demands it."""
    if found := find_chromium():
        return found
    reason = f"no browser on PATH ({', '.join(NAMES)}); on Debian: apt-get install chromium"
    if os.environ.get("SVDLAB_REQUIRE_BROWSER") == "1":
        pytest.fail(f"SVDLAB_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="package")
def browser_context(chromium: str) -> Iterator[BrowserContext]:
    """A headless Chromium, driven by Playwright; its cache is shared, so that JupyterLab is fetched once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser.new_context(
            viewport={"width": 1300, "height": 1000},
            permissions=["clipboard-read", "clipboard-write"],
        )
        browser.close()


@pytest.fixture(scope="package")
def jupyter_lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A JupyterLab with no ties to the user's, with this interpreter as its kernel."""
    with running_lab(tmp_path_factory.mktemp("jupyter")) as server:
        yield server


@pytest.fixture
def lab(browser_context: BrowserContext, jupyter_lab: LabServer, tmp_path: Path) -> Iterator[LabPage]:
    """A fresh page on JupyterLab; afterwards its kernel is shut down, and errors of its console fail the test."""
    screenshots = Path(os.environ.get("SVDLAB_SCREENSHOTS", tmp_path))
    screenshots.mkdir(parents=True, exist_ok=True)
    page = browser_context.new_page()
    lab = LabPage(page, jupyter_lab, screenshots)
    yield lab
    left_over = list(lab.console)  # before the kernel goes, which the page would complain about
    page.close()
    jupyter_lab.shut_down_kernels()
    assert left_over == [], "errors in the browser's console"
