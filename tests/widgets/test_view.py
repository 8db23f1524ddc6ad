"""View and arrange: plain state, no widget."""

from __future__ import annotations

import itertools
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import ViewError
from svdlab.widgets.arrange import MISSING, arrange, count_passing, show_value
from svdlab.widgets.view import PLACES, View, metric_columns, same

AXES = {"image": ("rocket", "kite"), "cond_aug": (0.02, 0.3), "seed": (0, 1), "steps": (1, 2, 4)}


def table(drop: int | None = None, status: str = "done") -> pd.DataFrame:
    """A frame like that of a sweep over AXES; `flow_mean` is the position in the grid, `warp_error` falls with it."""
    rows = []
    for k, values in enumerate(itertools.product(*AXES.values())):
        row = {"cell": f"c{k:02}", **dict(zip(AXES, values, strict=True)), "fps": 10, "status": status}
        rows.append(row | {"flow_mean": float(k), "warp_error": 1 / (k + 1), "seconds": 1.0, "vram_peak_mb": math.nan})
    frame = pd.DataFrame(rows).assign(video=None, error=None)
    return frame if drop is None else frame.drop(index=drop)


def at(frame: pd.DataFrame, **settings) -> str:
    for name, value in settings.items():
        frame = frame[frame[name] == value]
    (cell,) = frame["cell"]
    return cell


def test_the_first_view_shows_most_values_and_no_seeds():
    view = View.of(table())
    assert (view.x, view.y, view.super_x, view.super_y) == ("steps", "image", None, None)
    assert dict(view.lock) == {"cond_aug": 0.02, "seed": 0}
    assert view.metrics == ("flow_mean", "warp_error", "seconds")  # no peak memory was measured
    assert view.metric == "flow_mean"
    assert (
        View.of(table()[["cell", "seed", "status"]].assign(video=None, error=None)).x == "seed"
    )  # nothing else varies


def test_a_table_without_axes_is_one_tile():
    frame = table().iloc[:1]
    arrangement = arrange(frame, View.of(frame))
    assert [[tile.cell for tile in row] for row in arrangement.tiles] == [["c00"]]
    assert arrangement.rows[0].label == ""


def test_select_places_and_locks():
    view = View.of(table()).select(x="steps", y="cond_aug", image="kite", seed=1)
    frame = table()
    arrangement = arrange(frame, view)
    assert [header.label for header in arrangement.columns] == ["steps 1", "steps 2", "steps 4"]
    assert [header.label for header in arrangement.rows] == ["cond_aug 0.02", "cond_aug 0.3"]
    assert arrangement.tiles[1][2].cell == at(frame, image="kite", seed=1, cond_aug=0.3, steps=4)
    assert arrangement.keys()[0] == at(frame, image="kite", seed=1, cond_aug=0.02, steps=1)


def test_super_axes_repeat_the_grid():
    frame = table()
    arrangement = arrange(frame, View.of(frame).select(x="steps", y="seed", super_x="image", super_y="cond_aug"))
    assert arrangement.columns[3].values == (("image", "kite"), ("steps", 1))
    assert arrangement.rows[1].label == "cond_aug 0.02, seed 1"
    assert arrangement.tiles[2][5].cell == at(frame, cond_aug=0.3, seed=0, image="kite", steps=4)
    assert sorted(arrangement.keys()) == sorted(frame["cell"])


def test_an_axis_trades_places():
    view = View.of(table())
    assert (view.select(x="image").x, view.select(x="image").y) == ("image", "steps")
    assert view.select(x="seed").lock["steps"] == 1  # pushed out, so it is locked
    swapped = view.select(x=view.y, y=view.x)
    assert (swapped.x, swapped.y) == (view.y, view.x)
    assert view.select(super_x="steps").x is None
    assert view.select(x=None).others() == ("cond_aug", "seed", "steps")
    assert view.select(steps=2).x is None  # locking takes it off its place


def test_an_axis_may_show_all_its_values():
    frame = table()
    view = View.of(frame, x="steps", y="image", seed=None, cond_aug=0.02)
    tile = arrange(frame, view).tiles[0][0]
    assert tile.cells == ("c00", "c03")
    assert tile.cell == "c00"
    assert tile.value == 1.5  # the mean of both
    frame.loc[0, "status"] = "failed"
    assert arrange(frame, view).tiles[0][0].cell == "c03"  # done goes before failed
    filtered = view.select(filters={"flow_mean": (None, 2.0)})
    assert not arrange(table(), filtered).tiles[0][0].dimmed


def test_missing_failed_and_pending_are_told_apart():
    frame = table(drop=1)
    frame.loc[0, "status"], frame.loc[2, "status"] = "failed", "pending"
    row = arrange(frame, View.of(frame, x="steps", y="image", filters={"flow_mean": (50, None)})).tiles[0]
    assert not any(tile.dimmed for tile in row)  # there is no clip to dim
    assert [tile.status for tile in row] == ["failed", MISSING, "pending"]
    assert row[1].cell is None


def test_filters_dim_and_count():
    frame = table()
    view = View.of(frame, filters={"flow_mean": (2, 15), "warp_error": (None, 0.2)})
    row = arrange(frame, view).tiles[0]
    assert [tile.dimmed for tile in row] == [True, True, True]  # 0, 1, 2: the last fails the second filter
    assert count_passing(frame, view) == 12  # 4 to 15
    frame.loc[5, "flow_mean"] = math.nan
    assert count_passing(frame, view) == 11  # what has no value passes no filter


