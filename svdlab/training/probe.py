"""A look at a teacher in training: how far its clips of held-out pictures lie from the truth, in latents."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from svdlab.conditioning import to_signed
from svdlab.sampling import precondition, sample, sigmas, start
from svdlab.training.objective import embed
from svdlab.training.vae import Projection, encode

STEPS = 10  # Euler steps on SVD's grid: enough to tell better from worse


@torch.no_grad()
def teacher_quality(
    modules: Mapping[str, nn.Module],
    projection: Projection,
    scenes: Mapping[str, Tensor],
    generator: torch.Generator,
    *,
    steps: int = STEPS,
) -> dict[str, float]:
    """Sample clips and compare them with the true ones.

    Args:
        modules: `unet` and `image_encoder`, in eval mode.
        scenes: on their device, as `teacher_losses` takes them.
        generator: of the initial noise.

    Returns:
        `gain_last`, `gain_mean`: dB by which the last frame, and all after the first, are nearer to the truth than the
        repeated picture is (below 0: worse than a still); `copy`: dB of the first frame to the picture.
    """
    pixels = to_signed(scenes["frames"])
    with torch.autocast(pixels.device.type, enabled=False):
        truth = encode(pixels, projection)
    picture = truth[:, :1].expand_as(truth)
    embedding = embed(modules["image_encoder"], pixels[:, 0])
    bucket = scenes["motion_bucket_id"].float()
    ids = torch.stack([scenes["fps"].float() - 1, bucket, torch.zeros_like(bucket)], dim=1)

    def network(x: Tensor, c_noise: float) -> Tensor:
        inputs = torch.cat([x, picture], dim=2)
        t = torch.tensor(c_noise, dtype=torch.float32, device=x.device)
        return modules["unet"](inputs, t, encoder_hidden_states=embedding, added_time_ids=ids, return_dict=False)[0]

    levels = sigmas(steps, schedule="karras")
    x = start(torch.randn(truth.shape, generator=generator, device=truth.device), levels)
    made = sample(precondition(network), x, levels, lambda k: torch.zeros_like(x), gamma=0.0)
    wrong, still = (((one - truth) ** 2).mean((0, 2, 3, 4)).clamp(min=1e-9) for one in (made, picture))
    return {
        "gain_last": float(10 * (still[-1] / wrong[-1]).log10()),
        "gain_mean": float(10 * (still[1:].mean() / wrong[1:].mean()).log10()),
        "copy": float(10 * (truth[:, 0].var() / wrong[0]).log10()),
    }
