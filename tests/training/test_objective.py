from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import TrainingError
from svdlab.sampling import scalings
from svdlab.training.data import Scenes
from svdlab.training.networks import UNetSettings, build_image_encoder, build_unet
from svdlab.training.objective import Objective, draw_cond_aug, draw_sigma, embed, motion_weights, teacher_losses
from svdlab.training.vae import encode, fit_pca
from tests.training.discs import Discs

WORLD = Discs()


def tensors(scenes: Scenes) -> dict[str, torch.Tensor]:
    return {key: torch.as_tensor(value) for key, value in scenes.items()}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def projection():
    return fit_pca(WORLD.batch(range(16))["frames"].reshape(-1, 32, 32, 3))


@pytest.fixture(scope="module")
def modules():
    small = UNetSettings(channels=(96, 64), attention=(True, True), embedding=32)
    unet = build_unet(small, latent_size=4, num_frames=6, seed=1)
    return {"unet": unet, "image_encoder": build_image_encoder(embedding=32, seed=1)[0]}


def test_sigma_is_mixed_of_two_distributions():
    sigma = draw_sigma(40_000, Objective(high_share=0.4), seeded())
    assert sigma.min() >= 0.002
    assert sigma.max() <= 700
    # Above sigma 60 (nearly 3 deviations) there is little but the uniform share: ln(700 / 60) of ln(700 / 5) of it.
    normal_above = 0.5 * math.erfc((math.log(60) - 0.3) / 1.5 / math.sqrt(2))
    expected = 0.4 * math.log(700 / 60) / math.log(140) + 0.6 * normal_above
    assert float((sigma > 60).float().mean()) == pytest.approx(expected, abs=0.01)
    plain = draw_sigma(40_000, Objective(high_share=0), seeded()).log()
    assert float(plain.mean()) == pytest.approx(0.3, abs=0.03)
    assert float(plain.std()) == pytest.approx(1.5, abs=0.03)


