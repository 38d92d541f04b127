"""What a question asks for that can't be done: to write, a day that doesn't exist, somebody whom the data doesn't know,
a forecast too far ahead. Each is said, and what remains of the question is answered. Pure."""

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Final

from askstream.agents.insights.offline import words
from askstream.agents.insights.offline.dates import find
from askstream.agents.insights.offline.names import Facts, named
from askstream.agents.insights.offline.understanding import FORECAST, Understanding
from askstream.agents.insights.periods import MONTH_NAMES

# A season is a year: what lies further ahead would repeat the twelve months before it, and look like knowledge.
FARTHEST: Final = 12
_LISTED: Final = 6  # members named as those that there are; of more, the first ones

_ONLY_READS: Final = (
    "I only read the data: nothing in the database can be deleted, added or changed here, and nothing was."
)
_DETERMINERS: Final = r"(?:(?:all|the|every|each|our|my|its|these|those|some|old|list|unit|selling|sales|product)\s+)*"
_PLACE: Final = r"(?:database|data|warehouse|tables?)"
_WRITES: Final = "|".join(
    (
        r"(?:delete|erase|wipe|purge|truncate|destroy)\b",
        r"drop\s+(?:all|every)\s+(?:the\s+)?(?:orders?|customers?|products?|prices?|data|records?|rows?)\b",
        rf"(?:drop|remove)\b.*\b{_PLACE}",
        r"drop\s+(?:table|view|index)\b|insert\b|alter\s+table\b|replace\s+into\b|update\s+\w+\s+set\b",
        rf"(?:add|create|put|save|write|store)\b.*\b(?:to|into|in)\s+the\s+(?:\w+\s+)?{_PLACE}",
        r"(?:add|create)\s+(?:a|an|another|\d+)\s+(?:new\s+)?(?:orders?|customers?|products?)(?=\s+(?:for|from|called)|\s*$)",
        rf"(?:update|change|modify|edit|alter|adjust|set|overwrite|raise|lower|increase|reduce|cut)\s+{_DETERMINERS}"
        r"(?:prices?|costs?|discounts?|stock|orders\s+table|data|database|records?|rows?|order\s+\d+)\b",
        rf"(?:update|modify|edit|overwrite)\s+{_DETERMINERS}(?:orders?|customers?|products?)\b",
    )
)
_LEAD: Final = r"(?:(?:please|now|then|also|and|just|(?:can|could|would|will)\s+you|i\s+want(?:\s+you)?\s+to)\s+)*"
_WRITE: Final = re.compile(
    rf"(?:^|(?<=[.;!?,:\n])|\band\b)\s*{_LEAD}(?:{_WRITES})"
    r"[^.;!?\n]*?(?=\band\s+(?:then\s+)?(?:show|tell|give|report|compare|list|forecast|what|how|which|why)\b|[.;!?\n]|$)",
    re.IGNORECASE,
)

_NAMED: Final = "|".join(f"{name.lower()}|{name[:3].lower()}" for name in MONTH_NAMES) + "|sept"
_DAY: Final = re.compile(
    r"(?<!top )(?<!best )(?<!first )(?<!worst )(?<!bottom )(?<![\w-])(?P<d>\d{1,2})(?:st|nd|rd|th)?(?: of)? "
    rf"(?P<m>{_NAMED})(?: (?P<y>\d{{4}}))?(?![\w-])|"
    rf"(?<![\w-])(?P<m2>{_NAMED}) (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?: (?P<y2>\d{{4}}))?(?![\w-])|"
    r"(?<![\w-])(?P<y3>\d{4})-(?P<m3>\d{2})(?:-(?P<d3>\d{2}))?(?![\w-])"
)

_ONE: Final = "region|customer|product|category|segment"
_NAME: Final = r"[A-Z][\w'’&]*(?: [A-Z][\w'’&]*)*"
_BESIDE: Final = re.compile(
    rf"\b({_NAME}) ({_ONE})\b|\b({_ONE}|{'|'.join(n.title() for n in _ONE.split('|'))}) ({_NAME})"
)
_SMALL: Final = """
    a all an and any as at best by each for from give i in is it kpi kpis last list lowest me mix my new no of on one
    only or our per roi same show split sum tell that the this to top us vs we what who why with yoy your
    """
_NO_NAMES: Final = frozenset(_SMALL.split())


@dataclass(frozen=True, slots=True)
class Possible:
    """What of a question can be done, and what is to be said of the rest."""

    question: str
    cannot: tuple[str, ...] = ()
    refused: bool = False  # what remains would be an answer to something else


