"""Columns: what each column of a sweep's table means: its unit, which way is better, and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from svdlab.metrics import registry

# Name -> unit and meaning. Settings are explained at length by `svdlab.request.Request`.
_SETTINGS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "motion_bucket_id": ("", "how much motion is asked for, 0 to 1023"),
        "cond_aug": ("", "standard deviation of the noise on the conditioning picture, whose values are -1 to 1"),
        "seed": ("", "decides all noise of the clip"),
        "steps": ("", "steps of the sampler, each a call of the denoiser"),
        "fps": ("frames/s", "frame rate, which conditions the model too"),
        "num_frames": ("frames", "length of the clip"),
        "width": ("px", "width of the clip"),
        "height": ("px", "height of the clip"),
        "schedule": ("", "how the noise levels are spaced"),
        "gamma": ("", "share of re-noising after a step: 1 latent consistency, 0 Euler"),
        "sigma_max": ("", "noise level at which sampling starts, in EDM units"),
        "min_guidance": ("", "guidance at the first frame"),
        "max_guidance": ("", "guidance at the last frame; 1 is off"),
        "decode_chunk": ("frames", "frames in a call of the decoder"),
    }
)
_COSTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "seconds": ("s", "what generating the clip would cost alone"),
        "seconds_denoise": ("s", "of these, the denoiser's share"),
        "seconds_decode": ("s", "of these, the decoder's share"),
        "seconds_spent": ("s", "what generating it took, less where conditioning was shared"),
        "vram_peak_mb": ("MB", "peak memory of the CUDA device, in 10^6 bytes"),
    }
)
_OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "sweep": "which of the merged sweeps",
        "cell": "key of the cell: a hash of request, picture and weights",
        "image": "label of the picture",
        "status": "done, failed, skipped or pending",
        "video": "the mp4, relative to the run directory",
        "error": "why the cell failed, or which of its metrics broke",
        "declared": "whether the cell is in the current declaration",
        "model": "fingerprint of the weights",
    }
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """What is known about one column.

    Attributes:
        name: of the column.
        kind: ``setting``, ``metric``, ``cost`` or ``about``.
        unit: such as ``"px/frame"``; empty for plain numbers and text.
        direction: ``higher`` or ``lower`` is better, or ``neutral``.
        version: of a metric; several, such as ``"1, 2"``, if its values do not compare; empty for what has none.
        description: one sentence.
    """

    name: str
    kind: str
    unit: str = ""
    direction: str = "neutral"
    version: str = ""
    description: str = ""

    def metadata(self) -> dict[str, str]:
        """What goes beside the column into files: all but the name; empty texts are left out."""
        about = {
            "kind": self.kind,
            "unit": self.unit,
            "direction": self.direction if self.kind in ("metric", "cost") else "",
            "version": self.version,
            "description": self.description,
        }
        return {key: value for key, value in about.items() if value}


def describe_columns(names: Iterable[str], versions: Mapping[str, Iterable[int]] | None = None) -> dict[str, Column]:
    """What the columns `names` mean: name -> `Column`. A name that nobody knows is described by its name alone.

    Args:
        names: columns of `Sweep.frame` or of a table that came from it.
        versions: metric -> the versions that its values have; by default, the version in the registry.

    Example:
        >>> describe_columns(["flow_mean"])["flow_mean"].unit
        'px/frame'
    """
    return {name: _column(name, versions or {}) for name in names}


def _column(name: str, versions: Mapping[str, Iterable[int]]) -> Column:
    if name in _SETTINGS:
        unit, description = _SETTINGS[name]
        return Column(name=name, kind="setting", unit=unit, description=description)
    if name in _COSTS:
        unit, description = _COSTS[name]
        return Column(name=name, kind="cost", unit=unit, direction="lower", description=description)
    if name in registry.names():
        metric = registry.get(name)
        known = versions.get(name, [metric.version])
        return Column(
            name=name,
            kind="metric",
            unit=metric.unit,
            direction=metric.direction,
            version=_listed(known),
            description=" ".join(metric.description.split("\n\n")[0].split()),
        )
    if name in versions:  # a metric of somebody's own, which is not registered here
        return Column(name=name, kind="metric", version=_listed(versions[name]))
    return Column(name=name, kind="about", description=_OTHERS.get(name, ""))


def _listed(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(set(versions))))
