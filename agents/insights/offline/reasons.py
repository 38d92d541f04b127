"""Why a figure changed: the causes put into words. Where one needs proof that wasn't fetched, it asks for more data."""

from collections.abc import Mapping, Sequence
from typing import Final

from askstream.agents.insights.measures import MEASURES
from askstream.agents.insights.offline.causes import DIMENSIONS, Cause, Change, Search, search
from askstream.agents.insights.offline.data import request_title
from askstream.agents.insights.offline.evidence import Evidence, amount, percent, signed, to_markdown
from askstream.agents.insights.offline.plan import MORE, Request, request_line
from askstream.agents.insights.offline.script import Script, together
from askstream.agents.insights.offline.statement import TITLE, listed, say
from askstream.agents.insights.offline.understanding import Understanding
from askstream.agents.insights.offline.verdicts import cause_table, driver_table, request_for, requests, verdict
from askstream.agents.insights.periods import Period

MOST_ROUNDS: Final = 2  # so often the analysis may send the team back for more
_SEASONAL: Final = 2.0  # per cent: a smaller step says nothing about the season


def reasons(plan: Understanding, against: Period, data: Sequence[Evidence], question: str, rounds: int) -> Script:
    """Search for the causes, prove them, and tell them; `rounds` is how often more data was asked for already."""
    measure = plan.measures[0]
    compared = [against]
    year_before = plan.period.year_before()
    if plan.job == "report" and year_before != against and year_before.start >= plan.covers.start:
        compared.append(year_before)
    limit = 2 if plan.job == "report" else 4
    found = yield from together(
        [
            search(Change(measure, plan.period, then, plan.filters), plan.covers, limit=limit + 2 * n)
            for n, then in enumerate(compared)
        ]
    )
    fetched = {one.title: one for one in data}
    wanted = list(dict.fromkeys(request for one in found for request in requests(one)))
    open_ones = [request for request in wanted if request_title(request) not in fetched]
    if open_ones and rounds < MOST_ROUNDS:
        return _ask_for(open_ones)
    groups = [(one, _findings(one, fetched, question if plan.job == "why" else "")) for one in found]
    tables = [table for one in found for table in (cause_table(one), driver_table(one)) if table]
    summary = f"{_summary(found[0])}{_mainly(found[0], groups[0][1])}"
    if len(groups) == 1:
        return say(summary, groups[0][1], tables)
    told = [f"**Against {one.change.previous.label}.** {_summary(one)}\n\n{listed(lines)}" for one, lines in groups]
    return "\n\n".join([TITLE, summary, *told, *map(to_markdown, tables)])


def _ask_for(wanted: Sequence[Request]) -> str:
    names = " and ".join(request.name for request in wanted)
    lines = "\n".join(map(request_line, wanted))
    return f"{MORE} the change sits in {names}; the sales figures don't tell why. Needed:\n\n{lines}"


def _summary(found: Search) -> str:
    change = found.change
    label = MEASURES[change.measure].label
    if found.now is None or found.then is None:
        return f"{label} can't be compared: there is nothing in one of the periods."
    moved = "did not change" if not found.difference else ("rose" if found.difference > 0 else "fell")
    size = "" if not found.difference else f" by {signed(abs(found.difference), change.unit).lstrip('+')}"
    relative = "" if change.unit == "%" or not found.difference else f" ({percent(found.now, found.then)})"
    return (
        f"{label} {moved}{size}{relative}, from {amount(found.then, change.unit)} in {change.previous.label} to "
        f"{amount(found.now, change.unit)} in {change.current.label}{_only(change)}."
    )


def _mainly(found: Search, findings: Sequence[str]) -> str:
    """The first cause that goes the way of the whole change, for those who read one sentence."""
    for cause in found.causes:
        told = next((line for line in findings if line.startswith(f"**{cause.name}**")), "")
        if told and not cause.sql:
            return f" {told.partition('. ')[2]}"
        if told and cause.contribution * found.difference >= 0:
            return f" Mainly {told}"
    return ""


def _only(change: Change) -> str:
    return f" ({', '.join(name for members in change.filters.values() for name in members)})" if change.filters else ""


def _findings(found: Search, fetched: Mapping[str, Evidence], question: str) -> list[str]:
    lines = [line for line in (_contradiction(found, question),) if line]
    for cause in found.causes:
        proof = request_for(cause, found)
        told = verdict(cause, found.facts.get(cause.name, {}), fetched.get(request_title(proof)) if proof else None)
        # Of whom the question names, only what explains something is worth a line, unless there is nothing else.
        if cause.sql or told.kind != "unexplained" or len(found.causes) == 1:
            lines.append(f"**{cause.name}**{_size(cause)}. {told.sentence}")
    return [*lines, *_rest(found)]


def _size(cause: Cause) -> str:
    if not cause.sql:
        return ""
    unit = cause.change.unit
    against = f"{cause.change.current.label} against {cause.change.previous.label}"
    return f" ({cause.dimension.replace('_', ' ')}): {signed(cause.contribution, unit)}, {against}"


def _contradiction(found: Search, question: str) -> str:
    """Who asks why it fell, when it rose, should hear that first."""
    text = f" {question.lower()} "
    fell = any(word in text for word in (" fall", " fell", " drop", " declin", " decreas", " lower", " down ", " sank"))
    rose = any(word in text for word in (" rise", " rose", " grow", " grew", " increas", " higher", " up ", " jump"))
    if fell and not rose and found.difference > 0:
        return "It didn't fall: it rose. What held it back, and what drove it, stands below."
    if rose and not fell and found.difference < 0:
        return "It didn't rise: it fell. What drove it, and what went against it, stands below."
    return ""


def _rest(found: Search) -> list[str]:
    """How the rest moved, and whether that is the season."""
    change, unit = found.change, found.change.unit
    lines: list[str] = []
    sized = [cause for cause in found.causes if cause.sql]
    if sized and found.difference and unit != "%":
        lines.append(
            f"Together: {signed(sum(c.contribution for c in sized), unit)}, of {signed(found.difference, unit)} in all."
        )
    if not sized and not change.filters:
        looked_at = " or ".join(name for name in DIMENSIONS if name not in MEASURES[change.measure].overlaps)
        lines.append(f"No single {looked_at} stands out: the change runs through all of them.")
    if found.rest_percent is not None and not change.filters and sized:
        lines.append(f"Everything else moved by {_percent(found.rest_percent)}.")
    lines.append(_season(found))
    return lines


def _season(found: Search) -> str:
    change = found.change
    earlier = f"{change.previous.year_before().label} to {change.current.year_before().label}"
    if found.season_percent is None:
        return f"The data doesn't hold the same step a year earlier ({earlier}), so the season can't be told apart."
    alike = found.season_percent * found.difference > 0 and abs(found.season_percent) >= _SEASONAL
    meaning = "so a part of it is the season" if alike else "so it isn't the season"
    return f"The same step a year earlier, {earlier}, was {_percent(found.season_percent)}, {meaning}."


def _percent(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{abs(value):.1f}%"
