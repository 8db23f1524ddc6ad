"""The committed notebooks: small, executed in order, free of what belongs to one machine or one day.

That their cells run is tested by nbval, which collects the folder `notebooks` itself.
"""

from __future__ import annotations

import base64
import io
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from PIL import Image

from svdlab.models import names

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
KIB = 1024

# What must not be in an output: places of one machine, and how long something took on it.
PLACES = re.compile(r"(?<![\w.:/])/(?:work|tmp|home|root|usr|Users|var|mnt|private|content)/|[A-Za-z]:\\\\?\w")
TIMES = re.compile(r"\b\d+(?:\.\d+)?\s?(?:s|ms|min|seconds?|minutes?)\b|it/s\b|\d\d:\d\d|\bseconds_|\bGB free\b")
MEMORY = re.compile(r"\bat 0x[0-9a-f]{6,}")


@pytest.fixture(scope="module", autouse=True)
def execute() -> Iterator[ModuleType]:
    """The committed tool, imported from where it lies."""
    sys.path.insert(0, str(FOLDER))
    try:
        import execute

        yield execute
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("execute", None)


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(path: Path) -> list[NotebookNode]:
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def texts(output: NotebookNode) -> str:
    """Everything in an output that can be read as text."""
    data = {kind: text for kind, text in output.get("data", {}).items() if not kind.startswith("image/")}
    return "\n".join([output.get("text", ""), *map(str, data.values())])


def pictures(cell: NotebookNode) -> list[Image.Image]:
    found = []
    for output in cell.outputs:
        for kind, data in output.get("data", {}).items():
            if kind in ("image/png", "image/jpeg"):
                found.append(Image.open(io.BytesIO(base64.b64decode(data))))
    return found


each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_they_are_numbered_without_gaps() -> None:
    assert [path.name[:3] for path in PATHS] == [f"{number:02d}_" for number in range(1, 9)]


def test_an_installed_package_brings_each_of_them() -> None:
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = {f"notebooks/{path.name}": f"svdlab/notebooks/{path.name}" for path in PATHS}
    assert {source: place for source, place in target["force-include"].items() if "notebooks" in source} == wanted


@each
def test_it_is_small(path: Path) -> None:
    assert path.stat().st_size < 500 * KIB


@each
def test_it_is_in_the_committed_form(path: Path, execute: ModuleType) -> None:
    nbformat.validate(read(path))
    assert execute.write(execute.normalise(read(path), path.stem)) == path.read_text(encoding="utf-8")
    assert set(read(path).metadata) == {"kernelspec", "language_info"}  # and no state of widgets


@each
def test_it_was_run_once_from_top_to_bottom_without_an_error(path: Path) -> None:
    assert [cell.execution_count for cell in code(path)] == list(range(1, len(code(path)) + 1))
    kinds = [output.output_type for cell in code(path) for output in cell.outputs]
    assert "error" not in kinds
    assert [output.text for cell in code(path) for output in cell.outputs if output.get("name") == "stderr"] == []


@each
def test_its_outputs_hold_nothing_of_a_machine_or_a_day(path: Path) -> None:
    for cell in code(path):
        for output in cell.outputs:
            for pattern in (PLACES, TIMES, MEMORY):
                assert not (found := pattern.search(texts(output))), f"{found} in the output of:\n{cell.source}"
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), cell.source


@pytest.mark.parametrize(
    "text",
    ["in /tmp/x/y", "/home/me", "C:\\Users", "took 3.2 s", "12 seconds", "1.5it/s", "00:12", "Clip at 0x7f30aa10"],
)
def test_the_search_for_such_things_finds_them(text: str) -> None:
    assert any(pattern.search(text) for pattern in (PLACES, TIMES, MEMORY))


@pytest.mark.parametrize("text", ["runs/rocket/cells", "4 steps", "0.02", "px/frame", "https://a.b/home/c", "seed=42"])
def test_the_search_for_such_things_leaves_the_rest(text: str) -> None:
    assert not any(pattern.search(text) for pattern in (PLACES, TIMES, MEMORY))


@each
def test_it_begins_with_a_question_and_a_figure(path: Path) -> None:
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert first.source.startswith(f"# {path.name[:2]} · ")
    assert re.search(r"\*\*[^*]+\?\*\*", first.source), "the question, in bold"
    widths = [picture.width for cell in code(path)[:2] for picture in pictures(cell)]
    assert max(widths, default=0) >= 300


@each
def test_its_model_is_chosen_in_one_place(path: Path) -> None:
    tagged = [cell for cell in code(path) if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code(path)[:1]
    chosen: dict[str, Any] = {}
    exec(tagged[0].source, chosen)  # an assignment of names; this repository's own text
    assert chosen["MODEL"] in names()
    assert chosen.get("TEACHER", chosen["MODEL"]) in names()
    others = "\n".join(cell.source for cell in code(path)[1:])
    assert f'load("{chosen["MODEL"]}"' not in others


def test_all_speak_of_the_same_model() -> None:
    chosen = {re.search(r'^MODEL = "(.+?)"', code(path)[0].source, re.MULTILINE)[1] for path in PATHS}  # type: ignore[index]
    assert len(chosen - {"tiny-teacher"}) == 1, "notebook 06 may name the teacher"


@each
def test_its_links_lead_somewhere(path: Path) -> None:
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
                assert target.startswith("http") or (FOLDER / target).exists(), target


@each
def test_some_outputs_are_checked_and_what_is_checked_is_the_same_everywhere(path: Path) -> None:
    checked = [cell for cell in code(path) if "nbval-check-output" in cell.metadata.get("tags", [])]
    assert checked or path.name.startswith(("02", "05", "06"))
    for cell in checked:
        kinds = {kind for output in cell.outputs for kind in output.get("data", {"text/plain": ""})}
        assert kinds == {"text/plain"}, "pictures are not compared, and tables in HTML are those of one pandas"


def test_the_overview_names_each() -> None:
    for text in ((FOLDER / "README.md").read_text(), (ROOT / "docs" / "notebooks.md").read_text()):
        assert [path.name for path in PATHS if path.name not in text] == []
