"""The words of a question: one form for all spellings, typing errors of a letter put right, and a
text from which patterns take the words that they understand. Pure."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_TOKEN: Final = re.compile(
    r"\d{4}-\d{2}(?:-\d{2})?(?!\d)|[^\W\d_]+(?:'[^\W\d_]+)?|\d[\d.,]*\d(?:st|nd|rd|th)?|\d(?:st|nd|rd|th)?|[%€$<>/-]"
)
_SHORTEST: Final = 5  # letters; too many other words are one letter away from a shorter one
TAKEN: Final = "·"
# Real words that are a letter away from one that the grammar knows.
_REAL_WORDS: Final = (
    "event clause cause pause mouth there least stick stack stork shock prince prize pride person court round "
    "weather worth forth north south coast boast toast worse morning evening never always ready light right "
)
_REAL: Final = frozenset(_REAL_WORDS.split())


@lru_cache(maxsize=1024)
def plain(text: str) -> str:
    """Lower case without accents and possessives, single spaces between words and at both ends."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(c for c in folded if not unicodedata.combining(c)).replace("’", "'")
    bare = re.sub(r"\b(?:can't|cannot)\b", "can not", bare).replace("won't", "will not")
    bare = re.sub(
        r"'(?:s|re|ve|d|ll|m)\b|s'(?=\s)", lambda m: "s" if m[0][0] == "s" else "", bare.replace("n't", " not")
    )
    return f" {' '.join(_TOKEN.findall(re.sub(r'(?<=[a-z])-(?=[a-z])', ' ', bare)))} "


def corrected(text: str, known: frozenset[str]) -> tuple[str, dict[str, str]]:
    """The plain text with each unknown word put right where one known word is a letter away, and
    those words."""
    found = {word: _correct(word, known) for word in text.split()}
    changed = {word: right for word, right in found.items() if word != right}
    return f" {' '.join(found[word] for word in text.split())} ", changed


def _correct(word: str, known: frozenset[str]) -> str:
    if len(word) < _SHORTEST or not word.isalpha() or word in known or word in _REAL:
        return word
    near = {other for other in known if len(other) >= _SHORTEST and is_near(word, other)}
    stems = {other.removesuffix("s") for other in near}  # singular and plural are one candidate
    return min(near) if len(stems) == 1 and word.removesuffix("s") not in known else word


def is_near(word: str, other: str) -> bool:
    """Whether one letter was changed, left out, put in, or swapped with its neighbour. The first
    letter is right, unless it is the one that was swapped."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return word == other
    pairs = zip(word, other, strict=False)
    start = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(word), len(other)))
    rest, others = word[start:], other[start:]
    swapped = rest[:2] == others[1::-1] and rest[2:] == others[2:] and len(word) == len(other)
    if start == 0 or swapped:
        return swapped
    if len(word) == len(other):
        return rest[1:] == others[1:]
    return rest[1:] == others if len(word) > len(other) else rest == others[1:]


class Text:
    """A plain text. What a pattern takes is blanked, so that later patterns don't see it and all
    positions stay."""

    def __init__(self, text: str) -> None:
        self.whole = self.rest = text

    def take(self, alternatives: str) -> list[re.Match[str]]:
        """Take all matches at whole words, in order."""
        found = list(re.finditer(rf"(?<![\w·])(?:{alternatives})(?![\w·])", self.rest))
        for match in found:
            self.blank(match.start(), match.end())
        return found

    def has(self, alternatives: str) -> bool:
        return bool(self.take(alternatives))

    def blank(self, start: int, end: int) -> None:
        blanked = re.sub(r"\S", TAKEN, self.rest[start:end])
        self.rest = self.rest[:start] + blanked + self.rest[end:]

    def left(self, fillers: Iterable[str]) -> list[str]:
        """The words that nobody took and that aren't fillers, joined where they stand together."""
        known = frozenset(fillers)
        marked = " ".join(word if word not in known and TAKEN not in word else "|" for word in self.rest.split())
        return [part.strip() for part in marked.split("|") if part.strip()]


def vocabulary(patterns: Iterable[str]) -> frozenset[str]:
    """The words that patterns look for, for `corrected`. "fall(?:s|en)" has three."""
    whole = " ".join(patterns)
    ends = re.findall(r"([a-z]{2,})\(\?:([a-z|]+)\)", whole)
    found = {stem + end for stem, endings in ends for end in endings.split("|")}
    found |= set(re.findall(r"(?<![a-z])[a-z]{2,}(?![a-z]*\((?:\?:)?[a-z])", whole.replace("\\b", " ")))
    return frozenset(found | {word.removesuffix("s") for word in found})
