"""viewer.js follows one run through lost connections; the wire is played, event by event."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

# Each connection of the script tells what arrives on it, and how it ends. `requests` is what the viewer asked for.
FOLLOW = """async ([script, request, hops]) => {
  Math.random = () => 0;
  const { Viewer } = await import('/viewer.js');
  const { WireError } = await import('/wire.js');
  const { newRun } = await import('/run.js');
  const requests = [], links = [];
  const play = (name) => async (asked, on, signal) => {
    requests.push({ wire: name, ...asked });
    const { events = [], cursor, ends = 'closed', error, stays } = script.shift() ?? { ends: 'finished' };
    if (error) throw new WireError(error.code, error.message, error);
    on.opened(asked.runId ?? 'r1');
    for (const event of events) on.event(event.id ? { run_id: 'r1', ...event } : event);
    if (cursor) on.cursor(cursor);
    if (signal.aborted) throw signal.reason;
    if (!stays) return ends;
    if (hops) setTimeout(() => viewer.hop('ws'), 0);
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  const run = newRun(request.runId ?? null);
  const viewer = new Viewer(run, { sse: play('sse'), ws: play('ws') }, 'sse', {
    changed() {},
    opened() {},
    link: ({ state, wait, error }) => links.push({ state, wait, code: error?.code }),
  });
  await viewer.follow(request);
  return { requests, links, cursor: run.cursor, count: run.count, state: run.state,
           notices: run.entries.filter((entry) => entry.kind === 'notice').map((entry) => entry.text) };
}"""

ASK = {"question": "q", "key": "k"}


def events(*ids: int) -> list[dict[str, Any]]:
    return [{"event_type": "agent_thinking", "agent_name": "A", "message": str(i), "id": i} for i in ids]


def end(event_id: int) -> dict[str, Any]:
    return {"event_type": "completed", "data": {"final_response": "done"}, "id": event_id}


def followed(
    page: Page, script: list[dict[str, Any]], request: dict[str, Any] = ASK, *, hops: bool = False
) -> dict[str, Any]:
    return page.evaluate(FOLLOW, [script, request, hops])


def asked(result: dict[str, Any]) -> list[Any]:
    return [request.get("after", "ask") for request in result["requests"]]


def test_a_lost_connection_is_resumed_from_the_last_id(blank: Page) -> None:
    """Each new connection asks for what comes after the last event seen, and none comes twice."""
    script = [{"events": events(1, 2)}, {"events": events(3)}, {"events": [*events(2, 3, 4), end(5)]}]
    result = followed(blank, script)
    assert asked(result) == ["ask", 2, 3]
    assert (result["count"], result["state"], result["links"][-1]["state"]) == (5, "completed", "ended")


def test_a_hole_makes_it_ask_again_from_the_cursor(blank: Page) -> None:
    """Nothing after a hole is taken before what is missing has come."""
    script = [{"events": events(1, 3)}, {"events": [*events(2, 3), end(4)]}]
    result = followed(blank, script)
    assert (asked(result), result["count"], result["notices"]) == (["ask", 1], 4, ["The report is ready"])


def test_a_hole_that_stays_is_told_and_not_asked_for_for_ever(blank: Page) -> None:
    """After three tries the page goes on, and says which events it never got."""
    broken = {"events": [*events(1, 3), end(4)]}
    result = followed(blank, [broken, broken, broken])
    assert len(result["requests"]) == 3
    assert "Events 2 to 2 are gone." in result["notices"]


def test_an_announced_gap_is_no_hole(blank: Page) -> None:
    """What the server says is gone is not asked for again."""
    gap = {"event_type": "gap", "data": {"from": 2, "to": 7, "reason": "trimmed"}}
    result = followed(blank, [{"events": [*events(1), gap, *events(8), end(9)]}])
    assert (asked(result), result["count"]) == (["ask"], 3)


def test_an_id_alone_moves_the_cursor(blank: Page) -> None:
    """Events that this viewer isn't sent are not asked for again."""
    result = followed(blank, [{"events": events(1), "cursor": 6}, {"events": [end(7)]}])
    assert asked(result) == ["ask", 6]


def test_a_question_whose_connection_is_lost_is_asked_again_with_its_key(blank: Page) -> None:
    """The server may have begun the run: the same key joins it instead of starting a second."""
    script = [{"error": {"code": "unreachable", "message": "down"}}, {"events": [end(1)]}]
    result = followed(blank, script)
    assert [(one["question"], one["key"]) for one in result["requests"]] == [("q", "k"), ("q", "k")]


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (ASK, {"code": "rate_limited", "message": "no", "refused": True, "retryAfter": 10}),
        ({"runId": "r1", "after": 0}, {"code": "run_not_found", "message": "no", "refused": True, "fatal": True}),
    ],
)
def test_a_refusal_is_shown_and_not_repeated(blank: Page, request_: dict[str, Any], error: dict[str, Any]) -> None:
    """A refused question waits for its reader, and so does a run that isn't there."""
    result = followed(blank, [{"error": error}], request_)
    last = result["links"][-1]
    assert (len(result["requests"]), last["state"], last["code"]) == (1, "failed", error["code"])


