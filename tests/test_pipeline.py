from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import svdlab as sl
from svdlab.batching import as_request, check_batch, is_guided
from svdlab.errors import ModelError, RequestError
from svdlab.pipeline import Pipeline
from svdlab.sampling import NoiseStreams, SVDLCMScheduler
from tests.pictures import blobs

SMALL = {"num_frames": 5, "seed": 11}


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def stock(pipe, monkeypatch):
    """The stock diffusers pipeline over the same components, with its conditioning noise drawn from our stream."""
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as module
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler

    parts = pipe.components
    scheduler = EulerDiscreteScheduler(
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
        steps_offset=1,
    )
    built = module.StableVideoDiffusionPipeline(
        vae=parts.vae,
        image_encoder=parts.image_encoder,
        unet=parts.unet,
        scheduler=scheduler,
        feature_extractor=parts.feature_extractor,
    )
    built.set_progress_bar_config(disable=True)
    noise = NoiseStreams(SMALL["seed"]).conditioning((3, 64, 64))[None]
    monkeypatch.setattr(module, "randn_tensor", lambda shape, **rest: noise.expand(shape))

    def run(image, *, steps, output_type, **rest):
        latents = NoiseStreams(SMALL["seed"]).initial((5, 4, 8, 8))[None]
        result = built(
            image,
            height=64,
            width=64,
            num_frames=5,
            num_inference_steps=steps,
            latents=latents,
            output_type=output_type,
            **rest,
        )
        return result.frames[0]

    return SimpleNamespace(run=run, pipeline=built)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return (torch.linalg.norm(a - b) / torch.linalg.norm(b)).item()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
@pytest.mark.parametrize("guidance", [(1.0, 1.0), (1.0, 3.0)])
def test_euler_equals_the_stock_pipeline(pipe, stock, guidance):
    image, (low, high) = blobs(), guidance
    knobs = {"fps": 7, "motion_bucket_id": 90}
    clip = pipe(
        image,
        steps=3,
        schedule="karras",
        gamma=0.0,
        cond_aug=0.05,
        min_guidance=low,
        max_guidance=high,
        decode_chunk=2,
        **knobs,
        **SMALL,
    )
    same = {"steps": 3, "noise_aug_strength": 0.05, "min_guidance_scale": low, "max_guidance_scale": high, **knobs}
    latents = stock.run(image, output_type="latent", **same)
    assert relative(clip.latents, latents) <= 1e-4
    frames = stock.run(image, output_type="np", decode_chunk_size=2, **same)
    assert np.abs(clip.frames / 255 - frames).max() <= 0.5 / 255 + 1e-4


@pytest.mark.parametrize("schedule", ["animatelcm", "even"])
def test_our_scheduler_in_the_stock_pipeline_gives_the_same_latents(pipe, stock, schedule):
    image = blobs()
    stock.pipeline.scheduler = SVDLCMScheduler(noise_seed=SMALL["seed"], schedule=schedule)
    same = {"min_guidance_scale": 1.0, "max_guidance_scale": 1.0, "fps": 10, "noise_aug_strength": 0.02}
    latents = stock.run(image, steps=4, output_type="latent", **same)
    clip = pipe(image, steps=4, schedule=schedule, **SMALL)
    assert relative(clip.latents, latents) <= 1e-4


def test_the_embedding_of_a_large_picture_equals_the_stock_one(pipe, stock):
    image = blobs(600, 300)
    theirs = stock.pipeline._encode_image(image, torch.device("cpu"), 1, False)[0]
    ours = torch.from_numpy(pipe.embed(np.asarray(image)[None]))
    assert relative(ours, theirs) <= 1e-4


