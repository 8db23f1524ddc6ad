"""Tables whose numbers are known, and how to read what a figure says."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import svdlab as sl
from svdlab.metrics.lpips_weights import ensure_lpips_weights
from svdlab.pipeline import Pipeline


@pytest.fixture
def df() -> pd.DataFrame:
    """A full grid, 2 pictures x 3 buckets x 2 steps x 3 seeds; `flow_mean` and `warp_error` follow known rules."""
    rows = []
    for image, bucket, steps, seed in product(("rocket", "kite"), (32, 127, 224), (1, 4), (0, 1, 2)):
        shift = {"rocket": 0.0, "kite": 0.5}[image]
        rows.append(
            {
                "cell": f"{image}-{bucket}-{steps}-{seed}",
                "image": image,
                "motion_bucket_id": bucket,
                "steps": steps,
                "seed": seed,
                "cond_aug": 0.02,
                "schedule": "even",
                "status": "done",
                "flow_mean": bucket / 100 + steps / 10 + shift + [0.0, 0.1, 0.3][seed],
                "warp_error": (bucket * steps + seed) * 1e-7,
                "luma_drift": (bucket - 127) / 1000,
                "seconds": 0.5 * steps,
                "error": None,
            }
        )
    frame = pd.DataFrame(rows)
    frame["error"] = frame["error"].astype("str")
    return frame


@pytest.fixture
def broken(df) -> pd.DataFrame:
    """The same with all kite cells of 224 and 4 steps failed, one pending, and one done without `flow_mean`."""
    failed = (df["image"] == "kite") & (df["motion_bucket_id"] == 224) & (df["steps"] == 4)
    df.loc[failed, "status"] = "failed"
    df.loc[0, "status"] = "pending"
    df.loc[failed | (df.index == 0), ["flow_mean", "warp_error", "luma_drift", "seconds"]] = np.nan
    df.loc[1, "flow_mean"] = np.nan
    return df


def texts(figure: Figure) -> list[str]:
    """Every text that is drawn, after drawing: lines joined, mathematics as written."""
    figure.draw_without_rendering()
    found = [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]
    return [" ".join(text.split()) for text in found if text.strip()]


def said(figure: Figure) -> str:
    """All texts as one."""
    return " | ".join(texts(figure))


def note(figure: Figure) -> str:
    """The words above the panels."""
    return " ".join(figure.get_suptitle().split())


def lines(axes: Any) -> dict[str, np.ndarray]:
    """Label -> [points, 2] of the lines that have one."""
    found = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    for container in axes.containers:  # error bars keep their label to themselves
        found[container.get_label()] = container.lines[0].get_xydata()
    return {label: data for label, data in found.items() if not label.startswith("_")}


@pytest.fixture(scope="session")
def pipe() -> Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture(scope="session")
def walk(pipe) -> list[sl.Clip]:
    """Clips of 1, 2 and 4 steps from one picture and each of two seeds."""
    picture = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    call = {"num_frames": 3, "width": 32, "height": 32}
    return [pipe(picture, steps=steps, seed=seed, **call) for seed in (0, 1) for steps in (1, 2, 4)]


def moving(count: int = 25, *, step: int = 1, fps: float = 10, height: int = 24, width: int = 32) -> sl.Clip:
    """A bright square that moves `step` px a frame over a grey ramp."""
    frames = np.broadcast_to(np.linspace(40, 120, width, dtype=np.uint8)[:, None], (count, height, width, 3)).copy()
    for t in range(count):
        frames[t, 8:16, 2 + (step * t) % (width - 10) :][:, :8] = 230
    return sl.Clip(frames=frames, fps=fps, image=frames[0])


@pytest.fixture(scope="session")
def weights() -> Path:
    """The LPIPS weights in the user's cache, fetched there once."""
    return ensure_lpips_weights(progress=False)
