from __future__ import annotations

import pytest
import torch

from svdlab.conditioning import TensorCache, clip_pixels, time_ids
from svdlab.request import Request


def test_time_ids_carry_fps_minus_one():
    assert time_ids(Request("a.png", fps=7, motion_bucket_id=90, cond_aug=0.5)).tolist() == [6, 90, 0.5]


def test_clip_pixels_of_a_flat_picture_are_flat():
    pixels = clip_pixels(torch.full((1, 3, 500, 300), 0.5))
    assert pixels.shape == (1, 3, 224, 224)
    assert pixels.min().item() == pytest.approx(0.75, abs=1e-5)
    assert pixels.max().item() == pytest.approx(0.75, abs=1e-5)


def test_clip_pixels_do_not_alias():
    """A one-pixel checkerboard shrunk fourfold must become grey, not a pattern."""
    board = torch.zeros(1, 3, 896, 896)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = 1.0
    assert clip_pixels(board * 2 - 1).std().item() < 0.02


def test_cache_makes_once_and_tells_what_it_cost():
    cache, made = TensorCache(max_bytes=10_000), []

    def make():
        made.append(1)
        return torch.zeros(10)

    _, cost, spent = cache.get("a", make)
    assert cost == spent > 0
    _, cost_again, spent_again = cache.get("a", make)
    assert (cost_again, spent_again, made) == (cost, 0.0, [1])


def test_cache_forgets_the_least_recently_used_beyond_its_bytes():
    cache = TensorCache(max_bytes=100)
    for key in "ab":
        cache.get(key, lambda: torch.zeros(10))
    cache.get("a", lambda: torch.zeros(10))
    cache.get("c", lambda: torch.zeros(10))
    assert cache.nbytes <= 100
    spent = {key: cache.get(key, lambda: torch.zeros(10))[2] for key in "ca"}
    assert spent == {"c": 0.0, "a": 0.0}  # b was dropped
    assert cache.get("b", lambda: torch.zeros(10))[2] > 0


def test_one_tensor_larger_than_the_cache_is_still_kept():
    cache = TensorCache(max_bytes=1)
    cache.get("big", lambda: torch.zeros(100))
    assert len(cache) == 1
    cache.clear()
    assert cache.nbytes == 0
