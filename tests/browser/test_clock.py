"""The clock of the front end, alone on a page: which frames do real videos show?"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from svdlab.widgets.bundle import esm
from tests.widgets.clips import FIRST, STEP, counting

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser

# Frames and fps of the clips: four rates and two lengths in one grid.
CLIPS = ((25, 10.0), (25, 7.0), (14, 8.0), (25, 25.0))
LAST = 24
SETUP = f"""(clips) => {{
    window.clock = new Clock({{frames: 25, fps: 10}});
    window.videos = clips.map(([frames, fps, data]) => {{
        const video = document.createElement('video');
        video.preload = 'auto';
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        video.src = URL.createObjectURL(new Blob([bytes], {{type: 'video/mp4'}}));
        document.body.append(video);
        clock.add(video, {{frames, fps}});
        return Object.assign(video, {{rate: fps}});
    }});
    window.still = () => videos.every((video) => video.readyState >= 2 && !video.seeking);
    window.shown = () => videos.map((video) => {{          // the frame by its grey
        const canvas = new OffscreenCanvas(8, 8).getContext('2d');
        canvas.drawImage(video, 0, 0, 8, 8);
        return Math.round((canvas.getImageData(4, 4, 1, 1).data[0] - {FIRST}) / {STEP});
    }});
    window.at = () => videos.map((video) => video.currentTime * video.rate);
}}"""


@pytest.fixture
def page(browser_context: BrowserContext) -> Iterator[Page]:
    page = browser_context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    # Not a module here, and so without its export: the tests reach the class by its name.
    page.set_content(f"<script>{esm('clock.js', 'player.js').partition('// The frame player')[0]}</script>")
    data = [(frames, fps, base64.b64encode(counting(frames, fps=fps).to_mp4()).decode()) for frames, fps in CLIPS]
    page.evaluate(SETUP, data)
    page.wait_for_function("still()")
    yield page
    page.close()
    assert failures == []


def _expect_shown(page: Page, frame: int) -> None:
    """All videos show `frame`, the short one its last if it has no such frame."""
    page.wait_for_function(
        "(wanted) => still() && String(shown()) === String(wanted)", arg=[min(frame, n - 1) for n, _ in CLIPS]
    )


def test_every_frame_is_shown_exactly_by_clips_of_other_rates_and_lengths(page: Page) -> None:
    for frame in [*range(25), 3, 24, 0, 13]:
        page.evaluate("(frame) => clock.seek(frame)", frame)
        _expect_shown(page, frame)


def test_fast_scrubbing_ends_on_the_last_wish(page: Page) -> None:
    page.evaluate("() => { for (let frame = 0; frame < 25; frame++) clock.seek(frame); clock.seek(11); }")
    _expect_shown(page, 11)


def test_steps_pause_and_walk_over_the_ends_of_a_loop(page: Page) -> None:
    page.evaluate("() => { clock.play(); clock.seek(24); clock.step(1); }")
    assert page.evaluate("[clock.playing, clock.frame]") == [False, 0]
    page.evaluate("() => { clock.step(-2); }")
    _expect_shown(page, 23)
    page.evaluate("() => { clock.loop = false; clock.step(9); }")
    _expect_shown(page, LAST)


@pytest.mark.parametrize("speed", [1, 2])
def test_playing_clips_keep_step_and_stop_on_one_frame(page: Page, speed: float) -> None:
    # Away from the restart, where seeking takes a moment, no long clip may be off by more than two frames, and the
    # middle of what is seen must be within one; a native player left alone would be off by half the clip.
    page.evaluate(
        """(speed) => { clock.speed = speed; window.seen = []; clock.on('frame', (frame) => {
            if (frame >= 5) seen.push([frame, ...at()]);
        }); clock.play(); }""",
        speed,
    )
    page.wait_for_function("seen.length > 30")
    offs = sorted(abs(position - frame - 0.5) for frame, a, b, _, d in page.evaluate("seen") for position in (a, b, d))
    assert offs[len(offs) // 2] < 1
    assert offs[int(0.9 * len(offs))] < 2
    page.evaluate("clock.pause()")
    _expect_shown(page, page.evaluate("clock.frame"))
    assert page.evaluate("videos.every((video) => video.paused)")


def test_without_loop_it_ends_on_the_last_frame_and_plays_again_from_the_first(page: Page) -> None:
    page.evaluate("() => { clock.loop = false; clock.speed = 4; clock.seek(18); clock.play(); }")
    page.wait_for_function("!clock.playing")
    _expect_shown(page, LAST)
    seen = page.evaluate("() => { clock.play(); return clock.frame; }")
    assert seen == 0


def test_listeners_hear_each_frame_once_and_can_leave(page: Page) -> None:
    page.evaluate(
        """() => { window.heard = []; window.leave = clock.on('frame', (frame) => heard.push(frame));
            window.states = []; clock.on('state', (playing) => states.push(playing)); }"""
    )
    page.evaluate("() => { clock.seek(4); clock.seek(4); clock.step(1); clock.play(); clock.play(); clock.pause(); }")
    page.evaluate("() => { leave(); clock.seek(20); }")
    assert page.evaluate("heard") == [4, 5]
    assert page.evaluate("states") == [True, False]


def test_a_video_that_never_arrives_or_may_not_start_stalls_nobody(page: Page) -> None:
    page.evaluate(
        """() => { clock.add(document.createElement('video'), {frames: 25, fps: 10});
            videos[1].play = () => Promise.reject(new DOMException('not now', 'NotAllowedError'));
            clock.speed = 0.5; window.moved = new Set(); clock.on('frame', () => moved.add(shown()[1]));
            clock.play(); }"""
    )
    page.wait_for_function("clock.frame > 8 && moved.size > 3")  # the refused one is moved frame by frame
    assert page.evaluate("videos[1].paused && !videos[0].paused")


def test_a_clip_that_joins_late_or_changes_its_source_lands_on_the_frame(page: Page) -> None:
    page.evaluate("() => { clock.seek(9); videos[0].src = videos[0].src; }")
    _expect_shown(page, 9)
    page.evaluate("() => { clock.remove(videos[1]); clock.seek(12); clock.add(videos[1], {frames: 25, fps: 7}); }")
    _expect_shown(page, 12)


def test_a_clock_that_is_given_up_lets_go(page: Page) -> None:
    page.evaluate("() => { clock.play(); clock.dispose(); }")
    assert page.evaluate("clock.playing") is False
    assert page.evaluate("videos.every((video) => video.paused)")
    before = page.evaluate("at()")
    page.evaluate("clock.seek(20)")
    assert page.evaluate("at()") == before


@pytest.mark.parametrize("change", ["speed = 0", "fps = NaN", "frames = 1.5", "frames = 0"])
def test_impossible_settings_are_refused(page: Page, change: str) -> None:
    words = page.evaluate(
        f"() => {{ try {{ clock.{change}; return 'taken'; }} catch (error) {{ return error.message; }} }}"
    )
    assert words.startswith(f"{change}: must be a ")
