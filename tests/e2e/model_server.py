"""A real model server on a loopback port: started, killed, started again, and asked what it does."""

import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from tests.e2e.viewers import client_of
from tests.timing import PATIENCE

PROGRAM = Path(__file__).with_name("llama.py")
# The model is loaded within two seconds on a quiet machine.
LOAD_SECONDS = 3 * PATIENCE


class ModelServer:
    """One slot and `context` tokens. `address` stays the same when it is started again."""

    def __init__(self, model: Path, context: int) -> None:
        self._model, self._context, self._port = model, context, 0
        self.address = self.start()
        self._port = urlsplit(self.address).port or 0

    def start(self) -> str:
        """Start it, and return its address when the model is loaded."""
        self.launch()
        return self.loaded()

    def launch(self) -> None:
        """Start it, and don't wait for its model."""
        command = [sys.executable, str(PROGRAM), str(self._model), str(self._port), str(self._context)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def loaded(self) -> str:
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        assert address, "the model's server did not start"
        return address

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=LOAD_SECONDS)

    async def is_working(self) -> bool:
        """Whether its slot answers a request."""
        (slot,) = (await self._get("/slots")).json()
        return slot["is_processing"]

    async def queued(self) -> int:
        """The number of requests that wait for the slot."""
        return await self._metric("requests_deferred")

    async def counted(self) -> tuple[int, int]:
        """The tokens of all prompts and of all answers."""
        read, cached = await self._metric("prompt_tokens_total"), await self._metric("prompt_tokens_cached_total")
        return read + cached, await self._metric("tokens_predicted_total")

    async def _metric(self, name: str) -> int:
        found = re.search(rf"^llamacpp:{name} (\d+)", (await self._get("/metrics")).text, re.MULTILINE)
        assert found, name
        return int(found[1])

    async def _get(self, path: str) -> httpx2.Response:
        async with client_of(self.address) as client:
            return await client.get(path)


@contextmanager
def model_server(model: Path, context: int) -> Generator[ModelServer]:
    server = ModelServer(model, context)
    try:
        yield server
    finally:
        server.kill()
