"""The session: what the Explorer does, without any widget."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import svdlab as sl
from svdlab import examples, models
from svdlab.errors import ImageError, ModelError, RequestError, WidgetError
from svdlab.request import MAX_SEED, SETTINGS
from svdlab.widgets.picture import open_picture, open_upload
from svdlab.widgets.session import Session
from svdlab.widgets.source import around, literal, model_values
from svdlab.widgets.worker import Cancelled
from tests.pictures import blobs

SMALL = {"num_frames": 2, "width": 32, "height": 32, "steps": 1}


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def session(pipe):
    return Session(pipe, image="rocket", **SMALL)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def execute(code: str) -> dict[str, Any]:
    """Run generated code here, in the working directory; returns its variables."""
    found: dict[str, Any] = {}
    exec(code, found)
    return found


def run(code: str, folder: Path, then: str) -> str:
    """Run generated code as a person would, in a fresh interpreter; returns what `then` prints."""
    environment = {**os.environ, "PYTHONPATH": str(Path(sl.__file__).parents[1])}
    command = [sys.executable, "-c", f"{code}\n{then}"]
    found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


# Bundled pictures.


def test_examples_are_pictures_with_a_source():
    sources = (Path(examples.__file__).parent / "SOURCES.md").read_text()
    assert set(examples.names()) >= {"kite", "rocket"}
    for name in examples.names():
        assert sl.load_image(examples.path(name)).width >= 256
        assert f"## {examples.path(name).name}" in sources


def test_an_unknown_example_is_named_with_what_there_is():
    with pytest.raises(ImageError, match=r"name = 'rockt': no example .* kite, rocket. Did you mean 'rocket'"):
        examples.path("rockt")


# Model.


def test_without_a_model_the_first_of_the_catalogue_is_taken_and_not_loaded():
    session = Session()
    assert session.model == models.names()[0]
    assert session.pipe is None
    assert session.load() is session.load()


def test_settings_left_open_follow_the_model(pipe):
    session = Session(pipe, fps=7)
    session.use_model("svd-xt")
    assert (session.values["width"], session.values["fps"], session.values["schedule"]) == (1024, 7, "karras")
    session.use_model(pipe.name)
    assert session.pipe is pipe  # the object that was given, not another copy
    assert session.values["width"] == 64


def test_a_model_that_does_not_go_with_the_settings_is_refused_and_nothing_changes(pipe):
    session = Session("svd-xt", image="kite", decode_chunk=20)
    with pytest.raises(RequestError, match="decode_chunk = 20"):
        session.use_model("svd")
    assert session.model == "svd-xt"


def test_an_unknown_model_is_named(session):
    with pytest.raises(ModelError, match="tiny-randm"):
        session.use_model("tiny-randm")
    assert session.model == "tiny-random"


# Pictures.


def test_a_picture_is_prepared_as_the_model_sees_it(session):
    session.set(width=48, height=32)
    assert session.prepared().size == (48, 32)
    assert Session("tiny-random").prepared() is None


def test_a_bad_picture_leaves_the_former(session):
    before = session.picture
    with pytest.raises(ImageError, match="there is no file"):
        session.use_picture("nowhere.png")
    assert session.picture is before


def test_a_file_goes_before_an_example_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_picture("rocket").example == "rocket"
    blobs(16, 16).save(tmp_path / "rocket", "PNG")
    assert open_picture("rocket").image.size == (16, 16)


def test_an_upload_keeps_its_bytes_and_a_harmless_name(tmp_path):
    data = png(blobs(20, 10))
    picture = open_upload("../../etc/a b\n'\".png", data)
    assert picture.image.size == (20, 10)
    assert picture.label == "a b'\".png"
    assert picture.file == "a-b.png"
    assert picture.save(tmp_path / "out.png").read_bytes() == data


def test_an_upload_that_is_no_picture_is_called_by_its_name():
    with pytest.raises(ImageError, match=r"^image: 'notes.txt' looks like") as caught:
        open_upload("C:\\notes.txt", b"hello")
    assert "data:" not in str(caught.value)
    with pytest.raises(ImageError, match=r"'empty.png' is empty"):
        open_upload("empty.png", b"")


def test_an_animation_gives_its_first_frame_with_a_note():
    buffer = io.BytesIO()
    blobs(8, 8).save(buffer, "GIF", save_all=True, append_images=[blobs(8, 8, seed=1)])
    assert "more than one frame" in open_upload("a.gif", buffer.getvalue()).notes[0]
    assert "'a.gif'" in open_upload("a.gif", buffer.getvalue()).notes[0]


@given(st.text())
@settings(max_examples=50)
def test_any_name_of_an_upload_gives_one_line_and_a_plain_file_name(name):
    picture = open_upload(name, png(blobs(8, 8)))
    assert len(picture.label.splitlines()) == 1
    assert picture.file.isascii()
    assert "/" not in picture.file
    assert picture.file.endswith(".png")


# Settings.


def test_settings_are_checked_all_or_none(session):
    with pytest.raises(RequestError, match="motion_bucket_id = 5000"):
        session.set(fps=8, motion_bucket_id=5000)
    assert session.values["fps"] == 10
    with pytest.raises(RequestError, match="Did you mean 'motion_bucket_id'"):
        session.set(motion_bucket=1)
    with pytest.raises(RequestError, match="there is no such setting"):
        session.set(bucket=None)
    with pytest.raises(RequestError, match="width = 33: this model needs a multiple of 8"):
        session.set(width=33)


def test_a_warning_is_told_once_and_not_printed(session):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = session.set(motion_bucket_id=300)
        assert len(notes) == 1
        assert "trained up to 255" in notes[0]
        session.generate()


def test_none_gives_a_setting_back_to_the_model(session):
    session.set(gamma=0.5)
    session.set(gamma=None, width=None)
    assert session.values["gamma"] == 1.0
    assert session.values["width"] == 64
    assert session.settings == {"num_frames": 2, "height": 32, "steps": 1}


# Seeds.


def test_every_clip_gets_a_seed_of_its_own_unless_it_is_locked(session):
    seeds = [session.generate().seed for _ in range(3)]
    assert len(set(seeds)) == 3
    assert session.seed == seeds[-1]
    session.locked = True
    assert session.generate().seed == seeds[-1]


def test_a_seed_that_was_chosen_is_used_by_the_next_clip(session):
    session.set(seed=7)
    assert [session.generate().seed == 7, session.generate().seed == 7] == [True, False]
    drawn = session.draw_seed()
    assert session.generate().seed == drawn


def test_an_order_that_came_to_nothing_keeps_its_seed(session):
    session.generate()
    seed = session.order().request.seed
    with pytest.raises(Cancelled):
        session.generate(stop=lambda: True)
    assert session.generate().seed == seed


# Clips.


def test_a_clip_is_what_the_pipeline_makes(session, pipe):
    session.set(seed=3)
    clip = session.generate()
    same = pipe(examples.path("rocket"), seed=3, **SMALL)
    assert np.array_equal(clip.frames, same.frames)


def test_steps_are_seen_and_stopping_takes_effect_at_the_next(session, hook):
    calls, seen = [], []
    hook(lambda: calls.append(1))
    session.set(steps=4)
    with pytest.raises(Cancelled):
        session.generate(on_step=seen.append, stop=lambda: len(seen) == 2)
    assert [preview.k for preview in seen] == [0, 1]
    assert len(calls) == 2
    assert session.history == []
    assert session.generate().request.steps == 4  # usable as before


@pytest.fixture
def hook(pipe):
    handles = []
    yield lambda function: handles.append(pipe.components.unet.register_forward_pre_hook(lambda *_: function()))
    for handle in handles:
        handle.remove()


def test_without_a_picture_it_says_what_to_do(pipe):
    with pytest.raises(ImageError, match="Drop or choose a picture"):
        Session(pipe).generate()


def test_the_history_keeps_the_newest_and_the_pinned(pipe):
    session = Session(pipe, image="kite", keep=2, **SMALL)
    session.generate()
    session.pin(0)
    for _ in range(3):
        session.generate()
    assert [entry.number for entry in session.history] == [1, 3, 4]
    session.pin(0, False)
    session.generate()
    assert [entry.number for entry in session.history] == [4, 5]


def test_wrong_places_in_the_history_are_named(session):
    with pytest.raises(WidgetError, match="there is no clip yet"):
        session.entry()
    session.generate()
    with pytest.raises(WidgetError, match=r"i = 1: must be a whole number from 0 to 0"):
        session.entry(1)
    with pytest.raises(WidgetError, match="keep = 0"):
        Session(keep=0)


def test_two_clips_are_compared_by_what_differs(session):
    session.locked = True
    session.set(motion_bucket_id=32)
    session.generate()
    session.set(motion_bucket_id=200)
    session.generate()
    clips, labels = session.compare(0)
    assert labels == ("#1 motion_bucket_id=32", "#2 motion_bucket_id=200")
    assert clips[1] is session.history[-1].clip


def test_restoring_a_clip_makes_it_again(session):
    session.set(motion_bucket_id=50, seed=9)
    first = session.generate()
    session.use_picture("kite")
    session.set(motion_bucket_id=None, width=64, height=None)
    session.generate()
    session.restore(0)
    assert session.picture.label == "rocket"
    assert session.settings == {"motion_bucket_id": 50, **SMALL, "decode_chunk": 2}
    assert np.array_equal(session.generate().frames, first.frames)


def test_decoding_time_is_known_for_clips_of_the_same_size(session):
    assert session.decode_seconds() is None
    clip = session.generate()
    assert session.decode_seconds() == clip.seconds["decode"]
    session.set(num_frames=3)
    assert session.decode_seconds() is None


# Code.


def test_code_makes_the_same_clip_again_in_a_fresh_interpreter(session, tmp_path):
    session.set(motion_bucket_id=77, gamma=0.5, schedule="karras")
    clip = session.generate()
    told = run(session.code(), tmp_path, "print(clip.request.settings()); clip.frames.tofile('frames')")
    assert told == str(clip.request.settings())
    assert (tmp_path / "frames").read_bytes() == clip.frames.tobytes()
    assert (tmp_path / "clip-1.mp4").exists()


def test_code_names_paths_as_they_were_given(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'a "quoted" \\ name.png'
    blobs().save(path)
    session = Session(pipe, image=path, **SMALL)
    session.generate()
    assert np.array_equal(execute(session.code())["clip"].frames, session.history[0].clip.frames)


def test_code_of_an_upload_says_to_save_it_first(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = Session(pipe, image=open_upload("my cat\n.png", png(blobs())), **SMALL)
    clip = session.generate()
    code = session.code()
    assert '# The picture "my cat.png" is only in the Explorer: save it first, as "my-cat.png" here, with' in code
    assert '#     explorer.save_picture("my-cat.png")' in code
    session.save_picture("my-cat.png")
    assert np.array_equal(execute(code)["clip"].frames, clip.frames)


def test_code_says_only_what_is_not_the_models_own(session):
    session.set(seed=5)
    session.generate()
    code = session.code()
    assert "schedule" not in code
    assert "decode_chunk" not in code
    assert "num_frames=2" in code
    assert 'sl.load("tiny-random")' in code


def test_sweep_code_runs_and_holds_the_clip_itself(session, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session.set(seed=MAX_SEED)
    clip = session.generate()
    code = session.sweep_code(vary=("motion_bucket_id",)).replace("pipe, ", "pipe, metrics=[], progress=False, ")
    assert "motion_bucket_id=[63, 127, 254]" in code
    found = execute(code)
    df, sweep = found["df"], found["sweep"]
    assert len(df) == 6
    cell = df[(df.motion_bucket_id == 127) & (df.seed == MAX_SEED)].cell.iloc[0]
    assert np.array_equal(sweep.clip(cell, pipe=found["pipe"]).frames, clip.frames)


def test_what_cannot_be_varied_is_refused(session):
    session.generate()
    for name in ("seed", "schedule", "bucket"):
        with pytest.raises(RequestError, match=f"vary = '{name}'"):
            session.sweep_code(vary=(name,))


@given(st.sampled_from([name for name in SETTINGS if name not in ("seed", "schedule")]), st.data())
@settings(max_examples=60)
def test_values_around_a_setting_are_allowed_and_hold_it(name, data):
    from svdlab.request import Request, bounds

    own = model_values(models.info("tiny-random").defaults)
    low, high = bounds(name)
    whole = isinstance(own[name], int)
    value = data.draw(st.integers(int(low), int(high)) if whole else st.floats(low, high))
    try:
        Request(image="x", **{**own, name: value})
    except (RequestError, Warning):
        return
    values = around(name, {**own, name: value})
    assert value in values
    assert values == sorted(set(values))
    for other in values:
        Request(image="x", **{**own, name: other})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_as_code_is_one_line_that_gives_it_back(text):
    import ast

    assert ast.literal_eval(literal(text)) == text
    assert "\n" not in literal(text)


def test_data_addresses_are_not_put_into_code(pipe):
    address = "data:image/png;base64," + base64.b64encode(png(blobs())).decode()
    session = Session(pipe, image=address, **SMALL)
    session.generate()
    assert "base64" not in session.code()
