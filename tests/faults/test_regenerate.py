"""The manifest of any cell makes it again, and what is not as it was is said."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

import svdlab as sl
from svdlab.cli import app
from svdlab.errors import ImageError, SweepError
from svdlab.files import sha256_file
from svdlab.sweep.artifacts import LATENTS, MANIFEST, cell_path
from svdlab.sweep.provenance import versions
from svdlab.sweep.regenerate import regenerate


def keys(run):
    return list(sl.open_sweep(run).frame()["cell"])


def rewrite(path, **changes):
    """Change parts of a manifest that do not enter the key of its cell."""
    manifest = json.loads(path.read_text())
    for name, value in changes.items():
        manifest[name] = manifest[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(manifest))


def test_any_cell_is_made_again_to_the_bit_from_each_of_its_names(finished, pipe):
    for key in keys(finished):
        made = regenerate(finished / cell_path(key), pipe=pipe)
        assert (made.cell, made.same, made.largest, made.differences) == (key, True, 0.0, ())
        assert made.clip.request.settings() == sl.open_sweep(finished).manifest(key)["request"]
    for name in (finished / cell_path(key) / MANIFEST, finished / key[:6]):
        assert str(regenerate(name, pipe=pipe)) == (
            f"cell {key}: latents bit-identical to the stored ones\nnothing that was recorded differs"
        )
    assert sl.open_sweep(finished).regenerate(key, pipe=pipe).same


def test_what_is_not_as_it_was_is_said_and_the_clip_is_made_all_the_same(run, pipe):
    place = run / cell_path(keys(run)[0])
    rewrite(
        place / MANIFEST, versions={"torch": "2.0.0"}, machine={"threads": "64"}, model={"device": "cuda:7"}, batch=4
    )
    made = regenerate(place, pipe=pipe)
    assert made.same
    said = "\n".join(made.differences)
    assert f"torch: 2.0.0 then, {versions()['torch']} now" in said
    assert f"threads: 64 then, {torch.get_num_threads()} now" in said
    assert "device: cuda:7 then, cpu now" in said
    assert "batch: 4 cells together then, 1 now" in said


def test_other_weights_are_said_and_seen(run, pipe):
    key = keys(run)[0]
    other = sl.load("tiny-random", device="cpu")
    other.components.unet.conv_out.bias.data.add_(0.5)
    made = regenerate(run / key, pipe=other)
    assert made.same is False
    assert made.largest > 0.1
    assert "latents differ from the stored ones by up to" in str(made)
    rewrite(run / cell_path(key) / MANIFEST, model={"revision": "abc"})
    assert regenerate(run / key, pipe=pipe).same  # a revision is a name, weights are told by their fingerprint


def test_a_manifest_alone_takes_the_picture_and_compares_with_nothing(finished, pipe, home, tmp_path):
    key = keys(finished)[0]
    alone = shutil.copy(finished / cell_path(key) / MANIFEST, tmp_path / "one.json")
    with pytest.raises(SweepError, match="its picture is not in a folder `images` above it"):
        regenerate(alone, pipe=pipe)
    with pytest.raises(SweepError, match="has other pixels than the picture of this cell"):
        regenerate(alone, image=home / "pictures" / "kite.png", pipe=pipe)
    with pytest.raises(ImageError):
        regenerate(alone, image=tmp_path / "missing.png", pipe=pipe)
    made = regenerate(alone, image=home / "pictures" / "rocket.png", pipe=pipe)
    assert (made.same, made.differences) == (None, ())
    assert "nothing was compared" in str(made)


def test_what_is_no_cell_is_refused_in_words(run, tmp_path, pipe):
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(SweepError, match="is not the manifest of a cell"):
        regenerate(tmp_path / "list.json", pipe=pipe)
    with pytest.raises(SweepError, match="is no cell"):
        regenerate(tmp_path, pipe=pipe)
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        regenerate(tmp_path / "3f2a", pipe=pipe)
    with pytest.raises(SweepError, match="zzzz"):
        regenerate(run / "zzzz", pipe=pipe)
    key = keys(run)[0]
    latents = run / cell_path(key) / LATENTS
    data = bytearray(latents.read_bytes())
    data[-1] ^= 255
    latents.write_bytes(data)
    with pytest.raises(SweepError, match="has other bytes than were written"):
        regenerate(run / key, pipe=pipe)


def test_the_command_writes_the_clip_that_was_stored(finished, run, tmp_path):
    runner = CliRunner()
    key, out = keys(finished)[0], tmp_path / "again.mp4"
    again = ["generate", "--from-manifest", str(run / key), "-o", str(out), "--device", "cpu"]
    done = runner.invoke(app, again)
    assert done.exit_code == 0, done.output
    assert "latents bit-identical to the stored ones" in done.stdout
    assert sha256_file(out) == sha256_file(finished / cell_path(key) / "clip.mp4")
    refused = runner.invoke(app, [*again, "--steps", "3", "--cond-aug", "0"])
    assert "--cond-aug, --steps: with --from-manifest all settings are the cell's" in str(refused.exception)
    other = shutil.copy(run / cell_path(keys(run)[1]) / LATENTS, run / cell_path(key) / LATENTS)
    rewrite(
        run / cell_path(key) / MANIFEST,
        files={LATENTS: {"bytes": other.stat().st_size, "sha256": sha256_file(other)}},
    )
    changed = runner.invoke(app, again)
    assert changed.exit_code == 1
    assert "latents differ from the stored ones by up to" in changed.stdout
