"""`dev.py chaos`: the tests' crash scenario, for any length of time."""

import argparse
import asyncio
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.scenario import Scenario


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of all random choices")
    parser.add_argument("--minutes", type=float, default=5.0, help="repeat the scenario for so long")
    options = parser.parse_args()
    end = time.monotonic() + options.minutes * 60
    seed: int = options.seed
    while True:
        print(f"seed {seed}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            scenario = Scenario(Path(folder), seed, on_bundled=("kill", "stop", "kill"))
            try:
                asyncio.run(scenario.run())
            except BaseException:
                print(f"{scenario.output[-8000:]}\nfailed; again: python3 dev.py chaos --seed {seed} --minutes 0")
                raise
        print(scenario.report(), flush=True)
        seed += 1
        if time.monotonic() >= end:
            return 0


if __name__ == "__main__":
    sys.exit(main())
