"""load_components: a name or a folder -> networks, ready to run, with a fingerprint of what they are."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from svdlab.errors import ModelError
from svdlab.models import catalogue, tiny_random
from svdlab.models.components import Components
from svdlab.models.device import choose_device, choose_dtype, dtype_name
from svdlab.models.fingerprint import fingerprint, hash_config, hash_tensors, hash_weights
from svdlab.models.guard import check_part
from svdlab.models.layout import PARTS as LAYOUT
from svdlab.models.layout import Part, index_name, read_configs
from svdlab.models.placement import PARTS, check_way, place
from svdlab.models.sources import Source, locate

if TYPE_CHECKING:
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

log = logging.getLogger("svdlab")


def load_components(
    name_or_path: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    download: bool = True,
    low_memory: str | bool = "none",
) -> Components:
    """Load a model: its UNet, VAE, image encoder and feature extractor.

    Args:
        name_or_path: a name from the catalogue, a local diffusers folder (with or without `svdlab.json`), or a hub
            repository "org/name".
        device: "auto" (CUDA, then MPS, else the CPU), or one by name.
        dtype: "auto" (fp16 on CUDA, else fp32), "fp32", "fp16", "bf16", or a torch.dtype.
        revision: branch, tag or commit on the hub; None: the catalogue's, else the main branch.
        download: False never uses the network. So does the environment variable HF_HUB_OFFLINE=1.
        low_memory: "none", "slices", "parts", or "auto" for what fits (`svdlab.models.placement`). With "parts" the
            networks stay in the machine's memory until `Components.take` brings one to the device.

    Raises:
        ModelError: the model is unknown, missing, gated, damaged, pickled or of another kind; its parts do not fit; or
            the device is not there or too small.

    Example:
        >>> components = load_components("tiny")
        >>> components.unet.config.num_frames
        25
    """
    chosen_device, device_note = choose_device(device)
    chosen_dtype, dtype_note = choose_dtype(dtype, chosen_device)
    wanted = check_way(low_memory)
    if os.fspath(name_or_path) == "tiny-random":
        found = _build_random(revision)
    else:
        half = chosen_dtype != torch.float32
        source = locate(name_or_path, half=half, revision=revision, download=download)
        found = _load(source, chosen_dtype)
        if narrowed := source.plan.narrowed(half):
            log.info("%s: only fp16 weights are there for %s; widened to fp32", source.info.name, ", ".join(narrowed))
    placed = place(wanted, found, found["info"].defaults, chosen_device)
    told = placed.way != "none" or (wanted == "auto" and chosen_device.type == "cuda")  # else nothing was done about it
    log.info(
        "%s (%s): device %s (%s), dtype %s (%s)%s",
        found["name"],
        found["source"],
        chosen_device,
        device_note,
        str(chosen_dtype).removeprefix("torch."),
        dtype_note,
        f", low_memory {placed.way} ({placed.reason})" if told else "",
    )
    hashes = found.pop("hashes")
    home = torch.device("cpu") if placed.way == "parts" else chosen_device
    for part in PARTS:
        found[part] = _move(found[part], part, home, chosen_dtype, found["info"].memory_gb)
    return Components(
        **found,
        defaults=found["info"].defaults,
        device=chosen_device,
        dtype=chosen_dtype,
        fingerprint=fingerprint(hashes, dtype_name(chosen_dtype)),
        low_memory=placed.way,
    )


def fetch(name: str, *, dtype: str | torch.dtype = "auto", revision: str | None = None) -> Path | None:
    """Have a model's weights on this machine, ahead of the first load: the file or folder where they are.

    Only the configs and safetensors that `load_components(name, dtype=dtype)` would read are fetched, into the hub's
    own cache. None if there is nothing to fetch (`tiny-random`).

    Raises:
        ModelError: as `load_components`.

    Example:
        >>> fetch("tiny-random") is None
        True
    """
    if name == "tiny-random":
        return None
    device, _ = choose_device("auto")
    chosen, _ = choose_dtype(dtype, device)
    source = locate(name, half=chosen != torch.float32, revision=revision)
    return source.unet_file or source.folder


def _build_random(revision: str | None) -> dict[str, Any]:
    if revision is not None:
        raise ModelError(f"revision = {revision!r}: tiny-random is built in memory and has no revisions. Leave it out.")
    unet, vae, image_encoder, feature_extractor = tiny_random.build(seed=0)
    models: dict[str, torch.nn.Module] = {"unet": unet, "vae": vae, "image_encoder": image_encoder}
    info = catalogue.info("tiny-random")
    return {
        "name": info.name,
        "info": info,
        **models,
        "feature_extractor": feature_extractor,
        "revision": None,
        "source": "random weights, seed 0; built in memory",
        "hashes": {
            part: [hash_tensors(model), hash_config(tiny_random.CONFIGS[part])] for part, model in models.items()
        },
    }


def _load(source: Source, dtype: torch.dtype) -> dict[str, Any]:
    """Read a model's files into memory, on the CPU, once everything that can be known beforehand fits."""
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor

    configs = read_configs(source.folder_of)
    _check(source, configs)
    hashes = {
        part: [hash_config(config), *(hash_weights(path) for path in source.weights(part))]
        for part, config in configs.items()
    }
    with _explained(source, "feature_extractor"):
        feature_extractor = CLIPImageProcessor.from_pretrained(
            source.folder_of("feature_extractor"), local_files_only=True
        )
    return {
        "name": source.info.name,
        "info": source.info,
        "unet": _load_unet_file(source, configs["unet"], dtype)
        if source.unet_file
        else _from_pretrained(source, "unet", dtype),
        "vae": _from_pretrained(source, "vae", dtype),
        "image_encoder": _from_pretrained(source, "image_encoder", dtype),
        "feature_extractor": feature_extractor,
        "revision": source.revision,
        "source": source.text,
        "hashes": hashes,
    }


