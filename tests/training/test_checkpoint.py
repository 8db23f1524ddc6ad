from __future__ import annotations

import json
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from svdlab.errors import TrainingError
from svdlab.training import checkpoint
from svdlab.training.checkpoint import COMMIT, load_checkpoint, read_commit, save_checkpoint

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}


def test_round_trip(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    path = save_checkpoint(folder, step=7, tensors=TENSORS, info={"seconds": 1.5})
    tensors, commit = load_checkpoint(folder)
    assert path.name == "step-00000007.safetensors"
    assert (commit["step"], commit["seconds"]) == (7, 1.5)
    assert tensors.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
        assert torch.equal(tensors[key], value)
        assert tensors[key].dtype == value.dtype


def test_tensors_that_share_memory_or_are_not_contiguous(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    layer = nn.Linear(4, 4)
    given = {
        "base": base,
        "same": base,
        "part": base[1],
        "turned": base.T,
        "weight": layer.weight,
        "tied": layer.weight,
    }
    save_checkpoint(tmp_path, step=1, tensors=given, info={})
    tensors, _ = load_checkpoint(tmp_path)
    for key, value in given.items():
        assert torch.equal(tensors[key], value)


def test_nothing_there(tmp_path):
    assert read_commit(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_a_new_one_replaces_the_old_and_what_killed_processes_left(tmp_path):
    save_checkpoint(tmp_path, step=1, tensors=TENSORS, info={})
    (tmp_path / ".tmp-123-step-00000002.safetensors").write_bytes(b"half")
    (tmp_path / "step-00000002.safetensors").write_bytes(b"not committed")
    assert load_checkpoint(tmp_path)[1]["step"] == 1
    save_checkpoint(tmp_path, step=3, tensors=TENSORS, info={})
    assert sorted(path.name for path in tmp_path.iterdir()) == [COMMIT, "step-00000003.safetensors"]


@given(cut=st.integers(1, 200))
def test_a_file_that_is_cut_short_is_refused(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("cut")
    path = save_checkpoint(folder, step=1, tensors=TENSORS, info={})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(TrainingError, match="another size"):
        read_commit(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:20],
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "format": 99}),
        lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "file"}),
    ],
)
def test_a_damaged_commit_is_refused_in_words(tmp_path, change):
    save_checkpoint(tmp_path, step=1, tensors=TENSORS, info={})
    path = tmp_path / COMMIT
    path.write_text(change(path.read_text()))
    with pytest.raises(TrainingError, match="start this stage anew"):
        read_commit(tmp_path)


def test_tensors_that_are_no_safetensors_are_refused_in_words(tmp_path):
    path = save_checkpoint(tmp_path, step=1, tensors=TENSORS, info={})
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(TrainingError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_a_failed_write_keeps_the_last_one(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, step=1, tensors=TENSORS, info={})

    def full(path: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(TrainingError, match="step 2 cannot be written"):
        save_checkpoint(tmp_path, step=2, tensors=TENSORS, info={})
    assert load_checkpoint(tmp_path)[1]["step"] == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(TrainingError, match="cannot be written"):
        save_checkpoint(tmp_path / "below", step=1, tensors=TENSORS, info={})
