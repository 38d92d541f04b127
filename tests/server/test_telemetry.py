"""Logging as the document promises it."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from askstream.server import telemetry
from askstream.server.telemetry import StreamLog
from tests.timing import GLANCE, MS, PATIENCE


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log file; the loggers are restored at the end."""
    names = ("", "stream_events", *telemetry.QUIETED_LOGGERS)
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).level) for name in names}
    yield tmp_path / "new folder" / "server.log"
    for name, (handlers, level) in before.items():
        for handler in logging.getLogger(name).handlers:
            handler.close()
        logging.getLogger(name).handlers = handlers
        logging.getLogger(name).setLevel(level)


def test_both_loggers_have_the_documents_formats(log: Path) -> None:
    """And no record goes to both."""
    telemetry.configure("info", log)
    logging.getLogger("stream_events").info("run=1 id=1")
    logging.getLogger("__main__").info("hello")
    stream, application = log.read_text().splitlines()
    assert stream.endswith(" - STREAM - INFO - run=1 id=1")
    assert application.endswith(" - __main__ - INFO - hello")


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_an_error_is_logged_with_its_text_and_traceback(log: Path, level: str) -> None:
    """At every level: that is how the developer of a team finds it."""
    telemetry.configure(level, log)
    _raise_in("askstream.agents.failures")
    assert "it failed" in log.read_text()
    assert "ValueError: the text" in log.read_text()
    assert f'File "{__file__}"' in log.read_text()


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
@pytest.mark.parametrize("name", ["autogen_core", "autogen_core.events", "openai._base_client", "httpx"])
def test_libraries_log_warnings_only_and_no_error_text(log: Path, level: str, name: str) -> None:
    """They log prompts, and words of a provider that may hold a key. Also at DEBUG, unless they are asked for."""
    telemetry.configure(level, log)
    logging.getLogger(name).info("the prompt")
    logging.getLogger(name).debug("the prompt")
    _raise_in(name)
    assert "the prompt" not in log.read_text()
    assert "the text" not in log.read_text()
    assert "it failed: ValueError" in log.read_text()


@pytest.mark.parametrize("name", ["autogen_core", "openai._base_client"])
def test_libraries_log_all_if_they_are_asked_for(log: Path, name: str) -> None:
    telemetry.configure("DEBUG", log, libraries=True)
    logging.getLogger(name).debug("the prompt")
    _raise_in(name)
    assert "the prompt" in log.read_text()
    assert "ValueError: the text" in log.read_text()


def _raise_in(name: str) -> None:
    try:
        raise ValueError("the text")
    except ValueError:
        logging.getLogger(name).exception("it %s", "failed")


def test_a_level_that_is_none_is_refused(log: Path) -> None:
    """The refusal names the levels that there are."""
    with pytest.raises(ValueError, match="LOUD"):
        telemetry.configure("LOUD", log)


async def test_events_of_one_moment_are_one_record_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """With a line for each event of any run; chunks apart, since they are logged at DEBUG."""
    caplog.set_level("DEBUG", logger="stream_events")
    log = StreamLog()
    for number in range(100):
        log.report(f"r{number}", [(1, "agent_thinking", "A", b"")])
    log.report("r0", [(2, "agent_chunk", "A", b"")])
    assert not caplog.records
    for _ in range(2):
        await asyncio.sleep(0)
    assert [r.levelno for r in caplog.records] == [logging.INFO, logging.DEBUG]
    lines = caplog.records[0].getMessage().splitlines()
    assert lines == [f"run=r{number} id=1 agent_thinking A" for number in range(100)]


async def test_events_soon_after_a_record_are_in_the_next(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together, after a delay, by one timer."""
    monkeypatch.setattr(telemetry, "BATCH_SECONDS", 200 * MS)
    later = Mock(wraps=asyncio.get_running_loop().call_later)
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", later)
    caplog.set_level("INFO", logger="stream_events")
    log = StreamLog()
    for number in range(1, 5):
        log.report("r", [(number, "agent_thinking", "A", b"")])
        for _ in range(2):
            await asyncio.sleep(0)
    assert later.call_count == 2
    async with asyncio.timeout(PATIENCE):
        while len(caplog.records) < 2:  # noqa: ASYNC110 - a record of the log has no event of its own
            await asyncio.sleep(GLANCE)
    assert [len(r.getMessage().splitlines()) for r in caplog.records] == [1, 3]


async def test_closing_the_log_writes_all_of_it(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later events don't wait: the loop may be about to end."""
    caplog.set_level("INFO", logger="stream_events")
    log = StreamLog()
    log.report("r", [(1, "agent_thinking", "A", b"")])
    log.close()
    assert caplog.records[-1].getMessage() == "run=r id=1 agent_thinking A"
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", _never)
    log.report("r", [(2, "final_result", "A", b"")])
    assert caplog.records[-1].getMessage() == "run=r id=2 final_result A"
    assert len(caplog.records) == 2


async def test_a_log_that_is_off_costs_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even for a timer."""
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", _never)
    caplog.set_level("WARNING", logger="stream_events")
    StreamLog().report("r", [(1, "agent_thinking", "A", b"")])
    assert not caplog.records


def _never(*_: object) -> None:
    raise AssertionError("nothing is to be done later")


def test_the_log_file_rotates_at_its_size(log: Path) -> None:
    """Both loggers write to the new file, none to an earlier one. All are the server's alone, and few are kept."""
    telemetry.configure("info", log, file_bytes=1000, files=2)
    for number in range(100):
        logging.getLogger("stream_events").info("run=1 id=%d", number)
        logging.getLogger("__main__").info("number %d", number)
    files = sorted(log.parent.iterdir())
    assert [each.name for each in files] == ["server.log", "server.log.1", "server.log.2"]
    assert all(each.stat().st_size <= 1000 for each in files)
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}
    last = log.read_text().splitlines()[-2:]
    assert [line.partition(" - ")[2] for line in last] == ["STREAM - INFO - run=1 id=99", "__main__ - INFO - number 99"]
    kept = [line for each in reversed(files) for line in each.read_text().splitlines()]
    numbers = [int(line.split("number ")[1]) for line in kept if "number " in line]
    assert numbers == list(range(100 - len(numbers), 100))


def test_the_log_file_doesnt_rotate_by_default(log: Path) -> None:
    """`tail -f` goes on."""
    telemetry.configure("info", log)
    for _ in range(100):
        logging.getLogger("__main__").info("x" * 1000)
    assert [each.name for each in log.parent.iterdir()] == ["server.log"]
