"""A live sweep without a browser."""

from __future__ import annotations

import threading

import pytest

import svdlab as sl
from svdlab import examples
from svdlab.errors import ImageError, SpecError, SweepError, WidgetError
from svdlab.widgets import live as module
from svdlab.widgets.live import LiveSweep
from svdlab.widgets.tally import LAST, Tally
from tests.pictures import blobs

SMALL = {"num_frames": 2, "width": 32, "height": 32}
PATIENCE = 120


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def make(pipe, tmp_path):
    made = []

    def make(**changes):
        call = {"image": examples.path("kite"), "steps": [1, 2], "seed": [0, 1], "out": tmp_path / "run"}
        call |= {"metrics": ["flow_mean", "warp_error"], **SMALL, **changes}
        made.append(LiveSweep(call.pop("pipe", pipe), **call))
        return made[-1]

    yield make
    for live in made:
        live.stop()
        live._worker.close(PATIENCE)
        live.close()


@pytest.fixture
def hook(pipe):
    handles = []
    yield lambda function: handles.append(pipe.components.unet.register_forward_pre_hook(lambda *_: function()))
    for handle in handles:
        handle.remove()


@pytest.fixture
def gate(hook):
    """Holds every denoiser call until it is opened."""
    gate, reached = threading.Event(), threading.Event()
    gate.reached = reached

    def wait():
        reached.set()
        assert gate.wait(PATIENCE)

    hook(wait)
    yield gate
    gate.set()


def planned(live):
    """Wait until the plan is made."""
    assert live._worker.job.wait(PATIENCE)
    return live


def test_it_plans_first_and_computes_nothing(make, tmp_path):
    live = planned(make())
    assert live.plan.todo == 4
    rows = dict(live._plan_table.rows)
    assert rows["cells"] == "4 = 0 done, 4 to do"
    assert "about" in rows["time"]
    assert live._work.words.startswith("planned")
    assert not (tmp_path / "run").exists()
    with pytest.raises(WidgetError, match="planned and not started"):
        live.wait()
    with pytest.raises(SweepError):
        live.sweep  # noqa: B018


def test_started_it_fills_the_table_and_shows_the_last_clip(make):
    live = planned(make())
    live._work.ask("begin")
    sweep = live.wait()
    assert list(sweep.frame()["status"]) == ["done"] * 4
    assert sweep.plan.todo == 4
    assert live._table.head == ["seed", "steps", "status", "flow_mean (px/frame)", "warp_error", "seconds"]
    assert len(live._table.rows) == 4
    assert live._table.rows[0][:3] == ["1", "2", "done"]  # the newest first
    assert (live._work.progress, live._work.words) == (1.0, "finished: 4 of 4 cells")
    assert live._player.labels == ["seed=1 steps=2"]
    assert live.clip.request.steps == 2
    assert not live._plan_table.unfolded


def test_started_while_it_plans_it_begins_when_the_plan_is_made(make):
    live = make()
    live.start()
    assert live.wait().status()["done"] == 4
    assert make(out=live.out, start=True).wait().plan.todo == 0


def test_stopped_it_finishes_the_cell_in_hand_and_goes_on(make, gate):
    live = make(metrics=[])
    live.start()
    assert gate.reached.wait(PATIENCE)  # the trial of the plan, or the first cell
    while live.plan is None or not (live.out / "ledger.sqlite").exists():
        gate.set()
        gate.clear()
        live._worker.job.wait(0.01)
    with pytest.raises(WidgetError, match="still running"):
        live.start()
    live._work.ask("end")
    assert live._work.ending
    gate.set()
    sweep = live.wait()
    done = sweep.status()["done"]
    assert sweep.interrupted
    assert done < 4
    assert live._work.words == f"stopped: {done} of 4 cells; starting goes on from here"
    assert live._work.begin == ("Go on" if done else "Start")
    live.start()
    assert live.wait().status()["done"] == 4
    assert len(live.rows) == 4 - done


def test_stopped_while_it_plans_it_does_not_begin(make, gate):
    live = make()
    live.start()
    assert gate.reached.wait(PATIENCE)
    live.stop()
    gate.set()
    planned(live)
    assert not live.out.exists()


def test_a_failed_cell_is_a_row_with_its_error(make, hook):
    live = planned(make(steps=1, seed=[0, 1, 2]))

    def fail_second():
        if len(live.rows) == 1:
            raise ValueError("<b>no</b> luck")

    hook(fail_second)
    live.start()
    sweep = live.wait()
    assert sweep.status()["failed"] == 1
    failed = [row for row in live._table.rows if "failed" in row]
    assert failed[0][-1] == "ValueError: <b>no</b> luck"
    assert live._work.words == "finished: 2 of 3 cells, 1 failed"
    assert live._work.progress == 1.0


