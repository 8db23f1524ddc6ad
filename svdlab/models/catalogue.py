"""The catalogue: the models that have a name of their own.

A folder `svdlab/models/bundled/<name>` with the layout of diffusers and a card (`svdlab.json`) is in the catalogue by
being there.

Sources: Stable Video Diffusion (Blattmann et al. 2023, arXiv 2311.15127); AnimateLCM (Wang et al. 2024,
arXiv 2402.00769), whose two SVD students are whole UNets that take the place of the UNet of `svd-xt`.
"""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from svdlab.errors import ModelError
from svdlab.models.cards import ModelInfo, read_card
from svdlab.request import Defaults

BUNDLED = Path(__file__).parent / "bundled"

# Twenty-five frames at once need tens of GB in the decoder; chunks of 5 fit a common GPU and leave no chunk of a lone
# frame (25 = 5 x 5; the 14 frames of `svd` are 2 x 7). One value for student and teacher keeps them comparable.
_STUDENT = Defaults(num_frames=25, width=1024, height=576, decode_chunk=5)
_TEACHER = Defaults(
    num_frames=25,
    width=1024,
    height=576,
    decode_chunk=5,
    schedule="karras",
    gamma=0.0,
    min_guidance=1.0,
    max_guidance=3.0,
    good_steps=25,
)
_SVD_GB = 4.51  # UNet 3.05, CLIP 1.26, VAE 0.20
_STABILITY = "Stability AI community licence"

_ENTRIES = (
    ModelInfo(
        name="tiny-random",
        title="Random weights, for tests",
        kind="random",
        defaults=Defaults(num_frames=25, width=64, height=64),
        licence="Apache-2.0",
        memory_gb=0.006,
        notes="Seeded random weights: fast, reacts to every knob, and means nothing.",
    ),
    ModelInfo(
        name="animatelcm-svd-xt-1.1",
        title="AnimateLCM-SVD-xt 1.1 (1 to 8 steps)",
        kind="student",
        defaults=_STUDENT,
        licence=_STABILITY,
        memory_gb=_SVD_GB,
        download_gb=7.56,  # its UNet is published in fp32: 6.10
        repo_id="wangfuyun/AnimateLCM-SVD-xt",
        base="svd-xt",
        unet_file="AnimateLCM-SVD-xt-1.1.safetensors",
        notes="The default real model. Distilled at one motion bucket (127) and fps, so expect little of either. Its"
        " weights derive from SVD and keep SVD's licence; AnimateLCM's code is MIT.",
    ),
    ModelInfo(
        name="animatelcm-svd-xt",
        title="AnimateLCM-SVD-xt (1 to 8 steps)",
        kind="student",
        defaults=_STUDENT,
        licence=_STABILITY,
        memory_gb=_SVD_GB,
        download_gb=7.56,
        repo_id="wangfuyun/AnimateLCM-SVD-xt",
        base="svd-xt",
        unet_file="AnimateLCM-SVD-xt.safetensors",
        notes="The first of the two students.",
    ),
    ModelInfo(
        name="svd-xt-1.1",
        title="Stable Video Diffusion XT 1.1 (25 steps)",
        kind="teacher",
        defaults=_TEACHER,
        licence=_STABILITY,
        memory_gb=_SVD_GB,
        download_gb=_SVD_GB,
        repo_id="stabilityai/stable-video-diffusion-img2vid-xt-1-1",
        notes="Gated: its licence must be accepted on its page. Fine-tuned at 6 fps and motion bucket 127.",
    ),
    ModelInfo(
        name="svd-xt",
        title="Stable Video Diffusion XT (25 steps)",
        kind="teacher",
        defaults=_TEACHER,
        licence=_STABILITY,
        memory_gb=_SVD_GB,
        download_gb=_SVD_GB,
        repo_id="stabilityai/stable-video-diffusion-img2vid-xt",
        notes="25 frames.",
    ),
    ModelInfo(
        name="svd",
        title="Stable Video Diffusion (14 frames, 25 steps)",
        kind="teacher",
        defaults=Defaults(**{**vars(_TEACHER), "num_frames": 14, "decode_chunk": 7}),
        licence=_STABILITY,
        memory_gb=_SVD_GB,
        download_gb=_SVD_GB,
        repo_id="stabilityai/stable-video-diffusion-img2vid",
        notes="14 frames.",
    ),
)


def bundled(root: Path = BUNDLED) -> dict[str, ModelInfo]:
    """The models that come with the package: every folder of `root` that carries a card, under the folder's name.

    Raises:
        ModelError: a card cannot be read.
    """
    cards = {folder.name: read_card(folder) for folder in sorted(root.glob("*/"))}
    return {name: replace(card, name=name) for name, card in cards.items() if card is not None}


CATALOGUE: dict[str, ModelInfo] = {**bundled(), **{entry.name: entry for entry in _ENTRIES}}
"""Every model with a name, in the order of the tables."""


def names() -> tuple[str, ...]:
    """The names in the catalogue.

    Example:
        >>> "svd-xt" in names()
        True
    """
    return tuple(CATALOGUE)


def info(name: str) -> ModelInfo:
    """The catalogue's entry of a name.

    Raises:
        ModelError: there is no such name; the message offers the nearest.

    Example:
        >>> info("animatelcm-svd-xt-1.1").repo_id
        'wangfuyun/AnimateLCM-SVD-xt'
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    close = difflib.get_close_matches(str(name).lower(), CATALOGUE, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise ModelError(
        f"model = {name!r}: not in the catalogue, and no folder of that name. {hint}Names: {', '.join(CATALOGUE)}."
        " A local diffusers folder ('./my-model') or a hub repository ('org/name') is taken too."
    )
