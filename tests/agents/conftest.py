"""The bundled warehouse, built once for all tests that read it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from askstream.agents.insights import warehouse


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The warehouse's file. Don't change it."""
    made = tmp_path_factory.mktemp("data") / "warehouse.db"
    warehouse.build(made)
    return made


@pytest.fixture
def data(path: Path) -> Iterator[sqlite3.Connection]:
    """The warehouse for plain SQL, without the tools."""
    connection = sqlite3.connect(path)
    yield connection
    connection.close()
