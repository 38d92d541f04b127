"""Server-Sent Events as bytes, sans-IO: encoded for the wire, and decoded again.

Follows the WHATWG text, https://html.spec.whatwg.org/multipage/server-sent-events.html ("the spec" below). The server
encodes; the clients of the tests decode.
"""

import codecs
from dataclasses import dataclass

HEARTBEAT = b":\n\n"


def block(event_id: int, line: bytes) -> bytes:
    """Return one event as one piece; `line` is one line of JSON. No `event:`: `onmessage` never sees named events.

    The data comes first. Some clients move their cursor as soon as they have read the id's line: cut between the two,
    they would resume behind an event that they never had.
    """
    return b"data: %b\nid: %d\n\n" % (line, event_id)


def cursor_block(event_id: int) -> bytes:
    """Return a block that only moves the reader's last event id: the spec dispatches nothing without data."""
    return b"id: %d\n\n" % event_id


def notice_block(line: bytes) -> bytes:
    """Return data without an id: the reader's last event id stays the same."""
    return b"data: %b\n\n" % line


def retry_block(milliseconds: int) -> bytes:
    return b"retry: %d\n\n" % milliseconds


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One message of a stream. Resume with its `last_event_id`; '' before the first id."""

    data: str
    last_event_id: str
    event: str = "message"


class Decoder:
    """Bytes in, messages out. The stream may be cut anywhere, inside a character or between CR and LF too.

    `last_event_id` moves with every block, those without data included; `retry_ms` is None until the server sends one.
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry_ms: int | None = None
        # "Streams must always be decoded as UTF-8"; errors are replaced, and one leading BOM is dropped.
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._began = False
        self._after_cr = False
        self._tail: list[str] = []
        self._data: list[str] = []
        self._event = ""
        self._id = ""

    def feed(self, data: bytes) -> list[SseMessage]:
        """Return the messages that `data` completes. A block that the stream's end cuts off is never dispatched."""
        text = self._text.decode(data)
        if text and not self._began:
            self._began = True
            text = text.removeprefix("\ufeff")
        return [message for line in self._lines(text) if (message := self._line(line)) is not None]

    def _lines(self, text: str) -> list[str]:
        """Return the lines that `text` completes. CRLF, LF and CR end a line; Unicode's other line ends don't."""
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        if text.endswith("\r"):
            self._after_cr = True
        *whole, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        if whole:
            whole[0] = "".join([*self._tail, whole[0]])
            self._tail = []
        if rest:
            self._tail.append(rest)
        return whole

    def _line(self, line: str) -> SseMessage | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
            case _:
                pass  # a comment, whose field is empty, or a field that the spec ignores
        return None

    def _dispatch(self) -> SseMessage | None:
        """End a block. Its id counts even if there is nothing to dispatch."""
        self.last_event_id = self._id
        data, self._data = self._data, []
        event, self._event = self._event, ""
        if not data:
            return None
        return SseMessage("\n".join(data), self.last_event_id, event or "message")
