"""A forecast that one can follow: three plain methods, each tried on the past, and its error told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

_TESTED: Final = 6  # months that are foretold from those before them, and compared with what came
_YEAR: Final = 12
_CLEARLY: Final = 0.8


@dataclass(frozen=True, slots=True)
class Forecast:
    method: str
    values: tuple[float, ...]
    error_percent: float  # mean absolute error in the test
    tested: int
    errors: Mapping[str, float]  # of every method that could be tested

    @property
    def span(self) -> tuple[tuple[float, float], ...]:
        """Each value less and plus the error of the test."""
        share = self.error_percent / 100
        return tuple((value * (1 - share), value * (1 + share)) for value in self.values)


def _same_month_grown(past: Sequence[float], step: int) -> float | None:
    """A year ago's value, times the growth of the last three months over the same three a year before."""
    if len(past) < _YEAR + 3 or not sum(past[-_YEAR - 3 : -_YEAR]):
        return None
    growth = sum(past[-3:]) / sum(past[-_YEAR - 3 : -_YEAR])
    return past[len(past) - _YEAR + (step % _YEAR)] * growth


def _last_year(past: Sequence[float], step: int) -> float | None:
    return past[len(past) - _YEAR + (step % _YEAR)] if len(past) >= _YEAR else None


def _recent_mean(past: Sequence[float], _step: int) -> float | None:
    return mean(past[-3:]) if len(past) >= 3 else None


_METHODS: Final[Mapping[str, Callable[[Sequence[float], int], float | None]]] = {
    "the same month of the year before, times the growth of the last three months over theirs": _same_month_grown,
    "the same month of the year before": _last_year,
    "the mean of the last three months": _recent_mean,
}


def forecast(past: Sequence[float], ahead: int) -> Forecast | None:
    """Foretell `ahead` months after `past`; None where that is too short for a test."""
    errors = {name: error for name in _METHODS if (error := _error(name, past)) is not None}
    if not errors:
        return None
    best = _best(errors)
    values = [_METHODS[best](past, step) for step in range(ahead)]
    return Forecast(best, tuple(v for v in values if v is not None), errors[best], _TESTED, errors)


def _best(errors: Mapping[str, float]) -> str:
    """The seasonal method, unless another erred clearly less: half a year of test may hold no season, a year does."""
    least = min(errors, key=lambda name: errors[name])
    seasonal = next(iter(_METHODS))
    return least if errors[least] < _CLEARLY * errors.get(seasonal, float("inf")) else seasonal


def _error(method: str, past: Sequence[float]) -> float | None:
    """Mean absolute error in per cent over the last months, each foretold from those before it alone."""
    misses: list[float] = []
    for n in range(len(past) - _TESTED, len(past)):
        foretold = _METHODS[method](past[: max(0, n)], 0)
        if n < 1 or foretold is None or not past[n]:
            return None
        misses.append(abs(foretold - past[n]) / abs(past[n]))
    return 100 * mean(misses)
