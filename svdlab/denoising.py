"""The denoiser of a batch: the UNet with its conditioning, with guidance where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from svdlab.batching import is_guided, sigmas_of
from svdlab.conditioning import Conditioning
from svdlab.decoding import denoiser_words, memory_advice
from svdlab.errors import ModelError
from svdlab.models.components import Components
from svdlab.request import Request
from svdlab.sampling import Denoiser, precondition


def denoiser_of(components: Components, requests: Sequence[Request], conditioning: Sequence[Conditioning]) -> Denoiser:
    """The UNet with its conditioning as `denoiser(x, sigma) -> x0`, with per-frame guidance where asked for.

    It stops with words at the first value that is not finite.

    Args:
        components: of the model; its UNet is what runs.
        requests: resolved, and fit to be one batch (`svdlab.batching.check_batch`).
        conditioning: of each of them.

    Raises:
        ModelError: when called, for a value that is not finite.

    Example:
        >>> denoiser = denoiser_of(pipe.components, job.requests, job.conditioning)
        >>> denoiser(job.x, 700.0).shape  # as x: [batch, frames, channels, height, width]
        torch.Size([1, 25, 4, 8, 8])
    """
    precision = str(components.dtype).removeprefix("torch.")
    dtype = components.dtype
    first = requests[0]
    frames = first.num_frames or 1
    embedding = torch.stack([part.embedding for part in conditioning])
    latent = torch.stack([part.image_latent for part in conditioning]).unsqueeze(1)
    latent = latent.expand(-1, frames, -1, -1, -1)
    ids = torch.stack([part.time_ids for part in conditioning]).to(components.device, dtype)
    guided = is_guided(first)
    if guided:  # the unconditional half sees no picture, but the same ids
        embedding = torch.cat([torch.zeros_like(embedding), embedding])
        latent = torch.cat([torch.zeros_like(latent), latent])
        ids = torch.cat([ids, ids])
        ramps = [torch.linspace(r.min_guidance, r.max_guidance, frames) for r in requests]  # type: ignore[arg-type]
        scale = torch.stack(ramps).view(-1, frames, 1, 1, 1).to(components.device)

    def advice() -> str:
        size: Any = {"width": first.width, "height": first.height, "frames": frames}
        return denoiser_words(**size, batch=len(requests), guided=guided, dtype=precision)

    def network(x: Tensor, c_noise: float) -> Tensor:
        x = torch.cat([x, x]) if guided else x
        model_input = torch.cat([x.to(dtype), latent], dim=2)
        t = torch.tensor(c_noise, dtype=torch.float32, device=components.device)
        with memory_advice(advice):
            unet = components.take("unet")
            out = unet(model_input, t, encoder_hidden_states=embedding, added_time_ids=ids, return_dict=False)
        v = out[0].float()
        if guided:
            without, conditioned = v.chunk(2)
            v = without + scale * (conditioned - without)
        return v

    denoise = precondition(network)

    def checked(x: Tensor, sigma: float) -> Tensor:
        denoised = denoise(x, sigma)
        if not bool(torch.isfinite(denoised).all()):
            k = sigmas_of(first).tolist().index(sigma)
            raise ModelError(
                f"step {k + 1} of {first.steps} (sigma {sigma:.4g}): the model's output is not finite in"
                f" {precision}. Damaged weights, or too little range: try dtype='float32'."
            )
        return denoised

    return checked
