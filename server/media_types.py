"""The header `Accept`, https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1. Pure."""

from collections.abc import Iterable, Iterator


def prefers(accept: Iterable[str], media_type: str, *, over: str) -> bool:
    """Whether a client would rather have `media_type` than `over`, by its lines of `Accept`.

    If it likes both equally, it gets the first one only if it named it: `*/*` alone names nothing.
    """
    ranges = dict(_ranges(accept))
    quality, other = (_quality(ranges, name) for name in (media_type, over))
    return quality > other or (0 < quality == other and media_type in ranges)


def _ranges(accept: Iterable[str]) -> Iterator[tuple[str, float]]:
    """Yield each range with its quality. Other parameters don't count."""
    for each in ",".join(accept).lower().split(","):
        name, *parameters = [part.strip() for part in each.split(";")]
        if name:
            yield name, _weight(parameters)


def _weight(parameters: Iterable[str]) -> float:
    """Return the value of `q`: 1 without it, and 0 if it is no number from 0 to 1, so that nonsense prefers nothing."""
    text = next((value.strip() for name, _, value in (each.partition("=") for each in parameters) if name == "q"), "1")
    is_number = len(text) <= 5 and text.replace(".", "", 1).isdigit() and text.isascii()
    return float(text) if is_number and float(text) <= 1 else 0.0


def _quality(ranges: dict[str, float], media_type: str) -> float:
    """Return the quality of the most specific range that includes the type; 0 for none."""
    names = (media_type, media_type.partition("/")[0] + "/*", "*/*")
    return next((ranges[name] for name in names if name in ranges), 0.0)
