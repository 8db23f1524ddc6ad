"""A report in a real browser: from disk, from a server that knows no byte ranges, and as one page alone."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import svdlab as sl
from svdlab.report import write_report
from tests.media_samples import moving_square
from tests.widgets.runs import Writer

pytestmark = pytest.mark.browser

FPS = 10
HOSTILE = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"
ARRIVED = """([frame, count]) => {
    const now = (FRAMES)();
    return now.length === count && now.every((shown) => shown === frame);
}"""
SCRUB = """(frame) => {
    const slider = document.querySelector('.svdlab-transport input[type=range]');
    slider.value = frame;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""
# Every video that is on the page, as the frame that it shows; null while one has not arrived.
FRAMES = """() => [...document.querySelectorAll('video')].map((video) =>
    video.readyState >= 2 && !video.seeking ? Math.floor(video.currentTime * FPS) : null)""".replace("FPS", str(FPS))


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.fixture(scope="module")
def sweep(pipe, tmp_path_factory):
    """Six cells with eleven frames: three done, one failed, one to do; one picture with a hostile name."""
    folder = tmp_path_factory.mktemp("swept")
    name = HOSTILE.replace("/", "\u2215")
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / f"{name}.png")
    Image.fromarray(np.full((48, 64, 3), 160, np.uint8)).save(folder / "plain.png")
    frames = moving_square(count=11)
    clip = sl.Clip(frames=frames, fps=FPS, image=frames[0])
    images = [str(folder / f"{name}.png"), str(folder / "plain.png")]
    writer = Writer(folder / "run", pipe, clip, {"steps": [1, 2, 4], "seed": [0]}, images=images, name="first")

    def fill(writer, ledger):
        for k in range(4):
            writer.done(ledger, k)
        writer.failed(ledger, 4, f"out of memory {HOSTILE}")

    return writer.write(fill)


@pytest.fixture(scope="module")
def report(sweep, tmp_path_factory) -> Path:
    return write_report(sweep, tmp_path_factory.mktemp("report") / "report", title=f"Steps {HOSTILE}").parent


@pytest.fixture
def browser(browser_context):
    """The Chromium of this folder; a report's pages get contexts of their own."""
    return browser_context.browser


@pytest.fixture
def page(browser) -> Iterator:
    """A page without a network; anything that its console calls an error fails the test."""
    context = browser.new_context(viewport={"width": 1300, "height": 1000}, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(f"uncaught: {error}"))
    yield page
    pwned = page.evaluate("() => window.pwned ?? null") if page.url != "about:blank" else None
    context.close()
    assert said == []
    assert pwned is None


class WithoutRanges(http.server.SimpleHTTPRequestHandler):
    """Python's own server, which answers every request with the whole file."""

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def served(report) -> Iterator[str]:
    handler = functools.partial(WithoutRanges, directory=str(report))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def scrub_to(page, frame: int, *, videos: int) -> None:
    page.evaluate(SCRUB, frame)
    page.wait_for_function(ARRIVED.replace("FRAMES", FRAMES), arg=[frame, videos], timeout=60_000)


def open_cell(page, cell: str) -> None:
    page.locator(f"#cells-table button[data-cell='{cell}']").click()
    page.locator(".svdlab-panel video").wait_for(state="visible", timeout=60_000)


def test_from_disk_every_clip_is_scrubbed_to_the_same_frame(page, report, sweep) -> None:
    page.goto((report / "index.html").as_uri())
    page.locator(".svdlab-cell").first.wait_for()
    open_cell(page, sweep.frame()["cell"][0])
    for frame in (7, 3, 10, 0):
        scrub_to(page, frame, videos=5)  # four tiles that are done, and the open one
    assert page.evaluate("() => [...document.querySelectorAll('video')].every((v) => v.src.startsWith('file:'))")


def test_from_disk_it_plays(page, report) -> None:
    page.goto((report / "index.html").as_uri())
    page.get_by_label("Play", exact=True).click()
    page.wait_for_function(f"() => Math.max(...({FRAMES})()) >= 2", timeout=60_000)
    page.get_by_label("Pause", exact=True).click()
    page.wait_for_function("() => [...document.querySelectorAll('video')].every((video) => video.paused)")


