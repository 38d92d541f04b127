"""A proxy that cuts connections: a request for `…?cut=120,7&case=x` loses its first connection after 120 bytes of the
answer, its second after 7, and later ones not at all. It runs in a thread of its own, for clients of all kinds."""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from urllib.parse import parse_qs, urlsplit

from tests.timing import GLANCE

_TARGET = re.compile(rb"^\w+ (\S+) ")
PIECE = 64 * 1024


class CuttingProxy:
    """Listens on `url`. `connections` counts them by case; `sizes` has the bytes of each case's last answer."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "", parts.port or 0
        self._prefix = parts.path
        self.connections: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self._prefix}"
        return server

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.sleep(GLANCE)  # the closed transports end in the next iterations of the loop

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        upstream, up = await asyncio.open_connection(*self._upstream)
        up.write(head)
        case, most = self._plan(head)
        answering = asyncio.ensure_future(self._answer(case, upstream, writer, most))
        asking = asyncio.ensure_future(_pump(reader, up))
        try:
            await asyncio.wait({answering, asking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, asking):
                task.cancel()
            up.close()

    def _plan(self, head: bytes) -> tuple[str, float]:
        """Return the request's case, and after how many bytes it is cut."""
        found = _TARGET.match(head)
        query = parse_qs(urlsplit(found[1].decode()).query if found else "")
        case, cuts = query.get("case", [""])[0], query.get("cut", [""])[0].split(",")
        number = self.connections[case]
        self.connections[case] += 1
        return case, float(cuts[number]) if number < len(cuts) and cuts[number] else float("inf")

    async def _answer(self, case: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: float) -> None:
        self.sizes[case] = 0
        while most > 0 and (data := await reader.read(int(min(PIECE, most)))):
            most -= len(data)
            self.sizes[case] += len(data)
            writer.write(data)
            await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        writer.write(data)
        await writer.drain()
    await asyncio.Event().wait()  # a half-close doesn't end the answer


@contextmanager
def cutting(upstream: str) -> Generator[CuttingProxy]:
    """Serve a proxy in a thread."""
    proxy, loop, ready = CuttingProxy(upstream), asyncio.new_event_loop(), threading.Event()
    stopping = asyncio.Event()

    async def serve() -> None:
        server = await proxy.listen()
        ready.set()
        await stopping.wait()
        server.close()
        await proxy.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()
