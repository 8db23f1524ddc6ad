"""Memory that runs out in the decoder: slices, then an error that says which chunk fits; no smaller one is taken."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import svdlab as sl
from svdlab.decoding import denoiser_words
from svdlab.errors import ModelError

DEVICE = torch.OutOfMemoryError("tried to allocate 20.00 GiB.")
HOST = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


@pytest.fixture(scope="module")
def pipe() -> sl.Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def room_for(pipe):
    """Lets the first layer of the real decoder take at most so many frames at a time, and raises `error` for more.

    The layer is small, so that decoding in slices too gives it all frames of a chunk.
    """
    handles, seen = [], []

    def room_for(frames: int, error: Exception) -> list[int]:
        def check(module, args):
            seen.append(len(args[0]))
            if len(args[0]) > frames:
                raise error

        handles.append(pipe.components.vae.decoder.conv_in.register_forward_pre_hook(check))
        return seen

    yield room_for
    for handle in handles:
        handle.remove()


def latents(frames: int) -> torch.Tensor:
    return torch.zeros(frames, 4, 4, 4)


@pytest.mark.parametrize(
    ("room", "advice", "tried"),
    [
        (6, r"decode_chunk = 4 fits, 8 does not", [8, 8, 4]),
        (3, r"decode_chunk = 2 fits, 8 does not", [8, 8, 4, 2]),
        (1, r"decode_chunk = 1 fits, 8 does not", [8, 8, 4, 2, 1]),
        (0, r"No decode_chunk fits: take a smaller size", [8, 8, 4, 2, 1]),
    ],
)
@pytest.mark.parametrize(("error", "kind"), [(DEVICE, torch.OutOfMemoryError), (HOST, MemoryError)])
def test_the_error_says_which_chunk_fits(pipe, room_for, room, advice, tried, error, kind):
    seen = room_for(room, error)
    with pytest.raises(kind, match=f"allocate .*{advice}"):
        pipe.decode(latents(8))
    assert seen == tried  # once as a whole, once in slices, then what would fit


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


@pytest.mark.parametrize("error", [DEVICE, HOST])
@pytest.mark.parametrize("decode_chunk", [None, 3])
def test_where_memory_runs_out_frames_are_decoded_in_slices_and_are_the_same(error, decode_chunk, caplog):
    pipe = sl.load("tiny-random", device="cpu")
    x = torch.randn(5, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    before = pipe.decode(x, decode_chunk=decode_chunk)
    tries = []

    def full(*_):
        tries.append(1)
        raise error

    pipe.components.vae.decoder.register_forward_pre_hook(full)  # is not called by what decodes in slices
    np.testing.assert_array_equal(pipe.decode(x, decode_chunk=decode_chunk), before)
    assert "goes on in slices: the same pixels" in caplog.text
    np.testing.assert_array_equal(pipe.decode(x, decode_chunk=decode_chunk), before)
    assert len(tries) == 1  # what did not fit is not tried again
    with pytest.raises(type(error)):
        pipe.components.vae.decode(x, num_frames=5)


def test_a_size_that_may_fit_is_tried_as_a_whole(pipe):
    pipe = sl.load("tiny-random", device="cpu")
    tries = []

    def full(module, args):
        tries.append(len(args[0]))
        if len(args[0]) > 2:
            raise DEVICE

    pipe.components.vae.decoder.register_forward_pre_hook(full)
    for frames in (4, 2, 4, 5):
        assert pipe.decode(latents(frames)).shape[0] == frames
    assert tries == [4, 2]


@pytest.mark.parametrize("error", [DEVICE, HOST])
def test_a_denoiser_that_does_not_fit_says_what_to_lower(error):
    pipe = sl.load("tiny-random", device="cpu")

    def full(*_):
        raise error

    pipe.components.unet.register_forward_pre_hook(full)
    kind = torch.OutOfMemoryError if error is DEVICE else MemoryError
    with pytest.raises(kind, match=r"allocate .*for 3 frames of 64x64 px\. Lower width, height or num_frames"):
        pipe(sl.examples.path("rocket"), steps=1, num_frames=3, seed=0)


def test_advice_names_only_what_can_be_lowered():
    size = {"frames": 25, "width": 64, "height": 64}
    words = denoiser_words(**size, batch=4, guided=True, dtype="float32")
    assert "in a batch of 4" in words
    assert "a smaller batch; max_guidance=1" in words
    assert "float16" in words
    bare = denoiser_words(**size, batch=1, guided=False, dtype="float16")
    assert bare.endswith("Lower width, height or num_frames.")
