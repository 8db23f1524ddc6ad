"""The pictures of docs/widgets.md: each widget as it stands in JupyterLab, in a browser, on `tiny`.

    python -m tests.browser.gallery --out docs/images

A browser is needed, as for the tests of this folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops
from playwright.sync_api import sync_playwright

from tests.browser.conftest import FLAGS, NAMES, find_chromium
from tests.browser.lab_page import LabPage
from tests.browser.lab_server import running_lab

WINDOW = {"width": 1120, "height": 1000}
SETUP = """
import svdlab as sl
from svdlab import examples

pipe, picture = sl.load("tiny"), examples.path("fish")
grid = {"motion_bucket_id": [0, 127, 255], "steps": [1, 4], "seed": [0, 1]}
"""
WIDGETS = {  # the last line of each shows the widget
    "explorer": """
shown = sl.widgets.Explorer(pipe, image="fish", motion_bucket_id=127, steps=4, fps=10, seed=42)
for bucket in (0, 255):
    shown.set(motion_bucket_id=bucket, seed=42)
    shown.generate(wait=True)
shown
""",
    "viewer": """
sweep = sl.sweep(pipe, image=picture, metrics=["flow_mean", "warp_error"], out="viewed", progress=False, **grid)
shown = sl.widgets.SweepViewer(sweep)
_ = shown.select(x="motion_bucket_id", y="steps", seed=0, metric="flow_mean", show="both")
shown
""",
    "player": """
clips = [pipe(picture, motion_bucket_id=bucket, steps=4, seed=42) for bucket in (127, 255)]
shown = sl.widgets.FramePlayer(clips, labels=["bucket 127", "bucket 255"], metrics="auto")
shown.frame = 24
shown
""",
    "live": """
shown = sl.widgets.LiveSweep(pipe, image=picture, metrics=["flow_mean", "warp_error"], out="live", start=True, **grid)
_ = shown.wait()
shown
""",
}


def main(arguments: list[str] | None = None) -> int:
    """Take all pictures; fails if a cell does, or if the page has errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures; created")
    parser.add_argument("--only", choices=WIDGETS, action="append", help="one widget; may be repeated")
    given = parser.parse_args(arguments)
    chromium = find_chromium()
    if chromium is None:
        parser.error(f"no browser on PATH ({', '.join(NAMES)})")
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, running_lab(Path(scratch)) as server, sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for name in given.only or WIDGETS:
            lab = LabPage(browser.new_page(viewport=WINDOW, device_scale_factor=1.5), server, Path(scratch))  # type: ignore[arg-type]
            take(lab, name, given.out / f"widget_{name}.webp")
        browser.close()
    return 0


def take(lab: LabPage, name: str, path: Path) -> None:
    """Run the cell of one widget, and save what is seen of it."""
    lab.new_notebook([SETUP, WIDGETS[name]])
    lab.run_all()
    output = lab.output(1).locator(".jp-OutputArea-output").last
    output.scroll_into_view_if_needed()
    lab.page.wait_for_timeout(3000)  # videos decode, and the page settles
    with Image.open(lab.screenshot(f"{name}.png", of=output)) as seen:
        whole = seen.convert("RGB")
    drawn = ImageChops.invert(whole).crop((0, 0, whole.width, whole.height - 30)).getbbox()  # a line may end the output
    right = drawn[2] + 12 if drawn else whole.width
    whole.crop((0, 0, min(right, whole.width), whole.height)).save(path, quality=80, method=6)
    assert lab.console == [], lab.console
    lab.page.close()


if __name__ == "__main__":
    sys.exit(main())
