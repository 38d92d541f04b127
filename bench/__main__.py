"""`python3 dev.py bench`: measure the real server process and its peers, and print what they cost beside each other.

The default takes about five minutes, --full about thirty, on a machine with nothing else to do.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from bench import machine, report
from bench.fanout import Scope
from bench.machine import say
from bench.report import Results, Section, Table
from bench.sections import journal, start, teams, viewers, waits
from bench.servers import OTHER, Checkout

SECTIONS: Mapping[str, Callable[[Scope], Iterator[Table]]] = {
    "fanout": viewers.fanout,
    "lonely": viewers.lonely,
    "waiting": viewers.waiting,
    "journal": journal.journal,
    "replay": journal.replay,
    "stalled": viewers.stalled,
    "teams": teams.teams,
    "start": start.start,
    "waits": waits.waits,
}
# Measured only with --full, or when they are named.
EXTRAS = ("waits",)


def main() -> int:
    options = _options()
    # First, since this needs the network, and `prepare` takes it away.
    for make in (machine.install, partial(machine.program, "viewers"), partial(machine.program, "floor")):
        say(machine.attempt(make))
    say(machine.prepare())
    other = Checkout(OTHER, options.server.absolute()) if options.server else None
    found = _all(Scope(options.full, other), options)
    print(f"\n{report.text(found)}")
    return 1 if any(section.failure for section in found.sections.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    add = parser.add_argument
    add("section", nargs="*", help=f"what to measure: {', '.join(SECTIONS)}; all by default")
    add("--full", action="store_true", help="more viewers and runs, and longer")
    add("--write", action="store_true", help="put the figures into bench/RESULTS.md; other sections keep theirs")
    add(
        "--server", type=Path, metavar="CHECKOUT", help="measure the server of this folder, with its own .venv, as well"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.section if name not in SECTIONS]:
        parser.error(f"expected sections of {', '.join(SECTIONS)}, found {', '.join(unknown)}")
    return options


def _all(scope: Scope, options: argparse.Namespace) -> Results:
    """Measure, and write after each section: an interrupted run loses nothing."""
    here = machine.description()
    kept = report.load() if options.section and options.write else Results(here)
    found = kept if kept.machine == here else Results(here)
    for name in options.section or [name for name in SECTIONS if options.full or name not in EXTRAS]:
        found.sections[name] = measured(name, SECTIONS[name], scope)
        found.sections = {name: found.sections[name] for name in SECTIONS if name in found.sections}
        if options.write:
            report.write(found)
    return found


def measured(name: str, section: Callable[[Scope], Iterator[Table]], scope: Scope) -> Section:
    """Return the tables of a section; after a failure those before it, and its reason."""
    result, began = Section(), time.monotonic()

    def add_tables() -> None:
        for table in section(scope):
            result.tables.append(table)

    result.failure = machine.attempt(add_tables)
    say(f"{name}: {time.monotonic() - began:.0f} s{', failed: ' if result.failure else ''}{result.failure}")
    return result


if __name__ == "__main__":
    raise SystemExit(main())
