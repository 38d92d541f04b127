"""The promises that every run must keep, whatever happened to its servers and viewers."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.chaos.commands import AskedRun
from tests.chaos.host import Host
from tests.chaos.viewers import Counts, SeenLines
from tests.e2e.viewers import TERMINAL, client_of, watch_sse, watch_ws

_STATES = {"completed": "completed", "error": "failed", "cancelled": "cancelled"}
# A run may fail as its plan says, or if its server died again and again in one turn.
_FAILURES = {"team_failed", "interrupted"}


@dataclass(frozen=True, slots=True)
class Log:
    """A whole log as received."""

    run_id: str
    lines: list[str]
    events: list[dict[str, Any]]

    def shown(self, *, tokens: bool) -> dict[int, str]:
        """The lines that a viewer must have at the end, by id."""
        pairs = zip(self.lines, self.events, strict=True)
        return {event["id"]: line for line, event in pairs if tokens or event["event_type"] != "agent_chunk"}


async def of_run(host: Host, asked: AskedRun, counts: Counts) -> Log:
    """Check one run against all promises for a single run, and return its log. Raises AssertionError."""
    url, tokens = await host.url(), {"tokens": True}
    lines, ws = await asyncio.gather(
        watch_sse(url, asked.run_id, filters=tokens), watch_ws(url, asked.run_id, filters=tokens)
    )
    assert lines == ws, f"{asked.run_id} differs between the transports"
    log = Log(asked.run_id, lines, [json.loads(line)["event"] for line in lines])
    _check_form(log)
    _check_turns(log)
    _check_answers(log, asked)
    await _check_resource(host, log, asked)
    last = log.events[-1]
    kind = f"error {last['data']['error']}" if last["event_type"] == "error" else last["event_type"]
    kind += f" {last['data']['reason']}" if kind == "cancelled" else ""
    resumed = sum(event["event_type"] == "resumed" for event in log.events)
    counts.add(Counts(runs=1, events=len(lines), resumed=resumed, ends={kind: 1}))
    return log


def of_watch(seen: SeenLines, logs: Sequence[Log]) -> None:
    """Check that a viewer that stayed has every event exactly once."""
    (log,) = [log for log in logs if log.run_id == seen.run_id]
    assert seen.ended
    assert seen.lines == log.shown(tokens=seen.tokens), f"a viewer of {seen.run_id} has seen another run"


async def of_list(host: Host, asked: Sequence[AskedRun]) -> None:
    """Check that each question became one run, however often it was sent."""
    listed: list[str] = []
    page: str | None = "/runs?limit=200"
    while page:
        found = await host.get(page)
        listed += [run["run_id"] for run in found["runs"]]
        page = found["next"]
    assert sorted(listed) == sorted(run.run_id for run in asked)


def _check_form(log: Log) -> None:
    kinds = [event["event_type"] for event in log.events]
    assert [event["id"] for event in log.events] == list(range(1, len(log.events) + 1)), f"{log.run_id} has a gap"
    assert kinds[0] == "started"
    assert [kind in TERMINAL for kind in kinds].index(True) == len(kinds) - 1, f"{log.run_id} continues after its end"
    progress = [event["data"]["progress"] for event in log.events if "progress" in event["data"]]
    assert progress == sorted(progress), f"{log.run_id}: progress falls"
    attempts = [event["data"]["attempt"] for event in log.events if event["event_type"] == "resumed"]
    assert attempts == sorted(set(attempts))
    if kinds[-1] == "error":
        assert log.events[-1]["data"]["error"] in _FAILURES, log.lines[-1]


def _check_turns(log: Log) -> None:
    """No turn that a viewer saw finished is repeated, and none is left out."""
    said = [
        (event["agent_name"], int(event["message"].split()[2]))
        for event in log.events
        if event["event_type"] == "agent_response" and event["agent_name"] in {"Alpha", "Omega"}
    ]
    expected = [(name, turn) for turn in range(1, len(said) + 1) for name in ("Alpha", "Omega")]
    assert said == expected[: len(said)], f"{log.run_id}: its turns are {said}"


def _check_answers(log: Log, asked: AskedRun) -> None:
    """Each request is resolved at most once, with the answer that was acknowledged."""
    requests = [event["data"]["request_id"] for event in log.events if event["event_type"] == "input_requested"]
    resolved = [event["data"] for event in log.events if event["event_type"] == "input_resolved"]
    assert len({each["request_id"] for each in resolved}) == len(resolved)
    assert {each["request_id"] for each in resolved} <= set(requests)
    told = {each["request_id"]: {each["value"]} for each in resolved if each["outcome"] == "answered"}
    for request_id, accepted in asked.accepted.items():
        assert not accepted or accepted == told.get(request_id), f"{log.run_id}: {accepted} was acknowledged"


async def _check_resource(host: Host, log: Log, asked: AskedRun) -> None:
    async with client_of(await host.url()) as client:
        run = (await client.get(f"/runs/{log.run_id}")).json()
        plain = (await client.get(f"/runs/{log.run_id}/events", headers={"Accept": "application/x-ndjson"})).text
    text = "".join(line + "\n" for line in log.shown(tokens=False).values())
    assert plain == text
    assert run["digest"] == hashlib.sha256(text.encode()).hexdigest(), f"{log.run_id}: its digest is of another log"
    assert run["state"] == _STATES[log.events[-1]["event_type"]]
    assert (run["last_id"], run["question"]) == (len(log.lines), asked.question)
    assert run["pending_input"] is None
