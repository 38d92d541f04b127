"""Questions that lean on the one before: "and the quarter before?", "what about the north?", "by product?", "why?"."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from askstream.agents.insights.offline import dates, mentions
from askstream.agents.insights.offline.dates import Dates
from askstream.agents.insights.offline.intent import (
    Job,
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
from askstream.agents.insights.offline.understanding import (
    KEY_MEASURES,
    Understanding,
    before,
    covered,
    default_period,
    meant,
    ordered,
    timed,
)
from askstream.agents.insights.periods import Period

_BARE_WORDS: Final = 4  # "why?", "and why was that?": so short a question names nothing of its own
_LEANS: Final = re.compile(r" (?:and|what about|how about|same|ok and|but|or)\b")
# These begin a new question as well as one that leans: "now forecast revenue", "now by region".
_MAY_LEAN: Final = re.compile(r" (?:ok|then|now|also|just|only|so|by|per|for each|split|break)\b")
_POINTS_BACK: Final = "that|those|these|this|it|them|its|their|same"
_REPORT: Final = "reports?|overview|summary|dashboard|briefing|kpis?"
_COMPARES: Final = r"compar\w+|versus|vs|against|difference|relative to|set beside"
_STEPS_BACK: Final = re.compile(r"\b(?:previous|prior|preceding) (month|quarter|half|year)\b", re.IGNORECASE)
_ONE_BEFORE: Final = re.compile(r"\b(?:the one before|before that)\b", re.IGNORECASE)
# Who lies within whom, so that naming one of them lets go of the other.
_WITHIN: Final[Mapping[str, frozenset[str]]] = {
    "region": frozenset({"customer", "sales_person"}),
    "segment": frozenset({"customer"}),
    "category": frozenset({"product"}),
    "product": frozenset({"category"}),
    "customer": frozenset({"region", "segment", "sales_person"}),
    "sales_person": frozenset({"region", "customer"}),
}


def follows(question: str, earlier: Understanding, facts: Facts) -> bool:
    """Whether the question leans on the one before: it begins so, points back, or is too short to stand alone."""
    reading = read(question, facts)
    job, measures, when = job_of(reading), measures_of(reading), reading.dates
    if job in ("schema", "stock", "customers") or (reading.says(_REPORT) and earlier.job != "report"):
        return False
    timed_by_itself = bool(when.periods or when.ahead)
    if _LEANS.match(reading.text):
        return not (measures and timed_by_itself and job not in ("figure", "forecast"))
    if _MAY_LEAN.match(reading.text):
        return not (measures and timed_by_itself)
    if job == "unknown":
        return bool(when.periods or reading.filters or when.relation)
    if measures:  # "orders?", but not "orders in May?"
        return job == "figure" and _words(reading) <= 2 and not when.periods
    return _is_half(reading, job)


def _is_half(reading: Reading, job: Job) -> bool:
    """Of a question without a measure: whether something else is missing as well."""
    if job in ("why", "compare") and not reading.dates.periods:
        return True
    if job in ("why", "compare", "rank", "trend", "forecast") and reading.says(_POINTS_BACK):
        return True
    bare = not (reading.dates.periods or reading.filters)
    return bare and job == "trend" and _words(reading) <= _BARE_WORDS


def _words(reading: Reading) -> int:
    return len(reading.text.split())


def continued(question: str, earlier: Understanding, facts: Facts) -> Understanding:
    """What the question asks for, with all that it doesn't say taken from the earlier one."""
    text = _ONE_BEFORE.sub("the period before", _STEPS_BACK.sub(r"\1 before", question))
    reading = read(text, facts)
    named, dimension = measures_of(reading), dimension_of(reading, "unknown")
    job = _job(reading, earlier, dimension)
    filters = merged(earlier.filters, reading, facts, dimension if job == "rank" else None)
    base = replace(
        earlier,
        job=job,
        measures=_measures(job, named, earlier),
        dimension=dimension or earlier.dimension or ("product" if job == "rank" else None),
        filters=filters,
        ahead=reading.dates.ahead or earlier.ahead,
        assumptions=(),
        missing=(),
        ambiguous=(),
    )
    found = _moved(_listed(base, reading, earlier), reading, earlier, facts)
    return replace(found, carried=_carried(found, earlier, reading, bool(named)))


def compares(reading: Reading) -> bool:
    return reading.says(_COMPARES)


def merged(
    filters: Mapping[str, tuple[str, ...]], reading: Reading, facts: Facts, along: str | None = None
) -> Mapping[str, tuple[str, ...]]:
    """The filters with those that the reading names; a list along a dimension is not narrowed to one of it."""
    gone = {along} if along else set[str]()
    for dimension in reading.filters:
        gone |= _WITHIN.get(dimension, frozenset())
    if reading.says("everywhere|whole company|company wide"):
        gone |= set(filters)
    for word in re.findall(r"\ball (?:the )?([A-Z_]+)", reading.text):
        gone.add(word.lower())
    return {name: members for name, members in filters.items() if name not in gone} | dict(meant(reading, facts))


