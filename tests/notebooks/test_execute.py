"""The tool that runs the notebooks and writes them in the committed form."""

from __future__ import annotations

import base64
import importlib.util
import io
from pathlib import Path
from types import ModuleType

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image, ImageDraw, ImageFilter

FILE = Path(__file__).parents[2] / "notebooks" / "execute.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_execute", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encoded(image: Image.Image, format: str) -> str:
    data = io.BytesIO()
    image.save(data, format)
    return base64.b64encode(data.getvalue()).decode()


def noise(width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (width, width, 3), dtype=np.uint8))


def one(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return new_notebook(cells=[new_code_cell("x = 1", outputs=list(outputs), execution_count=1)])


def outputs(tool: ModuleType, *given: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return tool.normalise(one(*given), "01_a").cells[0].outputs


def test_names_and_metadata_do_not_depend_on_who_saved_it(tool: ModuleType) -> None:
    book = new_notebook(
        cells=[new_markdown_cell("# Title\n"), new_code_cell("x = 1\n", metadata={"tags": ["parameters"]})]
    )
    book.cells[1].metadata["execution"] = {"iopub.busy": "2020-01-01"}
    book.metadata = {"language_info": {"version": "3.99"}, "widgets": {"state": {}}, "kernelspec": {"name": "my-env"}}
    made = tool.normalise(book, "01_first_clip")
    assert [cell.id for cell in made.cells] == ["01-first-clip-00", "01-first-clip-01"]
    assert made.metadata == {"kernelspec": tool.KERNELSPEC, "language_info": {"name": "python"}}
    assert [cell.metadata for cell in made.cells] == [{}, {"tags": ["parameters"]}]
    assert [cell.source for cell in made.cells] == ["# Title", "x = 1"]


def test_the_committed_form_is_a_fixed_point(tool: ModuleType) -> None:
    book = one(
        new_output("stream", name="stdout", text="a\n"),
        new_output("stream", name="stdout", text="b\n"),
        new_output("display_data", {"image/png": encoded(noise(300), "PNG"), "text/plain": "<Figure>"}),
    )
    once = tool.write(tool.normalise(book, "01_a"))
    assert tool.write(tool.normalise(nbformat.reads(once, as_version=4), "01_a")) == once


def test_progress_is_taken_out_and_words_stay(tool: ModuleType) -> None:
    bar = "rocket:  50%|#####     | 1/2 [00:01<00:01,  1.2s/cell]\r"
    widget = {
        "application/vnd.jupyter.widget-view+json": {"model_id": "a"},
        "text/plain": "  0%|          | 0/2 [00:00<?]",
    }
    kept = outputs(
        tool,
        new_output("stream", name="stderr", text=bar),
        new_output("display_data", widget),
        new_output("stream", name="stderr", text="a warning that is to be seen"),
    )
    assert [output.text for output in kept] == ["a warning that is to be seen"]


def test_a_widget_that_is_no_progress_stays_to_be_found_by_the_tests(tool: ModuleType) -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "IntSlider(value=0)"}
    assert len(outputs(tool, new_output("display_data", widget))) == 1


def slimmed(tool: ModuleType, data: dict[str, str]) -> dict[str, str]:
    return dict(tool.slim(one(new_output("display_data", data))).cells[0].outputs[0].data)


def test_a_large_figure_of_photographs_becomes_a_jpeg(tool: ModuleType) -> None:
    blurred = noise(1200).filter(ImageFilter.GaussianBlur(12))
    made = slimmed(tool, {"image/png": encoded(blurred, "PNG"), "text/plain": "<Figure>"})
    data = base64.b64decode(made["image/jpeg"])
    assert (len(data) <= tool.BUDGET, "image/png" in made, made["text/plain"]) == (True, False, "<Figure>")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.size == (1200, 1200)


def test_pictures_that_do_not_compress_are_made_smaller(tool: ModuleType) -> None:
    made = slimmed(tool, {"image/jpeg": encoded(noise(1200), "JPEG")})
    with Image.open(io.BytesIO(base64.b64decode(made["image/jpeg"]))) as opened:
        assert opened.width == tool.SHRINKING[-1][0]


def test_a_figure_of_lines_stays_a_png_of_the_same_pixels(tool: ModuleType) -> None:
    figure = Image.new("RGB", (800, 300), "white")
    ImageDraw.Draw(figure).line([(0, 0), (800, 300)], fill="#0072b2", width=3)
    made = slimmed(tool, {"image/png": encoded(figure, "PNG")})
    with Image.open(io.BytesIO(base64.b64decode(made["image/png"]))) as opened:
        assert np.array_equal(np.asarray(opened.convert("RGB")), np.asarray(figure))


def test_a_small_photograph_stays_byte_for_byte(tool: ModuleType) -> None:
    jpeg = encoded(noise(100), "JPEG")
    assert slimmed(tool, {"image/jpeg": jpeg}) == {"image/jpeg": jpeg}


@pytest.mark.slow
def test_a_notebook_is_run_in_an_empty_folder_in_static_display(tool: ModuleType) -> None:
    source = "import os, svdlab\n(os.listdir(), os.environ['SVDLAB_DISPLAY'])"
    book = tool.execute(new_notebook(cells=[new_code_cell(source)], metadata={"kernelspec": tool.KERNELSPEC}))
    shown = eval(book.cells[0].outputs[0].data["text/plain"])
    assert (set(shown[0]) <= {"profile_default"}, shown[1]) == (True, "static")


def test_check_says_which_are_in_order(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(tool, "FOLDER", tmp_path)
    nbformat.write(one(), tmp_path / "02_raw.ipynb")
    (tmp_path / "01_done.ipynb").write_text(tool.write(tool.normalise(one(), "01_done")))
    assert tool.main(["--check"]) == 1
    assert capsys.readouterr().out == "01_done.ipynb: in order\n02_raw.ipynb: run notebooks/execute.py\n"
    assert tool.main(["--check", "01"]) == 0
