"""Metrics on networks whose weights the user gives: DINO or CLIP likeness, RAFT motion, aesthetics.

None of them exists until one of the `use_` functions has put it into the registry with certain weights. The version of
each says which: the same weights have the same version everywhere, other weights have another, and values of different
versions are told apart by every table. Two networks side by side are two prefixes, and so two sets of columns.

Example:
    >>> metrics.use_encoder("dino", "weights/dino-vitb16")
    ('dino_consistency', 'dino_input', 'dino_i2v')
    >>> sweep.backfill(["dino_consistency"], pipe=pipe)
"""

from __future__ import annotations

import functools
import os
import re
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics import vbench
from svdlab.metrics.clip_similarity import Embeddings, embed
from svdlab.metrics.context import Scoring
from svdlab.metrics.network_files import weights_version
from svdlab.metrics.registry import metric
from svdlab.metrics.vbench_forms import FAMILY, I2V_SOURCE, SOURCE, check_free, forms, need_two, needed_fps

if TYPE_CHECKING:
    from svdlab.metrics.feature_networks import ImageEncoder, Raft

T = TypeVar("T")

FORMULA = 1  # raised whenever a formula here changes its numbers
_PREFIX = re.compile(r"[a-z][a-z0-9]*")
_OWN = ("clip", "dis", "raft", "flow", "lpips", "aesthetic")  # prefixes that mean something else already
_USUAL = re.compile(r"(?:dino|vit|clip)[a-z0-9]+|dino|vit")  # prefixes that people choose
_ENCODED = ("consistency", "input", "i2v")
_RAFT = ("raft_mean", "raft_dynamic", "raft_dynamic_ratio")
_LINEAR = "aesthetic_linear"


def use_encoder(
    prefix: str,
    weights: str | os.PathLike[str],
    *,
    revision: str | None = None,
    download: bool = False,
    device: str = "cpu",
) -> tuple[str, ...]:
    """Put ``{prefix}_consistency``, ``{prefix}_input`` and ``{prefix}_i2v`` into the registry, and return the names.

    VBench's subject consistency takes DINO ViT-B/16, its background consistency CLIP ViT-B/32. With these, formula and
    preprocessing are VBench's; what may still differ is the implementation of the network, and the frames, which here
    have not been through a codec. I2V subject takes DINO too, in some versions on cropped pictures; here they are
    whole. The prefix says in the column which network it was.

    Args:
        prefix: small letters and digits, such as ``"dino"``, ``"dinov2s"`` or ``"clipb32"``.
        weights: a folder with ``config.json`` and ``model.safetensors``, or a hub repository "org/name". ViT, DINOv2
            and CLIP are known.
        revision: branch, tag or commit of the repository.
        download: fetch the repository if it is not in the hub's cache; never done otherwise.
        device: where the network runs.

    Raises:
        WeightsError: the weights are not there, or not of such a network.
        MetricError: the prefix is not allowed, a name is taken, or there is no such device.

    Example:
        >>> metrics.use_encoder("dino", "facebook/dino-vitb16", download=True)
        ('dino_consistency', 'dino_input', 'dino_i2v')
    """
    from svdlab.metrics.feature_networks import load_image_encoder

    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or prefix in _OWN:
        raise MetricError(
            f"prefix={prefix!r} must be small letters and digits, beginning with a letter, and none of "
            f"{', '.join(_OWN)}, which mean something else. Say which network it is, such as 'dino' or 'clipb32'."
        )
    names = tuple(f"{prefix}_{form}" for form in _ENCODED)
    check_free(names)
    encoder = load_image_encoder(weights, revision=revision, download=download, device=device)
    settings = {"encoder": encoder.label, "weights": encoder.fingerprint, **encoder.preprocessing}
    embeddings = _once(functools.partial(_embedded, encoder))

    def consistency(scoring: Scoring) -> np.ndarray:
        """Mean of the cosines of each frame to the one before and to the first, cut off at 0. 1 for a frozen clip.

        The formula of VBench's subject and background consistency. Read it beside `flow_mean`.
        """
        return vbench.consistency(embeddings(scoring).frames)

    def to_input(scoring: Scoring) -> np.ndarray:
        """Faithfulness of content: mean cosine between each frame and the input picture. Falls with any motion."""
        found = embeddings(scoring)
        assert found.image is not None
        return np.clip((found.frames * found.image).sum(-1), -1, 1)

    def i2v(scoring: Scoring) -> float:
        """0.4 max cos(input, f) + 0.3 mean + 0.3 min of cos(f_t, f_t+1), the formula of VBench-I2V's subject.

        Takes the best frame, so it hardly sees a clip that leaves its input: read the mean likeness beside it.
        """
        found = embeddings(scoring)
        assert found.image is not None
        return vbench.i2v(found.image, found.frames)

    about: dict[str, Any] = {
        "direction": "higher",
        "version": weights_version(FORMULA, encoder.fingerprint),
        "family": FAMILY,
        "settings": settings,
    }
    with_image = {"needs": {"image"}, **about}
    subject = f"subject or background consistency, with {encoder.label}"
    cosine = f"cosine of image embeddings, with {encoder.label}"
    likeness = f"image-to-video likeness, with {encoder.label}"
    metric(names[0], range=(0, 1), per_frame=True, min_frames=2, source=SOURCE.format(subject), **about)(consistency)
    metric(names[1], range=(-1, 1), per_frame=True, source=cosine, **with_image)(to_input)
    metric(names[2], range=(0, 1), min_frames=2, source=I2V_SOURCE.format(likeness), **with_image)(i2v)
    return names


