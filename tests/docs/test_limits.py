"""docs/limits.md has every limit on what a client sends and starts, with its setting and its default."""

import re
from pathlib import Path

import pytest

from askstream.server.connections import InboundLimits, PrincipalConnections
from askstream.server.events import errors
from askstream.server.runs import Limits
from askstream.server.settings import OTHER_DESCRIPTORS, Settings, exempt, inbound, limits

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
TABLE = [line.strip("|").split(" | ") for line in PAGE.splitlines() if "`ASKSTREAM_" in line]
ROWS = [[cell.strip() for cell in row] for row in TABLE if len(row) == 5]
CODES = {each.code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Refused)}
# Limits of a run's own course: docs and README name them elsewhere.
OF_A_RUN = {
    *("messages", "conversation_messages", "run_seconds", "silence_seconds", "event_bytes", "log_events", "log_bytes"),
    *("input_seconds", "orphan_seconds", "queued", "cancel_seconds", "exempt"),
}


def _field(row: list[str]) -> str:
    return row[2].strip("`").removeprefix("ASKSTREAM_").lower()


@pytest.mark.parametrize("row", ROWS, ids=[row[2] for row in ROWS])
def test_each_limit_has_its_default_and_its_code(row: list[str]) -> None:
    """The setting is passed on: a value of its own arrives in the limits."""
    field = Settings.model_fields[_field(row)]
    assert field.default == float(row[1])
    for code in re.findall(r"`([a-z_]+)`", row[3]):
        assert code in CODES
    assert row[4].strip("| ") in ("yes", "no")


def test_each_limit_is_on_the_page() -> None:
    """All fields of the limits of connections and of new runs."""
    named = {_field(row) for row in ROWS}
    wanted = set(InboundLimits.__dataclass_fields__) - {"body_bytes"} | set(Limits.__dataclass_fields__) - OF_A_RUN
    assert named == wanted | {"principal_connections", "question_characters"}


def test_each_setting_arrives_where_it_is_enforced() -> None:
    """With a value of its own for each."""
    fields = [_field(row) for row in ROWS]
    settings = Settings(**{field: 2 + number for number, field in enumerate(fields)})  # pyright: ignore[reportArgumentType]
    made = {**_values(inbound(settings)), **_values(limits(settings))}
    for field in set(fields) - {"principal_connections", "question_characters"}:
        assert made[field] == getattr(settings, field), field
    assert exempt(settings) == {"anonymous"}
    assert exempt(Settings(limit_anonymous=True)) == frozenset()
    PrincipalConnections(1, exempt(settings)).enter("anonymous")


def _values(made: InboundLimits | Limits) -> dict[str, object]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}


def test_descriptors_bound_the_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's limit may change while the server runs; the one at its start counts."""
    import resource

    def few(_kind: int) -> tuple[int, int]:
        return 1024, 4096

    monkeypatch.setattr(resource, "getrlimit", few)
    assert inbound(Settings()).connections == 1024 - OTHER_DESCRIPTORS
    assert inbound(Settings(connections=7)).connections == 7
