"""Memory: how much there is and who holds it, when it ran out, and letting go of what a failed computation holds."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
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
    limit, used = _of_container("memory.max"), _of_container("memory.current")
    return free if limit is None or used is None else min(free, max(limit - used, 0))


def bytes_installed() -> int:
    """Main memory that this machine has, or that the container allows if that is less.

    Example:
        >>> bytes_installed()
        33567862784
    """
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _of_container("memory.max")
    return total if limit is None else min(total, limit)


def bytes_held(pid: int) -> int:
    """Bytes of main memory that a process has for itself alone: not the files that it has mapped, such as weights.

    0 if the process is gone, or if the system does not tell (others than Linux).

    Example:
        >>> bytes_held(os.getpid()) > 10**6
        True
    """
    with contextlib.suppress(OSError):
        found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def _of_container(name: str) -> int | None:
    """A number of the container's memory, in bytes; None if there is no such limit: no file, or one that says "max"."""
    try:
        return int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


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
