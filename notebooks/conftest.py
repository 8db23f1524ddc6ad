"""Every notebook is a test: nbval runs its cells, each a test of its own, when pytest collects this folder.

Cells must run without an error; the outputs of those tagged `nbval-check-output` must be the committed ones. Kernels
get the environment of `execute.py`, and work in an empty folder, so that nothing of a run lands in this one.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import pytest

_FOLDERS: dict[Path, tempfile.TemporaryDirectory[str]] = {}


def _environment() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("svdlab_notebooks_execute", Path(__file__).with_name("execute.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return dict(module.ENVIRONMENT)


def _folder_of(notebook: Path) -> str:
    """An empty folder for the kernel of a notebook, which IPython's start enters."""
    if notebook not in _FOLDERS:
        _FOLDERS[notebook] = tempfile.TemporaryDirectory(prefix="svdlab-notebook-")
        start = Path(_FOLDERS[notebook].name, ".ipython", "profile_default", "startup", "enter.py")
        start.parent.mkdir(parents=True)
        start.write_text(f"import os\nos.chdir({_FOLDERS[notebook].name!r})\ndel os\n", encoding="utf-8")
    return _FOLDERS[notebook].name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A notebook takes seconds as a whole, so all of its cells are slow."""
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """The kernel is started in the set-up of a notebook's first cell, and takes its environment from this process."""
    if item.path.suffix != ".ipynb":
        return (yield)
    own = {**_environment(), "IPYTHONDIR": str(Path(_folder_of(item.path), ".ipython"))}
    with mock.patch.dict(os.environ, own), _without_coverage(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """The kernel ends in the teardown of the last cell."""
    with _without_coverage(item):
        return (yield)


def _without_coverage(item: pytest.Item) -> AbstractContextManager[object]:
    """Notebooks show that things work; what is covered is for tests to say. nbval would trace the kernels, slowly."""
    return mock.patch.object(item.config.option, "cov_source", None, create=True)


def pytest_sessionfinish() -> None:
    """The folders go when the kernels have gone."""
    for folder in _FOLDERS.values():
        folder.cleanup()
    _FOLDERS.clear()
