"""What the schema tells about the bundled warehouse, and whom of it a question names. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from askstream.agents.insights.offline import words
from askstream.agents.insights.offline.conversation import Json

_NAMES_IN: Final = {
    "products": "product",
    "categories": "category",
    "regions": "region",
    "customers": "customer",
    "sales_people": "sales_person",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the schema tells about the bundled warehouse."""

    first_day: date
    last_day: date
    members: Mapping[str, tuple[str, ...]]  # dimension: names


def facts_from(schema: Json) -> Facts | None:
    """From the answer of `describe_schema`; None where it tells of another database than the bundled one."""
    try:
        members: dict[str, tuple[str, ...]] = {}
        for table, dimension in _NAMES_IN.items():
            members[dimension] = _values(schema, table, "name")
        members["segment"] = _values(schema, "customers", "segment")
        return Facts(date.fromisoformat(schema["first_day"]), date.fromisoformat(schema["last_day"]), members)
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


def named(text: str, facts: Facts) -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """The names that the text holds, whole or by a first word that belongs to one name only, and the text without."""
    found: dict[str, list[str]] = {}
    known = [
        (words.plain(name).strip(), name, dimension) for dimension, names in facts.members.items() for name in names
    ]
    for spelt, name, dimension in sorted(known, key=lambda one: -len(one[0])):
        if spelt not in text:
            continue
        ending = "(?:ern)?" if dimension == "region" else ""
        pattern = rf"(?<![\w-]){re.escape(spelt)}{ending}(?![\w-])"
        if re.search(pattern, text):
            text = re.sub(pattern, "MEMBER", text)
            found.setdefault(dimension, []).append(name)
    for word in dict.fromkeys(re.findall(r"[a-z]{5,}", text)):
        meant = _only_one(word, known)
        if meant:
            text = re.sub(rf"(?<!\w){word}(?!\w)", "MEMBER", text)
            found.setdefault(meant[1], []).append(meant[0])
    return text, {dimension: tuple(names) for dimension, names in found.items()}


def _only_one(word: str, known: Sequence[tuple[str, str, str]]) -> tuple[str, str] | None:
    """The only name that the word begins, or, with a letter wrong, would be. Words of a question name nobody."""
    if words.is_known(word):
        return None
    exact = [(name, dimension) for spelt, name, dimension in known if word == spelt.split()[0]]
    near = [
        (name, dimension)
        for spelt, name, dimension in known
        if words.is_near(word, spelt) or (len(word) > 6 and words.is_near(word, spelt.split()[0]))
    ]
    found = exact or near
    return found[0] if len(found) == 1 else None


def _values(schema: Json, table: str, column: str) -> tuple[str, ...]:
    described: Any = next(one for one in schema["tables"] if one["name"] == table)
    found: Any = next(one for one in described["columns"] if one["name"] == column)
    return tuple(str(value) for value in found["values"])
