"""What a question asks for: the job, the measures, the periods, along what and of whom. Pure, and never raises."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Final, Literal

from agents.measures import MEASURES
from agents.offline import dates, words
from agents.offline.conversation import Json
from agents.offline.dates import Dates
from agents.periods import Period, months_from

Job = Literal[
    "report", "figure", "compare", "rank", "trend", "why", "customers", "stock", "forecast", "schema", "unknown"
]
Order = Literal["top", "bottom", "growth", "decline"]
Grain = Literal["month", "quarter", "year"]
Ambiguity = Literal["measure", "period"]

KEY_MEASURES: Final = ("revenue", "orders", "units", "margin")
_ASSUMED_MARGIN: Final = (
    "Profit is taken as gross margin: revenue less the cost of goods; other costs are not in the data."
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the schema tells about the bundled warehouse."""

    first_day: date
    last_day: date
    members: Mapping[str, tuple[str, ...]]  # dimension: names


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
    missing: tuple[str, ...] = ()  # topics that were asked about, and that there is no data on
    ambiguous: tuple[Ambiguity, ...] = ()  # what the question left open, and an assumption fills


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


def understand(questions: Sequence[str], facts: Facts) -> Understanding:
    """The last question, read after those before it: "and the quarter before?" takes from them what it leaves out."""
    understood: Understanding | None = None
    for question in questions:
        understood = _understand(question, facts, understood)
    return understood or _understand("", facts, None)


_NAMES_IN: Final = {
    "products": "product",
    "categories": "category",
    "regions": "region",
    "customers": "customer",
    "sales_people": "sales_person",
}


def _values(schema: Json, table: str, column: str) -> tuple[str, ...]:
    described: Any = next(one for one in schema["tables"] if one["name"] == table)
    found: Any = next(one for one in described["columns"] if one["name"] == column)
    return tuple(str(value) for value in found["values"])


@dataclass(frozen=True, slots=True)
class _Read:
    """A question, read in layers: who is named in it, then when, then what remains as concepts."""

    filters: Mapping[str, tuple[str, ...]]
    dates: Dates
    text: str  # concepts, DATE for periods, MEMBER for names

    def says(self, pattern: str) -> bool:
        return re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", self.text) is not None


def _read(question: str, facts: Facts) -> _Read:
    text, filters = _members(words.plain(question[:4000]), facts)
    when = dates.find(words.corrected(text), facts.last_day, facts.first_day)
    return _Read(filters, when, words.concepts(when.rest))


def _understand(question: str, facts: Facts, earlier: Understanding | None) -> Understanding:
    read = _read(question, facts)
    job = _job(read)
    if earlier and _follows(read, job):
        return _continued(read, job, earlier, facts)
    measures = _measures(read)
    missing = tuple(dict.fromkeys(words.NO_DATA.findall(read.text)))
    if missing and job in ("figure", "unknown", "rank") and not measures:
        job = "unknown"
    found = Understanding(
        job=job,
        measures=_measures_for(job, measures),
        period=_default_period(job, read, facts),
        covers=Period(facts.first_day, facts.last_day),
        dimension=_dimension(read, job),
        filters=read.filters,
        order=_order(read),
        count=_count(read),
        grain=_grain(read),
        ahead=read.dates.ahead or 3,
        assumptions=(_ASSUMED_MARGIN,) if "profit" in question.lower() and _speaks_of_profit(measures) else (),
        missing=missing,
        ambiguous=_ambiguous(read, job, measures),
    )
    return _with_ambiguity(_timed(found, read, facts), facts)


def _measures_for(job: Job, named: tuple[str, ...]) -> tuple[str, ...]:
    if job == "report":
        return tuple(dict.fromkeys((*KEY_MEASURES, *named)))
    return named or (KEY_MEASURES if job == "compare" else ("revenue",))


def _speaks_of_profit(measures: tuple[str, ...]) -> bool:
    return "margin" in measures or "margin_rate" in measures


# --- the job ---------------------------------------------------------------------------------------------------------

