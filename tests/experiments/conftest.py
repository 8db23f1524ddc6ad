"""The questions' modules lie beside their command, as Python finds them when it runs the command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from svdlab.metrics import registry

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
sys.path.insert(0, str(EXPERIMENTS))


@pytest.fixture(scope="module")
def own_registry():
    """The metrics of the truth go again after the module; returns the names that were there before."""
    before = dict(registry._METRICS)
    yield tuple(before)
    registry._METRICS.clear()
    registry._METRICS.update(before)
