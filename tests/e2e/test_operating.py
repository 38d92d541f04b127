"""Operators delete and copy a server's files, close its terminal, and set variables wrongly."""

import json
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from websockets import ConnectionClosedError, Subprotocol
from websockets.sync.client import connect

from tests.e2e.conftest import ROOT, ServerProcess, Start, started
from tests.timing import PATIENCE

Eventually = Callable[[Callable[[], bool]], None]
QUESTION = {"question": "What was the revenue in September 2026?"}


def ready(server: ServerProcess) -> httpx2.Response:
    return httpx2.get(f"{server.url}/ready")


def ask(server: ServerProcess) -> httpx2.Response:
    return httpx2.post(f"{server.url}/runs", json=QUESTION)


def close_code_after_asking(server: ServerProcess) -> int:
    """The code with which a WebSocket is closed after a question."""
    with connect(f"ws{server.url.removeprefix('http')}/ws", subprotocols=[Subprotocol("askstream.v1")]) as socket:
        socket.send(json.dumps({"type": "ask", "ref": 1, **QUESTION}))
        with pytest.raises(ConnectionClosedError) as closed:
            socket.recv(PATIENCE)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def command(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASKSTREAM_")}
    return subprocess.run(
        [sys.executable, "-m", "askstream.server", *words],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=6 * PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("direct", ["true", "false"])
@pytest.mark.parametrize("damage", [os.unlink, _empty])
def test_a_journal_that_is_gone_is_noticed_within_seconds(
    start: Start, eventually: Eventually, damage: Callable[[Path], None], direct: str
) -> None:
    """Not ready, and no run is accepted that no later server would know, over HTTP or WebSocket."""
    server = start(ASKSTREAM_DIRECT=direct)
    assert ready(server).json() == {"status": "ready"}
    assert ask(server).status_code == 202
    damage(server.data / "askstream.db")
    eventually(lambda: ready(server).status_code == 503)
    assert ready(server).json()["code"] == "journal_unavailable"
    assert "'askstream.db' was" in ready(server).json()["detail"]
    assert (ask(server).status_code, ask(server).json()["code"]) == (503, "journal_unavailable")
    assert close_code_after_asking(server) == 1011
    assert httpx2.get(f"{server.url}/health").status_code == 200
    eventually(lambda: "no run can be started: 'askstream.db' was" in server.output)


def test_readiness_tells_the_truth_about_a_full_disk(start: Start, eventually: Eventually) -> None:
    """A limit on the size of files stands for the disk. The server is ready again as soon as there is room."""
    server = start()
    assert ready(server).status_code == 200
    limit = (server.data / "askstream.db-wal").stat().st_size
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
    eventually(lambda: ready(server).status_code == 503)
    assert ready(server).json()["code"] == "journal_unavailable"
    assert ask(server).status_code == 503
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
    eventually(lambda: ready(server).status_code == 200)
    assert ask(server).status_code == 202


def test_readiness_tells_the_truth_about_a_locked_journal(start: Start, eventually: Eventually) -> None:
    """It answers at once, though SQLite would wait for the other program."""
    server = start()
    with closing(sqlite3.connect(server.data / "askstream.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        eventually(lambda: ready(server).status_code == 503)
        assert "lock" in ready(server).json()["detail"]
        other.execute("ROLLBACK")
    eventually(lambda: ready(server).status_code == 200)


def test_all_that_the_server_writes_is_private_also_where_it_was_not(tmp_path: Path, warehouse: Path) -> None:
    """Data folder, journal, lock, database and log; the log says what was changed."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    shutil.copy(warehouse, data)
    (data / warehouse.name).chmod(0o644)
    (data / "server.log").touch(mode=0o644)
    with started(data, ASKSTREAM_LOG_FILE=str(data / "server.log")) as server:
        assert ask(server).status_code == 202
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in data.iterdir()}
        assert modes.pop("warehouse.db") == 0o600
        assert modes == dict.fromkeys(
            ("askstream.db", "askstream.db-wal", "askstream.db-shm", "askstream.db.lock", "server.log"), 0o600
        )
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        log = (data / "server.log").read_text()
    assert f"{data} was open to other users (mode 755); its mode is 700 now" in log
    assert f"{data / 'server.log'} was open to other users (mode 644); its mode is 600 now" in log


def test_a_backup_of_a_running_server_has_everything(start: Start, tmp_path: Path) -> None:
    """The copy is one private file, which another server goes on with."""
    server, copy = start(), tmp_path / "copies" / "askstream.db"
    copy.parent.mkdir()
    done = httpx2.post(f"{server.url}/ask", json=QUESTION, timeout=PATIENCE).json()
    for _ in range(2):
        result = command("backup", str(copy), "--data", str(server.data))
        assert (result.returncode, result.stderr) == (0, "")
    assert [each.name for each in copy.parent.iterdir()] == ["askstream.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with started(copy.parent) as other:
        run = httpx2.get(f"{other.url}/runs/{done['run_id']}").json()
        assert run == httpx2.get(f"{server.url}/runs/{done['run_id']}").json()
        assert run["state"] == "completed"


def test_a_backup_that_is_not_possible_says_why(tmp_path: Path) -> None:
    """One sentence, and nothing is overwritten but an earlier copy."""
    data, text = tmp_path / "data", tmp_path / "text"
    data.mkdir()
    text.write_text("my notes")
    with closing(sqlite3.connect(data / "askstream.db")) as db:
        db.execute("CREATE TABLE other (a)")
    tries = {
        ("--data", str(tmp_path / "none"), "x"): "there is no journal",
        ("--data", str(data), str(text)): "is no earlier copy",
        ("--data", str(data), str(data / "askstream.db")): "is the journal itself",
        ("--data", str(data), str(tmp_path / "none" / "x")): "can't be written",
        ("--data", str(data), str(tmp_path / "x")): "another program's database",
    }
    for words, reason in tries.items():
        result = command("backup", *words)
        assert result.returncode == 1
        (line,) = result.stderr.splitlines()
        assert line.startswith("askstream: ")
        assert reason in line
    assert text.read_text() == "my notes"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data", "text"]


def test_a_closed_terminal_drains_the_server(start: Start) -> None:
    """As SIGTERM does. After a clean stop the journal's file is alone."""
    server = start()
    assert ask(server).status_code == 202
    server.process.send_signal(signal.SIGHUP)
    assert server._ended() == 0  # pyright: ignore[reportPrivateUsage]
    assert "stopping: no new runs" in server.output
    assert {each.name for each in server.data.glob("askstream.db*")} == {"askstream.db", "askstream.db.lock"}


def test_a_server_under_nohup_survives_its_terminal(tmp_path: Path) -> None:
    """SIGHUP was inherited as ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = ServerProcess(tmp_path / "data")
    finally:
        signal.signal(signal.SIGHUP, before)
    try:
        server.process.send_signal(signal.SIGHUP)
        assert ready(server).status_code == 200
        assert "stopping" not in server.output
    finally:
        server.release()


@pytest.mark.parametrize("redirections", [">&- 2>&-", "<&- >&- 2>&-", "| true", "2>&1 | true"])
def test_a_server_whose_output_is_closed_serves(tmp_path: Path, redirections: str, eventually: Eventually) -> None:
    """No file of it, such as the journal, gets what is printed. It stops in order."""
    serve = f"exec {sys.executable} -m askstream.server serve --port 0 --data {tmp_path / 'data'}"
    shell = subprocess.Popen(
        ["bash", "-c", f"( echo $BASHPID > {tmp_path / 'pid'}; {serve} ) {redirections}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        env={**os.environ, "ASKSTREAM_LOG_FILE": str(tmp_path / "server.log")},
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text().strip()))
    pid = int((tmp_path / "pid").read_text())
    try:
        ports: list[int | None] = []
        eventually(lambda: bool(ports.append(_listening_port(pid)) or ports[-1]))
        assert httpx2.get(f"http://127.0.0.1:{ports[-1]}/ready", timeout=PATIENCE).json() == {"status": "ready"}
    finally:
        os.kill(pid, signal.SIGTERM)
        assert shell.wait(PATIENCE) == 0
    assert "stopping: no new runs" in (tmp_path / "server.log").read_text()


def _listening_port(pid: int) -> int | None:
    """The port on which the server listens. The offline analyst listens on another one."""
    try:
        own = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return None
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        port = int(fields[1].split(":")[1], 16)
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in own and _is_ours(port):
            return port
    return None


def _is_ours(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/health").json() == {"status": "ok"}
    except (httpx2.HTTPError, ValueError):
        return False


def test_a_data_folder_with_any_characters_is_that_very_folder(tmp_path: Path) -> None:
    """SQLite's names of files have characters with a meaning of their own, and so have URLs."""
    data = tmp_path / "a #b?c=d%41&e"
    with started(data) as server:
        assert ask(server).status_code == 202
    assert (data / "askstream.db").stat().st_size > 4096
    assert [each.name for each in tmp_path.iterdir()] == [data.name]


def test_misspelt_variables_are_named_with_the_nearest_setting(start: Start) -> None:
    """And an empty one is as good as none."""
    server = start(
        ASKSTREAM_PROT="8000", ASKSTREAM_PORT="", ASKSTREAM_LOG_FILE="", ASKSTREAM_CORS_ORIGINS="https://a.example"
    )
    assert "there is no setting ASKSTREAM_PROT; did you mean ASKSTREAM_PORT?" in server.output
    allowed = httpx2.get(f"{server.url}/health", headers={"Origin": "https://a.example"})
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://a.example"
