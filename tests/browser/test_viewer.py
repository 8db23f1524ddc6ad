"""SweepViewer in JupyterLab, and its front end against the Python that it mirrors."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import svdlab as sl
from svdlab.sweep import Sweep
from svdlab.sweep.artifacts import VIDEO, cell_path
from svdlab.widgets import View, feed
from svdlab.widgets.arrange import Arrangement, arrange, count_passing
from svdlab.widgets.bundle import esm
from svdlab.widgets.view import PLACES
from tests.pictures import blobs
from tests.widgets.runs import Writer

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

    from tests.browser.lab_page import LabPage

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"document.title='broken in'\"> & more\nsecond line"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """2 pictures x 2 seeds x 3 buckets x 2 steps: 20 cells done, one failed, three pending."""
    pipe = sl.load("tiny-random", device="cpu")
    clip = pipe(blobs(), steps=1, seed=0, num_frames=5)
    grid = {"seed": [0, 1], "motion_bucket_id": [32, 127, 224], "steps": [1, 4]}

    def fill(writer: Writer, ledger: object) -> None:
        for k in range(20):
            writer.done(ledger, k)
        writer.failed(ledger, 20, HOSTILE)

    folder = tmp_path_factory.mktemp("viewer") / "trial"
    return Writer(folder, pipe, clip, grid, images=[blobs(), blobs(seed=1)]).write(fill)


@pytest.fixture
def script(browser_context: BrowserContext) -> Iterator[Page]:
    """An empty page that knows the functions of the front end."""
    page = browser_context.new_page()
    files = esm(*feed.VIEWER_FILES, "viewer_widget.js").replace("export default", "window.svdlabWidget =")
    page.add_script_tag(content=files)
    yield page
    page.close()


def random_view(view: View, draw: random.Random, cells: list[str]) -> View:
    for _ in range(draw.randrange(4)):
        view = view.select(**{draw.choice(PLACES): draw.choice([None, *view.axes])})
    for name in view.others():
        view = view.select(**{name: draw.choice([None, *view.axes[name]])})
    metric, other = draw.choice(view.metrics), draw.choice(view.metrics)
    limits = draw.choice([(None, None), (0.5, None), (None, 1.5), (0.3, 2.0)])
    return view.select(
        metric=metric,
        filters=draw.choice([{}, {other: limits}]),
        sort=draw.choice([None, None, (other, draw.random() < 0.5)]),
        shortlist=draw.sample(cells, 3),
        show=draw.choice(["grid", "heat", "both", "shortlist"]),
    )


def plain(arrangement: Arrangement) -> dict[str, object]:
    """As the browser writes it."""

    def header(one: object) -> list[list[object]]:
        return [list(pair) for pair in one.values]

    captions = None if arrangement.captions is None else [header(one) for one in arrangement.captions]
    return {
        "rows": [header(one) for one in arrangement.rows],
        "columns": [header(one) for one in arrangement.columns],
        "captions": captions,
        "tiles": [
            [[list(tile.cells), tile.cell, tile.status, tile.dimmed, tile.value] for tile in row]
            for row in arrangement.tiles
        ],
    }


def test_the_browser_arranges_as_python_does(script: Page, run: Sweep) -> None:
    frame, draw = run.frame(), random.Random(0)
    packed = feed.pack_table(run, frame)
    script.evaluate("(packed) => { window.packed = packed; window.rows = unpackTable(packed); }", packed)
    ask = """(view) => {
        const { rows, columns, captions, tiles } = arrangeView(window.rows, window.packed.axes, view);
        const passing = window.rows.filter((row) => passesFilters(row, view.filters)).length;
        const plain = tiles.map((row) => row.map((t) => [t.cells, t.cell, t.status, t.dimmed, t.value]));
        return { passing, rows, columns, captions, tiles: plain };
    }"""
    for _ in range(80):
        view = random_view(View.of(run), draw, frame["cell"].tolist())
        answer = script.evaluate(ask, view.to_dict())
        assert answer.pop("passing") == count_passing(frame, view)
        wanted = plain(arrange(frame, view))
        values = [tile.pop() for row in answer["tiles"] for tile in row]
        expected = [tile.pop() for row in wanted["tiles"] for tile in row]
        assert answer == wanted, view
        assert [value is None for value in values] == [value is None for value in expected], view
        pairs = [pair for pair in zip(values, expected, strict=True) if pair[0] is not None]
        assert all(math.isclose(a, b, rel_tol=1e-12) for a, b in pairs), view  # means, summed in another way


def test_the_browser_places_and_locks_as_python_does(script: Page, run: Sweep) -> None:
    draw, view = random.Random(1), View.of(run)
    axes = json.loads(json.dumps(view.axes | {}))
    for _ in range(60):
        if draw.random() < 0.6:
            place, name = draw.choice(PLACES), draw.choice([None, *view.axes])
            answer = script.evaluate("([v, a, p, n]) => placeAxis(v, a, p, n)", [view.to_dict(), axes, place, name])
            view = view.select(**{place: name})
        else:
            name = draw.choice(list(view.axes))
            value = draw.choice([None, *view.axes[name]])
            answer = script.evaluate("([v, a, n, x]) => lockAxis(v, a, n, x)", [view.to_dict(), axes, name, value])
            view = view.select(**{name: value})
        assert answer == view.to_dict()


def test_the_colours_are_cividis(script: Page) -> None:
    colours = script.evaluate("[0, 2, 1].map((value) => heatColour(value, { low: 0, high: 2 }))")
    assert [one["fill"] for one in colours] == ["rgb(0 34 78)", "rgb(254 232 56)", "rgb(125 124 120)"]
    assert [one["ink"] for one in colours[:2]] == ["#fff", "#000"]


def test_media_are_kept_and_let_go(script: Page) -> None:
    asked = script.evaluate(
        """async () => {
            const asked = [], urls = {};
            const thumb = (cell) => {
                asked.push(cell);
                if (cell === 'bad' && asked.length === 1) throw new Error('not now');
                return (urls[cell] = URL.createObjectURL(new Blob([cell])));
            };
            const media = new MediaCache({ thumb }, { thumbs: 2 });
            const first = await media.thumb('bad').catch((error) => error.message);
            for (const cell of ['bad', 'a', 'bad', 'b']) await media.thumb(cell);
            const alive = {};
            for (const cell of ['bad', 'a', 'b']) alive[cell] = await fetch(urls[cell]).then(() => true, () => false);
            return { first, asked, alive };
        }"""
    )
    # 'bad' is asked for again after its failure, and used after 'a', so 'a' makes room for 'b'.
    assert asked == {
        "first": "not now",
        "asked": ["bad", "bad", "a", "b"],
        "alive": {"bad": True, "a": False, "b": True},
    }


def tiles(output: Locator) -> list[str | None]:
    return output.locator(".svdlab-cell").evaluate_all("(nodes) => nodes.map((node) => node.dataset.cell ?? null)")


def choose(output: Locator, name: str, value: str) -> None:
    output.get_by_role("combobox", name=name, exact=True).select_option(value)


def open_viewer(lab: LabPage, run: Sweep, **options: object) -> Locator:
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    lab.new_notebook([f"import svdlab as sl\nviewer = sl.widgets.SweepViewer({str(run.path)!r}{given})\nviewer"])
    lab.run_all()
    lab.output(0).locator(".svdlab-cell").first.wait_for()
    return lab.output(0)


def test_a_person_walks_through_a_sweep(lab: LabPage, run: Sweep) -> None:
    out, keys = open_viewer(lab, run), "viewer.arrangement().keys()"
    assert tiles(out) == eval(lab.eval(keys))
    thumbs = out.locator(".svdlab-cell-image:not([hidden])")
    thumbs.nth(5).wait_for()

    choose(out, "Super-Y", "seed")
    choose(out, "Super-X", "steps")
    choose(out, "Show", "both")
    lab.wait_until("viewer.show == 'both' and viewer.super_x == 'steps'")
    assert tiles(out) == eval(lab.eval(keys))
    assert out.get_by_role("columnheader").all_text_contents() == ["steps 1", "steps 4", *["32", "127", "224"] * 2]
    failed = out.locator('.svdlab-cell[data-status="failed"]')
    assert "RuntimeError: <img" in failed.inner_text()
    assert "second line" not in failed.inner_text()
    failed.click()
    assert "second line" in out.get_by_label("error", exact=True).inner_text()
    assert lab.page.title() != "broken in"

    first = out.locator(".svdlab-cell").first
    first.click()
    cell = first.get_attribute("data-cell")
    lab.wait_until(f"viewer.selected == {cell!r}")
    panel = out.get_by_role("complementary", name="selected cell")
    assert "px/frame" in panel.inner_text()
    lab.page.keyboard.press("s")
    lab.page.keyboard.press("ArrowRight")
    lab.page.keyboard.press("ArrowDown")
    arrangement = "viewer.arrangement().tiles[1][1].cell"
    lab.wait_until(f"viewer.selected == {arrangement} and viewer.shortlist == ({cell!r},)")
    lab.page.keyboard.press("b")  # would add a cell to the notebook
    lab.page.keyboard.press("Enter")
    assert lab.page.evaluate("document.activeElement.className") == "svdlab-panel-title"
    assert panel.get_by_label("code that makes this clip").inner_text().strip() == lab.eval("print(viewer.code())")
    lab.page.keyboard.press("Escape")
    lab.wait_until("viewer.selected is None")
    assert lab.page.evaluate("document.activeElement.classList.contains('svdlab-cell')")
    assert lab.page.locator(".jp-Notebook .jp-Cell").count() == 1

    choose(out, "Filter", "flow_mean")
    out.get_by_label("lowest value that passes").fill("1")
    out.get_by_label("lowest value that passes").press("Enter")
    lab.wait_until("viewer.filters == {'flow_mean': (1.0, None)}")
    assert out.get_by_text("13 of 24 cells pass").is_visible()
    choose(out, "Order", '["flow_mean",false]')
    lab.wait_until("viewer.sort == ('flow_mean', False)")
    assert tiles(out) == eval(lab.eval(keys))
    lab.eval(f"viewer.select(sort=None, show='shortlist', filters={{}}, shortlist=[{cell!r}])")
    out.locator(".svdlab-list").wait_for()
    assert tiles(out) == [cell]


def test_clips_play_in_step(lab: LabPage, run: Sweep) -> None:
    out = open_viewer(lab, run)
    assert out.locator(".svdlab-grid video").count() == 0  # none before it is wanted
    out.get_by_role("slider", name="Frame", exact=True).fill("3")
    count = len([1 for row in arrange(run.frame(), View.of(run)).tiles for tile in row if tile.status == "done"])
    here = """(count) => {
        const all = [...document.querySelectorAll('.svdlab-grid video')];
        return all.length === count && all.every((video) => video.readyState >= 2 && !video.seeking
            && Math.floor(video.currentTime * 10) === 3);
    }"""
    lab.page.wait_for_function(here, arg=count)
    out.locator(".svdlab-cell").first.focus()
    lab.page.keyboard.press(" ")
    lab.page.wait_for_function(
        "() => [...document.querySelectorAll('.svdlab-grid video')].every((video) => video.played.length > 0)"
    )
    lab.page.keyboard.press(" ")
    out.get_by_role("button", name="Play", exact=True).wait_for()
    choose(out, "Show", "heat")
    lab.page.wait_for_function("() => document.querySelectorAll('.svdlab-grid video').length === 0")


def test_what_is_seen_is_written_and_downloaded(lab: LabPage, run: Sweep) -> None:
    out = open_viewer(lab, run)
    out.get_by_label("Write to").fill("seen")
    button = out.get_by_role("button", name="Write what is seen: Table (CSV)")
    button.click()
    with lab.page.expect_download() as download:
        out.get_by_role("link", name="download").click()
    written = (lab.root / "seen.csv").read_bytes()
    assert Path(download.value.path()).read_bytes() == written
    assert download.value.suggested_filename == "seen.csv"
    button.click()
    out.get_by_text("is there already").wait_for()
    assert (lab.root / "seen.csv").read_bytes() == written


def test_a_running_sweep_fills_by_itself(lab: LabPage, tmp_path: Path) -> None:
    pipe = sl.load("tiny-random", device="cpu")
    clip = pipe(blobs(), steps=1, seed=0, num_frames=2)
    writer = Writer(tmp_path / "live", pipe, clip, {"steps": [1, 2, 3]})
    run = writer.write()
    out = open_viewer(lab, run, refresh_seconds=0.5)
    out.get_by_text("0 of 3 cells, stopped").wait_for()
    writer.write(lambda writer, ledger: writer.done(ledger, 1))
    out.locator('.svdlab-cell[data-status="done"] img:not([hidden])').wait_for()
    out.get_by_text("1 of 3 cells").wait_for()
    writer.write(lambda writer, ledger: [writer.done(ledger, k) for k in (0, 2)])
    out.get_by_text("3 cells", exact=True).wait_for()
    assert tiles(out) == [cell.key for cell in writer.prepared.cells]
    lab.page.wait_for_function("() => document.querySelectorAll('.svdlab-cell img:not([hidden])').length === 3")


def test_a_thousand_cells_ask_only_for_what_is_in_sight(lab: LabPage, tmp_path: Path) -> None:
    pipe = sl.load("tiny-random", device="cpu")
    clip = pipe(blobs(), steps=1, seed=0, num_frames=2)
    writer = Writer(tmp_path / "many", pipe, clip, {"motion_bucket_id": range(250), "steps": [1, 2], "seed": [0, 1]})
    run = writer.write(lambda writer, ledger: [writer.done(ledger, k) for k in range(120)])
    open_viewer(lab, run, height=300)
    lab.eval("viewer.select(super_y='seed')")
    lab.page.wait_for_function("() => document.querySelectorAll('.svdlab-cell').length === 1000")
    lab.page.wait_for_function("() => document.querySelectorAll('.svdlab-cell img:not([hidden])').length > 8")
    lab.page.wait_for_timeout(500)
    shown = lab.page.locator(".svdlab-cell img[src]").count()
    assert 8 < shown < 60
    assert int(lab.eval("len(viewer._thumbs)")) == shown
    assert int(lab.eval("import json; len(json.dumps(viewer.get_state(['_table'])))")) < 300_000
    lab.page.locator(".svdlab-viewer .svdlab-scroll").evaluate("(node) => { node.scrollLeft = 2000; }")
    lab.page.wait_for_function("(n) => document.querySelectorAll('.svdlab-cell img[src]').length > n", arg=shown)


def test_a_damaged_clip_says_so_in_its_tile(lab: LabPage, run: Sweep) -> None:
    cell = arrange(run.frame(), View.of(run)).tiles[0][0].cell
    path = run.path / cell_path(cell) / VIDEO
    data = path.read_bytes()
    path.write_bytes(b"no video")
    try:
        out = open_viewer(lab, run)
        broken = out.locator(".svdlab-cell").first
        broken.get_by_text("cannot be shown").wait_for()
        choose(out, "Show", "both")  # drawn again
        lab.wait_until("viewer.show == 'both'")
        assert "has no middle frame" in broken.inner_text()
        out.locator(".svdlab-cell").nth(1).locator("img:not([hidden])").wait_for()
    finally:
        path.write_bytes(data)


def test_every_control_has_a_name(lab: LabPage, run: Sweep) -> None:
    out = open_viewer(lab, run)
    out.locator(".svdlab-cell").first.click()
    out.get_by_role("button", name="Copy code").wait_for()
    controls = out.locator(".svdlab-viewer").locator("button:visible, select:visible, input:visible")
    assert controls.count() > 20
    for k in range(controls.count()):
        snapshot = controls.nth(k).aria_snapshot()
        assert '"' in snapshot.splitlines()[0], f"has no name: {snapshot}"
    assert out.get_by_role("grid", name="cells").get_by_role("gridcell").count() == 6
    tabbable = out.locator('.svdlab-cell[tabindex="0"]')
    assert tabbable.count() == 1  # one stop for the whole grid; arrows do the rest
    out.get_by_role("button", name="Copy code").click()
    out.get_by_text("copied").wait_for()
    assert lab.page.evaluate("navigator.clipboard.readText()").strip() == lab.eval("print(viewer.code())")
