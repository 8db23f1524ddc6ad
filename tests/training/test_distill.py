"""Distillation end to end: tiny-random as the teacher, real mp4 files as the data; and SVD-XT's true shapes on meta."""

from __future__ import annotations

import copy
import json
import math
import signal
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import svdlab
from svdlab.errors import TrainingError
from svdlab.models import Components, load_components
from svdlab.sampling import sigmas, start
from svdlab.training import distill as distilling
from svdlab.training.clips import Ahead, ClipBatch
from svdlab.training.consistency import Network, denoise
from svdlab.training.distill import Probe, distill, few_step_gain, student_info
from svdlab.training.distill_step import (
    Batch,
    DistillLoop,
    DistillSettings,
    choose_trainables,
    conditioned,
    draw_batch,
    draw_cond_aug,
    step_losses,
    teacher_network,
)
from svdlab.training.recipe import parse
from svdlab.training.videos import ClipSettings, VideoClips, prepare_videos
from tests.training.moving import moving_frames, write_videos

CLIPS = ClipSettings(width=32, height=32, num_frames=3, strides=(1, 2))


def loop(**changes: Any) -> DistillLoop:
    fixed: dict[str, Any] = {"steps": 4, "learning_rate": 1e-3, "warmup": 2, "averages": (0.9,), "device": "cpu"}
    return DistillLoop(**{**fixed, **changes})


def choose(**changes: Any) -> DistillSettings:
    fixed: dict[str, Any] = {"batch": 2, "min_guidance": (1.0, 1.0), "max_guidance": (1.5, 2.5), "clips": CLIPS}
    return DistillSettings(**{**fixed, "loop": loop(), **changes})


@pytest.fixture(scope="module")
def teacher() -> Components:
    return load_components("tiny-random", device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), speeds=(1, 3))


@pytest.fixture(scope="module")
def clips(folder: Path, teacher: Components, tmp_path_factory: pytest.TempPathFactory) -> VideoClips:
    return prepare_videos(folder, teacher, CLIPS, cache=tmp_path_factory.mktemp("cache"), progress=False)


@pytest.fixture(scope="module")
def batch(clips: VideoClips, teacher: Components) -> Batch:
    return draw_batch(clips.batch(range(2)), teacher, choose(), 0)


def weights(path: Path) -> dict[str, Tensor]:
    return load_file(path / "unet" / "diffusion_pytorch_model.safetensors")


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 0},
        {"grid": 1},
        {"solver": "rk4"},
        {"min_guidance": (-1.0, 1.0)},
        {"max_guidance": (2.0, 1.0)},
        {"max_guidance": 3.0},
        {"huber_c": 0},
        {"weight_exponent": -0.1},
        {"sampling": "normal"},
        {"sampling_std": 0},
        {"motion_bucket_id": (10, 2000)},
        {"motion_bucket_id": "ab"},
        {"fps": (0, 10)},
        {"cond_aug_std": -1},
        {"cond_aug_uniform": 1.5},
        {"trainables": "lora"},
        {"probe_clips": 0},
        {"scenes": 0},
        {"processes": -1},
        {"ahead": -1},
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(wrong))} = .*must be"):
        DistillSettings(**wrong)


def test_open_guidance_is_the_teacher_s_own(teacher: Components) -> None:
    guided = replace(teacher, defaults=replace(teacher.defaults, min_guidance=1.0, max_guidance=3.0))
    assert DistillSettings().guidance(guided) == ((1.0, 1.0), (3.0, 3.0))
    assert DistillSettings(max_guidance=(2.0, 2.5)).guidance(guided) == ((1.0, 1.0), (2.0, 2.5))


def test_settings_can_be_read_from_toml() -> None:
    text = """
        grid = 20
        solver = "heun"
        max_guidance = [2.0, 2.5]
        motion_bucket_id = [0, 255]
        [clips]
        strides = [2, 4]
        [loop]
        steps = 7
    """
    read = parse(DistillSettings, tomllib.loads(text), where="recipe")
    assert read == DistillSettings(
        grid=20,
        solver="heun",
        max_guidance=(2.0, 2.5),
        motion_bucket_id=(0, 255),
        clips=ClipSettings(strides=(2, 4)),
        loop=DistillLoop(steps=7),
    )
    assert (read.loop.learning_rate, read.loop.averages) == (1e-4, (0.95,))


# ---------------------------------------------------------------- what is drawn


