"""input-kind.js: what a request for input asks for, and an answer in words."""

from typing import Any

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

REVIEW = {"type": "object", "properties": {"approve": {"type": "boolean"}, "remark": {"type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string", "minLength": 1}, "text"),
        ({"type": "string", "enum": ["a", "b"]}, "json"),
        (REVIEW | {"required": ["approve"], "additionalProperties": False}, "review"),
        ({"type": "object", "properties": {"approve": {"type": "string"}, "remark": {"type": "string"}}}, "json"),
        ({"type": "object", "properties": None}, "json"),
        ({}, "json"),
        (None, "json"),
        ("string", "json"),
        (["string"], "json"),
    ],
)
def test_a_schema_tells_which_form_is_shown(blank: Page, schema: Any, kind: str) -> None:
    """A sentence, a review, and JSON for whatever else, also where the schema is none."""
    found = blank.evaluate("async (schema) => (await import('/input-kind.js')).kindOf(schema)", schema)
    assert found == kind


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("text", "revenue", {"as": "text", "text": "revenue"}),
        ("review", {"approve": True, "remark": " "}, {"as": "approved", "text": ""}),
        ("review", {"approve": False, "remark": "Shorter."}, {"as": "returned", "text": "Shorter."}),
        ("review", None, {"as": "returned", "text": ""}),
        ("json", {"n": 1}, {"as": "json", "text": '{\n  "n": 1\n}'}),
        ("json", None, {"as": "json", "text": "null"}),
    ],
)
def test_an_answer_is_told_in_words(blank: Page, kind: str, value: Any, words: dict[str, str]) -> None:
    """What somebody answered reads as they meant it, whatever shape it has."""
    told = blank.evaluate(
        "async ([kind, value]) => (await import('/input-kind.js')).inWords(kind, value)", [kind, value]
    )
    assert told == words
