from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from svdlab import metrics
from svdlab.clip import Clip
from svdlab.errors import ImageError, MetricError, SvdlabError
from svdlab.images import load_image, prepare
from svdlab.metrics import names, require, score, score_frames, scoring_of
from svdlab.metrics.context import Scoring
from tests.metrics.conftest import clip_of, frozen, pan

SECONDS = {"condition": 0.1, "denoise": 0.2, "decode": 0.3, "total": 0.6}


@pytest.mark.usefixtures("weights")
def test_a_full_clip_gets_the_full_table_in_order(photo, encoder):
    frames = pan(photo, step=2)
    clip = Clip(frames=frames, fps=8, image=frames[0], seconds=SECONDS, vram_peak_mb=100.0)
    values = score(clip, encoder=encoder, reference=frames[::-1].copy())
    assert list(values) == names()
    assert all(isinstance(v, float) and np.isfinite(v) for v in values.values())
    curves = score_frames(clip, encoder=encoder, reference=frames[::-1].copy())
    for name, curve in curves.items():
        assert curve.dtype == np.float64
        assert curve.ndim == 1
        assert curve.mean() == pytest.approx(values[name], rel=1e-9, abs=1e-12)
    assert set(names()) - set(curves) == {
        "luma_drift", "saturation_drift", "sharpness_ratio", "lpips_input_last", "seconds", "seconds_denoise",
        "seconds_decode", "vram_peak_mb",
    }  # fmt: skip


@pytest.mark.usefixtures("weights")
def test_bare_frames_get_what_frames_alone_allow(photo):
    values = score(clip_of(frozen(photo, 3)))
    assert set(values) == {
        "flow_mean", "flow_top5", "warp_error", "occlusion_ratio", "camera_mean", "object_mean", "flicker", "jerk",
        "luma_drift", "saturation_drift", "sharpness_ratio", "lpips_adjacent",
    }  # fmt: skip


@pytest.mark.usefixtures("weights")
def test_a_single_frame_gets_what_needs_no_neighbour(photo):
    frames = frozen(photo, 1)
    assert set(score(clip_of(frames, image=frames[0]))) == {
        "ssim_input", "psnr_input", "lpips_input", "lpips_input_last",
    }  # fmt: skip
    for name in ("flow_mean", "lpips_adjacent", "luma_drift", "sharpness_ratio"):
        with pytest.raises(MetricError, match=f"'{name}' compares neighbouring frames and needs at least 2"):
            score(clip_of(frames), names=[name])


def test_tiny_frames_get_what_their_size_allows():
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    assert set(score(clip_of(frames, image=frames[0]))) == {
        "flicker", "jerk", "psnr_input", "luma_drift", "saturation_drift", "sharpness_ratio",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ssim_input", "'ssim_input' needs the input picture: pass image="),
        ("lpips_input", "'lpips_input' needs the input picture"),
        ("clip_temporal", "'clip_temporal' needs an image encoder: pass encoder="),
        ("psnr_ref", "'psnr_ref' needs a reference run"),
        ("seconds", "'seconds' needs the stage timings"),
        ("flow_maen", "did you mean 'flow_mean'"),
    ],
)
def test_a_metric_asked_for_by_name_says_what_is_missing(photo, name, words):
    with pytest.raises(MetricError, match=words):
        score(clip_of(frozen(photo, 2)), names=["flicker", name])


def test_names_give_the_order_and_count_once(photo):
    values = score(clip_of(frozen(photo, 3)), names=["jerk", "flicker", "jerk"])
    assert list(values) == ["jerk", "flicker"]
    assert score(clip_of(frozen(photo, 3)), names=[]) == {}


def test_a_given_picture_is_prepared_as_the_pipeline_does(photo, tmp_path):
    frames = frozen(photo, 2)
    path = tmp_path / "picture.png"
    Image.fromarray(photo).save(path)
    wanted = np.asarray(prepare(load_image(path), width=128, height=96))
    for image in (path, str(path), photo, Image.fromarray(photo)):
        np.testing.assert_array_equal(scoring_of(clip_of(frames), image).image, wanted)
    by_hand = score(clip_of(frames, image=wanted), names=["psnr_input"])
    assert score(clip_of(frames), path, names=["psnr_input"]) == by_hand
    assert score(clip_of(frames, image=frames[0]), path, names=["psnr_input"]) == by_hand  # a given picture goes first