_CHANGED: Final = (
    r"fall|fell|fallen|falls|drop(?:ped|s|ping)?|declin\w+|decreas\w+|sank|sink|shrank|shrunk|rise|rose|risen|rising|"
    r"grow|grew|grown|increas\w+|jump(?:ed)?|spik\w+|chang\w+|lower|higher|down|up|worse|better|collapse\w*|plung\w+"
)
_SCHEMA: Final = (
    r"(?:what|which) (?:data|tables?|columns?|information|database)|data (?:do you|is there|have)|describe (?:the|your) "
    r"(?:data|database|schema|warehouse)|schema|tables|what (?:can|do) (?:you|i) (?:do|answer|ask|know)|help|"
    r"what (?:MEASURE )?questions|data dictionary|how (?:much|old) (?:is the )?data"
)
# The first pattern that is met decides, so what is more special stands first.
_JOBS: Final[tuple[tuple[str, Job], ...]] = (
    (r"forecast\w*|predict\w*|projection|project|outlook|AHEAD|will (?:we|be|it|our)|expect(?:ed)?", "forecast"),
    (
        r"why|reasons?|causes?|caused|explain\w*|what (?:happened|drove|drives|is behind|was behind|went wrong)|drivers?|"
        r"how come|root cause|due to what|what made",
        "why",
    ),
    (r"STOCK", "stock"),
    (
        r"(?:gain|gained|lost|lose|losing|new|churn\w*|won|win|winning|left|leave|retention|retained|inactive|acquired)"
        r"(?: \w+){0,4} (?:CUSTOMER|CUSTOMER_COUNT)|(?:CUSTOMER|CUSTOMER_COUNT)(?: \w+){0,4} (?:gain|gained|lost|lose|churn\w*|"
        r"won|win|left|leave|retention|inactive|acquired|stopped)|churn\w*",
        "customers",
    ),
    (r"reports?|overview|summary|summari[sz]e|dashboard|briefing|key figures|business review|kpis?", "report"),
    (r"how (?:are|did|do|is|was|were) (?:we|things|business|it|the business|our business)(?: doing| do| going)?", "report"),
    (r"compar\w+|versus|vs|RELATED|difference|against", "compare"),
    (
        r"top|best|bottom|worst|biggest|largest|smallest|highest|lowest|most|least|rank\w*|leading|strongest|weakest|"
        r"fastest|slowest|which (?:PRODUCT|CATEGORY|REGION|CUSTOMER|SALES_PERSON|SEGMENT)",
        "rank",
    ),
    (r"trends?|over time|develop\w*|(?:by|per|each|every) (?:month|quarter|year)|month by month|monthly|course|history|evolution", "trend"),
    (r"(?:by|per|for each|each|across|among|split by|breakdown) (?:PRODUCT|CATEGORY|REGION|CUSTOMER|SALES_PERSON|SEGMENT)|breakdown|split", "rank"),
    (r"performance|doing|perform\w*", "report"),
)  # fmt: skip
_COMPILED_JOBS: Final[tuple[tuple[re.Pattern[str], Job], ...]] = tuple(
    (re.compile(rf"(?<![\w-])(?:{p})(?![\w-])"), job) for p, job in _JOBS
)


def _job(read: _Read) -> Job:
    measures = _measures(read)
    if read.says(_SCHEMA) and not measures:
        return "schema"
    for pattern, job in _COMPILED_JOBS:
        if pattern.search(read.text):
            return job
    if len(read.dates.periods) == 2 or (measures and read.says(_CHANGED)):
        return "compare"
    if measures:
        return "figure"
    return "report" if read.filters and (read.dates.periods or read.says("how|show|tell")) else "unknown"


def _measures(read: _Read) -> tuple[str, ...]:
    """Those that are named, in the order of the question."""
    found = re.findall(r"(?<!\w)(?:" + "|".join(words.MEASURES) + r")(?!\w)", read.text)
    names = list(dict.fromkeys(words.MEASURES[word] for word in found))
    # In "sales report", "monthly sales and margin" the word is the field, in "sales orders" the kind of order.
    if re.search(r"REVENUE (ORDERS|UNITS|COST|PRODUCT)(?!\w)", read.text) and len(names) > 1:
        names.remove("revenue")
    return tuple(names)


def _dimension(read: _Read, job: Job) -> str | None:
    named = re.findall(r"(?<!\w)(?:" + "|".join(words.DIMENSIONS) + r")(?!\w)", read.text)
    asked = re.search(
        r"(?:by|per|each|across|top|bottom|best|worst|which|largest|biggest|smallest|lowest|highest)(?: \w+){0,3}? ("
        + "|".join(words.DIMENSIONS)
        + r")(?!\w)",
        read.text,
    )
    if asked:
        return words.DIMENSIONS[asked[1]]
    if named:
        return words.DIMENSIONS[named[0]]
    return "product" if job == "rank" else None


