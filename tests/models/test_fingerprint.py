from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from svdlab.files import sha256_file
from svdlab.models.fingerprint import fingerprint, hash_config, hash_tensors, hash_weights

hashes = st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=4)
parts = st.dictionaries(st.sampled_from(["unet", "vae", "image_encoder"]), hashes, min_size=1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)


@given(parts=parts, seed=st.integers(0, 9))
def test_order_does_not_matter(parts: dict, seed: int) -> None:
    shuffled = {part: random.Random(seed).sample(found, len(found)) for part, found in reversed(parts.items())}
    assert fingerprint(shuffled, "fp32") == fingerprint(parts, "fp32")


@given(parts=parts, extra=st.text("0123456789abcdef", min_size=64, max_size=64))
def test_content_and_format_matter(parts: dict, extra: str) -> None:
    one = fingerprint(parts, "fp32")
    part = next(iter(parts))
    assert fingerprint({**parts, part: [*parts[part], extra]}, "fp32") != one
    assert fingerprint(parts, "fp16") == one.replace("fp32", "fp16")
    assert len(one) == 16 + len("-fp32")


def test_the_same_hashes_in_another_part_are_another_model() -> None:
    a, b = "a" * 64, "b" * 64
    assert fingerprint({"unet": [a], "vae": [b]}, "fp32") != fingerprint({"unet": [b], "vae": [a]}, "fp32")


@given(config=st.dictionaries(st.text("abc", min_size=1), json_values))
def test_a_config_is_what_it_says(config: dict) -> None:
    written_elsewhere = {
        "_diffusers_version": "9",
        "_name_or_path": "/home/somebody",
        "torch_dtype": "float16",
        "transformers_version": "9",
        **dict(reversed(config.items())),
    }
    assert hash_config(written_elsewhere) == hash_config(config)
    assert hash_config(json.loads(json.dumps(config))) == hash_config(config)
    assert hash_config({**config, "sample_size": 96}) != hash_config(config)


def test_a_link_into_the_hubs_blobs_is_taken_at_its_word(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    name = "c" * 64
    (tmp_path / "blobs" / name).write_bytes(b"gigabytes")
    link = tmp_path / "model.safetensors"
    link.symlink_to(tmp_path / "blobs" / name)
    assert hash_weights(link) == name


@pytest.mark.parametrize(("folder", "name"), [("blobs", "d" * 40), ("elsewhere", "d" * 64)])
def test_any_other_file_is_read(tmp_path: Path, folder: str, name: str) -> None:
    (tmp_path / folder).mkdir()
    target = tmp_path / folder / name
    target.write_bytes(b"content")
    link = tmp_path / "model.safetensors"
    link.symlink_to(target)
    assert hash_weights(link) == hash_weights(target) == sha256_file(target)


def test_tensors_are_hashed_with_names_shapes_and_formats() -> None:
    def model(**tensors: torch.Tensor) -> torch.nn.Module:
        module = torch.nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return module

    a, b = torch.arange(6.0), torch.tensor(1.0)
    one = hash_tensors(model(a=a, b=b))
    assert hash_tensors(model(b=b.clone(), a=a.clone())) == one
    others = [
        model(a=a.reshape(2, 3), b=b),
        model(a=a, c=b),
        model(a=a + 1, b=b),
        model(a=a.bfloat16(), b=b),
        model(a=a),
    ]
    assert len({one, *map(hash_tensors, others)}) == len(others) + 1
