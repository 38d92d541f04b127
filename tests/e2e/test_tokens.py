"""Clients that need a token, the one that a server makes, and the command that manages them."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.access import COUNTING, Client
from tests.e2e.conftest import Start
from tests.e2e.viewers import say

ELSEWHERE = {"X-Forwarded-For": "203.0.113.5"}


def command(*arguments: str, data: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "askstream.server", "tokens", *arguments, "--data", str(data)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


async def status_of_socket(client: Client) -> int:
    try:
        async with client.socket() as ws:
            assert (await say(ws, type="ping"))["ok"]
    except InvalidStatus as refused:
        return refused.response.status_code
    return 101


@pytest.mark.parametrize("direct", ["true", "false"])
async def test_this_machine_needs_no_token_and_others_do(start: Start, tmp_path: Path, direct: bool) -> None:
    """The server makes one for them, which only its owner may read. It shows the same runs: they are one person's."""
    server = start(*COUNTING, ASKSTREAM_DIRECT=str(direct))
    here, there = Client(server.url), Client(server.url, ELSEWHERE)
    run_id = await here.start("1 0")
    assert not (server.data / "token").exists(), "nobody needed one"
    assert (await there.send("GET", "/runs")).status_code == 401
    assert await status_of_socket(there) == 401
    file = server.data / "token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    allowed = Client(server.url, {**ELSEWHERE, "Authorization": f"Bearer {token}"})
    assert run_id in (await allowed.send("GET", "/runs")).text
    assert await status_of_socket(allowed) == await status_of_socket(here) == 101
    assert str(file) in server.output
    assert token not in server.output
    assert (await Client(server.url, {"Host": "evil.example"}).send("GET", "/runs")).json()[
        "code"
    ] == "host_not_allowed"
    assert await status_of_socket(Client(server.url, {"Host": "evil.example"})) == 421


async def test_a_server_for_other_machines_prints_where_its_token_is(start: Start) -> None:
    """Its output may be a log: only a terminal gets the link itself. The file is kept, and closed to others."""
    server = start(*COUNTING, "--host", "0.0.0.0")
    file = server.data / "token"
    token = file.read_text().strip()
    assert f"  token  {file}\n" in server.output
    assert token not in server.output
    server.stop()
    file.chmod(0o644)
    again = start(*COUNTING, "--host", "0.0.0.0")
    allowed = Client(again.url, {**ELSEWHERE, "Authorization": f"Bearer {token}"})
    assert (await allowed.send("GET", "/runs")).status_code == 200
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_names_get_tokens_by_a_command(start: Start) -> None:
    """While the server runs. The file has hashes only, and is the operator's own."""
    server = start(*COUNTING)
    added = command("add", "carol", "--admin", data=server.data)
    token = added.stdout.strip()
    assert (added.returncode, len(token)) == (0, 43)
    file = server.data / "tokens"
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert command("add", "dave", data=server.data).returncode == 0
    assert command("list", data=server.data).stdout == "carol admin\ndave\n"
    carol = Client(server.url, {"Authorization": f"Bearer {token}"})
    run_id = await carol.start("1 0")
    assert run_id not in (await Client(server.url).send("GET", "/runs")).text, "this machine is someone else"
    assert (await carol.send("GET", "/runs?everyone=true")).json()["runs"][0]["principal"] == "carol"
    assert command("revoke", "carol", data=server.data).returncode == 0
    assert (await carol.send("GET", "/runs")).status_code == 401
    assert command("list", data=server.data).stdout == "dave\n"
    for wrong in (("revoke", "carol"), ("add", "two words"), ("add", "")):
        failed = command(*wrong, data=server.data)
        assert (failed.returncode, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)


async def test_a_proxy_that_authenticates_turns_tokens_off(start: Start) -> None:
    """It must say by which names the server is known."""
    server = start(*COUNTING, "--auth", "none", ASKSTREAM_HOSTS='["ask.example.org"]')
    visitor = Client(server.url, {**ELSEWHERE, "Host": "ask.example.org", "Origin": "https://ask.example.org"})
    assert (await visitor.send("GET", "/runs")).status_code == 200
    assert await status_of_socket(visitor) == 101
    for headers in ({"Host": "evil.example"}, {"Host": "ask.example.org", "Origin": "https://evil.example"}):
        assert (await Client(server.url, {**ELSEWHERE, **headers}).send("GET", "/runs")).status_code in (403, 421)


async def test_a_hook_says_who_asks(start: Start) -> None:
    """Here by a header. It is asked for every request and every handshake, and its failure is no admission."""
    server = start(*COUNTING, "--auth", "tests.e2e.hooks:by_header")
    alice, bob = (Client(server.url, {"X-User": name}) for name in ("alice", "bob"))
    run_id = await alice.start("1 0")
    assert (await alice.send("GET", f"/runs/{run_id}")).status_code == 200
    assert (await bob.send("GET", f"/runs/{run_id}")).status_code == 404
    assert (await Client(server.url, {"X-User": "ops"}).send("GET", "/runs?everyone=true")).status_code == 200
    assert await status_of_socket(alice) == 101
    for headers, status in (
        ({}, 401),
        ({"X-User": "breaks"}, 503),
        ({"X-User": "exits"}, 503),
        ({"X-User": "wrong"}, 503),
    ):
        client = Client(server.url, headers)
        assert (await client.send("GET", "/runs")).status_code == status, headers
        assert await status_of_socket(client) == status
    assert (await Client(server.url).send("GET", "/health")).status_code == 200


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ASKSTREAM_CORS_ORIGINS": '["*"]', "ASKSTREAM_AUTH": "none", "ASKSTREAM_HOST": "0.0.0.0"}, "every page"),
        ({"ASKSTREAM_CORS_ORIGINS": '["null"]', "ASKSTREAM_AUTH": "none"}, "null"),
        ({"ASKSTREAM_CORS_ORIGINS": '["a.example"]'}, "expected an origin"),
        ({"ASKSTREAM_HOSTS": '["http://a"]'}, "expected a host"),
        ({"ASKSTREAM_AUTH": "nothing"}, "authentication"),
        ({"ASKSTREAM_AUTH": "no.such:hook"}, "there is no module no"),
        ({"ASKSTREAM_AUTH": "jwt"}, "ASKSTREAM_JWT_SECRET"),
        ({"ASKSTREAM_TOKENS_FILE": "/nowhere/tokens"}, "ASKSTREAM_TOKENS_FILE"),
    ],
)
def test_a_setting_that_would_open_everything_is_refused(start: Start, environment: dict[str, str], words: str) -> None:
    """In one line, at the start."""
    with pytest.raises(RuntimeError, match=re.escape(words)) as refused:
        start(*COUNTING, data=None, **environment)
    assert "Traceback" not in str(refused.value)


async def test_every_origin_is_one_setting_and_a_warning(start: Start) -> None:
    """As the first API promised: any page may ask, on this machine."""
    server = start(*COUNTING, ASKSTREAM_CORS_ORIGINS='["*"]')
    page = Client(server.url, {"Origin": "https://any.example"})
    answer = await page.send("GET", "/runs")
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert await status_of_socket(page) == 101
    assert "the pages of every site may use this server" in server.output
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert (await Client(server.url, image).send("GET", "/test-stream")).status_code == 403
    assert json.loads((await page.send("GET", "/runs")).text)["runs"] == []