def use_raft(weights: str | os.PathLike[str], *, device: str = "cpu") -> tuple[str, ...]:
    """Put `raft_mean`, `raft_dynamic` and `raft_dynamic_ratio` into the registry, and return the names.

    VBench's dynamic degree takes RAFT-things, by the authors' code. torchvision's ``Raft_Large_Weights.C_T_V1`` are the
    authors' weights, ported; C_T_V2 are torchvision's own.

    Args:
        weights: a safetensors file of torchvision's ``raft_small`` or ``raft_large``.
        device: where the network runs.

    Raises:
        WeightsError: the file is not there, or not such a network's.
        MetricError: a name is taken, or there is no such device.

    Example:
        >>> metrics.use_raft("weights/raft_large.safetensors")
        ('raft_mean', 'raft_dynamic', 'raft_dynamic_ratio')
    """
    from svdlab.metrics.feature_networks import RAFT_UPDATES, load_raft

    check_free(_RAFT)
    raft = load_raft(weights, device=device)
    neighbours = _once(lambda scoring: _motion(raft, scoring.frames))

    def raft_mean(scoring: Scoring) -> np.ndarray:
        """Amount of motion: mean length of RAFT's flow in px per frame, at full size. As `flow_mean`, by RAFT."""
        return neighbours(scoring)[0]

    def raft_dynamic_ratio(scoring: Scoring) -> float:
        """The motion that `raft_dynamic` decides by, over its threshold: above 1 the clip counts as moving."""
        frames = vbench.at_motion_rate(scoring.frames, needed_fps(scoring))
        need_two(frames)
        whole = len(frames) == len(scoring.frames)
        tops = neighbours(scoring)[1] if whole else _motion(raft, frames)[1]
        return vbench.dynamic_ratio(tops, width=scoring.width, height=scoring.height)

    def raft_dynamic(scoring: Scoring) -> float:
        """Whether the clip moves, 1 or 0, by the rule of VBench's dynamic degree.

        1 if about a quarter of the pairs, at 8 frames a second, have a top-5-% flow above 6 min(height, width) / 256
        px. Depends on the clip's fps. The mean over a sweep is the share of moving clips.
        """
        return float(ratio(scoring) > 1)

    ratio = _once(raft_dynamic_ratio)
    settings = {"raft": raft.size, "weights": raft.fingerprint, "updates": RAFT_UPDATES}
    about: dict[str, Any] = {
        "version": weights_version(FORMULA, raft.fingerprint),
        "family": FAMILY,
        "settings": settings,
        "min_frames": 2,
    }
    rule = SOURCE.format(f"dynamic degree, with {raft.label}")
    flow = f"magnitude of RAFT optical flow (Teed and Deng 2020), with {raft.label}"
    metric("raft_mean", unit="px/frame", range=(0, np.inf), per_frame=True, source=flow, **about)(raft_mean)
    metric("raft_dynamic", range=(0, 1), source=rule, **about)(raft_dynamic)
    metric("raft_dynamic_ratio", range=(0, np.inf), source=rule, **about)(raft_dynamic_ratio)
    return _RAFT


