"""Pipeline: request -> conditioning -> sampling -> decoding -> clip.

The components are those of diffusers and transformers; the loop over noise levels is svdlab's own, because the stock
pipeline draws the noise of stochastic samplers from the global generator, so that a seed does not fix its video.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from svdlab.batching import Job, as_request, check_batch, sigmas_of
from svdlab.clip import Clip
from svdlab.conditioning import Conditioning, TensorCache, embed_pictures, encode_picture, time_ids
from svdlab.decoding import decode_all
from svdlab.denoising import denoiser_of
from svdlab.errors import ModelError
from svdlab.images import image_digest, load_image, prepare
from svdlab.memory import bytes_free
from svdlab.models.components import Components
from svdlab.models.placement import SPARE, decoder_bytes
from svdlab.preview import Preview, rgb_map
from svdlab.request import SETTINGS, Defaults, Request
from svdlab.sample import Look, Sample
from svdlab.sampling import Denoiser, NoiseStreams, Step, iterate, reinjection, start
from svdlab.sharing import Chain, SharedCalls, SharedWalk
from svdlab.stopwatch import Stopwatch

log = logging.getLogger("svdlab")

HOSTED = "fal-ai/"
CACHE_BYTES = 256 * 2**20  # conditioning of a few thousand pictures at full size


def load(
    name_or_path: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    low_memory: str | bool = "auto",
) -> Pipeline:
    """Load a model by its catalogue name, from a local diffusers folder, from a hub repository, or a hosted endpoint.

    Args:
        name_or_path: a name of `svdlab models`, a folder, `org/name`, or ``"fal-ai/fast-svd-lcm"`` (hosted; see
            `svdlab.hosted.load`, which has more to choose).
        device: `auto` (CUDA, else MPS, else CPU), or a torch device.
        dtype: `auto` (float16 on CUDA, else float32), `float32`, `float16` or `bfloat16`.
        revision: commit, tag or branch of a hub repository; of a hosted endpoint, a label of your own.
        low_memory: the way to fit a clip into memory, of which none changes pixels but for rounding: ``"none"``,
            ``"slices"`` (the decoder in slices, see `svdlab.low_memory`) or ``"parts"`` (and one network on the device
            at a time); ``"auto"`` takes the first that fits, and logs why. True and False: ``"slices"``, ``"none"``.

    Raises:
        ModelError: unknown, missing, gated or unsuitable weights, or a device that is not there.
        EndpointError: a hosted endpoint, and no key for it.

    Example:
        >>> pipe = load("tiny")
    """
    if str(name_or_path).startswith(HOSTED):  # would otherwise be looked for among the hub's repositories
        from svdlab.hosted.pipeline import load as load_hosted

        if chosen := [
            *(f"{name} = {value!r}" for name, value in (("device", device), ("dtype", dtype)) if value != "auto"),
            *([f"low_memory = {low_memory!r}"] if low_memory not in ("auto", False) else []),
        ]:
            raise ModelError(f"{', '.join(chosen)}: {name_or_path} runs at its host, which chooses. Leave it out.")
        return load_hosted(name_or_path, revision=revision)

    from svdlab.models import load_components

    components = load_components(name_or_path, device=device, dtype=dtype, revision=revision, low_memory=low_memory)
    return Pipeline(components, adapts=low_memory == "auto")


class Pipeline:
    """Image-to-video with one set of components.

    Example:
        >>> pipe = load("tiny")
        >>> clip = pipe("rocket.jpg", motion_bucket_id=180, steps=4, seed=42)
        >>> clip.frames.shape
        (25, 64, 64, 3)

    Args:
        components: the networks, and the way they are placed (`svdlab.models.placement`).
        adapts: decode in slices also where the plain decoder would not fit what is free for the clip in hand.

    Attributes:
        hosted: whether the model runs at a host, where clips are paid calls (`svdlab.hosted`).
    """

    hosted = False

    def __init__(self, components: Components, *, adapts: bool = False) -> None:
        self.components = components
        self.adapts = adapts
        self._tight = math.inf  # numbers in the smallest chunk of latents for which the plain decoder ran out of memory
        self._cache = TensorCache(CACHE_BYTES)
        vae = components.vae
        if components.dtype == torch.float16 and vae.config["force_upcast"]:  # its encoder overflows in half precision
            vae.encoder.float()
            vae.quant_conv.float()

    @property
    def name(self) -> str:
        """The catalogue name, folder or repository that was loaded."""
        return self.components.name

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, and the precision they compute in; equal fingerprints make equal clips."""
        return self.components.fingerprint

    @property
    def fields(self) -> tuple[str, ...]:
        """The settings of a request that this model can be told."""
        return SETTINGS

    @property
    def defaults(self) -> Defaults:
        """What the model fills into the open fields of a request."""
        return self.components.defaults

    @property
    def notice(self) -> str | None:
        """What a person must know before looking at its clips: None for a trained model."""
        if self.components.info.kind != "random":
            return None
        return f"{self.name} has random weights: its clips are coloured noise, for trying the machinery only."

    @property
    def low_memory(self) -> str:
        """How a clip is fitted into memory: `none`, `slices` or `parts` (`svdlab.models.placement`)."""
        return self.components.low_memory

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.components.device

    @property
    def dtype(self) -> str:
        """The precision it computes in: `float32`, `float16` or `bfloat16`."""
        return str(self.components.dtype).removeprefix("torch.")

    def describe(self) -> dict[str, Any]:
        """Where clips of this pipeline come from, ready for JSON."""
        parts = self.components
        return {
            "name": parts.name,
            "fingerprint": parts.fingerprint,
            "revision": parts.revision,
            "source": parts.source,
            "device": str(parts.device),
            "dtype": self.dtype,
        }

    def __call__(self, image: Any, **settings: Any) -> Clip:
        """Make one clip.

        Args:
            image: a picture (path, URL, data URI, PIL, array), or a whole `Request`.
            settings: fields of `Request`; with a request, changes to it.

        Raises:
            RequestError, ImageError: before anything is computed.
            ModelError: the model produced values that are not finite.

        Example:
            >>> pipe("rocket.jpg", steps=2, seed=1).seed
            1
        """
        return self.batch([as_request(image, **settings)])[0]

    def batch(self, requests: Sequence[Request]) -> list[Clip]:
        """Make clips in one batch; they may differ in picture, seed, motion, fps, cond_aug and strength of guidance.

        Within a batch, `seconds["denoise"]` is each clip's equal share of the batch's time.

        Raises:
            RequestError: the requests differ in something that a batch must share.
        """
        return [sample() for sample in self.denoise(requests)]

    def denoise(
        self, requests: Sequence[Request], *, shared: SharedCalls | None = None, chains: Sequence[Chain] = ()
    ) -> list[Sample]:
        """Condition and denoise a batch; each sample has its latents, a preview, and decodes into a clip when called.

        Args:
            requests: what `batch` takes.
            shared: denoiser calls that other requests made are not made again; the clips are bit for bit those of calls
                made anew, but for the rounding that a batch of another size brings. `seconds` counts every call that a
                clip needed, `seconds_spent` only those that were made for it.
            chains: with `shared`, the calls of each request (`svdlab.sharing.call_chain`).

        Raises:
            RequestError: as `batch`.

        Example:
            >>> for sample in pipe.denoise(requests):
            ...     sample().save(...)
        """
        job = self._prepare(requests)
        if shared is not None:
            job.walk = SharedWalk(
                lambda rows: self._denoiser(
                    [job.requests[row] for row in rows], [job.conditioning[row] for row in rows]
                ),
                chains=chains,
                shared=shared,
                walked=job.sigmas[:-1].tolist(),
                synchronize=job.watch.synchronize,
            )
        latents = job.x
        for step in self._steps(job):
            latents = step.next_x
        job.watch.lap("denoise")
        return [self._sample(job, row, latents[row]) for row in range(len(job.requests))]

    def stream(self, image: Any, **settings: Any) -> Iterator[Preview]:
        """Make one clip and yield a `Preview` after each denoiser call; the last one's `decode()` is the clip.

        Takes what `__call__` takes.

        Example:
            >>> for preview in pipe.stream("rocket.jpg", steps=4):
            ...     show(preview.frames)
            >>> clip = preview.decode()
        """
        job = self._prepare([as_request(image, **settings)])
        look = self._look(job, 0)
        for step in self._steps(job):
            job.watch.lap("denoise")
            estimate = step.denoised[0]
            yield Preview(
                k=step.k,
                steps=job.requests[0].steps,
                sigma=step.sigma,
                latents=estimate.float().cpu(),
                frames=look(estimate),
                decode=partial(self._finish, job, 0, estimate),
            )
            job.watch.restart()  # what the caller did meanwhile is not the model's time

    def decode(self, latents: Tensor, *, decode_chunk: int | None = None) -> np.ndarray:
        """Latents `[frames, 4, height, width]`, as a clip keeps them -> uint8 frames `[frames, height, width, 3]`.

        `decode_chunk` frames at a time (None: all). Temporal convolutions and norms see one chunk: it changes pixels.
        Where memory runs out, chunks of this size are decoded in slices from then on, which changes none.

        Raises:
            torch.OutOfMemoryError, MemoryError: the text names the largest `decode_chunk` that fits.
            ModelError: the decoder's output is not finite.
        """
        return self.decode_noted(latents, decode_chunk=decode_chunk)[0]

    @torch.no_grad()
    def decode_noted(self, latents: Tensor, *, decode_chunk: int | None = None) -> tuple[np.ndarray, bool]:
        """As `decode`: the frames, and whether they were decoded in slices, for what records it.

        Example:
            >>> pipe.decode_noted(clip.latents)[1]
            False
        """
        vae = self.components.take("vae")
        scaled = latents.to(self.device, self.components.dtype) / vae.config["scaling_factor"]
        chunk = scaled[: decode_chunk or len(scaled)]
        in_slices = self.low_memory != "none" or chunk.numel() >= self._tight or self._is_too_large(chunk)
        decoded, sliced = decode_all(vae, scaled, decode_chunk, in_slices=in_slices)
        if sliced and not in_slices:
            self._tight = min(self._tight, chunk.numel())
        pixels = (decoded.float() / 2 + 0.5).clamp(0, 1)
        if not bool(torch.isfinite(pixels).all()):
            raise ModelError(
                f"decoding: the decoder's output is not finite in {self.dtype}. Damaged weights or latents, or too"
                " little range: try dtype='float32'."
            )
        return (pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy(), sliced

    def _is_too_large(self, chunk: Tensor) -> bool:
        """Whether the plain decoder would not fit what is free now. On a CPU it would not fail but be killed."""
        free = bytes_free(self.device) if self.adapts else None
        if free is None:
            return False
        vae = self.components.vae
        frames, _, height, width = chunk.shape
        factor = 2 ** (len(vae.config["block_out_channels"]) - 1)
        need = SPARE * decoder_bytes(vae, frames=frames, width=width * factor, height=height * factor)
        if need > free:
            log.info(
                "decoding in slices: %d frames at once take about %.1f GB the plain way, %.1f GB are free",
                *(frames, need / 1e9, free / 1e9),
            )
        return need > free

    def embed(self, images: np.ndarray) -> np.ndarray:
        """CLIP embeddings of uint8 pictures `[n, height, width, 3]`, float32 `[n, channels]`, not normalised.

        The encoder that conditions the model, also used by the metrics `clip_temporal` and `clip_input`.
        """
        return embed_pictures(self.components, images).cpu().numpy()

    def clear_cache(self) -> None:
        """Forget cached conditioning, so that the next clip pays for all it needs."""
        self._cache.clear()

    def __repr__(self) -> str:
        size = f"{self.defaults.num_frames}x{self.defaults.height}x{self.defaults.width}"
        return f"Pipeline({self.name!r}, {size}, {self.device}, {self.dtype})"

    # The steps of a job, in order.

    def _prepare(self, requests: Sequence[Request]) -> Job:
        """Check everything, open the pictures, condition, and place the initial noise."""
        resolved = [request.resolve(self.defaults) for request in requests]
        check_batch(resolved)
        first = resolved[0]
        if first.gamma == 0 and first.steps < self.defaults.good_steps / 2:
            log.warning(
                "steps = %d: %s wants about %d steps; few look poor", first.steps, self.name, self.defaults.good_steps
            )
        size: dict[str, Any] = {"width": first.width, "height": first.height}
        images = [np.asarray(prepare(load_image(request.image), **size)) for request in resolved]
        watch = Stopwatch(self.device)
        job = Job(requests=resolved, images=images, watch=watch, sigmas=sigmas_of(first))
        with torch.no_grad():
            for request, image in zip(resolved, images, strict=True):
                job.add(*self._condition(request, image))
        watch.restart()  # conditioning has its own account, see TensorCache
        shape = (
            first.num_frames,
            self.components.vae.config["latent_channels"],
            *job.conditioning[0].image_latent.shape[1:],
        )
        noise = torch.stack([NoiseStreams(request.seed).initial(shape) for request in resolved])  # type: ignore[arg-type]
        job.x = start(noise.to(self.device), job.sigmas)
        return job

    def _condition(self, request: Request, image: np.ndarray) -> tuple[Conditioning, float, float]:
        """Conditioning of one request, the seconds it costs alone, and those spent on it."""
        digest = image_digest(image)
        embedding, cost, spent = self._cache.get(
            ("embedding", digest), lambda: embed_pictures(self.components, image[None]).to(self.components.dtype)
        )
        streams = NoiseStreams(request.seed)  # type: ignore[arg-type]
        latent, latent_cost, latent_spent = self._cache.get(
            ("latent", digest, request.cond_aug, request.seed if request.cond_aug else None),
            lambda: encode_picture(
                self.components, image, streams.conditioning((3, *image.shape[:2])), request.cond_aug
            ),
        )
        return Conditioning(embedding, latent, time_ids(request)), cost + latent_cost, spent + latent_spent

    @torch.no_grad()  # as a decorator it ends at each yield; a block would switch gradients off for the caller too
    def _steps(self, job: Job) -> Iterator[Step]:
        """The sampling loop."""
        gamma = job.requests[0].gamma
        noise = reinjection([request.seed for request in job.requests], job.sigmas, job.x)  # type: ignore[misc]
        denoiser = job.walk or self._denoiser(job.requests, job.conditioning)
        yield from iterate(denoiser, job.x, job.sigmas, noise, gamma=gamma)  # type: ignore[arg-type]

    def _denoiser(self, requests: Sequence[Request], conditioning: Sequence[Conditioning]) -> Denoiser:
        return denoiser_of(self.components, requests, conditioning)

    def _look(self, job: Job, row: int) -> Look:
        """The linear map of latents to colours; it is fitted when it is first used."""
        fitted = lru_cache(maxsize=1)(lambda: rgb_map(job.conditioning[row].image_latent, job.images[row]))
        scale = self.components.vae.config["scaling_factor"]
        return lambda latents: fitted()(latents / scale)

    def _sample(self, job: Job, row: int, latents: Tensor) -> Sample:
        """One row of a job that was denoised."""
        seconds, spent = job.costs(row)
        return Sample(
            latents=latents.float().cpu(),
            request=job.requests[row],
            image=job.images[row],
            seconds=seconds,
            seconds_spent=spent,
            vram_peak_mb=job.watch.vram_peak_mb(),
            look=self._look(job, row),
            decode=partial(self._finish, job, row, latents),
        )

    def _finish(self, job: Job, row: int, latents: Tensor) -> Clip:
        """Decode one row of a job and put the clip together."""
        request = job.requests[row]
        seconds, spent = job.costs(row)
        job.watch.restart()
        frames, sliced = self.decode_noted(latents, decode_chunk=request.decode_chunk)
        decode = job.watch.split()
        return Clip(
            frames=frames,
            fps=request.fps,
            latents=latents.float().cpu(),
            request=request,
            image=job.images[row],
            seconds={**seconds, "decode": decode, "total": sum(seconds.values()) + decode},
            seconds_spent=spent + decode,
            vram_peak_mb=job.watch.vram_peak_mb(),
            low_memory=sliced,
            model=self.describe(),
        )
