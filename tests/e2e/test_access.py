"""Tokens, principals, cookies and tickets over real HTTP and WebSocket, on direct and on plain connections."""

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.access import TOKENS, WAYS, Client, Served, serving, write_tokens
from tests.e2e.viewers import client_of, say
from tests.timing import PATIENCE

PUBLIC = ("/", "/client", "/health", "/ready", "/openapi.json", "/schemas/event.json", "/static/app.js")
PRIVATE = (
    ("GET", "/runs"),
    ("GET", "/runs/{}"),
    ("GET", "/runs/{}/events"),
    ("GET", "/sessions/mine"),
    ("GET", "/test-stream"),
    ("GET", "/nowhere"),
    ("GET", "/metrics"),
    ("GET", "/static"),
    ("GET", "/client/x"),
    ("POST", "/ask"),
    ("POST", "/ask-stream"),
    ("POST", "/runs"),
    ("POST", "/runs/{}/cancel"),
    ("POST", "/runs/{}/input"),
    ("POST", "/runs/{}/ticket"),
    ("POST", "/logout"),
    ("DELETE", "/runs/{}"),
    ("DELETE", "/sessions/mine"),
)
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}


@pytest.fixture(scope="module", params=WAYS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serving(folder, ASKSTREAM_DIRECT=WAYS[request.param], LOG_LEVEL="DEBUG") as server:
        yield server


async def refused_socket(client: Client, query: str = "", **headers: str) -> int:
    """Return the status with which a handshake is refused."""
    with pytest.raises(InvalidStatus) as refused:
        async with client.socket(query, **headers):
            pass
    return refused.value.response.status_code


async def test_without_a_token_only_the_public_addresses_answer(served: Served) -> None:
    """A refusal says how to come back, and nothing has been started."""
    nobody = served.as_(None)
    for path in PUBLIC:
        assert (await nobody.send("GET", path)).status_code in (200, 307), path
    for method, path in PRIVATE:
        answer = await nobody.send(
            method, path.format("0" * 32), json={"question": "9 9"} if method == "POST" else None
        )
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
        assert (answer.json()["code"], answer.headers["cache-control"]) == ("unauthorized", "no-store")
    assert await refused_socket(nobody) == 401


@pytest.mark.parametrize("header", ["Bearer wrong", "Bearer", f"Basic {TOKENS['alice']}", f"Bearer {TOKENS['alice']}x"])
async def test_a_wrong_token_is_none(served: Served, header: str) -> None:
    wrong = Client(served.url, {"Authorization": header})
    assert (await wrong.send("GET", "/runs")).status_code == 401
    assert await refused_socket(wrong) == 401
    assert (await wrong.send("GET", f"/runs?token={TOKENS['alice']}")).status_code == 401, "no token in an address"


async def test_another_principals_run_is_not_there(served: Served) -> None:
    """For each command, over both transports; also its session, and its idempotency key."""
    alice, bob = served.as_("alice"), served.as_("bob")
    run_id = await alice.start(session_id="mine", idempotency_key="k")
    for method, path in PRIVATE:
        if "{}" in path or "sessions" in path:
            body = {"request_id": "x", "value": 1} if path.endswith("input") else None
            answer = await bob.send(method, path.format(run_id), json=body)
            expected = "session_not_found" if "sessions" in path else "run_not_found"
            assert (answer.status_code, answer.json()["code"]) == (404, expected), (method, path)
    async with bob.socket() as ws:
        for command in ({"type": "subscribe"}, {"type": "cancel"}, {"type": "input", "request_id": "x", "value": 1}):
            reply = await say(ws, run_id=run_id, **command)
            assert reply["error"]["code"] == "run_not_found", command
    assert run_id not in (await bob.send("GET", "/runs?limit=200")).text
    own = await bob.start(session_id="mine", idempotency_key="k")
    assert own != run_id
    assert await alice.start(session_id="mine", idempotency_key="k") == run_id
    assert (await alice.send("GET", f"/runs/{run_id}")).json()["state"] == "running"
    for client, started in ((alice, run_id), (bob, own)):
        await client.send("POST", f"/runs/{started}/cancel")


async def test_an_administrator_lists_shows_and_cancels_everybodys_runs(served: Served) -> None:
    """No more than that: the events and the answers stay their principal's."""
    alice, ops = served.as_("alice"), served.as_("ops")
    over_http, over_socket = await alice.start(), await alice.start()
    listed = (await ops.send("GET", "/runs?everyone=true&limit=200")).json()["runs"]
    assert {(run["run_id"], run["principal"]) for run in listed} >= {(over_http, "alice"), (over_socket, "alice")}
    first = (await ops.send("GET", "/runs?everyone=true&limit=1")).json()
    assert (await ops.send("GET", first["next"])).json()["runs"][0]["run_id"] == listed[1]["run_id"]
    assert "principal" not in (await alice.send("GET", f"/runs/{over_http}")).json()
    assert (await alice.send("GET", "/runs?everyone=true")).json()["code"] == "forbidden"
    assert (await ops.send("GET", "/runs")).json()["runs"] == []
    assert (await ops.send("GET", f"/runs/{over_http}/events")).status_code == 404
    assert (await ops.send("DELETE", f"/runs/{over_http}")).status_code == 404
    assert (await ops.send("POST", f"/runs/{over_http}/cancel")).status_code == 202
    async with ops.socket() as ws:
        assert (await say(ws, type="cancel", run_id=over_socket))["ok"]
        assert not (await say(ws, type="subscribe", run_id=over_socket))["ok"]
    for run_id in (over_http, over_socket):
        events = await alice.send("GET", f"/runs/{run_id}/events")
        assert '"event_type":"cancelled"' in events.text.splitlines()[-3]


async def log_in(client: Client, token: str) -> str:
    """Return the cookie with its attributes."""
    answer = await client.send("POST", "/login", json={"token": token})
    assert answer.status_code == 204, answer.text
    return answer.headers["set-cookie"]


async def test_a_browser_trades_its_token_for_a_cookie(served: Served) -> None:
    """The cookie is for this port only, and not for scripts; it works for requests, streams and sockets."""
    nobody, port = served.as_(None), served.url.rpartition(":")[2]
    set_cookie = await log_in(nobody, TOKENS["alice"])
    cookie, *attributes = set_cookie.split("; ")
    assert cookie.startswith(f"askstream_{port}=")
    assert set(attributes) == {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"}
    assert "Secure" in await log_in(served.as_(None, **{"X-Forwarded-Proto": "https"}), TOKENS["alice"])
    alice = served.as_(None, Cookie=f"other=1; {cookie}")
    run_id = await alice.start("2 0")
    assert run_id in (await served.as_("alice").send("GET", "/runs?limit=200")).text
    assert '"completed"' in (await alice.send("GET", f"/runs/{run_id}/events")).text
    async with alice.socket() as ws:
        assert (await say(ws, type="subscribe", run_id=run_id))["ok"]
    assert "Max-Age=0" in (await alice.send("POST", "/logout")).headers["set-cookie"]


async def test_a_cookie_that_we_did_not_sign_is_none(served: Served) -> None:
    """Another name, another principal, another purpose."""
    cookie = (await log_in(served.as_(None), TOKENS["alice"])).partition(";")[0]
    name, _, value = cookie.partition("=")
    run_id = await served.as_("alice").start("1 0")
    ticket = (await served.as_("alice").send("POST", f"/runs/{run_id}/ticket")).json()["ticket"]
    for forged in (f"askstream_1={value}", f"{cookie}x", f"{name}={value[:-1]}", f"{name}={ticket}", f"{name}=a.b"):
        client = served.as_(None, Cookie=forged)
        assert (await client.send("GET", "/runs")).status_code == 401, forged
        assert await refused_socket(client) == 401
    assert (await served.as_(None).send("GET", f"/runs/{run_id}?ticket={value}")).status_code == 401
    assert (await served.as_(None).send("POST", "/login", json={"token": "wrong"})).status_code == 401


async def test_a_ticket_shows_one_run_and_does_nothing(served: Served) -> None:
    """Its state and its events, over both transports."""
    alice, guest = served.as_("alice"), served.as_(None)
    run_id, other = await alice.start("3 0"), await alice.start("3 0")
    made = (await alice.send("POST", f"/runs/{run_id}/ticket")).json()
    query = f"?ticket={made['ticket']}"
    assert made["events"] == f"/runs/{run_id}/events{query}"
    assert (await guest.send("GET", f"/runs/{run_id}{query}")).json()["run_id"] == run_id
    assert (await guest.send("GET", made["events"])).text.count("\ndata: ") == 5
    for method, path in PRIVATE:
        if path not in ("/runs/{}", "/runs/{}/events") or method != "GET":
            answer = await guest.send(method, path.format(run_id) + query)
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), (method, path)
    assert (await guest.send("GET", f"/runs/{other}{query}")).status_code == 403
    async with guest.socket(query) as ws:
        assert (await say(ws, type="ping"))["ok"]
        for message in (
            {"type": "ask", "question": "1 0"},
            {"type": "cancel", "run_id": run_id},
            {"type": "input", "run_id": run_id, "request_id": "x", "value": 1},
            {"type": "subscribe", "run_id": other},
        ):
            assert (await say(ws, **message))["error"]["code"] == "forbidden", message
        assert (await say(ws, type="subscribe", run_id=run_id, after=4))["ok"]
        assert '"completed"' in cast(str, await ws.recv())


async def test_a_ticket_ends(served: Served) -> None:
    """After the time that was asked for, at most a week; and only a run of one's own has any."""
    alice, guest = served.as_("alice"), served.as_(None)
    run_id = await alice.start("600 0.05")
    path = f"/runs/{run_id}/ticket"
    assert (await served.as_("bob").send("POST", path)).status_code == 404
    for seconds in (0, 7 * 24 * 3600 + 1, "1"):
        assert (await alice.send("POST", path, json={"seconds": seconds})).status_code == 422
    assert (await alice.send("POST", path, json={"seconds": 7 * 24 * 3600})).status_code == 201
    events = (await alice.send("POST", path, json={"seconds": 1})).json()["events"]
    stream = Stream(guest, events)
    await stream.opened.wait()
    await asyncio.sleep(1)  # the ticket's time
    assert (await guest.send("GET", events)).status_code == 401
    assert await refused_socket(guest, events[events.index("?") :]) == 401
    assert await asyncio.wait_for(stream.is_cut, 3 * PATIENCE)
    await alice.send("POST", f"/runs/{run_id}/cancel")


async def close_code(ws: ClientConnection) -> int | None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await ws.recv()
    return ws.close_code


class Stream:
    """A stream that is being read, up to its end."""

    def __init__(self, client: Client, path: str) -> None:
        self.opened, self._client, self._path = asyncio.Event(), client, path
        self.is_cut = asyncio.create_task(self._read())

    async def _read(self) -> bool:
        """Return whether it was cut, as against completed."""
        try:
            async with (
                client_of(self._client.url) as client,
                client.stream("GET", self._path, headers=self._client.headers) as response,
            ):
                async for _ in response.aiter_raw():
                    self.opened.set()
        except httpx2.TransportError:
            return True
        return False


async def test_foreign_pages_can_do_nothing(served: Served) -> None:
    """With a token in hand as well as without: the origin isn't listed. Over a socket nothing is opened."""
    run_id = await served.as_("alice").start()
    ticket = (await served.as_("alice").send("POST", f"/runs/{run_id}/ticket")).json()["ticket"]
    foreign = {"Origin": "https://evil.example"}
    for headers in (foreign, CROSS_SITE, {"Origin": "null"}):
        for name in ("alice", None):
            client = served.as_(name, **headers)
            for method, path in (
                ("GET", "/test-stream"),
                ("POST", f"/runs/{run_id}/cancel"),
                ("GET", "/runs"),
                ("GET", "/"),
            ):
                answer = await client.send(method, path)
                assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed"), (headers, path)
                assert "access-control-allow-origin" not in answer.headers
    assert (await Client(served.url, foreign).send("GET", f"/runs/{run_id}?ticket={ticket}")).status_code == 403
    for name in ("alice", None):
        assert await refused_socket(served.as_(name, **foreign)) == 403
    assert await refused_socket(served.as_(None, **foreign), f"?ticket={ticket}") == 403
    assert (await served.as_("alice").send("GET", f"/runs/{run_id}")).json()["state"] == "running"
    await served.as_("alice").send("POST", f"/runs/{run_id}/cancel")


async def test_a_listed_page_can_read_why_it_was_refused(served: Served) -> None:
    """Its preflight needs no token. A page on this machine is listed by default, whatever its port."""
    page = {"Origin": "http://localhost:3000"}
    preflight = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    allowed = await Client(served.url, preflight).send("OPTIONS", "/runs")
    assert (allowed.status_code, allowed.headers["access-control-allow-headers"]) == (200, "authorization")
    for client, status in ((served.as_(None, **page), 401), (served.as_("alice", **page), 200)):
        answer = await client.send("GET", "/runs")
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, page["Origin"])
    async with served.as_("alice", **page).socket() as ws:
        assert (await say(ws, type="ping"))["ok"]
    foreign = await Client(served.url, {**preflight, "Origin": "https://evil.example"}).send("OPTIONS", "/runs")
    assert foreign.status_code == 400