def test_a_clip_carries_what_made_it(pipe):
    clip = pipe(blobs(100, 80), steps=2, fps=12, **SMALL)
    assert clip.frames.shape == (5, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.latents.shape == (5, 4, 8, 8)
    assert clip.latents.dtype == torch.float32
    assert (clip.seed, clip.fps, clip.request.steps, clip.request.width) == (11, 12, 2, 64)
    assert clip.image.shape == (64, 64, 3)
    assert clip.vram_peak_mb is None
    assert clip.model["fingerprint"] == pipe.fingerprint
    parts = [clip.seconds[name] for name in ("condition", "denoise", "decode")]
    assert min(parts) > 0
    assert clip.seconds["total"] == pytest.approx(sum(parts))


def test_the_same_request_gives_the_same_bits_whatever_came_before(pipe):
    request = sl.Request(blobs(), steps=3, **SMALL)
    first = pipe(request)
    pipe(blobs(seed=5), steps=1, seed=99, num_frames=3)
    torch.manual_seed(0)
    again = pipe(request)
    pipe.clear_cache()
    fresh = pipe(request)
    for other in (again, fresh, sl.load("tiny-random", device="cpu")(request)):
        assert torch.equal(first.latents, other.latents)
        assert np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_a_batch_gives_what_each_request_gives_alone(pipe, guidance):
    requests = [
        sl.Request(
            blobs(seed=i),
            steps=3,
            seed=20 + i,
            motion_bucket_id=60 * i,
            cond_aug=0.1 * i,
            fps=5 + i,
            num_frames=5,
            max_guidance=guidance - 0.1 * i if guidance > 1 else 1.0,
        )
        for i in range(3)
    ]
    for request, clip in zip(requests, pipe.batch(requests), strict=True):
        assert relative(clip.latents, pipe(request).latents) <= 1e-5
        assert clip.request == request.resolve(pipe.defaults)


def test_what_a_batch_must_share_is_named(pipe):
    with pytest.raises(RequestError, match=r"steps = \[2, 4\]: must be the same for all requests of a batch"):
        pipe.batch([sl.Request(blobs(), steps=2), sl.Request(blobs(), steps=4)])
    with pytest.raises(RequestError, match="guided as a whole"):
        pipe.batch([sl.Request(blobs(), max_guidance=2.0), sl.Request(blobs())])
    with pytest.raises(RequestError, match="the batch is empty"):
        check_batch([])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("seed", (1, 2)),
        ("motion_bucket_id", (10, 240)),
        ("cond_aug", (0.0, 0.5)),
        ("fps", (5, 30)),
        ("steps", (1, 2)),
        ("schedule", ("karras", "even")),
        ("gamma", (0.0, 1.0)),
        ("sigma_max", (100.0, 700.0)),
        ("max_guidance", (1.0, 4.0)),
    ],
)
def test_every_setting_reaches_the_model(pipe, name, values):
    base = {"steps": 2, **SMALL}
    one, other = (pipe(blobs(), **{**base, name: value}).latents for value in values)
    assert relative(one, other) > 1e-4


def test_decode_chunk_changes_pixels_and_not_latents(pipe):
    whole, parts = (pipe(blobs(), steps=1, decode_chunk=chunk, **SMALL) for chunk in (5, 2))
    assert torch.equal(whole.latents, parts.latents)
    assert not np.array_equal(whole.frames, parts.frames)
    assert np.array_equal(pipe.decode(whole.latents, decode_chunk=2), parts.frames)
    assert np.array_equal(pipe.decode(whole.latents), whole.frames)


def test_other_sizes_than_the_native_one(pipe):
    clip = pipe(blobs(90, 50), steps=1, width=96, height=48, num_frames=2, seed=0)
    assert clip.frames.shape == (2, 48, 96, 3)


def test_conditioning_is_cached_and_accounted_for(pipe):
    pipe.clear_cache()
    first = pipe(blobs(), steps=1, motion_bucket_id=1, **SMALL)
    second = pipe(blobs(), steps=1, motion_bucket_id=200, **SMALL)
    assert second.seconds["condition"] == first.seconds["condition"]
    saved = second.seconds["total"] - second.seconds_spent
    assert saved == pytest.approx(second.seconds["condition"])
    assert first.seconds_spent == pytest.approx(first.seconds["total"])


