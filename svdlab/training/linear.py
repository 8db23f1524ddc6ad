"""Layers that are constructed rather than trained: copies, identities, and a way through norm and nonlinearity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def zero(*layers: Any) -> None:
    """Set weights and biases to zero."""
    for layer in layers:
        torch.nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)


@torch.no_grad()
def make_identity(block: Any) -> None:
    """A residual block that passes its input: the branch ends in zero, the shortcut copies the channels there are."""
    zero(block.conv2)
    if block.conv_shortcut is not None:
        zero(block.conv_shortcut)
        for i in range(min(block.conv_shortcut.weight.shape[:2])):
            block.conv_shortcut.weight[i, i] = 1


@torch.no_grad()
def copy_channels(conv: Any, count: int) -> None:
    """A 3 x 3 convolution that passes the first `count` channels at the centre."""
    zero(conv)
    for i in range(count):
        conv.weight[i, i, 1, 1] = 1


def carry(signals: int, channels: int, pillar: float) -> tuple[Tensor, Tensor, Tensor]:
    """How `signals` pass GroupNorm (32 groups) and SiLU linearly: what to put into channels, and how to read it out.

    A signal a stands in a norm group as {a, K, -K}, K large: so the group's deviation s = K sqrt(2 / g) hardly depends
    on a, and a / s = y_a - (y_K + y_-K) / 2 whatever the mean. A second group holds the negative of the first, because
    silu(y) - silu(-y) = y.

    Args:
        signals: at most 16.
        channels: of the norm; at least 96, so that a group has three.
        pillar: K.

    Returns:
        `put` [channels used, signals] and `constant` [channels used], for the layer before; `read` [signals, channels
        used], for the layer after the nonlinearity.

    Example:
        >>> put, constant, read = carry(3, 96, 8.0)
    """
    size = channels // 32
    used = 2 * signals * size
    put, constant, read = torch.zeros(used, signals), torch.zeros(used), torch.zeros(signals, used)
    back = pillar * (2 / size) ** 0.5
    for i in range(signals):
        for sign, first in ((1.0, 2 * i * size), (-1.0, (2 * i + 1) * size)):
            put[first, i] = sign
            constant[first + 1], constant[first + 2] = sign * pillar, -sign * pillar
            # The mirrored group reads out the negative: in all, silu(y) - silu(-y) for every channel.
            read[i, first], read[i, first + 1], read[i, first + 2] = sign * back, -sign * back / 2, -sign * back / 2
    return put, constant, read
