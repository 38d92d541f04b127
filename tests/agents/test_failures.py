"""Each way in which a provider fails ends a run with its own stable code, and its own words aren't shown."""

import inspect
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent, BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_core import CancellationToken
from autogen_core import Image as Picture
from autogen_core.models import ChatCompletionClient, UserMessage
from openai import OpenAIError
from PIL import Image

from askstream.server.events import AgentChunk
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Provider, Reply, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator, task

BROKEN = b'data: {"id": "c", "choices": [{"index": 0, "delta": {"conte\n\n'
NO_CHOICES = b'data: {"object": "chat.completion.chunk"}\n\ndata: [DONE]\n\n'
ERROR_INSIDE = b'data: {"error": {"message": "overloaded", "code": "server_error"}}\n\n'
HTML = b"<html><body>Welcome to my router</body></html>"

MISBEHAVIOURS = {
    "stream cut by the network": (Reply(text=["half "], cut=True), "model_cut_short"),
    "stream ends early but cleanly": (Reply(text=["half "], finish=None), "model_cut_short"),
    "nothing before the output limit": (Reply(thoughts=["hm"], finish="length"), "model_cut_short"),
    "nothing but thoughts": (Reply(thoughts=["hm"]), "model_empty"),
    "nothing but spaces": (Reply(text=[" ", "\n"]), "model_empty"),
    "refusal": (Reply(refusal="I can't help with that"), "model_refused"),
    "content filter": (Reply(text=["Wel"], finish="content_filter"), "model_refused"),
    "prompt filtered": (Reply(status=400, error={"message": "no", "code": "content_filter"}), "model_refused"),
    "wrong key": (Reply(status=401, error={"message": "Incorrect API key: sk-secret"}), "model_auth"),
    "key without the right": (Reply(status=403), "model_auth"),
    "unknown model": (Reply(status=404), "model_rejected_request"),
    "rejected request": (Reply(status=400), "model_rejected_request"),
    "too long a prompt": (Reply(status=400, error={"code": "context_length_exceeded"}), "model_context_full"),
    "too many requests": (Reply(status=429), "model_rate_limited"),
    "no credit": (Reply(status=429, error={"code": "insufficient_quota"}), "model_rate_limited"),
    "server error": (Reply(status=500), "model_unavailable"),
    "bad gateway": (Reply(status=502), "model_unavailable"),
    "error in the middle": (Reply(raw=ERROR_INSIDE), "model_unavailable"),
    "broken JSON": (Reply(raw=BROKEN), "model_bad_response"),
    "JSON of another kind": (Reply(raw=NO_CHOICES), "model_bad_response"),
    "a web page": (Reply(raw=HTML), "model_bad_response"),
    "nothing at all": (Reply(raw=b""), "model_bad_response"),
}


def agent(client: ChatCompletionClient) -> AssistantAgent:
    return AssistantAgent("Solo", client)


async def failure(fake: Provider, make: Callable[[ChatCompletionClient], object] = agent) -> RunFailed:
    async with orchestrator(fake, make) as team:
        with pytest.raises(RunFailed) as caught:
            await team.run(task(), Recorder())
    return caught.value


@pytest.mark.filterwarnings("ignore:No text content")  # AutoGen's, for an empty answer
@pytest.mark.parametrize(("reply", "code"), MISBEHAVIOURS.values(), ids=MISBEHAVIOURS)
async def test_each_misbehaviour_has_its_code(reply: Reply, code: str) -> None:
    """A run ends with the stable code of the failure and a sentence that names what to do."""
    async with provider([reply]) as fake:
        problem = await failure(fake)
    assert problem.code == code
    sentence = str(problem)
    assert sentence.endswith(".")
    assert any(word in sentence for word in ("Check", "check", "Ask", "ask", "Put")), "no word on what to do"
    assert "secret" not in sentence
    assert "Traceback" not in sentence


async def test_a_refused_connection_is_unreachable() -> None:
    async with provider([Reply()]) as fake:
        pass
    assert (await failure(fake)).code == "model_unreachable"


@pytest.mark.parametrize("reply", [Reply(hang=True), Reply(text=["half"], hang=True)], ids=["at first", "midway"])
async def test_a_provider_that_hangs_is_unavailable(reply: Reply) -> None:
    """The run ends after the timeout instead of hanging too."""
    async with provider([reply]) as fake, orchestrator(fake, agent, patience=0.3) as team:
        with pytest.raises(RunFailed) as caught:
            await team.run(task(), Recorder())
    assert caught.value.code == "model_unavailable"


class Looks(BaseChatAgent):
    """Shows its model an image. An AssistantAgent would leave it out for a model without vision."""

    def __init__(self, client: ChatCompletionClient) -> None:
        super().__init__("Looks", "Looks.")
        self._client = client

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        return (TextMessage,)

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        seen = UserMessage(content=[Picture(Image.new("RGB", (1, 1)))], source="user")
        result = await self._client.create([seen])
        return Response(chat_message=TextMessage(source=self.name, content=str(result.content)))

    async def on_reset(self, cancellation_token: CancellationToken) -> None: ...


