"""An orchestrator from outside is found by its name, opened, and closed again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from askstream.server.events import Usage
from askstream.server.runs import Answer, Sink, Task
from askstream.server.runs.orchestrator import open_named

HERE = "tests.server.runs.test_orchestrator"
happened: list[str] = []


class Parrot:
    """Answers with the question. It is opened and closed."""

    model = "parrot"

    async def run(self, task: Task, sink: Sink) -> Answer:
        return Answer(final_response=task.question, total_messages=0, usage=Usage(), agent_name="Parrot")

    async def __aenter__(self) -> "Parrot":
        happened.append("opened")
        return self

    async def __aexit__(self, *_: object) -> None:
        happened.append("closed")


def made() -> Parrot:
    happened.append("made")
    return Parrot()


@asynccontextmanager
async def opened() -> AsyncGenerator[Parrot]:
    happened.append("opened")
    yield Parrot()
    happened.append("closed")


parrot = Parrot()
mute = type("Mute", (), {"model": "none"})()


@pytest.mark.parametrize(
    ("attribute", "does"),
    [("parrot", []), ("Parrot", []), ("made", ["made"]), ("opened", [])],
)
async def test_a_name_leads_to_an_object_or_to_its_maker(attribute: str, does: list[str]) -> None:
    """A context manager is entered before the first question, and exited after the last."""
    happened.clear()
    async with open_named(f"{HERE}:{attribute}") as orchestrator:
        assert orchestrator.model == "parrot"
        assert happened == [*does, "opened"]
    assert happened[-1] == "closed"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("no_such_module:it", "expected the name of an orchestrator.*no_such_module:it.*no module"),
        (f"{HERE}:mute", "the protocol Orchestrator of .*:mute', got a Mute, which has no run"),
        ("json:loads.__name__", "got a str, which has no model, run"),
    ],
)
async def test_a_name_that_leads_to_none_is_refused(spec: str, words: str) -> None:
    """The error names what is missing. It comes at the server's start, not at the first question."""
    with pytest.raises(ValueError, match=words):
        async with open_named(spec):
            pass
