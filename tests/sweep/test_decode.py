"""Decoding on demand: whenever frames are made, they are those of decoding at once, and so is all that follows."""

from __future__ import annotations

import random
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest

import svdlab as sl
from svdlab.errors import SpecError, SweepError
from svdlab.sweep.artifacts import LATENTS, PREVIEW, THUMB, VIDEO, cell_path
from svdlab.sweep.frame import COSTS
from svdlab.sweep.ledger import FILE, Ledger
from svdlab.sweep.lock import locked
from svdlab.sweep.repair import repair
from svdlab.sweep.spec import change_decode, make_spec, read_spec, stored_spec
from tests.faults.points import killing_at, watched
from tests.faults.rounds import child
from tests.sweep.conftest import QUIET, SMALL, draw_pictures

GRID = {"steps": [1, 2], "seed": [0, 1]}
METRICS = QUIET["metrics"]


@pytest.fixture(scope="module")
def home(pipe, tmp_path_factory) -> Path:
    """Two runs of the same four cells: `full`, and `lazy` with previews; not to be written to."""
    folder = tmp_path_factory.mktemp("decode")
    picture = draw_pictures(folder / "pictures") / "rocket.png"
    for name, decode in (("full", "full"), ("lazy", "preview")):
        sl.sweep(pipe, image=picture, out=folder / name, name="same", decode=decode, **GRID, **QUIET, **SMALL)
    return folder


@pytest.fixture
def full(home) -> sl.Sweep:
    return sl.open_sweep(home / "full")


@pytest.fixture
def lazy(home, pipe, tmp_path) -> sl.Sweep:
    """A copy of the lazy run that may be written to."""
    return sl.open_sweep(shutil.copytree(home / "lazy", tmp_path / "lazy"), pipe=pipe)


@pytest.fixture
def decoders_calls(pipe):
    """A list that grows with each call of the real decoder."""
    calls: list[int] = []
    handle = pipe.components.vae.decoder.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


def files_of(sweep: sl.Sweep, cell: str) -> dict[str, str]:
    return {name: file["sha256"] for name, file in sweep.manifest(cell)["files"].items()}


def results(sweep: sl.Sweep) -> pd.DataFrame:
    return sweep.frame().drop(columns=list(COSTS))


def same_as(full: sl.Sweep, lazy: sl.Sweep) -> bool:
    """Whether a lazy run has become what the full one is, to the byte of every mp4."""
    pd.testing.assert_frame_equal(results(lazy), results(full))
    for cell in full.frame()["cell"]:
        assert files_of(full, cell).items() <= files_of(lazy, cell).items()
    return True


def test_before_anybody_looks_there_are_latents_and_a_preview_and_nothing_that_needs_frames(full, lazy):
    frame, whole = lazy.frame(), full.frame()
    assert list(frame["cell"]) == list(whole["cell"])
    assert set(frame["status"]) == {"done"}
    assert frame[["video", "seconds", "seconds_decode", *METRICS]].isna().all(axis=None)
    assert (frame["seconds_denoise"] > 0).all()
    assert (frame["seconds_spent"] > 0).all()
    for cell in frame["cell"]:
        assert set(files_of(lazy, cell)) == {LATENTS, PREVIEW}
        assert files_of(lazy, cell)[LATENTS] == files_of(full, cell)[LATENTS]


def test_cells_that_are_decoded_later_are_those_decoded_at_once(full, lazy, decoders_calls):
    assert lazy.decode(progress=False) is lazy
    assert len(decoders_calls) == 4
    assert same_as(full, lazy)
    assert set(lazy.metric_table()["source"]) == {"latents"}
    costs = lazy.frame()
    parts = costs[["seconds_denoise", "seconds_decode"]].sum(axis=1)
    assert (costs["seconds"] >= parts).all()
    lazy.decode(progress=False)
    assert len(decoders_calls) == 4
    assert len(repair(lazy.path).whole) == 4


