"""A model server that is away for a while is waited for, and its viewers know; one that stays away ends the run."""

import asyncio
from collections.abc import Callable

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import SelectorGroupChat
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient, UserMessage

from askstream.agents import calls
from askstream.agents.chunk_buffer import ChunkBuffer
from askstream.agents.model_errors import Absence
from askstream.agents.models import ModelSettings, connect
from askstream.agents.tap import ModelCalls, Tap
from askstream.agents.waits import FIRST_PAUSE, LONGEST_PAUSE, WaitPolicy, Waits
from askstream.server.events import AgentThinking
from askstream.server.events.errors import RunFailed
from tests.agents.fake_provider import Reply, provider
from tests.agents.sample_teams import Recorder, answered, orchestrator, task
from tests.timing import PATIENCE

AWAY = Absence("is away")
LOADING = {"code": 503, "message": "Loading model", "type": "unavailable_error"}
SSE_LOADING = b'data: {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}\n\n'


def pauses(policy: WaitPolicy, absent: Absence = AWAY, *, takes: float = 0.0) -> list[float]:
    """All pauses of a call whose every try fails after `takes` seconds."""
    waits, now, found = Waits(policy), 100.0, list[float]()
    while (pause := waits.next(absent, now)) is not None:
        found.append(pause)
        now += pause + takes
    return found


def test_pauses_grow_up_to_a_limit_and_fill_the_time() -> None:
    """The last try comes exactly when the time is over."""
    found = pauses(WaitPolicy(seconds=60))
    assert found[:5] == [0.5, 1, 2, 4, 8]
    assert max(found) == LONGEST_PAUSE
    assert sum(found) == 60


def test_time_that_the_tries_take_counts() -> None:
    assert sum(pauses(WaitPolicy(seconds=10), takes=2)) <= 10 - 2


def test_a_server_decides_how_long_to_wait() -> None:
    """Never sooner than it asks; one that asks for more than there is isn't waited for."""
    assert pauses(WaitPolicy(seconds=10), Absence("limits", 4)) == [4, 4]
    assert pauses(WaitPolicy(seconds=10), Absence("limits", 11)) == []


@pytest.mark.parametrize(("policy", "count"), [(WaitPolicy(seconds=0), 0), (WaitPolicy(seconds=60, retries=2), 2)])
def test_waiting_can_be_switched_off_or_counted(policy: WaitPolicy, count: int) -> None:
    assert len(pauses(policy)) == count


