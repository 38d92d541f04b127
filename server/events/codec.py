"""The one JSON form of an event. Encoded once, when it is published; no transport encodes it again."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

import orjson

from askstream.server.events.schema import EVENT_TYPES, TYPE_NAMES, Draft, Event, Json, Notice, Usage
from askstream.server.events.unicode import mended

# orjson's range: integers of 64 bits. A tool may be called with a larger one.
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
# Levels of an event. orjson writes 254 of them.
DEEPEST = 200
TOO_DEEP = "[Cut: nested too deeply.]"


def rfc3339(moment: datetime) -> str:
    """`2026-11-22T10:30:00.123Z`. `moment` must be aware."""
    text = orjson.dumps(moment.astimezone(UTC)).decode()  # "2026-11-22T10:30:00.123456+00:00", quotes included
    return f"{text[1:20]}.{text[21:24] if moment.microsecond else '000'}Z"  # orjson leaves out a fraction of zero


def encode(event: Event) -> bytes:
    """Return the envelope as one line of UTF-8 JSON: the bytes that every transport sends for this event."""
    return encode_as(event, event.id, event.run_id, event.timestamp)


def encode_as(draft: Event | Draft, event_id: int, run_id: str, moment: datetime) -> bytes:
    """Encode a draft as the event with this id, run and time."""
    event = {
        "event_type": TYPE_NAMES[type(draft.body)],
        "timestamp": rfc3339(moment),
        "agent_name": draft.agent_name,
        "message": draft.message,
        "data": data(draft.body),
        "id": event_id,
        "run_id": run_id,
    }
    # A copy: orjson's result holds 4 KB of memory, however short it is, and channels keep hundreds of lines.
    try:
        return b"%b" % orjson.dumps({"event": event})  # not `_dumps`: saves a call for every event
    except TypeError:
        return b"%b" % _dumps_any({"event": event})


def encode_notice(notice: Notice) -> bytes:
    """Encode the same envelope without an `id`, so that clients which know only events can parse it."""
    return _dumps(
        {
            "event": {
                "event_type": notice.event_type,
                "timestamp": rfc3339(notice.timestamp),
                "agent_name": "System",
                "message": notice.message,
                "data": data(notice.body),
                "run_id": notice.run_id,
            }
        }
    )


def decode(line: bytes | str) -> Event:
    """Return the event of a `line` from `encode`. Raises ValueError for other lines; drops unknown fields."""
    try:
        return _decoded(orjson.loads(line)["event"])
    except (KeyError, TypeError, ValueError) as problem:
        raise ValueError(f"expected an event envelope, got {line[:80]!r}") from problem


def _decoded(raw: dict[str, Any]) -> Event:
    kind = EVENT_TYPES[raw["event_type"]]
    given = {name: raw["data"][wire] for name, wire in _wire_names(kind) if wire in raw["data"]}
    if "usage" in given:
        given["usage"] = Usage(**given["usage"])
    return Event(
        id=raw["id"],
        run_id=raw["run_id"],
        timestamp=datetime.fromisoformat(raw["timestamp"]),
        agent_name=raw["agent_name"],
        message=raw["message"],
        body=kind(**given),
    )


def data(body: object) -> dict[str, Any]:
    """Return the `data` object of a body: its fields under their names on the wire, without those that are None."""
    found: dict[str, Any] = {}
    for name, wire in _wire_names(type(body)):  # a comprehension is one more call for each event
        value = getattr(body, name)
        if value is not None:
            found[wire] = value
    return found


def with_progress(draft: Draft, progress: int) -> Draft:
    """Return the draft with its progress raised to `progress` if it is lower: progress never falls."""
    if getattr(draft.body, "progress", progress) >= progress:
        return draft
    return draft._replace(body=replace(cast(Any, draft.body), progress=progress))


@cache
def _wire_names(kind: type[Any]) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, field.name.rstrip("_")) for field in fields(kind))


def _dumps(envelope: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(envelope)
    except TypeError:
        return _dumps_any(envelope)


def _dumps_any(envelope: dict[str, Any]) -> bytes:
    """Encode unusual values. A search for them costs more than an ordinary event, so `_dumps` tries without first."""
    try:
        return orjson.dumps(envelope, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps(_plain(envelope), option=orjson.OPT_NON_STR_KEYS)


def _plain(value: Any, depth: int = 0) -> Json:
    """`value` with what JSON in UTF-8 can't hold replaced: lone surrogates by U+FFFD, huge integers by their digits,
    values that are nested too deeply by TOO_DEEP."""
    match value:
        case dict() | list() | tuple() if depth > DEEPEST:
            return TOO_DEEP
        case dict():
            items = cast(dict[Any, Any], value).items()
            return {str(_plain(key, depth)): _plain(item, depth + 1) for key, item in items}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in cast(list[Any], value)]
        case str():
            return mended(value)
        case bool() | float() | None:
            return value
        case int():
            return value if _INT_MIN <= value <= _INT_MAX else str(value)
        case _ if hasattr(value, "__dataclass_fields__"):
            return _plain(data(value), depth)
        case _:
            return str(value)


def text(value: Json) -> str:
    """Return a JSON value as text: a string as it is, anything else encoded."""
    return value if isinstance(value, str) else _dumps({"": value})[4:-1].decode()
