"""A server with three principals, for tests of who may do what; a client speaks for one of them."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from websockets.asyncio.client import connect

from tests.e2e.conftest import ServerProcess, started
from tests.e2e.viewers import client_of

TOKENS = {"alice": "a" * 43, "bob": "b" * 43, "ops": "o" * 43}
COUNTING = ("--orchestrator", "tests.embedding.counting:counting")
# Both ways of a connection.
WAYS = {"direct": "true", "plain": "false"}


@dataclass(frozen=True)
class Served:
    """`file` is its tokens file."""

    process: ServerProcess
    file: Path

    @property
    def url(self) -> str:
        return self.process.url

    def as_(self, name: str | None, **headers: str) -> "Client":
        return Client(self.url, ({"Authorization": f"Bearer {TOKENS[name]}"} if name else {}) | headers)


@dataclass(frozen=True)
class Client:
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    async def send(self, method: str, path: str, **options: Any) -> httpx2.Response:
        async with client_of(self.url) as client:
            return await client.request(method, path, headers={**self.headers, **options.pop("headers", {})}, **options)

    async def start(self, question: str = "600 0.05", **fields: Any) -> str:
        answer = await self.send("POST", "/runs", json={"question": question, **fields})
        assert answer.status_code == 202, answer.text
        return answer.json()["run_id"]

    def socket(self, query: str = "", **headers: str) -> connect:
        """Open a WebSocket. The library sends the host of the address, which need not be where it connects to."""
        sent = {**self.headers, **headers}
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        address = f"ws://{sent.pop('Host', f'{host}:{port}')}/ws{query}"
        return connect(address, host=host, port=int(port), additional_headers=sent)


def write_tokens(file: Path, *names: str) -> None:
    """Write the file anew, as an operator's editor does."""
    lines = [f"{name} {TOKENS[name]}{' admin' if name == 'ops' else ''}\n" for name in names]
    beside = file.with_suffix(".new")
    beside.write_text("# names and tokens\n\n" + "".join(lines))
    beside.chmod(0o600)
    beside.replace(file)


@contextmanager
def serving(folder: Path, *options: str, **environment: str) -> Generator[Served]:
    file = folder / "tokens"
    write_tokens(file, *TOKENS)
    variables = {"ASKSTREAM_AUTH": "token", "ASKSTREAM_TOKENS_FILE": str(file), **environment}
    with started(folder / "data", *COUNTING, *options, **variables) as process:
        yield Served(process, file)
