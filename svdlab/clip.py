"""Clip: what comes out of a request, and anything else that is a short video and wants to be measured or shown."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import VideoError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from svdlab.request import Request


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A short video with everything that is known about how it was made.

    Only `frames` and `fps` are needed, so any frames can become a clip and be measured.

    Attributes:
        frames: uint8 `[frames, height, width, 3]`, RGB.
        fps: frames per second of playback.
        latents: float32 `[frames, 4, height / factor, width / factor]` on the CPU, scaled as the sampler left them;
            None where there are none.
        request: the request with every field filled in, its seed included.
        image: the prepared picture that the model saw, uint8 `[height, width, 3]`.
        seconds: what each stage would have cost alone: `condition`, `denoise`, `decode`, `total`.
        seconds_spent: what was really spent; less than `seconds["total"]` when conditioning came from a cache.
        vram_peak_mb: peak memory of a CUDA device in MB (10^6 bytes); None elsewhere.
        model: where it came from (`Pipeline.describe`).
        low_memory: whether its frames were decoded in slices, by choice or because memory ran out; the same pixels.

    Raises:
        VideoError: frames of another shape or type, or an fps that is not a positive number.

    Example:
        >>> clip = Clip(frames=np.zeros((25, 64, 64, 3), np.uint8), fps=8)
        >>> clip
        Clip(25 frames, 64x64, 8 fps)
    """

    frames: np.ndarray
    fps: float = 10
    latents: Tensor | None = None
    request: Request | None = None
    image: np.ndarray | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    seconds_spent: float | None = None
    vram_peak_mb: float | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    low_memory: bool = False

    def __post_init__(self) -> None:
        frames = self.frames
        if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            got = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, np.ndarray) else type(frames).__name__
            raise VideoError(f"frames = {got}: must be a uint8 array [frames, height, width, 3] with values 0 to 255.")
        if len(frames) == 0:
            raise VideoError("frames: there are none; a clip needs at least one.")
        if not 0 < self.fps < float("inf"):
            raise VideoError(f"fps = {self.fps!r}: must be a positive number of frames per second.")

    @property
    def seed(self) -> int | None:
        """The seed that the clip was made with; None for a clip that was not generated."""
        return self.request.seed if self.request else None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the clip as an mp4 that plays in a browser, with its settings in the file's comment.

        Raises:
            VideoError: not an `.mp4` name, a folder that does not exist, or a frame size that mp4 cannot hold (odd).

        Example:
            >>> clip.save("rocket.mp4")
        """
        from svdlab.video import write_video

        path = Path(path)
        if path.suffix.lower() != ".mp4":
            raise VideoError(f"path = {str(path)!r}: the name must end in .mp4; other formats are not written.")
        write_video(path, self.frames, fps=self.fps, metadata=self.metadata())
        return path

    def metadata(self) -> dict[str, str]:
        """What is written into the mp4: `comment` holds the settings and the model as JSON."""
        if self.request is None:
            return {}
        about = {"settings": self.request.settings(), "model": self.model.get("name")}
        return {"comment": "svdlab " + json.dumps(about)}

    def contact_sheet(self, **options: Any) -> Image:
        """All frames on one picture; see `svdlab.video.contact_sheet` for the options."""
        from svdlab.video import contact_sheet

        return contact_sheet(self.frames, **options)

    def to_mp4(self) -> bytes:
        """The mp4 in memory, as `save` writes it."""
        from svdlab.video import encode_video

        return encode_video(self.frames, fps=self.fps, metadata=self.metadata())

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        count, height, width, _ = self.frames.shape
        parts = [f"{count} frame{'s' if count > 1 else ''}", f"{width}x{height}", f"{self.fps:g} fps"]
        if self.request:
            shown = ("motion_bucket_id", "cond_aug", "steps", "seed")
            parts += [f"{name}={getattr(self.request, name)}" for name in shown]
        if self.model.get("name"):
            parts.append(str(self.model["name"]))
        return f"Clip({', '.join(parts)})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """A player in a live notebook; with ``SVDLAB_DISPLAY=static`` a contact sheet, which every viewer can show."""
        from svdlab.video import to_jpeg

        bundle: dict[str, Any] = {"text/plain": repr(self)}
        if display_is_static():
            bundle["image/jpeg"] = to_jpeg(self.contact_sheet())
        else:
            bundle["text/html"] = self._player()
        return bundle

    def _player(self) -> str:
        """An HTML video with the mp4 inside; tiny clips are shown large, without smoothing."""
        width = self.frames.shape[2]
        shown = width if width >= 256 else width * (256 // width)
        style = f"width:{min(shown, 768)}px;max-width:100%" + (";image-rendering:pixelated" if shown > width else "")
        data = base64.b64encode(self.to_mp4()).decode()
        about = html.escape(repr(self).removeprefix("Clip(").removesuffix(")"))
        return (
            f'<figure style="margin:0"><video controls loop autoplay muted playsinline style="{style}"'
            f' aria-label="{about}" src="data:video/mp4;base64,{data}"></video>'
            f'<figcaption style="font-size:smaller;opacity:.7">{about}</figcaption></figure>'
        )


def display_is_static() -> bool:
    """True when ``SVDLAB_DISPLAY=static``: rich objects then show themselves as pictures, for notebooks that are kept.

    Raises:
        ValueError: the variable holds something else than `static` or `live`.
    """
    mode = os.environ.get("SVDLAB_DISPLAY", "live")
    if mode not in ("static", "live"):
        raise ValueError(f"SVDLAB_DISPLAY = {mode!r}: must be 'static' or 'live' (the default).")
    return mode == "static"
