from __future__ import annotations

import re
import shutil
import subprocess
from importlib import resources

import pytest

from svdlab.widgets import bundle
from svdlab.widgets.bundle import css, esm

STATIC = resources.files("svdlab.widgets").joinpath("static")
PLAYER = ("dom.js", "clock.js", "chart.js", "stage.js", "player.js")


def test_the_files_are_joined_in_order_and_whole() -> None:
    joined = esm(*PLAYER)
    places = [joined.index(STATIC.joinpath(name).read_text(encoding="utf-8")) for name in PLAYER]
    assert places == sorted(places)
    assert len(re.findall(r"^export default", joined, re.MULTILINE)) == 1


def test_style_sheets_are_joined_in_order() -> None:
    joined = css("controls.css", "player.css")
    assert 0 <= joined.index("/* Controls that all widgets share. */") < joined.index("/* The frame player. */")


def test_no_two_joined_files_declare_the_same_name() -> None:
    names = [
        name
        for file in PLAYER
        for name in re.findall(
            r"^(?:const|let|class|function) (\w+)", STATIC.joinpath(file).read_text(encoding="utf-8"), re.MULTILINE
        )
    ]
    assert len(names) > 20
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("clock.js",), "clock.js: has no import/export statements; wanted here: \\['export'\\]"),
        (("player.js", "clock.js"), "player.js: has \\['export'\\]"),
        (("nothing.js",), "'nothing.js': must be the name of a .js file in svdlab/widgets/static"),
        (("../bundle.py",), "must be the name"),
        (("player.css",), "must be the name of a .js file"),
    ],
)
def test_what_cannot_be_joined_is_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        esm(*names)


def test_a_style_sheet_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'clock.js': must be the name of a .css file"):
        css("clock.js")


def test_a_file_of_the_front_end_takes_no_markup_and_reaches_for_nothing() -> None:
    for name in PLAYER:
        text = bundle.esm(*PLAYER) if name == "player.js" else STATIC.joinpath(name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|\bfetch\(|XMLHttpRequest|import\(", text), name


def test_the_joined_module_is_valid_javascript(tmp_path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node on PATH")
    file = tmp_path / "player.mjs"
    file.write_text(esm(*PLAYER), encoding="utf-8")
    done = subprocess.run([node, "--check", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
