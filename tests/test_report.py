"""Reports: a folder that stands on its own, whatever state its sweep is in and whatever its pictures are called."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import resource
import shutil
import sqlite3
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import svdlab as sl
import svdlab.report
from svdlab.errors import ReportError, SweepError
from svdlab.pipeline import Pipeline
from svdlab.report import write_report
from svdlab.report.page import json_text
from svdlab.report.repeat import spec_text
from svdlab.report.words import lead, listed
from svdlab.sweep.ledger import Ledger
from svdlab.video import read_video

SMALL = {"num_frames": 2, "width": 32, "height": 32, "metrics": ["flow_mean", "warp_error"], "progress": False}
HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" </script> 'it'"


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return sl.load("tiny-random", device="cpu")


def picture(folder: Path, name: str = "rocket", seed: int = 0) -> Path:
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(8, axis=0).repeat(8, axis=1)).save(folder / f"{name}.png")
    return folder / f"{name}.png"


@pytest.fixture(scope="module")
def sweep(pipe, tmp_path_factory):
    """Eight cells: two pictures, two values of cond_aug and two step counts; the seed is drawn."""
    folder = tmp_path_factory.mktemp("swept")
    images = [picture(folder), picture(folder, "kite", 1)]
    return sl.sweep(pipe, image=images, cond_aug=[0.02, 0.3], steps=[1, 2], out=folder / "run", name="first", **SMALL)


@pytest.fixture(scope="module")
def report(sweep, tmp_path_factory) -> Path:
    return write_report(sweep, tmp_path_factory.mktemp("report") / "deep" / "report", plots=False).parent


class Page(HTMLParser):
    """Tags with their attributes, and the text in and outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {}
        self.text = ""
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = dict(attrs).get("type", tag)

    def handle_endtag(self, tag):
        self._inside = "" if tag in ("script", "style") else self._inside

    def handle_data(self, data):
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        else:
            self.text += data

    @property
    def data(self):
        return json.loads(self.raw["application/json"])


def page_of(folder: Path) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def test_the_folder_holds_everything_that_the_page_names(sweep, report) -> None:
    frame = sweep.frame()
    assert pd.read_parquet(report / "results.parquet").equals(frame)
    assert (report / "results.csv").read_text() == (sweep.path / "results.csv").read_text()
    for cell in frame["cell"]:
        assert read_video(report / f"clips/{cell}.mp4").frames.shape == (2, 32, 32, 3)
        with Image.open(report / f"thumbs/{cell}.jpg") as thumb:
            assert thumb.size == (32, 32)
    page = page_of(report)
    named = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src")]
    files = [name for name in named if not name.startswith("data:")]
    assert len(files) == 4 + 2 * 2  # the exports; two pictures with their thumbnails
    assert all((report / name).is_file() for name in files)


def test_the_table_of_the_page_is_the_frame(sweep, report) -> None:
    frame, table = sweep.frame(), page_of(report).data["table"]
    assert [row[0] for row in table["rows"]] == frame["cell"].tolist()
    assert table["axes"] == {"image": ["rocket", "kite"], "cond_aug": [0.02, 0.3], "steps": [1, 2]}
    k = table["metrics"].index("flow_mean")
    assert [row[4][k] for row in table["rows"]] == frame["flow_mean"].tolist()
    html = (report / "index.html").read_text()
    assert html.count("<tr><td><button") == 8
    assert f'data-value="{float(frame.flow_mean[0])!r}"' in html


def test_the_words_say_what_was_swept(report) -> None:
    text = page_of(report).text
    grid = "2 pictures \u00d7 2 cond_aug \u00d7 2 steps"
    assert f"8 cells: {grid}, made with tiny-random on cpu in float32. All of them are done." in text
    assert "tiny-random has random weights" in text
    assert "0.02, 0.3" in text
    assert "svdlab sweep spec.toml --out again" in text


def test_nothing_is_loaded_from_elsewhere_and_no_path_of_this_machine_is_told(sweep, report) -> None:
    html = (report / "index.html").read_text()
    addresses = set(re.findall(r"[\w+.-]*://[^\s\"'`<>)]*", html))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # the name of a language, not a place
    assert not re.search(r"(src|href)=[\"']?//", html)
    assert "@import" not in html
    for path in report.rglob("*"):
        if path.suffix in (".html", ".json", ".toml", ".csv"):
            assert str(sweep.path.parent) not in path.read_text(), path