def test_without_noise_on_the_picture_its_latent_is_shared_across_seeds(pipe):
    pipe.clear_cache()
    for seed in (1, 2, 3):
        pipe(blobs(), steps=1, cond_aug=0.0, seed=seed, num_frames=2)
    assert len(pipe._cache) == 2  # one embedding, one latent


def test_stream_previews_every_step_and_ends_with_the_clip(pipe):
    request = sl.Request(blobs(), steps=3, **SMALL)
    previews = list(pipe.stream(request))
    assert [preview.k for preview in previews] == [0, 1, 2]
    assert previews[0].sigma == 700
    assert previews[0].frames.shape == (5, 8, 8, 3)
    assert previews[0].frames.dtype == np.uint8
    clip, whole = previews[-1].decode(), pipe(request)
    assert torch.equal(clip.latents, whole.latents)
    assert np.array_equal(clip.frames, whole.frames)
    assert not np.array_equal(previews[0].decode().frames, clip.frames)


def test_stream_leaves_gradients_as_they_were_for_the_caller(pipe):
    for preview in pipe.stream(blobs(), steps=2, **SMALL):
        assert torch.is_grad_enabled()
        assert not preview.latents.requires_grad
    assert torch.is_grad_enabled()


def test_latents_that_are_not_finite_name_the_step():
    pipe = sl.load("tiny-random", device="cpu")
    calls = []

    def poison(module, args, output):
        calls.append(1)
        return (output[0] * torch.nan,) if len(calls) == 2 else None

    pipe.components.unet.register_forward_hook(poison)
    with pytest.raises(ModelError, match=r"step 2 of 4 \(sigma 128\.6\): the model's output is not finite in float32"):
        pipe(blobs(), **SMALL)


def test_bad_settings_are_said_before_anything_runs(pipe):
    with pytest.raises(RequestError, match="width = 100"):
        pipe(blobs(), width=100)
    with pytest.raises(RequestError, match="Did you mean 'steps'"):
        pipe(blobs(), step=3)


def test_few_steps_on_a_many_step_model_are_remarked(pipe, caplog):
    import dataclasses

    teacher = dataclasses.replace(pipe.defaults, gamma=0.0, schedule="karras", good_steps=25)
    many = Pipeline(dataclasses.replace(pipe.components, defaults=teacher))
    with caplog.at_level(logging.WARNING, logger="svdlab"):
        many(blobs(), steps=2, num_frames=2, seed=0)
    assert "wants about 25 steps" in caplog.text


def test_half_precision_keeps_the_image_encoder_of_the_vae_in_fp32():
    pipe = sl.load("tiny-random", device="cpu", dtype="float16")
    assert pipe.components.vae.encoder.conv_in.weight.dtype == torch.float32
    assert pipe.components.vae.decoder.conv_in.weight.dtype == torch.float16


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_full(pipe, dtype):
    half = sl.load("tiny-random", device="cpu", dtype=dtype)
    full = pipe(blobs(), steps=2, **SMALL)
    clip = half(blobs(), steps=2, **SMALL)
    assert clip.latents.dtype == torch.float32
    assert relative(clip.latents, full.latents) < 0.1
    assert half.fingerprint != pipe.fingerprint


def test_the_tiny_random_model_says_what_it_is(pipe):
    assert "random weights" in pipe.notice
    assert repr(pipe) == "Pipeline('tiny-random', 25x64x64, cpu, float32)"
    assert pipe.describe()["dtype"] == "float32"


def test_requests_and_pictures_are_both_taken():
    request = sl.Request("a.png", steps=2)
    assert as_request(request) is request
    assert as_request(request, seed=3).seed == 3
    assert as_request("a.png", steps=2) == request
    assert not is_guided(request)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(pipe):
    cuda = sl.load("tiny-random", device="cuda", dtype="float32")
    one, other = (p(blobs(), steps=2, **SMALL) for p in (pipe, cuda))
    assert relative(other.latents, one.latents) < 1e-3
    assert other.vram_peak_mb > 0
