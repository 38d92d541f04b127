"""Which backend serves which scheme of journal URL. A new backend is a new file and one row here."""

import importlib
from urllib.parse import urlsplit

from askstream.server.journal.base import Journal

# Each module offers `open_url(url, *, synchronous) -> Journal`.
STORES = {"memory": "askstream.server.journal.memory", "sqlite": "askstream.server.journal.sqlite.journal"}


def open_journal(url: str, *, synchronous: str = "normal") -> Journal:
    """`memory://`, or `sqlite:///relative.db` and `sqlite:////absolute.db`.

    Raises ValueError for a URL that isn't one of these and JournalError where the store can't be opened.
    """
    scheme = urlsplit(url).scheme
    if scheme not in STORES:
        raise ValueError(f"expected a journal URL with one of the schemes {sorted(STORES)}, got {url!r}")
    return importlib.import_module(STORES[scheme]).open_url(url, synchronous=synchronous)
