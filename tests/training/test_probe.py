from __future__ import annotations

import pytest
import torch

from svdlab.sampling import scalings
from svdlab.training.networks import build_image_encoder
from svdlab.training.probe import teacher_quality
from svdlab.training.vae import encode, fit_pca
from tests.training.discs import Discs

WORLD = Discs(seed=4)


class Knows(torch.nn.Module):
    """A denoiser that always answers the same x0."""

    def __init__(self, x0: torch.Tensor) -> None:
        super().__init__()
        self.x0 = x0

    def forward(self, x, c_noise, encoder_hidden_states, added_time_ids, return_dict):
        assert (added_time_ids[:, 2] == 0).all()
        c_skip, c_out, c_in, _ = scalings(float((4 * c_noise).exp()))
        return ((self.x0 - c_skip * x[:, :, :16] / c_in) / c_out,)


@pytest.fixture(scope="module")
def setting():
    scenes = {key: torch.as_tensor(value) for key, value in WORLD.batch(range(6)).items()}
    projection = fit_pca(scenes["frames"].flatten(0, 1).numpy())
    pixels = scenes["frames"].permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    return scenes, projection, encode(pixels, projection)


def measure(setting, answer: torch.Tensor) -> dict[str, float]:
    scenes, projection, _ = setting
    modules = {"unet": Knows(answer), "image_encoder": build_image_encoder(embedding=8)[0].eval()}
    return teacher_quality(modules, projection, scenes, torch.Generator().manual_seed(0))


def test_the_truth_gains_much_and_a_still_nothing(setting):
    truth = setting[2]
    assert measure(setting, truth)["gain_last"] > 40
    still = measure(setting, truth[:, :1].expand_as(truth))
    assert still["gain_last"] == pytest.approx(0, abs=1e-3)
    assert still["gain_mean"] == pytest.approx(0, abs=1e-3)
    assert still["copy"] > 40


def test_half_of_the_error_is_six_decibels(setting):
    truth = setting[2]
    values = measure(setting, 0.5 * (truth + truth[:, :1]))
    assert values["gain_last"] == pytest.approx(6.02, abs=0.01)
    assert values["gain_mean"] == pytest.approx(6.02, abs=0.01)


def test_the_wrong_way_is_worse_than_a_still(setting):
    truth = setting[2]
    wrong = truth.flip(0).roll(1, 0)
    assert measure(setting, wrong)["gain_last"] < -1
    assert measure(setting, wrong)["copy"] < 3
