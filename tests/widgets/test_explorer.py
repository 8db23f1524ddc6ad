"""The Explorer without a browser: what is pressed and typed is asked of its parts, what is shown is read from them."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image

import svdlab as sl
from svdlab import examples, models
from svdlab.errors import ImageError, RequestError, WidgetError
from svdlab.images import MAX_BYTES
from svdlab.request import SETTINGS, Defaults, Request, bounds
from svdlab.widgets.explorer import Explorer
from svdlab.widgets.fields import build_fields, read_value, shown_values
from svdlab.widgets.glance import moving_picture, page_width
from svdlab.widgets.parts import Work
from tests.pictures import blobs
from tests.widgets.test_session import png

SMALL = {"num_frames": 2, "width": 32, "height": 32, "steps": 2}
PATIENCE = 60


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def explorer(pipe):
    explorer = Explorer(pipe, image="rocket", **SMALL)
    yield explorer
    explorer._worker.close(PATIENCE)
    explorer.close()


@pytest.fixture
def gate(pipe):
    """Holds every denoiser call until it is opened; `gate.reached` tells that a call is waiting."""

    class Gate(threading.Event):
        reached = threading.Event()

    gate = Gate()

    def wait(*_):
        gate.reached.set()
        assert gate.wait(PATIENCE)

    handle = pipe.components.unet.register_forward_pre_hook(wait)
    yield gate
    gate.set()
    handle.remove()


@pytest.fixture
def hook(pipe):
    handles = []
    yield lambda function: handles.append(pipe.components.unet.register_forward_pre_hook(lambda *_: function()))
    for handle in handles:
        handle.remove()


def type_in(explorer, **values):
    for name, value in values.items():
        explorer._form.ask("set", name=name, value=value)


# The form.


def test_every_setting_has_a_field_with_bounds_and_defaults_of_its_model():
    defaults = models.info("svd-xt").defaults
    fields = {field["name"]: field for field in build_fields(defaults)}
    assert set(fields) == set(SETTINGS)
    for name, field in fields.items():
        if field["slider"]:
            low, high, step = field["slider"]
            assert bounds(name)[0] <= low < high <= bounds(name)[1]
            assert step > 0
    assert "0 to 1023; the model's own: 127" in fields["motion_bucket_id"]["hint"]
    assert "the model's own: 3.0" in fields["max_guidance"]["hint"]
    assert fields["steps"]["slider"] == [1, 50, 1]  # a teacher wants more steps than a student
    assert build_fields(Defaults(num_frames=25, width=64, height=64))[2]["slider"] == [1, 8, 1]


def test_seeds_travel_as_text():
    assert shown_values({"seed": 2**63 - 1, "fps": 3}) == {"seed": "9223372036854775807", "fps": 3}
    assert read_value("seed", "9223372036854775807") == 2**63 - 1
    for odd in ("-1", "1.5", "", "٣", "9" * 40, None, 7):
        assert read_value("seed", odd) == odd


def test_what_is_typed_reaches_the_session_and_comes_back(explorer):
    type_in(explorer, motion_bucket_id=200, cond_aug=1, seed="42")
    assert explorer.session.values["motion_bucket_id"] == 200
    assert explorer._form.values["cond_aug"] == 1.0
    assert explorer._form.values["seed"] == "42"
    type_in(explorer, motion_bucket_id=None)
    assert explorer._form.values["motion_bucket_id"] == Request.model_fields["motion_bucket_id"].default


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("motion_bucket_id", 5000, "must be a whole number from 0 to 1023"),
        ("steps", 2.5, "must be a whole number"),
        ("cond_aug", "much", "must be a number from 0 to 10"),
        ("seed", "forty", "must be a whole number from 0 to 2^63 - 1"),
        ("width", 33, "needs a multiple of 8"),
        ("schedule", "cosine", "one of 'animatelcm', 'even', 'karras'"),
        ("bucket", 1, "there is no such setting"),
    ],
)
def test_what_cannot_be_is_refused_in_words_and_generate_says_so(explorer, name, value, words):
    before = explorer.session.values
    type_in(explorer, **{name: value})
    assert words in explorer._form.refused[name]
    assert explorer.session.values == before
    explorer._work.ask("begin")
    assert words in explorer._work.problem
    assert not explorer.busy
    type_in(explorer, **{name: before.get(name)})
    assert explorer._form.refused == {} or name == "bucket"


def test_values_that_go_only_together_are_taken_together(explorer):
    type_in(explorer, max_guidance=2)
    type_in(explorer, min_guidance=3)
    assert "must not exceed max_guidance" in explorer._form.refused["min_guidance"]
    type_in(explorer, max_guidance=4)
    assert explorer._form.refused == {}
    assert (explorer.session.values["min_guidance"], explorer.session.values["max_guidance"]) == (3.0, 4.0)


def test_a_warning_is_shown_as_a_note_and_goes_again(explorer):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        type_in(explorer, motion_bucket_id=300)
    assert any("trained up to 255" in note for note in explorer._work.notes)
    type_in(explorer, motion_bucket_id=200)
    assert not any("trained up to 255" in note for note in explorer._work.notes)


def test_dice_lock_and_reset(explorer):
    type_in(explorer, seed="nonsense")
    explorer._form.ask("dice")
    assert explorer._form.refused == {}
    assert explorer._form.values["seed"] == str(explorer.session.seed)
    explorer._form.ask("lock", locked=True)
    assert explorer.session.locked
    explorer._form.ask("reset")
    assert explorer.session.settings == {}
    assert explorer._form.values["num_frames"] == 25


def test_another_model_brings_its_own_values_and_says_what_it_would_download(explorer):
    explorer._form.ask("model", name="svd")
    assert explorer._work.begin == "Download 4.5 GB and generate"
    assert explorer._form.values["schedule"] == "karras"
    labels = dict(explorer._form.models)
    assert labels["svd"] == "svd (not on this machine, 4.5 GB)"
    assert labels["tiny-random"] == "tiny-random"
    explorer._form.ask("model", name="tiny-random")
    assert explorer._work.begin == "Generate"
    explorer._form.ask("model", name="tiny-randm")
    assert "tiny-randm" in explorer._form.refused["model"]


def test_a_model_that_cannot_be_loaded_says_so_in_the_widget(explorer):
    explorer._form.ask("model", name="svd")  # not here, and tests may not reach for a hub
    explorer._work.ask("begin")
    explorer._worker.job.wait(PATIENCE)
    assert "HF_HUB_OFFLINE=1 forbids the network" in explorer._work.problem
    assert not explorer._work.busy
    explorer.set(model="tiny-random")
    assert explorer.generate(wait=True) is not None


# Pictures.


def upload(explorer, name, data, pieces=1):
    size = -(-len(data) // pieces) or 1
    for index in range(pieces):
        part = memoryview(data[index * size : (index + 1) * size])
        explorer._well.ask("upload", [part], id="u1", name=name, index=index, count=pieces)


def test_an_upload_comes_in_pieces(explorer):
    upload(explorer, "cat.png", png(blobs(40, 20)), pieces=3)
    assert explorer.session.picture.image.size == (40, 20)
    assert explorer._well.caption == "cat.png, 40 x 20; the model sees 32 x 32"
    assert explorer._well.thumb.startswith(b"\x89PNG")


def test_a_bad_upload_says_so_and_the_former_picture_stays(explorer):
    upload(explorer, "<b>notes</b>.txt", b"hello")
    assert "'<b>notes<" in explorer._well.problem or "'b>.txt' looks like" in explorer._well.problem
    assert explorer.session.picture.label == "rocket"
    explorer._well.ask("example", name="kite")
    assert explorer._well.problem == ""
    assert explorer.session.picture.example == "kite"


def test_an_upload_that_never_ends_is_refused(explorer):
    piece = memoryview(bytes(MAX_BYTES // 2))
    for index in range(3):
        explorer._well.ask("upload", [piece], id="u2", name="big.png", index=index, count=1000)
    assert "larger than the" in explorer._well.problem
    explorer._well.ask("upload", [], id=3, name=None)  # nonsense is ignored
    assert explorer.session.picture.label == "rocket"


def test_paths_and_examples_by_hand(explorer, tmp_path):
    blobs(16, 24).save(tmp_path / "p.png")
    explorer._well.ask("source", text=str(tmp_path / "p.png"))
    assert explorer.session.picture.image.size == (16, 24)
    explorer._well.ask("source", text=str(tmp_path / "nowhere.png"))
    assert "there is no file" in explorer._well.problem
    explorer._well.ask("source", text="rocket")
    assert explorer.session.picture.example == "rocket"


def test_an_address_is_fetched_in_the_background_and_refused_in_words(explorer):
    explorer._well.ask("source", text="http://127.0.0.1:9/a.png")
    explorer._worker.job.wait(PATIENCE)
    assert "127.0.0.1" in explorer._well.problem
    assert explorer.session.picture.label == "rocket"
    assert not explorer._work.busy


def test_the_picture_is_shown_at_the_size_of_the_clip(explorer):
    type_in(explorer, width=64)
    assert explorer._well.caption.endswith("the model sees 64 x 32")


# Making clips.


def test_pressing_generate_makes_a_clip_and_shows_it(explorer):
    type_in(explorer, seed="5")
    explorer._work.ask("begin")
    assert explorer._worker.job.wait(PATIENCE)
    assert explorer.clip.seed == 5
    assert explorer.player.clips == (explorer.clip,)
    assert explorer._stage.children == (explorer.player,)
    assert explorer._work.words.startswith("clip #1 in")
    assert (explorer._work.busy, explorer._work.progress, explorer._work.problem) == (False, None, "")
    assert explorer._strip.items[0]["thumb"].startswith(b"\xff\xd8")
    assert "seed=5" in explorer._strip.items[0]["title"]


def test_it_is_called_without_a_browser(explorer, pipe):
    explorer.set(motion_bucket_id=200, seed=11, image="kite")
    clip = explorer.generate(wait=True)
    same = pipe(examples.path("kite"), motion_bucket_id=200, seed=11, **SMALL)
    assert np.array_equal(clip.frames, same.frames)
    assert explorer.history[0].settings["motion_bucket_id"] == 200
    assert repr(explorer) == "Explorer(tiny-random, kite, 1 clip)"


def test_errors_of_calls_are_raised(explorer, pipe):
    with pytest.raises(RequestError, match="fps = 0"):
        explorer.set(fps=0)
    with pytest.raises(ImageError, match="there is no file"):
        explorer.set(image="nowhere.png")
    with pytest.raises(ImageError, match="there is none yet"):
        Explorer(pipe).generate()


def test_the_seed_is_in_its_box_before_the_clip_is_begun(explorer, gate):
    explorer.generate()
    assert gate.reached.wait(PATIENCE)
    shown = explorer._form.values["seed"]
    gate.set()
    explorer._worker.job.wait(PATIENCE)
    assert str(explorer.clip.seed) == shown


def test_the_preview_sharpens_after_each_step(explorer, pipe):
    seen = []
    explorer._glimpse.observe(lambda change: seen.append((explorer._glimpse.caption, change["new"])), "picture")
    explorer.generate(wait=True)
    assert [caption for caption, _ in seen] == ["preview after step 1 of 2", "preview after step 2 of 2"]
    assert seen[0][1] != seen[1][1]
    assert seen[0][1][8:12] == b"WEBP"


def test_progress_and_words_while_it_works(explorer):
    told = []
    explorer._work.observe(lambda change: told.append(change["new"]), ["progress", "words"])
    explorer.generate(wait=True)
    steps = [value for value in told if isinstance(value, float) and value > 0]
    assert steps == pytest.approx([1 / 3, 2 / 3])
    assert any(isinstance(text, str) and text.startswith("step 1 of 2, about") for text in told)


def test_only_one_at_a_time(explorer, gate):
    explorer.generate()
    assert gate.reached.wait(PATIENCE)
    with pytest.raises(WidgetError, match="a clip is under way"):
        explorer.generate()
    with pytest.raises(WidgetError, match="model: not now"):
        explorer.set(model="svd")
    explorer._work.ask("begin")
    assert "a clip is under way" in explorer._work.problem
    assert explorer._form.busy
    gate.set()
    explorer._worker.job.wait(PATIENCE)
    assert len(explorer.history) == 1


def test_the_caller_is_free_while_it_works(explorer, gate):
    explorer.generate()
    assert gate.reached.wait(PATIENCE)
    type_in(explorer, motion_bucket_id=50)  # for the next clip
    explorer._well.ask("example", name="kite")
    gate.set()
    explorer._worker.job.wait(PATIENCE)
    assert explorer.history[0].settings["motion_bucket_id"] == 127
    assert explorer.history[0].picture.label == "rocket"
    assert explorer.session.picture.label == "kite"


def test_cancel_takes_effect_at_the_next_step_and_leaves_things_usable(explorer, gate):
    first = explorer.session.set(seed=1)
    explorer.generate()
    assert gate.reached.wait(PATIENCE)
    explorer._work.ask("end")
    assert explorer._work.ending
    gate.set()
    explorer._worker.job.wait(PATIENCE)
    assert first == ()
    assert explorer.clip is None
    assert explorer._work.words == "cancelled; nothing of it was kept"
    assert explorer._stage.children == ()
    assert explorer.generate(wait=True).seed == 1  # the seed that came to nothing


def test_cancelled_while_waited_for_gives_none(explorer, gate):
    threading.Timer(0.05, lambda: (gate.reached.wait(PATIENCE), explorer.cancel(), gate.set())).start()
    assert explorer.generate(wait=True) is None


def test_interrupting_the_kernel_cancels(explorer, gate, monkeypatch):
    from svdlab.widgets.worker import Job

    wait = Job.wait

    def interrupted(job, timeout=None):
        monkeypatch.setattr(Job, "wait", wait)
        assert gate.reached.wait(PATIENCE)
        gate.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        explorer.generate(wait=True)
    assert not explorer.busy
    assert explorer.clip is None


def test_memory_that_runs_out_is_said_and_let_go(explorer, hook):
    held = []

    def out_of_memory():
        if not held:
            tensor = torch.zeros(1000)
            held.append(weakref.ref(tensor))
            raise torch.OutOfMemoryError("tried to allocate 20.00 GiB")

    hook(out_of_memory)
    explorer._work.ask("begin")
    explorer._worker.job.wait(PATIENCE)
    assert "Out of memory: tried to allocate 20.00 GiB. The denoiser does not fit for" in explorer._work.problem
    assert "Lower width, height or num_frames" in explorer._work.problem
    gc.collect()
    assert held[0]() is None
    assert explorer.generate(wait=True) is not None
    assert explorer._work.problem == ""


def test_a_fault_is_said_with_its_traceback_kept(explorer, hook):
    hook(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explorer.generate(wait=True)
    assert "Unexpected ZeroDivisionError" in explorer._work.problem
    assert "1 / 0" in explorer.traceback


# The history.


@pytest.fixture
def two(explorer):
    explorer._form.ask("lock", locked=True)
    for bucket in (32, 200):
        explorer.set(motion_bucket_id=bucket)
        explorer.generate(wait=True)
    return explorer


def test_a_click_shows_a_clip_again_with_its_settings(two):
    two._strip.ask("show", number=1)
    assert two.clip is two.history[0].clip
    assert two.player.clips == (two.history[0].clip,)
    assert two._form.values["motion_bucket_id"] == 32
    assert two._strip.current == 1


def test_comparing_puts_both_into_the_player(two):
    two._strip.ask("compare", number=2)  # the last with the one before
    assert two.player.labels == ["#1 motion_bucket_id=32", "#2 motion_bucket_id=200"]
    assert two.player.mode == "wipe"
    two.set(width=64)
    two.generate(wait=True)
    assert two.player.mode == "side"
    two._strip.ask("compare", number=1)
    assert two.player.mode == "side"  # of different sizes
    assert two.player.labels[1] == "#3 motion_bucket_id=200 width=64"


def test_pinning(two):
    two._strip.ask("pin", number=1)
    assert [item["pinned"] for item in two._strip.items] == [True, False]
    two._strip.ask("pin", number=1)
    assert not two.history[0].pinned


def test_code_is_shown_to_be_copied(two):
    two._strip.ask("code", number=1)
    assert two._codebox.title == "Code of clip #1"
    assert two._codebox.code == two.code(0)
    two._strip.ask("sweep", number=2)
    assert two._codebox.code == two.sweep_code()
    two._codebox.ask("close")
    assert two._codebox.code == ""


def test_a_clip_that_was_dropped_is_refused_in_words(two):
    two._strip.ask("show", number=77)
    assert "not in the history any more" in two._work.problem


# As a widget.


def test_in_a_kept_notebook_it_is_a_picture(pipe, monkeypatch):
    monkeypatch.setenv("SVDLAB_DISPLAY", "static")
    bare = Explorer(pipe)
    assert bare._repr_mimebundle_() == {"text/plain": "Explorer(tiny-random, no picture, 0 clips)"}
    assert bare._form.comm is None
    explorer = Explorer(pipe, image="rocket", **SMALL)
    assert explorer._repr_mimebundle_()["image/jpeg"].startswith(b"\xff\xd8")
    assert explorer.static_picture().size == (32, 32)
    explorer.generate(wait=True)
    assert explorer.static_picture().size == explorer.clip.contact_sheet().size
    assert explorer.player.comm is None


def test_it_is_a_widget_that_fits_into_others(explorer):
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()
    assert ipywidgets.HBox([explorer]).children == (explorer,)


def test_closing_ends_the_work_and_takes_every_part_along(pipe, gate):
    explorer = Explorer(pipe, image="kite", **SMALL)
    explorer.generate()
    assert gate.reached.wait(PATIENCE)
    job = explorer._worker.job
    explorer.close()
    gate.set()
    assert job.wait(PATIENCE)
    assert job.state == "cancelled"
    assert all(part.comm is None for part in (*explorer._parts, explorer._page, explorer))


def test_a_part_without_an_owner_raises():
    work = Work()
    work.on("begin", lambda message, buffers: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        work.ask("begin")
    work.ask("nothing")
    work._heard("nonsense", [])


def test_the_moving_picture_holds_every_frame():
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    import io

    picture = Image.open(io.BytesIO(moving_picture(frames, fps=10)))
    assert picture.n_frames == 5
    for index, frame in enumerate(frames):
        picture.seek(index)
        assert np.array_equal(np.asarray(picture.convert("RGB")), frame)


def test_small_clips_are_enlarged_by_a_whole_factor():
    assert [page_width(64, 64), page_width(48, 96), page_width(256, 256), page_width(1024, 576)] == [384, 192, 256, 720]