def test_a_batch_is_a_function_of_its_seed(clips: VideoClips, teacher: Components) -> None:
    one, same, other = (draw_batch(clips.batch(range(2)), teacher, choose(), seed) for seed in (5, 5, 6))
    for name in ("noise", "image_latents", "time_ids", "guidance", "index"):
        assert torch.equal(getattr(one, name), getattr(same, name)), name
        assert not torch.equal(getattr(one, name), getattr(other, name)), name
    assert torch.equal(one.latents, other.latents)


def test_ids_are_fps_less_one_then_bucket_then_strength(clips: VideoClips, teacher: Components) -> None:
    own = clips.batch(range(4))
    ids = draw_batch(own, teacher, choose(), 0).time_ids
    assert torch.equal(ids[:, 0], own.fps - 1)
    assert torch.equal(ids[:, 1], own.motion_bucket_id)
    drawn = draw_batch(own, teacher, choose(fps=(7, 7), motion_bucket_id=(100, 102)), 0)
    assert drawn.time_ids[:, 0].tolist() == [6.0] * 4
    assert set(drawn.time_ids[:, 1].tolist()) <= {100.0, 101.0, 102.0}
    assert torch.equal(drawn.time_ids[:, 2], ids[:, 2])  # one choice leaves the other draws as they were
    assert torch.equal(drawn.noise, draw_batch(own, teacher, choose(), 0).noise)


def test_picture_noise_is_log_normal_or_for_a_share_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = draw_cond_aug(4000, choose(), generator)
    assert plain.median().item() == pytest.approx(0.0498, rel=0.05)
    assert plain.log().std().item() == pytest.approx(0.5, rel=0.05)
    flat = draw_cond_aug(4000, choose(cond_aug_uniform=1.0), generator)
    assert flat.mean().item() == pytest.approx(0.5, abs=0.02)
    assert flat.max() <= 1


def test_guidance_is_left_out_where_there_is_none(clips: VideoClips, teacher: Components) -> None:
    assert draw_batch(clips.batch([0]), teacher, choose(max_guidance=(1.0, 1.0)), 0).guidance is None
    scale = draw_batch(clips.batch([0]), teacher, choose(), 0).guidance
    assert scale is not None
    assert scale.shape == (1, 3, 1, 1, 1)
    assert scale[0, 0].item() == 1
    assert 1.5 <= scale[0, -1].item() <= 2.5


# ---------------------------------------------------------------- networks


def test_conditioning_is_the_pipeline_s(batch: Batch, teacher: Components) -> None:
    """The same network, conditioning and noise level: the pipeline's own denoiser gives the same answer."""
    from svdlab.conditioning import Conditioning
    from svdlab.pipeline import Pipeline
    from svdlab.request import Request

    pipe, levels = Pipeline(teacher), sigmas(4)
    requests = [Request(image="unused.png", num_frames=3).resolve(teacher.defaults) for _ in range(2)]
    rows = [Conditioning(batch.embeddings[k], batch.image_latents[k], batch.time_ids[k]) for k in range(2)]
    x = batch.latents + float(levels[2]) * batch.noise
    with torch.no_grad():
        wanted = pipe._denoiser(requests, rows)(x, float(levels[2]))
        found = denoise(conditioned(teacher.unet, batch), x, levels[2].expand(2))
    assert torch.allclose(found, wanted, atol=1e-4)


def test_halves_of_the_guided_teacher_together_or_in_turn(batch: Batch, teacher: Components) -> None:
    x, t = batch.noise, torch.tensor([0.5, -0.2])
    with torch.no_grad():
        together = teacher_network(teacher.unet, batch)(x, t)
        in_turn = teacher_network(teacher.unet, batch, together=False)(x, t)
        plain = conditioned(teacher.unet, batch)(x, t)
    assert torch.allclose(together, in_turn, atol=1e-4)
    assert torch.allclose(together[:, 0], plain[:, 0], atol=1e-4)  # guidance 1 at the first frame
    assert not torch.allclose(together[:, -1], plain[:, -1], atol=1e-2)


def test_half_precision_teacher_works_beside_a_full_student(batch: Batch, teacher: Components) -> None:
    half = copy.deepcopy(teacher.unet).to(torch.bfloat16)
    student = copy.deepcopy(teacher.unet).requires_grad_(True)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            losses = step_losses(student, student, half, batch, choose())
        assert losses.dtype == torch.float32
        assert bool(torch.isfinite(losses).all())
    full = step_losses(student, student, teacher.unet, batch, choose())
    assert torch.allclose(losses, full, rtol=0.5)


