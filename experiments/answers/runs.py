"""Specifications of a question -> finished sweeps: frozen in TOML, with another model by one word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import svdlab as sl
from answers.scenes import MOST, PICTURES, Scenes, scenes_of_size, use_truth
from svdlab.clip import Clip
from svdlab.errors import SpecError, SweepError
from svdlab.pipeline import Pipeline
from svdlab.request import Defaults
from svdlab.sweep import Plan, Sweep, read_spec, run_spec
from svdlab.sweep.grid import make_grid
from svdlab.sweep.partners import SAMPLER
from svdlab.sweep.spec import Spec

SPECS = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Side:
    """A finished sweep and the model that made it."""

    sweep: Sweep
    pipe: Pipeline

    def frame(self) -> pd.DataFrame:
        """The finished cells, one row each.

        Raises:
            SweepError: there are none.
        """
        whole = self.sweep.frame()
        done = whole[whole["status"] == "done"].reset_index(drop=True)
        if done.empty:
            raise SweepError(
                f"{self.sweep.path}: no cell is done ({self.sweep.status()}). Look at its errors with `svdlab status`."
            )
        return done

    def example(self, along: str, **where: Any) -> dict[str, Clip]:
        """One clip for each value of a setting, else alike: of the first picture and seed, and the first of all else.

        Args:
            where: setting -> value, in place of the first.

        Example:
            >>> list(side.example("steps"))
            ['steps = 1', 'steps = 2']
        """
        rows = self.frame()
        for name in ("image", *(axis for axis in self.sweep.axes if axis not in (along, "image"))):
            chosen = where[name] if name in where else rows[name].iloc[0]
            rows = rows[rows[name] == chosen]
        return {f"{along} = {row[along]}": self.sweep.clip(row["cell"]) for _, row in rows.iterrows()}


@dataclass(frozen=True, kw_only=True)
class Runs:
    """What a question is answered from.

    Attributes:
        few: the sweep of the model in question.
        many: that of its teacher, where the question has one.
        scenes: the pictures whose truth is known.
    """

    few: Side
    many: Side | None
    scenes: Scenes


def adapt(
    spec: Spec, pipe: Pipeline, scenes: Scenes, *, metrics: Sequence[str] = (), only: Mapping[str, Any] | None = None
) -> Spec:
    """A frozen specification for this model: its name, its size, pictures of that size, and metrics more.

    Args:
        scenes: whose files take the place of the frozen ones of the same name.
        metrics: added to those of the specification.
        only: setting -> values, in place of the specification's, for a trial.

    Raises:
        SpecError: a setting in `only` is unknown.

    Example:
        >>> adapt(read_spec("experiments/gamma.toml"), pipe, scenes, only={"seed": [0]}).grid.axes["seed"]
        (0,)
    """
    images = tuple(_replaced(source, scenes) for source in spec.images)
    axes, fixed = dict(spec.grid.axes), dict(spec.grid.fixed)
    width, height = size_of(pipe.defaults)
    if (width, height) != (pipe.defaults.width, pipe.defaults.height):
        fixed |= {"width": width, "height": height}
    for name, values in (only or {}).items():
        axes[name] = tuple(values)
        fixed.pop(name, None)
    if spec.metrics is None:
        raise SpecError(f"{spec.file}: metrics must be a list of names, so that the same is measured in every version.")
    return dataclasses.replace(
        spec,
        model=pipe.name,
        images=images,
        grid=make_grid(axes, fixed),
        metrics=tuple(dict.fromkeys((*spec.metrics, *metrics))),
    )


def size_of(defaults: Defaults) -> tuple[int, int]:
    """Width and height that a model is asked for: its own if they are equal and the world has them, else 512 x 512.

    Example:
        >>> size_of(info("tiny-random").defaults), size_of(info("svd-xt").defaults)
        ((64, 64), (512, 512))
    """
    width, height = defaults.width, defaults.height
    return (width, height) if width == height <= MOST else (MOST, MOST)


def run_question(
    specs: Sequence[Path],
    out: Path,
    *,
    truth: Sequence[str] = (),
    model: str | None = None,
    teacher: str | None = None,
    device: str = "auto",
    only: Mapping[str, Any] | None = None,
    progress: bool = True,
    on_plan: Callable[[Plan], None] | None = None,
) -> Runs:
    """Run the sweeps of a question, or go on with them: `out`/student, and `out`/teacher for a second specification.

    Args:
        specs: one file, or two: that of the model in question, then that of its teacher.
        truth: metrics of `scenes.use_truth` to measure too.
        model, teacher: catalogue names, folders or repositories, in place of those of the specifications.
        only: see `adapt`; settings of the sampler are the student's alone.
        on_plan: called with the plan of each sweep before its first cell.

    Raises:
        SvdlabError: anything that stands in the way, before the first cell.
        KeyboardInterrupt: Ctrl-C; the same call goes on.

    Example:
        >>> run_question([SPECS / "gamma.toml"], Path("runs/gamma")).few.frame()
    """
    given = [read_spec(path) for path in specs]
    names = [model or given[0].model, *(teacher or spec.model for spec in given[1:])]
    pipes = [sl.load(str(name), device=device) for name in names]
    if len({(size_of(pipe.defaults), pipe.defaults.num_frames) for pipe in pipes}) > 1:
        raise SpecError(
            f"model = {names[0]!r} and teacher = {names[1]!r}: make clips of different sizes or lengths, which do not"
            " compare. Take a model and its own teacher."
        )
    scenes = scenes_of_size(size_of(pipes[0].defaults)[0], pipes[0].defaults.num_frames, out / "pictures")
    use_truth(scenes)
    sides = []
    for spec, pipe, folder in zip(given, pipes, ("student", "teacher"), strict=False):
        narrowed = {key: part for key, part in (only or {}).items() if folder == "student" or key not in SAMPLER}
        adapted = adapt(spec, pipe, scenes, metrics=truth, only=narrowed)
        sweep = run_spec(adapted, out=out / folder, pipe=pipe, progress=progress, on_plan=on_plan)
        if sweep.interrupted:
            raise KeyboardInterrupt
        sides.append(Side(sweep=sweep, pipe=pipe))
    return Runs(few=sides[0], many=sides[1] if len(sides) > 1 else None, scenes=scenes)


def _replaced(source: Any, scenes: Scenes) -> Any:
    """The file of a scene at the size wanted, in place of the frozen one; any other picture as it is."""
    if isinstance(source, str) and Path(source).resolve().parent == PICTURES.resolve():
        return str(scenes.files[Path(source).stem])
    return source
