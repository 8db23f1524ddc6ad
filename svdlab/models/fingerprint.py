"""What a model is, in 16 digits: a hash of its content that no path, folder, device or download date changes.

It covers the bytes of every weight file and the meaning of every config. So the same files have the same fingerprint
in a local folder and in the hub's cache, while other weights, another variant (fp16 or full) or another number format
have another one: they make other pixels.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdlab.files import sha256_bytes, sha256_file

if TYPE_CHECKING:
    import torch

# Who wrote a config, with which version and in which number format, is no part of what it says.
_NOISE = {"architectures", "dtype", "torch_dtype", "transformers_version"}
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fingerprint(parts: Mapping[str, Iterable[str]], dtype: str) -> str:
    """Fingerprint of a model: per part the hashes of its content, in any order, and the name of the number format.

    Example:
        >>> fingerprint({"unet": ["a" * 64]}, "fp32")[16:]
        '-fp32'
    """
    content = json.dumps({part: sorted(hashes) for part, hashes in parts.items()}, sort_keys=True)
    return f"{sha256_bytes(content.encode())[:16]}-{dtype}"


def hash_weights(path: Path) -> str:
    """SHA-256 of a weight file.

    In the hub's cache a large file is a link to a blob whose name is the SHA-256 that the hub checked on download, so
    the gigabytes need not be read again.
    """
    if path.is_symlink():
        target = path.resolve()
        if target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
            return target.name
    return sha256_file(path)


def hash_config(config: Mapping[str, Any]) -> str:
    """SHA-256 of what a config says, whatever the order of its keys and whoever wrote it."""
    meaning = {key: value for key, value in config.items() if not key.startswith("_") and key not in _NOISE}
    return sha256_bytes(json.dumps(meaning, sort_keys=True).encode())


def hash_tensors(model: torch.nn.Module) -> str:
    """SHA-256 of a model's tensors: names, shapes, formats and bytes, wherever they lie."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
