"""FramePlayer in JupyterLab: what the videos show, what the kernel hears, and what keys and pointers do."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.widgets.clips import FIRST, STEP

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from tests.browser.lab_page import LabPage

pytestmark = pytest.mark.browser

# Frame i of clip k is plain grey of level FIRST + STEP * i + lighter by 30 in the second clip.
MAKE = f"""
import numpy as np
from svdlab import Clip
from svdlab.widgets import FramePlayer

def clip(frames=25, fps=8, lighter=0):
    grey = ({FIRST} + {STEP} * np.arange(frames) + lighter).clip(0, 255).astype(np.uint8)
    return Clip(frames=np.tile(grey[:, None, None, None], (1, 64, 64, 3)), fps=fps)
"""
STILL = "(node) => [...node.querySelectorAll('video')].every((video) => video.readyState >= 2 && !video.seeking)"
SHOWN = f"""(node) => [...node.querySelectorAll('video')].map((video) => {{
    const canvas = new OffscreenCanvas(8, 8).getContext('2d');
    canvas.drawImage(video, 0, 0, 8, 8);
    return Math.round((canvas.getImageData(4, 4, 1, 1).data[0] - {FIRST}) / {STEP});
}})"""


def _open(lab: LabPage, player: str) -> Locator:
    """A notebook that shows `player = ...`; the player on its page."""
    lab.new_notebook([MAKE, f"player = {player}\nplayer", "1 + 1"])
    lab.run_all()
    root = lab.output(1).locator(".svdlab-player")
    expect(root).to_be_visible()
    return root


def _expect_shown(lab: LabPage, root: Locator, frames: list[int]) -> None:
    handle = root.element_handle()
    condition = f"(node) => ({STILL})(node) && String(({SHOWN})(node)) === '{','.join(map(str, frames))}'"
    lab.page.wait_for_function(condition, arg=handle)


def _colour(locator: Locator, x: float = 0.5, y: float = 0.5) -> tuple[int, ...]:
    """The colour that a person sees at a place of an element, 0 to 1 across and down."""
    with Image.open(io.BytesIO(locator.screenshot())) as picture:
        return picture.convert("RGB").getpixel((int(x * picture.width), int(y * picture.height)))


def test_the_page_and_the_kernel_agree_on_the_frame(lab: LabPage) -> None:
    root = _open(lab, "FramePlayer([clip(), clip(14, fps=5)], labels=['<img src=x onerror=alert(1)>', 'b'])")
    _expect_shown(lab, root, [0, 0])
    root.get_by_label("Frame", exact=True).fill("7")
    lab.wait_until("player.frame == 7")
    _expect_shown(lab, root, [7, 7])
    lab.eval("player.seek(20)")
    _expect_shown(lab, root, [20, 13])
    expect(root.locator("output")).to_have_text("20 / 24")
    root.get_by_role("button", name="One frame on").click()
    lab.wait_until("player.frame == 21")
    expect(root.get_by_text("<img src=x onerror=alert(1)>").first).to_be_visible()
    assert root.locator("img").count() == 0

    lab.eval("player.play()")
    expect(root.get_by_role("button", name="Pause")).to_be_visible()
    lab.wait_until("player.frame not in (20, 21)")
    root.get_by_role("button", name="Pause").click()
    lab.wait_until("not player.playing")
    frame = int(lab.eval("player.frame"))
    _expect_shown(lab, root, [frame, min(frame, 13)])

    # Other clips take the place of these.
    lab.eval("player.set_clips([clip(6), clip(4), clip(9)], metrics=None)")
    _expect_shown(lab, root, [min(frame, limit) for limit in (5, 3, 8)])
    assert lab.eval("player.frame") == str(min(frame, 8))


def test_keys_work_and_stay_in_the_player(lab: LabPage) -> None:
    root = _open(lab, "FramePlayer([clip(), clip(lighter=30)], mode='ab')")
    root.locator("video").first.click()
    expect(root).to_be_focused()
    keys = lab.page.keyboard
    for key, frame in (("ArrowRight", 1), ("End", 24), ("ArrowRight", 0), ("ArrowLeft", 24), ("Home", 0)):
        keys.press(key)
        lab.wait_until(f"player.frame == {frame}")
    keys.press("]")
    lab.wait_until("player.speed == 2")
    keys.press("[")
    keys.press("[")
    lab.wait_until("player.speed == 0.5")
    keys.press("l")
    lab.wait_until("not player.loop")
    keys.press("Space")
    lab.wait_until("player.playing")
    keys.press("Space")
    lab.wait_until("not player.playing")
    keys.press("?")
    expect(root.get_by_text("one frame back or on")).to_be_visible()

    video = root.locator("[data-role=b] video")
    expect(video).to_have_css("visibility", "hidden")
    keys.down("b")
    expect(video).to_have_css("visibility", "visible")
    keys.up("b")
    expect(video).to_have_css("visibility", "hidden")
    # In JupyterLab's command mode a and b add cells, d twice deletes one, m turns it into prose, z undoes.
    for key in "abddmxz0":
        keys.press(key)
    assert lab.page.locator(".jp-Notebook .jp-Cell").count() == 3
    assert lab.page.locator(".jp-Notebook .jp-MarkdownCell").count() == 0
    # What has a modifier is still JupyterLab's.
    lab.page.evaluate(
        "() => { window.saved = 0; window.jupyterapp.commands.commandExecuted.connect((_, {id}) => "
        "{ if (id === 'docmanager:save') window.saved += 1; }); }"
    )
    keys.press("Control+s")
    lab.page.wait_for_function("window.saved === 1")


def test_a_drop_down_and_a_box_keep_their_own_keys(lab: LabPage) -> None:
    root = _open(lab, "FramePlayer([clip(), clip()])")
    root.get_by_label("Loop").focus()
    lab.page.keyboard.press("Space")
    lab.wait_until("not player.loop")
    assert lab.eval("player.playing") == "False"
    root.get_by_role("button", name="One frame on").focus()
    lab.page.keyboard.press("Space")
    lab.wait_until("player.frame == 1")
    assert lab.eval("player.playing") == "False"
    root.get_by_label("View").select_option("wipe")
    lab.wait_until("player.mode == 'wipe'")
    root.get_by_label("Divider, percent from the left").focus()
    lab.page.keyboard.press("ArrowRight")
    lab.wait_until("abs(player.wipe - 0.51) < 1e-6")
    assert lab.eval("player.frame") == "1"


def test_two_clips_are_compared_in_one_place(lab: LabPage) -> None:
    root = _open(lab, "FramePlayer({'dark': clip(), 'light': clip(lighter=30), 'lighter': clip(lighter=60)})")
    lab.eval("player.seek(4)")
    area = root.locator("[data-role=a] video")
    root.get_by_label("View").select_option("blend")
    _expect_shown(lab, root, [4, 8, 12])
    assert _colour(area)[0] == pytest.approx(30, abs=3)
    root.get_by_label("Amplified").select_option("4")
    assert _colour(area)[0] == pytest.approx(120, abs=12)

    root.get_by_label("Clip B", exact=True).select_option("lighter")
    lab.wait_until("player.pair == (0, 2)")
    root.get_by_label("Clip B", exact=True).select_option("dark")
    lab.wait_until("player.pair == (2, 0)")  # choosing the other one swaps the two

    lab.eval("player.pair = (0, 2); player.mode = 'wipe'; player.wipe = 0.25")
    expect(root).to_be_visible()
    lab.page.wait_for_function(f"(node) => ({STILL})(node)", arg=root.element_handle())
    dark, light = FIRST + 4 * STEP, FIRST + 4 * STEP + 60
    assert _colour(area, 0.15)[0] == pytest.approx(dark, abs=3)
    assert _colour(area, 0.35)[0] == pytest.approx(light, abs=3)
    box = area.bounding_box()
    assert box
    lab.page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 20)
    lab.page.mouse.down()
    lab.page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 20, steps=4)
    lab.page.mouse.up()
    lab.wait_until("abs(player.wipe - 0.75) < 0.01")
    assert _colour(area, 0.6)[0] == pytest.approx(dark, abs=3)

    lab.eval("player.mode = 'ab'")
    hold = root.get_by_role("button", name="Hold to see clip B")
    expect(hold).to_be_visible()
    assert _colour(area)[0] == pytest.approx(dark, abs=3)
    hold.focus()
    lab.page.keyboard.down("Enter")
    expect(root.locator("[data-role=b] video")).to_have_css("visibility", "visible")
    lab.page.keyboard.up("Enter")
    expect(root.locator("[data-role=b] video")).to_have_css("visibility", "hidden")


def test_a_metric_lies_under_the_scrubber_frame_by_frame(lab: LabPage) -> None:
    metrics = "{'flow_mean': [[None, *range(1, 25)], [None] * 14], 'own': [[3] * 25, [4] * 14]}"
    root = _open(lab, f"FramePlayer([clip(), clip(14)], metrics={metrics})")
    line = root.locator(".svdlab-chart-marker line")
    scrubber = root.get_by_label("Frame", exact=True)
    track = scrubber.bounding_box()
    assert track
    for frame in (0, 6, 24):
        lab.eval(f"player.seek({frame})")
        expect(root.locator("output")).to_have_text(f"{frame} / 24")
        box = line.bounding_box()
        thumb = track["x"] + 8 + frame / 24 * (track["width"] - 16)  # the thumb is 16 px wide and stays on its track
        assert box
        assert box["x"] + box["width"] / 2 == pytest.approx(thumb, abs=1.5)
    values = root.locator(".svdlab-value")
    expect(values.nth(0)).to_have_text("24")
    expect(values.nth(1)).to_have_text("\N{EN DASH}")
    expect(root.get_by_role("img", name="flow_mean (px/frame) by frame, from 1 to 24")).to_be_visible()
    root.get_by_label("Metric").select_option("own")
    lab.wait_until("player.overlay == 'own'")
    expect(values.nth(0)).to_have_text("3")
    chart = root.locator(".svdlab-chart").bounding_box()
    assert chart
    lab.page.mouse.click(chart["x"] + 8 + 10 / 24 * (chart["width"] - 16), chart["y"] + 20)
    lab.wait_until("player.frame == 10")
    root.get_by_label("Metric").select_option("")
    lab.wait_until("player.overlay is None")
    expect(root.locator(".svdlab-chart")).to_be_hidden()


def test_two_views_share_one_clock_and_every_control_has_a_name(lab: LabPage) -> None:
    lab.new_notebook([MAKE, "player = FramePlayer([clip(), clip()], metrics={'m': [[1] * 25] * 2})\nplayer", "player"])
    lab.run_all()
    first, second = (lab.output(n).locator(".svdlab-player") for n in (1, 2))
    first.get_by_label("Frame", exact=True).fill("5")
    for view in (first, second):
        _expect_shown(lab, view, [5, 5])
    second.get_by_role("button", name="Play").click()
    expect(first.get_by_role("button", name="Pause")).to_be_visible()
    lab.wait_until("player.frame not in (5, 6)")
    first.get_by_role("button", name="Pause").click()
    lab.wait_until("not player.playing")
    frame = int(lab.eval("player.frame"))
    for view in (first, second):
        _expect_shown(lab, view, [frame, frame])
    for mode in ("side", "wipe", "blend", "ab"):
        lab.eval(f"player.mode = {mode!r}")
        expect(first.get_by_label("View")).to_have_value(mode)
        nameless = first.evaluate(
            """(node) => [...node.querySelectorAll('button, select, input, video, [role=img]')]
                .filter((one) => one.checkVisibility())
                .filter((one) => !one.getAttribute('aria-label') && !one.labels?.[0]?.textContent)
                .map((one) => one.outerHTML)"""
        )
        assert nameless == []
    # Closing the widget takes its videos along.
    lab.eval("player.close()")
    expect(first).to_have_count(0)
