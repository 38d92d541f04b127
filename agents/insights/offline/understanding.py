"""From what a question says to one plan, or to a plan that says why there is no answer. A slot that
the job doesn't use is a reason too: no other question is ever answered. Pure."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from askstream.agents.insights.measures import ALL_MEASURES, MEASURES, MEDIAN, Filters
from askstream.agents.insights.offline import lexicon
from askstream.agents.insights.offline.grammar import TIMES, Order, Slots
from askstream.agents.insights.offline.names import Facts
from askstream.agents.insights.offline.plan import EVENTS, KEY, PLURALS, TOLD, Job, No, Plan, is_attribute, label
from askstream.agents.insights.offline.timing import timed
from askstream.agents.insights.periods import Period

_LISTED: Final = 10  # members of a long list that are shown
_LONG: Final = ("product", "customer")
_MOST_AHEAD: Final = 12
# The slots that each job uses, beside the period and what is filtered.
_USES: Final[Mapping[Job, str]] = {
    "figure": "measure days compared direction per sold bought chart",
    "list": "measure days by order count limit compared direction sold bought chart share per",
    "share": "measure days share sold bought",
    "absent": "by nothing bought sold measure",
    "why": "measure days compared direction advice",
    "report": "measure compared grain",
    "forecast": "measure ahead sold",
    "stock": "by",
    "stock_outs": "by",
    "lost": "by",
    "gained": "by",
    "promotion": "by",
    "price": "by direction compared",
    "cost": "by direction compared measure",
    "staff": "by",
    "schema": "measure by",
}
# Where an answer can't be filtered by every dimension: those that it can.
_GOODS, _PLACES = ("product", "category"), ("region", "segment", "customer")
_FILTERED: Final[Mapping[Job, tuple[str, ...]]] = {
    "stock": _GOODS, "stock_outs": _GOODS, "promotion": _GOODS, "price": _GOODS, "cost": _GOODS,
    "lost": _PLACES, "gained": _PLACES, "staff": ("region",), "schema": (),
}  # fmt: skip
_NAMES: Final[Mapping[str, str]] = {
    "measure": "a measure", "days": "days of the week", "by": "a breakdown", "order": "a ranking",
    "limit": "a threshold", "nothing": "“not sold”", "share": "a share", "compared": "a comparison",
    "direction": "a rise or fall", "per": "an average per day", "chart": "a kind of chart",
    "ahead": "a forecast", "grain": "a grain of time", "count": "a count", "advice": "advice",
    "sold": "a sale", "bought": "a purchase", "position": "“the first one”",
}  # fmt: skip


def understood(slots: Slots, facts: Facts) -> Plan:
    """The plan of a question that stands alone. Raises No."""
    check_words(slots, facts)
    job = job_of(slots)
    if job is None:
        raise No(_nothing_asked(slots))
    _check_slots(slots, job)
    return timed(_shaped(slots, job, Period(facts.first_day, facts.last_day)), slots, facts)


def refusal(no: No, slots: Slots, facts: Facts) -> Plan:
    """With three questions that fit what was understood."""
    covers = Period(facts.first_day, facts.last_day)
    known = slots.measures or slots.named or slots.dates.periods or slots.by or slots.nouns
    return Plan(
        job="no", period=covers, covers=covers, reasons=no.reasons, examples=_examples(slots, covers) if known else ()
    )


def _examples(slots: Slots, covers: Period) -> tuple[str, ...]:
    measure = next((name for name in slots.measures if name in MEASURES), "revenue")
    what = label(measure)
    places = [one.name for one in slots.named if one.dimension == "region" and not one.left_out][:1]
    where = f" in the {places[0]}" if places else ""
    month = Period(covers.end.replace(day=1), covers.end).label
    return (
        f"{what[:1].upper()}{what[1:]}{where} in {month}",
        f"{what[:1].upper()}{what[1:]}{where} by month in {covers.end.year}",
        f"Why did {what}{where} change in {month}?",
    )


# --- words and slots -----------------------------------------------------------------------------


def check_words(slots: Slots, facts: Facts) -> None:
    """Raise No for words that nobody understood, and for what the data can't tell."""
    reasons = [f"{reason[:1].upper()}{reason[1:]}." for reason in slots.refused]
    if slots.dates.wrong:
        reasons.append(f"There is no “{slots.dates.wrong}” in the calendar.")
    if slots.left and not slots.refused:
        reasons.append(_unknown(slots, facts))
    reasons += [f"{text}." for text in slots.unclear]
    if reasons:
        raise No(*dict.fromkeys(reasons))


