from __future__ import annotations

import numpy as np
import pytest
import torch

from svdlab.errors import TrainingError
from svdlab.training.recipe import Recipe, decoder_lengths
from svdlab.training.settings import LoopSettings, step_seed
from svdlab.training.vae import Projection, build_vae, decoder_loss, encode, fit_pca, train_decoder


def soft_frames(count: int, seed: int = 0, size: int = 64) -> torch.Tensor:
    """Soft colourful backgrounds with a disc each, float32 [count, 3, size, size] in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator) * 1.6 - 0.8
    out = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    place = torch.rand(count, 2, 1, 1, generator=generator) * size
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    away = ((y - place[:, 0]) ** 2 + (x - place[:, 1]) ** 2).sqrt()
    disc = (9.5 - away).clamp(0, 1)[:, None]
    colour = torch.rand(count, 3, 1, 1, generator=generator) * 2 - 1
    return (out * (1 - disc) + colour * disc).clamp(-1, 1)


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    return ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / ((one - other) ** 2).mean()))


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return soft_frames(64)


@pytest.fixture(scope="module")
def projection(frames) -> Projection:
    return fit_pca(to_uint8(frames))


@pytest.fixture(scope="module")
def vae(projection):
    return build_vae(projection)


def test_latents_have_no_mean_and_are_not_correlated(frames, projection):
    latents = encode(frames, projection)
    assert latents.shape == (64, 16, 8, 8)
    assert latents.mean((0, 2, 3)).abs().max() < 0.01
    deviation = latents.std((0, 2, 3))
    assert deviation[0] == pytest.approx(2, abs=0.04)
    assert bool((deviation.diff() < 0.02).all())  # in falling order
    flat = latents.permute(1, 0, 2, 3).flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(16)).abs().max() < 0.01


def test_batch_and_time_axes_are_kept(frames, projection):
    clips = frames.reshape(8, 8, 3, 64, 64)
    assert torch.equal(encode(clips, projection), encode(frames, projection).reshape(8, 8, 16, 8, 8))


def test_reported_psnr_is_that_of_the_linear_reconstruction(frames, projection):
    pixels = torch.tensor(to_uint8(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = encode(pixels, projection)
    flat = projection.weight.flatten(1)
    back = torch.linalg.pinv(flat)  # [192, 16]
    patches = torch.nn.functional.unfold(pixels, 8, stride=8).transpose(1, 2)
    codes = latents.flatten(2).transpose(1, 2)
    best = (codes - projection.bias) @ back.T
    mean = (patches - best).mean((0, 1))  # what the components cannot see
    assert psnr(patches, best + mean) == pytest.approx(projection.psnr, abs=0.02)


def test_equal_errors_of_latents_are_equal_errors_of_pixels(frames, projection):
    rows = projection.weight.flatten(1)
    gram = rows @ rows.T
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(16), rtol=0, atol=1e-5 * float(gram[0, 0]))
    latents = encode(torch.tensor(to_uint8(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1, projection)
    assert float(latents[:, 0].std(correction=0)) == pytest.approx(2.0, rel=1e-3)


def test_smaller_patches_are_far_better(frames):
    assert fit_pca(to_uint8(frames), patch=4).psnr > fit_pca(to_uint8(frames)).psnr + 4


def test_stock_encoder_is_the_convolution_to_within_a_percent(vae, projection):
    pixels = soft_frames(8, seed=5)
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
    expected = encode(pixels, projection)
    error = (posterior.mode() - expected).norm() / expected.norm()
    assert error < 0.01
    assert posterior.std.max() < 1e-6


@pytest.mark.parametrize("cond_aug", [0.02, 0.3, 1.0])
def test_the_encoder_stays_linear_under_conditioning_noise(vae, projection, cond_aug):
    noisy = soft_frames(4, seed=6) + cond_aug * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latents = vae.encode(noisy).latent_dist.mode()
    expected = encode(noisy, projection)
    assert (latents - expected).norm() / expected.norm() < 0.03


def test_half_precision_encodes_and_decodes_as_full(projection):
    pixels = soft_frames(4, seed=5)
    half = build_vae(projection).to(torch.bfloat16)
    full = build_vae(projection)
    with torch.no_grad():
        z = full.encode(pixels).latent_dist.mode()
        close = half.encode(pixels.bfloat16()).latent_dist.mode().float()
        assert (close - z).norm() / z.norm() < 0.05


def test_decoder_without_training_is_a_nearest_neighbour_upsampling(vae):
    pixels = soft_frames(8, seed=7)
    with torch.no_grad():
        decoded = vae.decode(vae.encode(pixels).latent_dist.mode(), num_frames=4).sample
    blocks = torch.nn.functional.avg_pool2d(pixels, 8)
    enlarged = torch.nn.functional.interpolate(blocks, scale_factor=8, mode="nearest")
    assert decoded.shape == pixels.shape
    assert psnr(decoded, enlarged) > 30
    assert psnr(decoded, pixels) > 17


def test_no_part_of_the_encoder_is_left_random(projection):
    pixels = soft_frames(2)
    with torch.no_grad():
        one, other = (build_vae(projection, seed=seed).encode(pixels).latent_dist.mode() for seed in (0, 1))
    assert torch.equal(one, other)


def test_projection_round_trip(tmp_path, projection):
    projection.save(tmp_path / "projection.safetensors")
    again = Projection.load(tmp_path / "projection.safetensors")
    assert torch.equal(again.weight, projection.weight)
    assert torch.equal(again.colour_bias, projection.colour_bias)
    assert again.psnr == projection.psnr


@pytest.mark.slow
def test_training_the_decoder_gains(projection, tmp_path):
    def frames(step: int, rank: int) -> torch.Tensor:
        return soft_frames(4, seed=step_seed(1, step, "frames", rank), size=32).reshape(2, 2, 3, 32, 32)

    vae = build_vae(projection)
    held_out = soft_frames(8, seed=12345, size=32)
    encoder = {name: value.clone() for name, value in vae.encoder.state_dict().items()}

    def quality() -> float:
        with torch.no_grad():
            return psnr(vae.decode(vae.encode(held_out).latent_dist.mode(), num_frames=2).sample, held_out)

    before = quality()
    settings = LoopSettings(steps=60, warmup=5, learning_rate=3e-4, averages=(0.9,), device="cpu")
    result = train_decoder(vae, projection, frames, settings=settings, out=tmp_path, progress=False)
    assert result.finished
    assert quality() > before + 0.7
    assert all(torch.equal(value, encoder[name]) for name, value in vae.encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_gradients_in_bfloat16_are_those_in_full_precision(frames, projection):
    """Of windows of all lengths that the decoder learns: with two frames some processors give uninitialised memory."""
    decoder = build_vae(projection, seed=0).decoder.requires_grad_(True)
    decoder.mid_block.attentions.requires_grad_(False)
    for length in decoder_lengths(Recipe(num_frames=25)):
        pixels = frames[:length][None]
        found = []
        for half in (False, True):
            decoder.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                decoder_loss(decoder, pixels, encode(pixels, projection))["loss"].backward()
            grads = [weight.grad.flatten() for weight in decoder.parameters() if weight.grad is not None]
            found.append(torch.cat(grads))
        assert found[1].norm() < 2 * found[0].norm()  # rounding alone changes them by up to half


@pytest.mark.parametrize("bad", [np.zeros((2, 64, 64, 3)), np.zeros((2, 30, 64, 3), np.uint8), np.zeros((64, 64, 3))])
def test_frames_of_another_form_are_refused(bad):
    with pytest.raises(TrainingError, match="frames: uint8"):
        fit_pca(bad)


def test_what_cannot_be_built_is_refused(projection, frames):
    with pytest.raises(TrainingError, match="all patches are alike"):
        fit_pca(np.full((2, 8, 8, 3), 7, np.uint8))
    with pytest.raises(TrainingError, match="channels = "):
        build_vae(projection, channels=(64, 64, 96, 96))
    with pytest.raises(TrainingError, match="patches of 8 px"):
        build_vae(fit_pca(to_uint8(frames), patch=4))
