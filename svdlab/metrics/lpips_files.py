"""Files of LPIPS weights: where they lie, how they are read and checked, and how svdlab keeps its own copy.

LPIPS has two parts: small linear heads, which the `lpips` package carries, and the five convolutions of torchvision's
AlexNet, which it does not. svdlab's own copy is a safetensors file with both, and with a checksum of its values.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from svdlab.errors import WeightsError
from svdlab.files import atomic_path, cache_dir

if TYPE_CHECKING:
    import torch

ENVIRONMENT = "SVDLAB_LPIPS_WEIGHTS"
TORCHVISION_FILE = "alexnet-owt-7be5be79.pth"
TORCHVISION_URL = f"https://download.pytorch.org/models/{TORCHVISION_FILE}"

# Position in torchvision's alexnet().features -> shape [out, in, height, width] of the convolution there.
CONVOLUTIONS = {
    0: (64, 3, 11, 11),
    3: (192, 64, 5, 5),
    6: (384, 192, 3, 3),
    8: (256, 384, 3, 3),
    10: (256, 256, 3, 3),
}
BACKBONE_SHAPES: dict[str, tuple[int, ...]] = {
    f"features.{i}.{part}": shape if part == "weight" else shape[:1]
    for i, shape in CONVOLUTIONS.items()
    for part in ("weight", "bias")
}


def cache_file() -> Path:
    """Where svdlab keeps the weights. The file is named, not created."""
    return cache_dir() / "lpips" / "alex-v0.1.safetensors"


def hub_file() -> Path:
    """Where `torch.hub`, and so torchvision, would keep its AlexNet: ``$TORCH_HOME/hub/checkpoints/``."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION_FILE


def how_to_get() -> str:
    """The ways to get the weights, as the end of an error message."""
    return (
        "Three ways to get the LPIPS weights: (1) with a network, run `svdlab weights lpips` (64 MB, once); "
        f"(2) put {TORCHVISION_URL} into {hub_file().parent}; "
        f"(3) set {ENVIRONMENT} to that file, or to a copy of {cache_file()} from another machine. "
        "Or leave the lpips metrics out."
    )


def read_backbone(path: Path) -> dict[str, torch.Tensor]:
    """The AlexNet convolutions of a weights file: torchvision's names, float32, on the CPU.

    Reads ``.safetensors``, and ``.pth`` or ``.pt`` with `torch.load(weights_only=True)`. The classifier is ignored.

    Raises:
        WeightsError: the file cannot be read, is damaged, or does not hold an AlexNet.
    """
    if path.suffix == ".safetensors":
        tensors = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt"):
        tensors = _read_torch(path)
    else:
        raise WeightsError(f"{path} cannot be read as LPIPS weights: allowed are .safetensors, .pth and .pt.")
    check_backbone(tensors, origin=str(path))
    return {name: tensors[name] for name in BACKBONE_SHAPES}


def check_backbone(tensors: dict[str, torch.Tensor], *, origin: str) -> None:
    """Check names, shapes, type and finiteness of AlexNet's convolutions in `tensors`.

    Raises:
        WeightsError: something differs; the text names it, and `origin`.
    """
    import torch

    if missing := [name for name in BACKBONE_SHAPES if name not in tensors]:
        raise WeightsError(f"{origin} is not torchvision's AlexNet: {', '.join(missing)} missing. {how_to_get()}")
    for name, shape in BACKBONE_SHAPES.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape or tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise WeightsError(
                f"{origin} is not torchvision's AlexNet: {name} must be finite float32 {list(shape)}, "
                f"not {tensor.dtype} {list(tensor.shape)}. {how_to_get()}"
            )


def package_heads() -> dict[str, torch.Tensor]:
    """The linear heads that the `lpips` package carries: ``lin0.model.1.weight`` ... float32 [1, channels, 1, 1].

    Raises:
        WeightsError: the package is not installed.
    """
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise WeightsError("the package lpips is not installed: run `pip install lpips`.")
    return _read_torch(Path(spec.origin).parent / "weights" / "v0.1" / "alex.pth")


def keep(backbone: dict[str, torch.Tensor], *, source: str) -> Path:
    """Write the backbone, with the heads beside it, into svdlab's cache; returns the file.

    Two processes may do this at once: each writes its own temporary file, and either may be moved into place last.
    """
    from safetensors.torch import save_file

    tensors = {name: t.contiguous() for name, t in {**backbone, **package_heads()}.items()}
    path = cache_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp:
        save_file(tensors, tmp, metadata={"source": source, "lpips": "0.1 alex", "sha256": digest(tensors)})
    return path


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names and values, in the order of the names: whatever the file around them, the same weights."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(name.encode())
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read: {error}. Delete it. {how_to_get()}") from error
    if "sha256" in metadata and metadata["sha256"] != digest(tensors):
        raise WeightsError(f"{path} is damaged: its values do not match its own checksum. Delete it. {how_to_get()}")
    return tensors


def _read_torch(path: Path) -> dict[str, torch.Tensor]:
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises nearly anything on a bad file
        raise WeightsError(f"{path} cannot be read as tensors: {type(error).__name__}. {how_to_get()}") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise WeightsError(f"{path} does not hold named tensors. {how_to_get()}")
    return tensors
