"""Cold: fresh processes that each make one clip, timed from the command to the file, with what memory they hold."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import svdlab
from svdlab.bench.timing import Timing
from svdlab.errors import BenchError

if TYPE_CHECKING:
    from svdlab.bench.stock import Stock
    from svdlab.request import Request

# What a person would write, but for the scheduler: diffusers has none for consistency models of this kind.
SCRIPT = """
import sys, torch
from diffusers import StableVideoDiffusionPipeline
from diffusers.utils import load_image
from svdlab.sampling import SVDLCMScheduler
folder, picture, out, device, dtype, steps, frames, width, height, fps, bucket, noise, chunk = sys.argv[1:]
pipe = StableVideoDiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype)).to(device)
pipe.scheduler = SVDLCMScheduler(noise_seed=0)
pipe.set_progress_bar_config(disable=True)
clip = pipe(load_image(picture), num_frames=int(frames), width=int(width), height=int(height), fps=int(fps),
            num_inference_steps=int(steps), min_guidance_scale=1.0, max_guidance_scale=1.0,
            motion_bucket_id=int(bucket), noise_aug_strength=float(noise), decode_chunk_size=int(chunk),
            generator=torch.Generator().manual_seed(0)).frames[0]
try:
    import imageio, imageio_ffmpeg
except ImportError:
    import numpy as np
    from svdlab.video import write_video
    write_video(out, np.stack([np.asarray(frame) for frame in clip]), fps=int(fps))
else:
    from diffusers.utils import export_to_video
    export_to_video(clip, out, fps=int(fps))
"""
# A process begins its account of memory with that of the one that starts it, so a small one has to.
LAUNCHER = """
import os, sys, time
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
began = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
COMMAND = "from svdlab.cli import main; main()"


@dataclass(frozen=True, kw_only=True)
class Cold:
    """Seconds from command to end, and megabytes (10^6 bytes) that the process held at most."""

    seconds: Timing
    megabytes: Timing


def cold_starts(stock: Stock, request: Request, folder: Path, *, repeats: int, warm_up: int = 1) -> dict[str, Cold]:
    """Both sides in turns, after `warm_up` turns that do not count: they fill the system's cache of files.

    Args:
        stock: its pipeline is written to disk once, and read by both sides.
        request: resolved; its picture is an image in memory.
        folder: for the model, the picture and the clips.

    Raises:
        BenchError: a process failed; with the end of what it said.
    """
    model, picture = folder / "model", folder / "picture.png"
    stock.save(model)
    request.image.save(picture)
    device, dtype = str(stock.device), str(stock.dtype).removeprefix("torch.")
    places = {side: folder / f"cold-{side}.mp4" for side in ("baseline", "svdlab")}
    values: list[Any] = [request.steps, request.num_frames, request.width, request.height, request.fps]
    values += [request.motion_bucket_id, request.cond_aug, request.decode_chunk]
    options = ("steps", "num-frames", "width", "height", "fps", "motion-bucket-id", "cond-aug", "decode-chunk")
    flags = [f"--{name}={value}" for name, value in zip(options, values, strict=True)]
    flags += ["--seed=0", "--min-guidance=1", "--max-guidance=1", f"--device={device}", f"--dtype={dtype}"]
    commands = {
        "baseline": [SCRIPT, str(model), str(picture), str(places["baseline"]), device, dtype, *map(str, values)],
        "svdlab": [COMMAND, "generate", str(picture), "-o", str(places["svdlab"]), "-m", str(model), *flags],
    }
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in commands}
    for turn in range(warm_up + repeats):
        for side, command in commands.items():
            measured = run_process([sys.executable, "-c", *command])
            if turn >= warm_up:
                found[side].append(measured)
    return {
        side: Cold(
            seconds=_timing([seconds for seconds, _ in runs]), megabytes=_timing([megabytes for _, megabytes in runs])
        )
        for side, runs in found.items()
    }


def run_process(command: Sequence[str]) -> tuple[float, float]:
    """Run a command to its end: seconds, and megabytes that it held at most.

    Raises:
        BenchError: it failed.

    Example:
        >>> seconds, megabytes = run_process([sys.executable, "-c", "pass"])
    """
    home = str(Path(svdlab.__file__).parents[1])
    path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-S", "-c", LAUNCHER, *command],
        capture_output=True,
        env=os.environ | {"PYTHONPATH": path},
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"a fresh process could not be started: {done.stderr.strip()[-500:]}")
    seconds, most, code = done.stdout.split()
    if code != "0":
        raise BenchError(f"a fresh process that makes a clip ended with {code}: {done.stderr.strip()[-500:]}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return float(seconds), int(most) * unit / 1e6


def peak_of(work: Callable[[], object], device: torch.device) -> Timing:
    """Megabytes that a piece of work allocates at most on a CUDA device, what was there before included."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return _timing([torch.cuda.max_memory_allocated(device) / 1e6])


def _timing(values: Sequence[float]) -> Timing:
    return Timing(median=statistics.median(values), low=min(values), high=max(values), count=len(values))
