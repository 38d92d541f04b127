"""A team's questions to a person, and the replies that it gets. Pure.

    turn -> after_turn -> TeamCheckpoint with `waiting` -> inquiry ... reply -> after_reply -> next turn

If nobody replies, the run continues: a question is answered with a request to assume, a report becomes final without
approval. A custom team is notified once that nobody answered. If it asks a person again, it ends with its last
message: otherwise it might wait for ever for somebody who is gone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from askstream.agents import checkpoint
from askstream.agents.checkpoint import ExternalMessage, TeamCheckpoint, Waiting, WaitReason
from askstream.agents.memory import USER
from askstream.server.runs.orchestrator import Inquiry, Reply

# If a team needs a third answer, the user should ask a clearer question.
MOST_QUESTIONS = 2
# Rounds of review; the report that the last of them asks for is final.
MOST_REVIEWS = 3

REVIEW_PREFIX = "REVIEW:"
ASSUME = (
    f"Nobody answered this question: a run may ask {MOST_QUESTIONS} times at the most. Go on without asking again: "
    "make the most sensible assumption, and state it in the report."
)
ASSUME_ALONE = (
    "Nobody answered this question: this client can't be asked. Go on without asking again: make the most sensible "
    "assumption, and state it in the report."
)
NO_PROMPT = "The team needs your input."
NO_REPLY = "Nobody answered in time. Go on with a sensible assumption, and state it."
UNREVIEWED = "\n\n*Not reviewed: nobody answered in time when approval was asked for.*"
_NO_REMARK = "it was sent back without a remark. Check it again, and correct what is wrong or unclear."
_APPROVE = (
    "Please review the report. Approve it to make it final, or send it back with a remark on what must be changed: "
    "the team then works on it again."
)

_SENTENCE: Final[Mapping[str, Any]] = {"type": "string", "minLength": 1}
_SCHEMAS: Final[Mapping[WaitReason, Mapping[str, Any]]] = {
    "question": _SENTENCE,
    "input": _SENTENCE,
    "handoff": _SENTENCE,
    "review": {
        "type": "object",
        "properties": {"approve": {"type": "boolean"}, "remark": {"type": "string"}},
        "required": ["approve"],
        "additionalProperties": False,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamProfile:
    """Facts about a team beyond those that AutoGen has. The defaults fit any team.

    `steps` maps an agent's name to the percent reached when it has finished. `answerer` is the source of earlier
    answers. `author` is the agent whose word is the answer, None if anybody's may be. `asks` returns the question to a
    person that an agent's message holds, given its name and text, or None. `questions`: how often a run may ask so.
    `keeps_state`: a follow-up goes on from the team's state, else it gets the earlier answers as text.
    """

    steps: Mapping[str, int] | None = None
    answerer: str = "assistant"
    author: str | None = None
    asks: Callable[[str, str], str | None] = lambda _name, _text: None
    questions: int = MOST_QUESTIONS
    keeps_state: bool = True


@dataclass(frozen=True, slots=True)
class MessageLimits:
    """The most messages of a run without a person's answer in between, and of one in which a person has answered."""

    alone: int
    conversation: int

    def passed(self, at: TeamCheckpoint) -> int | None:
        """The limit that a run has passed, None if it has passed none."""
        if at.alone > self.alone:
            return self.alone
        most = max(self.conversation, self.alone)
        return most if at.alone < at.messages and at.messages > most else None

    def reached(self, at: TeamCheckpoint) -> int | None:
        """The limit that one more message would pass."""
        return self.passed(replace(at, messages=at.messages + 1, alone=at.alone + 1))


def inquiry(at: TeamCheckpoint) -> Inquiry:
    """The inquiry of a run that waits at `at`."""
    assert at.waiting is not None
    return Inquiry(
        agent_name=at.waiting.agent_name,
        prompt=at.waiting.prompt,
        state=checkpoint.dump(at),
        schema=dict(_SCHEMAS[at.waiting.kind]),
    )


