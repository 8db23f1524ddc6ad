"""The browser helpers themselves: what they run, see and refuse."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.lab_page import LabPage

pytestmark = pytest.mark.browser


def test_cells_run_and_their_outputs_are_seen(lab: LabPage) -> None:
    lab.new_notebook(["x = 20 + 1", "print('value', 2 * x)", "import os; os.environ['SVDLAB_DISPLAY']"])
    lab.run_all()
    expect(lab.output(1)).to_have_text("value 42")
    expect(lab.output(2)).to_contain_text("live")
    assert lab.eval("x") == "21"
    assert lab.eval("print('one'); x + 1") == "one\n22"


def test_an_error_of_a_cell_is_reported(lab: LabPage) -> None:
    lab.new_notebook(["1 / 0"])
    lab.run_all(allow_errors=True)
    assert lab.errors() == ["ZeroDivisionError: division by zero"]
    with pytest.raises(AssertionError, match="NameError: name 'nothing' is not defined"):
        lab.eval("nothing")


def test_a_widget_and_its_kernel_talk(lab: LabPage) -> None:
    lab.new_notebook(["import ipywidgets", "box = ipywidgets.Text(description='Name'); box"])
    lab.run_all()
    lab.output(1).get_by_label("Name").fill("rocket")
    lab.wait_until("box.value == 'rocket'")
    lab.eval("box.value = 'fish'")
    expect(lab.output(1).get_by_label("Name")).to_have_value("fish")


def test_a_broken_widget_reaches_the_console(lab: LabPage) -> None:
    broken = (
        "class Broken(anywidget.AnyWidget):\n    _esm = 'export default {render() { throw new Error(\"no luck\") }}'"
    )
    lab.new_notebook(["import anywidget", broken, "Broken()"])
    lab.run_all(allow_errors=True)
    lab.page.wait_for_function("() => document.body.innerText.includes('no luck')")
    lab.expect_console("no luck")


def test_the_page_reaches_nothing_outside(lab: LabPage) -> None:
    lab.new_notebook(["1"])
    answer = lab.page.evaluate("fetch('http://example.org/').then(() => 'reached', (error) => String(error))")
    assert re.search("Failed to fetch|NetworkError", answer)
    lab.expect_console("ERR_NAME_NOT_RESOLVED|Failed to load")


def test_dark_theme_and_screenshot(lab: LabPage) -> None:
    lab.new_notebook(["'seen'"])
    lab.run_all()
    lab.theme("dark")
    assert lab.screenshot("dark.png").read_bytes().startswith(b"\x89PNG")
    lab.theme("light")
