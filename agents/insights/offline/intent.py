"""What a question wants done, and how: read from its concepts by patterns. Pure, and never raises."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from askstream.agents.insights.offline import dates, mentions, words
from askstream.agents.insights.offline.dates import Dates
from askstream.agents.insights.offline.names import Facts, named

Job = Literal[
    "report", "figure", "compare", "rank", "trend", "why", "customers", "stock", "forecast", "schema", "unknown"
]
Order = Literal["top", "bottom", "growth", "decline"]
Grain = Literal["month", "quarter", "year"]

_LONGEST: Final = 4000  # characters that are read: the limit of a question


@dataclass(frozen=True, slots=True)
class Reading:
    """A question, read in layers: who is named in it, then when, then what remains as concepts."""

    filters: Mapping[str, tuple[str, ...]]
    dates: Dates
    text: str  # concepts, DATE for periods, MEMBER for names

    def says(self, pattern: str) -> bool:
        return re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", self.text) is not None

    def follow(self, pattern: str) -> str | None:
        """The first group of the pattern, where it is met."""
        found = re.search(rf"(?<![\w-]){pattern}(?![\w-])", self.text)
        return found[1] if found else None


def read(question: str, facts: Facts) -> Reading:
    text, filters = named(words.plain(question[:_LONGEST]), facts)
    when = dates.find(words.corrected(text), facts.last_day, facts.first_day)
    return Reading(filters, when, words.concepts(when.rest))


_THING: Final = "|".join(words.DIMENSIONS)
_MEASURED: Final = "|".join(words.MEASURES)
_LOW: Final = "bottom|worst|smallest|lowest|least|weakest|poorest|slowest"
_HIGH: Final = "top|best|biggest|largest|highest|most|leading|strongest"
_CHANGED: Final = (
    r"fall|fell|fallen|falls|drop(?:ped|s|ping)?|declin\w+|decreas\w+|sank|sink|shrank|shrunk|rise|rose|risen|rising|"
    r"grow|grew|grown|increas\w+|jump(?:ed)?|spik\w+|chang\w+|lower|higher|down|up|worse|better|collapse\w*|plung\w+"
)
_SCHEMA: Final = (
    r"(?:what|which) (?:data|tables?|columns?|information|database)|data (?:do you|is there|have)|"
    r"describe (?:the|your) (?:data|database|schema|warehouse)|schema|tables|help|what questions|data dictionary|"
    r"what (?:can|do) (?:you|i) (?:do|answer|ask|know)|how (?:much|old) (?:is the )?data"
)
_LOST_OR_WON: Final = r"gain(?:ed)?|lost|lose|losing|churn\w*|won|win|left|leave|retention|inactive|stopped|acquired"

# The first pattern that is met decides, so what is more special stands first.
_JOBS: Final[tuple[tuple[str, Job], ...]] = (
    (r"forecast\w*|predict\w*|projection|project|outlook|AHEAD|will (?:we|be|it|our)|expect(?:ed)?", "forecast"),
    (
        r"why|reasons?|causes?|caused|explain\w*|drivers?|how come|root cause|due to what|what made|"
        r"what (?:happened|drove|drives|is behind|was behind|went wrong)",
        "why",
    ),
    (r"STOCK", "stock"),
    (
        rf"(?:{_LOST_OR_WON}|new)(?: \w+){{0,4}} (?:CUSTOMER|CUSTOMER_COUNT)|"
        rf"(?:CUSTOMER|CUSTOMER_COUNT)(?: \w+){{0,4}} (?:{_LOST_OR_WON})|churn\w*",
        "customers",
    ),
    (r"reports?|overview|summary|summari[sz]e|dashboard|briefing|key figures|business review|kpis?", "report"),
    (r"how (?:are|did|do|is|was|were) (?:we|things|business|it|the business|our business)", "report"),
    (r"compar\w+|versus|vs|RELATED|difference|against", "compare"),
    (rf"{_HIGH}|{_LOW}|rank\w*|fastest|which (?:{_THING})", "rank"),
    (
        r"trends?|over time|develop\w*|(?:by|per|each|every) (?:month|quarter|year)|month by month|monthly|course|"
        r"history|evolution",
        "trend",
    ),
    (rf"(?:by|per|for each|each|across|among) (?:{_THING})|breakdown|split", "rank"),
    (r"performance|doing|perform\w*", "report"),
)
_COMPILED: Final[tuple[tuple[re.Pattern[str], Job], ...]] = tuple(
    (re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-])"), job) for pattern, job in _JOBS
)


def job_of(reading: Reading) -> Job:
    measures = measures_of(reading)
    if reading.says(_SCHEMA) and not measures:
        return "schema"
    for pattern, job in _COMPILED:
        if pattern.search(reading.text):
            return job
    if len(reading.dates.periods) == 2 or (measures and reading.says(_CHANGED)):
        return "compare"
    if measures:
        return "figure"
    is_about_a_part = reading.filters and (reading.dates.periods or reading.says("how|show|tell"))
    return "report" if is_about_a_part else "unknown"


def measures_of(reading: Reading) -> tuple[str, ...]:
    """Those that are named, in the order of the question."""
    found = re.findall(rf"(?<!\w)(?:{_MEASURED})(?!\w)", reading.text)
    names = list(dict.fromkeys(words.MEASURES[word] for word in found))
    # "Sales orders" are orders: there the word says of what kind they are.
    if len(names) > 1 and reading.says("REVENUE (?:ORDERS|UNITS|COST|PRODUCT)"):
        names.remove("revenue")
    return tuple(names)


def dimension_of(reading: Reading, job: Job) -> str | None:
    asked = reading.follow(rf"(?:by|per|each|across|which|{_HIGH}|{_LOW})(?: \w+){{0,3}}? ({_THING})")
    found = asked or reading.follow(f"({_THING})")
    if found:
        return words.DIMENSIONS[found]
    return "product" if job == "rank" else None


def order_of(reading: Reading) -> Order:
    low = reading.says(_LOW)
    if reading.says(r"fastest|growing|growth|grew|gain(?:ed|ing)?|improv\w+|rising|increas\w+"):
        return "decline" if low else "growth"
    if reading.says(r"declin\w+|shrink\w*|falling|fell|dropp\w+|decreas\w+|losing"):
        return "decline"
    return "bottom" if low else "top"


def count_of(reading: Reading) -> int:
    found = reading.follow(rf"(?:first|{_HIGH}|{_LOW}) (\d{{1,3}}|[a-z]+)")
    if not _is_number(found):
        found = reading.follow(rf"(\d{{1,3}}|[a-z]+) (?:{_HIGH}|{_LOW})")
    if found and _is_number(found):
        return min(50, max(1, int(found) if found.isdigit() else mentions.NUMBERS[found]))
    lists_all = reading.says("by|per|for each|each|across|breakdown|split|all|every")
    return 5 if not lists_all or reading.says(f"{_HIGH}|{_LOW}|fastest") else 12


def grain_of(reading: Reading) -> Grain:
    if reading.says("quarterly|(?:by|per|each|every) quarter|quarters?"):
        return "quarter"
    if reading.says("yearly|annual(?:ly)?|(?:by|per|each|every) year|years?"):
        return "year"
    return "month"


def _is_number(text: str | None) -> bool:
    return text is not None and (text.isdigit() or text in mentions.NUMBERS)
