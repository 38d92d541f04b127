"""Clients that ask, cancel and answer, over either transport, and retry until the server acknowledges."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

from askstream.transports.framing import Decoder
from tests.chaos.host import RETRY_SECONDS, Host, Lost, faults
from tests.chaos.viewers import client, opened_socket, received

T = TypeVar("T")


@dataclass(slots=True)
class AskedRun:
    """A run's request. `accepted` has the acknowledged answers by input request."""

    run_id: str
    key: str
    question: str
    accepted: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    stopped: bool = False


async def ask(host: Host, question: str, key: str, chance: Random, **fields: Any) -> AskedRun:
    """Ask with an idempotency key until there is a run, each time in another way."""
    body = {"question": question, "idempotency_key": key, **fields}
    run_id = await retry(lambda: chance.choices((_post, _stream, _socket, _await), (3, 3, 3, 1))[0](host, body))
    return AskedRun(run_id, key, question)


async def stop(host: Host, asked: AskedRun, chance: Random) -> None:
    """Cancel until the server acknowledges it."""

    async def once() -> None:
        if chance.random() < 0.5:
            await _posted(host, f"/runs/{asked.run_id}/cancel", None, {200, 202})
        else:
            reply = await _reply_to(host, {"type": "cancel", "run_id": asked.run_id})
            assert reply["ok"], reply

    await retry(once)
    asked.stopped = True


async def answer(host: Host, asked: AskedRun, request_id: str, chance: Random) -> None:
    """Let three clients answer at once, two of them alike. At most one value may be acknowledged."""
    accepted = asked.accepted.setdefault(request_id, set())

    async def one(value: str) -> None:
        if await retry(lambda: _answered(host, asked.run_id, request_id, value, over_http=chance.random() < 0.5)):
            accepted.add(value)

    await asyncio.gather(*(one(value) for value in ("yes", "no", "yes")))
    assert len(accepted) <= 1, f"two answers were accepted: {accepted}"


async def retry(call: Callable[[], Awaitable[T]]) -> T:
    """Retry until no fault interrupts; a repeated effect is then the server's bug."""
    while True:
        try:
            return await call()
        except Lost:
            await asyncio.sleep(RETRY_SECONDS)


async def _post(host: Host, body: dict[str, Any]) -> str:
    answer = await _posted(host, "/runs", body, {202})
    return answer["run_id"]


async def _await(host: Host, body: dict[str, Any]) -> str:
    """Wait for the run's whole answer; it may also have failed or been cancelled."""
    async with client(await host.url()) as http:
        with faults():
            answer = await http.post("/ask", json=body)
    if answer.status_code == 503 or answer.json().get("code") == "session_busy":
        raise Lost(answer.text)
    assert answer.status_code in {200, 409, 502}, answer.text
    return answer.headers["X-Run-Id"]


async def _stream(host: Host, body: dict[str, Any]) -> str:
    """Read the first event and disconnect."""
    decoder = Decoder()
    async with client(await host.url()) as http:
        with faults():
            async with http.stream("POST", "/ask-stream", json=body) as response:
                if response.status_code in {409, 503}:
                    raise Lost("draining, or a busy session")
                assert response.status_code == 200, response.status_code
                async with aclosing(response.aiter_raw()) as parts:
                    async for part in parts:
                        for message in decoder.feed(part):
                            event = json.loads(message.data)["event"]
                            assert event.get("id", 1) == 1, "a run is streamed from its first event"
                            return response.headers["X-Run-Id"]
    raise Lost("nothing came")


async def _socket(host: Host, body: dict[str, Any]) -> str:
    reply = await _reply_to(host, {"type": "ask", **body})
    if not reply["ok"] and reply["error"]["code"] in {"draining", "session_busy"}:
        raise Lost(reply["error"]["code"])
    assert reply["ok"], reply
    return reply["run_id"]


async def _answered(host: Host, run_id: str, request_id: str, value: str, *, over_http: bool) -> bool:
    """Whether the server accepted this answer. Another may have come first, or it was too late."""
    fields = {"request_id": request_id, "value": value}
    if over_http:
        code = (await _posted(host, f"/runs/{run_id}/input", fields, {200, 409, 410})).get("code")
    else:
        code = (await _reply_to(host, {"type": "input", "run_id": run_id, **fields})).get("error", {}).get("code")
    assert code in {None, "input_conflict", "input_expired"}, code
    return code is None


async def _posted(host: Host, path: str, body: dict[str, Any] | None, expected: set[int]) -> dict[str, Any]:
    async with client(await host.url()) as http:
        with faults():
            answer = await http.post(path, json=body)
    if answer.status_code == 503 or answer.json().get("code") == "session_busy":
        raise Lost(answer.text)
    assert answer.status_code in expected, f"{path}: {answer.status_code} {answer.text}"
    return answer.json()


async def _reply_to(host: Host, message: dict[str, Any]) -> dict[str, Any]:
    """The reply to one message, on a new socket."""
    async with opened_socket(await host.url()) as ws:
        with faults():
            await ws.send(json.dumps({**message, "ref": "it"}))
            while (reply := json.loads(await received(ws)).get("reply", {})).get("ref") != "it":
                pass
            return reply
