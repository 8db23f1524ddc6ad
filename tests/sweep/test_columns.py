"""Columns: every column of a table has its unit and meaning, also in the Parquet file."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet
import pytest

import svdlab as sl
from svdlab.metrics import registry
from svdlab.request import SETTINGS
from svdlab.sweep.columns import describe_columns
from svdlab.sweep.frame import COSTS, metric_columns, setting_columns, write_parquet
from svdlab.sweep.ledger import Ledger


def test_every_column_is_known(eight):
    frame = sl.open_sweep(eight).frame(all=True)
    about = describe_columns([*frame.columns, *SETTINGS, *sl.metrics.names(), "sweep"])
    assert [name for name, column in about.items() if not column.description] == []
    assert {about[name].kind for name in SETTINGS} == {"setting"}
    assert {about[name].kind for name in COSTS} == {"cost"}
    assert all(column.kind in ("metric", "cost") for name, column in about.items() if name in sl.metrics.names())


def test_a_metric_is_described_as_in_the_registry():
    metric = sl.metrics.get("flow_mean")
    column = describe_columns(["flow_mean"])["flow_mean"]
    assert (column.unit, column.direction, column.version) == (metric.unit, metric.direction, str(metric.version))
    assert "\n" not in column.description
    assert describe_columns(["flow_mean"], {"flow_mean": [2, 1]})["flow_mean"].version == "1, 2"
    assert describe_columns(["theirs"], {"theirs": [3]})["theirs"].metadata() == {
        "kind": "metric",
        "direction": "neutral",
        "version": "3",
    }
    assert describe_columns(["nothing"])["nothing"].metadata() == {"kind": "about"}


def test_the_columns_of_a_frame_by_kind(eight):
    frame = sl.open_sweep(eight).frame()
    assert metric_columns(frame) == ["flow_mean", "warp_error"]
    assert setting_columns(frame) == ["seed", "steps", "width", "height", "num_frames"]


def test_parquet_carries_units_and_pandas_reads_it_as_ever(copied, tmp_path):
    frame = copied.frame()
    for path in (copied.path / "results.parquet", copied.to_parquet(tmp_path / "again.parquet")):
        pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
        fields = {field.name: field.metadata for field in pyarrow.parquet.read_schema(path)}
        metric = sl.metrics.get("flow_mean")
        assert fields["flow_mean"][b"unit"] == b"px/frame"
        assert fields["flow_mean"][b"direction"] == metric.direction.encode()
        assert fields["flow_mean"][b"version"] == str(metric.version).encode()
        assert fields["seconds"][b"unit"] == b"s"
        assert b"unit" not in fields["steps"]
        assert all(about[b"description"] for about in fields.values())


def test_parquet_says_which_versions_its_values_have(copied, tmp_path):
    cells = copied.frame()["cell"]
    with Ledger(copied.path, write=True) as ledger:
        entry = {"value": 1.0, "version": 99, "source": "memory", "error": None}
        ledger.put_metrics(cells[0], {"flow_mean": entry, "theirs": entry})
        ledger.put_metrics(
            cells[1], {"warp_error": {**entry, "value": None, "error": "broken"}}
        )  # no value, no version
    fields = {field.name: field.metadata for field in pyarrow.parquet.read_schema(copied.to_parquet())}
    assert fields["flow_mean"][b"version"] == f"{sl.metrics.get('flow_mean').version}, 99".encode()
    assert fields["warp_error"][b"version"] == str(sl.metrics.get("warp_error").version).encode()
    assert fields["theirs"] == {b"kind": b"metric", b"direction": b"neutral", b"version": b"99"}


@pytest.mark.parametrize("rows", [0, 2])
def test_any_table_can_be_written(tmp_path, rows):
    frame = pd.DataFrame({"cell": ["a", "b"], "psnr_input": [1.0, None], "own": [True, False]}).head(rows)
    write_parquet(frame, tmp_path / "any.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "any.parquet"), frame)
    field = pyarrow.parquet.read_schema(tmp_path / "any.parquet").field("psnr_input")
    assert field.metadata[b"unit"] == registry.get("psnr_input").unit.encode()
