"""The public names, and the files that a user meets first."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import svdlab as sl

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there():
    assert set(sl.__all__) <= set(dir(sl))
    for name in sl.__all__:
        assert getattr(sl, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sl.nothing


def test_sweep_is_a_function_and_a_package():
    import svdlab.sweep.spec

    assert callable(sl.sweep)
    assert sl.sweep.spec is svdlab.sweep.spec


@pytest.mark.parametrize(("flags", "heard"), [((), ""), (("-i",), "hello\n")])
def test_a_person_at_a_prompt_hears_what_a_program_does_not(flags, heard):
    code = "import svdlab, logging; logging.getLogger('svdlab').info('hello')\n"
    done = subprocess.run([sys.executable, "-q", *flags], input=code, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == heard.strip()


def test_version_is_one():
    assert f"## {sl.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {sl.__version__}" in (ROOT / "CITATION.cff").read_text()


def test_links_in_the_docs_lead_somewhere():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_metric_and_model_is_in_the_docs():
    metrics_page = (ROOT / "docs" / "metrics.md").read_text()
    models_page = (ROOT / "docs" / "models.md").read_text() + (ROOT / "README.md").read_text()
    assert [name for name in sl.metrics.names() if f"`{name}`" not in metrics_page] == []
    assert [name for name in sl.models.names() if f"`{name}`" not in models_page] == []


def test_the_ten_lines_of_the_readme_run(tmp_path, monkeypatch):
    """Word for word, on a smaller grid."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]  # type: ignore[index]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    monkeypatch.chdir(tmp_path)
    smaller = code.replace("[32, 127, 224]", "[32]").replace("[1, 2, 4, 8]", "[1]").replace("[0.02, 0.3]", "[0.02]")
    assert smaller != code
    names: dict = {}
    exec(compile(smaller, "README.md", "exec"), names)
    assert len(names["df"]) == 2
    assert (tmp_path / "fish.mp4").stat().st_size > 1000


def test_dependencies_have_no_duplicates_and_the_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]]
    assert len(names) == len(set(names))
    assert {"hosted", "serve", "ray", "test", "dev"} <= set(project["optional-dependencies"])
