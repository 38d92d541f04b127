"""Reads what a team says of itself: attributes of its factory, or else of the module that has it.

title = "Travels"
greeting = "Where do you want to go?"
starters = ["A weekend in Porto", "Two weeks of rain"]
"""

import logging
from typing import Any, cast

from askstream.server.runs.orchestrator import About

log = logging.getLogger(__name__)

BUNDLED = About(
    title="Business insights",
    greeting="Four agents plan, query the data, analyse it and write a report.",
    starters=(
        "Generate a monthly business report for our sales performance",
        "Why did revenue change last month?",
        "Which five products earned the most margin this year?",
        "Compare last quarter with the quarter before",
        "Which large customers did we lose?",
        "Forecast revenue for the next three months",
    ),
)


def read(spec: str, *sources: object) -> About:
    """The words of the first source that has an attribute. One of another type is left out, with a warning."""
    found: dict[str, Any] = {}
    for name, default in About()._asdict().items():
        value = next((getattr(source, name) for source in sources if hasattr(source, name)), default)
        if _fits(value, default):
            found[name] = tuple(value) if isinstance(default, tuple) else value
        else:
            kind = "a list of texts" if isinstance(default, tuple) else "a text"
            log.warning("the team %s: its %s is left out: expected %s, got %.100r", spec, name, kind, value)
    return About(**found)


def _fits(value: object, default: object) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in cast("list[object]", value))
    return isinstance(value, str)
