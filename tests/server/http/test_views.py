"""A run's view, and that the description of the API matches it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from jsonschema import Draft202012Validator

from askstream.server.app import Service, create_app
from askstream.server.http import views
from askstream.server.http.openapi import describe
from askstream.server.journal import NOBODY, RunRecord
from askstream.server.runs import Question
from askstream.server.settings import Settings

RECORD = RunRecord(
    run_id="r", principal="p", session_id="s", question="q?", model="m", created_at=1000.5, options=b'{"secret":1}',
    idempotency_key="k", fingerprint="f", attempt=2, state="completed", progress=100, last_id=7, prompt_tokens=11,
    completion_tokens=12, log_events=6, log_bytes=600, ended_at=1001.25, digest="d",
)  # fmt: skip
SHOWN = (
    b'{"run_id":"r","session_id":"s","question":"q?","model":"m","state":"completed","progress":100,"last_id":7,'
    b'"attempt":2,"created_at":"1970-01-01T00:16:40.500Z","ended_at":"1970-01-01T00:16:41.250Z","log_expired":false,'
    b'"pending_input":null,"usage":{"prompt_tokens":11,"completion_tokens":12},"digest":"d","links":{"self":"/runs/r",'
    b'"events":"/runs/r/events","cancel":"/runs/r/cancel","input":"/runs/r/input"}}'
)


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return describe()["components"]["schemas"]


def errors(schemas: dict[str, Any], name: str, shown: Any) -> list[str]:
    """Return a response's violations of the description; a field that the description lacks is one."""
    closed = {key: {"additionalProperties": False, **schema} for key, schema in schemas.items()}
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": closed}}
    validator: Any = Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(shown)]


def test_a_run_is_shown_field_for_field() -> None:
    """The wire's promise: each field under its name, and no private one."""
    assert orjson.dumps(views.run({}, RECORD, None)) == SHOWN


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, state="failed", expired_at=2000.0),
        replace(RECORD, state="running", ended_at=None, digest=None, progress=0),
    ],
)
def test_every_run_matches_the_description(schemas: dict[str, Any], record: RunRecord) -> None:
    """In every state, with a pending input and without."""
    for pending in (None, {"request_id": "x", "prompt": "?"}):
        shown = orjson.loads(orjson.dumps(views.run({}, record, pending)))
        assert not errors(schemas, "Run", shown)
        assert shown["pending_input"] == pending
        assert shown["log_expired"] is (record.expired_at is not None)
        assert set(schemas["Run"]["required"]) == set(shown)
    assert errors(schemas, "Run", {**shown, "state": "asleep"})
    assert errors(schemas, "Run", {**shown, "more": 1})


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Service]:
    async with create_app(Settings(data=tmp_path, journal="memory://")).open() as opened:
        yield opened


@pytest.mark.parametrize("prefix", ["", "/ai"])
async def test_every_address_in_an_answer_leads_back_here(app: Service, schemas: dict[str, Any], prefix: str) -> None:
    """`links` and `next` too, also if the application is mounted; all responses match the description."""
    question = Question(text="q", principal=NOBODY, session_id="talk", if_busy="queue")
    started = [await app.runs.start(question, orchestrator="mock") for _ in range(3)]
    run_id = started[0][0].run_id
    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app.asgi, root_path=prefix), base_url="http://localhost")
    async with client:

        async def get(path: str, name: str) -> Any:
            answer = await client.get(path)
            assert not errors(schemas, name, answer.json())
            return answer.json()

        run = await get(f"/runs/{run_id}", "Run")
        assert run["links"] == {
            "self": f"{prefix}/runs/{run_id}",
            **{name: f"{prefix}/runs/{run_id}/{name}" for name in ("events", "cancel", "input")},
        }
        page = await get("/runs?limit=2", "RunPage")
        assert page["next"].startswith(f"{prefix}/runs?")
        last = await get(page["next"].removeprefix(prefix), "RunPage")
        assert last["next"] is None
        listed = [each["run_id"] for each in (*page["runs"], *last["runs"])]
        session = await get("/sessions/talk", "SessionRuns")
        assert [each["run_id"] for each in session["runs"]] == listed[::-1]
        assert len(set(listed)) == 3
