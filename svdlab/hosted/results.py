"""What comes back from the endpoint: lines while a job is under way, and the video at its end."""

from __future__ import annotations

import logging

import numpy as np
from PIL.Image import Image

from svdlab.errors import EndpointError, SvdlabError
from svdlab.fetch import fetch
from svdlab.hosted.client import is_own
from svdlab.hosted.jobs import Answer, Update
from svdlab.images import prepare
from svdlab.request import Request
from svdlab.video import read_video

log = logging.getLogger("svdlab")

MAX_VIDEO = 256 * 2**20  # bytes of a result


def fetch_frames(answer: Answer, name: str, *, seconds: float) -> tuple[np.ndarray, float]:
    """The frames of a result, uint8 `[frames, height, width, 3]`, and how many there are a second.

    The video is fetched like any address from a stranger (`svdlab.fetch`), without the key. Only an endpoint on the
    caller's own machine or network may name an address there, and then only its own.

    Args:
        name: of the endpoint, for errors.
        seconds: that fetching may take.

    Raises:
        EndpointError: there is no video in the result, or it cannot be fetched or read.

    Example:
        >>> frames, fps = fetch_frames(answer, "fal-ai/fast-svd-lcm", seconds=60)
    """
    video = answer.output.get("video")
    url = video.get("url") if isinstance(video, dict) else None
    about = f"{name}: the result of job {answer.request_id}"
    if not isinstance(url, str):
        raise EndpointError(f"{about} has no video.url; it has {sorted(answer.output)}.", request_id=answer.request_id)
    own = is_own(url)
    try:
        data = fetch(url, max_bytes=MAX_VIDEO, seconds=seconds, allow_private=own, max_redirects=0 if own else 3)
        read = read_video(data)
    except SvdlabError as error:
        raise EndpointError(f"{about} cannot be had: {error}", request_id=answer.request_id) from None
    return read.frames, float(round(read.fps, 3))


def surprises(request: Request, answer: Answer, frames: np.ndarray) -> dict[str, str]:
    """Where a result is not what was asked for or assumed: kind -> words. Such a clip is kept: it was paid for.

    Example:
        >>> surprises(request, answer, frames)
        {}
    """
    found = {}
    count, height, width = frames.shape[:3]
    assumed = (request.num_frames, request.height, request.width)
    if (count, height, width) != assumed:
        found["size"] = (
            f"clips have {count} frames of {width}x{height} px, where {assumed[0]} of {assumed[2]}x{assumed[1]} were"
            " assumed. They are kept and measured as they came; the settings in tables stay as assumed."
        )
    seed = answer.output.get("seed")
    if seed is not None and seed != request.seed:
        found["seed"] = f"seed {request.seed} was asked for and {seed} was used, so a request does not repeat its clip."
    return found


def tell(name: str, update: Update, told: str, level: int) -> str:
    """Log what is new in an update of a job; returns what was told, for the next time.

    Where jobs run side by side, which is told at DEBUG, each line names its job.
    """
    about = f"{name}, job {update.request_id[:8]}" if level <= logging.DEBUG else name
    text = str(update)
    if text != told and update.state != "done":
        log.log(level, "%s: %s", about, text)
    for line in update.lines:
        log.log(level, "%s: | %s", about, line[:500].rstrip())
    return text


def still(picture: Image) -> np.ndarray:
    """What is shown while there is no clip: the picture, uint8 `[1, height, width, 3]`, at most 256 px, even."""
    scale = min(1.0, 256 / max(picture.size))
    width, height = (max(2, round(side * scale) // 2 * 2) for side in picture.size)
    return np.asarray(prepare(picture, width=width, height=height))[None]
