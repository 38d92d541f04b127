"""JWTs: each algorithm, each claim, and what an attacker may try with them."""

import hmac
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from askstream.server.auth import Access, facts_of
from askstream.server.auth import jwt as ours
from askstream.server.auth.jwt import JwtSettings, make_hook

SECRET = "a secret of at least thirty-two bytes"
RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())


def jwks(**keys: Any) -> str:
    described: list[dict[str, Any]] = []
    for name, key in keys.items():
        algorithm: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
        described.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": name, "use": "sig"})
    return json.dumps({"keys": described})


def token(key: Any = SECRET, algorithm: str = "HS256", *, kid: str | None = None, **claims: Any) -> str:
    said = {"sub": "alice", "exp": time.time() + 60, **claims}
    kept = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers={"kid": kid} if kid else None)


async def principal(settings: JwtSettings, sent: str) -> Access | None:
    return await asked(make_hook(settings), sent)


async def asked(hook: Any, sent: str) -> Access | None:
    return await hook(facts_of({"path": "/runs", "headers": [(b"authorization", f"Bearer {sent}".encode())]}))


@pytest.fixture
def keys(tmp_path: Path) -> JwtSettings:
    file = tmp_path / "jwks.json"
    file.write_text(jwks(r=RSA, e=EC))
    return JwtSettings(keys=str(file))


async def test_each_algorithm_proves_its_subject(keys: JwtSettings) -> None:
    """The access ends with the token."""
    ends = int(time.time()) + 60
    expected = Access(principal="alice", expires_at=float(ends))
    assert await principal(JwtSettings(secret=SECRET), token(exp=ends)) == expected
    assert await principal(keys, token(RSA, "RS256", kid="r", exp=ends)) == expected
    assert await principal(keys, token(EC, "ES256", kid="e", exp=ends)) == expected


@pytest.mark.parametrize("scope", ["admin", "read admin", ["admin"]])
async def test_the_scope_admin_is_a_claim(scope: Any) -> None:
    found = await principal(JwtSettings(secret=SECRET), token(scope=scope))
    assert found is not None
    assert found.admin
    other = await principal(JwtSettings(secret=SECRET), token(scope="administrator"))
    assert other is not None
    assert not other.admin


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"nbf": 2**33},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "anonymous"},
        {"sub": "x" * 257},
        {"aud": "other"},
        {"aud": None},
        {"iss": "other"},
        {"iss": None},
    ],
    ids=str,
)
async def test_a_token_that_lacks_something_is_none(claims: dict[str, Any]) -> None:
    settings = JwtSettings(secret=SECRET, audience="us", issuer="them")
    assert await principal(settings, token(aud="us", iss="them")) is not None
    assert await principal(settings, token(**{"aud": "us", "iss": "them", **claims})) is None


async def test_clocks_may_differ_by_the_leeway() -> None:
    late = token(exp=time.time() - 5)
    assert await principal(JwtSettings(secret=SECRET, leeway=60), late) is not None
    assert await principal(JwtSettings(secret=SECRET, leeway=0), late) is None


async def test_a_token_of_another_key_is_none(keys: JwtSettings) -> None:
    """Also one that is signed with what everybody knows: nothing, or the public key as a secret."""
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    claims = {"sub": "alice", "exp": int(time.time()) + 60}
    with_public_key = signed_with(public, claims)
    for settings in (keys, JwtSettings(secret=SECRET)):
        for sent in (
            jwt.encode(claims, "", "none"),
            with_public_key,
            token("another secret of at least thirty-two bytes"),
            token(rsa.generate_private_key(65537, 2048), "RS256", kid="r"),
            token(RSA, "RS256", kid="unknown"),
            token(RSA, "RS384", kid="r"),
            token(RSA, "RS256", kid="r") + "x",
            "a.b.c",
            "",
        ):
            assert await principal(settings, sent) is None, sent


def signed_with(secret: bytes, claims: dict[str, Any]) -> str:
    """Return a token that PyJWT itself refuses to sign."""
    parts = [
        urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256", "kid": "r"}, claims)
    ]
    signature = urlsafe_b64encode(hmac.digest(secret, b".".join(parts), "sha256")).rstrip(b"=")
    return b".".join([*parts, signature]).decode()


@pytest.fixture
def issuer() -> Iterator[tuple[str, dict[str, Any]]]:
    """The address of an issuer's keys, and what it has: its keys, and how often it was asked."""
    issued: dict[str, Any] = {"keys": jwks(r=RSA), "asked": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issued["asked"] += 1
            self.send_response(200)
            self.end_headers()
            self.wfile.write(issued["keys"].encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/jwks", issued
    httpd.shutdown()
    httpd.server_close()


async def test_an_issuers_keys_are_fetched_once_and_again_for_a_new_one(
    issuer: tuple[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that nobody has don't send a request each."""
    url, issued = issuer
    now = 1000.0
    monkeypatch.setattr(ours, "monotonic", lambda: now)
    hook = make_hook(JwtSettings(keys=url))
    for _ in range(3):
        assert await asked(hook, token(RSA, "RS256", kid="r")) is not None
    issued["keys"] = jwks(e=EC)
    for _ in range(3):
        assert await asked(hook, token(EC, "ES256", kid="e")) is None
    assert issued["asked"] == 1
    now += ours.REFRESH_SECONDS + 1
    assert await asked(hook, token(EC, "ES256", kid="e")) is not None
    assert await asked(hook, token(RSA, "RS256", kid="r")) is None, "it was withdrawn"
    assert issued["asked"] == 2


@pytest.mark.parametrize("settings", [JwtSettings(), JwtSettings(secret=SECRET, keys="x")])
def test_it_needs_a_secret_or_keys(settings: JwtSettings) -> None:
    with pytest.raises(ValueError, match="ASKSTREAM_JWT_SECRET or ASKSTREAM_JWT_KEYS"):
        make_hook(settings)
