"""Groups and their queue: every cell is handed out once, no call is made twice, and nobody waits for long."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdlab.request import SETTINGS, Defaults, Request
from svdlab.sharing import calls_to_make
from svdlab.sweep.cells import Cell
from svdlab.sweep.groups import Queue, make_group, make_groups


def cell(image: str = "a", **settings) -> Cell:
    values = Request("x", **{"seed": 0, **settings}).resolve(DEFAULTS).settings()
    return Cell(key=f"{image}-{'-'.join(map(str, values.values()))}", image=image, label=image, settings=values)


DEFAULTS = Defaults(width=64, height=64, num_frames=25)
MANY = [
    cell(image, seed=seed, motion_bucket_id=motion, steps=steps)
    for image in "ab"
    for seed in (0, 1)
    for motion in (32, 127, 224)
    for steps in (1, 2, 4)
]


@pytest.mark.parametrize("size", [1, 4])
def test_no_call_is_common_to_two_groups(size):
    groups = make_groups(MANY, size)
    assert sorted(c.key for group in groups for c in group.cells) == sorted(c.key for c in MANY)
    assert sum(sum(calls_to_make(c.chain for c in group.cells)) for group in groups) == sum(
        calls_to_make(c.chain for c in MANY)
    )
    assert len(groups) == 12 / size
    assert len(make_groups(MANY, size, timing="isolated")) == len(MANY)


def test_a_worker_keeps_its_conditioning_and_another_takes_another():
    queue = Queue(make_groups(MANY, 1))
    first = [queue.take("one").shared for _ in range(2)]
    second = [queue.take("two").shared for _ in range(2)]
    assert first[0] == first[1] != second[0] == second[1]


def test_the_last_one_helps_where_most_is_left():
    groups = [make_group([[cell(seed=0, motion_bucket_id=motion)]]) for motion in range(9)]
    queue = Queue([*groups, make_group([[cell(seed=1)]])])
    assert queue.take("one").shared == groups[0].shared
    assert queue.take("two").shared == groups[0].shared  # 8 left between two beside 1 for one
    assert [queue.take("two") is not None for _ in range(8)] == [True] * 8
    assert queue.take("one") is None
    assert not queue


def test_the_longest_first():
    queue = Queue([make_group([[cell(motion_bucket_id=steps, steps=steps)]]) for steps in (2, 8, 1, 4)])
    assert [queue.take("one").cells[0].settings["steps"] for _ in range(4)] == [8, 4, 2, 1]


def test_clips_that_do_not_fit_are_left_to_others():
    small, large = make_group([[cell()]]), make_group([[cell(width=128, height=128)]])
    queue = Queue([small, large])
    assert queue.take("little", below=large.pixels) is small
    assert queue.take("little", below=large.pixels) is None
    assert queue.take("big") is large


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=12),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=40),
)
def test_whatever_happens_each_group_is_out_once(sizes, moves):
    """Workers take, put back and forget in any order."""
    groups = [
        make_group([[cell(seed=seed, motion_bucket_id=number, steps=steps)]])
        for number, (seed, steps) in enumerate(sizes)
    ]
    queue, out = Queue(groups), []
    for worker, back in moves:
        if back and out:
            queue.forget(worker)
            queue.put(out.pop())
        elif (group := queue.take(worker)) is not None:
            out.append(group)
        assert len(queue) + len(out) == len(groups)
    while (group := queue.take("last")) is not None:
        out.append(group)
    assert sorted(map(id, out)) == sorted(map(id, groups))


def test_settings_are_those_of_requests():
    assert set(MANY[0].settings) == set(SETTINGS)
