"""The pictures of the questions: held-out scenes of the world, and what is true of them, as metrics.

A scene is a pure function of its index, so `truth.json` keeps indices, and the truth is rendered again from them. If
the world has changed since the pictures were written, that is found out by their pixels, and said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import svdlab as sl
from svdlab.errors import TrainingError
from svdlab.files import atomic_path, sha256_bytes, write_atomic
from svdlab.metrics import Scoring
from svdlab.metrics.drift import LAPLACIAN_FLOOR, laplacian_variance
from svdlab.metrics.registry import NotComputableError
from svdlab.training import evaluate
from svdlab.training.cases import BUCKET, case_of, held_out
from svdlab.training.evaluate import Case
from svdlab.training.world import World

PICTURES = Path(__file__).parents[1] / "pictures"
TRUTH = "truth.json"
STAGE = "full"
FPS = 10  # at which the truths are rendered, and which every specification asks for
SIZE = 64  # px of a frame; metrics of places and ways are in px of such a frame, whatever the size of the clip
MOST = 512  # px, largest frame of the world
ROUNDING = 2  # levels by which a picture may differ from the one rendered now
DECIDED = ("rocket", "arrow", "fish", "car")  # the picture tells where they go
AMBIGUOUS = ("ridge", "fork")  # a ball that may go either way
TRUE_METRICS = ("displacement", "moved_x", "presence", "position_error", "psnr_gain", "sharpness_input")

_CASES: dict[str, Case] = {}  # SHA-256 of a picture's pixels -> what is true of it


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """The pictures in a folder.

    Attributes:
        files: label, which is the stem of the file -> file.
        cases: label -> what is true of it.
    """

    files: Mapping[str, Path]
    cases: Mapping[str, Case]

    def labels(self, *, ambiguous: bool) -> list[str]:
        """The pictures that have several futures, or those that have one."""
        return [label for label, case in self.cases.items() if (len(case.ends) > 1) is ambiguous]

    def true_px(self, labels: Sequence[str]) -> float:
        """Mean length of the true way at bucket 255, in px of a 64 px frame, of pictures with one future.

        Example:
            >>> round(read_scenes().true_px(["rocket"]), 1)
            11.3
        """
        return float(np.mean([evaluate.still_error(self.cases[label]) for label in labels]))


def choose() -> dict[str, int]:
    """Which scenes are taken: label -> index; the first of each kind that the model card takes too.

    Example:
        >>> choose()["rocket"] >= 10_000_000
        True
    """
    found = held_out(count=len(DECIDED), stage=STAGE, fps=FPS)
    firsts: dict[str, int] = {}
    for case in (*found.moving, *found.ambiguous):
        kind, index = case.name.split()
        if kind in (*DECIDED, *AMBIGUOUS):
            firsts.setdefault(kind, int(index))
    return {kind: firsts[kind] for kind in (*DECIDED, *AMBIGUOUS)}


def write_scenes(
    folder: Path = PICTURES, *, indices: Mapping[str, int] | None = None, size: int = SIZE, num_frames: int = 25
) -> Scenes:
    """Render scenes into PNG files, with `truth.json` and the true last frames beside them.

    Args:
        folder: created.
        indices: label -> index of a scene; None for those that `choose` takes.
        size: px, height and width, 32 to 512.
        num_frames: of the true clips, 2 to 25.

    Raises:
        TrainingError: a size or a number that the world does not have.

    Example:
        >>> write_scenes(Path("runs/pictures"), size=128).files["rocket"]
        PosixPath('runs/pictures/rocket.png')
    """
    world = World(size=size, num_frames=num_frames, stage=STAGE)
    cases = {
        label: case_of(world, index, fps=FPS) for label, index in (choose() if indices is None else indices).items()
    }
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for label, case in cases.items():
        _write_png(folder / f"{label}.png", case.picture)
        _write_png(folder / "truth" / f"{label}.png", np.concatenate(list(case.truths[:, -1]), axis=1))
    about = {"stage": STAGE, "seed": world.seed, "size": size, "num_frames": num_frames, "fps": FPS, "bucket": BUCKET}
    text = json.dumps({"world": about, "scenes": [_row(label, case) for label, case in cases.items()]}, indent=2)
    write_atomic(folder / TRUTH, text + "\n")
    return Scenes(files={label: folder / f"{label}.png" for label in cases}, cases=cases)


def read_scenes(folder: Path = PICTURES) -> Scenes:
    """The pictures of a folder that `write_scenes` wrote, with the truth rendered again.

    Raises:
        TrainingError: a file is missing or damaged, or the world renders another picture now.

    Example:
        >>> list(read_scenes().files)
        ['rocket', 'arrow', 'fish', 'car', 'ridge', 'fork']
    """
    path = folder / TRUTH
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        about, rows = data["world"], data["scenes"]
        world = World(size=about["size"], num_frames=about["num_frames"], stage=about["stage"], seed=about["seed"])
        cases = {row["label"]: case_of(world, row["index"], fps=about["fps"]) for row in rows}
        files = {label: folder / f"{label}.png" for label in cases}
        seen = {label: np.asarray(Image.open(file).convert("RGB")) for label, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: the pictures cannot be read ({error}). Write them with `python experiments/pictures.py`."
        ) from error
    if other := [label for label, case in cases.items() if not alike(seen[label], case.picture)]:
        raise TrainingError(
            f"{folder}: the world renders {', '.join(other)} otherwise than when these pictures were written, so what"
            " was true of them is not known any more. Write them anew with `python experiments/pictures.py`; answers of"
            " before do not compare with answers of then."
        )
    return Scenes(files=files, cases={label: replace(case, picture=seen[label]) for label, case in cases.items()})


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two pictures are the same but for the rounding of another version of NumPy or OpenCV.

    Example:
        >>> alike(picture, picture), alike(picture, picture[:, ::-1])
        (True, False)
    """
    return first.shape == second.shape and int(np.abs(first.astype(int) - second.astype(int)).max()) <= ROUNDING


