"""What a UNet answers before it has learned anything."""

from __future__ import annotations

import copy

import pytest
import torch

from svdlab.sampling import scalings
from svdlab.training.beginning import NEAR, SHARE, hold_constructed, mixing
from svdlab.training.networks import UNetSettings, build_unet

SIGMAS = (0.002, 0.05, 0.3, 1.0, 5.0, 700.0)
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
def test_the_answer_is_the_formula(unet, sigma):
    """Also where pictures differ in brightness and contrast, which a norm forgets."""
    for contrast, brightness in ((0.1, 1.0), (0.7, 0.0), (1.0, -1.0)):
        noisy, picture = latents(1), latents(2, contrast, brightness)
        formula = -picture - mixing(torch.tensor(sigma)) * (SHARE * picture - (1 - NEAR**2) * noisy)
        assert size(answer(unet, noisy, picture, sigma) - formula) < 0.25 * size(formula)


@pytest.mark.parametrize("bucket", [0.0, 32.0, 255.0])
def test_the_bucket_hardly_matters_yet(unet, bucket):
    noisy, picture = latents(1), latents(2)
    usual = answer(unet, noisy, picture, 0.3)
    assert size(answer(unet, noisy, picture, 0.3, bucket) - usual) < 0.3 * size(usual)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_clip_near_its_picture_is_cleaned_nearly_as_well_as_can_be(unet, sigma):
    """The mixture of clip and picture that is best for a clip which differs by noise of deviation s leaves an error of
    s sigma / sqrt(s^2 + sigma^2)."""
    picture = latents(3, contrast=0.6)
    clip = picture + NEAR * latents(4)
    c_skip, c_out, c_in, _ = scalings(sigma)
    x = clip + sigma * latents(5)
    error = size(c_skip * x + c_out * answer(unet, c_in * x, picture, sigma) - clip)
    best = NEAR * sigma / (NEAR**2 + sigma**2) ** 0.5
    assert error < 1.5 * best + 0.02


def test_mixing_is_greatest_where_noise_is_as_strong_as_the_difference():
    sigma = torch.logspace(-3, 3, 601)
    assert sigma[mixing(sigma).argmax()] == pytest.approx(NEAR, rel=0.03)
    assert mixing(torch.tensor([1e-4])) < 0.01
    assert mixing(torch.tensor([700.0])) < 0.002


def test_training_what_is_not_held_keeps_the_answer_near(unet):
    """A step at a common rate would change the answer by more than its size if it reached what is constructed."""
    learner = copy.deepcopy(unet).requires_grad_(True)
    noisy, picture = latents(1), latents(2)
    before = answer(learner, noisy, picture, 0.3)

    def step() -> float:
        optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=1e-3)
        v = learner(
            torch.cat([noisy, picture], dim=2), torch.tensor([-0.3]), torch.randn(1, 1, 32), torch.ones(1, 3),
            return_dict=False,
        )[0]  # fmt: skip
        v.square().mean().backward()
        optimizer.step()
        return size(answer(learner, noisy, picture, 0.3) - before) / size(before)

    hold_constructed(learner)
    held = step()
    learner.load_state_dict(unet.state_dict())
    learner.requires_grad_(True)
    assert 0 < held < 0.3 < step()
