"""Request: one image-to-video job. The only place that knows the defaults, the bounds and the texts of their errors.

The first six fields are those of the hosted endpoint `fal-ai/fast-svd-lcm`, with its defaults. The others belong to the
laboratory; they are left `None` until a model fills them in (`Request.resolve`), because a good value depends on it.
"""

from __future__ import annotations

import difflib
import math
import secrets
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from svdlab.errors import RequestError

Schedule = Literal["animatelcm", "even", "karras"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)
LCM_GRID = 40  # points of the training grid that `animatelcm` and `even` choose their sigmas from
MAX_SEED = 2**63 - 1


class SettingWarning(UserWarning):
    """A setting is allowed, but lies where models are known to misbehave."""


def _whole(value: Any) -> Any:
    """NumPy's whole numbers are as good as Python's; booleans are not numbers here."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _real(value: Any) -> Any:
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else value


Int = Annotated[int, BeforeValidator(_whole)]
Float = Annotated[float, BeforeValidator(_real)]


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a model fills into the fields of a request that were left open, and what it demands of sizes.

    Example:
        >>> Defaults(num_frames=25, width=1024, height=576)
    """

    num_frames: int  # frames of a clip
    width: int  # px, native
    height: int  # px, native
    size_factor: int = 8  # width and height must be multiples of this
    schedule: Schedule = "animatelcm"
    gamma: float = 1.0  # 1: latent consistency sampling, 0: Euler ODE
    sigma_max: float = 700.0
    min_guidance: float = 1.0
    max_guidance: float = 1.0
    decode_chunk: int | None = None  # frames a decoder call; None: all frames at once
    good_steps: int = 4  # fewer than half of this draws a warning


class Request(BaseModel):
    """One image-to-video job: a picture, the settings and a seed. Frozen; invalid ones cannot be built.

    Fields (the endpoint's, then the laboratory's):
        image: path, http(s) URL, data URI, PIL picture or array.
        motion_bucket_id: how much motion is asked for, 0 to 1023; above 255 models were not trained (warns).
        cond_aug: standard deviation of the noise put on the conditioning picture in [-1, 1] units, 0 to 10.
        seed: 0 to 2^63 - 1. None: drawn once when the request is resolved, and recorded.
        steps: denoiser calls, 1 to 40 on the schedules `animatelcm` and `even`, 1 to 100 on `karras`.
        fps: frames per second, 1 to 60. Conditions the model (as fps - 1) and sets the speed of the video file.
        num_frames, width, height: size of the clip in frames and px. None: the model's own.
        schedule: `animatelcm`, `even` or `karras`; see `svdlab.sampling.sigmas`.
        gamma: 1 re-noises fully after each step (latent consistency), 0 not at all (Euler ODE).
        sigma_max: noise level at which sampling starts, in EDM units.
        min_guidance, max_guidance: classifier-free guidance, linear from the first frame to the last; a maximum of 1
            turns it off and halves the work.
        decode_chunk: frames a VAE decoder call. It changes pixels, so it is part of the request.

    Raises:
        RequestError: naming every field that is wrong, its value and what is allowed.

    Example:
        >>> Request(image="rocket.jpg", motion_bucket_id=180, seed=42).steps
        4
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    image: Any
    motion_bucket_id: Int = Field(127, ge=0, le=1023)
    cond_aug: Float = Field(0.02, ge=0, le=10, allow_inf_nan=False)
    seed: Int | None = Field(None, ge=0, le=MAX_SEED)
    steps: Int = Field(4, ge=1, le=100)
    fps: Int = Field(10, ge=1, le=60)

    num_frames: Int | None = Field(None, ge=1, le=200)
    width: Int | None = Field(None, ge=16, le=4096)
    height: Int | None = Field(None, ge=16, le=4096)
    schedule: Schedule | None = None
    gamma: Float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    sigma_max: Float | None = Field(None, ge=0.1, le=10_000, allow_inf_nan=False)
    min_guidance: Float | None = Field(None, ge=1, le=20, allow_inf_nan=False)
    max_guidance: Float | None = Field(None, ge=1, le=20, allow_inf_nan=False)
    decode_chunk: Int | None = Field(None, ge=1, le=200)

    def __init__(self, image: Any = None, **settings: Any) -> None:
        try:
            super().__init__(image=image, **settings)
        except ValidationError as error:
            raise RequestError(_explain(error)) from None

    @model_validator(mode="after")
    def _check_together(self) -> Request:
        if self.image is None:
            raise ValueError("image = None: a picture is needed (path, http(s) URL, data URI, PIL picture or array).")
        if self.schedule in ("animatelcm", "even") and self.steps > LCM_GRID:
            raise ValueError(
                f"steps = {self.steps}: the schedule {self.schedule!r} has {LCM_GRID} points, so 1 to {LCM_GRID} are"
                " allowed. For more, use schedule='karras'."
            )
        if None not in (self.min_guidance, self.max_guidance) and self.min_guidance > self.max_guidance:  # type: ignore[operator]
            raise ValueError(
                f"min_guidance = {self.min_guidance:g}: must not exceed max_guidance ({self.max_guidance:g});"
                " guidance grows from the first frame to the last."
            )
        if None not in (self.decode_chunk, self.num_frames) and self.decode_chunk > self.num_frames:  # type: ignore[operator]
            raise ValueError(
                f"decode_chunk = {self.decode_chunk}: must be 1 to num_frames ({self.num_frames})."
                " Leave it out to decode as the model prefers."
            )
        if self.motion_bucket_id > 255:
            warnings.warn(
                f"motion_bucket_id = {self.motion_bucket_id}: models were trained up to 255; above it the motion is"
                " unpredictable.",
                SettingWarning,
                stacklevel=4,
            )
        return self

    def replace(self, **changes: Any) -> Request:
        """A copy with some fields changed, checked again as a whole.

        Example:
            >>> Request(image="a.png").replace(steps=8).steps
            8
        """
        return Request(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})

    def settings(self) -> dict[str, Any]:
        """Every field but the picture, by its public name, in a fixed order: what a table or a manifest records."""
        return {name: getattr(self, name) for name in SETTINGS}

    def resolve(self, defaults: Defaults) -> Request:
        """Fill the open fields from a model's defaults, draw a missing seed, and check what depends on the model.

        Resolving twice changes nothing.

        Raises:
            RequestError: a size is not a multiple of the model's factor, or two fields do not fit together.
        """
        num_frames = defaults.num_frames if self.num_frames is None else self.num_frames
        filled = {
            "num_frames": num_frames,
            "decode_chunk": min(defaults.decode_chunk or num_frames, num_frames),
            "seed": secrets.randbelow(2**32),
            # A lone limit of guidance that was given takes the model's other limit along, as far as it must.
            "min_guidance": min(defaults.min_guidance, _or(self.max_guidance, math.inf)),
            "max_guidance": max(defaults.max_guidance, _or(self.min_guidance, -math.inf)),
            **{name: getattr(defaults, name) for name in ("width", "height", "schedule", "gamma", "sigma_max")},
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SettingWarning)  # was given when this request was built
            request = self.replace(**{name: value for name, value in filled.items() if getattr(self, name) is None})
        for name in ("width", "height"):
            size = getattr(request, name)
            if size % defaults.size_factor:
                low = size // defaults.size_factor * defaults.size_factor
                raise RequestError(
                    f"{name} = {size}: this model needs a multiple of {defaults.size_factor};"
                    f" the nearest are {low} and {low + defaults.size_factor}."
                )
        return request

    def __repr__(self) -> str:
        image = repr(self.image) if isinstance(self.image, str) else f"<{type(self.image).__name__}>"
        given = ", ".join(f"{name}={value!r}" for name, value in self.settings().items() if value is not None)
        return f"Request(image={image[:80]}, {given})"

    __str__ = __repr__


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


SETTINGS: tuple[str, ...] = tuple(name for name in Request.model_fields if name != "image")
"""The public names of a request's settings, in the order of the tables."""