def test_chance_shortens_a_pause_by_a_fifth_at_the_most() -> None:
    """Runs that lost the same server don't come back together."""
    assert Waits(WaitPolicy()).next(AWAY, 0.0, 0.0) == FIRST_PAUSE * 0.8


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of a hundredth."""
    monkeypatch.setattr("askstream.agents.waits.FIRST_PAUSE", 0.01)


def tapped(client: ChatCompletionClient) -> AssistantAgent:
    return AssistantAgent("Solo", client)


def waiting_texts(sink: Recorder) -> list[str]:
    return [
        draft.message
        for draft in sink.drafts
        if isinstance(draft.body, AgentThinking) and draft.message.startswith("Waits for the model")
    ]


AWAYS = {
    "loading": (Reply(status=503, error=LOADING), "isn't ready (503)"),
    "limited": (Reply(status=429), "is limiting requests (429)"),
    "server error": (Reply(status=500), "failed (500)"),
    "bad gateway": (Reply(status=502), "failed (502)"),
    "dropped": (Reply(drop=True), "can't be reached"),
}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("own", [False, True], ids=["given client", "own client"])
@pytest.mark.parametrize(("reply", "what"), AWAYS.values(), ids=AWAYS)
async def test_a_server_that_is_away_is_waited_for(reply: Reply, what: str, own: bool) -> None:
    """The agent says so once for each pause, and then answers, also with a client of its own."""
    sink = Recorder()
    async with provider([reply, reply, Reply(text=["back"])]) as fake:
        brought = connect(ModelSettings(base_url=fake.base_url, model="m"))
        make: Callable[[ChatCompletionClient], AssistantAgent] = lambda client: tapped(brought if own else client)  # noqa: E731
        async with orchestrator(fake, make, wait_seconds=30) as team:
            assert answered(await team.run(task(), sink)).final_response == "back"
        await brought.close()
    assert len(fake.requests) == 3
    texts = waiting_texts(sink)
    assert len(texts) == 2
    assert all(what in text for text in texts)
    assert {draft.agent_name for draft in sink.drafts} == {"Solo"}


@pytest.mark.usefixtures("quick")
async def test_an_error_at_the_beginning_of_a_stream_is_waited_for_too() -> None:
    """Some servers have sent the status 200 by then."""
    replies = [Reply(raw=SSE_LOADING), Reply(text=["back"])]
    async with provider(replies) as fake, orchestrator(fake, tapped, wait_seconds=30) as team:
        assert answered(await team.run(task(), Recorder())).final_response == "back"


@pytest.mark.usefixtures("quick")
async def test_a_server_that_refuses_connections_is_waited_for() -> None:
    """It starts while the run waits."""
    sink = Recorder()
    async with provider([Reply()]) as gone:
        pass
    async with orchestrator(gone, tapped, wait_seconds=30) as team:
        running = asyncio.ensure_future(team.run(task(), sink))
        await sink.until(lambda draft: "can't be reached" in draft.message)
        assert not running.done()
        port = int(gone.base_url.split(":")[2].split("/")[0])
        async with provider([Reply(text=["here"])], port=port):
            assert answered(await asyncio.wait_for(running, PATIENCE)).final_response == "here"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("reply", [Reply(status=503), Reply(status=429), Reply(drop=True)], ids=["503", "429", "gone"])
async def test_a_server_that_stays_away_is_unavailable(reply: Reply) -> None:
    """After the wait there is one code, and a sentence with the last reason."""
    async with provider([reply]) as fake, orchestrator(fake, tapped, wait_seconds=0.1) as team:
        with pytest.raises(RunFailed, match=r"The model's server .*, still after 0 s\. Ask again later") as caught:
            await team.run(task(), Recorder())
    assert caught.value.code == "model_unavailable"
    assert len(fake.requests) > 2


NEVER = {
    "no credit": Reply(status=429, error={"code": "insufficient_quota"}),
    "wrong key": Reply(status=401),
    "unknown model": Reply(status=404),
    "rejected": Reply(status=400),
    "asked not to": Reply(status=500, headers={"x-should-retry": "false"}),
    "later than we wait": Reply(status=429, headers={"Retry-After": "3600"}),
    "full, with a server's error": Reply(status=500, error={"message": "Context size has been exceeded."}),
    "half an answer": Reply(text=["half"], cut=True),
}


@pytest.mark.parametrize("reply", NEVER.values(), ids=NEVER)
async def test_what_does_not_pass_is_not_waited_for(reply: Reply) -> None:
    """One request; the client library has no retries of its own either."""
    sink = Recorder()
    async with provider([reply]) as fake, orchestrator(fake, tapped, wait_seconds=30) as team:
        with pytest.raises(RunFailed):
            await asyncio.wait_for(team.run(task(), sink), PATIENCE)
    assert len(fake.requests) == 1
    assert waiting_texts(sink) == []


async def test_the_library_repeats_nothing_by_itself() -> None:
    """Its retries would double the time, and nobody would know."""
    async with provider([Reply(status=503)]) as fake, orchestrator(fake, tapped, wait_seconds=0) as team:
        with pytest.raises(RunFailed):
            await team.run(task(), Recorder())
    assert len(fake.requests) == 1


async def test_an_address_that_is_wrong_is_not_waited_for() -> None:
    async with provider([Reply()]) as fake:
        fake.base_url = "nothing://x"
        async with orchestrator(fake, tapped, wait_seconds=30) as team:
            with pytest.raises(RunFailed) as caught:
                await asyncio.wait_for(team.run(task(), Recorder()), PATIENCE)
    assert caught.value.code == "model_unreachable"


async def test_a_cancel_ends_a_wait_at_once() -> None:
    """The time that the server asked to wait doesn't matter."""
    sink = Recorder()
    reply = Reply(status=503, headers={"Retry-After": "50"})
    async with provider([reply]) as fake, orchestrator(fake, tapped, wait_seconds=60) as team:
        running = asyncio.ensure_future(team.run(task(), sink))
        await sink.until(lambda draft: draft.message.startswith("Waits for the model"))
        running.cancel()
        await asyncio.wait({running}, timeout=PATIENCE)
        assert running.cancelled()
    assert len(fake.requests) == 1


@pytest.mark.usefixtures("quick")
async def test_a_choice_of_the_next_speaker_waits_too() -> None:
    """It is nobody's turn: the system says that it waits."""

    def make(client: ChatCompletionClient) -> SelectorGroupChat:
        return SelectorGroupChat([AssistantAgent(name, client) for name in "AB"], client, max_turns=1)

    sink = Recorder()
    replies = [Reply(status=503), Reply(text=["B"]), Reply(text=["fine"])]
    async with provider(replies) as fake, orchestrator(fake, make, wait_seconds=30) as team:
        assert answered(await team.run(task(), sink)).final_response == "fine"
    assert sink.drafts[0].agent_name == calls.SYSTEM
    assert len(waiting_texts(sink)) == 1


async def test_a_cancelled_token_ends_a_wait_too() -> None:
    """AutoGen's own way to stop an agent."""
    sink, token = Recorder(), CancellationToken()
    reply = Reply(status=503, headers={"Retry-After": "50"})
    async with provider([reply]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        tap = Tap(client, ChunkBuffer(sink), ModelCalls())
        calling = asyncio.ensure_future(tap.create([UserMessage(content="x", source="user")], cancellation_token=token))
        await sink.until(lambda draft: draft.message.startswith("Waits for the model"))
        token.cancel()
        await asyncio.wait({calling}, timeout=PATIENCE)
        assert calling.cancelled()
        await client.close()
