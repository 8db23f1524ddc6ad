"""The decoder in slices: the same pixels to the bit, in less memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder

import svdlab as sl
from svdlab.low_memory import decode_in_slices
from svdlab.models.tiny_random import VAE

DEEP = {**VAE, "block_out_channels": (32, 64, 64, 128), "layers_per_block": 2}  # with attention, as in SVD


@pytest.fixture(scope="module", params=["tiny-random", "deep"])
def vae(request):
    """Random decoders; in the second an attention leaves channels last in memory."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKLTemporalDecoder(**(VAE if request.param == "tiny-random" else DEEP))
    for name, parameter in vae.named_parameters():
        if name.endswith("mix_factor"):
            parameter.data.fill_(0.3)
    return vae.eval().requires_grad_(False)


@pytest.fixture
def one_thread():
    """Libraries share work among threads by its size, and round accordingly."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def latents(frames, height, width):
    return torch.randn(frames, 4, height, width, generator=torch.Generator().manual_seed(1)) * 4


def plain(vae, x):
    with torch.no_grad():
        return vae.decode(x, num_frames=len(x)).sample


@pytest.mark.parametrize("size", [(2, 8, 8), (3, 5, 7), (9, 8, 8), (4, 16, 16)])
def test_slices_give_the_pixels_of_the_whole_to_the_bit(one_thread, vae, size):
    x = latents(*size)
    before = x.clone()
    assert torch.equal(decode_in_slices(vae, x), plain(vae, x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("frames", [1, 5])
def test_many_small_slices_give_them_within_rounding(vae, frames):
    """One frame, one row, one group at a time."""
    x = latents(frames, 8, 6)
    whole = plain(vae, x)
    torch.testing.assert_close(decode_in_slices(vae, x, numbers=1), whole, rtol=0, atol=2e-5)
    assert float(whole.std()) > 0.1  # a clip in which mistakes would show


def test_every_frame_is_seen_by_the_first(vae):
    """Norms see the whole clip: a change in the last frame reaches the first, as in the plain decoder."""
    x = latents(5, 6, 6)
    other = x.clone()
    other[4] += 1
    assert not torch.equal(decode_in_slices(vae, x, numbers=1)[0], decode_in_slices(vae, other, numbers=1)[0])


@pytest.mark.parametrize("decode_chunk", [None, 2, 3])
def test_a_pipeline_asked_for_low_memory_makes_the_same_frames_of_any_chunk(one_thread, decode_chunk):
    usual, slow = sl.load("tiny-random", device="cpu"), sl.load("tiny-random", device="cpu", low_memory="slices")
    call = {"steps": 1, "num_frames": 5, "seed": 0, "decode_chunk": decode_chunk}
    one, two = usual(sl.examples.path("rocket"), **call), slow(sl.examples.path("rocket"), **call)
    assert (one.frames == two.frames).all()
    assert (one.low_memory, two.low_memory) == (False, True)


PEAK = """
import re, sys, torch
from pathlib import Path
from svdlab.low_memory import decode_in_slices
from tests.test_low_memory import AutoencoderKLTemporalDecoder, VAE, latents, plain

def peak():  # of this program alone; what getrusage says includes the process that started it
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])

vae = AutoencoderKLTemporalDecoder(**{**VAE, "block_out_channels": (64,) * 4}).eval().requires_grad_(False)
way = {"plain": plain, "slices": decode_in_slices}[sys.argv[1]]
way(vae, latents(1, 2, 2))
held = peak()
way(vae, latents(6, 16, 16))
print(peak() - held)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read as Linux counts it")
def test_slices_need_less_memory():
    peak = {}
    for way in ("plain", "slices"):
        done = subprocess.run([sys.executable, "-c", PEAK, way], capture_output=True, text=True, check=True)
        peak[way] = int(done.stdout)
    assert peak["slices"] < 0.75 * peak["plain"]  # larger clips save more: docs/reliability.md
