"""A whole teacher, small: trained, resumed, written, loaded by svdlab and by the stock pipeline."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import svdlab as sl
from svdlab.errors import TrainingError
from svdlab.files import sha256_file
from svdlab.models.cards import read_card
from svdlab.training.networks import UNetSettings
from svdlab.training.objective import Objective
from svdlab.training.recipe import DecoderSettings, Recipe, Stage
from svdlab.training.settings import LoopSettings
from svdlab.training.teacher import Trained, train
from tests.training.discs import Discs

FRAMES = 4


def loop(steps: int, **changes) -> LoopSettings:
    return LoopSettings(steps=steps, warmup=2, averages=(0.9,), device="cpu", checkpoint_steps=2, **changes)


RECIPE = Recipe(
    name="small-teacher",
    size=32,
    num_frames=FRAMES,
    unet=UNetSettings(channels=(96, 64), attention=(True, False), embedding=32),
    decoder=DecoderSettings(
        loop=loop(3, learning_rate=3e-4), frames=4, lengths=(1, 2, 3), pca_clips=4, upsampling_steps=20, world="full"
    ),
    stages=(
        Stage(world="easy", loop=loop(3), batch=2, frames=3),
        Stage(world="full", loop=loop(4, probe_steps=2), batch=2),
    ),
)


def worlds(stage: str) -> Discs:
    return Discs(num_frames=FRAMES, seed={"easy": 1, "full": 2}[stage])


def small(out: Path, recipe: Recipe = RECIPE, source=worlds, **more) -> Trained:
    return train(recipe, out, worlds=source, progress=False, **more)


def weights(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in sorted(folder.rglob("*.safetensors"))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "run"
    result = small(out)
    assert result.folder == out / "model"
    assert result.seconds > 0
    return out


def test_the_folder_is_whole_and_in_half_precision(trained):
    names = {str(path.relative_to(trained / "model")) for path in (trained / "model").rglob("*") if path.is_file()}
    assert {
        *("model_index.json", "svdlab.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"),
        *("vae/config.json", "vae/diffusion_pytorch_model.safetensors", "image_encoder/model.safetensors"),
        *("scheduler/scheduler_config.json", "feature_extractor/preprocessor_config.json"),
    } <= names
    from safetensors.torch import load_file

    for path in (trained / "model").rglob("*.safetensors"):
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}
    assert not list(trained.glob(".tmp-*"))
    for folder in ("decoder", "1-easy", "2-full"):
        assert (trained / folder / "loss.csv").exists()
        assert (trained / folder / "loss.png").exists()
    with (trained / "2-full" / "quality.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["step"] for row in found] == ["2", "4"]
    assert set(found[0]) == {"step", "gain_last", "gain_mean", "copy", "seconds"}


def test_svdlab_loads_it_with_its_own_defaults(trained):
    card = read_card(trained / "model")
    assert (card.name, card.kind, card.defaults.schedule, card.defaults.gamma) == (
        "small-teacher",
        "teacher",
        "karras",
        0,
    )
    assert "7 steps on the stages easy, full" in card.notes
    pipe = sl.load(str(trained / "model"), device="cpu")
    picture = Image.fromarray(Discs().batch([5])["frames"][0, 0])
    clip = pipe(picture, steps=13, seed=1)
    assert clip.frames.shape == (FRAMES, 32, 32, 3)
    again = pipe(picture, steps=13, seed=1)
    assert np.array_equal(clip.frames, again.frames)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_stock_pipeline_loads_it_and_makes_frames(trained):
    from diffusers import StableVideoDiffusionPipeline

    pipe = StableVideoDiffusionPipeline.from_pretrained(trained / "model")
    pipe.set_progress_bar_config(disable=True)
    picture = Image.fromarray(Discs().batch([5])["frames"][0, 0])
    frames = pipe(
        picture, height=32, width=32, num_frames=FRAMES, num_inference_steps=2, max_guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0), output_type="np",
    ).frames[0]  # fmt: skip
    assert frames.shape == (FRAMES, 32, 32, 3)
    assert np.isfinite(frames).all()


class StopAt:
    """A world in which somebody presses Ctrl-C while a scene is rendered."""

    def __init__(self, source: Discs, number: int) -> None:
        self.source, self.number = source, number

    def batch(self, indices):
        if self.number in indices:
            os.kill(os.getpid(), signal.SIGINT)
        return self.source.batch(indices)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["easy", "full"])
def test_interrupted_and_gone_on_with_equals_unbroken(trained, tmp_path, stage):
    at_once = dataclasses.replace(RECIPE, ahead=0)
    stopped = small(tmp_path / "run", at_once, lambda name: StopAt(worlds(name), 3) if name == stage else worlds(name))
    assert stopped.folder is None
    assert not (tmp_path / "run" / "model").exists()
    assert small(tmp_path / "run").folder
    assert weights(tmp_path / "run" / "model") == weights(trained / "model")


def test_a_finished_run_is_only_written_again(trained):
    before = weights(trained / "model")

    def never(name: str) -> Discs:
        class Never:
            def batch(self, indices):
                raise AssertionError

        return Never()

    assert small(trained, source=never).folder == trained / "model"
    assert weights(trained / "model") == before


def test_decoder_and_unet_trained_apart_give_the_same_model(tmp_path, trained):
    out = tmp_path / "run"
    decoder = small(out, part="decoder")
    assert (decoder.folder, decoder.finished) == (None, True)
    assert not (out / "1-easy").exists()
    unet = small(out, part="unet")
    assert (unet.folder, unet.finished) == (None, True)
    assert small(out).folder == out / "model"
    assert weights(out / "model") == weights(trained / "model")


def test_a_part_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"part = 'vae': must be one of decoder, unet"):
        small(tmp_path, part="vae")


def test_a_world_that_does_not_exist_is_found_before_the_first_step(tmp_path):
    stages = (RECIPE.stages[0], dataclasses.replace(RECIPE.stages[1], world="fulll"))
    with pytest.raises(TrainingError, match="fulll"):
        train(dataclasses.replace(RECIPE, stages=stages), tmp_path, progress=False)
    assert not (tmp_path / "decoder").exists()


def test_a_finished_teacher_goes_on_with_a_stage_that_was_added(tmp_path):
    small(tmp_path / "short")
    before = weights(tmp_path / "short" / "model")
    longer = dataclasses.replace(RECIPE, stages=(*RECIPE.stages, Stage(world="full", loop=loop(2), batch=2)))
    grown = small(tmp_path / "short", longer).folder
    assert weights(grown) != before
    assert weights(grown) == weights(small(tmp_path / "whole", longer).folder)


def test_another_recipe_is_refused(trained):
    with pytest.raises(TrainingError, match=r"seed was 0, is 1"):
        small(trained, dataclasses.replace(RECIPE, seed=1))
    with pytest.raises(TrainingError, match="resume = False"):
        small(trained, resume=False)


def test_a_frozen_image_encoder_stays_as_it_was_drawn(tmp_path):
    from safetensors.torch import load_file

    from svdlab.training.networks import build_image_encoder

    recipe = dataclasses.replace(RECIPE, train_image_encoder=False, stages=RECIPE.stages[:1])
    folder = small(tmp_path, recipe).folder
    drawn, _ = build_image_encoder(embedding=32, seed=0)
    for name, value in load_file(folder / "image_encoder" / "model.safetensors").items():
        assert torch.equal(value, drawn.state_dict()[name].half())


@pytest.mark.slow
def test_a_short_training_learns(tmp_path):
    """Under 40 seconds on one core: at high noise the loss falls far below that of repeating the picture."""
    stage = Stage(
        world="easy", batch=4, objective=Objective(high_share=1.0, aug_uniform=0.0, aug_fixed=1.0, dropout=0.0),
        loop=LoopSettings(steps=120, warmup=10, learning_rate=1e-3, averages=(0.95,), device="cpu"),
    )  # fmt: skip
    small(tmp_path, dataclasses.replace(RECIPE, stages=(stage,)), part="unet")
    with (tmp_path / "1-easy" / "loss.csv").open(newline="") as file:
        errors = [float(row["error"]) for row in csv.DictReader(file)]
    assert sum(errors[-20:]) < 0.65 * sum(errors[:20])
