"""JSON Web Tokens as proof of who asks: signed with a shared secret (HS256), or by an issuer's keys (RS256, ES256).

PyJWT does the work; the extra `[jwt]` installs it. Keys come from a JWKS file or its URL. It is read again for a key
that isn't known, at most every REFRESH_SECONDS, and after KEEP_SECONDS in any case.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from askstream.server.auth.access import Access
from askstream.server.auth.facts import RequestFacts
from askstream.server.journal import NOBODY

log = logging.getLogger("__main__")

REFRESH_SECONDS = 30.0
# Keys of an issuer are used for this long before they are read again: a key that was withdrawn must lose its effect.
KEEP_SECONDS = 300.0
FETCH_SECONDS = 5
# The shared secret signs with the first algorithm only and published keys never do: a public key is no secret.
_WITH_SECRET, _WITH_KEYS = ("HS256",), ("RS256", "ES256")
MOST_CHARACTERS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSettings:
    """`secret` or `keys`, a JWKS file or its URL. `leeway` in seconds."""

    secret: str | None = None
    keys: str | None = None
    audience: str | None = None
    issuer: str | None = None
    leeway: float = 10.0


def make_hook(settings: JwtSettings) -> Callable[[RequestFacts], Awaitable[Access | None]]:
    """Return the hook. Raises ValueError if a setting or PyJWT is missing."""
    try:
        import jwt
    except ModuleNotFoundError:
        raise ValueError("ASKSTREAM_AUTH=jwt needs PyJWT: pip install 'askstream[jwt]'") from None
    if bool(settings.secret) == bool(settings.keys):
        raise ValueError("ASKSTREAM_AUTH=jwt needs ASKSTREAM_JWT_SECRET or ASKSTREAM_JWT_KEYS, one of them")
    return _JwtHook(settings, jwt)


class _JwtHook:
    def __init__(self, settings: JwtSettings, jwt: Any) -> None:
        self._settings, self._jwt = settings, jwt
        self._keys = _Keys(settings.keys, jwt) if settings.keys else None

    async def __call__(self, facts: RequestFacts) -> Access | None:
        scheme, _, token = (facts.header("authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        try:
            return _access(self._claims(token.strip(), await self._key(token.strip())))
        except self._jwt.PyJWTError as problem:
            log.debug("a JWT isn't valid: %s", type(problem).__name__)
            return None

    async def _key(self, token: str) -> Any:
        if self._keys is None:
            return self._settings.secret
        return await self._keys.find(self._jwt.get_unverified_header(token).get("kid"))

    def _claims(self, token: str, key: Any) -> Mapping[str, Any]:
        settings = self._settings
        claims: Mapping[str, Any] = self._jwt.decode(
            token,
            key,
            algorithms=_WITH_SECRET if self._keys is None else _WITH_KEYS,
            audience=settings.audience,
            issuer=settings.issuer,
            leeway=settings.leeway,
            options={"require": ["exp", "sub"], "verify_aud": settings.audience is not None},
        )
        return claims


class _Keys:
    """The issuer's public keys, by their ids."""

    def __init__(self, source: str, jwt: Any) -> None:
        self._source, self._jwt = source, jwt
        self._by_id: dict[str | None, Any] = {}
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def find(self, key_id: str | None) -> Any:
        """Return the key; without an id the only one. Raises PyJWTError for an unknown one, and what reading raises."""
        async with self._lock:
            age = REFRESH_SECONDS + KEEP_SECONDS if self._read_at is None else monotonic() - self._read_at
            if age > KEEP_SECONDS or (key_id not in self._by_id and age > REFRESH_SECONDS):
                self._by_id = await asyncio.to_thread(self._read)
                self._read_at = monotonic()
        if key_id is None and len(self._by_id) == 1:
            return next(iter(self._by_id.values()))
        if key_id not in self._by_id:
            raise self._jwt.InvalidKeyError("no key has this id")
        return self._by_id[key_id]

    def _read(self) -> dict[str | None, Any]:
        if self._source.startswith(("https://", "http://")):
            client = self._jwt.PyJWKClient(self._source, cache_jwk_set=False, timeout=FETCH_SECONDS)
            keys = client.get_signing_keys()
        else:
            keys = self._jwt.PyJWKSet.from_json(Path(self._source).read_text(encoding="utf-8")).keys
        return {key.key_id: key for key in keys if key.key_type in ("RSA", "EC")}


def _access(claims: Mapping[str, Any]) -> Access | None:
    """Return the subject's access. The name `anonymous` is refused: it is the principal of this machine's clients."""
    subject = claims["sub"]
    if subject == NOBODY or not 0 < len(subject) <= MOST_CHARACTERS:
        return None
    scope = claims.get("scope") or ""
    words = scope.split() if isinstance(scope, str) else scope
    return Access(principal=subject, admin="admin" in words, expires_at=float(claims["exp"]))
