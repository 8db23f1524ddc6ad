"""The networks of a small model, in SVD's own classes: what sizes they have, and how they are written to a folder."""

from __future__ import annotations

import copy
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from svdlab.conditioning import CLIP_SIZE
from svdlab.errors import TrainingError
from svdlab.files import write_atomic
from svdlab.models.cards import ModelInfo, write_card
from svdlab.training.beginning import begin_with_picture
from svdlab.training.linear import zero
from svdlab.training.vae import LATENTS

if TYPE_CHECKING:
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

SCHEDULER: dict[str, Any] = {  # SVD's own (Blattmann et al. 2023), for diffusers' pipeline
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "sigma_max": 700.0,
    "sigma_min": 0.002,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "timestep_type": "continuous",
    "use_karras_sigmas": True,
}

MODEL_INDEX = {
    "_class_name": "StableVideoDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
}


@dataclass(frozen=True, kw_only=True)
class UNetSettings:
    """Size of the UNet.

    Attention runs where `attention` says so, from the latent resolution downwards, and always in the middle; the number
    of a frame reaches the network only there.

    Example:
        >>> UNetSettings(channels=(96, 96), attention=(True, True))
    """

    channels: tuple[int, ...] = (96, 128)
    attention: tuple[bool, ...] = (True, False)
    layers: int = 1  # residual blocks a level on the way down; one more on the way up
    head_channels: int = 32
    embedding: int = 64  # width of the CLIP embedding
    ids: int = 32  # width of the embedding of each of fps, bucket and cond_aug

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            (
                "channels",
                all(count >= 64 and count % 32 == 0 for count in self.channels) and self.channels[:1] >= (96,),
                "multiples of 32, the first at least 96, so that the picture passes the last norm, the others at least"
                " 64: below, a norm group is one channel, and cancels the conditioning",
            ),
            ("attention", len(self.attention) == len(self.channels), f"one for each of channels = {self.channels}"),
            ("layers", self.layers >= 1, "at least 1"),
            (
                "head_channels",
                self.head_channels > 0 and all(count % self.head_channels == 0 for count in self.channels),
                "a divisor of every number of channels",
            ),
            ("embedding", self.embedding >= 1, "at least 1"),
            ("ids", self.ids >= 2 and self.ids % 2 == 0, "an even number from 2"),
        )
        for name, kept, rule in rules:
            if not kept:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: must be {rule}.")


def build_unet(
    settings: UNetSettings, *, latent_size: int, num_frames: int, seed: int = 0
) -> UNetSpatioTemporalConditionModel:
    """A stock UNet with random weights that are a function of the seed, on the CPU, in training mode.

    It begins as the network that answers v = -picture, at high noise the clip that repeats its picture (`beginning`);
    all residual branches end in zeros. So what is left to learn is what changes.

    Shapes: `[batch, frames, 32, height / 8, width / 8]` in, noisy latents before the picture's; 16 channels out.

    Example:
        >>> unet = build_unet(UNetSettings(), latent_size=8, num_frames=25)
    """
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

    down = [f"{'CrossAttn' if here else ''}DownBlockSpatioTemporal" for here in settings.attention]
    up = [f"{'CrossAttn' if here else ''}UpBlockSpatioTemporal" for here in reversed(settings.attention)]
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        unet = UNetSpatioTemporalConditionModel(
            sample_size=latent_size,
            in_channels=2 * LATENTS,
            out_channels=LATENTS,
            num_frames=num_frames,
            block_out_channels=settings.channels,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            layers_per_block=settings.layers,
            num_attention_heads=tuple(count // settings.head_channels for count in settings.channels),
            cross_attention_dim=settings.embedding,
            addition_time_embed_dim=settings.ids,
            projection_class_embeddings_input_dim=3 * settings.ids,
        )
        for name, module in unet.named_modules():
            if name.endswith((".conv2", ".proj_out")):
                zero(module)
        begin_with_picture(unet)
    return unet.train()


def use_plain_attention(unet: nn.Module) -> None:
    """Compute attention as two matrix products and a softmax; for training on a CPU.

    There the fused kernel's backward pass is slow for many short sequences, as between the frames of every pixel: in
    bf16 a whole step takes a third less time this way. Neither weights nor results change, but for rounding.

    Example:
        >>> use_plain_attention(unet)
    """
    from diffusers.models.attention_processor import Attention, AttnProcessor

    for module in unet.modules():
        if isinstance(module, Attention):
            module.set_processor(AttnProcessor())


def build_image_encoder(*, embedding: int, seed: int = 0) -> tuple[CLIPVisionModelWithProjection, CLIPImageProcessor]:
    """A small CLIP vision model (2 layers of 64, patches of 32 px of 224) with random weights, and its processor.

    Shapes: `[batch, 3, 224, 224]` in, `[batch, embedding]` out.
    """
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=CLIP_SIZE,
        patch_size=32,
        projection_dim=embedding,
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        encoder = CLIPVisionModelWithProjection(config)
        # The library draws weights of width 0.02, at which every picture has nearly the same embedding.
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return encoder.train(), CLIPImageProcessor()


def write_model(
    folder: Path, *, unet: nn.Module, vae: nn.Module, image_encoder: nn.Module, feature_extractor: Any, info: ModelInfo
) -> Path:
    """Write a diffusers folder in fp16 with svdlab's card; it appears whole, in place of an older one.

    The networks themselves are left as they are.

    Returns:
        The folder, which `svdlab.load` and diffusers' `StableVideoDiffusionPipeline.from_pretrained` take.

    Example:
        >>> write_model(Path("runs/tiny"), unet=unet, vae=vae, image_encoder=clip, feature_extractor=fe, info=info)
    """
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    tmp = folder.with_name(f".tmp-{uuid.uuid4().hex[:12]}-{folder.name}")
    tmp.mkdir(parents=True)
    try:
        for part, model in (("unet", unet), ("vae", vae), ("image_encoder", image_encoder)):
            half: Any = nn.Module.to(copy.deepcopy(model), device="cpu", dtype=torch.float16)
            half.save_pretrained(tmp / part)
            _rewrite(tmp / part / "config.json", promised="float32" if part == "image_encoder" else None)
        feature_extractor.save_pretrained(tmp / "feature_extractor")
        EulerDiscreteScheduler(**SCHEDULER).save_pretrained(tmp / "scheduler")
        write_atomic(tmp / "model_index.json", json.dumps(MODEL_INDEX, indent=2) + "\n")
        write_card(tmp, info)
        if folder.exists():
            shutil.rmtree(folder)
        tmp.replace(folder)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return folder


def _rewrite(config: Path, *, promised: str | None) -> None:
    """Take out where the network was loaded from, which is a path of this machine; and promise a type.

    transformers loads in the type that the config names, diffusers in float32: without the promise a pipeline of both,
    loaded without a type, does not run.
    """
    content = json.loads(config.read_text(encoding="utf-8"))
    content.pop("_name_or_path", None)
    write_atomic(config, json.dumps(content | ({"dtype": promised} if promised else {}), indent=2) + "\n")
