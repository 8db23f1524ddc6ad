"""What goes into a job and comes out of it: the endpoint's fields, the laboratory's, and the bodies of errors.

The endpoint's own fields keep its defaults (`svdlab.request` has them); `null` means left out. The laboratory's further
fields are accepted under their own names. A field that neither knows is ignored, as the hosted endpoint does, and the
job's log says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from svdlab.errors import RequestError
from svdlab.request import SETTINGS, Defaults, Request, allowed, bounds, check_settings

ENDPOINT_FIELDS = ("motion_bucket_id", "cond_aug", "seed", "steps", "fps")
_SHOWN = 100  # characters of a wrong value that an answer repeats


class File(BaseModel):
    """A file that the server made; `url` needs no key, whoever knows it may fetch it."""

    url: str
    content_type: str = "video/mp4"
    file_name: str
    file_size: int = Field(description="bytes")


class Output(BaseModel):
    """What a job gives."""

    video: File
    seed: int = Field(description="The seed that was used, drawn if none was given.")


class InputError(Exception):
    """An input that cannot be run; `detail` is the list that the endpoint answers with status 422."""

    def __init__(self, *detail: dict[str, Any]) -> None:
        super().__init__("; ".join(problem["msg"] for problem in detail))
        self.detail = list(detail)

    def body(self) -> dict[str, Any]:
        """The body of the answer; `message` is what the JavaScript client shows."""
        return {"detail": self.detail, "message": str(self)}


@dataclass(frozen=True, kw_only=True)
class Job:
    """An input taken apart."""

    image_url: str
    settings: dict[str, Any]
    unknown: tuple[str, ...]

    def request(self, image: Any) -> Request:
        """The job as svdlab runs it, with its picture opened.

        Raises:
            InputError: fields that do not fit together.
        """
        try:
            return Request(image=image, **self.settings)
        except RequestError as error:
            raise InputError(problem("value_error", str(error), "body")) from None


def parse(text: str) -> Job:
    """Check the JSON text of an input, as far as that needs no picture and no model.

    Raises:
        InputError: naming every field that is wrong.

    Example:
        >>> parse('{"image_url": "https://example.org/rocket.png", "seed": 3}').settings
        {'seed': 3}
    """
    try:
        body = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(problem("json_invalid", f"the body is not JSON ({error})"[:200], "body")) from None
    if not isinstance(body, dict):
        raise InputError(problem("dict_type", 'the body must be a JSON object, such as {"image_url": ...}.', "body"))
    known = {name: value for name, value in body.items() if name in SETTINGS and value is not None}
    problems = [_wrong(name, value) for name, value in known.items() if not _is_valid(name, value)]
    image_url = body.get("image_url")
    if image_url is None:
        problems.insert(0, problem("missing", "image_url: a picture is needed (http(s) URL or data URI).", "image_url"))
    elif not isinstance(image_url, str):
        text = "image_url: must be a string, an http(s) URL or a data URI."
        problems.insert(0, problem("string_type", text, "image_url", image_url))
    if problems:
        raise InputError(*problems)
    unknown = tuple(sorted(str(name)[:80] for name in body if name != "image_url" and name not in SETTINGS))
    return Job(image_url=str(image_url), settings=known, unknown=unknown)


def check_size(request: Request, defaults: Defaults, factor: float) -> None:
    """Refuse a clip of more than `factor` times the pixels of the model's own.

    Raises:
        InputError: it has more.
    """
    size = (request.num_frames or 1) * (request.width or 1) * (request.height or 1)
    most = int(factor * defaults.num_frames * defaults.width * defaults.height)
    if size > most:
        text = (
            f"num_frames x width x height = {request.num_frames} x {request.width} x {request.height} = {size}:"
            f" this server makes clips of up to {most} pixels in all."
        )
        raise InputError(problem("value_error", text, "num_frames", request.num_frames))


def problem(kind: str, text: str, field: str = "body", value: Any = None, **context: Any) -> dict[str, Any]:
    """One entry of a `detail` list: what is wrong, where, and the beginning of the value that was given.

    Example:
        >>> problem("missing", "image_url: a picture is needed.", "image_url")["loc"]
        ['body', 'image_url']
    """
    entry: dict[str, Any] = {"loc": ["body"] if field == "body" else ["body", field], "msg": text, "type": kind}
    if value is not None:
        # A picture inside of a data URI is not sent back.
        plain = isinstance(value, int | float) and not (isinstance(value, int) and abs(value) > 2**63)
        entry["input"] = value if plain else _shown(value)
    return {**entry, "ctx": context} if context else entry


def input_model() -> type[BaseModel]:
    """The input as a pydantic model, for the description that the server publishes (OpenAPI)."""
    fields: dict[str, Any] = {
        "image_url": (str, Field(description="The picture: an http(s) URL or a base64 data URI.")),
    }
    for name in SETTINGS:
        source = Request.model_fields[name]
        limits = bounds(name)
        between: dict[str, Any] = {"ge": limits[0], "le": limits[1]} if limits else {}
        kind: Any = source.annotation
        fields[name] = (kind, Field(source.default, description=f"{allowed(name).capitalize()}.", **between))
    return create_model("Input", __config__=ConfigDict(extra="allow"), **fields)


def _wrong(name: str, value: Any) -> dict[str, Any]:
    """What is wrong with one setting, under pydantic's name for the kind of error."""
    limits = bounds(name)
    text = f"{name} = {_shown(value)}: must be {allowed(name)}."
    if limits is None or isinstance(value, bool) or not isinstance(value, int | float):
        return problem("value_error", text, name, value)
    low, high = limits
    if value < low:
        return problem("greater_than_equal", text, name, value, ge=low)
    if value > high:
        return problem("less_than_equal", text, name, value, le=high)
    return problem("int_type", text, name, value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _is_valid(name: str, value: Any) -> bool:
    try:
        check_settings({name: value})
    except RequestError:
        return False
    return True


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")
