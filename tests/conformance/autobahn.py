"""The Autobahn test suite's cases 1 to 7 and 10 as data: the bytes of a client, and what must come back.

https://github.com/crossbario/autobahn-testsuite (Apache 2.0) has them as code in Python 2. The names are theirs. Cases
that differ only in how their frames are cut into packets are one here, and run both ways. Our server doesn't echo: any
reply to a message counts as its echo.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Event: TypeAlias = Literal["reply"] | bytes
"""A reply, or a pong's payload."""

TEXT, BINARY, CONT, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10
HELLO = b"Hello, world!"
EIGHT = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
NORMAL = frozenset({1000})
PROTOCOL_ERROR, INVALID_DATA, TOO_LARGE = frozenset({1002}), frozenset({1007}), frozenset({1009})


@dataclass(frozen=True)
class Case:
    """`events` in their order, then a close frame with one of `codes`. The runner closes the connection with 1000 after
    the last event, unless `sent` ends it."""

    name: str
    sent: bytes
    events: tuple[Event, ...] = ()
    codes: frozenset[int] = NORMAL
    ends: bool = False


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """Return a client's frame."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    else:
        length = b"\xfe" + size.to_bytes(2) if size < 2**16 else b"\xff" + size.to_bytes(8)
    mask = b"\x37\xfa\x21\x3d"
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))
    return bytes((fin << 7 | rsv << 4 | opcode,)) + length + mask + masked


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason)


def fragments(opcode: int, *payloads: bytes) -> bytes:
    last = len(payloads) - 1
    return b"".join(
        frame(CONT if number else opcode, payload, fin=number == last) for number, payload in enumerate(payloads)
    )


def octets(payload: bytes) -> bytes:
    return fragments(TEXT, *[payload[place : place + 1] for place in range(len(payload))])


def failing(name: str, sent: bytes, *events: Event, codes: frozenset[int] = PROTOCOL_ERROR) -> Case:
    return Case(name, sent, events, codes, ends=True)


def cases() -> list[Case]:
    made = [*_sizes(), *_control(), *_reserved(), *_fragmentation(), *_utf8(), *_closing()]
    parts = [b"*" * 1300] * 50 + [b"*" * 536]
    return [*made, Case("10.1.1", fragments(TEXT, *parts), ("reply",))]


def _sizes() -> Iterator[Case]:
    for group, opcode, byte in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
        for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
            yield Case(f"1.{group}.{number}", frame(opcode, byte * size), ("reply",))


def _control() -> Iterator[Case]:
    for number, payload in enumerate((b"", HELLO, EIGHT, b"\xfe" * 125), 1):
        yield Case(f"2.{number}", frame(PING, payload), (payload,))
    yield failing("2.5", frame(PING, b"\xfe" * 126))
    yield Case("2.7", frame(PONG) + close(), ends=True)
    yield Case("2.8", frame(PONG, b"unsolicited pong payload") + close(), ends=True)
    yield Case("2.9", frame(PONG, b"unsolicited pong payload") + frame(PING, b"ping payload"), (b"ping payload",))
    payloads = tuple(b"payload-%d" % number for number in range(10))
    yield Case("2.10", b"".join(frame(PING, payload) for payload in payloads), payloads)


def _reserved() -> Iterator[Case]:
    first, last = frame(TEXT, HELLO), frame(PING)
    yield failing("3.1", frame(TEXT, HELLO, rsv=1))
    for number in (2, 3, 4):
        yield failing(f"3.{number}", first + frame(TEXT, HELLO, rsv=number) + last, "reply")
    yield failing("3.5", frame(BINARY, EIGHT, rsv=5))
    yield failing("3.6", frame(PING, HELLO, rsv=6))
    yield failing("3.7", frame(CLOSE, rsv=7))
    for group, opcodes in ((1, range(3, 8)), (2, range(11, 16))):
        for number, opcode in enumerate(opcodes, 1):
            payload = HELLO if number % 2 == 0 else b""
            events: tuple[Event, ...] = ("reply",) if number > 2 else ()
            yield failing(f"4.{group}.{number}", (first if events else b"") + frame(opcode, payload) + last, *events)


def _fragmentation() -> Iterator[Case]:
    one, two, three = b"fragment1", b"fragment2", b"fragment3"
    yield failing("5.1", fragments(PING, one, two))
    yield failing("5.2", fragments(PONG, one, two))
    yield Case("5.3", fragments(TEXT, one, two), ("reply",))
    between = frame(TEXT, one, fin=False) + frame(PING, b"ping payload") + frame(CONT, two)
    yield Case("5.6", between, (b"ping payload", "reply"))
    for name, fin in (("5.9", True), ("5.12", False)):
        yield failing(name, frame(CONT, b"non-continuation payload", fin=fin) + frame(TEXT, HELLO))
    yield failing(
        "5.15", fragments(TEXT, one, two) + frame(CONT, three, fin=False) + frame(TEXT, b"fragment4"), "reply"
    )
    for name, fin in (("5.16", False), ("5.17", True)):
        yield failing(name, (frame(CONT, one, fin=fin) + fragments(TEXT, two, three)) * 2)
    yield failing("5.18", frame(TEXT, one, fin=False) + frame(TEXT, two))
    parts = [frame(TEXT, one, fin=False), frame(CONT, two, fin=False), frame(PING, b"pongme 1!")]
    parts += [frame(CONT, three, fin=False), frame(CONT, b"4", fin=False), frame(PING, b"pongme 2!"), frame(CONT, b"5")]
    yield Case("5.19", b"".join(parts), (b"pongme 1!", b"pongme 2!", "reply"))


GREEK = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
HELLO_UTF8 = "Hello-µ@ßöäüàá-UTF-8!!".encode()
BROKEN = GREEK + b"\xed\xa0\x80" + b"edited"
# https://www.cl.cam.ac.uk/~mgk25/ucs/examples/UTF-8-test.txt, by the suite's numbers.
_VALID = {
    "6.5": [
        "68656c6c6f24776f726c64",
        "68656c6c6fc2a2776f726c64",
        "68656c6c6fe282ac776f726c64",
        "68656c6c6ff0a4ada2776f726c64",
    ],
    "6.6": ["ceba", "cebae1bdb9", "cebae1bdb9cf83", "cebae1bdb9cf83cebc", "cebae1bdb9cf83cebcceb5"],
    "6.7": ["00", "c280", "e0a080", "f0908080"],
    "6.9": ["7f", "dfbf", "efbfbf", "f48fbfbf"],
    "6.11": ["ed9fbf", "ee8080", "efbfbd", "f48fbfbf"],
    "6.22": ["efbfbe", "efbfbf", "f09fbfbe", "f09fbfbf", "f0afbfbe", "f0afbfbf", "f0bfbfbe", "f0bfbfbf"],
    "6.23": ["efbfb9", "efbfba", "efbfbb", "efbfbc", "efbfbd", "efbfbe", "efbfbf"],
}
_INVALID = {
    "6.6": ["ce", "cebae1", "cebae1bd", "cebae1bdb9cf", "cebae1bdb9cf83ce", "cebae1bdb9cf83cebcce"],
    "6.8": ["f888808080", "fc8480808080"],
    "6.10": ["f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"],
    "6.11": ["f4908080"],
    "6.12": ["80", "bf", "80bf", "80bf80", "80bf80bf", "80bf80bf80", "80bf80bf80bf", bytes(range(0x80, 0xBF)).hex()],
    "6.13": [
        b"".join(bytes((byte, 0x20)) for byte in range(first, last)).hex()
        for first, last in ((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD))
    ],
    "6.14": ["c0", "e080", "f08080", "f8808080", "fc80808080", "df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf"],
    "6.15": ["c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"],
    "6.16": ["fe", "ff", "fefeffff"],
    "6.17": ["c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"],
    "6.18": ["c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"],
    "6.19": ["c080", "e08080", "f0808080", "f880808080", "fc8080808080"],
    "6.20": ["eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"],
    "6.21": [
        "eda080edb080",
        "eda080edbfbf",
        "edadbfedb080",
        "edadbfedbfbf",
        "edae80edb080",
        "edae80edbfbf",
        "edafbfedb080",
    ],
}


def _utf8() -> Iterator[Case]:
    yield Case("6.1.1", frame(TEXT), ("reply",))
    yield Case("6.1.2", fragments(TEXT, b"", b"", b""), ("reply",))
    yield Case("6.1.3", fragments(TEXT, b"", b"middle frame payload", b""), ("reply",))
    yield Case("6.2.1", frame(TEXT, HELLO_UTF8), ("reply",))
    yield Case("6.2.2", fragments(TEXT, HELLO_UTF8[:14], HELLO_UTF8[14:]), ("reply",))
    yield Case("6.2.3", octets(HELLO_UTF8), ("reply",))
    yield Case("6.2.4", octets(GREEK), ("reply",))
    yield failing("6.3.1", frame(TEXT, BROKEN), codes=INVALID_DATA)
    yield failing("6.3.2", octets(BROKEN), codes=INVALID_DATA)
    yield failing("6.4.1", fragments(TEXT, GREEK, b"\xf4\x90\x80\x80", b"edited"), codes=INVALID_DATA)
    yield failing("6.4.2", fragments(TEXT, GREEK + b"\xf4", b"\x90", b"\x80\x80edited"), codes=INVALID_DATA)
    for name, payloads in _VALID.items():
        for number, payload in enumerate(payloads, 1):
            yield Case(f"{name}.valid.{number}", frame(TEXT, bytes.fromhex(payload)), ("reply",))
    for name, payloads in _INVALID.items():
        for number, payload in enumerate(payloads, 1):
            yield failing(f"{name}.invalid.{number}", frame(TEXT, bytes.fromhex(payload)), codes=INVALID_DATA)


def _closing() -> Iterator[Case]:
    yield Case("7.1.1", frame(TEXT, HELLO), ("reply",))
    for number, behind in enumerate((close(None), frame(PING), frame(TEXT, HELLO)), 2):
        yield Case(f"7.1.{number}", close() + behind, ends=True)
    # 1000 is expected, and the library takes the open message for an error; both count.
    yield failing("7.1.5", frame(TEXT, b"1", fin=False) + close() + frame(CONT, b"2"), codes=NORMAL | PROTOCOL_ERROR)
    # Theirs has 256 KiB, which is more than a message may have here.
    yield failing("7.1.6", frame(TEXT, b"BAsd7&jh23" * 26_214) + frame(TEXT, HELLO) + close(), codes=TOO_LARGE)
    yield failing("7.3.1", close(None), codes=frozenset({1000, 1005}))
    yield failing("7.3.2", frame(CLOSE, b"a"))
    for name, reason in (("7.3.3", b""), ("7.3.4", b"Hello World!"), ("7.3.5", b"*" * 123)):
        yield Case(name, close(1000, reason), ends=True)
    yield failing("7.3.6", close(1000, b"*" * 124))
    yield failing("7.5.1", close(1000, BROKEN), codes=PROTOCOL_ERROR | INVALID_DATA)
    for number, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
        yield failing(f"7.7.{number}", close(code), codes=NORMAL | {code})
    for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
        yield failing(f"7.9.{number}", close(code))
    for number, code in enumerate((5000, 65535), 1):
        yield failing(f"7.13.{number}", close(code), codes=NORMAL | PROTOCOL_ERROR | {code})
