"""Questions about the knobs: noise on the picture, decoding in chunks, the motion bucket, and the seed."""

from __future__ import annotations

import pandas as pd

import svdlab as sl
from answers.findings import (
    COMPARED,
    TREND,
    compared,
    effect_table,
    effects,
    interaction_sentences,
    measured,
    sentences_of,
    table_of,
    trends,
)
from answers.page import Answer
from answers.runs import Runs
from svdlab.stats import words
from svdlab.stats.design import SETTING_COLUMNS
from svdlab.stats.variance import GROUPS
from svdlab.sweep.partners import SAMPLER

TRAINED = 1.0  # largest cond_aug that the small student sees in training; SVD's log-normal has 97 % below 0.13
LEVELS = 255


def cond_aug(runs: Runs) -> Answer:
    """Trends inside the training range and outside, and every value against the usual 0.02."""
    df = runs.few.frame()
    names = ["psnr_gain", "position_error", "presence", "displacement", "sharpness_input",
             "ssim_input", "psnr_input", "flow_mean", "warp_error", "flicker"]  # fmt: skip
    values = sorted(set(df["cond_aug"]))
    usual = min(values, key=lambda value: abs(value - 0.02))
    within, beyond = ([value for value in values if (value <= TRAINED) is inside] for inside in (True, False))
    inner = trends(df[df["cond_aug"].isin(within)], names, "cond_aug") if len(within) > 1 else []
    outer = trends(df[df["cond_aug"].isin([within[-1], *beyond])], names, "cond_aug") if within and beyond else []
    found = effects(df, names, "cond_aug", against=usual)
    shown = measured(df, ["psnr_gain", "position_error", "ssim_input"])
    said = [f"Inside the training range (0 to {words.show(TRAINED)}): {result.sentence}" for result in inner]
    said += [f"From its end on ({words.show(within[-1])} and above): {result.sentence}" for result in outer]
    return Answer(
        sentences=[*said, found.sentence],
        tables={
            "Inside the training range": table_of(inner, TREND),
            "From its end on": table_of(outer, TREND),
            f"Effects of cond_aug against {words.show(usual)}": effect_table(found, "cond_aug"),
        },
        figures={
            "by_cond_aug": sl.plot.response(side_by_side(df, "cond_aug"), "cond_aug", shown),
            "frames": sl.plot.frames(runs.few.example("cond_aug")),
        },
    )


