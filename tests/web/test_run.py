"""run.js: what a run's events add up to."""

from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

APPLY = """async (events) => {
  const { admit, apply, newRun } = await import('/run.js');
  const run = newRun();
  for (const event of events) if (['new', 'notice'].includes(admit(run, event))) apply(run, event);
  const items = (entry) => entry.items.map(({ turn, ...item }) => item);
  const { touched, openTurns, calls, agents, requests, ...rest } = run;
  return { ...rest, entries: run.entries.map((entry) => ({ ...entry, items: items(entry) })), open: openTurns.size };
}"""

STAMP = "2026-11-22T10:30:00.000Z"


def event(event_id: int | None, kind: str, agent: str = "DataAgent", message: str = "", **data: Any) -> dict[str, Any]:
    made = {"event_type": kind, "timestamp": STAMP, "agent_name": agent, "message": message, "data": data}
    return made if event_id is None else made | {"id": event_id, "run_id": "r1"}


def applied(page: Page, *events: Any) -> dict[str, Any]:
    return page.evaluate(APPLY, list(events))


def test_a_cursor_takes_what_is_next_drops_what_was_seen_and_tells_a_hole(blank: Page) -> None:
    """The rule of the server's own cursor, and a gap that was announced is no hole."""
    places = blank.evaluate("""async () => {
      const { admit, apply, newRun } = await import('/run.js');
      const run = newRun();
      run.cursor = 5;
      const place = (id) => admit(run, { id });
      const before = [place(5), place(6), place(7), place(undefined)];
      apply(run, { event_type: 'gap', data: { from: 6, to: 9 } });
      return [...before, place(10), place(11), run.cursor];
    }""")
    assert places == ["seen", "new", "hole", "notice", "new", "hole", 5]


def test_pieces_of_text_become_the_answer_that_they_announce(blank: Page) -> None:
    """Chunks grow one text for each message id; the whole message then takes the place of its pieces."""
    run = applied(
        blank,
        event(1, "agent_thinking", message="Looks at the tables."),
        event(2, "agent_chunk", delta="Reve", message_id="m1"),
        event(3, "agent_chunk", delta="nue", message_id="m1"),
        event(4, "agent_response", message="Revenue rose.", message_id="m1"),
    )
    (turn,) = run["entries"]
    assert [(item["kind"], item["text"]) for item in turn["items"]] == [
        ("thought", "Looks at the tables."),
        ("answer", "Revenue rose."),
    ]
    assert run["open"] == 0


def test_a_streamed_thought_is_not_told_twice(blank: Page) -> None:
    """A thought that came in pieces comes again as a whole; it stands once."""
    run = applied(
        blank,
        event(1, "agent_chunk", delta="First the schema.", message_id="m1"),
        event(2, "agent_thinking", message="First the schema."),
    )
    assert [item["kind"] for item in run["entries"][0]["items"]] == ["thought"]


def test_agents_that_work_side_by_side_keep_a_turn_each(blank: Page) -> None:
    """What two agents do in turns is told apart by name until each has answered."""
    run = applied(
        blank,
        event(1, "agent_chunk", "A", delta="a1 ", message_id="ma"),
        event(2, "agent_chunk", "B", delta="b1 ", message_id="mb"),
        event(3, "agent_chunk", "A", delta="a2", message_id="ma"),
        event(4, "agent_response", "B", "b1 b2", message_id="mb"),
        event(5, "agent_thinking", "B", "Another turn."),
    )
    assert [(turn["agent"], [item["text"] for item in turn["items"]]) for turn in run["entries"]] == [
        ("A", ["a1 a2"]),
        ("B", ["b1 b2"]),
        ("B", ["Another turn."]),
    ]


