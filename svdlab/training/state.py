"""What training changes: networks, their averages and the optimiser, on one device or several."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from svdlab.errors import TrainingError
from svdlab.training.matrices import Matrices, is_hidden_matrix
from svdlab.training.settings import LoopSettings

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what AdamW keeps of each parameter
MOMENTUM = "momentum_buffer"  # what Muon keeps


class State:
    """Networks in training. Build it with `make_state`.

    Attributes:
        modules: the networks by name, as a step calls them (distributed training may have wrapped them).
        averages: one dict of networks for each of `settings.averages`: exponential moving averages of the weights,
            in eval mode and without gradients.
        step: steps that are done.
        device: where everything is.
        rank, world: number of this process, from 0, and of all; 0 and 1 unless started by `accelerate launch`. A step's
            batch should depend on the rank.
    """

    def __init__(self, modules: Mapping[str, nn.Module], settings: LoopSettings, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._settings = settings
        self.device: torch.device = accelerator.device
        self.rank: int = accelerator.process_index
        self.world: int = accelerator.num_processes
        self.step = 0
        self.averages: list[dict[str, nn.Module]] = []
        self._bare = {name: module.to(self.device) for name, module in modules.items()}
        for _ in settings.averages:
            copies = {name: copy.deepcopy(module) for name, module in self._bare.items()}
            self.averages.append({name: module.eval().requires_grad_(False) for name, module in copies.items()})
        self._named = {
            f"{name}.{key}": parameter
            for name, module in self._bare.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        if not self._named:
            raise TrainingError("modules: no parameter has requires_grad=True, so there is nothing to train.")
        hidden = {name: p for name, p in self._named.items() if self._goes_to_muon(name, p)}
        rates = {"learning_rate": settings.learning_rate, "weight_decay": settings.weight_decay}
        self._matrices = Matrices(hidden, **rates) if hidden else None
        optimizer = torch.optim.AdamW(
            self._groups(hidden), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )  # fmt: skip
        if settings.compile:
            for module in self._bare.values():
                module.compile()
        *prepared, self._optimizer = accelerator.prepare(*self._bare.values(), optimizer)
        self.modules: dict[str, nn.Module] = dict(zip(self._bare, prepared, strict=True))
        precision = settings.precision
        self.precision = ("bf16" if self.device.type == "cuda" else "fp32") if precision == "auto" else precision

    def _goes_to_muon(self, name: str, parameter: Tensor) -> bool:
        """Hidden matrices do if the settings say so; what has a rate of its own (`faster`) stays with AdamW."""
        own_rate = any(part in name for part in self._settings.faster)
        return self._settings.optimizer == "muon" and not own_rate and is_hidden_matrix(name, parameter)

    def _groups(self, elsewhere: Container[str]) -> list[dict[str, Any]]:
        """Parameters of AdamW by the factor on their learning rate."""
        by_factor: dict[float, list[nn.Parameter]] = {}
        unused = set(self._settings.faster)
        for name, parameter in self._named.items():
            hits = [part for part in self._settings.faster if part in name]
            unused -= set(hits)
            factor = max((self._settings.faster[part] for part in hits), default=1.0)
            if name not in elsewhere:
                by_factor.setdefault(factor, []).append(parameter)
        if unused:
            raise TrainingError(f"faster = {sorted(unused)}: no trained parameter has that in its name.")
        return [{"params": params, "factor": factor} for factor, params in by_factor.items()]

    # What the loop does with it.

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision that forward passes compute in; weights and updates stay fp32."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of `loss`, averaged over processes."""
        self._accelerator.backward(loss)

    def update(self, rate: float, clip_norm: float) -> Tensor:
        """One step of the optimiser at `rate` times the learning rate; the norm of the gradient before clipping."""
        norm = torch.nn.utils.clip_grad_norm_(list(self._named.values()), clip_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * rate * group["factor"]
        self._optimizer.step()
        if self._matrices:
            self._matrices.step(self._settings.learning_rate * rate)
        for parameter in self._named.values():
            parameter.grad = None
        return norm

    @torch.no_grad()
    def average(self) -> None:
        """Move the averages towards the weights: a <- d a + (1 - d) w, with d the decay of the step."""
        for decay, average in zip(self._settings.averages, self.averages, strict=True):
            if self._settings.average_warmup:
                decay = min(decay, (1 + self.step) / (10 + self.step))
            for name, module in self._bare.items():
                torch._foreach_lerp_(list(average[name].parameters()), list(module.parameters()), 1 - decay)
                for mean, buffer in zip(average[name].buffers(), module.buffers(), strict=True):
                    mean.copy_(buffer)

    def agree(self, flag: bool) -> bool:
        """Whether the flag is set in any process, so that all of them do the same."""
        if self.world == 1:
            return flag
        return bool(self._accelerator.reduce(torch.tensor(float(flag), device=self.device)) > 0)

    def wait(self) -> None:
        """Wait for all processes."""
        self._accelerator.wait_for_everyone()

    def weights(self, average: int | None = None) -> dict[str, nn.Module]:
        """The networks without wrapping: as trained (None), or the average of that index."""
        return self._bare if average is None else self.averages[average]

    # To and from a checkpoint.

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything that training changes, by name."""
        tensors = dict(self._tensors())
        for key, parameter in self._named.items():
            kept = self._optimizer.state.get(parameter, {})
            tensors |= {f"optimizer.{moment}.{key}": kept[moment] for moment in MOMENTS if moment in kept}
        for key, view in self._views().items():
            kept = self._matrices.optimizer.state.get(view, {}) if self._matrices else {}
            tensors |= {f"optimizer.{MOMENTUM}.{key}": value for name, value in kept.items() if name == MOMENTUM}
        return tensors

    @torch.no_grad()
    def from_tensors(self, tensors: Mapping[str, Tensor], *, where: str) -> None:
        """Take everything from what `to_tensors` gave.

        Raises:
            TrainingError: names or shapes are not those of these networks; nothing is changed then.
        """
        own = self._tensors()
        wanted = {key: value.shape for key, value in own.items()}
        adams = {key: parameter for key, parameter in self._named.items() if key not in self._views()}
        used = {key: parameter for key, parameter in adams.items() if f"optimizer.step.{key}" in tensors}
        for key, parameter in used.items():  # a parameter that never had a gradient has no moments
            wanted |= {f"optimizer.{moment}.{key}": parameter.shape for moment in MOMENTS[:2]}
            wanted[f"optimizer.step.{key}"] = torch.Size([])
        moved = {key: view for key, view in self._views().items() if f"optimizer.{MOMENTUM}.{key}" in tensors}
        wanted |= {f"optimizer.{MOMENTUM}.{key}": view.shape for key, view in moved.items()}
        wrong = sorted(
            key for key in wanted.keys() | tensors.keys() if key not in tensors or wanted.get(key) != tensors[key].shape
        )
        if wrong:
            raise TrainingError(
                f"{where}: the checkpoint is of other networks: {len(wrong)} tensors do not fit, such as"
                f" {', '.join(wrong[:3])}. Build the networks that it was begun with, or use another folder."
            )
        for key, value in own.items():
            value.copy_(tensors[key])
        for key, parameter in used.items():
            kept = {moment: tensors[f"optimizer.{moment}.{key}"] for moment in MOMENTS}
            on_device = self.device if self._optimizer.param_groups[0].get("fused") else torch.device("cpu")
            self._optimizer.state[parameter] = {
                name: value.to(on_device if name == "step" else self.device, copy=True) for name, value in kept.items()
            }
        for key, view in moved.items():
            assert self._matrices is not None
            momentum = tensors[f"optimizer.{MOMENTUM}.{key}"].to(self.device, copy=True)
            self._matrices.optimizer.state[view] = {MOMENTUM: momentum}

    def _views(self) -> dict[str, nn.Parameter]:
        return self._matrices.views if self._matrices else {}

    def _tensors(self) -> dict[str, Tensor]:
        groups = {"modules": self._bare, **{f"averages.{i}": average for i, average in enumerate(self.averages)}}
        return {
            f"{group}.{name}.{key}": value
            for group, modules in groups.items()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }


def make_state(modules: Mapping[str, nn.Module], settings: LoopSettings) -> State:
    """Put networks on the device, with their averages and an optimiser for all parameters that require a gradient.

    Raises:
        TrainingError: accelerate is not installed, the device is not there, or nothing is to be trained.

    Example:
        >>> state = make_state({"unet": unet}, LoopSettings(steps=100))
        >>> state.modules["unet"], state.averages[0]["unet"]
    """
    return State(modules, settings, _accelerator(settings.device))


def _accelerator(device: str) -> Any:
    try:
        from accelerate import Accelerator  # type: ignore[import-untyped]
    except ImportError as error:
        raise TrainingError("accelerate is needed for training. Install it: pip install 'svdlab[train]'.") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("device = 'cuda': torch finds no usable NVIDIA GPU. Use 'cpu' or 'auto'.")
    # Precision is the business of `State.autocast`: accelerate's own is global to the process.
    return Accelerator(cpu=device == "cpu", mixed_precision="no")
