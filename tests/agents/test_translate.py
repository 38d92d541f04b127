"""Each type of AutoGen's messages has a translation for viewers."""

import base64
import inspect
import io
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import PIL.Image
import pytest
from autogen_agentchat import messages
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    BaseTextChatMessage,
    CodeExecutionEvent,
    CodeGenerationEvent,
    HandoffMessage,
    MemoryQueryEvent,
    ModelClientStreamingChunkEvent,
    MultiModalMessage,
    SelectorEvent,
    SelectSpeakerEvent,
    StopMessage,
    StructuredMessage,
    TextMessage,
    ThoughtEvent,
    ToolCallExecutionEvent,
    ToolCallRequestEvent,
    ToolCallSummaryMessage,
    UserInputRequestedEvent,
)
from autogen_core import FunctionCall, Image
from autogen_core.code_executor import CodeBlock, CodeResult
from autogen_core.memory import MemoryContent
from autogen_core.models import FunctionExecutionResult, RequestUsage
from pydantic import BaseModel

from askstream.agents.media import IMAGE_CHARACTERS
from askstream.agents.progress import Progress
from askstream.agents.translate import TRANSLATIONS, TeamMessage, Translator
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Draft, Json, ToolExecution, Usage

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LATER = NOON + timedelta(milliseconds=1234)


class Verdict(BaseModel):
    good: bool


class Custom(BaseTextChatMessage):
    """A custom message type."""


class Signal(BaseAgentEvent):
    """A custom event type."""

    def to_text(self) -> str:
        return "signal"


def translator() -> Translator:
    return Translator(Progress({"A": 25}))


def only(message: TeamMessage) -> Draft:
    (draft,) = translator().drafts(message)
    return draft


def concrete() -> list[type[TeamMessage]]:
    """All types in AutoGen's module that have instances, or that are generic."""
    kinds = [kind for _, kind in inspect.getmembers(messages, inspect.isclass)]
    return [k for k in kinds if issubclass(k, BaseChatMessage | BaseAgentEvent) and not inspect.isabstract(k)]


def test_no_type_is_missing_from_the_table() -> None:
    """A new type in an upgrade fails here first."""
    bases = {BaseChatMessage, BaseAgentEvent, BaseTextChatMessage}
    assert len(concrete()) >= 16
    assert set(concrete()) - bases - set(TRANSLATIONS) == set()


SPEECHES: list[tuple[BaseChatMessage, str]] = [
    (TextMessage(content="Hello.", source="A"), "Hello."),
    (MultiModalMessage(content=["Look.", "There."], source="A"), "Look. There."),
    (StopMessage(content="Enough.", source="A"), "Enough."),
    (HandoffMessage(content="Over to B.", target="B", source="A"), "Over to B."),
    (ToolCallSummaryMessage(content="42", tool_calls=[], results=[], source="A"), "42"),
    (StructuredMessage[Verdict](content=Verdict(good=True), source="A"), '{"good": true}'),
    (Custom(content="Mine.", source="A"), "Mine."),
]


@pytest.mark.parametrize(("message", "text"), SPEECHES, ids=lambda value: type(value).__name__)
def test_an_agents_message_is_a_response(message: BaseChatMessage, text: str) -> None:
    """Its whole text, and the progress reached with it."""
    draft = only(message)
    assert isinstance(draft.body, AgentResponse)
    assert (draft.agent_name, draft.body.progress, draft.body.usage) == ("A", 25, Usage())
    assert "".join(draft.message.split()) == "".join(text.split())


def response(message: BaseChatMessage) -> AgentResponse:
    body = only(message).body
    assert isinstance(body, AgentResponse)
    return body


class Offer(BaseChatMessage):
    """A custom message type that isn't text."""

    price: str

    def to_text(self) -> str:
        return f"costs {self.price}"

    to_model_text = to_text

    def to_model_message(self) -> Any:
        raise NotImplementedError


