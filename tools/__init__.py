"""The parts of dev.py. They import nothing but the standard library, since they run before anything is installed."""

import sys

# Checked here, before any other part is imported: older Pythons couldn't read them.
if sys.version_info < (3, 11):  # noqa: UP036  it's this check that refuses them
    sys.exit("dev.py: askstream needs Python 3.11 or newer; this is " + sys.version.split()[0])