def test_the_policy_admits_this_script_and_style_alone(report) -> None:
    page = page_of(report)
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    for kind, name in (("module", "script-src"), ("style", "style-src")):
        digest = base64.b64encode(hashlib.sha256(page.raw[kind].encode()).digest()).decode()
        assert allowed[name] == f"'sha256-{digest}'"
    assert allowed["default-src"] == "'none'"
    assert "http" not in policy
    order = [tag for tag, _ in page.tags]
    assert order.index("meta") < order.index("style") < order.index("script")  # a policy holds for what follows it


def test_no_handler_or_style_stands_in_an_attribute(report) -> None:
    for tag, attrs in page_of(report).tags:
        assert not [name for name in attrs if name.startswith("on") or name == "style"], tag


def test_hostile_names_stay_text(pipe, tmp_path) -> None:
    images = [picture(tmp_path, HOSTILE.replace("/", "\u2215")), picture(tmp_path, "plain", 1)]
    run = sl.sweep(pipe, image=images, steps=1, out=tmp_path / "run", **SMALL)
    label = run.frame()["image"][0]
    assert "<img src=x onerror=alert(1)>" in label
    page = page_of(write_report(run, tmp_path / "report", title=HOSTILE, plots=False).parent)
    assert {tag for tag, _ in page.tags if tag in ("img", "script")} == {"img", "script"}
    assert all(set(attrs) == {"src", "alt", "loading"} for tag, attrs in page.tags if tag == "img")
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert page.text.count(HOSTILE) == 2  # title and headline
    assert label in page.text
    assert page.data["table"]["axes"]["image"] == [label, "plain"]


def test_a_ledger_that_leads_out_of_its_directory_is_not_followed(pipe, tmp_path) -> None:
    run = sl.sweep(pipe, image=picture(tmp_path, "plain"), steps=1, out=tmp_path / "a" / "b" / "run", **SMALL)
    key, stray = run.frame()["cell"][0], "../../../out/stray"
    shutil.copytree(run.path / "cells" / key[:2] / key, tmp_path / "out" / "stray")
    manifest = tmp_path / "out" / "stray" / "manifest.json"
    manifest.write_text(manifest.read_text().replace(key, stray))
    with sqlite3.connect(run.path / "ledger.sqlite") as ledger:
        for column in ("cell.key", "metric.cell", "event.cell"):
            table, name = column.split(".")
            ledger.execute(f"UPDATE {table} SET {name} = ? WHERE {name} = ?", (stray, key))
    before = sorted(tmp_path.rglob("*.mp4"))
    with pytest.raises(SweepError, match="is no key of a cell"):
        write_report(sl.open_sweep(run.path), tmp_path / "a" / "b" / "report", plots=False)
    assert sorted(tmp_path.rglob("*.mp4")) == before


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "<script", "\u2028", "a" * 10])
def test_json_in_a_page_cannot_leave_its_element(text) -> None:
    packed = json_text({text: text})
    assert "<" not in packed
    assert json.loads(packed) == {text: text}


def test_the_specification_makes_the_same_cells_again(sweep, report, pipe, tmp_path) -> None:
    copy = shutil.copytree(report, tmp_path / "moved")
    from svdlab.sweep import plan_spec

    plan = plan_spec(copy / "spec.toml", pipe=pipe, out=tmp_path / "again")
    assert plan.total == len(sweep)
    shutil.copytree(sweep.path, tmp_path / "again")
    plan = plan_spec(copy / "spec.toml", pipe=pipe, out=tmp_path / "again")
    assert (plan.done, plan.todo) == (len(sweep), 0)  # the same keys: nothing is left to do


def test_specifications_survive_odd_texts() -> None:
    declaration = {
        "name": "odd",
        "model": 'a "quoted" \\ name\x7f\U0001f680',
        "grid": {"cond_aug": [1e-05, 0.3], "schedule": ["even", "karras"]},
        "fixed": {"fps": 10},
        "seed": 2**62,
        "metrics": [],
        "timing": "shared",
        "engine": "local",
    }
    read = tomllib.loads(spec_text(declaration, ["images/a.png"]))
    assert read["model"] == declaration["model"]
    assert read["grid"] == declaration["grid"]
    assert read["fixed"] == {"fps": 10, "seed": 2**62}
    assert read["images"] == ["images/a.png"]


