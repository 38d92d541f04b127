"""The schema of the envelope."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askstream.server.events import EVENT_TYPES, NOTICE_TYPES, EventBody, encode
from askstream.server.events.jsonschema import event_schema
from tests.server.events.test_codec import BODIES, event

SCHEMA = event_schema()
# Made once: this costs more than all of its checks.
VALIDATOR: Any = jsonschema.Draft202012Validator(SCHEMA)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_every_event_is_valid(body: EventBody) -> None:
    """The server sends only what its schema describes."""
    VALIDATOR.validate(json.loads(encode(event(body))))


@given(st.sampled_from(BODIES), st.sampled_from(["event_type", "timestamp", "agent_name", "message", "data", "run_id"]))
def test_an_event_that_lacks_a_field_is_not(body: EventBody, missing: str) -> None:
    """The schema refuses something, so its approval means something."""
    frame = json.loads(encode(event(body)))
    del frame["event"][missing]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(frame)


def test_the_schema_is_valid() -> None:
    """It conforms to the metaschema that it names; `validate` doesn't check that."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$schema"]


def test_the_schema_has_all_types() -> None:
    """Each type of the closed set is there once."""
    kinds = [option["title"] for option in SCHEMA["properties"]["event"]["oneOf"]]
    assert kinds == [*EVENT_TYPES, *NOTICE_TYPES]
