"""Every question on the smallest grid that it can be asked on, and one number of each computed a second way."""

from __future__ import annotations

import numpy as np
import pytest

import svdlab as sl
from answers.questions import QUESTIONS
from answers.runs import SPECS, run_question
from svdlab.stats.variance import GROUPS

SMALLEST = {
    "few_steps": {"steps": (1, 2), "seed": (0, 1)},
    "schedules": {"steps": (2, 3, 4), "seed": (0,)},
    "start_sigma": {"sigma_max": (20.0, 100.0, 700.0), "steps": (1,), "motion_bucket_id": (255,), "seed": (0,)},
    "cond_aug": {"cond_aug": (0.02, 1.0, 4.0), "steps": (1,), "seed": (0,)},
    "decode_chunk": {"decode_chunk": (2, 5), "motion_bucket_id": (0,), "steps": (1,), "seed": (0,)},
    "bucket": {"motion_bucket_id": (0, 127, 255), "steps": (1,), "seed": (0,)},
    "seeds_settings": {"motion_bucket_id": (64, 255), "cond_aug": (0.02,), "steps": (2,), "seed": (0, 1)},
}


@pytest.fixture(scope="module")
def ask(own_registry, tmp_path_factory):
    """A question -> its sweeps and what they say, with clips of 5 frames."""

    def asked(name):
        question = QUESTIONS[name]
        runs = run_question(
            [SPECS / file for file in question.specs(name)], tmp_path_factory.mktemp(name), truth=question.truth,
            model="tiny-random", teacher="tiny-random", device="cpu", only={**SMALLEST[name], "num_frames": (5,)},
            progress=False,
        )  # fmt: skip
        found = question.answer(runs)
        assert len(found.figures) == 2
        assert found.sentences
        assert all(len(table.columns) > 2 for table in found.tables.values())
        return runs, found

    return asked


def row_of(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def means(df, axis, metric):
    return df.groupby(axis)[metric].mean()


@pytest.mark.slow
def test_few_steps_are_held_against_the_teachers_clips(ask):
    runs, found = ask("few_steps")
    cell, reference = runs.few.frame().iloc[0], runs.many.frame().iloc[0]
    assert (cell["image"], cell["seed"]) == (reference["image"], reference["seed"])
    clip, true = (
        side.sweep.clip(row["cell"], pipe=side.pipe) for side, row in ((runs.few, cell), (runs.many, reference))
    )
    assert cell["psnr_ref"] == pytest.approx(sl.metrics.score(clip, reference=true, names=["psnr_ref"])["psnr_ref"])
    lost = row_of(found.tables["What is lost against 2 steps"], metric="psnr_ref")
    by = means(runs.few.frame(), "steps", "psnr_ref")
    assert lost["loss"] == pytest.approx(by[2] - by[1])
    assert lost["best"] == pytest.approx(by[2])
    beside = row_of(found.tables["The student beside its teacher"], metric="psnr_gain", second="the student (2 steps)")
    assert beside["mean_first"] == pytest.approx(runs.many.frame()["psnr_gain"].mean())


@pytest.mark.slow
def test_schedules_are_told_by_where_they_end(ask):
    runs, found = ask("schedules")
    levels = found.tables["Where the steps end"].set_index(["schedule", "steps"])["last_sigma"]
    assert levels["even", 2] == levels["even", 4] < levels["animatelcm", 4] < levels["animatelcm", 2]
    df = runs.few.frame()
    by = means(df[df["schedule"] == "even"], "steps", "flow_mean")
    step = row_of(
        found.tables["From one step count to the next"], schedule="even", metric="flow_mean", first="steps = 3"
    )
    assert step["difference"] == pytest.approx(by[4] - by[3])
    between = row_of(found.tables["even against animatelcm, by steps"], steps=2, metric="flow_mean")
    apart = means(df[df["steps"] == 2], "schedule", "flow_mean")
    assert between["difference"] == pytest.approx(apart["even"] - apart["animatelcm"])


@pytest.mark.slow
def test_the_start_level_is_held_against_the_highest(ask):
    runs, found = ask("start_sigma")
    by = means(runs.few.frame(), "sigma_max", "flow_mean")
    effect = row_of(
        found.tables["Effects of the start level on motion against 700"], metric="flow_mean", value=20.0
    )  # fmt: skip
    assert effect["difference"] == pytest.approx(by[20.0] - by[700.0])
    assert {"psnr_gain", "position_error"} <= set(found.tables["Along the start level, at bucket 255"]["metric"])


@pytest.mark.slow
def test_noise_on_the_picture_is_held_against_the_usual(ask):
    runs, found = ask("cond_aug")
    by = means(runs.few.frame(), "cond_aug", "ssim_input")
    effect = row_of(found.tables["Effects of cond_aug against 0.02"], metric="ssim_input", value=4.0)
    assert effect["difference"] == pytest.approx(by[4.0] - by[0.02])
    assert effect["n"] == 5  # the photograph too
    assert row_of(found.tables["Effects of cond_aug against 0.02"], metric="psnr_gain", value=4.0)["n"] == 4


@pytest.mark.slow
def test_chunks_change_frames_and_not_latents(ask):
    runs, found = ask("decode_chunk")
    df = runs.few.frame()
    part = [runs.few.sweep.clip(cell) for cell in df[df["image"] == "rocket"].sort_values("decode_chunk")["cell"]]
    assert bool((part[0].latents == part[1].latents).all())
    by = means(df, "decode_chunk", "flicker")
    effect = row_of(found.tables["Effects of decode_chunk against 5"], metric="flicker", value=2)
    assert effect["difference"] == pytest.approx(by[2] - by[5])
    added = row_of(found.tables["Change added at seams and between them (grey levels)"], decode_chunk=2)
    mean = (added["mean_first"] + added["mean_second"]) / 2  # of five frames, 2 and 4 begin a chunk; 1 and 3 do not
    assert mean == pytest.approx(255 * (by[5] - by[2]))


@pytest.mark.slow
def test_how_much_more_the_teacher_follows_is_a_difference_of_differences(ask):
    runs, found = ask("bucket")
    few, many = (means(side.frame(), "motion_bucket_id", "flow_mean") for side in (runs.few, runs.many))
    more = row_of(found.tables["How much more the teacher follows (interactions)"], metric="flow_mean")
    assert more["difference"] == pytest.approx((many[255] - many[0]) - (few[255] - few[0]))
    assert set(runs.many.frame()["steps"]) == {25}
    assert found.sentences[0].startswith("In truth these objects go 11.3 px")


@pytest.mark.slow
def test_shares_of_variance_are_whole(ask):
    _, found = ask("seeds_settings")
    assert len(found.tables) == 2
    for table in found.tables.values():
        groups = table[table["source"].isin(GROUPS)]
        shares = groups.groupby("metric")["share"].sum(min_count=1).dropna()
        assert len(shares) >= 3
        assert np.allclose(shares, 1)
