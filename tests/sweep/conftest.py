"""A real pipeline with random weights, and pictures as files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import svdlab as sl
from svdlab.pipeline import Pipeline

SMALL = {"num_frames": 2, "width": 32, "height": 32}  # the smallest clip that has motion
QUIET = {"metrics": ["flow_mean", "warp_error"], "progress": False}


@pytest.fixture(scope="session")
def pipe() -> Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with rocket.png and kite.png."""
    return draw_pictures(tmp_path / "pictures")


def draw_pictures(folder: Path) -> Path:
    """Write rocket.png and kite.png into a new folder."""
    folder.mkdir()
    for name, seed in (("rocket", 0), ("kite", 1)):
        blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def go(pipe, pictures, tmp_path):
    """A sweep of four small cells of one picture; arguments are changes."""

    def go(**changes):
        call = {"image": pictures / "rocket.png", "steps": [1, 2], "seed": [0, 1], "out": tmp_path / "run"}
        return sl.sweep(changes.pop("pipe", pipe), **{**call, **QUIET, **SMALL, **changes})

    return go


@pytest.fixture(scope="session")
def eight(pipe, tmp_path_factory) -> Path:
    """A run directory to read from, not to write to: two pictures, two seeds, 1 and 2 steps, all done."""
    folder = tmp_path_factory.mktemp("eight")
    pictures = draw_pictures(folder / "pictures")
    images = [pictures / "rocket.png", pictures / "kite.png"]
    sl.sweep(pipe, image=images, steps=[1, 2], seed=[0, 1], out=folder / "run", **QUIET, **SMALL)
    return folder / "run"


@pytest.fixture
def copied(eight, tmp_path) -> sl.Sweep:
    """A copy of `eight` that may be changed."""
    return sl.open_sweep(shutil.copytree(eight, tmp_path / "copy"))


@pytest.fixture
def hook(pipe):
    """Runs a function before every call of the real UNet, until the test ends."""
    handles = []
    yield lambda function: handles.append(pipe.components.unet.register_forward_pre_hook(lambda *_: function()))
    for handle in handles:
        handle.remove()
