"""A hostile page in a real browser: served as evil.example, and under a name that was pointed at this machine.

Nothing that it tries may start, read, cancel or answer anything, with its owner's browser signed in or not.
"""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, sync_playwright

from tests.conftest import CHROMIUM_FLAGS
from tests.e2e.access import COUNTING, TOKENS, WAYS, serving
from tests.e2e.conftest import started

pytestmark = pytest.mark.browser

# All that a page can try without its victim's help. Each returns what it got; a refusal is "refused".
ATTACKS = """
async ({server, run}) => {
  const tried = async (work) => { try { return await work(); } catch { return 'refused'; } };
  const json = {'Content-Type': 'application/json'};
  const question = JSON.stringify({question: '9 9'});
  const read = (path, options) => tried(async () => (await fetch(server + path, options)).status);
  const blind = (path, options) => tried(async () => (await fetch(server + path, {mode: 'no-cors', ...options})).type);
  const element = (tag, attribute, path) => new Promise((resolve) => {
    const node = document.createElement(tag);
    node.onload = () => resolve('loaded');
    node.onerror = () => resolve('refused');
    node[attribute] = server + path;
    if (tag === 'link') node.rel = 'stylesheet';
    document.body.append(node);
    setTimeout(() => resolve('silent'), 3000);
  });
  const socket = () => new Promise((resolve) => {
    const ws = new WebSocket(server.replace('http', 'ws') + '/ws', 'askstream.v1');
    ws.onopen = () => { ws.send(JSON.stringify({type: 'ask', question: '9 9'})); resolve('opened'); };
    ws.onerror = () => resolve('refused');
  });
  const stream = (path) => new Promise((resolve) => {
    const source = new EventSource(server + path);
    source.onmessage = () => resolve('read');
    source.onerror = () => { source.close(); resolve('refused'); };
  });
  const form = (path) => new Promise((resolve) => {
    const frame = document.createElement('iframe');
    frame.name = 'f' + Math.random();
    frame.onload = () => resolve('sent');
    document.body.append(frame);
    const node = document.createElement('form');
    Object.assign(node, {method: 'post', action: server + path, target: frame.name, enctype: 'text/plain'});
    document.body.append(node);
    node.submit();
    setTimeout(() => resolve('silent'), 1000);
  });
  return {
    list: await read('/runs'),
    show: await read(`/runs/${run}`),
    events: await read(`/runs/${run}/events`),
    ask: await read('/runs', {method: 'POST', headers: json, body: question}),
    cancel: await read(`/runs/${run}/cancel`, {method: 'POST'}),
    answer: await read(`/runs/${run}/input`, {method: 'POST', headers: json, body: '{"request_id":"x","value":1}'}),
    ticket: await read(`/runs/${run}/ticket`, {method: 'POST'}),
    login: await read('/login', {method: 'POST', headers: json, body: JSON.stringify({token: 'x'})}),
    signed: await read('/runs', {credentials: 'include'}),
    socket: await socket(),
    stream: await stream('/test-stream'),
    replay: await stream(`/runs/${run}/events`),
    blindCancel: await blind(`/runs/${run}/cancel`, {method: 'POST', credentials: 'include'}),
    blindAsk: await blind('/runs', {method: 'POST', body: question, credentials: 'include'}),
    blindTest: await blind('/test-stream', {credentials: 'include'}),
    beacon: navigator.sendBeacon(`${server}/runs/${run}/cancel`),
    image: await element('img', 'src', '/test-stream'),
    script: await element('script', 'src', '/runs'),
    style: await element('link', 'href', '/test-stream'),
    frame: await element('iframe', 'src', '/test-stream'),
    object: await element('object', 'data', '/test-stream'),
    form: await form(`/runs/${run}/cancel`),
    forget: await read(`/runs/${run}`, {method: 'DELETE'}),
  };
}
"""
# These can't be read by a page, whatever came back; the server's state shows what they did.
UNREADABLE = {"blindCancel", "blindAsk", "blindTest", "beacon", "image", "style", "frame", "object", "form"}


