"""Mends text that isn't valid Unicode: halves of a character are joined, lone ones become U+FFFD.

A lone surrogate can't be encoded as UTF-8: it would end whatever sends, stores or logs it. Models send the halves of an
emoji in two pieces, and tools cut texts in the middle of one. Pure.
"""

from typing import Any, cast

_HIGH = ("\ud800", "\udbff")


def mended(text: str) -> str:
    """`text` as valid Unicode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def mended_json(value: Any) -> Any:
    """A JSON value with all its strings mended; other values stay."""
    match value:
        case str():
            return mended(value)
        case dict():
            return {mended_json(key): mended_json(item) for key, item in cast("dict[Any, Any]", value).items()}
        case list() | tuple():
            return [mended_json(item) for item in cast("list[Any]", value)]
        case _:
            return value


class PieceMender:
    """Mends a text that comes in pieces: the first half of a character waits for its second."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """The text up to a half at the end of `piece`."""
        text, self._half = self._half + piece, ""
        if text and _HIGH[0] <= text[-1] <= _HIGH[1]:
            text, self._half = text[:-1], text[-1]
        return mended(text)

    def end(self) -> str:
        """The rest of the text."""
        half, self._half = self._half, ""
        return mended(half)
