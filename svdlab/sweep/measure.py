"""Metrics of one cell: each on its own, so that one that cannot be computed takes no other with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from svdlab.clip import Clip
    from svdlab.pipeline import Pipeline

log = logging.getLogger("svdlab")

MEMORY = "memory"  # frames as the pipeline gave them
DECODED = "latents"  # frames decoded again from stored latents: the same
VIDEO = "video"  # frames of the mp4, which is lossy


def measure(
    clip: Clip, names: Iterable[str], *, pipe: Pipeline | None, source: str, reference: np.ndarray | None = None
) -> dict[str, dict[str, Any]]:
    """Metrics as the ledger and the manifest hold them: name -> value, version, source, error.

    A metric that is not defined for this clip (one frame has no motion) has the value None; one that broke has the
    value None and an error.

    Args:
        pipe: embeds frames for the metrics that need it; its device is used.
        source: what the frames of `clip` are: `memory`, `latents` or `video`.
        reference: uint8 frames of another clip, of the same shape and source, for the metrics that compare.
    """
    from svdlab import metrics
    from svdlab.metrics.registry import NotComputableError

    names = tuple(names)
    if not names:
        return {}
    device = "cpu" if pipe is None else pipe.device
    encoder = None if pipe is None or pipe.hosted else pipe
    scoring = metrics.scoring_of(clip, encoder=encoder, reference=reference, device=device)
    results: dict[str, dict[str, Any]] = {}
    for name, version in metrics.versions(names).items():
        value, error = None, None
        try:
            value = metrics.score(scoring, names=[name])[name]
        except NotComputableError as reason:
            log.debug("metric %s is not defined here: %s", name, reason)
        except Exception as broken:  # a metric may be anyone's code; the clip is worth keeping
            error = f"{type(broken).__name__}: {broken}"
            log.warning("metric %s failed: %s", name, error)
        results[name] = {"value": value, "version": version, "source": source, "error": error}
    return results
