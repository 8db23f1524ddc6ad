"""Networks under metrics, with weights that the user gave: image encoders, RAFT, and a linear head for aesthetics.

Always float32, in evaluation mode, without gradients or TF32. Preprocessing is VBench's where VBench has that network,
and is part of the fingerprint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import MetricError, ModelError, WeightsError
from svdlab.metrics.lpips_network import _exact as exact
from svdlab.metrics.network_files import CONFIG, TENSORS, find_folder, fingerprint_of, load_strictly, read_tensors

if TYPE_CHECKING:
    import torch

CHUNK = 8
RAFT_MIN_SIDE = 128  # its correlation pyramid has four levels of an eighth of the frame
RAFT_UPDATES = 20  # as VBench

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
# model_type of a config -> transformers class, and how pictures get in; VBench's dino_transform and clip_transform.
_WHOLE = {"short_side": 224, "crop": False, "resample": "bilinear", **_IMAGENET}
_KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "vit": ("ViTModel", _WHOLE),
        "dinov2": ("Dinov2Model", _WHOLE),
        "dinov2_with_registers": ("Dinov2WithRegistersModel", _WHOLE),
        "clip": ("CLIPVisionModelWithProjection", {"crop": True, "resample": "bicubic", **_CLIP}),
        "clip_vision_model": ("CLIPVisionModelWithProjection", {"crop": True, "resample": "bicubic", **_CLIP}),
    }
)


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageEncoder:
    """A DINO, DINOv2 or CLIP image encoder; an `svdlab.metrics.Encoder` that any metric can be given.

    Attributes:
        kind: model_type of its config, such as ``"dinov2"``.
        label: name of its folder, or ``"org/name@commit"``.
        fingerprint: 16 digits for weights, config and preprocessing.
        preprocessing: how a picture gets in.
        device: where it runs.

    Example:
        >>> dino = load_image_encoder("weights/dino-vitb16")
        >>> dino.embed(clip.frames).shape
        (25, 768)
    """

    kind: str
    label: str
    fingerprint: str
    preprocessing: Mapping[str, Any]
    device: str
    module: Any = field(repr=False)

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Vectors float32 [count, size], not normalised, of `images` uint8 [count, height, width, 3] RGB.

        CLIP: the projected image embedding. The others: the class token after the last normalisation.
        """
        import torch

        with exact(), torch.inference_mode():
            chunks = [self._embed(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
        return np.concatenate(chunks)

    def _embed(self, images: np.ndarray) -> np.ndarray:
        pixels = self._pixels(images)
        if self.kind.startswith("clip"):
            return self.module(pixel_values=pixels).image_embeds.cpu().numpy()
        options = {"interpolate_pos_encoding": True} if self.kind == "vit" else {}  # the others always do
        return self.module(pixel_values=pixels, **options).last_hidden_state[:, 0].cpu().numpy()

    def _pixels(self, images: np.ndarray) -> torch.Tensor:
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import center_crop, normalize, resize

        how = self.preprocessing
        x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float()
        x = resize(x, [how["short_side"]], InterpolationMode(how["resample"]), antialias=False)
        if how["crop"]:
            x = center_crop(x, [how["short_side"]])
        return normalize(x / 255, how["mean"], how["std"]).to(self.device)


def load_image_encoder(
    weights: str | os.PathLike[str], *, revision: str | None = None, download: bool = False, device: str = "cpu"
) -> ImageEncoder:
    """An image encoder from a folder, or a hub repository, in transformers' layout with safetensors.

    ViT (the first DINO), DINOv2 with and without registers, and CLIP are known.

    Args:
        weights: a folder, or "org/name".
        revision: branch, tag or commit of the repository.
        download: fetch the repository if it is not in the hub's cache; never done otherwise.
        device: where it runs.

    Raises:
        WeightsError: not found, of another kind, damaged, or with tensors missing.
        MetricError: there is no such device.

    Example:
        >>> load_image_encoder("facebook/dinov2-small", revision="ed25f3a", download=True).kind
        'dinov2'
    """
    folder, label = find_folder(weights, revision=revision, download=download)
    kind = _kind(folder)
    name, how = _KINDS[kind]
    module = _pretrained(name, folder, kind)
    how = {"short_side": getattr(module.config, "image_size", 224), **how}  # CLIP takes one size, that of its config
    return ImageEncoder(
        kind=kind,
        label=label,
        fingerprint=fingerprint_of(module, {"kind": kind, **how, **_meaning(module.config)}),
        preprocessing=MappingProxyType(how),
        device=device,
        module=on_device(module, device),
    )


def _kind(folder: Path) -> str:
    try:
        kind = json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError, OSError) as error:
        raise WeightsError(f"weights: {folder / CONFIG} cannot be read as a config: {error}.") from error
    if kind not in _KINDS:
        raise WeightsError(f"weights: {folder} holds a {kind!r}; image encoders that are known: {', '.join(_KINDS)}.")
    return kind


def _pretrained(name: str, folder: Path, kind: str) -> Any:
    """A transformers model of which no tensor was left at random."""
    import torch
    import transformers

    from svdlab.models.guard import check_part
    from svdlab.models.loading import quietly

    options = {"add_pooling_layer": False} if kind == "vit" else {}  # DINO has none
    network = getattr(transformers, name)
    try:
        raw = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        check_part(
            folder,
            raw,
            [folder / TENSORS],
            lambda: network(network.config_class.from_pretrained(folder, local_files_only=True), **options),
            fix="What is missing would be left at random: give the whole weights of that network.",
            strict=False,  # files may hold more networks than this one, and use older names
        )
        with quietly():
            module, info = network.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                **options,
            )
    except ModelError as error:
        raise WeightsError(f"weights: {error}") from error
    except Exception as error:  # transformers and safetensors raise many kinds
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"weights: {folder} cannot be loaded as {name}: {words:.300}. Fetch it again.") from error
    if missing := sorted(info["missing_keys"]):
        raise WeightsError(
            f"weights: {folder} lacks {missing[0]}{' and more' if missing[1:] else ''} of {name}, which would be left "
            "at random. Give the whole weights of that network."
        )
    return module.eval().requires_grad_(False)


