"""Weights from a hub: only when told to, announced once, and recorded by commit. The hub answers on localhost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from transformers import ViTConfig, ViTModel

from svdlab import metrics
from svdlab.errors import WeightsError
from svdlab.metrics.feature_networks import load_image_encoder
from svdlab.metrics.network_files import CONFIG, TENSORS, find_folder
from tests.models.conftest import cache, hub  # noqa: F401
from tests.models.world import Hub, cache_repo

REPO = "laboratory/dino"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("dino")
    config = ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"a pickle that nobody asks for")
    return {name: folder / name for name in (CONFIG, TENSORS, "pytorch_model.bin")}


@pytest.mark.usefixtures("own_registry")
def test_a_repository_is_fetched_once_on_demand_and_its_commit_recorded(hub: Hub, files, caplog):  # noqa: F811
    hub.repos[REPO] = files
    with pytest.raises(WeightsError, match=r"Pass download=True to fetch it, or give a folder"):
        metrics.use_encoder("dino", REPO)
    assert hub.asked == 0
    with caplog.at_level(logging.INFO, "svdlab"):
        metrics.use_encoder("dino", REPO, download=True)
        assert {path.removeprefix(f"{REPO}/") for path in hub.served} == {CONFIG, TENSORS}
        asked = hub.asked
        metrics.use_encoder("dino", REPO)  # now it is in the cache: no request, no word
        assert hub.asked == asked
    messages = [record.getMessage() for record in caplog.records if record.name == "svdlab"]
    assert len(messages) == 1
    assert messages[0].startswith(f"{REPO}: downloading {TENSORS} into ")
    assert metrics.get("dino_input").settings["encoder"] == f"{REPO}@{hub.commit}"


def test_the_same_weights_are_the_same_from_hub_and_folder(cache: Path, files):  # noqa: F811
    cache_repo(cache, REPO, {name: files[name] for name in (CONFIG, TENSORS)}, commit="c" * 40, revision="v1")
    cached, local = load_image_encoder(REPO, revision="v1"), load_image_encoder(files[CONFIG].parent)
    assert cached.fingerprint == local.fingerprint
    assert (cached.label, local.label) == (f"{REPO}@{'c' * 40}", files[CONFIG].parent.name)


def test_what_a_hub_does_not_have_is_said(hub: Hub, files):  # noqa: F811
    hub.repos[REPO] = {CONFIG: files[CONFIG], "pytorch_model.bin": files["pytorch_model.bin"]}
    with pytest.raises(WeightsError, match=r"the repository has no model\.safetensors, and no other format is read"):
        find_folder(REPO, download=True)
    for options in ({"weights": "laboratory/none"}, {"weights": REPO, "revision": "v9"}):
        with pytest.raises(WeightsError, match=r"could not be fetched from http://127\.0\.0\.1.*Check name, revision"):
            find_folder(**options, download=True)
