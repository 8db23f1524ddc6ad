"""The command that fills a model's card, as a person runs it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from svdlab.metrics.lpips_weights import ensure_lpips_weights
from svdlab.training.cases import held_out

SCRIPT = Path(__file__).parents[2] / "experiments" / "tiny_card.py"


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("tiny_card", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_row_is_measured_of_random_weights(command, tmp_path, capsys):
    """Their values mean nothing; that they fail is all that can be said of them."""
    ensure_lpips_weights(progress=False)
    out = tmp_path / "card"
    given = ["--student", "tiny-random", "--teacher", "tiny-random", "--out", str(out), "--device", "cpu"]
    assert command.main([*given, "--pictures", "2", "--seeds", "1", "--teacher-steps", "3"]) == 1
    card = json.loads((out / "card.json").read_text())
    rows = {row["name"]: row for row in card["rows"]}
    unmeasured = {name for name, row in rows.items() if row["value"] is None}
    assert unmeasured == {"megabytes"}  # it has no files
    assert rows["student_bucket_rho"]["pictures"].keys() == {case.name for case in held_out(count=2).moving}
    assert rows["vae_psnr"]["verdict"] == "failed"
    assert rows["seconds"]["value"] > 0
    assert rows["decided_student_8"]["value"] is not None
    assert card["settings"]["student"]["name"] == "tiny-random"
    assert card["settings"]["teacher_steps"] == 3
    assert (out / "card.md").read_text() in capsys.readouterr().out
    assert {path.name for path in out.glob("*.jpg")} == {
        "successes.jpg", "failures.jpg", "buckets.jpg", "ambiguous.jpg", "photograph.jpg"}  # fmt: skip


def test_a_model_is_needed(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--out", "nowhere"])
    assert stop.value.code == 2
    assert "--student" in capsys.readouterr().err


def test_what_cannot_be_done_is_said_in_a_sentence(command, capsys, tmp_path):
    given = ["--student", "tiny-random", "--teacher", "no-such-model", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as stop:
        command.main(given)
    assert stop.value.code == 2
    assert "no-such-model" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