def use_aesthetic(
    clip: str | os.PathLike[str],
    head: str | os.PathLike[str],
    *,
    revision: str | None = None,
    download: bool = False,
    device: str = "cpu",
) -> tuple[str, ...]:
    """Put `aesthetic_linear` into the registry: a linear head on CLIP embeddings. Returns the name.

    VBench's aesthetic quality takes CLIP ViT-L/14 and LAION's ``sa_0_4_vit_l_14_linear``, converted to safetensors.

    Args:
        clip: folder or hub repository of the CLIP that the head was trained on, for VBench's
            "openai/clip-vit-large-patch14".
        head: safetensors file with ``weight`` [1, size] and ``bias`` [1].
        revision, download: of the repository, as for `use_encoder`.
        device: where the network runs.

    Raises:
        WeightsError: weights are not there, or do not fit each other.
        MetricError: the name is taken, or there is no such device.
    """
    from svdlab.metrics.feature_networks import load_aesthetic, load_image_encoder

    check_free((_LINEAR,))
    rater = load_aesthetic(head, load_image_encoder(clip, revision=revision, download=download, device=device))

    def aesthetic_linear(scoring: Scoring) -> np.ndarray:
        """What a linear head on CLIP takes people's rating of each frame to be, over 10; mean over the clip.

        The formula of VBench's aesthetic quality. One value a frame, blind to time; the scale is that of the people
        and pictures that the head was trained on, and not bounded by 0 and 1.
        """
        return rater.rate(rater.encoder.embed(scoring.frames))

    metric(
        _LINEAR,
        direction="higher",
        per_frame=True,
        version=weights_version(FORMULA, rater.fingerprint),
        family=FAMILY,
        settings={"encoder": rater.encoder.label, "head": rater.label, "weights": rater.fingerprint},
        source=SOURCE.format(f"aesthetic quality, with {rater.encoder.label} and {rater.label}"),
    )(aesthetic_linear)
    return (_LINEAR,)


def how_to_have(name: str) -> str:
    """How to get a metric that is not in the registry but could be, in words; empty for a name that means nothing here.

    Example:
        >>> how_to_have("raft_dynamic")
        "svdlab.metrics.use_raft('raft_large.safetensors') adds it, with weights that you give; nothing is ..."
    """
    given = "with weights that you give; nothing is downloaded unless you say so"
    if name in forms():
        return "svdlab.metrics.use_vbench_forms() adds it."
    if name in _RAFT:
        return f"svdlab.metrics.use_raft('raft_large.safetensors') adds it, {given}."
    if name == _LINEAR:
        return f"svdlab.metrics.use_aesthetic('clip-vit-large-patch14', 'linear.safetensors') adds it, {given}."
    prefix, _, form = name.rpartition("_")
    if form in _ENCODED and _USUAL.fullmatch(prefix):
        return f"svdlab.metrics.use_encoder({prefix!r}, 'folder or org/name') adds it, {given}."
    return ""


def _embedded(encoder: ImageEncoder, scoring: Scoring) -> Embeddings:
    return embed(Scoring(scoring.frames, image=scoring.image, encoder=encoder))


def _motion(raft: Raft, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean length, and mean of the largest 5 %, of the flow of each pair of neighbours: float64 [pairs] each."""
    fields = (raft.lengths(a, b) for a, b in pairwise(frames))
    pairs = [(float(lengths.mean(dtype=np.float64)), vbench.top_lengths(lengths)) for lengths in fields]
    means, tops = np.array(pairs).T
    return means, tops


def _once(compute: Callable[[Scoring], T]) -> Callable[[Scoring], T]:
    """`compute`, once for each scoring context, for as long as that lives."""
    kept: weakref.WeakKeyDictionary[Scoring, T] = weakref.WeakKeyDictionary()

    def lookup(scoring: Scoring) -> T:
        if scoring not in kept:
            kept[scoring] = compute(scoring)
        return kept[scoring]

    return lookup
