"""`create_app`: its arguments, its start and end, and that it changes nothing else."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from autogen_agentchat.teams import RoundRobinGroupChat
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

import askstream
from askstream.server.events.errors import RunFailed
from askstream.server.journal import NOBODY
from askstream.server.journal.memory import MemoryJournal
from tests.e2e.teams import Flooder
from tests.embedding.counting import Counting

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def client_of(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://localhost")


@pytest.fixture
def settings(tmp_path: Path) -> askstream.Settings:
    return askstream.Settings(data=tmp_path, journal="memory://", drain_seconds=0)


async def spoken(app: Application, scope: dict[str, Any], *received: Message) -> list[Message]:
    """Return the messages that the application sends."""
    sent: list[Message] = []
    waiting = list(received)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"path": "/ws", "headers": [], "query_string": b"", **scope}, receive, send)
    return sent


async def test_a_request_before_the_start_gets_503_with_advice(settings: askstream.Settings) -> None:
    """A common mistake: Starlette doesn't start an application that it mounts."""
    app = askstream.create_app(settings, orchestrator=Counting())
    host = FastAPI()
    host.mount("/ai", app)
    async with client_of(host) as client:
        refused = await client.get("/ai/health")
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert refused.json()["code"] == "not_started"
        assert "FastAPI(lifespan=askapp.lifespan)" in refused.json()["detail"]
        async with app.lifespan(host):
            assert (await client.get("/ai/health")).json() == {"status": "ok"}
        assert (await client.get("/ai/health")).json()["code"] == "not_started"


async def test_a_socket_before_the_start_is_refused_before_its_upgrade(settings: askstream.Settings) -> None:
    """With an HTTP response if the server can send one."""
    app = askstream.create_app(settings, orchestrator=Counting())
    connect = {"type": "websocket.connect"}
    assert await spoken(app, {"type": "websocket"}, connect) == [
        {"type": "websocket.close", "code": 1013, "reason": "The application has not been started"}
    ]
    start, body = await spoken(app, {"type": "websocket", "extensions": {"websocket.http.response": {}}}, connect)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert b'"not_started"' in body["body"]


