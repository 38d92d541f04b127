"""Makes the gate from plain arguments."""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from askstream.server import plugins, proxies
from askstream.server.auth.gate import Gate, Hook, Mode, Policy
from askstream.server.auth.guard import Rules
from askstream.server.auth.jwt import JwtSettings, make_hook
from askstream.server.auth.locality import is_loopback
from askstream.server.auth.origins import EVERY_ORIGIN, Origins
from askstream.server.auth.signing import Signer
from askstream.server.auth.tokens import Tokens, check_file

log = logging.getLogger("__main__")

Auth: TypeAlias = str | Hook
"""`auto`, `token`, `none` or `jwt`; or a hook, or its package.module:attribute."""

_MODES: dict[str, Mode] = {"auto": "auto", "token": "token", "none": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """`host`: the address that the server listens on. `tokens_file`: None for `tokens` in the data folder."""

    auth: Auth
    host: str
    data: Path
    tokens_file: Path | None
    hosts: Sequence[str]
    origins: Sequence[str]
    trusted_proxies: Sequence[str]
    jwt: JwtSettings


def open_gate(settings: AuthSettings) -> Gate:
    """Raises ValueError for settings that can't be followed, or that would let every page do anything."""
    hook, mode = _hook(settings), "hook"
    mode: Mode = "hook" if hook else _MODES[str(settings.auth)]
    _check_origins(settings, mode)
    if settings.tokens_file is not None:
        check_file(settings.tokens_file)
    hosts = frozenset(host.lower() for host in (*settings.hosts, *machine_names()))
    trusted = proxies.networks(settings.trusted_proxies)
    rules = Rules(hosts=hosts, origins=Origins(settings.origins), trusted=trusted)
    tokens = tokens_of(settings.data, settings.tokens_file)
    return Gate(Policy(mode=mode, rules=rules, hook=hook), tokens, Signer(settings.data / "secret", tokens.by_id))


def tokens_of(data: Path, tokens_file: Path | None) -> Tokens:
    return Tokens(tokens_file or data / "tokens", data / "token")


def machine_names() -> Sequence[str]:
    """Return the names under which this machine knows itself."""
    name = socket.gethostname().lower().removesuffix(".")
    return [name, name.partition(".")[0]] if name else []


def _hook(settings: AuthSettings) -> Hook | None:
    auth = settings.auth
    if not isinstance(auth, str):
        return auth
    if auth == "jwt":
        return make_hook(settings.jwt)
    if auth in _MODES:
        return None
    hook: Callable[..., object] = plugins.named(auth, {}, "an authentication (auto, token, none, jwt)")
    if not callable(hook):
        raise ValueError(f"expected {auth!r} to be a function of a request's facts, got a {type(hook).__name__}")
    return hook


def _check_origins(settings: AuthSettings, mode: Mode) -> None:
    if mode == "none" and "null" in settings.origins:
        raise ValueError("ASKSTREAM_CORS_ORIGINS: null can be listed only where tokens are needed")
    if EVERY_ORIGIN not in settings.origins:
        return
    if mode == "none" and not is_loopback(settings.host):
        raise ValueError(
            'ASKSTREAM_CORS_ORIGINS=["*"] with ASKSTREAM_AUTH=none would let every page do anything; list the origins'
        )
    log.warning('ASKSTREAM_CORS_ORIGINS=["*"]: the pages of every site may use this server; list those that should')
