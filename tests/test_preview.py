from __future__ import annotations

import numpy as np
import torch

from svdlab.conditioning import to_signed
from svdlab.preview import rgb_map
from tests.pictures import blobs


def test_a_linear_map_recovers_colours_that_are_linear_in_the_latent():
    image = np.asarray(blobs(64, 64))
    colours = torch.nn.functional.adaptive_avg_pool2d(to_signed(image[None]), (16, 16))[0]
    mixing = torch.tensor([[1.0, 0.5, 0], [0, 1, 0.2], [0.3, 0, 1], [0.5, 0.5, 0.5]])
    latent = torch.einsum("lc,chw->lhw", mixing, colours)
    shown = rgb_map(latent, image)(latent[None])
    expected = ((colours.permute(1, 2, 0) / 2 + 0.5) * 255).round()
    assert np.abs(shown[0].astype(int) - expected.numpy()).max() <= 2


def test_a_flat_picture_does_not_break_the_preview():
    flat = np.full((64, 64, 3), 128, np.uint8)
    shown = rgb_map(torch.zeros(4, 8, 8), flat)(torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert shown.shape == (2, 8, 8, 3)