def test_a_tool_call_is_one_item_from_its_start_to_its_end(blank: Page) -> None:
    """The end joins the start by `call_id`, and a chart in the result is read, structured or as text."""
    chart = {
        "chart": {"type": "bar", "title": "T", "labels": ["a"], "series": [{"name": "s", "values": [1]}], "unit": "EUR"}
    }
    call: dict[str, Any] = {"tool_name": "make_chart", "parameters": {"type": "bar"}}
    run = applied(
        blank,
        event(1, "tool_execution", call_id="c1", status="started", **call),
        event(2, "tool_execution", call_id="c2", status="started", **call),
        event(3, "tool_execution", call_id="c2", status="failed", result="no", duration_ms=3, **call),
        event(4, "tool_execution", call_id="c1", status="finished", result=chart, duration_ms=5, **call),
    )
    first, second = run["entries"][0]["items"]
    assert (first["status"], first["durationMs"], first["chart"]["labels"]) == ("finished", 5, ["a"])
    assert (second["status"], second["result"], second["chart"]) == ("failed", "no", None)
    assert [made["chart"]["title"] for made in run["charts"]] == ["T"]


@pytest.mark.parametrize(
    ("kind", "data", "state"),
    [
        ("completed", {"final_response": "# R", "usage": {"prompt_tokens": 1}, "duration_ms": 9}, "completed"),
        ("error", {"error": "model_auth"}, "error"),
        ("cancelled", {"reason": "client"}, "cancelled"),
    ],
)
def test_a_terminal_event_leaves_nothing_open(blank: Page, kind: str, data: dict[str, Any], state: str) -> None:
    """Turns are closed, half-written text stays as a thought, and a tool without an end says so."""
    run = applied(
        blank,
        event(1, "agent_chunk", delta="half", message_id="m1"),
        event(2, "tool_execution", "Other", tool_name="t", parameters={}, call_id="c", status="started"),
        event(3, kind, "System", "The end.", **data),
    )
    assert (run["state"], run["terminal"], run["open"]) == (state, True, 0)
    assert run["entries"][0]["items"][0]["kind"] == "thought"
    assert run["entries"][1]["items"][0]["status"] == "unfinished"


def test_progress_never_falls_whatever_arrives(blank: Page) -> None:
    """A figure that is smaller, too large or no figure doesn't move the bar back or beyond its end."""
    steps = [event(i + 1, "agent_thinking", progress=p) for i, p in enumerate([25, 10, "99", 400])]
    assert [applied(blank, *steps[:n])["progress"] for n in (1, 2, 3, 4)] == [25, 25, 25, 100]


def test_what_a_resumed_run_does_again_counts_once(blank: Page) -> None:
    """What came after the checkpoint is marked, its chart is gone, and the same call id starts anew."""
    chart = {"chart": {"type": "pie", "title": "T", "labels": ["a"], "series": [{"name": "", "values": [1]}]}}
    run = applied(
        blank,
        event(1, "agent_response", message="kept"),
        event(2, "tool_execution", tool_name="t", parameters={}, call_id="c", status="finished", result=chart),
        event(3, "tool_execution", tool_name="t", parameters={}, call_id="d", status="started"),
        event(4, "resumed", "System", attempt=2, from_id=1),
        event(5, "tool_execution", tool_name="t", parameters={}, call_id="c", status="started"),
    )
    kept, again, notice, anew = run["entries"]
    assert ("superseded" in kept, again["superseded"], notice["kind"], run["charts"]) == (False, True, "notice", [])
    assert [item["status"] for item in again["items"]] == ["finished", "unfinished"]
    assert anew["items"][0]["status"] == "started"


ASKED: dict[str, Any] = {"request_id": "q1", "schema": {"type": "string"}, "deadline": "2026-11-22T10:40:00.000Z"}
REVIEW: dict[str, Any] = {
    "request_id": "q1",
    "schema": {"type": "object", "properties": {"approve": {"type": "boolean"}, "remark": {"type": "string"}}},
}


