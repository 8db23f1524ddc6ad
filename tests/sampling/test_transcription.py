"""The sampler against the formulas of the paper and the reference implementation, written down plainly in float64.

Nothing of `svdlab.sampling` is used for the expected side: only the equations, one line each. Both sides get the same
network outputs and the same noise.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import svdlab as sl
from svdlab.pipeline import Pipeline
from svdlab.sampling import NoiseStreams, precondition, sample, sigmas, start
from tests.pictures import blobs

SHAPE = (1, 3, 4, 4, 4)
FEW = {"num_frames": 5, "seed": 11}


def grid(n: int, smin: float = 0.002, smax: float = 700.0, rho: float = 7.0) -> list[float]:
    """sigma_i = (smax^(1/rho) + i/(n-1) (smin^(1/rho) - smax^(1/rho)))^rho."""
    high, low = smax ** (1 / rho), smin ** (1 / rho)
    return [(high + i / (n - 1) * (low - high)) ** rho for i in range(n)] if n > 1 else [smax]


def levels(steps: int, schedule: str) -> list[float]:
    """Noise levels of the calls, then 0."""
    if schedule == "karras":
        return [*grid(steps), 0.0]
    if schedule == "animatelcm":  # every floor(40 / n)-th of 40
        stride = math.floor(40 / steps)
        return [*(grid(40)[k * stride] for k in range(steps)), 0.0]
    last = 35 if steps <= 36 else steps - 1  # even: round(k last / (n - 1)), half up
    where = [math.floor(k * last / (steps - 1) + 0.5) for k in range(steps)] if steps > 1 else [0]
    return [*(grid(40)[i] for i in where), 0.0]


def transcript(
    z: np.ndarray, sigma: list[float], outputs: list[np.ndarray], noises: list[np.ndarray], gamma: float
) -> tuple[np.ndarray, list[np.ndarray], list[float]]:
    """(result, what the network was shown, its times): sampling by the formulas, network outputs given."""
    x = math.sqrt(sigma[0] ** 2 + 1) * z
    shown, times = [], []
    for k, (s, s_next) in enumerate(pairwise(sigma)):
        c_in = 1 / math.sqrt(s**2 + 1)
        c_skip = 1 / (s**2 + 1)
        c_out = -s / math.sqrt(s**2 + 1)
        shown.append(c_in * x)
        times.append(0.25 * math.log(s + 1e-44))
        denoised = c_skip * x + c_out * outputs[k]
        s_lo = (1 - gamma) * s_next
        x = denoised + s_lo * (x - denoised) / s + math.sqrt(s_next**2 - s_lo**2) * noises[k]
    return x, shown, times


def apart(got: torch.Tensor | np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(np.asarray(got, np.float64) - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("schedule", ["animatelcm", "even", "karras"])
def test_every_step_count_follows_the_formulas(schedule, gamma):
    rng = np.random.default_rng(5)
    outputs, noises = rng.standard_normal((2, 40, *SHAPE))
    z = rng.standard_normal(SHAPE)
    for steps in range(1, 41):
        wanted, shown, times = transcript(z, levels(steps, schedule), list(outputs), list(noises), gamma)
        for dtype, near in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
            seen: list[tuple[torch.Tensor, float]] = []

            def network(x, t, seen=seen, dtype=dtype):
                seen.append((x, t))
                return torch.from_numpy(outputs[len(seen) - 1]).to(dtype)

            def noise(k, dtype=dtype):
                return torch.from_numpy(noises[k]).to(dtype)

            called = sigmas(steps, schedule=schedule)
            x = start(torch.from_numpy(z).to(dtype), called)
            got = sample(precondition(network), x, called, noise, gamma=gamma)
            assert got.dtype == dtype
            assert apart(got, wanted) < near, (steps, dtype)
            assert len(seen) == steps
            for (x, t), x_wanted, t_wanted in zip(seen, shown, times, strict=True):
                assert t == pytest.approx(t_wanted, abs=1e-12)
                assert apart(x, x_wanted) < near


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_a_network_that_looks_at_its_input_gives_the_same_path(gamma):
    """Outputs depend on what came before, so an error of one step would grow in the next."""
    rng = np.random.default_rng(6)
    z, noises = rng.standard_normal(SHAPE), rng.standard_normal((40, *SHAPE))

    for steps in range(1, 41):
        outputs: list[np.ndarray] = []

        def network(x, t, outputs=outputs):
            out = torch.tanh(x + t)
            outputs.append(out.numpy())
            return out

        called = sigmas(steps)
        x = start(torch.from_numpy(z), called)
        got = sample(precondition(network), x, called, lambda k: torch.from_numpy(noises[k]), gamma=gamma)
        wanted, shown, times = transcript(z, levels(steps, "animatelcm"), outputs, list(noises), gamma)
        assert apart(got, wanted) < 1e-12
        for out, x_wanted, t_wanted in zip(outputs, shown, times, strict=True):
            np.testing.assert_allclose(out, np.tanh(x_wanted + t_wanted), atol=1e-9)


def test_the_transcript_would_notice_another_sampler():
    """What others do instead, each a plausible mistake, is far outside the tolerance."""
    rng = np.random.default_rng(7)
    z, outputs, noises = rng.standard_normal(SHAPE), *rng.standard_normal((2, 4, *SHAPE))
    right = levels(4, "animatelcm")
    wanted = transcript(z, right, list(outputs), list(noises), 1.0)[0]
    negated = transcript(z, right, list(-outputs), list(noises), 1.0)[0]  # the sign of c_out
    swapped = transcript(z, right, list(outputs), list(noises[::-1]), 1.0)[0]  # noise of another step
    for other in (negated, swapped, transcript(z, levels(4, "karras"), list(outputs), list(noises), 1.0)[0]):
        assert apart(other, wanted) > 1e-3


# Guidance, through the whole pipeline: real networks, whose calls are recorded on the way.


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return sl.load("tiny-random", device="cpu")


class Recorder:
    """What the UNet was given and gave, call by call."""

    def __init__(self, unet: torch.nn.Module) -> None:
        self.calls: list[dict[str, np.ndarray]] = []
        self.handle = unet.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, module, args, kwargs, output):
        given = {"input": args[0], "time": args[1], "embedding": kwargs["encoder_hidden_states"],
                 "ids": kwargs["added_time_ids"], "output": output[0]}  # fmt: skip
        self.calls.append({name: value.detach().double().numpy().copy() for name, value in given.items()})


@pytest.fixture
def recorder(pipe):
    recorder = Recorder(pipe.components.unet)
    yield recorder
    recorder.handle.remove()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("ramp", [(1.0, 3.0), (1.5, 3.0), (1.0, 1.2), (2.5, 2.5), (1.0, 1.0)])
def test_guidance_ramps_follow_the_formulas(pipe, recorder, ramp, gamma):
    """F = F_u + g_f (F_c - F_u) with g_f = linspace(min, max, frames), and only if max > 1."""
    low, high = ramp
    settings = {"steps": 3, "motion_bucket_id": 90, "fps": 7, "cond_aug": 0.05, "gamma": gamma}
    clip = pipe(blobs(), min_guidance=low, max_guidance=high, schedule="animatelcm", **settings, **FEW)
    channels, frames = clip.latents.shape[1], len(clip.latents)
    sigma = levels(3, "animatelcm")
    guided = high > 1
    outputs = []
    for call in recorder.calls:
        if guided:
            without, conditioned = call["output"]
            scale = [low + f * (high - low) / (frames - 1) for f in range(frames)]
            outputs.append(np.stack([u + g * (c - u) for g, u, c in zip(scale, without, conditioned, strict=True)]))
        else:
            outputs.append(call["output"][0])
    streams = NoiseStreams(FEW["seed"])
    shape = tuple(clip.latents.shape)
    z = streams.initial(shape).double().numpy()
    noises = [streams.reinjected(level, shape).double().numpy() if level else np.zeros(shape) for level in sigma[1:]]
    wanted, shown, times = transcript(z, sigma, outputs, noises, gamma)
    assert apart(clip.latents, wanted) < 1e-5
    assert len(recorder.calls) == 3
    for call, x, t in zip(recorder.calls, shown, times, strict=True):
        assert call["time"] == pytest.approx(t, abs=1e-6)
        rows = call["input"]
        assert len(rows) == 1 + guided
        for row in rows:  # both halves see the same noisy sample
            assert apart(row[:, :channels], x) < 1e-5
        np.testing.assert_array_equal(call["ids"], np.float32([[6, 90, 0.05]] * len(rows)))  # fps - 1
        picture = rows[-1][:, channels:]
        np.testing.assert_array_equal(picture, np.broadcast_to(picture[:1], picture.shape))  # the same in every frame
        assert np.abs(picture).max() > 0
        assert np.abs(call["embedding"][-1]).max() > 0
        if guided:  # the half without conditioning sees neither the picture nor its embedding
            assert not rows[0][:, channels:].any()
            assert not call["embedding"][0].any()


def test_a_flat_ramp_is_one_strength_and_1_is_no_guidance(pipe, recorder):
    """With g = 1 in every frame the formula gives F_c: the clip of no guidance, at the price of two calls."""
    plain = pipe(blobs(), steps=2, min_guidance=1.0, max_guidance=1.0, **FEW)
    assert [len(call["input"]) for call in recorder.calls] == [1, 1]
    nearly = pipe(blobs(), steps=2, min_guidance=1.0, max_guidance=1.0 + 1e-7, **FEW)
    assert [len(call["input"]) for call in recorder.calls[2:]] == [2, 2]
    assert apart(nearly.latents, plain.latents.double().numpy()) < 1e-4
