"""A team's memory of its session: earlier questions and answers, as messages before the question."""

from collections.abc import Sequence
from dataclasses import replace

from askstream.agents.checkpoint import ExternalMessage, TeamCheckpoint
from askstream.server.runs.orchestrator import Exchange, Task

# Characters, about four to a token. Every model call of a run, some twenty, reads all of it: 12,000 are 3,000 tokens a
# call, less than the tools return. A question may have 4,000, so the last exchange always fits, and mostly the last
# four.
MEMORY_CHARACTERS = 12_000
# The maximum for one answer. Its findings and figures come first; its SQL, which the team can write again, last.
ANSWER_CHARACTERS = 3_000
# The part of its end that stays: there it says how the question was understood.
END_CHARACTERS = 600

USER = "user"
_SQL = "\n## SQL"
_CUT = "\n\n[...]\n\n"


def first_checkpoint(task: Task, answerer: str) -> TeamCheckpoint:
    """The first checkpoint of a run: its first turn begins with the remembered messages, then the question."""
    earlier = remembered(task.history, answerer)
    question = ExternalMessage(source=USER, text=task.question)
    return TeamCheckpoint(unheard=(*earlier, question), remembered=len(earlier), skipped=len(earlier))


def remembered(history: Sequence[Exchange], answerer: str) -> tuple[ExternalMessage, ...]:
    """The latest exchanges that fit into MEMORY_CHARACTERS, oldest first. `answerer` is the source of the answers."""
    kept: list[Exchange] = []
    left = MEMORY_CHARACTERS
    for exchange in reversed(history):
        short = replace(exchange, answer=_short(exchange.answer))
        left -= len(short.question) + len(short.answer)
        if left < 0:
            break
        kept.insert(0, short)
    return tuple(
        said
        for exchange in kept
        for said in (
            ExternalMessage(source=USER, text=exchange.question),
            ExternalMessage(source=answerer, text=exchange.answer),
        )
    )


def _short(answer: str) -> str:
    """Cut an answer to ANSWER_CHARACTERS. A longer one loses its middle, from its SQL on if it has any. Whole
    paragraphs of its end stay, as many as fit into END_CHARACTERS."""
    if len(answer) <= ANSWER_CHARACTERS:
        return answer
    tail = answer[-END_CHARACTERS:].partition("\n\n")[2]
    head = answer[: ANSWER_CHARACTERS - len(_CUT) - len(tail)]
    end = head.find(_SQL)
    if end < 0:
        end = head.rfind("\n")
    return (head[:end] if end > 0 else head).rstrip() + _CUT + tail
