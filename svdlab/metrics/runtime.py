"""What the clip cost, read off the clip: numbers of the run, not of the frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from svdlab.metrics.registry import NotComputableError, metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring

SOURCE = "measured by the pipeline around each stage, with the device synchronised"


@metric("seconds", unit="s", range=(0, np.inf), direction="lower", needs={"timings"}, source=SOURCE)
def seconds(scoring: Scoring) -> float:
    """Seconds that the clip would take alone, from the picture to the frames, loading left out."""
    return _stage(scoring, "seconds", "total")


@metric("seconds_denoise", unit="s", range=(0, np.inf), direction="lower", needs={"timings"}, source=SOURCE)
def seconds_denoise(scoring: Scoring) -> float:
    """Seconds in the denoising loop."""
    return _stage(scoring, "seconds_denoise", "denoise")


@metric("seconds_decode", unit="s", range=(0, np.inf), direction="lower", needs={"timings"}, source=SOURCE)
def seconds_decode(scoring: Scoring) -> float:
    """Seconds to decode the latents into frames. With few steps this is most of the time."""
    return _stage(scoring, "seconds_decode", "decode")


@metric("vram_peak_mb", unit="MB", range=(0, np.inf), direction="lower", needs={"timings"}, source=SOURCE)
def vram_peak_mb(scoring: Scoring) -> float:
    """Largest GPU memory held at one time during the run, in MB. Not defined for a run on the CPU."""
    if scoring.vram_peak_mb is None:
        raise NotComputableError("metric 'vram_peak_mb' needs a run on a GPU; this clip carries vram_peak_mb=None.")
    return scoring.vram_peak_mb


def _stage(scoring: Scoring, name: str, stage: str) -> float:
    if stage not in scoring.seconds:
        raise NotComputableError(
            f"metric {name!r} needs the stage {stage!r} in clip.seconds, which has {sorted(scoring.seconds)}."
        )
    return scoring.seconds[stage]
