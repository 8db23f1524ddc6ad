"""A toy regression for the loop, and a process that runs it and is killed: ``python -m tests.training.toy OUT STEPS``.

It says ``step K`` after each step and ``saving`` when a checkpoint is about to be moved into place.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from svdlab.training import checkpoint
from svdlab.training.loop import Result, run_loop
from svdlab.training.settings import LoopSettings, step_seed
from svdlab.training.state import State, make_state


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.SiLU(), nn.Dropout(0.1), nn.Linear(32, 2))


def loss_of_step(step: int, state: State) -> dict[str, torch.Tensor]:
    """Learn the sines of two sums; the batch is a pure function of the step, dropout uses the global generator."""
    generator = torch.Generator().manual_seed(step_seed(0, step, "batch"))
    x = torch.randn(16, 6, generator=generator)
    y = torch.stack([x[:, :3].sum(1).sin(), x[:, 3:].sum(1).cos()], dim=1)
    out = state.modules["net"](x)
    return {"loss": functional.mse_loss(out, y), "size": out.abs().mean()}


def settings(**changes) -> LoopSettings:
    fixed = {"steps": 40, "warmup": 5, "learning_rate": 5e-3, "averages": (0.9, 0.99), "device": "cpu"}
    return LoopSettings(**{**fixed, "checkpoint_steps": 7, "weight_decay": 0.01, **changes})


def run(out: Path, *, step_fn=loss_of_step, chosen: LoopSettings | None = None, **more) -> tuple[State, Result]:
    chosen = chosen or settings()
    state = make_state({"net": network()}, chosen)
    return state, run_loop(step_fn=step_fn, state=state, settings=chosen, out=out, progress=False, **more)


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> None:
    torch.set_num_threads(1)
    write = checkpoint.write_atomic

    def slow_write(path: Path, data: str) -> None:  # tensors are there, the commit is not: the moment to be killed in
        if Path(path).name == checkpoint.COMMIT:
            say("saving")
            time.sleep(float(sys.argv[3]))
        write(path, data)

    def spoken(step: int, state: State) -> dict[str, torch.Tensor]:
        say(f"step {step}")
        return loss_of_step(step, state)

    checkpoint.write_atomic = slow_write
    run(Path(sys.argv[1]), step_fn=spoken, chosen=settings(steps=int(sys.argv[2])))
    say("done")


if __name__ == "__main__":
    main()
