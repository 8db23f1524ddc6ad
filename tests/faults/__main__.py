"""The campaign: real sweeps killed again and again, at every named point and at random moments.

    python -m tests.faults --rounds 200 --seed 1        # SIGKILL
    python -m tests.faults --rounds 40 --random 10      # ten at random moments, the rest at points

Ends with code 1 at the first promise that is not kept, and leaves the run directory for a look.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch

import svdlab as sl
from svdlab.sweep.provenance import versions
from tests.faults.rounds import World, plan_kills, run_round
from tests.sweep.conftest import draw_pictures


def choose(points: list[str], rounds: int, by_moment: int, rng: random.Random) -> list[int | None]:
    """What each round begins with: None for a random moment, or the number of a point.

    Every name comes once before any comes twice: a name stands for all calls of one kind from one function.
    """
    places: dict[str, list[int]] = {}
    for number, name in enumerate(points):
        places.setdefault(name, []).append(number)
    chosen: list[int | None] = []
    while len(chosen) < rounds - by_moment:
        chosen += [rng.choice(numbers) for numbers in rng.sample(list(places.values()), len(places))]
    chosen = chosen[: rounds - by_moment] + [None] * by_moment
    rng.shuffle(chosen)
    return chosen


def campaign(home: Path, *, rounds: int, by_moment: int, seed: int, say: bool) -> dict[str, object]:
    """Run the rounds; what was hit how often, for people and for the sample in the tests."""
    rng = random.Random(seed)
    pipe = sl.load("tiny-random", device="cpu")
    picture = draw_pictures(home / "pictures") / "rocket.png"
    sl.metrics.score(pipe(picture, steps=1, seed=0, num_frames=2), names=["flow_mean"])  # import all that is needed
    versions()  # asks git once a process
    world = World(pipe, picture, home)
    world.begin()
    hits: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    for number, first in enumerate(choose(world.points, rounds, by_moment, rng), start=1):
        hits.update(run_round(world, plan_kills(world, rng, first)))
        if say:
            sys.stderr.write(f"\r{number} of {rounds} rounds, {hits.total()} kills, {time.monotonic() - began:.0f} s ")
            sys.stderr.flush()
    return {"rounds": rounds, "points": len(world.points), "kinds": len(set(world.points)), "hits": dict(hits)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--random", type=int, help="how many of them at random moments [default: a quarter]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    home = Path(tempfile.mkdtemp(prefix="svdlab-faults-"))
    by_moment = given.rounds // 4 if given.random is None else given.random
    try:
        result = campaign(home, rounds=given.rounds, by_moment=by_moment, seed=given.seed, say=not given.quiet)
    except AssertionError as broken:  # a promise, or two tables that differ
        sys.exit(f"\nbroken promise: {broken}\nlook at {home}")
    import shutil

    shutil.rmtree(home)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
