from __future__ import annotations

import numpy as np
import pytest
import torch

from svdlab.conditioning import to_signed
from svdlab.errors import ModelError
from svdlab.preview import load_tiny, rgb_map
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


def save_tiny(folder, **changes):
    """A small AutoencoderTiny with random weights, as diffusers saves it."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    sizes = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    counts = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    AutoencoderTiny(**{**sizes, **counts, **changes}).save_pretrained(folder)
    return folder


def test_a_small_decoder_looks_at_each_frame_by_itself(tmp_path):
    look = load_tiny(save_tiny(tmp_path / "taesd"))
    latents = torch.randn(11, 4, 6, 8, generator=torch.Generator().manual_seed(0))  # more than it takes at a time
    shown = look(latents)
    assert (shown.dtype, shown.shape) == (np.uint8, (11, 12, 16, 3))
    assert np.abs(look(latents[9:10])[0].astype(int) - shown[9]).max() <= 1
    assert shown.std() > 0


def test_weights_that_cannot_make_a_preview_are_refused_in_words(tmp_path):
    with pytest.raises(ModelError, match=r"there is no config\.json.*taesd"):
        load_tiny(tmp_path / "nothing")
    with pytest.raises(ModelError, match="is for latents of 16 channels, the model's have 4"):
        load_tiny(save_tiny(tmp_path / "other", latent_channels=16))
    damaged = save_tiny(tmp_path / "damaged")
    (damaged / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be opened as an AutoencoderTiny"):
        load_tiny(damaged)
