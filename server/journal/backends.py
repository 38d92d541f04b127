"""The table of journal backends, by scheme of URL. A new backend is a new file and one row here."""

import re

from askstream.server import plugins
from askstream.server.journal.base import Journal

# Each is called as `open_url(url, *, synchronous)`, and returns a journal.
BACKENDS = {
    "memory": "askstream.server.journal.memory:open_url",
    "sqlite": "askstream.server.journal.sqlite.journal:open_url",
}
_FROM_OUTSIDE = re.compile(r"(?P<spec>[\w.]+:[\w.]+)(\?(?P<rest>.*))?", re.DOTALL)


def open_journal(url: str, *, synchronous: str = "normal") -> Journal:
    """Open the journal that `url` names: `memory://`, `sqlite:///relative.db`, `sqlite:////absolute.db`, or your own.

    Your own is `package.module:attribute`, or `package.module:attribute?rest`: the attribute is called with the rest,
    '' if there is none, and returns a Journal. `synchronous` is SQLite's. Raises ValueError for any other URL, and the
    backend's errors: JournalError if a store can't be opened.
    """
    scheme, separator, _ = url.partition("://")
    if separator and scheme in BACKENDS:
        return plugins.load(BACKENDS[scheme])(url, synchronous=synchronous)
    named = _FROM_OUTSIDE.fullmatch(url)
    if named is None:
        schemes = ", ".join(f"{scheme}://" for scheme in BACKENDS)
        raise ValueError(f"expected a journal, {schemes} or package.module:attribute, got {url!r}")
    opener = plugins.named(named["spec"], {}, "a journal")
    return plugins.checked(opener(named["rest"] or ""), Journal, named["spec"])
