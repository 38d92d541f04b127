"""A factory's arguments follow from the names and annotations of its parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any, Optional

import pytest
from autogen_core.models import ChatCompletionClient
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.models.replay import ReplayChatCompletionClient

from askstream.agents import arguments
from askstream.agents.arguments import RunArguments
from askstream.agents.autogen_internals import ask_person

OWN = ReplayChatCompletionClient([])
CLIENT = ReplayChatCompletionClient(
    [],
    model_info={
        "vision": False,
        "function_calling": True,
        "json_output": False,
        "family": "any",
        "structured_output": False,
    },
)
VALUES = RunArguments(model_client=CLIENT, input_func=ask_person, session_id="s1", principal="p1")


def called(make: Callable[..., Any]) -> Any:
    positional, named = arguments.bound(arguments.parameters(make), VALUES)
    return make(*positional, **named)


def all_by_name(model_client: Any, user_input_func: Any, input_func: Any, session_id: str, principal: str) -> Any:
    return model_client, user_input_func, input_func, session_id, principal


def by_annotation(judge: ChatCompletionClient, other: "ChatCompletionClient", third: OpenAIChatCompletionClient) -> Any:
    return judge, other, third


def by_union(judge: ChatCompletionClient | None, other: Optional[ChatCompletionClient] = None) -> Any:  # noqa: UP045
    return judge, other


# pyright: basic, reportUndefinedVariable=false
def unknown_annotation(model_client: "NeverImported", size: "Other" = 3) -> Any:  # noqa: F821
    return model_client, size


def any_others(*some: Any, session_id: str = "", **more: Any) -> Any:
    return some, session_id, more


def its_own(model_client: ChatCompletionClient = OWN, colour: str = "blue") -> Any:
    return model_client, colour


def positional(model_client: Any, /, *, principal: str) -> Any:
    return model_client, principal


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (all_by_name, (CLIENT, ask_person, ask_person, "s1", "p1")),
        (by_annotation, (CLIENT, CLIENT, CLIENT)),
        (by_union, (CLIENT, CLIENT)),
        (unknown_annotation, (CLIENT, 3)),
        (any_others, ((), "s1", {})),
        (its_own, (OWN, "blue")),
        (positional, (CLIENT, "p1")),
        (partial(all_by_name, principal="fixed"), (CLIENT, ask_person, ask_person, "s1", "p1")),
        (partial(its_own, model_client=OWN), (OWN, "blue")),
        (lambda session_id: session_id, "s1"),
        (dict, {}),
    ],
)
def test_each_parameter_gets_its_value(make: Callable[..., Any], expected: object) -> None:
    """A default that is a model client stays in use."""
    assert called(make) == expected


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda client: client, "client"),
        (lambda model_client, size: size, "size"),
        (lambda one, *, other: one or other, "one, other"),
    ],
)
def test_a_parameter_without_a_value_is_named(make: Callable[..., Any], names: str) -> None:
    """Today any single argument would be the model client; a team would fail with it at its first question."""
    with pytest.raises(ValueError, match=f"its factory needs {names}; it may need model_client .or one annotated"):
        arguments.parameters(make)
