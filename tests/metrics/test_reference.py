"""Likeness to a reference run: known differences read as what they are, and words where there is nothing to compare."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from svdlab.clip import Clip
from svdlab.errors import MetricError
from svdlab.metrics import get, score, score_frames
from svdlab.metrics.context import Scoring
from svdlab.metrics.per_frame import per_frame_metrics
from svdlab.metrics.perceptual import lpips_curves
from tests.metrics.conftest import clip_of, frozen, pan, with_brightness_flicker, with_noise

REF = ["psnr_ref", "lpips_ref", "tof_ref"]
CHEAP = ["psnr_ref", "tof_ref"]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """A real photograph with structure all over, uint8 [260, 391, 3] (Stefan van der Walt, CC0)."""
    return data.chelsea()[40:, 60:]


def tecogan_tof(frames: np.ndarray, target: np.ndarray) -> float:
    """TecoGAN's tOF, written down from its evaluation: grey frames, Farneback, length of the difference, mean."""
    values = []
    for t in range(1, len(frames)):
        flows = []
        for clip in (target, frames):
            before, now = (cv2.cvtColor(clip[k], cv2.COLOR_RGB2GRAY) for k in (t - 1, t))
            flows.append(cv2.calcOpticalFlowFarneback(before, now, None, 0.5, 3, 15, 3, 5, 1.2, 0))
        difference = np.absolute(flows[0] - flows[1])
        values.append(np.sqrt(np.sum(difference * difference, axis=-1)).mean())
    return float(np.mean(values))


@pytest.mark.usefixtures("weights")
def test_a_run_is_perfect_against_itself(photo):
    frames = pan(photo, step=2, count=11)  # more than one batch of the network
    assert score(clip_of(frames), names=REF, reference=frames.copy()) == {
        "psnr_ref": 100.0, "lpips_ref": 0.0, "tof_ref": 0.0,
    }  # fmt: skip


def test_tof_is_that_of_tecogan(photo):
    frames, target = with_noise(pan(photo, step=3)), pan(photo, step=2)
    value = score(clip_of(frames), names=["tof_ref"], reference=target)["tof_ref"]
    assert value == pytest.approx(tecogan_tof(frames, target), rel=1e-6)
    assert value > 0.5


def test_tof_reads_the_difference_of_two_speeds(photo):
    for step, wanted in ((3, 1), (4, 2)):
        value = score(clip_of(pan(photo, step=step)), names=["tof_ref"], reference=pan(photo, step=2))["tof_ref"]
        assert value == pytest.approx(wanted, rel=0.05)
    backwards = score(clip_of(pan(photo, step=2)[::-1].copy()), names=["tof_ref"], reference=pan(photo, step=2))
    assert backwards["tof_ref"] == pytest.approx(4, rel=0.05)  # the same length the other way: no difference of lengths


def test_tof_does_not_see_brightness_and_psnr_does_not_see_motion(photo):
    moving = pan(photo, step=2)
    flashing = score(clip_of(with_brightness_flicker(moving)), names=CHEAP, reference=moving)
    assert flashing["tof_ref"] < 0.2
    assert flashing["psnr_ref"] < 40
    noises = [score(clip_of(with_noise(f)), names=CHEAP, reference=f)["psnr_ref"] for f in (moving, frozen(photo))]
    assert noises[0] == pytest.approx(noises[1], abs=0.1)


def test_psnr_equals_that_of_scikit_image(photo):
    frames, target = with_noise(pan(photo, step=2)), pan(photo, step=2)
    wanted = [peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(target, frames, strict=True)]
    curve = score_frames(clip_of(frames), names=["psnr_ref"], reference=target)["psnr_ref"]
    np.testing.assert_allclose(curve, wanted, rtol=1e-12)


@pytest.mark.usefixtures("weights")
def test_lpips_compares_frame_by_frame(photo):
    frames, target = pan(photo, step=2, count=10), frozen(photo, 10)
    curve = score_frames(clip_of(frames), names=["lpips_ref"], reference=target)["lpips_ref"]
    np.testing.assert_allclose(curve, lpips_curves(frames, target[0]).input, atol=1e-5)  # a frozen run is one picture
    back = score_frames(clip_of(target), names=["lpips_ref"], reference=frames)["lpips_ref"]
    np.testing.assert_allclose(back, curve, atol=1e-6)


def test_large_frames_are_measured_in_their_own_pixels(photo):
    large = [pan(photo, step=step, count=3, height=120, width=320).repeat(2, 1).repeat(2, 2) for step in (2, 1)]
    small = [np.stack([cv2.resize(f, (512, 192), interpolation=cv2.INTER_AREA) for f in clip]) for clip in large]
    values = [score(clip_of(a), names=["tof_ref"], reference=b)["tof_ref"] for a, b in (large, small)]
    assert values[0] == pytest.approx(values[1] * 640 / 512, rel=1e-6)
    assert 1 < values[0] < 2.1


@pytest.mark.usefixtures("weights")
def test_without_a_reference_the_table_has_none_of_them_and_a_name_is_answered(photo):
    clip = clip_of(frozen(photo, 3))
    assert not set(REF) & set(score(clip))
    assert set(REF) <= set(score(clip, reference=clip))
    assert not set(REF) & set(per_frame_metrics(clip))
    for name in REF:
        assert "reference" in get(name).needs
        with pytest.raises(MetricError, match=f"'{name}' needs a reference run .* pass reference=, a clip of the same"):
            score(clip, names=[name])


def test_a_clip_and_its_frames_are_the_same_reference(photo):
    frames, target = pan(photo, step=2), pan(photo, step=1)
    values = [score(clip_of(frames), names=CHEAP, reference=r) for r in (target, Clip(frames=target, fps=8))]
    assert values[0] == values[1]
    scoring = Scoring(frames, reference=target)
    assert score(scoring, names=CHEAP) == values[0]
    assert set(CHEAP) <= set(per_frame_metrics(scoring))
    with pytest.raises(MetricError, match=r"reference= when making it"):
        score(scoring, names=CHEAP, reference=target)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        (np.zeros((2, 96, 128, 3), np.uint8), r"reference has 2 frames of 128x96 px, the clip 8 of 128x96: .* same"),
        (np.zeros((8, 96, 96, 3), np.uint8), r"reference has 8 frames of 96x96 px"),
        (np.zeros((8, 96, 128, 3), np.float32), r"reference must be uint8 .* got float32"),
        ("run.mp4", "reference must be a numpy array .* got str"),
    ],
)
def test_what_cannot_be_compared_is_refused(photo, reference, words):
    with pytest.raises(MetricError, match=words):
        score(clip_of(pan(photo, step=2)), names=CHEAP, reference=reference)


def test_too_small_and_too_short_are_refused_with_words():
    small = np.zeros((3, 15, 64, 3), np.uint8)
    with pytest.raises(MetricError, match=r"at least 16x16 px after reduction .* these are 64x15 px"):
        score(clip_of(small), names=["tof_ref"], reference=small)
    with pytest.raises(MetricError, match="needs at least 2 of them"):
        score(clip_of(small[:1]), names=["tof_ref"], reference=small[:1])
    assert score(clip_of(small[:1]), names=["psnr_ref"], reference=small[:1]) == {"psnr_ref": 100.0}
