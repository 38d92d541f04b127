"""What a question says, slot by slot. Each pattern takes its words; what is left is named. Pure."""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from askstream.agents.insights.offline import dates, lexicon, names
from askstream.agents.insights.offline.dates import Dates
from askstream.agents.insights.offline.names import Facts, Named
from askstream.agents.insights.offline.words import Text, corrected, plain, vocabulary

Order = Literal["top", "bottom", "growth", "decline"]
Limit = tuple[str, float]  # a sign: > >= < <=
_AMOUNT: Final = (
    r"(?:€ |eur )?(?P<n>\d[\d.,]*)(?P<k> ?k| thousand| million| mio| m)?(?P<u> %| percent| €| eur| euros?)?"
)
_SCALES: Final = {"k": 1e3, "thousand": 1e3, "million": 1e6, "mio": 1e6, "m": 1e6}
TIMES: Final = ("day", "weekday", "week", "month", "quarter", "year")
_ASKS_LIST: Final = r"\b(?:which|what|list|all|by|per|each|compare)\b"
_BY_WEEKDAY: Final = r"\bby weekdays?\b|\bweekdays? by\b|\b(?:which|best|worst|top|bottom)(?: \d+)? weekdays?\b"
_TABLES: Final = (
    lexicon.MEASURES, lexicon.DIMENSIONS, lexicon.GRAINS, lexicon.EVENTS, lexicon.LIMITS, lexicon.DAYS,
    lexicon.CHARTS, lexicon.REFUSED,
)  # fmt: skip
_PATTERNS: Final = [
    *(value for value in vars(lexicon).values() if isinstance(value, str)),
    *(pattern for table in _TABLES for pattern in table.values()),
]
_KNOWN: Final = vocabulary((*_PATTERNS, *dates.WORDS, " ".join(lexicon.FILLERS))) | lexicon.FILLERS


@dataclass(slots=True)
class Slots:
    """All that a question says. `left`: words that nothing understood."""

    text: str
    measures: list[str] = field(default_factory=list[str])
    by: list[str] = field(default_factory=list[str])  # "by region"
    nouns: list[str] = field(default_factory=list[str])  # "products", "which customers"
    named: list[Named] = field(default_factory=list[Named])
    dates: Dates = field(default_factory=Dates)
    jobs: list[str] = field(default_factory=list[str])
    order: Order | None = None
    count: int | None = None
    limit: Limit | None = None
    share: bool = False
    compared: bool = False
    direction: Literal["up", "down"] | None = None
    days: str = ""
    nothing: int | None = None  # where "did not sell" stands
    bought: bool = False
    sold: bool = False
    per: str = ""  # "per day", of an average
    chart: str = ""
    position: int | None = None  # "the first one"
    advice: bool = False
    grain: str = ""  # "monthly"
    refused: list[str] = field(default_factory=list[str])
    unclear: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    respelt: dict[str, str] = field(default_factory=dict[str, str])


def read(question: str, facts: Facts) -> Slots:
    """Read a question over data with these names. Never raises."""
    spoken = {
        form
        for members in facts.members.values()
        for name in members
        for word in plain(name).split()
        for form in (word, f"{word}s")
    }
    text, respelt = corrected(plain(question), _KNOWN | frozenset(spoken))
    found, rest = Slots(text=question), Text(text)
    found.respelt = respelt
    for pattern, reason in lexicon.REFUSED.items():
        if rest.take(pattern):
            found.refused.append(reason)
    named = names.full(rest, facts)
    found.dates = dates.find(rest, facts.last_day, facts.first_day)
    _read_days(rest, found)
    _read_jobs(rest, found)
    if rest.has("(?:our |the )?best ?sellers?|best selling products?"):
        found.nouns, found.order = ["product"], "top"
    _read_dimension(rest, found, "sales_person")  # before "sales" is taken as a measure
    _read_measures(rest, found)
    _read_shape(rest, found)
    more, unclear = names.partial(rest, facts, _KNOWN - frozenset(spoken - lexicon.FILLERS))
    found.unclear += unclear
    found.named = names.with_exclusions(rest, [*named, *more])
    _read_dimensions(rest, found)
    found.left = rest.left(lexicon.FILLERS)
    return found


