"""A process that runs a sweep in forked children and kills them with SIGKILL, for `test_kill.py`.

It imports torch and loads the model once; each child then starts in milliseconds. Commands come on standard input, one
a line: ``time SECONDS`` kills a child after so long, ``write SECONDS`` so long after it began to write a cell's folder.
The answer is ``killed`` or, if the child was done before, ``finished``.

    python killed.py RUN_DIRECTORY PICTURE
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import cv2
import torch

import svdlab as sl
from svdlab.sweep.provenance import versions
from tests.sweep.test_kill import GRID

torch.set_num_threads(1)
cv2.setNumThreads(1)


def writing(folder: Path) -> bool:
    """Whether a cell's folder is being written right now."""
    cells = folder / "cells"
    return cells.is_dir() and any(entry.name.startswith(".tmp-") for entry in os.scandir(cells))


def kill_one(pipe: sl.Pipeline, folder: Path, picture: str, mode: str, seconds: float) -> str:
    child = os.fork()
    if child == 0:
        sl.sweep(pipe, image=picture, out=folder, **GRID)
        os._exit(0)
    while mode == "write" and not writing(folder):
        if os.waitpid(child, os.WNOHANG)[0]:
            return "finished"
        time.sleep(0.0002)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return "killed" if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else "finished"


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def main() -> None:
    folder, picture = Path(sys.argv[1]), sys.argv[2]
    pipe = sl.load("tiny-random", device="cpu")
    sl.metrics.score(pipe(picture, steps=1, seed=0, num_frames=2), names=["flow_mean"])  # import all that is needed
    versions()  # asks git once a process
    say("ready")
    for line in sys.stdin:
        mode, seconds = line.split()
        say(kill_one(pipe, folder, picture, mode, float(seconds)))


if __name__ == "__main__":
    main()
