"""SSE framing, checked against a plain reading of the WHATWG text, with the stream cut anywhere."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from askstream.transports.framing import HEARTBEAT, Decoder, SseMessage, block, cursor_block, notice_block, retry_block

LINE_ENDS = ("\n", "\r", "\r\n")


def by_the_book(stream: bytes) -> list[SseMessage]:
    """The spec's algorithm on a whole stream."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", text)[:-1]
    found: list[SseMessage] = []
    data, event, last_id = "", "", ""
    for line in lines:
        if line == "":
            if data:
                found.append(SseMessage(data.removesuffix("\n"), last_id, event or "message"))
            data, event = "", ""
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data += value + "\n"
            elif name == "event":
                event = value
            elif name == "id" and "\0" not in value:
                last_id = value
    return found


def fed(stream: bytes, cuts: list[int]) -> list[SseMessage]:
    decoder = Decoder()
    found: list[SseMessage] = []
    at = 0
    for cut in [*sorted({min(cut, len(stream)) for cut in cuts}), len(stream)]:
        found += decoder.feed(stream[at:cut])
        at = cut
    return found


FIELDS = st.sampled_from(["data", "id", "event", "retry", "", "other", "data ", "\ufeffdata", "i"])
VALUES = st.text(alphabet="ab: \0é€😀\u2028\x85\x0b", max_size=6)
STREAM_LINES = st.one_of(
    st.just(""),
    st.tuples(FIELDS, VALUES).map(":".join),
    st.tuples(FIELDS, VALUES).map(": ".join),
    FIELDS,
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    lines = draw(st.lists(st.tuples(STREAM_LINES, st.sampled_from(LINE_ENDS)), max_size=12))
    text = draw(st.sampled_from(["", "\ufeff"])) + "".join(line + end for line, end in lines)
    return text.encode() + draw(st.sampled_from([b"", b"\n\n", b"\xff\xfe", b"data: rest"]))


@given(streams(), st.lists(st.integers(0, 200), max_size=8))
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 10, 11])
@example(b"\xef\xbb\xbfdata: a\n\n", [1, 2])
def test_a_stream_that_is_cut_anywhere_is_decoded_as_the_spec_says(stream: bytes, cuts: list[int]) -> None:
    """BOM, CR, LF, CRLF between chunks, comments, id-only blocks, NUL ids, characters cut in half."""
    assert fed(stream, cuts) == by_the_book(stream)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_garbage_raises_nothing(stream: bytes, cuts: list[int]) -> None:
    """It is decoded the same, cut anywhere."""
    assert fed(stream, cuts) == by_the_book(stream)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**15), st.text(alphabet=st.characters(exclude_characters="\r\n\0"), min_size=1))
    )
)
def test_an_encoded_block_is_decoded(events: list[tuple[int, str]]) -> None:
    """The decoder reads back what the server encodes."""
    lines = [(number, text.encode("utf-8", "replace")) for number, text in events]
    stream = b"".join(block(number, line) for number, line in lines)
    assert fed(stream, list(range(0, len(stream), 7))) == [
        SseMessage(line.decode(), str(number)) for number, line in lines
    ]


def test_a_block_is_one_piece_without_an_event_name() -> None:
    """A browser's onmessage and the first API's clients read this form."""
    assert block(7, b'{"a":1}') == b'data: {"a":1}\nid: 7\n\n'


def test_a_cursor_block_moves_the_id_and_dispatches_nothing() -> None:
    """The next event without an id keeps it."""
    decoder = Decoder()
    assert decoder.feed(cursor_block(9)) == []
    assert decoder.last_event_id == "9"
    assert decoder.feed(notice_block(b"{}")) == [SseMessage("{}", "9")]


def test_a_heartbeat_is_a_comment() -> None:
    """It dispatches nothing, and splits no block."""
    decoder = Decoder()
    assert decoder.feed(HEARTBEAT + block(1, b"x") + HEARTBEAT) == [SseMessage("x", "1")]


@pytest.mark.parametrize(("value", "milliseconds"), [(b"250", 250), (b"x", None), (b"-1", None), (b"", None)])
def test_retry_accepts_digits_only(value: bytes, milliseconds: int | None) -> None:
    """Other values are ignored, as the spec requires."""
    decoder = Decoder()
    decoder.feed(b"retry: " + value + b"\n\n")
    assert decoder.retry_ms == milliseconds
    decoder.feed(retry_block(3000))
    assert decoder.retry_ms == 3000


def test_a_block_that_the_end_cuts_off_is_not_dispatched() -> None:
    """Half an event is no event; the reader resumes from the one before."""
    decoder = Decoder()
    assert decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n") == [SseMessage("a", "1")]
    assert decoder.last_event_id == "1"
