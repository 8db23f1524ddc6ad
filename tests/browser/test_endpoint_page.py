"""The page of `svdlab serve` in a real browser: drop a picture, generate, watch, play, cancel; a wrong key."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.media_samples import noise, packed
from tests.server.running import Running, running, until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser

DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/png" }));
  const event = new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.getElementById("drop").dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Running]:
    model = getattr(request, "param", "tiny-random")
    with running(tmp_path_factory.mktemp("served"), model=model) as server:
        yield server


@pytest.fixture
def page(
    browser_context: BrowserContext, server: Running, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """The page, opened as the printed address does; whatever the console complains about fails the test."""
    page = browser_context.new_page()
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda sent: complaints.append(sent.url) if server.url not in sent.url else None)
    page.goto(f"{server.url}/#key={server.alice}")
    page.wait_for_selector("body[data-ready]")
    yield page
    page.screenshot(path=Path(os.environ.get("SVDLAB_SCREENSHOTS", tmp_path)) / f"{request.node.name}.png")
    page.close()
    refusals = [text for text in complaints if "401" in text or "499" in text]  # the browser's own line for an answer
    assert [text for text in complaints if text not in refusals and not text.startswith(("blob:", "data:"))] == []


def drop(page: Page) -> None:
    data = base64.b64encode(packed(Image.fromarray(noise(48, 64)))).decode()
    page.evaluate(DROP, [data, '<img src=x onerror="alert(1)">.png'])


def test_drop_generate_and_play(page: Page, server: Running) -> None:
    assert page.url == f"{server.url}/"  # the key is no longer in sight
    drop(page)
    assert page.text_content("#hint") == '<img src=x onerror="alert(1)">.png'
    page.fill("#steps", "2")
    page.fill("#seed", "11")
    page.click("#generate")
    until(lambda: page.text_content("#status") == "Done.")
    assert page.text_content("#about").startswith("seed 11, ")
    assert "step 2 of 2" in page.text_content("#logs")
    until(lambda: page.evaluate("document.getElementById('video').readyState") >= 2)
    assert page.evaluate("document.getElementById('video').duration") == pytest.approx(2.5, abs=0.01)
    assert page.evaluate("document.getElementById('video').videoWidth") == 64
    until(lambda: page.evaluate("document.getElementById('video').currentTime") > 0)  # it plays by itself
    until(lambda: "has random weights" in page.text_content("#notice"))


@pytest.mark.parametrize("server", ["tiny"], indirect=True)
def test_cancel(page: Page) -> None:
    """Forty steps of a model that takes its time: the page asks four times a second, and must see it at work."""
    drop(page)
    page.fill("#steps", "40")
    page.click("#generate")
    until(lambda: "step 1 of 40" in page.text_content("#logs"))
    page.click("#cancel")
    page.wait_for_selector("#status.error", timeout=300_000)
    assert page.text_content("#status") == "The request was cancelled. (499)"
    assert page.is_enabled("#generate")
    assert page.is_disabled("#cancel")


def test_a_wrong_key_and_no_picture_are_said(page: Page) -> None:
    page.click("#generate")
    assert page.text_content("#status") == "Choose a picture first."
    drop(page)
    page.fill("#key", "not:a-key")
    page.click("#generate")
    page.wait_for_selector("#status.error")
    assert page.text_content("#status").startswith("This key is not one of the server's.")
