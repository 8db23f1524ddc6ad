"""Real runs to damage: a finished one, and a way to go on with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import svdlab as sl
from tests.faults.rounds import child
from tests.sweep.conftest import QUIET, SMALL, draw_pictures

pipe = pytest.fixture(scope="session")(lambda: sl.load("tiny-random", device="cpu"))


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that other users may read and write, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="svdlab-test-"))
    folder.chmod(0o777)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def place() -> Iterator[Path]:
    with public_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder with pictures."""
    with public_folder() as folder:
        draw_pictures(folder / "pictures")
        yield folder


@pytest.fixture(scope="session")
def sweep_in(pipe, home) -> Callable[..., sl.Sweep]:
    """Runs the same four small cells in any folder; further arguments are changes."""

    def sweep_in(folder: Path, **changes: Any) -> sl.Sweep:
        call = {"image": home / "pictures" / "rocket.png", "steps": [1, 2], "seed": [0, 1], "name": "four"}
        return sl.sweep(pipe, out=folder, **{**call, **QUIET, **SMALL, **changes})

    return sweep_in


@pytest.fixture(scope="session")
def finished(sweep_in, home) -> Path:
    """A finished run, not to be changed."""
    return sweep_in(home / "finished").path


@pytest.fixture
def run(finished, place) -> Path:
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, place / "run")


def read_only(folder: Path) -> None:
    """Take the permission to write from a folder and all that is in it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def as_somebody_else(work: Callable[[], Any]) -> int:
    """Run `work` in a child without a superuser's rights, so that permissions count; its exit code."""

    def less() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        work()

    return child(less)