def scenes_of_size(size: int, num_frames: int, folder: Path) -> Scenes:
    """The frozen scenes, at another size or length rendered into `folder`.

    Example:
        >>> scenes_of_size(64, 25, Path("runs/pictures")).files["car"].parent.name
        'pictures'
    """
    frozen = read_scenes()
    if (size, num_frames) == (SIZE, len(frozen.cases[DECIDED[0]].truths[0])):
        return frozen
    data = json.loads((PICTURES / TRUTH).read_text(encoding="utf-8"))
    indices = {row["label"]: row["index"] for row in data["scenes"]}
    return write_scenes(folder, indices=indices, size=size, num_frames=num_frames)


def _row(label: str, case: Case) -> dict[str, Any]:
    kind, index = case.name.split()
    return {
        "label": label,
        "kind": kind,
        "index": int(index),
        "start": None if case.target is None else [round(float(x), 3) for x in case.target.position],
        "ends": [[round(float(x), 3) for x in end] for end in case.ends],
    }


def _write_png(path: Path, picture: np.ndarray) -> None:
    with atomic_path(path) as tmp:
        Image.fromarray(picture).save(tmp)


# ---------------------------------------------------------------- the truth as metrics


def use_truth(scenes: Scenes) -> tuple[str, ...]:
    """Register the metrics that know the truth about these pictures, in this process; returns their names.

    Of any other picture they have no value. Called again, for other scenes too, the pictures add up.

    Example:
        >>> use_truth(read_scenes())
        ('displacement', 'moved_x', 'presence', 'position_error', 'psnr_gain', 'sharpness_input')
    """
    _CASES.update({sha256_bytes(case.picture.tobytes()): case for case in scenes.cases.values()})
    source, needs = "svdlab.training.evaluate", ("image",)
    for function, unit, direction in (
        (displacement, "px", "neutral"),
        (moved_x, "px", "neutral"),
        (presence, "", "higher"),
        (position_error, "px", "lower"),
        (psnr_gain, "dB", "higher"),
        (sharpness_input, "", "neutral"),
    ):
        sl.metrics.metric(
            function.__name__, unit=unit, direction=direction, needs=needs, family="truth", source=source
        )(function)
    return TRUE_METRICS


def displacement(scoring: Scoring) -> float:
    """How far the object is in the last frame from where the picture has it; 0 if it is gone."""
    return evaluate.displacement(scoring.frames, _case(scoring)) * SIZE / scoring.width


def moved_x(scoring: Scoring) -> float:
    """How far to the right of its place in the picture the object is in the last frame; 0 if it is gone."""
    case = _case(scoring)
    assert case.target is not None
    found = evaluate.locate(scoring.frames, case)
    moved = found.position[0] - case.target.position[0] if found.presence >= evaluate.LOST else 0.0
    return float(moved) * SIZE / scoring.width


def presence(scoring: Scoring) -> float:
    """How much of the object is in the last frame: 1 all of it, 0.5 a half-transparent one, about 0 none."""
    return float(evaluate.locate(scoring.frames, _case(scoring)).presence)


def position_error(scoring: Scoring) -> float:
    """How far the object is in the last frame from its true place at bucket 255; a lost one counts as unmoved."""
    return evaluate.position_error(scoring.frames, _case(scoring, decided=True))


def psnr_gain(scoring: Scoring) -> float:
    """PSNR of the last frame to the true one at bucket 255, less the picture's own; the nearest of several futures."""
    return evaluate.psnr_gain(scoring.frames, _case(scoring))


def sharpness_input(scoring: Scoring) -> float:
    """Variance of the Laplacian of luma, the mean of all frames over the picture's: below 1 softer, above it noisier.

    Blur and noise can cancel in it, and what moves in changes it.
    """
    if scoring.image is None:
        raise NotComputableError("sharpness_input needs the input picture.")
    own = laplacian_variance(scoring.image @ np.array([0.299, 0.587, 0.114], dtype=np.float32))
    return float(np.mean([laplacian_variance(luma) for luma in scoring.luma])) / max(float(own), LAPLACIAN_FLOOR)


def _case(scoring: Scoring, *, decided: bool = False) -> Case:
    picture = None if scoring.image is None else np.ascontiguousarray(scoring.image)
    case = None if picture is None else _CASES.get(sha256_bytes(picture.tobytes()))
    if case is None or case.target is None or (decided and len(case.ends) > 1):
        raise NotComputableError("there is no truth about this picture. Take those of experiments/pictures.")
    return case
