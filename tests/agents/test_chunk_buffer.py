"""Pieces of text are joined, and none is late, out of order or under another agent's name."""

import asyncio

import pytest

from askstream.agents.chunk_buffer import MERGE_SECONDS, MERGE_SIZE, ChunkBuffer
from askstream.server.events import AgentChunk, AgentResponse, Draft
from tests.agents.sample_teams import Recorder
from tests.timing import MS


def response(agent_name: str = "A") -> Draft:
    return Draft(agent_name, "done", AgentResponse())


def deltas(sink: Recorder) -> list[str]:
    return [body.delta for body in sink.bodies(AgentChunk)]


async def test_the_first_piece_leaves_at_once() -> None:
    sink = Recorder()
    await ChunkBuffer(sink).write("A", "m", "first")
    assert deltas(sink) == ["first"]


@pytest.mark.serial
async def test_pieces_that_come_fast_leave_together() -> None:
    """The pieces within MERGE_SECONDS are one event, which is sent when they are over."""
    sink = Recorder()
    buffer = ChunkBuffer(sink)
    for piece in ("first", "se", "co", "nd"):
        await buffer.write("A", "m", piece)
    assert deltas(sink) == ["first"]
    await asyncio.sleep(MERGE_SECONDS * 3)
    assert deltas(sink) == ["first", "second"]


@pytest.mark.serial
async def test_much_text_does_not_wait() -> None:
    """At the size limit the pieces are sent, however early."""
    sink = Recorder()
    buffer = ChunkBuffer(sink)
    for _ in range(3):
        await buffer.write("A", "m", "x" * (MERGE_SIZE // 2))
    assert [len(delta) for delta in deltas(sink)] == [MERGE_SIZE // 2, MERGE_SIZE]


async def test_no_event_is_larger_than_the_limit() -> None:
    """A larger piece is split, and nothing of it is lost."""
    sink = Recorder()
    text = "".join(chr(97 + i % 26) for i in range(MERGE_SIZE * 2 + 7))
    await ChunkBuffer(sink).write("A", "m", text)
    assert "".join(deltas(sink)) == text
    assert max(map(len, deltas(sink))) <= MERGE_SIZE


@pytest.mark.serial
async def test_an_agents_text_comes_before_its_next_event() -> None:
    """Its text is sent first, before MERGE_SECONDS are over; the texts of others wait."""
    sink = Recorder()
    buffer = ChunkBuffer(sink)
    for agent in ("A", "B"):
        await buffer.write(agent, agent, "first ")
        await buffer.write(agent, agent, "second")
    await buffer.emit(response("A"))
    told = [(draft.agent_name, draft.event_type) for draft in sink.drafts]
    assert told == [("A", "agent_chunk"), ("B", "agent_chunk"), ("A", "agent_chunk"), ("A", "agent_response")]


async def test_two_texts_at_once_keep_their_ids() -> None:
    """An agent may write two texts at a time; each piece has the id of its own."""
    sink = Recorder()
    buffer = ChunkBuffer(sink)
    for piece in "abcdef":
        await buffer.write("A", "one", piece)
        await buffer.write("A", "two", piece.upper())
    await buffer.end("one")
    await buffer.end("two")
    assert (sink.written("one"), sink.written("two")) == ("abcdef", "ABCDEF")


@pytest.mark.serial
async def test_the_end_of_a_text_leaves_nothing_behind() -> None:
    """After `end` all pieces are sent, and no timer fires for them."""
    sink = Recorder()
    buffer = ChunkBuffer(sink)
    await buffer.write("A", "m", "first ")
    await buffer.write("A", "m", "second")
    await buffer.end("m")
    assert deltas(sink) == ["first ", "second"]
    await asyncio.sleep(MERGE_SECONDS * 2)
    assert deltas(sink) == ["first ", "second"]


class Slow(Recorder):
    """A sink that is slow enough for several agents to wait for it."""

    async def emit(self, draft: Draft) -> None:
        await asyncio.sleep(2 * MS)
        await super().emit(draft)


async def test_order_holds_when_the_sink_is_slow() -> None:
    """Each agent's pieces and events stay in the order of its calls."""
    sink = Slow()
    buffer = ChunkBuffer(sink)

    async def agent(name: str) -> None:
        for number in range(5):
            await buffer.write(name, f"{name}{number}", f"{number}a")
            await buffer.write(name, f"{name}{number}", f"{number}b")
            await buffer.emit(response(name))

    await asyncio.gather(agent("A"), agent("B"))
    for name in "AB":
        own = [d for d in sink.drafts if d.agent_name == name]
        text = "".join(d.body.delta if isinstance(d.body, AgentChunk) else "." for d in own)
        assert text == "0a0b.1a1b.2a2b.3a3b.4a4b."


@pytest.mark.serial
async def test_nothing_passes_after_the_close() -> None:
    """A task that still emits is cancelled, and pending text is dropped."""
    sink = Recorder()
    buffer = ChunkBuffer(sink)
    await buffer.write("A", "m", "first")
    await buffer.write("A", "m", "second")
    buffer.close()
    with pytest.raises(asyncio.CancelledError):
        await buffer.emit(response())
    await asyncio.sleep(MERGE_SECONDS * 2)
    assert deltas(sink) == ["first"]


class Broken(Recorder):
    """A sink whose log fails after the first event."""

    async def emit(self, draft: Draft) -> None:
        if self.drafts:
            raise OSError("disk full")
        await super().emit(draft)


async def test_an_error_of_the_sink_is_kept() -> None:
    """The next write or event raises it."""
    buffer = ChunkBuffer(Broken())
    await buffer.write("A", "m", "first")
    with pytest.raises(OSError, match="disk full"):
        await buffer.emit(response())
    assert isinstance(buffer.problem, OSError)
    with pytest.raises(OSError, match="disk full"):
        await buffer.emit(response("B"))
