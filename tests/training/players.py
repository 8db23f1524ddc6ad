"""Makers that play drawn truths, whole or spoilt, in the place of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from svdlab.request import Request
from svdlab.training.evaluate import Case
from svdlab.training.exam import Maker, Systems

Play = Callable[[Case, float, int, Request], np.ndarray]
"""(case, speed 0..1, future, request) -> frames."""


def player(cases: Sequence[Case], play: Play) -> Maker:
    """A maker that knows every picture's truth: speed grows with the bucket, the seed chooses the future."""
    known = {case.picture.tobytes(): case for case in cases}

    def make(requests: Sequence[Request]) -> list[np.ndarray]:
        clips = []
        for request in requests:
            case = known[request.image.tobytes()]
            clips.append(play(case, request.motion_bucket_id / 255, request.seed % len(case.ends), request))
        return clips

    return make


def systems(cases: Sequence[Case], *, student: Play, teacher: Play, one_step: Play, undistilled: Play) -> Systems:
    by_steps = {1: one_step, 2: one_step, 4: student, 8: student}
    return Systems(
        student={steps: player(cases, play) for steps, play in by_steps.items()},
        teacher=player(cases, teacher),
        undistilled={name: player(cases, undistilled) for name in ("euler", "lcm")},
    )
