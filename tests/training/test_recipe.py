from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import TrainingError
from svdlab.training.beginning import CARRIERS
from svdlab.training.recipe import DecoderSettings, Recipe, Stage, check_recipe, decoder_lengths, read_recipe
from svdlab.training.settings import LoopSettings

TEXT = """
name = "mine"
size = 32
num_frames = 8
vae_channels = [96, 64, 96, 96]
max_guidance = 2
[unet]
channels = [96, 64]
attention = [true, false]
[decoder]
frames = 3
loop = { steps = 12, averages = [0.9] }
[[stages]]
world = "easy"
frames = 4
loop = { steps = 5, learning_rate = 2e-3, faster = { temporal = 2, attn = 0.5 }, betas = [0.9, 0.95] }
objective = { motion_weight = 5 }
[[stages]]
world = "full"
"""


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_from_toml(tmp_path):
    recipe = read_recipe(write(tmp_path / "mine.toml", TEXT))
    assert (recipe.name, recipe.size, recipe.seed, recipe.max_guidance) == ("mine", 32, 0, 2.0)
    assert recipe.unet.channels == (96, 64)
    assert recipe.unet.attention == (True, False)
    assert recipe.vae_channels == (96, 64, 96, 96)
    assert recipe.decoder.loop.averages == (0.9,)
    assert [stage.world for stage in recipe.stages] == ["easy", "full"]
    easy = recipe.stages[0]
    assert easy.frames == 4
    assert easy.loop == LoopSettings(
        steps=5, learning_rate=2e-3, faster={"temporal": 2.0, "attn": 0.5}, betas=(0.9, 0.95)
    )
    assert easy.objective.motion_weight == 5
    assert recipe.stages[1] == Stage(world="full")


def test_an_empty_file_is_the_default_recipe(tmp_path):
    assert read_recipe(write(tmp_path / "empty.toml", "")) == Recipe()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae = 'x'", r"no setting 'nmae'\. Known are name, seed"),
        ("size = 'big'", r"size = 'big': must be int"),
        ("size = true", r"size = True: must be int"),
        ("size = 30", r"size = 30: must be a multiple of 16"),
        ("num_frames = 1", "num_frames = 1: must be at least 2"),
        ("processes = -1", "processes = -1"),
        ("stages = []", "stages = "),
        ("stages = 3", r"stages = 3: must be a list or a table"),
        ("[[stages]]\nframes = 99", "frames from 2 to num_frames = 25"),
        ("[[stages]]\nbatch = 0", "batch = 0"),
        ("[[stages]]\nloop = { learning_rate = 1e-3 }", r"stages\[0\]: loop: incomplete"),
        ("[[stages]]\nloop = { steps = 0 }", r"stages\[0\]: loop: steps = 0: must be at least 1"),
        ("[[stages]]\nloop = { steps = 5, betas = [0.9] }", "2 values are needed"),
        ("[[stages]]\nobjective = { dropout = 2 }", "dropout = 2.0: must be a share"),
        ("[unet]\nchannels = [32, 64]", "cancels the conditioning"),
        ("[unet]\nattention = [true]", "one for each of channels"),
        ("[unet]\nhead_channels = 48", "a divisor"),
        ("[unet]\nids = 3", "an even number"),
        ("[decoder]\nlengths = [4, 26]", "lengths from 1 to num_frames = 25"),
        ("size = [", "cannot be read as TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, words):
    with pytest.raises(TrainingError, match=words):
        read_recipe(write(tmp_path / "wrong.toml", text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"none\.toml: cannot be read"):
        read_recipe(tmp_path / "none.toml")


def test_a_run_goes_on_only_with_its_recipe(tmp_path):
    recipe = read_recipe(write(tmp_path / "mine.toml", TEXT))
    check_recipe(tmp_path / "run", recipe, resume=False)
    check_recipe(tmp_path / "run", recipe, resume=True)
    first, *rest = recipe.stages
    free = dataclasses.replace(first, loop=dataclasses.replace(first.loop, checkpoint_steps=3, precision="fp32"))
    check_recipe(tmp_path / "run", dataclasses.replace(recipe, processes=4, stages=(free, *rest)), resume=True)
    with pytest.raises(TrainingError, match="resume = False"):
        check_recipe(tmp_path / "run", recipe, resume=False)
    other = dataclasses.replace(first, batch=9)
    with pytest.raises(TrainingError, match=r"stages\[0\]\.batch was 4, is 9"):
        check_recipe(tmp_path / "run", dataclasses.replace(recipe, stages=(other, *rest)), resume=True)
    (tmp_path / "run" / "recipe.json").write_text("[1")
    with pytest.raises(TrainingError, match="cannot be read"):
        check_recipe(tmp_path / "run", recipe, resume=True)


def test_every_setting_is_recorded(tmp_path):
    check_recipe(tmp_path, Recipe(), resume=True)
    record = json.loads((tmp_path / "recipe.json").read_text())
    assert record["stages[1].objective.aug_uniform"] == 0.3
    assert record["stages[2].loop.learning_rate"] == 1e-3
    assert "processes" not in record
    assert not any(name.endswith(("device", "precision")) for name in record)


@pytest.mark.parametrize("name", ["tiny", "tiny-cpu"])
def test_the_recipes_of_the_bundled_model_can_be_read(name):
    recipe = read_recipe(Path(__file__).parents[2] / "experiments" / f"{name}.toml")
    assert recipe.stages[-1].world == "full"
    assert all(set(stage.loop.faster) == set(CARRIERS) for stage in recipe.stages)
    assert (recipe.size, recipe.num_frames) == (64, 25)


@given(st.integers(2, 200))
def test_a_decoder_learns_windows_of_every_order_of_length(num_frames):
    lengths = decoder_lengths(Recipe(num_frames=num_frames, stages=(Stage(),)))
    assert (lengths[0], lengths[-1]) == (1, num_frames)
    assert all(a < b <= 2 * a + 1 or (a, b) in ((1, 4), (1, 5)) for a, b in itertools.pairwise(lengths))
    assert 2 not in lengths or num_frames == 2


def test_a_recipe_may_name_the_lengths_itself():
    assert decoder_lengths(Recipe(decoder=DecoderSettings(lengths=(3, 25)))) == (3, 25)
