"""Logging as the document promises it."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import telemetry


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log file; what was set up is taken back."""
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).level) for name in ("", "stream_events")}
    yield tmp_path / "new folder" / "server.log"
    for name, (handlers, level) in before.items():
        for handler in logging.getLogger(name).handlers:
            handler.close()
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(level)


def test_both_loggers_have_the_documents_formats(log: Path) -> None:
    """And what goes to one does not go to the other as well."""
    telemetry.configure("info", log)
    logging.getLogger("stream_events").info("run=1 id=1")
    logging.getLogger("__main__").info("hello")
    stream, application = log.read_text().splitlines()
    assert stream.endswith(" - STREAM - INFO - run=1 id=1")
    assert application.endswith(" - __main__ - INFO - hello")


@pytest.mark.parametrize(("level", "shown"), [("INFO", False), ("DEBUG", True)])
def test_what_an_error_says_is_told_at_debug_only(log: Path, level: str, shown: bool) -> None:
    """Its text may hold a question or a key; its type is told always."""
    telemetry.configure(level, log)
    try:
        raise ValueError("the secret question")
    except ValueError:
        logging.getLogger("anything").exception("it %s", "failed")
    assert "it failed" in log.read_text()
    assert "ValueError" in log.read_text()
    assert ("the secret question" in log.read_text()) is shown


def test_a_level_that_is_none_is_refused(log: Path) -> None:
    """With those that are."""
    with pytest.raises(ValueError, match="LOUD"):
        telemetry.configure("LOUD", log)