def test_gradient_checkpointing_changes_no_gradient(batch: Batch, teacher: Components) -> None:
    found = []
    for frugal in (False, True):
        student = copy.deepcopy(teacher.unet).requires_grad_(True).train()
        if frugal:
            student.enable_gradient_checkpointing()
        step_losses(student, student, teacher.unet, batch, choose()).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
    assert found[0].abs().sum() > 0
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_temporal_training_moves_only_what_mixes_frames(batch: Batch, teacher: Components) -> None:
    student = copy.deepcopy(teacher.unet)
    some, every = choose_trainables(student, "temporal"), sum(p.numel() for p in student.parameters())
    assert 0.1 * every < some < 0.9 * every
    step_losses(student, student, teacher.unet, batch, choose()).sum().backward()
    moved = {name for name, p in student.named_parameters() if p.grad is not None}
    assert all("temporal_" in name or "time_mixer" in name or "time_pos_embed" in name for name in moved)
    assert any("temporal_res_block" in name for name in moved)
    assert any("temporal_transformer_blocks" in name for name in moved)
    assert all(p.grad is None for p in teacher.unet.parameters())
    with pytest.raises(TrainingError, match="trainables = 'temporal'"):
        choose_trainables(nn.Conv2d(1, 1, 1), "temporal")


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_shapes_of_the_true_svd_xt(solver: str) -> None:
    """1.5 billion weights, 25 frames of 1024 x 576 px: the whole step and its gradient, on the meta device."""
    from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel

    with torch.device("meta"):
        unets = [UNetSpatioTemporalConditionModel().to("meta") for _ in range(2)]
    student, teacher = unets[0].train(), unets[1].half().requires_grad_(False)
    assert sum(p.numel() for p in student.parameters()) == 1_524_623_082
    student.enable_gradient_checkpointing()
    meta = {"device": "meta"}
    full = Batch(
        latents=torch.empty(1, 25, 4, 72, 128, **meta),
        noise=torch.empty(1, 25, 4, 72, 128, **meta),
        image_latents=torch.empty(1, 4, 72, 128, **meta),
        embeddings=torch.empty(1, 1, 1024, **meta),
        time_ids=torch.empty(1, 3, **meta),
        guidance=torch.empty(1, 25, 1, 1, 1, **meta),
        index=torch.tensor([10]),
    )
    settings = DistillSettings(batch=1, solver=solver, together=solver == "euler")
    losses = step_losses(student, student, teacher, full, settings)
    assert losses.shape == (1,)
    assert losses.dtype == torch.float32
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


# ---------------------------------------------------------------- data ahead of time


@pytest.mark.parametrize("depth", [0, 2])
def test_batches_made_ahead_are_those_asked_for(depth: int) -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    with Ahead(make, depth=depth, last=6) as batches:
        assert [batches(step) for step in (2, 3, 4, 5)] == [4, 9, 16, 25]
    assert sorted(made) == [2, 3, 4, 5]  # none twice, none beyond the last


def test_an_error_in_the_background_reaches_the_step() -> None:
    def make(step: int) -> int:
        raise TrainingError(f"step {step} has no data")

    with Ahead(make, depth=1, last=3) as batches, pytest.raises(TrainingError, match="step 0"):
        batches(0)


# ---------------------------------------------------------------- whole runs


class Interrupted:
    """Clips whose `n`-th batch never comes: the process is interrupted, once."""

    def __init__(self, clips: VideoClips, after: int) -> None:
        self.clips, self.key, self.left = clips, clips.key, after

    def batch(self, numbers: Sequence[int]) -> ClipBatch:
        self.left -= 1
        if self.left == -1:
            raise KeyboardInterrupt
        return self.clips.batch(numbers)


