"""The page at /client, in a real browser, on a real server."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from tests.e2e.tabs import BOTH, Server, Tab, ask, choose, completed, run_of
from tests.timing import FACTOR

pytestmark = pytest.mark.browser

QUESTION = "Generate a monthly business report for our sales performance"


@BOTH
def test_a_question_becomes_a_report_with_its_chart_and_the_work_behind_it(tab: Tab, via: str) -> None:
    """The main job, over either transport: every event arrives, and each tool call opens to its input and output."""
    page = tab.open()
    ask(page, QUESTION, via)
    expect(page.locator("#model")).to_contain_text("offline-analyst (rules, no LLM)")
    completed(page)
    expect(page.locator("#report .prose h2").first).to_be_visible()
    expect(page.locator("#report .prose table").first).to_be_visible()
    expect(page.locator("#report .chart canvas").first).to_be_visible()
    name = {"sse": "SSE", "ws": "WebSocket"}[via]
    expect(page.locator("#link-text")).to_have_text(f"All {run_of(tab)['last_id']:,} events received over {name}")
    for agent in ("PlanningAgent", "DataAgent", "AnalysisAgent", "ReportAgent"):
        expect(page.locator(".agent", has_text=agent).first).to_be_attached()
    call = page.locator("details.tool", has_text="run_sql").first
    call.locator("summary").first.click()
    expect(call.locator("code.sql").first).to_contain_text("SELECT")
    expect(call.locator("table").first).to_be_visible()
    assert (tab.url + "/ask-stream" in tab.asked) == (via == "sse")


@BOTH
def test_a_reload_shows_the_same_run_again(tab: Tab, via: str) -> None:
    """Reloaded while the run goes on and when it is over: the same timeline and the same report, from event 1."""
    page = tab.open()
    ask(page, QUESTION, via)
    page.wait_for_url("**/client#run=*")
    address = page.url
    page.reload()
    completed(page)
    first = (page.locator("#timeline").text_content(), page.locator("#report .prose").inner_html())
    page.reload()
    completed(page)
    assert (page.locator("#timeline").text_content(), page.locator("#report .prose").inner_html()) == first
    assert page.url == address
    assert f"All {run_of(tab)['last_id']:,} events" in page.inner_text("#link-text")


def test_a_second_tab_on_the_other_transport_sees_the_same(tab: Tab, open_tab: Callable[..., Tab]) -> None:
    """It needs only the address, and both transports show the same."""
    page = tab.open()
    ask(page, QUESTION, "sse")
    page.wait_for_url("**/client#run=*")
    other = open_tab()
    other.page.goto(page.url.replace("via=sse", "via=ws"))
    completed(page)
    completed(other.page)
    assert other.page.locator("#report .prose").inner_html() == page.locator("#report .prose").inner_html()
    assert other.page.locator("#timeline .turn").count() == page.locator("#timeline .turn").count()


def test_the_test_stream_shows_mock_events(tab: Tab) -> None:
    """They test the whole path from the server to the page, without a question and a model."""
    page = tab.open()
    page.get_by_role("button", name="Test stream").click()
    completed(page)
    expect(page.locator("#report .prose")).to_be_visible()
    expect(page.locator("details.tool").first).to_be_visible()


def test_an_unknown_run_is_reported_and_can_be_tried_again(open_tab: Callable[..., Tab]) -> None:
    """An old link shows the server's own words, its code and a button."""
    tab = open_tab()
    page = tab.open("/client#run=00000000000000000000000000000000")
    expect(page.get_by_role("alert")).to_contain_text("run_not_found")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    assert [error for error in tab.errors if "404" not in error] == []
    tab.errors.clear()  # the browser itself logs each 404


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_small_phone(open_tab: Callable[..., Tab], scheme: str) -> None:
    """At 360 px, with a whole report on it, the page scrolls one way only."""
    page = open_tab(viewport={"width": 360, "height": 740}, color_scheme=scheme).open()
    ask(page, QUESTION)
    completed(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


class Provider(http.server.BaseHTTPRequestHandler):
    """A model provider that refuses the key, or doesn't answer before it is released."""

    held = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if "refused" in self.headers["Authorization"]:
            body = b'{"error":{"message":"Incorrect API key","type":"invalid_request_error","code":"invalid_api_key"}}'
            self.send_response(401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.held.wait()
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    Provider.held.clear()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    Provider.held.set()
    httpd.shutdown()
    httpd.server_close()


def test_the_welcome_has_the_words_of_the_team_that_is_served(
    start: Callable[..., Server], open_tab: Callable[..., Tab]
) -> None:
    """An own team's title, greeting and starters, as text; a click on a starter asks it."""
    page = open_tab(start("--team", "examples/own_team.py").url).open()
    expect(page.get_by_role("heading", name="Days between dates")).to_be_visible()
    expect(page.locator("#welcome")).to_contain_text("It counts the days")
    expect(page.locator("body")).not_to_contain_text("sales")
    page.get_by_role("button", name="from 2024-02-28").click()
    expect(page.locator("#report .prose")).to_contain_text("From 2024-02-28 to 2024-03-01 it is 2 days.")


@BOTH
def test_stop_ends_the_run(start: Callable[..., Server], open_tab: Callable[..., Tab], provider: str, via: str) -> None:
    """Stop is answered while the model hangs, and the page shows the run's end."""
    tab = open_tab(start(OPENAI_API_KEY="held", OPENAI_BASE_URL=provider).url)
    page = tab.open()
    ask(page, "What was our revenue in May?", via)
    expect(page.locator("#link-text")).to_contain_text("Live over")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".bar.is-cancelled")).to_be_visible(timeout=30_000 * FACTOR)
    expect(page.get_by_role("alert")).to_contain_text("Somebody stopped the run.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    assert run_of(tab)["state"] == "cancelled"


def test_the_transport_can_be_changed_midway(
    start: Callable[..., Server], open_tab: Callable[..., Tab], provider: str
) -> None:
    """The run goes on over the other transport, from the same event; the address follows."""
    tab = open_tab(start(OPENAI_API_KEY="held", OPENAI_BASE_URL=provider).url)
    page = tab.open()
    ask(page, "What was our revenue in May?", "sse")
    expect(page.locator("#link-text")).to_have_text("Live over SSE")
    choose(page, "ws")
    expect(page.locator("#link-text")).to_have_text("Live over WebSocket")
    assert page.url.endswith("via=ws")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".bar.is-cancelled")).to_be_visible(timeout=30_000 * FACTOR)
    expect(page.locator("#link-text")).to_have_text(f"All {run_of(tab)['last_id']} events received over WebSocket")


