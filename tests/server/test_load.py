"""Two hundred clients that poll while twenty requests run: every answer is right, and every request ends."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.load import campaign
from tests.server.running import QUICK, Running


@pytest.mark.slow
def test_two_hundred_clients(server: Running, data_uri: str) -> None:
    arguments = {"image_url": data_uri, **QUICK}
    outcome = asyncio.run(campaign(server.settings.port, server.alice, arguments, clients=200, jobs=20))
    assert outcome.wrong == []
    assert [result["seed"] for result in outcome.results] == list(range(20))
    assert len(outcome.statuses) >= 200
