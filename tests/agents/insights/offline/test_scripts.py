"""What the offline analyst reads off the messages, and what it asks tools for, step by step."""

from collections.abc import Generator, Sequence
from typing import Any

from askstream.agents.insights.offline.conversation import Act, Call, Conversation, Result, read
from askstream.agents.insights.offline.names import facts_from
from askstream.agents.insights.offline.plan import requests_in, stated
from askstream.agents.insights.offline.script import Script, play, together


def test_results_belong_to_the_last_question() -> None:
    """A figure from before isn't taken for one of now."""
    call = {"id": "1", "function": {"name": "run_sql", "arguments": '{"query": "x"}'}}
    before = [
        {"role": "system", "content": "You are DataAgent, x"},
        {"role": "user", "content": "first", "name": "user"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"rows": []}'},
    ]
    assert len(read(before).results) == 1
    later = read([*before, {"role": "user", "content": "second", "name": "user"}])
    assert (later.questions, dict(later.results)) == (("first", "second"), {})


def test_a_tool_error_is_known_by_its_code() -> None:
    """Errors of ours carry one; anything else is unreadable."""
    texts = {'{"error": {"code": "sql_timeout", "message": "m"}}': "sql_timeout", "Tool x not found.": "unreadable"}
    for text, code in texts.items():
        call = {"id": "1", "function": {"name": "run_sql", "arguments": "{}"}}
        conversation = read(
            [
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": text},
            ]
        )
        assert conversation.results["run_sql {}"].error == code


def test_scripts_side_by_side_ask_in_one_step() -> None:
    """As long as each needs something they ask together; the results come back to whom they belong."""

    def script(name: str, steps: int) -> Generator[Act, Sequence[Result], list[str]]:
        got: list[str] = []
        for step in range(steps):
            results = yield Act(name, (Call(name, {"step": step}),))
            assert results[0].data["from"] == f'{name} {{"step":{step}}}'
            got.append(str(results[0].data["from"]))
        return got

    def both() -> Script:
        return str((yield from together([script("a", 2), script("b", 3), script("c", 0)])))

    conversation = Conversation("data", ("q",), (), {}, frozenset("ab"))
    rounds = 0
    while isinstance(answer := play(both(), conversation), Act):
        rounds += 1
        known = {call.key: Result(data={"from": call.key}) for call in answer.calls}
        conversation = Conversation("data", ("q",), (), {**conversation.results, **known}, frozenset("ab"))
    assert rounds == 3
    assert "'a {\"step\":1}'" in answer.text
    assert answer.text.endswith("[]]")


def test_requests_for_more_are_read_from_both_sides() -> None:
    """The analyst's lines and the planner's are the same."""
    line = "- stock of Halo Floor Lamp: October 2026 (2026-10)"
    (request,) = requests_in([f"MORE DATA: x\n\n{line}", f"**Plan, continued**\n\n{line}"])
    assert (request.kind, request.name, request.period.notation) == ("stock", "Halo Floor Lamp", "2026-10")


def test_texts_that_are_no_plan_are_none() -> None:
    """Neither prose nor half a plan."""
    assert stated(["hello", "**Plan**\n\n- Task: forecast", ""]) is None


def test_another_schema_gives_no_facts() -> None:
    """Whatever `describe_schema` said."""
    schemas: list[dict[str, Any]] = [
        {},
        {"tables": []},
        {"tables": [{"name": "products", "columns": []}], "first_day": "x"},
    ]
    for schema in schemas:
        assert facts_from(schema) is None
