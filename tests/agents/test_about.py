"""A team says what it is for: in attributes of its factory, or of its module."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from askstream.agents import about, loading
from askstream.server.runs.orchestrator import About


def test_the_factory_goes_before_its_module() -> None:
    factory = SimpleNamespace(title="Sales", starters=["one", "two"])
    module = SimpleNamespace(title="x", greeting="Hello", starters=["three"])
    assert about.read("t", factory, module) == About("Sales", "Hello", ("one", "two"))


def test_without_attributes_it_says_nothing() -> None:
    assert about.read("t", object(), None) == About()


@pytest.mark.parametrize("wrong", ["one text", [1, 2], print, {"a": "b"}, None])
def test_another_type_is_left_out_with_a_warning(wrong: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert about.read("t", SimpleNamespace(starters=wrong, title="T")) == About("T")
    assert "the team t: its starters is left out: expected a list of texts" in caplog.text


FACTORY = """
from autogen_agentchat.agents import AssistantAgent
from autogen_ext.models.replay import ReplayChatCompletionClient

greeting = "of the module"

def make():
    return AssistantAgent("A", ReplayChatCompletionClient(["a"]))

make.title = "of the factory"
team = make()
"""


@pytest.mark.parametrize(
    ("name", "title"), [("make", "of the factory"), ("team", "")], ids=["a factory", "a team that exists once"]
)
async def test_a_loaded_team_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, title: str) -> None:
    """Through a file and through a module, whatever the name means."""
    module = f"says_{name}"
    (tmp_path / f"{module}.py").write_text(FACTORY)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for spec in (f"{tmp_path / module}.py:{name}", f"{module}:{name}"):
        factory = await loading.load(spec)
        assert factory.about == About(title, "of the module")
