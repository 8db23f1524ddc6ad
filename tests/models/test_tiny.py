"""The bundled trained model: what its card promises, as far as a few clips show it, and how it is packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import svdlab as sl
from svdlab.models import info
from svdlab.training import evaluate
from svdlab.training.cases import Cases, held_out
from svdlab.training.exam import make_clips

FOLDER = Path(sl.__file__).parent / "models" / "bundled"
BUCKETS = (0, 64, 128, 192, 255)


@pytest.fixture(scope="module")
def tiny() -> sl.Pipeline:
    return sl.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def teacher() -> sl.Pipeline:
    return sl.load("tiny-teacher", device="cpu")


@pytest.fixture(scope="module")
def cases() -> Cases:
    """Four held-out pictures of things that go where they point, and a landscape to be passed."""
    return held_out(count=4)


@pytest.fixture(scope="module")
def clips(tiny: sl.Pipeline, cases: Cases) -> np.ndarray:
    """uint8 `[pictures, buckets, frames, height, width, 3]`, four steps, one seed."""
    requests = [
        sl.Request(image=case.picture, motion_bucket_id=bucket, fps=10, steps=4, seed=7)
        for case in cases.moving
        for bucket in BUCKETS
    ]
    made = np.stack(make_clips(tiny, requests))
    return made.reshape(len(cases.moving), len(BUCKETS), *made.shape[1:])


def test_frames_survive_the_autoencoder(tiny: sl.Pipeline, cases: Cases) -> None:
    assert np.mean([evaluate.vae_psnr(tiny, case.truths[0]) for case in cases.moving]) >= 27


def test_things_go_further_the_higher_the_bucket(clips: np.ndarray, cases: Cases) -> None:
    moved = np.array(
        [[evaluate.displacement(clip, case) for clip in row] for row, case in zip(clips, cases.moving, strict=True)]
    )
    rho = [evaluate.spearman(BUCKETS, row) for row in moved]
    assert np.mean(rho) >= 0.9
    assert evaluate.displacement_ratio(moved[:, -1], moved[:, 0]) >= 4


def test_things_arrive_where_their_picture_says(clips: np.ndarray, cases: Cases) -> None:
    objects = [(clip, case) for clip, case in zip(clips[:, -1], cases.moving, strict=True) if case.target is not None]
    assert len(objects) == 4
    error = np.mean([evaluate.position_error(clip, case) for clip, case in objects])
    assert error <= np.mean([evaluate.still_error(case) for _, case in objects]) / 3
    assert np.mean([evaluate.psnr_gain(clip, case) for clip, case in objects]) >= 1.5


def test_noise_on_the_picture_leads_away_from_it(tiny: sl.Pipeline, cases: Cases) -> None:
    amounts = (0.0, 0.1, 0.3, 1.0)
    some = cases.moving[:3]
    requests = [sl.Request(image=case.picture, cond_aug=a, seed=7) for case in some for a in amounts]
    made = np.stack(make_clips(tiny, requests)).reshape(3, len(amounts), 25, 64, 64, 3)
    away = [[evaluate.lpips_input(clip, case.picture) for clip in row] for row, case in zip(made, some, strict=True)]
    assert evaluate.spearman(amounts, np.mean(away, axis=0)) >= 0.8


def test_the_teacher_moves_things_too(teacher: sl.Pipeline, cases: Cases) -> None:
    objects = [case for case in cases.moving if case.target is not None][:2]
    requests = [sl.Request(image=case.picture, motion_bucket_id=255, fps=10, steps=10, seed=7) for case in objects]
    made = make_clips(teacher, requests)
    error = np.mean([evaluate.position_error(clip, case) for clip, case in zip(made, objects, strict=True)])
    assert error <= np.mean([evaluate.still_error(case) for case in objects]) / 3


def test_both_share_everything_but_the_unet() -> None:
    assert info("tiny").kind == "student"
    assert info("tiny-teacher").kind == "teacher"
    assert info("tiny-teacher").base == "tiny"
    assert sorted(path.name for path in (FOLDER / "tiny-teacher").iterdir()) == ["svdlab.json", "unet"]
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 40e6


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_stock_diffusers_loads_it_and_makes_a_clip() -> None:
    from diffusers import StableVideoDiffusionPipeline

    pipe = StableVideoDiffusionPipeline.from_pretrained(FOLDER / "tiny", local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    picture = sl.prepare(sl.load_image(sl.examples.path("rocket")), width=64, height=64)
    frames = pipe(picture, width=64, height=64, num_frames=4, num_inference_steps=2, output_type="np").frames
    assert frames.shape == (1, 4, 64, 64, 3)
    assert np.isfinite(frames).all()
    assert frames.std() > 0.01
