from __future__ import annotations

import csv
import itertools
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from svdlab.errors import TrainingError
from svdlab.training import checkpoint, loop
from svdlab.training.loop import run_loop
from svdlab.training.settings import LoopSettings, rate_at, step_seed
from svdlab.training.state import State, make_state
from tests.training.toy import loss_of_step, network, run, settings


class BoomError(Exception):
    pass


def failing_at(stop: int):
    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        if step == stop:
            raise BoomError
        return loss_of_step(step, state)

    return step_fn


def same(one: State, other: State) -> bool:
    left, right = one.to_tensors(), other.to_tensors()
    assert left.keys() == right.keys()
    return all(torch.equal(left[key], right[key]) for key in left)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[State, Path]:
    out = tmp_path_factory.mktemp("unbroken")
    state, result = run(out)
    assert result.finished
    assert result.step == 40
    return state, out


def test_the_loss_falls_and_everything_is_written(unbroken):
    state, out = unbroken
    losses = [float(row["loss"]) for row in rows(out / "loss.csv")]
    assert len(losses) == 40
    assert sum(losses[-8:]) < 0.85 * sum(losses[:8])
    assert set(rows(out / "loss.csv")[0]) == {"step", "loss", "size", "grad_norm", "learning_rate"}
    with Image.open(out / "loss.png") as picture:
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
        "checkpoint.json",
        "step-00000040.safetensors",
    ]
    assert not (out / "quality.csv").exists()
    assert state.step == 40


@pytest.mark.parametrize("stops", [[23], [3, 7, 8, 33]])
def test_resumed_after_exceptions_equals_unbroken_bit_for_bit(unbroken, tmp_path, stops):
    for stop in stops:
        with pytest.raises(BoomError):
            run(tmp_path, step_fn=failing_at(stop))
    state, result = run(tmp_path)
    assert result.finished
    assert same(state, unbroken[0])
    assert rows(tmp_path / "loss.csv") == rows(unbroken[1] / "loss.csv")


def test_the_curve_can_be_looked_at_meanwhile_and_is_put_right_by_a_resume(unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SHOW_SECONDS", 0.0)
    chosen = settings(flush_steps=1)
    with pytest.raises(BoomError):
        run(tmp_path, step_fn=failing_at(25), chosen=chosen)
    assert len(rows(tmp_path / "loss.csv")) == 25
    assert checkpoint.read_commit(tmp_path / "checkpoints")["step"] == 21
    run(tmp_path, chosen=chosen)
    assert rows(tmp_path / "loss.csv") == rows(unbroken[1] / "loss.csv")


def test_a_broken_run_went_on_from_its_checkpoint(tmp_path):
    with pytest.raises(BoomError):
        run(tmp_path, step_fn=failing_at(23))
    seen: list[int] = []
    run(tmp_path, step_fn=lambda step, state: seen.append(step) or loss_of_step(step, state))
    assert seen == list(range(21, 40))


@pytest.mark.slow
def test_killed_by_sigkill_between_and_while_saving_equals_unbroken(unbroken, tmp_path):
    def kill_at(words: str, count: int, pause: float) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.training.toy", str(tmp_path), "40", str(pause)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for line in process.stdout:
            count -= line.strip() == words
            if count == 0:
                break
        process.kill()
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL

    kill_at("step 9", 1, 0)
    assert checkpoint.read_commit(tmp_path / "checkpoints")["step"] == 7
    kill_at("saving", 1, 30)  # of step 14: its tensors lie there, not committed
    assert checkpoint.read_commit(tmp_path / "checkpoints")["step"] == 7
    assert (tmp_path / "checkpoints" / "step-00000014.safetensors").exists()
    state, _ = run(tmp_path)
    assert same(state, unbroken[0])
    assert rows(tmp_path / "loss.csv") == rows(unbroken[1] / "loss.csv")
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2  # what the dead left is gone


def test_first_ctrl_c_saves_and_stops_and_the_same_call_goes_on(unbroken, tmp_path, caplog):
    def interrupted(step: int, state: State) -> dict[str, torch.Tensor]:
        if step == 10:
            os.kill(os.getpid(), signal.SIGINT)
        return loss_of_step(step, state)

    before = signal.getsignal(signal.SIGINT)
    with caplog.at_level(logging.WARNING, "svdlab"):
        _, result = run(tmp_path, step_fn=interrupted)
    assert (result.step, result.finished) == (11, False)
    assert "the same call goes on" in caplog.text
    assert signal.getsignal(signal.SIGINT) is before
    state, result = run(tmp_path)
    assert result.finished
    assert same(state, unbroken[0])


def test_second_ctrl_c_stops_at_once(tmp_path):
    def interrupted(step: int, state: State) -> dict[str, torch.Tensor]:
        if step == 10:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return loss_of_step(step, state)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, step_fn=interrupted)
    assert checkpoint.read_commit(tmp_path / "checkpoints")["step"] == 7