def test_an_error_shows_its_code_and_lets_one_ask_again(
    start: Callable[..., Server], open_tab: Callable[..., Tab], provider: str
) -> None:
    """A refused key: the code, words for people, never the key; and a button for the same question."""
    page = open_tab(start(OPENAI_API_KEY="sk-refused", OPENAI_BASE_URL=provider).url).open()
    ask(page, "What was our revenue in May?")
    expect(page.get_by_role("alert")).to_contain_text("model_auth", timeout=30_000 * FACTOR)
    assert "sk-refused" not in page.content()
    first = page.url
    page.get_by_role("button", name="Ask again").click()
    page.wait_for_url(lambda url: url != first)
    expect(page.locator("#run-title")).to_have_text("What was our revenue in May?")


@BOTH
def test_a_server_that_comes_back_is_found_again(
    start: Callable[..., Any], open_tab: Callable[..., Tab], provider: str, via: str
) -> None:
    """Killed and started anew: the page shows that it lost the connection, and resumes the same run by itself."""
    settings = {"OPENAI_API_KEY": "held", "OPENAI_BASE_URL": provider}
    server = start(**settings)
    tab = open_tab(server.url)
    page = tab.open()
    ask(page, "What was our revenue in May?", via)
    expect(page.locator(".link-state.is-live")).to_be_visible()
    page.wait_for_url("**/client#run=*")
    server.kill()
    expect(page.locator("#link-text")).to_contain_text("Trying again")
    start("--port", server.url.rpartition(":")[2], data=server.data, **settings)
    expect(page.locator(".link-state.is-live, .link-state.is-ended")).to_be_visible(timeout=30_000 * FACTOR)
    assert run_of(tab)["question"] == "What was our revenue in May?"
    assert [error for error in tab.errors if "ERR_" not in error and "WebSocket" not in error] == []
    tab.errors.clear()  # the browser itself logs each refused connection


