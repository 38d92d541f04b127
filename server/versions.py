"""The tested versions of projects whose private names are used here.

pyproject.toml has the same bounds, so an installer keeps to them; but it can be overruled.
"""

import logging
import re
from collections.abc import Mapping

log = logging.getLogger("__main__")

# The first version that was tested, and the first that was not.
TESTED: Mapping[str, tuple[str, str]] = {
    "uvicorn": ("0.54", "0.55"),
    "autogen-agentchat": ("0.7.5", "0.8"),
    "autogen-core": ("0.7.5", "0.8"),
    "autogen-ext": ("0.7.5", "0.8"),
}


def is_tested(name: str, version: str) -> bool:
    """Whether this version of a project in TESTED lies within its bounds. A pre-release counts as its release."""
    first, end = TESTED[name]
    return _release(first) <= _release(version) < _release(end)


def warn(installed: Mapping[str, str], *, consequence: str = "") -> bool:
    """Log one line if any of these versions wasn't tested. Return whether all of them were."""
    outside = [name for name, version in installed.items() if not is_tested(name, version)]
    if outside:
        found = ", ".join(f"{name} {installed[name]}" for name in outside)
        wanted = ", ".join(f"{name}>={TESTED[name][0]},<{TESTED[name][1]}" for name in outside)
        log.warning("%s: not tested with this askstream%s; install %s", found, consequence, wanted)
    return not outside


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, without the zeros at its end; () if it is no version."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in re.sub(r"(\.0+)+$", "", numbers[0]).split(".")) if numbers else ()
