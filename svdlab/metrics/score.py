"""Scoring a clip: from frames to a dict of floats."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics.context import Encoder, Scoring, rgb_array
from svdlab.metrics.registry import Metric, NotComputableError, evaluate, select

if TYPE_CHECKING:
    import torch

logger = logging.getLogger("svdlab")


class ClipLike(Protocol):
    """What can be scored: anything with frames. Of a pipeline's clip more is read, where it is there and not None.

    ``fps``; ``seconds``, a dict of stage -> seconds; ``vram_peak_mb``; and ``image``, the prepared input picture of the
    frames' size, uint8 [height, width, 3] or PIL.
    """

    @property
    def frames(self) -> np.ndarray:
        """uint8 [frames, height, width, 3] RGB."""


def score(
    clip: ClipLike | Scoring,
    image: Any = None,
    names: Iterable[str] | None = None,
    encoder: Encoder | None = None,
    *,
    reference: Any = None,
    device: str | torch.device = "cpu",
) -> dict[str, float]:
    """Measure a clip.

    Args:
        clip: anything with ``.frames`` uint8 [frames, height, width, 3] RGB; a clip of a pipeline also carries its
            picture and timings. A `Scoring` keeps shared intermediates for the next call.
        image: the input picture, in any form that a pipeline takes. It is resized and cropped to the frames as the
            pipeline does. None takes the clip's own.
        names: metrics to compute, in this order. None computes all that this clip allows.
        encoder: an object whose ``embed(uint8 [count, height, width, 3])`` gives float32 [count, size], for the
            ``clip_*`` metrics.
        reference: another run to compare with frame by frame, for the ``*_ref`` metrics: a clip, or its frames, of the
            same shape. Take the same picture and seed with many steps.
        device: where the LPIPS network runs, always in float32.

    Returns:
        Name -> value. Every value is finite.

    Raises:
        MetricError: a name or the device is unknown, or a metric asked for by name cannot be computed; the text says
            what is missing.
        WeightsError: LPIPS is wanted and its weights cannot be had; the text says how to get them.
        ImageError: `image` cannot be used as a picture.

    Example:
        >>> score(clip, "rocket.png", names=["flow_mean", "warp_error"])
        {'flow_mean': 1.93, 'warp_error': 0.00041}
    """
    scoring = scoring_of(clip, image, encoder, reference=reference, device=device)
    return {m.name: float(np.mean(value)) for m, value in _compute(scoring, select(names), strict=names is not None)}


def score_frames(
    clip: ClipLike | Scoring,
    image: Any = None,
    names: Iterable[str] | None = None,
    encoder: Encoder | None = None,
    *,
    reference: Any = None,
    device: str | torch.device = "cpu",
) -> dict[str, np.ndarray]:
    """The curves behind `score`: name -> float64 [n], for the metrics that have one value per frame or per pair.

    n is the number of frames for ``*_input`` metrics, `psnr_ref` and `lpips_ref`, one less for those that compare
    neighbours, two less for `jerk`. The mean of a curve is the value that `score` gives. Arguments and errors are those
    of `score`; a metric asked for by name that has no curve is an error.

    Example:
        >>> score_frames(clip, names=["flow_mean"])["flow_mean"].shape
        (24,)
    """
    chosen = select(names)
    if names is not None and (flat := [m.name for m in chosen if not m.per_frame]):
        raise MetricError(
            f"no curve over frames for {', '.join(flat)}: these are single numbers, see score(). "
            f"Curves: {', '.join(m.name for m in select(None) if m.per_frame)}."
        )
    scoring = scoring_of(clip, image, encoder, reference=reference, device=device)
    curves = _compute(scoring, [m for m in chosen if m.per_frame], strict=names is not None)
    return {m.name: np.asarray(value) for m, value in curves}


def require(names: Iterable[str] | None = None, *, progress: bool = True) -> None:
    """Make sure, before any work begins, that the metrics called `names` exist and that their weights are here.

    LPIPS weights are fetched once if they are absent, which is announced; then the network is loaded and tested.

    Raises:
        MetricError: a name is unknown.
        WeightsError: weights cannot be had, or are not the right ones.

    Example:
        >>> require(["flow_mean", "lpips_input"])
    """
    if any("lpips" in m.needs for m in select(names)):
        from svdlab.metrics.lpips_network import load_network
        from svdlab.metrics.lpips_weights import ensure_lpips_weights

        ensure_lpips_weights(progress=progress)
        load_network()


def scoring_of(
    clip: ClipLike | Scoring,
    image: Any = None,
    encoder: Encoder | None = None,
    *,
    reference: Any = None,
    device: str | torch.device = "cpu",
) -> Scoring:
    """The scoring context of a clip. Pass it in place of the clip to compute shared intermediates only once.

    Raises:
        MetricError: the clip has no frames, or arrays of a wrong dtype or shape.
        ImageError: `image` cannot be used as a picture.
    """
    if isinstance(clip, Scoring):
        if image is not None or encoder is not None or reference is not None:
            raise MetricError(
                "a Scoring carries its own picture and encoder: pass image=, encoder= and reference= when making it."
            )
        return clip
    if not hasattr(clip, "frames"):
        raise MetricError(f"clip={clip!r} has no .frames: pass a Clip; Clip(frames=array, fps=8) makes one.")
    return Scoring(
        clip.frames,
        image=_picture(clip, image),
        reference=getattr(reference, "frames", reference),
        encoder=encoder,
        fps=getattr(clip, "fps", None),
        seconds=getattr(clip, "seconds", None),
        vram_peak_mb=getattr(clip, "vram_peak_mb", None),
        device=device,
    )


def _picture(clip: ClipLike, image: Any) -> np.ndarray | None:
    """The picture that frames are compared with: `image` as the pipeline would prepare it, else the clip's own."""
    if image is not None:
        from svdlab.images import load_image, prepare

        height, width = rgb_array("clip.frames", clip.frames, ndim=4).shape[1:3]
        return np.asarray(prepare(load_image(image), width=width, height=height))
    own = getattr(clip, "image", None)
    return own if own is None or isinstance(own, np.ndarray) else np.asarray(own.convert("RGB"))


def _compute(scoring: Scoring, chosen: list[Metric], *, strict: bool) -> list[tuple[Metric, float | np.ndarray]]:
    """Value or curve of each metric; unless `strict`, those that this clip does not allow are left out."""
    results = []
    for metric in chosen:
        try:
            results.append((metric, evaluate(metric, scoring)))
        except NotComputableError as error:
            if strict:
                raise
            logger.debug("left out: %s", error)
    return results
