"""Finds the answer among a team's messages: the last one with substance, without the word that ended the conversation.

Many teams end on a word: an agent writes "TERMINATE" below its answer, or a critic says "APPROVE" to a writer's text.
Pure.
"""

import re
import string
from collections.abc import Collection
from dataclasses import dataclass, field

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


@dataclass(frozen=True, slots=True)
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
        return Said(message.agent_name, message.text if text == message.text.strip() else text)

    def _is_weaker(self, before: Said, message: Said, text: str) -> bool:
        if self.author in (before.agent_name, message.agent_name):
            return message.agent_name != self.author
        if message.agent_name == before.agent_name or text == message.text.strip():
            return False
        consents = any(_CONSENT.fullmatch(word) for word in self.words if word in message.text)
        return consents and len(text) <= max(len(before.text), _REMARK_CHARACTERS)

    def _without_words(self, text: str) -> str:
        text = text.strip()
        for _ in range(_ROUNDS):
            for word in filter(None, map(str.strip, self.words)):
                text = _without_beginning(_without_end(text, word), word)
        return text


# The marks around a word: of Markdown, quotes and brackets, and a sentence's end.
_OPENING = "*_`\"'([<~#>-"
_MARKS = string.punctuation + "–—…" + string.whitespace
_SENTENCE_ENDS = (".", "!", "?", ":", ";")
# Words and marks that are taken off one after the other. More of them are a text of their own.
_ROUNDS = 4
_INFLECTIONS = ("", "d", "ed", "D", "ED")


def _without_end(text: str, word: str) -> str:
    """`text` without `word` at its end and the marks around it. A word in small letters at the end of a sentence is a
    part of the sentence and stays."""
    head = _before(text.rstrip(_MARKS), word)
    if head is None:
        return text
    rest = _without_marks(head)
    stands_alone = rest.endswith(_SENTENCE_ENDS) or "\n" in head[len(rest) :]
    is_apart = not rest or rest != head or rest.endswith(_SENTENCE_ENDS)
    return rest if is_apart and (word.isupper() or stands_alone or not rest) else text


def _before(text: str, word: str) -> str | None:
    """The part before a word at the end of `text`, None if another word is there."""
    for inflection in _INFLECTIONS:
        if text.endswith(word + inflection):
            head = text[: len(text) - len(word + inflection)]
            return None if head and (head[-1].isalnum() or head[-1] == "_") and word[0].isalnum() else head
    return None


def _without_marks(head: str) -> str:
    """`head` without the space at its end, and without words there that are only marks, such as a rule. A mark that
    belongs to a word stays."""
    for _ in range(_ROUNDS):
        shorter = head.rstrip(_OPENING)
        if shorter and not shorter[-1].isspace():
            return head.rstrip() if head[-1:].isspace() else head
        if shorter.rstrip() == head:
            return head
        head = shorter.rstrip()
    return head


def _without_beginning(text: str, word: str) -> str:
    """`text` without `word` at its beginning, if punctuation or a new line follows."""
    head = text.lstrip(_OPENING + string.whitespace)
    if not head.startswith(word):
        return text
    rest = head[len(word) :].lstrip("".join(_INFLECTIONS)) if word.isupper() else head[len(word) :]
    tail = rest.lstrip("*_`\"')]>~")
    follows = tail.lstrip(" \t")[:1]
    return tail.lstrip(_MARKS) if follows in (*".:!,;–—-", "\n") and follows else text