def test_codes_name_the_picture_in_the_report(sweep, report) -> None:
    codes = page_of(report).data["codes"]
    assert set(codes) == set(sweep.frame()["cell"])
    for code in codes.values():
        name = re.search(r"images/\w+\.png", code)[0]
        assert (report / name).is_file()
        assert f"'{name}'" in code
        compile(code, "cell", "exec")


def test_failed_cells_are_told_in_words(pipe, tmp_path) -> None:
    calls = iter(range(100))

    def fail(*_):
        if next(calls) >= 2:
            raise RuntimeError("out of <b>patience</b>")

    handle = pipe.components.unet.register_forward_pre_hook(fail)
    try:
        run = sl.sweep(pipe, image=picture(tmp_path), seed=[0, 1, 2, 3], steps=1, out=tmp_path / "run", **SMALL)
    finally:
        handle.remove()
    counts = run.status()
    assert counts["done"] >= 1
    assert counts["failed"] >= 2
    folder = write_report(run, tmp_path / "report").parent
    page = page_of(folder)
    assert f"{counts['failed']} failed." in page.text
    assert f"RuntimeError: out of <b>patience</b> ({counts['failed']} cells" in page.text
    assert len(list((folder / "clips").iterdir())) == counts["done"]


def test_a_sweep_that_goes_on_and_one_without_cells_can_be_reported(sweep, tmp_path) -> None:
    run = Path(shutil.copytree(sweep.path, tmp_path / "run"))
    keys = sweep.frame()["cell"]
    with Ledger(run, write=True) as ledger, ledger.transaction():
        ledger._db.execute("UPDATE cell SET status = 'pending' WHERE key = ?", (keys[0],))
    text = page_of(write_report(sl.open_sweep(run), tmp_path / "a").parent).text
    assert "7 are done, 1 was still to do when this report was written." in text
    (tmp_path / "empty").mkdir()
    Ledger(tmp_path / "empty", write=True).close()
    page = page_of(write_report(sl.open_sweep(tmp_path / "empty"), tmp_path / "b").parent)
    assert "No cells are declared here yet." in page.text
    assert "Not drawn: All plots: no cell has a metric to be drawn yet." in page.text
    assert page.data["table"]["rows"] == []


def test_a_damaged_clip_is_named_and_the_others_are_there(sweep, tmp_path, caplog) -> None:
    run = Path(shutil.copytree(sweep.path, tmp_path / "run"))
    first, second, *_ = sweep.frame()["cell"]
    (run / f"cells/{first[:2]}/{first}/clip.mp4").write_bytes(b"not a video")
    (run / f"cells/{second[:2]}/{second}/clip.mp4").unlink()
    folder = write_report(sl.open_sweep(run), tmp_path / "report").parent
    page = page_of(folder)
    assert "2 finished clips could not be read and cannot be shown." in page.text
    assert set(page.data["broken"]) == {first, second}
    assert str(tmp_path) not in json.dumps(page.data["broken"])
    assert first in caplog.text
    assert len(list((folder / "clips").iterdir())) == 6


def test_plots_are_drawn_with_their_words(sweep, tmp_path) -> None:
    folder = write_report(sweep, tmp_path / "report").parent
    drawn = {path.stem for path in (folder / "plots").iterdir()}
    heat, lines = {"heat-flow_mean", "heat-warp_error"}, {"response-cond_aug", "response-steps"}
    assert drawn == {*heat, *lines, "tradeoff"}
    page = page_of(folder)
    shown = {attrs["src"]: attrs["alt"] for tag, attrs in page.tags if tag == "img" and "plots/" in attrs["src"]}
    assert set(shown) == {f"plots/{name}.png" for name in drawn}
    assert shown["plots/heat-flow_mean.png"] == "flow_mean over cond_aug and steps"
    for name in shown:
        with Image.open(folder / name) as plot:
            assert min(plot.size) > 300
            assert len(np.unique(plot.convert("L").resize((64, 64)))) > 10  # not blank
    assert "Not drawn" not in page.text


def test_plots_that_cannot_be_are_left_out_with_the_reason(pipe, tmp_path) -> None:
    call = {**SMALL, "metrics": ["ssim_input"]}
    run = sl.sweep(pipe, image=picture(tmp_path), steps=1, seed=[0, 1], out=tmp_path / "run", **call)
    folder = write_report(run, tmp_path / "report").parent
    text = page_of(folder).text
    assert "Not drawn: Heat maps: they need two settings that vary; here none does." in text
    assert "Not drawn: Responses: they need a setting that varies" in text
    assert "it needs flow_mean, and warp_error or lpips_input." in text
    assert list((folder / "plots").iterdir()) == []


