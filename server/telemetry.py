"""Logging as the API's document promises it. Questions, keys and tracebacks stay out of INFO and above."""

import logging
from pathlib import Path

STREAM_FORMAT = "%(asctime)s - STREAM - %(levelname)s - %(message)s"
FORMAT = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"

# Libraries whose records hold whole prompts, or a line for every request; they speak at DEBUG only.
TALKATIVE = ("autogen_core", "autogen_agentchat", "openai", "httpx", "httpx2", "httpcore", "httpcore2")


def configure(level: str, file: Path | None = None) -> None:
    """Sets up the loggers `stream_events` and `__main__`, and all others, on standard error and in `file`.

    Raises ValueError for a level that logging doesn't know.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"expected LOG_LEVEL to be DEBUG, INFO, WARNING or ERROR, got {level!r}")
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
    _outfit(logging.getLogger(), FORMAT, number, file)
    stream = logging.getLogger("stream_events")
    _outfit(stream, STREAM_FORMAT, number, file)
    stream.propagate = False
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.DEBUG if number <= logging.DEBUG else logging.CRITICAL + 1)
    # Ours and the offline analyst's: that they start and stop is told once, by us.
    logging.getLogger("uvicorn.error").setLevel(max(number, logging.WARNING) if number > logging.DEBUG else number)


class NoTraceback(logging.Filter):
    """Leaves of an error its type: its text and traceback may hold what a client or a model said."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[0]:
            record.msg = f"{record.getMessage().strip()}: {record.exc_info[0].__name__}"
            record.args, record.exc_info, record.exc_text = None, None, None
        return True


def _outfit(logger: logging.Logger, form: str, level: int, file: Path | None) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(form))
        if level > logging.DEBUG:
            handler.addFilter(NoTraceback())
    logger.handlers = handlers
    logger.setLevel(level)
