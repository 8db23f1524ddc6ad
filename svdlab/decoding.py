"""When memory runs out: the decoder goes on in slices, which changes no pixel, and what does not fit says what would.

A smaller `decode_chunk` is never taken, since it gives other pixels.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from svdlab.low_memory import decode_in_slices
from svdlab.memory import clear_frames, free_memory, is_out_of_memory

log = logging.getLogger("svdlab")


def decode_part(vae: Any, part: Tensor) -> Tensor:
    """One chunk of scaled latents `[frames, channels, height, width]` -> pixels in [-1, 1]."""
    return vae.decode(part, num_frames=len(part)).sample


def decode_all(vae: Any, latents: Tensor, chunk: int | None, *, in_slices: bool = False) -> tuple[Tensor, bool]:
    """All chunks of a clip: pixels in [-1, 1], and whether they were decoded in slices (`svdlab.low_memory`).

    Where the decoder runs out of memory it is done again in slices, with the same chunks.

    Args:
        latents: scaled, `[frames, channels, height, width]`.
        chunk: frames a decoder call; None: all.
        in_slices: decode so from the start.

    Raises:
        torch.OutOfMemoryError, MemoryError: slices do not fit either; the text names the `decode_chunk` that does.
    """
    parts = latents.split(chunk or len(latents))
    if not in_slices:
        try:
            return torch.cat([decode_part(vae, part) for part in parts]), False
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("decoding ran out of memory and goes on in slices: the same pixels, in more time (%s)", error)
            clear_frames(error)  # they hold what was decoded so far
        free_memory()
    with memory_advice(lambda: _chunk_words(vae, latents, chunk)):
        return torch.cat([decode_in_slices(vae, part) for part in parts]), True


@contextlib.contextmanager
def memory_advice(words: Callable[[], str]) -> Iterator[None]:
    """If memory runs out in the block, add to the error what to do about it; `words` is called when all is freed.

    Raises:
        torch.OutOfMemoryError, MemoryError: instead of the error of the block, for the device and the host.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        clear_frames(error)
        free_memory()
        kind = torch.OutOfMemoryError if isinstance(error, torch.OutOfMemoryError) else MemoryError
        said = str(error).strip().rstrip(".")
        advised: Any = kind(f"{said}. {words()}" if said else words())
        advised.advised = True  # whoever shows it need not say what to do
        raise advised from None


def _chunk_words(vae: Any, latents: Tensor, chunk: int | None) -> str:
    tried = min(chunk or len(latents), len(latents))
    fits = largest_chunk(vae, latents, below=tried)
    if fits is None:
        return "No decode_chunk fits: take a smaller size, or free memory."
    return f"decode_chunk = {fits} fits, {tried} does not; set it if you accept slightly different pixels."


def denoiser_words(*, frames: int, width: int, height: int, batch: int, guided: bool, dtype: str) -> str:
    """What to lower where the denoiser does not fit.

    Example:
        >>> denoiser_words(frames=25, width=1024, height=576, batch=1, guided=False, dtype="float16")
        'The denoiser does not fit for 25 frames of 1024x576 px. Lower width, height or num_frames.'
    """
    many = f" in a batch of {batch}" if batch > 1 else ""
    ways = ["a smaller batch"] if batch > 1 else []
    ways += ["max_guidance=1 halves what it needs"] if guided else []
    ways += (
        ["dtype='float16' does too" if guided else "dtype='float16' halves what it needs"] if dtype == "float32" else []
    )
    more = f"; {'; '.join(ways)}" if ways else ""
    return (
        f"The denoiser does not fit for {frames} frames of {width}x{height} px{many}."
        f" Lower width, height or num_frames{more}."
    )


def largest_chunk(vae: Any, latents: Tensor, *, below: int) -> int | None:
    """The largest of below / 2, below / 4, ..., 1 frames that the decoder takes in slices; None if it takes none.

    What is decoded is thrown away.
    """
    chunk = below // 2
    while chunk:
        try:
            decode_in_slices(vae, latents[:chunk])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            clear_frames(error)
        else:
            return chunk
        finally:
            free_memory()
        chunk //= 2
    return None
