"""Endpoints: which hosted models svdlab can drive, and what they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svdlab.errors import ModelError, RequestError
from svdlab.request import SETTINGS, Defaults, Request

PREFIX = "fal-ai/"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A hosted image-to-video model.

    Attributes:
        name: its id at the host.
        fields: settings of a request that it takes, under the same names.
        defaults: what is assumed of it where it takes no setting. It names none of this, so it is written into
            tables as assumed, and nothing is computed from it but estimates.
    """

    name: str
    fields: tuple[str, ...]
    defaults: Defaults

    def check(self, request: Request) -> None:
        """Raise RequestError if a request, resolved or not, asks for what the endpoint cannot be told."""
        settings, assumed = request.settings(), _assumed(self.defaults)
        lacking = {name: settings[name] for name in SETTINGS if name not in self.fields}
        if wrong := {name: value for name, value in lacking.items() if value not in (None, assumed[name])}:
            raise RequestError(self.refusal(wrong))

    def arguments(self, request: Request) -> dict[str, Any]:
        """The input of a resolved request, but for its picture.

        Example:
            >>> ENDPOINTS["fal-ai/fast-svd-lcm"].arguments(request)
            {'motion_bucket_id': 127, 'cond_aug': 0.02, 'seed': 42, 'steps': 4, 'fps': 10}
        """
        settings = request.settings()
        return {name: settings[name] for name in self.fields}

    def refusal(self, given: Mapping[str, Any]) -> str:
        """Why settings that the endpoint lacks cannot be given, in words."""
        shown = ", ".join(f"{name} = {value!r}" for name, value in given.items())
        return (
            f"{shown}: {self.name} has no such field. It takes {', '.join(self.fields)}; leave out the rest, or take a"
            " model that runs here (`svdlab models`)."
        )


def _assumed(defaults: Defaults) -> dict[str, Any]:
    return {**vars(defaults), "decode_chunk": defaults.decode_chunk or defaults.num_frames}


ENDPOINTS: dict[str, Endpoint] = {
    endpoint.name: endpoint
    for endpoint in (
        Endpoint(
            name="fal-ai/fast-svd-lcm",
            fields=("motion_bucket_id", "cond_aug", "seed", "steps", "fps"),
            defaults=Defaults(num_frames=25, width=1024, height=576),  # 25 frames are documented, the size is SVD's own
        ),
    )
}
"""Every endpoint that svdlab can drive."""


def find(name: str) -> Endpoint:
    """The endpoint of a name.

    Raises:
        ModelError: svdlab cannot drive it.

    Example:
        >>> find("fal-ai/fast-svd-lcm").defaults.num_frames
        25
    """
    if name in ENDPOINTS:
        return ENDPOINTS[name]
    raise ModelError(
        f"model = {name!r}: svdlab cannot drive this hosted endpoint. It can drive {', '.join(ENDPOINTS)}; models that"
        " run here are listed by `svdlab models`."
    )
