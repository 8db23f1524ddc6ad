"""Settings of the training loop, and what follows from them alone: the learning rate and the seeds of a step."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from svdlab.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How a network is trained, whatever its loss. Settings marked * may change between a run and its resumption.

    Example:
        >>> LoopSettings(steps=2000, learning_rate=3e-4)
    """

    steps: int
    optimizer: str = "adamw"  # or "muon": hidden matrices by Muon (see `matrices`), the rest by AdamW
    learning_rate: float = 1e-3
    warmup: int = 50  # steps in which the learning rate rises linearly
    final: float = 0.02  # share of the learning rate at which the cosine ends
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip_norm: float = 1.0  # largest norm of the gradient; inf: not clipped
    averages: tuple[float, ...] = (0.999,)  # decays of the averaged weights, see `State.averages`
    average_warmup: bool = True  # decay at most (1 + step) / (10 + step), so that the average forgets the start
    faster: Mapping[str, float] = field(default_factory=dict)  # part of a parameter's name -> factor on its rate
    seed: int = 0
    precision: str = "auto"  # * "fp32", "bf16", or "auto": bf16 on CUDA, fp32 elsewhere
    device: str = "auto"  # * "auto", "cpu" or "cuda"
    compile: bool = False  # * torch.compile the networks: a minute at the start, then faster steps
    checkpoint_steps: int = 500  # *
    checkpoint_seconds: float = 600.0  # * also after so long; inf: never for that reason
    flush_steps: int = 20  # * steps between two looks at the loss, each of which waits for the device
    probe_steps: int = 0  # * steps between two probes; 0: never

    def __post_init__(self) -> None:
        rules: tuple[tuple[str, bool, str], ...] = (
            ("steps", self.steps >= 1, "at least 1"),
            ("optimizer", self.optimizer in ("adamw", "muon"), "'adamw' or 'muon'"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "above 0"),
            ("warmup", self.warmup >= 0, "0 or more"),
            ("final", 0 <= self.final <= 1, "from 0 to 1"),
            ("betas", all(0 <= beta < 1 for beta in self.betas) and len(self.betas) == 2, "two numbers from 0 to 1"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("clip_norm", self.clip_norm > 0, "above 0 (inf: no clipping)"),
            ("averages", all(0 <= decay < 1 for decay in self.averages), "decays from 0 to below 1"),
            ("faster", all(factor >= 0 for factor in self.faster.values()), "factors of 0 or more"),
            ("seed", 0 <= self.seed < 2**63, "from 0 to 2^63 - 1"),
            ("precision", self.precision in ("auto", "fp32", "bf16"), "'auto', 'fp32' or 'bf16'"),
            ("device", self.device in ("auto", "cpu", "cuda"), "'auto', 'cpu' or 'cuda'"),
            ("checkpoint_steps", self.checkpoint_steps >= 1, "at least 1"),
            ("checkpoint_seconds", self.checkpoint_seconds > 0, "above 0"),
            ("flush_steps", self.flush_steps >= 1, "at least 1"),
            ("probe_steps", self.probe_steps >= 0, "0 or more"),
        )
        for name, kept, rule in rules:
            if not kept:
                raise TrainingError(f"{name} = {getattr(self, name)!r}: must be {rule}.")


FREE = (
    *("precision", "device", "compile"),
    *("checkpoint_steps", "checkpoint_seconds", "flush_steps", "probe_steps"),
)
"""Settings of the loop that a resumption may change: they move no weight, or only by rounding."""


def comparable(settings: LoopSettings) -> dict[str, Any]:
    """The settings that a resumption must share, ready for JSON."""
    kept = {key: value for key, value in asdict(settings).items() if key not in FREE}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in kept.items()}


def rate_at(step: int, settings: LoopSettings) -> float:
    """Share of the learning rate at `step` (from 0): linear warm-up, then a cosine down to `final`.

    Example:
        >>> rate_at(0, LoopSettings(steps=100, warmup=10))
        0.1
    """
    rise = min(1.0, (step + 1) / (settings.warmup + 1) if step < settings.warmup else 1.0)
    length = max(settings.steps - settings.warmup, 1)
    done = min(max(step - settings.warmup, 0) / length, 1.0)
    return rise * (settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * done)))


def step_seed(seed: int, step: int, stream: str = "", rank: int = 0) -> int:
    """A seed that is a pure function of run, step, purpose and process; 0 to 2^63 - 1.

    Example:
        >>> generator = torch.Generator().manual_seed(step_seed(0, 17, "noise"))
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{stream}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
