"""Logging, and the log of streamed events. Questions and keys stay out; what foreign code raises is logged whole."""

import asyncio
import logging
import os
import re
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from time import monotonic
from typing import Any

from askstream.server import private

STREAM = "stream_events"
STREAM_FORMAT = "%(asctime)s - STREAM - %(levelname)s - %(message)s"
FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

# Libraries that log whole prompts, or a line for every request. They log warnings only, unless they are asked for, and
# an error's type only: a provider's words may repeat a part of a key or of a question.
QUIETED_LOGGERS = ("autogen_core", "autogen_agentchat", "openai", "httpx", "httpx2", "httpcore", "httpcore2")

_SECRETS = re.compile(r"(\bB(?:earer|asic)\s+|\bticket=|\baskstream(?:_\d+)?=|#token=)[^\s&;'\"]+", re.IGNORECASE)
_MAY_HAVE_SECRETS = re.compile(r"bearer |basic |ticket=|askstream(_\d+)?=|#token=", re.IGNORECASE).search

# Too short to be noticed by a reader of the log; at a thousand events a second it joins ten.
BATCH_SECONDS = 0.01


def configure(
    level: str, file: Path | None = None, *, libraries: bool = False, file_bytes: int = 0, files: int = 5
) -> None:
    """Set up the loggers `stream_events` and `__main__`, and all others, on standard error and in `file`.

    `libraries`: those in QUIETED_LOGGERS log at `level`, too: prompts and answers. `file_bytes`: the size at which the
    file is renamed and begun anew, 0 for never; `files` earlier ones are kept.

    Raises ValueError for a level that logging doesn't know, and for a file that can't be written.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"expected LOG_LEVEL to be DEBUG, INFO, WARNING or ERROR, got {level!r}")
    filters = [] if libraries else [NoErrorText()]
    root, stream = logging.getLogger(), logging.getLogger(STREAM)
    root.handlers, stream.handlers = [_ready(logging.StreamHandler(), filters)], [_ready(logging.StreamHandler())]
    if file is not None:  # one handler: two that write to one file couldn't rename it
        shared = _ready(_file_handler(file, file_bytes, files), filters)
        root.handlers.append(shared)
        stream.handlers.append(shared)
    root.setLevel(number)
    stream.setLevel(number)
    stream.propagate = False
    for name in QUIETED_LOGGERS:
        logging.getLogger(name).setLevel(number if libraries else max(number, logging.WARNING))
    # We log our server's start and stop. uvicorn would repeat that, and log the offline analyst's server as well.
    logging.getLogger("uvicorn.error").setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)
    if file is not None:
        private.close_to_others(file, private.FILE_MODE)


def _file_handler(file: Path, most_bytes: int, files: int) -> logging.Handler:
    try:
        private.make_folder(file.parent)
        return LogFile(file, maxBytes=most_bytes, backupCount=files, encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError) as problem:
        wanted = "expected ASKSTREAM_LOG_FILE to be a file that can be written"
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise ValueError(f"{wanted}, got {str(file)!r}: {reason}") from problem


class StreamLog:
    """Writes to `stream_events`: a line for each event once it is durable; chunks at DEBUG.

    Events within BATCH_SECONDS of a record go into the next one, with a line for each event. A record costs
    twenty times what a line does: as much as all the rest that the server does for an event.
    """

    def __init__(self) -> None:
        self._log = logging.getLogger(STREAM)
        self._records: list[tuple[int, list[str]]] = []  # in order; lines of one level that follow one another
        self._written_at = 0.0
        self._is_due = self._is_closed = False

    def report(self, run_id: str, entries: Sequence[tuple[int, str, str, bytes]]) -> None:
        """Log events that are durable: the journal's entries, which are tuples of id, type, agent and line."""
        for event_id, event_type, agent_name, _ in entries:
            level = logging.DEBUG if event_type == "agent_chunk" else logging.INFO
            if self._log.isEnabledFor(level):
                if not self._records or self._records[-1][0] != level:
                    self._records.append((level, []))
                self._records[-1][1].append(f"run={run_id} id={event_id} {event_type} {agent_name}")
        if self._records and self._is_closed:
            self._write()
        elif self._records and not self._is_due:
            self._is_due = True
            wait = max(0.0, self._written_at + BATCH_SECONDS - monotonic())
            asyncio.get_running_loop().call_later(wait, self._write)

    def close(self) -> None:
        """Write what is pending. Later events are written at once: the loop may be about to end."""
        self._is_closed = True
        self._write()

    def _write(self) -> None:
        self._is_due, self._written_at = False, monotonic()
        records, self._records = self._records, []
        for level, lines in records:
            self._log.log(level, "%s", "\n".join(lines))


def printable(name: str) -> str:
    """Return a name that can't begin another line."""
    return "".join(character if character.isprintable() else "?" for character in name[:256])


class PerLine(logging.Formatter):
    """The format of streamed events for their logger, and the other one for all others.

    Repeats the prefix of a record on each line of its message. Both formats end with the message. Leaves out tokens,
    cookies and tickets, whatever logs them: at DEBUG, websockets logs whole handshakes. The stream's log has none, and
    the search would cost each event a call.
    """

    def __init__(self) -> None:
        super().__init__(FORMAT)
        self._stream = logging.PercentStyle(STREAM_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        text = (self._stream if record.name == STREAM else self._style).format(record)
        return text.replace("\n", "\n" + text.removesuffix(record.message))

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _SECRETS.sub(r"\1redacted", text) if record.name != STREAM and _MAY_HAVE_SECRETS(text) else text


class NoErrorText(logging.Filter):
    """Reduces an error in a record of a quieted library to its type."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0] and record.name.partition(".")[0] in QUIETED_LOGGERS:
            record.msg = f"{record.getMessage().strip()}: {record.exc_info[0].__name__}"
            record.args, record.exc_info, record.exc_text = None, None, None
        return True


class LogFile(RotatingFileHandler):
    """A private file, which is renamed at its size and begun anew. A device, such as /dev/stderr, never is."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=_private)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, private.FILE_MODE)


def _ready(handler: logging.Handler, filters: Sequence[logging.Filter] = ()) -> logging.Handler:
    handler.setFormatter(PerLine())
    handler.filters = list(filters)
    return handler