def _order(read: _Read) -> Order:
    low = read.says(r"bottom|worst|smallest|lowest|least|weakest|poorest|slowest")
    if read.says(r"fastest|growing|growth|grew|gain(?:ed|ing)?|improv\w+|rising|increas\w+"):
        return "decline" if low else "growth"
    if read.says(r"declin\w+|shrink\w*|falling|fell|dropp\w+|decreas\w+|losing"):
        return "decline"
    return "bottom" if low else "top"


def _count(read: _Read) -> int:
    found = re.search(r"(?:top|bottom|best|worst|first|largest|biggest|smallest|lowest|highest) (\d{1,3}|[a-z]+)(?!\w)", read.text)  # fmt: skip
    found = found or re.search(r"(?<!\w)(\d{1,2}|[a-z]+) (?:top|bottom|best|worst|largest|biggest|smallest|lowest|highest)", read.text)  # fmt: skip
    if found and (found[1].isdigit() or found[1] in dates.NUMBERS):
        return min(50, max(1, int(found[1]) if found[1].isdigit() else dates.NUMBERS[found[1]]))
    whole = read.says(r"by|per|for each|each|across|breakdown|split|all|every")
    ranked = read.says(r"top|best|bottom|worst|biggest|largest|smallest|highest|lowest|most|least|fastest|slowest")
    return 12 if whole and not ranked else 5


def _grain(read: _Read) -> Grain:
    if read.says(r"quarterly|by quarter|per quarter|each quarter|every quarter|quarters?"):
        return "quarter"
    if read.says(r"yearly|annual(?:ly)?|by year|per year|each year|every year|years?"):
        return "year"
    return "month"


# --- the names -------------------------------------------------------------------------------------------------------


def _members(text: str, facts: Facts) -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """The names that the text holds, whole or by a first word that belongs to one name only, and the text without."""
    found: dict[str, list[str]] = {}
    known = [
        (words.plain(name).strip(), name, dimension) for dimension, names in facts.members.items() for name in names
    ]
    for spelt, name, dimension in sorted(known, key=lambda one: -len(one[0])):
        pattern = rf"(?<![\w-]){re.escape(spelt)}(?:ern)?(?![\w-])" if dimension == "region" else rf"(?<![\w-]){re.escape(spelt)}(?![\w-])"  # fmt: skip
        if re.search(pattern, text):
            text = re.sub(pattern, "MEMBER", text)
            found.setdefault(dimension, []).append(name)
    for word in dict.fromkeys(re.findall(r"[a-z]{5,}", text)):
        meant = _named_by(word, known)
        if meant:
            text = re.sub(rf"(?<!\w){word}(?!\w)", "MEMBER", text)
            found.setdefault(meant[1], []).append(meant[0])
    return text, {dimension: tuple(names) for dimension, names in found.items()}


def _named_by(word: str, known: Sequence[tuple[str, str, str]]) -> tuple[str, str] | None:
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


# --- the time --------------------------------------------------------------------------------------------------------


def _default_period(job: Job, read: _Read, facts: Facts) -> Period:
    """What is meant where no period is named."""
    today = facts.last_day
    match job:
        case "report":
            return dates.last_whole(_grain(read), today)
        case "rank" | "customers" | "stock":
            return dates.last_whole("month", today, 12)
        case "trend" | "forecast" | "schema" | "unknown":
            return Period(facts.first_day, today)
        case _:
            return dates.last_whole("month", today)


def _timed(found: Understanding, read: _Read, facts: Facts) -> Understanding:
    """With the periods that the question names, and those to compare with, as far as the data goes."""
    period, against, notes = _two_periods(found, read)
    if read.dates.relative:
        notes = (*notes, f"The data ends on {_day(facts.last_day)}; relative dates count from there.")
    found = replace(found, period=period, against=against, assumptions=(*found.assumptions, *notes))
    return _covered(found, facts)


def _two_periods(found: Understanding, read: _Read) -> tuple[Period, Period | None, tuple[str, ...]]:
    named, relation = read.dates.periods, read.dates.relation
    is_change = found.job in ("why", "compare")
    if is_change and read.dates.ends and _alike(*read.dates.ends):
        then, now = read.dates.ends
        return now, then, ()
    if len(named) >= 2 and is_change:
        return _ordered(named[0], named[1], read)
    period = named[0] if named else found.period
    if relation == "year_before":
        return period, period.year_before(), ()
    if (
        found.job in ("why", "compare", "report", "figure", "customers")
        or relation
        or found.order in ("growth", "decline")
    ):
        return period, _before(period), ()
    return period, None, ()


