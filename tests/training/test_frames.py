"""Training on some frames of each clip: which ones, and that the network is told."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.training.frames import draw_numbers, frames_numbered
from svdlab.training.networks import UNetSettings, build_unet


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def unet():
    made = build_unet(
        UNetSettings(channels=(96, 64), attention=(True, False), embedding=32), latent_size=4, num_frames=9
    )
    with torch.no_grad():  # attention's way out begins as zero
        for name, module in made.named_modules():
            if name.endswith(".proj_out"):
                torch.nn.init.normal_(module.weight, std=0.05, generator=seeded(1))
    return made.eval()


def answer(unet, frames: int) -> torch.Tensor:
    """To a clip all of whose frames are alike: whatever differs between them comes from their numbers."""
    clip = torch.randn(1, 1, 32, 4, 4, generator=seeded(2)).expand(1, frames, -1, -1, -1)
    with torch.no_grad():
        return unet(
            clip, torch.tensor(1.0), encoder_hidden_states=torch.ones(1, 1, 32),
            added_time_ids=torch.tensor([[6.0, 127.0, 0.02]]), return_dict=False,
        )[0]  # fmt: skip


@given(frames=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_numbers_are_distinct_rise_and_are_of_the_clip(frames, share, seed):
    some = max(1, round(share * frames))
    numbers = draw_numbers(frames, some, seeded(seed))
    assert len(numbers) == some
    assert bool((numbers.diff() > 0).all())
    assert int(numbers[0]) >= 0
    assert int(numbers[-1]) < frames


def test_every_frame_is_drawn_equally_often():
    counts = torch.bincount(torch.cat([draw_numbers(25, 8, seeded(seed)) for seed in range(2000)]), minlength=25)
    assert counts.min() > 0.85 * 640
    assert counts.max() < 1.15 * 640


def test_frames_in_their_order_are_what_a_network_supposes_anyway(unet):
    plain = answer(unet, 6)
    with frames_numbered(unet, torch.arange(6)):
        torch.testing.assert_close(answer(unet, 6), plain, rtol=0, atol=0)


def test_a_frame_is_answered_by_its_number(unet):
    first = answer(unet, 1)
    with frames_numbered(unet, torch.tensor([8])):
        last = answer(unet, 1)
    assert (last - first).abs().mean() > 0.01
    with frames_numbered(unet, None):
        torch.testing.assert_close(answer(unet, 1), first, rtol=0, atol=0)


def test_afterwards_nothing_is_left_of_it_even_if_a_step_fails(unet):
    first = answer(unet, 1)
    with pytest.raises(ZeroDivisionError), frames_numbered(unet, torch.tensor([8])):
        raise ZeroDivisionError
    torch.testing.assert_close(answer(unet, 1), first, rtol=0, atol=0)
