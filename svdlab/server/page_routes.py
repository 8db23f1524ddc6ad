"""The page at `/`: plain HTML, CSS and JavaScript from this folder, and nothing from anywhere else."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from svdlab.request import LCM_GRID, bounds
from svdlab.request import Request as ClipRequest
from svdlab.server.answers import ApiError, Endpoint
from svdlab.server.schema import ENDPOINT_FIELDS

_FOLDER = Path(__file__).with_name("page")
_TYPES = {"index.html": "text/html", "style.css": "text/css", "script.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self';"
    " img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Where a slider ends short of what is allowed: the range in which models behave.
_MOST = {"motion_bucket_id": 255, "cond_aug": 1, "steps": 8, "fps": 30}


async def page(request: Request) -> Response:
    """The page itself."""
    return _file("index.html")


async def page_part(request: Request) -> Response:
    """Its style and its script."""
    name = request.path_params["name"]
    if name not in _TYPES:
        raise ApiError(404, "not_found", "There is no such file.")
    return _file(name)


async def page_about(request: Request) -> Response:
    """What the page shows: the endpoint's name, the model's, and the knobs with their bounds."""
    settings = Endpoint.of(request).settings
    knobs = []
    for name in ENDPOINT_FIELDS:
        low, high = bounds(name) or (0, 0)
        default = ClipRequest.model_fields[name].default
        knobs.append(
            {
                "name": name,
                "min": low,
                "max": LCM_GRID if name == "steps" else min(high, 2**53 - 1),  # what JavaScript can count to
                "most": _MOST.get(name, high),
                "step": 0.01 if name == "cond_aug" else 1,
                "value": default,
            }
        )
    return JSONResponse({"app": settings.app, "model": settings.model, "knobs": knobs})


def _file(name: str) -> Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(_FOLDER / name, media_type=_TYPES[name], headers=headers)
