"""The exam as a whole: truths in a model's place must pass every row, spoilt ones must fail where they should."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from svdlab.metrics.lpips_weights import ensure_lpips_weights
from svdlab.training.cases import held_out
from svdlab.training.exam import BUCKETS, ExamSettings, Report, sit
from svdlab.training.rows import cost_rows, vae_rows
from svdlab.training.sheets import LEGEND
from svdlab.training.world import World
from tests.training.drawn import FRAMES, case_of, drive, frozen, ghosts, noisy, pan, pan_case
from tests.training.players import systems

SETTINGS = ExamSettings(pictures=3, seeds=2)


def named(case, name):
    return type(case)(**{**vars(case), "name": name})


ARROW = named(case_of([(17, -6)], seed=1), "arrow 1")
BACK = named(case_of([(-15, 8)], seed=2), "arrow 2")
CAMERA = named(pan_case((14, 5)), "camera 3")
BALL = named(case_of([(16, 0), (-16, 0)], seed=4), "ball 4")
PHOTO = named(pan_case((9, 0)), "photo")
SEEDS = {"arrow 1": 1, "arrow 2": 2, "ball 4": 4}
CASES = [ARROW, BACK, CAMERA, BALL, PHOTO]


def truth(case, speed, future, request):
    """What a perfect model makes; cond_aug adds what it should: noise of the picture."""
    end = case.ends[future]
    clip = drive(tuple(end), speed, SEEDS[case.name]) if case.target else pan(tuple(end * speed))
    return clip if request.cond_aug <= 0.02 else noisy(clip, 30 * request.cond_aug)


def still(case, speed, future, request):
    return frozen(truth(case, speed, future, request))


def dithering(case, speed, future, request):
    """All futures at once."""
    return ghosts(np.stack([truth(case, speed, k, request) for k in range(len(case.ends))]))


def held(play, **others) -> Report:
    roles = {"student": play, "teacher": truth, "one_step": dithering, "undistilled": dithering} | others
    return sit(systems(CASES, **roles), moving=[ARROW, BACK, CAMERA], ambiguous=[BALL], photo=PHOTO.picture,
               settings=SETTINGS)  # fmt: skip


@pytest.fixture(scope="module")
def perfect():
    ensure_lpips_weights(progress=False)
    return held(truth)


@pytest.fixture(scope="module")
def idle():
    ensure_lpips_weights(progress=False)
    return held(still)


def test_truths_reach_every_bar(perfect):
    assert {row.name: row.value for row in perfect.rows if row.verdict not in ("reached", "no bar")} == {}
    assert sum(row.bar is not None for row in perfect.rows) == 23


def test_a_frozen_student_fails_every_row_about_its_motion(idle):
    failed = {row.name for row in idle.rows if row.verdict == "failed"}
    assert failed == {
        "student_bucket_rho",
        "student_bucket_rho_worst",
        "student_flow_rho",
        "student_displacement_ratio",
        "student_position_error",
        "student_psnr_gain",
        "decided_over_one_step",
    }
    assert idle.row("student_flow_rho_worst").value == 0
    assert idle.row("photo_moved").value == 0
    assert idle.row("decided_student_4").value == 0
    assert idle.row("teacher_bucket_rho").verdict == "reached"


def test_truths_of_the_world_reach_every_bar():
    ensure_lpips_weights(progress=False)
    world, cases = World(stage="full"), held_out(count=3)
    photo = named(pan_case((9, 0)), "photo")

    def play(case, speed, future, request):
        if case is photo:
            return truth(case, speed, future, request)
        bucket = {"motion_bucket_id": round(255 * speed), "fps": request.fps, "choice": future}
        frames = world.scene(int(case.name.split()[1]), **bucket).frames
        return frames if request.cond_aug <= 0.02 else noisy(frames, 30 * request.cond_aug)

    def dither(case, speed, future, request):
        return ghosts(np.stack([play(case, speed, k, request) for k in range(len(case.ends))]))

    makers = systems(
        [*cases.moving, *cases.ambiguous, photo], student=play, teacher=play, one_step=dither, undistilled=dither
    )
    report = sit(makers, moving=cases.moving, ambiguous=cases.ambiguous, photo=photo.picture, settings=SETTINGS)
    assert {row.name: row.value for row in report.rows if row.verdict not in ("reached", "no bar")} == {}


def test_values_are_kept_for_each_picture(perfect):
    assert set(perfect.row("student_bucket_rho").pictures) == {"arrow 1", "arrow 2", "camera 3"}
    assert set(perfect.row("student_position_error").pictures) == {"arrow 1", "arrow 2"}  # a camera has no object
    assert perfect.row("decided_teacher").pictures == {"ball 4": 1}
    assert "255: 1" in perfect.row("student_bucket_rho").note


def test_shares_of_decided_clips_by_system(perfect):
    shares = {row.name: row.value for row in perfect.rows if row.name.startswith("decided_") and "over" not in row.name}
    assert shares == {
        "decided_student_1": 0,
        "decided_student_2": 0,
        "decided_student_4": 1,
        "decided_student_8": 1,
        "decided_teacher": 1,
        "decided_undistilled_euler": 0,
        "decided_undistilled_lcm": 0,
    }


def test_without_ambiguous_pictures_the_row_says_so():
    ensure_lpips_weights(progress=False)
    roles = dict.fromkeys(("student", "teacher", "one_step", "undistilled"), truth)
    report = sit(systems(CASES, **roles), moving=[CAMERA], ambiguous=[], photo=PHOTO.picture,
                 settings=ExamSettings(seeds=1))  # fmt: skip
    assert report.row("decided").verdict == "not measured"
    assert not any("position" in row.name or "object" in row.name for row in report.rows)
    assert "ambiguous.jpg" not in report.sheets


def test_what_is_written(perfect, tmp_path):
    perfect.write(tmp_path / "new" / "card")
    folder = tmp_path / "new" / "card"
    card = json.loads((folder / "card.json").read_text())
    assert [row["name"] for row in card["rows"]] == [row.name for row in perfect.rows]
    assert card["settings"]["pictures"] == 3
    text = (folder / "card.md").read_text()
    assert "| student: object position error" in text
    sheets = ["successes.jpg", "failures.jpg", "buckets.jpg", "ambiguous.jpg", "photograph.jpg"]
    for name in sheets:
        assert f"({name})" in text
        with Image.open(folder / name) as sheet:
            assert min(sheet.size) > 60
    assert sorted(path.name for path in folder.iterdir()) == sorted([*sheets, "card.json", "card.md"])


def test_sheets_show_the_frames(perfect, idle):
    """Second row: the student's clip. Frozen, its six frames are one picture."""
    for report, distinct in ((perfect, 6), (idle, 1)):
        sheet = np.asarray(report.sheets["successes.jpg"])
        left, top = LEGEND, 4 + 128 + 4
        tiles = {sheet[top : top + 128, left + 132 * n : left + 132 * n + 128].tobytes() for n in range(6)}
        assert len(tiles) == distinct


def test_settings_are_checked():
    with pytest.raises(ValueError, match="seeds = 0"):
        ExamSettings(seeds=0)


def test_rows_of_vae_and_cost(tmp_path):
    (tmp_path / "weights").write_bytes(b"x" * 2_000_000)
    assert vae_rows({"a": 29, "b": 31})[0].verdict == "reached"
    assert [row.verdict for row in cost_rows(4.0, "here", [tmp_path])] == ["enough", "reached"]
    assert cost_rows(4.0, "here", [])[1].verdict == "not measured"


def test_the_buckets_are_nine_from_end_to_end():
    assert len(BUCKETS) == 9
    assert (BUCKETS[0], BUCKETS[-1], FRAMES) == (0, 255, 25)
