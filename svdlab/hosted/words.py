"""What an endpoint answers instead of a result, in words, with what to do about it."""

from __future__ import annotations

import json
import re
from typing import Any

from svdlab.errors import EndpointError, RequestError

_DATA = re.compile(r"data:[\w/+.;-]*base64,[A-Za-z0-9+/=]{40,}")
_LONGEST = 400

_DO: dict[int, str] = {
    401: "the key was not accepted. Check FAL_KEY: it is read once, when the model is loaded, so load it again after"
    " setting another one",
    402: "the account has no credit left. Add some at the host, then run this again",
    403: "the key may not use this endpoint, or the account is locked. Look at your account at the host",
    404: "there is no such endpoint or job; results are kept for a limited time",
    413: "the request is too large. Give a smaller picture",
    429: "too many requests at once. Lower concurrency, or wait and run this again",
    499: "the job was cancelled",
    504: "it did not start or end in time. Run this again when the queue is shorter, or raise timeout",
}
_LASTING = (401, 402, 403)


def explain(
    doing: str, status: int, detail: Any, *, error_type: str | None = None, request_id: str | None = None
) -> EndpointError | RequestError:
    """The error for an answer that is no success.

    Args:
        doing: what was being done, for the beginning of the text.
        status: HTTP status of the answer.
        detail: its `detail`: text, or a list of problems with `loc` and `msg`.
        error_type: the host's own name for the error, if it gave one.

    Example:
        >>> str(explain("submitting", 401, "invalid key credentials"))
        'submitting: the key was not accepted. ... (401: invalid key credentials)'
    """
    said = text_of(detail)
    if status in (400, 422) and isinstance(detail, list):
        return RequestError(f"{doing}: the endpoint refused the settings: {said}. Change them and run this again.")
    kind = f", {error_type}" if error_type else ""
    about = f" (job {request_id})" if request_id else ""
    do = _DO.get(status)
    if do is None:
        whose = "failed at the host" if status >= 500 else "was refused"
        do = f"it {whose}. Run this again; if it stays, look at the job at the host"
    return EndpointError(
        f"{doing}: {do}. ({status}{kind}: {said or 'no text'}){about}",
        lasting=status in _LASTING,
        request_id=request_id,
        status=status,
    )


def text_of(detail: Any) -> str:
    """A `detail` as one line, without the data of pictures, at most 400 characters.

    Example:
        >>> text_of([{"loc": ["body", "fps"], "msg": "Input should be a valid integer", "input": "x"}])
        'fps: Input should be a valid integer'
    """
    if isinstance(detail, list) and detail:
        return "; ".join(_problem(item) for item in detail[:5])
    text = detail if isinstance(detail, str) else json.dumps(detail)
    text = _DATA.sub("data:...", " ".join(text.split()))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _problem(item: Any) -> str:
    if not isinstance(item, dict) or "msg" not in item:
        return text_of(json.dumps(item))
    loc = item.get("loc")
    place = [str(part) for part in (loc if isinstance(loc, list | tuple) else [loc]) if part not in ("body", None)]
    return f"{'.'.join(place) or 'input'}: {text_of(str(item['msg']))}"


def refused_text(status: int, body: str) -> str:
    """An answer to a submission, in short: its status and what its body says."""
    try:
        found = json.loads(body)
        body = found.get("detail", body) if isinstance(found, dict) else body
    except ValueError:
        body = re.sub(r"<[^>]*>", " ", body)  # a gateway's page
    return f"it answered {status} ({text_of(body) or 'no text'})"