def test_a_busy_server_is_asked_again_when_it_says(blank: Page) -> None:
    """Retry-After of a refused resume is kept to."""
    busy = {"code": "draining", "message": "busy", "refused": True, "retryAfter": 30}
    result = followed(blank, [{"error": busy}, {"events": [end(1)]}], {"runId": "r1", "after": 0})
    assert {"state": "waiting", "wait": 30, "code": "draining"} in result["links"]


def test_a_server_that_goes_away_says_when_to_come_back(blank: Page) -> None:
    """The wait is the one that the drain notice names."""
    drain = {"event_type": "drain", "data": {"retry_ms": 20}}
    result = followed(blank, [{"events": [*events(1), drain]}, {"events": [end(2)]}])
    assert [link["wait"] for link in result["links"] if link["state"] == "waiting"] == [20]


def test_a_run_goes_on_over_the_other_wire_from_the_same_cursor(blank: Page) -> None:
    """Changing the transport midway loses nothing, repeats nothing and doesn't wait."""
    result = followed(blank, [{"events": events(1, 2), "stays": True}, {"events": [*events(3), end(4)]}], hops=True)
    assert [(one["wire"], one.get("after")) for one in result["requests"]] == [("sse", None), ("ws", 2)]
    assert (result["count"], "waiting" in [link["state"] for link in result["links"]]) == (4, False)


def test_a_connection_that_says_nothing_is_given_up(browser: Browser, modules_url: str) -> None:
    """No event and no heartbeat for 40 s: the line counts as dead, and a new one is opened."""
    page = browser.new_page()  # with a clock of its own, which would stay with the context
    page.clock.install()
    page.goto(f"{modules_url}/blank")
    page.evaluate("() => Promise.all(['/viewer.js', '/wire.js', '/run.js'].map((name) => import(name)))")
    script = [{"events": events(1), "stays": True}, {"events": [end(2)]}]
    page.evaluate(
        f"(given) => {{ ({FOLLOW})(given).then((result) => (window.result = result)); }}", [script, ASK, False]
    )
    result = None
    for _ in range(120):  # in steps, so that what the passing of time brings about gets its turn
        page.clock.run_for(1000)
        if result := page.evaluate("() => window.result"):
            break
    page.close()
    assert result is not None
    assert asked(result) == ["ask", 1]
    assert [link["code"] for link in result["links"] if link["state"] == "waiting"] == ["silent"]


def test_waits_double_up_to_a_bound_with_half_of_them_by_chance(blank: Page) -> None:
    """The viewers of a server that came back don't all return at once, and none waits for more than 15 s."""
    waits = blank.evaluate("""async () => {
      const { backoff } = await import('/wire.js');
      return [0, 1, 2, 10].map((attempt) => [backoff(attempt, () => 0), backoff(attempt, () => 1)]);
    }""")
    assert waits == [[250, 500], [500, 1000], [1000, 2000], [7500, 15000]]
