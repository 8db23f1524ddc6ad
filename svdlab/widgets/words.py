"""Errors in words, for a widget that has no other place to show them."""

from __future__ import annotations

from svdlab.errors import SvdlabError
from svdlab.memory import is_out_of_memory

_SMALLER = "Ask for less: fewer num_frames, a smaller width and height, or a smaller decode_chunk (it changes pixels)."


def explain(error: BaseException) -> str:
    """An error as something a person can act on: svdlab's own text, a hint for memory, or what broke and where to look.

    Example:
        >>> explain(MemoryError())
        'Out of memory. Ask for less: fewer num_frames, ...'
    """
    if isinstance(error, SvdlabError):
        return str(error)
    if is_out_of_memory(error):
        said = str(error).strip().partition("\n")[0]
        if getattr(error, "advised", False):  # by `svdlab.decoding.memory_advice`
            return f"Out of memory: {said[:500]}"
        return f"Out of memory{f' ({said[:300]})' if said else ''}. {_SMALLER}"
    said = str(error) or "no text"
    return f"Unexpected {type(error).__name__}: {said[:500]}. The details are in its attribute `traceback`."
