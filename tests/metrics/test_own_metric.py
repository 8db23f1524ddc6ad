"""A metric of one's own, as it is written in a notebook: a decorated function in a cell, from clip to back-fill."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import svdlab as sl
from svdlab.metrics.vbench_forms import along_flow
from tests.metrics.conftest import pan

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"

CELLS = {
    "sweep": """
        import svdlab as sl
        pipe = sl.load("tiny-random", device="cpu")
        sweep = sl.sweep(pipe, image=[sl.examples.path("rocket")], steps=[1, 2], seed=0, num_frames=3, out="run",
                         metrics=["flicker"], progress=False)
    """,
    "define": """
        @sl.metrics.metric("darkest", unit="levels", range=(0, 255), per_frame=True, version=VERSION)
        def darkest(scoring):
            "The darkest value of each frame."
            return scoring.frames.min(axis=(1, 2, 3)) OFFSET
    """,
    "use": """
        assert darkest.__module__ == "__main__"
        clip = sweep.clip(sweep.frame()["cell"][0], pipe=pipe)
        alone = sl.metrics.score(clip, names=["darkest"])["darkest"]
        assert alone == clip.frames.min(axis=(1, 2, 3)).mean() OFFSET
        sweep.backfill(["darkest"], pipe=pipe, progress=False)
        frame = sweep.frame()
        assert frame["darkest"][0] == alone and frame["darkest"].notna().all()
        assert set(sweep.metric_table().query("name == 'darkest'")["version"]) == {VERSION}
        per_frame = sweep.per_frame(["darkest"], pipe=pipe, progress=False)
        assert len(per_frame) == 2 * 3
    """,
    "sweep with it": """
        more = sl.sweep(pipe, image=[sl.examples.path("rocket")], steps=[1, 2, 3], seed=0, num_frames=3, out="run",
                        metrics=["flicker", "darkest"], progress=False)
        assert more.frame()["darkest"].notna().sum() == 3
        assert "darkest" in open("run/results.csv").readline()
    """,
    "broken": """
        @sl.metrics.metric("broken")
        def broken(scoring):
            "Fails on every clip."
            return 1 / 0
        sweep.backfill(["broken", "jerk"], pipe=pipe, progress=False)
        assert sweep.frame()["jerk"].notna().all() and sweep.frame()["broken"].isna().all()
        assert "ZeroDivisionError" in sweep.frame()["error"][0]
    """,
    "refused": """
        @sl.metrics.metric("flow_mean")
        def mine(scoring):
            return 0.0
    """,
}


def cell(name: str, *, version: int = 1, offset: str = ""):
    lines = CELLS[name].replace("VERSION", str(version)).replace(" OFFSET", offset).strip("\n").splitlines()
    return nbformat.v4.new_code_cell("\n".join(line.removeprefix(" " * 8) for line in lines))


@pytest.mark.slow
def test_in_a_notebook_from_the_decorator_to_a_column_of_a_finished_sweep(tmp_path):
    """Run twice, the second time changed and with a new version: the cell replaces the metric, values are renewed."""
    new = {"version": 2, "offset": " + 1"}
    cells = [cell("sweep"), cell("define"), cell("use"), cell("define", **new), cell("use", **new)]
    cells += [cell("sweep with it"), cell("broken")]
    notebook = nbformat.v4.new_notebook(cells=[*cells, cell("refused")])
    client = NotebookClient(notebook, timeout=550, startup_timeout=180, resources={"metadata": {"path": str(tmp_path)}})
    with pytest.raises(CellExecutionError) as raised:
        client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert "MetricError" in str(raised.value)
    assert "'flow_mean' is taken by svdlab.metrics.flow.flow_mean" in str(raised.value)
    assert [c.get("execution_count") for c in notebook.cells] == list(range(1, 9))  # it was the last cell that raised


@pytest.mark.usefixtures("own_registry")
def test_the_functions_on_the_page_run_as_they_stand_there(photo):
    """Word for word; what a package of one's own would bring, an interpolator and a rating, is handed in."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    code = next(block for block in blocks if "def amt_smoothness" in block)
    exec(
        compile(code, "metrics.md", "exec"), {"sl": sl, "halfway": along_flow, "rate": np.mean, "__name__": "__main__"}
    )
    clip = sl.Clip(frames=pan(photo, step=2), fps=8)
    values = sl.metrics.score(clip, names=["amt_smoothness", "musiq"])
    assert 0.99 < values["amt_smoothness"] < 1
    assert values["musiq"] == pytest.approx(clip.frames.mean() / 100)


@pytest.mark.usefixtures("own_registry")
def test_the_darkest_value_of_the_page_is_a_metric(photo):
    page = PAGE.read_text("utf-8")
    code = "@sl.metrics.metric" + page.split("@sl.metrics.metric", 1)[1].split("\n\n", 1)[0]
    exec(compile(code, "metrics.md", "exec"), {"sl": sl, "__name__": "__main__"})
    frames = pan(photo, step=2)
    clip = sl.Clip(frames=frames, fps=8)
    assert sl.metrics.score(clip, names=["darkest"]) == {"darkest": frames.min(axis=(1, 2, 3)).mean()}