def _job(reading: Reading, earlier: Understanding, dimension: str | None) -> Job:
    job = job_of(reading)
    if compares(reading) and job == "compare":
        return earlier.job if earlier.job in ("report", "why", "rank", "compare") else "compare"
    if job in ("unknown", "figure") and dimension:
        return "rank"
    return earlier.job if job in ("unknown", "figure", "report", "compare") else job


def _measures(job: Job, named: tuple[str, ...], earlier: Understanding) -> tuple[str, ...]:
    if job == "report":
        return tuple(dict.fromkeys((*named, *earlier.measures, *KEY_MEASURES)))
    if job in ("why", "rank", "forecast", "trend") and earlier.job == "report":
        return named or earlier.measures[:1]
    return named or earlier.measures


def _listed(base: Understanding, reading: Reading, earlier: Understanding) -> Understanding:
    """With order, number and grain: what the question says, else what was so before, for the same kind of answer."""
    grain = grain_of(reading) if base.job == "trend" and earlier.job != "trend" else base.grain
    if base.job == "trend" and reading.says(r"month\w*|quarter\w*|year\w*|annual\w*"):
        grain = grain_of(reading)
    if base.job != "rank":
        return replace(base, grain=grain)
    again = earlier.job == "rank"
    orders = reading.says(r"top|best|bottom|worst|\w+est|fastest|grow\w*|declin\w*|most|least")
    counted = reading.says(r"(?:top|bottom|best|worst|\w+est) (?:\d{1,3}|[a-z]+)") and orders
    return replace(
        base,
        order=order_of(reading) if orders or not again else earlier.order,
        count=count_of(reading) if counted or not again else earlier.count,
    )


# --- the time --------------------------------------------------------------------------------------------------------


def _moved(base: Understanding, reading: Reading, earlier: Understanding, facts: Facts) -> Understanding:
    when = reading.dates
    if compares(reading) and len(when.periods) < 2:
        # All that there is has nothing before it: then it is the last year.
        whole = earlier.period == earlier.covers
        period = mentions.last_whole("month", facts.last_day, 12) if whole else earlier.period
        now, then, notes = _set_against(period, when, earlier)
        return covered(replace(base, period=now, against=then, assumptions=notes))
    if when.periods:
        return timed(base, replace(when, relation=when.relation or _same_relation(base, earlier)))
    if when.relation:  # "and the quarter before?" moves the period itself
        period = earlier.period.year_before() if when.relation == "year_before" else None
        period = period or mentions.before_by(when.step, earlier.period)
        return timed(base, replace(when, periods=(period,), relation=_same_relation(base, earlier)))
    period = _period_for(base.job, reading, earlier, facts)
    return timed(base, replace(when, periods=(period,), relation=_same_relation(base, earlier)))


def _set_against(period: Period, when: Dates, earlier: Understanding) -> tuple[Period, Period, tuple[str, ...]]:
    """The period, beside the one that is named to compare it with."""
    if when.relation == "before":
        return period, mentions.before_by(when.step, period), ()
    if when.relation == "year_before" or any(one.start <= period.start <= one.end for one in when.periods):
        return period, period.year_before(), ()
    if when.periods:
        return ordered(period, when.periods[0], earlier.covers)
    return period, before(period), ()


def _same_relation(base: Understanding, earlier: Understanding) -> dates.Relation | None:
    """Who compared with the year before, compares the next period so too."""
    year_ago = earlier.period.year_before()
    alike = base.job == earlier.job and earlier.against == year_ago != before(earlier.period)
    return "year_before" if alike else None


def _period_for(job: Job, reading: Reading, earlier: Understanding, facts: Facts) -> Period:
    """The earlier one, unless that can't serve: a forecast needs the whole past, a course more than a month or two, and
    a cause something to compare with."""
    whole = earlier.period == earlier.covers
    if job == "forecast" or (job == "trend" and 0 < earlier.period.whole_months < 3):
        return earlier.covers
    return default_period(job, reading, facts) if whole and job in ("why", "compare") else earlier.period


def _carried(found: Understanding, earlier: Understanding, reading: Reading, named_measure: bool) -> tuple[str, ...]:
    """In words, what was taken from the question before."""
    kept = {
        "the task": found.job == earlier.job,
        "the measure": not named_measure,
        "the period": found.period == earlier.period and not reading.dates.periods,
        "the part of the business": any(found.filters.get(name) == of for name, of in earlier.filters.items()),
        "the breakdown": found.job == "rank" == earlier.job and found.dimension == earlier.dimension,
    }
    return tuple(name for name, holds in kept.items() if holds)
