"""The layout of a diffusers folder: which files of which parts a model is made of.

    unet/               config.json, diffusion_pytorch_model.safetensors
    vae/                config.json, diffusion_pytorch_model.safetensors
    image_encoder/      config.json, model.safetensors
    feature_extractor/  preprocessor_config.json

Weights may also be a variant (`.fp16.` before the ending) or come in shards with an index. Everything here works on
names alone, so the same rules hold for a folder, for the hub's cache and for a listing of a repository.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svdlab.errors import ModelError
from svdlab.models.cards import CARD
from svdlab.request import Defaults

PICKLES = (".bin", ".ckpt", ".pt", ".pth")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One component of a model: its folder, its config, the stem of its weights and the class that must be in it."""

    name: str
    config: str
    stem: str = ""  # no weights: the feature extractor
    kind: tuple[str, str] = ("", "")  # key and value in the config


PARTS = (
    Part(
        name="unet",
        config="config.json",
        stem="diffusion_pytorch_model",
        kind=("_class_name", "UNetSpatioTemporalConditionModel"),
    ),
    Part(
        name="vae",
        config="config.json",
        stem="diffusion_pytorch_model",
        kind=("_class_name", "AutoencoderKLTemporalDecoder"),
    ),
    Part(name="image_encoder", config="config.json", stem="model", kind=("model_type", "clip_vision_model")),
    Part(name="feature_extractor", config="preprocessor_config.json"),
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to take of a folder or a repository.

    `weights` maps a part to its safetensors files, `variants` to "fp16" or None; `indexes` are the shards' tables of
    contents. All names are relative, with forward slashes.
    """

    configs: tuple[str, ...]
    weights: Mapping[str, tuple[str, ...]]
    variants: Mapping[str, str | None]
    indexes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # names of files that should be there
    pickles: tuple[str, ...] = ()  # pickled weights that lie where safetensors are missing

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the plan, configs first."""
        return (*self.configs, *self.indexes, *(name for names in self.weights.values() for name in names))

    def narrowed(self, half: bool) -> tuple[str, ...]:
        """Parts whose only weights are half precision although more was asked for."""
        return tuple(part for part, variant in self.variants.items() if variant == "fp16" and not half)


def plan(names: Collection[str], *, half: bool, unet_weights: bool = True) -> Plan:
    """Choose among `names` (relative paths) what makes up a model.

    With `half` the fp16 variant is preferred, otherwise the full weights; a part that exists in one form only is taken
    in that form. Without `unet_weights` the UNet's config is enough.

    Example:
        >>> plan(["unet/config.json", "vae/config.json"], half=True).missing[0]
        'unet/diffusion_pytorch_model.safetensors'
    """
    configs = [CARD] if CARD in names else []
    indexes: list[str] = []
    missing: list[str] = []
    pickles: list[str] = []
    weights: dict[str, tuple[str, ...]] = {}
    variants: dict[str, str | None] = {}
    for part in PARTS:
        config = f"{part.name}/{part.config}"
        (configs if config in names else missing).append(config)
        if not part.stem or (part.name == "unet" and not unet_weights):
            continue
        for variant in ("fp16", None) if half else (None, "fp16"):
            if chosen := _weights(names, part, variant):
                weights[part.name], index = chosen
                variants[part.name] = variant
                indexes += index
                break
        else:
            missing.append(f"{part.name}/{part.stem}.safetensors")
            pickles += sorted(n for n in names if n.startswith(f"{part.name}/") and n.endswith(PICKLES))
    return Plan(
        configs=tuple(configs),
        weights=weights,
        variants=variants,
        indexes=tuple(indexes),
        missing=tuple(missing),
        pickles=tuple(pickles),
    )


def index_name(part: Part, variant: str | None) -> str:
    """The shards' table of contents of one part in one variant.

    Example:
        >>> index_name(PARTS[2], "fp16")
        'image_encoder/model.safetensors.index.fp16.json'
    """
    return f"{part.name}/{part.stem}.safetensors.index{f'.{variant}' if variant else ''}.json"


def plan_file(names: Collection[str], file: str) -> Plan:
    """The plan of a repository from which one safetensors file is wanted, the UNet of a student."""
    found = {"unet": (file,)} if file in names else {}
    return Plan(configs=(), weights=found, variants={}, missing=() if found else (file,))


def _weights(names: Collection[str], part: Part, variant: str | None) -> tuple[tuple[str, ...], list[str]] | None:
    """Weight files of one part in one variant, and the index if they are shards; None unless they are complete.

    Where both a single file and shards lie in a folder, diffusers reads the shards and transformers the file.
    """
    middle = f".{variant}" if variant else ""
    single = f"{part.name}/{part.stem}{middle}.safetensors"
    index = index_name(part, variant)
    shard = re.compile(
        rf"{part.name}/{part.stem}{re.escape(middle)}-\d{{5}}-of-(\d{{5}})\.safetensors"
        + (rf"|{part.name}/{part.stem}-\d{{5}}-of-(\d{{5}}){re.escape(middle)}\.safetensors" if middle else "")
    )
    found = [match for name in sorted(names) if (match := shard.fullmatch(name))]
    whole = index in names and found and all(int(match[match.lastindex or 1]) == len(found) for match in found)
    shards = (tuple(match[0] for match in found), [index]) if whole else None
    alone: tuple[tuple[str, ...], list[str]] | None = ((single,), []) if single in names else None
    return shards or alone if part.name != "image_encoder" else alone or shards


def listing(folder: Path) -> set[str]:
    """Names of the files in a folder and in its direct subfolders, relative, with forward slashes; hidden ones not."""
    paths = (path for depth in ("[!.]*", "[!.]*/[!.]*") for path in folder.glob(depth))
    return {path.relative_to(folder).as_posix() for path in paths if path.is_file()}


def check_complete(found: Plan, where: str, names: Iterable[str]) -> None:
    """Refuse a plan that lacks something, and say what to do.

    Raises:
        ModelError: files are missing, or the weights are pickles.
    """
    if found.pickles:
        raise ModelError(
            f"{where}: {', '.join(found.pickles)} would have to be unpickled, and a pickle can run any code while it"
            " loads. Only safetensors are read. Convert it once, in a place that you trust, by loading the component"
            " and calling save_pretrained(folder, safe_serialization=True)."
        )
    if found.missing:
        here = sorted(names)
        lies = f" There are: {', '.join(here[:8])}{', ...' if len(here) > 8 else ''}." if here else " It is empty."
        raise ModelError(
            f"{where}: not a whole model in the layout of diffusers. Missing: {', '.join(found.missing)}.{lies}"
            " Expected are the folders unet, vae, image_encoder and feature_extractor, each with its config, and"
            " weights as safetensors."
        )


def read_configs(folder_of: Callable[[str], Path]) -> dict[str, dict[str, Any]]:
    """Configs of all parts by the part's name, checked to be those of SVD's classes and to fit together.

    Args:
        folder_of: where the part of a name lies.

    Raises:
        ModelError: a config is not JSON, is of another class, or two of them do not fit.
    """
    configs = {part.name: _read_json(folder_of(part.name) / part.config) for part in PARTS}
    for part in PARTS:
        key, wanted = part.kind
        if wanted and configs[part.name].get(key) != wanted:
            raise ModelError(
                f"{folder_of(part.name) / part.config}: {key} is {configs[part.name].get(key)!r}, and must be"
                f" {wanted!r}. svdlab runs Stable Video Diffusion and models of its classes."
            )
    with sensible(folder_of("unet").parent):
        _check_pairs(configs, folder_of("unet").parent)
    return configs


@contextmanager
def sensible(where: Path) -> Iterator[None]:
    """Say in words that a config has a text where a number belongs, and the like."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{where}: a config has a value of the wrong kind ({error}). Fetch the model anew.") from error


def _check_pairs(configs: Mapping[str, Mapping[str, Any]], where: Path) -> None:
    """Refuse parts of two models."""
    unet, vae, clip = (configs[name] for name in ("unet", "vae", "image_encoder"))
    latent = vae.get("latent_channels", 4)
    pairs = (
        ("unet in_channels", unet.get("in_channels", 8), "twice the vae's latent_channels", 2 * latent),
        ("unet out_channels", unet.get("out_channels", 4), "the vae's latent_channels", latent),
        (
            "unet cross_attention_dim",
            unet.get("cross_attention_dim", 1024),
            "the image_encoder's projection_dim",
            clip.get("projection_dim", 512),
        ),
        (
            "unet projection_class_embeddings_input_dim",
            unet.get("projection_class_embeddings_input_dim", 768),
            "three times addition_time_embed_dim",
            3 * unet.get("addition_time_embed_dim", 256),
        ),
    )
    for name, value, rule, wanted in pairs:
        if value != wanted and not (isinstance(value, list) and set(value) == {wanted}):
            raise ModelError(f"{where}: {name} = {value}, and must be {rule}, {wanted}. These parts are of two models.")


def general_defaults(configs: Mapping[str, Mapping[str, Any]]) -> Defaults:
    """Defaults for a model without a card: sizes from its configs, sampling as a teacher's (25 Euler steps, guidance).

    SVD's own UNets state a square sample_size of 96, at which they were never tuned; they get 1024 x 576.
    """
    unet, vae = configs["unet"], configs["vae"]
    factor = 2 ** (len(vae.get("block_out_channels", [64])) - 1)
    frames = unet.get("num_frames") or 25
    sample = unet.get("sample_size")
    if sample is None or (sample, factor) == (96, 8):
        width, height = 1024, 576
    else:
        latent_height, latent_width = sample if isinstance(sample, list) else (sample, sample)
        width, height = latent_width * factor, latent_height * factor
    return Defaults(
        num_frames=frames,
        width=width,
        height=height,
        size_factor=factor,
        schedule="karras",
        gamma=0.0,
        max_guidance=3.0,
        good_steps=25,
        decode_chunk=min(5, frames) if width * height > 512 * 512 else None,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}). Fetch the model anew.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: must be a JSON object, and is a {type(value).__name__}. Fetch the model anew.")
    return value