def _read_days(text: Text, found: Slots) -> None:
    for days, pattern in lexicon.DAYS.items():
        if days == "weekday" and re.search(_BY_WEEKDAY, text.rest):
            continue
        if text.has(f"(?:on |from |at )?(?:the )?(?:{pattern})"):
            found.days = found.days or days


def _read_jobs(text: Text, found: Slots) -> None:
    """What settles the kind of answer by itself."""
    if match := text.take(lexicon.NOTHING):
        found.nothing = match[0].start()
        found.bought = re.search("buy|bought|order|purchase", match[0][0]) is not None
    found.advice = text.has(lexicon.ADVICE)
    if text.has(lexicon.STAFF):
        found.jobs.append("staff")
    for kind, pattern in lexicon.EVENTS.items():
        if text.has(pattern):
            found.jobs.append(kind)
    if any(kind in found.jobs for kind in lexicon.EVENTS):
        text.take(lexicon.EFFECT)
    jobs = {
        "schema": lexicon.SCHEMA, "report": lexicon.REPORT, "forecast": lexicon.FORECAST,
        "stock_outs": lexicon.STOCK_OUT, "stock": lexicon.STOCK, "why": lexicon.WHY,
    }  # fmt: skip
    found.jobs += [job for job, pattern in jobs.items() if text.has(pattern)]
    if "stock" in found.jobs:
        text.take("now|current|currently|today|left|at present")
    if re.search(lexicon.DIMENSIONS["customer"], text.rest) or "who" in text.rest.split():
        found.jobs += [job for job, p in (("lost", lexicon.LOST), ("gained", lexicon.GAINED)) if text.has(p)]
    if re.search(r"\bchurn", text.rest) and text.has("churn(?:ed)?"):
        found.jobs.append("lost")


def _read_measures(text: Text, found: Slots) -> None:
    per = "|".join(("day", "week", "month"))
    everyday = {"daily": "day", "weekly": "week", "monthly": "month"}
    for match in text.take(rf"(?:average|mean)(?= (?:{'|'.join(everyday)}))"):
        word = text.take("|".join(everyday))
        found.per = everyday[word[0][0]] if match and word else ""
    averaged = re.search(r"\b(?:average|mean) [a-z ]+ per (?:day|week|month)\b", text.rest)
    if averaged and (match := text.take(rf"(?:per|a) (?P<per>{per})")):
        found.per = match[0]["per"]
        text.take("average|mean")
    found.share = text.has(lexicon.SHARE)
    many = text.has(r"how many(?= (?:customers|clients|buyers))")
    placed: list[tuple[int, str, str]] = []
    for measure, pattern in lexicon.MEASURES.items():
        ranked = rf"{lexicon.RANKED_BY}(?:the |our )?(?:total )?(?:{pattern})"
        placed += [(match.start(), measure, match[0]) for match in text.take(ranked)]
    placed.sort()
    found.measures = list(dict.fromkeys(measure for _, measure, _ in placed))
    if len(found.measures) > 1 and any(re.match("with|of|by|in terms|according", said) for _, _, said in placed[1:]):
        quoted = " and ".join(f"“{said}”" for _, _, said in placed)
        found.unclear.append(f"I don't see how {quoted} belong together")
    if many and found.nothing is None:
        found.nouns.append("how many")
    found.sold = text.has(lexicon.SOLD)
    found.bought = text.has(lexicon.BOUGHT) or found.bought


def _read_shape(text: Text, found: Slots) -> None:
    """Order, count, limits, comparison, direction, chart, and the grain of time."""
    _read_limits(text, found)
    _read_chart(text, found)
    _read_order(text, found)
    found.compared = text.has(lexicon.COMPARE)
    down, up = text.has(lexicon.DOWN), text.has(lexicon.UP)
    found.direction = "up" if up else "down" if down else None
    found.compared = text.has(lexicon.GROWTH) or found.compared
    for grain, pattern in lexicon.GRAINS.items():
        if text.has(pattern):
            found.grain = grain
    if text.has(lexicon.TREND):
        found.grain = found.grain or "month"


