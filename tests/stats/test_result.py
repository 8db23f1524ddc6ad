from __future__ import annotations

import re
import subprocess
import sys

import pytest

from svdlab import stats
from svdlab.stats import words
from tests.stats.conftest import table

ASK = {
    "compare": lambda df: stats.compare(df, "flow_mean", steps=(1, 3)),
    "trend": lambda df: stats.trend(df, "steps", "flow_mean"),
    "effects": lambda df: stats.effects(df),
    "variance": lambda df: stats.variance(df, "flow_mean"),
    "pareto": lambda df: stats.pareto(df, minimise=["flicker", "seconds"]),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK)
def test_a_real_sweep_is_taken_as_it_is(sweep, ask):
    found, again = ask(sweep), ask(sweep.frame())
    assert str(found) == found.sentence == again.sentence
    assert "2 seeds" in found.sentence
    assert not re.search(r"nan|inf\b|None|  ", found.sentence)
    assert len(found.to_frame()) > 0
    html = found._repr_html_()
    assert html.startswith("<p>")
    assert "<table" in html


def test_a_table_is_a_copy():
    found = stats.variance(table(lambda *, image, seed, steps: steps + seed), "flow_mean")
    taken = found.to_frame()
    taken["share"] = 7
    assert (found.table["share"] <= 1).all()


@pytest.mark.parametrize(
    "ask", [ASK["effects"], lambda df: stats.compare(df, "flow_mean", image=tuple(df["image"].unique()))]
)
def test_names_are_no_html(ask):
    df = table(lambda *, image, seed, steps: steps + seed + image)
    df["image"] = df["image"].replace("picture 1", "<script>alert(1)</script>")
    df = df.rename(columns={"warp_error": "<b>bold</b>"})
    html = ask(df)._repr_html_()
    assert "&lt;" in html
    assert "<script" not in html
    assert "<b>" not in html


def test_three_digits_and_no_more():
    assert [words.number(v) for v in (0.31415, -12.0, 4.12e-5, 123456.0, 0.0, float("nan"))] == [
        "0.314", "-12", "4.12e-05", "123456", "0", "unknown",
    ]  # fmt: skip
    assert [words.percent(v) for v in (0.623, 0.004, 0.0, 1.0)] == ["62 %", "0.4 %", "0 %", "100 %"]
    assert words.units({"image": 2, "seed": 4, "scene": 3}) == "combinations of picture, seed and scene"


def test_importing_it_loads_neither_torch_nor_matplotlib_nor_scipy_stats():
    heavy = "{'torch', 'matplotlib', 'scipy.stats'} & set(sys.modules)"
    code = f"import sys; before = {heavy}; import svdlab.stats; assert {heavy} == before, {heavy}"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
