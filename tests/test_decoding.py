"""Memory that runs out in the decoder: the error says which chunk fits, and no smaller one is taken silently."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import svdlab as sl
from svdlab.decoding import is_out_of_memory
from svdlab.errors import ModelError

DEVICE = torch.OutOfMemoryError("tried to allocate 20.00 GiB.")
HOST = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.fixture(scope="module")
def pipe() -> sl.Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def room_for(pipe):
    """Lets the real decoder take at most so many frames at a time, and raises `error` for more."""
    handles, seen = [], []

    def room_for(frames: int, error: Exception) -> list[int]:
        def check(module, args):
            seen.append(len(args[0]))
            if len(args[0]) > frames:
                raise error

        handles.append(pipe.components.vae.decoder.register_forward_pre_hook(check))
        return seen

    yield room_for
    for handle in handles:
        handle.remove()


def latents(frames: int) -> torch.Tensor:
    return torch.zeros(frames, 4, 4, 4)


@pytest.mark.parametrize(
    ("room", "advice", "tried"),
    [
        (6, r"decode_chunk = 4 fits, 8 does not", [8, 4]),
        (3, r"decode_chunk = 2 fits, 8 does not", [8, 4, 2]),
        (1, r"decode_chunk = 1 fits, 8 does not", [8, 4, 2, 1]),
        (0, r"No decode_chunk fits: take a smaller size", [8, 4, 2, 1]),
    ],
)
@pytest.mark.parametrize(("error", "kind"), [(DEVICE, torch.OutOfMemoryError), (HOST, MemoryError)])
def test_the_error_says_which_chunk_fits(pipe, room_for, room, advice, tried, error, kind):
    seen = room_for(room, error)
    with pytest.raises(kind, match=f"allocate .*{advice}"):
        pipe.decode(latents(8))
    assert seen == tried


def test_the_chunk_that_was_asked_for_is_the_one_that_did_not_fit(pipe, room_for):
    room_for(2, DEVICE)
    with pytest.raises(torch.OutOfMemoryError, match="decode_chunk = 2 fits, 4 does not"):
        pipe.decode(latents(8), decode_chunk=4)
    assert pipe.decode(latents(8), decode_chunk=2).shape == (8, 32, 32, 3)


def test_other_errors_pass_as_they_are(pipe, room_for):
    seen = room_for(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        pipe.decode(latents(4))
    assert seen == [4]


def test_what_counts_as_out_of_memory():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(DEVICE)
    assert is_out_of_memory(HOST)
    assert not is_out_of_memory(RuntimeError("no"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))


def test_the_hosts_own_error_is_recognised():
    """The real one, of an allocation that no machine can make."""
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(real.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_decoder_whose_output_is_not_finite_is_an_error_and_no_picture(pipe, value):
    broken = latents(2)
    broken[1, 0, 0, 0] = value
    with pytest.raises(ModelError, match=r"decoding: the decoder's output is not finite in float32"):
        pipe.decode(broken)


def test_the_check_changes_no_pixel(pipe):
    x = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    frames = pipe.decode(x)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, pipe.decode(x))
