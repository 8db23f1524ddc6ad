"""The UNet's beginning, and the way its attention is computed."""

from __future__ import annotations

import pytest
import torch

from svdlab.models import load_components
from svdlab.training.networks import UNetSettings, build_unet, use_plain_attention, write_model

SMALL = UNetSettings(channels=(96, 64), attention=(True, False), embedding=32)
FRAMES = 3


@pytest.fixture
def unet():
    return build_unet(SMALL, latent_size=4, num_frames=FRAMES)


def answer(unet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, FRAMES, 32, 4, 4, generator=generator)
    picture = torch.randn(2, 1, 32, generator=generator)
    return unet(x, torch.tensor([0.1, 1.2]), picture, torch.tensor([[4.0, 9.0, 0.1]] * 2), return_dict=False)[0]


def test_every_residual_branch_begins_at_zero(unet):
    last = {name: module for name, module in unet.named_modules() if name.endswith((".conv2", ".proj_out"))}
    assert {name.split(".")[0] for name in last} == {"down_blocks", "mid_block", "up_blocks"}
    assert all(not module.weight.any() and not module.bias.any() for module in last.values())


def test_a_gradient_reaches_every_weight_soon(unet):
    """Zero layers delay a gradient by a step or two; they must not stop it."""
    target = torch.randn(2, FRAMES, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.SGD(unet.parameters(), lr=0.1)
    reached: set[str] = set()
    for _ in range(6):
        optimizer.zero_grad()
        (answer(unet) - target).square().mean().backward()
        reached |= {name for name, value in unet.named_parameters() if value.grad is not None and value.grad.any()}
        optimizer.step()
    # The picture is one token: cross-attention is that token, whatever queries and keys say.
    silent = {name for name, _ in unet.named_parameters()} - reached
    assert all(
        "attn2.to_q" in name or "attn2.to_k" in name or "attn2.norm" in name or ".norm2." in name for name in silent
    )


def test_plain_attention_gives_the_same_answers(unet):
    for parameter in unet.parameters():  # zero branches would hide any difference
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    with torch.no_grad():
        fused = answer(unet)
        use_plain_attention(unet)
        plain = answer(unet)
    assert fused.std() > 0.01
    torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-5)


def test_a_written_model_says_nothing_of_the_folder_that_its_networks_came_from(tmp_path):
    def write(folder, parts):
        return write_model(
            folder, unet=parts.unet, vae=parts.vae, image_encoder=parts.image_encoder,
            feature_extractor=parts.feature_extractor, info=parts.info,
        )  # fmt: skip

    first = write(tmp_path / "first", load_components("tiny-random"))
    second = write(tmp_path / "second", load_components(str(first), device="cpu"))
    configs = list(second.rglob("*.json"))
    assert len(configs) >= 5
    assert all("first" not in path.read_text() and "_name_or_path" not in path.read_text() for path in configs)
    assert load_components(str(second)).fingerprint == load_components(str(first)).fingerprint
