"""A real server process on a free port, for tests that use it as clients do."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, sync_playwright

from askstream.agents.factory import WAREHOUSE
from askstream.agents.insights.warehouse import build
from tests.e2e.tabs import Tab
from tests.timing import GLANCE, MS

ROOT = Path(__file__).parents[2]
# From exec to the first answer, importing everything on a busy machine; not a measurement, only a way to fail.
START_SECONDS = 60_000 * MS
STOP_SECONDS = 30_000 * MS

# Variables of the shell that runs the tests, hidden from them.
_OUTSIDE = ("OPENAI_", "AZURE_", "ASKSTREAM_", "LOG_LEVEL")
# Tests leave runs that never end by themselves; a drain of twenty seconds for each would be too long.
BRIEF = {"ASKSTREAM_DRAIN_SECONDS": "0.2"}


class ServerProcess:
    """A server that answers at `url`. `output`: its output so far."""

    def __init__(
        self, data: Path, *options: str, cwd: str = str(ROOT), console: Any = subprocess.DEVNULL, **environment: str
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, "-m", "askstream.server", "serve", "--port", "0", "--data", str(data), *options],
            cwd=cwd,
            env={**kept, "PYTHONUNBUFFERED": "1", **BRIEF, **environment},
            stdin=console,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or not self._lines or "serves on" not in self.output:
            self.kill()
            raise RuntimeError(f"the server did not start:\n{self.output}")
        self.url = next(line.split()[-1] for line in self._lines if "serves on" in line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def stop(self) -> int:
        """Send SIGTERM, as a deploy does. Return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> int:
        """Send SIGKILL, which no code of the server sees."""
        self.process.kill()
        return self._ended()

    def release(self) -> None:
        """Stop it if it still runs, and close its output."""
        if self.process.poll() is None:
            self.stop()
        else:
            self._ended()

    def _ended(self) -> int:
        status = self.process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            if "serves on" in line:
                self._ready.set()
        self._ready.set()


class Start(Protocol):
    def __call__(self, *options: str, data: Path | None = None, **environment: str) -> ServerProcess: ...


@contextmanager
def started(data: Path, *options: str, cwd: str = str(ROOT), **environment: str) -> Generator[ServerProcess]:
    server = ServerProcess(data, *options, cwd=cwd, **environment)
    try:
        yield server
    finally:
        server.release()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests that only use it: no key, the offline analyst, its default settings."""
    with started(tmp_path_factory.mktemp("data"), ASKSTREAM_ACTIVE_RUNS="200") as process:
        yield process


@pytest.fixture(scope="session")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled database, made once: it costs a second, which servers of a test's own save."""
    made = tmp_path_factory.mktemp("warehouse") / WAREHOUSE
    build(made)
    return made


@pytest.fixture
def start(tmp_path: Path, warehouse: Path) -> Iterator[Start]:
    """Start servers of a test's own: `start("--team", "a:b", ASKSTREAM_X="y")`."""
    started: list[ServerProcess] = []
    folder = tmp_path / "data"

    def begin(*options: str, data: Path | None = None, **environment: str) -> ServerProcess:
        if data is None and not folder.exists():
            folder.mkdir()
            shutil.copy(warehouse, folder)
        started.append(ServerProcess(data or folder, *options, **environment))
        return started[-1]

    try:
        yield begin
    finally:
        for process in started:
            process.release()


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """Poll for an effect of another process; fail if it never comes."""
    import time

    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "it never came"
            time.sleep(GLANCE)

    return wait


# Not of session scope: while Playwright's blocking API is open, no other event loop can run in this thread.
@pytest.fixture(scope="module")
def browser(chromium_launch: dict[str, object]) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**chromium_launch)  # pyright: ignore[reportArgumentType] - its keywords
        yield browser
        browser.close()


@pytest.fixture
def open_tab(browser: Browser, server: ServerProcess) -> Iterator[Callable[..., Tab]]:
    """Make tabs. At the end, none may have logged an error, broken the page's policy or asked another host."""
    tabs: list[Tab] = []

    def make(url: str = server.url, **options: Any) -> Tab:
        tab = Tab(browser.new_page(**options), url)
        tabs.append(tab)
        return tab

    yield make
    for tab in tabs:
        tab.page.close()
    assert [tab.errors for tab in tabs] == [[] for _ in tabs]
    assert [tab.elsewhere() for tab in tabs] == [[] for _ in tabs]


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab()