def after_turn(at: TeamCheckpoint, profile: TeamProfile, *, handed_over: str | None, review: bool) -> TeamCheckpoint:
    """Return `at`, the end of a turn, with what the run waits for there, if anything. `handed_over`: the question with
    which the turn was handed to a name that isn't in the team. `review`: the answer needs approval."""
    said = at.final_response or ""
    if at.ended and handed_over is not None and not at.unanswered:
        return replace(at, waiting=Waiting(kind="handoff", agent_name=at.agent_name, prompt=handed_over))
    if at.ended:
        at = checkpoint.concluded(at)
        return _reviewed(at) if review else at
    prompt = profile.asks(at.agent_name, said)
    if prompt is None or at.asked > profile.questions:
        return at
    if at.asked == profile.questions:
        return replace(at, asked=at.asked + 1, unheard=(_user(ASSUME if at.asked else ASSUME_ALONE),))
    return replace(at, asked=at.asked + 1, waiting=Waiting(kind="question", agent_name=at.agent_name, prompt=prompt))


def during_turn(at: TeamCheckpoint, waiting: Waiting, *, review: bool) -> TeamCheckpoint:
    """Return `at` with a `UserProxyAgent`'s question from the turn that follows it."""
    return given_up(at, review=review) if at.unanswered else replace(at, waiting=waiting)


def given_up(at: TeamCheckpoint, *, review: bool) -> TeamCheckpoint:
    """Return `at` as the end of a team that asks again although nobody answers."""
    ended = checkpoint.concluded(replace(at, ended=True))
    return _reviewed(ended) if review else ended


def after_reply(at: TeamCheckpoint, reply: Reply) -> TeamCheckpoint:
    """The checkpoint from which a run continues after `reply`."""
    assert at.waiting is not None
    waiting, going_on = at.waiting, heard(replace(at, waiting=None), reply)
    text = str(reply.value) if reply.answered else NO_REPLY
    match waiting.kind:
        case "question":
            return replace(going_on, unheard=(_user(text),))
        case "input":
            return replace(going_on, speaker=waiting.agent_name, replies=(*at.replies, text))
        case "handoff":
            return _restart(going_on, ExternalMessage(source=USER, text=text, target=waiting.agent_name))
        case "review" if not reply.answered:
            return replace(going_on, final_response=(at.final_response or "") + UNREVIEWED)
        case "review":
            remark = _remark(reply.value)
            return going_on if remark is None else _restart(going_on, _user(f"{REVIEW_PREFIX} {remark}"))


def heard(at: TeamCheckpoint, reply: Reply) -> TeamCheckpoint:
    """Return `at` with the fact that a person has answered, or hasn't. An answer shows that the team is no runaway."""
    return replace(at, unanswered=not reply.answered, alone=0 if reply.answered else at.alone)


def in_memory(agent_name: str, prompt: str) -> Inquiry:
    """The inquiry of a team that waits in memory."""
    return Inquiry(agent_name=agent_name, prompt=prompt, schema=dict(_SENTENCE))


def _reviewed(at: TeamCheckpoint) -> TeamCheckpoint:
    if at.reviews >= MOST_REVIEWS or at.final_response is None:
        return at
    waiting = Waiting(kind="review", agent_name=at.agent_name, prompt=_APPROVE)
    return replace(at, reviews=at.reviews + 1, waiting=waiting)


def _remark(value: object) -> str | None:
    """The reason to send a report back, None if it is approved."""
    match value:
        case {"approve": True}:
            return None
        case {"remark": str(remark)} if remark.strip():
            return remark.strip()
        case _:
            return _NO_REMARK


def _restart(at: TeamCheckpoint, said: ExternalMessage) -> TeamCheckpoint:
    """Continue an ended team with `said`. As in AutoGen, its condition and its turns start from zero."""
    return replace(at, ended=False, unheard=(*at.unheard, said), turns=0, skipped=at.skipped + sum(at.shown), shown=())


def _user(text: str) -> ExternalMessage:
    return ExternalMessage(source=USER, text=text)
