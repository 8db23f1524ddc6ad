"""What fuzzing begins with and what it found is read again: a result, or an error in words."""

from __future__ import annotations

import warnings

import pytest

from tests.faults.fuzz import FOUND, TARGETS, seeds


def cases():
    for target in TARGETS:
        for number, data in enumerate(seeds(target)):
            yield pytest.param(target, data, id=f"{target}-seed-{number}")
        for path in sorted(FOUND.glob(f"{target}-*")):
            yield pytest.param(target, path.read_bytes(), id=path.name)


@pytest.mark.parametrize(("target", "data"), list(cases()))
@pytest.mark.parametrize("cut", [False, True])
def test_what_fuzzing_knows_ends_in_a_result_or_in_words(target, data, cut, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of which pictures have many, such as that an animation's first frame is used
        TARGETS[target](data[: len(data) // 2] if cut else data, tmp_path)
    assert next(tmp_path.iterdir()).stat().st_size
