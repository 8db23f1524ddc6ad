"""One job, from its input to its ending. Whatever goes wrong is an ending in words; nothing is raised."""

from __future__ import annotations

import logging
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from PIL.Image import Image

from svdlab.clip import Clip
from svdlab.errors import ImageError, RequestError, SvdlabError
from svdlab.fetch import FetchError
from svdlab.images import load_image
from svdlab.pipeline import Pipeline
from svdlab.server.files import FileShelf
from svdlab.server.jobs import CANCELLED, Ending, failure
from svdlab.server.schema import InputError, Output, check_size, parse, problem
from svdlab.server.settings import ServerSettings

log = logging.getLogger("svdlab")


class StoppedError(Exception):
    """The worker is to stop; the job is to wait again."""


class Runner:
    """Runs jobs with one pipeline.

    Args:
        say: called with a line for the job's log, and its level.
        is_cancelled: asked before each step.
        is_stopping: asked before each step.
    """

    def __init__(self, pipe: Pipeline, shelf: FileShelf, settings: ServerSettings) -> None:
        self._pipe, self._shelf, self._settings = pipe, shelf, settings

    def run(
        self,
        job: dict[str, Any],
        say: Callable[[str, str], None],
        is_cancelled: Callable[[], bool],
        is_stopping: Callable[[], bool],
    ) -> Ending:
        """Run a claimed job.

        Raises:
            StoppedError: asked to stop between two steps.
        """
        start = time.monotonic()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                clip = self._make(job, say, is_cancelled, is_stopping)
                ending = CANCELLED if clip is None else self._finish(job, clip, time.monotonic() - start)
            except InputError as error:
                ending = Ending(http_status=422, body=error.body(), error=str(error), error_type="validation_error")
            except StoppedError:
                raise
            except Exception as error:
                ending = _unexpected(error, time.monotonic() - start)
        for warning in caught:
            if not issubclass(warning.category, DeprecationWarning | FutureWarning | ResourceWarning):
                say(str(warning.message), "WARN")
        return ending

    def _make(
        self,
        job: dict[str, Any],
        say: Callable[[str, str], None],
        is_cancelled: Callable[[], bool],
        is_stopping: Callable[[], bool],
    ) -> Clip | None:
        """The clip, or None if it was cancelled on the way."""
        parsed = parse(job["body"])
        for name in parsed.unknown:
            say(f"{name}: there is no such field; it is ignored", "WARN")
        request = parsed.request(self._picture(parsed.image_url, job["owner"]))
        try:
            request = request.resolve(self._pipe.defaults)
        except RequestError as error:
            raise InputError(problem("value_error", str(error))) from None
        check_size(request, self._pipe.defaults, self._settings.max_clip_factor)
        say(
            f"{self._pipe.name}: {request.num_frames} frames of {request.width}x{request.height}, seed {request.seed}",
            "INFO",
        )
        preview = None
        for preview in self._pipe.stream(request):
            say(f"step {preview.k + 1} of {preview.steps}", "INFO")
            if is_cancelled():
                return None
            if is_stopping():
                raise StoppedError
        assert preview is not None  # a request has at least one step
        say("decoding", "INFO")
        return preview.decode()

    def _picture(self, url: str, owner: str) -> Image:
        """The picture behind an address, by the rules for addresses of strangers."""
        settings = self._settings
        limits: dict[str, Any] = {"max_bytes": settings.max_image, "allow_private_urls": settings.allow_private}
        if not url.lower().startswith(("http://", "https://", "data:")):
            text = "image_url: must be an http(s) URL or a data URI; the server opens no paths."
            raise InputError(problem("image_load_error", text, "image_url", url))
        try:
            own = self._shelf.find_url(url, owner)  # what is here is not fetched from here
            return load_image(url if own is None else own, **limits)
        except FileNotFoundError:
            text = "image_url: this server has no such file of yours, or no longer. Upload it again."
            raise InputError(problem("file_download_error", text, "image_url", url)) from None
        except ImageError as error:
            raise InputError(_image_problem(error, url, settings.max_image)) from None

    def _finish(self, job: dict[str, Any], clip: Clip, seconds: float) -> Ending:
        """Write the video; its row is entered together with the job's ending."""
        row = self._shelf.write(
            clip.to_mp4(),
            owner=job["owner"],
            name=f"{job['id']}.mp4",
            content_type="video/mp4",
            keep=job["keep_files"],
        )
        video = {"content_type": row["content_type"], "file_name": row["name"], "file_size": row["size"]}
        output = Output.model_validate({"video": {"url": self._shelf.url(row), **video}, "seed": clip.seed})
        return Ending(http_status=200, body=output.model_dump(), seconds=seconds, files=(row,))


def _image_problem(error: ImageError, url: str, max_bytes: int) -> dict[str, Any]:
    """The endpoint's names for what can be wrong with a picture."""
    text = str(error).replace("image:", "image_url:", 1)
    if " bytes that are allowed" in text:
        return problem("file_too_large", text, "image_url", url, max_size=max_bytes)
    kind = "file_download_error" if isinstance(error.__cause__, FetchError) else "image_load_error"
    return problem(kind, text, "image_url", url)


def _unexpected(error: Exception, seconds: float) -> Ending:
    """svdlab's own errors in full, others by their kind; the traceback is for the server's log alone."""
    log.error("a request failed:\n%s", "".join(traceback.format_exception(error)))
    text = str(error) if isinstance(error, SvdlabError | MemoryError) else ""
    if type(error).__name__ == "OutOfMemoryError":
        text = str(error).splitlines()[0]
    text = text or f"{type(error).__name__}: the server's log says more."
    return failure(500, "internal_server_error", text, seconds)
