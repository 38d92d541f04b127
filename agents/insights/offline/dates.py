"""The periods that a text names. "Today" is the last day of the data, so "last month" is the last
whole month up to it. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise
from typing import Final, Literal

from askstream.agents.insights.offline.words import Text
from askstream.agents.insights.periods import MONTH_NAMES, Period, half, months_from, parse, quarter, year

Relation = Literal["year_before", "before"]
_COUNTED: Final = "one two three four five six seven eight nine ten eleven twelve"
NUMBERS: Final[Mapping[str, int]] = {word: n for n, word in enumerate(_COUNTED.split(), 1)}
COUNT: Final = rf"(?:\d{{1,4}}|{'|'.join(NUMBERS)})"
_MONTHS: Final[Mapping[str, int]] = {
    name: n for n, full in enumerate(MONTH_NAMES, 1) for name in (full.lower(), full[:3].lower())
} | {"sept": 9}
_MONTH: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ORDINALS: Final = ("first|1st", "second|2nd", "third|3rd", "fourth|4th")
_ORDINAL: Final = "|".join(_ORDINALS)
_YEAR: Final = r"(?:19\d\d|20\d\d|21\d\d)"
_OF: Final = rf"(?: ?(?:-|/|of|in)? ?(?P<y>{_YEAR}|last year|the year before|this year))?"
_LAST: Final = "last|previous|past|prior|preceding|latest|most recent"
LENGTHS: Final[Mapping[str, int]] = {"month": 1, "quarter": 3, "half": 6, "half year": 6, "year": 12}
# "May" and "March" are months only behind one of these words, or beside a year.
_TIME_COMES: Final = frozenset(
    [
        "in",
        "for",
        "of",
        "since",
        "from",
        "to",
        "until",
        "till",
        "by",
        "during",
        "last",
        "and",
        "or",
        "vs",
        "versus",
        "against",
        "than",
        "with",
        "between",
        "about",
        "after",
        "-",
        "the",
        "this",
        "through",
        "but",
    ]
)
_JOINS: Final = frozenset(("to", "until", "till", "through", "-", "up to"))


@dataclass(frozen=True, slots=True)
class Mention:
    """A period that was named, and where. `open`: no year was said. `cut`: its name, if only a
    part of it has data so far."""

    start: int
    end: int
    period: Period
    open: bool = False
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Dates:
    """All that a text says about time. `linked`: two periods stand beside each other ("and",
    "vs"), so that they may be compared. `future`: a period that begins after the data ends."""

    periods: tuple[Period, ...] = ()
    relation: Relation | None = None
    step: str = ""  # how far the related period lies back: "month", "quarter", "half", "year"
    ahead: int = 0  # months to forecast
    notes: tuple[str, ...] = ()
    linked: bool = True
    ranged: bool = False
    wrong: str = ""  # a day or a week that doesn't exist


class _Reader:
    """Turns matches into periods."""

    def __init__(self, today: date, first_day: date) -> None:
        self.today, self.first_day = today, first_day

    def notation(self, m: re.Match[str]) -> Period:
        return parse(m[0])

    def day(self, m: re.Match[str]) -> Period:
        number, month = int(re.sub(r"\D", "", m["d"] or m["d2"])), _MONTHS[m["m"] or m["m2"]]
        given = m["dy"] or m["dy2"]
        one = date(int(given or self.today.year), month, number)
        return _day(one if given or one <= self.today else one.replace(year=one.year - 1))

    def days(self, m: re.Match[str]) -> Period:
        """A label such as "17 to 23 August 2026"."""
        first, last = (date(int(m["y"]), _MONTHS[m["m"]], int(m[key])) for key in "de")
        return Period(first, last)

    def month(self, m: re.Match[str]) -> Period:
        return self._of_year(m, lambda y: months_from(date(y, _MONTHS[m["name"]], 1), 1))

    def quarter(self, m: re.Match[str]) -> Period:
        return self._of_year(m, lambda y: quarter(y, number(m["n"])))

    def half(self, m: re.Match[str]) -> Period:
        return self._of_year(m, lambda y: half(y, number(m["n"])))

    def year_first(self, m: re.Match[str]) -> Period:
        make = quarter if m[2] == "q" else half
        return make(int(m[1]), int(m[3]))

    def part_of_year(self, m: re.Match[str]) -> Period:
        count, whole = number(m["n"] or "one") * LENGTHS[m["unit"]], year(int(m["y"]))
        first = whole if m["end"] == "first" else whole.shifted(12 - count)
        return months_from(first.start, count)

    def week(self, m: re.Match[str]) -> Period:
        given = m["y"]
        monday = date.fromisocalendar(int(given or self.today.year), int(m["n"]), 1)
        if not given and monday > self.today:
            monday = date.fromisocalendar(self.today.year - 1, int(m["n"]), 1)
        return Period(monday, monday + timedelta(6))

    def special(self, m: re.Match[str]) -> Period:
        """Black Friday follows the fourth Thursday of November."""

        def of(number: int) -> date:
            first = date(number, 11, 1)
            friday = first + timedelta((3 - first.weekday()) % 7 + 22)
            return friday + timedelta(3) if "cyber" in m["name"] else friday

        return self._of_year(m, lambda y: _day(of(y)))

    def year(self, m: re.Match[str]) -> Period:
        return year(int(m["y"]))

    def several(self, m: re.Match[str]) -> Period:
        count, unit = number(m["n"]), m["unit"]
        if unit in ("day", "week"):
            days = min(count * (7 if unit == "week" else 1), 3650)
            return Period(self.today - timedelta(days - 1), self.today)
        if unit == "year":
            return last_whole("month", self.today, min(12 * count, 240))
        return last_whole(unit, self.today, min(count, 80))

    def last(self, m: re.Match[str]) -> Period:
        if m["unit"] == "week":
            end = self.today - timedelta((self.today.weekday() + 1) % 7)
            return Period(end - timedelta(6), end)
        period = last_whole(m["unit"], self.today)
        also = re.search(rf"\b(?:this|current) {m['unit']}\b", m.string)
        return period.before() if also and period.contains(self.today) else period

    def this(self, m: re.Match[str]) -> Period:
        if m["unit"] == "week":
            monday = self.today - timedelta(self.today.weekday())
            return Period(monday, monday + timedelta(6))
        return containing(LENGTHS[m["unit"]], self.today)

    def to_date(self, m: re.Match[str]) -> Period:
        found = re.search(r"year|quarter|month|[yqm](?=td)", m[0].replace("last year", ""))
        unit = {"q": "quarter", "m": "month"}.get(found[0][0] if found else "y", "year")
        period = Period(containing(LENGTHS[unit], self.today).start, self.today)
        return period.year_before() if "last year" in m[0] else period

    def yesterday(self, m: re.Match[str]) -> Period:
        return _day(self.today - timedelta(1 if "yesterday" in m[0] else 0))

    def always(self, m: re.Match[str]) -> Period:
        return Period(self.first_day, self.today)

    def _of_year(self, m: re.Match[str], make: Callable[[int], Period]) -> Period:
        given = m["y"] or ""
        if given.isdigit():
            return make(int(given))
        if given:
            return make(self.today.year - (given != "this year"))
        period = make(self.today.year)  # what has begun counts, even if it isn't over
        return period if period.start <= self.today else make(self.today.year - 1)


_PATTERNS: Final[tuple[tuple[str, Callable[[_Reader, re.Match[str]], Period]], ...]] = (
    (r"\d{4}-\d{2}(?:-\d{2})?", _Reader.notation),
    (r"(?:the )?last years? (?:year to date|ytd)|(?:the )?(?:year|quarter|month) to date(?: of)?(?: last year)?|"
     r"[yqm]td(?: (?:of )?last year)?", _Reader.to_date),
    (rf"(?P<d>\d{{1,2}}) to (?P<e>\d{{1,2}}) (?P<m>{_MONTH}) (?P<y>{_YEAR})", _Reader.days),
    (rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<m>{_MONTH})(?: (?P<dy>{_YEAR}))?"
     rf"|(?P<m2>{_MONTH}) (?P<d2>\d{{1,2}})(?:st|nd|rd|th)?(?: (?P<dy2>{_YEAR}))?", _Reader.day),
    (rf"(?:the )?(?P<end>first|last|final) (?:(?P<n>{COUNT}) )?(?P<unit>month|quarter|half)s? (?:of|in) "
     rf"(?P<y>{_YEAR})", _Reader.part_of_year),
    (rf"(?:(?:the|{_LAST}) )?(?P<name>{_MONTH}){_OF}", _Reader.month),
    (rf"({_YEAR}) ?-? ?([qh]) ?([1-4])", _Reader.year_first),
    (rf"(?:the )?q ?(?P<n>[1-4]){_OF}", _Reader.quarter),
    (rf"(?:the )?(?P<n>{_ORDINAL}) quarter{_OF}", _Reader.quarter),
    (rf"(?:the )?h ?(?P<n>[12]){_OF}", _Reader.half),
    (rf"(?:the )?(?P<n>first|1st|second|2nd) half(?: year)?{_OF}", _Reader.half),
    (rf"(?:calendar |iso )?(?:week|cw|kw|w) ?(?P<n>\d{{1,2}})(?: ?(?:-|/|of|in)? ?(?P<y>{_YEAR}))?", _Reader.week),
    (rf"(?P<name>black friday|cyber monday){_OF}", _Reader.special),
    (rf"(?:the )?(?:{_LAST}) (?P<n>{COUNT}) (?:full |whole )?(?P<unit>day|week|month|quarter|year)s?", _Reader.several),
    (rf"(?:the )?(?:{_LAST}) (?:full |whole )?(?P<unit>week|month|quarter|half|year)", _Reader.last),
    (r"(?:(?:this|the current|current|the) )?(?P<unit>week|month|quarter|half|year) so far", _Reader.this),
    (r"(?:this|the current|current) (?P<unit>week|month|quarter|half|year)", _Reader.this),
    (r"today|yesterday", _Reader.yesterday),
    (r"(?:of |over )?all(?: the)? time|(?:the )?(?:whole|entire) (?:period|time|history)|all (?:the )?data|"
     r"since the (?:beginning|start)|ever", _Reader.always),
    (rf"(?:the )?(?:fy|fiscal year|financial year|year|calendar year)? ?(?P<y>{_YEAR})", _Reader.year),
)  # fmt: skip
_RELATIONS: Final[tuple[tuple[str, Relation], ...]] = (
    (r"year (?:on|over) year|yoy|y/y|y / y", "year_before"),
    (r"(?:the )?same (?:month|quarter|period|time|half|week|days?)(?: of| in)? (?:the )?(?:last|previous|prior) year",
     "year_before"),
    (r"(?:the )?same (?:month|quarter|period|time|half) (?:a|one|the) year (?:ago|earlier|before)", "year_before"),
    (r"(?:a|one) year (?:ago|earlier|before)", "year_before"),
    (r"(?:the )?(?:one|(?P<step>month|quarter|half|year|period)) (?:before|earlier)(?: that)?", "before"),
    (r"(?P<s2>month|quarter) (?:on|over) (?:month|quarter)|mom|qoq|m/m|q/q", "before"),
    (r"(?:the )?(?:previous|preceding|prior) period", "before"),
)  # fmt: skip
_AHEAD: Final = rf"(?:the )?(?:next|coming|following) (?:(?P<n>{COUNT}) )?(?P<unit>month|quarter|half|half year|year)s?"
WORDS: Final = (*(pattern for pattern, _ in _PATTERNS), *(pattern for pattern, _ in _RELATIONS), _AHEAD)


def find(text: Text, today: date, first_day: date) -> Dates:
    """Take all that the text says about time."""
    found, reader = Dates(), _Reader(today, first_day)
    for pattern, relation in _RELATIONS:
        if (taken := text.take(pattern)) and found.relation is None:
            step = re.search("month|quarter|half|year", taken[0][0])
            found = replace(found, relation=relation, step=step[0] if step else "")
    for match in text.take(_AHEAD):
        found = replace(found, ahead=number(match["n"] or "one") * LENGTHS[match["unit"]])
    mentions, wrong = _mentions(text, reader)
    mentions = _settled(sorted(mentions, key=lambda m: m.start), text)
    spans = [_bounded(m, text, reader) for m in _ranges(mentions, text)]
    notes = tuple(f"{m.cut} has data up to {day_name(today)} only" for m in spans if m.cut)
    if re.search(r"\b(?:fy|fiscal|financial) ", text.whole):
        notes = ("The financial year is taken as the calendar year", *notes)
    return replace(
        found,
        periods=tuple(dict.fromkeys(m.period for m in spans)),
        notes=notes,
        linked=_linked(spans, text.whole),
        ranged=len(spans) < len(mentions),
        wrong=wrong,
    )


def _mentions(text: Text, reader: _Reader) -> tuple[list[Mention], str]:
    found: list[Mention] = []
    wrong = ""
    for pattern, make in _PATTERNS:
        for match in list(re.finditer(rf"(?<![\w·-])(?:{pattern})(?![\w·-])", text.rest)):
            if _is_word(match, text.whole):
                continue
            text.blank(*match.span())
            try:
                year_said = re.search(r"\d{4}|year|td\b|day", match[0]) is not None
                found.append(Mention(*match.span(), make(reader, match), open=not year_said))
            except ValueError:
                wrong = match[0].strip()
    return found, wrong


def _is_word(match: re.Match[str], text: str) -> bool:
    """Whether "may", "march" or "mar" stands there as a word of its own, not as a month."""
    before, behind = text[: match.start()].split()[-1:], text[match.end() :].split()[:1]
    if match[0] not in ("may", "march", "mar"):
        return False
    if behind and (behind[0] in ("to", "-") or re.fullmatch(_YEAR, behind[0])):
        return False  # "May to October 2026", as titles have it
    return before[0] not in _TIME_COMES if before else behind in (["i"], ["we"], ["you"])


def _settled(mentions: list[Mention], text: Text) -> list[Mention]:
    """A month without a year has that of the one after it: "from March to May 2025"."""
    settled: list[Mention] = []
    for mention in reversed(mentions):
        after = settled[0] if settled else None
        moved = mention
        if after and mention.open and not after.open and after.period.days < 360:
            period = mention.period.shifted(12 * (after.period.start.year - mention.period.start.year))
            joined = text.whole[mention.end : after.start].strip() in _JOINS
            later = joined and period.start > after.period.start  # "from November to March 2026"
            moved = replace(mention, period=period.shifted(-12) if later else period, open=False)
        settled.insert(0, moved)
    return settled


def _ranges(mentions: list[Mention], text: Text) -> list[Mention]:
    """Join "from A to B", "between A and B" and "A - B"."""
    joined: list[Mention] = []
    for mention in mentions:
        before = joined[-1] if joined else None
        between = text.whole[before.end : mention.start].strip() if before else ""
        lead = text.whole[: before.start].split()[-1:] if before else []
        if before and ((between in _JOINS and lead != ["compare"]) or (between == "and" and lead == ["between"])):
            start = before.period
            if start.start > mention.period.start and before.open:
                start = start.shifted(-12)
            span = Period(min(start, mention.period).start, max(start.end, mention.period.end))
            joined[-1] = replace(before, end=mention.end, period=span, open=False)
            text.blank(before.end, mention.start)
            text.take("between|from")
        else:
            joined.append(mention)
    return joined


def _bounded(mention: Mention, text: Text, reader: _Reader) -> Mention:
    """With "since" or "until" in front the period is open to one side. None that has begun goes
    beyond today."""
    period, cut = mention.period, ""
    lead = text.whole[: mention.start].split()[-1:]
    if text.whole[: mention.start].endswith(" up to "):
        text.blank(mention.start - 6, mention.start)
        lead = ["until"]
    if lead and lead[0] in ("since", "after", "until", "till", "from", "during", "over"):
        text.blank(mention.start - len(lead[0]) - 1, mention.start)
    text.take("(?:the )?(?:month|week|year|quarter)s? of(?= ·)")
    if lead in (["since"], ["after"], ["from"]) and period.start <= reader.today:
        if lead != ["from"] or re.match(r" (?:on|onwards?)\b", text.whole[mention.end :]):
            start = period.end + timedelta(1) if lead == ["after"] else period.start
            period = Period(start, reader.today) if start <= reader.today else period
    elif lead in (["until"], ["till"]) and period.end >= reader.first_day:
        period = Period(reader.first_day, period.end)
    if period.start <= reader.today < period.end:
        cut, period = period.label, Period(period.start, reader.today)
    return replace(mention, period=period, cut=cut)


def _linked(spans: list[Mention], text: str) -> bool:
    """Whether a word that joins stands between two periods; one behind the other isn't a pair."""
    joins = r"\b(?:and|or|vs|versus|against|with|to|than|then|compare|compared|over|into)\b| [-/] "
    return all(re.search(joins, text[a.end : b.start]) for a, b in pairwise(spans))


