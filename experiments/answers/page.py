"""An answer as files: answer.md for people, answer.json for programs, figures beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from answers.small import small_png
from svdlab.files import write_atomic

DPI = 110
LIMIT = 300_000  # bytes of a figure
UNSETTLED = ("not settled", "interval includes zero")  # what the sentences of `svdlab.stats` say where it is so


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a question's statistics found.

    Attributes:
        sentences: each finding in words, with its interval.
        tables: title -> table.
        figures: name of the file without suffix -> figure.
    """

    sentences: Sequence[str]
    tables: Mapping[str, pd.DataFrame]
    figures: Mapping[str, Figure] = field(default_factory=dict)


def write_answer(
    answer: Answer, folder: Path, *, name: str, question: str, method: str, about: Mapping[str, Any]
) -> Path:
    """Write `answer.md`, `answer.json` and the figures into `folder`; returns the path of the former.

    Args:
        name: of the question.
        about: what it rests on: models, cells, versions; `notices` are put on top.

    Example:
        >>> write_answer(answer, Path("runs/gamma"), name="gamma", question="...", method="...", about={})
        PosixPath('runs/gamma/answer.md')
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stem, figure in answer.figures.items():
        drawn = small_png(figure, dpi=DPI, limit=LIMIT, bbox_inches="tight")  # a long label is not cut off
        write_atomic(folder / f"{stem}.png", drawn)
    tables = {title: _records(table) for title, table in answer.tables.items()}
    data = {
        "name": name, "question": question, "method": method, "about": dict(about),
        "sentences": list(answer.sentences), "tables": tables,
        "figures": [f"{stem}.png" for stem in answer.figures],
    }  # fmt: skip
    write_atomic(folder / "answer.json", json.dumps(data, indent=2, allow_nan=False) + "\n")
    path = folder / "answer.md"
    write_atomic(path, _markdown(answer, question, method, about))
    return path


def _markdown(answer: Answer, question: str, method: str, about: Mapping[str, Any]) -> str:
    parts = [f"# {question}"]
    parts += [f"**{notice}**" for notice in about.get("notices", ())]
    unsure = [sentence for sentence in answer.sentences if any(words in sentence for words in UNSETTLED)]
    settled = [sentence for sentence in answer.sentences if sentence not in unsure]
    parts += [method, "## What was found", _listed(settled or ["Nothing is settled."])]
    parts += [f"![{stem}]({stem}.png)" for stem in answer.figures]
    if unsure:
        parts += ["## What is not settled", _listed(unsure)]
    for title, table in answer.tables.items():
        parts += [f"## {title}", markdown_table(table)]
    rest = {key: value for key, value in about.items() if key != "notices"}
    parts += ["## What it rests on", "\n".join(f"- {key}: {_plain(str(value))}" for key, value in rest.items())]
    return "\n\n".join(parts) + "\n"


def _listed(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {_plain(sentence)}" for sentence in sentences)


def markdown_table(table: pd.DataFrame) -> str:
    """A table in Markdown, numbers with three digits, empty where there is no value.

    Example:
        >>> print(markdown_table(pd.DataFrame({"steps": [1, 2], "psnr_gain": [0.1234, None]})))
        | steps | psnr_gain |
        |---|---|
        | 1 | 0.123 |
        | 2 |  |
    """
    lines = [f"| {' | '.join(map(str, table.columns))} |", "|" + "---|" * len(table.columns)]
    for row in table.itertuples(index=False):
        lines.append("| " + " | ".join(_cell(value).replace("|", "\\|") for value in row) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)


def _plain(text: str) -> str:
    """A sentence in which no star or angle bracket of a label means anything to Markdown."""
    for letter in "\\<>*_`[]":
        text = text.replace(letter, f"\\{letter}")
    return text


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values; what is not finite is null."""
    rows = table.astype(object).to_dict("records")
    return [{str(key): _value(value) for key, value in row.items()} for row in rows]


def _value(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
