"""Separates a reasoning model's thoughts from its answer, in a text that comes in pieces. Pure.

Thoughts stand between "<think>" and "</think>" at the beginning of the text: many servers send them so, and AutoGen's
clients mark those that a server sends apart in the same way. The marks may be split over pieces.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

_BEGIN, _END = "<think>", "</think>"

Part: TypeAlias = Literal["thought", "text"]


class ThoughtSplitter:
    """`thought` and `text` are what has come of either."""

    def __init__(self) -> None:
        self.thought = self.text = ""
        self._place: Literal["start", "thought", "between", "text"] = "start"
        self._undecided = ""

    def add(self, piece: str) -> Iterator[tuple[Part, str]]:
        """The parts that `piece` brings, in order. The beginning of a mark waits for the next piece."""
        if self._place == "text":
            self.text += piece
            yield "text", piece
            return
        given, self._undecided = self._undecided + piece, ""
        match self._place:
            case "start":
                yield from self._started(given)
            case "thought":
                yield from self._thinking(given)
            case "between":
                yield from self._answering(given)

    def end(self) -> Iterator[tuple[Part, str]]:
        """The part that waited for another piece."""
        rest, self._undecided = self._undecided, ""
        if rest and self._place == "thought":
            self.thought += rest
            yield "thought", rest
        elif rest and self._place == "start":
            self.text += rest
            yield "text", rest

    def _started(self, given: str) -> Iterator[tuple[Part, str]]:
        head = given.lstrip()
        if head.startswith(_BEGIN):
            self._place = "thought"
            yield from self._thinking(head.removeprefix(_BEGIN))
        elif _BEGIN.startswith(head):
            self._undecided = given
        else:
            self._place = "text"
            self.text += given
            yield "text", given

    def _thinking(self, given: str) -> Iterator[tuple[Part, str]]:
        head, done, tail = given.partition(_END)
        if not done:
            kept = _beginning_of_mark(given)
            head, self._undecided = given[: len(given) - kept], given[len(given) - kept :]
        if head:
            self.thought += head
            yield "thought", head
        if done:
            self._place = "between"
            yield from self._answering(tail)

    def _answering(self, given: str) -> Iterator[tuple[Part, str]]:
        """The answer without the empty lines behind the thoughts."""
        if text := given.lstrip():
            self._place = "text"
            self.text += text
            yield "text", text


def _beginning_of_mark(text: str) -> int:
    """The number of characters at the end of `text` that may be the beginning of the mark."""
    return next((size for size in range(len(_END) - 1, 0, -1) if text.endswith(_END[:size])), 0)
