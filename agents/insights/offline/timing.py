"""When: a plan's period and that of comparison, as far as the data goes, like set against like. Pure."""

from dataclasses import replace
from typing import Final

from askstream.agents.insights.offline import dates
from askstream.agents.insights.offline.grammar import Slots
from askstream.agents.insights.offline.names import Facts
from askstream.agents.insights.offline.plan import TOLD, No, Plan
from askstream.agents.insights.periods import Period, months_from

_MOST_DAYS: Final = 100  # in a list


def timed(plan: Plan, slots: Slots, facts: Facts) -> Plan:
    """With the period and that of comparison, as far as the data goes. Raises No."""
    when, notes = slots.dates, [*plan.notes, *slots.dates.notes]
    pair = len(when.periods) == 2
    if pair and plan.job not in ("figure", "why", "list", "report"):
        raise No(f"I can't compare two periods of {TOLD[plan.job]}.")
    period = max(when.periods) if pair else when.periods[0] if when.periods else None
    if period is None:
        period, note = _default_period(plan, slots, facts)
        notes += [note] if note else []
    against = min(when.periods) if pair else None
    if against:
        period, against, note = like(period, against, facts)
        notes += [note] if note else []
        if plan.job == "list":
            plan = replace(plan, order=plan.order if plan.order in ("growth", "decline") else "growth")
    elif _needs_comparison(plan, slots):
        against = _related(period, slots, facts, bool(when.notes))
    plan = replace(plan, period=period, against=against, notes=tuple(dict.fromkeys(notes)))
    return _covered(plan, facts, given=pair or bool(when.relation))


def _needs_comparison(plan: Plan, slots: Slots) -> bool:
    if plan.job == "list":
        return plan.order in ("growth", "decline")
    moving = bool(slots.compared or slots.direction or slots.dates.relation)
    return plan.job in ("why", "report") or (plan.job == "figure" and moving)


def _related(period: Period, slots: Slots, facts: Facts, cut: bool) -> Period:
    if slots.dates.relation == "year_before":
        return period.year_before()
    if slots.dates.relation == "before":
        return dates.before_by(slots.dates.step, period)
    return before(period, cut=cut)


def before(period: Period, *, cut: bool = False) -> Period:
    """The period to compare with if none is named. More than half a year is compared with the same
    months a year earlier, and so is a period that isn't over: other months have another season."""
    return period.year_before() if cut or 6 < period.whole_months <= 12 else period.before()


def like(now: Period, then: Period, facts: Facts) -> tuple[Period, Period, str]:
    """Like with like: of a whole year the same months, of a period as many months as there are of
    one that isn't over."""
    if then.whole_months == 12 and then.start.year < now.start.year and 0 < now.whole_months < 12:
        same = now.shifted(12 * (then.start.year - now.start.year))
        return now, same, f"{now.label} is compared with the same months of {then.label}"
    if now.end == facts.last_day and 0 < now.whole_months < then.whole_months:
        cut = months_from(then.start, now.whole_months)
        return now, cut, f"{then.label} is cut to as many months as there are of the later period"
    return now, then, ""


def _default_period(plan: Plan, slots: Slots, facts: Facts) -> tuple[Period, str]:
    today = facts.last_day
    match plan.job:
        case "forecast" | "schema":
            return Period(facts.first_day, today), ""
        case "stock":
            return Period(today, today), ""
        case "report":
            unit = slots.grain if slots.grain in ("quarter", "year") else "month"
            last = dates.last_whole(unit, today)
            return last, "" if slots.grain else f"No period was named: the last {unit} is taken"
        case _ if plan.by == "year":
            return Period(facts.first_day, today), "No period was named: all that there is is taken"
        case _ if slots.dates.relation == "before" and slots.dates.step:
            return dates.last_whole(slots.dates.step, today), ""
        case _:
            year = Period(today.replace(month=1, day=1), today)
            return year, f"No period was named: the year so far, {year.label}, is taken"


def _covered(plan: Plan, facts: Facts, *, given: bool) -> Plan:
    span, period, against = Period(facts.first_day, facts.last_day), plan.period, plan.against
    told = f"the data covers {dates.day_name(span.start)} to {dates.day_name(span.end)}"
    if period.start > span.end or period.end < span.start:
        raise No(f"There is nothing on {period.label}: {told}.")
    notes = plan.notes
    if period.start < span.start:
        if against:
            raise No(f"{period.label} can't be compared: {told}.")
        notes = (*notes, f"{period.label} isn't all there: {told}")
        period = Period(span.start, period.end)
    if against and against.start < span.start:
        if given or plan.job != "report":
            earlier = None if given else period.before()
            if earlier is None or earlier.start < span.start:
                raise No(f"There is no whole {against.label} to compare with: {told}.")
            against = earlier
        else:
            against = None
            notes = (*notes, f"There is nothing to compare with: {told}")
    if plan.by == "day" and not (plan.order or plan.limit) and period.days > _MOST_DAYS:
        raise No(f"A list of {period.days} days is too long: name a shorter period, or ask for the best.")
    if plan.job == "stock" and period.days > 1:
        period = Period(period.end, period.end)
        notes = (*notes, f"The stock is that at the end of {dates.day_name(period.end)}")
    return replace(plan, period=period, against=against, notes=notes)
