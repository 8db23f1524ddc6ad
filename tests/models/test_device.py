from __future__ import annotations

import pytest
import torch

from svdlab.errors import ModelError
from svdlab.models.device import choose_device, choose_dtype, dtype_name

CUDA = torch.cuda.is_available()
MPS = torch.backends.mps.is_available()


def test_auto_takes_the_best_there_is_and_says_why() -> None:
    device, note = choose_device("auto")
    assert device.type == ("cuda" if CUDA else "mps" if MPS else "cpu")
    assert ("GB" in note) if CUDA else ("Apple" in note) if MPS else note == "no CUDA or MPS device was found"


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_what_is_asked_for_is_taken(device: str | torch.device) -> None:
    assert choose_device(device) == (torch.device("cpu"), "as asked")


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x", "meta", "xla", 3.5, None])
def test_an_unknown_device_is_refused(device: object) -> None:
    with pytest.raises(ModelError, match=r"device = .*must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps'"):
        choose_device(device)  # type: ignore[arg-type]


@pytest.mark.skipif(CUDA, reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_cuda_that_is_not_there_is_refused_in_words(device: str | torch.device) -> None:
    with pytest.raises(ModelError, match=r"device = 'cuda.*(no CUDA|no usable NVIDIA GPU).*device='auto' or 'cpu'"):
        choose_device(device)


@pytest.mark.skipif(MPS, reason="this machine has MPS")
def test_mps_that_is_not_there_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="no MPS device"):
        choose_device("mps")


@pytest.mark.gpu
@pytest.mark.skipif(not CUDA, reason="needs a CUDA device")
def test_cuda_is_named_with_its_memory() -> None:
    device, note = choose_device("cuda")
    assert device.type == "cuda"
    assert note.endswith(" GB")
    with pytest.raises(ModelError, match=r"CUDA device\(s\), numbered from 0"):
        choose_device(f"cuda:{torch.cuda.device_count()}")


def test_format_follows_the_device() -> None:
    assert choose_dtype("auto", torch.device("cuda"))[0] == torch.float16
    assert choose_dtype("auto", torch.device("cpu"))[0] == torch.float32
    assert choose_dtype("auto", torch.device("mps"))[0] == torch.float32


@pytest.mark.parametrize(
    ("given", "dtype", "name"),
    [
        ("fp32", torch.float32, "fp32"),
        ("float16", torch.float16, "fp16"),
        ("bf16", torch.bfloat16, "bf16"),
        ("bfloat16", torch.bfloat16, "bf16"),
        (torch.float16, torch.float16, "fp16"),
    ],
)
def test_formats_by_any_name(given: str | torch.dtype, dtype: torch.dtype, name: str) -> None:
    assert choose_dtype(given, torch.device("cpu")) == (dtype, "as asked")
    assert dtype_name(dtype) == name


@pytest.mark.parametrize("dtype", ["fp8", "half", "", torch.float64, torch.int8, None, 16])
def test_other_formats_are_refused(dtype: object) -> None:
    with pytest.raises(ModelError, match=r"dtype = .*must be 'auto', 'fp32', 'fp16' or 'bf16'"):
        choose_dtype(dtype, torch.device("cpu"))  # type: ignore[arg-type]
