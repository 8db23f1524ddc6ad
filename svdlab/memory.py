"""Memory: let go of what a failed computation holds."""

from __future__ import annotations

import gc
import sys
import traceback


def clear_frames(error: BaseException | None) -> None:
    """Clear the frames of an exception and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def free_memory() -> None:
    """Collect garbage and give cached device memory back."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
