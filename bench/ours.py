"""A transport for the real server in which the generator decides when events happen.

The server under test is the product's own command. It loads this as it loads any transport, from ASKSTREAM_TRANSPORTS,
and its runs pass through the same log writer, journal, bus and transports; only the team is replaced.
Servers of other checkouts load the file of their own checkout: keep the two paths and their formats.
"""

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from askstream.server.events import AgentThinking, Draft, Usage
from askstream.server.runs import Answer, Question, Sink, Task
from askstream.transports.base import TransportContext
from bench.events import AGENT, PARTS, Allowance, message
from bench.without import switch_off

switch_off()

RUNS_PATH = "/bench/runs"
CONTROL_PATH = "/bench/control"
# The name under which runs know this orchestrator.
SPEAKER = "bench"


class Source:
    """An Orchestrator. Each of its runs publishes all events that the allowance allows."""

    model = "bench (no model)"

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance

    async def run(self, task: Task, sink: Sink) -> Answer:
        """The question is the number of events and the part of a tick. The run ends with the last event."""
        events, part = map(int, task.question.split())
        async for number in self._allowance.numbers(part):
            await sink.emit(Draft(AGENT, message(number), AgentThinking(progress=25)))
            if number >= events - 1:
                break
        return Answer(final_response="Done.", total_messages=1, usage=Usage(), agent_name=AGENT)


class Transport:
    def __init__(self, context: TransportContext) -> None:
        self._context = context
        self._allowance = Allowance()
        context.runs.add_orchestrator(SPEAKER, Source(self._allowance))

    def routes(self) -> Sequence[BaseRoute]:
        paths = {RUNS_PATH: self.start, CONTROL_PATH: self._allowance.control}
        return [Route(path, endpoint, methods=["POST"]) for path, endpoint in paths.items()]

    async def start(self, request: Request) -> Response:
        """Start `count` runs of `events` events each. Return their ids."""
        count, events = int(request.query_params["count"]), request.query_params["events"]
        questions = [Question(text=f"{events} {run % PARTS}", principal="anonymous") for run in range(count)]
        started = [await self._context.runs.start(question, orchestrator=SPEAKER) for question in questions]
        return Response(orjson.dumps([record.run_id for record, _ in started]))