def test_sort_gives_a_list():
    frame = table()
    frame.loc[1, "flow_mean"] = math.nan
    view = View.of(frame, x="steps", y="image", cond_aug=0.02, seed=0, sort=("flow_mean", False))
    arrangement = arrange(frame, view)
    assert arrangement.flat
    assert arrangement.keys() == ["c14", "c13", "c12", "c02", "c00", "c01"]  # without a value: last
    assert arrangement.captions[0].label == "image kite, steps 4"  # what is locked is not said
    assert arrange(frame, view.select(sort=("flow_mean", True))).keys() == ["c00", "c02", "c12", "c13", "c14", "c01"]
    assert arrange(frame, view.select(filters={"flow_mean": (13, None)})).keys() == ["c14", "c13"]


def test_the_shortlist_keeps_its_order_and_forgets_strangers():
    frame = table()
    view = View.of(frame, show="shortlist", shortlist=["c07", "gone", "c01", "c07"])
    assert view.shortlist == ("c07", "gone", "c01")
    assert arrange(frame, view).keys() == ["c07", "c01"]
    assert arrange(frame, view.select(sort=("flow_mean", True))).keys() == ["c01", "c07"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": "stesp"}, "Did you mean 'steps'"),
        ({"hue": 3}, "hue = ...: is no axis"),
        ({"fps": 10}, "Its axes are image, cond_aug, seed, steps"),
        ({"seed": 7}, "the sweep has no such value. It has 0, 1"),
        ({"seed": True}, "no such value"),
        ({"seed": "1"}, "no such value"),
        ({"image": 0}, "no such value"),
        ({"x": "seed", "seed": 1}, "at the same time"),
        ({"x": "seed", "y": "seed"}, "each axis once"),
        ({"metric": "flow"}, "Did you mean 'flow_mean'"),
        ({"metric": ["flow_mean"]}, "is no metric"),
        ({"filters": {"speed": (0, 1)}}, "is no metric"),
        ({"filters": {"flow_mean": 3}}, "must be (low, high)"),
        ({"filters": {"flow_mean": (1, "2")}}, "must be (low, high)"),
        ({"filters": {"flow_mean": (2, 1)}}, "low must not exceed high"),
        ({"filters": {"flow_mean": (math.nan, 1)}}, "must be (low, high)"),
        ({"sort": "flow_mean"}, "must be (metric, ascending)"),
        ({"sort": ("flow_mean", 1)}, "must be (metric, ascending)"),
        ({"sort": ("speed", True)}, "is no metric"),
        ({"shortlist": "c01"}, "must be a list of keys"),
        ({"show": "table"}, "must be one of 'grid'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(changes, words):
    with pytest.raises(ViewError) as caught:
        View.of(table(), **changes)
    assert words in str(caught.value)


def test_a_view_survives_json_and_code():
    view = View.of(table(), x="seed", super_y="image", steps=None, sort=("warp_error", True), show="both")
    view = view.select(filters={"flow_mean": (None, 5)}, shortlist=["c03"])
    assert View.of(table()).select(**view.to_dict()) == view
    namespace = {"View": View, "sweep": table()}
    assert eval(view.code(), namespace) == view
    assert "mappingproxy" not in repr(view)
    assert hash(view) == hash(View.of(table()).select(**view.to_dict()))


def test_seeds_that_javascript_cannot_count_travel_as_text():
    frame = table()
    frame["seed"] = frame["seed"].map({0: 2**62, 1: 2**62 + 1})
    view = View.of(frame, seed=2**62 + 1)
    assert view.to_dict()["lock"]["seed"] == str(2**62 + 1)
    assert View.of(frame).select(**view.to_dict()).lock["seed"] == 2**62 + 1


def test_a_view_fits_itself_to_a_sweep_that_has_changed():
    view = View.of(table(), x="steps", super_y="image", seed=1, metric="warp_error", filters={"warp_error": (0, 1)})
    smaller = table().query("image == 'kite' and steps != 4").drop(columns="warp_error")
    fitted = view.refit(View.of(smaller))
    assert (fitted.x, fitted.super_y, fitted.metric) == ("steps", None, "flow_mean")
    assert fitted.lock["seed"] == 1
    assert not fitted.filters
    assert fitted.axes["steps"] == (1, 2)
    assert view.refit(View.of(table())) == view


def test_metric_columns_leave_settings_and_text_out():
    assert metric_columns(table().assign(own_metric=1.0)) == ("flow_mean", "warp_error", "seconds", "own_metric")


@pytest.mark.parametrize(("value", "text"), [(700.0, "700"), (0.02, "0.02"), (4, "4"), ("kite", "kite")])
def test_show_value(value, text):
    assert show_value(value) == text


def test_same_tells_numbers_from_text():
    assert same(4.0, 4)
    assert not same("4", 4)
    assert not same(4, "4")
    assert not same(True, 1)


places = st.sampled_from([None, *AXES])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), places), max_size=8), st.sampled_from([None, 1, 2, 4]))
def test_whatever_is_placed_every_cell_is_shown_once_or_locked_away(moves, steps):
    frame, view = table(), View.of(table())
    for place, name in moves:
        view = view.select(**{place: name})
    view = view.select(steps=steps)
    placed = [name for place in PLACES if (name := getattr(view, place)) is not None]
    assert len(set(placed)) == len(placed)
    assert sorted([*placed, *view.lock]) == sorted(AXES)
    arrangement = arrange(frame, view)
    assert all(len(row) == len(arrangement.columns) for row in arrangement.tiles)
    held = [key for row in arrangement.tiles for tile in row for key in tile.cells]
    locked = {name: value for name, value in view.lock.items() if value is not None}
    wanted = [
        cell for cell, *values in frame[["cell", *locked]].itertuples(index=False) if values == [*locked.values()]
    ]
    assert sorted(held) == sorted(wanted)
