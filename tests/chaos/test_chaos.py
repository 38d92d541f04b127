"""The chaos scenario: a short one for every change, and a full one for every build. `dev.py chaos` has longer ones."""

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.scenario import Scenario

SEED = 2026
BRIEF: dict[str, Any] = {"crashes": ("kill", "stop"), "on_bundled": ("kill",), "at_once": 4, "quiet_runs": 4}


@pytest.mark.parametrize("measure", [BRIEF, pytest.param({}, marks=pytest.mark.long)], ids=["brief", "full"])
async def test_nothing_is_lost_doubled_or_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], measure: dict[str, Any]
) -> None:
    """The servers are killed and stopped, in full ten times and five, and restarted under viewers that stall, vanish
    and change transports, on direct and plain connections: every run ends once, every viewer that stayed has all of it,
    and the server holds no more than before."""
    scenario = Scenario(tmp_path, SEED, **measure)
    try:
        await scenario.run()
    except BaseException:
        print(f"seed {SEED}; again: python3 dev.py chaos --seed {SEED} --minutes 0\n{scenario.output[-8000:]}")
        raise
    with capsys.disabled():
        print(f"\nchaos, seed {SEED}:\n{scenario.report()}")
    assert scenario.counts.resumed
