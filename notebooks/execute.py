"""Run the notebooks anew and write them back in the form that is committed: ``python notebooks/execute.py [NAME ...]``.

    python notebooks/execute.py            every notebook
    python notebooks/execute.py 03 05      those whose name begins so
    python notebooks/execute.py --check    run nothing; say which notebooks are not in the committed form

To change a notebook: edit it in JupyterLab, save, run this. Pictures stand where live widgets would be
(SVDLAB_DISPLAY=static), and what a machine leaves behind (versions, progress bars, ids) is taken out, so that two
runs differ only where a result does.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

FOLDER = Path(__file__).resolve().parent
SECONDS = 600  # for one cell
BUDGET = 60_000  # bytes of one photograph
PALETTE = 256  # colours of a drawn figure; more than its lines and letters have
SHRINKING = ((1400, 85), (1000, 80), (700, 75), (560, 70))  # widths in px and JPEG qualities, tried in turn
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
# What a kernel needs to give the committed outputs, on any machine.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "OMP_NUM_THREADS": "1",  # tiny networks gain nothing from more, and a busy machine loses a lot
    "PYTHONPATH": os.pathsep.join(filter(None, [str(FOLDER.parent), os.environ.get("PYTHONPATH")])),
    "SVDLAB_DISPLAY": "static",
}
PROGRESS = re.compile(r"\d+%\|.*\|.*\[")  # a line of tqdm


def execute(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of the notebook with the outputs of a fresh run in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    from nbclient import NotebookClient

    book = copy.deepcopy(book)
    with tempfile.TemporaryDirectory(prefix="svdlab-notebook-") as folder:
        client = NotebookClient(
            book,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            store_widget_state=False,
            record_timing=False,
        )
        client.execute(env={**os.environ, **ENVIRONMENT, "IPYTHONDIR": folder})
    return book


def normalise(book: nbformat.NotebookNode, stem: str) -> nbformat.NotebookNode:
    """A copy in the committed form; what its outputs show stays as it is.

    Example:
        >>> normalise(nbformat.read("01_first_clip.ipynb", as_version=4), "01_first_clip").cells[0].id
        '01-first-clip-00'
    """
    cells = [_cell(cell, f"{stem.replace('_', '-')}-{place:02d}"[-64:]) for place, cell in enumerate(book.cells)]
    metadata = {"kernelspec": KERNELSPEC, "language_info": {"name": "python"}}
    made = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    made.nbformat_minor = 5  # the first with ids of cells
    return made


def _cell(cell: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    tags = cell.metadata.get("tags", [])
    common: dict[str, Any] = {"id": name, "metadata": {"tags": tags} if tags else {}}
    if cell.cell_type == "markdown":
        return nbformat.v4.new_markdown_cell(cell.source.strip(), **common)
    outputs = _merged([_output(output) for output in cell.outputs if not _passing(output)])
    return nbformat.v4.new_code_cell(
        cell.source.strip(), outputs=outputs, execution_count=cell.execution_count, **common
    )


def _passing(output: nbformat.NotebookNode) -> bool:
    """Whether an output shows progress, which is over when a notebook is read."""
    if output.output_type == "stream":
        return all(PROGRESS.search(line) or not line.strip() for line in re.split(r"[\r\n]", output.text))
    return "application/vnd.jupyter.widget-view+json" in output.get("data", {}) and bool(
        PROGRESS.search(output.data.get("text/plain", ""))
    )


def _output(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    output = copy.deepcopy(output)
    if "metadata" in output:
        output.metadata = nbformat.NotebookNode()
    return output


def _merged(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Text of one stream that arrived in pieces, as one piece: how it was cut is chance."""
    merged: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == "stream" == last.output_type and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def slim(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy whose pictures are small enough for a repository: photographs as JPEG, lines as PNG with a palette."""
    book = copy.deepcopy(book)
    for data in (output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])):
        for kind in ("image/png", "image/jpeg"):
            if kind in data:
                kept, encoded = _slim(kind, base64.b64decode(data.pop(kind)))
                data[kept] = base64.b64encode(encoded).decode()
                break
    return book


def _slim(kind: str, given: bytes) -> tuple[str, bytes]:
    """Kind and bytes of a smaller form of a picture, or of the given one if there is none."""
    with Image.open(io.BytesIO(given)) as opened:
        picture = opened.convert("RGB")
    if kind == "image/png":
        drawn = min(given, _packed(picture.quantize(PALETTE), "PNG"), key=len)
        if len(drawn) < BUDGET / 2 or len(drawn) < 2 * len(_packed(picture, "JPEG", quality=85)):
            return kind, drawn
    elif len(given) <= BUDGET:
        return kind, given
    for width, quality in SHRINKING:
        picture.thumbnail((width, 10 * width))
        photograph = _packed(picture, "JPEG", quality=quality)
        if len(photograph) <= BUDGET:
            break
    return "image/jpeg", photograph


def _packed(picture: Image.Image, format: str, **options: Any) -> bytes:
    data = io.BytesIO()
    picture.save(data, format, optimize=True, **options)
    return data.getvalue()


def write(book: nbformat.NotebookNode) -> str:
    """The notebook as text, as it is committed."""
    return nbformat.writes(book, version=4) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Run the notebooks anew, in the form that is committed.")
    parser.add_argument("names", nargs="*", help="beginnings of names; all notebooks by default")
    parser.add_argument("--check", action="store_true", help="run nothing; say which are not in the committed form")
    options = parser.parse_args(arguments)
    wrong = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        if options.names and not path.name.startswith(tuple(options.names)):
            continue
        text = path.read_text(encoding="utf-8")
        book = nbformat.reads(text, as_version=4)
        if options.check:
            same = write(normalise(book, path.stem)) == text
            wrong += not same
            print(f"{path.name}: {'in order' if same else 'run notebooks/execute.py'}")
        else:
            made = write(normalise(slim(execute(book)), path.stem))
            path.write_text(made, encoding="utf-8")
            print(f"{path.name}: {len(made.encode()) / 1024:.0f} KiB")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
