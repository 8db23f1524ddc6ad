"""Verdicts, seams and pages, against numbers worked out by hand or by scipy."""

from __future__ import annotations

import json
import math

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from answers.findings import enough, measured, verdict, words_enough
from answers.knobs import seams, side_by_side
from answers.page import Answer, markdown_table, write_answer
from answers.sampler import with_last_sigma
from svdlab.sampling import sigmas

PSNR = {
    1: [20.0, 21.0, 20.5, 19.0],
    2: [24.8, 26.0, 24.9, 24.0],
    4: [25.0, 26.1, 25.2, 24.1],
    8: [25.1, 26.0, 25.2, 24.2],
}


def table(values, **more):
    """One picture, four seeds, a row a step count and seed."""
    rows = [
        {"image": "car", "seed": seed, "steps": steps, "status": "done", **more, "psnr_ref": value}
        for steps, line in values.items()
        for seed, value in enumerate(line)
    ]
    return pd.DataFrame(rows)


def test_a_loss_is_the_paired_t_interval():
    found = enough(table(PSNR), "steps", margins={"psnr_ref": 0.5}, against=8)
    for row in found.itertuples():
        apart = np.array(PSNR[8]) - np.array(PSNR[row.steps])
        half = stats.t.ppf(0.975, 3) * apart.std(ddof=1) / 2
        assert row.loss == pytest.approx(apart.mean())
        assert (row.low, row.high) == pytest.approx((apart.mean() - half, apart.mean() + half))
        assert (row.n, row.against, row.margin, row.best) == (4, 8, 0.5, pytest.approx(np.mean(PSNR[8])))
    assert found["verdict"].tolist() == ["too few", "enough", "enough"]


def test_of_a_metric_that_is_better_when_lower_a_loss_is_a_rise():
    df = table(PSNR).rename(columns={"psnr_ref": "warp_error"})
    found = enough(df, "steps", margins={"warp_error": 0.5}, against=8)
    mirrored = enough(table(PSNR), "steps", margins={"psnr_ref": 0.5}, against=8)
    assert found["loss"].tolist() == pytest.approx((-mirrored["loss"]).tolist())
    assert found["low"].tolist() == pytest.approx((-mirrored["high"]).tolist())
    assert found["verdict"].iloc[0] == "enough"  # one step is far below, which is better here


def test_without_a_better_direction_nothing_is_lost():
    with pytest.raises(ValueError, match=r"flow_mean.*no better direction"):
        enough(table(PSNR).assign(flow_mean=1.0), "steps", margins={"flow_mean": 1.0}, against=8)


def test_one_unit_settles_nothing():
    df = table({steps: line[:1] for steps, line in PSNR.items()})
    assert set(enough(df, "steps", margins={"psnr_ref": 0.5}, against=8)["verdict"]) == {"not settled"}


LIMIT = st.floats(-5, 5)


@given(LIMIT, LIMIT, st.floats(0.01, 5))
def test_verdicts_leave_no_gap(a, b, margin):
    low, high = min(a, b), max(a, b)
    found = verdict(low, high, margin)
    assert (found == "enough") is (high < margin)
    assert (found == "too few") is (low >= margin)
    assert (found == "loses") is (0 < low < margin <= high)
    assert (found == "not settled") is (low <= 0 and high >= margin)


@given(LIMIT, LIMIT, st.floats(0.01, 5), st.floats(0, 5))
def test_what_is_enough_stays_so_with_a_wider_margin(a, b, margin, more):
    if verdict(min(a, b), max(a, b), margin) == "enough":
        assert verdict(min(a, b), max(a, b), margin + more) == "enough"


def test_a_lucky_count_below_a_bad_one_is_not_taken():
    found = enough(
        table({1: PSNR[4], 2: PSNR[1], 4: PSNR[4], 8: PSNR[8]}), "steps", margins={"psnr_ref": 0.5}, against=8
    )
    assert found["verdict"].tolist() == ["enough", "too few", "enough"]
    assert words_enough(found)[0].startswith("psnr_ref: 4 steps are enough (a loss of 0.5 dB matters); with 4 it loses")


def test_if_none_is_enough_that_is_said():
    found = enough(table({4: PSNR[1], 8: PSNR[8]}), "steps", margins={"psnr_ref": 0.5}, against=8)
    (said,) = words_enough(found)
    assert said.startswith("psnr_ref: no fewer than 8 steps are known to be enough")
    assert said.endswith("which is too few.")