class Blank(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>hostile</title><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@dataclass(frozen=True)
class Victim:
    """A server with a run that goes on. `own`: the headers of the principal that started it."""

    url: str
    run_id: str
    own: dict[str, str]

    def state(self) -> tuple[str, int]:
        """Return the run's state, and how many runs the principal has."""
        runs = self.get("/runs?limit=200")["runs"]
        return self.get(f"/runs/{self.run_id}")["state"], len(runs)

    def get(self, path: str) -> Any:
        return httpx2.get(self.url + path, headers=self.own).json()


@pytest.fixture(scope="module")
def evil_port() -> Iterator[int]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield httpd.server_address[1]
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(scope="module")
def page(chromium: str) -> Iterator[Page]:
    """A browser in which evil.example is this machine."""
    flags = [*CHROMIUM_FLAGS, "--host-resolver-rules=MAP evil.example 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield browser.new_page()
        browser.close()


@contextmanager
def victim(folder: Any, direct: str, *, tokens: bool) -> Generator[Victim]:
    own = {"Authorization": f"Bearer {TOKENS['alice']}"} if tokens else {}
    opened = (
        serving(folder, ASKSTREAM_DIRECT=direct)
        if tokens
        else started(folder / "d", *COUNTING, ASKSTREAM_DIRECT=direct)
    )
    with opened as server:
        run = httpx2.post(f"{server.url}/runs", json={"question": "6000 0.1"}, headers=own).json()
        yield Victim(server.url, run["run_id"], own)


@pytest.fixture(scope="module", params=[("direct", False), ("plain", True)], ids=str)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    way, tokens = request.param
    with victim(tmp_path_factory.mktemp("victim"), WAYS[way], tokens=tokens) as found:
        yield found


def attacked(page: Page, target: Victim, server: str) -> dict[str, Any]:
    return page.evaluate(ATTACKS, {"server": server, "run": target.run_id})


def sign_in(page: Page, target: Victim) -> None:
    if target.own:
        page.goto(f"{target.url}/client#token={TOKENS['alice']}")
        page.wait_for_url("**/client")


def test_a_page_of_another_site_can_do_nothing(page: Page, target: Victim, evil_port: int) -> None:
    """Its browser is signed in. The server is named by its usual names."""
    sign_in(page, target)
    page.goto(f"http://evil.example:{evil_port}/")
    for server in (target.url, target.url.replace("127.0.0.1", "localhost")):
        got = attacked(page, target, server)
        assert {name: result for name, result in got.items() if name not in UNREADABLE} == dict.fromkeys(
            got.keys() - UNREADABLE, "refused"
        )
    assert target.state() == ("running", 1)


def test_a_page_whose_name_was_pointed_here_can_do_nothing(page: Page, target: Victim) -> None:
    """DNS rebinding: to the browser the page and the server are one origin, so it could read every answer."""
    rebound = target.url.replace("127.0.0.1", "evil.example")
    sign_in(page, target)
    page.goto(f"{rebound}/runs")  # a refusal, and so a document of this origin without a policy of its own
    got = attacked(page, target, rebound)
    refused = 401 if target.own else 421
    assert {name: got[name] for name in ("list", "show", "events", "ask", "cancel", "answer", "forget", "signed")} == (
        dict.fromkeys(("list", "show", "events", "ask", "cancel", "answer", "forget", "signed"), refused)
    )
    assert (got["socket"], got["stream"], got["replay"]) == ("refused", "refused", "refused")
    assert target.state() == ("running", 1)


def test_the_attacks_work_on_a_page_of_our_own(page: Page, target: Victim) -> None:
    """Else the tests above would prove nothing. It is the last one: the run is over."""
    sign_in(page, target)
    page.goto(f"{target.url}/health")
    got = attacked(page, target, target.url)
    assert (got["list"], got["show"], got["ask"], got["cancel"], got["ticket"]) == (200, 200, 202, 202, 201)
    assert (got["socket"], got["stream"], got["replay"]) == ("opened", "read", "read")
    assert got["forget"] == 204
    assert len(target.get("/runs")["runs"]) >= 4
