"""LabPage: drive a notebook in a real JupyterLab, in a real browser. How to use it in a test:

    import pytest

    pytestmark = pytest.mark.browser

    def test_the_slider_moves_the_frame(lab):                     # the fixture `lab`: a fresh page, see conftest.py
        lab.new_notebook(["from svdlab.widgets import FramePlayer", "player = FramePlayer(...)", "player"])
        lab.run_all()                                             # waits until every cell has run; fails on an error
        slider = lab.output(2).get_by_label("Frame")              # a Playwright locator inside the output of cell 2
        slider.fill("7")
        lab.wait_until("player.frame == 7")                       # asks the kernel, again and again, until it is true
        assert lab.eval("player.frame") == "7"                    # runs code in the same kernel, returns what it shows
        lab.screenshot("player.png")                              # for your own eyes: in $SVDLAB_SCREENSHOTS or tmp

What a `LabPage` has:

    lab.page                    the Playwright page, for everything that is not here (keyboard, mouse, evaluate, ...)
    lab.root                    the folder that JupyterLab shows and kernels start in: put pictures and runs there
    lab.new_notebook(cells)     writes a notebook of these code cells into `root` and opens it, kernel started
    lab.open(path)              opens a notebook: a name in `root`, or any file (a copy of it is made in `root` first)
    lab.run_all(allow_errors=)  runs all cells and waits; an error output fails unless it is allowed
    lab.start_all()             runs all cells and does not wait (then: `wait_idle()`)
    lab.output(n)               locator of the output area of cell n, counted from 0 over all cells, prose included
    lab.errors()                texts of error outputs, and of widgets that could not be shown
    lab.eval(code)              what `code` prints and the value of its last line, as text, stripped; raises if it fails
    lab.wait_until(expression)  waits for a Python expression to be true in the kernel
    lab.screenshot(name)        a PNG of the page; `full=True` for the whole notebook, `of=locator` for one part
    lab.theme("dark")           or "light"
    lab.upload(locator, files)  gives files to a file chooser that a click on the locator opens
    lab.console                 errors of the page's console so far; the fixture fails the test if any is left over
    lab.expect_console(regex)   takes expected ones away: call it after they appeared; fails if there was none

Widgets work through the kernel: after a click, wait for what must change (`expect(locator).to_have_text(...)` of
`playwright.sync_api`, or `wait_until`), never for a time. All waits are bounded and generous: importing torch alone may
take 20 s on a busy machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page

    from tests.browser.lab_server import LabServer

PATIENCE = 180.0  # seconds for a cell or a page on a slow machine; passing tests never wait that long

KERNELSPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}  # without one a dialog asks for it

# Errors of the console that are not svdlab's, each with its reason.
HARMLESS = (
    re.compile(r"favicon"),  # the browser asks for an icon in odd places
    re.compile(r"ResizeObserver loop"),  # a notice of the browser about layout, not an error
)

# The front end's own objects; `jupyterapp` is there because the server was started with expose_app_in_browser.
PANEL = "window.jupyterapp.shell.currentWidget"
KERNEL = f"{PANEL}?.context?.sessionContext?.session?.kernel"
PAPER = "document.querySelector('.jp-Notebook .jp-WindowedPanel-outer')"  # what scrolls
READY = f"""() => window.jupyterapp && {PANEL}?.context?.isReady && {PANEL}.content?.model?.cells?.length > 0
    && {KERNEL}?.connectionStatus === 'connected' && ['idle', 'busy'].includes({KERNEL}?.status)"""
ASK = f"""([code, key]) => {{
    const answer = {{text: '', error: null, done: false}};
    (window.svdlabAnswers ??= {{}})[key] = answer;
    const future = {KERNEL}.requestExecute({{code, store_history: false, allow_stdin: false, stop_on_error: false}});
    future.onIOPub = ({{header, content}}) => {{
        if (header.msg_type === 'stream' && content.name === 'stdout') answer.text += content.text;
        if (header.msg_type === 'execute_result') answer.text += content.data['text/plain'];
        if (header.msg_type === 'error') answer.error = content.ename + ': ' + content.evalue;
    }};
    future.done.then(() => (answer.done = true), (reason) => {{ answer.error = String(reason); answer.done = true; }});
}}"""
ERRORS = f"""() => [...{PANEL}.content.model.cells].flatMap((cell) => cell.type !== 'code' ? [] :
    cell.sharedModel.getOutputs().filter((one) => one.output_type === 'error')
        .map((one) => one.ename + ': ' + one.evalue))"""
# What ipywidgets and the rendering of outputs leave behind when something could not be shown.
BROKEN = ".jupyter-widgets-error-widget, .jupyter-error-widget, .jp-OutputArea-error"


class LabPage:
    """One browser page on a JupyterLab server; the docstring of this module says how to use it."""

    def __init__(self, page: Page, server: LabServer, screenshots: Path) -> None:
        self.page = page
        self.root = server.root
        self.console: list[str] = []
        self._server = server
        self._screenshots = screenshots
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))

    # Opening and running.

    def new_notebook(self, cells: Sequence[str], *, name: str | None = None) -> Path:
        """Write a notebook of code cells into `root`, open it and wait for its kernel; returns its path."""
        code = [nbformat.v4.new_code_cell(source) for source in cells]
        book = nbformat.v4.new_notebook(cells=code, metadata={"kernelspec": KERNELSPEC})
        path = self.root / (name or f"test-{uuid.uuid4().hex[:8]}.ipynb")
        nbformat.write(book, path)
        return self.open(path)

    def open(self, path: str | os.PathLike[str]) -> Path:
        """Open a notebook and wait for its kernel; a file from elsewhere is copied into `root`, which is returned."""
        path = self.root / path
        if not path.resolve().is_relative_to(self.root.resolve()):
            path = Path(shutil.copy(path, self.root / path.name))
        self.page.goto(self._server.address(f"doc/tree/{path.relative_to(self.root).as_posix()}", reset=True))
        self._wait_for(READY)
        return path

    def run_all(self, *, allow_errors: bool = False, timeout: float = PATIENCE) -> None:
        """Run every cell and wait for the last one; an error output fails the test unless `allow_errors`."""
        self.start_all()
        self.wait_idle(timeout)
        if not allow_errors:
            assert self.errors() == []

    def start_all(self) -> None:
        """Begin to run every cell, and come back at once."""
        self.page.evaluate(
            "() => { window.svdlabRun = false; window.jupyterapp.commands.execute('notebook:run-all-cells')"
            ".finally(() => { window.svdlabRun = true; }); }"
        )

    def wait_idle(self, timeout: float = PATIENCE) -> None:
        """Wait until the cells that `start_all` began have run and the kernel has nothing to do."""
        self._wait_for(f"() => window.svdlabRun && {KERNEL}?.status === 'idle'", timeout)

    # Looking.

    def output(self, n: int) -> Locator:
        """The output area of cell `n`, counted from 0 over all cells."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(n).locator(".jp-Cell-outputArea")

    def errors(self) -> list[str]:
        """Error outputs as `Name: message`, and what stands in the place of widgets that could not be shown."""
        broken = [part for part in self.page.locator(BROKEN).all_inner_texts() if part.strip()]
        return [*self.page.evaluate(ERRORS), *broken]

    def screenshot(self, name: str, *, full: bool = False, of: Locator | None = None) -> Path:
        """Save a PNG under `name` and return its path; `full`: a window as tall as the notebook; `of`: one part."""
        path = self._screenshots / name
        size = self.page.viewport_size
        if full and size:
            height = int(self.page.evaluate(f"() => {PAPER}.scrollHeight"))
            self.page.set_viewport_size({"width": size["width"], "height": min(height + 150, 12_000)})
            self.page.evaluate(f"() => {{ {PAPER}.scrollTop = 0; }}")
            self.page.wait_for_timeout(300)  # what comes into view now is drawn first
        (of or self.page).screenshot(path=path, animations="disabled")
        if full and size:
            self.page.set_viewport_size(size)
        return path

    # Asking and telling.

    def eval(self, code: str, *, timeout: float = PATIENCE) -> str:
        """Run `code` in the notebook's kernel beside its cells; returns what it prints and its last value."""
        key = uuid.uuid4().hex
        self.page.evaluate(ASK, [code, key])
        self._wait_for(f"() => window.svdlabAnswers['{key}'].done", timeout)
        answer: dict[str, Any] = self.page.evaluate(f"() => window.svdlabAnswers['{key}']")
        assert answer["error"] is None, f"{code!r} failed in the kernel: {answer['error']}"
        return str(answer["text"]).strip()

    def wait_until(self, expression: str, *, timeout: float = PATIENCE) -> None:
        """Ask the kernel until the Python `expression` is true."""
        limit = time.monotonic() + timeout
        while self.eval(f"print(bool({expression}))", timeout=timeout) != "True":
            assert time.monotonic() < limit, f"{expression!r} has not become true in {timeout:g} s"
            self.page.wait_for_timeout(50)

    def theme(self, name: str) -> None:
        """Switch JupyterLab to `light` or `dark`."""
        full = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}[name]
        self.page.evaluate(
            f"() => {{ window.jupyterapp.commands.execute('apputils:change-theme', {{theme: '{full}'}}) }}"
        )
        self._wait_for(f"() => document.body.dataset.jpThemeName === {json.dumps(full)}")

    def upload(self, button: Locator, files: Sequence[str | os.PathLike[str]]) -> None:
        """Click `button`, which opens a file chooser, and choose `files`."""
        with self.page.expect_file_chooser() as chooser:
            button.click()
        chooser.value.set_files([Path(file) for file in files])

    def expect_console(self, pattern: str) -> None:
        """Take away console errors that match `pattern`; there must be one."""
        kept = [line for line in self.console if not re.search(pattern, line)]
        assert len(kept) < len(self.console), f"no console error matches {pattern!r}; there are: {self.console}"
        self.console[:] = kept

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            line = f"{message.text} ({message.location.get('url', '')})"
            if not any(pattern.search(line) for pattern in HARMLESS):
                self.console.append(line)

    def _wait_for(self, condition: str, timeout: float = PATIENCE) -> None:
        from playwright.sync_api import TimeoutError as Late

        try:
            self.page.wait_for_function(condition, timeout=timeout * 1000)
        except Late:
            seen = self.screenshot(f"late-{uuid.uuid4().hex[:8]}.png")
            raise AssertionError(f"not true after {timeout:g} s: {condition}\nThe page is in {seen}") from None
