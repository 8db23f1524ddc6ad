from __future__ import annotations

import numpy as np
import pytest

from svdlab.errors import MetricError
from svdlab.metrics import score, score_frames
from svdlab.metrics.context import Scoring
from tests.metrics.conftest import clip_of, frozen, pan

CLIP = ["clip_temporal", "clip_input"]


class Fixed:
    """An encoder with chosen answers."""

    def __init__(self, vectors: object) -> None:
        self.vectors = vectors

    def embed(self, images: np.ndarray) -> np.ndarray:
        return self.vectors  # type: ignore[return-value]


def test_cosines_by_hand():
    frames, image = np.zeros((3, 4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    vectors = np.array([[3, 0], [0, 5], [1, 1], [2, 0]], np.float32)  # three frames, then the picture
    curves = score_frames(clip_of(frames, image=image), names=CLIP, encoder=Fixed(vectors))
    np.testing.assert_allclose(curves["clip_temporal"], [0, np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(curves["clip_input"], [1, 0, np.sqrt(0.5)], atol=1e-12)


def test_a_frozen_clip_of_its_picture_is_one(photo, encoder):
    frames = frozen(photo, 4)
    values = score(clip_of(frames, image=frames[0]), names=CLIP, encoder=encoder)
    assert values == {"clip_temporal": pytest.approx(1, abs=1e-6), "clip_input": pytest.approx(1, abs=1e-6)}


def test_similarity_falls_along_a_pan(photo, encoder):
    frames = pan(photo, step=16, count=5)
    curves = score_frames(clip_of(frames, image=frames[0]), names=CLIP, encoder=encoder)
    assert curves["clip_input"][0] == pytest.approx(1, abs=1e-6)
    assert curves["clip_input"][-1] < curves["clip_input"][1] < 1 - 1e-6
    assert (np.abs(curves["clip_temporal"]) <= 1).all()


def test_frames_and_picture_are_embedded_together_and_once(photo, encoder):
    frames = pan(photo, step=2, count=5)
    score(clip_of(frames, image=frames[0]), names=CLIP, encoder=encoder)
    assert encoder.calls == [6]
    scoring = Scoring(frames, encoder=encoder)
    score(scoring, names=["clip_temporal"])
    score_frames(scoring, names=["clip_temporal"])
    assert encoder.calls == [6, 5]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (np.ones((2, 4)), r"\[count, size\] with count=3; it returned \[2, 4\]"),
        (np.ones(3), r"it returned \[3\]"),
        (np.array([[1, 0], [0, 0], [1, 0]]), "all-zero"),
        (np.array([[1, 0], [np.nan, 0], [1, 0]]), "NaN"),
    ],
)
def test_a_broken_encoder_is_named_even_by_the_default_table(vectors, words):
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    for names in (["clip_temporal"], None):
        with pytest.raises(MetricError, match=words):
            score(clip_of(frames), names=names, encoder=Fixed(vectors))


def test_an_encoder_without_embed_is_refused():
    with pytest.raises(MetricError, match=r"has no method embed\(images\)"):
        score(clip_of(np.zeros((2, 4, 4, 3), np.uint8)), encoder=object())  # type: ignore[arg-type]


def test_embeddings_without_an_encoder_say_what_is_missing():
    with pytest.raises(MetricError, match="embeddings need an image encoder: pass encoder="):
        _ = Scoring(np.zeros((2, 4, 4, 3), np.uint8)).embeddings
