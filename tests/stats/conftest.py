"""Tables with a known truth, in the shape of a sweep's frame."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import svdlab as sl


def table(
    rule: Callable[..., float], *, images: int = 2, seeds: int | Sequence[int] = 4, **axes: Sequence[Any]
) -> pd.DataFrame:
    """A full grid of finished cells; `rule` takes picture (0, 1, ...), seed and the axes, and gives `flow_mean`."""
    axes = axes or {"steps": (1, 2, 4)}
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    rows = []
    for image, seed, *values in product(range(images), seeds, *axes.values()):
        named = dict(zip(axes, values, strict=True))
        rows.append(
            {
                "cell": f"{image}-{seed}-{values}",
                "image": f"picture {image}",
                "seed": seed,
                **named,
                "cond_aug": named.get("cond_aug", 0.02),
                "status": "done",
                "flow_mean": float(rule(image=image, seed=seed, **named)),
                "warp_error": 0.001,
                "error": None,
            }
        )
    return pd.DataFrame(rows)


def drop(df: pd.DataFrame, status: str = "failed", **where: Any) -> pd.DataFrame:
    """The same with the cells of some values without a result."""
    hit = np.logical_and.reduce([df[name] == value for name, value in where.items()])
    assert hit.any()
    return df.assign(status=df["status"].where(~hit, status), flow_mean=df["flow_mean"].where(~hit))


class Noise:
    """The same normal number for the same key, whatever the order of asking."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, *key: Any) -> float:
        return np.random.default_rng([self.seed, zlib.crc32(repr(key).encode())]).normal()


def shuffled(df: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    return df.sample(frac=1, random_state=seed)


def truth(found: Any) -> Mapping[str, Any]:
    """The one row of a result."""
    (row,) = found.to_frame().to_dict("records")
    return row


@pytest.fixture(scope="session")
def sweep(tmp_path_factory) -> sl.Sweep:
    """A real one: one picture, 2 seeds, 3 step counts, very small clips."""
    picture = tmp_path_factory.mktemp("picture") / "noise.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(picture)
    return sl.sweep(
        sl.load("tiny-random", device="cpu"), image=[picture], steps=[1, 2, 3], seed=[0, 1], num_frames=3, width=32,
        height=32, metrics=["flow_mean", "flicker"], out=tmp_path_factory.mktemp("run") / "run",
        progress=False,
    )  # fmt: skip
