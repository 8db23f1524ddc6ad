"""Every notebook in a real JupyterLab, alive: widgets in place of pictures, no error in an output or on the console."""

from __future__ import annotations

from pathlib import Path

import pytest

from svdlab.lab import notebooks_folder
from tests.browser.lab_page import LabPage

pytestmark = [pytest.mark.browser, pytest.mark.slow]

NOTEBOOKS = sorted(notebooks_folder().glob("*.ipynb"))
PATIENCE = 540.0  # for a whole notebook, on a machine that is busy with something else


@pytest.fixture
def copy(lab: LabPage, tmp_path: Path) -> Path:
    """An empty folder in the root, so that what a notebook writes does not meet what another one wrote."""
    folder = lab.root / tmp_path.name
    folder.mkdir()
    return folder


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_alive_without_an_error(path: Path, lab: LabPage, copy: Path) -> None:
    (copy / path.name).write_bytes(path.read_bytes())
    lab.open(copy / path.name)
    lab.run_all(timeout=PATIENCE)
    assert lab.eval("import svdlab.clip; svdlab.clip.display_is_static()") == "False"
    if path.name.startswith("01"):
        video = "document.querySelector('.jp-OutputArea video')"
        lab.page.wait_for_function(f"() => {video}?.readyState >= 2 && {video}.videoWidth === 64")
    if path.name.startswith("02"):
        lab.page.get_by_role("button", name="Generate").wait_for()
    lab.screenshot(f"{path.stem}.png", full=True)
