"""One server for all tests of this folder that do not need one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import fal_client
import httpx
import numpy as np
import pytest
from PIL import Image

from tests.server.running import Running, running


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose worker is warm when it is needed."""
    with running(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture
def alice(server: Running) -> Iterator[httpx.Client]:
    """A client with a key."""
    with server.client() as client:
        yield client


@pytest.fixture
def bob(server: Running) -> Iterator[httpx.Client]:
    """A client with another key."""
    with server.client(server.bob) as client:
        yield client


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A small picture with something in it."""
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return Image.fromarray(
        np.stack([np.tile(ramp, (48, 1)), np.tile(ramp[:48, None], (1, 64)), np.full((48, 64), 90, np.uint8)], -1)
    )


@pytest.fixture(scope="session")
def data_uri(picture: Image.Image) -> str:
    """The picture as the official client encodes it."""
    return fal_client.encode_image(picture, "png")