def test_a_clip_that_is_looked_at_is_exact_and_kept(full, lazy, pipe, decoders_calls):
    cell, other = lazy.frame()["cell"][:2]
    clip = lazy.clip(cell)
    assert (clip.frames == full.clip(cell, pipe=pipe).frames).all()
    assert clip.seconds["total"] == pytest.approx(
        sum(clip.seconds[name] for name in ("condition", "denoise", "decode"))
    )
    assert lazy.mp4(cell) == full.mp4(cell)
    assert lazy.clip(cell).fps == clip.fps  # from the mp4 now
    assert len(decoders_calls) == 2
    assert set(files_of(lazy, other)) == {LATENTS, PREVIEW}
    row = lazy.frame().set_index("cell").loc[cell]
    assert row["video"] == f"{cell_path(cell)}/{VIDEO}"
    assert row[METRICS].notna().all()
    assert pd.read_csv(lazy.path / "results.csv")["video"].notna().sum() == 1


def test_while_another_writes_frames_are_made_and_not_kept(full, lazy):
    cell = lazy.frame()["cell"][0]
    before = files_of(lazy, cell)
    with locked(lazy.path):
        assert lazy.mp4(cell) == full.mp4(cell)
        assert lazy.clip(cell).frames.shape == (2, 32, 32, 3)
    assert files_of(lazy, cell) == before
    assert not (lazy.path / cell_path(cell) / VIDEO).exists()


def test_the_same_call_leaves_the_frames_and_a_full_one_makes_them_without_denoising(full, lazy, home, pipe, hook):
    network: list[int] = []
    hook(lambda: network.append(1))
    call = {"image": home / "pictures" / "rocket.png", "out": lazy.path, "name": "same", **GRID, **QUIET, **SMALL}
    again = sl.sweep(pipe, decode="preview", **call)
    assert again.plan.to_decode == again.plan.backfill == again.plan.todo == 0
    assert again.frame()["video"].isna().all()
    assert stored_spec(lazy.path).decode == "preview"
    made = sl.sweep(pipe, **call)
    assert (made.plan.to_decode, made.plan.backfill) == (4, 0)
    assert "4 finished cells are decoded" in str(made.plan)
    assert network == []
    assert same_as(full, made)


def test_without_frames_metrics_come_from_latents_or_say_what_they_need(full, lazy, pipe, caplog):
    lazy.backfill(METRICS, progress=False)
    assert "4 cells are not decoded yet" in caplog.text
    assert lazy.metric_table().empty
    lazy.backfill(METRICS, pipe=pipe, progress=False)
    pd.testing.assert_frame_equal(lazy.frame()[METRICS], full.frame()[METRICS])
    assert lazy.frame()["video"].isna().all()
    with pytest.raises(SweepError, match=r"4 of the cells are not decoded yet.*svdlab decode"):
        lazy.per_frame(["flow_mean"])
    with pytest.raises(SweepError, match=r"lazy: 4 of the cells are not decoded yet"):
        full.against(lazy, ["psnr_ref"], same=["steps"], progress=False)


def test_the_model_is_found_by_its_name_or_asked_for_in_words(lazy, tmp_path):
    cell = lazy.frame()["cell"][0]
    alone = sl.open_sweep(lazy.path)
    assert len(alone.clip(cell)) == 2
    path = lazy.path / "spec.json"
    with Ledger(lazy.path, write=True) as ledger:
        spec = ledger.declaration() | {"model": "no-such-model"}
        path.unlink()
        with ledger.transaction():
            ledger.begin(host="here", pid=1, versions={})
            ledger.declare([row["key"] for row in ledger.cells()], [], [], spec)
            ledger.end()
    with pytest.raises(SweepError, match=r"'no-such-model'\) is not at hand: it is not on this machine.*pipe="):
        sl.open_sweep(lazy.path).clip(lazy.frame()["cell"][1])


def test_cells_of_other_weights_are_left_as_they_are(lazy, caplog):
    half = sl.load("tiny-random", device="cpu", dtype="bfloat16")
    lazy.decode(pipe=half, progress=False)
    assert caplog.text.count("belongs to other weights") == 4
    assert lazy.frame()["video"].isna().all()
    with pytest.raises(SweepError, match="has no cell that begins like this"):
        lazy.decode(["nothing"])


def test_a_ledger_that_was_left_behind_by_a_kill_catches_up(full, lazy, tmp_path):
    old = shutil.copy(lazy.path / FILE, tmp_path / "old")
    lazy.decode(progress=False)
    shutil.copy(old, lazy.path / FILE)  # as if it was killed between the last manifest and its row
    assert lazy.frame()["video"].isna().all()
    found = repair(lazy.path, progress=False)
    assert (found.ledger, found.damaged, len(found.whole)) == (None, {}, 4)
    assert same_as(full, lazy)


