"""What a question asks for: the job, the measures, the periods, along what and of whom. Pure, and never raises."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Final, Literal

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline import mentions, words
from askstream.agents.insights.offline.dates import Dates
from askstream.agents.insights.offline.intent import (
    Grain,
    Job,
    Order,
    Reading,
    count_of,
    dimension_of,
    grain_of,
    job_of,
    measures_of,
    order_of,
    read,
)
from askstream.agents.insights.offline.names import Facts
from askstream.agents.insights.periods import Period, months_from

Ambiguity = Literal["measure", "period"]
Part = Literal["SQL", "tables", "charts", "details"]
PARTS: Final[tuple[Part, ...]] = ("SQL", "tables", "charts", "details")
FORECAST: Final = "forecast"

KEY_MEASURES: Final = ("revenue", "orders", "units", "margin")
_BUT: Final = "without|excluding|exclude|except|except for|but|leave out|omit|ignore|drop|remove|skip|not|minus"
_FEW: Final = 12  # members of a dimension: so many can be named one by one, when all but one are meant
NO_MEASURE: Final = "No measure was named"
NO_PERIOD: Final = "No period was named"
_ASSUMED_MARGIN: Final = (
    "Profit is taken as gross margin: revenue less the cost of goods; other costs are not in the data."
)


@dataclass(frozen=True, slots=True)
class Understanding:
    job: Job
    measures: tuple[str, ...]
    period: Period
    covers: Period  # what the data spans
    against: Period | None = None
    dimension: str | None = None
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    order: Order = "top"
    count: int = 5
    grain: Grain = "month"
    ahead: int = 3  # months to forecast
    assumptions: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()  # was asked for, and can't be done: each in a sentence, with what is done instead
    missing: tuple[str, ...] = ()  # topics that were asked about, and that there is no data on
    ambiguous: tuple[Ambiguity, ...] = ()  # what the question left open, and an assumption fills
    carried: tuple[str, ...] = ()  # of a follow-up question: what it takes from the one before
    also: tuple[str, ...] = ()  # a remark asked for it beside the rest: FORECAST, or a dimension
    without: tuple[Part, ...] = ()  # of the report
    changed: tuple[str, ...] = ()  # by the last remark
    refused: tuple[str, ...] = ()  # of the last remark: what could not be followed, and why


def alone(question: str, facts: Facts) -> Understanding:
    """The question by itself, with what it leaves open filled by assumptions that it states."""
    reading = read(question, facts)
    job = job_of(reading)
    measures = measures_of(reading)
    missing = tuple(dict.fromkeys(words.NO_DATA.findall(reading.text)))
    if missing and job in ("figure", "unknown", "rank") and not measures:
        job = "unknown"
    elif job == "unknown" and reading.filters:
        job = "report"  # "the north?" is about a part of the business: what of it is left open
    found = Understanding(
        job=job,
        measures=_measures_for(job, measures),
        period=default_period(job, reading, facts),
        covers=Period(facts.first_day, facts.last_day),
        dimension=dimension_of(reading, job),
        filters=meant(reading, facts),
        order=order_of(reading),
        count=count_of(reading),
        grain=grain_of(reading),
        ahead=reading.dates.ahead or 3,
        assumptions=(_ASSUMED_MARGIN,) if "profit" in question.lower() and _speaks_of_profit(measures) else (),
        missing=missing,
        ambiguous=_ambiguous(reading, job, measures),
    )
    return with_ambiguity(timed(found, reading.dates))


def _measures_for(job: Job, named: tuple[str, ...]) -> tuple[str, ...]:
    if job == "report":
        return tuple(dict.fromkeys((*KEY_MEASURES, *named)))
    return named or (KEY_MEASURES if job == "compare" else ("revenue",))


def _speaks_of_profit(measures: tuple[str, ...]) -> bool:
    return "margin" in measures or "margin_rate" in measures


def leaves_out(reading: Reading) -> bool:
    """Whether those who are named are those who are not meant."""
    return bool(reading.filters) and reading.says(rf"(?:{_BUT}) (?:the )?MEMBER")


def meant(reading: Reading, facts: Facts) -> Mapping[str, tuple[str, ...]]:
    """The members that a question is about: those it names, or all but them where the others are few; else nobody in
    particular."""
    if not leaves_out(reading):
        return reading.filters
    others = {
        dimension: tuple(name for name in facts.members[dimension] if name not in members)
        for dimension, members in reading.filters.items()
    }
    return {dimension: names for dimension, names in others.items() if 0 < len(names) <= _FEW}


# --- the time --------------------------------------------------------------------------------------------------------


def default_period(job: Job, reading: Reading, facts: Facts) -> Period:
    """What is meant where no period is named."""
    today = facts.last_day
    match job:
        case "report":
            return mentions.last_whole(grain_of(reading), today)
        case "rank" | "customers" | "stock":
            return mentions.last_whole("month", today, 12)
        case "trend" | "forecast" | "schema" | "unknown":
            return Period(facts.first_day, today)
        case _:
            return mentions.last_whole("month", today)


def timed(found: Understanding, when: Dates) -> Understanding:
    """With the periods that the question names, and those to compare with, as far as the data goes."""
    period, against, notes = _two_periods(found, when)
    if when.relative:
        notes = (*notes, f"The data ends on {_day(found.covers.end)}; relative dates count from there.")
    found = replace(found, period=period, against=against, assumptions=(*found.assumptions, *notes))
    return covered(found)


def _two_periods(found: Understanding, when: Dates) -> tuple[Period, Period | None, tuple[str, ...]]:
    named, relation = when.periods, when.relation
    is_change = found.job in ("why", "compare")
    ends = when.ends
    if is_change and ends and ends[0].whole_months == ends[1].whole_months > 0 and ends[0] != ends[1]:
        return ordered(*ends, found.covers)
    if len(named) >= 2 and is_change:
        return ordered(named[0], named[1], found.covers)
    period = named[0] if named else found.period
    if relation == "year_before":
        return period, period.year_before(), ()
    compares = found.job in ("why", "compare", "report", "figure", "customers") or found.order in ("growth", "decline")
    return period, before(period) if compares or relation else None, ()


def ordered(first: Period, second: Period, covers: Period) -> tuple[Period, Period, tuple[str, ...]]:
    """The later of two is the current one, and like is set against like: a month against the same month where a whole
    year was named, a year that isn't over against as many months of the other."""
    then, now = sorted((first, second))
    now = Period(now.start, covers.end) if now.contains(covers.end) else now
    if then.start.year < now.start.year and then.whole_months == 12 and 0 < now.whole_months < 12:
        return now, now.shifted(12 * (then.start.year - now.start.year)), ()
    if now.end == covers.end and 0 < now.whole_months < then.whole_months and now.start == then.end + timedelta(1):
        start = months_from(then.start, now.whole_months)
        note = f"Of the current period there is only {now.label}; it is compared with as much of the one before."
        return now, start, (note,)
    return now, then, ()


