"""Muon on hidden matrices: what an update is, and that it survives a checkpoint."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from svdlab.errors import TrainingError
from svdlab.training.matrices import LEAST, Matrices, is_hidden_matrix
from svdlab.training.settings import LoopSettings
from svdlab.training.state import State, make_state

RATE = 0.01


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 40, 3), nn.GroupNorm(4, 40), nn.Conv2d(40, 64, 3), nn.Conv2d(64, 2, 1))


def state_of(**changes: object) -> State:
    chosen = LoopSettings(steps=9, learning_rate=RATE, averages=(), optimizer="muon", **changes)  # type: ignore[arg-type]
    return make_state({"net": network()}, chosen)


def one_step(state: State, seed: int) -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    state.backward(state.modules["net"](x).square().mean())
    state.update(1.0, float("inf"))


def test_hidden_matrices_are_those_of_enough_rows_and_columns_outside_embeddings():
    wide, narrow = torch.ones(LEAST, 4, 3, 3), torch.ones(LEAST - 1, 64)
    assert is_hidden_matrix("unet.mid_block.resnets.0.conv1.weight", wide)
    assert not is_hidden_matrix("unet.conv_out.weight", narrow)
    assert not is_hidden_matrix("unet.mid_block.resnets.0.norm1.weight", torch.ones(96))
    assert not is_hidden_matrix("unet.time_embedding.linear_1.weight", torch.ones(64, 64))


def test_an_update_has_singular_values_near_one_and_the_size_of_adams():
    """0.2 sqrt(max(rows, columns)) times the learning rate, and a matrix whose directions are about equally long."""
    conv = nn.Conv2d(40, 64, 3)
    before = conv.weight.detach().clone()
    matrices = Matrices({"weight": conv.weight}, learning_rate=RATE, weight_decay=0.0)
    conv(torch.randn(4, 40, 9, 9, generator=torch.Generator().manual_seed(1))).square().mean().backward()
    matrices.step(RATE)
    moved = (before - conv.weight.detach()).reshape(64, -1) / (RATE * 0.2 * 360**0.5)
    values = torch.linalg.svdvals(moved)
    assert 0.5 < values.median() < 1.4
    assert values.max() < 1.5
    assert 0.1 * RATE < (before - conv.weight.detach()).square().mean().sqrt() < 0.3 * RATE


def test_narrow_layers_norms_and_layers_with_a_rate_of_their_own_stay_with_adamw():
    state = state_of(faster={"2.": 0.5})
    one_step(state, 0)
    kept = {key for key in state.to_tensors() if key.startswith("optimizer.")}
    by_muon = {key for key in kept if key.startswith("optimizer.momentum_buffer.")}
    assert by_muon == {"optimizer.momentum_buffer.net.0.weight"}
    assert "optimizer.exp_avg.net.2.weight" in kept
    assert "optimizer.exp_avg.net.3.weight" in kept
    assert "optimizer.exp_avg.net.0.weight" not in kept


def test_a_checkpoint_goes_on_as_if_it_had_not_been_broken():
    whole = state_of()
    for seed in range(4):
        one_step(whole, seed)
    first = state_of()
    one_step(first, 0)
    one_step(first, 1)
    tensors = {key: value.clone() for key, value in first.to_tensors().items()}
    second = state_of()
    second.from_tensors(tensors, where="checkpoint")
    one_step(second, 2)
    one_step(second, 3)
    pairs = zip(whole.weights()["net"].parameters(), second.weights()["net"].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_of_adamw_is_refused():
    state = make_state({"net": network()}, LoopSettings(steps=9, averages=()))
    one_step(state, 0)
    with pytest.raises(TrainingError, match="do not fit"):
        state_of().from_tensors(state.to_tensors(), where="checkpoint")


def test_another_optimiser_is_refused_by_name():
    with pytest.raises(TrainingError, match="optimizer = 'sgd': must be 'adamw' or 'muon'"):
        LoopSettings(steps=1, optimizer="sgd")


def test_parameters_that_were_given_other_memory_still_learn():
    """As distributed training does when it wraps a network."""
    conv = nn.Conv2d(40, 64, 3)
    matrices = Matrices({"weight": conv.weight}, learning_rate=RATE, weight_decay=0.0)
    conv.weight.data = conv.weight.data.clone()
    before = conv.weight.detach().clone()
    conv(torch.ones(1, 40, 3, 3)).square().mean().backward()
    matrices.step(RATE)
    assert not torch.equal(conv.weight.detach(), before)


def test_two_processes_learn_the_same_matrices(tmp_path):
    """Started as the docs say: all that Muon moves has moved, alike in both, by the mean of their gradients."""
    script = tmp_path / "two.py"
    script.write_text(TWO.format(out=str(tmp_path)), encoding="utf-8")
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path.cwd())}
    ended = subprocess.run(call, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    before = {f"modules.net.{key}": value for key, value in network().state_dict().items()}
    for key, value in before.items():
        assert torch.equal(first[key], second[key])
        assert not torch.equal(first[key], value), key


TWO = """
from safetensors.torch import save_file
from tests.training.test_matrices import one_step, state_of

state = state_of(device="cpu")
assert state.world == 2
one_step(state, seed=state.rank)
save_file(state.to_tensors(), r"{out}/" + str(state.rank) + ".safetensors")
"""
