"""The names in the data, as `describe_schema` lists them, and where a text names them. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from askstream.agents.insights.offline import lexicon
from askstream.agents.insights.offline.words import Text, plain

# Dimension, table and column.
_LISTS: Final = (
    ("region", "regions", "name"),
    ("category", "categories", "name"),
    ("segment", "customers", "segment"),
    ("product", "products", "name"),
    ("customer", "customers", "name"),
    ("sales_person", "sales_people", "name"),
)
# "Without A and B" leaves out both; "without A in B" leaves out A alone.
_AND: Final = re.compile(r"\s*(?:(?:and|or|nor|the|/)\s+)*")


@dataclass(frozen=True, slots=True)
class Facts:
    """The days of the data, and the members of each dimension."""

    first_day: date
    last_day: date
    members: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Named:
    """A member that a text names, and where. `left_out`: behind a word such as "without"."""

    start: int
    end: int
    dimension: str
    name: str
    left_out: bool = False


def facts_from(schema: Mapping[str, Any]) -> Facts | None:
    """None if it isn't the bundled schema."""
    values: dict[tuple[str, str], tuple[str, ...]] = {}
    for table in schema.get("tables", ()):
        for column in table.get("columns", ()):
            values[table["name"], column["name"]] = tuple(column.get("values", ()))
    try:
        members = {dimension: values[table, column] for dimension, table, column in _LISTS}
        first, last = (date.fromisoformat(str(schema[key])) for key in ("first_day", "last_day"))
        return Facts(first, last, members)
    except (KeyError, ValueError):
        return None


def full(text: Text, facts: Facts) -> list[Named]:
    """Take the names that stand there in full, longer ones first; "northern" is North."""
    spoken = {
        plain(name).strip(): (dimension, name)
        for dimension, members in reversed(list(facts.members.items()))
        for name in members
    }
    found: list[Named] = []
    for words in sorted(spoken, key=len, reverse=True):
        dimension, name = spoken[words]
        ending = "(?:ern)?" if dimension == "region" else "s?"
        matches = text.take(rf"(?:the )?{re.escape(words)}{ending}")
        found += [Named(*match.span(), dimension, name) for match in matches]
    return found


def partial(text: Text, facts: Facts, known: frozenset[str]) -> tuple[list[Named], list[str]]:
    """Take names of which only some words stand there, if these fit one member alone. Also what
    several members share, in words."""
    found: list[Named] = []
    unclear: list[str] = []
    words = list(re.finditer(r"[^\s·]+", text.rest))
    taken = 0
    for first, last in _runs(words, known):
        if first < taken:
            continue
        said = " ".join(word[0] for word in words[first : last + 1])
        holders = list(_holders(said, facts))
        if not holders:
            continue
        taken = last + 1
        start, end = words[first].start(), words[last].end()
        text.blank(start, end)
        if len(holders) == 1:
            found.append(Named(start, end, *holders[0]))
        else:
            names = [name for _, name in holders]
            more = ", …" if len(names) > 6 else ""
            unclear.append(f"“{said}” fits several names: {', '.join(names[:6])}{more}")
    return found, unclear


def _runs(words: Sequence[re.Match[str]], known: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Neighbouring words, longer runs first, that could be a part of a name."""
    free = [word[0] not in known and len(word[0]) > 2 for word in words]
    for first in range(len(words)):
        for last in range(min(first + 3, len(words) - 1), first - 1, -1):
            if any(free[first : last + 1]):
                yield first, last


def _holders(said: str, facts: Facts) -> Iterator[tuple[str, str]]:
    """The members whose names have all of these words, in singular or plural."""
    wanted = [{word, word.removesuffix("s"), f"{word}s"} for word in said.split()]
    for dimension, members in facts.members.items():
        for name in members:
            words = set(plain(name).split())
            if all(one & words for one in wanted):
                yield dimension, name


def with_exclusions(text: Text, named: Sequence[Named]) -> list[Named]:
    """The names in order. Those behind a word such as "without" are left out; "and" continues it."""
    cues = text.take(lexicon.EXCEPT)
    found: list[Named] = []
    for one in sorted(named, key=lambda n: n.start):
        before = found[-1] if found else None
        cue = next((c for c in cues if c.end() <= one.start and _close(text, c.end(), one.start)), None)
        follows = before is not None and _AND.fullmatch(text.whole[before.end : one.start]) is not None
        left_out = cue is not None or (follows and before is not None and before.left_out)
        found.append(Named(one.start, one.end, one.dimension, one.name, left_out))
    for cue in cues:
        if not any(_close(text, cue.end(), one.start) for one in found if one.start >= cue.end()):
            restored = text.rest[: cue.start()] + cue[0] + text.rest[cue.end() :]
            text.rest = restored
    return found


def _close(text: Text, start: int, end: int) -> bool:
    """Whether only words that lead to a name stand between two places."""
    kinds = "|".join(lexicon.DIMENSIONS.values())
    lead = rf"\s*(?:(?:in|from|for|to|of|the|our|any|all|a) )*(?:{kinds})?\s*"
    return re.fullmatch(lead, text.whole[start:end]) is not None
