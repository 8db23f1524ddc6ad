"""`tiny-random`: the true architecture classes with seeded random weights. What it draws means nothing.

It exists for fast tests of everything around a network: it has SVD's interface, shapes and conventions, it reacts to
every input that SVD reacts to, and its frames are neither flat nor saturated. That is all. It has learned nothing, so
no picture, metric or trend that comes out of it says anything about image-to-video.

Sizes: 25 frames of 64 x 64 px; the VAE's factor is 8 as in SVD, so latents are `[25, 4, 8, 8]`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

EMBEDDING = 32  # width of the CLIP embedding and of the UNet's cross attention

UNET: dict[str, Any] = {
    "sample_size": 8,
    "num_frames": 25,
    # In blocks of 32 channels GroupNorm has one channel a group, and the time embedding, added just before, cancels.
    "block_out_channels": (64, 64),
    "down_block_types": ("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
    "up_block_types": ("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
    "layers_per_block": 1,
    "num_attention_heads": 2,
    "cross_attention_dim": EMBEDDING,
    "addition_time_embed_dim": 32,
    "projection_class_embeddings_input_dim": 96,  # fps, motion bucket, cond_aug: 3 x 32
}

VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "sample_size": 64,
    "scaling_factor": 0.18215,  # SVD's, so that a forgotten factor shows in tests
    "force_upcast": True,
}

CLIP: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 224,
    "patch_size": 32,
    "projection_dim": EMBEDDING,
}

CONFIGS = {"unet": UNET, "vae": VAE, "image_encoder": CLIP}

# Gain of the weights whose name ends so, where 1 would keep the variance. Chosen by measurement: the conditioning
# must be seen in the frames, and the frames must stay within the range of a picture.
GAINS = {
    "add_embedding.linear_2.weight": 3.0,
    "time_emb_proj.weight": 1.5,
    "decoder.conv_out.weight": 0.6,
    "self_attn.out_proj.weight": 3.0,  # of CLIP: otherwise every picture has nearly the same embedding
}


def build(
    seed: int = 0,
) -> tuple[
    UNetSpatioTemporalConditionModel, AutoencoderKLTemporalDecoder, CLIPVisionModelWithProjection, CLIPImageProcessor
]:
    """UNet, VAE, image encoder and feature extractor with random weights, on the CPU in fp32, ready for inference.

    The same seed gives the same weights on every machine: they are uniform, drawn from integers and scaled, without a
    transcendental function. The global random state is left as it was.

    Shapes: the UNet takes `[batch, frames, 8, height / 8, width / 8]`, the VAE pictures `[batch, 3, height, width]` in
    [-1, 1], the image encoder `[batch, 3, 224, 224]`, and gives embeddings `[batch, 32]`.

    Example:
        >>> unet, vae, image_encoder, feature_extractor = build(seed=0)
    """
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers.models.clip.configuration_clip import CLIPVisionConfig
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # the constructors draw weights of their own
        unet = UNetSpatioTemporalConditionModel(**UNET)
        vae = AutoencoderKLTemporalDecoder(**VAE)
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP))
    generator = torch.Generator().manual_seed(seed)
    for model in (unet, vae, image_encoder):
        _fill(model, generator)
        model.eval().requires_grad_(False)
    return unet, vae, image_encoder, CLIPImageProcessor()


def _fill(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Uniform weights of variance gain^2 / fan-in; small biases; norms and blend factors as they were constructed."""
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1:
            gain = next((gain for end, gain in GAINS.items() if name.endswith(end)), 1.0)
            bound = gain * math.sqrt(3 / parameter[0].numel())
        elif name.endswith(("bias", "class_embedding")):
            bound = 0.1
        else:
            continue
        unit = torch.rand(parameter.shape, generator=generator, dtype=torch.float32)
        parameter.data.copy_((2 * unit - 1) * bound)