def test_global_random_state_is_left_as_it_was_and_does_not_matter(unbroken, tmp_path):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    state, _ = run(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert same(state, unbroken[0])


def test_average_is_the_moving_average_of_the_weights(tmp_path):
    chosen = settings(steps=12, averages=(0.8, 0.99), average_warmup=True)
    seen: list[torch.Tensor] = []

    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        seen.append(state.weights()["net"][0].weight.detach().clone())
        return loss_of_step(step, state)

    state, _ = run(tmp_path, step_fn=step_fn, chosen=chosen)
    path = [*seen[1:], state.weights()["net"][0].weight.detach()]
    for index, decay in enumerate(chosen.averages):
        mean = seen[0]
        for step, weight in enumerate(path):
            d = min(decay, (1 + step) / (10 + step))
            mean = d * mean + (1 - d) * weight
        average = state.weights(index)["net"]
        torch.testing.assert_close(average[0].weight, mean, rtol=1e-5, atol=1e-6)
        assert not average.training
        assert torch.equal(average[1].running_mean, state.weights()["net"][1].running_mean)
        assert not any(parameter.requires_grad for parameter in average.parameters())


def test_update_is_adamw_with_clipping(tmp_path):
    chosen = LoopSettings(steps=1, warmup=0, learning_rate=0.1, clip_norm=0.5, betas=(0.9, 0.99), averages=())
    net = nn.Linear(2, 1, bias=False)
    start = net.weight.detach().clone()
    state = make_state({"net": net}, chosen)

    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        return {"loss": (state.modules["net"].weight * torch.tensor([3.0, 4.0])).sum()}

    run_loop(step_fn=step_fn, state=state, settings=chosen, out=tmp_path, progress=False)
    kept = state.to_tensors()
    # The gradient (3, 4) has norm 5 and is clipped to norm 0.5; the first step of Adam has size lr whatever the norm.
    torch.testing.assert_close(kept["optimizer.exp_avg.net.weight"], 0.1 * torch.tensor([[0.3, 0.4]]))
    torch.testing.assert_close(net.weight.detach(), start - 0.1, rtol=1e-5, atol=1e-5)
    assert float(rows(tmp_path / "loss.csv")[0]["grad_norm"]) == pytest.approx(5)


def test_faster_scales_the_rate_of_some_parameters(tmp_path):
    chosen = LoopSettings(steps=1, warmup=0, learning_rate=0.1, averages=(), faster={"1.": 3.0, "0.bias": 0.0})
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    start = {name: value.detach().clone() for name, value in net.named_parameters()}
    state = make_state({"net": net}, chosen)

    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        return {"loss": sum(parameter.sum() for parameter in state.modules["net"].parameters())}

    run_loop(step_fn=step_fn, state=state, settings=chosen, out=tmp_path, progress=False)
    moved = {name: float((start[name] - value.detach()).mean()) for name, value in net.named_parameters()}
    assert moved == pytest.approx({"0.weight": 0.1, "0.bias": 0.0, "1.weight": 0.3, "1.bias": 0.3}, rel=1e-4)
    with pytest.raises(TrainingError, match="faster = \\['temporal'\\]"):
        make_state({"net": network()}, settings(faster={"temporal": 2.0}))


@given(steps=st.integers(2, 3000), warmup=st.integers(0, 100), final=st.floats(0, 1))
def test_rate_rises_then_falls_and_ends_low(steps, warmup, final):
    chosen = LoopSettings(steps=steps, warmup=warmup, final=final)
    rates = [rate_at(step, chosen) for step in range(steps)]
    peak = min(warmup, steps - 1)
    assert all(b > a for a, b in itertools.pairwise(rates[:peak]))
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(rates[peak:]))
    assert all(0 < rate <= 1 for rate in rates)
    if steps > warmup:
        assert rates[peak] == 1
        assert rate_at(steps, chosen) == pytest.approx(final)


