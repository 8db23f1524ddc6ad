"""Against: values equal those of two clips compared by hand, every pair is the right one, and references do not mix."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import sqlite3

import numpy as np
import pytest
import torch

import svdlab as sl
from svdlab.errors import MetricError, SweepError
from svdlab.metrics import registry
from svdlab.metrics.lpips_weights import ensure_lpips_weights
from svdlab.request import SETTINGS
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.partners import SAMPLER, kind_of, pair
from tests.sweep.conftest import SMALL, draw_pictures

CHEAP = ["psnr_ref", "tof_ref"]
HERE = {"progress": False}


@pytest.fixture(scope="module")
def other(pipe) -> sl.Pipeline:
    """The same architecture with other weights."""
    made = sl.load("tiny-random", device="cpu")
    with torch.no_grad():
        for parameter in made.components.unet.parameters():
            parameter.mul_(1.2)
    return sl.Pipeline(dataclasses.replace(made.components, fingerprint="other-weights"))


@pytest.fixture(scope="module")
def swept(pipe, other, tmp_path_factory):
    """Folders to copy from: a student (2 pictures, 2 seeds, 1 and 2 steps), and a teacher of other weights, 4 steps."""
    folder = tmp_path_factory.mktemp("against")
    pictures = draw_pictures(folder / "pictures")
    call = {"image": [pictures / "rocket.png", pictures / "kite.png"], "seed": [0, 1], "metrics": ["flow_mean"], **HERE}
    sl.sweep(pipe, steps=[1, 2], out=folder / "student", **call, **SMALL)
    sl.sweep(other, steps=4, schedule="karras", gamma=0.0, out=folder / "teacher", **call, **SMALL)
    return folder


@pytest.fixture
def student(swept, tmp_path):
    return sl.open_sweep(shutil.copytree(swept / "student", tmp_path / "student"))


@pytest.fixture
def teacher(swept, tmp_path):
    return sl.open_sweep(shutil.copytree(swept / "teacher", tmp_path / "teacher"))


@pytest.fixture
def more(other, swept, tmp_path):
    """Runs another reference; arguments are changes."""

    def more(**changes):
        pictures = swept / "pictures"
        call = {"image": [pictures / "rocket.png", pictures / "kite.png"], "seed": [0, 1], "steps": 3, "metrics": []}
        return sl.sweep(changes.pop("pipe", other), **{**call, "out": tmp_path / "more", **HERE, **SMALL, **changes})

    return more


def table(sweep, name="psnr_ref"):
    rows = sweep.metric_table()
    return rows[rows["name"] == name].set_index("cell").reindex(sweep.frame()["cell"])


def test_values_are_those_of_the_two_clips(student, teacher, pipe, other, swept):
    assert student.against(teacher, CHEAP, pipe=pipe, reference_pipe=other, **HERE) is student
    frame = student.frame()
    for row in frame.itertuples():
        picture = swept / "pictures" / f"{row.image}.png"
        few = pipe(picture, steps=row.steps, seed=row.seed, **SMALL)
        many = other(picture, steps=4, seed=row.seed, schedule="karras", gamma=0.0, **SMALL)
        assert sl.metrics.score(few, names=CHEAP, reference=many) == {name: getattr(row, name) for name in CHEAP}
    assert frame["psnr_ref"].nunique() == len(frame) == 8
    assert set(table(student)["source"]) == {"latents"}


def test_without_pipelines_both_mp4s_are_compared(student, teacher):
    student.against(teacher.path, CHEAP, **HERE)
    rows = table(student)
    assert set(rows["source"]) == {"video"}
    cell, partner = rows.index[3], rows["reference"].iloc[3]
    expected = sl.metrics.score(student.clip(cell), names=CHEAP, reference=teacher.clip(partner))
    assert {name: table(student, name).loc[cell, "value"] for name in CHEAP} == expected


def test_every_partner_shares_picture_and_seed_and_is_recorded(student, teacher):
    student.against(teacher, ["psnr_ref"], **HERE)
    partners = teacher.frame().set_index("cell")
    for row, reference in zip(student.frame().itertuples(), table(student)["reference"], strict=True):
        assert (partners.loc[reference, "image"], partners.loc[reference, "seed"]) == (row.image, row.seed)
        kept = student.manifest(row.cell)["metrics"]["psnr_ref"]["reference"]
        assert kept["cell"] == reference
        assert (kept["sweep"], kept["fingerprint"]) == ("teacher", "other-weights")
        assert {name: kept["sampler"][name] for name in ("steps", "gamma")} == {"steps": 4, "gamma": 0.0}
    told = str(student.explain(student.frame()["cell"][0]))
    assert f"against cell {table(student)['reference'].iloc[0]} of teacher" in told
    assert "steps 4" in told


def test_all_metrics_that_compare_are_the_default(student, teacher):
    ensure_lpips_weights(progress=False)
    student.against(teacher, **HERE)
    frame = student.frame()
    assert frame[["psnr_ref", "lpips_ref", "tof_ref"]].notna().all(axis=None)
    assert "psnr_ref" in (student.path / "results.csv").read_text(encoding="utf-8").splitlines()[0]


def test_a_second_call_computes_nothing_and_later_ones_what_is_missing(student, teacher, pipe, other):
    student.against(teacher, ["psnr_ref"], **HERE)
    first = {cell: student.manifest(cell)["backfills"] for cell in student.frame()["cell"]}
    student.against(teacher, ["psnr_ref"], **HERE)
    assert {cell: student.manifest(cell)["backfills"] for cell in first} == first
    lossy = table(student)["value"]
    student.against(teacher, CHEAP, **HERE)
    assert [entry["metrics"] for entry in student.manifest(lossy.index[0])["backfills"]] == [["psnr_ref"], ["tof_ref"]]
    student.against(teacher, ["psnr_ref"], pipe=pipe, reference_pipe=other, **HERE)  # now they can be made exact
    assert set(table(student)["source"]) == {"latents"}
    assert not np.array_equal(table(student)["value"], lossy)
    student.against(teacher, ["psnr_ref"], **HERE)  # and stay so
    assert set(table(student)["source"]) == {"latents"}


def test_an_interrupted_call_goes_on(student, teacher):
    @registry.metric("once_ref", needs={"reference"}, replace=True)
    def once(scoring):
        if not seen:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(float(scoring.reference.mean()))
        return seen[-1]

    seen: list[float] = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores interrupts
    try:
        student.against(teacher, ["once_ref"], **HERE)
        assert len(seen) == 1  # the cell in hand was finished
        assert student.frame()["once_ref"].notna().sum() == 1
        student.against(teacher, ["once_ref"], **HERE)
        assert len(seen) == 8
        assert student.frame()["once_ref"].notna().all()
    finally:
        signal.signal(signal.SIGINT, before)
        registry._METRICS.pop("once_ref")


def test_other_references_are_refused_unless_they_replace(student, teacher, more):
    student.against(teacher, ["psnr_ref"], **HERE)
    before = table(student)
    another = more()
    with pytest.raises(SweepError, match=r"8 cells hold psnr_ref against another reference.*steps 4.*steps 3.*replace"):
        student.against(another, CHEAP, **HERE)
    assert table(student).equals(before)
    assert "tof_ref" not in student.frame()  # refused before any work
    student.against(another, CHEAP, replace=True, **HERE)
    after = table(student)
    assert set(after["reference"]) == set(another.frame()["cell"])
    assert not np.array_equal(after["value"], before["value"])


def test_a_replacement_that_covers_less_leaves_no_old_values(student, teacher, more, caplog):
    student.against(teacher, ["psnr_ref"], **HERE)
    half = more(seed=1)
    student.against(half, ["psnr_ref"], missing="skip", replace=True, **HERE)
    frame = student.frame()
    assert (frame["psnr_ref"].notna() == (frame["seed"] == 1)).all()
    assert "4 cells are left without values: seed 0 is not there (there is 1)" in caplog.text


def test_the_same_reference_in_two_parts_is_one_reference(student, more, tmp_path):
    more(seed=0, out=tmp_path / "a")
    more(seed=1, out=tmp_path / "b")
    student.against(tmp_path / "a", ["psnr_ref"], missing="skip", **HERE)
    student.against(tmp_path / "b", ["psnr_ref"], missing="skip", **HERE)
    assert student.frame()["psnr_ref"].notna().all()
    assert len({kind_of(record) for record in Ledger(student.path).references().values()}) == 1


def test_missing_partners_are_refused_before_any_work(student, more, tmp_path):
    half = more(seed=1)
    words = r"4 of 8 finished cells have no finished partner in .*: seed 0 is not there \(there is 1\).*missing='skip'"
    with pytest.raises(SweepError, match=words):
        student.against(half, CHEAP, **HERE)
    assert "psnr_ref" not in student.frame()
    with pytest.raises(SweepError, match=r"no finished cell has a finished partner in .*: motion_bucket_id 127 is not"):
        student.against(more(motion_bucket_id=64, out=tmp_path / "slow"), missing="skip", **HERE)


def test_pictures_are_told_apart_by_their_pixels(student, more, tmp_path):
    pictures = tmp_path / "others"
    pictures.mkdir()
    for name, twin in (("rocket", "kite"), ("kite", "rocket")):  # names changed over, pixels the same
        shutil.copy(kept_picture(student, twin), pictures / f"{name}.png")
    crossed = more(image=[pictures / "rocket.png", pictures / "kite.png"], out=tmp_path / "crossed")
    student.against(crossed, ["psnr_ref"], **HERE)
    labels = crossed.frame().set_index("cell")["image"]
    assert [labels[key] for key in table(student)["reference"]] == [
        {"rocket": "kite", "kite": "rocket"}[image] for image in student.frame()["image"]
    ]
    only = more(image=[pictures / "kite.png"], out=tmp_path / "only")
    with pytest.raises(SweepError, match=r"the picture kite is not there; there, kite has other pixels"):
        student.against(only, ["psnr_ref"], replace=True, **HERE)


def kept_picture(sweep, label):
    """The file in which a run directory keeps the picture of this name."""
    with Ledger(sweep.path) as ledger:
        digest = next(digest for digest, name in ledger.labels().items() if name == label)
    return sweep.path / "images" / f"{digest[:16]}.png"


def test_failed_partners_are_named(student, teacher):
    with Ledger(teacher.path, write=True) as ledger:
        ledger.fail(teacher.frame()["cell"][0], error_type="OutOfMemoryError", error="no", traceback="")
    with pytest.raises(SweepError, match=r"2 of 8 finished cells .*: 2 partners are failed\. Run these"):
        student.against(teacher, CHEAP, **HERE)
    student.against(teacher, ["psnr_ref"], missing="skip", **HERE)
    assert student.frame()["psnr_ref"].notna().sum() == 6


def test_several_partners_are_a_choice(student, more):
    walk = more(steps=[3, 5])
    with pytest.raises(
        SweepError, match=r"has 2 partners in .*, which differ in steps \(3, 5\)\. .*where=\{'steps': 5\}"
    ):
        student.against(walk, CHEAP, **HERE)
    student.against(walk, ["psnr_ref"], where={"steps": 5}, **HERE)
    chosen = walk.frame().query("steps == 5")["cell"]
    assert set(table(student)["reference"]) == set(chosen)


def test_what_must_be_the_same_is_paired(more, tmp_path):
    both = {"max_guidance": [1.0, 2.0]}
    few = more(steps=1, **both, seed=0, out=tmp_path / "few")
    many = more(steps=3, **both, seed=0, out=tmp_path / "many")
    with pytest.raises(SweepError, match=r"differ in max_guidance \(1, 2\).*same=\['max_guidance'\]"):
        few.against(many, CHEAP, **HERE)
    few.against(many, ["psnr_ref"], same=["max_guidance"], **HERE)
    guidance = many.frame().set_index("cell")["max_guidance"]
    assert [guidance[key] for key in table(few)["reference"]] == few.frame()["max_guidance"].tolist()


def test_a_sweep_can_be_its_own_reference(student, pipe):
    student.against(student, ["psnr_ref"], where={"steps": 2}, pipe=pipe, **HERE)
    frame = student.frame()
    assert (frame["psnr_ref"].notna() == (frame["steps"] == 1)).all()  # a reference says nothing about itself
    assert frame["error"].isna().all()
    assert set(table(student)["source"]) == {"latents"}  # one model, one pipeline
    first = student.manifest(frame["cell"][1])["backfills"]
    student.against(student, ["psnr_ref"], where={"steps": 2}, pipe=pipe, **HERE)
    assert student.manifest(frame["cell"][1])["backfills"] == first


def test_tables_and_differences_keep_references_apart(student, teacher, more, tmp_path, caplog):
    twin = sl.open_sweep(shutil.copytree(student.path, tmp_path / "twin"))
    student.against(teacher, ["psnr_ref"], **HERE)
    twin.against(more(), ["psnr_ref"], **HERE)
    for together in (lambda **o: sl.sweep.merge([student, twin], **o), lambda **o: sl.sweep.join(student, twin, **o)):
        with pytest.raises(SweepError, match=r"psnr_ref is against tiny.*steps 4.*and against tiny.*steps 3"):
            together()
        caplog.clear()
        assert len(together(versions="note")) == 8
        assert "against different references stand side by side" in caplog.text
    found = student.diff(twin)
    assert [row.name for row in found.moved] == ["flow_mean"]
    assert "its values do not compare; Sweep.against mends that" in str(found)
    twin.against(teacher, ["psnr_ref"], replace=True, **HERE)
    assert [row.verdict for row in student.diff(twin).moved] == ["same", "same"]
    assert len(sl.sweep.join(student, twin)) == 8


def test_rebuilt_ledgers_know_the_references(student, teacher, pipe):
    student.against(teacher, ["psnr_ref"], **HERE)
    before = table(student)
    (student.path / FILE).unlink()
    sl.sweep.run_spec(student.path, pipe=pipe, progress=False)
    assert table(student).equals(before)
    with pytest.raises(MetricError, match=r"psnr_ref compares with another run.*Sweep\.against"):
        student.backfill(["psnr_ref"], progress=False)


def test_ledgers_from_before_are_read_and_written(student, teacher):
    with sqlite3.connect(student.path / FILE) as db:
        db.execute("DROP TABLE against")
    db.close()
    assert student.metric_table()["reference"].isna().all()
    student.against(teacher, ["psnr_ref"], **HERE)
    assert table(student)["reference"].notna().all()


def test_a_damaged_cell_on_either_side_is_left_out(student, teacher, caplog):
    (student.path / student.frame()["video"][0]).write_bytes(b"")
    last = teacher.frame().iloc[-1]
    (teacher.path / last["video"]).write_bytes(b"")
    student.against(teacher, ["psnr_ref"], **HERE)
    frame = student.frame()
    lost = (frame["image"] == last["image"]) & (frame["seed"] == last["seed"])
    lost[0] = True
    assert (frame["psnr_ref"].isna() == lost).all()
    assert caplog.text.count("is left as it is") == 3


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"metrics": ["warp_error"]}, MetricError, r"warp_error does not compare with another run; Sweep\.backfill"),
        ({"metrics": ["psnr_reff"]}, MetricError, "did you mean 'psnr_ref'"),
        ({"metrics": "psnr_ref"}, MetricError, "is a single string"),
        ({"metrics": []}, MetricError, "name at least one"),
        ({"missing": "ignore"}, SweepError, "missing = 'ignore': must be 'refuse' or 'skip'"),
        ({"where": {"step": 4}}, SweepError, r"where: 'step' is no setting of the sampler\. Did you mean 'steps'"),
        ({"where": {"seed": 0}}, SweepError, "where: seed agrees between partners in any case"),
        ({"where": {"steps": 25}}, SweepError, r"where: steps = 25 is not in .*; give one value of 4\."),
        ({"where": {"steps": [4]}}, SweepError, r"where: steps = \[4\] is not in"),
        ({"where": 4}, SweepError, r"where = 4: must be a dict of settings, such as \{'steps': 25\}"),
        ({"same": "steps"}, SweepError, r"same = 'steps': must be a list of settings, such as \['steps'\]"),
        ({"same": ["steps"]}, SweepError, "steps 1, 2 is not there"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(student, teacher, options, error, words):
    with pytest.raises(error, match=words):
        student.against(teacher, **{"metrics": CHEAP, **options}, **HERE)
    assert "psnr_ref" not in student.frame()


def test_pipelines_come_in_pairs_and_fit_their_sweeps(student, teacher, pipe, other, tmp_path):
    with pytest.raises(SweepError, match="reference_pipe is missing: exact frames of one sweep and lossy"):
        student.against(teacher, CHEAP, pipe=pipe, **HERE)
    with pytest.raises(SweepError, match="pipe = 'tiny-random': has other weights"):
        student.against(teacher, CHEAP, pipe=other, reference_pipe=pipe, **HERE)
    with pytest.raises(SweepError, match="is not the directory of a sweep"):
        student.against(tmp_path, CHEAP, **HERE)


def test_every_setting_is_film_or_sampler(student, teacher):
    """A setting of a later version must agree until someone says that it may differ."""
    assert set(SAMPLER) < set(SETTINGS)
    record = next(iter(pair(student, teacher).partners.values()))
    assert set(record["sampler"]) == set(SAMPLER)
    assert kind_of(record) == kind_of(json.loads(json.dumps(record)))
