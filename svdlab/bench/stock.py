"""Stock: what a person would write today, with the same weights: diffusers' pipeline, a loop, an mp4 a clip."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from svdlab.models.loading import quietly
from svdlab.sampling import NoiseStreams, SVDLCMScheduler

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline
    from svdlab.request import Request


def has_exporter() -> bool:
    """Whether diffusers' `export_to_video` can write an mp4 here: it needs imageio and imageio-ffmpeg."""
    return all(importlib.util.find_spec(name) for name in ("imageio", "imageio_ffmpeg"))


class Stock:
    """Diffusers' `StableVideoDiffusionPipeline` over the components of a svdlab pipeline.

    Sampled by `SVDLCMScheduler`, with the seed's own noise. The noise on the picture is diffusers' own, so that clips
    are those of svdlab where `cond_aug` is 0.

    Example:
        >>> frames = Stock(pipe).frames(request)
    """

    def __init__(self, pipe: Pipeline) -> None:
        self._parts = pipe.components
        self._defaults = pipe.defaults

    @cached_property
    def pipeline(self) -> Any:
        """The stock pipeline, quiet."""
        from diffusers.pipelines.stable_video_diffusion import StableVideoDiffusionPipeline

        parts = self._parts
        built: Any = StableVideoDiffusionPipeline(
            vae=parts.vae,
            image_encoder=parts.image_encoder,
            unet=parts.unet,
            scheduler=SVDLCMScheduler(),
            feature_extractor=parts.feature_extractor,
        )
        built.set_progress_bar_config(disable=True)
        return built

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._parts.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision it computes in."""
        return self._parts.dtype

    def save(self, folder: Path) -> None:
        """Write the model as a diffusers folder, which `from_pretrained` and `svdlab.load` open."""
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

        mine, self.pipeline.scheduler = self.pipeline.scheduler, EulerDiscreteScheduler()
        try:
            with quietly():
                self.pipeline.save_pretrained(folder)
        finally:
            self.pipeline.scheduler = mine

    def run(self, request: Request, *, output_type: str = "np") -> Any:
        """The frames of a request, float `[frames, height, width, 3]` in [0, 1], or with "latent" its latents."""
        resolved = request.resolve(self._defaults)
        self.pipeline.scheduler = SVDLCMScheduler(
            noise_seed=resolved.seed or 0,
            schedule=resolved.schedule or "",
            gamma=resolved.gamma or 0.0,
            sigma_max=resolved.sigma_max or 0.0,
        )
        return self.pipeline(
            request.image,
            height=resolved.height,
            width=resolved.width,
            num_frames=resolved.num_frames,
            num_inference_steps=resolved.steps,
            min_guidance_scale=resolved.min_guidance,
            max_guidance_scale=resolved.max_guidance,
            fps=resolved.fps,
            motion_bucket_id=resolved.motion_bucket_id,
            noise_aug_strength=resolved.cond_aug,
            decode_chunk_size=resolved.decode_chunk,
            latents=self._noise(resolved),
            generator=torch.Generator().manual_seed(resolved.seed or 0),
            output_type=output_type,
        ).frames[0]

    def _noise(self, request: Request) -> Tensor:
        factor = 2 ** (len(self._parts.vae.config["block_out_channels"]) - 1)
        shape = (
            request.num_frames or 1,
            self._parts.vae.config["latent_channels"],
            (request.height or 0) // factor,
            (request.width or 0) // factor,
        )
        noise = NoiseStreams(request.seed or 0).initial(shape)[None]
        return noise.to(self._parts.device, self._parts.dtype)

    @torch.no_grad()
    def condition(self, request: Request) -> None:
        """What the stock pipeline does with a picture before the first step."""
        resolved, pipe = request.resolve(self._defaults), self.pipeline
        pipe._encode_image(request.image, self._parts.device, 1, False)
        image = pipe.video_processor.preprocess(request.image, height=resolved.height, width=resolved.width)
        noised = image + resolved.cond_aug * torch.randn(image.shape)
        weight = next(self._parts.vae.encoder.parameters())
        pipe._encode_vae_image(noised.to(weight.device, weight.dtype), weight.device, 1, False)

    def export(self, frames: np.ndarray, path: Path, *, fps: int) -> None:
        """Frames in [0, 1] -> an mp4, by diffusers if it can, else by svdlab."""
        if has_exporter():
            from diffusers.utils import export_to_video

            export_to_video(list(frames), str(path), fps=fps)
        else:
            from svdlab.video import write_video

            write_video(path, (frames * 255).round().astype(np.uint8), fps=fps)

    def grid(self, requests: Iterable[Request], folder: Path) -> None:
        """A loop over the requests, one mp4 each."""
        for number, request in enumerate(requests):
            self.export(self.run(request), folder / f"{number}.mp4", fps=request.fps)