def test_clips_can_be_left_out_or_put_into_the_page(sweep, report, tmp_path) -> None:
    bare = write_report(sweep, tmp_path / "bare", videos=False, plots=False).parent
    assert not (bare / "clips").exists()
    assert page_of(bare).data["videos"] is False
    page = page_of(write_report(sweep, tmp_path / "alone", embed=True, plots=False).parent)
    named = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("href", "src")]
    assert len(named) > 5
    assert all(name.startswith("data:") for name in named)
    alone = page.data["embedded"]
    cell = sweep.frame()["cell"][0]
    data = alone[f"clips/{cell}.mp4"].removeprefix("data:video/mp4;base64,")
    assert base64.b64decode(data) == (report / f"clips/{cell}.mp4").read_bytes()
    assert sum(name.startswith("thumbs/") for name in alone) == 8
    assert page_of(report).data["embedded"] is None


def test_a_page_that_would_be_too_large_is_refused(sweep, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(svdlab.report, "MAX_EMBEDDED", 1000)
    with pytest.raises(ReportError, match=r"embed = True: the page would hold 0 MB; .* Leave embed out"):
        write_report(sweep, tmp_path / "report", embed=True)
    assert list(tmp_path.iterdir()) == []


def test_an_older_report_is_replaced_whole(sweep, tmp_path) -> None:
    folder = tmp_path / "report"
    write_report(sweep, folder, title="old", plots=False)
    (folder / "clips" / "left-over.mp4").write_bytes(b"")
    write_report(sweep, folder, title="new", plots=False)
    assert "<title>new</title>" in (folder / "index.html").read_text()
    assert not (folder / "clips" / "left-over.mp4").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    (tmp_path / "there").mkdir()  # an empty folder is as good as none
    assert write_report(sweep, tmp_path / "there", plots=False).is_file()


def test_what_is_no_report_is_left_alone(sweep, tmp_path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "manifest.json").write_text('{"kind": "something else"}')
    (tmp_path / "file").write_text("mine too")
    (tmp_path / "link").symlink_to(mine)
    for place, words in (
        (mine, "is not empty and not a report"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "link", "link"),
    ):
        with pytest.raises(ReportError, match=words):
            write_report(sweep, place)
    with pytest.raises(ReportError, match="is not empty and not a report"):
        write_report(sweep, sweep.path)  # the run directory itself
    assert (mine / "manifest.json").read_text() == '{"kind": "something else"}'
    assert (tmp_path / "file").read_text() == "mine too"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "mine"]


def test_a_report_may_lie_in_the_run_directory(sweep, pipe, tmp_path) -> None:
    run = Path(shutil.copytree(sweep.path, tmp_path / "run"))
    write_report(sl.open_sweep(run), run / "report", plots=False)
    assert sl.open_sweep(run).status()["done"] == 8


def test_a_full_disk_leaves_the_older_report_as_it_was(sweep, tmp_path) -> None:
    folder = write_report(sweep, tmp_path / "report", title="old", plots=False).parent
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # no file may grow beyond 2000 bytes
    try:
        with pytest.raises(ReportError, match=r"cannot be written .* Free the disk"):
            write_report(sweep, folder, title="new", plots=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("title", ["", "  ", 3])
def test_a_title_is_a_text(sweep, tmp_path, title) -> None:
    with pytest.raises(ReportError, match="title = "):
        write_report(sweep, tmp_path / "report", title=title)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"done": 1}, "1 cell: 2 steps. It is done."),
        ({"done": 1, "failed": 1, "skipped": 2}, "4 cells: 2 steps. 1 is done, 1 failed, 2 skipped."),
        ({"done": 0, "pending": 2, "running": 1}, "3 cells: 2 steps. 0 are done, 3 were still to do when this"),
    ],
)
def test_progress_in_words(counts, words) -> None:
    assert lead({"steps": (1, 4)}, counts, {}, running=False).startswith(words)


def test_long_axes_are_shortened() -> None:
    assert listed(range(12)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11"
    assert listed(range(13)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ... 12 (13 values)"
