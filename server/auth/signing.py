"""Signed texts that a client keeps: a browser's cookie, and a ticket for one run.

A text is `payload.signature`, both in base64url. The payload is a JSON list. The signature is an HMAC with SHA-256 over
the purpose and the payload, under the server's secret. The payload names the token behind it by its key's id, so a
revoked token takes its cookies and tickets with it.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal, TypeAlias, cast

import orjson

from askstream.server.auth.access import Access
from askstream.server.auth.files import read_or_make
from askstream.server.auth.tokens import Key

VERSION = 1
Purpose: TypeAlias = Literal["cookie", "ticket"]
# A cookie has a few hundred bytes. More isn't ours, and isn't worth a hash.
MOST_CHARACTERS = 2048
_FIELDS, _KEY = 6, 4


class Signer:
    """`secret_file` is made for the first text. `key_of` returns the key with an id, None if it was revoked."""

    def __init__(self, secret_file: Path, key_of: Callable[[str], Key | None]) -> None:
        self._file, self._key_of = secret_file, key_of
        self._secret: bytes | None = None

    def sign(self, purpose: Purpose, access: Access, expires_at: float) -> str:
        """Return a text that `verified` turns into this access, until it expires. Raises OSError."""
        if self._secret is None:
            self._secret = read_or_make(self._file, lambda: token_hex(32)).encode()
        fields = [VERSION, access.run_id, access.principal, int(expires_at), access.key, access.admin]
        payload = _encoded(orjson.dumps(fields))
        return f"{payload}.{self._signature(purpose, payload)}"

    def verified(self, purpose: Purpose, text: str, now: float) -> Access | None:
        """Return the access, None if the text is not ours, has expired, or its token was revoked."""
        payload, _, signature = text.partition(".")
        fields = _decoded(payload) if len(text) <= MOST_CHARACTERS else None
        if fields is None or not self._is_ours(purpose, payload, signature, key_id=fields[_KEY]):
            return None
        _, run_id, principal, expires_at, key, admin = fields
        if fields[0] != VERSION or now >= expires_at:
            return None
        return Access(principal=principal, admin=admin, run_id=run_id, key=key, expires_at=expires_at)

    def _is_ours(self, purpose: Purpose, payload: str, signature: str, *, key_id: object) -> bool:
        """Whether we signed it. Nothing in a payload may be relied on before that."""
        if self._secret is None and self._file.exists():
            self._secret = read_or_make(self._file, str).encode()
        if not self._secret or not isinstance(key_id, str) or (key_id and self._key_of(key_id) is None):
            return False
        return hmac.compare_digest(self._signature(purpose, payload).encode(), signature.encode())

    def _signature(self, purpose: Purpose, payload: str) -> str:
        return _encoded(hmac.digest(self._secret or b"", f"{purpose}.{payload}".encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(payload: str) -> list[Any] | None:
    """Return a payload's fields, None if it has another form than ours."""
    try:
        fields: Any = orjson.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        return None
    return cast(list[Any], fields) if isinstance(fields, list) and len(cast(list[Any], fields)) == _FIELDS else None
