"""The pictures of the questions and the truth about them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from pictures import main
from PIL import Image

import svdlab as sl
from answers.scenes import (
    AMBIGUOUS,
    DECIDED,
    PICTURES,
    TRUE_METRICS,
    alike,
    choose,
    read_scenes,
    scenes_of_size,
    use_truth,
    write_scenes,
)
from svdlab.errors import TrainingError
from svdlab.metrics.registry import NotComputableError
from svdlab.training.world import HELD_OUT, World


@pytest.fixture(scope="module")
def scenes():
    return read_scenes()


@pytest.fixture(scope="module")
def truth(own_registry, scenes):
    """What the metrics read on the true clips: label -> name -> value."""
    names = use_truth(scenes)
    assert not set(names) & set(own_registry)
    return scenes


def read(case, frames, name):
    return sl.metrics.score(sl.Clip(frames=frames), image=case.picture, names=[name])[name]


def test_they_are_held_out_and_as_the_world_renders_them(scenes):
    rows = json.loads((PICTURES / "truth.json").read_text())["scenes"]
    assert [row["label"] for row in rows] == [*DECIDED, *AMBIGUOUS] == list(scenes.files)
    assert {row["label"]: row["index"] for row in rows} == choose()
    for row in rows:
        scene = World(stage="full").scene(row["index"], motion_bucket_id=255, fps=10, choice=0)
        assert row["index"] >= HELD_OUT
        assert row["start"] == pytest.approx(scene.positions[0, 0].tolist(), abs=1e-3)
        assert row["ends"][0] == pytest.approx((scene.positions[-1, 0] - scene.positions[0, 0]).tolist(), abs=1e-3)
        assert len(row["ends"]) == (2 if row["label"] in AMBIGUOUS else 1)
        last = np.asarray(Image.open(PICTURES / "truth" / f"{row['label']}.png"))
        assert alike(last[:, :64], scene.frames[-1])
        assert not alike(last[:, :64], scene.frames[0])


def test_labels_and_the_length_of_the_true_way(scenes):
    assert scenes.labels(ambiguous=False) == list(DECIDED)
    assert scenes.labels(ambiguous=True) == list(AMBIGUOUS)
    assert scenes.true_px(DECIDED) == pytest.approx(16 * 0.5**0.5, abs=1e-3)  # 24 frames at 2/3 px, less sqrt(5 / 10)


@pytest.mark.parametrize("label", DECIDED)
def test_the_truth_reads_as_true(truth, label):
    case = truth.cases[label]
    frames = case.truths[0]
    length = float(np.hypot(*case.ends[0]))
    assert read(case, frames, "displacement") == pytest.approx(length, abs=0.3)
    assert read(case, frames, "moved_x") == pytest.approx(case.ends[0][0], abs=0.3)
    assert read(case, frames, "position_error") < 0.3
    assert read(case, frames, "presence") == pytest.approx(1, abs=0.1)
    assert read(case, frames, "psnr_gain") > 30
    assert read(case, frames, "sharpness_input") == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("label", [*DECIDED, *AMBIGUOUS])
def test_a_still_clip_has_not_moved(truth, label):
    case = truth.cases[label]
    frames = np.repeat(case.picture[None], 25, axis=0)
    assert read(case, frames, "displacement") == pytest.approx(0, abs=0.1)
    assert read(case, frames, "psnr_gain") == pytest.approx(0)
    assert read(case, frames, "sharpness_input") == pytest.approx(1, rel=1e-6)
    if label in DECIDED:
        assert read(case, frames, "position_error") == pytest.approx(float(np.hypot(*case.ends[0])), abs=0.1)


def test_the_two_ways_of_an_open_picture(truth):
    case = truth.cases["ridge"]
    moved = [read(case, frames, "moved_x") for frames in case.truths]
    assert moved == pytest.approx(case.ends[:, 0].tolist(), abs=0.3)
    assert moved[0] * moved[1] < 0
    assert all(read(case, frames, "psnr_gain") > 30 for frames in case.truths)  # the nearest of the two
    with pytest.raises(NotComputableError, match="no truth"):
        read(case, case.truths[0], "position_error")


def test_blur_is_softer_and_noise_sharper(truth):
    import cv2

    case = truth.cases["car"]
    soft = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in case.truths[0]])
    noise = np.random.default_rng(0).normal(0, 12, case.truths[0].shape)
    noisy = np.clip(case.truths[0] + noise, 0, 255).astype(np.uint8)
    assert read(case, soft, "sharpness_input") < 0.5
    assert read(case, noisy, "sharpness_input") > 1.1


@pytest.mark.parametrize("name", [name for name in TRUE_METRICS if name != "sharpness_input"])
def test_of_any_other_picture_there_is_no_truth(truth, name):
    other = truth.cases["car"].picture[:, ::-1].copy()
    frames = np.repeat(other[None], 2, axis=0)
    with pytest.raises(NotComputableError, match="experiments/pictures"):
        sl.metrics.score(sl.Clip(frames=frames), image=other, names=[name])


def test_at_another_size_distances_are_the_same(truth, tmp_path):
    large = scenes_of_size(128, 25, tmp_path / "pictures")
    assert large.files["fish"].parent == tmp_path / "pictures"
    use_truth(large)
    case = large.cases["fish"]
    assert case.picture.shape == (128, 128, 3)
    assert read(case, case.truths[0], "displacement") == pytest.approx(11.3, abs=0.3)
    assert read(case, case.truths[0], "moved_x") == pytest.approx(-11.3, abs=0.3)


def test_the_frozen_size_renders_nothing(tmp_path):
    assert scenes_of_size(64, 25, tmp_path / "pictures").files["car"] == PICTURES / "car.png"
    assert not (tmp_path / "pictures").exists()


def test_another_picture_than_the_world_renders_is_refused(tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES, folder)
    picture = np.asarray(Image.open(folder / "arrow.png")).copy()
    picture[40, 40] ^= 16
    Image.fromarray(picture).save(folder / "arrow.png")
    with pytest.raises(TrainingError, match=r"renders arrow otherwise.*python experiments/pictures.py"):
        read_scenes(folder)


def test_pictures_rounded_otherwise_are_the_same_and_their_truth_is_known(own_registry, tmp_path):
    folder = tmp_path / "pictures"
    shutil.copytree(PICTURES, folder)
    picture = np.asarray(Image.open(folder / "arrow.png")).copy()
    picture[0, 0] ^= 1
    Image.fromarray(picture).save(folder / "arrow.png")
    rounded = read_scenes(folder)
    use_truth(rounded)
    frames = np.repeat(picture[None], 2, axis=0)
    assert sl.metrics.score(sl.Clip(frames=frames), image=picture, names=["presence"])["presence"] > 0.9


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(TrainingError, match=r"truth.json.*python experiments/pictures.py"):
        read_scenes(tmp_path)
    (tmp_path / "truth.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_scenes(tmp_path)


def test_the_command_writes_what_is_frozen(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "new")]) == 0
    assert "rocket" in capsys.readouterr().out
    for path in sorted(PICTURES.rglob("*.*")):
        again = tmp_path / "new" / path.relative_to(PICTURES)
        if path.suffix == ".png":
            assert alike(np.asarray(Image.open(again)), np.asarray(Image.open(path)))
        else:
            new, old = (json.loads(file.read_text()) for file in (again, path))
            assert new["world"] == old["world"]
            assert [row["index"] for row in new["scenes"]] == [row["index"] for row in old["scenes"]]


def test_the_command_refuses_a_size_that_the_world_does_not_have(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path / "new"), "--size", "8"])
    assert stop.value.code == 2
    assert "size = 8" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_fewer_scenes_can_be_written(tmp_path):
    few = write_scenes(tmp_path, indices={"car": choose()["car"]}, num_frames=3)
    assert list(read_scenes(tmp_path).files) == list(few.files) == ["car"]
    assert few.cases["car"].truths.shape == (1, 3, 64, 64, 3)