def test_resumed_run_ends_with_the_weights_of_the_unbroken_one(
    clips: VideoClips, teacher: Components, tmp_path: Path
) -> None:
    settings = choose(solver="heun", loop=loop(steps=5, checkpoint_steps=2, averages=(0.9, 0.5)))
    whole = distill(teacher, clips, replace(settings, ahead=0), out=tmp_path / "whole", progress=False)
    assert (whole.step, whole.finished) == (5, True)
    broken = Interrupted(clips, after=3)
    with pytest.raises(KeyboardInterrupt):
        distill(teacher, broken, settings, out=tmp_path / "broken", progress=False)
    assert not (tmp_path / "broken" / "student").exists()
    again = distill(teacher, broken, settings, out=tmp_path / "broken", progress=False)
    assert (again.step, again.finished) == (5, True)
    first, second = weights(tmp_path / "whole" / "student"), weights(tmp_path / "broken" / "student")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    kept = [tmp_path / name / "checkpoints" / "step-00000005.safetensors" for name in ("whole", "broken")]
    full, resumed = (load_file(path) for path in kept)
    assert all(torch.equal(full[key], resumed[key]) for key in full)
    losses = [pd.read_csv(tmp_path / name / "loss.csv")["loss"].tolist() for name in ("whole", "broken")]
    assert losses[0] == losses[1]


def test_student_folder_loads_and_says_how_it_is_sampled(folder: Path, teacher: Components, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in teacher.unet.state_dict().items()}
    settings = choose(max_guidance=(1.0, 1.0), trainables="temporal", loop=loop(steps=2, averages=()))
    result = distill(teacher, folder, settings, out=tmp_path / "run", progress=False)
    assert result.finished
    assert all(torch.equal(before[key], value) for key, value in teacher.unet.state_dict().items())
    pipe = svdlab.load(str(tmp_path / "run" / "student"), device="cpu")
    info, own = pipe.components.info, pipe.defaults
    assert (info.kind, own.schedule, own.gamma, own.max_guidance, own.good_steps) == ("student", "animatelcm", 1, 1, 4)
    assert (own.num_frames, own.width, own.height) == (25, 64, 64)
    assert "Consistency distillation of tiny-random" in info.notes
    clip = pipe(moving_frames(1, speed=0, width=64)[0], steps=2, seed=1, num_frames=3)
    assert clip.frames.shape == (3, 64, 64, 3)
    changed = {
        key for key, value in pipe.components.unet.state_dict().items() if not torch.equal(value, before[key].half())
    }
    assert changed
    assert all("temporal_" in key or "time_" in key for key in changed)
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"student", "clips", "checkpoints", "loss.csv", "loss.png", "distill.json"} <= files
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_folder_that_was_begun_otherwise_is_refused(clips: VideoClips, teacher: Components, tmp_path: Path) -> None:
    settings = choose(max_guidance=(1.0, 1.0), loop=loop(steps=1, averages=()))
    distill(teacher, clips, settings, out=tmp_path, progress=False)
    with pytest.raises(TrainingError, match=r"huber_c was 0.001, is 0.5"):
        distill(teacher, clips, replace(settings, huber_c=0.5), out=tmp_path, progress=False)
    with pytest.raises(TrainingError, match="resume = False"):
        distill(teacher, clips, settings, out=tmp_path, resume=False, progress=False)
    free = replace(settings, gradient_checkpointing=True, together=False)
    assert distill(teacher, clips, free, out=tmp_path, progress=False).step == 1
    (tmp_path / distilling.RECORD).write_text("[]")
    with pytest.raises(TrainingError, match="cannot be read"):
        distill(teacher, clips, settings, out=tmp_path, progress=False)


def test_ctrl_c_saves_and_the_next_call_goes_on(clips: VideoClips, teacher: Components, tmp_path: Path) -> None:
    class Pressed(Interrupted):
        def batch(self, numbers: Sequence[int]) -> ClipBatch:
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGINT)
            return self.clips.batch(numbers)

    settings = choose(max_guidance=(1.0, 1.0), ahead=0, loop=loop(steps=3, averages=()))
    pressed = Pressed(clips, after=2)
    stopped = distill(teacher, pressed, settings, out=tmp_path, progress=False)
    assert (stopped.step, stopped.finished) == (2, False)
    assert not (tmp_path / "student").exists()
    assert distill(teacher, pressed, settings, out=tmp_path, progress=False).finished
    assert (tmp_path / "student" / "svdlab.json").is_file()


def test_a_teacher_in_half_precision_encodes_in_full_and_teaches(clips: VideoClips, tmp_path: Path) -> None:
    half = load_components("tiny-random", device="cpu", dtype="fp16")
    settings = choose(grid=4, probe_clips=1, loop=loop(steps=1, averages=()))
    assert math.isfinite(distill(half, clips, settings, out=tmp_path, progress=False).loss)
    assert next(half.unet.parameters()).dtype == torch.float16
    assert next(half.vae.encoder.parameters()).dtype == torch.float32
    probe = Probe(half, clips, settings)
    assert all(math.isfinite(value) for value in probe.measure(half.unet).values())


