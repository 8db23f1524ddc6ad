"""The notebooks in a folder of the user's, with JupyterLab on it: what ``svdlab lab`` does."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from svdlab.errors import LabError
from svdlab.files import sha256_bytes, sha256_file, write_atomic

log = logging.getLogger("svdlab")

RECORD = ".svdlab-notebooks.json"
"""In the user's folder: name of a notebook -> SHA-256 of what was copied, to tell the user's changes from ours."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What `copy_notebooks` did, as names of notebooks in their order."""

    folder: Path
    new: tuple[str, ...] = ()  # were not there
    updated: tuple[str, ...] = ()  # were as svdlab had left them, and are now those of this version
    kept: tuple[str, ...] = ()  # changed by the user, while this version has another one than was copied: left alone

    def lines(self) -> list[str]:
        """For people: a line for each thing that was done or left.

        Example:
            >>> Copied(folder=Path("lab"), new=("01_first_clip.ipynb",)).lines()
            ['lab: 1 notebook copied']
        """
        found = []
        for names, done in ((self.new, "copied"), (self.updated, "brought up to date")):
            if names:
                found.append(f"{self.folder}: {len(names)} notebook{'s' if len(names) > 1 else ''} {done}")
        found += [
            f"{self.folder / name}: kept as you changed it; this version of svdlab has a newer one, which you get by"
            " renaming yours and starting again"
            for name in self.kept
        ]
        return found


def notebooks_folder() -> Path:
    """Where svdlab's own notebooks are: in the installed package, or beside it in a source tree.

    Raises:
        LabError: there are none.

    Example:
        >>> sorted(path.name for path in notebooks_folder().glob("*.ipynb"))[0]
        '01_first_clip.ipynb'
    """
    package = Path(__file__).parent
    for folder in (package / "notebooks", package.parent / "notebooks"):
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise LabError(
        f"notebooks: there are none in {package / 'notebooks'}; this installation of svdlab is not complete."
        " Install it again."
    )


def copy_notebooks(folder: str | os.PathLike[str] = "svdlab-lab") -> Copied:
    """Put the notebooks into `folder`, made if it is missing; a file that the user changed is never overwritten.

    A notebook is copied if there is none of its name, and brought up to date if it still is as an earlier call left
    it. Anything else in the folder is left alone.

    Raises:
        LabError: `folder` is a file, or cannot be written.

    Example:
        >>> copy_notebooks("lab").new[0]
        '01_first_clip.ipynb'
    """
    folder = Path(folder)
    ours = {path.name: path.read_bytes() for path in sorted(notebooks_folder().glob("[0-9][0-9]_*.ipynb"))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = _read_record(folder)
        done: dict[str, list[str]] = {"new": [], "updated": [], "kept": []}
        for name, data in ours.items():
            what = _what_to_do(folder / name, sha256_bytes(data), record.get(name))
            if what:
                done[what].append(name)
            if what in ("new", "updated"):
                write_atomic(folder / name, data)
                record[name] = sha256_bytes(data)
        if done["new"] or done["updated"]:
            write_atomic(folder / RECORD, json.dumps(record, indent=1, sort_keys=True) + "\n")
    except OSError as error:
        raise LabError(
            f"folder = {str(folder)!r}: {error.strerror or error}. Name a folder that is yours to write into."
        ) from None
    return Copied(folder=folder, **{what: tuple(names) for what, names in done.items()})


def _what_to_do(path: Path, ours: str, copied: str | None) -> str | None:
    if not path.exists():
        return "new"
    there = sha256_file(path)
    if there == ours:
        return None
    if there == copied:
        return "updated"
    return None if copied == ours else "kept"  # the user's work on this very version needs no words


def _read_record(folder: Path) -> dict[str, str]:
    """What earlier calls copied; a record that is missing or damaged knows nothing, so that files are kept."""
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}


def lab_command(
    folder: str | os.PathLike[str], *, port: int | None = None, browser: bool = True, options: Sequence[str] = ()
) -> list[str]:
    """The command that starts JupyterLab on `folder` with this interpreter.

    Raises:
        LabError: JupyterLab is not installed, or `port` is no port.

    Example:
        >>> lab_command("lab", port=8890)[1:3]
        ['-m', 'jupyterlab']
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise LabError(f"jupyterlab is not installed for {sys.executable}. Install it: pip install jupyterlab")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535):
        raise LabError(f"port = {port!r}: must be a whole number from 0 (any that is free) to 65535.")
    folder = Path(folder).absolute()
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    first = next(iter(sorted(folder.glob("[0-9][0-9]_*.ipynb"))), None)
    command += [f"--LabApp.default_url=/lab/tree/{first.name}"] if first else []
    command += [] if port is None else [f"--ServerApp.port={port}"]
    command += [] if browser else ["--no-browser"]
    return [*command, *options]


def open_lab(
    folder: str | os.PathLike[str] = "svdlab-lab",
    *,
    port: int | None = None,
    browser: bool = True,
    options: Sequence[str] = (),
) -> NoReturn:
    """Copy the notebooks into `folder` (`copy_notebooks`) and become JupyterLab there, until it is stopped.

    The process is replaced by JupyterLab's, so this does not return; on Windows it waits, and then exits.

    Args:
        folder: made if it is missing; what the user changed in it stays.
        port: to listen on; None: 8888, or the next that is free.
        browser: open a page.
        options: further options of ``jupyter lab``, such as ``--allow-root``.

    Raises:
        LabError: JupyterLab is missing, the folder or the port cannot be used, or a notebook's kernel is running this.

    Example:
        >>> open_lab("my-lab", browser=False)
    """
    if "ipykernel" in sys.modules:
        raise LabError(
            "open_lab replaces this process by JupyterLab; in a notebook, that is your kernel. Use a terminal."
        )
    copied = copy_notebooks(folder)
    command = lab_command(folder, port=port, browser=browser, options=options)
    for line in copied.lines():
        log.info("%s", line)
    environment = _environment(os.environ)
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(command[0], command, environment)
    raise SystemExit(subprocess.run(command, env=environment, check=False).returncode)


def _environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Kernels of this Python environment go before those of the user's, which may not know svdlab."""
    return {"JUPYTER_PREFER_ENV_PATH": "1", **environment}
