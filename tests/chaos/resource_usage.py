"""`tests.chaos.resource_usage:UsageTransport`, a transport that reports the resources of its server."""

import _sqlite3
import asyncio
import ctypes
import gc
import logging
import os
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from askstream.transports.base import TransportContext

# The journal's two readers open on first use, with three files each: the database, its WAL and its index.
POOLED_FILES = 6
LIBC = ctypes.CDLL(None)
SQLITE = ctypes.CDLL(_sqlite3.__file__)
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "top",
        )
    )


@dataclass(frozen=True, slots=True)
class ResourceUsage:
    """A server process's resources at one moment, `rss` and `heap` in KiB. The heap is all allocated memory except
    SQLite's, whose caches grow with the journal up to their own bounds."""

    rss: int
    heap: int
    files: int
    threads: int
    tasks: int
    channels: int
    runs: int

    def quiet(self, before: "ResourceUsage | None") -> bool:
        """Whether the server is idle: no run, no viewer, and no more tasks and files than `before`."""
        idle = not self.channels and not self.runs
        if before is None:
            return idle
        return idle and self.tasks <= before.tasks and self.files <= before.files + POOLED_FILES

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Self:
        return cls(**{f.name: raw[f.name] for f in fields(cls)})


class PrintTracebacks(logging.Filter):
    """Prints the tracebacks that a server otherwise drops: they explain a failure."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0]:
            traceback.print_exception(*record.exc_info)
        return True


class UsageTransport:
    """A `Transport` that carries no events."""

    def __init__(self, context: TransportContext) -> None:
        self._context = context
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addFilter(PrintTracebacks())

    def routes(self) -> Sequence[BaseRoute]:
        return [Route("/gauge", self.read)]

    async def read(self, request: Request) -> Response:
        gc.collect()
        if hasattr(LIBC, "malloc_trim"):  # glibc returns free memory, so that `rss` counts only memory in use
            LIBC.malloc_trim(0)
        return JSONResponse(asdict(self._held()), headers={"Connection": "close"})

    def _held(self) -> ResourceUsage:
        return ResourceUsage(
            heap=_heap_kb(),
            rss=int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KB,
            files=len(list(Path("/proc/self/fd").iterdir())),
            threads=threading.active_count(),
            tasks=len(asyncio.all_tasks()),
            channels=self._context.bus.channels,
            runs=self._context.runs.active,
        )


def _heap_kb() -> int:
    """The memory that `malloc` has handed out, in all arenas and mappings. 0 if the libraries can't report it."""
    if not hasattr(LIBC, "mallinfo2") or not hasattr(SQLITE, "sqlite3_memory_used"):
        return 0
    LIBC.mallinfo2.restype, SQLITE.sqlite3_memory_used.restype = _MallInfo, ctypes.c_int64
    info = LIBC.mallinfo2()
    return (info.uordblks + info.hblkhd - SQLITE.sqlite3_memory_used()) // 1024