def _check(source: Source, configs: dict[str, dict[str, Any]]) -> None:
    """Compare the headers of all weight files with the networks as configured, before memory is spent."""
    for part in LAYOUT[:3]:
        check_part(
            source.folder_of(part.name),
            configs[part.name],
            source.weights(part.name),
            partial(_shell, source, part.name, configs[part.name]),
            fix="The weights and the config are of two models: fetch them together.",
            index=_index(source, part),
            # Old VAE and CLIP files use other names for some tensors, which from_pretrained knows; it reports the rest.
            strict=part.name == "unet",
        )


def _index(source: Source, part: Part) -> Path | None:
    """The table of shards that a part's loader reads where there is one; transformers prefers the single file."""
    if part.name not in source.plan.variants or (part.name == "unet" and source.unet_file):
        return None
    name = index_name(part, source.plan.variants[part.name])
    if part.name == "image_encoder" and name not in source.plan.indexes:
        return None
    return source.folder_of(part.name).parent / name


def _shell(source: Source, part: str, config: dict[str, Any]) -> torch.nn.Module:
    with _explained(source, part):
        return _empty(part, config)


def _empty(part: str, config: dict[str, Any]) -> torch.nn.Module:
    cls = _class(part)
    if part == "image_encoder":
        return cls(cls.config_class(**config))
    return cls.from_config(config)


def _class(part: str) -> Any:
    """The class of a part, from its narrowest module: `import diffusers` would bring every pipeline along."""
    if part == "unet":
        from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel as Unet

        return Unet
    if part == "vae":
        from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder as Vae

        return Vae
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection as ImageEncoder

    return ImageEncoder


def _from_pretrained(source: Source, part: str, dtype: torch.dtype) -> Any:
    """A part by its own loader; every tensor of it must be in the files."""
    from diffusers.utils import is_accelerate_available

    # Without accelerate, diffusers would fall back to this by itself, with a page of warning.
    extra = {} if part == "image_encoder" else {"low_cpu_mem_usage": is_accelerate_available()}
    with _explained(source, part), quietly():
        model, report = _class(part).from_pretrained(
            source.folder_of(part),
            dtype=dtype,
            variant=source.plan.variants[part],
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **extra,
        )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{source.folder_of(part)}: the weights lack {len(missing)} tensors of {type(model).__name__}, such as"
            f" {', '.join(missing[:3])}. Fetch the model anew."
        )
    return model


def _load_unet_file(source: Source, config: dict[str, Any], dtype: torch.dtype) -> UNetSpatioTemporalConditionModel:
    """A student's UNet: the layout of its base, filled from one file, strictly."""
    from safetensors.torch import load_file

    assert source.unet_file
    with torch.device("meta"):
        unet = _empty("unet", config)
    with _explained(source, "unet"):
        state = load_file(source.unet_file)
        unet.load_state_dict({key: state.pop(key).to(dtype) for key in list(state)}, strict=True, assign=True)
    return unet  # type: ignore[return-value]


def _move(model: Any, part: str, device: torch.device, dtype: torch.dtype, memory_gb: float) -> Any:
    try:
        # The plain method: those of the libraries talk of what to do instead at every call.
        return torch.nn.Module.to(model, device=device, dtype=dtype).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"device = {str(device)!r}: out of memory while moving the {part} there; the weights take about"
            f" {memory_gb:.1f} GB at fp16 and twice that at fp32. Free memory, or use dtype='fp16' or device='cpu'."
        ) from error


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bar for what takes a moment; transformers' switch is put back as it was."""
    from transformers.utils import logging as chatter

    shown = chatter.is_progress_bar_enabled()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            chatter.enable_progress_bar()


@contextmanager
def _explained(source: Source, part: str) -> Iterator[None]:
    """Name the file and the part for whatever the libraries' loaders raise."""
    try:
        yield
    except Exception as error:
        where = source.unet_file if part == "unet" and source.unet_file else source.folder_of(part)
        raise ModelError(
            f"{where}: the {part} cannot be built from it ({type(error).__name__}: {str(error)[:300]})."
            " Fetch the model anew, or check that it is a Stable Video Diffusion model."
        ) from error
