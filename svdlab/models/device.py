"""Which device and number format to compute in, and why, in words."""

from __future__ import annotations

import torch

from svdlab.errors import ModelError

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def dtype_name(dtype: torch.dtype) -> str:
    """Short name of a supported format.

    Example:
        >>> dtype_name(torch.float16)
        'fp16'
    """
    return next(name for name, known in DTYPES.items() if known == dtype)


def choose_device(device: str | torch.device = "auto") -> tuple[torch.device, str]:
    """The device asked for, or for "auto" the best there is (CUDA, then MPS, else the CPU); and a note on it.

    Raises:
        ModelError: the device is unknown, not there, or holds no tensors.

    Example:
        >>> choose_device("cpu")
        (device(type='cpu'), 'as asked')
    """
    if device == "auto":
        if torch.cuda.is_available():
            return choose_device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU"
        return torch.device("cpu"), "no CUDA or MPS device was found"
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"device = {device!r}: {_allowed_devices()}.") from error
    if chosen.type == "cuda":
        return _cuda(chosen)
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(f"device = {str(device)!r}: this machine has no MPS device. Use 'cpu' or 'auto'.")
    if chosen.type not in ("cpu", "mps"):
        raise ModelError(f"device = {str(device)!r}: {_allowed_devices()}.")
    return chosen, "Apple GPU" if chosen.type == "mps" else "as asked"


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> tuple[torch.dtype, str]:
    """The format asked for, or for "auto" fp16 on CUDA and fp32 elsewhere; and the reason.

    Raises:
        ModelError: the format is not one of fp32, fp16 and bf16.

    Example:
        >>> choose_dtype("fp16", torch.device("cpu"))
        (torch.float16, 'as asked')
    """
    if isinstance(dtype, str) and dtype == "auto":
        if device.type == "cuda":
            return torch.float16, "half the memory and less time; SVD was published in it"
        return torch.float32, f"half precision is slow or inexact on {device.type}"
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise ModelError(f"dtype = {dtype!r}: must be 'auto', 'fp32', 'fp16' or 'bf16', or the torch.dtype of one.")
    return chosen, "as asked"


def _cuda(device: torch.device) -> tuple[torch.device, str]:
    if not torch.cuda.is_available():
        built = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no usable NVIDIA GPU"
        raise ModelError(
            f"device = {str(device)!r}: {built}. Use device='auto' or 'cpu', or install a torch that fits the driver."
        )
    if (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device = {str(device)!r}: this machine has {torch.cuda.device_count()} CUDA device(s), numbered from 0."
        )
    properties = torch.cuda.get_device_properties(device)
    return device, f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"


def _allowed_devices() -> str:
    return "must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps'"
