"""Servers with OpenAI's API that deviate from it are read right, with the settings that docs/models.md has for them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from autogen_core.models import ChatCompletionClient

from askstream.agents.models import ModelSettings, connect
from askstream.agents.quirks import AnswerRepair
from askstream.server.events import AgentThinking, ToolExecution, Usage
from askstream.server.events.errors import RunFailed
from askstream.server.settings import Settings, model
from tests.agents.fake_provider import Body, Reply, provider
from tests.agents.sample_teams import Recorder, agent, answered, orchestrator, task

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def chunk(delta: Body | None, finish: str | None = None, **more: Any) -> Body:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, **more}


def raw(*chunks: Body, done: bool = True) -> Reply:
    lines = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks]
    return Reply(raw=b"".join([*lines, b"data: [DONE]\n\n"] if done else lines))


def call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> Body:
    piece: Body = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [piece | ({} if index is None else {"index": index}) | {"id": call_id}]}


def whole(index: int | None, at: str, call_id: str | None, arguments: Any = None) -> Body:
    return call(index, call_id, "look", arguments or json.dumps({"at": at}))


OLLAMA = [
    raw(
        chunk({"role": "assistant", "content": "", "reasoning": "Let me "}),
        chunk({"role": "assistant", "content": "", "reasoning": "look."}),
        chunk({"content": "", **whole(0, "x", "call_a")}),
        chunk({"content": "", **whole(0, "y", "call_b")}),
        chunk({"role": "assistant", "content": ""}, "tool_calls"),
        chunk(None, usage=USAGE),
    ),
    raw(
        chunk({"role": "assistant", "content": "It is "}),
        chunk({"role": "assistant", "content": "42."}),
        chunk({"role": "assistant", "content": ""}, "stop"),
        chunk(None, usage=USAGE),
    ),
]
VLLM = [
    raw(
        chunk({"role": "assistant", "content": ""}, usage=USAGE),
        chunk({"reasoning": "Let me "}, usage=USAGE),
        chunk({"reasoning": "look."}, usage=USAGE),
        chunk(call(0, "chatcmpl-tool-1", "look", "")),
        chunk(call(0, None, None, '{"at": ')),
        chunk(call(0, None, None, '"x"}')),
        chunk(call(1, "chatcmpl-tool-2", "look", '{"at": "y"}')),
        chunk({"content": ""}, "stop"),
        chunk(None, usage=USAGE),
    ),
    raw(
        chunk({"content": "It is "}),
        chunk({"content": "42."}),
        chunk({}, "stop", stop_reason=151645),
        chunk(None, usage=USAGE),
    ),
]
LLAMA_CPP = [
    raw(
        chunk({"role": "assistant", "content": None}),
        chunk({"reasoning_content": "Let me look."}),
        chunk(call(0, "Zr1", "look", "{")),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '"at":"x"}'}}]}),
        chunk(call(1, "Zr2", "look", '{"at":"y"}')),
        chunk({}, "tool_calls", usage=USAGE, timings={"prompt_n": 10}),
    ),
    raw(chunk({"content": "It is "}), chunk({"content": "42."}), chunk({}, "stop", usage=USAGE, timings={})),
]
LM_STUDIO = [
    raw(
        chunk({"role": "assistant", "content": "<think>Let me"}),
        chunk({"role": "assistant", "content": " look.</think>\n\n"}),
        chunk(call(0, "1", "look", "")),
        chunk(call(0, "1", "look", '{"at": "x"}')),
        chunk(call(1, "2", "look", '{"at": "y"}')),
        chunk({}, "tool_calls"),
        chunk(None, usage=USAGE),
    ),
    raw(chunk({"content": "It is 42."}), chunk(None, usage=USAGE)),  # no reason for the end
]
MISTRAL = [
    raw(chunk({"role": "assistant", "content": "Let me look."}), chunk({"content": "", "tool_calls": [
        {"id": "aaa", "function": {"name": "look", "arguments": {"at": "x"}}, "index": 0},
        {"id": "bbb", "function": {"name": "look", "arguments": {"at": "y"}}, "index": 0},
    ]}, "tool_calls", usage=USAGE)),
    raw(chunk({"content": "It is 42."}, "stop", usage=USAGE)),
]  # fmt: skip
SERVERS = {"Ollama": OLLAMA, "vLLM": VLLM, "llama.cpp": LLAMA_CPP, "LM Studio": LM_STUDIO, "Mistral": MISTRAL}


def recipe(title: str, base_url: str) -> ModelSettings:
    """The settings of a server's block in docs/models.md, for another address."""
    block = PAGE.partition(f"## {title}\n")[2].partition("```sh\n")[2].partition("```")[0]
    variables = dict(re.findall(r"^export (\w+)=(\S+)$", block, re.MULTILINE))
    assert {"OPENAI_BASE_URL", "ASKSTREAM_MODEL"} <= set(variables)
    variables["OPENAI_BASE_URL"] = base_url
    with pytest.MonkeyPatch.context() as patch:
        for name, text in variables.items():
            patch.setenv(name, text)
        return model(Settings())


