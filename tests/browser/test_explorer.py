"""The Explorer and a live sweep as a person meets them: in JupyterLab, in a real browser."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from svdlab import examples
from tests.browser.lab_page import PATIENCE, LabPage
from tests.pictures import blobs

pytestmark = pytest.mark.browser

LOAD = "import svdlab as sl\npipe = sl.load('tiny-random')"
EXPLORER = "explorer = sl.widgets.Explorer(pipe, image='rocket', steps=2, num_frames=4)\nexplorer"
GATE = (  # a denoiser that waits until it is let go, so that work can be looked at while it is under way
    "import threading\n"
    "gate, reached = threading.Event(), threading.Event()\n"
    "def wait(*_):\n"
    "    reached.set()\n"
    "    gate.wait(300)\n"
    "hook = pipe.components.unet.register_forward_pre_hook(wait)"
)
SECOND = (  # the same for the second step alone
    "import threading\n"
    "gate, calls = threading.Event(), []\n"
    "def wait(*_):\n"
    "    calls.append(1)\n"
    "    if len(calls) == 2: gate.wait(300)\n"
    "hook = pipe.components.unet.register_forward_pre_hook(wait)"
)
NAMELESS = """(root) => [...root.querySelectorAll('button, input, select, textarea, [tabindex="0"], img, progress')]
    .filter((node) => node.checkVisibility())
    .filter((node) => !(node.labels?.length || node.getAttribute('aria-label') || node.title || node.alt
        || (node.tagName === 'BUTTON' && node.textContent.trim()) || node.closest('button')))
    .map((node) => node.outerHTML.slice(0, 200))"""


@pytest.fixture(autouse=True)
def _patient():
    expect.set_options(timeout=PATIENCE * 1000)
    yield
    expect.set_options(timeout=5000)


def start(lab: LabPage, *cells: str) -> list[Locator]:
    """Run a notebook of these cells, the model loaded in a first one; their outputs."""
    lab.new_notebook([LOAD, *cells])
    lab.run_all()
    return [lab.output(place + 1) for place in range(len(cells))]


def test_a_clip_is_made_shown_compared_and_copied(lab: LabPage) -> None:
    (out,) = start(lab, EXPLORER)
    box = out.get_by_label("motion_bucket_id", exact=True)
    box.fill("200")
    box.press("Tab")
    out.get_by_role("button", name="Generate").press("Enter")
    expect(out.get_by_text("clip #1 in")).to_be_visible()
    lab.page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    assert lab.eval("explorer.clip.request.motion_bucket_id") == "200"
    expect(out.get_by_label("seed", exact=True)).to_have_value(lab.eval("explorer.clip.seed"))
    expect(out.get_by_text("random weights")).to_be_visible()
    out.get_by_role("button", name="Generate").click()
    expect(out.get_by_text("clip #2 in")).to_be_visible()
    assert lab.eval("explorer.history[0].clip.seed != explorer.history[1].clip.seed") == "True"
    out.get_by_role("button", name="Compare with the one before").click()
    lab.wait_until("explorer.player.mode == 'wipe'")
    out.get_by_role("button", name="Show the code that makes this clip").click()
    expect(out.get_by_role("region", name="Code")).to_contain_text('pipe = sl.load("tiny-random")')
    out.get_by_role("button", name="Copy the code").click()
    expect(out.get_by_text("copied", exact=True)).to_be_visible()
    assert lab.page.evaluate("navigator.clipboard.readText()").strip() == lab.eval("print(explorer.code())")
    out.get_by_role("button", name="Clip 1:").press("Enter")
    expect(out.get_by_label("seed", exact=True)).to_have_value(lab.eval("explorer.history[0].clip.seed"))
    assert out.evaluate(NAMELESS) == []
    lab.screenshot("explorer.png", full=True)


def test_the_kernel_answers_while_a_clip_is_made_and_cancel_ends_it(lab: LabPage) -> None:
    out, _ = start(lab, EXPLORER, GATE)
    out.get_by_role("button", name="Generate").click()
    lab.wait_until("reached.is_set()")
    assert lab.eval("6 * 7") == "42"
    expect(out.get_by_role("button", name="Generate")).to_be_disabled()
    expect(out.get_by_label("model", exact=True)).to_be_disabled()
    expect(out.get_by_role("progressbar")).to_be_visible()
    out.get_by_role("button", name="Cancel").click()
    expect(out.get_by_text("cancelling at the next step")).to_be_visible()
    lab.eval("gate.set()")
    expect(out.get_by_text("cancelled; nothing of it was kept")).to_be_visible()
    out.get_by_role("button", name="Generate").click()
    expect(out.get_by_text("clip #1 in")).to_be_visible()


def test_a_preview_is_seen_while_a_clip_is_made(lab: LabPage) -> None:
    out, _ = start(lab, EXPLORER, SECOND)
    out.get_by_role("button", name="Generate").click()
    preview = out.get_by_role("img", name="preview after step 1 of 2")
    expect(preview).to_be_visible()
    lab.page.wait_for_function("() => document.querySelector('.svdlab-glimpse')?.naturalWidth === 8")
    expect(out.get_by_text("step 1 of 2, about")).to_be_visible()
    lab.eval("gate.set()")
    expect(out.get_by_text("clip #1 in")).to_be_visible()
    expect(preview).to_be_hidden()


def test_pictures_come_in_every_way_and_errors_stay_in_the_widget(lab: LabPage, tmp_path: Path) -> None:
    (out,) = start(lab, EXPLORER)
    drop = out.get_by_role("button", name="Choose a picture, or drop one here")
    blobs(40, 30).save(tmp_path / "chosen.png")
    lab.upload(drop, [tmp_path / "chosen.png"])
    expect(out.get_by_text("chosen.png, 40 x 30; the model sees 64 x 64")).to_be_visible()
    buffer = io.BytesIO()
    blobs(50, 20).save(buffer, "PNG")
    drop.evaluate(
        """(node, data) => {
            const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], '<img src=x>.png', {type: 'image/png'}));
            for (const kind of ['dragenter', 'dragover', 'drop'])
                node.dispatchEvent(new DragEvent(kind, {dataTransfer, bubbles: true, cancelable: true}));
        }""",
        base64.b64encode(buffer.getvalue()).decode(),
    )
    expect(out.get_by_text("<img src=x>.png, 50 x 20")).to_be_visible()
    (tmp_path / "notes.txt").write_text("no picture")
    lab.upload(drop, [tmp_path / "notes.txt"])
    expect(out.get_by_text("'notes.txt' looks like")).to_be_visible()
    shutil.copy(examples.path("kite"), lab.root / "of-the-folder.png")
    out.get_by_label("path or URL").fill("of-the-folder.png")
    out.get_by_label("path or URL").press("Enter")
    expect(out.get_by_text("of-the-folder.png, 256 x 256")).to_be_visible()
    out.get_by_label("example").select_option("kite")
    expect(out.get_by_text("kite, 256 x 256")).to_be_visible()
    box = out.get_by_label("motion_bucket_id", exact=True)
    box.fill("5000")
    box.press("Tab")
    expect(out.get_by_text("motion_bucket_id = 5000: must be a whole number from 0 to 1023.").first).to_be_visible()
    expect(box).to_have_value("5000")
    out.get_by_text("More settings").click()
    out.get_by_label("seed", exact=True).fill("9223372036854775807")
    out.get_by_label("seed", exact=True).press("Tab")
    lab.wait_until("explorer.session.seed == 2**63 - 1")
    box.fill("")  # gives it back to the model
    box.press("Tab")
    expect(box).to_have_value("127")
    expect(out.get_by_role("alert").filter(visible=True)).to_have_count(0)
    assert out.evaluate(NAMELESS) == []
    assert lab.errors() == []


def test_a_cell_that_is_run_again_leaves_no_work_behind(lab: LabPage) -> None:
    start(lab, GATE, EXPLORER, "first = explorer if 'first' not in globals() else first")
    lab.output(2).get_by_role("button", name="Generate").click()
    lab.wait_until("reached.is_set() and first.busy")
    lab.eval("pipe.components.unet._forward_pre_hooks.clear()")
    lab.page.locator(".jp-Notebook .jp-Cell").nth(2).locator(".jp-InputArea-editor").click()
    lab.page.keyboard.press("Shift+Enter")
    lab.wait_until("explorer is not first")
    lab.eval("gate.set()")
    lab.wait_until("not first.busy")
    assert lab.eval("first._worker.job.state, first.comm") == "('cancelled', None)"
    lab.output(2).get_by_role("button", name="Generate").click()
    lab.wait_until("explorer.clip is not None")


def test_a_live_sweep_starts_fills_its_table_stops_and_goes_on(lab: LabPage) -> None:
    make = (
        "from svdlab import examples\n"
        "live = sl.widgets.LiveSweep(pipe, image=examples.path('kite'), steps=[1, 2], seed=range(6), out='live',\n"
        "    num_frames=2, metrics=['flow_mean', 'warp_error'])\nlive"
    )
    (out,) = start(lab, make)
    expect(out.get_by_text("12 = 0 done, 12 to do")).to_be_visible()
    out.get_by_role("button", name="Start").click()
    expect(out.get_by_role("cell", name="done", exact=True).first).to_be_visible()
    out.get_by_role("button", name="Stop").click()
    lab.wait_until("not live.busy")
    done = int(lab.eval("live.sweep.status()['done']"))
    assert 1 <= done < 12
    expect(out.get_by_text(f"stopped: {done} of 12 cells; starting goes on from here")).to_be_visible()
    expect(out.locator("video")).to_be_visible()
    lab.screenshot("live.png")
    out.get_by_role("button", name="Go on").click()
    expect(out.get_by_text("finished: 12 of 12 cells")).to_be_visible()
    expect(out.get_by_role("columnheader")).to_have_text(
        ["seed", "steps", "status", "flow_mean (px/frame)", "warp_error", "seconds"]
    )
    rows = min(12 - done, 10)  # of the cells since "Go on", the last ten
    expect(out.locator("tbody tr").filter(visible=True)).to_have_count(rows)
    assert out.evaluate(NAMELESS) == []


def test_interrupting_the_kernel_ends_waiting_cleanly(lab: LabPage) -> None:
    make = (
        "from svdlab import examples\n"
        "live = sl.widgets.LiveSweep(pipe, image=examples.path('kite'), seed=range(200), out='waited', num_frames=2,\n"
        "    metrics=[], start=True)\nlive"
    )
    lab.new_notebook([LOAD, make, "print('waiting')\nlive.wait().interrupted"])
    lab.start_all()
    expect(lab.output(2)).to_contain_text("waiting")  # between two cells nobody hears an interrupt
    expect(lab.output(1).get_by_role("cell", name="done", exact=True).first).to_be_visible()
    lab.page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
    expect(lab.output(2)).to_contain_text("True")
    assert lab.errors() == []
    assert lab.eval("live.busy") == "False"
