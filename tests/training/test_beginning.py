"""What a UNet answers before it has learned anything."""

from __future__ import annotations

import pytest
import torch

from svdlab.sampling import scalings
from svdlab.training.beginning import CARRIERS
from svdlab.training.networks import UNetSettings, build_unet

SIGMAS = (0.002, 0.3, 5.0, 700.0)
FRAMES = 2


@pytest.fixture(scope="module", params=[96, 128])
def unet(request):
    settings = UNetSettings(channels=(request.param, 64), attention=(True, False), embedding=32)
    return build_unet(settings, latent_size=8, num_frames=FRAMES, seed=request.param)


def latents(seed: int, contrast: float = 1.0, brightness: float = 0.0) -> torch.Tensor:
    made = torch.randn(1, FRAMES, 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    return contrast * made + brightness


def answer(unet, noisy: torch.Tensor, picture: torch.Tensor, sigma: float, bucket: float = 127.0) -> torch.Tensor:
    with torch.no_grad():
        return unet(
            torch.cat([noisy, picture], dim=2), torch.tensor([sigma]).log() / 4, torch.randn(1, 1, 32),
            torch.tensor([[6.0, bucket, 0.02]]), return_dict=False,
        )[0]  # fmt: skip


def size(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("bucket", [0.0, 255.0])
def test_the_answer_is_minus_the_picture(unet, sigma, bucket):
    """Also where pictures differ in brightness and contrast, which a norm forgets."""
    for contrast, brightness in ((0.1, 1.0), (0.7, 0.0), (1.0, -1.0)):
        picture = latents(2, contrast, brightness)
        assert size(answer(unet, latents(1), picture, sigma, bucket) + picture) < 0.05 * size(picture)


def test_at_high_noise_that_is_the_clip_that_stands_still(unet):
    picture, sigma = latents(3, contrast=0.6), 700.0
    c_skip, c_out, c_in, _ = scalings(sigma)
    x = picture + sigma * latents(5)
    assert size(c_skip * x + c_out * answer(unet, c_in * x, picture, sigma) - picture) < 0.03 * size(picture)


def test_the_carriers_are_layers_of_the_small_unet(unet):
    names = [name for name, _ in unet.named_parameters()]
    assert all(any(part in name for name in names) for part in CARRIERS)