def test_a_server_without_byte_ranges_scrubs_too(browser, served, sweep) -> None:
    cell = sweep.frame()["cell"][0]
    asked = urllib.request.Request(f"{served}clips/{cell}.mp4", headers={"Range": "bytes=0-9"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200  # a whole file where ten bytes were asked for: Chromium would not seek in it
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(served)
    open_cell(page, cell)
    for frame in (7, 2):
        scrub_to(page, frame, videos=5)
    context.close()
    assert said == []


def test_an_embedded_page_needs_no_other_file(page, sweep, tmp_path) -> None:
    whole = write_report(sweep, tmp_path / "report", embed=True)
    alone = shutil.copy(whole, tmp_path / "alone.html")
    shutil.rmtree(whole.parent)
    page.goto(Path(alone).as_uri())
    open_cell(page, sweep.frame()["cell"][0])
    scrub_to(page, 5, videos=5)
    page.wait_for_function("() => [...document.querySelectorAll('img[src]')].every((image) => image.naturalWidth > 0)")
    with page.expect_download() as download:
        page.get_by_role("link", name="results.csv").click()
    assert Path(download.value.path()).read_text().startswith("cell,image,")


def test_a_report_without_clips_says_so(page, sweep, tmp_path) -> None:
    page.goto(write_report(sweep, tmp_path / "report", videos=False).as_uri())
    page.locator(f"#cells-table button[data-cell='{sweep.frame()['cell'][0]}']").click()
    page.get_by_text("this report was written without clips").first.wait_for()


def test_hostile_names_are_shown_as_they_are(page, report) -> None:
    page.goto((report / "index.html").as_uri())
    assert page.locator("h1").inner_text() == f"Steps {HOSTILE}"
    assert HOSTILE in page.locator(".report-failures").inner_text()
    assert HOSTILE.replace("/", "\u2215") in page.locator("#viewer").inner_text()
    assert page.locator("#cells-table td.error").filter(has_text=HOSTILE).count() == 1


def test_the_table_sorts_by_click_and_by_keyboard(page, report, sweep) -> None:
    frame = sweep.frame()
    page.goto((report / "index.html").as_uri())
    shown = "() => [...document.querySelectorAll('#cells-table tbody button')].map((one) => one.dataset.cell)"
    assert page.evaluate(shown) == frame["cell"].tolist()
    sort = page.get_by_role("button", name="Sort by flow_mean")
    sort.click()
    up = frame.sort_values("flow_mean", na_position="last")["cell"].tolist()
    assert page.evaluate(shown)[:4] == up[:4]
    sort.focus()
    page.keyboard.press("Enter")
    down = frame.sort_values("flow_mean", ascending=False, na_position="last")["cell"].tolist()
    assert page.evaluate(shown)[:4] == down[:4]  # cells without a number stay at the end
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    page.locator("#cells-table tbody button").first.focus()
    page.keyboard.press("Enter")
    assert down[0] in page.locator(".svdlab-panel").inner_text()


def test_the_address_keeps_the_view(page, report) -> None:
    address = (report / "index.html").as_uri()
    page.goto(address)
    page.get_by_label("Show").select_option("both")
    kept = page.url
    assert "#" in kept
    page.goto("about:blank")
    page.goto(kept)
    assert page.get_by_label("Show").input_value() == "both"


@pytest.mark.parametrize(
    "change", [{"x": "__proto__"}, {"show": "constructor"}, {"lock": {"seed": 9}}, {"shortlist": 3}, None]
)
def test_an_address_that_makes_no_sense_is_ignored(page, report, change) -> None:
    address = (report / "index.html").as_uri()
    page.goto(address)
    view = page.evaluate("() => JSON.parse(document.getElementById('report-data').textContent).view")
    given = "%zz{" if change is None else urllib.parse.quote(json.dumps({**view, **change}))
    page.goto("about:blank")
    page.goto(f"{address}#{given}")
    assert page.get_by_label("Show").input_value() == "grid"
    assert page.locator(".svdlab-cell").count() == 6


def test_light_dark_and_paper(page, report) -> None:
    page.goto((report / "index.html").as_uri())
    paper = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(paper) > 200
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(paper) < 60
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(paper) > 200
    assert page.locator("#clips").is_hidden()
    assert page.locator("#cells-table").is_visible()


def test_without_scripts_words_and_table_are_there(browser, report, sweep) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((report / "index.html").as_uri())
    assert page.locator("#cells-table tbody tr").count() == len(sweep)
    assert "needs JavaScript" in page.locator("#clips").inner_text()
    context.close()


def test_every_control_has_a_name(page, report) -> None:
    page.goto((report / "index.html").as_uri())
    page.locator(".svdlab-cell").first.wait_for()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select, img, a')].filter((one) => one.tagName === 'IMG'
            ? !one.hasAttribute('alt')
            : !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.querySelector('img[alt]')?.alt)
        ).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_a_thousand_cells_load_only_what_is_in_sight(page, pipe, tmp_path) -> None:
    frames = moving_square(count=3, height=32, width=32)
    clip = sl.Clip(frames=frames, fps=FPS, image=frames[0])
    grid = {"motion_bucket_id": list(range(20)), "steps": list(range(1, 11)), "seed": list(range(5))}
    writer = Writer(tmp_path / "run", pipe, clip, grid)
    run = writer.write(lambda writer, ledger: [writer.done(ledger, k) for k in range(1000)] and None)
    target = write_report(run, tmp_path / "report", plots=False)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.goto(target.as_uri())
    page.locator(".svdlab-cell img:visible").first.wait_for()
    assert page.locator("#cells-table tbody tr").count() == 1000
    assert len([url for url in loaded if "/thumbs/" in url]) <= 200  # the first view: 20 x 10 of 1000
    assert not [url for url in loaded if "/clips/" in url]