def test_cond_aug_covers_what_a_request_may_ask_for():
    strength = draw_cond_aug(40_000, Objective(aug_uniform=0.3, aug_fixed=0.2), seeded())
    assert float((strength == 0).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((strength == 0.02).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((strength > 0.5).float().mean()) == pytest.approx(0.15, abs=0.01)
    public = draw_cond_aug(40_000, Objective(aug_uniform=0, aug_fixed=0), seeded()).log()
    assert float(public.mean()) == pytest.approx(-3, abs=0.02)


class Oracle(torch.nn.Module):
    """Knows x0, and answers what F* must be by the preconditioning of `svdlab.sampling`."""

    def __init__(self, x0: torch.Tensor, scale: float = 1.0) -> None:
        super().__init__()
        self.x0, self.scale, self.calls = x0, scale, []

    def forward(self, x, c_noise, encoder_hidden_states, added_time_ids, return_dict):
        self.calls.append((x, encoder_hidden_states, added_time_ids, (4 * c_noise).exp()))
        answers = []
        for row, sigma in enumerate((4 * c_noise).exp().tolist()):
            c_skip, c_out, c_in, _ = scalings(sigma)
            noised = x[row, :, :16] / c_in
            answers.append((self.x0[row] - c_skip * noised) / c_out)
        return (self.scale * torch.stack(answers),)


def test_a_network_that_knows_x0_has_no_loss(projection, modules):
    scenes = tensors(WORLD.batch(range(6)))
    pixels = scenes["frames"].permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    oracle = Oracle(encode(pixels, projection))
    values = teacher_losses({**modules, "unet": oracle}, projection, scenes, Objective(), seeded(3))
    # At sigma 700, x0 is what is left of numbers 700 times as large: float32 gives so much and no more.
    assert values["loss"] < 1e-4
    wrong = Oracle(encode(pixels, projection), scale=0.5)
    assert teacher_losses({**modules, "unet": wrong}, projection, scenes, Objective(), seeded(3))["loss"] > 0.05


def test_of_some_frames_only_those_are_asked_for(projection, modules):
    scenes = tensors(WORLD.batch(range(6)))
    x0 = encode(scenes["frames"].permute(0, 1, 4, 2, 3).float() / 127.5 - 1, projection)
    scenes["numbers"] = torch.tensor([1, 4, 5])
    oracle = Oracle(x0[:, scenes["numbers"]])
    values = teacher_losses({**modules, "unet": oracle}, projection, scenes, Objective(aug_fixed=0.7), seeded(3))
    assert values["loss"] < 1e-4
    x, _, ids, _ = oracle.calls[0]
    clean = (ids[:, 2] == 0) & (x[:, :, 16:] != 0).any(dim=(1, 2, 3, 4))
    assert clean.any()
    torch.testing.assert_close(
        x[clean, :, 16:], x0[clean, :1].expand(-1, 3, -1, -1, -1)
    )  # frame 0, though not among them


def test_what_the_network_is_given(projection, modules):
    scenes = tensors(WORLD.batch(range(64)))
    pixels = scenes["frames"].permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    x0 = encode(pixels, projection)
    oracle = Oracle(x0)
    teacher_losses({**modules, "unet": oracle}, projection, scenes, Objective(aug_fixed=0.5), seeded(5))
    x, embedding, ids, sigma = oracle.calls[0]
    assert x.shape == (64, 6, 32, 4, 4)
    assert torch.equal(ids[:, 0], scenes["fps"].float() - 1)
    assert torch.equal(ids[:, 1], scenes["motion_bucket_id"].float())
    assert x[:, :, :16].var() == pytest.approx(1, abs=0.2)
    dropped = (embedding == 0).all(dim=(1, 2))
    assert 1 <= int(dropped.sum()) <= 16
    assert torch.equal(dropped, (x[:, :, 16:] == 0).all(dim=(1, 2, 3, 4)))
    clean = ~dropped & (ids[:, 2] == 0)
    noisy = ~dropped & (ids[:, 2] > 0.5)
    error = (x[:, :, 16:] - x0[:, :1]).abs().mean((1, 2, 3, 4))
    assert error[clean].max() < 1e-5
    assert error[noisy].min() > 0.1
    assert len(set(sigma.tolist())) == 64


def test_embedding_is_that_of_the_pipeline(modules):
    from dataclasses import replace

    from svdlab.conditioning import embed_pictures
    from svdlab.models import load_components

    components = load_components("tiny-random", device="cpu")
    components = replace(components, image_encoder=modules["image_encoder"].eval())
    pictures = WORLD.batch(range(3))["frames"][:, 0]
    with torch.no_grad():
        own = embed(modules["image_encoder"], torch.tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1)
    torch.testing.assert_close(own[:, 0], embed_pictures(components, pictures), rtol=1e-4, atol=1e-4)
    assert (own[0] - own[1]).abs().max() > 0.01


def test_a_gradient_reaches_every_parameter(projection, modules):
    """The bucket's embedding among them; but not what one token of context cannot use."""
    scenes = tensors(WORLD.batch(range(8)))
    with torch.no_grad():  # what starts at zero passes no gradient in the first step
        for name, module in modules["unet"].named_modules():
            if name.endswith((".conv2", ".proj_out", "conv_out", ".conv_shortcut")):
                torch.nn.init.normal_(module.weight, std=0.05)
    teacher_losses(modules, projection, scenes, Objective(), seeded(1))["loss"].backward()
    without = []
    for part, module in modules.items():
        for name, parameter in module.named_parameters():
            if parameter.grad is None or not bool((parameter.grad != 0).any()):
                without.append(f"{part}.{name}")
    # A softmax over one token is 1 whatever query and key say: attn2 reads the embedding through its value alone.
    one_token = ("attn2.to_q", "attn2.to_k", "norm2.weight", "norm2.bias")
    # Keys' common part cancels in a softmax; the CLIP library gives keys a bias nonetheless.
    left = [name for name in without if not any(part in name for part in (*one_token, "k_proj.bias"))]
    assert left == []
    columns = modules["unet"].add_embedding.linear_1.weight.grad.reshape(-1, 3, 32)
    assert (columns.abs().amax(dim=(0, 2)) > 0).all()  # fps, bucket, cond_aug
    for module in modules.values():
        module.zero_grad()


@settings(max_examples=20)
@given(weight=st.floats(0, 20), sigma=st.floats(0.01, 700))
def test_motion_weights_have_mean_one_and_look_where_things_move(weight, sigma):
    x0 = torch.zeros(1, 3, 4, 4, 4)
    x0[:, 1:, :, :2] = 1  # the upper half changes after the first frame
    weights = motion_weights(x0, x0[:, :1], torch.tensor([sigma]), Objective(motion_weight=weight))
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    if sigma > 1:
        assert float(weights[0, 1, 0, 0, 0] / weights[0, 1, 0, 3, 0]) == pytest.approx(1 + weight, rel=1e-4)
    else:
        assert torch.all(weights == 1)


def test_losses_are_a_function_of_the_generator(projection, modules):
    scenes = tensors(WORLD.batch(range(2)))
    with torch.no_grad():
        one, again, other = (
            float(teacher_losses(modules, projection, scenes, Objective(), seeded(k))["loss"]) for k in (1, 1, 2)
        )
    assert one == again
    assert one != other


@pytest.mark.parametrize(
    ("name", "value"),
    [("dropout", 1.5), ("sigma_std", 0.0), ("high_from", 700.0), ("aug_fixed", 0.9), ("motion_weight", -1.0)],
)
def test_shares_out_of_bounds_are_named(name, value):
    with pytest.raises(TrainingError, match=f"{name} = "):
        Objective(**{name: value})


def test_fixed_strengths_do_not_exceed_what_is_left():
    assert np.isclose(Objective(aug_uniform=0.5, aug_fixed=0.5).aug_fixed, 0.5)
