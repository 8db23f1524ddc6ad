"""Measure everything that the model card of a small trained model must show.

    python experiments/tiny_card.py --student tiny --teacher tiny-teacher --out runs/card

Writes card.json, card.md (the table) and contact sheets of successes and failures into the folder given by --out. The
pictures are held out: scenes of the world that training does not render. How each row is measured is told by the
functions of `svdlab.training.evaluate`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import svdlab as sl
from svdlab import examples
from svdlab.training.cases import held_out
from svdlab.training.exam import ExamSettings, Report, examine

PHOTO = examples.path("rocket")


def main(arguments: list[str] | None = None) -> int:
    """Run the exam as the command line says; 0 if no row has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="catalogue name or folder")
    parser.add_argument("--teacher", required=True, help="catalogue name or folder")
    parser.add_argument("--out", required=True, type=Path, help="folder for the card; created")
    parser.add_argument("--pictures", type=int, default=8, help="moving pictures, and as many ambiguous ones")
    parser.add_argument("--seeds", type=int, default=2, help="clips a picture and setting")
    parser.add_argument("--photo", type=Path, default=PHOTO, help="a real photograph")
    parser.add_argument("--stage", default="full", help="stage of the world that the pictures come from")
    parser.add_argument("--teacher-steps", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8, help="clips a batch")
    parser.add_argument("--device", default="auto", help="where clips are made; seconds are taken on the CPU")
    given = parser.parse_args(arguments)
    try:
        report = hold(given)
    except (sl.SvdlabError, ValueError) as error:
        parser.error(str(error))
    report.write(given.out)
    print((given.out / "card.md").read_text(encoding="utf-8"))  # noqa: T201 (a command speaks to its caller)
    return int(any(row.verdict == "failed" for row in report.rows))


def hold(given: argparse.Namespace) -> Report:
    """Load both models, render the held-out pictures, and hold the exam."""
    sl.metrics.require(["lpips_input", "flow_mean", "ssim_input"])
    student, teacher = sl.load(given.student, device=given.device), sl.load(given.teacher, device=given.device)
    timed = student if student.device.type == "cpu" else sl.load(given.student, device="cpu")
    sizes = student.defaults
    if len({sizes.width, sizes.height, teacher.defaults.width, teacher.defaults.height}) > 1:
        raise ValueError(f"student {sizes} and teacher {teacher.defaults}: must make square frames of one size.")
    photo = np.asarray(sl.prepare(sl.load_image(given.photo), width=sizes.width, height=sizes.height))
    settings = ExamSettings(
        pictures=given.pictures, seeds=given.seeds, teacher_steps=given.teacher_steps, batch=given.batch
    )
    cases = held_out(
        count=given.pictures, size=sizes.width, num_frames=sizes.num_frames, stage=given.stage, fps=settings.fps
    )
    return examine(
        student, teacher, moving=cases.moving, ambiguous=cases.ambiguous, photo=photo, settings=settings, timed=timed
    )


if __name__ == "__main__":
    sys.exit(main())
