"""`svdlab train` and `svdlab distill`, as a shell would call them: a whole small teacher, and a student of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import svdlab as sl
from svdlab.cli import app
from svdlab.errors import TrainingError
from tests.pictures import blobs

LOOP = '{ steps = 2, warmup = 1, averages = [0.9], device = "cpu" }'
RECIPE = f"""
name = "small"
size = 32
num_frames = 3

[unet]
channels = [96, 64]
attention = [true, false]
embedding = 32

[decoder]
frames = 2
pca_clips = 4
upsampling_steps = 20
loop = {LOOP}

[[stages]]
world = "easy"
batch = 1
loop = {LOOP}
"""
SETTINGS = f"""
batch = 1
max_guidance = [1.0, 1.0]
min_guidance = [1.0, 1.0]
loop = {LOOP}
"""


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.slow
def test_a_teacher_is_trained_and_a_student_distilled_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE)
    Path("settings.toml").write_text(SETTINGS)
    result = run("train", "recipe.toml", "--out", "teacher")
    assert result.exit_code == 0, result.output
    assert "teacher: teacher/model" in result.output
    result = run(
        *("distill", "--teacher", "teacher/model", "--data", "world", "--settings", "settings.toml", "--out", "student")
    )
    assert result.exit_code == 0, result.output
    student = sl.load("student/student", device="cpu")
    assert (student.defaults.schedule, student.defaults.gamma, student.notice) == ("animatelcm", 1.0, None)
    assert student(blobs(32, 32), steps=2, seed=0).frames.shape == (3, 32, 32, 3)
    again = run("train", "recipe.toml", "--out", "teacher")
    assert again.exit_code == 0  # finished already: nothing is trained twice


def test_settings_that_do_not_exist_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE.replace("num_frames", "num_frame"))
    result = run("train", "recipe.toml", "--out", "teacher")
    assert isinstance(result.exception, TrainingError)
    assert "there is no setting 'num_frame'" in str(result.exception)
    result = run("distill", "--teacher", "tiny-random", "--data", "world", "--settings", "none.toml", "--out", "x")
    assert "none.toml: cannot be read" in str(result.exception)
    assert not Path("x").exists()
