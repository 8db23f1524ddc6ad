from __future__ import annotations

import pytest
import torch

from svdlab.training.upsampling import Upsampling, begin_upsampling, fit_upsampling
from svdlab.training.vae import build_vae, encode, fit_pca
from tests.training.test_vae import psnr, soft_frames, to_uint8

STEPS = 60


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return soft_frames(64)


@pytest.fixture(scope="module")
def projection(pixels):
    return fit_pca(to_uint8(pixels))


@pytest.fixture(scope="module")
def fitted(projection, pixels) -> Upsampling:
    return fit_upsampling(projection, pixels, steps=STEPS, progress=False)


def test_it_is_a_function_of_its_arguments(projection, pixels, fitted):
    again = fit_upsampling(projection, pixels, steps=STEPS, progress=False)
    other = fit_upsampling(projection, pixels, steps=STEPS, seed=1, progress=False)
    latents = encode(pixels[:2], projection)
    assert torch.equal(again(latents), fitted(latents))
    assert not torch.equal(other(latents), fitted(latents))


def test_it_tells_more_than_the_mean_colours_of_patches(projection, fitted):
    held_out = soft_frames(8, seed=1)
    means = torch.nn.functional.avg_pool2d(held_out, 8)
    colours = torch.nn.functional.interpolate(means, scale_factor=8.0, mode="nearest")
    assert psnr(fitted(encode(held_out, projection)), held_out) > psnr(colours, held_out) + 1


def test_a_decoder_begins_as_it(projection, fitted):
    vae = build_vae(projection)
    begin_upsampling(vae, fitted)
    held_out = soft_frames(4, seed=2)
    latents = encode(held_out, projection)
    with torch.no_grad():
        decoded = vae.decode(latents, num_frames=4).sample
    assert psnr(decoded, fitted(latents)) > 35


def test_what_was_fitted_can_be_kept(projection, fitted, tmp_path):
    fitted.save(tmp_path / "upsampling.safetensors")
    again = Upsampling.load(tmp_path / "upsampling.safetensors")
    latents = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(again(latents), fitted(latents))
