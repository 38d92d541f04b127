"""The plan as the team hears it: plain words in a list, from which each agent takes its part again."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from askstream.agents.insights import periods
from askstream.agents.insights.measures import DIMENSIONS, MEASURES
from askstream.agents.insights.offline.intent import Grain, Job, Order
from askstream.agents.insights.offline.understanding import FORECAST, PARTS, Understanding
from askstream.agents.insights.periods import Period

K = TypeVar("K", bound=str)

TITLE: Final = "**Plan**"
CONTINUED: Final = "**Plan, continued**"
FOREIGN: Final = "**Plan for a database of its own**"
MORE: Final = "MORE DATA:"
UNDERSTOOD: Final = "**Understood as.** "
_BETWEEN: Final = " · "

TASKS: Final[Mapping[Job, str]] = {
    "report": "write a sales report",
    "figure": "give figures",
    "compare": "compare two periods",
    "rank": "put in order",
    "trend": "show the course over time",
    "why": "find out why it changed",
    "customers": "find customers gained and lost",
    "stock": "find stock-outs",
    "forecast": "forecast",
    "schema": "tell what data there is",
    "unknown": "say what can't be answered, and what can",
}
_ORDERS: Final[Mapping[Order, str]] = {
    "top": "highest first",
    "bottom": "lowest first",
    "growth": "strongest growth first",
    "decline": "strongest decline first",
}
_ITEM: Final = re.compile(r"^- ([A-Z][a-z ]+): (.+)$", re.MULTILINE)
_FILTER: Final = re.compile(r"(\w+) = ([^;]+)")


@dataclass(frozen=True, slots=True)
class Request:
    """A fact that a cause was found to depend on, and that the figures so far don't hold."""

    kind: str  # "stock" of a product, or "people" of a region
    name: str
    period: Period


def to_text(plan: Understanding) -> str:
    """The plan for the team. `from_text` gives an equal one back."""
    shown = [f"- {name}: {text}" for name, text in items(plan).items()]
    lines = {
        "Cannot be done": plan.cannot,
        "Assumed": plan.assumptions,
        "Changed": plan.changed,
        "Not followed": plan.refused,
    }
    told = [f"- {name}: {text}" for name, texts in lines.items() for text in texts]
    return "\n".join([TITLE, "", *shown, *told, "", _ways(plan)])


def items(plan: Understanding) -> dict[str, str]:
    """What is to be done, by name, as far as it matters for the job."""
    found = {
        "Task": TASKS[plan.job],
        "Measures": ", ".join(MEASURES[name].label for name in plan.measures),
        "Period": _period(plan.period),
        "Compared with": _period(plan.against) if plan.against else "",
        "By": plan.dimension or "",
        "Only": "; ".join(f"{name} = {' or '.join(members)}" for name, members in plan.filters.items()),
        "Order": f"{_ORDERS[plan.order]}, {plan.count} at most",
        "Grain": plan.grain,
        "Months ahead": str(plan.ahead),
        "In addition": ", ".join(plan.also),
        "Shown without": ", ".join(plan.without),
        "Data covers": _period(plan.covers),
        "Left open": ", ".join(plan.ambiguous),
        "No data on": ", ".join(plan.missing),
        "From the question before": ", ".join(plan.carried),
    }
    return {name: text for name, text in found.items() if text and name in _shown(plan)}


def in_a_line(plan: Understanding) -> str:
    """How the question was understood, for the end of a report; `from_report` reads it."""
    return UNDERSTOOD + _BETWEEN.join(f"{name}: {text}" for name, text in items(plan).items())


def from_report(report: str) -> Understanding | None:
    """How the question of a report was understood, its assumptions left out; None where the report doesn't say."""
    line = next((line for line in reversed(report.split("\n")) if line.startswith(UNDERSTOOD)), "")
    parts = line.removeprefix(UNDERSTOOD).split(_BETWEEN)
    return from_text("\n".join(f"- {part}" for part in parts))


