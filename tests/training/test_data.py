from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdlab.errors import TrainingError
from svdlab.training.data import Renderer, scene_numbers
from tests.training.discs import Discs


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 9))
def test_no_scene_is_seen_twice(step, world, batch):
    seen = [
        n for s in (step, step + 1) for r in range(world) for n in scene_numbers(s, rank=r, world=world, batch=batch)
    ]
    assert len(set(seen)) == len(seen) == 2 * world * batch
    assert seen == list(range(min(seen), max(seen) + 1))


@pytest.mark.slow
def test_processes_change_nothing():
    source = Discs(num_frames=3)
    with Renderer(source) as alone, Renderer(source, processes=2) as several:
        for numbers in (range(5), [7, 3], [11]):
            one, other = alone.batch(numbers), several.batch(numbers)
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)


class Broken:
    def __init__(self, **scenes) -> None:
        self.scenes = scenes

    def batch(self, indices):
        return self.scenes


@pytest.mark.parametrize(
    ("scenes", "words"),
    [
        ({"frames": np.zeros((1, 2, 4, 4, 3), np.uint8)}, "lack motion_bucket_id, fps"),
        ({"frames": np.zeros((1, 2, 4, 4, 3)), "motion_bucket_id": [1], "fps": [1]}, "frames must be uint8"),
        ({"frames": np.zeros((2, 4, 4, 3), np.uint8), "motion_bucket_id": [1], "fps": [1]}, r"\[2, 4, 4, 3\]"),
    ],
)
def test_a_source_without_the_contract_is_refused(scenes, words):
    with pytest.raises(TrainingError, match=words), Renderer(Broken(**scenes)) as renderer:
        renderer.batch([0])
