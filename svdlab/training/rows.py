"""From clips to the rows of the card: which clips a number is taken over, how it is averaged, and its bar."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svdlab.training import evaluate
from svdlab.training.card import Bar, Row
from svdlab.training.evaluate import Case

BUCKETS = (0, 32, 64, 96, 128, 160, 192, 224, 255)
COND_AUGS = (0.0, 0.02, 0.1, 0.3, 0.6, 1.0)
CLEARLY = 0.1  # share of ambiguous clips by which the student must be ahead of the undistilled network


def vae_rows(psnr: Mapping[str, float]) -> list[Row]:
    """PSNR of held-out clips through the VAE (`evaluate.vae_psnr`), by picture; the row is their mean."""
    return [
        Row(
            name="vae_psnr",
            title="VAE reconstruction of held-out frames, PSNR",
            unit="dB",
            value=float(np.mean(list(psnr.values()))),
            bar=Bar(aim=30, limit=27),
            pictures=psnr,
        )
    ]


def motion_rows(clips: np.ndarray, cases: Sequence[Case], who: str) -> list[Row]:
    """How the motion bucket is followed.

    Displacement and `flow_mean` are averaged over seeds; Spearman's rho with the nine buckets is taken for each
    picture, then its mean and its least value over pictures.

    Args:
        clips: uint8 `[cases, buckets, seeds, frames, height, width, 3]`.
        who: `student` or `teacher`.
    """
    moved = np.array([[_mean(evaluate.displacement, clips[i, b], case) for b in range(len(BUCKETS))]
                      for i, case in enumerate(cases)])  # fmt: skip
    flow = np.array([[_mean(evaluate.flow_mean, clips[i, b]) for b in range(len(BUCKETS))] for i in range(len(cases))])
    rho = _by_name(cases, [evaluate.spearman(BUCKETS, values) for values in moved])
    rho_flow = _by_name(cases, [evaluate.spearman(BUCKETS, values) for values in flow])
    named = f"{who}: motion_bucket_id with displacement"
    return [
        Row(
            name=f"{who}_bucket_rho",
            title=f"{named}, Spearman rho, mean",
            value=float(np.mean(list(rho.values()))),
            bar=Bar(aim=0.98, limit=0.9),
            pictures=rho,
            note="mean displacement in px at buckets "
            + ", ".join(f"{bucket}: {value:.2f}" for bucket, value in zip(BUCKETS, moved.mean(axis=0), strict=True)),
        ),
        Row(
            name=f"{who}_bucket_rho_worst",
            title=f"{named}, Spearman rho, worst picture",
            value=min(rho.values()),
            bar=Bar(aim=0.9, limit=0.7),
        ),
        Row(
            name=f"{who}_flow_rho",
            title=f"{who}: motion_bucket_id with flow_mean, Spearman rho, mean",
            value=float(np.mean(list(rho_flow.values()))),
            bar=Bar(aim=0.95, limit=0.8),
            pictures=rho_flow,
            note="mean flow_mean in px/frame at buckets "
            + ", ".join(f"{bucket}: {value:.3f}" for bucket, value in zip(BUCKETS, flow.mean(axis=0), strict=True)),
        ),
        Row(
            name=f"{who}_flow_rho_worst",
            title=f"{who}: motion_bucket_id with flow_mean, Spearman rho, worst picture",
            value=min(rho_flow.values()),
            bar=Bar(aim=0.8),
        ),
        Row(
            name=f"{who}_displacement_ratio",
            title=f"{who}: displacement at bucket 255 over bucket 0",
            unit="x",
            value=evaluate.displacement_ratio(moved[:, -1], moved[:, 0]),
            bar=Bar(aim=8, limit=4),
            pictures=_by_name(cases, [evaluate.displacement_ratio([row[-1]], [row[0]]) for row in moved]),
        ),
    ]


def position_rows(clips: np.ndarray, cases: Sequence[Case], who: str) -> list[Row]:
    """Where the object is in the last frame at bucket 255, against the truth and the still picture.

    Cases of a camera take part in the gain of PSNR alone. Args as for `motion_rows`.
    """
    fast = [(case, clips[i, -1]) for i, case in enumerate(cases)]
    objects = [(case, made) for case, made in fast if case.target is not None]
    rows = []
    if objects:
        errors = {case.name: _mean(evaluate.position_error, made, case) for case, made in objects}
        still = float(np.mean([evaluate.still_error(case) for case, _ in objects]))
        mean = float(np.mean(list(errors.values())))
        rows = [
            Row(
                name=f"{who}_position_error",
                title=f"{who}: object position error at the last frame, bucket 255 (of 64 px)",
                unit="px",
                value=mean,
                bar=Bar(aim=2, limit=still / 3, lower=True),
                pictures=errors,
                note=f"the still picture's error is {still:.2f} px; a third of it is the limit",
            )
        ]
    gains = {case.name: _mean(evaluate.psnr_gain, made, case) for case, made in fast}
    rows.append(
        Row(
            name=f"{who}_psnr_gain",
            title=f"{who}: PSNR of the last frame to the truth, over that of the input picture, bucket 255",
            unit="dB",
            value=float(np.mean(list(gains.values()))),
            bar=Bar(aim=4, limit=1.5),
            pictures=gains,
        )
    )
    return rows


def appearance_rows(student: np.ndarray, teacher: np.ndarray, cases: Sequence[Case]) -> list[Row]:
    """LPIPS of the object in the last frame at bucket 255: the student's, the teacher's, and their ratio."""
    rows: list[Row] = []
    pairs = [(i, case) for i, case in enumerate(cases) if case.target is not None]
    if not pairs:
        return rows
    means = {}
    for who, clips in (("student", student), ("teacher", teacher)):
        both = np.array([[evaluate.object_lpips(frames, case) for frames in clips[i, -1]] for i, case in pairs])
        truth, given = both.mean(axis=1).T
        means[who] = float(truth.mean())
        rows.append(
            Row(
                name=f"{who}_object_lpips",
                title=f"{who}: LPIPS of the object's crop to the true one",
                value=means[who],
                pictures=_by_name([case for _, case in pairs], truth),
                note=f"to the object as the input picture shows it: {given.mean():.3f}",
            )
        )
    rows.append(
        Row(
            name="object_lpips_ratio",
            title="LPIPS of the object's crop, student over teacher",
            unit="x",
            value=means["student"] / max(means["teacher"], 1e-3),
            bar=Bar(aim=1.1, lower=True),
        )
    )
    return rows


def cond_aug_rows(clips: np.ndarray, cases: Sequence[Case]) -> list[Row]:
    """Spearman's rho of `cond_aug` (0, .02, .1, .3, .6, 1) with the metric `lpips_input`.

    Mean over seeds first; the rho of each picture, then its mean.

    Args:
        clips: uint8 `[cases, cond_augs, seeds, frames, height, width, 3]`.
    """
    curves = np.array(
        [[_mean(evaluate.lpips_input, made, case.picture) for made in clips[i]] for i, case in enumerate(cases)]
    )
    rho = _by_name(cases, [evaluate.spearman(COND_AUGS, curve) for curve in curves])
    shown = ", ".join(f"{amount:g}: {value:.3f}" for amount, value in zip(COND_AUGS, curves.mean(axis=0), strict=True))
    return [
        Row(
            name="cond_aug_rho",
            title="student: cond_aug with lpips_input, Spearman rho, mean",
            value=float(np.mean(list(rho.values()))),
            bar=Bar(aim=0.9, limit=0.8),
            pictures=rho,
            note=f"mean lpips_input at cond_aug {shown}",
        )
    ]


def ambiguous_rows(
    clips: Mapping[str, np.ndarray], cases: Sequence[Case], *, steps: int, teacher_steps: int
) -> list[Row]:
    """Share of clips from ambiguous pictures that show one future, by system; and how the student compares.

    Args:
        clips: name -> uint8 `[cases, seeds, frames, height, width, 3]`; the names are `student_<steps>`, `teacher` and
            `undistilled_<sampler>`.
        steps: the student's few, which it is compared at.
    """
    if not cases:
        return [Row(name="decided", title="ambiguous pictures: share of decided clips", value=None)]
    shares, rows = {}, []
    for name, made in clips.items():
        each = _by_name(cases, [float(np.mean([evaluate.decided(f, c) for f in made[i]])) for i, c in enumerate(cases)])
        shares[name] = float(np.mean(list(each.values())))
        title = f"ambiguous pictures: share of decided clips, {name.replace('_', ' ')}"
        rows.append(Row(name=f"decided_{name}", title=title, value=shares[name], pictures=each))
    student = shares[f"student_{steps}"]
    rival = max(share for name, share in shares.items() if name.startswith("undistilled"))
    compared = [
        ("teacher", f"the teacher's at {teacher_steps}", shares["teacher"], Bar(aim=-0.05)),
        ("undistilled", f"the better undistilled at {steps}", rival, Bar(aim=CLEARLY)),
        ("one_step", "its own at 1", shares["student_1"], Bar(aim=CLEARLY, limit=0.001)),
    ]
    return rows + [
        Row(
            name=f"decided_over_{name}",
            title=f"ambiguous pictures: the student's share at {steps} steps less {against}",
            value=student - share,
            bar=bar,
        )
        for name, against, share, bar in compared
    ]


def photo_rows(still: np.ndarray, fast: np.ndarray, picture: np.ndarray) -> list[Row]:
    """What becomes of a real photograph, see `evaluate.photo_measures`; at buckets 0 and 255.

    These bars are loose enough for a small decoder, and tight enough to catch noise, grey and a frozen camera.
    """
    values = evaluate.photo_measures(fast, still, picture, reach=picture.shape[1] // 2)
    about: list[tuple[str, str, str, Bar | None]] = [
        ("photo_lpips", "LPIPS of frame 0 to it", "", Bar(aim=0.2, limit=0.4, lower=True)),
        ("photo_ssim", "SSIM of frame 0 to it", "", Bar(aim=0.8, limit=0.6)),
        ("photo_moved", "what the camera moves at bucket 255 less that at 0", "px", Bar(aim=2)),
        ("photo_saturation", "saturation of the last frame over its own (0.7 to 1.4 is sound)", "x", None),
        ("photo_sharpness", "sharpness of the last frame over its own (0.3 to 2 is sound)", "x", None),
    ]
    rows = [
        Row(name=name, title=f"photograph: {title}", unit=unit, value=values[name], bar=bar)
        for name, title, unit, bar in about
    ]
    sound = 0.7 <= values["photo_saturation"] <= 1.4 and 0.3 <= values["photo_sharpness"] <= 2
    title = "photograph: no collapse (1: saturation and sharpness are sound)"
    return [*rows, Row(name="photo_sound", title=title, value=float(sound), bar=Bar(aim=1, limit=1))]


def cost_rows(seconds: float, where: str, folders: Sequence[Path]) -> list[Row]:
    """Seconds of one clip (`evaluate.clip_seconds`) and the size of all files of both models."""
    return [
        Row(
            name="seconds",
            title="seconds of one clip on the CPU",
            unit="s",
            value=seconds,
            bar=Bar(aim=3, limit=6, lower=True),
            note=where,
        ),
        Row(
            name="megabytes",
            title="all files",
            unit="MB",
            value=evaluate.files_megabytes(folders) if folders else None,
            bar=Bar(aim=25, limit=40, lower=True),
        ),
    ]


def _mean(measure: Callable[..., float], clips: np.ndarray, *more: Any) -> float:
    """Mean of a measure over the seeds of `[seeds, frames, height, width, 3]`."""
    return float(np.mean([measure(frames, *more) for frames in clips]))


def _by_name(cases: Sequence[Case], values: Sequence[float] | np.ndarray) -> dict[str, float]:
    return {case.name: float(value) for case, value in zip(cases, values, strict=True)}
