"""Clips as the distiller takes them: latents, the first frame as pixels, and what is known of their motion.

Two sources keep the contract `Clips`: a folder of videos (`svdlab.training.videos`) and the procedural world, here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from svdlab.conditioning import embed_pictures, to_signed
from svdlab.errors import TrainingError
from svdlab.files import sha256_bytes
from svdlab.models.components import Components
from svdlab.training.data import Source

if TYPE_CHECKING:
    from svdlab.training.world import World

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipBatch:
    """Clips ready to be noised, all on the CPU.

    Attributes:
        latents: float32 `[batch, frames, 4, height / f, width / f]`, times the VAE's scaling factor.
        pictures: uint8 `[batch, height, width, 3]`, the first frames.
        embeddings: float32 `[batch, channels]`, CLIP's of the first frames.
        motion_bucket_id: float32 `[batch]`, 0 to 255.
        fps: float32 `[batch]`, whole numbers of frames a second.
    """

    latents: Tensor
    pictures: Tensor
    embeddings: Tensor
    motion_bucket_id: Tensor
    fps: Tensor


class Clips(Protocol):
    """What a distiller needs of its data: a batch that is a pure function of its arguments."""

    key: str  # names the data; a run goes on only with the same

    def batch(self, numbers: Sequence[int]) -> ClipBatch:
        """The clips with these running numbers, from 0 without end."""
        ...


@torch.no_grad()
def encode_pictures(
    components: Components, pictures: Tensor, *, noise: Tensor | None = None, chunk: int = 16
) -> Tensor:
    """Modes of the VAE's posterior of many pictures: float32 `[n, 4, height / f, width / f]`, unscaled, on its device.

    Args:
        pictures: uint8 `[n, height, width, 3]`.
        noise: added in [-1, 1] units before the VAE, `[n, 3, height, width]`, as strong as it is to be.
        chunk: pictures an encoder call.
    """
    vae = components.vae
    weight = next(vae.encoder.parameters())  # its own type: half-precision models keep an fp32 encoder where they must
    parts = []
    with torch.autocast(weight.device.type, enabled=False):  # latents of one clip must not depend on who asks
        for first in range(0, len(pictures), chunk):
            signed = to_signed(pictures[first : first + chunk].to(weight.device))
            if noise is not None:
                signed = signed + noise[first : first + chunk].to(weight.device)
            parts.append(vae.encode(signed.to(weight.dtype)).latent_dist.mode().float())
    return torch.cat(parts)


def encode_frames(components: Components, frames: np.ndarray) -> Tensor:
    """Scaled latents of a clip uint8 `[frames, height, width, 3]`: float32 `[frames, 4, height / f, width / f]`."""
    return encode_pictures(components, torch.from_numpy(frames)) * components.vae.config["scaling_factor"]


class WorldClips:
    """Clips of the procedural world, rendered and encoded when they are asked for; none on disk.

    Args:
        world: in the teacher's size.
        teacher: its VAE and image encoder.
        scenes: go round so many scenes, kept in memory once they are encoded (0.1 MB each at 64 px); None: no two clips
            are alike, and each is rendered.
        first: number of the first scene, to keep training apart from what is measured on.
        source: what renders the scenes, such as a `Renderer` with several processes; None: the world itself.

    Raises:
        TrainingError: the world's size is not the teacher's.

    Example:
        >>> WorldClips(World(stage="easy"), load_components("tiny-teacher")).batch([0, 1]).latents.shape
        torch.Size([2, 25, 4, 16, 16])
    """

    def __init__(
        self,
        world: World,
        teacher: Components,
        *,
        scenes: int | None = None,
        first: int = 0,
        source: Source | None = None,
    ) -> None:
        own = teacher.defaults
        if (world.size, world.size, world.num_frames) != (own.width, own.height, own.num_frames):
            raise TrainingError(
                f"world: {world.num_frames} frames of {world.size} px, and {teacher.name} makes {own.num_frames} frames"
                f" of {own.width} x {own.height} px. Build the world in the teacher's size."
            )
        self.teacher, self.scenes, self.first = teacher, scenes, first
        self.source: Source = source or world
        self.key = sha256_bytes(f"{world!r}/{scenes}/{first}".encode())[:16]
        self._kept: dict[int, ClipBatch] = {}

    def batch(self, numbers: Sequence[int]) -> ClipBatch:
        """The scenes `first` + number, or `first` + (number mod `scenes`)."""
        chosen = [self.first + (n % self.scenes if self.scenes else n) for n in numbers]
        known = {n: self._kept[n] for n in chosen if n in self._kept}
        missing = [n for n in dict.fromkeys(chosen) if n not in known]
        if missing:
            known |= dict(zip(missing, self._make(missing), strict=True))
        if self.scenes:
            self._kept |= known
        rows = [known[n] for n in chosen]
        names = [item.name for item in fields(ClipBatch)]
        return ClipBatch(**{name: torch.cat([getattr(row, name) for row in rows]) for name in names})

    def _make(self, numbers: Sequence[int]) -> list[ClipBatch]:
        """One batch of one clip for each scene."""
        scenes = self.source.batch(numbers)
        frames = scenes["frames"]
        made = ClipBatch(
            latents=encode_frames(self.teacher, frames.reshape(-1, *frames.shape[2:]))
            .cpu()
            .unflatten(0, frames.shape[:2]),
            pictures=torch.from_numpy(np.ascontiguousarray(frames[:, 0])),
            embeddings=embed_pictures(self.teacher, frames[:, 0]).cpu(),
            motion_bucket_id=torch.as_tensor(scenes["motion_bucket_id"]).float(),
            fps=torch.as_tensor(scenes["fps"]).float(),
        )
        return [ClipBatch(**{k: v[i : i + 1] for k, v in vars(made).items()}) for i in range(len(frames))]


class Ahead(Generic[T]):
    """Calls `make(step)` for the next steps in the background, so that the device need not wait for its data.

    What it gives does not depend on `depth`; only when it is made does. Depth 0 makes each batch when it is asked for.

    Example:
        >>> with Ahead(lambda step: clips.batch([step]), depth=2, last=100) as batches:
        ...     batches(0), batches(1)
    """

    def __init__(self, make: Callable[[int], T], *, depth: int, last: int) -> None:
        self._make, self._depth, self._last = make, depth, last
        self._pool = ThreadPoolExecutor(max(depth, 1), thread_name_prefix="clips")
        self._waiting: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """What `make(step)` gives; raises what it raises."""
        if self._depth == 0:
            return self._make(step)
        for k in range(step, min(step + self._depth, self._last - 1) + 1):
            if k not in self._waiting:
                self._waiting[k] = self._pool.submit(self._make, k)
        return self._waiting.pop(step).result()

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