def test_what_cannot_be_is_raised_at_once_or_said_in_words(make, tmp_path):
    with pytest.raises(SpecError, match="no such setting"):
        make(bucket=[1])
    with pytest.raises(SpecError, match="there is no file"):
        make(image=tmp_path / "nowhere.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    live = planned(make(image=tmp_path / "bad.png"))
    assert "looks like" in live._work.problem
    assert not live._work.busy
    with pytest.raises(ImageError):
        live.wait()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    assert "holds other things" in planned(make(out=tmp_path / "other"))._work.problem


def test_a_directory_in_use_is_said_in_words(make, gate):
    first = make(start=True)
    assert gate.reached.wait(PATIENCE)
    gate.set()
    first.wait()
    gate.clear()
    gate.reached.clear()
    first = make(seed=[5], start=True)
    assert gate.reached.wait(PATIENCE)
    second = planned(make(seed=[6]))
    second.start()
    second._worker.job.wait(PATIENCE)
    assert "is writing there" in second._work.problem
    gate.set()
    first.wait()
    second.start()
    assert second.wait().status()["done"] == 2


def test_a_run_that_was_told_to_stop_is_waited_for(make, gate):
    first = make(start=True, metrics=[])
    assert gate.reached.wait(PATIENCE)
    gate.set()
    first.wait()
    gate.clear()
    gate.reached.clear()
    first = make(seed=[7, 8], metrics=[], start=True)  # judged by cells that are done: no trial
    assert gate.reached.wait(PATIENCE)
    second = make(seed=[7, 8], metrics=[])
    first.close()  # as when its notebook cell is run again
    planned(second)
    second.start()
    while not second._work.words.startswith("waiting until the former"):
        assert not second._worker.job.wait(0.01), second._work.problem
    gate.set()
    assert second.wait().status()["done"] == 4


def test_interrupting_the_kernel_while_it_waits_stops_cleanly(make, gate, monkeypatch):
    from svdlab.widgets.worker import Job

    live = planned_with_open_gate(make, gate)
    live.start()
    assert gate.reached.wait(PATIENCE)
    wait = Job.wait

    def interrupted(job, timeout=None):
        monkeypatch.setattr(Job, "wait", wait)
        threading.Timer(0.05, gate.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "wait", interrupted)
    sweep = live.wait()
    assert sweep.interrupted
    assert not live.busy


def planned_with_open_gate(make, gate):
    gate.set()
    live = planned(make(metrics=[]))
    gate.clear()
    gate.reached.clear()
    return live


def test_no_thread_is_left(make):
    live = make(start=True)
    live.wait()
    live.close()
    for thread in threading.enumerate():
        if thread.name.startswith("svdlab"):
            thread.join(PATIENCE)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("svdlab")]
    assert module._writers[live.out.resolve()].over


def test_a_name_of_a_model_is_loaded_in_the_background(make):
    live = planned(make(pipe="tiny-random"))
    assert live.plan.model == "tiny-random"
    live = planned(make(pipe="tiny-randm"))
    assert "tiny-randm" in live._work.problem


@pytest.mark.parametrize("decode", ["preview", "none"])
def test_cells_that_are_decoded_later_show_the_last_clip_alone(make, decode):
    live = make(decode=decode, batch=2, start=True)
    rows = live.wait(PATIENCE).frame()
    assert list(rows["status"]) == ["done"] * 4
    assert live._worker.job.wait(PATIENCE)
    assert live.clip.frames.shape == (2, 32, 32, 3)
    assert live.clip.request.steps == 2
    assert len(list(live.out.rglob("*.mp4"))) == 1  # of the one that was shown


def test_how_cells_are_computed_is_checked_at_once(make):
    with pytest.raises(SpecError, match="decode = 'later'"):
        make(decode="later")
    with pytest.raises(SpecError, match="kind = 'rays'"):
        make(engine="rays")


def test_in_a_kept_notebook_it_is_a_picture(make, monkeypatch):
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    live = planned(make())
    assert live._repr_mimebundle_() == {"text/plain": f"LiveSweep(0 of 4 cells, in {live.out})"}
    live.start()
    live.wait()
    assert live._repr_mimebundle_()["image/jpeg"].startswith(b"\xff\xd8")


# The tally.


def test_time_left_is_judged_by_the_cells_so_far(make):
    plan = planned(make()).plan
    now = [0.0]
    tally = Tally(clock=lambda: now[0])
    tally.begin(plan)
    assert tally.words().startswith("0 of 4 cells, about")  # as planned
    now[0] = 10.0
    row = {"status": "done", "seed": 0, "steps": 1, "image": "kite", "seconds": 1.25, "error": None, "flow_mean": None}
    tally.add(row)
    assert tally.words() == "1 of 4 cells, about 30 s left"
    tally.add({**row, "status": "failed", "error": "E: no"})
    assert tally.words() == "1 of 4 cells, 1 failed, about 10 s left"
    assert tally.progress == 0.5
    assert tally.table()[0] == ["0", "1", "failed", "", "", "1.25", "E: no"]
    assert tally.label(row) == "seed=0 steps=1"


def test_the_table_keeps_the_last_cells(make):
    tally = Tally()
    tally.begin(planned(make(metrics=["luma_drift", "jerk", "flicker"])).plan)
    for seed in range(LAST + 5):
        tally.add({"status": "done", "seed": seed, "steps": 1, "image": "kite", "seconds": 1.0, "error": None})
    assert len(tally.table()) == LAST
    assert tally.table()[0][0] == str(LAST + 4)
    assert tally.caption() == f"The last {LAST} cells"
    assert tally.head()[0][3].startswith("luma_drift")  # without motion and consistency, the first two metrics


def test_several_pictures_are_named(make, tmp_path):
    blobs().save(tmp_path / "a.png")
    live = make(image=[examples.path("kite"), tmp_path / "a.png"], seed=0, steps=1, start=True)
    live.wait()
    assert [row[0] for row in live._table.rows] == ["a", "kite"]
    assert live._table.text[0] == 0
