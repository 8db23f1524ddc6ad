"""A question answered from end to end on random weights, and its numbers computed a second way."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from answer import main
from scipy import stats

import svdlab as sl
from answers.scenes import DECIDED, read_scenes

SEEDS, GAMMAS = (0, 1), (0.0, 0.5, 1.0)
TRIAL = [f"--only={text}" for text in ("seed=0,1", "gamma=0,0.5,1", "steps=2", "num_frames=7")]  # few and short: fast


@pytest.fixture(scope="module")
def answered(own_registry, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "gamma"
    assert main(["gamma", "--model", "tiny-random", "--out", str(out), "--device", "cpu", *TRIAL]) == 0
    return out


@pytest.fixture(scope="module")
def numbers(answered):
    return json.loads((answered / "answer.json").read_text())


@pytest.fixture(scope="module")
def cells(answered):
    return pd.read_csv(answered / "student" / "results.csv")


def test_the_grid_is_all_there(answered, numbers, cells):
    assert len(cells) == len(DECIDED) * len(SEEDS) * len(GAMMAS)
    assert set(cells["status"]) == {"done"}
    assert set(cells["image"]) == set(DECIDED)
    assert numbers["about"]["student, cells"] == "24 done"
    assert numbers["about"]["notices"][0].startswith("tiny-random has random weights")
    page = (answered / "answer.md").read_text()
    assert page.startswith("# How much fresh noise after each step")
    assert all((answered / figure).stat().st_size > 5000 and figure in page for figure in numbers["figures"])
    assert len(numbers["figures"]) == 2


@pytest.mark.parametrize("metric", ["psnr_gain", "sharpness_input", "flow_mean"])
def test_the_ends_are_the_paired_differences(numbers, cells, metric):
    """Computed from the CSV file with numpy and scipy alone."""
    table = cells.pivot_table(index=["image", "seed"], columns="gamma", values=metric)
    apart = (table[1.0] - table[0.0]).to_numpy().reshape(len(DECIDED), len(SEEDS))
    by_picture = apart.mean(axis=1).var(ddof=1) / len(DECIDED)
    by_seed = apart.mean(axis=0).var(ddof=1) / len(SEEDS)
    df = (by_picture + by_seed) ** 2 / (by_picture**2 / (len(DECIDED) - 1) + by_seed**2 / (len(SEEDS) - 1))
    half = stats.t.ppf(0.975, df) * math.sqrt(by_picture + by_seed)
    (row,) = [row for row in numbers["tables"]["The ends"] if row["metric"] == metric]
    assert row["difference"] == pytest.approx(apart.mean())
    assert (row["low"], row["high"]) == pytest.approx((apart.mean() - half, apart.mean() + half))
    assert (row["n"], row["up"], row["down"]) == (8, int((apart > 0).sum()), int((apart < 0).sum()))
    said = [line for line in numbers["sentences"] if line.startswith(f"{metric} is ") and "gamma = 1 than" in line]
    assert len(said) == 1


def test_the_trend_is_the_mean_rank_correlation(numbers, cells):
    table = cells.pivot_table(index=["image", "seed"], columns="gamma", values="flow_mean")
    each = [stats.spearmanr(GAMMAS, line).statistic for line in table.to_numpy()]
    (row,) = [row for row in numbers["tables"]["Along gamma"] if row["metric"] == "flow_mean"]
    assert row["rho"] == pytest.approx(np.mean(each))
    assert (row["rising"], row["falling"]) == (sum(rho > 0 for rho in each), sum(rho < 0 for rho in each))


def test_the_truth_is_measured_on_exact_frames(answered, cells):
    pipe, sweep = sl.load("tiny-random", device="cpu"), sl.open_sweep(answered / "student")
    cell = cells.iloc[3]
    frames = sweep.clip(cell["cell"], pipe=pipe).frames.astype(float)
    case = read_scenes().cases[cell["image"]]
    truth, picture = case.truths[0, -1].astype(float), case.picture.astype(float)

    def decibel(frame):
        return 10 * math.log10(255**2 / ((frame - truth) ** 2).mean())

    assert cell["psnr_gain"] == pytest.approx(decibel(frames[-1]) - decibel(picture), abs=1e-6)
    assert set(sweep.metric_table()["source"]) == {"memory"}


def test_the_same_call_computes_nothing_anew(answered, capsys):
    kept = {path: path.stat().st_mtime_ns for path in answered.rglob("latents.safetensors")}
    page = (answered / "answer.md").read_bytes()
    assert main(["gamma", "--model", "tiny-random", "--out", str(answered), "--device", "cpu", *TRIAL]) == 0
    assert {path: path.stat().st_mtime_ns for path in answered.rglob("latents.safetensors")} == kept
    assert len(kept) == 24
    assert (answered / "answer.md").read_bytes() == page
    assert page.decode() in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--only", "seed"], "'seed': must be SETTING=VALUES"),
        (["--only", "seeds=1"], "seeds"),
        (["--only", "gamma=2"], "gamma = 2"),
        (["--only", "schedule=slow"], "slow"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(own_registry, tmp_path, capsys, given, named):
    assert main(["gamma", "--out", str(tmp_path / "run"), *given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("gamma: ")
    assert named in said
    assert not (tmp_path / "run").exists()


def test_a_question_is_needed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["how_many"])
    assert stop.value.code == 2
    assert "few_steps" in capsys.readouterr().err