@pytest.mark.slow
def test_decoding_that_is_killed_anywhere_loses_nothing_and_ends_as_if_it_was_not(full, lazy, home, tmp_path):
    """SIGKILL at points of a seeded sample: before and after writes, moves, syncs and statements."""
    pipe, points = lazy._pipe, tmp_path / "points"

    def record():
        seen: list[str] = []
        with watched(seen.append):
            copy = shutil.copytree(home / "lazy", tmp_path / "watched")
            sl.open_sweep(copy, pipe=pipe).decode(progress=False)
        points.write_text("\n".join(seen), encoding="utf-8")

    assert child(record) == 0
    names = points.read_text(encoding="utf-8").split("\n")
    about = [
        k for k, name in enumerate(names) if name.startswith(("add_files", "write_atomic", "atomic_path", "finish"))
    ]
    for number in random.Random(0).sample(about, 4):

        def work(number=number):
            with watched(killing_at(number, lambda point: None)):
                sl.open_sweep(lazy.path, pipe=pipe).decode(progress=False)

        assert child(work) in (0, -signal.SIGKILL)
        for cell in lazy.frame()["cell"]:
            assert {LATENTS, PREVIEW} <= set(lazy.manifest(cell)["files"])  # whole, and readable
    lazy.decode(progress=False)
    assert same_as(full, lazy)
    assert not list(lazy.path.rglob(".tmp-*"))


def test_what_a_killed_process_left_is_written_anew(full, lazy):
    cell = lazy.frame()["cell"][0]
    (lazy.path / cell_path(cell) / VIDEO).write_bytes(b"half of a file")
    assert lazy.mp4(cell) == full.mp4(cell)
    assert files_of(lazy, cell)[THUMB] == files_of(full, cell)[THUMB]


def test_none_keeps_latents_alone_and_batches_and_estimates_know_it(full, go, tmp_path):
    plans = []
    run = go(decode="none", batch=2, out=tmp_path / "none", on_plan=plans.append)
    assert {frozenset(files_of(run, cell)) for cell in run.frame()["cell"]} == {frozenset({LATENTS})}
    assert "when somebody looks" in str(plans[0])
    more = go(decode="none", steps=[1, 2, 3], out=tmp_path / "none", on_plan=plans.append)
    assert plans[1].judged_by == "the cells that are done"
    assert plans[1].bytes < plans[0].bytes
    assert more.frame()["flow_mean"].isna().all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("decode = 'later'", r"a\.toml:3: decode = 'later': must be one of 'full', 'preview', 'none'"),
        ("preview_weights = 'taesd'", r"preview_weights = 'taesd': is for decode = 'preview', here it is 'full'"),
        ("preview_weights = 3", r"preview_weights = 3: must be the folder of an AutoencoderTiny"),
    ],
)
def test_a_spec_that_asks_for_what_cannot_be_is_refused(pictures, tmp_path, line, message):
    path = tmp_path / "a.toml"
    path.write_text(f"model = 'tiny-random'\nimages = ['pictures/*.png']\n{line}\n", encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        read_spec(path)


def test_the_command_line_may_say_otherwise_than_the_spec(pictures, tmp_path):
    spec = make_spec(images=pictures / "kite.png", grid={}, decode="preview", preview_weights="taesd", base=tmp_path)
    assert spec.preview_weights == tmp_path / "taesd"
    assert change_decode(spec, None, None) is spec
    assert change_decode(spec, "preview", None).preview_weights == tmp_path / "taesd"
    assert change_decode(spec, "none", None).preview_weights is None
    with pytest.raises(SpecError, match="is for decode = 'preview'"):
        change_decode(spec, "full", "taesd")


def test_slices_that_a_later_decoding_took_are_recorded(lazy, pipe):
    sliced = sl.load("tiny-random", device="cpu", low_memory="slices")
    first, second = lazy.frame()["cell"][:2]
    assert lazy.clip(first, pipe=sliced).low_memory is True
    assert lazy.manifest(first)["low_memory"] is True
    assert lazy.clip(first).low_memory is True  # read from its mp4
    assert lazy.clip(first, pipe=pipe).low_memory is False  # decoded again, the usual way
    assert lazy.decode([second], pipe=pipe, progress=False).manifest(second)["low_memory"] is False
