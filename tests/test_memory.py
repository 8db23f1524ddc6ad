"""Memory: told when it ran out, and given back once nobody needs it."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from svdlab.memory import free_memory, is_out_of_memory
from tests.faults.endurance import held

SAID = [
    "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory (MPS allocated: 8 GB)",
    "CUDA error: out of memory",
]


@pytest.mark.parametrize("said", SAID)
def test_what_libraries_say_of_memory_is_understood(said):
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(ValueError(said))


def test_errors_with_a_class_of_their_own_are_understood_whatever_they_say():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("tried to allocate 20.00 GiB."))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_the_machines_own_error_is_understood():
    """The real one, of an allocation that no machine can make."""
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(real.value)


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc"
)
def test_blocks_that_were_freed_below_others_go_back_to_the_system():
    """A hundred MB in every second of many blocks: freed, they stay with the process until it is told."""
    blocks = [b"x" * 65_000 for _ in range(3200)]
    del blocks[::2]
    before = held()["rss_mb"]
    free_memory()
    assert held()["rss_mb"] < before - 70
    assert len(blocks) == 1600
