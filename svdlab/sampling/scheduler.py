"""The sampler as a diffusers scheduler, for a stock `StableVideoDiffusionPipeline`.

The stock pipeline never hands its generator to `scheduler.step`, so a scheduler that draws noise there makes a
different video on every run. This one owns its noise: a pure function of `noise_seed`, the same streams as svdlab's
pipeline.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from torch import Tensor

from svdlab.errors import RequestError
from svdlab.sampling.denoiser import scalings
from svdlab.sampling.noise import reinjection
from svdlab.sampling.samplers import step_to
from svdlab.sampling.schedules import SIGMA_MAX, sigmas


class SVDLCMScheduler(SchedulerMixin, ConfigMixin):  # type: ignore[misc]  # as every diffusers scheduler
    """Few-step sampling of SVD with a latent consistency model, as a drop-in scheduler.

    Args:
        noise_seed: seed of the re-injected noise; an int, or one int a video of the batch.
        schedule: `animatelcm`, `even` or `karras`.
        gamma: 1: latent consistency, 0: Euler ODE.
        sigma_max: where sampling starts.

    Example:
        >>> pipe.scheduler = SVDLCMScheduler(noise_seed=42)
        >>> pipe(image, num_inference_steps=4, min_guidance_scale=1.0, max_guidance_scale=1.0).frames
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        noise_seed: int | list[int] = 0,
        schedule: str = "animatelcm",
        gamma: float = 1.0,
        sigma_max: float = SIGMA_MAX,
    ) -> None:
        self.config: Any
        if not 0 <= gamma <= 1:
            raise RequestError(f"gamma = {gamma!r}: must be a number from 0 (Euler) to 1 (latent consistency).")
        self.init_noise_sigma = (sigma_max**2 + 1) ** 0.5
        self.set_timesteps(1)

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Choose the noise levels; the pipeline calls this. The timesteps are c_noise = ln(sigma) / 4."""
        self.sigmas = sigmas(num_inference_steps, schedule=self.config.schedule, sigma_max=self.config.sigma_max)
        self.num_inference_steps = num_inference_steps
        c_noise = [scalings(level).c_noise for level in self.sigmas[:-1].tolist()]
        self.timesteps = torch.tensor(c_noise, dtype=torch.float32, device=device)
        self._k = 0

    def scale_model_input(self, sample: Tensor, timestep: float | Tensor | None = None) -> Tensor:
        """c_in * sample at the current step."""
        return sample * scalings(float(self.sigmas[self._k])).c_in

    def step(
        self, model_output: Tensor, timestep: float | Tensor, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """Go one noise level down; called once a step, in order. The combination is done in float32."""
        sigma, sigma_next = self.sigmas[self._k : self._k + 2].tolist()
        c_skip, c_out, _, _ = scalings(sigma)
        x = sample.float()
        denoised = c_skip * x + c_out * model_output.float()
        seeds = self.config.noise_seed
        seeds = [seeds] * len(x) if isinstance(seeds, int) else list(seeds)
        if len(seeds) != len(x):
            raise RequestError(
                f"noise_seed = {seeds}: {len(seeds)} seeds for {len(x)} videos; give one each, or one int."
            )
        z = reinjection(seeds, self.sigmas, x)(self._k) if self.config.gamma > 0 and sigma_next > 0 else None
        previous = step_to(x, denoised, sigma, sigma_next, self.config.gamma, z).to(sample.dtype)
        self._k += 1
        return SchedulerOutput(prev_sample=previous) if return_dict else (previous,)
