"""Diff: against values worked out by hand, and on real sweeps that differ in one known thing."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import svdlab as sl
from svdlab.errors import SweepError
from svdlab.request import SETTINGS
from svdlab.sweep import artifacts
from svdlab.sweep.diff import diff
from svdlab.sweep.ledger import Ledger
from svdlab.sweep.moved import interval, measure_move, seed_deviation

FLOATS = st.floats(-100, 100).map(lambda value: round(value, 3))


def table(values: dict[tuple[int, int], float]) -> pd.DataFrame:
    """A table of one metric: (steps, seed) -> value."""
    rows = []
    for (steps, seed), value in values.items():
        settings = {**dict.fromkeys(SETTINGS, 0), "steps": steps, "seed": seed}
        rows.append({"digest": "d", "point": f"{steps}/{seed}", "status": "done", "flow_mean": value, **settings})
    return pd.DataFrame(rows).set_index("point")


def move(a: dict, b: dict):
    left, right = table(a), table(b)
    return measure_move("flow_mean", left, right, [point for point in left.index if point in right.index])


@given(st.lists(FLOATS, min_size=2, max_size=20))
def test_the_interval_is_students(values):
    array = np.array(values)
    low, high = interval(array)
    error = stats.sem(array)
    if error == 0:
        assert low == high == pytest.approx(array.mean())
    else:
        expected = stats.t.interval(0.95, len(array) - 1, loc=array.mean(), scale=error)
        np.testing.assert_allclose((low, high), expected, rtol=1e-9, atol=1e-9)


def test_one_value_has_no_interval():
    assert all(map(math.isnan, interval(np.array([1.0]))))


def test_the_spread_of_seeds_by_hand():
    """Groups (1, 3) and (10, 10, 13): squares 2 and 6, degrees of freedom 1 and 2; a lone seed adds nothing."""
    values = {(1, 0): 1.0, (1, 1): 3.0, (2, 0): 10.0, (2, 1): 10.0, (2, 2): 13.0, (4, 0): 99.0}
    assert seed_deviation([table(values)], "flow_mean") == pytest.approx(math.sqrt(8 / 3))
    assert seed_deviation([table(values)] * 2, "flow_mean") == pytest.approx(math.sqrt(8 / 3))
    assert math.isnan(seed_deviation([table({(1, 0): 1.0, (2, 0): 5.0})], "flow_mean"))


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=5), FLOATS)
def test_a_shift_of_all_cells_is_found_and_judged(pairs, shift):
    a = {(steps, seed): pair[seed] for steps, pair in enumerate(pairs, start=1) for seed in (0, 1)}
    b = {place: value + shift for place, value in a.items()}
    moved = move(a, b)
    assert moved.pairs == 2 * len(pairs)
    assert moved.settings == len(pairs)
    assert moved.mean == pytest.approx(shift, abs=1e-9)
    if abs(abs(shift) - moved.seeds) > 1e-6:  # not a tie that rounding decides
        more = abs(shift) > moved.seeds
        assert moved.verdict == ("more" if more else "same" if moved.largest == 0 else "less")
        assert moved.settings_moved == (len(pairs) if more else 0)


def test_moves_in_both_directions_are_not_hidden_by_their_mean():
    a = {(steps, seed): float(seed) / 10 for steps in (1, 2) for seed in (0, 1)}
    b = {(steps, seed): value + (5 if steps == 1 else -5) for (steps, seed), value in a.items()}
    moved = move(a, b)
    assert moved.mean == pytest.approx(0)
    assert (moved.verdict, moved.settings_moved, moved.settings) == ("partly", 2, 2)
    assert "less than seeds do on average: seeds move it by 0.0707; but more than that in 2 of 2 settings." in str(
        moved
    )


def test_verdicts_in_words():
    seeds = {(1, 0): 0.0, (1, 1): 1.0}
    assert str(move(seeds, seeds)) == "flow_mean: equal in all 2 pairs."
    more = str(move(seeds, {place: value + 2 for place, value in seeds.items()}))
    assert more == (
        "flow_mean: moved by +2 px/frame (95 % interval +2 to +2, 2 pairs), more than seeds do: seeds move it by 0.707."
    )
    less = str(move(seeds, {(1, 0): 0.0, (1, 1): 1.2}))
    assert less.endswith("no more than seeds do: seeds move it by 0.781.")
    alone = move({(1, 0): 1.0}, {(1, 0): 0.5})
    assert str(alone) == (
        "flow_mean: moved by -0.5 px/frame (1 pair); no setting has two seeds in one sweep, so there is nothing to"
        " judge it by."
    )
    gap = move({**seeds, (2, 0): math.nan}, {**seeds, (2, 0): 1.0})
    assert (gap.pairs, gap.verdict) == (2, "same")


def test_a_sweep_does_not_differ_from_itself(eight):
    found = diff(eight, eight)
    assert (found.declared, found.model, found.versions, found.metric_versions) == ({}, {}, {}, {})
    assert (found.pairs, found.done, found.latents, found.identical) == (8, 8, 8, 8)
    assert (found.only_a, found.only_b, found.damaged) == ((), (), ())
    assert set(found.frame()["verdict"]) == {"same"}
    assert "Latents: bit-identical in 8 of 8 pairs." in found.sentences()


def test_other_values_of_an_axis(eight, pipe, tmp_path):
    pictures = eight.parent / "pictures"
    small = {"num_frames": 2, "width": 32, "height": 32, "metrics": ["flow_mean"], "progress": False}
    b = sl.sweep(pipe, image=pictures / "rocket.png", steps=[2, 3], seed=1, out=tmp_path / "b", **small)
    found = sl.open_sweep(eight).diff(b)
    a = sl.open_sweep(eight).frame()
    assert (found.pairs, found.identical) == (1, 1)
    assert set(found.only_a) == set(a["cell"]) - set(b.frame()["cell"])
    assert found.only_b == (b.frame()["cell"][1],)
    assert found.declared["steps (axis)"] == ("1, 2", "2, 3")
    assert found.declared["seed (axis)"] == ("0, 1", "none")
    assert found.declared["seed"] == ("none", "1")
    assert found.declared["metrics"] == ("flow_mean, warp_error", "flow_mean")
    assert [row.name for row in found.moved] == ["flow_mean"]
    assert found.moved[0].verdict == "same"
    text = str(found)
    assert "7 only in a, 1 only in b." in text
    assert "and 3 more." in text
    assert f"Only in b: {found.only_b[0]}." in text


def test_other_weights_meet_in_equal_noise(eight, tmp_path):
    """The same model with its weights shaken: pairs are found though no key is equal, latents and metrics differ."""
    import dataclasses

    shaken = sl.load("tiny-random", device="cpu")
    with torch.no_grad():
        for parameter in shaken.components.unet.parameters():
            parameter.mul_(1.5)
    shaken = sl.Pipeline(dataclasses.replace(shaken.components, fingerprint="shaken"))
    pictures = eight.parent / "pictures"
    small = {"num_frames": 2, "width": 32, "height": 32, "metrics": ["flow_mean", "warp_error"], "progress": False}
    images = [pictures / "rocket.png", pictures / "kite.png"]
    b = sl.sweep(shaken, image=images, steps=[1], seed=[0, 1], out=tmp_path / "b", **small)
    found = diff(eight, b)
    assert found.model == {"fingerprint": (sl.open_sweep(eight).model["fingerprint"], "shaken")}
    assert (found.pairs, found.latents, found.identical) == (4, 4, 0)
    both = sl.sweep.join(eight, b)
    assert len(both) == 4
    for row in found.moved:
        differences = both[f"{row.name}_b"] - both[f"{row.name}_a"]
        assert row.mean == pytest.approx(differences.mean())
        assert row.largest == pytest.approx(differences.abs().max())
        assert row.verdict != "same"
    assert "Model: fingerprint differs." in found.sentences()


def test_versions_and_metric_versions_and_damage(copied, eight):
    keys = list(copied.frame()["cell"])
    for key in keys:
        place = copied.path / artifacts.cell_path(key) / "manifest.json"
        manifest = json.loads(place.read_text())
        manifest["versions"] |= {"torch": "<9>", "commit": "c" * 40}
        place.write_text(json.dumps(manifest))
    with Ledger(copied.path, write=True) as ledger:
        old = {"flow_mean": {"value": 1.0, "version": 99, "source": "memory", "error": None}}
        ledger.put_metrics(keys[0], old)
    (copied.path / artifacts.cell_path(keys[1]) / "clip.mp4").unlink()
    found = diff(eight, copied)
    now = str(sl.metrics.get("flow_mean").version)
    torch_version = sl.open_sweep(eight).manifest(keys[0])["versions"]["torch"]
    assert found.versions["torch"] == (torch_version, "<9>")
    assert found.versions["commit"][1] == "c" * 40
    assert not found.uncommitted
    assert found.metric_versions == {"flow_mean": (now, f"{now}, 99")}
    assert [row.name for row in found.moved] == ["warp_error"]
    assert found.damaged == (keys[1],)
    assert found.done == 7
    text, page = str(found), found._repr_html_()
    assert f"flow_mean: version {now} in a, {now}, 99 in b: its values do not compare" in text
    assert f"Damaged, and left out: {keys[1]}." in text
    assert "&lt;9&gt;" in page
    assert "<9>" not in page


@pytest.mark.parametrize(("commit", "uncommitted"), [("d" * 40 + "-dirty", True), ("d" * 40, False)])
def test_equal_commits_need_not_be_equal_code(copied, commit, uncommitted):
    for key in copied.frame()["cell"]:
        place = copied.path / artifacts.cell_path(key) / "manifest.json"
        manifest = json.loads(place.read_text())
        manifest["versions"]["commit"] = commit
        place.write_text(json.dumps(manifest))
    found = copied.diff(copied.path)
    assert found.versions == {}
    assert found.uncommitted == uncommitted
    assert ("need not be equal code" in str(found)) == uncommitted


def test_what_cannot_be_compared(eight, tmp_path):
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        diff(eight, tmp_path)
    with pytest.raises(SweepError, match="must be a Sweep or the path"):
        diff(eight, 3)  # type: ignore[arg-type]