def last_whole(unit: str, today: date, count: int = 1) -> Period:
    """The last `count` whole months, quarters, halves or years up to `today`."""
    length = LENGTHS[unit]
    current = containing(length, today)
    last = current if current.end <= today else current.shifted(-length)
    return months_from(last.shifted(-length * (count - 1)).start, length * count)


def before_by(step: str, period: Period) -> Period:
    """The calendar month, quarter, half or year before the one in which the period begins; without
    a step as much time as the period has."""
    if step == "year":
        return period.year_before()
    length = LENGTHS.get(step, 0) or period.whole_months
    same = length == period.whole_months
    return period.before() if same else containing(length, period.start).shifted(-length)


def containing(length: int, day: date) -> Period:
    """The calendar month, quarter, half or year, `length` months long, that holds the day."""
    return months_from(date(day.year, (day.month - 1) // length * length + 1, 1), length)


def day_name(day: date) -> str:
    return _day(day).label


def _day(day: date) -> Period:
    return Period(day, day)


def number(text: str) -> int:
    if text in NUMBERS:
        return NUMBERS[text]
    place = next((n for n, words in enumerate(_ORDINALS, 1) if text in words.split("|")), 0)
    return place or max(1, int(text))


def place(text: str) -> int:
    """The place in a list that an ordinal names, from 0; -1 for the last."""
    return -1 if text == "last" else next((n for n, words in enumerate(_ORDINALS) if text in words.split("|")), 0)