def _read_limits(text: Text, found: Slots) -> None:
    for sign, pattern in lexicon.LIMITS.items():
        for match in text.take(rf"(?:is |was |of )?(?:{pattern}) {_AMOUNT}"):
            found.limit = (sign, _amount(match))
            if "%" in (match["u"] or "") or "percent" in (match["u"] or ""):
                found.measures = ["margin_rate" if m == "margin" else m for m in found.measures]


def _read_chart(text: Text, found: Slots) -> None:
    for chart, pattern in lexicon.CHARTS.items():
        if text.has(pattern):
            found.chart = chart
    text.take("(?:as |in |on )?(?:an? )?charts?(?: of)?")
    if match := text.take(lexicon.POSITIONS):
        found.position = 0 if match[0]["m"] else dates.place(match[0]["n"])


def _read_order(text: Text, found: Slots) -> None:
    orders: tuple[tuple[Order, str], ...] = (
        ("growth", lexicon.FASTEST), ("decline", lexicon.STEEPEST),
        ("top", lexicon.TOP), ("bottom", lexicon.BOTTOM),
    )  # fmt: skip
    for order, pattern in orders:
        ranked = rf"(?:the )?(?:(?P<a>{dates.COUNT}) )?(?:{pattern})(?: (?P<b>{dates.COUNT}))?"
        for match in text.take(ranked):
            found.order = found.order or order
            count = match["a"] or match["b"]
            found.count = dates.number(count) if count else found.count


def _read_dimensions(text: Text, found: Slots) -> None:
    for dimension in lexicon.DIMENSIONS:
        _read_dimension(text, found, dimension)
    words = text.whole.split()
    if "who" in words and not found.nouns and not found.jobs:
        found.nouns.append("customer" if found.bought else "sales_person")
    if "what" in words and found.order and found.sold and not (found.nouns or found.by):
        found.nouns.append("product")
    if "how many" in found.nouns:
        _count_customers(found)


def _read_dimension(text: Text, found: Slots, dimension: str) -> None:
    pattern = lexicon.DIMENSIONS[dimension]
    for match in list(re.finditer(rf"(?<![\w·])(?:{pattern})(?![\w·])", text.rest)):
        if _stands_beside(match, found, dimension, text):
            text.blank(*match.span())
    if text.take(rf"(?:{lexicon.BY}) (?:{pattern})"):
        found.by.append(dimension)
    listed = found.order or found.limit or _asks_which(pattern, text.whole)
    if (dimension not in TIMES or listed) and text.take(rf"(?:which |what |who |all |the |our )*(?:{pattern})"):
        found.nouns.append(dimension)


def _count_customers(found: Slots) -> None:
    """ "How many customers" is a count, unless it asks for those with a property."""
    found.nouns.remove("how many")
    listed = found.limit or found.nothing is not None or found.jobs or any(n.left_out for n in found.named)
    if not listed and "customer" in found.nouns:
        found.nouns.remove("customer")
        found.measures = found.measures or ["customers"]


def _stands_beside(match: re.Match[str], found: Slots, dimension: str, text: Text) -> bool:
    """Whether it only says what kind of thing a name is: "the region North", "Audio products"."""
    free = not (found.order or found.limit or found.nothing is not None or re.search(_ASKS_LIST, text.whole))
    kinds = {"product": ("category",), "customer": ("segment", "region")}.get(dimension, ()) if free else ()
    for one in found.named:
        before = text.whole[match.end() : one.start].strip() in ("", "the", "of") and match.end() <= one.start
        behind = text.whole[one.end : match.start()].strip() == "" and one.end <= match.start()
        if (one.dimension == dimension and (before or behind)) or (one.dimension in kinds and behind):
            return True
    return False


def _asks_which(pattern: str, whole: str) -> bool:
    return re.search(rf"\b(?:which|what) (?:{pattern})(?![\w·])|\b(?:{pattern}) by ", whole) is not None


def _amount(match: re.Match[str]) -> float:
    number = match["n"].rstrip(".,")
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+", number):
        number = re.sub("[.,]", "", number)
    scale = _SCALES.get((match["k"] or "").strip(), 1.0)
    return float(number.replace(",", ".")) * scale
