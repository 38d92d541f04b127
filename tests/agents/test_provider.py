"""The real client reads an answer without making more of it than it is, and lets go of one that nobody wants."""

import asyncio
from typing import Any

from autogen_core import CancellationToken
from autogen_core.models import CreateResult, UserMessage

from agents.models import ModelSettings, connect
from tests.agents.fake_provider import Reply, provider

ASKED = [UserMessage(content="x", source="user")]


async def test_a_stream_is_not_a_task_for_each_piece() -> None:
    """An answer's length makes no more of them: each costs as much as all else, and leaks when cancelled."""
    born: list[int] = []
    loop = asyncio.get_running_loop()

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        born[-1] += "anext" in repr(coro) or "_chunks" in repr(coro) or "_wrap_awaitable" in repr(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async with provider([Reply(text=["one "] * 5), Reply(text=["one "] * 100)]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        loop.set_task_factory(factory)
        try:
            for _ in range(2):
                born.append(0)
                assert [piece async for piece in client.create_stream(ASKED)]
        finally:
            loop.set_task_factory(None)
        await client.close()
    assert born[0] == born[1]


async def test_a_stream_that_is_left_is_let_go() -> None:
    """Whoever stops reading frees the connection; the provider may stop sending."""
    async with provider([Reply(text=["one "] * 500, pause=0.01)]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        stream = client.create_stream(ASKED)
        assert await anext(stream) == "one "
        await stream.aclose()
        del stream
        await asyncio.wait_for(fake.quiet.wait(), 2)
        await client.close()


async def test_a_cancelled_token_ends_the_reading() -> None:
    """As it does in AutoGen's own client."""
    async with provider([Reply(text=["one "] * 500, pause=0.01)]) as fake:
        client = connect(ModelSettings(base_url=fake.base_url, model="m"))
        token, got = CancellationToken(), list[str | CreateResult]()

        async def read() -> None:
            async for piece in client.create_stream(ASKED, cancellation_token=token):
                got.append(piece)
                token.cancel()

        reading = asyncio.ensure_future(read())
        await asyncio.wait({reading}, timeout=5)
        assert reading.cancelled()
        await asyncio.wait_for(fake.quiet.wait(), 2)
        await client.close()
    assert got == ["one "]
