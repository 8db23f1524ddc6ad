"""Questions about the sampler: steps, schedules, fresh noise, and where sampling starts."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

import svdlab as sl
from answers.findings import (
    COMPARED,
    TREND,
    compared,
    effect_table,
    effects,
    enough,
    interaction_sentences,
    measured,
    sentences_of,
    table_of,
    trends,
    words_chance,
    words_enough,
)
from answers.page import Answer
from answers.runs import Runs
from answers.scenes import BUCKET
from svdlab.stats import words

MARGINS = {"psnr_gain": 0.5, "position_error": 1.0, "presence": 0.1, "psnr_ref": 0.5}
"""The least losses that matter, fixed before anything was measured: dB, px of a 64 px frame, a tenth of the object."""

TRUTH = ("psnr_gain", "position_error", "presence", "displacement", "sharpness_input")
ON_FRAMES = ("flow_mean", "warp_error", "flicker")


def few_steps(runs: Runs) -> Answer:
    """What each step count loses against the most steps, and the student beside its teacher."""
    assert runs.many is not None
    few, many = runs.few, runs.many
    few.sweep.against(
        many.sweep, ["psnr_ref", "tof_ref"], pipe=few.pipe, reference_pipe=many.pipe, missing="skip", replace=True
    )  # fmt: skip
    df, teacher = few.frame(), many.frame()
    most = int(df["steps"].max())
    losses = enough(df, "steps", margins=MARGINS, against=most)
    names = [*TRUTH, "psnr_ref", "tof_ref", *ON_FRAMES]
    found = effects(df, names, "steps", against=most)
    called = f"the teacher ({int(teacher['steps'].iloc[0])} steps)"
    beside = [
        sl.stats.compare(
            teacher, df[df["steps"] == steps], metric, names=(called, f"the student ({words.plural(steps, 'step')})")
        )
        for metric in measured(teacher, MARGINS)
        for steps in sorted(set(df["steps"]))
    ]
    means = df.groupby("steps")[measured(df, [*names, "seconds"])].mean().reset_index()
    figures = {
        "by_steps": sl.plot.response(df, "steps", measured(df, ["psnr_gain", "position_error", "psnr_ref"])),
        "frames": sl.plot.frames({**few.example("steps"), "teacher": next(iter(many.example("steps").values()))}),
    }
    return Answer(
        sentences=[*words_enough(losses), *sentences_of(beside), found.sentence],
        tables={
            f"What is lost against {most} steps": losses,
            "The student beside its teacher": table_of(beside, COMPARED),
            "Means": means,
            f"Effects of steps against {most}": effect_table(found, "steps"),
        },
        figures=figures,
    )


def schedules(runs: Runs) -> Answer:
    """Neighbouring step counts on each schedule, and what the last noise level explains."""
    df = with_last_sigma(runs.few.frame(), runs.few.pipe.defaults.sigma_max)
    counts, names = sorted(set(df["steps"])), [*TRUTH, *ON_FRAMES]
    on = sorted(set(df["schedule"]))
    steps = [
        sl.stats.compare(df[df["schedule"] == schedule], metric, steps=(a, b))
        for schedule in on
        for metric in measured(df, names)
        for a, b in pairwise(counts)
    ]
    table = table_of(steps, COMPARED)
    table.insert(0, "schedule", [name for name in on for _ in range(len(steps) // len(on))])
    between = [
        found for count in counts for found in compared(df[df["steps"] == count], names, schedule=tuple(on))
    ]  # fmt: skip
    strided = df[df["schedule"] == "animatelcm"].drop(columns=["steps", "schedule"])
    by_sigma = trends(strided, names, "last_sigma", axes=["last_sigma"])
    levels = df.groupby(["schedule", "steps"])["last_sigma"].first().reset_index()
    said = [
        f"More steps were worse. On {schedule}: {found.sentence}"
        for schedule, found in zip(table["schedule"], steps, strict=True)
        if found.better == "first"
    ]
    return Answer(
        sentences=[
            *(said or ["No settled loss from one step count to the next was found, on either schedule."]),
            *sentences_of(found for found in between if found.better is not None),
            words_chance([*steps, *between]),
            *sentences_of(by_sigma),
        ],
        tables={
            "Where the steps end": levels,
            "From one step count to the next": table,
            f"{on[-1]} against {on[0]}, by steps": _by_steps(between, counts),
            "Along the last noise level of animatelcm": table_of(by_sigma, TREND),
        },
        figures={
            "by_schedule": sl.plot.response(
                df, "steps", measured(df, ["psnr_gain", "position_error", "sharpness_input"]), by="schedule"
            ),
            "schedules": sl.plot.schedules(counts, on),
        },
    )


def with_last_sigma(df: pd.DataFrame, sigma_max: float) -> pd.DataFrame:
    """The table with a column `last_sigma`, the noise level of the last denoiser call, in EDM units.

    Args:
        sigma_max: where sampling starts.

    Example:
        >>> with_last_sigma(df, 700.0).groupby(["schedule", "steps"])["last_sigma"].first()
    """
    last = [
        sl.sampling.sigmas(int(steps), schedule=schedule, sigma_max=sigma_max)[-2].item()
        for steps, schedule in zip(df["steps"], df["schedule"], strict=True)
    ]
    return df.assign(last_sigma=last)


def gamma(runs: Runs) -> Answer:
    """Trends along gamma, its ends, and whether the middle is better than both."""
    df = runs.few.frame()
    names, values = [*TRUTH, *ON_FRAMES], sorted(set(df["gamma"]))
    first, middle, last = values[0], values[len(values) // 2], values[-1]
    along = trends(df, names, "gamma")
    ends = compared(df, names, gamma=(first, last))
    inside = [found for end in (first, last) if end != middle for found in compared(df, names, gamma=(end, middle))]
    by = "steps" if df["steps"].nunique() > 1 else None
    found = effects(df, names, "gamma", against=last, by=by)
    return Answer(
        sentences=[
            *sentences_of(along),
            *sentences_of([*ends, *inside]),
            *interaction_sentences(found),
            found.sentence,
        ],
        tables={
            "Along gamma": table_of(along, TREND),
            "The ends": table_of(ends, COMPARED),
            "The middle against either end": table_of(inside, COMPARED),
            f"Effects of gamma against {words.show(last)}": effect_table(found, "gamma"),
        },
        figures={
            "by_gamma": sl.plot.response(
                df, "gamma", measured(df, ["psnr_gain", "position_error", "flow_mean"]), by=by
            ),
            "frames": sl.plot.frames(runs.few.example("gamma")),
        },
    )


def start_sigma(runs: Runs) -> Answer:
    """Motion along the start level, at each bucket; the truth where it is known, at bucket 255."""
    df = runs.few.frame()
    motion, truth = ["displacement", "flow_mean"], ["psnr_gain", "position_error", "presence", "sharpness_input"]
    top = df[df["motion_bucket_id"] == BUCKET]
    most = df["sigma_max"].max()
    along = trends(df, [*motion, "warp_error", "flicker"], "sigma_max")
    true = trends(top, truth, "sigma_max") if len(top) else []
    by = "motion_bucket_id" if df["motion_bucket_id"].nunique() > 1 else None
    found = effects(df, motion, "sigma_max", against=most, by=by)
    shown = measured(df, ["displacement", "flow_mean", "presence", "sharpness_input"])
    drawn = [name for name in shown if name != "sharpness_input"]
    return Answer(
        sentences=[*sentences_of(along), *sentences_of(true), *interaction_sentences(found), found.sentence],
        tables={
            "Along the start level": table_of(along, TREND),
            f"Along the start level, at bucket {BUCKET}": table_of(true, TREND),
            f"Effects of the start level on motion against {words.show(most)}": effect_table(found, "sigma_max"),
            "Means": df.groupby(["sigma_max", "motion_bucket_id"])[shown].mean().reset_index(),
        },
        figures={
            "by_start": sl.plot.response(df, "sigma_max", drawn, by=by),
            "frames": sl.plot.frames(runs.few.example("sigma_max", motion_bucket_id=df["motion_bucket_id"].max())),
        },
    )


def _by_steps(between: list, counts: list[int]) -> pd.DataFrame:
    table = table_of(between, COMPARED)
    table.insert(0, "steps", [count for count in counts for _ in range(len(between) // len(counts))])
    return table
