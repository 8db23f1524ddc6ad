"""Models: names -> weights -> components. Nothing heavy is imported until it is used.

Example:
    >>> from svdlab.models import load_components, names
    >>> names()
    ('tiny', 'tiny-teacher', 'tiny-random', 'animatelcm-svd-xt-1.1', 'animatelcm-svd-xt', 'svd-xt-1.1', 'svd-xt', 'svd')
    >>> components = load_components("tiny")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from svdlab.lazy import lazily

if TYPE_CHECKING:
    from svdlab.models.cards import write_card
    from svdlab.models.catalogue import CATALOGUE, ModelInfo, info, names
    from svdlab.models.components import Components
    from svdlab.models.loading import fetch, load_components
    from svdlab.models.sources import is_local

_HOMES = {
    "CATALOGUE": "catalogue",
    "Components": "components",
    "ModelInfo": "catalogue",
    "fetch": "loading",
    "info": "catalogue",
    "is_local": "sources",
    "load_components": "loading",
    "names": "catalogue",
    "write_card": "cards",
}

__all__ = [
    "CATALOGUE",
    "Components",
    "ModelInfo",
    "fetch",
    "info",
    "is_local",
    "load_components",
    "names",
    "write_card",
]

__getattr__, __dir__ = lazily(__name__, _HOMES, __all__)