async def test_what_is_private_is_kept_nowhere(served: Served) -> None:
    """In no cache, and no browser guesses its type."""
    alice = served.as_("alice")
    run_id = await alice.start("1 0")
    for path in ("/runs", f"/runs/{run_id}", "/nowhere", f"/runs/{run_id}/events"):
        answer = await alice.send("GET", path)
        assert "no-store" in answer.headers["cache-control"], path
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await alice.send("GET", "/static/app.js")).headers["cache-control"] == "no-cache"


async def test_a_revoked_token_ends_its_cookies_at_once_and_its_streams_soon(served: Served) -> None:
    """The file is read again; nobody restarts the server. Bob's stay."""
    alice, bob = served.as_("alice"), served.as_("bob")
    run_id = await alice.start()
    cookie = (await log_in(served.as_(None), TOKENS["alice"])).partition(";")[0]
    ticket = (await alice.send("POST", f"/runs/{run_id}/ticket")).json()["events"]
    with_cookie, guest = served.as_(None, Cookie=cookie), served.as_(None)
    try:
        async with alice.socket() as ws, with_cookie.socket() as by_cookie, bob.socket() as bobs:
            path = f"/runs/{run_id}/events"
            streams = [Stream(*read) for read in ((alice, path), (with_cookie, path), (guest, ticket))]
            for stream in streams:
                await stream.opened.wait()
            assert (await say(ws, type="subscribe", run_id=run_id))["ok"]
            write_tokens(served.file, "bob", "ops")
            for client in (alice, with_cookie):
                assert (await client.send("GET", "/runs")).status_code == 401
                assert await refused_socket(client) == 401
            assert (await guest.send("GET", ticket)).status_code == 401
            async with asyncio.timeout(15):
                assert [await stream.is_cut for stream in streams] == [True, True, True]
                for socket in (ws, by_cookie):
                    assert await close_code(socket) == 4001
            assert (await say(bobs, type="ping"))["ok"]
    finally:
        write_tokens(served.file, *TOKENS)
    assert (await alice.send("POST", f"/runs/{run_id}/cancel")).status_code == 202


async def test_the_log_has_principals_and_no_secrets(served: Served) -> None:
    """Even where everything is logged, handshakes included."""
    alice, token = served.as_("alice"), TOKENS["alice"]
    run_id = await alice.start("1 0")
    cookie = (await log_in(served.as_(None), token)).partition(";")[0]
    made: dict[str, Any] = (await alice.send("POST", f"/runs/{run_id}/ticket")).json()
    await served.as_(None).send("GET", made["events"])
    for client, query in (
        (alice, ""),
        (served.as_(None, Cookie=cookie), ""),
        (served.as_(None), f"?ticket={made['ticket']}"),
    ):
        async with client.socket(query) as ws:
            assert (await say(ws, type="ping"))["ok"]
    await served.as_(None, Authorization="Bearer wrong-token").send("GET", "/runs")
    await served.as_(None).send("POST", "/login", json={"token": "wrong-token"})
    output = served.process.output
    assert re.search(rf"INFO - run={run_id} principal=alice\n", output)
    assert "principal=alice signed in" in output
    for secret in (token, cookie.partition("=")[2], made["ticket"], "wrong-token"):
        assert secret not in output
    assert json.dumps(token) not in output
