"""The decoder when memory runs out: nothing is done about it silently, since a smaller chunk gives other pixels."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_HOST = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: the device's, or the host's, for which torch has no class of its own.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
        True
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _HOST)


def decode_part(vae: Any, part: Tensor) -> Tensor:
    """One chunk of scaled latents `[frames, channels, height, width]` -> pixels in [-1, 1]."""
    return vae.decode(part, num_frames=len(part)).sample


@contextlib.contextmanager
def chunk_advice(vae: Any, latents: Tensor, chunk: int | None) -> Iterator[None]:
    """If memory runs out in the block, find out which `decode_chunk` fits, and say so in the error.

    Args:
        latents: scaled, `[frames, channels, height, width]`.
        chunk: the one that did not fit; None: all frames.

    Raises:
        torch.OutOfMemoryError, MemoryError: instead of the error of the block, for the device and the host.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what was decoded so far
        gc.collect()
        empty_cache()
        tried = min(chunk or len(latents), len(latents))
        fits = largest_chunk(vae, latents, below=tried)
        if fits is None:
            advice = "No decode_chunk fits: take a smaller size, or free memory."
        else:
            advice = f"decode_chunk = {fits} fits, {tried} does not; set it if you accept slightly different pixels."
        kind = torch.OutOfMemoryError if isinstance(error, torch.OutOfMemoryError) else MemoryError
        raise kind(f"{error} {advice}".strip()) from None


def largest_chunk(vae: Any, latents: Tensor, *, below: int) -> int | None:
    """The largest of below / 2, below / 4, ..., 1 frames that the decoder takes at a time; None if it takes none.

    What is decoded is thrown away.
    """
    chunk = below // 2
    while chunk:
        try:
            decode_part(vae, latents[:chunk])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
        else:
            return chunk
        finally:
            empty_cache()
        chunk //= 2
    return None


def empty_cache() -> None:
    """Give cached memory of the device back."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
