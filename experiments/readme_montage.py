"""Draw the animated picture at the top of the README: one sweep, pictures down, motion buckets across.

    python experiments/readme_montage.py --out docs/images

Writes `sweep.webp`, all clips in step, and for the card of the model `clips.jpg`: beside each picture's true last frame
some frames of its clip at bucket 255. The pictures are those of the questions (`experiments/pictures`) and a photo.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import svdlab as sl
from answers.scenes import read_scenes
from svdlab import examples
from svdlab.montage import montage_frames, montage_picture, save_animation

BUCKETS = (0, 64, 127, 191, 255)
FRAMES = (0, 8, 16, 24)


def main(arguments: list[str] | None = None) -> int:
    """Draw both pictures; 0 if they could be drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="catalogue name or folder")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures; created")
    given = parser.parse_args(arguments)
    try:
        pipe = sl.load(given.model)
        scenes = read_scenes()
        images = [*scenes.files.values(), examples.path("rocket")]
        given.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            sweep = sl.sweep(pipe, image=images, motion_bucket_id=list(BUCKETS), steps=4, fps=10, seed=given.seed,
                             metrics=[], out=folder)  # fmt: skip
            clips = clips_by_picture(sweep)
        rows = [row for row, label in zip(clips, scenes.files, strict=False) if label != "fork"]
        labels = [f"bucket {bucket}" for bucket in BUCKETS]
        frames = montage_frames(rows, column_labels=labels, cell_height=128, gap=4)
        save_animation(given.out / "sweep.webp", frames, fps=10)
        lasts = [case.truths[0, -1] for case in scenes.cases.values()]
        strips([*lasts, photo_of(pipe)], [row[-1] for row in clips]).save(given.out / "clips.jpg", quality=88)
    except (sl.SvdlabError, OSError) as error:
        parser.error(str(error))
    return 0


def clips_by_picture(sweep: sl.Sweep) -> list[list[np.ndarray]]:
    """The frames of all clips: a row a picture, in it the buckets."""
    groups = sweep.frame().groupby("image", sort=False)
    return [[sweep.clip(cell).frames for cell in group.sort_values("motion_bucket_id")["cell"]] for _, group in groups]


def photo_of(pipe: sl.Pipeline) -> np.ndarray:
    """The photograph as the model sees it."""
    own = pipe.defaults
    return np.asarray(sl.prepare(sl.load_image(examples.path("rocket")), width=own.width, height=own.height))


def strips(truths: list[np.ndarray], clips: list[np.ndarray]) -> Image.Image:
    """A row a clip: its true last frame, or for the photograph the picture itself, then some frames."""
    rows = [[first, *(clip[number] for number in FRAMES)] for first, clip in zip(truths, clips, strict=True)]
    return montage_picture(rows, column_labels=["truth", *(f"frame {n}" for n in FRAMES)], cell_height=128, gap=2)


if __name__ == "__main__":
    sys.exit(main())