def test_a_structured_message_keeps_its_object() -> None:
    """With the type of its content; plain text has neither."""
    assert response(TextMessage(content="x", source="A")).content_type is None
    verdict = response(StructuredMessage[Verdict](content=Verdict(good=True), source="A", format_string="{good}"))
    assert (verdict.content_type, verdict.content) == ("application/json", {"good": True})
    offer = response(Offer(price="3.10", source="A"))
    assert (offer.content_type, offer.content) == ("application/json", {"price": "3.10"})


def picture(width: int, height: int) -> PIL.Image.Image:
    """An image that hardly shrinks when it is compressed."""
    return PIL.Image.frombytes("RGB", (width, height), random.Random(1).randbytes(width * height * 3))


def pixels(part: Any) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(base64.b64decode(part["url"].partition("base64,")[2])))


def test_an_image_survives() -> None:
    """In its place between the texts, with its size and all its pixels."""
    image = Image(picture(20, 10))
    body = response(MultiModalMessage(content=["Look:", image, "Nice."], source="A"))
    assert body.content_type == "multipart/mixed"
    assert isinstance(body.content, list)
    text, part, last = body.content
    assert (text, last) == ("Look:", "Nice.")
    assert (part["type"], part["media_type"], part["width"], part["height"]) == ("image", "image/png", 20, 10)
    assert "scaled" not in part
    assert pixels(part).tobytes() == image.image.tobytes()


def test_large_images_are_scaled_down_until_all_fit_into_an_event() -> None:
    """And say so, with the size that they had."""
    body = response(MultiModalMessage(content=[Image(picture(1200, 900)), Image(picture(900, 1200))], source="A"))
    assert isinstance(body.content, list)
    assert sum(len(part["url"]) for part in body.content) < IMAGE_CHARACTERS + 100
    for part, size in zip(body.content, [(1200, 900), (900, 1200)], strict=True):
        assert part["scaled"] is True
        assert (part["width"], part["height"]) == size
        assert max(pixels(part).size) >= 128


def test_a_very_long_text_is_not_cut() -> None:
    assert only(TextMessage(content="x" * 100_000, source="A")).message == "x" * 100_000


THOUGHTS: list[tuple[BaseAgentEvent, str]] = [
    (ThoughtEvent(content="Hm.", source="A"), "Hm."),
    (SelectorEvent(content="B should go on", source="A"), "B should go on"),
    (SelectSpeakerEvent(content=["B", "C"], source="A"), "Gives the turn to B, C."),
    (MemoryQueryEvent(content=[MemoryContent(content="x", mime_type="text/plain")], source="A"), "Recalls 1 memory."),
    (MemoryQueryEvent(content=[], source="A"), "Recalls 0 memories."),
    (UserInputRequestedEvent(request_id="q", source="A"), "Waits for a person's answer."),
    (CodeGenerationEvent(retry_attempt=0, content="I'll fix it.", code_blocks=[], source="A"), "I'll fix it."),
    (Signal(source="A"), "signal"),
]


@pytest.mark.parametrize(("message", "text"), THOUGHTS, ids=lambda value: type(value).__name__)
def test_an_agents_other_events_are_thoughts(message: BaseAgentEvent, text: str) -> None:
    """They don't change the progress."""
    assert only(message) == Draft("A", text, AgentThinking(progress=0))


def test_a_turn_begins_with_the_agents_description() -> None:
    """AutoGen has no message for it."""
    assert translator().turn("A", "Plans.") == Draft("A", "Plans.", AgentThinking(progress=0))
    assert translator().turn("A", "").message


def test_a_piece_of_text_is_a_chunk() -> None:
    """With the id of its message."""
    piece = ModelClientStreamingChunkEvent(content="Hel", full_message_id="m", source="A")
    assert only(piece) == Draft("A", "", AgentChunk(delta="Hel", message_id="m"))


