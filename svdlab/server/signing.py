"""Signatures of webhooks: Ed25519, with a key of the server's own that is published as a JWKS."""

from __future__ import annotations

import base64
import hashlib
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from svdlab.errors import ServerError
from svdlab.files import atomic_path


class Signer:
    """The server's signing key, made at the first start and kept in its folder, for the server's user alone.

    Example:
        >>> signer = Signer(folder / "webhook.pem")
        >>> sorted(signer.headers("id", "local", b"{}"))[0]
        'X-Fal-Webhook-Request-Id'
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            with atomic_path(path) as tmp:
                tmp.touch(mode=0o600)
                tmp.write_bytes(pem)
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise ServerError(f"{path}: is no key ({error}). Move it away; a new one is made.") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ServerError(f"{path}: is no Ed25519 key. Move it away; a new one is made.")
        self._key = key

    def headers(self, request_id: str, owner: str, body: bytes) -> dict[str, str]:
        """The headers that vouch for a delivery.

        Signed is ``request_id \\n owner \\n timestamp \\n sha256(body) in hexadecimal``, as the hosted service does.
        """
        now = str(int(time.time()))
        text = "\n".join((request_id, owner, now, hashlib.sha256(body).hexdigest()))
        return {
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": owner,
            "X-Fal-Webhook-Timestamp": now,
            "X-Fal-Webhook-Signature": self._key.sign(text.encode()).hex(),
        }

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public half, as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        raw = self._key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        kid = hashlib.sha256(raw).hexdigest()[:16]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": kid, "x": x}]}