def test_gain_is_the_decibels_won_over_a_still_picture(clips: VideoClips) -> None:
    truth = clips.batch(range(3)).latents
    x = start(torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)), sigmas(4))

    def oracle(answer: Tensor) -> Network:
        def network(scaled: Tensor, c_noise: Tensor) -> Tensor:
            sigma = (4 * c_noise).exp().view(-1, 1, 1, 1, 1)
            root = (sigma**2 + 1).sqrt()
            return (scaled / root - answer) * root / sigma  # whose denoiser gives the answer at every sigma

        return network

    still = truth[:, :1].expand_as(truth)
    half_way = (truth + still) / 2  # half the error in amplitude: 6 dB
    assert few_step_gain(oracle(still), x, truth) == pytest.approx(0, abs=0.01)
    assert few_step_gain(oracle(half_way), x, truth) == pytest.approx(6.02, abs=0.02)
    assert few_step_gain(oracle(truth), x, truth) > 20


def test_bf16_is_the_precision_of_the_steps_not_of_the_weights(
    clips: VideoClips, teacher: Components, tmp_path: Path
) -> None:
    full, half = (
        choose(max_guidance=(1.0, 1.0), loop=loop(steps=2, averages=(), precision=precision))
        for precision in ("fp32", "bf16")
    )
    for name, settings in (("full", full), ("half", half)):
        distill(teacher, clips, settings, out=tmp_path / name, progress=False)
    first, second = (
        load_file(tmp_path / name / "checkpoints" / "step-00000002.safetensors") for name in ("full", "half")
    )
    assert {value.dtype for key, value in second.items() if key.startswith("modules")} == {torch.float32}
    key = "modules.unet.conv_out.weight"
    assert not torch.equal(first[key], second[key])
    assert torch.allclose(first[key], second[key], atol=3e-3)


def test_record_names_teacher_data_and_settings(clips: VideoClips, teacher: Components, tmp_path: Path) -> None:
    distill(teacher, clips, choose(loop=loop(steps=1, averages=())), out=tmp_path, progress=False)
    record = json.loads((tmp_path / distilling.RECORD).read_text())
    assert record["teacher"] == teacher.fingerprint.removesuffix("-fp32")
    assert record["data"] == clips.key
    assert record["grid"] == 40
    assert record["loop.steps"] == 1


def test_students_and_things_that_are_no_data_are_refused(teacher: Components, tmp_path: Path) -> None:
    student = replace(teacher, info=student_info(teacher))
    with pytest.raises(TrainingError, match="is a student already"):
        distill(student, tmp_path, out=tmp_path / "run", progress=False)
    with pytest.raises(TrainingError, match=r"data = '7' \(int\): must be a folder of videos, a World"):
        distill(teacher, 7, choose(), out=tmp_path / "run", progress=False)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_short_distillation_brings_one_step_nearer_to_the_teacher_s_ode(
    clips: VideoClips, teacher: Components, tmp_path: Path
) -> None:
    """The loss starts low, since student and target are the teacher alike; once they part it falls."""
    settings = choose(
        batch=4,
        max_guidance=(1.0, 1.0),
        loop=loop(steps=80, learning_rate=3e-4, warmup=5, averages=(0.9,), probe_steps=40, checkpoint_steps=100),
    )
    probe = Probe(teacher, clips, settings)
    before = probe.measure(teacher.unet)
    distill(teacher, clips, settings, out=tmp_path, progress=False)
    loss = pd.read_csv(tmp_path / "loss.csv")["loss"]
    assert loss[60:].mean() < 0.75 * loss[20:40].mean()
    quality = pd.read_csv(tmp_path / "quality.csv")
    assert quality["step"].tolist() == [40, 80]
    assert (tmp_path / "quality.png").is_file()
    assert quality["one_step"].iloc[-1] < 0.9 * before["one_step"]
    assert quality["consistency"].iloc[-1] < before["consistency"]
    written = probe.measure(load_components(tmp_path / "student", device="cpu").unet)
    assert written["one_step"] == pytest.approx(quality["one_step"].iloc[-1], rel=0.02)  # but for fp16
