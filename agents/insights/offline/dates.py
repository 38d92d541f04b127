"""What a text says about time: the periods that it names, what they are compared with, how far it looks ahead. Pure."""

import re
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, Literal

from askstream.agents.insights.offline.mentions import COUNT, LENGTHS, Finder, Mention, mentions, number
from askstream.agents.insights.periods import Period

Relation = Literal["year_before", "before"]


_RANGE_WORDS: Final = frozenset(("to", "until", "till", "through", "-", "up to"))


@dataclass(frozen=True, slots=True)
class Dates:
    """All that a text says about time. `rest` is the text without it."""

    periods: tuple[Period, ...]
    rest: str
    relation: Relation | None = None  # to what the named period is to be compared
    step: str = ""  # how far that lies back: "month", "quarter", "half", "year", or "" where it isn't said
    ahead: int = 0  # months to look ahead
    relative: bool = False  # a period was named by its distance from today
    ends: tuple[Period, Period] | None = None  # of the only period, when it was named "from A to B"


def find(text: str, today: date, first_day: date) -> Dates:
    """Read the plain text of a question."""
    found = Finder(today, first_day)
    relation, step, text = _relation(text)
    ahead, text = _ahead(text)
    named = _settle(text, sorted(mentions(text, found), key=lambda m: m.start), today)
    spans = [_bounded(m, text, today, first_day) for m in _ranges(text, named)]
    for mention in reversed(spans):
        text = f"{text[: mention.start]} DATE {text[mention.end :]}"
    return Dates(
        tuple(dict.fromkeys(mention.period for mention in spans)),
        f" {' '.join(text.split())} ",
        relation,
        step,
        ahead,
        any(mention.relative for mention in spans),
        spans[0].ends if len(spans) == 1 else None,
    )


_RELATIONS: Final[tuple[tuple[str, Relation], ...]] = (
    (r"year (?:on|over) year|yoy|y/y|y-o-y", "year_before"),
    (
        r"(?:the )?same (?:month|quarter|period|time|half|week|days?)(?: of| in)? (?:the )?"
        r"(?:last|previous|prior) year",
        "year_before",
    ),
    (r"(?:the )?same (?:month|quarter|period|time|half) (?:a|one|the) year (?:ago|earlier|before)", "year_before"),
    (r"(?:a|one) year (?:ago|earlier|before)", "year_before"),
    (r"(?:the )?(?:month|quarter|period|half|half year|year) (?:before|earlier)(?! last)", "before"),
    (r"month (?:on|over) month|quarter (?:on|over) quarter|mom|qoq|m/m|q/q", "before"),
    (r"(?:the )?(?:previous|preceding|prior) period", "before"),
)  # fmt: skip


def _relation(text: str) -> tuple[Relation | None, str, str]:
    for pattern, relation in _RELATIONS:
        if found := re.search(rf"(?<!\w)(?:{pattern})(?!\w)", text):
            step = re.search("month|quarter|half|year", found[0])
            text = re.sub(rf"(?<!\w)(?:{pattern})(?!\w)", "RELATED", text)
            return relation, step[0] if step else "", text
    return None, "", text


def _ahead(text: str) -> tuple[int, str]:
    pattern = rf"\b(?:next|coming|following) (?:{COUNT} )?(month|quarter|half|half year|year)s?\b"
    found = re.search(pattern, text)
    if not found:
        return 0, text
    months = number(found[1] or "one") * LENGTHS[found[2]]
    return months, text[: found.start()] + "AHEAD" + text[found.end() :]


def _settle(text: str, mentions: list[Mention], today: date) -> list[Mention]:
    """Give a month without a year the year of the one after it: "from March to May 2025"."""
    settled: list[Mention] = []
    for mention in reversed(mentions):
        following = settled[0] if settled else None
        if mention.open and following and not following.open and not following.relative:
            settled.insert(0, _moved(mention, following, text[mention.end : following.start]))
        else:
            settled.insert(0, mention)
    return [m for m in settled if m.period.start <= today or not m.relative]


def _moved(mention: Mention, following: Mention, between: str) -> Mention:
    period = mention.period.shifted(12 * (following.period.start.year - mention.period.start.year))
    # "From November to March 2026" begins in the year before; "November against March 2026" doesn't.
    if period.start > following.period.start and between.strip() in _RANGE_WORDS:
        period = period.shifted(-12)
    return replace(mention, period=period, open=False)


def _ranges(text: str, mentions: list[Mention]) -> list[Mention]:
    """Join what "from A to B", "between A and B", "A until B" and "A - B" name; "since A" runs to the end."""
    joined: list[Mention] = []
    for mention in mentions:
        before = joined[-1] if joined else None
        between = text[before.end : mention.start].strip() if before else ""
        lead = text[: before.start].strip() if before else ""
        if before and (between in _RANGE_WORDS or (between == "and" and lead.endswith("between"))):
            joined[-1] = _span(before, mention)
        else:
            joined.append(mention)
    return joined


def _span(first: Mention, last: Mention) -> Mention:
    start, end = first.period, last.period
    if start.start > end.start and first.open:
        start = start.shifted(-12)
    low, high = sorted((start, end))
    period = Period(low.start, max(low.end, high.end))
    return replace(first, end=last.end, period=period, ends=(start, end))


def _bounded(mention: Mention, text: str, today: date, first_day: date) -> Mention:
    """With "since" or "until" in front the period is open to one side; and none that has begun goes beyond today."""
    period = mention.period
    lead = text[: mention.start].rstrip()
    if lead.endswith((" since", " after")) and period.start <= today:
        period = Period(period.start, today)
    elif lead.endswith((" until", " till", " up to")) and period.end >= first_day:
        period = Period(first_day, period.end)
    if period.start <= today < period.end:
        period = Period(period.start, today)
    return replace(mention, period=period)
