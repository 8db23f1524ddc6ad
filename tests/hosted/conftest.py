"""The official client pointed at a server on the loopback address, and a clip for it to bring back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fal_client.client
import numpy as np
import pytest
from PIL import Image

from svdlab.video import encode_video
from tests.hosted.recorded import Recorded, answer, serving

KEY = "11111111-aaaa-4bbb-8ccc-222222222222:0123456789abcdef"


@pytest.fixture(scope="session")
def mp4() -> bytes:
    """25 frames of 64x64 px, a bright square that moves."""
    frames = np.full((25, 64, 64, 3), 40, np.uint8)
    for k in range(25):
        frames[k, 20:40, k : k + 20] = (230, 180, 60)
    return encode_video(frames, fps=10)


@pytest.fixture
def server(mp4: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    with serving() as server:
        server.play("GET", "/files/video.mp4", answer(200, mp4))
        server.job()
        point_at(server.url, monkeypatch)
        yield server


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the client at a server, and let it wait for less between its own attempts."""
    monkeypatch.setattr(fal_client.client, "QUEUE_URL_FORMAT", f"{url}/queue/")
    monkeypatch.setattr(fal_client.client, "RUN_URL_FORMAT", f"{url}/run/")
    monkeypatch.setattr(fal_client.client, "REST_URL", f"{url}/rest")
    monkeypatch.setattr(fal_client.client, "CDN_URL", f"{url}/cdn")
    monkeypatch.setattr(fal_client.client, "BASE_DELAY", 0.001)
    monkeypatch.setattr("svdlab.hosted.jobs.FASTEST", 0.01)
    monkeypatch.setenv("FAL_KEY", KEY)


@pytest.fixture
def rocket(tmp_path: Path) -> Path:
    """A picture of 96x64 px."""
    blocks = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(tmp_path / "rocket.png")
    return tmp_path / "rocket.png"
