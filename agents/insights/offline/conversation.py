"""What the analyst is told, taken from the wire (OpenAI's chat messages), and what it may answer. Pure.

Nothing is kept between two calls: who speaks, what was asked and what the tools gave is read from the messages.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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
# How each agent's statement begins. Where a provider's wire carries no names, this tells them from a person's question.
OPENINGS: Final[Mapping[str, Role]] = {
    "**Plan": "planning",  # "**Plan**", "**Plan, continued**", "**Plan, once this is clear**"
    "**Data": "data",
    "**Analysis": "analysis",
    "MORE DATA:": "analysis",
    "# ": "report",
}
# A line of the planner that begins so asks the person; the run waits, and the next thing said is the answer.
ASK: Final = "ASK USER:"
# A message that begins so, after a report, says what is to be another way.
REVIEW: Final = "REVIEW:"
# What is said in a person's place when nobody answered in time begins so.
NOBODY: Final = "Nobody answered"
InputKind = Literal["answer", "silence", "remark"]
_INTRODUCTION: Final = re.compile(r"You are (\w+)\s*,")


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call. Two calls with equal arguments are the same call: its result answers both."""

    name: str
    arguments: Json

    @property
    def key(self) -> str:
        return f"{self.name} {orjson.dumps(self.arguments, option=orjson.OPT_SORT_KEYS).decode()}"


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool gave: `data`, or the stable code of an error and its words."""

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
class Statement:
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Input:
    """What a person said within a run; of a remark without the word that marks it."""

    kind: InputKind
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages, as one agent of the team sees them.

    The last question is the one that is being answered; `reports` are those on the questions before it, by position,
    "" where there is none. Inputs and results are those since the last question, statements those since the last
    question or remark: after a remark the work is done again, with the results that are there.
    """

    role: Role | None
    questions: tuple[str, ...]
    statements: tuple[Statement, ...]
    results: Mapping[str, Result]  # by the key of the call
    tools: frozenset[str]
    reports: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    before: tuple[Statement, ...] = ()  # those since the last question, up to the last remark

    def said_by(self, role: Role) -> list[str]:
        return [statement.text for statement in self.statements if statement.role == role]

    def said_before_by(self, role: Role) -> list[str]:
        """In the same run, before the last remark."""
        return [statement.text for statement in self.before if statement.role == role]


def read(messages: Sequence[Json], tools: Sequence[Json] = ()) -> Conversation:
    """Never raises on what a provider's client may send; what it can't read it passes over."""
    heard = _Heard()
    calls: dict[str, Call] = {}
    for message in messages:
        text = content_of(message)
        match message.get("role"):
            case "system" | "developer":
                heard.role = heard.role or _role_of(text)
            case "user" if speaker := _speaker(message.get("name"), text):
                heard.statements.append(Statement(speaker, text))
            case "user":
                heard.person(text)
            case "assistant":
                made = _calls_of(message)
                calls |= made
                if text and not made and heard.role:
                    heard.statements.append(Statement(heard.role, text))
            case "tool" if call := calls.get(str(message.get("tool_call_id"))):
                heard.results[call.key] = _result_of(text)
            case _:
                pass
    return heard.conversation(frozenset(_tool_names(tools)))


def asks(text: str) -> bool:
    """Whether a statement of the planner asks the person."""
    return any(line.lstrip().startswith(ASK) for line in text.splitlines())


@dataclass(slots=True)
class _Heard:
    """A conversation while it is being read."""

    role: Role | None = None
    questions: list[str] = field(default_factory=list[str])
    reports: list[str] = field(default_factory=list[str])
    inputs: list[Input] = field(default_factory=list[Input])
    statements: list[Statement] = field(default_factory=list[Statement])
    before: list[Statement] = field(default_factory=list[Statement])
    results: dict[str, Result] = field(default_factory=dict[str, Result])

    def person(self, text: str) -> None:
        """An answer where the planner asked last, a remark where the report was written last, else a question."""
        last = self.statements[-1] if self.statements and self.questions else None
        if last and last.role == "planning" and asks(last.text):
            self.inputs.append(Input("silence" if text.startswith(NOBODY) else "answer", text))
        elif last and last.role == "report" and text.startswith(REVIEW):
            self.inputs.append(Input("remark", text.removeprefix(REVIEW).strip()))
            self.before, self.statements = [*self.before, *self.statements], []
        else:
            self._question(text)

    def _question(self, text: str) -> None:
        if self.questions:
            said = [statement.text for statement in self.statements if statement.role == "report"]
            self.reports.append(said[-1] if said else "")
        self.questions.append(text)
        self.inputs, self.statements, self.before, self.results = [], [], [], {}

    def conversation(self, tools: frozenset[str]) -> Conversation:
        return Conversation(
            role=self.role,
            questions=tuple(self.questions),
            statements=tuple(self.statements),
            results=self.results,
            tools=tools,
            reports=tuple(self.reports),
            inputs=tuple(self.inputs),
            before=tuple(self.before),
        )


def content_of(message: Json) -> str:
    """The text of a message, whose content is a string, a list of parts, or null."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = cast("list[object]", content) if isinstance(content, list) else []
    return "".join(str(cast("Json", part).get("text", "")) for part in parts if isinstance(part, dict))


def call_id(call: Call, position: int) -> str:
    """An id that is the same for the same call at the same place of a conversation."""
    return "call_" + hashlib.sha256(f"{position} {call.key}".encode()).hexdigest()[:20]


def _role_of(text: str) -> Role | None:
    found = _INTRODUCTION.match(text.strip())
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
                if (parsed := _arguments(arguments)) is not None:
                    found[number] = Call(name, parsed)
            case _:
                continue
    return found


def _arguments(text: str) -> Json | None:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return cast("Json", parsed) if isinstance(parsed, dict) else None


def _result_of(text: str) -> Result:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Result(error="unreadable", message=text[:200])
    match value:
        case {"error": {"code": str(code), "message": str(message)}}:
            return Result(error=code, message=message)
        case dict():
            return Result(data=value)  # pyright: ignore[reportUnknownArgumentType] - JSON, checked where it is used
        case _:
            return Result(error="unreadable", message=text[:200])


def _tool_names(tools: Iterable[object]) -> Iterable[str]:
    for tool in tools:
        match tool:
            case {"function": {"name": str(name)}}:
                yield name
            case _:
                continue
