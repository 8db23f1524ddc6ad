"""Where networks lie: what a clip takes, held against every tensor that networks of full size make, and what fits."""

from __future__ import annotations

import dataclasses
import weakref

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import svdlab as sl
from svdlab.bench.full_size import build_parts
from svdlab.errors import ModelError
from svdlab.low_memory import decode_in_slices
from svdlab.models import CATALOGUE, load_components
from svdlab.models.placement import PARTS, WAYS, choose_way, clip_bytes, decoder_bytes, denoiser_bytes, place

CPU = torch.device("cpu")
FRAMES, WIDTH, HEIGHT = 5, 192, 128


class Held(TorchDispatchMode):
    """Counts the bytes of all tensors that are made in its block and still there; `most` is their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = {id(tensor.untyped_storage()) for tensor in tree_iter((args, kwargs)) if torch.is_tensor(tensor)}
        for tensor in tree_iter(out):
            storage = tensor.untyped_storage() if torch.is_tensor(tensor) else None
            if storage is None or id(storage) in given or storage in self._seen:
                continue
            self._seen.add(storage)
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return out

    def _gone(self, count: int) -> None:
        self.now -= count


@pytest.fixture(scope="module")
def parts():
    """The networks of SVD-XT in half precision: shapes without data."""
    return build_parts("meta", torch.float16)


@pytest.fixture
def fused(monkeypatch):
    """Attention without its matrix, as fused kernels compute it; on "meta" torch would make the matrix."""

    def attention(query, key, value, *rest, **options):
        return query.new_empty((*query.shape[:-1], value.shape[-1]))

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


@torch.no_grad()
def test_the_denoiser_holds_what_is_said(parts, fused):
    x = empty(1, FRAMES, 8, HEIGHT // 8, WIDTH // 8)
    with Held() as held:
        parts["unet"](
            x, torch.ones((), device="meta"), encoder_hidden_states=empty(1, 1, 1024), added_time_ids=empty(1, 3)
        )
    said = denoiser_bytes(parts["unet"], parts["vae"], frames=FRAMES, width=WIDTH, height=HEIGHT)
    assert 0.95 * held.most < said < 1.1 * held.most


@torch.no_grad()
@pytest.mark.parametrize("frames", [2, FRAMES])
def test_the_decoder_holds_what_is_said(parts, fused, frames):
    size = {"frames": frames, "width": 1024, "height": 576}
    ways = {
        False: lambda z: parts["vae"].decode(z, num_frames=frames),
        True: lambda z: decode_in_slices(parts["vae"], z),
    }
    for sliced, decode in ways.items():
        z = empty(frames, 4, 72, 128)
        with Held() as held:
            decode(z)
        said = decoder_bytes(parts["vae"], **size, sliced=sliced)
        assert 0.95 * held.most < said < 1.3 * held.most


def test_a_clip_of_full_size_fits_common_cards(parts):
    """What is free of a card is about half a GB less than it has."""
    need = clip_bytes(parts, CATALOGUE["animatelcm-svd-xt-1.1"].defaults)
    assert need["none"] > need["slices"] > need["parts"]
    assert choose_way(need, free=8 * 2**30 - 500_000_000) == "parts"
    assert need["parts"] < 8 * 2**30 - 500_000_000
    assert choose_way(need, free=11_000_000_000) == "slices"
    assert choose_way(need, free=16_000_000_000) == "none"
    whole = dataclasses.replace(CATALOGUE["svd-xt"].defaults, decode_chunk=None)
    assert clip_bytes(parts, whole)["none"] > 30e9
    assert clip_bytes(parts, whole)["parts"] > clip_bytes(parts, CATALOGUE["svd-xt"].defaults)["slices"] - 3e9


def test_where_nothing_fits_the_way_that_needs_least_is_taken():
    need = {"none": 12, "slices": 10, "parts": 8}
    assert [choose_way(need, free) for free in (12, 11, 9, 1)] == ["none", "slices", "parts", "parts"]
    assert choose_way(need, 1, ways=WAYS[:2]) == "slices"


def test_on_a_cpu_the_size_of_the_clip_decides(parts):
    size = CATALOGUE["tiny-random"].defaults
    assert place("auto", parts, dataclasses.replace(size, num_frames=2), CPU).way == "none"
    huge = place("auto", parts, dataclasses.replace(size, width=2**15, height=2**15), CPU)
    assert huge.way == "slices"
    assert "25 frames of 32768x32768 px take about" in huge.reason
    assert place("parts", parts, size, CPU).reason == "as asked"
    assert place("auto", parts, size, torch.device("meta")).reason == "what is free on meta is not known"


def test_a_clip_that_is_too_large_for_the_plain_decoder_now_is_decoded_in_slices(caplog):
    pipe = sl.load("tiny-random", device="cpu")
    caplog.set_level("INFO", "svdlab")
    assert not pipe._is_too_large(torch.empty(25, 4, 8, 8))
    assert pipe._is_too_large(torch.empty(25, 4, 2**13, 2**13, device="meta"))
    assert "decoding in slices: 25 frames at once take about" in caplog.text
    assert not sl.load("tiny-random", device="cpu", low_memory="none")._is_too_large(empty(25, 4, 2**13, 2**13))


def test_in_parts_one_network_is_on_the_device_when_it_is_called():
    """The device is one without data, which any machine has: what is there can be told, and not computed with."""
    components = dataclasses.replace(load_components("tiny-random", device="cpu"), device=torch.device("meta"))
    lazy = dataclasses.replace(components, low_memory="parts")
    assert lazy.take("unet") is components.unet
    where = {name: next(getattr(lazy, name).parameters()).device.type for name in PARTS}
    assert where == {"unet": "meta", "vae": "cpu", "image_encoder": "cpu"}
    assert lazy.take("unet") is components.unet


@pytest.mark.parametrize("way", [*WAYS, True])
def test_every_way_makes_the_same_clip(way):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        picture = np.full((64, 64, 3), 90, np.uint8)
        clips = [
            sl.load("tiny-random", device="cpu", low_memory=low_memory)(picture, steps=1, seed=0, num_frames=2)
            for low_memory in ("auto", way)
        ]
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(clips[0].frames, clips[1].frames)
    assert clips[1].low_memory is (way != "none")


@pytest.mark.parametrize("odd", ["8GB", "", None, 1])
def test_other_ways_are_refused_by_name(odd):
    with pytest.raises(ModelError, match=r"low_memory = .*: must be 'auto'"):
        sl.load("tiny-random", device="cpu", low_memory=odd)
