"""The frozen specifications of the questions: each is one that `svdlab sweep` takes."""

from __future__ import annotations

import re

import pytest

import svdlab as sl
from answers.questions import QUESTIONS
from answers.runs import adapt, size_of
from answers.scenes import DECIDED, read_scenes
from svdlab.models import info
from svdlab.sweep import plan_spec, read_spec
from svdlab.sweep.partners import SAMPLER
from tests.experiments.conftest import EXPERIMENTS

FILES = [file for name, question in QUESTIONS.items() for file in question.specs(name)]


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.mark.parametrize("file", FILES)
def test_it_plans_as_it_stands(file, pipe, tmp_path):
    spec = read_spec(EXPERIMENTS / file)
    plan = plan_spec(spec, pipe=pipe, out=tmp_path / "run")
    assert spec.name == file.removesuffix(".toml")
    assert 10 < plan.total == len(spec.images) * len(spec.grid) <= 250  # five minutes at about a second each
    assert plan.todo == plan.total
    assert spec.grid.fixed["fps"] == 10  # at which the truth is rendered
    assert "seed" in spec.grid.axes
    assert not (tmp_path / "run").exists()


def test_the_table_says_how_many_cells(pipe):
    rows = re.findall(r"\| `(\w+)\.toml`(?:, `[\w-]+\.toml`)? \| ([\d +]+) \|", (EXPERIMENTS / "README.md").read_text())
    counted = {
        name: [
            len(spec.images) * len(spec.grid)
            for spec in (read_spec(EXPERIMENTS / file) for file in question.specs(name))
        ]
        for name, question in QUESTIONS.items()
    }
    assert {name: [int(part) for part in cells.split("+")] for name, cells in rows} == counted


@pytest.mark.parametrize("name", [name for name, question in QUESTIONS.items() if question.teacher])
def test_student_and_teacher_make_the_same_clips_but_for_the_sampler(name):
    student, teacher = (read_spec(EXPERIMENTS / file) for file in QUESTIONS[name].specs(name))
    assert student.images == teacher.images
    ours, theirs = (
        {key: value for key, value in {**spec.grid.axes, **spec.grid.fixed}.items() if key not in SAMPLER}
        for spec in (student, teacher)
    )
    assert ours == theirs
    assert student.metrics == teacher.metrics


def test_an_adapted_one_has_the_model_its_size_and_more_metrics(pipe, tmp_path):
    spec = read_spec(EXPERIMENTS / "gamma.toml")
    scenes = read_scenes()
    adapted = adapt(spec, pipe, scenes, metrics=("jerk", "flicker"), only={"seed": (7,), "fps": (7,)})
    assert adapted.model == "tiny-random"
    assert adapted.metrics == (*spec.metrics, "jerk")
    assert adapted.grid.axes["seed"] == (7,)
    assert "fps" not in adapted.grid.fixed
    assert adapted.images == tuple(str(scenes.files[label]) for label in DECIDED)
    assert "width" not in adapted.grid.fixed


@pytest.mark.parametrize(("name", "size"), [("tiny-random", 64), ("svd-xt", 512), ("animatelcm-svd-xt-1.1", 512)])
def test_models_are_asked_for_square_clips(name, size):
    assert size_of(info(name).defaults) == (size, size)
