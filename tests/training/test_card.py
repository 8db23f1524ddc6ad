"""Rows, bars and the table."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.training.card import Bar, Row, markdown


@pytest.mark.parametrize(
    ("bar", "value", "verdict"),
    [
        (Bar(aim=30, limit=27), 30, "reached"),
        (Bar(aim=30, limit=27), 29.9, "enough"),
        (Bar(aim=30, limit=27), 27, "enough"),
        (Bar(aim=30, limit=27), 26.9, "failed"),
        (Bar(aim=2, limit=4, lower=True), 2, "reached"),
        (Bar(aim=2, limit=4, lower=True), 3, "enough"),
        (Bar(aim=2, limit=4, lower=True), 4.1, "failed"),
        (Bar(aim=1.1, lower=True), 9, "enough"),  # no limit
        (Bar(aim=-0.05), 0.8 - 0.85, "reached"),  # whatever binary fractions make of it
        (Bar(aim=1, limit=0), float("nan"), "failed"),
        (Bar(aim=1), float("nan"), "failed"),
    ],
)
def test_verdicts(bar, value, verdict):
    assert bar.judge(value) == verdict


@given(value=st.floats(-10, 10), aim=st.floats(-5, 5), room=st.floats(0, 5), lower=st.booleans())
def test_a_better_value_never_has_a_worse_verdict(value, aim, room, lower):
    bar = Bar(aim=aim, limit=aim + room if lower else aim - room, lower=lower)
    order = ["failed", "enough", "reached"]
    better = value - 1 if lower else value + 1
    assert order.index(bar.judge(better)) >= order.index(bar.judge(value))


ROWS = [
    Row(name="psnr", title="PSNR | of frames", unit="dB", value=31.24, bar=Bar(aim=30, limit=27)),
    Row(name="error", title="error", unit="px", value=3.0, bar=Bar(aim=2, lower=True)),
    Row(name="share", title="share", value=0.5, pictures={"arrow 3": 0.5}, note="of 8"),
    Row(name="size", title="size", unit="MB", value=None, bar=Bar(aim=25, limit=40, lower=True)),
    Row(name="ratio", title="ratio", unit="x", value=1234.5, bar=Bar(aim=8, limit=4)),
]


def test_the_table():
    assert markdown(ROWS).splitlines() == [
        "| what | measured | to reach | never beyond | verdict |",
        "|---|---|---|---|---|",
        "| PSNR \\| of frames | 31.2 dB | >= 30 dB | 27 dB | reached |",
        "| error | 3 px | <= 2 px |  | enough |",
        "| share | 0.5 |  |  | no bar |",
        "| size | - | <= 25 MB | 40 MB | not measured |",
        "| ratio | 1234x | >= 8x | 4x | reached |",
    ]


def test_rows_as_json():
    first, _, share, size, _ = (json.loads(json.dumps(row.to_json(), allow_nan=False)) for row in ROWS)
    assert first["bar"] == {"aim": 30, "limit": 27, "lower_is_better": False}
    assert first["verdict"] == "reached"
    assert share["bar"] is None
    assert share["pictures"] == {"arrow 3": 0.5}
    assert size["value"] is None
    assert size["verdict"] == "not measured"
