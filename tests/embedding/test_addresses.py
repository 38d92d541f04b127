"""Every address in a response leads back to the application, with any mount and any stripped prefix."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

import askstream
from tests.embedding.counting import Counting

Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True)
class Deployment:
    """Clients see `prefix` before each path; a proxy strips `stripped` of it."""

    prefix: str
    stripped: str = ""
    mount: Callable[[Any], Any] = lambda app: app
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    headers: dict[str, str] = field(default_factory=dict[str, str])
    root_path: str = ""  # the server's own setting


def _in_fastapi(app: Any) -> FastAPI:
    host = FastAPI(lifespan=app.lifespan)
    host.mount("/ai", app)
    return host


def _in_starlette(app: Any) -> Starlette:
    return Starlette(routes=[Mount("/a", routes=[Mount("/i", app)])], lifespan=app.lifespan)


FORWARDED = {"X-Forwarded-Prefix": "/out/side"}
DEPLOYMENTS = {
    "alone": Deployment(""),
    "in FastAPI": Deployment("/ai", mount=_in_fastapi),
    "deep in Starlette": Deployment("/a/i", mount=_in_starlette),
    "behind a proxy, by its header": Deployment("/out/side", "/out/side", headers=FORWARDED),
    "behind a proxy, by setting": Deployment("/out", "/out", settings={"root_path": "/out/"}),
    "behind a proxy, by the server": Deployment("/out", "/out", root_path="/out"),
    "behind a proxy, by all of them": Deployment(
        "/out", "/out", root_path="/out", settings={"root_path": "/out"}, headers={"X-Forwarded-Prefix": "/out"}
    ),
    "in FastAPI behind a proxy": Deployment("/out/side/ai", "/out/side", mount=_in_fastapi, headers=FORWARDED),
    "in FastAPI behind a proxy, by the server": Deployment("/out/ai", "/out", mount=_in_fastapi, root_path="/out"),
}


class Browser:
    """A client on the proxy's other side. `ask` accepts the addresses that clients see."""

    def __init__(self, deployment: Deployment, app: Application) -> None:
        self._deployment = deployment
        transport = httpx2.ASGITransport(app=_serve_under(app, deployment.root_path), client=("127.0.0.1", 50000))
        self._client = httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", headers=deployment.headers, follow_redirects=False
        )

    async def ask(self, method: str, address: str, **options: Any) -> httpx2.Response:
        path = address.removeprefix("http://localhost")
        assert path.startswith(self._deployment.prefix + "/"), f"{address} leads out of {self._deployment.prefix}"
        return await self._client.request(method, path.removeprefix(self._deployment.stripped), **options)

    def at(self, path: str) -> str:
        return self._deployment.prefix + path


def _serve_under(app: Application, root_path: str) -> Application:
    """Do what uvicorn's `--root-path` does."""

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        whole = {"root_path": root_path, "path": root_path + scope["path"]} if root_path else {}
        await app({**scope, **whole}, receive, send)

    return server


@asynccontextmanager
async def browser(deployment: Deployment, data: Path) -> AsyncGenerator[Browser]:
    settings = askstream.Settings(data=data, journal="memory://", **deployment.settings)
    app = askstream.create_app(settings, orchestrator=Counting())
    async with app.lifespan():
        yield Browser(deployment, deployment.mount(app))


@pytest.fixture(params=DEPLOYMENTS.values(), ids=list(DEPLOYMENTS))
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Browser]:
    async with browser(request.param, tmp_path) as client:
        yield client


async def test_a_runs_links_and_locations_lead_to_it(client: Browser) -> None:
    started = await client.ask("POST", client.at("/runs"), json={"question": "2 0"})
    assert started.status_code == 202
    streamed = await client.ask("POST", client.at("/ask-stream"), json={"question": "2 0"})
    for response in (started, streamed):
        run = (await client.ask("GET", response.headers["location"])).json()
        assert run["run_id"] == response.headers["x-run-id"]
        assert run["links"]["self"] == response.headers["location"]
        events = await client.ask("GET", run["links"]["events"])
        assert events.status_code == 200
        assert events.headers["location"] == response.headers["location"]
        assert (await client.ask("POST", run["links"]["cancel"])).status_code in (200, 202)
        assert (await client.ask("POST", run["links"]["input"], json={})).status_code == 422


async def test_the_next_page_is_found(client: Browser) -> None:
    for _ in range(3):
        await client.ask("POST", client.at("/ask-stream"), json={"question": "1 0"})
    page, found = (await client.ask("GET", client.at("/runs?limit=2"))).json(), list[str]()
    found += [run["run_id"] for run in page["runs"]]
    page = (await client.ask("GET", page["next"])).json()
    found += [run["run_id"] for run in page["runs"]]
    assert len(set(found)) == 3
    assert page["next"] is None


async def test_the_landing_redirects_browsers_and_lists_addresses(client: Browser) -> None:
    """Programs get the addresses of the document and the page; browsers get the page, also with a slash too many."""
    landing = (await client.ask("GET", client.at("/"))).json()
    assert (await client.ask("GET", landing["docs"])).json()["info"]["title"] == "askstream"
    assert "<!doctype html>" in (await client.ask("GET", landing["client"])).text
    for address, accepts in ((client.at("/"), "text/html"), (client.at("/client/"), "*/*")):
        sent = await client.ask("GET", address, headers={"Accept": accepts})
        assert sent.status_code == 307
        assert "<!doctype html>" in (await client.ask("GET", sent.headers["location"])).text


async def test_the_description_names_the_prefix(client: Browser) -> None:
    """A client generated from it uses the right addresses."""
    described = (await client.ask("GET", client.at("/openapi.json"))).json()
    server = described.get("servers", [{"url": ""}])[0]["url"]
    assert (await client.ask("GET", server + "/health")).json() == {"status": "ok"}


async def test_a_redirect_keeps_the_scheme_that_a_trusted_proxy_names(tmp_path: Path) -> None:
    deployment = Deployment("", headers={"X-Forwarded-Proto": "https"})
    async with browser(deployment, tmp_path) as client:
        sent = await client.ask("GET", "/client/")
        assert sent.headers["location"] == "https://localhost/client"


async def test_an_untrusted_proxy_changes_no_address(tmp_path: Path) -> None:
    """Its header is ignored."""
    deployment = Deployment("", headers=FORWARDED, settings={"trusted_proxies": ("10.0.0.0/8",)})
    async with browser(deployment, tmp_path) as client:
        assert (await client.ask("GET", "/")).json()["client"] == "/client"
