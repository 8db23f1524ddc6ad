"""Spec: TOML and Python come to the same checked object; every mistake is named with its place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from svdlab.errors import ImageError, MetricError, ModelError, SpecError
from svdlab.sweep import plan_spec
from svdlab.sweep.spec import make_spec, read_spec, stored_spec

GOOD = """
name = "first"
model = "tiny-random"
images = ["pictures/*.png"]
metrics = ["flow_mean"]
timing = "isolated"

[grid]
steps = [1, 2]
cond_aug = "0..0.2:0.1"
seed = 3

[fixed]
fps = 8

[engine]
kind = "local"
"""


@pytest.fixture
def write(tmp_path, pictures):
    def write(text: str):
        path = tmp_path / "first.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_reads_a_file(write, pictures):
    spec = read_spec(write(GOOD))
    assert (spec.name, spec.model, spec.timing, spec.engine.kind) == ("first", "tiny-random", "isolated", "local")
    assert spec.images == (str(pictures / "kite.png"), str(pictures / "rocket.png"))
    assert dict(spec.grid.axes) == {"cond_aug": (0.0, 0.1, 0.2), "seed": (3,), "steps": (1, 2)}
    assert dict(spec.grid.fixed) == {"fps": 8}
    assert spec.metrics == ("flow_mean",)


def test_python_gives_the_same_spec(write, pictures):
    spec = make_spec(
        name="first",
        model="tiny-random",
        images="*.png",
        base=pictures,
        grid={"steps": [1, 2], "cond_aug": "0..0.2:0.1", "seed": 3},
        fixed={"fps": 8},
        metrics=["flow_mean"],
        timing="isolated",
    )
    assert spec == read_spec(write(GOOD))


def test_what_may_be_left_out(write):
    spec = read_spec(write('model = "tiny-random"\nimages = "pictures/kite.png"\n'))
    assert (spec.name, spec.metrics, spec.timing, len(spec.grid)) == ("first", None, "shared", 1)
    assert read_spec(write('model = "m"\nimages = "pictures/kite.png"\nmetrics = "default"')).metrics is None
    assert read_spec(write('model = "m"\nimages = "pictures/kite.png"\nmetrics = []')).metrics == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("timing", "timming", r"first\.toml:6: timming: there is no such key\. Did you mean 'timing'\?"),
        ("[engine]", "[emgine]", r"first\.toml:16: emgine: there is no such key\. Did you mean 'engine'\?"),
        ('kind = "local"', "gpus = 2", r"first\.toml:17: \[engine\] gpus: there is no such key"),
        ('kind = "local"', 'kind = "dask"', r"first\.toml:17: \[engine\] kind = 'dask': must be 'local'"),
        ("steps = [1, 2]", "steps = [1, 0]", r"first\.toml:9: \[grid\] steps = 0: must be a whole number"),
        ("steps = [1, 2]", "steps = [1, 1]", r"first\.toml:9: \[grid\] steps: the value 1 is listed twice"),
        ("steps = [1, 2]", "stepz = [1, 1]", r"first\.toml:9: \[grid\] stepz.*Did you mean 'steps'"),
        ("steps = [1, 2]", "steps = []", r"first\.toml:9: \[grid\] steps = \[\]: an axis needs"),
        ("steps = [1, 2]", "fps = [8]", r"first\.toml:9: \[grid\] fps: is an axis and fixed"),
        ('"0..0.2:0.1"', '"0..0.2"', r"first\.toml:10: \[grid\] cond_aug = '0..0.2': 0..0.2 needs a step"),
        ("fps = 8", "fps = [8]", r"first\.toml:14: \[fixed\] fps = \[8\]: a fixed setting has one value"),
        ("fps = 8", "fps = 0.5", r"first\.toml:14: \[fixed\] fps = 0.5: must be a whole number from 1 to 60"),
        ('"first"', '"../first"', r"first\.toml:2: name = '\.\./first': must begin"),
        ('"first"', "3", r"first\.toml:2: name = 3: must begin"),
        ('"tiny-random"', '""', r"first\.toml:3: model = '': must be"),
        ('"isolated"', '"alone"', r"first\.toml:6: timing = 'alone': must be one of 'shared', 'isolated'"),
        ('"isolated"', "[1]", r"first\.toml:6: timing = \[1\]: must be one of"),
        ('["flow_mean"]', '"flow_mean"', r"first\.toml:5: metrics = 'flow_mean': must be a list"),
        ('["flow_mean"]', "[3]", r"first\.toml:5: metrics = \[3\]: must be a list"),
        ('["flow_mean"]', "7", r"first\.toml:5: metrics = 7: must be a list"),
        ('["flow_mean"]', '["a", "a"]', r"first\.toml:5: metrics: 'a' is listed twice"),
        ("*.png", "*.jpg", r"first\.toml:4: images: no file matches 'pictures/\*\.jpg' in "),
        ("*.png", "kitte.png", r"first\.toml:4: images: there is no file 'pictures/kitte.png'.*'kite.png'"),
        ('*.png"', '*.png", "pictures/kite.png"', r"first\.toml:4: images: .*kite.png' is listed twice"),
        ('["pictures/*.png"]', "[]", r"first\.toml:4: images = \[\]: a sweep needs"),
        ('["pictures/*.png"]', "[1]", r"first\.toml:4: images: 1 \(int\) is not a picture"),
        ('["pictures/*.png"]', "4", r"first\.toml:4: images = 4: must be a path"),
        ('images = ["pictures/*.png"]', "", r"first\.toml: images is missing"),
        ('model = "tiny-random"', "", r"first\.toml: model is missing"),
        ("[fixed]\nfps = 8", "", None),
        ("[grid]", "", r"first\.toml:9: steps: there is no such key\. It is a setting: put it under \[grid\]"),
        ("[grid]", "[grid", r"first\.toml: is not valid TOML: .*line 8"),
    ],
)
def test_mistakes_are_named_with_file_line_and_key(write, old, new, words):
    assert old in GOOD
    path = write(GOOD.replace(old, new))
    if words is None:
        assert not read_spec(path).grid.fixed
        return
    with pytest.raises(SpecError, match=words):
        read_spec(path)


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("fps = 8", "width = 65", SpecError, r"first\.toml:14: \[fixed\] width = 65: this model needs a multiple of 8"),
        ("steps = [1, 2]", "height = [64, 66]", SpecError, r"first\.toml:9: \[grid\] height = 66: this model needs"),
        ("flow_mean", "flow_maen", MetricError, r"first\.toml:5: .*flow_maen"),
        ("tiny-random", "tiny-rundom", ModelError, r"first\.toml:3: model = 'tiny-rundom': .*tiny-random"),
        ("*.png", "text.png", ImageError, r"first\.toml:4: image: .*text\.png.* looks like"),
    ],
)
def test_mistakes_that_take_the_model_to_see_are_named_with_file_line_and_key_too(
    write, tmp_path, old, new, kind, words
):
    path = write(GOOD.replace(old, new))
    (tmp_path / "pictures" / "text.png").write_text("no picture")
    if new != "text.png":
        path.write_text(path.read_text().replace("*.png", "kite.png"))
    with pytest.raises(kind, match=words):
        plan_spec(path, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_line_belongs_to_the_table(write):
    """The same name elsewhere in the file does not mislead; other spellings go without a line."""
    path = write('model = "m"\nimages = "pictures/kite.png"\n[fixed]\nsteps = 2\n[grid]\n"seed" = [-1]\n')
    with pytest.raises(SpecError, match=r"first\.toml:6: \[grid\] seed = -1"):
        read_spec(path)
    path = write('model = "m"\nimages = "pictures/kite.png"\ngrid = { steps = [0] }\n')
    with pytest.raises(SpecError, match=r"first\.toml: \[grid\] steps = 0"):
        read_spec(path)


def test_a_table_must_be_one(write):
    with pytest.raises(SpecError, match=r"first\.toml:3: grid = 3: must be a table, \[grid\]"):
        read_spec(write('model = "m"\nimages = "pictures/kite.png"\ngrid = 3\n'))


def test_unreadable_files(tmp_path):
    with pytest.raises(SpecError, match=r"none\.toml: cannot be read \(No such file"):
        read_spec(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(SpecError, match="not UTF-8"):
        read_spec(tmp_path / "latin.toml")


def test_python_takes_pictures_from_memory():
    array = np.zeros((16, 16, 3), np.uint8)
    image = Image.new("RGB", (16, 16))
    assert make_spec(images=array, grid={}).images[0] is array
    assert make_spec(images=[image, array], grid={}).images[0] is image
    assert make_spec(images=["https://example.org/a.png", "data:image/png;base64,AA"], grid={}).images == (
        "https://example.org/a.png",
        "data:image/png;base64,AA",
    )


def test_a_stored_spec_needs_a_run_directory(tmp_path):
    with pytest.raises(SpecError, match="not the directory of a sweep"):
        stored_spec(tmp_path)
    (tmp_path / "spec.json").write_text(json.dumps({"name": "a"}), encoding="utf-8")
    with pytest.raises(SpecError, match="cannot be read as a stored spec"):
        stored_spec(tmp_path)
