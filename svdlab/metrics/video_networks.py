"""Networks that see a whole clip: torchvision's video ResNets with weights that the user gives, as feature extractors.

They were trained to name actions (Tran et al. 2018, arXiv:1711.11248). None of them is the I3D of FVD: distances on
their features are no FVD, and compare only with distances on the same network.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from svdlab.errors import MetricError
from svdlab.metrics.feature_networks import on_device
from svdlab.metrics.lpips_network import _exact as exact
from svdlab.metrics.network_files import fingerprint_of, load_strictly, read_tensors

if TYPE_CHECKING:
    from torchvision.models.video import VideoResNet

ARCHITECTURES = ("r3d_18", "mc3_18", "r2plus1d_18")
# torchvision's own preprocessing for these networks.
RESIZE, CROP = (128, 171), (112, 112)
MEAN, STD = (0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoNetwork:
    """A video ResNet without its last layer, as a function of frames.

    Attributes:
        name: for `svdlab.metrics.compare_sets`: architecture and the first 8 digits of the fingerprint.
        label: name of the file.
        fingerprint: 16 digits for weights and preprocessing.
        device: where it runs.

    Example:
        >>> network = load_video_network("r3d_18", "r3d_18.safetensors")
        >>> network(clip.frames).shape
        (512,)
    """

    name: str
    label: str
    fingerprint: str
    device: str
    module: Any = field(repr=False)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Features float32 [dims] of a clip uint8 [frames, height, width, 3]: all frames, 128x171, middle 112x112."""
        import torch
        from torchvision.transforms.functional import center_crop, normalize, resize

        x = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 255
        x = center_crop(resize(x, list(RESIZE), antialias=False), list(CROP))
        x = normalize(x, MEAN, STD).transpose(0, 1)[None].to(self.device)
        with exact(), torch.inference_mode():
            return self.module(x)[0].cpu().numpy()


def load_video_network(architecture: str, weights: str | os.PathLike[str], *, device: str = "cpu") -> VideoNetwork:
    """torchvision's ``r3d_18``, ``mc3_18`` or ``r2plus1d_18`` with the weights of a safetensors file.

    Any other network will do for `svdlab.metrics.clip_features` as a function of your own.

    Raises:
        WeightsError: no such file, another format, or not that network's tensors, all of them.
        MetricError: another architecture, or no such device.

    Example:
        >>> load_video_network("r3d_18", "r3d_18.safetensors").name
        'r3d_18-3fa2b1c0'
    """
    if architecture not in ARCHITECTURES:
        raise MetricError(
            f"architecture={architecture!r}: known are {', '.join(ARCHITECTURES)}. For another network write a "
            "function frames -> vector and give that to clip_features."
        )
    import torch
    import torchvision.models.video

    tensors = read_tensors("weights", weights)
    with torch.random.fork_rng(devices=[]):  # it draws random weights first
        module = getattr(torchvision.models.video, architecture)(weights=None, progress=False)
    load_strictly(module, tensors, argument=f"weights={str(weights)!r}", what=f"torchvision's {architecture}")
    return video_network(module, name=architecture, label=Path(weights).name, device=device)


def video_network(module: VideoResNet, *, name: str, label: str = "", device: str = "cpu") -> VideoNetwork:
    """A `VideoResNet` that is loaded already, with weights of your own, as a function frames -> features.

    Its last layer is taken off, so `module` itself changes.

    Raises:
        MetricError: something else than a video ResNet, or no such device.
    """
    import torch
    from torchvision.models.video import VideoResNet

    if not isinstance(module, VideoResNet):
        raise MetricError(f"module is a {type(module).__name__}; allowed is torchvision's VideoResNet.")
    module.fc = torch.nn.Identity()
    module.float().eval().requires_grad_(False)
    print_of = fingerprint_of(module, {"resize": RESIZE, "crop": CROP, "mean": MEAN, "std": STD})
    return VideoNetwork(
        name=f"{name}-{print_of[:8]}",
        label=label or name,
        fingerprint=print_of,
        device=device,
        module=on_device(module, device),
    )