def before(period: Period) -> Period:
    """What a period is set against when nothing is said."""
    # A year to date is set against the same months: the twelve before would bring another season.
    return period.year_before() if 6 < period.whole_months <= 12 else period.before()


def covered(found: Understanding) -> Understanding:
    """Cut to what the data covers; a period to compare with that isn't wholly there is dropped, and that is said."""
    span = found.covers
    told = f"The data covers {span.label}"
    period, against, notes = found.period, found.against, list(found.assumptions)
    if period.end < span.start or period.start > span.end:
        notes.append(f"{told}: there is nothing on {period.label}.")
        return replace(found, job="unknown", assumptions=tuple(notes), against=None)
    if period.start < span.start:
        period = Period(span.start, period.end)
        notes.append(f"{told}, so the period begins with its first day.")
    if against and against.start < span.start:
        notes.append(f"{told}: there is no {against.label} to compare with.")
        against = None
    return replace(found, period=period, against=against, assumptions=tuple(notes))


def _day(day: date) -> str:
    return Period(day, day).label


# --- what is left open -----------------------------------------------------------------------------------------------


def _ambiguous(reading: Reading, job: Job, measures: tuple[str, ...]) -> tuple[Ambiguity, ...]:
    """A report or a list has its defaults; where one figure is meant, not to say which, or when, leaves it open."""
    if job not in ("figure", "compare", "why", "report") or reading.says(r"reports?|overview|summary|dashboard|kpis?"):
        return ()
    open_ones: list[Ambiguity] = []
    if not measures:
        open_ones.append("measure")
    if not reading.dates.periods:
        open_ones.append("period")
    return tuple(open_ones)


def with_ambiguity(found: Understanding) -> Understanding:
    """With an assumption for each thing that is left open."""
    notes: list[str] = []
    if "measure" in found.ambiguous:
        labels = ", ".join(MEASURES[name].label.lower() for name in found.measures)
        notes.append(f"{NO_MEASURE}: taken as {labels}.")
    if "period" in found.ambiguous:
        notes.append(f"{NO_PERIOD}: taken as {found.period.label}, the last whole month.")
    return replace(found, assumptions=(*found.assumptions, *notes))
