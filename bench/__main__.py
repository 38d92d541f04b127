"""`python3 dev.py bench`: measures the real server process and its peers, and prints what they cost beside each other.

The default takes about three minutes, --full about twenty.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import builds, machine, report, suite
from bench.suite import FULL, QUICK, SECTIONS, say


def main() -> int:
    options = _options()
    if not machine.in_own_network():
        _prepare()
    problem = machine.enter_own_network()  # starts this program anew
    machine.raise_descriptor_limit()
    if problem:
        say(problem)
    tables = _measured(options.only or list(SECTIONS), FULL if options.full else QUICK)
    print(f"\nMeasured on {machine.description()}.\n")
    print("\n".join(report.markdown(table) for table in tables))
    if options.json:
        figures = {"machine": machine.description(), "tables": [asdict(table) for table in tables]}
        options.json.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    if options.write:
        report.write(tables, machine.description())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="more viewers, longer runs, and the sections that take long"
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args()


def _prepare() -> None:
    """Makes what needs the network while there is one."""
    for make in (builds.install, lambda: builds.program("viewers"), lambda: builds.program("floor")):
        try:
            make()
        except builds.Missing as problem:
            say(str(problem))


def _measured(names: Sequence[str], scale: suite.Scale) -> list[report.Table]:
    tables: list[report.Table] = []
    for name in names:
        try:
            tables.extend(SECTIONS[name](scale))
        except builds.Unmeasurable as problem:
            say(f"without the rest of {name}: {problem}")
    return tables


if __name__ == "__main__":
    raise SystemExit(main())