def strict(title: str, replies: list[Reply]) -> Any:
    """The server; Mistral's refuses fields that it doesn't know."""

    def script(body: Body, number: int) -> Reply:
        unknown = "stream_options" in body or any(
            "name" in each and each["role"] != "tool" for each in body["messages"]
        )
        return Reply(status=422, error={"message": "extra"}) if title == "Mistral" and unknown else replies[number]

    return script


@pytest.mark.parametrize("title", SERVERS)
async def test_a_team_works_with_each_server(title: str) -> None:
    """With the recipe's settings: two tool calls at once, thoughts, the answer and the usage."""

    async def look(at: str) -> str:
        """Looks."""
        return f"{at} seen"

    sink = Recorder()

    async with provider(strict(title, SERVERS[title])) as fake:
        client = connect(recipe(title, fake.base_url))

        def make(tap: ChatCompletionClient) -> object:
            return agent(tap, "A", tools=[look], reflect_on_tool_use=True)

        async with orchestrator(fake, make, client=client) as team:
            answer = answered(await team.run(task(), sink))
    ends = {body.call_id: (body.parameters, body.result) for body in sink.bodies(ToolExecution) if body.result}
    assert list(ends.values()) == [({"at": "x"}, "x seen"), ({"at": "y"}, "y seen")]
    assert answer.final_response == "It is 42."
    assert answer.usage == Usage(20, 10)
    thoughts = [draft.message for draft in sink.drafts if isinstance(draft.body, AgentThinking)]
    assert thoughts == ["Is A.", "Let me look."]


def test_every_server_of_the_page_is_tested() -> None:
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert titles == [*SERVERS, "Settings for other servers"]


def solo(client: ChatCompletionClient) -> object:
    return agent(client, "A")


async def test_a_mark_of_the_end_is_enough_and_without_one_the_answer_broke_off() -> None:
    """A stream has to end with a reason or with the mark."""
    pieces = [chunk({"content": "It is "}), chunk({"content": "42."})]
    for done in (True, False):
        async with provider([raw(*pieces, done=done)]) as fake, orchestrator(fake, solo) as team:
            if done:
                assert answered(await team.run(task(), Recorder())).final_response == "It is 42."
                continue
            with pytest.raises(RunFailed) as caught:
                await team.run(task(), Recorder())
            assert caught.value.code == "model_cut_short"


async def test_names_are_not_put_before_texts_unless_a_setting_asks_for_it() -> None:
    """Also for a server at another address."""

    def make(client: ChatCompletionClient) -> Any:
        from autogen_agentchat.teams import RoundRobinGroupChat

        return RoundRobinGroupChat([agent(client, "A"), agent(client, "B")], max_turns=2)

    async with provider([Reply(text=["Hello."])]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        async with orchestrator(fake, make, client=client) as team:
            await team.run(task(), Recorder())
    assert [(each.get("name"), each["content"]) for each in fake.requests[1]["messages"][1:]] == [
        ("user", "Why?"),
        ("A", "Hello."),
    ]


PIECES: dict[str, tuple[list[Body], list[tuple[str, str]]]] = {
    "no ids": ([whole(0, "x", None), whole(1, "y", "")], [("look", '{"at": "x"}'), ("look", '{"at": "y"}')]),
    "no index": ([whole(None, "x", "1"), whole(None, "y", "2")], [("look", '{"at": "x"}'), ("look", '{"at": "y"}')]),
    "neither": ([whole(None, "x", None), whole(None, "y", None)], [("look", '{"at": "x"}'), ("look", '{"at": "y"}')]),
    "a name in pieces": ([call(0, "1", "lo", ""), call(0, None, "ok", "{}")], [("look", "{}")]),
    "an object": ([whole(0, "x", "1", {"at": "x"})], [("look", '{"at": "x"}')]),
    "in turn": (
        [call(0, "1", "a", "{"), call(1, "2", "b", "{"), call(0, None, None, "}"), call(1, None, None, "}")],
        [("a", "{}"), ("b", "{}")],
    ),
}


@pytest.mark.parametrize(("deltas", "expected"), PIECES.values(), ids=PIECES)
def test_tool_calls_are_told_apart(deltas: list[Body], expected: list[tuple[str, str]]) -> None:
    """By index or id, whichever is there. Each call has one id."""
    repair, calls = AnswerRepair(), dict[int, list[str]]()
    for delta in deltas:
        for piece in repair.chunk(chunk(dict(delta)))["choices"][0]["delta"]["tool_calls"]:
            got = calls.setdefault(piece["index"], ["", "", ""])
            for place, text in enumerate((piece["id"], piece["function"]["name"], piece["function"]["arguments"])):
                got[place] += text or ""
    assert [(name, arguments) for _, name, arguments in calls.values()] == expected
    ids = [call_id for call_id, _, _ in calls.values()]
    assert all(ids)
    assert len(set(ids)) == len(ids)
