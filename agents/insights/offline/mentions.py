"""A period as people name it: a pattern for each way, and what stands for the days that it means. Pure.

`today` is the last day of the data. "Last month" is the last whole month up to that day, so when the data ends with
a month that month is meant; only where "this month" stands beside it, it is the one before.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from askstream.agents.insights.periods import MONTH_NAMES, Period, half, months_from, parse, quarter, year

_COUNTED: Final = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
NUMBERS: Final[Mapping[str, int]] = {word: n for n, word in enumerate(_COUNTED.split(), 1)} | {"a": 1, "few": 3}
COUNT: Final = rf"(\d{{1,3}}|{'|'.join(NUMBERS)})"
_MONTHS: Final[Mapping[str, int]] = {
    name: n for n, full in enumerate(MONTH_NAMES, 1) for name in (full.lower(), full[:3].lower())
} | {"sept": 9}
_MONTH: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ORDINALS: Final[Mapping[str, int]] = {
    "first": 1, "1st": 1, "second": 2, "2nd": 2, "third": 3, "3rd": 3, "fourth": 4, "4th": 4,
}  # fmt: skip
_ORDINAL: Final = "|".join(_ORDINALS)
_YEAR: Final = r"(19\d\d|20\d\d|21\d\d)"
_OF_YEAR: Final = rf"(?: ?(?:-|/|of|in)? ?(?:{_YEAR}|(last year|the year before|this year)))?"
_LAST: Final = "last|previous|past|prior|preceding|latest|most recent"
LENGTHS: Final[Mapping[str, int]] = {"month": 1, "quarter": 3, "half": 6, "half year": 6, "year": 12}
# After these words a month's name is one.
_TIME_COMES: Final = frozenset((
    "in", "for", "of", "since", "from", "to", "until", "till", "by", "during", "last", "and", "vs", "versus", "against",
    "than", "with", "between", "about", "after",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mention:
    """A period that was named, and where. `open` means that no year was said, and it may move to its neighbour's."""

    start: int
    end: int
    period: Period
    open: bool = False
    relative: bool = False
    ends: tuple[Period, Period] | None = None  # of "from A to B": both, in the order in which they were named


def last_whole(unit: str, today: date, count: int = 1) -> Period:
    """The last `count` whole months, quarters, halves or years up to `today`."""
    length = LENGTHS[unit]
    current = containing(length, today)
    last = current if current.end <= today else current.shifted(-length)
    return months_from(last.shifted(-length * (count - 1)).start, length * count)


class Finder:
    """Turns the match of each pattern into a mention."""

    def __init__(self, today: date, first_day: date) -> None:
        self.today = today
        self.first_day = first_day

    def notation(self, m: re.Match[str]) -> Mention | None:
        try:
            return Mention(*m.span(), parse(m[0]))
        except ValueError:
            return None

    def day(self, m: re.Match[str]) -> Mention | None:
        number = int(re.sub(r"\D", "", m["d"] or m["d2"]))
        month = _MONTHS[m["m"] or m["m2"]]
        given = m["y"] or m["y2"]
        try:
            one = date(int(given or self.today.year), month, number)
        except ValueError:
            return None
        if not given and one > self.today:
            one = one.replace(year=one.year - 1) if (month, number) != (2, 29) else one
        return Mention(*m.span(), Period(one, one), open=not given)

    def month(self, m: re.Match[str]) -> Mention | None:
        number = _MONTHS[m[1]]
        # "May" and "march" are words of their own: alone they count only where a time is expected.
        bare = not m[2] and not m[3]
        if m[1] in ("may", "march", "mar") and bare and not _expects_time(m.string[: m.start()]):
            return None
        return self._of_year(m, lambda y: months_from(date(y, number, 1), 1), m[2], m[3])

    def quarter(self, m: re.Match[str]) -> Mention | None:
        number = int(m[1]) if m[1].isdigit() else _ORDINALS[m[1]]
        return self._of_year(m, lambda y: quarter(y, number), m[2], m[3])

    def half(self, m: re.Match[str]) -> Mention | None:
        number = int(m[1]) if m[1].isdigit() else _ORDINALS[m[1]]
        return self._of_year(m, lambda y: half(y, number), m[2], m[3]) if number <= 2 else None

    def year_first(self, m: re.Match[str]) -> Mention | None:
        number = int(m[3])
        return Mention(*m.span(), quarter(int(m[1]), number) if m[2] == "q" else half(int(m[1]), min(number, 2)))

    def year(self, m: re.Match[str]) -> Mention | None:
        return Mention(*m.span(), year(int(m[1])))

    def last_of_year(self, m: re.Match[str]) -> Mention | None:
        number = int(m[2])
        return Mention(*m.span(), quarter(number, 4) if m[1] == "quarter" else half(number, 2))

    def several(self, m: re.Match[str]) -> Mention | None:
        count, unit = max(1, number(m[1])), m[2]
        if unit in ("day", "week"):
            days = min(count * (7 if unit == "week" else 1), 3650)
            return Mention(*m.span(), Period(self.today - timedelta(days - 1), self.today), relative=True)
        months = min(count * LENGTHS[unit], 240)
        last = last_whole("month", self.today)
        return Mention(*m.span(), months_from(last.shifted(1 - months).start, months), relative=True)

    def last(self, m: re.Match[str]) -> Mention | None:
        if m[1] == "week":
            return Mention(*m.span(), Period(self.today - timedelta(6), self.today), relative=True)
        period = last_whole(m[1], self.today)
        if re.search(rf"\b(?:this|current) {m[1]}\b", m.string) and period.contains(self.today):
            period = period.before()
        return Mention(*m.span(), period, relative=True)

    def this(self, m: re.Match[str]) -> Mention | None:
        if m[1] == "week":
            monday = self.today - timedelta(self.today.weekday())
            return Mention(*m.span(), Period(monday, self.today), relative=True)
        period = containing(LENGTHS[m[1]], self.today)
        return Mention(*m.span(), Period(period.start, self.today), relative=True)

    def to_date(self, m: re.Match[str]) -> Mention | None:
        first = m[0].removeprefix("the ")[0]
        unit = {"q": "quarter", "m": "month"}.get(first, "year")
        start = containing(LENGTHS[unit], self.today).start
        return Mention(*m.span(), Period(start, self.today), relative=True)

    def yesterday(self, m: re.Match[str]) -> Mention | None:
        day = self.today - timedelta(1 if m[0] == "yesterday" else 0)
        return Mention(*m.span(), Period(day, day), relative=True)

    def always(self, m: re.Match[str]) -> Mention | None:
        return Mention(*m.span(), Period(self.first_day, self.today), relative=True)

    def _of_year(
        self, m: re.Match[str], period: Callable[[int], Period], given: str | None, related: str | None
    ) -> Mention:
        if given:
            return Mention(*m.span(), period(int(given)))
        if related:
            return Mention(*m.span(), period(self.today.year - (related != "this year")))
        latest = period(self.today.year)
        # What has begun counts, even if it isn't over.
        return Mention(*m.span(), latest if latest.start <= self.today else latest.shifted(-12), open=True)


