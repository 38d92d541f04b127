"""Models that stumble, as clients see it over both transports, on a real server and a real socket to the model."""

from typing import Any

from tests.agents.fake_provider import Body, Reply, provider
from tests.e2e.conftest import ServerProcess, Start
from tests.e2e.viewers import ask, client_of, watch_both

FULL = {
    "code": 400,
    "message": "request (700 tokens) exceeds the available context size (512 tokens), try increasing it",
}
SOLO = ("--team", "tests.e2e.teams:solo")


def answer(body: Body, number: int) -> Reply:
    """A server that is away for the first two requests; then the question says what it does."""
    question = body["messages"][-1]["content"].split()[-1]
    if number < 2:
        return Reply(status=503, error={"code": 503, "message": "Loading model"})
    match question:
        case "full":
            return Reply(status=400, error=FULL)
        case "cut":
            return Reply(text=["half"], finish="length")
        case "hangs":
            return Reply(text=["half"], hang=True)
        case _:
            return Reply(thoughts=["hm"], text=["fine"], usage=None)


async def watched(server: ServerProcess, question: str) -> tuple[list[dict[str, Any]], str]:
    """The events of a run, the same over both transports, and its id."""
    run_id = await ask(server.url, question)
    return await watch_both(server.url, run_id), run_id


async def test_viewers_see_what_the_model_does(start: Start) -> None:
    """A wait, thoughts, unknown usage, a cut, a full context and a hang: each has its words on the wire."""
    async with provider(answer) as fake:
        server = start(*SOLO, OPENAI_BASE_URL=fake.base_url, ASKSTREAM_MODEL="m", ASKSTREAM_TOKEN_SILENCE_SECONDS="0.5")
        events, run_id = await watched(server, "fine")
        waits = [event for event in events if event["message"].startswith("Waits for the model")]
        assert [event["agent_name"] for event in waits] == ["Solo", "Solo"]
        assert all("isn't ready (503)" in event["message"] for event in waits)
        chunks = [event["data"] for event in events if event["event_type"] == "agent_chunk"]
        assert [chunk.get("thought") for chunk in chunks] == [True, None]
        (thought,) = [event for event in events if event["message"] == "hm"]
        assert thought["data"]["message_id"] == chunks[0]["message_id"]
        unknown = {"prompt_tokens": None, "completion_tokens": None}
        assert [e["data"]["usage"] for e in events if "usage" in e["data"]] == [unknown, unknown]
        async with client_of(server.url) as client:
            assert (await client.get(f"/runs/{run_id}")).json()["usage"] == unknown

        (*_, end), _ = await watched(server, "full")
        assert (end["event_type"], end["data"]["error"]) == ("error", "model_context_full")
        (*_, end), _ = await watched(server, "cut")
        assert end["data"]["final_response"].startswith("half\n\n[cut here")
        (*_, end), _ = await watched(server, "hangs")
        assert end["data"]["error"] == "model_unavailable"
        assert "then sent nothing for" in end["message"]