def request(*calls: tuple[str, str, str], source: str = "A") -> ToolCallRequestEvent:
    content = [FunctionCall(id=call_id, name=name, arguments=arguments) for call_id, name, arguments in calls]
    return ToolCallRequestEvent(content=content, source=source, created_at=NOON)


def execution(*results: tuple[str, str, bool], source: str = "A") -> ToolCallExecutionEvent:
    content = [
        FunctionExecutionResult(call_id=call_id, name="run", content=text, is_error=failed)
        for call_id, text, failed in results
    ]
    return ToolCallExecutionEvent(content=content, source=source, created_at=LATER)


def test_tool_calls_begin_with_their_parameters() -> None:
    """One event for each call, with the real name and parsed parameters."""
    drafts = translator().drafts(request(("1", "run", '{"a": [1, 2]}'), ("2", "look", "{}")))
    assert [draft.body for draft in drafts] == [
        ToolExecution(tool_name="run", parameters={"a": [1, 2]}, call_id="1", status="started"),
        ToolExecution(tool_name="look", parameters={}, call_id="2", status="started"),
    ]


def test_tool_calls_end_with_result_duration_and_status() -> None:
    """The result is parsed if it is JSON; the duration is the time between the two messages."""
    follow = translator()
    follow.drafts(request(("1", "run", '{"a": 1}'), ("2", "look", "not JSON")))
    drafts = follow.drafts(execution(("1", '{"rows": []}', False), ("2", "Error: no", True)))
    assert [draft.body for draft in drafts] == [
        ToolExecution(
            tool_name="run",
            parameters={"a": 1},
            call_id="1",
            status="finished",
            result={"rows": []},
            duration_ms=1234,
        ),
        ToolExecution(
            tool_name="look",
            parameters="not JSON",
            call_id="2",
            status="failed",
            result="Error: no",
            duration_ms=1234,
        ),
    ]


DEEP = "[" * 101 + "]" * 101
AS_TEXT = [
    "5", '"a"', "plain", "NaN", "", "3.10", "1e3", "null", "true", "007", "123456789012345678901234567890", "10.500",
    '{"id": 123456789012345678901234567890}', '{"price": 10.500}', '{"a": 1, "a": 2}', "[NaN]", "[-0]", "[1e3]", DEEP,
]  # fmt: skip
AS_VALUES = [
    ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
    (' ["3.10", "null"] ', ["3.10", "null"]),
    ("[18446744073709551615]", [18446744073709551615]),
    ("[1e+16, 1E-7, 10.0]", [1e16, 1e-7, 10.0]),
    (f'{{"brackets": "{"[" * 101}"}}', {"brackets": "[" * 101}),
]


@pytest.mark.parametrize(("text", "result"), [(text, text) for text in AS_TEXT] + AS_VALUES)
def test_results_are_parsed_only_where_nothing_is_lost(text: str, result: Json) -> None:
    """An object or an array that says exactly the same; anything else stays the text that the tool returned."""
    follow = translator()
    follow.drafts(request(("1", "run", "{}")))
    (draft,) = follow.drafts(execution(("1", text, False)))
    assert isinstance(draft.body, ToolExecution)
    assert draft.body.result == result


def test_an_end_is_emitted_once() -> None:
    """A call that ended alone isn't reported again with its round."""
    follow = translator()
    follow.drafts(request(("1", "run", "{}"), ("2", "run", "{}")))
    assert len(follow.drafts(execution(("2", "early", False)))) == 1
    (draft,) = follow.drafts(execution(("1", "late", False), ("2", "early", False)))
    assert isinstance(draft.body, ToolExecution)
    assert draft.body.result == "late"


def test_two_agents_may_use_the_same_call_id_at_once() -> None:
    """Small servers number the calls of each answer anew; the agent's name separates them."""
    follow = translator()
    follow.drafts(request(("call-0", "run", '{"of": "A"}'), source="A"))
    follow.drafts(request(("call-0", "run", '{"of": "B"}'), source="B"))
    told = [*follow.drafts(execution(("call-0", "1", False), source="B"))]
    told += follow.drafts(execution(("call-0", "2", False), source="A"))
    assert [(d.agent_name, d.body.parameters) for d in told if isinstance(d.body, ToolExecution)] == [
        ("B", {"of": "B"}),
        ("A", {"of": "A"}),
    ]


