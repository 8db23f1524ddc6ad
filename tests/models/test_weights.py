from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from svdlab.errors import ModelError
from svdlab.models.weights import check_shapes, read_shapes


@pytest.fixture
def linear() -> torch.nn.Module:
    with torch.device("meta"):
        return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 5), torch.nn.Linear(5, 1))


def shapes_of(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def test_shapes_of_several_files_are_joined(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "1.safetensors")
    save_file({"b": torch.zeros(4, dtype=torch.bfloat16), "c": torch.tensor(1.0)}, tmp_path / "2.safetensors")
    shapes = read_shapes([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert shapes == {"a": (2, 3), "b": (4,), "c": ()}


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\xff" * 64])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"x\.safetensors: is damaged.*{len(content)} bytes"):
        read_shapes([path])


def test_a_file_that_was_cut_short_is_damaged(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(100)}, tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(data[:-1])
    with pytest.raises(ModelError, match="is damaged"):
        read_shapes([tmp_path / "x.safetensors"])


def test_a_placeholder_of_git_lfs_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ModelError, match="git lfs pull"):
        read_shapes([path])


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.int8), "b": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match=r"weights of type I8; only F64, F32, F16, BF16"):
        read_shapes([tmp_path / "x.safetensors"])


def test_what_fits_passes(linear: torch.nn.Module) -> None:
    check_shapes(shapes_of(linear), linear, where="f", fix="")


def test_every_problem_is_named_with_its_first_keys(linear: torch.nn.Module) -> None:
    shapes = shapes_of(linear)
    del shapes["0.weight"]
    shapes |= {"1.weight": (5, 9), "x": (1,), "y": (1,), "z": (1,), "zz": (1,)}
    with pytest.raises(ModelError) as caught:
        check_shapes(shapes, linear, where="there", fix="Do this.")
    text = str(caught.value)
    assert text.startswith("there: does not fit Sequential")
    assert "1 missing: 0.weight" in text
    assert "4 unexpected: x, y, z, ..." in text
    assert "1 of another shape: 1.weight [5, 9] instead of [5, 2]" in text
    assert text.endswith("Do this.")


def test_leniency_concerns_names_not_shapes(linear: torch.nn.Module) -> None:
    shapes = shapes_of(linear)
    shapes["old.name"] = shapes.pop("0.weight")
    check_shapes(shapes, linear, where="f", fix="", strict=False)
    with pytest.raises(ModelError, match="1 of another shape"):
        check_shapes({**shapes, "0.bias": (7,)}, linear, where="f", fix="", strict=False)
