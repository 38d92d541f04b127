"""Projects whose private names are used have tested versions; others are logged."""

import tomllib
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from askstream.agents.models import ModelSettings, connect
from askstream.agents.orchestrator import AutoGenOrchestrator
from askstream.server import process, versions
from askstream.server.app import create_app
from askstream.server.connections.uvicorn_websocket import WebSocket
from askstream.server.settings import Settings
from askstream.server.versions import TESTED
from tools.environment import ROOT


@pytest.mark.parametrize("name", TESTED)
def test_the_bounds_are_those_that_an_installer_keeps_to(name: str) -> None:
    """And the versions that are installed here lie within them."""
    declared = [
        Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    (required,) = [each for each in declared if each.name == name]
    first, end = TESTED[name]
    assert required.specifier == SpecifierSet(f">={first},<{end}")
    assert versions.is_tested(name, version(name))


@pytest.mark.parametrize(
    ("installed", "tested"),
    [
        ("0.54", True), ("0.54.0", True), ("0.54.9", True), ("0.54.0+local", True), ("0.54.1.post1", True),
        ("0.53.9", False), ("0.55", False), ("0.55.0", False), ("0.55.0rc1", False), ("1.0", False), ("0.6", False),
        ("unknown", False), ("", False),
    ],
)  # fmt: skip
def test_a_version_is_compared_by_its_numbers(installed: str, tested: bool) -> None:
    """0.6 comes before 0.54, and anything else than a version was not tested."""
    assert versions.is_tested("uvicorn", installed) is tested


def _always(version: str, _: str) -> str:
    return version


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelname == "WARNING" and r.name == "__main__"]


@pytest.mark.parametrize("installed", ["0.54.0", "0.55.1"])
async def test_outside_of_the_tested_versions_uvicorn_is_used_the_plain_way(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With one line in the log that names what to install; tested versions are not logged."""
    monkeypatch.setattr(uvicorn, "__version__", installed)
    async with create_app(Settings(data=tmp_path, journal="memory://")).open() as app:
        configured = process.config(app)
    configured.load()
    if installed == "0.54.0":
        assert configured.ws_protocol_class is WebSocket
        assert not warnings(caplog)
    else:
        assert cast(Any, configured.http_protocol_class) is HttpToolsProtocol
        assert configured.ws_protocol_class is WebSocketsSansIOProtocol
        (line,) = warnings(caplog)
        assert "uvicorn 0.55.1" in line
        assert "uvicorn>=0.54,<0.55" in line


@pytest.mark.parametrize("installed", ["0.7.5", "0.9.0"])
async def test_an_autogen_outside_of_the_tested_versions_is_logged_once(
    installed: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """All of its packages in one line."""
    monkeypatch.setattr("importlib.metadata.version", partial(_always, installed))

    class Source:
        async def prepare(self) -> None: ...
        async def close(self) -> None: ...

    settings = ModelSettings(model="gpt-4o", api_key="x")
    orchestrator = AutoGenOrchestrator(model="m", client=lambda: connect(settings), source=cast(Any, Source()))
    await orchestrator.warm()
    await orchestrator.warm()
    await orchestrator.close()
    said = warnings(caplog)
    assert len(said) == (installed == "0.9.0")
    assert all("autogen-agentchat 0.9.0, autogen-core 0.9.0, autogen-ext 0.9.0" in line for line in said)
