"""Clips with known truths, and the real LPIPS weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data

from svdlab.metrics import registry
from svdlab.metrics.lpips_weights import ensure_lpips_weights


@pytest.fixture(scope="session")
def weights() -> Path:
    """The LPIPS weights in the user's cache, fetched there once."""
    return ensure_lpips_weights(progress=False)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph, uint8 [512, 512, 3] (NASA, public domain)."""
    return data.astronaut()


def pan(photo: np.ndarray, *, step: int, count: int = 8, height: int = 96, width: int = 128) -> np.ndarray:
    """A camera that moves over the photograph by `step` px a frame, to the right."""
    return np.stack([photo[60 : 60 + height, 60 + step * t : 60 + step * t + width] for t in range(count)])


def frozen(photo: np.ndarray, count: int = 8) -> np.ndarray:
    return pan(photo, step=0, count=count)


def with_noise(frames: np.ndarray, sigma: float = 5.0) -> np.ndarray:
    noise = np.random.default_rng(7).normal(0, sigma, frames.shape)
    return np.clip(np.round(frames + noise), 0, 255).astype(np.uint8)


def with_brightness_flicker(frames: np.ndarray, share: float = 0.03) -> np.ndarray:
    gain = 1 + share * (-1.0) ** np.arange(len(frames))
    return np.clip(np.round(frames * gain[:, None, None, None]), 0, 255).astype(np.uint8)


def clip_of(frames: np.ndarray, **attributes: object) -> SimpleNamespace:
    """The least that counts as a clip: an object with frames and what else is given."""
    return SimpleNamespace(frames=frames, **attributes)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that forgets what the test registers."""
    monkeypatch.setattr(registry, "_METRICS", dict(registry._METRICS))


class TinyEncoder:
    """A real CLIP image encoder of the true architecture, small and with seeded random weights."""

    def __init__(self) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        config = CLIPVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=224,
            patch_size=32, projection_dim=32,
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.model = CLIPVisionModelWithProjection(config).eval()
        self.calls: list[int] = []

    @torch.inference_mode()
    def embed(self, images: np.ndarray) -> np.ndarray:
        self.calls.append(len(images))
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        x = torch.nn.functional.interpolate(x, (224, 224), mode="bilinear", antialias=True)
        x = (x - torch.tensor([0.481, 0.458, 0.408]).view(3, 1, 1)) / torch.tensor([0.269, 0.261, 0.276]).view(3, 1, 1)
        return self.model(pixel_values=x).image_embeds.numpy()


@pytest.fixture
def encoder(tiny_encoder: TinyEncoder) -> TinyEncoder:
    tiny_encoder.calls.clear()
    return tiny_encoder


@pytest.fixture(scope="session")
def tiny_encoder() -> TinyEncoder:
    return TinyEncoder()
