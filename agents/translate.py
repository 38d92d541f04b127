"""Translates AutoGen's messages and events into drafts: one table, with a row for each type.

A type that isn't in the table, such as a custom one, is translated as its nearest ancestor that is.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
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

from askstream.agents import media, model_answer
from askstream.agents.progress import Progress
from askstream.server.events import AgentChunk, AgentResponse, AgentThinking, Draft, Json, ToolExecution, Usage

TeamMessage: TypeAlias = BaseAgentEvent | BaseChatMessage
MessageIds: TypeAlias = Callable[[TeamMessage, str], str | None]
"""From a message and its text to the id of the chunks that were sent of it, or None."""

# AutoGen has no name and no id for the code that an agent runs. An agent runs one piece at a time: one key is enough.
_CODE = "execute_code"


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool call that has begun."""

    call_id: str
    tool_name: str
    parameters: Json
    began: datetime


class Translator:
    """Translates one run; agents may speak in any order and at once. Times are those of the messages."""

    def __init__(
        self,
        progress: Progress,
        message_id: MessageIds = lambda _message, _text: None,
        thought_id: MessageIds = lambda _message, _text: None,
    ) -> None:
        self._progress, self._message_id, self._thought_id = progress, message_id, thought_id
        self._calls: dict[tuple[str, str], _Call] = {}
        self._usage: dict[str, Usage] = {}
        self._pieces: dict[str, str] = {}

    def drafts(self, message: TeamMessage) -> list[Draft]:
        """The drafts for `message`, in order; empty if it has nothing for viewers."""
        self._count(message)
        return list(_translation(type(message))(self, message))

    def turn(self, agent_name: str, description: str) -> Draft:
        """The draft for the beginning of an agent's turn, which AutoGen has no message for."""
        return self._thinking(agent_name, description or "Takes its turn.")

    def _count(self, message: TeamMessage) -> None:
        if spent := message.models_usage:
            usage = model_answer.counted(spent)
            self._usage[message.source] = self._usage.get(message.source, Usage()) + usage

    def _thinking(self, agent_name: str, text: str, message_id: str | None = None) -> Draft:
        return Draft(agent_name, text, AgentThinking(progress=self._progress.now, message_id=message_id))

    def said(self, message: BaseChatMessage) -> Iterable[Draft]:
        text = message.to_text()
        content_type, content = media.content(message)
        self._progress.finished(message.source)
        body = AgentResponse(
            progress=self._progress.now,
            usage=self._usage.pop(message.source, Usage()),
            message_id=self._message_id(message, text) or self._pieces.pop(message.source, None),
            content_type=content_type,
            content=content,
        )
        yield Draft(message.source, text, body)

    def thought(self, message: ThoughtEvent | SelectorEvent) -> Iterable[Draft]:
        pieces = self._pieces.pop(message.source, None)
        sent = self._thought_id(message, message.content) or pieces
        yield self._thinking(message.source, message.content, sent)

    def other_event(self, message: BaseAgentEvent) -> Iterable[Draft]:
        yield self._thinking(message.source, message.to_text())

    def remembered(self, message: MemoryQueryEvent) -> Iterable[Draft]:
        count = len(message.content)
        yield self._thinking(message.source, f"Recalls {count} {'memory' if count == 1 else 'memories'}.")

    def chose(self, message: SelectSpeakerEvent) -> Iterable[Draft]:
        yield self._thinking(message.source, f"Gives the turn to {', '.join(message.content)}.")

    def asks(self, message: UserInputRequestedEvent) -> Iterable[Draft]:
        yield self._thinking(message.source, "Waits for a person's answer.")

    def piece(self, message: ModelClientStreamingChunkEvent) -> Iterable[Draft]:
        message_id = message.full_message_id or message.source
        self._pieces[message.source] = message_id
        yield Draft(message.source, "", AgentChunk(delta=message.content, message_id=message_id))

    def calls(self, message: ToolCallRequestEvent) -> Iterable[Draft]:
        for call in message.content:
            begun = _Call(call.id, call.name, kept(call.arguments, exact=False), message.created_at)
            yield self._begins(message.source, call.id, begun)

    def called(self, message: ToolCallExecutionEvent) -> Iterable[Draft]:
        for result in message.content:
            # A call's end may be reported alone and again with its round: only the first is emitted.
            if begun := self._calls.pop((message.source, result.call_id), None):
                yield self._ends(message, begun, kept(result.content), failed=bool(result.is_error))

    def codes(self, message: CodeGenerationEvent) -> Iterable[Draft]:
        if not message.code_blocks:  # the agent explains its correction; the code follows
            yield self._thinking(message.source, message.content)
            return
        blocks: Json = [{"language": block.language, "code": block.code} for block in message.code_blocks]
        begun = _Call(message.id, _CODE, {"code_blocks": blocks}, message.created_at)
        yield self._begins(message.source, _CODE, begun)

    def coded(self, message: CodeExecutionEvent) -> Iterable[Draft]:
        begun = self._calls.pop((message.source, _CODE), None) or _Call(message.id, _CODE, None, message.created_at)
        result: Json = {"exit_code": message.result.exit_code, "output": message.result.output}
        yield self._ends(message, begun, result, failed=message.result.exit_code != 0)

    def _begins(self, agent_name: str, key: str, call: _Call) -> Draft:
        self._calls[agent_name, key] = call
        body = ToolExecution(
            tool_name=call.tool_name,
            parameters=call.parameters,
            call_id=call.call_id,
            status="started",
            progress=self._progress.now,
        )
        return Draft(agent_name, f"Calls {call.tool_name}.", body)

    def _ends(self, message: TeamMessage, call: _Call, result: Json, *, failed: bool) -> Draft:
        took = (message.created_at - call.began).total_seconds()
        body = ToolExecution(
            tool_name=call.tool_name,
            parameters=call.parameters,
            call_id=call.call_id,
            status="failed" if failed else "finished",
            result=result,
            duration_ms=max(0, round(took * 1000)),  # the clock may have been set back
            progress=self._progress.now,
        )
        return Draft(message.source, f"{call.tool_name} {'failed' if failed else 'has finished'}.", body)


