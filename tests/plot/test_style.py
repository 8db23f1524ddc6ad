from __future__ import annotations

import io
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from svdlab.plot import heatmap, response, schedules
from svdlab.plot.labels import axis_label, count_of, numbers_for, show, span
from svdlab.plot.style import CATEGORIES, MARKERS, looks


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure._repr_png_())).convert("RGB"))


def test_a_figure_shows_itself_and_pyplot_does_not_know_it(df):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    figure = heatmap(df, "motion_bucket_id", "steps", "flow_mean")
    assert plt.get_fignums() == before
    shown = pixels(figure)
    assert shown.shape[1::-1] == tuple(int(side * 100) for side in figure.get_size_inches())
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20


def test_the_users_own_settings_neither_change_nor_matter(df):
    plain = pixels(response(df, "motion_bucket_id", "flow_mean", by="steps"))
    with mpl.style.context("dark_background"), mpl.rc_context({"font.size": 30, "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        figure = response(df, "motion_bucket_id", "flow_mean", by="steps")
        np.testing.assert_array_equal(pixels(figure), plain)
        assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_a_figure_is_written_in_any_format(tmp_path, suffix):
    schedules((1, 2)).savefig(tmp_path / f"figure.{suffix}")
    start = (tmp_path / f"figure.{suffix}").read_bytes()[:5]
    assert start in (b"\x89PNG\r", b"%PDF-", b"<?xml")


def test_importing_the_plots_loads_nothing_heavy():
    heavy = ("torch", "cv2", "matplotlib.pyplot", "scipy.stats")
    code = f"import sys, svdlab.plot; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_categories_are_told_apart_without_colour():
    styles = [(look["marker"], look["linestyle"]) for look in looks([str(i) for i in range(8)])]
    assert len(set(styles)) == 8
    assert len({look["color"] for look in looks(list("abcdefg"))}) == len(CATEGORIES)
    assert [look["marker"] for look in looks([1, 2, 4])] == list(MARKERS[:3])


def test_numbers_get_colours_that_rise_in_brightness():
    light = [np.dot((0.2126, 0.7152, 0.0722), look["color"][:3]) for look in looks([1, 2, 4, 8])]
    assert light == sorted(light)
    assert light[-1] < 0.75  # still dark enough on white


def test_labels():
    assert axis_label("flow_mean") == "flow_mean (px/frame)"
    assert axis_label("psnr_input") == "psnr_input (dB, higher is better)"
    assert axis_label("psnr_input", direction=False) == "psnr_input (dB)"
    assert axis_label("seconds") == "seconds (s, lower is better)"
    assert axis_label("my_column") == "my_column"
    assert (count_of("seed", 3), count_of("cond_aug", 2)) == ("3 seeds", "2 values of cond_aug")
    assert (span([3]), span([4, 2, 3])) == ("3", "2 to 4")
    assert (show(0.02), show("two\nlines"), show(True)) == ("0.02", "two lines", "True")


@given(st.floats(1e-12, 1e12), st.sampled_from([-1, 1]))
def test_printed_numbers_keep_three_digits(value, sign):
    numbers = numbers_for(np.array([sign * value, 0.0]))
    text = numbers(sign * value).replace("\N{MINUS SIGN}", "-")
    assert float(text) * 10**numbers.exponent == pytest.approx(sign * value, rel=0.006)
    assert len(text.lstrip("-")) <= 7
    assert numbers(0.0).strip("0.") == ""
