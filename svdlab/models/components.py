"""Components: a model as the pipeline takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from svdlab.memory import free_memory

if TYPE_CHECKING:
    import torch
    from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
    from transformers.models.clip.image_processing_clip import CLIPImageProcessor
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    from svdlab.models.cards import ModelInfo
    from svdlab.request import Defaults


@dataclass(frozen=True, kw_only=True, eq=False)
class Components:
    """The networks of one model on one device, in eval mode and without gradients, and where they came from.

    Shapes, with `f` the VAE's factor: the UNet takes `[batch, frames, 8, height / f, width / f]` (4 channels of noisy
    latents, 4 of the picture's latent) and gives `[batch, frames, 4, height / f, width / f]`; the VAE takes pictures
    `[batch, 3, height, width]` in [-1, 1]; the image encoder takes `[batch, 3, 224, 224]` as the feature extractor
    makes them. If `vae.config.force_upcast` is true, a VAE in half precision must encode (not decode) in fp32.

    Example:
        >>> components = load_components("tiny")
        >>> components.fingerprint[-5:]
        '-fp32'
    """

    name: str
    info: ModelInfo
    unet: UNetSpatioTemporalConditionModel
    vae: AutoencoderKLTemporalDecoder
    image_encoder: CLIPVisionModelWithProjection
    feature_extractor: CLIPImageProcessor
    defaults: Defaults
    device: torch.device
    dtype: torch.dtype
    fingerprint: str  # "<16 hex digits of the content's hash>-<fp32, fp16 or bf16>"; no path, no device
    revision: str | None  # resolved commit on the hub ("<UNet's>+<base's>" for a student); None for local weights
    source: str  # in words, for people: never part of a key
    low_memory: str = "none"  # one of `svdlab.models.placement.WAYS`; with "parts", `take` a network before its call

    def take(self, part: str) -> Any:
        """A network (`unet`, `vae` or `image_encoder`) on the device; with "parts" the other two leave it first.

        Example:
            >>> components.take("vae").decode(latents, num_frames=25)
        """
        network = getattr(self, part)
        if self.low_memory == "parts" and _place_of(network).type != self.device.type:
            for name in ("unet", "vae", "image_encoder"):
                if name != part:
                    _move(getattr(self, name), "cpu")
            free_memory()
            _move(network, self.device)
        return network


def _place_of(network: Any) -> torch.device:
    return next(network.parameters()).device


def _move(network: Any, place: Any) -> None:
    import torch

    torch.nn.Module.to(network, device=place)  # the plain method: those of the libraries talk