def _unknown(slots: Slots, facts: Facts) -> str:
    if _is_foreign(slots):
        return "I read English only."
    if not (slots.measures or slots.named or slots.dates.periods or slots.jobs or slots.nouns):
        return "I'm sorry, I find no question about the sales data in that."
    quoted = " and ".join(f"“{part}”" for part in slots.left)
    hint = ""
    if re.match(rf"(?:{lexicon.EXCEPT}|in|of) ", slots.left[0] + " ") or slots.named:
        hint = f" It is no name in the data; the categories are {', '.join(facts.members['category'])}"
        hint += f", the regions {', '.join(facts.members['region'])}."
    return f"I don't know {quoted}.{hint}"


def _is_foreign(slots: Slots) -> bool:
    words = " ".join(slots.left).split()
    common = set(lexicon.FOREIGN.split())
    letters = [c for c in slots.text if c.isalpha()]
    return bool(common.intersection(words)) or sum(not c.isascii() for c in letters) * 3 > len(letters) > 0


def present(slots: Slots) -> set[str]:
    """The slots that the question fills, by the names that `_USES` has."""
    filled = {
        "measure": slots.measures, "days": slots.days, "by": slots.by or slots.nouns,
        "order": slots.order, "count": slots.count, "limit": slots.limit, "share": slots.share,
        "compared": slots.compared or slots.dates.relation, "direction": slots.direction,
        "nothing": slots.nothing is not None, "per": slots.per, "chart": slots.chart,
        "ahead": slots.dates.ahead, "advice": slots.advice, "grain": slots.grain,
        "sold": slots.sold, "bought": slots.bought, "position": slots.position is not None,
    }  # fmt: skip
    return {name for name, value in filled.items() if value}


def job_of(slots: Slots) -> Job | None:
    """The kind of answer. None if the question names none, nor a measure."""
    jobs = list(dict.fromkeys(slots.jobs + (["why"] if slots.advice else [])))
    if "report" in jobs and len(jobs) > 1:
        jobs.remove("report")
    if len(jobs) > 1:
        raise No(f"I can't give {' and '.join(TOLD[job] for job in jobs)} in one answer: ask one after the other.")
    if jobs:
        return jobs[0]  # pyright: ignore[reportReturnType] - the grammar has no other
    if slots.dates.ahead:
        return "forecast"
    if slots.nothing is not None or _is_set(slots):
        return "absent"
    return _by_shape(slots)


def _by_shape(slots: Slots) -> Job | None:
    """A share, a list or a figure, by what the question has."""
    if slots.share and not slots.measures and slots.nouns:
        raise No("I don't see of which figure the share is: of revenue, orders, units, margin …")
    if slots.share and not (slots.by or slots.nouns):
        return "share"
    if slots.by or slots.grain or slots.nouns or slots.limit or _members_compared(slots):
        return "list"
    pair = slots.compared and len(slots.dates.periods) == 2
    asked = slots.measures or slots.sold or slots.bought or pair or slots.direction
    return "figure" if asked else None


def _is_set(slots: Slots) -> bool:
    """ "Bought this but not that"."""
    return slots.bought and "customer" in slots.nouns and any(n.left_out for n in slots.named)


def _members_compared(slots: Slots) -> str:
    """The dimension of two members that are compared with each other, within one period."""
    kept = [one.dimension for one in slots.named if not one.left_out]
    twice = [dimension for dimension in dict.fromkeys(kept) if kept.count(dimension) > 1]
    return twice[0] if twice and slots.compared and len(slots.dates.periods) < 2 else ""


