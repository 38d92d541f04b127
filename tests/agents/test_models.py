"""Settings become a client of the right kind, for any server with the API, and keys aren't shown."""

import re
from dataclasses import replace
from typing import Any

import pytest
from autogen_core.models import UserMessage
from openai.types.chat.completion_create_params import CompletionCreateParamsBase

from askstream.agents.models import DEFAULT_MODEL, NO_KEY, REQUEST_OPTIONS, BadModelSettings, ModelSettings, connect
from askstream.agents.provider import AzureClient, OpenAIClient
from tests.agents.fake_provider import Reply, provider

AZURE = ModelSettings(
    azure_endpoint="https://x.openai.azure.com",
    azure_api_key="sk-azure",
    azure_api_version="2025-01-01",
    azure_deployment="mine",
)


def test_without_settings_the_offline_analyst_answers() -> None:
    """A model's name alone doesn't say how to reach it."""
    assert ModelSettings().kind == "offline"
    assert ModelSettings(model="gpt-4o").kind == "offline"


@pytest.mark.parametrize(
    "settings", [ModelSettings(api_key="x"), ModelSettings(base_url="http://localhost:1/v1"), AZURE]
)
def test_a_key_or_an_address_means_a_real_model(settings: ModelSettings) -> None:
    """Either is enough; Azure wins if it is named."""
    client = connect(settings)
    assert isinstance(client, AzureClient if settings.kind == "azure" else OpenAIClient)


def test_the_model_has_a_name_before_any_call() -> None:
    """The one that was asked for, Azure's deployment, or the default."""
    assert ModelSettings(api_key="x").name == DEFAULT_MODEL
    assert ModelSettings(api_key="x", model="gpt-4o").name == "gpt-4o"
    assert AZURE.name == "mine"


def test_the_default_model_is_known() -> None:
    """AutoGen knows all that the team needs, so a key is enough."""
    info = connect(ModelSettings(api_key="x")).model_info
    assert info["function_calling"]
    assert info["family"] != "unknown"


def test_an_unknown_model_can_be_used_and_described() -> None:
    """Facts that AutoGen doesn't know are assumed; the operator's settings win."""
    assert connect(ModelSettings(api_key="x", model="qwen9:1b")).model_info["function_calling"]
    described = connect(ModelSettings(api_key="x", model="qwen9:1b", info={"vision": True, "family": "mine"}))
    assert (described.model_info["vision"], described.model_info["family"]) == (True, "mine")


def test_a_known_model_can_be_described_otherwise() -> None:
    """Only the facts in the settings change."""
    known = connect(ModelSettings(api_key="x", model="gpt-4o")).model_info
    told = connect(ModelSettings(api_key="x", model="gpt-4o", info={"vision": False})).model_info
    assert dict(told) == {**known, "vision": False}


@pytest.mark.parametrize(
    ("missing", "variable"),
    [
        ("azure_api_key", "AZURE_OPENAI_API_KEY"),
        ("azure_api_version", "OPENAI_API_VERSION"),
        ("azure_deployment", "AZURE_OPENAI_DEPLOYMENT"),
    ],
)
def test_incomplete_azure_settings_name_what_is_missing(missing: str, variable: str) -> None:
    """Before any library is imported."""
    with pytest.raises(BadModelSettings, match=variable):
        replace(AZURE, **{missing: None}).check()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelt fact": ({"info": {"function_caling": True}}, "MODEL_INFO has no 'function_caling': did you mean 'func"),
    "an unknown fact": ({"info": {"zzz": True}}, "MODEL_INFO has no 'zzz': there are context_window, family, "),
    "a fact of another kind": ({"info": {"vision": "no"}}, "expected vision to be true or false, got 'no'"),
    "a number that is none": ({"info": {"context_window": True}}, "expected context_window to be a number, got True"),
    "no context": ({"info": {"context_window": 0}}, "expected context_window to be above 0"),
    "a misspelt option": ({"options": {"max_token": 5}}, "MODEL_OPTIONS has no 'max_token': did you mean 'max_tokens'"),
    "what the server sets": ({"options": {"messages": []}}, "MODEL_OPTIONS has no 'messages'"),
    "no timeout": ({"options": {"timeout": 0}}, "expected timeout to be seconds above 0, got 0"),
    "half a retry": ({"options": {"retries": 0.5}}, "expected retries to be 0 or more, got 0.5"),
}


@pytest.mark.parametrize(("given", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_facts_and_options_are_a_sentence(given: dict[str, Any], sentence: str) -> None:
    """It names the setting, what came, and what there is."""
    with pytest.raises(BadModelSettings, match=re.escape(sentence)):
        ModelSettings(**given).check()


def test_every_option_of_the_library_can_be_set() -> None:
    """Apart from those that the team or this server decides."""
    known = set(CompletionCreateParamsBase.__annotations__)
    ours = {"messages", "model", "tools", "tool_choice", "functions", "function_call", "n"}
    assert known - ours == REQUEST_OPTIONS - {"extra_body"}


async def test_options_reach_the_server_with_each_request() -> None:
    """Also those that only some servers know; and one of none is left out."""
    options = {"max_tokens": 7, "temperature": 0, "extra_body": {"top_k": 3}, "stream_options": None, "retries": 1}
    settings = ModelSettings(model="m", options=options, info={"context_window": 512})
    settings.check()
    async with provider([Reply(text=["ok"])]) as fake:
        client = connect(replace(settings, base_url=fake.base_url))
        assert [piece async for piece in client.create_stream([UserMessage(content="x", source="user")])]
        await client.close()
    sent = fake.requests[0]
    assert (sent["max_tokens"], sent["temperature"], sent["top_k"]) == (7, 0, 3)
    assert not {"stream_options", "retries", "context_window"} & set(sent)
    assert "context_window" not in client.model_info


def test_a_timeout_is_for_the_first_token_and_for_later_ones() -> None:
    """The two settings are the finer way."""
    assert ModelSettings(options={"timeout": 5}).silence == (5, 5)
    assert ModelSettings(first_token_seconds=7, token_silence_seconds=3).silence == (7, 3)


def test_keys_are_not_shown() -> None:
    """Settings may be logged."""
    assert "sk-" not in repr(AZURE)
    assert "sk-" not in repr(ModelSettings(api_key="sk-mine"))


async def test_a_local_server_without_a_key_is_reached_past_any_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up key is sent, and a proxy of the environment isn't used for this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert NO_KEY
    async with provider([Reply(text=["ok"])]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="local"))
        result = await client.create([UserMessage(content="x", source="user")])
        await client.close()
    assert result.content == "ok"


@pytest.mark.parametrize(
    ("names", "name", "text"), [("field", "Ann", "x"), ("prefix", None, "Ann said:\nx"), ("none", None, "x")]
)
async def test_speakers_are_named_as_the_provider_accepts_it(names: str, name: str | None, text: str) -> None:
    """In a field, which some servers reject, in the text, or not at all."""
    async with provider([Reply(text=["ok"])]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="local", names=names))  # type: ignore[arg-type]
        await client.create([UserMessage(content="x", source="Ann")])
        await client.close()
    (message,) = fake.requests[0]["messages"]
    assert (message.get("name"), message["content"]) == (name, text)
