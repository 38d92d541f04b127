"""Tokens and their principals: a file of names and tokens, and the one token that a server makes for itself.

The file has a line for each token, and is read again whenever it has changed:

    alice K3hW…                    the token itself
    ops sha256:9f86d081… admin     its SHA-256 in hex; `admin` also manages the runs of others
"""

import hmac
import logging
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

from askstream.server.auth.files import keep_private, read_or_make, write_private
from askstream.server.journal import NOBODY

log = logging.getLogger("__main__")

NAME = re.compile(r"[A-Za-z0-9._@:-]{1,128}")
_HASHED = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
ADMIN = "admin"

_Signature: TypeAlias = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Key:
    """A token of the file: `digest` is its SHA-256. `id` names it in cookies and tickets, and reveals nothing of it."""

    name: str
    digest: bytes
    admin: bool = False

    @property
    def id(self) -> str:
        return sha256(b"id:" + self.digest).hexdigest()[:16]


class Tokens:
    """`file` has the names and tokens that people wrote or `askstream tokens` added; `made` is the server's own token.

    The made token's principal is that of the server's own machine: one person, who asks from elsewhere as well.
    """

    def __init__(self, file: Path, made: Path) -> None:
        self.file, self.made = file, made
        self._read: tuple[_Signature, _Signature] | None = None
        self._keys: dict[str, Key] = {}

    def find(self, token: str) -> Key | None:
        """Return a token's key. Compares with each key in constant time."""
        digest = _digest(token)
        found = None
        for key in self.keys():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def by_id(self, key_id: str) -> Key | None:
        """Return the key, None if it was revoked."""
        self._refresh()
        return self._keys.get(key_id)

    def keys(self) -> Sequence[Key]:
        self._refresh()
        return [*self._keys.values()]

    def make(self) -> str:
        """Return the server's own token; the first call of all makes it. Raises OSError."""
        return read_or_make(self.made, _new_token)

    def add(self, name: str, *, admin: bool = False) -> str:
        """Add a new token for a name, and return it. The file gets its hash. Raises ValueError and OSError."""
        if not NAME.fullmatch(name):
            raise ValueError(f"expected a name of letters, digits or any of . _ @ : -, got {name!r}")
        token = _new_token()
        line = f"{name} sha256:{_digest(token).hex()}{' admin' if admin else ''}"
        write_private(self.file, "\n".join([*self._lines(), line]))
        return token

    def revoke(self, name: str) -> int:
        """Remove all tokens of a name, and return how many these were. Raises OSError."""
        lines = self._lines()
        kept = [line for line in lines if line.split()[:1] != [name]]
        if len(kept) < len(lines):
            write_private(self.file, "\n".join(kept))
        removed = len(lines) - len(kept)
        if name == NOBODY and self.made.exists():
            self.made.unlink()
            removed += 1
        return removed

    def _lines(self) -> list[str]:
        return self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []

    def _refresh(self) -> None:
        signatures = _signature(self.file), _signature(self.made)
        if signatures != self._read:
            self._read = signatures
            self._keys = {key.id: key for key in self._load()}

    def _load(self) -> Iterator[Key]:
        if token := _read(self.made).strip():
            yield Key(NOBODY, _digest(token))
        for number, line in enumerate(_read(self.file).splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                try:
                    yield parsed(line)
                except ValueError:
                    log.error("%s, line %d: expected `name token` or `name token admin`", self.file, number)


def parsed(line: str) -> Key:
    """Return the key of a line. Raises ValueError, which doesn't repeat the line."""
    name, token, *rest = line.split()
    if not NAME.fullmatch(name) or rest not in ([], [ADMIN]):
        raise ValueError("not a line of a tokens file")
    hashed = _HASHED.fullmatch(token)
    return Key(name, bytes.fromhex(hashed[1]) if hashed else _digest(token), rest == [ADMIN])


def check_file(file: Path) -> None:
    """Check the file that an operator named. Raises ValueError if it can't be read; takes others' rights away."""
    try:
        file.read_bytes()
        keep_private(file)
    except OSError as problem:
        wanted = "expected ASKSTREAM_TOKENS_FILE to be a file that can be read"
        raise ValueError(f"{wanted}, got {str(file)!r}: {problem.strerror}") from problem


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()


def _new_token() -> str:
    return secrets.token_urlsafe(32)


def _read(path: Path) -> str:
    """Return a file's text. A file that is gone or can't be read has no tokens: all of them are revoked."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as problem:
        log.error("%s can't be read, so its tokens aren't valid: %s", path, problem.strerror)
        return ""


def _signature(path: Path) -> _Signature:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
