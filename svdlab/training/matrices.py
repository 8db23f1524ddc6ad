"""Muon for the hidden layers' matrices and convolutions: an update of which every direction is equally long.

Momentum's matrix is replaced by the nearest one with orthonormal rows or columns (Jordan et al. 2024, "Muon: an
optimizer for hidden layers in neural networks"), scaled to the size that an update of AdamW has (Liu et al. 2025, "Muon
is scalable for LLM training"), so one learning rate serves both. A convolution is the matrix of its weights, one row an
output channel. torch's own `torch.optim.Muon` takes only what has two dimensions: it is given views.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

LEAST = 32  # rows and columns; a narrower matrix gains nothing


def is_hidden_matrix(name: str, parameter: Tensor) -> bool:
    """Whether it is one that Muon is made for: not a bias or a norm, not narrow, not part of an embedding.

    Example:
        >>> is_hidden_matrix("unet.conv_norm_out.weight", torch.ones(96))
        False
    """
    wide = parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= LEAST
    return wide and "emb" not in name


class Matrices:
    """Parameters of two or more dimensions under one `torch.optim.Muon`, as matrices of one row an output channel.

    Args:
        parameters: by name; on their device, contiguous.
        learning_rate, weight_decay: as for AdamW.

    Example:
        >>> matrices = Matrices({"conv.weight": conv.weight}, learning_rate=1e-3, weight_decay=0.0)
        >>> loss.backward(); matrices.step(1e-3)
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], *, learning_rate: float, weight_decay: float) -> None:
        self._parameters = dict(parameters)
        self.views = {name: nn.Parameter(p.detach().view(len(p), -1)) for name, p in parameters.items()}
        self.optimizer = torch.optim.Muon(
            self.views.values(), lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    def step(self, learning_rate: float) -> None:
        """One update from the gradients of the parameters, wherever their memory is by now.

        Distributed training gives parameters other memory when it wraps a network: a view made before would be of no
        parameter any more.
        """
        for name, view in self.views.items():
            parameter = self._parameters[name]
            view.data = parameter.detach().view(view.shape)
            view.grad = None if parameter.grad is None else parameter.grad.view(view.shape)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