def _check_slots(slots: Slots, job: Job) -> None:
    unused = present(slots) - set(_USES[job].split())
    if job == "list":
        unused -= {"grain"}
    if unused:
        named = " and ".join(sorted(_NAMES[name] for name in unused))
        raise No(f"I can't combine {TOLD[job]} with {named}.")
    plural = [
        what
        for what, some in (
            ("measures", len(slots.measures) > 1),
            ("periods", len(slots.dates.periods) > 1),
            ("names", _plural_names(slots)),
        )
        if some
    ]
    if len(plural) > 1:
        raise No(f"There are several {' and several '.join(plural)} in that: I answer one question at a time.")
    if len(slots.dates.periods) > 2 or not slots.dates.linked:
        names = ", ".join(period.label for period in slots.dates.periods)
        raise No(f"I read more than one period ({names}) and don't see how they belong together.")


def _plural_names(slots: Slots) -> bool:
    kept = [one.dimension for one in slots.named if not one.left_out]
    return len(set(kept)) < len(kept)


def _nothing_asked(slots: Slots) -> str:
    if slots.named or slots.dates.periods:
        return "I don't see which figure is asked for."
    return "I find no question about the sales data in that."


# --- the shape -----------------------------------------------------------------------------------


def _shaped(slots: Slots, job: Job, covers: Period) -> Plan:
    """The plan but for its time."""
    only, without, lacking = _filters(slots, job)
    measures = measures_of(slots, job)
    by = dimension_of(slots, job)
    plan = Plan(
        job=job,
        period=covers,
        covers=covers,
        measures=measures,
        only=only,
        without=without,
        lacking=lacking,
        days=slots.days,
        by=by,
        order=_order(slots, job),
        count=_count(slots, by, job),
        limit=slots.limit,
        per=slots.per,
        ahead=min(slots.dates.ahead or 3, _MOST_AHEAD) if job == "forecast" else 0,
        chart=slots.chart,
        direction=slots.direction or "",
        advice=slots.advice,
        notes=tuple(f"“{wrong}” was read as “{right}”" for wrong, right in slots.respelt.items()),
    )
    return _checked(plan, slots)


def measures_of(slots: Slots, job: Job) -> tuple[str, ...]:
    if job in EVENTS or job in ("stock", "schema", "absent"):
        return ()
    if slots.measures:
        return tuple(slots.measures)
    many = re.search(r"\bhow many\b", slots.text, re.IGNORECASE) and job == "figure"
    return ("units",) if many else KEY if job == "report" else ("revenue",)


def dimension_of(slots: Slots, job: Job) -> str:
    if job not in ("list", "absent"):
        return ""
    nouns = slots.nouns
    grain = [slots.grain] if slots.grain else []
    wanted = list(dict.fromkeys([*slots.by, *nouns, *grain])) or [_members_compared(slots)]
    if len(wanted) > 1 and job == "list" and slots.by and nouns and not slots.order:
        wanted = [d for d in wanted if d not in nouns] if "customers" in slots.measures else wanted
    if len(wanted) > 1:
        raise No(f"I break down by one thing at a time, not by {' and '.join(PLURALS[d] for d in wanted)}.")
    _check_dimension(wanted[0], slots, job)
    return wanted[0]


def _check_dimension(by: str, slots: Slots, job: Job) -> None:
    compared = _members_compared(slots)
    if compared and by != compared:
        raise No(f"I compare names over one period, not by {by}: ask for one name after the other.")
    if not by:
        raise No("I don't see of what the list should be: products, customers, regions, months …")
    if job == "absent" and by in TIMES:
        raise No(f"I can't list {PLURALS[by]} without sales.")


def _filters(slots: Slots, job: Job) -> tuple[Filters, Filters, Filters]:
    only: dict[str, tuple[str, ...]] = {}
    without: dict[str, tuple[str, ...]] = {}
    lacking: dict[str, tuple[str, ...]] = {}
    for one in slots.named:
        behind = slots.nothing is not None and one.start > slots.nothing
        absent = job == "absent" and (one.left_out if _is_set(slots) else behind)
        place = lacking if absent else without if one.left_out else only
        place[one.dimension] = (*place.get(one.dimension, ()), one.name)
    return only, without, lacking


def _order(slots: Slots, job: Job) -> Order | None:
    if job != "list":
        return None
    moving = slots.direction or slots.compared or slots.dates.relation
    if slots.order in (None, "top") and moving and not _members_compared(slots):
        return "decline" if slots.direction == "down" else "growth"
    return slots.order


