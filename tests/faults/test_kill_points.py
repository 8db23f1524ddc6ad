"""A seeded sample of the campaign: `python -m tests.faults` has all of it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from svdlab.files import write_atomic
from tests.faults.__main__ import choose
from tests.faults.points import watched

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_sweeps_that_are_killed_at_named_points_lose_nothing_and_end_as_untouched_ones():
    command = [sys.executable, "-m", "tests.faults", "--rounds", "8", "--random", "2", "--seed", "0", "--quiet"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    hits = found["hits"]
    assert sum(hits.values()) >= 8
    assert len([point for point in hits if point != "moment"]) >= 5
    assert found["kinds"] > 60


def test_points_are_those_of_the_library_before_and_after_each_call(tmp_path):
    points: list[str] = []
    with watched(points.append):
        (tmp_path / "mine.txt").write_text("not the library's", encoding="utf-8")
        write_atomic(tmp_path / "file", b"data")
    assert points[0] == "write_atomic:open:before"
    for name in ("sync_file:fsync", "atomic_path:replace", "sync_folder:fsync"):
        assert points.index(f"{name}:before") + 1 == points.index(f"{name}:after")
    assert points.index("sync_file:fsync:after") < points.index("atomic_path:replace:before")
    assert points.index("atomic_path:replace:after") < points.index("sync_folder:fsync:before")


def test_every_kind_of_point_comes_before_any_comes_twice():
    points = ["a", "b", "b", "b", "c", "a"]
    chosen = choose(points, 8, 2, random.Random(0))
    assert chosen.count(None) == 2
    names = [points[number] for number in chosen if number is not None]
    assert sorted(names) == ["a", "a", "b", "b", "c", "c"]
    assert {points[number] for number in choose(points, 3, 0, random.Random(1))} == {"a", "b", "c"}
