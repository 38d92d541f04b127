"""The browser that tests drive: found, or installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tools.environment import PYTHON, say

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)

# Playwright's downloads, below the home folder: one folder a version.
PLAYWRIGHT_BROWSERS = (
    ".cache/ms-playwright/chromium-*/chrome-linux*/chrome",
    "Library/Caches/ms-playwright/chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
)


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome that starts. TEST_BROWSER names the only one to consider."""
    named = os.environ.get("TEST_BROWSER")
    for name in (named,) if named else browser_names():
        path = shutil.which(name)
        if path and starts(path):
            return path
    return None


def browser_names() -> Iterator[str]:
    yield from BROWSERS
    for pattern in PLAYWRIGHT_BROWSERS:
        yield from map(str, sorted(Path.home().glob(pattern), reverse=True))


def starts(program: str) -> bool:
    """Whether it runs at all: it may lack its libraries, or be a stub that asks to be installed."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def set_up_browser() -> str | None:
    """Find a browser, or install one if possible. Report what was tried if there is none."""
    if path := find_browser():
        return path
    for command in browser_installers():
        say(f"no browser found; trying: {shlex.join(command)}")
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode == 0 and (path := find_browser()):
            return path
        say(f"that failed: {complaint(done.stdout)}")
    say("no Chromium or Chrome starts here. Install one, or name it: TEST_BROWSER=/path")
    return None


def browser_installers() -> Iterator[list[str]]:
    """Yield commands that install one: as root on Debian its package, which brings its libraries; then a download."""
    if os.environ.get("TEST_BROWSER"):
        return  # no other is wanted
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = "apt-get -qq install -y --no-install-recommends chromium fonts-liberation"
        yield ["sh", "-c", f"apt-get -qq update && {install}"]
    yield [str(PYTHON), "-m", "playwright", "install", "chromium"]


def complaint(output: str) -> str:
    """Return the first line that looks like the reason, of the many that installers print."""
    lines = output.splitlines() or ["no output"]
    return next((line for line in lines if line.startswith(("E:", "Error"))), lines[-1])
