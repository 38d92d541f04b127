"""Periods of days with a short notation: `2026`, `2026-H1`, `2026-Q3`, `2026-10`, `2026-10-03`, or two of them joined
by dots, `2026-08..2026-10`."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

MONTH_NAMES: Final = tuple(calendar.month_name)[1:]
NOTATION: Final = "2026, 2026-H1, 2026-Q3, 2026-10, 2026-10-03, or two of them with '..' between"

_POINT: Final = re.compile(r"(\d{4})(?:-(?:H([12])|Q([1-4])|(\d{2})(?:-(\d{2}))?))?", re.IGNORECASE)
# Other years have no business data, and shifting them could exceed the range of `date`.
_FIRST_YEAR: Final = 1900
_LAST_YEAR: Final = 2200


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """All days from `start` to `end`, both included."""

    start: date
    end: date

    @property
    def days(self) -> int:
        return (self.end - self.start).days + 1

    @property
    def whole_months(self) -> int:
        """The number of calendar months, or 0 if the period isn't made of whole ones."""
        if self.start.day != 1 or (self.end + timedelta(1)).day != 1:
            return 0
        return 12 * (self.end.year - self.start.year) + self.end.month - self.start.month + 1

    def contains(self, day: date) -> bool:
        return self.start <= day <= self.end

    def shifted(self, months: int) -> "Period":
        """Moved by calendar months. Whole months stay whole; other days are clamped to their month."""
        if self.whole_months:
            return months_from(_add_months(self.start, months), self.whole_months)
        return Period(_add_months(self.start, months), _add_months(self.end, months))

    def before(self) -> "Period":
        """The period of the same length just before this one."""
        if self.whole_months:
            return self.shifted(-self.whole_months)
        return Period(self.start - timedelta(self.days), self.start - timedelta(1))

    def year_before(self) -> "Period":
        return self.shifted(-12)

    def months(self) -> list["Period"]:
        """The calendar months that it touches, each cut to the part inside."""
        found: list[Period] = []
        first = self.start.replace(day=1)
        while first <= self.end:
            month = months_from(first, 1)
            found.append(Period(max(month.start, self.start), min(month.end, self.end)))
            first = month.end + timedelta(1)
        return found

    @property
    def notation(self) -> str:
        """The shortest notation; `parse` gives the same period back."""
        if self.start == self.end:
            return self.start.isoformat()
        match self.whole_months:
            case 0:
                return f"{self.start.isoformat()}..{self.end.isoformat()}"
            case 1:
                return f"{self.start:%Y-%m}"
            case 3 if self.start.month % 3 == 1:
                return f"{self.start.year:04d}-Q{self.start.month // 3 + 1}"
            case 6 if self.start.month in (1, 7):
                return f"{self.start.year:04d}-H{self.start.month // 6 + 1}"
            case 12 if self.start.month == 1:
                return f"{self.start.year:04d}"
            case _:
                return f"{self.start:%Y-%m}..{self.end:%Y-%m}"

    @property
    def label(self) -> str:
        """In words: `October 2026`, `Q3 2026`, `first half of 2026`, `August to October 2026`, `3 to 9 May 2026`."""
        year = self.end.year
        match self.whole_months:
            case 0:
                return _day_label(self)
            case 1:
                return f"{MONTH_NAMES[self.start.month - 1]} {year}"
            case 3 if self.start.month % 3 == 1:
                return f"Q{self.start.month // 3 + 1} {year}"
            case 6 if self.start.month in (1, 7):
                return f"{'first' if self.start.month == 1 else 'second'} half of {year}"
            case 12 if self.start.month == 1:
                return str(year)
            case _:
                first = MONTH_NAMES[self.start.month - 1]
                first_year = "" if self.start.year == year else f" {self.start.year}"
                return f"{first}{first_year} to {MONTH_NAMES[self.end.month - 1]} {year}"


def parse(text: str) -> Period:
    """Read the notation. Raises ValueError with what was expected and found."""
    first, dots, last = text.strip().partition("..")
    start = _point(first, text)
    end = _point(last, text) if dots else start
    if start.start > end.end:
        raise ValueError(f"a period must not end before it begins: {text!r}")
    return Period(start.start, end.end)


def months_from(first: date, count: int) -> Period:
    """`count` whole months from that of `first`."""
    start = first.replace(day=1)
    return Period(start, _add_months(start, count) - timedelta(1))


def like_for_like(current: Period, previous: Period, last_day: date) -> tuple[Period, Period, str]:
    """Cut a period that isn't over to the days that have data, and the other one to as much of it.
    The third value says so; "" if both are over."""
    later, earlier = max(current, previous), min(current, previous)
    if not later.contains(last_day) or later.end == last_day:
        return current, previous, ""
    cut = Period(later.start, last_day)
    if months := cut.whole_months:
        whole = earlier.whole_months
        same = months_from(earlier.start, min(months, whole)) if whole else earlier
    else:
        same = Period(earlier.start, min(earlier.end, earlier.start + timedelta(cut.days - 1)))
    note = f"{later.label} isn't over: the data ends on {last_day}, so {cut.label} is set against {same.label}"
    return (cut, same, note) if later == current else (same, cut, note)


def quarter(year: int, number: int) -> Period:
    return months_from(date(year, 3 * number - 2, 1), 3)


def half(year: int, number: int) -> Period:
    return months_from(date(year, 6 * number - 5, 1), 6)


def year(number: int) -> Period:
    return months_from(date(number, 1, 1), 12)


def _point(text: str, whole: str) -> Period:
    found = _POINT.fullmatch(text.strip())
    if not found or not _FIRST_YEAR <= int(found[1]) <= _LAST_YEAR:
        raise ValueError(f"a period is written {NOTATION}, not {whole!r}")
    number = int(found[1])
    try:
        match found.groups():
            case (_, str(half_number), _, _, _):
                return half(number, int(half_number))
            case (_, _, str(quarter_number), _, _):
                return quarter(number, int(quarter_number))
            case (_, _, _, str(month), None):
                return months_from(date(number, int(month), 1), 1)
            case (_, _, _, str(month), str(day)):
                one = date(number, int(month), int(day))
                return Period(one, one)
            case _:
                return year(number)
    except ValueError:
        raise ValueError(f"there is no such day or month: {whole!r}") from None


def _add_months(day: date, months: int) -> date:
    total = 12 * day.year + day.month - 1 + months
    first = date(total // 12, total % 12 + 1, 1)
    return first.replace(day=min(day.day, calendar.monthrange(first.year, first.month)[1]))


def _day_label(period: Period) -> str:
    end = f"{period.end.day} {MONTH_NAMES[period.end.month - 1]} {period.end.year}"
    if period.start == period.end:
        return end
    start = f"{period.start.day}"
    if (period.start.year, period.start.month) != (period.end.year, period.end.month):
        start += f" {MONTH_NAMES[period.start.month - 1]}"
    if period.start.year != period.end.year:
        start += f" {period.start.year}"
    return f"{start} to {end}"