def test_a_question_to_a_human_is_told_once_and_waits(blank: Page) -> None:
    """The agent's turn is over, its words lose what is asked below them, and the request waits until its deadline."""
    run = applied(
        blank,
        event(1, "agent_response", message="A plan.\n\nASK USER: Which one?", progress=25),
        event(2, "input_requested", prompt="Which one?", **ASKED),
    )
    turn, request = run["entries"]
    assert (turn["open"], turn["items"][0]["text"]) == (False, "A plan.")
    assert (request["prompt"], request["asks"], request["outcome"]) == ("Which one?", "text", None)
    assert run["pending"]["deadline"] == 1795344000000


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (event(3, "input_resolved", request_id="q1", outcome="answered", value="a"), "answered"),
        (event(3, "input_resolved", request_id="q1", outcome="timed_out"), "timed_out"),
        (event(3, "cancelled", reason="client"), "ended"),
        (event(3, "resumed", attempt=2, from_id=1), "ended"),
    ],
)
def test_a_request_is_settled_by_whatever_ends_it(blank: Page, last: dict[str, Any], outcome: str) -> None:
    """An answer, time, the run's end, or a checkpoint before it: nobody is asked any more."""
    run = applied(blank, event(1, "started"), event(2, "input_requested", prompt="Which?", **ASKED), last)
    assert (run["pending"], run["entries"][0]["outcome"]) == (None, outcome)


def test_a_report_that_waits_for_approval_is_a_draft(blank: Page) -> None:
    """It is read where the report will stand. Sent back, its charts go unless the new draft names them."""
    charts = [
        event(
            i,
            "tool_execution",
            call_id=title,
            status="finished",
            result={"chart": {"type": "bar", "title": title, "labels": ["a"], "series": [{"values": [1]}]}},
        )
        for i, title in enumerate(("Revenue", "Orders"), 1)
    ]
    log = [
        *charts,
        event(3, "agent_response", message="# Long", progress=100),
        event(4, "input_requested", prompt="Approve?", **REVIEW),
        event(5, "input_resolved", request_id="q1", outcome="answered", value={"approve": False, "remark": "Shorter"}),
        event(6, "agent_response", message="# Short, with Orders"),
        event(7, "input_requested", prompt="Approve?", **REVIEW | {"request_id": "q2"}),
    ]
    states = [applied(blank, *log[:n])["draft"] for n in (4, 5, 7)]
    assert [(draft["text"], draft["state"]) for draft in states] == [
        ("# Long", "waiting"),
        ("# Long", "returned"),
        ("# Short, with Orders", "waiting"),
    ]
    assert [len(applied(blank, *log[:n])["charts"]) for n in (4, 7)] == [2, 1]


def test_no_event_whatever_it_holds_makes_it_throw(blank: Page) -> None:
    """Each field of each type, known or not, with values of every shape: the page lives."""
    hostile: list[Any] = [
        None,
        0,
        -1,
        "",
        "x",
        [],
        {},
        [[]],
        {"toString": 1, "valueOf": 2},
        {"chart": {"type": "pie"}},
        1e308,
        True,
    ]
    kinds = [
        "started",
        "agent_thinking",
        "agent_chunk",
        "agent_response",
        "tool_execution",
        "completed",
        "error",
        "cancelled",
        "resumed",
        "gap",
        "drain",
        "input_requested",
        "input_resolved",
        "constructor",
        "__proto__",
        "new_one",
        None,
        5,
    ]
    fields = [
        "progress",
        "question",
        "delta",
        "message_id",
        "status",
        "result",
        "parameters",
        "call_id",
        "tool_name",
        "usage",
        "final_response",
        "duration_ms",
        "error",
        "reason",
        "from_id",
        "from",
        "to",
        "retry_ms",
        "prompt",
        "request_id",
        "schema",
        "deadline",
        "outcome",
        "value",
        "session_id",
    ]
    events: list[dict[str, Any]] = []
    for kind in kinds:
        for value in hostile:
            whole = {"event_type": kind, "timestamp": value, "agent_name": value, "message": value, "data": value}
            spread = {"event_type": kind, "data": dict.fromkeys(fields, value)}
            finished = {
                "event_type": kind,
                "data": {"status": "finished", "result": {"chart": dict.fromkeys(["type", "labels", "series"], value)}},
            }
            events += [one | {"id": len(events) + i + 1} for i, one in enumerate((whole, spread, finished))]
    assert applied(blank, *events)["count"] == len(events)