def _meaning(config: Any) -> dict[str, str]:
    from svdlab.models.fingerprint import hash_config

    return {"config": hash_config(config.to_dict())}


def on_device(module: Any, device: str) -> Any:
    """`module` on `device`.

    Raises:
        MetricError: there is no such device here.
    """
    try:
        return module.to(device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise MetricError(
            f"device={device!r} cannot be used: {str(error).splitlines()[0]}. Use 'cpu', or one that is here."
        ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Raft:
    """Optical flow by RAFT (Teed and Deng 2020, arXiv:2003.12039), torchvision's network with the user's weights.

    Attributes:
        size: ``"small"`` or ``"large"``.
        label: name of the file.
        fingerprint: 16 digits for weights, size and number of updates.
        device: where it runs.
    """

    size: str
    label: str
    fingerprint: str
    device: str
    module: Any = field(repr=False)

    def lengths(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Length of the flow from `first` to `second`, uint8 [height, width, 3]: float32 [height, width] in px.

        At full size. The border is repeated up to a multiple of 8, and to 128 px at least, and cut off again.
        """
        import torch

        height, width = first.shape[:2]
        with exact(), torch.inference_mode():
            pair = torch.from_numpy(np.stack([first, second]).transpose(0, 3, 1, 2).astype(np.float32)) / 127.5 - 1
            a, b = torch.nn.functional.pad(pair, _padding(width, height), mode="replicate").to(self.device)
            flow = self.module(a[None], b[None], num_flow_updates=RAFT_UPDATES)[-1][0]
            left, _, top, _ = _padding(width, height)
            return flow[:, top : top + height, left : left + width].norm(dim=0).cpu().numpy()


def _padding(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom, as even as may be."""
    x, y = (max(RAFT_MIN_SIDE, -(-side // 8) * 8) - side for side in (width, height))
    return x // 2, x - x // 2, y // 2, y - y // 2


def load_raft(weights: str | os.PathLike[str], *, device: str = "cpu") -> Raft:
    """RAFT, small or large as the file says, from a safetensors file of torchvision's tensors.

    Raises:
        WeightsError: no such file, another format, or not RAFT's tensors, all of them.
        MetricError: there is no such device.
    """
    import torch
    from torchvision.models.optical_flow import raft_large, raft_small

    tensors = read_tensors("weights", weights)
    first = tensors.get("feature_encoder.convnormrelu.0.weight")
    size = "small" if first is not None and first.shape[0] == 32 else "large"
    with torch.random.fork_rng(devices=[]):  # it draws random weights first
        module = (raft_small if size == "small" else raft_large)(weights=None, progress=False)
    load_strictly(module, tensors, argument=f"weights={str(weights)!r}", what=f"torchvision's raft_{size}")
    return Raft(
        size=size,
        label=Path(weights).name,
        fingerprint=fingerprint_of(module, {"raft": size, "updates": RAFT_UPDATES, "min_side": RAFT_MIN_SIDE}),
        device=device,
        module=on_device(module, device),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class AestheticHead:
    """A linear head on unit CLIP embeddings that was trained on people's ratings from 1 to 10.

    Attributes:
        encoder: the CLIP image encoder that the head was trained on.
        label: name of the head's file.
        fingerprint: 16 digits for both.
    """

    encoder: ImageEncoder
    label: str
    fingerprint: str
    weight: np.ndarray = field(repr=False)  # float64 [size]
    bias: float = field(repr=False)

    def rate(self, vectors: np.ndarray) -> np.ndarray:
        """(w . f / |f| + b) / 10 of embeddings [count, size]: float64 [count], about 0..1."""
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return (unit.astype(np.float64) @ self.weight + self.bias) / 10


def load_aesthetic(head: str | os.PathLike[str], encoder: ImageEncoder) -> AestheticHead:
    """A linear head, ``weight`` [1, size] and ``bias`` [1], from a safetensors file, for `encoder`.

    Raises:
        WeightsError: no such file, other tensors, not the size of the encoder's vectors, or an encoder that is no CLIP.
    """
    import torch

    if not encoder.kind.startswith("clip"):
        raise WeightsError(f"clip={encoder.label!r} is a {encoder.kind!r}: the head stands on a CLIP image encoder.")
    size = encoder.module.config.projection_dim
    linear = torch.nn.utils.skip_init(torch.nn.Linear, size, 1)
    what = f"a linear head on {encoder.label}, weight [1, {size}] and bias [1]"
    load_strictly(linear, read_tensors("head", head), argument=f"head={str(head)!r}", what=what)
    return AestheticHead(
        encoder=encoder,
        label=Path(head).name,
        fingerprint=fingerprint_of(linear, {"encoder": encoder.fingerprint}),
        weight=linear.weight[0].double().numpy(),
        bias=float(linear.bias),
    )
