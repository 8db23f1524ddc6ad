from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch

from svdlab.models.fingerprint import hash_tensors
from svdlab.models.loading import load_components
from svdlab.models.tiny_random import build

FRAMES = 6
GRID = [(700 ** (1 / 7) + i / 39 * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7 for i in range(40)]


@pytest.fixture(scope="module")
def models() -> tuple:
    return build(seed=0)


def picture(seed: int = 0) -> torch.Tensor:
    """Soft blobs in [-1, 1], [1, 3, 64, 64]."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, 64, mode="bicubic").clamp(-1, 1)


def embed(models: tuple, image: torch.Tensor) -> torch.Tensor:
    from PIL import Image

    pixels = ((image[0].permute(1, 2, 0) + 1) * 127.5).byte().numpy()
    inputs = models[3](Image.fromarray(pixels), return_tensors="pt").pixel_values
    assert inputs.shape == (1, 3, 224, 224)
    return models[2](inputs).image_embeds[:, None]


@torch.inference_mode()
def generate(
    models: tuple,
    *,
    image: int = 0,
    clip: int | None = None,
    seed: int = 0,
    bucket: float = 127,
    cond_aug: float = 0.02,
    fps: float = 9,
    steps: int = 4,
    gamma: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents [1, frames, 4, 8, 8] and frames [frames, 3, 64, 64] of the reference sampler, written out."""
    unet, vae, *_ = models
    generator = torch.Generator().manual_seed(seed)
    x0 = picture(image)
    noisy = x0 + cond_aug * torch.randn(x0.shape, generator=generator)
    condition = vae.encode(noisy).latent_dist.mode()[:, None].expand(-1, FRAMES, -1, -1, -1)
    embedding = embed(models, x0 if clip is None else picture(clip))
    ids = torch.tensor([[fps, bucket, cond_aug]])
    sigmas = [GRID[k * (40 // steps)] for k in range(steps)] + [0.0]
    x = torch.randn(1, FRAMES, 4, 8, 8, generator=generator) * math.hypot(sigmas[0], 1)
    for sigma, following in itertools.pairwise(sigmas):
        scale = math.hypot(sigma, 1)
        v = unet(torch.cat([x / scale, condition], dim=2), 0.25 * math.log(sigma), embedding, ids).sample
        denoised = x / scale**2 - sigma / scale * v
        noise = torch.randn(x.shape, generator=generator)
        x = denoised + following * (noise if gamma else (x - denoised) / sigma)
        assert torch.isfinite(x).all()
    return x, vae.decode(x[0] / vae.config.scaling_factor, num_frames=FRAMES).sample


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mean absolute difference of frames in steps of an 8-bit picture."""
    return float((one.clamp(-1, 1) - other.clamp(-1, 1)).abs().mean()) * 127.5


def test_classes_and_sizes(models: tuple) -> None:
    unet, vae, image_encoder, feature_extractor = models
    names = [type(model).__name__ for model in models]
    assert names == [
        "UNetSpatioTemporalConditionModel",
        "AutoencoderKLTemporalDecoder",
        "CLIPVisionModelWithProjection",
        "CLIPImageProcessor",
    ]
    assert unet.config.num_frames == 25
    assert image_encoder.config.projection_dim == unet.config.cross_attention_dim
    assert min(unet.config.block_out_channels) >= 64
    assert vae.encode(picture()).latent_dist.mode().shape == (1, 4, 8, 8)
    assert feature_extractor.crop_size == {"height": 224, "width": 224}
    for model in models[:3]:
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_seed_decides_everything(models: tuple) -> None:
    again, other = build(seed=0), build(seed=1)
    for one, same, different in zip(models[:3], again[:3], other[:3], strict=True):
        assert hash_tensors(one) == hash_tensors(same)
        assert hash_tensors(one) != hash_tensors(different)


def test_weights_are_these_on_every_machine() -> None:
    # If this changes, every key of every ledger made with tiny-random changes.
    assert load_components("tiny-random", device="cpu").fingerprint == "f9b822b82e6f96f2-fp32"


def test_global_random_state_is_untouched() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    build(seed=9)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])


def test_frames_are_neither_flat_nor_saturated(models: tuple) -> None:
    for seed in range(3):
        _, frames = generate(models, seed=seed, image=seed)
        assert frames.shape == (FRAMES, 3, 64, 64)
        assert 0.2 < frames.std() < 0.6
        assert frames.std(dim=(1, 2, 3)).min() > 0.15  # every frame by itself
        assert (frames.abs() > 1).float().mean() < 0.1
        assert frames.std(dim=0).mean() > 0.1  # the frames differ from each other


@pytest.mark.parametrize(
    ("change", "least"),
    [
        ({"seed": 1}, 15),
        ({"bucket": 32}, 4),
        ({"bucket": 255}, 4),
        ({"fps": 5}, 4),
        ({"cond_aug": 0.3}, 4),
        ({"image": 1}, 8),
        ({"clip": 1}, 2),
        ({"steps": 1}, 10),
        ({"gamma": 0.0}, 10),
    ],
)
def test_every_input_is_seen_in_the_frames(models: tuple, change: dict, least: float) -> None:
    _, frames = generate(models)
    _, changed = generate(models, **change)
    assert difference(frames, changed) > least


def test_each_time_id_and_the_embedding_reach_the_network(models: tuple) -> None:
    unet = models[0]
    x = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    embedding, ids = torch.zeros(1, 1, 32), torch.tensor([[9.0, 127.0, 0.02]])

    def call(sigma_time: float = 0.5, embedding: torch.Tensor = embedding, ids: torch.Tensor = ids) -> torch.Tensor:
        with torch.inference_mode():
            return unet(x, sigma_time, embedding, ids).sample

    base = call()
    changed = {
        "fps": call(ids=ids + torch.tensor([3.0, 0, 0])),
        "bucket": call(ids=ids + torch.tensor([0, 60.0, 0])),
        "cond_aug": call(ids=ids + torch.tensor([0, 0, 0.5])),
        "embedding": call(embedding=embedding + 0.5),
        "sigma": call(sigma_time=-0.5),
    }
    relative = {name: float((out - base).norm() / base.norm()) for name, out in changed.items()}
    assert all(value > 0.02 for value in relative.values()), relative


def test_frames_of_a_clip_see_each_other(models: tuple) -> None:
    unet, vae, *_ = models
    x = torch.randn(1, FRAMES, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[:, 0] += 1
    with torch.inference_mode():
        one, two = (unet(v, 0.5, torch.zeros(1, 1, 32), torch.zeros(1, 3)).sample for v in (x, other))
        assert not torch.allclose(one[:, -1], two[:, -1], atol=1e-5)
        one, two = (vae.decode(v[0, :, :4], num_frames=FRAMES).sample for v in (x, other))
        assert not torch.allclose(one[1], two[1], atol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 0.0])
def test_forty_steps_stay_finite(models: tuple, gamma: float) -> None:
    latents, frames = generate(models, steps=40, gamma=gamma)
    assert latents.std() < 5
    assert torch.isfinite(frames).all()
