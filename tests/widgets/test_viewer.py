"""SweepViewer without a browser: traits, messages, refreshing, exports from its buttons."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import svdlab as sl
from svdlab.errors import SweepError, ViewError
from svdlab.sweep.artifacts import VIDEO, cell_path
from svdlab.video import read_video
from svdlab.widgets import SweepViewer, View, feed
from svdlab.widgets.thumbs import Thumbnails, middle_frame, thumbnail
from tests.pictures import blobs
from tests.widgets.runs import Writer

GRID = {"motion_bucket_id": [32, 224], "steps": [1, 2, 3], "seed": [0, 1]}  # cells: seed outermost, steps fastest


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.fixture(scope="module")
def clip(pipe):
    return pipe(blobs(), steps=1, seed=0, num_frames=4)


@pytest.fixture
def writer(tmp_path, pipe, clip):
    return Writer(tmp_path / "runs", pipe, clip, GRID, name="trial")


@pytest.fixture
def half(writer):
    """Six cells done, the seventh failed, five pending."""

    def fill(writer, ledger):
        for k in range(6):
            writer.done(ledger, k)
        writer.failed(ledger, 6, "the <b>disk</b>\nis full")

    return writer.write(fill)


@pytest.fixture
def viewer(half, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Recorded(half)


class Recorded(SweepViewer):
    """Keeps what goes to the page."""

    def __init__(self, *args, **kwargs):
        self.sent = []
        super().__init__(*args, **kwargs)

    def send(self, content, buffers=None):
        self.sent.append((content, buffers))


def ask(viewer, **message):
    viewer._handle_custom_msg(message, [])
    return viewer.sent.pop()


def test_the_first_view_and_what_it_is_told(viewer):
    assert (viewer.x, viewer.y, viewer.lock, viewer.metric) == ("steps", "motion_bucket_id", {"seed": 0}, "flow_mean")
    assert viewer._progress["text"] == "6 of 12 cells, 1 failed, stopped"
    assert "coloured noise" in viewer._progress["notice"]
    table = viewer._table
    assert table["axes"] == {"seed": [0, 1], "motion_bucket_id": [32, 224], "steps": [1, 2, 3]}
    assert table["facts"]["flow_mean"]["unit"] == "px/frame"
    assert table["facts"]["flow_mean"]["title"].startswith("Amount of motion")
    assert table["clip"] == {"frames": 4, "fps": 10, "width": 64, "height": 64}
    rows = {row[0]: row for row in table["rows"]}
    assert rows[viewer.arrangement().tiles[0][1].cell][4][:2] == [1 / 7, 1 / 2]
    failed = next(row for row in table["rows"] if row[1] == "failed")
    assert failed[2] == "RuntimeError: the <b>disk</b>\nis full"
    json.dumps(viewer.get_state(["_table", "_view", "_progress"]), allow_nan=False)


def test_traits_and_view_follow_each_other(viewer):
    viewer.x = "seed"
    assert viewer.view.x == "seed"
    assert viewer._view["x"] == "seed"
    assert viewer.lock == {"steps": 1}
    viewer.select(steps=None, show="both", sort=("warp_error", True))
    assert (viewer.lock, viewer.show, viewer.sort) == ({"steps": None}, "both", ("warp_error", True))
    viewer.filters = {"flow_mean": (0, 0.5)}
    assert viewer.view.filters["flow_mean"] == (0, 0.5)
    viewer.view = View.of(viewer.sweep)
    assert (viewer.x, viewer.sort, viewer.filters) == ("steps", None, {})


def test_the_page_changes_the_view(viewer):
    seen = []
    viewer.observe(lambda change: seen.append((change["name"], change["new"])), ["y", "shortlist"])
    wanted = {**viewer._view, "y": "seed", "lock": {"motion_bucket_id": 224}, "shortlist": ["abc"]}
    viewer.set_state({"_view": wanted})
    assert (viewer.y, viewer.lock) == ("seed", {"motion_bucket_id": 224})
    assert sorted(seen) == [("shortlist", ("abc",)), ("y", "seed")]
    viewer.set_state({"_view": {**wanted, "x": "<script>"}})  # a page that is out of date, or worse
    assert viewer.x == "steps"
    assert viewer._view["x"] == "steps"


@pytest.mark.parametrize(
    ("change", "words"),
    [({"x": "hue"}, "is no axis"), ({"metric": "hue"}, "is no metric"), ({"selected": "hue"}, "is no cell")],
)
def test_a_wrong_trait_is_refused_and_nothing_changes(viewer, change, words):
    before = viewer.view
    ((name, value),) = change.items()
    with pytest.raises(ViewError, match=words):
        setattr(viewer, name, value)
    assert viewer.view == before
    assert getattr(viewer, name) == getattr(before, name, None)


def test_a_view_of_another_sweep_is_refused(viewer, half):
    frame = half.frame().assign(cond_aug=range(12))
    with pytest.raises(ViewError, match="is no axis"):
        SweepViewer(half, View.of(frame, x="cond_aug"))
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        SweepViewer(half.path.parent)


def test_only_new_rows_are_sent(viewer, writer):
    assert viewer.refresh() == 0
    assert viewer.sent == []
    changed = []
    viewer.observe(lambda change: changed.append(change["name"]), ["_table"])
    new = []
    writer.write(lambda writer, ledger: new.append(writer.done(ledger, 7)))
    assert viewer.refresh() == 1
    ((message, _),) = viewer.sent
    assert message["kind"] == "rows"
    assert [row[:2] for row in message["rows"]] == [[new[0], "done"]]
    assert changed == []  # the whole table did not travel
    assert new[0] in {row[0] for row in viewer.get_state(["_table"])["_table"]["rows"] if row[1] == "done"}
    assert viewer._progress["text"].startswith("7 of 12 cells")


def test_the_page_asks_for_news_until_all_is_done(viewer, writer):
    def fill(writer, ledger):
        for k in range(6, 12):
            writer.done(ledger, k)

    assert viewer._progress["unfinished"]
    writer.write(fill)
    viewer._handle_custom_msg({"kind": "poll"}, [])
    assert [message["kind"] for message, _ in viewer.sent] == ["rows", "polled"]
    assert viewer._progress == {"text": "12 cells", "notice": viewer._progress["notice"], "unfinished": False}


def test_a_poll_that_fails_is_answered(viewer, caplog):
    (viewer.sweep.path / "ledger.sqlite").rename(viewer.sweep.path / "away.sqlite")
    assert ask(viewer, kind="poll")[0] == {"kind": "polled"}
    assert "could not read" in caplog.text


def test_another_declaration_brings_another_table(viewer, tmp_path, pipe, clip):
    viewer.select(y="seed", motion_bucket_id=224, super_y=None)
    Writer(tmp_path / "runs", pipe, clip, {**GRID, "steps": [1, 2], "fps": [8, 10]}).write()
    viewer.refresh()
    assert viewer._table["axes"]["steps"] == [1, 2]
    assert (viewer.x, viewer.y) == ("steps", "seed")
    assert viewer.lock == {"motion_bucket_id": 224, "fps": 8}


def test_an_empty_sweep_can_be_looked_at(writer):
    viewer = SweepViewer(writer.write())
    assert viewer._progress["text"] == "0 of 12 cells, stopped"
    assert {tile.status for row in viewer.arrangement().tiles for tile in row} == {"pending"}
    assert viewer._table["clip"] is None
    with pytest.raises(ViewError, match="nothing to play"):
        viewer.save_mp4("empty.mp4")


def test_thumbnails_and_videos_travel_as_bytes(viewer, clip):
    cells = viewer.arrangement().keys()[:2]
    answer, buffers = ask(viewer, kind="media", what="thumb", cells=cells)
    assert answer["types"] == dict.fromkeys(cells, "image/jpeg")
    assert [Image.open(io.BytesIO(data)).size for data in buffers] == [(64, 64)] * 2
    answer, buffers = ask(viewer, kind="media", what="video", cells=cells[:1])
    assert answer["types"] == {cells[0]: "video/mp4"}
    assert read_video(buffers[0]).frames.shape == clip.frames.shape


def test_what_cannot_be_shown_is_said_in_words(viewer):
    damaged, gone = viewer.arrangement().keys()[:2]
    (viewer.sweep.path / cell_path(damaged) / VIDEO).write_bytes(b"no video")
    (viewer.sweep.path / cell_path(gone) / VIDEO).unlink()
    for what in ("thumb", "video", "code"):
        answer, _ = ask(viewer, kind="media", what=what, cells=["../../../etc/passwd", gone])
        assert "is no cell of this sweep" in answer["errors"]["../../../etc/passwd"] or "no such cell" in str(answer)
        assert (gone in answer["errors"]) == (what != "code")
    answer, buffers = ask(viewer, kind="media", what="thumb", cells=[damaged])
    assert "has no middle frame" in answer["errors"][damaged]
    assert buffers == []


def test_code_makes_the_same_clip_again(viewer, half, pipe):
    cell = half.frame().query("status == 'pending'")["cell"].iloc[0]
    viewer.selected = cell
    assert viewer.code() == ask(viewer, kind="media", what="code", cells=[cell])[0]["texts"][cell]
    namespace = {}
    exec(viewer.code(), namespace)
    row = half.frame().set_index("cell").loc[cell]
    request = namespace["clip"].request
    assert (request.steps, request.motion_bucket_id, request.seed) == (row.steps, row.motion_bucket_id, row.seed)
    assert namespace["pipe"].fingerprint == pipe.fingerprint
    assert request.resolve(pipe.defaults).settings() == {
        name: value for name, value in request.settings().items() if value is not None
    }


def test_the_code_of_a_real_cell_gives_its_frames(tmp_path, pipe):
    blobs().save(tmp_path / "kite.png")
    size = {"num_frames": 2, "width": 32, "height": 32}
    run = sl.sweep(
        pipe, image=tmp_path / "kite.png", steps=[1, 2], seed=7, metrics=[], out=tmp_path / "r", progress=False, **size
    )
    cell = run.frame()["cell"].iloc[1]
    namespace = {}
    exec(SweepViewer(run).code(cell), namespace)
    np.testing.assert_array_equal(namespace["clip"].frames, run.clip(cell, pipe=pipe).frames)


def test_code_needs_a_cell(viewer):
    with pytest.raises(ViewError, match="none is selected"):
        viewer.code()
    with pytest.raises(ViewError, match="no such cell"):
        viewer.code("abc")


def test_spec_shows_the_same_view_again(viewer):
    viewer.select(y="seed", motion_bucket_id=None, show="both", filters={"flow_mean": (0.1, None)})
    namespace = {}
    exec(viewer.spec(), namespace)
    assert namespace["view"] == viewer.view


def test_the_buttons_write_and_never_overwrite(viewer, tmp_path):
    assert viewer._export_path == "runs-2" or viewer._export_path == "runs"
    answer, (data,) = ask(viewer, kind="export", id="1", what="csv", path="seen")
    assert answer["text"] == f"written: seen.csv, in {tmp_path}"
    assert (tmp_path / "seen.csv").read_bytes() == data
    answer, buffers = ask(viewer, kind="export", id="2", what="csv", path="seen.csv")
    assert "is there already" in answer["error"]
    assert "seen-2.csv" in answer["error"]
    assert buffers == []
    assert (tmp_path / "seen.csv").read_bytes() == data
    for path, words in (("", "is empty"), ("nowhere/seen", "there is no folder")):
        assert words in ask(viewer, kind="export", id="3", what="png", path=path)[0]["error"]
    assert "must be one of png" in ask(viewer, kind="export", id="4", what="exe", path="x")[0]["error"]


def test_looking_changes_nothing_on_the_disk(viewer, half):
    def files():
        return {path: path.stat().st_mtime_ns for path in half.path.rglob("*") if path.is_file()}

    before = files()
    cells = viewer.arrangement().keys()
    ask(viewer, kind="media", what="thumb", cells=cells)
    viewer.static_picture()
    viewer.refresh()
    assert files() == before


def test_static_display_is_a_picture(viewer, monkeypatch):
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    bundle = viewer._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/jpeg"}
    assert "0x" not in bundle["text/plain"]
    monkeypatch.setenv("SVDLAB_DISPLAY", "live")
    assert "application/vnd.jupyter.widget-view+json" in viewer._repr_mimebundle_()[0]


def test_is_running_asks_the_lock_and_the_process(half):
    lock = half.path / "lock"
    assert not feed.is_running(half.path)
    me = {"host": socket.gethostname(), "pid": os.getpid(), "started": "now"}
    lock.write_text(json.dumps(me))
    assert feed.is_running(half.path)
    assert feed.Progress.of(half).text == "6 of 12 cells, 1 failed, running"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock.write_text(json.dumps({**me, "pid": gone.pid}))
    assert not feed.is_running(half.path)
    lock.write_text(json.dumps({**me, "host": "elsewhere", "pid": gone.pid}))
    assert feed.is_running(half.path)


def test_a_metric_that_this_process_does_not_know():
    assert feed.metric_facts("some_metric") == {"unit": "", "direction": "neutral", "title": ""}
    assert feed.metric_facts("seconds_spent")["unit"] == "s"


def test_thumbnails_are_the_middle_frame_small_and_few(half, clip, tmp_path):
    cells = half.frame().query("status == 'done'")["cell"].tolist()
    thumbs = Thumbnails(half.path, kept=2)
    for cell in cells[:3]:
        thumbs.get(cell)
    assert len(thumbs) == 2
    path = half.path / cell_path(cells[0]) / VIDEO
    np.testing.assert_array_equal(middle_frame(path), read_video(path).frames[2])
    with Image.open(io.BytesIO(thumbnail(np.zeros((576, 1024, 3), np.uint8)))) as small:
        assert small.size == (228, 128)
    with pytest.raises(sl.SvdlabError, match="has no middle frame"):
        middle_frame(tmp_path / "absent.mp4")
    with pytest.raises(sl.SvdlabError, match="cut short"):
        middle_frame(path, frames=400)
