"""Limits: what a machine can do at best, and how much of it a piece of work asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from svdlab.bench.timing import in_turns


def synchronizer(device: torch.device) -> Callable[[], None]:
    """A function that waits for the device."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def matmul_peak(device: torch.device, dtype: str) -> float:
    """10^12 operations a second of a large square matrix product in this precision, the best of five."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    timing = in_turns({"product": lambda: a @ a}, repeats=5, synchronize=synchronizer(device))["product"]
    return 2 * size**3 / timing.low / 1e12


def copy_peak(device: torch.device) -> float:
    """10^9 bytes a second, read and written, of a large copy within the device's memory, the best of five."""
    count = (1 << 30) if device.type == "cuda" else (1 << 27)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    timing = in_turns({"copy": lambda: target.copy_(source)}, repeats=5, synchronize=synchronizer(device))["copy"]
    return 2 * count / timing.low / 1e9


def count_tflop(work: Callable[[], object]) -> float:
    """Operations of matrix products, convolutions and attention in 10^12, a multiplication with an addition as two."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e12


def count_gigabytes(work: Callable[[], object]) -> float:
    """10^9 bytes that go through memory if each operation reads its inputs and writes its result once.

    Operations that only look at a tensor in another shape count nothing. What is kept in caches, or computed together
    with the next operation, makes the true traffic less.

    Example:
        >>> a = torch.ones(1000)
        >>> count_gigabytes(lambda: (a + a).view(10, 100)) * 1e9
        12000.0
    """
    with _Traffic() as traffic:
        work()
    return traffic.bytes / 1e9


class _Traffic(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for tensor in tree_leaves((args, kwargs, result)):
                if isinstance(tensor, torch.Tensor):  # an expanded one is read no more often than it is there
                    self.bytes += min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
        return result