@given(st.integers(0, 2**62), st.integers(0, 10**6), st.integers(0, 7))
def test_step_seeds_differ_in_every_argument(seed, step, rank):
    base = step_seed(seed, step, "a", rank)
    assert base == step_seed(seed, step, "a", rank)
    assert 0 <= base < 2**63
    others = [(seed + 1, step, "a", rank), (seed, step + 1, "a", rank), (seed, step, "b", rank)]
    others.append((seed, step, "a", rank + 1))
    assert base not in {step_seed(*other) for other in others}


def test_probe_gives_a_second_curve_that_survives_a_resume(tmp_path):
    def probe(step: int, state: State) -> dict[str, float]:
        return {"psnr": 20.0 + step, "error": 1.0 / step}

    chosen = settings(probe_steps=10)
    with pytest.raises(BoomError):
        run(tmp_path, step_fn=failing_at(33), chosen=chosen, probe=probe)
    run(tmp_path, chosen=chosen, probe=probe)
    assert [row["step"] for row in rows(tmp_path / "quality.csv")] == ["10", "20", "30", "40"]
    assert [float(row["psnr"]) for row in rows(tmp_path / "quality.csv")] == [30, 40, 50, 60]
    assert (tmp_path / "quality.png").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path, value):
    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        out = loss_of_step(step, state)
        return {**out, "loss": out["loss"] * value} if step == 12 else out

    with pytest.raises(TrainingError, match="of step 13 is"):
        run(tmp_path, step_fn=step_fn)
    assert checkpoint.read_commit(tmp_path / "checkpoints")["step"] == 7


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        weight = state.modules["net"][0].weight
        return {"loss": (weight - weight.detach()).abs().sqrt().sum()}

    with pytest.raises(TrainingError, match="grad_norm of step 1 is nan"):
        run(tmp_path, step_fn=step_fn)


def test_a_finished_run_does_nothing_more(unbroken):
    def never(step: int, state: State) -> dict[str, torch.Tensor]:
        raise AssertionError

    state, result = run(unbroken[1], step_fn=never)
    assert result.finished
    assert same(state, unbroken[0])
    losses = [float(row["loss"]) for row in rows(unbroken[1] / "loss.csv")]
    assert result.loss == pytest.approx(sum(losses[-4:]) / 4)


def test_settings_that_move_weights_may_not_change(unbroken):
    with pytest.raises(TrainingError, match=r"learning_rate was 0\.005, is 0\.1"):
        run(unbroken[1], chosen=settings(learning_rate=0.1))
    _, result = run(unbroken[1], chosen=settings(checkpoint_steps=3, flush_steps=1, probe_steps=2))
    assert result.finished


def test_resume_false_refuses_what_is_there(unbroken, tmp_path):
    with pytest.raises(TrainingError, match="resume = False"):
        run(unbroken[1], resume=False)
    assert run(tmp_path, resume=False)[1].finished


def test_another_network_is_refused(unbroken):
    chosen = settings()
    state = make_state({"net": nn.Linear(6, 2)}, chosen)
    with pytest.raises(TrainingError, match="of other networks"):
        run_loop(step_fn=loss_of_step, state=state, settings=chosen, out=unbroken[1], progress=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("steps", 0), ("learning_rate", 0.0), ("warmup", -1), ("final", 2.0), ("betas", (0.9, 1.0))],
        *[("clip_norm", 0.0), ("averages", (1.0,)), ("precision", "fp16"), ("device", "tpu"), ("seed", -1)],
        *[("checkpoint_steps", 0), ("checkpoint_seconds", 0), ("flush_steps", 0), ("probe_steps", -1)],
        *[("weight_decay", -1.0), ("faster", {"a": -1.0})],
    ],
)
def test_settings_out_of_bounds_are_named(name, value):
    with pytest.raises(TrainingError, match=f"{name} = "):
        LoopSettings(**{"steps": 10, name: value})


def test_nothing_to_train_and_no_gpu_are_refused():
    with pytest.raises(TrainingError, match="nothing to train"):
        make_state({"net": network().requires_grad_(False)}, settings())
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="device = 'cuda'"):
            make_state({"net": network()}, settings(device="cuda"))


def test_bf16_computes_in_bf16_and_keeps_fp32_weights(tmp_path):
    seen = []

    def step_fn(step: int, state: State) -> dict[str, torch.Tensor]:
        seen.append(state.modules["net"][0](torch.ones(1, 6)).dtype)
        return loss_of_step(step, state)

    state, _ = run(tmp_path, step_fn=step_fn, chosen=settings(steps=2, precision="bf16"))
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in state.to_tensors().values() if value.is_floating_point()} == {torch.float32}
