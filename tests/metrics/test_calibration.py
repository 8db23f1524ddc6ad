"""What every metric must read, must ignore and cannot see, on clips of known truth; and that the docs say the same."""

from __future__ import annotations

import io
import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from svdlab import metrics
from svdlab.errors import MetricError
from svdlab.metrics import calibration_checks, calibration_table, known_clips, score, score_frames
from svdlab.metrics.registry import NEEDS
from svdlab.training.backgrounds import PHOTOS
from svdlab.training.world import HELD_OUT, World
from tests.metrics.conftest import clip_of

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
COSTS = {"seconds", "seconds_denoise", "seconds_decode", "vram_peak_mb"}
ENCODED = {"clip_temporal", "clip_input"}


def photograph(name: str) -> np.ndarray:
    return np.asarray(Image.open(PHOTOS / f"{name}.jpg").convert("RGB"))


def picture(name: str) -> np.ndarray:
    """A photograph, or the first frame of a scene of the procedural world that has structure all over."""
    if name != "tunnel":
        return photograph(name)
    world = World(size=256, num_frames=2, stage="full")
    return world.scene(next(world.find("tunnel"))).frames[0]


@pytest.fixture(scope="module")
def cat() -> dict[str, metrics.KnownClip]:
    return known_clips(photograph("chelsea"))


@pytest.fixture(scope="module")
def cat_table(cat, weights) -> pd.DataFrame:
    return calibration_table(cat)


def failures(checks: pd.DataFrame) -> str:
    return checks[~checks.holds][["clip", "metric", "kind", "low", "high", "value"]].to_string()


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("name", ["astronaut", "coffee", "tunnel"])
def test_every_metric_reads_what_it_must(name):
    clips = known_clips(picture(name), frames=9)
    checks = calibration_checks(clips, calibration_table(clips))
    assert checks.holds.all(), failures(checks)
    assert len(checks) == sum(about.metric not in ENCODED for clip in clips.values() for about in clip.expectations)


def test_every_metric_reads_what_it_must_on_25_frames(cat, cat_table):
    checks = calibration_checks(cat, cat_table)
    assert checks.holds.all(), failures(checks)
    assert len(checks) > 140


def test_no_metric_is_without_a_known_truth_and_a_known_fault(cat):
    expected = pd.DataFrame([vars(about) for clip in cat.values() for about in clip.expectations])
    assert set(expected.metric) == set(metrics.names()) - COSTS
    assert set(expected.kind) == {"reads", "ignores", "blind", "misled"}
    untried = [name for name in set(expected.metric) - ENCODED if len(expected[expected.metric == name]) < 3]
    assert untried == []
    assert expected.why.str.len().min() > 5
    assert (expected.low < expected.high).all()


def test_encoder_metrics_read_what_holds_for_any_encoder(cat, encoder):
    some = {name: cat[name] for name in ("frozen", "pan", "shuffled", "soft")}
    table = calibration_table(some, sorted(ENCODED), encoder=encoder)
    checks = calibration_checks(some, table)
    assert set(checks.metric) == ENCODED
    assert len(checks) == 4
    assert checks.holds.all(), failures(checks)
    assert table.loc["clip_input", "pan"] < 1


def test_the_jump_cut_stands_in_the_curves_where_it_is(cat):
    clip = cat["jump cut"]
    at = int(clip.facts["at"])
    curves = score_frames(clip, names=["flicker", "occlusion_ratio", "flow_mean"])
    assert curves["flicker"].argmin() == curves["occlusion_ratio"].argmax() == curves["flow_mean"].argmax() == at - 1
    assert curves["occlusion_ratio"][at - 1] > 0.5
    assert np.delete(curves["flow_mean"], at - 1).max() == 0


def test_flicker_is_vbench_temporal_flickering_on_the_same_frames(cat):
    """VBench takes BGR frames as float32 and the mean of OpenCV's absolute differences, (255 - mean) / 255."""
    for clip in cat.values():
        frames = [cv2.cvtColor(frame, cv2.COLOR_RGB2BGR).astype(np.float32) for frame in clip.frames]
        vbench = (255.0 - np.mean([np.mean(cv2.absdiff(a, b)) for a, b in pairwise(frames)]).item()) / 255.0
        assert score(clip, names=["flicker"])["flicker"] == pytest.approx(vbench, abs=2e-7)


def test_the_truth_is_in_the_pixels(cat):
    """The clips themselves, by means other than the metrics."""
    clips = {name: clip.frames.astype(np.float64) for name, clip in cat.items()}
    np.testing.assert_array_equal(clips["pan"][1:, :, :-2], clips["pan"][:-1, :, 2:])
    assert np.std(clips["noise"] - clips["frozen"]) == pytest.approx(cat["noise"].facts["sigma"], rel=0.01)
    assert np.abs(np.diff(clips["flashing"], axis=0)).min() == np.abs(np.diff(clips["flashing"], axis=0)).max() == 16
    assert (np.diff(clips["brightening"], axis=0) == 1).all()
    assert sorted(map(bytes, cat["shuffled"].frames)) == sorted(map(bytes, cat["pan"].frames))
    assert 0 < (cat["disc"].frames != cat["frozen"].frames).any(-1).mean() <= cat["disc"].facts["share"]
    for clip in cat.values():
        assert clip.frames.shape == clip.reference.shape == (25, 96, 128, 3)
        assert clip.frames.dtype == np.uint8
        np.testing.assert_array_equal(clip.image, cat["frozen"].frames[0])


def test_the_clips_are_the_same_every_time(cat):
    again = known_clips(photograph("chelsea"))
    for name, clip in cat.items():
        np.testing.assert_array_equal(clip.frames, again[name].frames)