def possible(question: str, facts: Facts) -> Possible:
    read_only, writes = _WRITE.subn(" ", question)
    dated, impossible = _existing(read_only, facts.last_day)
    strangers = list(_strangers(read_only, facts))
    _, known = named(words.plain(dated), facts)
    told = (
        *([_ONLY_READS] if writes else []),
        *impossible,
        *(_stranger(*one, facts, known=bool(known)) for one in strangers),
    )
    refused = bool(writes and not words.plain(dated).strip()) or bool(strangers and not known)
    return Possible(dated if told else question, told, refused)


def foreseen(plan: Understanding) -> Understanding:
    """With a forecast no longer than one can be made."""
    if plan.ahead <= FARTHEST or not (plan.job == "forecast" or FORECAST in plan.also):
        return plan
    told = (
        f"A forecast of {plan.ahead} months would be a guess: the season is known from the year before, so beyond a "
        f"year it would only repeat itself. The forecast is cut to {FARTHEST} months."
    )
    return replace(plan, ahead=FARTHEST, cannot=(*plan.cannot, told))


# --- days that don't exist -------------------------------------------------------------------------------------------


def _existing(question: str, today: date) -> tuple[str, tuple[str, ...]]:
    """The question with the month in place of a day that the month hasn't got; and word of each."""
    text, told = words.corrected(words.plain(question)), list[str]()
    for found in reversed(list(_DAY.finditer(text))):
        given = {name[0]: value for name, value in found.groupdict().items() if value}
        month = _month(given["m"])
        year = int(given.get("y", today.year))
        if year < 1 or 1 <= int(given.get("d", 1)) <= _days(year, month):
            continue
        instead, note = _instead(given.get("d"), month, year)
        text = f"{text[: found.start()]}{instead}{text[found.end() :]}"
        told.insert(0, note)
    return (text if told else question), tuple(told)


def _instead(day: str | None, month: int, year: int) -> tuple[str, str]:
    if not 1 <= month <= 12:
        return f"{year}", f"There is no month {month} in a year; what follows is about {year}."
    name = f"{MONTH_NAMES[month - 1]} {year}"
    days = _days(year, month)
    return (
        f"{year}-{month:02}",
        f"There is no {int(day or 0)} {name}: that month has {days} days. What follows is about {name}.",
    )


def _month(text: str) -> int:
    """By number, right or not, or by name or its beginning."""
    if text.isdigit():
        return int(text)
    return next(n for n, name in enumerate(MONTH_NAMES, 1) if name.lower().startswith(text))


def _days(year: int, month: int) -> int:
    return monthrange(year, month)[1] if 1 <= month <= 12 else 0


# --- whom the data doesn't know --------------------------------------------------------------------------------------


def _strangers(question: str, facts: Facts) -> Iterator[tuple[str, str]]:
    """Dimension and name, of each name beside the word of a dimension that is none of the data's."""
    if question.isupper():
        return
    known = {word for names in facts.members.values() for name in names for word in words.plain(name).split()}
    for found in _BESIDE.finditer(question):
        name = _unknown_end(found[1], known, facts) if found[1] else _unknown(found[4], known, facts)
        if name:
            yield (found[2] or found[3]).lower(), name


def _unknown_end(name: str, known: set[str], facts: Facts) -> str:
    """The words at the end that nobody knows: "Compare Narnia region" speaks of Narnia."""
    kept: list[str] = []
    for word in reversed(name.split()):
        if not _unknown(word, known, facts):
            break
        kept.insert(0, word)
    return " ".join(kept)


def _unknown(name: str, known: set[str], facts: Facts) -> str:
    """The name, where none of its words is a name, a date or a word that questions are made of."""
    text = words.plain(name.removesuffix("'s").removesuffix("’s"))
    rest, members = named(text, facts)
    parts = rest.split()
    ordinary = any(part in known or part in _NO_NAMES or words.is_known(part) for part in parts)
    means = words.concepts(rest) != rest or find(rest, facts.last_day, facts.first_day).periods
    return "" if members or ordinary or means or not parts else name.removesuffix("'s").removesuffix("’s")


def _stranger(dimension: str, name: str, facts: Facts, *, known: bool) -> str:
    members = facts.members.get(dimension, ())
    listed = ", ".join(members[:_LISTED]) + (f" and {len(members) - _LISTED} more" if len(members) > _LISTED else "")
    told = f"The data knows no {dimension} {name}; it knows {listed}."
    return f"{told} What follows leaves {name} out." if known else told