def bounds(name: str) -> tuple[float, float] | None:
    """Lowest and highest allowed value of a numeric field, or None for `image` and `schedule`.

    Example:
        >>> bounds("motion_bucket_id")
        (0, 1023)
    """
    field = Request.model_fields[name]
    limits = {type(limit).__name__: limit for limit in field.metadata}
    return (limits["Ge"].ge, limits["Le"].le) if "Ge" in limits else None


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check names and values of settings without a picture; raises the same RequestError as `Request`."""
    Request(image="unnamed", **settings)


def _explain(error: ValidationError) -> str:
    """One line a problem: field = value: what is allowed."""
    return "\n".join(_explain_one(detail) for detail in error.errors())


def _explain_one(detail: Any) -> str:
    if not detail["loc"]:  # from _check_together, which already speaks in words
        return str(detail["ctx"]["error"])
    name, value = str(detail["loc"][0]), detail["input"]
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(name, Request.model_fields, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known settings: {', '.join(SETTINGS)}."
        return f"{name} = {value!r}: there is no such setting. {hint}"
    return f"{name} = {value!r}: must be {allowed(name)}."


def allowed(name: str) -> str:
    """What a field takes, in words: "a whole number from 0 to 1023"."""
    if name == "schedule":
        return "one of " + ", ".join(repr(choice) for choice in SCHEDULES)
    low, high = bounds(name) or (0, 0)
    if name == "steps":
        return f"a whole number from {low} to {LCM_GRID} (to {high} with schedule='karras')"
    shown = "2^63 - 1" if high == MAX_SEED else f"{high:g}"
    whole = "float" not in str(Request.model_fields[name].annotation)
    return f"{'a whole number' if whole else 'a number'} from {low:g} to {shown}"
