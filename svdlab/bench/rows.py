"""Rows: what the bench measures, once both sides are seen to agree."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from svdlab.bench.stock import Stock, has_exporter
from svdlab.bench.timing import Timing, in_turns
from svdlab.errors import BenchError
from svdlab.request import Request

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

ROWS = ("conditioning", "unet_call", "decode_frame", "mp4", "clip", "grid", "grid_limit")
CLIP_STEPS = 4
TOLERANCE = {"float32": 1e-4}  # relative, of latents; half precision rounds differently in another order of sums
TOLERANCE_HALF = 0.05


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured, and on what.

    Attributes:
        rows: names out of `ROWS`.
        repeats: timed runs of each side; the grid is run once.
        num_frames, width, height: of the clips; None: the model's own.
        grid: axes of the row `grid`.

    Example:
        >>> Settings(rows=("clip",), repeats=5)
    """

    rows: tuple[str, ...] = ROWS
    repeats: int = 3
    num_frames: int | None = None
    width: int | None = None
    height: int | None = None
    grid: Mapping[str, tuple[Any, ...]] = dataclasses.field(
        default_factory=lambda: {
            "motion_bucket_id": (32, 127, 224),
            "cond_aug": (0.02, 0.1, 0.3),
            "steps": (1, 2, 4, 8),
            "seed": (0, 1),
        }
    )

    def __post_init__(self) -> None:
        if not self.rows or any(name not in ROWS for name in self.rows):
            raise BenchError(f"rows = {', '.join(self.rows)!r}: must be some of {', '.join(ROWS)}.")
        if self.repeats < 1:
            raise BenchError(f"repeats = {self.repeats}: must be a whole number from 1.")
        needed = {"unet_call", "decode_frame", "grid"}
        if "grid_limit" in self.rows and not needed <= set(self.rows):
            raise BenchError("rows: grid_limit is computed from unet_call, decode_frame and grid; name these too.")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement.

    Attributes:
        name, what: of `ROWS`, and in words.
        baseline, svdlab: seconds of both sides; of `grid_limit`, those that the parts allow and those of the grid.
        tflop: arithmetic of svdlab's side in 10^12 operations, a multiplication with an addition counted as two.
        note: what a reader must know.
    """

    name: str
    what: str
    baseline: Timing
    svdlab: Timing
    tflop: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Baseline / svdlab: above 1, svdlab is faster."""
        return self.baseline.median / self.svdlab.median

    @property
    def tflops(self) -> float | None:
        """Achieved 10^12 operations a second."""
        return None if self.tflop is None else self.tflop / self.svdlab.median


@dataclass(frozen=True, kw_only=True)
class Bench:
    """All rows, and the machine they were measured on; `peak_tflops` is that of a large matrix product."""

    rows: tuple[Row, ...]
    machine: Mapping[str, Any]
    peak_tflops: float

    def table(self) -> list[tuple[str, ...]]:
        """The rows as texts under `HEADER`; the spread is half the range of the repeats."""
        return [
            (
                row.what,
                _seconds(row.baseline),
                _seconds(row.svdlab),
                f"{row.ratio:.2f}",
                "" if row.tflops is None else f"{row.tflops:.3g}",
                "" if row.tflops is None else f"{row.tflops / self.peak_tflops:.0%}",
            )
            for row in self.rows
        ]

    def notes(self) -> list[str]:
        """What a reader must know about single rows."""
        return [f"{row.what}: {row.note}" for row in self.rows if row.note]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "rows": [
                {
                    "name": row.name,
                    "what": row.what,
                    "baseline_s": row.baseline.median,
                    "svdlab_s": row.svdlab.median,
                    "ratio": row.ratio,
                    "baseline_range_s": [row.baseline.low, row.baseline.high],
                    "svdlab_range_s": [row.svdlab.low, row.svdlab.high],
                    "repeats": row.svdlab.count,
                    "tflops": row.tflops,
                    "note": row.note,
                }
                for row in self.rows
            ],
            "machine": dict(self.machine),
            "peak_tflops": self.peak_tflops,
        }


HEADER = ("what", "stock, s", "svdlab, s", "ratio", "TFLOP/s", "of peak")


def _seconds(timing: Timing) -> str:
    if timing.count == 1:
        return f"{timing.median:.3g}"
    return f"{timing.median:.3g} +-{(timing.high - timing.low) / 2 / timing.median:.0%}"