def test_a_clock_that_is_set_back_makes_no_negative_duration() -> None:
    """Wall clocks do that."""
    follow = translator()
    begun = request(("1", "run", "{}"))
    follow.drafts(begun)
    ended = execution(("1", "ok", False))
    ended.created_at = NOON - timedelta(seconds=5)
    (draft,) = follow.drafts(ended)
    assert isinstance(draft.body, ToolExecution)
    assert draft.body.duration_ms == 0


@pytest.mark.parametrize(("exit_code", "status"), [(0, "finished"), (1, "failed")])
def test_code_that_an_agent_runs_is_a_tool(exit_code: int, status: str) -> None:
    """With the code as its parameters and its output as its result."""
    follow = translator()
    code: dict[str, Any] = {"retry_attempt": 0, "source": "A"}
    blocks = [CodeBlock(code="1/0", language="python")]
    (begins,) = follow.drafts(CodeGenerationEvent(content="```", code_blocks=blocks, created_at=NOON, **code))
    result = CodeResult(exit_code=exit_code, output="out")
    (ends,) = follow.drafts(CodeExecutionEvent(result=result, created_at=LATER, **code))
    assert isinstance(begins.body, ToolExecution)
    assert isinstance(ends.body, ToolExecution)
    assert begins.body.parameters == {"code_blocks": [{"language": "python", "code": "1/0"}]}
    assert begins.body.call_id == ends.body.call_id
    assert (ends.body.status, ends.body.duration_ms) == (status, 1234)
    assert ends.body.result == {"exit_code": exit_code, "output": "out"}


def test_usage_is_summed_over_a_turn() -> None:
    """All model calls of the agent since its last response, and of no other agent."""
    follow = translator()
    calls = request(("1", "run", "{}"))
    calls.models_usage = RequestUsage(10, 1)
    follow.drafts(calls)
    follow.drafts(ThoughtEvent(content="Hm.", source="B", models_usage=RequestUsage(1000, 1000)))
    (first,) = follow.drafts(TextMessage(content="Done.", source="A", models_usage=RequestUsage(20, 2)))
    (second,) = follow.drafts(TextMessage(content="Again.", source="A", models_usage=RequestUsage(5, 5)))
    assert isinstance(first.body, AgentResponse)
    assert isinstance(second.body, AgentResponse)
    assert (first.body.usage, second.body.usage) == (Usage(30, 3), Usage(5, 5))


def test_a_response_has_the_id_of_its_pieces() -> None:
    """The id comes from the streamed events or the tap; after a thought it is another text's."""
    follow = Translator(
        Progress({}), lambda message, text: "tap" if (message.source, text) == ("T", "tapped") else None
    )
    follow.drafts(ModelClientStreamingChunkEvent(content="x", full_message_id="m", source="A"))
    follow.drafts(ModelClientStreamingChunkEvent(content="x", full_message_id="n", source="B"))
    follow.drafts(ThoughtEvent(content="x", source="B"))
    said = [("A", "x"), ("A", "again"), ("B", "y"), ("T", "tapped"), ("T", "other")]
    ids = [d.body for name, text in said for d in follow.drafts(TextMessage(content=text, source=name))]
    assert [body.message_id for body in ids if isinstance(body, AgentResponse)] == ["m", None, None, "tap", None]


def test_progress_never_falls() -> None:
    """An agent that speaks again doesn't lower it."""
    follow = Translator(Progress({"A": 25, "B": 50}))
    bodies = [follow.drafts(TextMessage(content="x", source=name))[0].body for name in ("A", "B", "A", "C")]
    assert [body.progress for body in bodies if isinstance(body, AgentResponse)] == [25, 50, 50, 50]
