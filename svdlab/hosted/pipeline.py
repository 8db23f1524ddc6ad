"""HostedPipeline: a hosted endpoint with the interface of `Pipeline`."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from time import monotonic
from typing import Any, NoReturn

import numpy as np
import torch

from svdlab.batching import as_request
from svdlab.clip import Clip
from svdlab.errors import EndpointError, MetricError, ModelError, RequestError
from svdlab.hosted.client import PUBLIC, Client, address, host, make_client
from svdlab.hosted.endpoints import Endpoint, find
from svdlab.hosted.jobs import Answer, Calls, Update, run_job
from svdlab.hosted.pictures import Pictures, Sending
from svdlab.hosted.results import fetch_frames, still, surprises, tell
from svdlab.images import load_image, prepare
from svdlab.models.device import choose_device
from svdlab.pipeline import Pipeline
from svdlab.preview import Preview
from svdlab.request import Defaults, Request

log = logging.getLogger("svdlab")


def load(
    name: str,
    *,
    timeout: float = 600,
    concurrency: int = 2,
    max_calls: int | None = None,
    pictures: Sending = "auto",
    revision: str | None = None,
    on_update: Callable[[Update], None] | None = None,
) -> HostedPipeline:
    """A hosted endpoint as a pipeline. Nothing is sent before the first clip.

    Args:
        name: ``"fal-ai/fast-svd-lcm"``.
        timeout: seconds that a job may take, waiting in the host's queue included; then it is cancelled. From 1.
        concurrency: jobs that may be under way at once, 1 to 40.
        max_calls: jobs that this pipeline may submit; None: as many as asked for.
        pictures: ``"data"`` sends them inside of the request, ``"upload"`` stores them at the host, ``"auto"`` uploads
            those above 1 MiB.
        revision: a label of your own. The host may change its weights at any time and does not say so; with another
            label, cells of a sweep are computed anew.
        on_update: called with each `Update` of a job, from the thread that waits for it.

    Raises:
        EndpointError: no key in the environment (`FAL_KEY`).
        ModelError: svdlab cannot drive this endpoint.
        ExtraError: `fal-client` is not installed.
        RequestError: an argument is out of bounds.

    Example:
        >>> pipe = load("fal-ai/fast-svd-lcm", max_calls=20)
        >>> pipe("rocket.jpg", seed=42)
    """
    return HostedPipeline(
        find(name),
        make_client(),
        timeout=timeout,
        concurrency=concurrency,
        max_calls=max_calls,
        pictures=pictures,
        revision=revision,
        on_update=on_update,
    )


class HostedPipeline(Pipeline):
    """Image-to-video by a hosted endpoint: requests in, clips out.

    The clips have no latents and no previews, and their `seconds` have the stages `upload`, `run` and `fetch`; waiting
    in the queue counts in `seconds_spent` alone. Made by `load`, which documents the arguments.

    Example:
        >>> pipe = load("fal-ai/fast-svd-lcm")
        >>> pipe("rocket.jpg", steps=4, seed=42).frames.shape[0]
        25
        >>> pipe.calls
        Calls(submitted=1, done=1, failed=0)
    """

    hosted = True

    def __init__(
        self,
        endpoint: Endpoint,
        client: Client,
        *,
        timeout: float,
        concurrency: int,
        max_calls: int | None,
        pictures: Sending,
        revision: str | None,
        on_update: Callable[[Update], None] | None,
    ) -> None:
        _check("timeout", timeout, 1, 86_400, "a number of seconds", kind=int | float)
        _check("concurrency", concurrency, 1, 40, "a whole number")
        if max_calls is not None:
            _check("max_calls", max_calls, 0, 10**9, "a whole number, or None,")
        if revision is not None and (not isinstance(revision, str) or not 0 < len(revision) <= 100):
            raise RequestError(f"revision = {revision!r}: must be a text of 1 to 100 letters, or None.")
        self.endpoint = endpoint
        self.timeout, self.concurrency, self.max_calls = timeout, concurrency, max_calls
        self.revision, self.on_update = revision, on_update
        self.calls = Calls()
        self._address = address()
        self._client = client
        weakref.finalize(self, client.close)  # else its connections would be closed by chance
        self._pictures = Pictures(client, pictures)
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._refused: EndpointError | None = None
        self._warned: set[str] = set()

    # What it is.

    @property
    def name(self) -> str:
        """The endpoint's id."""
        return self.endpoint.name

    @property
    def fingerprint(self) -> str:
        """Stands for weights that nobody here has seen: the endpoint's id, its address if that is not the public one,
        and `revision`. Equal fingerprints promise no equal clips."""
        where = "" if host(self._address) == PUBLIC else self._address
        text = "\n".join(["hosted", self.name, where, self.revision or ""])
        return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-hosted"

    @property
    def fields(self) -> tuple[str, ...]:
        """The settings that the endpoint takes."""
        return self.endpoint.fields

    @property
    def defaults(self) -> Defaults:
        """What is written where the endpoint takes no setting: assumed, see `Endpoint`."""
        return self.endpoint.defaults

    @property
    def notice(self) -> str | None:
        """What a person must know before using it."""
        return (
            f"{self.name} is hosted at {host(self._address)}: pictures are sent there, each clip is a paid call, and"
            " its weights may change unseen."
        )

    @property
    def device(self) -> torch.device:
        """Where metrics of its clips are computed, here."""
        return choose_device("auto")[0]

    @property
    def dtype(self) -> str:
        """Not known of a hosted model."""
        return "not known"

    @property
    def components(self) -> Any:  # type: ignore[override]
        """A hosted model has none here: raises ModelError."""
        self._lacks("its networks")

    def describe(self) -> dict[str, Any]:
        """Where its clips come from, ready for JSON; `hosted` is True, and nothing of it is secret."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "revision": self.revision,
            "source": f"hosted at {host(self._address)}",
            "device": "hosted",
            "dtype": self.dtype,
            "hosted": True,
        }

    # Making clips.

    def __call__(self, image: Any, **settings: Any) -> Clip:
        """Make one clip; the arguments are those of `Pipeline`. The job's queue and log are logged as they come.

        Raises:
            RequestError, ImageError: before anything is sent; or the endpoint refuses a setting.
            EndpointError: not reached, refused, failed or not done in time.
        """
        for preview in self.stream(image, **settings):
            last = preview
        return last.decode()

    def denoise(  # type: ignore[override]  # its clips have no latents, so there is no `Sample` of them
        self, requests: Sequence[Request], *, shared: Any = None, chains: Any = ()
    ) -> list[Callable[[], Clip]]:
        """Make the clips of several requests, at most `concurrency` at once; they may differ in anything.

        Each function returns the clip of one request, or raises what went wrong with it alone: the others are kept, and
        nothing is submitted again. There are no denoiser calls to share: `shared` and `chains` are not looked at.

        Raises:
            RequestError, ImageError: before anything is sent.
        """
        if not requests:
            raise RequestError("requests: the batch is empty; give at least one.")
        jobs = [self._ready(request) for request in requests]
        over = threading.Event()
        with ThreadPoolExecutor(min(len(jobs), self.concurrency), thread_name_prefix="svdlab: hosted") as pool:
            futures = [pool.submit(self._in_thread, *job, over) for job in jobs]
            try:
                wait(futures)
            except BaseException:  # Ctrl-C: those under way cancel their jobs, the others do not begin
                over.set()
                raise
        return [partial(_deliver, future.result()) for future in futures]

    def stream(self, image: Any, **settings: Any) -> Iterator[Preview]:
        """Make one clip, with a `Preview` each time that the queue was looked at.

        A hosted model shows nothing before it is done: until then the preview is the picture, its `k` is -1 and its
        `note` says how the job stands; the last one has the clip's frames. Left in the middle, the job is cancelled.
        """
        request, picture = self._ready(as_request(image, **settings))
        shown = still(picture)
        job = self._clip(request, picture, level=logging.INFO)
        with contextlib.closing(job):
            try:
                while True:
                    update = next(job)
                    yield Preview(
                        k=-1,
                        steps=request.steps,
                        sigma=0.0,
                        latents=None,
                        frames=shown,
                        decode=_early,
                        note=str(update),
                    )
            except StopIteration as end:
                clip: Clip = end.value
        yield Preview(
            k=request.steps - 1,
            steps=request.steps,
            sigma=0.0,
            latents=None,
            frames=clip.frames,
            decode=partial(_deliver, clip),
            note="done",
        )

    def _ready(self, request: Request) -> tuple[Request, Any]:
        """A request checked and filled in, and its picture."""
        self.endpoint.check(request)
        return request.resolve(self.defaults), load_image(request.image)

    def _in_thread(self, request: Request, picture: Any, over: threading.Event) -> Clip | Exception:
        job = self._clip(request, picture, level=logging.DEBUG)
        with contextlib.closing(job):
            try:
                while not over.is_set():
                    next(job)
                return EndpointError(f"{self.name}: cancelled.")
            except StopIteration as end:
                return end.value
            except Exception as error:
                return error

    def _clip(self, request: Request, picture: Any, *, level: int) -> Generator[Update, None, Clip]:
        """One job from its picture to its clip, in its turn."""
        began = monotonic()
        while not self._slots.acquire(timeout=0.2):
            yield Update(request_id="", state="waiting")
        try:
            self._check_place()
            watch = monotonic()
            image_url = self._pictures.address(picture, self.name)
            upload = monotonic() - watch
            self._take_call()
            answer = yield from self._counted(request, image_url, level)
            watch = monotonic()
            frames, fps = fetch_frames(answer, self.name, seconds=self.timeout)
            seconds = {"upload": upload, "run": answer.run, "fetch": monotonic() - watch}
        finally:
            self._slots.release()
        self._warn_once(surprises(request, answer, frames))
        return Clip(
            frames=frames,
            fps=fps,
            request=request,
            image=np.asarray(prepare(picture, width=frames.shape[2], height=frames.shape[1])),
            seconds={**seconds, "total": sum(seconds.values())},
            seconds_spent=monotonic() - began,
            model={**self.describe(), "request_id": answer.request_id},
        )

    def _check_place(self) -> None:
        """Raise if the key was refused before, or the client points elsewhere by now."""
        if self._refused is not None:
            raise EndpointError(str(self._refused), lasting=True)
        if address() != self._address:
            raise EndpointError(
                f"{self.name}: was loaded for {host(self._address)}, and fal-client now points at {host(address())}."
                " Load it where it is to be used, so that pictures and key go where they were meant to.",
                lasting=True,
            )

    def _take_call(self) -> None:
        """Count a call, or raise if there are none left."""
        with self._lock:
            if self.max_calls is not None and self.calls.submitted >= self.max_calls:
                raise EndpointError(
                    f"{self.name}: max_calls = {self.max_calls} calls were made. Load it again with more, if they may"
                    " be spent.",
                    lasting=True,
                )
            self.calls.submitted += 1

    def _counted(self, request: Request, image_url: str, level: int) -> Generator[Update, None, Answer]:
        """Run the job; its end is counted, and its updates are told."""
        arguments = {"image_url": image_url, **self.endpoint.arguments(request)}
        told = ""
        done = False
        job = run_job(self._client, self.name, arguments, timeout=self.timeout)
        try:
            with contextlib.closing(job):
                while True:
                    update = next(job)
                    told = tell(self.name, update, told, level)
                    if self.on_update is not None:
                        self.on_update(update)
                    yield update
        except StopIteration as end:
            done = True
            return end.value
        except EndpointError as error:
            if error.lasting:
                self._refused = error
            raise
        finally:
            with self._lock:
                self.calls.done += done
                self.calls.failed += not done

    def _warn_once(self, surprises: Mapping[str, str]) -> None:
        for kind, text in surprises.items():
            with self._lock:
                new = kind not in self._warned
                self._warned.add(kind)
            if new:
                log.warning("%s: %s", self.name, text)

    # What is not there.

    def decode(self, latents: Any, *, decode_chunk: int | None = None) -> np.ndarray:
        """A hosted model has no decoder here: raises ModelError."""
        self._lacks("its decoder")

    def embed(self, images: np.ndarray) -> np.ndarray:
        """A hosted model has no image encoder here: raises MetricError."""
        raise MetricError(
            f"{self.name} is hosted, so its image encoder is not here. Pass encoder= with a model that runs here, or"
            " leave out the metrics that need one (clip_*)."
        )

    def clear_cache(self) -> None:
        """Forget the addresses of pictures that were sent."""
        self._pictures.clear()

    def _lacks(self, what: str) -> NoReturn:
        raise ModelError(
            f"{self.name} is hosted: {what} cannot be had here, and its clips have no latents. Take a model that runs"
            " here (`svdlab models`)."
        )

    def __repr__(self) -> str:
        return f"HostedPipeline({self.name!r}, {host(self._address)}, {self.calls.submitted} calls)"


def _deliver(outcome: Clip | Exception) -> Clip:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _early() -> Clip:
    raise ModelError("preview.decode: the clip is not there yet; a hosted model has none before its last preview.")


def _check(name: str, value: Any, low: float, high: float, words: str, *, kind: Any = int) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise RequestError(f"{name} = {value!r}: must be {words} from {low:g} to {high:g}.")
