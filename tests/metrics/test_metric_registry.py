from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

from svdlab import metrics
from svdlab.errors import MetricError
from svdlab.metrics import registry
from svdlab.metrics.context import Scoring
from svdlab.metrics.registry import Metric, evaluate

FRAMES = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)

BUILT_IN = [
    "flow_mean", "flow_top5", "warp_error", "occlusion_ratio", "camera_mean", "object_mean",
    "flicker", "jerk", "ssim_input", "psnr_input",
    "luma_drift", "saturation_drift", "sharpness_ratio",
    "lpips_input", "lpips_input_last", "lpips_adjacent",
    "clip_temporal", "clip_input",
    "psnr_ref", "lpips_ref", "tof_ref",
    "seconds", "seconds_denoise", "seconds_decode", "vram_peak_mb",
]  # fmt: skip


def test_the_table_begins_with_motion_and_holds_every_family_in_order():
    assert metrics.names()[: len(BUILT_IN)] == BUILT_IN


def test_every_metric_says_what_it_is():
    for about in metrics.describe(BUILT_IN):
        assert len(about["description"]) > 20, about["name"]
        assert about["source"], about["name"]
        assert about["low"] < about["high"]
        assert about["version"] >= 1
    assert metrics.get("lpips_input").needs == {"lpips", "image"}
    assert metrics.get("flow_mean").family == "flow"


def test_descriptions_are_plain_values():
    finite = [{k: v for k, v in about.items() if k not in ("low", "high")} for about in metrics.describe()]
    assert json.loads(json.dumps(finite)) == finite
    assert pickle.loads(pickle.dumps(metrics.describe())) == metrics.describe()


def test_versions():
    assert metrics.versions(["flow_mean", "flicker"]) == {"flow_mean": 1, "flicker": 1}
    assert set(metrics.versions()) == set(metrics.names())


def test_an_unknown_name_is_answered_with_the_closest():
    with pytest.raises(MetricError, match=r"unknown metric 'flow_maen': did you mean 'flow_mean'"):
        metrics.get("flow_maen")
    with pytest.raises(MetricError, match=r"unknown metric 'zzzz': known are flow_mean, "):
        metrics.get("zzzz")
    with pytest.raises(MetricError, match="unknown metric 3"):
        metrics.versions([3])  # type: ignore[list-item]
    with pytest.raises(MetricError, match=r"single string.*\['flow_mean'\]"):
        metrics.describe("flow_mean")


@pytest.mark.usefixtures("own_registry")
def test_your_own_metric_is_one_decorated_function():
    @metrics.metric("darkest", unit="levels", range=(0, 255), per_frame=True)
    def darkest(scoring):
        """The darkest value of each frame."""
        return scoring.frames.min(axis=(1, 2, 3))

    assert metrics.names()[-1] == "darkest"
    about = metrics.get("darkest")
    assert (about.unit, about.description, about.family) == (
        "levels",
        "The darkest value of each frame.",
        "test_metric_registry",
    )
    assert metrics.score(Scoring(FRAMES), names=["darkest"]) == {"darkest": pytest.approx((0 + 60 + 120) / 3)}
    np.testing.assert_array_equal(darkest(Scoring(FRAMES)), [0, 60, 120])  # the function stays a function


CELL = """
from svdlab import metrics
@metrics.metric("mine"{options})
def mine(scoring):
    return {value}
"""


@pytest.mark.usefixtures("own_registry")
def test_running_a_notebook_cell_again_replaces_its_metric():
    for value in (1, 2):
        exec(CELL.format(options="", value=value), {"__name__": "__main__"})
        assert metrics.score(Scoring(FRAMES), names=["mine"]) == {"mine": value}


@pytest.mark.usefixtures("own_registry")
def test_a_name_of_another_module_is_taken_unless_replaced_on_purpose():
    exec(CELL.format(options="", value=1), {"__name__": "first"})
    with pytest.raises(MetricError, match=r"'mine' is taken by first\.mine.*replace=True"):
        exec(CELL.format(options="", value=2), {"__name__": "second"})
    assert metrics.score(Scoring(FRAMES), names=["mine"]) == {"mine": 1}
    exec(CELL.format(options=", replace=True", value=2), {"__name__": "second"})
    assert metrics.score(Scoring(FRAMES), names=["mine"]) == {"mine": 2}


@pytest.mark.usefixtures("own_registry")
def test_a_built_in_metric_cannot_be_taken_by_accident():
    with pytest.raises(MetricError, match=r"taken by svdlab\.metrics\.flow\.flow_mean"):
        metrics.metric("flow_mean")(lambda scoring: 0.0)
    assert metrics.get("flow_mean").function.__module__ == "svdlab.metrics.flow"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "Flow Mean"}, "column name"),
        ({"direction": "up"}, "'up' is not one of higher, lower, neutral"),
        ({"needs": frozenset({"audio"})}, r"\['audio'\] is unknown; allowed are \['encoder', 'image'"),
        ({"range": (1, 0)}, "low < high"),
        ({"range": (math.nan, 0)}, "low < high"),
        ({"version": 0}, "count from 1"),
        ({"min_frames": 0}, "count from 1"),
    ],
)
def test_wrong_settings_are_refused(settings, words):
    with pytest.raises(MetricError, match=words):
        Metric(**{"name": "mine", "function": lambda scoring: 0.0} | settings)


@pytest.mark.parametrize(
    ("result", "per_frame", "words"),
    [
        (math.nan, False, "finite"),
        ([1.0, math.inf], True, "finite"),
        (None, False, "real numbers"),
        ("3", False, "real numbers"),
        (1j, False, "real numbers"),
        ([[1], [1, 2]], True, "must return numbers"),
        ([1.0], False, r"one number; it returned shape \[1\]"),
        (1.0, True, r"1-D array of numbers; it returned shape \[\]"),
        ([], True, r"shape \[0\]"),
    ],
)
def test_a_metric_that_returns_something_else_is_named(result, per_frame, words):
    metric = Metric(name="mine", function=lambda scoring: result, per_frame=per_frame)
    with pytest.raises(MetricError, match=f"metric 'mine' must return .*{words}|{words}"):
        evaluate(metric, Scoring(FRAMES))


def test_a_metric_does_not_change_after_registration():
    with pytest.raises(AttributeError):
        metrics.get("flow_mean").version = 2  # type: ignore[misc]
    with pytest.raises(TypeError):
        metrics.get("flow_mean").settings["flow"] = "other"  # type: ignore[index]
    assert registry.get("flow_mean") == metrics.get("flow_mean")
    assert hash(metrics.get("flow_mean")) == hash(metrics.get("flow_mean"))
