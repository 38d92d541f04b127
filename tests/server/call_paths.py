"""Counts the calls into our own files on a path through the server, with `sys.setprofile`."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{ROOT / folder}/" for folder in ("server", "transports", "agents", "src"))

Mark: TypeAlias = Callable[[FrameType], bool]


class CallPath:
    """The calls since `begin`, in order, each as the code that was called. A resumed coroutine counts as a call.

    `start` and `stop` look at every call, also into other files: the first one that `start` recognises begins the
    count, and the first one after it that `stop` recognises ends it. `passed` is the number of calls before the one
    that `milestone` recognised first. Calls in other threads aren't counted.
    """

    def __init__(self, *, start: Mark | None = None, milestone: Mark | None = None, stop: Mark | None = None) -> None:
        self.calls: list[CodeType] = []
        self.passed: int | None = None
        self._start, self._milestone, self._stop = start, milestone, stop
        self._counts = False

    def begin(self) -> None:
        """Count from now on, or from the call that `start` recognises."""
        self._counts = self._start is None
        sys.setprofile(self._look)

    def end(self) -> None:
        """Count no more. Idempotent."""
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _arg: Any) -> None:
        if event != "call":
            return
        if not self._counts:
            self._counts = self._start is not None and self._start(frame)
        if not self._counts:
            return
        if self.passed is None and self._milestone is not None and self._milestone(frame):
            self.passed = len(self.calls)
        if self._stop is not None and self._stop(frame):
            self.end()
        elif _file(frame.f_code).startswith(_OURS):
            self.calls.append(frame.f_code)

    @property
    def functions(self) -> set[CodeType]:
        return set(self.calls)

    @property
    def files(self) -> set[str]:
        """The files of the calls up to the milestone, or of all calls."""
        return {_file(code) for code in self.calls[: self.passed]}

    def report(self) -> str:
        """Return the calls in order, one a line."""
        lines = [f"{_short(code)}:{code.co_firstlineno} {code.co_qualname}" for code in self.calls]
        return f"{len(lines)} calls, {len(self.functions)} functions, {len(self.files)} files:\n" + "\n".join(lines)


def called(name: str, *, within: str) -> Mark:
    """Recognise a function by its name and the end of its file's path."""
    return lambda frame: frame.f_code.co_name == name and frame.f_code.co_filename.endswith(within)


_files: dict[str, str] = {}


def _file(code: CodeType) -> str:
    """Return the file behind the package's links."""
    name = code.co_filename
    if name not in _files:
        _files[name] = str(Path(name).resolve())
    return _files[name]


def _short(code: CodeType) -> str:
    return _file(code).removeprefix(f"{ROOT}/")
