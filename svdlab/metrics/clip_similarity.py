"""Similarity of meaning, by the pipeline's own CLIP image encoder: cosines of frame embeddings.

SVD is conditioned on this very embedding of the picture, so `clip_input` is optimistic and no independent judge; and
ViT-H/14 numbers are not those of benchmarks that use ViT-B/32 or DINO. Compare within one encoder only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics.registry import metric

if TYPE_CHECKING:
    from svdlab.metrics.context import Scoring


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Unit vectors: `frames` float64 [frames, size]; `image` float64 [size], or None without a picture."""

    frames: np.ndarray
    image: np.ndarray | None


def embed(scoring: Scoring) -> Embeddings:
    """Embed the frames and the picture in one call, and bring all vectors to length 1.

    Raises:
        MetricError: there is no encoder, or it returned something else than finite, non-zero vectors.
    """
    if scoring.encoder is None:
        raise MetricError(f"embeddings need {scoring.lacks('encoder')}")
    images = scoring.frames if scoring.image is None else np.concatenate([scoring.frames, scoring.image[None]])
    vectors = np.asarray(scoring.encoder.embed(images), dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) != len(images):
        raise MetricError(
            f"encoder.embed must return [count, size] with count={len(images)}; it returned {list(vectors.shape)}."
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(norms).all() and norms.all()):
        raise MetricError("encoder.embed returned NaN, infinite or all-zero vectors, of which no cosine can be taken.")
    unit = vectors / norms
    count = len(scoring.frames)
    return Embeddings(frames=unit[:count], image=None if scoring.image is None else unit[count])


@metric(
    "clip_temporal",
    range=(-1, 1),
    direction="higher",
    needs={"encoder"},
    per_frame=True,
    min_frames=2,
    source="CLIP temporal score (Esser et al. 2023, Gen-1; EvalCrafter), with the pipeline's encoder",
)
def clip_temporal(scoring: Scoring) -> np.ndarray:
    """Steadiness of content: mean cosine between the embeddings of neighbouring frames. 1 for a frozen clip.

    One value per pair of neighbours. Read it beside `flow_mean`.
    """
    frames = scoring.embeddings.frames
    return _cosine(frames[:-1], frames[1:])


@metric(
    "clip_input",
    range=(-1, 1),
    direction="higher",
    needs={"encoder", "image"},
    per_frame=True,
    source="cosine of image embeddings (Radford et al. 2021), with the pipeline's encoder",
)
def clip_input(scoring: Scoring) -> np.ndarray:
    """Faithfulness of content: mean cosine between the embedding of each frame and that of the input picture.

    The model has been given this embedding, so the number flatters it.
    """
    image = scoring.embeddings.image
    assert image is not None
    return _cosine(scoring.embeddings.frames, image)


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of unit vectors, with rounding kept within [-1, 1]."""
    return np.clip((a * b).sum(-1), -1, 1)
