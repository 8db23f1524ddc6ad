"""How much main memory there is, and how much a process holds, as Linux tells it."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

GB = 10**9
SHARE = 0.9
"""Of the machine's memory, for all workers together: more, and the system ends processes of its own choice."""

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def held_by(pid: int) -> int:
    """Bytes of main memory that a process has for itself alone: not the files that it has mapped, such as weights.

    0 if the process is gone, or if the system does not tell (others than Linux).

    Example:
        >>> held_by(os.getpid()) > 10**6
        True
    """
    with contextlib.suppress(OSError):
        found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    return 0


def machine_memory() -> int:
    """Bytes of main memory that this machine has, or that the container allows if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        total = min(total, int(_CGROUP.read_text()))
    return total
