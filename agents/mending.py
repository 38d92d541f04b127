"""Mends the texts of AutoGen's messages in place: a lone surrogate from a tool or an agent would end the run, since
neither the log nor the team's state nor a model's request can hold it."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from askstream.server.events.unicode import mended


def mend(thing: BaseModel | Any) -> None:
    """Mend the texts of a message or a tool's result, and of all that it holds. Frozen models stay as they are."""
    for name in _names(thing):
        value = getattr(thing, name)
        better = _mended(value)
        if better is not value:
            with suppress(ValidationError, AttributeError):  # a frozen model or dataclass
                setattr(thing, name, better)


def _names(thing: object) -> Iterable[str]:
    if isinstance(thing, BaseModel):
        return type(thing).model_fields
    return cast(Any, thing).__dataclass_fields__ if is_dataclass(thing) else ()


def _mended(value: Any) -> Any:
    match value:
        case str():
            return mended(value)
        case list():
            return _mended_list(cast("list[Any]", value))
        case dict():
            given = cast("dict[Any, Any]", value)
            better = {_mended(key): _mended(item) for key, item in given.items()}
            return given if better == given else better
        case _:
            mend(value)
            return value


def _mended_list(values: list[Any]) -> list[Any]:
    better = [_mended(value) for value in values]
    return values if all(one is other for one, other in zip(values, better, strict=True)) else better
