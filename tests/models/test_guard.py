"""Folders that would do something to whoever opens them. The pickles in them are real, and say so when they run."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from svdlab.errors import ModelError, WeightsError
from svdlab.metrics import feature_networks
from svdlab.preview import load_tiny
from tests.models.world import link_tree, load, replace_json

STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "image_encoder": "model"}
MUCH = 2**22


@pytest.fixture
def folder(full: Path, tmp_path: Path) -> Path:
    return link_tree(full, tmp_path / "m")


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Room for what a test needs, and not for what a config asks."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class Loud:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.trace),)


def in_shards(folder: Path, part: str, named: str) -> None:
    """Turn a part's weights into one shard, with a table that says that all tensors are in `named`."""
    path = folder / part / f"{STEMS[part]}.safetensors"
    keys = list(load_file(path))
    path.rename(path.with_name(f"{STEMS[part]}-00001-of-00001.safetensors"))
    table = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(keys, named)}
    path.with_name(f"{STEMS[part]}.safetensors.index.json").write_text(json.dumps(table))


def other_weights(folder: Path, part: str, tensors: dict) -> None:
    path = folder / part / f"{STEMS[part]}.safetensors"
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("part", STEMS)
def test_a_table_of_shards_leads_to_no_pickle(folder: Path, tmp_path: Path, part: str) -> None:
    in_shards(folder, part, "evil.bin")
    torch.save({"x": torch.zeros(1), "y": Loud(tmp_path / "ran")}, folder / part / "evil.bin")
    with pytest.raises(ModelError, match=r"index\.json: names 'evil\.bin', which is not among the safetensors"):
        load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("part", STEMS)
@pytest.mark.parametrize("named", ["../../elsewhere.safetensors", "other.safetensors", "/elsewhere.safetensors"])
def test_a_table_of_shards_leads_to_no_file_that_was_not_checked(folder: Path, part: str, named: str) -> None:
    weights = (folder / part / f"{STEMS[part]}.safetensors").read_bytes()
    in_shards(folder, part, named)
    (folder / part / named.lstrip("/")).write_bytes(weights)
    with pytest.raises(ModelError, match=r"names '.*\.safetensors', which is not among the safetensors"):
        load(folder)


@pytest.mark.parametrize("part", STEMS)
def test_a_table_of_shards_that_is_none(folder: Path, part: str) -> None:
    in_shards(folder, part, "x")
    for text in ("[]", "{", "{}", '{"weight_map": 3}', '{"weight_map": {"a": ["b"]}}', "[" * 100_000):
        (folder / part / f"{STEMS[part]}.safetensors.index.json").write_text(text)
        with pytest.raises(ModelError, match="is no table of shards"):
            load(folder)


@pytest.mark.parametrize("part", STEMS)
def test_shards_as_they_should_be_load(folder: Path, part: str) -> None:
    in_shards(folder, part, f"{STEMS[part]}-00001-of-00001.safetensors")
    assert load(folder)


def test_pickles_beside_safetensors_stay_closed(folder: Path, tmp_path: Path) -> None:
    for part, stem in STEMS.items():
        for name in (f"{stem}.bin", "pytorch_model.bin", "model.pt"):
            torch.save(Loud(tmp_path / "ran"), folder / part / name)
    assert load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("tensors", [{"other": torch.zeros(2)}, {str(i): torch.zeros(1) for i in range(50)}])
@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("image_encoder", {"hidden_size": MUCH, "intermediate_size": MUCH}),
        ("image_encoder", {"image_size": 2**24}),
        ("vae", {"block_out_channels": [MUCH] * 4}),
        ("unet", {"block_out_channels": [MUCH] * 2}),
    ],
)
@pytest.mark.usefixtures("little_memory")
def test_terabytes_are_refused_though_no_name_is_in_the_file(
    folder: Path, part: str, config: dict, tensors: dict
) -> None:
    if "block_out_channels" in config:
        blocks = json.loads((folder / part / "config.json").read_text())["block_out_channels"]
        config = {"block_out_channels": [MUCH] * len(blocks)}
    replace_json(folder / part / "config.json", **config)
    other_weights(folder, part, tensors)
    with pytest.raises(ModelError, match=r"\d+ missing|asks for \d+ layers") as caught:
        load(folder)
    assert "memory" not in str(caught.value)


@pytest.mark.parametrize(
    ("part", "config"),
    [
        ("unet", {"layers_per_block": 10**8}),
        ("unet", {"transformer_layers_per_block": [1, 10**8]}),
        ("unet", {"layers_per_block": 400, "transformer_layers_per_block": 400}),
        ("vae", {"layers_per_block": 10**8}),
        ("image_encoder", {"num_hidden_layers": 10**8}),
    ],
)
def test_more_layers_than_tensors_are_refused_before_one_is_made(folder: Path, part: str, config: dict) -> None:
    replace_json(folder / part / "config.json", **config)
    with pytest.raises(ModelError, match=rf"{part}: its config asks for \d+ layers .* the weights hold \d+ tensors"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"attn_implementation": "someone/kernel"}, "code to be downloaded and run"),
        ({"_attn_implementation": "flash_attention_2"}, "code to be downloaded and run"),
        ({"inner": {"attn_implementation": "someone/kernel@main:name"}}, "code to be downloaded and run"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "Quantised weights"),
    ],
)
@pytest.mark.parametrize("part", STEMS)
def test_a_config_names_no_code(folder: Path, part: str, change: dict, says: str) -> None:
    replace_json(folder / part / "config.json", **change)
    with pytest.raises(ModelError, match=says):
        load(folder)


def test_an_adapter_is_not_followed(folder: Path) -> None:
    (folder / "image_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(ModelError, match="adapters are not read"):
        load(folder)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"_class_name": "UNetSpatioTemporalConditionModel", "in_channels": {}}']
)
def test_configs_of_the_wrong_kind_end_in_words(folder: Path, text: str) -> None:
    path = folder / "unet" / "config.json"
    path.unlink()
    path.write_text(text)
    with pytest.raises(ModelError, match="unet"):
        load(folder)


@pytest.mark.parametrize(
    "change", [{"sample_size": "large"}, {"sample_size": [1, 2, 3]}, {"addition_time_embed_dim": {}}]
)
def test_values_of_the_wrong_kind_end_in_words(folder: Path, change: dict) -> None:
    replace_json(folder / "unet" / "config.json", **change)
    with pytest.raises(ModelError, match="value of the wrong kind"):
        load(folder)


def test_the_small_decoder_and_the_metrics_encoders_are_guarded_too(tmp_path: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
    from transformers import ViTConfig, ViTModel

    AutoencoderTiny(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
                    num_decoder_blocks=(1, 1)).save_pretrained(tmp_path / "taesd")  # fmt: skip
    assert load_tiny(tmp_path / "taesd")
    replace_json(tmp_path / "taesd" / "config.json", num_decoder_blocks=[10**8, 1])
    with pytest.raises(ModelError, match="asks for 100000000 layers"):
        load_tiny(tmp_path / "taesd")

    small = ViTConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
    ViTModel(small, add_pooling_layer=False).save_pretrained(tmp_path / "dino")
    assert feature_networks.load_image_encoder(tmp_path / "dino")
    replace_json(tmp_path / "dino" / "config.json", attn_implementation="someone/kernel")
    with pytest.raises(WeightsError, match="code to be downloaded and run"):
        feature_networks.load_image_encoder(tmp_path / "dino")
