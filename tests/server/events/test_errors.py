"""The error tree."""

from askstream.server.events import errors


def _refusals(kind: type[errors.Refused] = errors.Refused) -> list[type[errors.Refused]]:
    return [leaf for child in kind.__subclasses__() for leaf in [child, *_refusals(child)]]


def test_every_refusal_stands_in_the_drawn_tree_with_its_status_and_code() -> None:
    """People read the docstring, so it must be complete."""
    drawn = {
        tuple(line.split()[1:4]) for line in (errors.__doc__ or "").replace("│   ", "").splitlines() if "──" in line
    }
    assert {(kind.__name__, str(kind.status), kind.code) for kind in _refusals()} <= drawn


def test_codes_are_unique() -> None:
    """A client decides by the code alone."""
    codes = [kind.code for kind in _refusals()] + list(errors.FAILURE_CODES)
    assert len(codes) == len(set(codes))
