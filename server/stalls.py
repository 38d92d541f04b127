"""Names in the log what blocks the event loop: a synchronous call in an async tool, or a slow factory.

A thread asks the loop for a sign of life a few times a second. If none comes it reads the stack of the loop's thread.
That costs nothing for an event or a run.
"""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

log = logging.getLogger("__main__")

# Seconds without a sign of life that are reported. Viewers of all runs wait as long.
STALL_SECONDS = 0.5
# Seconds between two questions for one.
ASK_SECONDS = 0.5


@contextmanager
def reported(*, seconds: float = STALL_SECONDS, pause: float = ASK_SECONDS) -> Generator[None]:
    """Within the block, log each stall of the running loop that is longer than `seconds`, once, with its stack."""
    watch = _Watch(asyncio.get_running_loop(), seconds, pause)
    thread = threading.Thread(target=watch.run, name="stall-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watch.stopping.set()


class _Watch:
    """Made in the thread of the loop that it watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, pause: float) -> None:
        self._loop, self._seconds, self._pause = loop, seconds, pause
        self._thread_id = threading.get_ident()
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until `stopping` is set or the loop is closed."""
        while not self.stopping.wait(self._pause):
            alive = threading.Event()
            try:
                self._loop.call_soon_threadsafe(alive.set)
            except RuntimeError:  # the loop is closed
                return
            asked = monotonic()
            if not alive.wait(self._seconds) and not self.stopping.is_set():
                self._report(asked, alive)

    def _report(self, asked: float, alive: threading.Event) -> None:
        if monotonic() - asked > 2 * self._seconds:
            return  # this thread didn't run either: the whole process was stopped, or the machine is overloaded
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented, for debuggers
        frame = frames.get(self._thread_id)
        if frame is None or alive.is_set():
            return
        stack = traceback.extract_stack(frame)
        culprit = _culprit(stack)
        log.warning(
            "the event loop has been blocked for %d ms by %s, at %s:%s; all runs wait. Make it async, or call it in a "
            "thread.\n%s",
            self._seconds * 1000,
            culprit.name,
            culprit.filename,
            culprit.lineno,
            "".join(traceback.format_list(stack[stack.index(culprit) :])).rstrip(),
        )
        while not alive.wait(self._pause) and not self.stopping.is_set():
            pass
        log.warning("the event loop goes on after %.1f s", monotonic() - asked)


def _culprit(stack: traceback.StackSummary) -> traceback.FrameSummary:
    """The innermost call of code that isn't a library's, or the innermost one of all."""
    own = [frame for frame in stack if not _is_library(frame.filename)]
    return own[-1] if own else stack[-1]


def _is_library(file: str) -> bool:
    return file.startswith(("<", sys.prefix, sys.base_prefix)) or "site-packages" in file
