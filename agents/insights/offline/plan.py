"""The plan: one question, understood. The team's agents hand it on as JSON; `title` says it in words
that the grammar reads back as the same plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any, Final, Literal, cast, get_args

from askstream.agents.insights.measures import ALL_MEASURES, Filters
from askstream.agents.insights.offline.conversation import json_in, with_json
from askstream.agents.insights.offline.grammar import Limit, Order
from askstream.agents.insights.periods import Period

Job = Literal[
    "figure", "list", "share", "absent", "why", "report", "forecast", "stock", "stock_outs", "lost",
    "gained", "promotion", "price", "cost", "staff", "schema", "no", "foreign",
]  # fmt: skip
JOBS: Final = get_args(Job)
EVENTS: Final[Mapping[str, str]] = {
    "promotion": "Promotions", "price": "Price changes", "cost": "Cost changes",
    "staff": "Sales people who left", "stock_outs": "Stock-outs", "lost": "Customers lost",
    "gained": "Customers gained",
}  # fmt: skip
TOLD: Final[Mapping[str, str]] = {
    "figure": "a figure", "list": "a list", "share": "a share", "absent": "“not sold”",
    "why": "a cause", "report": "a report", "forecast": "a forecast", "stock": "the stock",
    "schema": "the description of the data", **{job: name.lower() for job, name in EVENTS.items()},
}  # fmt: skip
PLURALS: Final[Mapping[str, str]] = {
    "product": "products", "category": "categories", "region": "regions", "customer": "customers",
    "segment": "segments", "sales_person": "sales people", "weekday": "weekdays", "day": "days",
    "week": "weeks", "month": "months", "quarter": "quarters", "year": "years",
}  # fmt: skip
KEY: Final = ("revenue", "orders", "units", "margin")  # the figures of a report
_SIGNS: Final = {">": "above", ">=": "at least", "<": "below", "<=": "at most"}
_SPANS: Final = {1: "Monthly", 3: "Quarterly", 6: "Half-yearly", 12: "Yearly"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`only` and `without` are members by dimension; `lacking` those of which nothing was sold;
    `part` the dimension whose members are a share of the whole. `against`: the period of
    comparison. `notes` say what was assumed, `reasons` why there is no answer."""

    job: Job
    period: Period
    covers: Period  # the days of the data
    measures: tuple[str, ...] = ()
    against: Period | None = None
    only: Filters = field(default_factory=dict[str, Sequence[str]])
    without: Filters = field(default_factory=dict[str, Sequence[str]])
    lacking: Filters = field(default_factory=dict[str, Sequence[str]])
    days: str = ""
    by: str = ""
    order: Order | None = None
    count: int = 0  # 0: all
    limit: Limit | None = None
    part: str = ""
    per: str = ""
    ahead: int = 0
    chart: str = ""
    direction: str = ""  # "up" or "down", where the question says so
    advice: bool = False
    hidden: tuple[str, ...] = ()  # parts of the report that a remark takes away
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()  # questions that would get an answer
    changed: tuple[str, ...] = ()  # what became of a remark
    refused: tuple[str, ...] = ()

    @property
    def measure(self) -> str:
        return self.measures[0] if self.measures else "revenue"


class No(Exception):
    """The question gets no answer, for these reasons."""

    def __init__(self, *reasons: str) -> None:
        super().__init__(*reasons)
        self.reasons = reasons


def to_text(plan: Plan) -> str:
    """The planner's statement: the plan in words, then as JSON."""
    lines = [title(plan), *(f"- {note}." for note in plan.notes)]
    lines += [f"- {text}" for text in (*plan.reasons, *plan.changed, *plan.refused)]
    return with_json("**Plan**", "\n".join(lines), {"plan": plan})


def in_statements(texts: Sequence[str]) -> Plan | None:
    """The newest plan among the planner's statements."""
    for text in reversed(texts):
        found = json_in(text).get("plan")
        if isinstance(found, dict):
            return _plan(found)  # pyright: ignore[reportUnknownArgumentType] - our own JSON
    return None


def _plan(found: Mapping[str, Any]) -> Plan | None:
    try:
        values = {one.name: _value(one.name, found[one.name]) for one in fields(Plan)}
        return Plan(**values) if values["job"] in JOBS else None
    except (KeyError, TypeError, ValueError):
        return None


def _value(name: str, value: Any) -> Any:
    match value:
        case {"start": start, "end": end}:
            return Period(date.fromisoformat(start), date.fromisoformat(end))
        case dict():
            filters = cast("dict[str, list[str]]", value)
            return {key: tuple(members) for key, members in filters.items()}
        case list():
            return tuple(cast("list[Any]", value))
        case _:
            return value


