"""The proxies of docs/proxies.md, as real processes. Each setting comes from the page; only its two ports are replaced,
and the test adds what a system's own configuration has."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.timing import GLANCE, PATIENCE

PAGE = Path(__file__).parents[2] / "docs" / "proxies.md"
# Debian's places: /usr/sbin isn't on everybody's path.
PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MODULES = ("mpm_event", "authz_core", "proxy", "proxy_http", "proxy_wstunnel")

Command = Callable[[str, Path, int, str], list[str]]
"""Writes the files below a folder, and returns the command's words behind the program."""


def _nginx(program: str, folder: Path, port: int, setting: str) -> list[str]:
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary} {setting} }}"
    )
    return [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _haproxy(program: str, folder: Path, port: int, setting: str) -> list[str]:
    (folder / "haproxy.cfg").write_text(setting + "\n")
    return [program, "-db", "-f", str(folder / "haproxy.cfg")]


def _caddy(program: str, folder: Path, port: int, setting: str) -> list[str]:
    (folder / "Caddyfile").write_text("{\n admin off\n auto_https off\n}\n" + setting)
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _apache(program: str, folder: Path, port: int, setting: str) -> list[str]:
    modules = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in MODULES)
    own = f"ServerName localhost\nListen {port}\nPidFile {folder}/pid\nErrorLog {folder}/error.log\nMutex pthread\n"
    (folder / "apache2.conf").write_text(modules + own + setting)
    return [program, "-D", "FOREGROUND", "-d", str(folder), "-f", str(folder / "apache2.conf")]


def _varnish(program: str, folder: Path, port: int, setting: str) -> list[str]:
    (folder / "default.vcl").write_text(setting)
    options = ["-F", "-j", "none", "-n", str(folder / "work"), "-s", "malloc,16M", "-a", f"127.0.0.1:{port}"]
    return [program, *options, "-f", str(folder / "default.vcl")]


PROXIES: dict[str, tuple[str, str, Command]] = {
    "nginx": ("nginx", "nginx", _nginx),
    "haproxy": ("haproxy", "haproxy", _haproxy),
    "caddy": ("caddy", "caddy", _caddy),
    "apache": ("apache", "apache2", _apache),
    "varnish": ("vcl", "varnishd", _varnish),
}


def program_of(name: str) -> str | None:
    return shutil.which(PROXIES[name][1], path=PLACES)


@contextmanager
def behind(name: str, folder: Path, upstream: str) -> Generator[str]:
    """Start a proxy before the server at `upstream`, and yield its address."""
    language, _, write = PROXIES[name]
    port = _free_port()
    program = program_of(name)
    assert program is not None
    command = write(program, folder, port, _setting(language, port, upstream.rpartition(":")[2]))
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={"HOME": str(folder), "PATH": PLACES}, stdout=output, stderr=output
        )
        try:
            _wait(process, port, folder)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _setting(language: str, port: int, upstream: str) -> str:
    """Return the page's block with these ports."""
    found = re.search(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found, f"the page has no block in {language}"
    setting = re.sub(r"(listen |bind :|^:|\*:)80\b", rf"\g<1>{port}", found[1], flags=re.MULTILINE)
    return setting.replace("8000", upstream).replace(f"listen {port}", f"listen 127.0.0.1:{port}")


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]


def _wait(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(GLANCE)
    raise RuntimeError(f"it did not start: {(folder / 'output').read_text()}")
