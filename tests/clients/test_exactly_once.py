"""Other authors' clients, through a proxy that cuts their connections: each gets every event once, by id."""

import json
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import httpx2
import pytest

from tests.clients.cutting import CuttingProxy, cutting
from tests.clients.npm_packages import NODE, Unavailable, install
from tests.clients.python_clients import CLIENTS
from tests.timing import PATIENCE

Cuts: TypeAlias = Sequence[tuple[int, ...]]
FollowAll: TypeAlias = Callable[[CuttingProxy, str, Cuts], Sequence[Sequence[int | str]]]
"""Follows a run once for each row of cuts, given the proxy, the run's question and key, and the rows."""

NPM_CLIENTS = ("eventsource", "undici", "fetch-event-source")
SHORT, LONG = "1 0", "298 0"  # three events, three hundred
SEED = 20261130


@pytest.fixture(scope="module")
def npm_clients() -> Path:
    try:
        return install()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=[*CLIENTS, *NPM_CLIENTS])
def follow_all(request: pytest.FixtureRequest) -> FollowAll:
    if request.param in CLIENTS:
        return _in_python(request.param)
    return _in_node(request.param, request.getfixturevalue("npm_clients"))


@pytest.fixture
def proxy(own_way: str) -> Iterator[CuttingProxy]:
    with cutting(own_way) as proxy:
        yield proxy


def _in_python(name: str) -> FollowAll:
    def follow(proxy: CuttingProxy, question: str, rows: Cuts) -> Sequence[Sequence[int | str]]:
        run_id = _started(proxy.url, question)
        urls = [_address(proxy, f"/runs/{run_id}/events", row) for row in rows]
        with ThreadPoolExecutor(8) as pool:
            return [*pool.map(CLIENTS[name], urls)]

    return follow


def _in_node(name: str, folder: Path) -> FollowAll:
    def follow(proxy: CuttingProxy, question: str, rows: Cuts) -> Sequence[Sequence[int | str]]:
        path, asked = f"/runs/{_started(proxy.url, question)}/events", dict[str, str]()
        if name == "fetch-event-source":
            path, asked = "/ask-stream", {"body": json.dumps({"question": question}), "key": _key(question)}
        cases = [{"url": _address(proxy, path, row), **asked} for row in rows]
        script = Path(__file__).with_name("follow.mjs")
        done = subprocess.run(
            [NODE, "--no-warnings", script, folder],
            input=json.dumps({"client": name, "cases": cases}),
            capture_output=True,
            text=True,
            timeout=30 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return follow


def _key(question: str) -> str:
    return f"key-{question.replace(' ', '-')}"


def _started(url: str, question: str) -> str:
    """Return the id of a run that has ended, and that has a key."""
    body = {"question": question, "idempotency_key": _key(question)}
    asked = httpx2.post(f"{url}/ask-stream", json=body, timeout=60)
    asked.raise_for_status()
    return asked.headers["x-run-id"]


def _address(proxy: CuttingProxy, path: str, cuts: tuple[int, ...]) -> str:
    joined = ",".join(map(str, cuts))
    return f"{proxy.url}{path}?cut={joined}&case={random.randrange(2**60)}"


def _check(results: Sequence[Sequence[int | str]], rows: Cuts, last: int, *, repairs: int) -> None:
    """Report each row whose client got something else than every event once.

    fetch-event-source drops an event if it is cut between the two line ends behind its id, one byte of each event: the
    loop around it repairs that, at most so many times.
    """
    expected = list(range(1, last + 1))
    pairs = zip(rows, results, strict=True)
    wrong = [(cuts, got) for cuts, got in pairs if [each for each in got if each != "repaired"] != expected]
    assert not wrong, f"{len(wrong)} of {len(rows)}: {wrong[:5]}"
    assert sum(got.count("repaired") for got in results) <= repairs


def test_some_cuts_of_a_short_stream(follow_all: FollowAll, proxy: CuttingProxy) -> None:
    """Spread over the answer, and without any cut."""
    rows = [(), *[(at,) for at in range(380, 1300, 61)]]
    _check(follow_all(proxy, SHORT, rows), rows, 3, repairs=1)


@pytest.mark.long
def test_a_cut_at_every_offset_of_a_short_stream(follow_all: FollowAll, proxy: CuttingProxy) -> None:
    """Head included."""
    rows = [(at,) for at in range(1, 1500)]
    _check(follow_all(proxy, SHORT, rows), rows, 3, repairs=3)


@pytest.mark.long
def test_cuts_at_seeded_offsets_of_a_long_stream(follow_all: FollowAll, proxy: CuttingProxy) -> None:
    """Three hundred, each cutting the second connection, too."""
    chance = random.Random(SEED)
    rows = [(chance.randrange(400, 60_000), chance.randrange(400, 30_000)) for _ in range(300)]
    _check(follow_all(proxy, LONG, rows), rows, 300, repairs=15)