def lose_first_answer(page: Page) -> None:
    """The first question reaches the server, and its answer never reaches the page."""
    lost: list[str] = []

    def stream(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.request.url)
            route.fetch()
            route.abort()

    def socket(page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()
        if not lost:
            lost.append(page_side.url)
            server_side.on_message(lambda _: page_side.close(code=1011))

    page.route("**/ask-stream", stream)
    page.route_web_socket("**/ws", socket)


@BOTH
def test_a_question_whose_answer_was_lost_starts_one_run_only(open_tab: Callable[..., Tab], via: str) -> None:
    """The page sends it again with the same key, and joins the run that it had started."""
    tab = open_tab()
    lose_first_answer(tab.page)
    page = tab.open()
    question = f"What was our revenue in May, {via}?"
    ask(page, question, via)
    completed(page)
    runs = page.request.get(f"{tab.url}/runs").json()["runs"]
    assert [run["question"] for run in runs].count(question) == 1
    assert [error for error in tab.errors if "ERR_FAILED" not in error] == []
    tab.errors.clear()  # the browser itself logs the request that failed


# Texts of a hostile agent, or of a model under prompt injection.
MARKUP = "<img src=x onerror='window.ran=1'><script>window.ran=1</script><svg onload='window.ran=1'>"
SPEECH = f"{MARKUP}\n\n[click](javascript:window.ran=1) ![p](https://evil.example/p.png)"


def hostile_events(run_id: str) -> list[dict[str, Any]]:
    """A whole run in which every text that a peer could choose is markup."""

    def event(kind: str, **data: Any) -> dict[str, Any]:
        return {"event_type": kind, "agent_name": MARKUP, "message": SPEECH, "data": data, "run_id": run_id}

    call = {"tool_name": MARKUP, "parameters": {MARKUP: MARKUP, "sql": f"SELECT '{MARKUP}'"}, "call_id": "c1"}
    series = [{"name": MARKUP, "values": [1, 2]}, {"name": MARKUP, "values": [2, 1]}]
    charts = [
        {"type": kind, "title": MARKUP, "labels": [MARKUP, "b"], "unit": MARKUP} for kind in ("bar", "line", "pie")
    ]
    ended = [
        event(
            "tool_execution",
            **call,
            status="finished",
            result={"chart": {**chart, "series": series[: 1 if chart["type"] == "pie" else 2]}},
        )
        for chart in charts
    ]
    return [
        event("started", question=MARKUP, model=MARKUP, session_id="s", progress=0),
        event("agent_thinking", progress=5),
        event("agent_chunk", delta=SPEECH, message_id="m1"),
        event("agent_response", progress=25, message_id="m1"),
        event("tool_execution", **call, status="started"),
        event("tool_execution", **call, status="failed", result=SPEECH),
        *ended,
        event("tool_execution", **call, status="finished", result=[{MARKUP: MARKUP}]),
        event("input_requested", request_id="q1", prompt=SPEECH, schema={MARKUP: MARKUP}, deadline=MARKUP),
        event("input_resolved", request_id="q1", outcome="answered", value={MARKUP: SPEECH}),
        event("input_requested", request_id="q2", prompt=SPEECH, schema={"type": "string"}, deadline=MARKUP),
        event("input_resolved", request_id="q2", outcome="answered", value=SPEECH),
        event(MARKUP, anything=MARKUP),
        event("completed", final_response=SPEECH, total_messages=1, duration_ms=1, usage={MARKUP: MARKUP}),
    ]


def hostile_lines(run_id: str = "hostile") -> list[str]:
    made = enumerate(hostile_events(run_id), 1)
    return [json.dumps({"event": {**one, "id": i, "timestamp": "2026-11-22T10:30:00.000Z"}}) for i, one in made]


def hostile_session(route: Route) -> None:
    run = {"run_id": "hostile", "question": MARKUP, "state": MARKUP, "created_at": MARKUP}
    route.fulfill(json={"session_id": "s", "runs": [run]})


def hostile_stream(route: Route) -> None:
    body = "".join(f"id: {i}\ndata: {line}\n\n" for i, line in enumerate(hostile_lines(), 1))
    route.fulfill(status=200, headers={"Content-Type": "text/event-stream", "X-Run-Id": "hostile"}, body=body)


def hostile_socket(socket: WebSocketRoute) -> None:
    def answer(_: str | bytes) -> None:
        socket.send(json.dumps({"reply": {"ref": 1, "ok": True, "run_id": "hostile"}}))
        for line in hostile_lines():
            socket.send(line)

    socket.on_message(answer)


@BOTH
def test_text_of_agents_is_never_run(tab: Tab, via: str) -> None:
    """Markup in every text of every event, on the wire itself: none of it becomes more than text."""
    page = tab.page
    page.route("**/ask-stream", hostile_stream)
    page.route_web_socket("**/ws", hostile_socket)
    page.route("**/sessions/s", hostile_session)
    page.route("**/runs/hostile", lambda route: route.fulfill(json={"pending_input": None}))
    tab.open()
    ask(page, "anything", via)
    completed(page)
    for details in page.locator("details.tool > summary, details.data > summary").all():
        details.click()
    page.locator("#raw > summary").click()
    expect(page.locator("#raw-lines")).to_contain_text("onerror")
    assert page.evaluate("[window.ran ?? 0, document.querySelectorAll('main :is(script, iframe, img)').length]") == [
        0,
        0,
    ]
    assert page.locator("#timeline .agent").first.text_content() == MARKUP
    assert page.locator("#report .prose a").first.get_attribute("href") is None


def test_the_browser_itself_refuses_html_that_was_not_sanitised(open_tab: Callable[..., Tab]) -> None:
    """In case of a later `innerHTML`: the page's policy lets only DOMPurify make HTML."""
    tab = open_tab()
    page = tab.open()
    refused = page.evaluate("""() => {
      try { document.createElement('div').innerHTML = '<b>x</b>'; return 'taken'; } catch (error) { return error.name; }
    }""")
    assert refused == "TypeError"
    tab.errors.clear()  # the refusal is logged
