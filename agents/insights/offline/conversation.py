"""Reads the chat messages that OpenAI's API brings to the analyst, and writes its answers to them.

Nothing is kept between two calls. An agent's statement has words for people and one JSON block, from
which the next agent takes its values. Pure.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import orjson

Json = Mapping[str, Any]
Role = Literal["planning", "data", "analysis", "report"]
ROLES: Final[Mapping[str, Role]] = {
    "PlanningAgent": "planning",
    "DataAgent": "data",
    "AnalysisAgent": "analysis",
    "ReportAgent": "report",
}
# How each agent's statement begins. A provider's wire may carry no names.
OPENINGS: Final[Mapping[str, Role]] = {"**Plan": "planning", "**Data": "data", "**Analysis": "analysis", "# ": "report"}
ASK: Final = "ASK USER:"  # a line of the planner that begins so asks the person
REVIEW: Final = "REVIEW:"  # a message that begins so, after a report, says what must change
NOBODY: Final = "Nobody answered"  # how the message begins that stands for a missing answer
_BLOCK: Final = re.compile(r"```json\n(.*?)\n```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. Calls with equal arguments are the same call: one result answers both."""

    name: str
    arguments: Json

    @property
    def key(self) -> str:
        return f"{self.name} {orjson.dumps(self.arguments, option=orjson.OPT_SORT_KEYS).decode()}"


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's result: its `data`, or the code and text of its error."""

    data: Json = field(default_factory=dict[str, Any])
    error: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Act:
    """Tool calls to make now, and the thought behind them."""

    thought: str
    calls: tuple[Call, ...]


Reply = Say | Act


@dataclass(frozen=True, slots=True)
class Input:
    """A person's words within a run."""

    kind: Literal["answer", "silence", "remark"]
    text: str


@dataclass(slots=True)
class Conversation:
    """The messages, as one agent of the team sees them.

    The last question is the one to answer; `reports` are those on the questions before it. Inputs
    and results are those since the last question, statements those since the last question or
    remark. `may_ask`: somebody can answer a question of the planner's.
    """

    role: Role | None = None
    may_ask: bool = False
    questions: list[str] = field(default_factory=list[str])
    reports: list[str] = field(default_factory=list[str])
    inputs: list[Input] = field(default_factory=list[Input])
    statements: list[tuple[Role, str]] = field(default_factory=list[tuple[Role, str]])
    results: dict[str, Result] = field(default_factory=dict[str, Result])
    tools: frozenset[str] = frozenset()

    def said_by(self, role: Role) -> list[str]:
        return [text for speaker, text in self.statements if speaker == role]

    def person(self, text: str) -> None:
        """An answer if the planner asked last, a remark if the report came last, else a question."""
        speaker, last = self.statements[-1] if self.statements and self.questions else (None, "")
        if speaker == "planning" and asks(last):
            self.inputs.append(Input("silence" if text.startswith(NOBODY) else "answer", text))
        elif speaker == "report" and text.startswith(REVIEW):
            self.inputs.append(Input("remark", text.removeprefix(REVIEW).strip()))
            self.statements = []
        else:
            if self.questions:
                self.reports.append((self.said_by("report") or [""])[-1])
            self.questions.append(text)
            self.inputs, self.statements, self.results = [], [], {}


def read(messages: Sequence[Json], tools: Sequence[Json] = ()) -> Conversation:
    """Never raises on what a client may send: it ignores what it can't read."""
    found, calls = Conversation(tools=frozenset(_tool_names(tools))), dict[str, Call]()
    for message in messages:
        text = content_of(message)
        match message.get("role"):
            case "system" | "developer":
                found.role = found.role or _role_of(text)
                found.may_ask = found.may_ask or ASK in text
            case "user" if speaker := _speaker(message.get("name"), text):
                found.statements.append((speaker, text))
            case "user":
                found.person(text)
            case "assistant":
                made = _calls_of(message)
                calls |= made
                if text and not made and found.role:
                    found.statements.append((found.role, text))
            case "tool" if call := calls.get(str(message.get("tool_call_id"))):
                found.results[call.key] = _result_of(text)
            case _:
                pass
    return found


def asks(text: str) -> bool:
    """Whether a statement of the planner asks the person."""
    return any(line.lstrip().startswith(ASK) for line in text.splitlines())


def with_json(heading: str, words: str, value: object) -> str:
    """A statement: its heading, words for people, and values for the next agent."""
    block = f"```json\n{orjson.dumps(value).decode()}\n```"
    return "\n\n".join(part for part in (heading, words, block) if part)


def json_in(text: str) -> Json:
    """The values of a statement that `with_json` wrote, {} if it has none."""
    found = _BLOCK.findall(text)
    return _object(found[-1]) or {} if found else {}


def content_of(message: Json) -> str:
    """The text of a message, whose content is a string, a list of parts, or null."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return "".join(str(cast("Json", part).get("text", "")) for part in parts if isinstance(part, dict))


def call_id(call: Call, position: int) -> str:
    """The same id for the same call at the same place of a conversation."""
    return "call_" + hashlib.sha256(f"{position} {call.key}".encode()).hexdigest()[:20]


def _role_of(text: str) -> Role | None:
    found = re.match(r"\s*You are (\w+)\s*,", text)
    return ROLES.get(found[1]) if found else None


def _speaker(name: object, text: str) -> Role | None:
    if isinstance(name, str) and name:
        return ROLES.get(name)
    return next((role for opening, role in OPENINGS.items() if text.startswith(opening)), None)


def _calls_of(message: Json) -> dict[str, Call]:
    found: dict[str, Call] = {}
    asked = message.get("tool_calls")
    for call in cast("list[object]", asked) if isinstance(asked, list) else []:
        match call:
            case {"id": str(number), "function": {"name": str(name), "arguments": str(arguments)}}:
                if (parsed := _object(arguments)) is not None:
                    found[number] = Call(name, parsed)
            case _:
                continue
    return found


def _object(text: str) -> Json | None:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return cast("Json", parsed) if isinstance(parsed, dict) else None


def _result_of(text: str) -> Result:
    value = _object(text)
    match value:
        case {"error": {"code": str(code), "message": str(message)}}:
            return Result(error=code, message=message)
        case None:
            return Result(error="unreadable", message=text[:200])
        case _:
            return Result(data=value)


def _tool_names(tools: Sequence[object]) -> list[str]:
    names: list[str] = []
    for tool in tools:
        match tool:
            case {"function": {"name": str(name)}}:
                names.append(name)
            case _:
                continue
    return names
