"""A journal is opened by its URL, or by the name of its maker."""

from pathlib import Path

import pytest

from askstream.server.journal import open_journal
from askstream.server.journal.backends import BACKENDS
from askstream.server.journal.memory import MemoryJournal

HERE = "tests.server.journal.test_backends"


class Named(MemoryJournal):
    def __init__(self, rest: str) -> None:
        super().__init__()
        self.rest = rest


def number(rest: str) -> int:
    return len(rest)


async def test_a_custom_journal_gets_the_rest_of_its_url() -> None:
    """The rest may be anything, a URL included, or empty."""
    for rest in ("", "redis://host:6379/0?db=1", "path with spaces.db"):
        opened = open_journal(f"{HERE}:Named?{rest}" if rest else f"{HERE}:Named", synchronous="full")
        assert isinstance(opened, Named)
        assert opened.rest == rest


async def test_every_backend_in_the_table_can_be_opened(tmp_path: Path) -> None:
    """A row with a wrong name fails here, not at the first operator's. All backends accept `synchronous`."""
    for scheme in BACKENDS:
        opened = open_journal(f"{scheme}:///{tmp_path / 'x.db'}", synchronous="full")
        assert await opened.unfinished() == []
        await opened.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgres://host/db", "memory://, sqlite:// or package.module:attribute, got 'postgres://host/db'"),
        ("nonsense", "got 'nonsense'"),
        (f"{HERE}:missing", f"a journal, package.module:attribute, got '{HERE}:missing': {HERE} has no missing"),
        ("no_such_module:it?x", "there is no module no_such_module"),
        (
            f"{HERE}:number",
            "the protocol Journal of .*:number', got a int, which has no survives, create, by_idempotency_key",
        ),
    ],
)
def test_a_name_that_leads_to_no_journal_is_refused_with_advice(url: str, words: str) -> None:
    """The error says what was expected, and what came."""
    with pytest.raises(ValueError, match=words):
        open_journal(url)
