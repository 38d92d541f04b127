"""sse.js reads what the WHATWG text says, wherever the stream is cut."""

import json
from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

DECODE = """async (stream) => {
  const { SseDecoder } = await import('/sse.js');
  const bytes = new TextEncoder().encode(stream);
  const decoded = (edges) => {
    const decoder = new SseDecoder();
    return edges.flatMap((edge, i) => decoder.push(bytes.slice(i ? edges[i - 1] : 0, edge)));
  };
  const all = [...bytes.keys()].map((i) => i + 1);
  const ways = [[bytes.length], all, ...all.map((cut) => [cut, bytes.length])];
  return ways.map((edges) => JSON.stringify(decoded(edges)));
}"""


def block(event_id: str | None = None, data: str | None = None, retry: int | None = None) -> dict[str, Any]:
    return {"id": event_id, "data": data, "retry": retry}


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("id: 1\ndata: {}\n\n", [block("1", "{}")]),
        ("id:1\r\ndata:a\r\n\r\nid:2\r\ndata:b\r\n\r\n", [block("1", "a"), block("2", "b")]),
        ("data: a\r\rdata: b\r\r", [block(data="a"), block(data="b")]),
        ("data: a\ndata: b\n\n", [block(data="a\nb")]),
        ("data\n\n", [block(data="")]),
        (": a comment\n\ndata: a\n\n", [block(data="a")]),
        ("id: 7\n\n", [block("7")]),
        ("retry: 1500\n\nretry: soon\n\n", [block(retry=1500)]),
        ("id: 1\0\ndata: a\n\n", [block(data="a")]),
        ("﻿data: ﻿\n\n", [block(data="﻿")]),
        ("data:  two spaces, one is the separator\n\n", [block(data=" two spaces, one is the separator")]),
        ("data: žluťoučký 🐎\n\n", [block(data="žluťoučký 🐎")]),
        ("event: x\nunknown: y\ndata: a\n\ndata: never finished\n", [block(data="a")]),
    ],
)
def test_a_stream_gives_the_same_blocks_wherever_it_is_cut(
    blank: Page, stream: str, expected: list[dict[str, Any]]
) -> None:
    """Whole, byte by byte, and cut once at every byte: the blocks are those of the standard."""
    ways = blank.evaluate(DECODE, stream)
    assert {way: json.loads(way) for way in ways} == {
        json.dumps(expected, separators=(",", ":"), ensure_ascii=False): expected
    }