def _count(slots: Slots, by: str, job: Job) -> int:
    if slots.count:
        return min(slots.count, 50)
    if job != "list" or slots.limit:
        return 0
    return 5 if slots.order and by in (*TIMES, *_LONG) else _LISTED if by in _LONG else 0


def _check_filters(plan: Plan) -> None:
    allowed = _FILTERED.get(plan.job)
    wrong = [d for d in plan.only if allowed is not None and d not in allowed]
    if allowed is not None and plan.job not in ("lost", "gained"):
        wrong += list(plan.without)
    if plan.job == "absent":
        wrong += [d for d in plan.without if d != plan.by and not is_attribute(plan.by, d)]
    if wrong:
        names = " or ".join(dict.fromkeys(name.replace("_", " ") for name in wrong))
        raise No(f"I can't filter {TOLD[plan.job]} by {names} in that way.")


def _check_measures(plan: Plan) -> None:
    """A cause, a report and a forecast don't go by every measure."""
    if MEDIAN.name in plan.measures and plan.job != "figure":
        raise No("I give the median of order values for a period and its filters, and nothing else of it.")
    if len(plan.measures) > 1 and plan.job in ("why", "forecast"):
        raise No(f"I give {TOLD[plan.job]} of one measure at a time.")
    if plan.job == "report" and any(ALL_MEASURES[name].is_ratio for name in plan.measures):
        raise No("I give reports on sums and counts: revenue, orders, units, margin, costs, discounts.")


def _checked(plan: Plan, slots: Slots) -> Plan:
    _check_measures(plan)
    _check_filters(plan)
    if plan.job == "list":
        if len(plan.measures) > 1:
            raise No("A list goes by one measure at a time.")
        overlap = plan.by in ALL_MEASURES[plan.measure].overlaps
        if slots.share and (ALL_MEASURES[plan.measure].is_ratio or overlap or plan.order in ("growth", "decline")):
            raise No(f"Shares of {label(plan.measure)} don't add up by {plan.by.replace('_', ' ')}.")
    if (
        plan.job == "list"
        and re.search(r"\bhow many\b", slots.text.lower())
        and not plan.limit
        and plan.by not in TIMES
    ):
        raise No("I count orders, units and customers, and how many of a list have a property.")
    if plan.job == "report" and slots.grain in ("day", "week"):
        raise No("I give reports by month, quarter, half or whole year.")
    if plan.job == "forecast" and slots.dates.periods:
        raise No("I forecast what follows the data: ask for the next months by their number.")
    if plan.chart == "pie" and not (plan.job == "list" and _adds_up(plan)):
        raise No("A pie shows the shares of a whole; that isn't one. I can draw bars or a line.")
    if plan.per and (len(plan.measures) > 1 or ALL_MEASURES[plan.measure].is_ratio or plan.by):
        raise No(f"I give averages per {plan.per} of one sum or count, for one period.")
    if plan.job == "share":
        return replace(plan, part=_part(plan, slots))
    return plan


def _adds_up(plan: Plan) -> bool:
    measure = ALL_MEASURES[plan.measure]
    return not measure.is_ratio and plan.by not in measure.overlaps and plan.order in (None, "top")


def _part(plan: Plan, slots: Slots) -> str:
    """The dimension of the part, among the filters of a share. "" if the days are the part."""
    if ALL_MEASURES[plan.measure].is_ratio or len(plan.measures) > 1:
        raise No(f"There are no shares of {label(plan.measure)}.")
    if plan.days and plan.only:
        raise No("I can't take a share by days and by names at once.")
    if plan.days:
        return ""
    names = list(plan.only)
    for wide, narrow in (("category", "product"), ("region", "customer"), ("segment", "customer")):
        if set(names) == {wide, narrow}:
            return narrow
    if len(names) == 1:
        return names[0]
    text = f" {slots.text.lower()} "
    cue = r"\b(?:from|was|is|were|by|with|due to)\s+(?:the\s+)?$"
    for name, members in plan.only.items():
        at = text.find(members[0].lower())
        if at > 0 and re.search(cue, text[:at]):
            return name
    raise No("I don't see what the part is, and what the whole: ask for the share of one name in one whole.")
