"""The offline analyst finds what happened, with the real tools, and makes up no cause."""

import sqlite3
from pathlib import Path

import pytest

from tests.agents.insights.figures import euro, revenue
from tests.agents.insights.offline.analyst_team import ORDER, ask

# Question: what the report must name before its figures. Nothing here is known to the analyst but from the data.
CAUSES = {
    "Why did revenue fall in October 2026?": ("Halo Floor Lamp", "out of stock from 2 October 2026 to 27 October 2026"),
    "Why did revenue fall in March 2026?": ("Audio", "List prices rose by 20.0%"),
    "Why did revenue fall in July 2026?": ("West", "Claire Moreau (26 June 2026) and Hugo Lambert (30 June 2026)"),
    "Why did revenue rise in May 2026?": ("Outdoor", "A promotion: discounts of 25.0%"),
    "Why did revenue drop in June 2026?": ("Outdoor", "A promotion ended"),
    "Why did revenue fall in February 2026?": ("Halvorsen Retail Group", "not ordered since 31 January 2026"),
    "Why did revenue grow in September 2025?": ("Blue Harbour Hotels", "its first order came on 1 September 2025"),
    "Why did margin fall in August 2025?": ("Textiles", "Unit costs rose by 30.0%"),
    "Why did the margin rate fall in August 2025?": ("Textiles", "Unit costs rose by 30.0%"),
    "Why did orders fall in February 2026?": ("Halvorsen Retail Group", "not ordered since 31 January 2026"),
    "Why were sales lower in Q3 than in Q2 2026?": ("West", "Outdoor"),
    "What happened to the west in July?": ("West", "All of its sales people have left"),
    "Why did sales of Halo Floor Lamp fall in October?": ("Halo Floor Lamp", "out of stock"),
    "Why did Halvorsen's revenue drop in February 2026?": ("Halvorsen Retail Group", "not ordered since"),
    "Why are outdoor sales up in May 2026?": ("Outdoor", "A promotion"),
    "Why did revenue in the north fall in October 2026?": ("Halo Floor Lamp", "out of stock"),
}


@pytest.mark.parametrize(("question", "told"), CAUSES.items(), ids=CAUSES.keys())
async def test_the_cause_is_found(path: Path, question: str, told: tuple[str, ...]) -> None:
    """Every planted cause, asked for in plain words; the short answer names the first one."""
    story = await ask(path, question)
    assert all(words in story.findings for words in told)
    assert told[0] in story.report.split("## Findings")[0]


@pytest.mark.parametrize("month", ["January 2025", "April 2025", "June 2025", "October 2025", "August 2026"])
async def test_where_nothing_happened_no_cause_is_made_up(path: Path, month: str) -> None:
    """A quiet month is the season and chance, and the report says so."""
    story = await ask(path, f"Why did revenue change in {month}?")
    assert "No single product or category or region or customer stands out" in story.findings


async def test_who_asks_why_it_fell_when_it_rose_is_told(path: Path) -> None:
    """The premise is checked before the cause is told."""
    assert "It didn't fall: it rose" in (await ask(path, "Why did revenue fall in May 2026?")).findings
    assert "It didn't rise: it fell" in (await ask(path, "Why did revenue rise in July 2026?")).findings


async def test_work_goes_back_for_what_proves_the_cause(path: Path) -> None:
    """Stock isn't in the first figures: the analyst asks, the planner orders, the data agent fetches."""
    story = await ask(path, "Why did revenue fall in October 2026?")
    plan, data, analysis, report = ORDER
    assert story.order == [plan, data, analysis, plan, data, analysis, report]
    assert story.said[2][1].startswith("MORE DATA:")
    assert "stock of Halo Floor Lamp" in story.said[3][1]
    fetched = [call for call in story.calls if call.agent == "DataAgent" and "inventory" in str(call.arguments)]
    assert len(fetched) == 1


async def test_work_does_not_go_back_for_show(path: Path) -> None:
    """Where the sales figures prove the cause, four turns are enough."""
    assert (await ask(path, "Why did revenue fall in February 2026?")).order == list(ORDER)


async def test_the_size_of_a_cause_is_that_of_plain_sql(path: Path, data: sqlite3.Connection) -> None:
    """The change of the part, and that of the whole."""
    story = await ask(path, "Why did revenue fall in February 2026?")
    large = "AND o.customer_id = (SELECT customer_id FROM customers WHERE name = 'Halvorsen Retail Group')"
    lost = revenue(data, "2026-01", large)
    fall = revenue(data, "2026-01") - revenue(data, "2026-02")
    assert f"**Halvorsen Retail Group** (customer): −{euro(lost)}" in story.findings
    assert f"Revenue fell by {euro(fall)}" in story.findings