_PATTERNS: Final[tuple[tuple[str, Callable[[Finder, re.Match[str]], Mention | None]], ...]] = (
    (r"\d{4}-\d{2}(?:-\d{2})?", Finder.notation),
    (
        rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m>{_MONTH})(?: (?P<y>{_YEAR[1:-1]}))?"
        rf"|(?P<m2>{_MONTH}) (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?: (?P<y2>{_YEAR[1:-1]}))?",
        Finder.day,
    ),
    (rf"(?:(?:the|{_LAST}) )?({_MONTH}){_OF_YEAR}", Finder.month),
    (rf"{_YEAR} ?-? ?([qh]) ?([1-4])", Finder.year_first),
    (rf"(?:the )?last (quarter|half) of {_YEAR}", Finder.last_of_year),
    (rf"(?:the )?q ?([1-4]){_OF_YEAR}", Finder.quarter),
    (rf"(?:the )?({_ORDINAL}) quarter{_OF_YEAR}", Finder.quarter),
    (rf"(?:the )?h ?([12]){_OF_YEAR}", Finder.half),
    (rf"(?:the )?({_ORDINAL}) half(?: year)?{_OF_YEAR}", Finder.half),
    (rf"(?:the )?(?:{_LAST}) {COUNT} (day|week|month|quarter|year)s?", Finder.several),
    (r"(?:the )?(?:year|quarter|month) -? ?to -? ?date|ytd|qtd|mtd|(?:this year )?so far this year", Finder.to_date),
    (rf"(?:the )?(?:{_LAST}) (week|month|quarter|half|year)", Finder.last),
    (r"(?:this|current|the current) (week|month|quarter|half|year)", Finder.this),
    (r"today|yesterday", Finder.yesterday),
    (
        r"all -? ?time|of all time|(?:the )?whole period|all (?:the )?data|since the (?:beginning|start)|so far|ever|"
        r"in total|overall",
        Finder.always,
    ),
    (rf"(?:the year )?{_YEAR}", Finder.year),
)
_COMPILED: Final = tuple((re.compile(rf"(?<![\w-])(?:{p})(?![\w-])"), make) for p, make in _PATTERNS)


def mentions(text: str, finder: Finder) -> Iterator[Mention]:
    """All mentions; where two overlap, the one whose pattern stands first."""
    taken: list[tuple[int, int]] = []
    for pattern, make in _COMPILED:
        for match in pattern.finditer(text):
            free = all(match.end() <= start or end <= match.start() for start, end in taken)
            mention = make(finder, match) if free else None
            if mention:
                taken.append(match.span())
                yield mention


def _expects_time(before: str) -> bool:
    word = before.rsplit(maxsplit=1)[-1] if before.split() else ""
    return word in _TIME_COMES


def before_by(step: str, period: Period) -> Period:
    """The calendar month, quarter, half or year before the one in which the period begins; without a step, or with one
    as long as the period, as much time as it has."""
    if step == "year":
        return period.year_before()
    length = LENGTHS.get(step, period.whole_months)
    return period.before() if length == period.whole_months else containing(length, period.start).shifted(-length)


def containing(length: int, day: date) -> Period:
    """The calendar month, quarter, half or year, `length` months long, that holds the day."""
    return months_from(date(day.year, (day.month - 1) // length * length + 1, 1), length)


def number(text: str) -> int:
    return NUMBERS[text] if text in NUMBERS else int(text)