def _ordered(first: Period, second: Period, read: _Read) -> tuple[Period, Period, tuple[str, ...]]:
    """The later of two is the current one. Against a whole year that holds it, a month means the same of that year."""
    now, then = (first, second) if first.start >= second.start else (second, first)
    if then.start.year < now.start.year and then.whole_months == 12 and 0 < now.whole_months < 12:
        return now, now.shifted(12 * (then.start.year - now.start.year)), ()
    if 0 < now.whole_months < then.whole_months and now.start == then.end + timedelta(1) and read.dates.relative:
        start = months_from(then.start, now.whole_months)
        note = f"Of the current period there is only {now.label}; it is compared with as much of the one before."
        return now, start, (note,)
    return now, then, ()


def _before(period: Period) -> Period:
    # A year to date is set against the same months: the twelve before would bring another season.
    return period.year_before() if 6 < period.whole_months <= 12 else period.before()


def _covered(found: Understanding, facts: Facts) -> Understanding:
    """Cut to what the data covers; a period to compare with that isn't wholly there is dropped, and that is said."""
    span = Period(facts.first_day, facts.last_day)
    covered = f"The data covers {span.label}"
    period, against, notes = found.period, found.against, list(found.assumptions)
    if period.end < span.start or period.start > span.end:
        notes.append(f"{covered}: there is nothing on {period.label}.")
        return replace(found, job="unknown", assumptions=tuple(notes), against=None)
    if period.start < span.start:
        period = Period(span.start, period.end)
        notes.append(f"{covered}, so the period begins with its first day.")
    if against and against.start < span.start:
        notes.append(f"{covered}: there is no {against.label} to compare with.")
        against = None
    return replace(found, period=period, against=against, assumptions=tuple(notes))


def _alike(first: Period, second: Period) -> bool:
    return first.whole_months == second.whole_months > 0 and first != second


def _day(day: date) -> str:
    return Period(day, day).label


# --- what is left open -----------------------------------------------------------------------------------------------


def _ambiguous(read: _Read, job: Job, measures: tuple[str, ...]) -> tuple[Ambiguity, ...]:
    """A report or a list has its defaults; where one figure is meant, not to say which, or when, leaves it open."""
    if job not in ("figure", "compare", "why", "report") or read.says(r"reports?|overview|summary|dashboard|kpis?"):
        return ()
    open_ones: list[Ambiguity] = []
    if not measures:
        open_ones.append("measure")
    if not read.dates.periods:
        open_ones.append("period")
    return tuple(open_ones)


def _with_ambiguity(found: Understanding, facts: Facts) -> Understanding:
    notes: list[str] = []
    if "measure" in found.ambiguous:
        labels = ", ".join(MEASURES[name].label.lower() for name in found.measures)
        notes.append(f"No measure was named: taken as {labels}.")
    if "period" in found.ambiguous:
        notes.append(f"No period was named: taken as {found.period.label}, the last whole month.")
    return replace(found, assumptions=(*found.assumptions, *notes))


# --- follow-up questions ---------------------------------------------------------------------------------------------


def _follows(read: _Read, job: Job) -> bool:
    """Whether the question leans on the one before: it begins so, or is too short to stand alone."""
    if re.match(r" (?:and|what about|how about|same|ok and|but|then|now|also|or|just|only)\b", read.text):
        return job not in ("schema", "forecast", "stock", "customers")
    return job == "unknown" and bool(read.dates.periods or read.filters or read.dates.relation)


def _continued(read: _Read, job: Job, earlier: Understanding, facts: Facts) -> Understanding:
    keeps_job = job in ("unknown", "figure", "report") or (job == "compare" and read.dates.relation is not None)
    dimension = _dimension(read, "unknown")
    base = replace(
        earlier,
        job=earlier.job if keeps_job and not (dimension and job == "rank") else job,
        measures=_measures(read) or earlier.measures,
        dimension=dimension or earlier.dimension,
        filters={**earlier.filters, **read.filters},
        assumptions=(),
        missing=(),
        ambiguous=(),
    )
    if read.dates.periods or not read.dates.relation:
        return _timed(base, replace(read, dates=_or_earlier(read.dates, earlier)), facts)
    # "And the quarter before?" moves the period itself.
    moved = earlier.period.year_before() if _says_year(read) else earlier.period.before()
    return _timed(base, replace(read, dates=replace(read.dates, periods=(moved,), relation=None)), facts)


def _or_earlier(found: Dates, earlier: Understanding) -> Dates:
    return found if found.periods else replace(found, periods=(earlier.period,))


def _says_year(read: _Read) -> bool:
    return read.dates.relation == "year_before"
