"""Answer a question: run its sweep, compute the statistics, and write answer.md and answer.json.

    python experiments/answer.py few_steps
    python experiments/answer.py few_steps --model animatelcm-svd-xt-1.1 --teacher svd-xt --out runs/real

The sweeps go into --out (by default runs/QUESTION) and can be interrupted: the same call goes on. What each file says
is told in experiments/README.md.
"""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import svdlab as sl
from answers.page import write_answer
from answers.questions import QUESTIONS
from answers.runs import SPECS, Side, run_question
from svdlab.errors import SpecError
from svdlab.sweep.ranges import parse_values

PACKAGES = ("torch", "diffusers", "numpy", "pandas", "scipy", "opencv-python-headless")


def main(arguments: list[str] | None = None) -> int:
    """Answer a question as the command line says; 0 if every cell could be made, 1 if some failed."""
    given = _parser().parse_args(arguments)
    out = given.out or Path("runs") / given.question
    try:
        path, failed = answer(
            given.question, out, model=given.model, teacher=given.teacher, device=given.device,
            only=_only(given.only), on_plan=lambda plan: print(plan, file=sys.stderr),  # noqa: T201
        )  # fmt: skip
    except (sl.SvdlabError, OSError) as error:
        print(f"{given.question}: {error}", file=sys.stderr)  # noqa: T201 (a command speaks to its caller)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The same command goes on.", file=sys.stderr)  # noqa: T201
        return 130
    print(path.read_text(encoding="utf-8"))  # noqa: T201
    print(f"-> {path}" + (f"; {failed} cells failed" if failed else ""))  # noqa: T201
    return int(failed > 0)


def answer(question: str, out: Path, **how: Any) -> tuple[Path, int]:
    """Answer one of `QUESTIONS`; `how` is what `run_question` takes.

    Returns:
        The path of answer.md, and how many cells failed.

    Raises:
        SvdlabError: as `run_question`, or too few cells were done for a statistic.

    Example:
        >>> answer("gamma", Path("runs/gamma"), model="tiny")
        (PosixPath('runs/gamma/answer.md'), 0)
    """
    asked = QUESTIONS[question]
    runs = run_question([SPECS / file for file in asked.specs(question)], out, truth=asked.truth, **how)
    sides = {"student": runs.few, "teacher": runs.many}
    present = {name: side for name, side in sides.items() if side is not None}
    path = write_answer(
        asked.answer(runs), out, name=question, question=asked.asks, method=asked.method, about=_about(present)
    )
    return path, sum(side.sweep.status()["failed"] for side in present.values())


def _about(sides: dict[str, Side]) -> dict[str, Any]:
    notices = dict.fromkeys(side.pipe.notice for side in sides.values() if side.pipe.notice)
    about: dict[str, Any] = {"notices": list(notices)} if notices else {}
    for name, side in sides.items():
        told = side.pipe.describe()
        status = {state: count for state, count in side.sweep.status().items() if count}
        fixed = ", ".join(f"{key} {value}" for key, value in side.sweep.fixed.items())
        grid = ", ".join(f"{key} {', '.join(map(str, values))}" for key, values in side.sweep.axes.items())
        about[name] = f"{told['name']} ({told['fingerprint']}, {told['device']}, {told['dtype']})"
        about[f"{name}, cells"] = ", ".join(f"{count} {state}" for state, count in status.items())
        about[f"{name}, grid"] = f"{grid}; fixed: {fixed}"
    found = [f"svdlab {sl.__version__}", *(f"{package} {version(package)}" for package in PACKAGES)]
    return {**about, "versions": ", ".join(found)}


def _only(given: list[str]) -> dict[str, tuple[Any, ...]]:
    """Texts such as ``seed=0,1`` as setting -> values."""
    found: dict[str, tuple[Any, ...]] = {}
    for text in given:
        name, sign, values = text.partition("=")
        if not sign or not values:
            raise SpecError(f"--only {text!r}: must be SETTING=VALUES, such as seed=0,1 or steps=1..4.")
        parts = values.split(",")
        numbers = name != "schedule"
        found[name] = tuple(value for part in parts for value in (parse_values(part) if numbers else (part,)))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=list(QUESTIONS), help="what to answer")
    parser.add_argument("--model", help="catalogue name, folder or repository; by default that of the specification")
    parser.add_argument("--teacher", help="the same, of the teacher, where one takes part")
    parser.add_argument("--out", type=Path, help="folder of the answer and its sweeps; by default runs/QUESTION")
    parser.add_argument("--device", default="auto", help="where clips are made")
    parser.add_argument(
        "--only", action="append", default=[], metavar="SETTING=VALUES",
        help="a trial: other values than the specification's, such as seed=0,1; may be given several times",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
