"""Pictures on their way to the endpoint: as an address that it can read."""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from typing import Literal, get_args

from PIL import Image

from svdlab.errors import RequestError
from svdlab.hosted.client import Client, explained
from svdlab.images import image_digest

Sending = Literal["auto", "data", "upload"]

SMALL = 2**20  # bytes of a PNG up to which it goes along with the request
KEPT = 32  # addresses of pictures that are remembered


class Pictures:
    """Gives pictures addresses, each once.

    What is sent is the picture as svdlab read it (turned upright, over white, RGB), as PNG: the pixels that its digest
    names, and no metadata of the file.

    Args:
        sending: ``"data"`` puts it into the request, ``"upload"`` stores it at the host, where whoever knows the
            address can read it; ``"auto"`` uploads only what is larger than 1 MiB.
    """

    def __init__(self, client: Client, sending: Sending) -> None:
        if sending not in get_args(Sending):
            raise RequestError(f"pictures = {sending!r}: must be one of {', '.join(map(repr, get_args(Sending)))}.")
        self._client, self._sending = client, sending
        self._known: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def address(self, image: Image.Image, name: str) -> str:
        """An address at which the endpoint finds `image` (RGB): a ``data:`` address, or one at the host.

        Args:
            name: of the endpoint, for errors.

        Raises:
            EndpointError: the upload failed.
        """
        digest = image_digest(image)
        with self._lock:  # several clips of one picture must not upload it several times
            if digest not in self._known:
                self._known[digest] = self._make(image, name)
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(digest)
            return self._known[digest]

    def _make(self, image: Image.Image, name: str) -> str:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
        if self._sending == "data" or (self._sending == "auto" and len(data) <= SMALL):
            return "data:image/png;base64," + base64.b64encode(data).decode()
        with explained(f"{name}: uploading the picture ({len(data) / 1e6:.1f} MB)"):
            # No fallback: it would send the key to whatever address the host names.
            return self._client.upload(data, "image/png", "picture.png", fallback_repository=[])

    def clear(self) -> None:
        """Forget all addresses."""
        with self._lock:
            self._known.clear()
