"""Sharing: which calls requests have in common, and that walking over kept answers changes nothing."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import svdlab as sl
from svdlab.sharing import Known, SharedCalls, call_chain, calls_to_make
from tests.pictures import blobs

SMALL = {"num_frames": 2, "width": 32, "height": 32, "seed": 11}


@pytest.fixture(scope="module")
def pipe() -> sl.Pipeline:
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def resolved(pipe):
    return lambda **settings: sl.Request(blobs(), **{**SMALL, **settings}).resolve(pipe.defaults)


@pytest.fixture
def chain(resolved):
    return lambda **settings: call_chain(resolved(**settings).settings(), image="a")


@pytest.fixture
def calls(pipe):
    """Counts the clips that go through the real UNet: a batch of three is three calls."""
    seen: list[int] = []
    handle = pipe.components.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    yield lambda: sum(seen)
    handle.remove()


# Which calls are the same.


@pytest.mark.parametrize(
    ("schedule", "steps", "alone", "made"),
    [
        ("animatelcm", [1, 2, 4, 8], 15, 12),
        ("animatelcm", range(1, 9), 36, 23),  # beyond the first: 7 steps are the first seven of 8
        ("even", [1, 2, 4, 8], 15, 12),  # every count has its own points after the first
        ("even", range(1, 9), 36, 29),
        ("karras", [1, 2, 4, 8], 15, 12),
        ("karras", range(1, 9), 36, 29),
        ("animatelcm", [4], 4, 4),
        ("animatelcm", range(21, 41), 610, 40),  # a stride of 1: each is the beginning of the next
    ],
)
def test_calls_that_step_counts_have_in_common(chain, schedule, steps, alone, made):
    chains = [chain(steps=n, schedule=schedule) for n in steps]
    assert sum(map(len, chains)) == alone
    assert sum(calls_to_make(chains)) == sum(calls_to_make(reversed(chains))) == made


@pytest.mark.parametrize(
    ("name", "values", "common"),
    [
        ("seed", (1, 2), 0),
        ("motion_bucket_id", (10, 240), 0),
        ("cond_aug", (0.0, 0.5), 0),
        ("fps", (5, 30), 0),
        ("num_frames", (2, 3), 0),
        ("width", (32, 48), 0),
        ("sigma_max", (100.0, 700.0), 0),
        ("max_guidance", (1.5, 4.0), 0),
        ("max_guidance", (1.0, 4.0), 0),
        ("gamma", (0.0, 1.0), 1),  # decides what is added after the first call
        ("schedule", ("karras", "even"), 1),
        ("decode_chunk", (1, 2), 3),
    ],
)
def test_what_two_requests_have_in_common(chain, name, values, common):
    one, other = (chain(steps=3, **{name: value}) for value in values)
    assert len(set(one) & set(other)) == common
    assert one[:common] == other[:common]


def test_pictures_share_nothing(resolved):
    settings = resolved().settings()
    assert not set(call_chain(settings, image="a")) & set(call_chain(settings, image="b"))


def test_no_key_leaves_out_a_setting(pipe):
    """Every setting of a request is in the keys, or known to reach no call."""
    from svdlab.request import SETTINGS
    from svdlab.sharing import CONDITIONS

    walk = {"steps", "schedule", "sigma_max", "gamma", "min_guidance", "max_guidance"}
    assert set(SETTINGS) == {*CONDITIONS, *walk, "decode_chunk"}


# What is kept.


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), max_size=8))
def test_what_nobody_will_ask_for_is_not_kept(paths):
    """The keys of a walk name all that came before, as those of `call_chain` do."""
    chains = [tuple(tuple(path[: k + 1]) for k in range(len(path))) for path in paths]
    shared, made = SharedCalls(chains), []
    for position, chain in enumerate(chains):
        to_come = set(itertools.chain.from_iterable(chains[position + 1 :]))
        made.append(0)
        for key in chain:
            if shared.get(key) is None:
                shared.put(key, Known(torch.zeros(1), 1.0))
                made[-1] += 1
                assert (shared.get(key) is not None) == (key in to_come)  # also while the request is in hand
        shared.release(chain)
        assert len(shared) <= len(to_come)
        assert all(shared.get(key) is None for key in set(chain) - to_come)
    assert made == calls_to_make(chains)
    assert len(shared) == 0


# What comes out.


@pytest.mark.parametrize(
    "fixed",
    [
        {},
        {"gamma": 0.0, "schedule": "karras"},
        {"gamma": 0.4},
        {"max_guidance": 2.5},
    ],
)
def test_shared_calls_change_no_bit(pipe, resolved, calls, fixed):
    requests = [resolved(steps=n, **fixed) for n in (3, 1, 8, 7)]
    chains = [call_chain(request.settings(), image="a") for request in requests]
    shared = SharedCalls(chains)
    together = []
    for request, chain in zip(requests, chains, strict=True):
        before, expected = calls(), sum(shared.get(key) is None for key in chain)
        [decode] = pipe.denoise([request], shared=shared, chains=[chain])
        assert calls() - before == expected * (2 if fixed.get("max_guidance") else 1)
        together.append(decode())
        shared.release(chain)
    for request, clip in zip(requests, together, strict=True):
        alone = pipe(request)
        assert torch.equal(clip.latents, alone.latents)
        assert (clip.frames == alone.frames).all()
    assert len(shared) == 0


def test_a_batch_makes_only_what_is_missing_and_nothing_twice(pipe, resolved, calls):
    """Two rows that are one walk (their decode_chunk differs), and one whose first call is known."""
    first = resolved(steps=1, seed=5)
    requests = [resolved(steps=2, seed=5), resolved(steps=2, seed=6), resolved(steps=2, seed=6)]
    chains = [call_chain(request.settings(), image="a") for request in (first, *requests)]
    shared = SharedCalls(chains)
    pipe.denoise([first], shared=shared, chains=chains[:1])
    shared.release(chains[0])
    before = calls()
    clips = [decode() for decode in pipe.denoise(requests, shared=shared, chains=chains[1:])]
    assert calls() - before == 1 + 2  # seed 6 at the first level, both at the second
    assert torch.equal(clips[1].latents, clips[2].latents)
    for request, clip in zip(requests, clips, strict=True):
        alone = pipe(request).latents
        assert torch.linalg.norm(clip.latents - alone) <= 1e-5 * torch.linalg.norm(alone)


def test_a_clip_costs_all_its_calls_and_spends_its_own(pipe, resolved):
    requests = [resolved(steps=4), resolved(steps=4, decode_chunk=1)]
    chains = [call_chain(request.settings(), image="a") for request in requests]
    shared = SharedCalls(chains)
    first, second = (pipe.denoise([r], shared=shared, chains=[c])[0]() for r, c in zip(requests, chains, strict=True))
    known = sum(shared.get(key).seconds for key in chains[0])
    assert known > 0
    assert first.seconds["denoise"] > known
    assert second.seconds["denoise"] > known
    assert first.seconds_spent >= first.seconds["denoise"]
    saved = second.seconds["total"] - second.seconds_spent
    assert saved == pytest.approx(known + second.seconds["condition"])


def test_what_is_not_finite_is_not_kept(resolved):
    broken = sl.load("tiny-random", device="cpu")
    broken.components.unet.conv_out.bias.fill_(torch.nan)
    chain = call_chain(resolved(steps=2).settings(), image="a")
    shared = SharedCalls([chain, chain])
    with pytest.raises(sl.SvdlabError, match=r"step 1 of 2 \(sigma 700\)"):
        broken.denoise([resolved(steps=2)], shared=shared, chains=[chain])
    assert len(shared) == 0


def test_an_answer_that_is_kept_does_not_hold_its_batch(pipe, resolved):
    requests = [resolved(steps=1, seed=seed) for seed in range(3)]
    chains = [call_chain(request.settings(), image="a") for request in requests]
    shared = SharedCalls(chains * 2)
    pipe.denoise(requests, shared=shared, chains=chains)
    kept = shared.get(chains[0][0]).denoised
    assert kept.untyped_storage().nbytes() == kept.nbytes
