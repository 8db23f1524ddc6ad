"""Memory: how much there is, when it ran out, and letting go of what a failed computation holds."""

from __future__ import annotations

import ctypes
import gc
import sys
import traceback
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_SAID = (  # by torch and the libraries below it, of the machine and of devices whose errors have no class of their own
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: a device's, or the machine's, for which torch has no class of its own.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
        True
    """
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _SAID)


def bytes_free(device: torch.device) -> int | None:
    """Memory that can be had now: of a CUDA device, or of the machine, as far as this process may have it.

    What the process keeps for later use on the device counts as free. None: it is not known, as on other devices.

    Example:
        >>> bytes_free(torch.device("cpu"))
        21475123200
    """
    if device.type == "cuda":
        import torch

        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    group = Path("/sys/fs/cgroup")  # a container's, if it has a limit of its own: else a file says "max", or is missing
    try:
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return free
    return min(free, max(limit - used, 0))


def clear_frames(error: BaseException | None) -> None:
    """Clear the frames of an exception and of those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def free_memory() -> None:
    """Collect garbage, and give memory back that is kept for later use: the device's cache, and the C library's.

    glibc keeps freed blocks below others that are in use, up to a hundred MB after a decoder that failed half-way.
    """
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = _trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Any:
    """`malloc_trim` of glibc; None where the C library is another one."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
