from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.errors import VideoError
from svdlab.sweep.strip import COUNT, LONG, MOST, SHORT, make_strip, read_strip


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 9), height=st.integers(1, 300), width=st.integers(1, 700))
def test_a_strip_gives_its_frames_back_in_order_and_at_a_size_that_can_be_seen(count, height, width):
    grey = np.linspace(10, 240, count).round().astype(np.uint8)  # each frame its own shade
    frames = np.broadcast_to(grey[:, None, None, None], (count, height, width, 3))
    shown = read_strip(make_strip(frames))
    assert len(shown) == COUNT
    short, long = sorted(shown.shape[1:3])
    assert short <= LONG
    assert long <= MOST
    assert short >= SHORT or 2 * long > MOST  # as large as it may be
    expected = grey[np.linspace(0, count - 1, COUNT).round().astype(int)]
    assert np.abs(shown.mean(axis=(1, 2, 3)) - expected).max() < 4


@pytest.mark.parametrize("data", [b"", b"no picture", make_strip(np.zeros((5, 8, 8, 3), np.uint8))[:200]])
def test_a_damaged_preview_is_said_to_be_one(data):
    with pytest.raises(VideoError, match=r"cannot be read .*Sweep\.decode"):
        read_strip(data)