# The table. The base classes come last; they translate the types without a row.
TRANSLATIONS: Mapping[type[TeamMessage], Callable[[Translator, Any], Iterable[Draft]]] = {
    TextMessage: Translator.said,
    MultiModalMessage: Translator.said,
    StructuredMessage: Translator.said,
    StopMessage: Translator.said,
    HandoffMessage: Translator.said,
    ToolCallSummaryMessage: Translator.said,
    ThoughtEvent: Translator.thought,
    SelectorEvent: Translator.thought,
    SelectSpeakerEvent: Translator.chose,
    MemoryQueryEvent: Translator.remembered,
    UserInputRequestedEvent: Translator.asks,
    ModelClientStreamingChunkEvent: Translator.piece,
    ToolCallRequestEvent: Translator.calls,
    ToolCallExecutionEvent: Translator.called,
    CodeGenerationEvent: Translator.codes,
    CodeExecutionEvent: Translator.coded,
    BaseChatMessage: Translator.said,
    BaseAgentEvent: Translator.other_event,
}


def _translation(kind: type[TeamMessage]) -> Callable[[Translator, Any], Iterable[Draft]]:
    return next(TRANSLATIONS[ancestor] for ancestor in kind.__mro__ if ancestor in TRANSLATIONS)


# Deeper than any tool's result that a person wants to read; JSON libraries refuse some hundreds.
DEEPEST = 100


def kept(text: str, *, exact: bool = True) -> Json:
    """The object or array in a JSON text if it says exactly the same, else the text itself, as it is.

    "3.10", "null", a number of thirty digits or a key that comes twice would lose something. Without `exact` a fraction
    may lose zeros at its end: a tool gets its arguments parsed.
    """
    if not text.lstrip().startswith(("{", "[")) or _is_deep(text):
        return text
    fraction = _exact_fraction if exact else float
    try:
        return json.loads(
            text,
            parse_int=_exact_integer,
            parse_float=fraction,
            parse_constant=_refuse,
            object_pairs_hook=_exact_object,
        )
    except ValueError:
        return text


def _is_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            return True
    return False


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKETS = re.compile(r"[\[\]{}]")


def _exact_integer(digits: str) -> int:
    number = int(digits)
    if str(number) != digits or not -(2**63) <= number < 2**64:
        raise ValueError("not the same in JSON")
    return number


def _exact_fraction(digits: str) -> float:
    number = float(digits)
    if repr(number) != digits and Decimal(repr(number)).as_tuple() != Decimal(digits).as_tuple():
        raise ValueError("not the same in JSON")
    return number


def _exact_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key comes twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