def run_bench(pipe: Pipeline, settings: Settings | None = None) -> Bench:
    """Measure svdlab beside stock diffusers on the same components, after seeing that their clips agree.

    Raises:
        BenchError: the outputs of the two sides differ, so that their times would not mean the same thing.

    Example:
        >>> run_bench(pipe, Settings(rows=("clip",))).rows[0].ratio
    """
    work = _Work(pipe, settings or Settings())
    work.check_agreement()
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="svdlab-bench-") as folder:
        work.folder = Path(folder)
        for name in ROWS:
            if name in work.settings.rows:
                rows[name] = work.limit(rows) if name == "grid_limit" else getattr(work, name)()
    return Bench(rows=tuple(rows.values()), machine=_machine(pipe), peak_tflops=matmul_peak(pipe.device, pipe.dtype))


def matmul_peak(device: torch.device, dtype: str) -> float:
    """10^12 operations a second of a large square matrix product in this precision, the best of five."""
    size = 8192 if device.type == "cuda" else 1024
    a = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    timing = in_turns({"product": lambda: a @ a}, repeats=5, synchronize=_synchronizer(device))["product"]
    return 2 * size**3 / timing.low / 1e12


def _synchronizer(device: torch.device) -> Callable[[], None]:
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


def _machine(pipe: Pipeline) -> dict[str, Any]:
    from svdlab.sweep.provenance import machine, versions

    return {
        **machine(str(pipe.device)),
        "device": str(pipe.device),
        "dtype": pipe.dtype,
        "model": pipe.name,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


class _Work:
    """Both sides with one picture; a method a row."""

    def __init__(self, pipe: Pipeline, settings: Settings) -> None:
        self.pipe, self.stock, self.settings = pipe, Stock(pipe), settings
        self.folder = Path()
        sizes = {name: getattr(settings, name) for name in ("num_frames", "width", "height")}
        # Without guidance: both sides then make one denoiser call a step.
        free = {"min_guidance": 1.0, "max_guidance": 1.0}
        self.request = Request(Image.new("RGB", (8, 8)), seed=0, steps=CLIP_STEPS, **sizes, **free).resolve(
            pipe.defaults
        )
        self.request = self.request.replace(image=_picture(self.request))

    def _time(self, baseline: Callable[[], object], ours: Callable[[], object]) -> dict[str, Any]:
        return in_turns(
            {"baseline": baseline, "svdlab": ours},
            repeats=self.settings.repeats,
            synchronize=_synchronizer(self.pipe.device),
        )

    def check_agreement(self) -> None:
        """Both sides on the step counts of the grid and its outermost motion buckets, without noise on the picture."""
        most = TOLERANCE.get(self.pipe.dtype, TOLERANCE_HALF)
        buckets = sorted(self.settings.grid.get("motion_bucket_id", (127,)))
        for steps, bucket in itertools.product(
            self.settings.grid.get("steps", (CLIP_STEPS,)), {buckets[0], buckets[-1]}
        ):
            request = self.request.replace(steps=steps, motion_bucket_id=bucket, cond_aug=0.0)
            clip, theirs = self.pipe(request), self.stock.run(request, output_type="latent").float().cpu()
            assert clip.latents is not None
            off = float(torch.linalg.norm(clip.latents - theirs) / torch.linalg.norm(theirs))
            if not off <= most:
                raise BenchError(
                    f"steps = {steps}, motion_bucket_id = {bucket}: latents of stock diffusers and svdlab differ by"
                    f" {off:.2g} relative (allowed: {most:g}), so times would not compare the same work. Check the"
                    " versions with `svdlab doctor`."
                )
            frames = self.stock.run(request)
            worst = float(np.abs(frames - clip.frames / 255).max())
            if worst > 0.5 / 255 + 10 * most:
                raise BenchError(f"steps = {steps}: frames of stock diffusers and svdlab differ by {worst:.2g} of 1.")

    def conditioning(self) -> Row:
        """Both start from nothing: the pipeline's cache is emptied."""

        def ours() -> None:
            self.pipe.clear_cache()
            self.pipe._condition(self.request, np.asarray(self.request.image))

        times = self._time(lambda: self.stock.condition(self.request), torch.no_grad()(ours))
        return Row(name="conditioning", what="conditioning", **times)

    def unet_call(self) -> Row:
        """The network as stock diffusers calls it, and as svdlab's denoiser does, scaling and checks with it."""
        job = self.pipe._prepare([self.request])
        denoiser = self.pipe._denoiser(job.requests, job.conditioning)
        part = job.conditioning[0]
        latent = part.image_latent.expand(1, self.request.num_frames or 1, -1, -1, -1)
        x = torch.cat([(job.x / 700).to(latent.dtype), latent], dim=2)
        states, ids = part.embedding[None], part.time_ids[None].to(latent)
        unet = self.pipe.components.unet
        t = torch.tensor(1.6, device=self.pipe.device)
        plain = torch.no_grad()(lambda: unet(x, t, encoder_hidden_states=states, added_time_ids=ids, return_dict=False))
        ours = torch.no_grad()(lambda: denoiser(job.x, float(job.sigmas[0])))
        return Row(name="unet_call", what="one UNet call", **self._time(plain, ours), tflop=_tflop(ours))

    def decode_frame(self) -> Row:
        """A whole clip, divided by its frames."""
        frames, chunk = self.request.num_frames or 1, self.request.decode_chunk or 1
        clip = self.pipe(self.request)
        assert clip.latents is not None
        latents = clip.latents.to(self.pipe.device, self.pipe.components.dtype)
        stock = self.stock.pipeline

        def baseline() -> None:
            stock.video_processor.postprocess_video(
                stock.decode_latents(latents[None], frames, chunk), output_type="np"
            )

        def ours() -> None:
            self.pipe.decode(latents, decode_chunk=chunk)

        times = {name: timing.per(frames) for name, timing in self._time(torch.no_grad()(baseline), ours).items()}
        return Row(name="decode_frame", what="decoding, a frame", **times, tflop=_tflop(ours) / frames)

    def mp4(self) -> Row:
        """The frames of one clip into a file."""
        from svdlab.video import write_video

        clip = self.pipe(self.request)
        floats = (clip.frames / 255).astype(np.float32)
        times = self._time(
            lambda: self.stock.export(floats, self.folder / "a.mp4", fps=self.request.fps),
            lambda: write_video(self.folder / "b.mp4", clip.frames, fps=self.request.fps),
        )
        return Row(name="mp4", what="mp4 of a clip", **times, note=_without_exporter())

    def clip(self) -> Row:
        """From the picture to the file, nothing kept from before."""

        def ours() -> None:
            self.pipe.clear_cache()
            self.pipe(self.request).save(self.folder / "b.mp4")

        times = self._time(lambda: self.stock.grid([self.request], self.folder), ours)
        return Row(name="clip", what=f"one clip, {CLIP_STEPS} steps", **times, note=_without_exporter())

    def grid(self) -> Row:
        """All cells, once: a loop of clips beside a sweep, which also keeps latents and a ledger."""
        import svdlab as sl

        def ours() -> None:
            self.pipe.clear_cache()
            fixed = {name: value for name, value in self.request.settings().items() if name not in self.settings.grid}
            axes: dict[str, Any] = {name: list(values) for name, values in self.settings.grid.items()}
            sl.sweep(
                self.pipe,
                image=self.request.image,
                out=self.folder / "sweep",
                metrics=[],
                progress=False,
                **fixed,
                **axes,
            )

        count = sum(1 for _ in self._requests())
        times: dict[str, Any] = in_turns(
            {"baseline": lambda: self.stock.grid(self._requests(), self.folder), "svdlab": ours},
            repeats=1,
            warm_up=0,
            synchronize=_synchronizer(self.pipe.device),
        )
        rates = [60 * count / times[side].median for side in ("baseline", "svdlab")]
        note = "; ".join(filter(None, [f"{rates[0]:.3g} and {rates[1]:.3g} cells a minute", _without_exporter()]))
        return Row(name="grid", what=f"grid of {count} cells", **times, note=note)

    def limit(self, rows: Mapping[str, Row]) -> Row:
        """What the calls to make and the frames to decode take at the best cost measured, beside the grid as it ran."""
        from svdlab.sharing import call_chain, calls_to_make

        cells = list(self._requests())
        calls = sum(calls_to_make(call_chain(request.settings(), image=0) for request in cells))
        frames = len(cells) * (self.request.num_frames or 1)
        seconds = calls * rows["unet_call"].svdlab.low + frames * rows["decode_frame"].svdlab.low
        allowed = Timing(median=seconds, low=seconds, high=seconds, count=1)
        return Row(
            name="grid_limit",
            what="grid, share of what its parts allow",
            baseline=allowed,
            svdlab=rows["grid"].svdlab,
            note=f"{calls} calls, {frames} frames",
        )

    def _requests(self) -> Iterator[Request]:
        for point in itertools.product(*self.settings.grid.values()):
            yield self.request.replace(**dict(zip(self.settings.grid, point, strict=True)))


def _picture(request: Request) -> Image.Image:
    """The bundled rocket at the size of the clips, so that neither side scales it."""
    from svdlab.examples import path
    from svdlab.images import load_image, prepare

    return prepare(load_image(path("rocket")), width=request.width or 0, height=request.height or 0)


def _without_exporter() -> str:
    return "" if has_exporter() else "both mp4s by svdlab: export_to_video needs imageio-ffmpeg"


def _tflop(work: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e12
