"""The measures of the model card: what is sound must pass, and each kind of damage must show where it should."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab import load
from svdlab.metrics.lpips_weights import ensure_lpips_weights
from svdlab.training import evaluate
from tests.training.drawn import (
    SPOILT,
    blurred,
    case_of,
    drive,
    frozen,
    ghosts,
    noisy,
    pale,
    pan,
    pan_case,
    to_uint8,
)

END = (17.3, -6.4)
SPEEDS = np.linspace(0, 1, 9)


@pytest.fixture(scope="module")
def case():
    return case_of([END])


@pytest.fixture(scope="module")
def two_ways():
    return case_of([(16, 0), (-16, 0)])


@pytest.fixture(scope="module")
def weights():
    return ensure_lpips_weights(progress=False)


# Small mathematics.


def test_ranks_share_ties():
    assert evaluate.ranks([10, 30, 10, 20]).tolist() == [1.5, 4, 1.5, 3]


def test_spearman_on_a_worked_example():
    assert evaluate.spearman([0, 32, 64, 96], [0.0, 0.4, 0.3, 1.1]) == 0.8  # 1 - 6 * 2 / (4 * 15)
    assert evaluate.spearman([1, 2, 3], [5, 5, 5]) == 0
    assert evaluate.spearman([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(4.5 / np.sqrt(5 * 4.5))


@given(st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=12, unique=True))
def test_spearman_sees_order_alone(values):
    steps = range(len(values))
    rho = evaluate.spearman(steps, values)
    assert -1 <= rho <= 1
    assert evaluate.spearman(steps, np.arctan(np.array(values))) == rho
    assert evaluate.spearman(steps, -np.array(values)) == -rho
    assert evaluate.spearman(steps, sorted(values)) == 1


@pytest.mark.parametrize(("x", "y"), [([1], [1]), ([1, 2], [1, 2, 3]), ([1, 2], [1, float("nan")])])
def test_spearman_refuses_what_has_no_order(x, y):
    with pytest.raises(ValueError, match="finite numbers"):
        evaluate.spearman(x, y)


def test_psnr_of_known_errors():
    a = np.zeros((4, 4, 3), np.uint8)
    assert evaluate.psnr(a, a) == 100
    assert evaluate.psnr(a, a + 255) == 0
    assert evaluate.psnr(a, a + np.uint8(16)) == pytest.approx(20 * np.log10(255 / 16))


# Motion.


@pytest.mark.parametrize("damage", ["sound", *SPOILT])
@pytest.mark.parametrize("kind", ["object", "camera"])
def test_displacement_follows_the_speed_in_poor_clips_too(case, kind, damage):
    spoil = SPOILT.get(damage, lambda frames: frames)
    which = case if kind == "object" else pan_case((15, 4))
    clips = [drive(END, speed) if kind == "object" else pan((15 * speed, 4 * speed)) for speed in SPEEDS]
    moved = [evaluate.displacement(spoil(frames), which) for frames in clips]
    assert evaluate.spearman(SPEEDS, moved) == 1
    assert moved == pytest.approx(SPEEDS * np.hypot(*which.ends[0]), abs=0.25)


def test_a_frozen_clip_fails_every_measure_of_motion(case):
    still = frozen(case.truths[0])
    moved = [evaluate.displacement(still, case) for _ in SPEEDS]
    assert evaluate.spearman(SPEEDS, moved) == 0
    assert evaluate.displacement_ratio(moved[-1:], moved[:1]) < 1.5
    assert evaluate.position_error(still, case) == pytest.approx(evaluate.still_error(case), abs=0.1)
    assert evaluate.psnr_gain(still, case) == 0
    assert evaluate.flow_mean(still) == 0


def test_displacement_ratio_takes_nothing_for_a_tenth_of_a_pixel():
    assert evaluate.displacement_ratio([4, 6], [0, 0]) == 50
    assert evaluate.displacement_ratio([4, 6], [0.5, 0.5]) == 10


def test_a_sound_clip_has_no_position_error_and_a_wrong_way_a_large_one(case):
    assert evaluate.position_error(case.truths[0], case) < 0.2
    for spoil in SPOILT.values():
        assert evaluate.position_error(spoil(case.truths[0]), case) < 0.3
    wrong = drive((-END[0], -END[1]))
    assert evaluate.position_error(wrong, case) == pytest.approx(2 * evaluate.still_error(case), rel=0.05)


def test_a_half_faded_object_is_found_and_a_dissolved_one_counts_as_not_moved(case):
    assert evaluate.position_error(drive(END, opacity=0.5), case) < 0.3
    gone = drive(END, opacity=0.1)
    assert evaluate.displacement(gone, case) == 0
    assert evaluate.position_error(gone, case) == evaluate.still_error(case)


def test_position_errors_are_told_for_a_frame_of_64_px(case):
    large = evaluate.Case(**{**vars(case), "picture": np.zeros((128, 128, 3), np.uint8)})
    assert evaluate.still_error(large) == evaluate.still_error(case) / 2


def test_gain_of_psnr_orders_damage(case):
    truth = case.truths[0]
    gains = {
        "sound": evaluate.psnr_gain(truth, case),
        "noisy": evaluate.psnr_gain(noisy(truth), case),
        "pale": evaluate.psnr_gain(pale(truth), case),
        "wrong": evaluate.psnr_gain(drive((-END[0], -END[1])), case),
    }
    assert gains["sound"] > gains["noisy"] > 4 > 0.5 > gains["wrong"] > gains["pale"]


def test_flow_grows_with_speed_and_with_flicker(case):
    slow, fast = (evaluate.flow_mean(drive(END, speed)) for speed in (0.2, 1))
    assert 0 < slow < fast
    assert evaluate.flow_mean(noisy(drive(END, 0))) > slow  # what a flicker floor does to the measure


# Appearance.


@pytest.mark.usefixtures("weights")
def test_lpips_of_the_object_sees_its_looks_and_not_its_place(case):
    truth = case.truths[0]
    sound, fading = evaluate.object_lpips(truth, case), evaluate.object_lpips(drive(END, opacity=0.5), case)
    soft = evaluate.object_lpips(blurred(truth), case)
    late = evaluate.object_lpips(drive(END, 0.7), case)
    assert sound[0] < 0.02
    assert sound[0] < late[0] < soft[0]
    assert sound[0] < late[0] < fading[0]
    assert all(to_given > 0 for _, to_given in (sound, fading, soft, late))


@pytest.mark.usefixtures("weights")
def test_lpips_input_of_a_frozen_clip_is_zero(case):
    assert evaluate.lpips_input(frozen(case.truths[0]), case.picture) == pytest.approx(0, abs=1e-6)
    assert evaluate.lpips_input(noisy(case.truths[0]), case.picture) > 0.05


# Decisions.


@pytest.mark.parametrize("damage", ["sound", *SPOILT])
def test_one_object_is_decided_and_two_ghosts_are_not(two_ways, damage):
    spoil = SPOILT.get(damage, lambda frames: frames)
    for truth in two_ways.truths:
        assert evaluate.decided(spoil(truth), two_ways)
    assert not evaluate.decided(spoil(ghosts(two_ways.truths)), two_ways)
    assert not evaluate.decided(spoil(frozen(two_ways.truths[0])), two_ways)


def test_a_single_faded_or_late_object_is_decided_and_a_dissolved_one_is_not(two_ways):
    assert evaluate.decided(drive((16, 0), opacity=0.5), two_ways)
    assert evaluate.decided(drive((16, 0), 0.8), two_ways)
    assert not evaluate.decided(drive((16, 0), opacity=0.15), two_ways)


def test_an_uneven_blend_is_decided_only_if_one_side_clearly_prevails(two_ways):
    left, right = (truth.astype(np.float64) for truth in two_ways.truths)
    assert evaluate.decided(to_uint8(0.75 * left + 0.25 * right), two_ways)
    assert not evaluate.decided(to_uint8(0.6 * left + 0.4 * right), two_ways)


def test_a_blend_of_many_ways_is_undecided():
    case = case_of([(16 * np.cos(a), 16 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 8, endpoint=False)])
    assert evaluate.tells_apart(case)
    assert not evaluate.decided(ghosts(case.truths), case)


def skies(count: int) -> np.ndarray:
    """Last frames of a scene without an object: clouds that have drifted another way in each future."""
    rng = np.random.default_rng(5)
    clouds = cv2.GaussianBlur(rng.normal(0, 400, (64, 64)).astype(np.float32), (0, 0), 4)
    drifts = [(0, 14), (12, -8), (-13, -6), (5, 30)]
    sky = np.linspace(60, 140, 64)[:, None, None] * np.array([0.7, 0.9, 1.2])
    return np.stack([to_uint8(sky + np.roll(clouds, drift, (0, 1))[..., None]) for drift in drifts[:count]])


def sky_case(count: int = 3) -> evaluate.Case:
    truths = skies(count)[:, None]
    return evaluate.Case(
        name="sky", picture=truths[0, 0], target=None, reach=0, ends=np.zeros((count, 2)), truths=truths
    )


@pytest.mark.parametrize("damage", ["sound", *SPOILT])
def test_pictures_without_an_object_are_decided_if_they_are_one_of_the_futures(damage):
    case, spoil = sky_case(), SPOILT.get(damage, lambda frames: frames)
    for truth in case.truths:
        assert evaluate.decided(spoil(truth), case)
    assert not evaluate.decided(spoil(ghosts(case.truths)), case)
    assert evaluate.tells_apart(case)


def test_futures_that_are_alike_cannot_be_judged():
    near = case_of([(16, 0), (15, 1)])
    assert not evaluate.tells_apart(near)


# The decoder, photographs and costs.


@pytest.fixture(scope="module")
def pipe():
    return load("tiny-random", device="cpu")


def test_vae_psnr_is_that_of_the_pipelines_own_encoder_and_decoder(pipe, case):
    value = evaluate.vae_psnr(pipe, case.truths[0][:3])
    assert 0 < value < 20  # random weights reconstruct nothing


def test_photographs_sound_frozen_and_collapsed(weights):
    fast, still = pan((14, 0)), frozen(pan((0, 0)))
    sound = evaluate.photo_measures(fast, still, fast[0], reach=32)
    assert sound["photo_lpips"] == pytest.approx(0, abs=1e-6)
    assert sound["photo_ssim"] == pytest.approx(1)
    assert sound["photo_moved"] == pytest.approx(14, abs=0.2)
    assert sound["photo_saturation"] == pytest.approx(1, abs=0.3)
    assert evaluate.photo_measures(still, still, fast[0], reach=32)["photo_moved"] == 0
    forward = np.stack([cv2.resize(still[0][8:-8, 8:-8], (64, 64), interpolation=cv2.INTER_CUBIC)] * 2)
    entered = evaluate.photo_measures(forward, still, still[0], reach=32)  # 64 / 48 larger
    assert entered["photo_moved"] == pytest.approx(0.3826 * 64 / 3, abs=0.4)
    grey = evaluate.photo_measures(np.full_like(fast, 128), still, fast[0], reach=32)
    assert grey["photo_saturation"] == 0
    assert grey["photo_sharpness"] < 0.05
    assert grey["photo_ssim"] < 0.5
    assert evaluate.photo_measures(noisy(fast, 60), still, fast[0], reach=32)["photo_sharpness"] > 2
    assert weights.is_file()


def test_seconds_are_wall_clock_time(pipe, case):
    assert 0.001 < evaluate.clip_seconds(pipe, case.picture, steps=1, repeats=1) < 60


def test_size_counts_shared_files_once(tmp_path):
    one, two = tmp_path / "student", tmp_path / "teacher"
    for folder in (one / "vae", two):
        folder.mkdir(parents=True)
    (one / "vae" / "weights").write_bytes(b"x" * 3_000_000)
    (two / "vae").symlink_to(one / "vae" / "weights")
    (two / "unet").write_bytes(b"x" * 1_500_000)
    assert evaluate.files_megabytes([one, two]) == 4.5
    assert evaluate.files_megabytes([one, one]) == 3
