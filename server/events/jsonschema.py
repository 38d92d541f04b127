"""The JSON Schema of the envelope, made from the types themselves."""

from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter

from askstream.server.events.schema import EVENT_TYPES, NOTICE_TYPES

_ALWAYS = ["event_type", "timestamp", "agent_name", "message", "data", "run_id"]


def event_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of every frame that carries an event or a notice, over any transport."""
    definitions: dict[str, Any] = {}
    events = [_envelope(name, kind, definitions, has_id=True) for name, kind in EVENT_TYPES.items()]
    notices = [_envelope(name, kind, definitions, has_id=False) for name, kind in NOTICE_TYPES.items()]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "askstream event",
        "type": "object",
        "required": ["event"],
        "properties": {"event": {"oneOf": [*events, *notices]}},
        "$defs": definitions,
    }


def _envelope(name: str, kind: type[Any], definitions: dict[str, Any], *, has_id: bool) -> dict[str, Any]:
    number = {"id": {"type": "integer", "minimum": 1}} if has_id else {}
    return {
        "title": name,
        "description": (kind.__doc__ or "").split("\n")[0],
        "type": "object",
        "required": [*_ALWAYS, *number],
        "properties": {
            "event_type": {"const": name},
            "timestamp": {"type": "string", "format": "date-time"},
            "agent_name": {"type": "string"},
            "message": {"type": "string"},
            "data": _data(kind, definitions),
            "run_id": {"type": "string"},
            **number,
        },
    }


def _data(kind: type[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one type's `data`, under the fields' names on the wire. A field that is None is absent."""
    schema = TypeAdapter(kind).json_schema(ref_template="#/$defs/{model}", mode="serialization")
    definitions.update(schema.pop("$defs", {}))
    given = {f.name.rstrip("_"): schema["properties"][f.name] for f in fields(kind)}
    required = [f.name.rstrip("_") for f in fields(kind) if f.default is not None]
    return {"type": "object", "properties": given, "required": required}
