"""Contact sheets for a model's card: the truth, the student and the teacher, the best pictures and the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from svdlab.training.evaluate import Case
from svdlab.video import to_jpeg, to_png

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = 6  # frames of a clip that are shown
SHOWN = 3  # pictures on the sheets of the best and of the worst
AMBIGUOUS = 4  # ambiguous pictures that are shown
LEGEND = 200  # px
GAP = 4  # px
SCALE = 96  # px, at least this large a frame is shown, by a whole factor


def rows_sheet(rows: Iterable[tuple[str, np.ndarray]]) -> Image.Image:
    """Rows of frames, each with words at its left.

    Args:
        rows: (words, frames uint8 `[count, height, width, 3]`), frames of one size; counts may differ.

    Example:
        >>> rows_sheet([("truth", truth[::5]), ("student", clip.frames[::5])]).save("sheet.png")
    """
    rows = list(rows)
    height, width = rows[0][1].shape[1:3]
    factor = max(1, -(-SCALE // width))
    width, height = width * factor, height * factor
    most = max(len(frames) for _, frames in rows)
    size = (LEGEND + most * (width + GAP), len(rows) * (height + GAP) + GAP)
    sheet = Image.new("RGB", size, (255, 255, 255))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for line, (words, frames) in enumerate(rows):
        top = GAP + line * (height + GAP)
        pen.multiline_text((GAP, top + GAP), words, fill=(0, 0, 0), font=font)
        for column, frame in enumerate(frames):
            tile = Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (LEGEND + column * (width + GAP), top))
    return sheet


def draw(
    moving: Sequence[Case],
    clips: Mapping[str, np.ndarray],
    *,
    order: Mapping[str, float],
    ambiguous: Sequence[Case],
    futures: Mapping[str, np.ndarray],
) -> dict[str, Image.Image]:
    """The sheets of an exam, by file name.

    `successes.jpg` and `failures.jpg`: the pictures with the largest and the smallest gain of PSNR, at bucket 255,
    first seed. `buckets.jpg`: the last frame at each bucket, student. `ambiguous.jpg`: the last frames of every system
    beside the possible futures, for the first four pictures.

    Args:
        moving: the moving pictures; their clips `[cases, buckets, seeds, frames, height, width, 3]` by who made them.
        order: what to sort by, larger is better, by the case's name.
        ambiguous: the ambiguous ones; their clips `[cases, seeds, frames, height, width, 3]` by system.
    """
    best = sorted(range(len(moving)), key=lambda i: -order[moving[i].name])
    shown = min(SHOWN, (len(best) + 1) // 2)
    drawn = {}
    for name, chosen in (("successes.jpg", best[:shown]), ("failures.jpg", best[::-1][:shown])):
        lines = []
        for i in chosen:
            case = moving[i]
            lines.append((f"{case.name}\ntruth", _some(case.truths[0])))
            words = {who: who for who in clips} | {"student": f"student\n{order[case.name]:+.1f} dB"}
            lines += [(words[who], _some(made[i, -1, 0])) for who, made in clips.items()]
        drawn[name] = rows_sheet(lines)
    buckets = [(f"{case.name}\nlast frame by bucket", clips["student"][i, :, 0, -1]) for i, case in enumerate(moving)]
    drawn["buckets.jpg"] = rows_sheet(buckets)
    if ambiguous:
        lines = []
        for i, case in enumerate(ambiguous[:AMBIGUOUS]):
            lines.append((f"{case.name}\npicture, futures", np.stack([case.picture, *case.truths[:, -1]])))
            lines += [(name.replace("_", " "), made[i, :, -1]) for name, made in futures.items()]
        drawn["ambiguous.jpg"] = rows_sheet(lines)
    return drawn


def photograph(picture: np.ndarray, still: np.ndarray, fast: np.ndarray) -> Image.Image:
    """A photograph and what becomes of it at buckets 0 and 255."""
    return rows_sheet([("photograph", picture[None]), ("bucket 0", _some(still)), ("bucket 255", _some(fast))])


def packed(sheet: Image.Image, name: str) -> bytes:
    """The sheet as JPEG or PNG, by the end of its name."""
    return to_png(sheet) if name.endswith(".png") else to_jpeg(sheet, quality=88)


def _some(frames: np.ndarray) -> np.ndarray:
    """Some frames, evenly apart, first and last among them."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int))]
