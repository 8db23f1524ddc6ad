"""A JupyterLab of its own for the tests: a process on a free port that shares no file or setting with the user's."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import svdlab

START_SECONDS = 120.0

# Files under the settings folder. Windowing off: every cell is in the page, also far below the window's end.
SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings": {"autosave": False},
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {"fetchNews": "false", "checkForUpdates": False},
}


@dataclass(frozen=True, kw_only=True)
class LabServer:
    """A running server: `root` is the folder that it shows."""

    root: Path
    url: str
    token: str

    def address(self, path: str, *, reset: bool = False) -> str:
        """The URL of a page of JupyterLab, with the token; `reset` forgets open tabs of earlier pages."""
        return f"{self.url}{path}?token={self.token}{'&reset' if reset else ''}"

    def shut_down_kernels(self) -> None:
        """End every session, so that one test's kernel takes no memory from the next."""
        for session in json.loads(self._call("GET", "api/sessions")):
            self._call("DELETE", f"api/sessions/{session['id']}")

    def shut_down(self) -> None:
        """Ask the server to end."""
        self._call("POST", "api/shutdown")

    def _call(self, method: str, path: str) -> bytes:
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def running_lab(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[LabServer]:
    """Start JupyterLab on `folder`/root with this interpreter as its kernel; end it and its kernels afterwards."""
    root, runtime, log = folder / "root", folder / "runtime", folder / "jupyter.log"
    root.mkdir(parents=True)
    _write_settings(folder / "settings")
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={root}"]
    command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--IdentityProvider.token={token}"]
    command += ["--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly", "--LabApp.news_url="]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment_in(folder, environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    with ended(process):
        url, _ = first_answer(process, runtime, log)
        server = LabServer(root=root, url=url, token=token)
        yield server
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            server.shut_down_kernels()
            server.shut_down()
            process.wait(timeout=30)


def environment_in(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The variables of the server and its kernels: settings and caches in `folder`, svdlab from where it is now."""
    package = str(Path(svdlab.__file__).parents[1])
    own = {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "SVDLAB_DISPLAY": "live",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "PYTEST_", "COV_"))}
    return {**kept, **own, **more}


def _write_settings(folder: Path) -> None:
    for name, values in SETTINGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")


def first_answer(process: subprocess.Popen[bytes], runtime: Path, log: Path, *, path: str = "api") -> tuple[str, bytes]:
    """Wait until a server answers: its URL, which it writes into a file, and what it says at `path`."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, StopIteration):  # not there yet, half written, or not listening
            url = str(json.loads(next(runtime.glob("jpserver-*.json")).read_text(encoding="utf-8"))["url"])
            with urllib.request.urlopen(url + path, timeout=10) as answer:
                return url, bytes(answer.read())
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}")


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens in the block, leave no process behind."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
