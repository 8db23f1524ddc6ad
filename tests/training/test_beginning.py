"""What a UNet answers before it has learned anything."""

from __future__ import annotations

import pytest
import torch

from svdlab.training.networks import UNetSettings, build_unet

FRAMES = 2


@pytest.fixture(scope="module", params=[96, 128])
def unet(request):
    settings = UNetSettings(channels=(request.param, 64), attention=(True, False), embedding=32)
    return build_unet(settings, latent_size=8, num_frames=FRAMES, seed=request.param)


def latents(seed: int, contrast: float = 1.0, brightness: float = 0.0) -> torch.Tensor:
    made = torch.randn(1, FRAMES, 16, 8, 8, generator=torch.Generator().manual_seed(seed))
    return contrast * made + brightness


@pytest.mark.parametrize(("contrast", "brightness"), [(0.1, 1.0), (0.7, 0.0), (1.0, -1.0)])
@pytest.mark.parametrize(("precision", "least"), [(torch.float32, 34), (torch.bfloat16, 30)])
def test_it_repeats_its_picture(unet, contrast, brightness, precision, least):
    """Also where pictures differ in brightness and contrast, which a norm forgets."""
    picture = latents(2, contrast, brightness)
    for sigma in (0.02, 1.0, 700.0):
        with torch.no_grad(), torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            v = unet(
                torch.cat([latents(1), picture], dim=2), torch.tensor([sigma]).log() / 4, torch.randn(1, 1, 32),
                torch.tensor([[6.0, 127.0, 0.02]]), return_dict=False,
            )[0].float()  # fmt: skip
        ratio = picture.square().mean() / (v + picture).square().mean()
        assert 10 * ratio.log10() > least


def test_noise_levels_are_told_apart(unet):
    """Levels a factor of two apart have embeddings that differ as much as embeddings do."""
    levels = torch.logspace(-2, 2.8, 24)
    with torch.no_grad():
        embedding = unet.time_embedding(unet.time_proj(levels.log() / 4))
    embedding = embedding - embedding.mean(0)
    apart = (embedding[2:] - embedding[:-2]).square().mean(1).sqrt()
    assert apart.min() > 0.1 * embedding.std()
