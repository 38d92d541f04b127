"""Which sections there are, and how they are run: one that fails loses none of the others."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping

from bench import builds
from bench.chart import Chart
from bench.contenders import say
from bench.report import Table
from bench.results import Section
from bench.scale import Scale
from bench.sections import crowd, durable, lonely, overhead, stalled, start, text, waiting, where

SECTIONS: Mapping[str, Callable[[Scale], Iterator[Table | Chart]]] = {
    "fanout": crowd.crowd,
    "where": where.where,
    "waiting": waiting.waiting,
    "runs": lonely.lonely,
    "commit": durable.commit,
    "journal": durable.log,
    "replay": durable.replay,
    "stalled": stalled.stalled,
    "text": text.text,
    "overhead": overhead.run,
    "start": start.start,
}

log = logging.getLogger(__name__)


def measured(name: str, scale: Scale) -> Section:
    """All that could be had of a section, and why the rest could not."""
    section = Section()
    began = time.monotonic()
    try:
        for part in SECTIONS[name](scale):
            section.parts.append(part)
    except builds.Unmeasurable as problem:
        section.failure = str(problem)
    except Exception as problem:
        log.exception("section %s", name)
        section.failure = f"{type(problem).__name__}: {problem}"
    say(f"{name} took {time.monotonic() - began:.0f} s{', and failed: ' if section.failure else ''}{section.failure}")
    return section