def test_the_own_picture_of_a_clip_may_be_pil(photo):
    frames = frozen(photo, 2)
    picture = Image.fromarray(frames[0])
    assert score(clip_of(frames, image=picture), names=["psnr_input"]) == {"psnr_input": 100.0}
    assert score(clip_of(frames, image=picture.convert("RGBA")), names=["psnr_input"]) == {"psnr_input": 100.0}


def test_an_own_picture_of_another_size_is_refused(photo):
    with pytest.raises(MetricError, match=r"image is 512x512 but the frames are 128x96: .* Pass the original picture"):
        score(clip_of(frozen(photo, 2), image=photo))


def test_a_missing_file_is_an_image_error(photo, tmp_path):
    with pytest.raises(ImageError):
        score(clip_of(frozen(photo, 2)), tmp_path / "none.png")


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), r"uint8 \[frames, height, width, 3\] .* got float32 \[2, 8, 8, 3\]"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"got uint8 \[2, 3, 8, 8\]"),
        (np.zeros((8, 8, 3), np.uint8), r"got uint8 \[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), "not empty"),
        ([[1]], "got list"),
        (None, "got NoneType"),
    ],
)
def test_wrong_frames_are_refused(frames, words):
    with pytest.raises(MetricError, match=words):
        score(clip_of(frames))
    with pytest.raises(MetricError, match=words):
        score(clip_of(frames), np.zeros((8, 8, 3), np.uint8))


def test_something_without_frames_is_refused():
    with pytest.raises(MetricError, match=r"has no \.frames: pass a Clip"):
        score("clip.mp4")  # type: ignore[arg-type]


def test_a_scoring_can_be_scored_again_and_keeps_its_work(photo):
    scoring = scoring_of(clip_of(pan(photo, step=2), fps=8, seconds=SECONDS))
    first = score(scoring, names=["flow_mean"])
    flow = scoring.flow
    assert score_frames(scoring, names=["flow_mean"])["flow_mean"].mean() == pytest.approx(first["flow_mean"])
    assert scoring.flow is flow
    assert (scoring.fps, scoring.seconds, scoring.width, scoring.height) == (8, SECONDS, 128, 96)
    with pytest.raises(MetricError, match="carries its own picture and encoder"):
        score(scoring, photo)


def test_a_metric_without_a_curve_is_refused_by_name(photo):
    with pytest.raises(MetricError, match=r"no curve over frames for luma_drift: .* Curves: flow_mean, "):
        score_frames(clip_of(frozen(photo, 3)), names=["flicker", "luma_drift"])


def test_frames_are_not_changed(photo):
    frames = pan(photo, step=1, count=4)
    before = frames.copy()
    frames.flags.writeable = False
    without_lpips = [
        name
        for name in names()
        if "lpips" not in name and not metrics.get(name).needs & {"encoder", "timings", "reference"}
    ]
    assert len(score(clip_of(frames, image=frames[0]), names=without_lpips)) == 13
    np.testing.assert_array_equal(frames, before)


def test_require_checks_names_first_and_loads_lpips(weights, monkeypatch, tmp_path):
    require(["flow_mean", "lpips_input"])
    with pytest.raises(MetricError, match="unknown metric 'nothing'"):
        require(["lpips_input", "nothing"])
    monkeypatch.setenv("SVDLAB_LPIPS_WEIGHTS", str(tmp_path / "none.safetensors"))
    require(["flow_mean"])  # needs no weights
    with pytest.raises(SvdlabError, match=r"SVDLAB_LPIPS_WEIGHTS.*is no file"):
        require(["flow_mean", "lpips_adjacent"])
    with pytest.raises(SvdlabError, match=r"is no file"):
        require()


def test_importing_metrics_loads_no_heavy_library():
    code = (
        "import sys, svdlab.metrics; svdlab.metrics.describe();"
        "print([m for m in ('torch', 'cv2', 'lpips', 'transformers', 'pandas') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_scoring_is_reproducible(photo):
    wanted = ["flow_mean", "warp_error", "occlusion_ratio", "flicker", "ssim_input", "sharpness_ratio"]
    frames = pan(photo, step=3)
    first, second = (score(clip_of(frames.copy(), image=frames[0]), names=wanted) for _ in range(2))
    assert first == second
    assert Scoring(frames).lacks("image")
