"""The exam of a student and its teacher: make the clips through the public interface, measure them, fill the card.

Pictures come from `svdlab.training.cases`. Every clip is made once, in batches, and serves every row that needs it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from svdlab.files import write_atomic
from svdlab.request import Request
from svdlab.training import evaluate, rows, sheets
from svdlab.training.card import Row, markdown
from svdlab.training.evaluate import Case
from svdlab.training.rows import BUCKETS, COND_AUGS

if TYPE_CHECKING:
    from PIL.Image import Image

    from svdlab.pipeline import Pipeline

STUDENT_STEPS = (1, 2, 4, 8)

Maker = Callable[[Sequence[Request]], list[np.ndarray]]
"""Requests -> frames uint8 `[frames, height, width, 3]` of each: a pipeline, or in a test the truth itself."""


@dataclass(frozen=True, kw_only=True)
class ExamSettings:
    """How the exam is held.

    Example:
        >>> ExamSettings(pictures=4, seeds=1)
    """

    pictures: int = 8  # moving pictures, and as many ambiguous ones
    seeds: int = 2  # clips a picture and setting
    fps: int = 10
    cond_aug: float = 0.02
    steps: int = 4  # of the student
    teacher_steps: int = 25
    batch: int = 8  # clips a batch

    def __post_init__(self) -> None:
        for name in ("pictures", "seeds", "steps", "teacher_steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}: must be 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Systems:
    """Who sits the exam: each makes clips from requests, with its own number of steps and sampler.

    Attributes:
        student: by number of steps; must hold 1, 4 and whatever else is to be shown.
        teacher: the many-step teacher.
        undistilled: the teacher's network with as few steps as the student, by the sampler's name.
    """

    student: Mapping[int, Maker]
    teacher: Maker
    undistilled: Mapping[str, Maker]


@dataclass(kw_only=True)
class Report:
    """The outcome: the rows of the table, and pictures by file name."""

    settings: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    sheets: dict[str, Image] = field(default_factory=dict)

    def row(self, name: str) -> Row:
        """The row of that name; KeyError if there is none."""
        return {row.name: row for row in self.rows}[name]

    def write(self, out: Path) -> None:
        """Write `card.json`, `card.md` and the sheets into the folder `out`, which is created."""
        out.mkdir(parents=True, exist_ok=True)
        for name, sheet in self.sheets.items():
            write_atomic(out / name, sheets.packed(sheet, name))
        text = markdown(self.rows)
        notes = "".join(f"- {row.title}: {row.note}\n" for row in self.rows if row.note)
        links = "".join(f"\n![{Path(name).stem}]({name})\n" for name in self.sheets)
        write_atomic(out / "card.md", text + (f"\n{notes}" if notes else "") + links)
        card = {"settings": self.settings, "rows": [row.to_json() for row in self.rows]}
        write_atomic(out / "card.json", json.dumps(card, indent=2, allow_nan=False) + "\n")


def systems_of(student: Pipeline, teacher: Pipeline, settings: ExamSettings, *, progress: bool = True) -> Systems:
    """The pipelines as they sit the exam.

    The student samples as its card says, the teacher by Euler steps on its Karras grid, with the guidance of its card.
    Its network undistilled takes as few steps as the student: Euler steps on the Karras grid, Euler steps on the
    student's sigmas (the better of the two is the fair rival), and consistency sampling (gamma 1) on those sigmas.
    """
    few = settings.steps

    def maker(pipe: Pipeline, title: str, **how: Any) -> Maker:
        return partial(make_clips, pipe, batch=settings.batch, title=title if progress else None, **how)

    counts = sorted({*STUDENT_STEPS, few})
    return Systems(
        student={n: maker(student, f"student, {n} steps", steps=n) for n in counts},
        teacher=maker(teacher, "teacher", steps=settings.teacher_steps, schedule="karras", gamma=0.0),
        undistilled={
            "euler_karras": maker(teacher, "undistilled, Euler", steps=few, schedule="karras", gamma=0.0),
            "euler": maker(teacher, "undistilled, Euler", steps=few, schedule="animatelcm", gamma=0.0),
            "lcm": maker(teacher, "undistilled, LCM", steps=few, schedule="animatelcm", gamma=1.0),
        },
    )


def make_clips(
    pipe: Pipeline, requests: Sequence[Request], *, batch: int = 8, title: str | None = None, **how: Any
) -> list[np.ndarray]:
    """Frames of each request, `batch` at a time; `how` changes settings of all of them."""
    made: list[np.ndarray] = []
    with tqdm(total=len(requests), desc=title, unit="clip", disable=title is None) as bar:
        for first in range(0, len(requests), batch):
            part = [request.replace(**how) for request in requests[first : first + batch]]
            made += [clip.frames for clip in pipe.batch(part)]
            bar.update(len(part))
    return made


# ---------------------------------------------------------------- the parts of the exam


def motion_clips(make: Maker, cases: Sequence[Case], settings: ExamSettings) -> np.ndarray:
    """Clips of every case at every bucket and seed: uint8 `[cases, buckets, seeds, frames, height, width, 3]`."""
    requests = [
        Request(image=case.picture, motion_bucket_id=bucket, fps=settings.fps, cond_aug=settings.cond_aug, seed=seed)
        for case in cases
        for bucket in BUCKETS
        for seed in range(settings.seeds)
    ]
    clips = np.stack(make(requests))
    return clips.reshape(len(cases), len(BUCKETS), settings.seeds, *clips.shape[1:])


def cond_aug_clips(make: Maker, cases: Sequence[Case], settings: ExamSettings) -> np.ndarray:
    """Clips of every case at every strength of `cond_aug` and seed, at bucket 127: `[cases, cond_augs, seeds, ...]`."""
    requests = [
        Request(image=case.picture, motion_bucket_id=127, fps=settings.fps, cond_aug=amount, seed=seed)
        for case in cases
        for amount in COND_AUGS
        for seed in range(settings.seeds)
    ]
    clips = np.stack(make(requests))
    return clips.reshape(len(cases), len(COND_AUGS), settings.seeds, *clips.shape[1:])


def ambiguous_clips(systems: Systems, cases: Sequence[Case], settings: ExamSettings) -> dict[str, np.ndarray]:
    """Clips of ambiguous pictures at bucket 255 by every system: name -> uint8 `[cases, seeds, frames, h, w, 3]`."""
    requests = [
        Request(image=case.picture, motion_bucket_id=255, fps=settings.fps, cond_aug=settings.cond_aug, seed=seed)
        for case in cases
        for seed in range(settings.seeds)
    ]
    makers = {f"student_{n}": make for n, make in systems.student.items()}
    makers |= {"teacher": systems.teacher}
    makers |= {f"undistilled_{name}": make for name, make in systems.undistilled.items()}
    made = {name: np.stack(make(requests)) for name, make in makers.items()}
    return {name: clips.reshape(len(cases), settings.seeds, *clips.shape[1:]) for name, clips in made.items()}


def photo_clips(make: Maker, picture: np.ndarray, settings: ExamSettings) -> tuple[np.ndarray, np.ndarray]:
    """Clips of a photograph at buckets 0 and 255."""
    requests = [Request(image=picture, motion_bucket_id=bucket, fps=settings.fps, seed=0) for bucket in (0, 255)]
    still, fast = make(requests)
    return still, fast


# ---------------------------------------------------------------- the whole


def sit(
    systems: Systems,
    *,
    moving: Sequence[Case],
    ambiguous: Sequence[Case],
    photo: np.ndarray,
    settings: ExamSettings,
) -> Report:
    """The rows that need clips alone, and the sheets: all but those of the VAE, the time and the files.

    Args:
        moving: pictures with one future; `ambiguous`: with several. See `svdlab.training.cases`.
        photo: a real photograph as the model sees it, uint8 `[height, width, 3]`.
    """
    report = Report(settings=asdict(settings))
    few = systems.student[settings.steps]
    clips = {"student": motion_clips(few, moving, settings), "teacher": motion_clips(systems.teacher, moving, settings)}
    for who, made in clips.items():
        report.rows += rows.motion_rows(made, moving, who) + rows.position_rows(made, moving, who)
    report.rows += rows.appearance_rows(clips["student"], clips["teacher"], moving)
    report.rows += rows.cond_aug_rows(cond_aug_clips(few, moving, settings), moving)
    undecided = ambiguous_clips(systems, ambiguous, settings) if ambiguous else {}
    report.rows += rows.ambiguous_rows(undecided, ambiguous, steps=settings.steps, teacher_steps=settings.teacher_steps)
    still, fast = photo_clips(few, photo, settings)
    report.rows += rows.photo_rows(still, fast, photo)
    order = report.row("student_psnr_gain").pictures
    report.sheets = sheets.draw(moving, clips, order=order, ambiguous=ambiguous, futures=undecided)
    report.sheets["photograph.jpg"] = sheets.photograph(photo, still, fast)
    return report


def examine(
    student: Pipeline,
    teacher: Pipeline,
    *,
    moving: Sequence[Case],
    ambiguous: Sequence[Case],
    photo: np.ndarray,
    settings: ExamSettings | None = None,
    timed: Pipeline | None = None,
    progress: bool = True,
) -> Report:
    """Hold the whole exam.

    Args:
        student, teacher: of one size, usually two UNets over one VAE.
        moving, ambiguous, photo: see `sit`.
        timed: the student on the CPU, where seconds are taken; None: `student` itself.

    Example:
        >>> report = examine(student, teacher, moving=moving, ambiguous=ambiguous, photo=photo)
        >>> report.write(Path("runs/card"))
    """
    settings = settings or ExamSettings()
    timed = timed or student
    seconds = evaluate.clip_seconds(timed, photo, steps=settings.steps)  # first: nothing else is in memory yet
    report = sit(
        systems_of(student, teacher, settings, progress=progress),
        moving=moving,
        ambiguous=ambiguous,
        photo=photo,
        settings=settings,
    )
    report.rows[:0] = rows.vae_rows({case.name: evaluate.vae_psnr(student, case.truths[0]) for case in moving})
    where = f"{timed.defaults.num_frames} frames, {settings.steps} steps, {timed.describe()['device']}"
    folders = [pipe.components.info.folder for pipe in (student, teacher)]
    report.rows += rows.cost_rows(seconds, where, [folder for folder in folders if folder is not None])
    report.settings |= {"student": student.describe(), "teacher": teacher.describe()}
    return report