def test_blind_spot_flow_of_a_flat_picture():
    """A drifting cloudy sky: a pan of 2 px reads far less, and noise reads as motion."""
    world = World(size=256, num_frames=2, stage="full")
    clips = known_clips(world.scene(next(world.find("clouds", start=0))).frames[0], frames=9)
    assert score(clips["pan"], names=["flow_mean"])["flow_mean"] < 1.5
    assert score(clips["noise"], names=["flow_mean"])["flow_mean"] > 0.8


def test_the_world_moves_as_it_says():
    """The exact flow of procedural scenes, against flow_mean."""
    world = World(size=128, num_frames=9, stage="full")
    for kind, near in (("photo", 0.08), ("tunnel", 0.12)):
        scene = world.scene(next(world.find(kind, start=HELD_OUT)), motion_bucket_id=200, fps=7)
        flow, known = scene.flow()
        assert known.all()
        true = np.linalg.norm(flow, axis=-1).mean()
        assert score(clip_of(scene.frames), names=["flow_mean"])["flow_mean"] == pytest.approx(true, rel=near)


@pytest.mark.parametrize("frames", [5, 32])
def test_the_fewest_and_the_most_frames(frames):
    clips = known_clips(photograph("chelsea"), frames=frames)
    names = ["flicker", "jerk", "luma_drift", "saturation_drift", "psnr_ref"]
    some = {name: clips[name] for name in ("frozen", "noise", "flashing", "brightening", "colour drift")}
    checks = calibration_checks(some, calibration_table(some, names))
    assert checks.holds.all(), failures(checks)
    assert len(clips["pan"].frames) == frames


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"photo": np.zeros((256, 200, 3), np.uint8)}, r"photo is 200x256 px: at least 224x162 are needed for 25"),
        ({"photo": np.zeros((150, 400, 3), np.uint8)}, "photo is 400x150 px"),
        ({"photo": np.zeros((256, 256), np.uint8)}, r"photo must be uint8 \[height, width, 3\]"),
        ({"photo": "cat.jpg"}, "photo must be a numpy array"),
        ({"frames": 4}, "frames = 4: a whole number from 5 to 32"),
        ({"frames": 33}, "frames = 33"),
        ({"frames": 9.0}, r"frames = 9\.0"),
        ({"frames": True}, "frames = True"),
    ],
)
def test_what_no_clips_can_be_made_of_is_refused(call, words):
    with pytest.raises(MetricError, match=words):
        known_clips(**{"photo": np.zeros((256, 256, 3), np.uint8), **call})


@pytest.mark.usefixtures("own_registry")
def test_your_own_metric_can_be_calibrated_too(cat):
    @metrics.metric("darkest", unit="levels", range=(0, 255))
    def darkest(scoring):
        """The darkest value of the clip."""
        return scoring.frames.min()

    table = calibration_table({"frozen": cat["frozen"], "flashing": cat["flashing"]}, ["darkest", "flicker"])
    assert list(table.index) == ["darkest", "flicker"]
    assert table.loc["darkest", "frozen"] - table.loc["darkest", "flashing"] == 8
    assert len(calibration_checks({"flashing": cat["flashing"]}, table)) == 1  # those it has a value for
    with pytest.raises(MetricError, match="table has no column for pan"):
        calibration_checks({"pan": cat["pan"]}, table)
    with pytest.raises(MetricError, match="did you mean 'flicker'"):
        calibration_table(cat, ["flickr"])


def test_what_a_clip_cannot_have_is_left_empty(cat):
    table = calibration_table({"frozen": cat["frozen"]}, ["flicker", "clip_input", "seconds"])
    assert table["frozen"].isna().tolist() == [False, True, True]
    checks = calibration_checks({"frozen": cat["frozen"]}, table)
    assert checks.metric.tolist() == ["flicker"]


# The page.


def rows_of(header: str) -> pd.DataFrame:
    """The Markdown table of the page whose header line begins with `header`."""
    lines = PAGE.read_text("utf-8").split("\n")
    start = next(n for n, line in enumerate(lines) if line.startswith(header))
    block = [lines[start], *(line for line in lines[start + 2 :][: _height(lines[start + 2 :])])]
    text = "\n".join(line.strip().strip("|") for line in block)
    return pd.read_csv(io.StringIO(text), sep="|", dtype=str).rename(columns=str.strip).map(str.strip)


def _height(lines: list[str]) -> int:
    return next(n for n, line in enumerate([*lines, ""]) if not line.startswith("|"))


def test_the_page_defines_every_metric_as_the_registry_does():
    page = rows_of("| name | formula")
    assert page.name.str.strip("`").tolist() == metrics.names()[: len(page)]
    for row in page.itertuples():
        about = metrics.get(str(row.name).strip("`"))
        assert str(row.v) == str(about.version), about.name
        assert str(row.better) in {"higher": ("higher",), "lower": ("lower",)}.get(about.direction, ("none", "0", "1"))
        unit, low = about.unit, about.range[0]
        assert str(row.unit) == (unit or "1"), about.name
        assert re.match(rf"{low:g}\b|any", str(row.range)), about.name


def test_the_page_shows_the_numbers_that_are_measured(cat_table):
    page = rows_of("| metric \\ clip").set_index("metric \\ clip")
    assert page.index.str.strip("`").tolist() == cat_table.index.tolist()
    assert page.columns.tolist() == cat_table.columns.tolist()
    shown = page.set_axis(cat_table.index).map(lambda cell: float(cell.strip("*")))
    np.testing.assert_allclose(shown, cat_table, rtol=0.1, atol=3e-4)


def test_needs_are_those_that_the_page_names():
    assert all(f"`{need}`" in PAGE.read_text("utf-8") for need in NEEDS)
