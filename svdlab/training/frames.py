"""Some frames of a clip alone, in training: which they are must be told to a UNet, which else counts from 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def draw_numbers(frames: int, some: int, generator: torch.Generator) -> Tensor:
    """`some` of the numbers 0 to `frames` - 1, rising, each set equally likely; int64, on the generator's device.

    Example:
        >>> draw_numbers(25, 8, torch.Generator().manual_seed(0))
    """
    return torch.randperm(frames, generator=generator, device=generator.device)[:some].sort().values


@contextmanager
def frames_numbered(unet: nn.Module, numbers: Tensor | None) -> Iterator[None]:
    """Within: the frames given to the UNet are those with these numbers of a longer clip. None: 0, 1, 2 and so on.

    Only the layers that embed the number of a frame are told. Those that look at neighbouring frames take the next of
    the given ones, so a network that is to be used on whole clips should see whole clips at the end of its training.

    Example:
        >>> with frames_numbered(unet, torch.tensor([0, 6, 12, 18, 24])):
        ...     unet(five_frames, ...)
    """

    if numbers is None:
        yield
        return

    def tell(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (numbers[args[0]],)

    embeddings = [module.time_proj for module in unet.modules() if hasattr(module, "time_pos_embed")]
    hooks = [embedding.register_forward_pre_hook(tell) for embedding in embeddings]  # type: ignore[union-attr]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
