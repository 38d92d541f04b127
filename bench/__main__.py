"""`python3 dev.py bench`: measures the real server process and its peers, and prints what they cost beside each other.

The default takes about five minutes, --full about thirty, on a machine with nothing else to do.
"""

import argparse
import json
from pathlib import Path

from bench import builds, machine, results
from bench.contenders import say
from bench.results import Results
from bench.scale import FULL, QUICK, Scale
from bench.suite import SECTIONS, measured


def main() -> int:
    options = _options()
    if options.draw:
        results.write(results.load())
        return 0
    if not machine.in_own_network():
        _prepare()
    problem = machine.enter_own_network()  # starts this program anew
    machine.raise_descriptor_limit()
    if problem:
        say(problem)
    found = _all(options, FULL if options.full else QUICK)
    print(f"\n{results.text(found)}")
    return 1 if any(section.failure for section in found.sections.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="more viewers and runs, and longer")
    parser.add_argument("--only", action="append", choices=SECTIONS, help="this section; may be repeated")
    parser.add_argument(
        "--write",
        action="store_true",
        help="put the figures into bench/RESULTS.md and bench/figures; with --only"
        " what they hold of other sections stays",
    )
    parser.add_argument("--draw", action="store_true", help="write them anew from what is kept, and measure nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args()


def _prepare() -> None:
    """Makes what needs the network while there is one."""
    for make in (builds.install, lambda: builds.program("viewers"), lambda: builds.program("floor")):
        try:
            make()
        except builds.Missing as problem:
            say(str(problem))


def _all(options: argparse.Namespace, scale: Scale) -> Results:
    """Writes after each section, so that nothing is lost of a run that is broken off."""
    here = machine.description()
    kept = results.load() if options.only and options.write else Results(here)
    found = kept if kept.machine == here else Results(here)
    for name in options.only or [name for name in SECTIONS if name not in scale.leave_out]:
        found.sections[name] = measured(name, scale)
        found = found.ordered(list(SECTIONS))
        if options.write:
            results.write(found)
        if options.json:
            options.json.write_text(json.dumps(results.figures(found), indent=1, ensure_ascii=False) + "\n")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