def from_text(text: str) -> Understanding | None:
    """None where the text is no plan, or not one of ours."""
    found = [(name, value.strip()) for name, value in _ITEM.findall(text)]
    given = dict(found)

    def lines(name: str) -> tuple[str, ...]:
        return tuple(value for one, value in found if one == name)

    def listed(name: str) -> tuple[str, ...]:
        return tuple(given[name].split(", ")) if name in given else ()

    try:
        return Understanding(
            job=_key(TASKS, given["Task"]),
            measures=tuple(_measure(label) for label in given["Measures"].split(", ")),
            period=_parse_period(given["Period"]),
            covers=_parse_period(given["Data covers"]),
            against=_parse_period(given["Compared with"]) if "Compared with" in given else None,
            dimension=given["By"] if given.get("By") in DIMENSIONS else None,
            filters={m[1]: tuple(m[2].strip().split(" or ")) for m in _FILTER.finditer(given.get("Only", ""))},
            order=_key(_ORDERS, given["Order"].rpartition(", ")[0]) if "Order" in given else "top",
            count=int(given["Order"].rpartition(", ")[2].split()[0]) if "Order" in given else 5,
            grain=_grain(given.get("Grain", "month")),
            ahead=int(given.get("Months ahead", "3")),
            assumptions=lines("Assumed"),
            cannot=lines("Cannot be done"),
            missing=listed("No data on"),
            ambiguous=tuple(a for a in ("measure", "period") if a in given.get("Left open", "")),
            carried=listed("From the question before"),
            also=listed("In addition"),
            without=tuple(part for part in PARTS if part in listed("Shown without")),
            changed=lines("Changed"),
            refused=lines("Not followed"),
        )
    except (KeyError, ValueError):
        return None


def stated(texts: Sequence[str]) -> Understanding | None:
    """The plan among what the planner said."""
    return next((plan for plan in map(from_text, texts) if plan), None)


def request_line(request: Request) -> str:
    return f"- {request.kind} of {request.name}: {_period(request.period)}"


def requests_in(texts: Sequence[str]) -> list[Request]:
    """All further facts that are asked for in the texts, each once."""
    found = re.findall(r"^- (stock|people) of (.+): ([^:\n]+)$", "\n".join(texts), re.MULTILINE)
    made = [Request(kind, name, _parse_period(period)) for kind, name, period in found if "(" in period]
    return list(dict.fromkeys(made))


def continued(requests: Sequence[Request]) -> str:
    """What the planner says when the analysis sends it back for more."""
    lines = "\n".join(map(request_line, requests))
    return (
        f"{CONTINUED}\n\nThe cause isn't proved yet. DataAgent fetches what is missing, then AnalysisAgent concludes:"
        f"\n\n{lines}"
    )


def _shown(plan: Understanding) -> frozenset[str]:
    """What matters for the job; the rest has its default, and would only confuse."""
    shown = {"Task", "Measures", "Period", "Compared with", "Only", "Data covers", "Left open", "No data on"}
    shown |= {"In addition", "Shown without", "From the question before"}
    if FORECAST in plan.also:
        shown |= {"Months ahead"}
    match plan.job:
        case "rank":
            shown |= {"By", "Order"}
        case "report" | "trend":
            shown |= {"Grain"}
        case "forecast":
            shown |= {"Months ahead"}
        case _:
            pass
    return frozenset(shown)


def _ways(plan: Understanding) -> str:
    """Who does what."""
    data = {
        "report": "the key figures, their course, and the leading products, customers, categories and regions",
        "figure": "the figures asked for, and their course",
        "compare": "the figures of both periods",
        "rank": "the list",
        "trend": "the figures by period",
        "why": "the size of the change, its course, and the figures beside it",
        "customers": "who came, who stayed away, and what they were worth",
        "stock": "the days without stock",
        "forecast": "the course by month",
        "schema": "what the database holds",
        "unknown": "nothing",
    }[plan.job]
    analysis = {
        "report": "breaks the changes down until their causes are found",
        "why": "breaks the change down, by product, region, customer and driver, until the cause is found",
        "compare": "finds what made the difference",
        "forecast": "chooses the method by testing it on the past",
        "stock": "estimates the sales that were missed",
    }.get(plan.job, "says what stands out")
    if plan.job == "unknown":
        return "DataAgent fetches nothing; ReportAgent says what can be answered."
    return f"DataAgent fetches {data}; AnalysisAgent {analysis}; ReportAgent draws and writes."


def _period(period: Period) -> str:
    return f"{period.label} ({period.notation})"


def _parse_period(text: str) -> Period:
    return periods.parse(text.rpartition("(")[2].rstrip(") "))


def _measure(label: str) -> str:
    return {measure.label: name for name, measure in MEASURES.items()}[label]


def _key(table: Mapping[K, str], text: str) -> K:
    return {value: key for key, value in table.items()}[text]


def _grain(text: str) -> Grain:
    match text:
        case "quarter" | "year":
            return text
        case _:
            return "month"
