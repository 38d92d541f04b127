"""docs/latency.md names the code of every wait, and only waits that exist."""

import re
from pathlib import Path

import pytest

from bench.without import WAITS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "latency.md").read_text(encoding="utf-8")
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| **")]


@pytest.mark.parametrize("row", ROWS, ids=[row[0][4:30] for row in ROWS])
def test_each_wait_is_where_the_page_says(row: list[str]) -> None:
    """The file exists, and the names are its own."""
    text = ""
    for word in re.findall(r"`([^`]+)`", row[1]):
        if word.endswith(".py"):
            text = (ROOT / word).read_text(encoding="utf-8")
        else:
            assert word.rpartition(".")[2] in text, word


def test_each_wait_that_can_be_switched_off_is_on_the_page() -> None:
    """The page describes every wait that the benchmark measures."""
    described = {re.sub(r"[*.|]", "", row[0]).strip().lower() for row in ROWS}
    for name in WAITS:
        assert any(each.startswith(name) for each in described), name
