"""docs/deploying.md: each way that it shows starts as shown, and lets in those that it says."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.docs import blocks
from tests.e2e.access import COUNTING, Client
from tests.e2e.conftest import ServerProcess, started

PAGE = Path(__file__).parents[2] / "docs" / "deploying.md"
TEXT = PAGE.read_text()
ELSEWHERE = {"X-Forwarded-For": "203.0.113.5"}


def serving(word: str) -> blocks.Command:
    """Return the page's command with this word, or the one without options."""
    lines = [line for line in blocks.commands(PAGE) if re.search(rf"askstream serve{word}$", line)]
    words = shlex.split(lines[0])
    at = words.index("askstream")
    return blocks.Command(words[at + 2 :], dict(pair.split("=", 1) for pair in words[:at]))


def output(line: str, folder: Path) -> str:
    """Run a line of the page in a folder."""
    command = [sys.executable, "-m", "askstream.server", *shlex.split(line)[1:]]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


async def status(server: ServerProcess, **headers: str) -> int:
    return (await Client(server.url, headers).send("GET", "/runs")).status_code


def test_each_way_is_tested() -> None:
    """The page shows five ways to start, and the commands for tokens."""
    shown = [line for line in blocks.commands(PAGE) if "askstream serve" in line]
    tested = ("", " --host 0.0.0.0", " --auth none", " --auth who:by_header", " --auth jwt")
    assert [line for line in shown if line.endswith(tuple(f"askstream serve{way}" for way in tested))] == shown
    assert len(shown) == len(tested)
    assert sum(line.startswith("askstream tokens") for line in blocks.commands(PAGE)) == 4
    assert TEXT.splitlines()[2].startswith("**A proxy on the same machine that reports no clients")


async def test_this_machine_needs_nothing(tmp_path: Path) -> None:
    with started(tmp_path / "data", *COUNTING, *serving("").options) as server:
        assert await status(server) == 200
        assert await status(server, **ELSEWHERE) == 401


async def test_a_token_is_made_and_people_get_their_own(tmp_path: Path) -> None:
    """The page's commands, with the data folder of this test."""
    with started(tmp_path / ".askstream", *COUNTING, *serving(" --host 0.0.0.0").options) as server:
        token = (tmp_path / ".askstream" / "token").read_text().strip()
        assert await status(server, **ELSEWHERE) == 401
        assert await status(server, **ELSEWHERE, Authorization=f"Bearer {token}") == 200
        lines = [line for line in blocks.commands(PAGE) if line.startswith("askstream tokens")]
        printed = [await asyncio.to_thread(output, line, tmp_path) for line in lines]
        assert printed[2].split() == ["anonymous", "alice", "ops", "admin"]
        assert await status(server, **ELSEWHERE, Authorization=f"Bearer {printed[0].strip()}") == 401, "revoked"
        everybody = Client(server.url, {**ELSEWHERE, "Authorization": f"Bearer {printed[1].strip()}"})
        assert (await everybody.send("GET", "/runs?everyone=true")).status_code == 200


async def test_a_proxy_authenticates(tmp_path: Path) -> None:
    command = serving(" --auth none")
    with started(tmp_path / "data", *COUNTING, *command.options, **command.variables) as server:
        assert await status(server, **ELSEWHERE, Host="ask.example.org") == 200
        assert await status(server, **ELSEWHERE, Host="other.example.org") == 421


async def test_a_function_reads_what_the_proxy_sends(tmp_path: Path) -> None:
    (tmp_path / "who.py").write_text(blocks.modules(PAGE)["who.py"])
    command = serving(" --auth who:by_header")
    orchestrator = ("--orchestrator", "tests.embedding.counting:counting")
    paths = {"PYTHONPATH": str(PAGE.parents[1])}
    with started(tmp_path / "data", *orchestrator, *command.options, cwd=str(tmp_path), **paths) as server:
        assert await status(server) == 401
        assert await status(server, **{"X-Remote-User": "alice"}) == 200
        root = Client(server.url, {"X-Remote-User": "root@example.org"})
        assert (await root.send("GET", "/runs?everyone=true")).status_code == 200


async def test_json_web_tokens(tmp_path: Path) -> None:
    """With the page's variables, but a file of keys in place of the URL."""
    key, file = ec.generate_private_key(ec.SECP256R1()), tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [{**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "k"}]}))
    command = serving(" --auth jwt")
    variables = {**command.variables, "ASKSTREAM_JWT_KEYS": str(file)}
    with started(tmp_path / "data", *COUNTING, *command.options, **variables) as server:
        claims = {"sub": "alice", "exp": time.time() + 60, "aud": command.variables["ASKSTREAM_JWT_AUDIENCE"]}
        token = jwt.encode(claims, key, "ES256", headers={"kid": "k"})
        assert await status(server) == 401
        assert await status(server, Authorization=f"Bearer {token}") == 200
        assert await status(server, Authorization=f"Bearer {token[:-2]}") == 401
        alice = Client(server.url, {"Authorization": f"Bearer {token}"})
        login = await Client(server.url).send("POST", "/login", json={"token": token})
        assert int(re.findall(r"Max-Age=(\d+)", login.headers["set-cookie"])[0]) <= 60
        async with alice.socket() as ws:
            await ws.send('{"type": "ping"}')
            assert '"ok":true' in str(await ws.recv())


@pytest.mark.parametrize("name", re.findall(r"`(ASKSTREAM_\w+)", TEXT))
def test_each_variable_is_a_setting(name: str) -> None:
    from askstream.server.settings import Settings

    assert name.removeprefix("ASKSTREAM_").lower() in Settings.model_fields