def side_by_side(df: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The table with the values of an axis as names in rising order, for a plot in which near ones would fall together.

    Example:
        >>> list(side_by_side(df, "cond_aug")["cond_aug"].cat.categories)
        ['0', '0.02', '0.1']
    """
    values = sorted(set(df[axis]))
    names = [words.show(value) for value in values]
    return df.assign(**{axis: pd.Categorical(df[axis].map(words.show), categories=names, ordered=True)})


def decode_chunk(runs: Runs) -> Answer:
    """Every chunk against all frames at once, and how much of what is added stands at the seams."""
    df = runs.few.frame()
    whole = int(df["decode_chunk"].max())
    names = ["flicker", "jerk", "warp_error", "flow_mean", "sharpness_input", "seconds_decode"]
    by = "motion_bucket_id" if df["motion_bucket_id"].nunique() > 1 else None
    found = effects(df, names, "decode_chunk", against=whole, by=by)
    curves = runs.few.sweep.per_frame(["flicker"], pipe=runs.few.pipe)
    places = seams(df, curves)
    added = [
        sl.stats.compare(part, "added", place=("between", "at seams"), axes=["place"])
        for chunk in sorted(set(places["decode_chunk"]))
        for part in [places[places["decode_chunk"] == chunk]]
        if part["place"].nunique() == 2
    ]
    table = table_of(added, COMPARED)
    table.insert(0, "decode_chunk", [c for c, part in places.groupby("decode_chunk") if part["place"].nunique() == 2])
    against = [
        result for chunk in sorted(set(df["decode_chunk"]) - {whole}) for result in compared(
            df, ["flicker", "jerk"], decode_chunk=(whole, chunk))
    ]  # fmt: skip
    said = [
        f"Chunks of {chunk}, change from frame to frame in grey levels more than without chunks: {result.sentence}"
        for chunk, result in zip(table["decode_chunk"], added, strict=True)
    ]
    return Answer(
        sentences=[*sentences_of(against), *said, *interaction_sentences(found), found.sentence],
        tables={
            "Change added at seams and between them (grey levels)": table,
            f"Effects of decode_chunk against {whole}": effect_table(found, "decode_chunk"),
        },
        figures={
            "by_chunk": sl.plot.response(
                df, "decode_chunk", measured(df, ["flicker", "jerk", "seconds_decode"]), by=by
            ),
            "by_frame": sl.plot.per_frame(runs.few.example("decode_chunk"), ["flicker"]),
        },
    )


def seams(df: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """How much more a clip changes from frame to frame than the same latents decoded at once: at seams, and between.

    A seam lies before every frame t > 0 with t a multiple of `decode_chunk`. The change is the mean absolute
    difference of neighbouring frames in grey levels, 255 (1 - flicker).

    Args:
        df: cells, with `cell`, `decode_chunk` and what else varies; the largest `decode_chunk` is the undivided one.
        curves: `cell`, `frame`, `value` of the metric `flicker`, as `Sweep.per_frame` gives them.

    Returns:
        A row a cell (but for the undivided) and place, ``"at seams"`` or ``"between"``: image, seed, settings, `place`
        and `added`, the mean over its frames.

    Example:
        >>> seams(df, sweep.per_frame(["flicker"], pipe=pipe)).groupby(["decode_chunk", "place"])["added"].mean()
    """
    keys = [name for name in SETTING_COLUMNS if name in df and name != "decode_chunk"]
    long = curves[["cell", "frame", "value"]].dropna().merge(df[["cell", "decode_chunk", *keys]], on="cell")
    long["change"] = LEVELS * (1 - long["value"])
    undivided = long[long["decode_chunk"] == df["decode_chunk"].max()]
    both = long[long["decode_chunk"] < df["decode_chunk"].max()].merge(
        undivided[[*keys, "frame", "change"]], on=[*keys, "frame"], suffixes=("", "_undivided")
    )
    both["added"] = both["change"] - both["change_undivided"]
    both["place"] = (both["frame"] % both["decode_chunk"] == 0).map({True: "at seams", False: "between"})
    return both.groupby([*keys, "decode_chunk", "place"], as_index=False)["added"].mean()


def bucket(runs: Runs) -> Answer:
    """Student and teacher along the bucket, and how much more one follows it than the other."""
    assert runs.many is not None
    parts = {"student": runs.few.frame(), "teacher": runs.many.frame()}
    both = pd.concat(
        [
            part.drop(columns=[name for name in SAMPLER if name in part]).assign(model=who)
            for who, part in parts.items()
        ],
        ignore_index=True,
    )
    names = ["displacement", "flow_mean", "object_mean", "presence", "warp_error"]
    own = {who: trends(part, names, "motion_bucket_id") for who, part in parts.items()}
    low, high = both["motion_bucket_id"].min(), both["motion_bucket_id"].max()
    ends = {who: compared(part, names, motion_bucket_id=(low, high)) for who, part in parts.items()}
    found = effects(both, names, "motion_bucket_id", against=low, by="model")
    beside = [
        sl.stats.compare(parts["teacher"], parts["student"], name, names=("the teacher", "the student"))
        for name in measured(both, names)
    ]
    labels = [label for label in runs.scenes.labels(ambiguous=False) if label in set(both["image"])]
    true = (
        f"In truth these objects go {words.number(runs.scenes.true_px(labels))} px (of a 64 px frame) at bucket 255 and"
        " 10 fps, in proportion to the bucket, and not at all at 0."
    )
    strips = {
        f"{who}, {label}": clip
        for who, side in (("student", runs.few), ("teacher", runs.many))
        for label, clip in side.example("motion_bucket_id").items()
    }
    said = [f"The {who}: {line}" for who in parts for line in sentences_of([*own[who], *ends[who]])]
    return Answer(
        sentences=[true, *said, *interaction_sentences(found), *sentences_of(beside)],
        tables={
            **{f"The {who} along the bucket": table_of(own[who], TREND) for who in parts},
            **{f"The {who}, {high} against {low}": table_of(ends[who], COMPARED) for who in parts},
            "How much more the teacher follows (interactions)": found.interactions,
            "The student beside its teacher": table_of(beside, COMPARED),
        },
        figures={
            "by_bucket": sl.plot.response(
                both, "motion_bucket_id", measured(both, ["displacement", "flow_mean", "presence"]), by="model"
            ),
            "frames": sl.plot.frames(strips),
        },
    )


def seeds_settings(runs: Runs) -> Answer:
    """Shares of variance of settings, picture and seed, where the picture decides the motion and where it does not."""
    df = runs.few.frame()
    names = ["displacement", "moved_x", "presence", "flow_mean", "warp_error", "flicker"]
    groups = {"decided": runs.scenes.labels(ambiguous=False), "open": runs.scenes.labels(ambiguous=True)}
    tables, said, shares = {}, [], []
    for group, labels in groups.items():
        part = df[df["image"].isin(labels)]
        for name in measured(part, names):
            found = sl.stats.variance(part, name)
            said.append(f"Pictures whose future is {group}: {found.sentence}")
            rows = found.to_frame().assign(metric=name, pictures=group)
            shares.append(rows[rows["source"].isin(GROUPS)])
            tables.setdefault(f"Shares of variance, pictures whose future is {group}", []).append(rows)
    drawn = pd.concat(shares, ignore_index=True)
    columns = ["metric", "source", "df", "share", "adjusted", "low", "high", "sd"]
    return Answer(
        sentences=said,
        tables={title: pd.concat(parts, ignore_index=True)[columns] for title, parts in tables.items()},
        figures={
            "shares": sl.plot.heatmap(drawn, x="source", y="metric", value="share", col="pictures"),
            "units": sl.plot.response(
                df,
                "motion_bucket_id",
                measured(df, ["moved_x", "displacement"]),
                by="image",
                individuals=True,
                band=None,
            ),
        },
    )
