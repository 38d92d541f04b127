"""`python3 dev.py bench`: measure the real server process and its peers, and print what they cost beside each other.

The default takes about five minutes, --full about thirty, on a machine with nothing else to do.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench import build, goals, machine, report
from bench.build import Unmeasurable
from bench.report import Results, Section, Table
from bench.sections import journal, stalled, start, teams, viewers, waits, where
from bench.servers import OTHER, Checkout
from bench.suite import Scope, say

SECTIONS: Mapping[str, Callable[[Scope], Iterator[Table]]] = {
    "fanout": viewers.fanout,
    "lonely": viewers.lonely,
    "waiting": viewers.waiting,
    "journal": journal.journal,
    "replay": journal.replay,
    "stalled": stalled.stalled,
    "teams": teams.teams,
    "start": start.start,
    "waits": waits.waits,
    "where": where.where,
}
# Measured only with --full, or when they are named.
EXTRAS = ("waits", "where")

log = logging.getLogger(__name__)


def main() -> int:
    options = _options()
    if not machine.in_own_network():
        _prepare()
    problem = machine.enter_own_network()  # starts this program again
    machine.raise_descriptor_limit()
    if problem:
        say(problem)
    other = Checkout(OTHER, options.server.absolute()) if options.server else None
    names = options.section or [name for name in SECTIONS if options.full or name not in EXTRAS]
    found = _all(names, Scope(options.full, other), options)
    print(f"\n{report.text(found, goals.standing(found.rows))}")
    return 1 if any(section.failure for section in found.sections.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"what to measure: {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--full", action="store_true", help="more viewers and runs, and longer")
    parser.add_argument(
        "--write",
        action="store_true",
        help="put the figures into bench/RESULTS.md; sections that are not measured keep theirs",
    )
    parser.add_argument(
        "--server",
        type=Path,
        metavar="CHECKOUT",
        help="measure the server of this folder as well, such as that of an earlier commit with its own .venv",
    )
    options = parser.parse_args()
    if unknown := [name for name in options.section if name not in SECTIONS]:
        parser.error(f"expected sections of {', '.join(SECTIONS)}, found {', '.join(unknown)}")
    return options


def _prepare() -> None:
    """Make what needs the network while there is one."""
    for make in (build.install, lambda: build.program("viewers"), lambda: build.program("floor")):
        try:
            make()
        except Unmeasurable as problem:
            say(str(problem))


def _all(names: list[str], scope: Scope, options: argparse.Namespace) -> Results:
    """Write after each section, so that a run that is stopped loses nothing."""
    here = machine.description()
    kept = report.load() if options.section and options.write else Results(here)
    found = kept if kept.machine == here else Results(here)
    for name in names:
        found.sections[name] = measured(name, SECTIONS[name], scope)
        found = found.ordered(list(SECTIONS))
        if options.write:
            report.write(found, goals.standing(found.rows))
    return found


def measured(name: str, section: Callable[[Scope], Iterator[Table]], scope: Scope) -> Section:
    """The tables of a section, up to a failure; then the reason of the failure."""
    result = Section()
    began = time.monotonic()
    try:
        for table in section(scope):
            result.tables.append(table)
    except Unmeasurable as problem:
        result.failure = str(problem)
    except Exception as problem:
        log.exception("section %s", name)
        result.failure = f"{type(problem).__name__}: {problem}"
    say(f"{name}: {time.monotonic() - began:.0f} s{', failed: ' if result.failure else ''}{result.failure}")
    return result


if __name__ == "__main__":
    raise SystemExit(main())
