"""The procedural world as a distiller's data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from svdlab.conditioning import embed_pictures
from svdlab.errors import TrainingError
from svdlab.models import Components, load_components
from svdlab.training.clips import ClipBatch, WorldClips, encode_frames
from svdlab.training.distill import distill
from svdlab.training.distill_step import DistillLoop, DistillSettings
from svdlab.training.world import World


@pytest.fixture(scope="module")
def teacher() -> Components:
    return load_components("tiny-random", device="cpu")


def same(first: ClipBatch, second: ClipBatch) -> bool:
    return all(torch.allclose(value, getattr(second, name), atol=1e-4) for name, value in vars(first).items())


def test_a_clip_is_its_scene_encoded(teacher: Components) -> None:
    world = World(seed=3)
    batch = WorldClips(world, teacher, first=100).batch([2, 0])
    scene = world.scene(102)
    assert batch.latents.shape == (2, 25, 4, 8, 8)
    assert np.array_equal(batch.pictures[0].numpy(), scene.frames[0])
    assert torch.allclose(batch.latents[0], encode_frames(teacher, scene.frames), atol=1e-4)
    assert torch.allclose(batch.embeddings[0], embed_pictures(teacher, scene.frames[:1])[0], atol=1e-4)
    assert (batch.motion_bucket_id[0].item(), batch.fps[0].item()) == (scene.motion_bucket_id, scene.fps)


def test_going_round_scenes_repeats_them_and_going_on_does_not(teacher: Components) -> None:
    world = World(seed=3)
    endless, round_ = WorldClips(world, teacher), WorldClips(world, teacher, scenes=3)
    assert same(round_.batch([0, 2]), endless.batch([0, 2]))
    assert same(round_.batch([3, 5]), endless.batch([0, 2]))
    assert not same(endless.batch([3]), endless.batch([0]))
    assert sorted(round_._kept) == [0, 2]
    assert not endless._kept


def test_keys_tell_worlds_apart(teacher: Components) -> None:
    made = [
        WorldClips(World(seed=0), teacher),
        WorldClips(World(seed=1), teacher),
        WorldClips(World(seed=0), teacher, scenes=8),
        WorldClips(World(seed=0), teacher, first=8),
    ]
    assert len({clips.key for clips in made}) == 4
    assert WorldClips(World(seed=0), teacher).key == made[0].key


def test_a_world_of_another_size_is_refused(teacher: Components) -> None:
    with pytest.raises(TrainingError, match="world: 25 frames of 32 px, and tiny-random makes 25 frames of 64"):
        WorldClips(World(size=32), teacher)


@pytest.mark.slow
def test_a_world_can_be_distilled_from(teacher: Components, tmp_path: Path) -> None:
    settings = DistillSettings(batch=1, scenes=2, loop=DistillLoop(steps=2, device="cpu"))
    assert distill(teacher, World(), settings, out=tmp_path, progress=False).finished
    assert (tmp_path / "student" / "svdlab.json").is_file()
