"""Work: what the bench does on both sides, a method a row."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from svdlab.bench.cold import Cold, cold_starts, peak_of
from svdlab.bench.limits import count_gigabytes, count_tflop, synchronizer
from svdlab.bench.rows import Row, Settings
from svdlab.bench.stock import Stock, has_exporter
from svdlab.bench.timing import Timing, in_turns
from svdlab.errors import BenchError
from svdlab.request import Request

if TYPE_CHECKING:
    from svdlab.pipeline import Pipeline

CLIP_STEPS = 4
TOLERANCE = {"float32": 1e-4}  # relative, of latents; half precision rounds differently in another order of sums
TOLERANCE_HALF = 0.05


class Work:
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
            synchronize=synchronizer(self.pipe.device),
        )

    def measure(self, name: str, rows: Mapping[str, Row]) -> Row:
        """One row by its name; `rows` holds those before it."""
        return self.grid_limit(rows) if name == "grid_limit" else getattr(self, name)()

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
        return Row(name="unet_call", what="one UNet call", **self._time(plain, ours), **_asked(ours))

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
        return Row(name="decode_frame", what="decoding, a frame", **times, **_asked(ours, parts=frames))

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

    def metrics(self) -> Row:
        """All metrics of the default table that need no download, one after the other and together."""
        from svdlab.metrics.registry import NotComputableError
        from svdlab.metrics.score import score

        clip = self.pipe(self.request)
        alone: dict[str, Any] = {"encoder": self.pipe, "device": self.pipe.device}
        names = []
        for name in metric_names():
            with contextlib.suppress(NotComputableError):  # such as motion, of a clip of one frame
                score(clip, names=[name], **alone)
                names.append(name)
        times = self._time(
            lambda: [score(clip, names=[name], **alone) for name in names], lambda: score(clip, names=names, **alone)
        )
        share = times["svdlab"].median / clip.seconds["total"]
        note = f"{len(names)} metrics; stock: each by itself; together {share:.0%} of what making the clip takes"
        return Row(name="metrics", what="metrics of a clip", **times, note=note)

    def grid(self) -> Row:
        """All cells, once: a loop of clips beside a sweep, which also keeps latents and a ledger."""
        return self._grid_row("grid", "grid of {} cells")

    def grid_preview(self) -> Row:
        """The same with decoding on demand: no frames are made, latents and previews are kept."""
        return self._grid_row("grid_preview", "grid of {} cells, decoded on demand")

    def _grid_row(self, name: str, what: str) -> Row:
        count = sum(1 for _ in self._requests())
        times: dict[str, Any] = {"baseline": self._grid_times["baseline"], "svdlab": self._grid_times[name]}
        rates = [60 * count / timing.median for timing in times.values()]
        note = "; ".join(filter(None, [f"{rates[0]:.3g} and {rates[1]:.3g} cells a minute", _without_exporter()]))
        return Row(name=name, what=what.format(count), **times, note=note)

    @cached_property
    def _grid_times(self) -> dict[str, Timing]:
        """The loop and the sweeps that are asked for, one after the other, once."""
        sides: dict[str, Callable[[], object]] = {
            "baseline": lambda: self.stock.grid(self._requests(), self.folder),
            "grid": lambda: self._sweep("full"),
            "grid_preview": lambda: self._sweep("preview"),
        }
        wanted = {name: side for name, side in sides.items() if name in ("baseline", *self.settings.rows)}
        return in_turns(wanted, repeats=1, warm_up=0, synchronize=synchronizer(self.pipe.device))

    def _sweep(self, decode: str) -> None:
        import svdlab as sl

        self.pipe.clear_cache()
        fixed = {name: value for name, value in self.request.settings().items() if name not in self.settings.grid}
        axes: dict[str, Any] = {name: list(values) for name, values in self.settings.grid.items()}
        how: dict[str, Any] = {"metrics": [], "decode": decode, "progress": False}
        sl.sweep(self.pipe, image=self.request.image, out=self.folder / f"sweep-{decode}", **how, **fixed, **axes)

    def cold_start(self) -> Row:
        """A fresh process each: from the command to the mp4 of one clip, the model read from a folder."""
        return Row(
            name="cold_start",
            what="cold start to first mp4",
            baseline=self._cold["baseline"].seconds,
            svdlab=self._cold["svdlab"].seconds,
            note=_without_exporter(),
        )

    def peak_memory(self) -> Row:
        """Of a GPU: what one clip allocates at most; of a CPU: what the process of a cold start holds at most."""
        if self.pipe.device.type == "cuda":
            sides: dict[str, Any] = {
                "baseline": peak_of(lambda: self.stock.run(self.request), self.pipe.device),
                "svdlab": peak_of(lambda: self.pipe(self.request), self.pipe.device),
            }
        else:
            sides = {name: cold.megabytes for name, cold in self._cold.items()}
        return Row(name="peak_memory", what="peak memory of a clip", **sides, unit="MB")

    @cached_property
    def _cold(self) -> dict[str, Cold]:
        return cold_starts(self.stock, self.request, self.folder, repeats=self.settings.repeats)

    def grid_limit(self, rows: Mapping[str, Row]) -> Row:
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


def _asked(work: Callable[[], object], *, parts: int = 1) -> dict[str, Any]:
    """What a piece of work asks of the machine, for each of its equal parts."""
    return {"tflop": count_tflop(work) / parts, "gigabytes": count_gigabytes(work) / parts}


def metric_names() -> list[str]:
    """The default table, without LPIPS where its weights are not on this machine: nothing is downloaded for a bench."""
    from svdlab import metrics
    from svdlab.metrics.lpips_weights import find_lpips_weights

    kept = []
    for name in metrics.names():
        needs = metrics.get(name).needs
        if not {"timings", "reference"} & set(needs) and ("lpips" not in needs or find_lpips_weights() is not None):
            kept.append(name)
    return kept
