"""Finds the answer among a team's messages: the last one with substance, without the word that ended the conversation.

Many teams end on a word: an agent writes "TERMINATE" below its answer, or a critic says "APPROVE" to a writer's text.
Pure.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property

# A word of consent is about somebody else's text, which is then the answer, also if the consent has a few words more.
_CONSENT = re.compile(r"(?:approved?|accept(?:ed)?|agreed?|lgtm|looks good|pass(?:ed)?)\W*", re.IGNORECASE)
# A remark beside the consent may be longer than a short text that it is about, such as a haiku.
_REMARK_CHARACTERS = 200
# The words that teams are told to end with, if their condition is a function and doesn't say which.
USUAL_WORDS = ("TERMINATE", "APPROVE", "DONE", "STOP", "EXIT", "FINISH", "COMPLETE")


@dataclass(frozen=True, slots=True)
class Said:
    """An agent's text that may be the answer."""

    agent_name: str
    text: str


@dataclass(frozen=True)
class AnswerRule:
    """Says which of a team's messages is its answer. `words` end its conversation; `author` is the agent whose word
    counts, None if anybody's does."""

    words: Collection[str] = ()
    author: str | None = None
    people: Collection[str] = field(default_factory=frozenset[str])  # names that stand for a person

    def after(self, before: Said | None, message: Said) -> Said | None:
        """The answer once `message` is said, if it was `before`."""
        text = self._without_words(message.text)
        if not any(character.isalnum() for character in text) or message.agent_name in self.people:
            return before
        if before is not None and self._is_weaker(before, message, text):
            return before
        return Said(message.agent_name, text)

    def _is_weaker(self, before: Said, message: Said, text: str) -> bool:
        if self.author in (before.agent_name, message.agent_name):
            return message.agent_name != self.author
        if message.agent_name == before.agent_name or text == message.text.strip():
            return False
        consents = any(_CONSENT.fullmatch(word) for word in self.words if word in message.text)
        return consents and len(text) <= max(len(before.text), _REMARK_CHARACTERS)

    def _without_words(self, text: str) -> str:
        text, before = text.strip(), None
        while text != before:
            before = text
            for pattern in self._edges:
                text = pattern.sub("", text).strip()
        return text

    @cached_property
    def _edges(self) -> tuple[re.Pattern[str], ...]:
        return tuple(pattern for word in self.words if word.strip() for pattern in _edges(word.strip()))


_OPENING, _CLOSING = r"[*_`\"'(\[<~#>-]", r"[*_`\"')\]>~]"


def _edges(word: str) -> Iterator[re.Pattern[str]]:
    """Patterns of `word` at the end and at the beginning of a text, with the marks around it. A word in the middle of
    a sentence is a part of it and stays; at its end too, unless it is in capitals."""
    whole = rf"(?<!\w){re.escape(word)}(?:[eE]?[dD])?(?!\w)"
    before = r"\s+" if word.isupper() else r"(?<=[.!?:;])\s+|\s*\n\s*"
    yield re.compile(rf"(?:^|{before}|(?<=[.!?]))(?:{_OPENING}+\s*)?{whole}[\W_]*$")
    yield re.compile(rf"^{_OPENING}*\s*{whole}{_CLOSING}*(?:[.:!,;–—-]+\s*|\s*\n)")
