"""Cells that are not decoded yet: what the viewer, its exports and a report do about them."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import svdlab as sl
from svdlab.errors import VideoError
from svdlab.sweep.artifacts import PREVIEW, VIDEO, cell_path
from svdlab.video import read_video
from svdlab.widgets import SweepViewer
from svdlab.widgets.thumbs import Thumbnails, preview_frame, thumbnail
from tests.pictures import blobs

SMALL = {"num_frames": 2, "width": 32, "height": 32, "metrics": ["flow_mean"], "progress": False}


@pytest.fixture(scope="module")
def pipe():
    return sl.load("tiny-random", device="cpu")


@pytest.fixture
def sweep(pipe, tmp_path):
    return sl.sweep(pipe, image=blobs(), steps=[1, 2], seed=0, decode="preview", out=tmp_path / "run", **SMALL)


class Recorded(SweepViewer):
    """Keeps what it sends to the page."""

    def send(self, content, buffers=None):
        self.sent = (content, buffers)


def test_the_viewer_shows_the_preview_until_a_clip_is_asked_for(sweep):
    viewer, cell = Recorded(sweep), sweep.frame()["cell"][0]
    place = sweep.path / cell_path(cell)
    viewer._on_message(None, {"kind": "media", "what": "thumb", "cells": [cell]}, None)
    rough = viewer.sent[1][0]
    assert rough == thumbnail(preview_frame(place / PREVIEW))
    assert not (place / VIDEO).exists()
    viewer._on_message(None, {"kind": "media", "what": "video", "cells": [cell]}, None)
    content, [data] = viewer.sent
    assert (content["errors"], data) == ({}, (place / VIDEO).read_bytes())
    viewer._on_message(None, {"kind": "media", "what": "thumb", "cells": [cell]}, None)
    assert viewer.sent[1][0] != rough


def test_a_picture_for_a_notebook_takes_previews_and_a_saved_one_the_frames(sweep, tmp_path):
    viewer = SweepViewer(sweep)
    shown = np.asarray(viewer.static_picture())
    assert sweep.frame()["video"].isna().all()
    viewer.save_png(tmp_path / "seen.png")
    assert sweep.frame()["video"].notna().all()
    with Image.open(tmp_path / "seen.png") as saved:
        assert not np.array_equal(np.asarray(saved.convert("RGB").resize(shown.shape[1::-1])), shown)
    assert read_video(viewer.save_mp4(tmp_path / "seen.mp4")).frames.shape[0] == 2


def test_a_cell_without_a_preview_says_so(pipe, tmp_path):
    bare = sl.sweep(pipe, image=blobs(), steps=1, seed=0, decode="none", out=tmp_path / "none", **SMALL)
    cell = bare.frame()["cell"][0]
    with pytest.raises(VideoError):
        Thumbnails(bare.path).get(cell)
    assert SweepViewer(bare).static_picture().height > 0
    assert bare.frame()["video"].isna().all()
    bare.clip(cell)
    with Image.open(io.BytesIO(Thumbnails(bare.path).get(cell))) as thumb:
        assert thumb.size == (32, 32)


def test_a_report_decodes_what_it_shows_and_has_its_metrics(sweep, tmp_path):
    page = sweep.report(tmp_path / "report")
    clips = sorted(path.name for path in (page.parent / "clips").iterdir())
    assert clips == sorted(f"{cell}.mp4" for cell in sweep.frame()["cell"])
    table = pd.read_csv(page.parent / "results.csv")
    assert table["flow_mean"].notna().all()
    assert table["video"].notna().all()