def test_seams_are_told_from_what_lies_between():
    """Grey levels of change: 10 everywhere when whole; at seams 3 more, elsewhere 1 more; one cell each."""
    df = pd.DataFrame({"cell": ["whole", "halves"], "image": "car", "seed": 0, "motion_bucket_id": 127,
                       "decode_chunk": [6, 3]})  # fmt: skip
    change = {"whole": [math.nan, 10, 10, 10, 10, 10], "halves": [math.nan, 11, 11, 13, 11, 11]}
    curves = pd.DataFrame(
        [{"cell": cell, "frame": t, "metric": "flicker", "value": 1 - value / 255}
         for cell, line in change.items() for t, value in enumerate(line)]
    )  # fmt: skip
    found = seams(df, curves)
    assert dict(zip(found["place"], found["added"], strict=True)) == pytest.approx({"at seams": 3.0, "between": 1.0})
    assert set(found["decode_chunk"]) == {3}


def test_frame_by_frame_decoding_has_seams_alone():
    df = pd.DataFrame({"cell": ["whole", "single"], "image": "car", "seed": 0, "decode_chunk": [3, 1]})
    curves = pd.DataFrame({"cell": ["whole"] * 3 + ["single"] * 3, "frame": [0, 1, 2] * 2, "metric": "flicker",
                           "value": [math.nan, 0.9, 0.9, math.nan, 0.8, 0.6]})  # fmt: skip
    found = seams(df, curves)
    assert found["place"].tolist() == ["at seams"]
    assert found["added"].tolist() == pytest.approx([255 * 0.2])


def test_the_last_noise_level_is_the_schedules():
    df = pd.DataFrame({"steps": [8, 14, 14], "schedule": ["animatelcm", "animatelcm", "even"]})
    last = with_last_sigma(df, 700.0)["last_sigma"].tolist()
    assert last == [sigmas(n, schedule=s)[n - 1].item() for n, s in zip(df["steps"], df["schedule"], strict=True)]
    assert last[1] > 50 * last[0]  # more steps end higher
    assert last[2] == last[0]


def test_values_side_by_side_keep_their_order():
    df = pd.DataFrame({"cond_aug": [4.0, 0.02, 0.0, 0.02], "flicker": 0.9})
    named = side_by_side(df, "cond_aug")["cond_aug"]
    assert named.cat.categories.tolist() == ["0", "0.02", "4"]
    assert named.tolist() == ["4", "0.02", "0", "0.02"]


def test_measured_leaves_out_what_no_row_has():
    df = pd.DataFrame({"flicker": [0.9, math.nan], "moved_x": [math.nan, math.nan]})
    assert measured(df, ["moved_x", "flicker", "jerk"]) == ["flicker"]


def test_a_table_in_markdown():
    df = pd.DataFrame({"steps": [1, 2], "psnr_gain": [0.12345, math.nan], "said": ["a|b", None]})
    assert markdown_table(df).splitlines() == [
        "| steps | psnr_gain | said |", "|---|---|---|", "| 1 | 0.123 | a\\|b |", "| 2 |  |  |"]  # fmt: skip


def test_a_page_and_its_numbers(tmp_path):
    answer = Answer(
        sentences=["jerk: the direction is not settled.", "flow_mean is 1 <higher>."],
        tables={"Means": pd.DataFrame({"steps": np.array([1]), "loss": [math.inf]})},
        figures={"curve": matplotlib.figure.Figure()},
    )
    about = {"notices": ["random weights"], "student": "tiny (abc)"}
    path = write_answer(answer, tmp_path / "out", name="few", question="How?", method="So.", about=about)
    page = path.read_text()
    assert page.startswith("# How?\n\n**random weights**\n\nSo.\n")
    found, unsure = page.index("- flow\\_mean is 1 \\<higher\\>."), page.index("- jerk: the direction")
    assert page.index("## What was found") < found < page.index("## What is not settled") < unsure
    assert "![curve](curve.png)" in page
    data = json.loads((tmp_path / "out" / "answer.json").read_text())
    assert data["tables"] == {"Means": [{"steps": 1, "loss": None}]}
    assert data["figures"] == ["curve.png"]
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"answer.md", "answer.json", "curve.png"}
