from __future__ import annotations

import numpy as np
import pytest

from svdlab.errors import RequestError, ViewError
from svdlab.plot import schedules
from svdlab.sampling import sigmas


def test_every_call_is_a_point_and_the_last_ones_a_line():
    figure = schedules((8, 1, 4))
    assert [axes.get_title() for axes in figure.axes] == ["animatelcm", "even", "karras"]
    for axes in figure.axes:
        calls, last = axes.get_lines()
        levels = [sigmas(n, schedule=axes.get_title())[:-1].numpy() for n in (1, 4, 8)]
        np.testing.assert_allclose(calls.get_ydata(), np.concatenate(levels))
        assert calls.get_xdata().tolist() == [1] + [4] * 4 + [8] * 8
        np.testing.assert_allclose(last.get_xydata(), [(n, of[-1]) for n, of in zip((1, 4, 8), levels, strict=True)])
        assert axes.get_yscale() == "log"
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4", "8"]
    assert figure.axes[0].get_ylabel() == "noise level sigma of the denoiser calls"


def test_many_step_counts_get_round_ticks():
    axes = schedules(range(1, 17), ["even"]).axes[0]
    assert axes.get_xticks().tolist() == [1, 4, 8, 12, 16]
    assert schedules(np.arange(3, 41), "even").axes[0].get_xticks().tolist() == [3, 10, 20, 30, 40]


def test_another_start():
    assert schedules((2,), "karras", sigma_max=80.0).axes[0].get_lines()[0].get_ydata()[0] == 80.0


def test_what_cannot_be_drawn_is_refused_in_words():
    with pytest.raises(RequestError, match="schedule = 'evn': must be one of"):
        schedules((1, 2), ("evn",))
    with pytest.raises(RequestError, match="41"):
        schedules((41,), ("even",))
    with pytest.raises(ViewError, match=r"steps: 2\.5 is not a whole number"):
        schedules((2.5,))
    with pytest.raises(ViewError, match="give at least one of each"):
        schedules(())