# --- in words ------------------------------------------------------------------------------------


def title(plan: Plan) -> str:
    """What was understood: measure, period and filters. The grammar reads the same plan from it."""
    words = _words(plan)
    return words[:1].upper() + words[1:]


def _words(plan: Plan) -> str:
    when = f", {plan.period.label}"
    where = f"{_where(plan)}{when}{_against(plan)}"
    match plan.job:
        case "no" | "foreign" | "schema":
            return "What data there is" if plan.job == "schema" else "No answer"
        case "list":
            return f"{_listed(plan)}{where}"
        case "absent":
            return f"{PLURALS[plan.by]}{_bought(plan)} {_lacking(plan)}{_excluded(plan)}{when}"
        case "share":
            others = {name: members for name, members in plan.only.items() if name != plan.part}
            part = _together(plan.only[plan.part]) if plan.part else f"{plan.days.capitalize()}s"
            what = f"share of {measures_in_words(plan)}{_named(others)}"
            return f"{what} from {part}{_excluded(plan)}{when}"
        case "why":
            return f"Why {measures_in_words(plan)}{_where(plan)} changed{when}{_against(plan)}"
        case "report":
            kind = _SPANS.get(plan.period.whole_months, "Business")
            what = "sales report" if plan.measures == KEY else f"report on {measures_in_words(plan)}"
            return f"{kind} {what}{_where(plan)}{when}"
        case "forecast":
            unit = f"next {plan.ahead} months" if plan.ahead > 1 else "next month"
            return f"Forecast of {measures_in_words(plan)}{_where(plan)}, {unit}"
        case "figure":
            per = f"average {measures_in_words(plan)} per {plan.per}" if plan.per else measures_in_words(plan)
            return f"{per}{where}"
        case _:
            return f"{EVENTS.get(plan.job, 'Stock on hand')}{where}"


def measures_in_words(plan: Plan) -> str:
    return " and ".join(label(name) for name in plan.measures or ("revenue",))


def label(measure: str) -> str:
    return ALL_MEASURES[measure].label.lower()


def _listed(plan: Plan) -> str:
    count = f"{plan.count} " if plan.count else ""
    first = {"top": f"top {count}", "bottom": f"bottom {count}"}.get(plan.order or "", "")
    growth = {"growth": " with the fastest growth", "decline": " that declined the most"}
    limit = ""
    if plan.limit:
        sign, size = plan.limit
        unit = f" {ALL_MEASURES[plan.measure].unit}"
        limit = f" {_SIGNS[sign]} {size:.12g}{unit}"
    what = f"{first}{PLURALS[plan.by]} by {measures_in_words(plan)}{limit}"
    return f"{what}{growth.get(plan.order or '', '')}"


def _where(plan: Plan) -> str:
    return f"{_named(plan.only)}{_excluded(plan)}{_days(plan)}"


def _named(only: Filters) -> str:
    return "".join(
        f" {'in the' if dimension == 'region' else 'of'} {_together(members)}" for dimension, members in only.items()
    )


def _together(members: Sequence[str]) -> str:
    return " and ".join(members)


def _excluded(plan: Plan) -> str:
    left_out = [name for members in plan.without.values() for name in members]
    return f" excluding {_together(left_out)}" if left_out else ""


def _days(plan: Plan) -> str:
    if not plan.days:
        return ""
    return f" on {plan.days.capitalize()}s"


def _bought(plan: Plan) -> str:
    sold = {name: members for name, members in plan.only.items() if not is_attribute(plan.by, name)}
    kept = {name: members for name, members in plan.only.items() if name not in sold}
    bought = " that bought " + " and ".join(name for m in sold.values() for name in m) + " but" if sold else ""
    return f"{_named(kept)}{bought}"


def _lacking(plan: Plan) -> str:
    what = " and ".join(name for members in plan.lacking.values() for name in members)
    bought = any(not is_attribute(plan.by, name) for name in plan.only)
    return f"not {what}" if what and bought else f"without orders{_named(plan.lacking)}"


def is_attribute(by: str, dimension: str) -> bool:
    """Whether the dimension says what kind of member it is, whatever was sold."""
    return dimension in {"customer": ("region", "segment"), "product": ("category",)}.get(by, ())


def _against(plan: Plan) -> str:
    return f" compared with {plan.against.label}" if plan.against else ""
