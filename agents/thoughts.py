"""Separates a reasoning model's thoughts from its answer, in a text that comes in pieces. Pure.

Thoughts stand between "<think>" and "</think>" at the beginning of the text: many servers send them so, and AutoGen's
clients mark those that a server sends apart in the same way. The marks may be split over pieces. Some models' prompts
end with the first mark: their text has the second one alone, and all before it proves to be a thought.
"""

from collections.abc import Iterator
from typing import Literal, TypeAlias

_BEGIN, _END = "<think>", "</think>"

Part: TypeAlias = Literal["thought", "text"]


class ThoughtSplitter:
    """`thought` and `text` are what has come of either. A thought behind a text, which is empty, says that the text so
    far was a thought."""

    def __init__(self) -> None:
        self.thought = self.text = ""
        self._place: Literal["start", "thought", "between", "unmarked", "text"] = "start"
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
            case "unmarked":
                yield from self._unmarked(given)

    def end(self) -> Iterator[tuple[Part, str]]:
        """The part that waited for another piece."""
        rest, self._undecided = self._undecided, ""
        if rest and self._place == "thought":
            self.thought += rest
            yield "thought", rest
        elif rest and self._place in ("start", "unmarked"):
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
            self._place = "unmarked"
            yield from self._unmarked(given)

    def _unmarked(self, given: str) -> Iterator[tuple[Part, str]]:
        """A text, or a thought of which only the end is marked."""
        head, done, tail = given.partition(_END)
        if not done:
            kept = _beginning_of_mark(given)
            head, self._undecided = given[: len(given) - kept], given[len(given) - kept :]
        self.text += head
        if head:
            yield "text", head
        if done and _BEGIN in self.text:  # it speaks of the marks
            self._place = "text"
            self.text += done + tail
            yield "text", done + tail
        elif done:
            if self.text:
                yield "thought", ""
            self._place, self.thought, self.text = "between", self.text, ""
            yield from self._answering(tail)

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
