"""The scoring context: one clip, what it is compared with, and the intermediates that several metrics share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from svdlab.errors import MetricError

if TYPE_CHECKING:
    import torch

    from svdlab.metrics.camera import Camera
    from svdlab.metrics.clip_similarity import Embeddings
    from svdlab.metrics.flow import Flow
    from svdlab.metrics.perceptual import LpipsCurves


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns pictures into vectors, such as the CLIP image encoder of a loaded pipeline."""

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Vectors [count, size] float32, not normalised, of `images` uint8 [count, height, width, 3] RGB."""


class Scoring:
    """A clip under measurement. Metrics are functions of this; what two of them share is computed once, when needed.

    Args:
        frames: uint8 [frames, height, width, 3] RGB, from memory and not out of a codec.
        image: the prepared input picture, uint8 [height, width, 3] RGB of the same size, or None.
        reference: frames of another run to compare with frame by frame, of the same shape, or None.
        encoder: an `Encoder`, or None.
        fps: frames a second, or None.
        seconds: stage -> seconds of the run that made the clip (``condition``, ``denoise``, ``decode``, ``total``).
        vram_peak_mb: peak GPU memory of that run in MB, or None.
        device: where the LPIPS network runs. The encoder chooses its own.

    Raises:
        MetricError: an array has another dtype or shape.

    Example:
        >>> scoring = Scoring(frames, image=picture)
        >>> scoring.luma.shape
        (25, 576, 1024)
    """

    def __init__(
        self,
        frames: np.ndarray,
        *,
        image: np.ndarray | None = None,
        reference: np.ndarray | None = None,
        encoder: Encoder | None = None,
        fps: float | None = None,
        seconds: Mapping[str, float] | None = None,
        vram_peak_mb: float | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.frames = rgb_array("frames", frames, ndim=4)
        self.image = None if image is None else rgb_array("image", image, ndim=3)
        if self.image is not None and self.image.shape != self.frames.shape[1:]:
            raise MetricError(
                f"image is {self.image.shape[1]}x{self.image.shape[0]} but the frames are "
                f"{self.width}x{self.height}: compare with the picture as the model saw it. Pass the original picture "
                "as image= to score(), which resizes and crops it."
            )
        self.reference = None if reference is None else rgb_array("reference", reference, ndim=4)
        if self.reference is not None and self.reference.shape != self.frames.shape:
            count, height, width = self.reference.shape[:3]
            raise MetricError(
                f"reference has {count} frames of {width}x{height} px, the clip {len(self.frames)} of "
                f"{self.width}x{self.height}: they are compared frame by frame. Pass a run with the same picture, "
                "seed, size and number of frames."
            )
        if encoder is not None and not isinstance(encoder, Encoder):
            raise MetricError(
                f"encoder={encoder!r} has no method embed(images): pass an object that turns uint8 "
                "[count, height, width, 3] into float32 [count, size], such as a loaded pipeline's image encoder."
            )
        self.encoder = encoder
        self.fps = fps
        self.seconds = dict(seconds or {})
        self.vram_peak_mb = vram_peak_mb
        self.device = device

    @property
    def height(self) -> int:
        """Height of a frame in px."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Width of a frame in px."""
        return self.frames.shape[2]

    def lacks(self, need: str) -> str:
        """What is missing of `need`, one of those that `Metric.needs` lists, in words; empty if nothing is."""
        if need == "image" and self.image is None:
            return "the input picture: pass image=, or score a clip that carries its own."
        if need == "reference" and self.reference is None:
            return (
                "a reference run to compare with frame by frame: pass reference=, a clip of the same picture and seed, "
                "such as one with many steps."
            )
        if need == "encoder" and self.encoder is None:
            return (
                "an image encoder: pass encoder= with a method embed(images uint8 [count, height, width, 3]) -> "
                "float32 [count, size], such as a loaded pipeline's own."
            )
        if need == "timings" and not self.seconds:
            return "the stage timings of the run, which this clip does not carry: score a clip that a pipeline made."
        return ""

    @cached_property
    def luma(self) -> np.ndarray:
        """Brightness of every pixel, float32 [frames, height, width] in 0..255: .299 R + .587 G + .114 B (BT.601)."""
        weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
        return np.stack([frame @ weights for frame in self.frames])  # frame by frame: a float copy of all is large

    @cached_property
    def flow(self) -> Flow:
        """Optical flow between neighbours, both ways. See `svdlab.metrics.flow.Flow`."""
        from svdlab.metrics.flow import estimate_flow

        return estimate_flow(self.frames)

    @cached_property
    def camera(self) -> Camera:
        """Motion of the camera between neighbours, apart from that of objects. See `svdlab.metrics.camera.Camera`."""
        from svdlab.metrics.camera import fit_camera

        return fit_camera(self.flow, self.width, self.height)

    @cached_property
    def lpips(self) -> LpipsCurves:
        """LPIPS of every frame to the picture and to its neighbour. See `svdlab.metrics.perceptual`."""
        from svdlab.metrics.perceptual import lpips_curves

        return lpips_curves(self.frames, self.image, device=self.device)

    @cached_property
    def embeddings(self) -> Embeddings:
        """Unit vectors of the frames and of the picture. See `svdlab.metrics.clip_similarity`."""
        from svdlab.metrics.clip_similarity import embed

        return embed(self)


def rgb_array(name: str, array: Any, *, ndim: int) -> np.ndarray:
    """`array` itself, if it is uint8 RGB and not empty: [height, width, 3], or for `ndim` 4 [frames, height, width, 3].

    Floats are refused instead of scaled: [0, 1] taken for [0, 255] gives numbers that are wrong and look good.

    Raises:
        MetricError: it is anything else; the text names it by `name`.
    """
    shape = "[frames, height, width, 3]" if ndim == 4 else "[height, width, 3]"
    if not isinstance(array, np.ndarray):
        raise MetricError(f"{name} must be a numpy array uint8 {shape}; got {type(array).__name__}.")
    if array.dtype != np.uint8 or array.ndim != ndim or array.shape[-1] != 3 or 0 in array.shape:
        raise MetricError(
            f"{name} must be uint8 {shape} RGB in 0..255 and not empty; got {array.dtype} {list(array.shape)}."
        )
    return array
