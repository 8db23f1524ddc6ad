"""`svdlab lab`: the notebooks in the user's folder, what is never overwritten, and a JupyterLab that answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from svdlab import lab
from svdlab.errors import LabError
from svdlab.lab import RECORD, copy_notebooks, lab_command, notebooks_folder, open_lab
from tests.browser.lab_server import ended, environment_in, first_answer

FIRST = "01_first_clip.ipynb"


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two notebooks in place of svdlab's own, which a test may bring out in a new version."""
    folder = tmp_path / "packaged"
    folder.mkdir()
    (folder / "01_a.ipynb").write_text("a, version 1")
    (folder / "02_b.ipynb").write_text("b, version 1")
    (folder / "README.md").write_text("not a notebook")
    monkeypatch.setattr(lab, "notebooks_folder", lambda: folder)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.ipynb")}


def test_the_notebooks_are_found_and_copied(tmp_path: Path) -> None:
    copied = copy_notebooks(tmp_path / "deep" / "lab")
    assert copied.new[0] == FIRST
    assert len(copied.new) == 8
    for name in copied.new:
        assert (copied.folder / name).read_bytes() == (notebooks_folder() / name).read_bytes()
    assert copied.lines() == [f"{copied.folder}: 8 notebooks copied"]


def test_only_notebooks_are_copied(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    assert sorted(path.name for path in (tmp_path / "lab").iterdir()) == [RECORD, "01_a.ipynb", "02_b.ipynb"]


def test_a_second_call_does_nothing(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "lab").iterdir()}
    again = copy_notebooks(tmp_path / "lab")
    assert (again.new, again.updated, again.kept, again.lines()) == ((), (), (), [])
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "lab").iterdir()} == before


def test_the_user_s_work_stays_and_needs_no_words(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    (tmp_path / "lab" / "01_a.ipynb").write_text("mine")
    again = copy_notebooks(tmp_path / "lab")
    assert again.lines() == []
    assert content(tmp_path / "lab") == {"01_a.ipynb": "mine", "02_b.ipynb": "b, version 1"}


def test_a_new_version_replaces_what_was_not_changed_and_nothing_else(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    (tmp_path / "lab" / "01_a.ipynb").write_text("mine")
    for path in packaged.glob("*.ipynb"):
        path.write_text(path.read_text().replace("version 1", "version 2"))
    again = copy_notebooks(tmp_path / "lab")
    assert (again.updated, again.kept) == (("02_b.ipynb",), ("01_a.ipynb",))
    assert content(tmp_path / "lab") == {"01_a.ipynb": "mine", "02_b.ipynb": "b, version 2"}
    assert again.lines()[0].endswith("1 notebook brought up to date")
    assert "01_a.ipynb: kept as you changed it" in again.lines()[1]


def test_a_file_that_svdlab_did_not_write_is_kept(packaged: Path, tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "01_a.ipynb").write_text("older than this folder's record")
    copied = copy_notebooks(tmp_path / "lab")
    assert (copied.new, copied.kept) == (("02_b.ipynb",), ("01_a.ipynb",))


def test_a_notebook_that_was_deleted_comes_back(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    (tmp_path / "lab" / "02_b.ipynb").unlink()
    assert copy_notebooks(tmp_path / "lab").new == ("02_b.ipynb",)


@pytest.mark.parametrize("damaged", ["", "{", "[1]", '{"01_a.ipynb": 3}'])
def test_a_damaged_record_overwrites_nothing(damaged: str, packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    (tmp_path / "lab" / "01_a.ipynb").write_text("mine")
    (tmp_path / "lab" / RECORD).write_text(damaged)
    assert copy_notebooks(tmp_path / "lab").kept == ("01_a.ipynb",)
    assert content(tmp_path / "lab")["01_a.ipynb"] == "mine"


def test_the_record_is_readable(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    assert sorted(json.loads((tmp_path / "lab" / RECORD).read_text())) == ["01_a.ipynb", "02_b.ipynb"]


@pytest.mark.parametrize("inside", [".", "below"])
def test_a_file_in_the_place_of_the_folder_is_refused_in_words(inside: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match=r"folder = .*file.*: .*Name a folder"):
        copy_notebooks(tmp_path / "file" / inside)


def test_an_installation_without_notebooks_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "__file__", str(tmp_path / "svdlab" / "lab.py"))
    with pytest.raises(LabError, match="not complete"):
        notebooks_folder()


def test_an_installed_package_carries_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = tmp_path / "svdlab" / "notebooks"
    inside.mkdir(parents=True)
    (inside / FIRST).write_text("")
    monkeypatch.setattr(lab, "__file__", str(tmp_path / "svdlab" / "lab.py"))
    assert notebooks_folder() == inside


def test_the_command_names_folder_page_and_port(packaged: Path, tmp_path: Path) -> None:
    copy_notebooks(tmp_path / "lab")
    command = lab_command(tmp_path / "lab", port=8890, browser=False, options=["--allow-root"])
    assert command[:3] == [sys.executable, "-m", "jupyterlab"]
    assert command[3:] == [
        f"--ServerApp.root_dir={tmp_path / 'lab'}",
        "--LabApp.default_url=/lab/tree/01_a.ipynb",
        "--ServerApp.port=8890",
        "--no-browser",
        "--allow-root",
    ]
    assert lab_command(tmp_path)[3:] == [f"--ServerApp.root_dir={tmp_path}"]


@pytest.mark.parametrize("port", [-1, 65_536, "8888", True, 80.5])
def test_what_is_no_port_is_refused(port: object, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"port = .*: must be a whole number"):
        lab_command(tmp_path, port=port)  # type: ignore[arg-type]


def test_a_missing_jupyterlab_is_told_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    with pytest.raises(LabError, match="pip install jupyterlab"):
        lab_command(tmp_path)


def test_a_kernel_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    with pytest.raises(LabError, match="Use a terminal"):
        open_lab(tmp_path / "lab")
    assert not (tmp_path / "lab").exists()


@pytest.mark.slow
def test_jupyterlab_starts_on_the_copies(tmp_path: Path) -> None:
    environment = environment_in(tmp_path, {})
    code = "import sys; from svdlab.lab import open_lab; "
    code += "open_lab(sys.argv[1], port=0, browser=False, options=sys.argv[2:])"
    options = ["--allow-root", "--IdentityProvider.token=", "--ServerApp.ip=127.0.0.1"]
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "lab"), *options],
            env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT,
        )  # fmt: skip
    with ended(process):
        url, found = first_answer(process, tmp_path / "runtime", log, path=f"api/contents/{FIRST}?content=0")
        assert json.loads(found)["name"] == FIRST
        assert json.loads(next((tmp_path / "runtime").glob("jpserver-*.json")).read_text())["pid"] == process.pid
        assert url.startswith("http://127.0.0.1:")
    assert (tmp_path / "lab" / RECORD).exists()