async def test_a_model_without_vision_rejects_an_image() -> None:
    """AutoGen's client raises a ValueError, which is no fault of the team's."""
    async with provider([Reply(text=["a cat"])]) as fake:
        problem = await failure(fake, Looks)
    assert problem.code == "model_rejected_request"
    assert "can't read images" in str(problem)


async def test_text_before_the_cut_stays_visible() -> None:
    """A run whose answer broke off has failed, but its chunks were sent."""
    sink = Recorder()
    async with provider([Reply(text=["half ", "a "], cut=True)]) as fake, orchestrator(fake, agent) as team:
        with pytest.raises(RunFailed):
            await team.run(task(), sink)
    assert "".join(body.delta for body in sink.bodies(AgentChunk)) == "half a "
    assert sink.said() == []


async def test_a_rate_limit_is_waited_out_as_the_provider_asks() -> None:
    """429 with Retry-After is tried again, not sooner, and the run continues."""
    replies = [Reply(status=429, headers={"Retry-After": "1"}), Reply(text=["fine"])]
    async with provider(replies) as fake, orchestrator(fake, agent, wait_seconds=10) as team:
        began = time.monotonic()
        answer = await team.run(task(), Recorder())
    assert answered(answer).final_response == "fine"
    assert time.monotonic() - began >= 1
    assert len(fake.requests) == 2


async def test_an_error_after_the_first_piece_is_never_tried_again() -> None:
    """Half an answer followed by another one would be a text that no model wrote."""
    replies = [Reply(text=["half"], cut=True), Reply(text=["whole"])]
    async with provider(replies) as fake, orchestrator(fake, agent, wait_seconds=10) as team:
        with pytest.raises(RunFailed, match="broke off"):
            await team.run(task(), Recorder())
    assert len(fake.requests) == 1


async def test_an_untapped_client_keeps_its_codes() -> None:
    """A team with a client of its own fails with the same codes: the error's type is read from its text."""
    from askstream.agents.models import ModelSettings, connect

    async with provider([Reply(status=401)]) as fake:
        own = connect(ModelSettings(api_key="x", base_url=fake.base_url, model="m"))
        problem = await failure(fake, lambda _client: AssistantAgent("Solo", own))
        await own.close()
    assert problem.code == "model_auth"


async def test_an_error_of_the_team_itself_is_team_failed() -> None:
    """An error in a member's own code isn't blamed on the model, and isn't shown."""

    def broken(client: ChatCompletionClient) -> AssistantAgent:
        made = AssistantAgent("Solo", client)

        async def fails(*_: object) -> None:
            raise TypeError("the secret of the team")

        made.model_context.get_messages = fails  # type: ignore[method-assign]
        return made

    async with provider([Reply(text=["fine"])]) as fake:
        problem = await failure(fake, broken)
    assert problem.code == "team_failed"
    assert "secret" not in str(problem)


async def test_an_error_that_an_agent_caught_is_forgotten() -> None:
    """Only the error that ended the run counts."""

    def make(client: ChatCompletionClient) -> AssistantAgent:
        async def flaky() -> str:
            """Calls the model itself, and ignores its error."""
            try:
                await client.create([])
            except OpenAIError:
                return "it failed"
            return "it worked"

        return AssistantAgent("Solo", client, tools=[flaky], reflect_on_tool_use=True)

    replies = [Reply(calls=[("flaky", "{}")]), Reply(status=500), Reply(text=["got over it"])]
    async with provider(replies) as fake, orchestrator(fake, make) as team:
        answer = await team.run(task(), Recorder())
    assert answered(answer).final_response == "got over it"


class Careless(AssistantAgent):
    """A custom agent with a bug."""

    async def on_messages_stream(self, messages: object, cancellation_token: object) -> AsyncGenerator[Any]:
        raise KeyError("a secret")
        yield


async def test_the_log_names_the_line_of_an_agents_mistake(caplog: pytest.LogCaptureFixture) -> None:
    """AutoGen keeps only a text of an agent's error. All of it is logged, once, with its traceback and the agent."""
    async with provider([]) as fake:
        problem = await failure(fake, lambda client: Careless("Solo", client))
    assert problem.code == "team_failed"
    lines, first = inspect.getsourcelines(Careless.on_messages_stream)
    line = first + next(at for at, text in enumerate(lines) if "raise" in text)
    (logged,) = (record for record in caplog.records if record.name == "askstream.agents.failures")
    assert re.search(rf"run=r agent=Solo raised KeyError at .*test_failures\.py:{line}: ", logged.getMessage())
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], KeyError)
