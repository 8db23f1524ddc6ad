"""Artifacts: a cell's folder is whole or absent, and tells nothing of its machine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from svdlab.clip import Clip
from svdlab.errors import SweepError, VideoError
from svdlab.sweep import artifacts
from tests.sweep.test_ledger import FILES, KEYS, manifest

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)


def test_a_clip_becomes_files():
    files = artifacts.encode(Clip(frames=FRAMES, latents=torch.zeros(2, 4, 2, 2)))
    assert set(files) == {"clip.mp4", "latents.safetensors", "thumb.jpg"}
    assert files["clip.mp4"][4:8] == b"ftyp"
    assert files["thumb.jpg"][:2] == b"\xff\xd8"
    assert set(artifacts.encode(Clip(frames=FRAMES))) == {"clip.mp4", "thumb.jpg"}  # a clip may have no latents


def test_frames_that_no_mp4_can_hold():
    with pytest.raises(VideoError, match="15"):
        artifacts.encode(Clip(frames=FRAMES[:, :15]))


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        artifacts.store(tmp_path, manifest(0), {"nowhere/clip.mp4": b"x"})
    assert [path.name for path in tmp_path.rglob("*")] == ["cells", KEYS[0][:2]]


def test_storing_again_replaces_the_folder_as_a_whole(tmp_path):
    place = tmp_path / artifacts.cell_path(KEYS[0])
    artifacts.store(tmp_path, manifest(0), {**FILES, "stray.txt": b"old"})
    artifacts.store(tmp_path, manifest(0), FILES)
    assert sorted(path.name for path in place.iterdir()) == ["manifest.json", "thumb.jpg"]
    assert artifacts.sweep_up(tmp_path) == 1  # the old one waits under a temporary name
    assert list(artifacts.stored_keys(tmp_path)) == [KEYS[0]]


def test_a_cell_without_latents_cannot_be_decoded(tmp_path, pipe, pictures):
    (tmp_path / "images").mkdir()
    image = tmp_path / artifacts.image_path(manifest(0)["image"]["digest"])
    image.write_bytes((pictures / "kite.png").read_bytes())
    files = artifacts.encode(Clip(frames=FRAMES))
    entry = {**manifest(0), "files": {name: {"bytes": len(data), "sha256": ""} for name, data in files.items()}}
    artifacts.store(tmp_path, entry, files)
    assert artifacts.load_clip(tmp_path, KEYS[0]).latents is None
    with pytest.raises(SweepError, match="it has no latents"):
        artifacts.load_clip(tmp_path, KEYS[0], pipe=pipe)


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({"name": "tiny", "source": "tiny, bundled"}, {"name": "tiny", "source": "tiny, bundled"}),
        ({"name": "/home/me/nets/mine"}, {"name": "mine"}),
        (
            {"name": "mine", "source": "folder /home/me/my nets/mine"},
            {"name": "mine", "source": "folder ../../my nets/mine"},
        ),
        ({"name": "org/repo", "source": "org/repo at 0123"}, {"name": "org/repo", "source": "org/repo at 0123"}),
        ({"name": "mine", "source": None}, {"name": "mine", "source": None}),
    ],
)
def test_models_are_described_without_absolute_paths(described, expected):
    assert artifacts.portable(described, Path("/home/me/runs/first")) == expected


def test_a_path_on_another_drive_is_kept(monkeypatch):
    def other_drive(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert artifacts.relative("D:/a.png", Path("C:/runs")) == "D:/a.png"


def test_a_damaged_manifest_is_not_read(tmp_path):
    with pytest.raises(SweepError, match="is not a whole cell"):
        artifacts.read_manifest(tmp_path, KEYS[0])


@pytest.mark.parametrize("key", ["../../../elsewhere/x", "a/b", "..", "", 'a"><svg onload=x>', "a\n"])
def test_what_is_no_key_names_no_place(key: str) -> None:
    for place in (artifacts.cell_path, artifacts.image_path):
        with pytest.raises(SweepError, match="is no key of a cell or picture"):
            place(key)
