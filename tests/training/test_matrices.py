"""Muon on hidden matrices: what an update is, and that it survives a checkpoint."""

from __future__ import annotations

import pytest
import torch
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
