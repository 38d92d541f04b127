"""WebSocket: many runs over one socket. Commands come in; the same envelopes as on every transport go out.

The shell around protocol.py: it passes the client's messages in, performs the effects, and passes their results back.
It has a task only while there is something to do. protocol.py has the order of these steps.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import partial
from math import ceil
from time import monotonic
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from askstream.server.auth import Access
from askstream.server.bus import Viewer
from askstream.server.connections import SocketConnection, SocketRoute
from askstream.server.events.errors import AskstreamError, Refused, UpgradeRequired
from askstream.server.journal import RunRecord
from askstream.server.problems import refusal_response
from askstream.server.requests import viewer_cursor
from askstream.transports.base import TransportContext, loggable
from askstream.transports.delivery import Delivery
from askstream.transports.formats import WS_TEXT, FramedFormat
from askstream.transports.websocket.protocol import (
    SUBPROTOCOL,
    CancelRun,
    CloseSocket,
    Effect,
    Ref,
    SendReply,
    SocketProtocol,
    StartRun,
    SubmitInput,
    Subscribe,
    Unsubscribe,
)

log = logging.getLogger("__main__")

INTERNAL, REVOKED, TOO_SLOW, DRAIN = 1011, 4001, 4008, 4012
# Steps in each heartbeat interval. Heartbeats of many sockets go out together in one step: a process that is woken for
# each of thousands spends most of its time on waking up.
HEARTBEAT_STEPS = 32


class WebSockets:
    def __init__(self, context: TransportContext) -> None:
        self._context = context

    def routes(self) -> Sequence[BaseRoute]:
        make_handler = partial(Endpoint, self._context)
        return [
            SocketRoute(
                "/ws",
                make_handler,
                subprotocol=SUBPROTOCOL,
                send_seconds=self._context.send_seconds,
                message_bytes=self._context.inbound.message_bytes,
            ),
            Route("/ws", _not_upgraded, methods=["GET"]),
        ]


async def _not_upgraded(request: Request) -> Response:
    response = refusal_response(UpgradeRequired())
    response.headers["Upgrade"] = "websocket"
    return response


class _CloseRequested(Exception):
    """Closes the socket from within a task."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Endpoint:
    """One connection's handler. Raises PrincipalLimit when it is made, before the connection is accepted."""

    _connection: SocketConnection

    def __init__(self, context: TransportContext, access: Access) -> None:
        self._context, self._access = context, access
        self._leave = context.connections.enter(access.principal)
        self._protocol = SocketProtocol(context.question_characters, context.inbound, access.run_id)
        self._deliveries: dict[str, Delivery] = {}
        self._runs_to_cancel: list[str] = []  # runs that end when this socket does
        self._inbox: list[str | bytes] = []
        self._worker: asyncio.Task[None] | None = None
        self._sent_at = monotonic()
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._is_lost = False

    def opened(self, connection: SocketConnection, /) -> None:
        self._connection = connection
        self._context.streams.add(self, self._access)
        self._send_heartbeat()

    def received(self, text: str | bytes) -> None:
        self._inbox.append(text)
        if self._worker is None:
            self._worker = self._spawn(self._work())

    def control(self) -> None:
        closing = self._protocol.control(monotonic())
        if closing is not None:
            self._connection.close(closing.code, closing.reason)

    def paused(self) -> None:
        for delivery in list(self._deliveries.values()):
            delivery.pause()

    def stalled(self) -> None:
        self._connection.close(TOO_SLOW, "nothing was read for too long")

    def revoked(self) -> None:
        self._connection.close(REVOKED, "the token is no longer valid")

    def lost(self) -> None:
        """Messages that the client sent before are still handled, without a reply."""
        self._is_lost = True
        self._leave()
        self._context.streams.discard(self)
        if self._heartbeat_timer is not None:
            self._heartbeat_timer.cancel()
        deliveries, self._deliveries = self._deliveries, {}
        for delivery in deliveries.values():
            delivery.stop()
        if self._runs_to_cancel:
            self._context.tasks.spawn(self._cancel_runs())

    async def _work(self) -> None:
        try:
            while self._inbox:
                for effect in self._protocol.received(self._inbox.pop(0), monotonic()):
                    await self._perform(effect)
        finally:
            self._worker = None
            if self._is_lost:
                await self._cancel_runs()
        self._connection.resume()

    async def _cancel_runs(self) -> None:
        for run_id in self._runs_to_cancel:
            await self._context.runs.viewer_left(run_id, self._access.principal)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
        if self._is_lost:
            work.close()
            return None
        return self._context.tasks.spawn(work, self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        match None if task.cancelled() else task.exception():
            case None:
                pass
            case _CloseRequested() as closing:
                self._connection.close(closing.code, closing.reason)
            case problem:
                log.error("/ws: %s", loggable(problem))
                self._connection.close(INTERNAL, "the log is not available")

    async def _perform(self, effect: Effect) -> None:
        match effect:
            case SendReply():
                await self._send(effect)
            case StartRun():
                await self._start(effect)
            case Subscribe():
                await self._subscribe(effect)
            case Unsubscribe(run_id):
                delivery = self._deliveries.pop(run_id, None)
                if delivery is not None:
                    delivery.stop()
            case CancelRun(ref, run_id):
                await self._acknowledge(ref, self._context.runs.cancel(run_id, self._access.administers))
            case SubmitInput(ref, run_id, request_id, value):
                principal = self._access.principal
                await self._acknowledge(ref, self._context.runs.submit_input(run_id, principal, request_id, value))
            case CloseSocket(code, reason):
                raise _CloseRequested(code, reason)

    async def _send(self, reply: SendReply) -> None:
        await self._connection.send(self._connection.frame([reply.text.encode()]))
        self._sent_at = monotonic()

    async def _start(self, effect: StartRun) -> None:
        try:
            record, new = await self._context.runs.start(effect.ask.to_question(self._access.principal, asks=True))
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem)
            return
        if new and effect.ask.on_disconnect == "cancel":
            self._runs_to_cancel.append(record.run_id)
        watched = record.run_id in self._protocol.subscribed_runs  # it joined a run by its idempotency key
        await self._send(self._protocol.started(effect.ref, record))
        if not watched:
            self._deliver(await self._context.bus.attach(record.run_id, wanted=effect.ask.wanted))

    async def _subscribe(self, effect: Subscribe) -> None:
        try:
            record = await self._context.runs.find(effect.run_id, self._access.principal)
            after = viewer_cursor(record, effect.after)
        except AskstreamError as problem:
            await self._refuse(effect.ref, problem, effect.run_id)
            return
        await self._send(self._protocol.subscribed(effect.ref, record, after))
        self._deliver(await self._context.bus.attach(effect.run_id, after=after, wanted=effect.wanted))

    async def _acknowledge(self, ref: Ref, command: Coroutine[Any, Any, RunRecord]) -> None:
        try:
            record = await command
        except AskstreamError as problem:
            await self._refuse(ref, problem)
            return
        await self._send(self._protocol.acknowledged(ref, record))

    async def _refuse(self, ref: Ref, problem: AskstreamError, run_id: str | None = None) -> None:
        """Reply a refusal; raise any other error, which closes the socket. The client may reconnect."""
        if not isinstance(problem, Refused):
            raise problem
        await self._send(self._protocol.refused(ref, problem, run_id))

    def _deliver(self, viewer: Viewer) -> None:
        if self._is_lost:
            viewer.close()
            return
        encoding = FramedFormat(WS_TEXT, self._connection.frame, heartbeat_seconds=0)
        done = partial(self._delivered, viewer.run_id)
        delivery = self._deliveries[viewer.run_id] = Delivery(viewer, self._connection, encoding, self._spawn, done)
        delivery.begin()

    def _delivered(self, run_id: str, drained: bool) -> None:
        if drained:
            self._connection.close(DRAIN, "this server is going away")
        else:
            self._protocol.finished(run_id)
            self._deliveries.pop(run_id, None)

    def _send_heartbeat(self) -> None:
        """Break a silence, and schedule the next call."""
        wrote_at = [delivery.viewer.wrote_at for delivery in self._deliveries.values()]
        silent = monotonic() - max(self._sent_at, *wrote_at, 0.0)
        seconds = self._context.heartbeat_seconds
        if silent >= seconds and not self._connection.is_paused:
            self._connection.write(self._connection.frame([self._protocol.heartbeat().text.encode()]))
            self._sent_at, silent = monotonic(), 0.0
        loop = asyncio.get_running_loop()
        due, together = loop.time() + max(seconds - silent, 0.0), seconds / HEARTBEAT_STEPS
        self._heartbeat_timer = loop.call_at(ceil(due / together) * together, self._send_heartbeat)
