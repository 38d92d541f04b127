"""A question may carry images: the team gets them, viewers see them, and bad ones are refused with a clear code."""

import base64
import io
import json
import random
from typing import Any, cast

import pytest
from PIL import Image

from tests.e2e.conftest import ServerProcess
from tests.e2e.viewers import client_of, say, socket
from tests.matrix import runs
from tests.matrix.script import Model

TRANSPORTS = ("sse", "websocket")


def data(kind: str = "PNG", width: int = 8, height: int = 4, *, noise: bool = False) -> str:
    picture = Image.new("RGB", (width, height), "red")
    if noise:
        picture = Image.frombytes("RGB", (width, height), random.Random(1).randbytes(3 * width * height))
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return address(buffer.getvalue(), f"image/{kind.lower()}")


def address(content: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def content_of(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])


async def asked(transport: str, server: ServerProcess, kind: str, images: list[str]) -> list[dict[str, Any]]:
    async with runs.asked(transport, server.url, kind, images=images, session_id=f"{kind}:images") as stream:
        return [json.loads(line)["event"] for line in await runs.followed(server.url, stream, iter(()))]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["writer_and_critic", "streamlit_agent", "graph_parallel", "swarm"])
async def test_the_model_gets_the_questions_images(
    kind: str, transport: str, server: ServerProcess, model: Model
) -> None:
    """All of them behind its text, in teams that run by turns and in those that don't, and in a follow-up."""
    images = [data(), data("JPEG"), data("GIF"), data("WEBP")]
    for _ in range(2):
        before = len(model.fake.requests)
        events = await asked(transport, server, kind, images)
        assert events[0]["data"]["images"] == images
        assert events[-1]["event_type"] == "completed", events[-1]
        text, *pictures = parts(model.fake.requests[before])[-5:]
        assert text["text"] == runs.QUESTION
        sizes = [Image.open(io.BytesIO(content_of(part["image_url"]["url"]))).size for part in pictures]
        assert sizes == [(8, 4)] * 4


def parts(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of all messages that have several."""
    contents: list[Any] = [message["content"] for message in request["messages"]]
    return [part for content in contents if isinstance(content, list) for part in cast("list[Any]", content)]


REFUSED: dict[str, tuple[list[Any], str]] = {
    "five": ([data()] * 5, "image_too_large"),
    "no address": (["a picture"], "invalid_image"),
    "another host's": (["https://example.com/a.png"], "invalid_image"),
    "another type": ([address(b"<svg/>", "image/svg+xml")], "invalid_image"),
    "no such picture": ([address(b"GIF89a", "image/png")], "invalid_image"),
    "no base64": (["data:image/png;base64,*"], "invalid_image"),
    "without base64": (["data:image/png,x"], "invalid_image"),
    "cut in the middle of a character": ([data()[:-1]], "invalid_image"),
    "a number": ([7], "invalid_request"),
}


@pytest.mark.parametrize(("images", "code"), REFUSED.values(), ids=REFUSED)
async def test_other_images_are_refused_with_a_code(images: list[Any], code: str, server: ServerProcess) -> None:
    """Over HTTP on each way to ask, and over a WebSocket."""
    async with client_of(server.url) as client:
        for path in ("/ask-stream", "/ask", "/runs"):
            answer = await client.post(path, json={"question": "Why?", "images": images})
            assert (answer.json()["code"], answer.status_code) == (code, 413 if code == "image_too_large" else 422)
    async with socket(server.url) as ws:
        reply = await say(ws, type="ask", question="Why?", images=images)
        assert (reply["ok"], reply["error"]["code"]) == (False, code)


async def test_images_that_are_too_large_together_are_refused(server: ServerProcess) -> None:
    """Over HTTP: a WebSocket's message is refused by its own limit before."""
    large = data(width=250, height=160, noise=True)
    assert 160_000 < len(large) < 200_000
    async with client_of(server.url) as client:
        answer = await client.post("/ask", json={"question": "Why?", "images": [large]})
    assert (answer.status_code, answer.json()["code"]) == (413, "image_too_large")
    assert len(answer.content) < 1000


UNREADABLE = {
    "cut": address(content_of(data(width=64, height=64, noise=True))[:200]),
    "of gigabytes": data(width=2100, height=2000),
}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("image", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_image_that_cannot_be_decoded_ends_the_run_with_a_code(
    image: str, transport: str, server: ServerProcess, model: Model
) -> None:
    before = len(model.fake.requests)
    end = (await asked(transport, server, "streamlit_agent", [image]))[-1]
    assert (end["event_type"], end["data"]["error"]) == ("error", "image_unreadable")
    assert len(model.fake.requests) == before


async def test_other_images_are_another_body_for_the_same_key(server: ServerProcess) -> None:
    async with client_of(server.url) as client:
        asked = {"question": "Why?", "idempotency_key": "images", "session_id": "streamlit_agent:key"}
        first = await client.post("/runs", json={**asked, "images": [data()]})
        again = await client.post("/runs", json={**asked, "images": [data()]})
        other = await client.post("/runs", json={**asked, "images": [data("JPEG")]})
    assert first.json()["run_id"] == again.json()["run_id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")