async def test_a_server_starts_and_stops_it_by_the_lifespan_protocol(settings: askstream.Settings) -> None:
    app = askstream.create_app(settings, orchestrator=Counting())
    sent = await spoken(app, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_failed_start_reports_why(tmp_path: Path) -> None:
    app = askstream.create_app(askstream.Settings(data=tmp_path), team="no.such:team")
    (failed,) = await spoken(app, {"type": "lifespan"}, {"type": "lifespan.startup"})
    assert failed["type"] == "lifespan.startup.failed"
    assert "there is no module no" in failed["message"]


async def test_it_starts_again_after_its_end_but_not_twice_at_once(settings: askstream.Settings) -> None:
    """Tests of a host application start it for each test."""
    app = askstream.create_app(settings, orchestrator=Counting())
    for _ in range(2):
        async with app.lifespan():
            with pytest.raises(RuntimeError, match="started already"):
                async with app.lifespan():
                    pass
            async with client_of(app) as client:
                answer = await client.post("/ask", json={"question": "2 0"})
        assert answer.json()["message"]["content"] == "up to 2"


async def test_a_hosts_own_lifespan_works_together_with_ours(settings: askstream.Settings) -> None:
    app = askstream.create_app(settings, orchestrator=Counting())
    order: list[str] = []

    @asynccontextmanager
    async def lifespan(host: FastAPI) -> AsyncGenerator[None]:
        async with app.lifespan(host):
            order.append("host")
            yield
        order.append("end")

    host = FastAPI(lifespan=lifespan)
    host.mount("/ai", app)
    sent = await spoken(host, {"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert order == ["host", "end"]


async def test_a_hosts_failure_is_not_wrapped(settings: askstream.Settings) -> None:
    app = askstream.create_app(settings, orchestrator=Counting())
    with pytest.raises(LookupError):
        async with app.lifespan():
            raise LookupError


async def test_its_end_drains(settings: askstream.Settings) -> None:
    """Viewers are sent away before the run stops, and their answers end."""
    app = askstream.create_app(settings, orchestrator=Counting())
    sent: list[bytes] = []
    begun = asyncio.Event()

    async def receive() -> Message:
        return await asyncio.Future[Message]()

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))
        if b"agent_thinking" in sent[-1]:
            begun.set()

    async with client_of(app) as client, app.lifespan():
        run_id = (await client.post("/runs", json={"question": "600 0.1"})).json()["run_id"]
        scope: Scope = {
            "type": "http",
            "method": "GET",
            "path": f"/runs/{run_id}/events",
            "headers": [(b"host", b"localhost")],
            "query_string": b"",
            "client": ("127.0.0.1", 50000),
        }
        watching = asyncio.create_task(app(scope, receive, send))
        await asyncio.wait_for(begun.wait(), 10)
    await asyncio.wait_for(watching, 10)
    assert b'"drain"' in sent[-2]
    assert sent[-1] == b""


async def test_a_second_drain_waits_for_the_first_and_adds_nothing(settings: askstream.Settings) -> None:
    """A signal starts one, and the server's shutdown the other. A second signal ends the first."""
    app = askstream.create_app(settings.model_copy(update={"drain_seconds": 600}), orchestrator=Counting())
    async with app.open() as service, client_of(app) as client:
        await client.post("/runs", json={"question": "6000 0.1"})
        first = asyncio.create_task(service.drain())
        second = asyncio.create_task(service.drain())
        done, _ = await asyncio.wait({first, second}, timeout=0.1)
        assert not done
        first.cancel()
        await asyncio.wait_for(second, 10)


async def test_a_team_is_a_function_or_its_name(tmp_path: Path, settings: askstream.Settings) -> None:
    """It is called for each run, and twice as a check."""
    made: list[Any] = []

    def make() -> Any:
        made.append(RoundRobinGroupChat([Flooder("Flooder")], max_turns=1))
        return made[-1]

    for team in (make, "tests.e2e.teams:flooding"):
        app = askstream.create_app(settings, team=team)
        async with app.lifespan(), client_of(app) as client:
            answer = await client.post("/ask", json={"question": "?"})
            assert answer.json()["message"]["content"] == "x" * 100_000
            assert "chosen by" in (await client.get("/runs")).json()["runs"][0]["model"]
    assert len(made) == 3


async def test_a_factory_learns_who_asks_in_which_session(settings: askstream.Settings) -> None:
    given: list[tuple[str, str]] = []

    def make(session_id: str, principal: str) -> Any:
        given.append((session_id, principal))
        return RoundRobinGroupChat([Flooder("Flooder")], max_turns=1)

    app = askstream.create_app(settings, team=make)
    async with app.lifespan(), client_of(app) as client:
        await client.post("/ask", json={"question": "?", "session_id": "monday"})
    assert given[2:] == [("monday", NOBODY)]


async def test_a_team_itself_is_copied_for_each_run(settings: askstream.Settings) -> None:
    """The original never runs: agents remember."""
    team = RoundRobinGroupChat([Flooder("Flooder")], max_turns=1)
    app = askstream.create_app(settings, team=team)
    async with app.lifespan(), client_of(app) as client:
        for _ in range(2):
            answer = await client.post("/ask", json={"question": "?"})
            assert answer.json()["message"]["content"] == "x" * 100_000
    assert not vars(team)["_initialized"]


async def test_an_orchestrator_is_an_object_or_its_name(settings: askstream.Settings) -> None:
    """And overrides the team of the settings, as each argument overrides its setting."""
    settings = settings.model_copy(update={"team": "no.such:team"})
    for orchestrator in (Counting(), "tests.embedding.counting:Counting"):
        app = askstream.create_app(settings, orchestrator=orchestrator)
        async with app.lifespan(), client_of(app) as client:
            answer = await client.post("/ask", json={"question": "2 0"})
        assert answer.json()["message"]["content"] == "up to 2"


async def test_a_team_that_cannot_be_made_is_refused_at_the_start(settings: askstream.Settings) -> None:
    def two(one: Any, other: Any) -> Any: ...

    with pytest.raises(RunFailed, match="needs one, other"):
        async with askstream.create_app(settings, team=two).lifespan():
            pass


def test_a_value_that_is_no_team_is_refused_at_once(settings: askstream.Settings) -> None:
    with pytest.raises(ValueError, match="expected a team, a function that makes one, or its name"):
        askstream.create_app(settings, team=object())  # pyright: ignore[reportArgumentType] - that is the mistake
    with pytest.raises(ValueError, match="got both"):
        askstream.create_app(settings, team="a:b", orchestrator=Counting())
    with pytest.raises(ValueError, match="the name of a transport"):
        askstream.create_app(settings, transports=["pigeon"])


class Unclosed(MemoryJournal):
    closed = False

    async def close(self) -> None:
        self.closed = True
        await super().close()


async def test_a_given_journal_is_left_to_its_owner(settings: askstream.Settings) -> None:
    """Its owner closes it, and may start the application on it again: nothing is lost."""
    journal = Unclosed()
    app = askstream.create_app(settings, orchestrator=Counting(), journal=journal)
    async with client_of(app) as client:
        async with app.lifespan():
            await client.post("/ask", json={"question": "1 0"})
        assert not journal.closed
        async with app.lifespan():
            assert len((await client.get("/runs")).json()["runs"]) == 1


async def test_a_journal_is_a_url_too(tmp_path: Path) -> None:
    settings = askstream.Settings(data=tmp_path / "data")
    app = askstream.create_app(settings, orchestrator=Counting(), journal=f"sqlite:///{tmp_path / 'mine.db'}")
    async with app.lifespan():
        assert (tmp_path / "mine.db").exists()
    assert not (tmp_path / "data" / "askstream.db").exists()


class Pigeon:
    def __init__(self, _context: Any) -> None: ...

    def routes(self) -> Sequence[BaseRoute]:
        async def coo(_request: Request) -> PlainTextResponse:
            return PlainTextResponse("coo")

        return [Route("/pigeon", coo)]


async def test_transports_are_names_or_factories(settings: askstream.Settings) -> None:
    """The given ones are used, and no others."""
    app = askstream.create_app(settings, orchestrator=Counting(), transports=["sse", Pigeon])
    async with app.lifespan(), client_of(app) as client:
        assert (await client.get("/pigeon")).text == "coo"
        assert (await client.get("/test-stream")).status_code == 200
        assert (await client.get("/ws")).status_code == 404


def test_creating_one_imports_no_autogen_and_opens_nothing(tmp_path: Path) -> None:
    program = (
        "import askstream, sys\n"
        "app = askstream.create_app()\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('autogen_core', 'autogen_ext', 'openai')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert list(tmp_path.iterdir()) == []


async def test_a_hosts_own_function_says_who_asks(settings: askstream.Settings) -> None:
    """Given as an object; it gets the facts of each request, also of one from this machine."""
    asked: list[askstream.RequestFacts] = []

    def by_header(facts: askstream.RequestFacts) -> str | None:
        asked.append(facts)
        return facts.header("x-user")

    app = askstream.create_app(settings, orchestrator=Counting(), auth=by_header)
    host = FastAPI(lifespan=app.lifespan)
    host.mount("/ai", app)
    async with app.lifespan(host), client_of(host) as client:
        started = await client.post("/ai/runs", json={"question": "1 0"}, headers={"X-User": "alice"})
        assert started.status_code == 202
        path = f"/runs/{started.json()['run_id']}"
        assert [
            (await client.get(f"/ai{path}", headers=headers)).status_code for headers in ({}, {"X-User": "bob"})
        ] == [401, 404]
    assert [(facts.method, facts.path) for facts in asked] == [("POST", "/runs"), ("GET", path), ("GET", path)]


async def test_an_application_can_demand_tokens_or_none(settings: askstream.Settings) -> None:
    """In place of the setting, and refused if it is unknown."""
    for auth, status in (("token", 401), ("none", 200), ("auto", 200)):
        app = askstream.create_app(settings, orchestrator=Counting(), auth=auth)
        async with app.lifespan(), client_of(app) as client:
            assert (await client.get("/runs")).status_code == status
    with pytest.raises(ValueError, match="authentication"):
        async with askstream.create_app(settings, orchestrator=Counting(), auth="tokens").lifespan():
            pass
