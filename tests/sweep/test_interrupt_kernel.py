"""The stop button of a notebook, which sends a kernel what Ctrl-C sends a terminal's program."""

from __future__ import annotations

import os
import sys

import nbformat
import pytest
from nbclient import NotebookClient

BEGIN = """
import os, signal
import svdlab as sl

def go(presses=0):
    def press(row):
        for _ in range(presses):
            os.kill(os.getpid(), signal.SIGINT)

    small = {"num_frames": 2, "width": 32, "height": 32, "metrics": [], "progress": False}
    small |= {"image": "pictures/rocket.png", "steps": [1, 2], "seed": [0, 1]}
    return sl.sweep("tiny-random", out="run", on_cell=press, **small)

sweep = go(presses=1)
"""
CELLS = [BEGIN, "print(sweep.interrupted, sweep.status()['done'], len(sweep.frame()))", "go(presses=2)"]
CELLS += ["print(sweep.status()['done'], sl.open_sweep('run').status()['pending'])", "print(go().status()['done'])"]


@pytest.mark.slow
def test_a_kernel_that_is_interrupted_stops_after_the_cell_in_hand_and_its_sweep_stays_usable(tmp_path, pictures):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    notebook.cells[2].metadata["tags"] = ["raises-exception"]
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=550, startup_timeout=180, resources=resources)
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    printed = ["".join(out.get("text", "") for out in cell.outputs).splitlines()[-1:] for cell in notebook.cells]
    assert printed[1] == ["True 1 4"]
    assert [out.ename for out in notebook.cells[2].outputs if out.output_type == "error"] == ["KeyboardInterrupt"]
    assert printed[3] == ["2 2"]
    assert printed[4] == ["4"]
